"""From a block to its contents: what it is used for is drawn, and a planner for that use fills it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.block import Block
from resdepth.simulate.town.civic import plan_church, plan_civic, plan_square
from resdepth.simulate.town.dwellings import plan_detached, plan_rows, plan_slabs, plan_towers
from resdepth.simulate.town.green import plant_streets, scatter_trees
from resdepth.simulate.town.ground import GroundRule, ground_height
from resdepth.simulate.town.noise import Reals, generator
from resdepth.simulate.town.parks import plan_allotments, plan_field, plan_forest, plan_orchard, plan_park
from resdepth.simulate.town.plan import REACH_M, Plan, Site
from resdepth.simulate.town.ring import plan_courtyard, plan_ring
from resdepth.simulate.town.streets import Streets
from resdepth.simulate.town.styles import Use
from resdepth.simulate.town.works import plan_halls, plan_parking, plan_tanks

_PLAN_SALT = 7005
_OPEN: frozenset[Use] = frozenset({"park", "orchard", "field", "allotments", "detached"})


def _plan_perimeter(site: Site) -> None:
    site.plan.ring = plan_ring(site)
    plan_courtyard(site, site.plan.ring)
    scatter_trees(site, site.style.trees_per_ha * 2.5, largest_m=4.8)


@dataclass(frozen=True)
class _Recipe:
    """How a use is planned: floors with equal chances, width of the banks, and the planner."""

    floors: tuple[SurfaceClass, ...]
    bank_m: tuple[float, float]
    bare: float
    planner: Callable[[Site], None]


_G, _S, _A, _P = SurfaceClass.GRASS, SurfaceClass.SOIL, SurfaceClass.ASPHALT, SurfaceClass.PAVING
_RECIPES: dict[Use, _Recipe] = {
    "perimeter": _Recipe((_P, _P, _G), (14, 30), 0.1, _plan_perimeter),
    "church": _Recipe((_P, _P, _G), (8, 20), 0.05, plan_church),
    "square": _Recipe((_P,), (10, 25), 0.0, plan_square),
    "detached": _Recipe((_G,), (4, 14), 0.08, plan_detached),
    "rows": _Recipe((_G,), (6, 16), 0.08, plan_rows),
    "slabs": _Recipe((_G,), (6, 16), 0.06, plan_slabs),
    "towers": _Recipe((_P, _P, _G), (8, 20), 0.05, plan_towers),
    "civic": _Recipe((_G, _P), (8, 20), 0.06, plan_civic),
    "halls": _Recipe((_A, _A, _A, _P, _P, _S, _G), (10, 25), 0.15, plan_halls),
    "tanks": _Recipe((_S, _G), (10, 25), 0.35, plan_tanks),
    "parking": _Recipe((_A,), (15, 40), 0.0, plan_parking),
    "park": _Recipe((_G,), (4, 12), 0.05, plan_park),
    "allotments": _Recipe((_G,), (3, 8), 0.3, plan_allotments),
    "orchard": _Recipe((_G,), (3, 8), 0.05, plan_orchard),
    "field": _Recipe((_G, _S), (2.5, 6), 0.25, plan_field),
    "forest": _Recipe((_S,), (2.5, 6), 0.0, plan_forest),
}


def plan_block(block: Block, streets: Streets) -> tuple[Plan, GroundRule]:
    """What a block holds, and the rule of its ground; the same for the same key and town."""
    rng = generator(_PLAN_SALT, streets.seed, *block.key)
    style = streets.style
    use = _use(block, streets, rng)
    recipe = _RECIPES[use]
    floor = recipe.floors[int(rng.integers(len(recipe.floors)))]
    terraced = use in _OPEN and rng.random() < style.terraces
    rule = GroundRule(
        bank_m=rng.uniform(*recipe.bank_m),
        terrace_m=rng.uniform(1.0, 2.6) if terraced else 0.0,
        river_m=streets.terrain.river_level_m,
        river_bank_m=streets.bank_m,
    )

    def ground_at(x: Reals, y: Reals) -> Reals:
        natural = streets.terrain.at(x, y).astype(np.float32)
        return ground_height(block, rule, block.fields(x, y, rule.bank_m), natural).astype(np.float64)

    plan = Plan(use, floor, recipe.bare)
    site = Site(block, plan, style, rng, ground_at, streets.seed)
    recipe.planner(site)
    if use not in ("forest", "field"):
        plant_streets(site)
    _drop_far_ones(block, plan)
    return plan, rule


def _use(block: Block, streets: Streets, rng: np.random.Generator) -> Use:
    if block.inradius_m < 14:  # slivers between streets
        slivers: tuple[Use, ...] = ("square", "park", "parking")
        return slivers[int(rng.choice(3, p=[0.3, 0.6, 0.1]))]
    weights = np.array([weight for _, weight in streets.style.uses])
    return streets.style.uses[int(rng.choice(len(weights), p=weights / weights.sum()))][0]


def _drop_far_ones(block: Block, plan: Plan) -> None:
    """Nothing reaches far beyond its block, or a window beside it would miss it."""
    x0, y0, x1, y1 = block.bounds

    def near(x: float, y: float, reach_x: float, reach_y: float) -> bool:
        return (
            x - reach_x > x0 - REACH_M
            and x + reach_x < x1 + REACH_M
            and y - reach_y > y0 - REACH_M
            and y + reach_y < y1 + REACH_M
        )

    plan.parts = [one for one in plan.parts if near(one.x, one.y, *one.reach())]
    plan.covers = [one for one in plan.covers if near(one.x, one.y, *one.reach())]
    plan.crowns = [one for one in plan.crowns if near(one.x, one.y, *one.reach())]
