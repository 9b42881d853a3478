"""A window that is being filled: ground first, then all that stands on it, the higher one winning.

Every result of a pixel follows from the pixel's own place and from the things near it, which are the same in
any window; and things that stand compete by height, so that their order does not matter.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import Window
from resdepth.simulate.surface import Codes, Heights, Mask, Objects, SurfaceClass
from resdepth.simulate.town.noise import Integers, Reals, Singles
from resdepth.simulate.town.parts import ROUND, Cover, Crown, Part, roof_height

Spot = tuple[slice, slice]


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
