"""How high and low a scene is, place by place: what rays, shadows and matching must reckon with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window, blocks
from resdepth.simulate.surface import Heights, ReferenceSurface

CELL_PX = 128
# Cars and what the pixel grid cuts off stand higher than the surface itself.
HEADROOM_M = 4.0


@dataclass(frozen=True)
class Relief:
    """Lowest and highest height of each cell of 128 x 128 pixels.

    Attributes:
        low, high: (n, m) float32, metres.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]

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


def relief_of(truth: ReferenceSurface) -> Relief:
    """Read a surface once, block by block."""
    n_rows, n_cols = -(-truth.grid.height // CELL_PX), -(-truth.grid.width // CELL_PX)
    low, high = (np.full((n_rows, n_cols), value, dtype=np.float32) for value in (np.inf, -np.inf))
    for window in blocks(truth.grid.whole, 8 * CELL_PX):
        _note(truth.surface(window).height, window, low, high)
    return Relief(low, high)


def _note(height: Heights, window: Window, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
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
