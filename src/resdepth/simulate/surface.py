"""A reference surface: heights, what they are made of, which object each pixel belongs to; its relief.

The relief is how high and low a scene is, place by place: what rays, shadows and matching must reckon with.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window, blocks

Heights = NDArray[np.float32]
Codes = NDArray[np.uint8]
Objects = NDArray[np.int32]
Mask = NDArray[np.bool_]
CELL_PX = 128
# Cars and what the pixel grid cuts off stand higher than the surface itself.
HEADROOM_M = 4.0


class SurfaceClass(IntEnum):
    """What a pixel is made of, seen from straight above."""

    GROUND = 0  # of unknown cover
    GRASS = 1
    SOIL = 2
    ASPHALT = 3  # roads and parking
    PAVING = 4  # pavements, squares, courtyards
    WATER = 5
    ROOF_TILES = 6
    ROOF_FLAT = 7  # gravel, concrete, bitumen
    ROOF_METAL = 8
    TREE = 9  # a single crown
    FOREST = 10


BUILDING_CLASSES = (SurfaceClass.ROOF_TILES, SurfaceClass.ROOF_FLAT, SurfaceClass.ROOF_METAL)
VEGETATION_CLASSES = (SurfaceClass.TREE, SurfaceClass.FOREST)


@dataclass(frozen=True)
class Surface:
    """A part of the world on a grid.

    Attributes:
        height: (H, W) float32, metres; complete: places of unknown height are filled plausibly.
        known: (H, W) bool, True where the height is measured or built, and not filled.
        classes: (H, W) uint8, a SurfaceClass per pixel.
        objects: (H, W) int32, the same positive number on all pixels of one object (a building, a roof
            part, a crown) that has a colour of its own; 0 on open ground. The same in any window.
    """

    height: Heights
    known: Mask
    classes: Codes
    objects: Objects

    def crop(self, window: Window) -> "Surface":
        """The part inside a window that is counted from this surface's own corner."""
        where = window.slices
        return Surface(self.height[where], self.known[where], self.classes[where], self.objects[where])


class ReferenceSurface(Protocol):
    """The surface that a scene shows, wherever it comes from; read a window at a time."""

    grid: Grid

    def surface(self, window: Window) -> Surface:
        """The surface in a window of the grid.

        Law: the surface of a window is the crop of the surface of any window around it.
        """


@dataclass(frozen=True)
class HeldSurface:
    """A reference surface held in memory."""

    grid: Grid
    whole: Surface

    def surface(self, window: Window) -> Surface:
        """The surface in a window of the grid."""
        return self.whole.crop(window)


def is_any(classes: Codes, wanted: Iterable[SurfaceClass]) -> Mask:
    """(H, W) bool: where the class is one of those wanted."""
    return np.isin(classes, [int(one) for one in wanted])


def mirrored(reference: ReferenceSurface, window: Window) -> Surface:
    """The surface of any window; beyond the scene's edge the scene is mirrored."""
    rows = _mirror(np.arange(window.row, window.row_stop), reference.grid.height)
    cols = _mirror(np.arange(window.col, window.col_stop), reference.grid.width)
    row, col = int(rows.min()), int(cols.min())
    inside = Window(row, col, int(rows.max()) - row + 1, int(cols.max()) - col + 1)
    found = reference.surface(inside)
    if inside == window:
        return found
    at = np.ix_(rows - row, cols - col)
    return Surface(found.height[at], found.known[at], found.classes[at], found.objects[at])


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    folded = np.mod(index, 2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


@dataclass(frozen=True)
class Relief:
    """Lowest and highest height of each cell of 128 x 128 pixels.

    Attributes:
        low, high: (n, m) float32, metres.
    """

    low: Heights
    high: Heights

    @property
    def whole(self) -> tuple[float, float]:
        """Lowest and highest of the scene."""
        return float(self.low.min()), float(self.high.max()) + HEADROOM_M

    def within(self, window: Window) -> tuple[float, float]:
        """Lowest and highest in a window; beyond the scene's edge the scene is mirrored."""
        rows = _cells(window.row, window.row_stop, len(self.low))
        cols = _cells(window.col, window.col_stop, self.low.shape[1])
        return float(self.low[rows, cols].min()), float(self.high[rows, cols].max()) + HEADROOM_M


def _cells(start: int, stop: int, count: int) -> slice:
    # What lies beyond the edge mirrors as much before it.
    last = count * CELL_PX
    first = min(max(start, 0), last - 1) if start >= 0 else 0
    end = stop if start >= 0 else max(stop, -start)
    if end > last:
        first = min(first, 2 * last - end)
    return slice(max(first, 0) // CELL_PX, min(-(-min(end, last) // CELL_PX), count))


def relief_of(reference: ReferenceSurface) -> Relief:
    """Read a surface once, block by block."""
    n_rows, n_cols = -(-reference.grid.height // CELL_PX), -(-reference.grid.width // CELL_PX)
    low, high = (np.full((n_rows, n_cols), value, dtype=np.float32) for value in (np.inf, -np.inf))
    for window in blocks(reference.grid.whole, 8 * CELL_PX):
        _note(reference.surface(window).height, window, low, high)
    return Relief(low, high)


def _note(height: Heights, window: Window, low: Heights, high: Heights) -> None:
    for row in range(0, window.height, CELL_PX):
        for col in range(0, window.width, CELL_PX):
            cell = height[row : row + CELL_PX, col : col + CELL_PX]
            at = ((window.row + row) // CELL_PX, (window.col + col) // CELL_PX)
            low[at], high[at] = cell.min(), cell.max()


def window_on(grid: Grid, x: NDArray[np.float64], y: NDArray[np.float64], margin_m: float) -> Window:
    """The pixels of a north-up grid, or beyond it, around map positions and a margin."""
    a, _, c, _, e, f = grid.transform
    cols = (np.array([x.min() - margin_m, x.max() + margin_m]) - c) / a
    rows = (np.array([y.max() + margin_m, y.min() - margin_m]) - f) / e
    row, col = int(np.floor(rows[0])), int(np.floor(cols[0]))
    return Window(row, col, int(np.ceil(rows[1])) - row, int(np.ceil(cols[1])) - col)


def normal(height: Heights, gsd_m: float) -> tuple[Heights, Heights, Heights]:
    """Unit normal (x, y, z) of a north-up surface.

    The gentler of the two slopes to the neighbours counts: the foot and the edge of a wall belong to the
    ground and the roof, not to a ramp between them.
    """

    def slope(axis: int) -> Heights:
        step = np.diff(height, axis=axis) / np.float32(gsd_m)
        ahead = np.concatenate([step, np.take(step, [-1], axis)], axis)
        behind = np.concatenate([np.take(step, [0], axis), step], axis)
        return np.asarray(np.where(np.abs(ahead) < np.abs(behind), ahead, behind), dtype=np.float32)

    d_row, d_col = slope(0), slope(1)
    length = np.sqrt(1 + d_row**2 + d_col**2)
    return -d_col / length, d_row / length, 1 / length
