"""The ground of a block: streets cut into the terrain, pavements, gardens, banks of rivers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.simulate.surface import Codes, SurfaceClass
from resdepth.simulate.town.block import Block, Fields
from resdepth.simulate.town.noise import Singles, smoothstep
from resdepth.simulate.town.plan import Plan

_KERB_M = 0.12
_CAMBER, _CAMBER_REACH_M = 0.02, 5.0
# Roughness of the ground by class, metres.
ROUGHNESS_M: dict[SurfaceClass, float] = {
    SurfaceClass.GRASS: 0.05,
    SurfaceClass.SOIL: 0.09,
    SurfaceClass.ASPHALT: 0.012,
    SurfaceClass.PAVING: 0.015,
}


@dataclass(frozen=True)
class GroundRule:
    """How the streets' heights pass into the natural ground of one block.

    Attributes:
        bank_m: width over which they do.
        terrace_m: height of terraces; 0 for none.
        river_m: level of rivers.
        river_bank_m: width of their banks.
    """

    bank_m: float
    terrace_m: float
    river_m: float
    river_bank_m: float


def ground_height(block: Block, rule: GroundRule, fields: Fields, natural: Singles) -> Singles:
    """Heights of the open ground; each result depends on its own place only."""
    if rule.terrace_m > 0:
        natural = _terraced(natural, np.float32(rule.terrace_m))
    height: Singles = fields.street + fields.open * (natural - fields.street)
    # A function of the depth, so that carriageways meet without a step at crossings.
    camber = np.float32(_CAMBER) * np.minimum(-fields.depth, np.float32(_CAMBER_REACH_M))
    height += np.where(fields.depth < 0, camber, np.float32(_KERB_M))
    water = max(side.water_m for side in block.sides)
    if water > 0:
        share = smoothstep((fields.river - np.float32(water)) / np.float32(rule.river_bank_m))
        level = np.float32(rule.river_m)
        height = level + share * (height - level)
        # Water must be level to the last bit.
        height[fields.river <= np.float32(water)] = level
    return height


def ground_classes(block: Block, rule: GroundRule, plan: Plan, fields: Fields, patches: Singles) -> Codes:
    """Classes of the open ground; `patches` is noise, mostly in [-1, 1]."""
    bare = plan.floor == SurfaceClass.GRASS and plan.bare > 0
    classes = np.full(fields.depth.shape, plan.floor, np.uint8)
    if bare:
        classes[patches > np.float32(1 - 1.6 * plan.bare)] = SurfaceClass.SOIL
    pavement = _pavements(block)[fields.side]
    classes[fields.depth < pavement] = SurfaceClass.PAVING
    classes[fields.depth < 0] = SurfaceClass.ASPHALT
    water = max(side.water_m for side in block.sides)
    if water > 0:
        classes[fields.river < np.float32(water + rule.river_bank_m)] = SurfaceClass.GRASS
        classes[fields.river <= np.float32(water)] = SurfaceClass.WATER
    return classes


def _pavements(block: Block) -> NDArray[np.float32]:
    return np.array([side.pavement_m for side in block.sides], np.float32)


def _terraced(natural: Singles, step: np.float32) -> Singles:
    """Slopes as treads and short risers."""
    steps = natural / step
    tread = np.floor(steps)
    terraces: Singles = (tread + smoothstep((steps - tread - np.float32(0.72)) / np.float32(0.28))) * step
    return terraces
