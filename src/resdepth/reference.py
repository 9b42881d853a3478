"""What heights are measured from in seamless refinement: a smooth surface, a function of the place alone.

The published method subtracts from each tile its own mean height, so a pixel's result depends on the tile it
lies in. Here the mean over a window twice as wide as these tiles is taken around the nodes of a lattice,
which is fixed on the map, and between the nodes it is interpolated: no tile, no raster's origin and no order
of work matters. Beside a ravine such a mean lies below the plateau; so the nodes are corrected for what the
terrain's curvature does to it. docs/refine.md tells what was measured about it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.windows import Window, aligned

Array = NDArray[np.float32]

NODES_PER_SPAN = 4
# Of terrain c x^2, the mean over a span of 4 steps h and the interpolation between nodes lie above it by
# 3/2 c h^2 (4/3 and, on average, 1/6); the second difference over REACH steps to both sides is 8 c h^2.
REACH = 2
CURVATURE = 3 / 16


@dataclass(frozen=True)
class Reference:
    """The lattice of a model.

    Attributes:
        span: side of the window of a node's mean, in pixels; a multiple of 8.
    """

    span: int

    @property
    def step(self) -> int:
        """Pixels between two nodes."""
        return self.span // NODES_PER_SPAN

    def needs(self, window: Window) -> Window:
        """The heights that count for a window, in the pixels of the map's lattice."""
        around = aligned(window, self.step)
        margin = self.span // 2 + REACH * self.step
        return Window(
            around.row - margin,
            around.col - margin,
            around.height + 2 * margin,
            around.width + 2 * margin,
        )

    def over(self, window: Window, dsm: Array, known: Window) -> NDArray[np.float64]:
        """The reference height of each pixel of a window.

        Args:
            window: the pixels asked for, counted on the map's lattice.
            dsm: (h, w) float32, metres, NaN = void: the heights of `known`.
            known: where they lie: at least as much of `needs(window)` as there is.

        Returns:
            (H, W) float64, metres; NaN where no height is near.
        """
        step, around, wanted = self.step, aligned(window, self.step), self.needs(window)
        sums, counts = _sums(dsm, known, wanted, step)
        in_window = self.span // step
        total, count = _windowed(sums, in_window), _windowed(counts, in_window)  # a row more than cells
        has_heights = count > 0
        mean = np.where(has_heights, total / np.maximum(count, 1), 0.0)
        mean, has_heights = _uncurved(mean, has_heights)
        rows = _weights(window.row - around.row, window.height, step, len(mean))
        cols = _weights(window.col - around.col, window.width, step, mean.shape[1])
        if has_heights.all():
            return rows @ mean @ cols.T
        share = rows @ has_heights.astype(np.float64) @ cols.T
        with np.errstate(invalid="ignore"):
            heights: NDArray[np.float64] = (rows @ mean @ cols.T) / np.where(share > 1e-9, share, np.nan)
        return heights


def _sums(
    dsm: Array, known: Window, wanted: Window, step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the heights in each cell of `wanted`, which lies on multiples of `step`."""
    heights = np.zeros(wanted.shape, dtype=np.float32)
    common = known.grown(0, within=wanted)
    dsm, inside = dsm[common.relative_to(known).slices], common.relative_to(wanted).slices
    void = np.isnan(dsm)
    # Subtracted, so that a sum of float32 stays exact to a millimetre at any height; it is added again below.
    offset = np.float32(0) if void.all() else dsm.flat[np.argmin(void)]
    np.subtract(dsm, offset, out=heights[inside])
    if void.any():
        there = np.zeros(wanted.shape, dtype=np.float32)
        there[inside] = ~void
        np.copyto(heights[inside], 0, where=void)
        counts = _cell_sums(there, step)
    else:
        rows, cols = (np.zeros(length) for length in wanted.shape)
        rows[inside[0]] = cols[inside[1]] = 1
        counts = np.outer(rows.reshape(-1, step).sum(axis=1), cols.reshape(-1, step).sum(axis=1))
    return _cell_sums(heights, step) + counts * np.float64(offset), counts


def _cell_sums(values: Array, step: int) -> NDArray[np.float64]:
    height, width = values.shape
    along_rows = values.reshape(height, width // step, step).sum(axis=2)
    cells: NDArray[np.float64] = along_rows.reshape(height // step, step, width // step).sum(
        axis=1, dtype=np.float64
    )
    return cells


def _windowed(cells: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Sums over n x n neighbouring cells, one for each of their common corners."""
    for axis in (0, 1):
        ends = np.cumsum(cells, axis=axis)
        ends = np.insert(ends, 0, 0.0, axis=axis)
        cells = np.take(ends, range(n, ends.shape[axis]), axis=axis) - np.take(
            ends, range(ends.shape[axis] - n), axis=axis
        )
    return cells


def _uncurved(
    mean: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The nodes without REACH at each end, and without what curvature adds to them, where neighbours tell."""
    inner, behind, ahead = slice(REACH, -REACH), slice(None, -2 * REACH), slice(2 * REACH, None)
    corrected = mean[inner, inner].copy()
    for before, after in (((behind, inner), (ahead, inner)), ((inner, behind), (inner, ahead))):
        bent = mean[before] + mean[after] - 2 * mean[inner, inner]
        corrected -= np.where(known[before] & known[after], CURVATURE * bent, 0.0)
    return corrected, known[inner, inner]


def _weights(first: int, length: int, step: int, nodes: int) -> NDArray[np.float64]:
    """(length, nodes): how much each node counts at the centre of each pixel; rows sum to 1."""
    at = (first + np.arange(length) + 0.5) / step
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(nodes)))
