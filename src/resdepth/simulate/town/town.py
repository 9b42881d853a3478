"""The town: the blocks near a window are planned, their ground is painted, then things stand on it.

Every result of a pixel follows from the pixel's own place and from the things near it, which are the same in
any window; and of things that stand the higher one wins, so that their order does not matter.
"""

import math
import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.simulate.surface import Codes, Heights, Mask, Objects, Surface, SurfaceClass
from resdepth.simulate.town.houses import plan_detached, plan_rows, plan_slabs, plan_towers
from resdepth.simulate.town.large_buildings import (
    draw_ring,
    plan_church,
    plan_civic,
    plan_halls,
    plan_parking,
    plan_perimeter,
    plan_square,
    plan_tanks,
)
from resdepth.simulate.town.layout import (
    Block,
    Bridge,
    Fields,
    Streets,
    TownStyle,
    Use,
    drawn,
    make_frame,
    make_streets,
)
from resdepth.simulate.town.site import REACH_M, ROUND, Cover, Crown, Part, Plan, Site, roof_height
from resdepth.simulate.town.terrain import (
    Integers,
    Reals,
    Singles,
    generator,
    make_terrain,
    noise_on_grid,
    smoothstep,
)
from resdepth.simulate.town.vegetation import (
    draw_canopy,
    draw_pond,
    plan_allotments,
    plan_field,
    plan_forest,
    plan_orchard,
    plan_park,
    plant_streets,
)

Spot = tuple[slice, slice]
_KERB_M = 0.12
_CAMBER, _CAMBER_REACH_M = 0.02, 5.0
# Roughness of the ground by class, metres.
ROUGHNESS_M: dict[SurfaceClass, float] = {
    SurfaceClass.GRASS: 0.05,
    SurfaceClass.SOIL: 0.09,
    SurfaceClass.ASPHALT: 0.012,
    SurfaceClass.PAVING: 0.015,
}
_PLAN_SALT = 7005
_OPEN: frozenset[Use] = frozenset({"park", "orchard", "field", "allotments", "detached"})
_KEPT_SUPERBLOCKS, _KEPT_PLANS = 64, 256
_LEAVES_M, _ROUGH_M, _PATCH_M = 0.85, 2.3, 14.0
_ORIGIN_M = (465_000.0, 5_247_000.0)

T = TypeVar("T")


@dataclass
class Canvas:
    """Arrays of a window.

    Attributes:
        xs: (W,) metres, middles of the columns.
        ys: (H,) metres, middles of the rows.
        height: (H, W) float32, metres.
        classes: (H, W) uint8, a SurfaceClass per pixel.
        objects: (H, W) int32.
        bumps: (H, W) float32, fine noise, mostly in [-1, 1]: leaves.
        depth: (H, W) float32, metres behind the kerb; negative on streets.
        col0, row0, step_x, step_y: pixel (row, col) of the grid has its middle at
            ((col + 0.5) * step_x, (row + 0.5) * step_y).
    """

    xs: Reals
    ys: Reals
    height: Heights
    classes: Codes
    objects: Objects
    bumps: Singles
    depth: Singles
    col0: int
    row0: int
    step_x: float
    step_y: float

    def spot(self, x: float, y: float, reach_x: float, reach_y: float) -> Spot | None:
        """The pixels around a place as far as they lie in the window; None if none does."""
        rows, cols = len(self.ys), len(self.xs)
        top = max(math.floor((y - reach_y) / self.step_y - 1.5) - self.row0, 0)
        left = max(math.floor((x - reach_x) / self.step_x - 1.5) - self.col0, 0)
        bottom = min(math.floor((y + reach_y) / self.step_y + 1.5) - self.row0, rows)
        right = min(math.floor((x + reach_x) / self.step_x + 1.5) - self.col0, cols)
        if top >= bottom or left >= right:
            return None
        return slice(top, bottom), slice(left, right)

    def raise_to(self, where: Spot, inside: Mask, height: Singles, cover: SurfaceClass, number: int) -> None:
        """Let something stand where it is higher than what stands there."""
        wins = inside & (height > self.height[where])
        np.copyto(self.height[where], height, where=wins)
        self.classes[where][wins] = cover
        self.objects[where][wins] = number


def blank_canvas(window: Window, step_x: float, step_y: float) -> Canvas:
    """The canvas of a window; heights and noise are still zero."""
    xs: Reals = (np.arange(window.col, window.col_stop, dtype=np.float64) + 0.5) * step_x
    ys: Reals = (np.arange(window.row, window.row_stop, dtype=np.float64) + 0.5) * step_y
    return Canvas(
        xs,
        ys,
        np.zeros(window.shape, np.float32),
        # Hairline cracks between blocks lie in the middle of streets.
        np.full(window.shape, SurfaceClass.ASPHALT, np.uint8),
        np.zeros(window.shape, np.int32),
        np.zeros(window.shape, np.float32),
        np.full(window.shape, -1, np.float32),
        window.col,
        window.row,
        step_x,
        step_y,
    )


def pixels_inside(canvas: Canvas, outline: Reals) -> tuple[Integers, Integers]:
    """Rows and columns of the window's pixels whose middle lies in a polygon (n, 2 or more)."""
    (x0, y0), (x1, y1) = outline[:, :2].min(axis=0), outline[:, :2].max(axis=0)
    where = canvas.spot((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)
    if where is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ys = canvas.ys[where[0]]
    first, width = where[1].start, where[1].stop - where[1].start
    flips: NDArray[np.int8] = np.zeros((len(ys), width + 1), np.int8)
    for start, stop in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        rows = np.flatnonzero((start[1] <= ys) != (stop[1] <= ys))
        crossing = start[0] + (ys[rows] - start[1]) * (
            (stop[0] - start[0]) / (stop[1] - start[1]) if len(rows) else 0.0
        )
        cols = np.ceil(crossing / canvas.step_x - 0.5).astype(np.int64) - canvas.col0 - first
        flips[rows, np.clip(cols, 0, width)] ^= 1
    inside = np.bitwise_xor.accumulate(flips[:, :-1], axis=1).astype(bool)
    rows, cols = np.nonzero(inside)
    return rows + where[0].start, cols + first


def draw_cover(canvas: Canvas, cover: Cover) -> None:
    """Change the ground; things that stand come later."""
    margin = 0.0 if cover.level is None else cover.shoulder_m
    spot = _local(canvas, cover)
    if spot is None:
        return
    where, u, v = spot
    outside = np.maximum(np.abs(u) - np.float32(cover.half_u), np.abs(v) - np.float32(cover.half_v))
    depth = canvas.depth[where]
    dry = (canvas.classes[where] != SurfaceClass.WATER) & (canvas.objects[where] == 0) & (depth > 0)
    if cover.cover is not None:
        canvas.classes[where][(outside <= 0) & dry] = cover.cover
    if cover.level is not None:
        share = np.minimum(np.maximum(1 - outside / np.float32(margin), np.float32(0)), np.float32(1))
        # Streets keep their height.
        share = share * share * (3 - 2 * share) * dry * np.minimum(depth / np.float32(2), np.float32(1))
        ground = canvas.height[where]
        made = ground + share * (np.float32(cover.level) - ground)
        # Water must be level to the last bit.
        canvas.height[where] = np.where(share >= 1, np.float32(cover.level), made)


def draw_part(canvas: Canvas, part: Part) -> None:
    """Let a part of a building stand."""
    spot = _local(canvas, part)
    if spot is None:
        return
    where, u, v = spot
    if part.roof in ROUND:
        inside = u * u + v * v <= np.float32(part.half_u * part.half_u)
    else:
        inside = (np.abs(u) <= np.float32(part.half_u)) & (np.abs(v) <= np.float32(part.half_v))
    canvas.raise_to(where, inside, roof_height(u, v, part), part.cover, part.number)


def draw_crown(canvas: Canvas, crown: Crown) -> None:
    """Let a tree stand: a bumpy ellipsoid or cone above its stem."""
    where = canvas.spot(crown.x, crown.y, *crown.reach())
    if where is None:
        return
    right = ((canvas.xs[where[1]] - crown.x) / crown.radius).astype(np.float32)[None, :]
    down = ((canvas.ys[where[0]] - crown.y) / crown.radius).astype(np.float32)[:, None]
    bumps = canvas.bumps[where]
    squared = (right * right + down * down) * (1 + np.float32(0.24) * bumps)
    inside = (squared < 1) & (canvas.classes[where] != SurfaceClass.WATER)
    if crown.conifer:
        share = 1 - np.sqrt(np.minimum(np.maximum(squared, np.float32(0)), np.float32(1)))
        depth = 0.85 * crown.height
    else:
        share = np.sqrt(np.maximum(1 - squared, np.float32(0)))
        depth = min(0.7 * crown.height, 1.5 * crown.radius)
    low = np.float32(crown.ground + crown.height - depth)
    top = low + np.float32(depth) * share + np.float32(0.12 * crown.radius) * bumps
    top = np.maximum(top, np.float32(crown.ground + 0.25 * crown.height))
    canvas.raise_to(where, inside, top, SurfaceClass.TREE, crown.number)


def _local(canvas: Canvas, part: Part | Cover) -> tuple[Spot, Singles, Singles] | None:
    """The pixels around a rectangle and their places in its own directions."""
    where = canvas.spot(part.x, part.y, *part.reach())
    if where is None:
        return None
    right = (canvas.xs[where[1]] - part.x)[None, :]
    down = (canvas.ys[where[0]] - part.y)[:, None]
    u = (right * part.cos + down * part.sin).astype(np.float32)
    v = (down * part.cos - right * part.sin).astype(np.float32)
    return where, u, v


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


Planned = tuple[Block, Plan, GroundRule]


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


@dataclass(frozen=True)
class _Recipe:
    """How a use is planned: floors with equal chances, width of the banks, and the planner."""

    floors: tuple[SurfaceClass, ...]
    bank_m: tuple[float, float]
    bare: float
    planner: Callable[[Site], None]


_G, _S, _A, _P = SurfaceClass.GRASS, SurfaceClass.SOIL, SurfaceClass.ASPHALT, SurfaceClass.PAVING
_RECIPES: dict[Use, _Recipe] = {
    "perimeter": _Recipe((_P, _P, _G), (14, 30), 0.1, plan_perimeter),
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


def town_grid(size_px: int | tuple[int, int], gsd_m: float) -> Grid:
    """A north-up grid in UTM zone 32 north.

    Args:
        size_px: height and width, or one number for both.
        gsd_m: side of a pixel.
    """
    height, width = (size_px, size_px) if isinstance(size_px, int) else size_px
    x, y = _ORIGIN_M
    return Grid(height, width, (gsd_m, 0.0, x, 0.0, -gsd_m, y), "EPSG:32632", "EPSG:32632")


class Town:
    """An endless town that never was; any window of it can be asked for, and costs what the window costs.

    Everything follows from (style, seed, place): no window depends on which others were asked for.

    Attributes:
        style: what it is like, as drawn from the style asked for.
        grid: where its pixels lie. The town is laid out from the grid's origin along its rows and columns.
    """

    def __init__(self, grid: Grid, style: TownStyle, seed: int) -> None:
        self.grid = grid
        # Two styles with one seed are two places, not one place built in two ways.
        own_seed = int(generator(seed, zlib.crc32(repr(style).encode())).integers(1 << 31))
        self.style = drawn(style, own_seed)
        frame = make_frame(self.style, own_seed)
        self._terrain = make_terrain(self.style.relief_m, frame, own_seed)
        self._streets = make_streets(self.style, self._terrain, own_seed)
        self._salt = frame.salt
        self._superblocks: dict[Hashable, tuple[Block, ...]] = {}
        self._plans: dict[Hashable, tuple[Plan, GroundRule]] = {}

    def surface(self, window: Window) -> Surface:
        """The surface in a window of the grid; every height is known."""
        a, b, _, d, e, _ = self.grid.transform
        canvas = blank_canvas(window, float(np.sqrt(a * a + d * d)), float(np.sqrt(b * b + e * e)))
        canvas.bumps[:] = noise_on_grid(canvas.xs, canvas.ys, _LEAVES_M, self._salt + 20)
        near = self._blocks_near(canvas)
        self._paint_ground(canvas, near)
        for _, plan, _ in near:
            for cover in plan.covers:
                draw_cover(canvas, cover)
        self._roughen(canvas)
        self._draw_bridges(canvas)
        for _, plan, _ in near:
            for part in plan.parts:
                draw_part(canvas, part)
            for crown in plan.crowns:
                draw_crown(canvas, crown)
        known = np.ones(window.shape, np.bool_)
        return Surface(canvas.height, known, canvas.classes, canvas.objects)

    def _draw_bridges(self, canvas: Canvas) -> None:
        # The superblock that a crossing begins may itself lie off the window.
        far = self._streets.bridge_m + self.style.main_width_m
        x0, x1 = float(canvas.xs[0]) - far, float(canvas.xs[-1]) + far
        y0, y1 = float(canvas.ys[0]) - far, float(canvas.ys[-1]) + far
        for i, j in self._streets.superblocks(x0, y0, x1, y1):
            bridge = self._streets.bridge(i, j)
            if bridge is not None:  # a road, so no object
                draw_part(canvas, _as_part(bridge))

    def _blocks_near(self, canvas: Canvas) -> list[Planned]:
        """The blocks that reach into the window, always in the same order."""
        x0, x1 = float(canvas.xs[0]) - REACH_M, float(canvas.xs[-1]) + REACH_M
        y0, y1 = float(canvas.ys[0]) - REACH_M, float(canvas.ys[-1]) + REACH_M
        near: list[Planned] = []
        for i, j in self._streets.superblocks(x0, y0, x1, y1):
            for block in self._superblock(i, j):
                left, top, right, bottom = block.bounds
                if left <= x1 and right >= x0 and top <= y1 and bottom >= y0:
                    near.append((block, *self._plan(block)))
        return near

    def _superblock(self, i: int, j: int) -> tuple[Block, ...]:
        return _kept(self._superblocks, (i, j), _KEPT_SUPERBLOCKS, lambda: self._streets.blocks(i, j))

    def _plan(self, block: Block) -> tuple[Plan, GroundRule]:
        return _kept(self._plans, block.key, _KEPT_PLANS, lambda: plan_block(block, self._streets))

    def _paint_ground(self, canvas: Canvas, near: list[Planned]) -> None:
        canvas.height[:] = self._terrain.on_grid(canvas.xs, canvas.ys)
        patches = noise_on_grid(canvas.xs, canvas.ys, _PATCH_M, self._salt + 21)
        patches += 0.4 * noise_on_grid(canvas.xs, canvas.ys, 0.25 * _PATCH_M, self._salt + 23)
        for planned in near:
            rows, cols = pixels_inside(canvas, planned[0].outline)
            if len(rows):
                self._paint_block(canvas, planned, patches, rows, cols)

    def _paint_block(
        self, canvas: Canvas, planned: Planned, patches: Singles, rows: Integers, cols: Integers
    ) -> None:
        block, plan, rule = planned
        x, y = canvas.xs[cols], canvas.ys[rows]
        fields = block.fields(x, y, rule.bank_m)
        height = ground_height(block, rule, fields, canvas.height[rows, cols])
        classes = ground_classes(block, rule, plan, fields, patches[rows, cols])
        objects = np.zeros(height.shape, np.int32)
        if plan.pond is not None:
            height, water = draw_pond(plan.pond, x, y, height)
            classes[water] = SurfaceClass.WATER
        if plan.ring is not None:
            stands, roofs, covers, numbers = draw_ring(plan.ring, fields, height)
            height = np.where(stands, roofs, height)
            classes, objects = np.where(stands, covers, classes), np.where(stands, numbers, objects)
        if plan.canopy_m > 0:
            tops, owners = draw_canopy(fields, x, y, height, plan.canopy_m, self._salt)
            grows = (owners > 0) & (classes != SurfaceClass.WATER)
            height = np.where(grows, tops, height)
            classes[grows], objects[grows] = SurfaceClass.FOREST, owners[grows]
        canvas.height[rows, cols] = height
        canvas.depth[rows, cols] = fields.depth
        canvas.classes[rows, cols] = classes
        canvas.objects[rows, cols] = objects

    def _roughen(self, canvas: Canvas) -> None:
        """Small relief of open ground and of forests; roofs and water stay smooth."""
        amplitude = np.zeros(max(SurfaceClass) + 1, np.float32)
        for kind, metres in ROUGHNESS_M.items():
            amplitude[kind] = metres
        rough = noise_on_grid(canvas.xs, canvas.ys, _ROUGH_M, self._salt + 22) + 0.5 * canvas.bumps
        forest = canvas.classes == SurfaceClass.FOREST
        canvas.height += amplitude[canvas.classes] * rough
        canvas.height[forest] += np.float32(0.45) * canvas.bumps[forest]


def _as_part(bridge: Bridge) -> Part:
    ends = (bridge.half_u, bridge.half_v, bridge.deck)
    return Part(bridge.x, bridge.y, bridge.cos, bridge.sin, *ends, SurfaceClass.ASPHALT, 0)


def _kept(store: dict[Hashable, T], key: Hashable, most: int, make: Callable[[], T]) -> T:
    """A value made once and kept for a while; the oldest ones are forgotten."""
    value = store.get(key)
    if value is None:
        value = store[key] = make()
        if len(store) > most:
            store.pop(next(iter(store)), None)
    return value
