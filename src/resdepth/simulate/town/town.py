"""The town as a true surface: blocks near a window are planned and painted, then things stand."""

import zlib
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.simulate.surface import Surface, SurfaceClass
from resdepth.simulate.town.block import Block
from resdepth.simulate.town.canvas import (
    Canvas,
    blank_canvas,
    draw_cover,
    draw_crown,
    draw_part,
    pixels_inside,
)
from resdepth.simulate.town.green import draw_canopy, draw_pond
from resdepth.simulate.town.ground import ROUGHNESS_M, GroundRule, ground_classes, ground_height
from resdepth.simulate.town.noise import Integers, Singles, generator, noise_on_grid
from resdepth.simulate.town.plan import REACH_M, Plan
from resdepth.simulate.town.planning import plan_block
from resdepth.simulate.town.ring import draw_ring
from resdepth.simulate.town.streets import make_frame, make_streets
from resdepth.simulate.town.styles import TownStyle, drawn
from resdepth.simulate.town.terrain import make_terrain

_KEPT_SUPERBLOCKS, _KEPT_PLANS = 64, 256
_LEAVES_M, _ROUGH_M, _PATCH_M = 0.85, 2.3, 14.0

T = TypeVar("T")
Planned = tuple[Block, Plan, GroundRule]


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
            if bridge is not None:
                draw_part(canvas, bridge)

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


def _kept(store: dict[Hashable, T], key: Hashable, most: int, make: Callable[[], T]) -> T:
    """A value made once and kept for a while; the oldest ones are forgotten."""
    value = store.get(key)
    if value is None:
        value = store[key] = make()
        if len(store) > most:
            store.pop(next(iter(store)), None)
    return value
