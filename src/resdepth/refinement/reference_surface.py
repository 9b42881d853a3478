"""What heights are measured from in seamless refinement: a smooth surface, a function of the place alone.

The published method subtracts from each tile its own mean height, so a pixel's result depends on the tile it
lies in. Here the mean over a window twice as wide as these tiles is taken around the nodes of a lattice,
which is fixed on the map, and between the nodes it is interpolated: no tile, no raster's origin and no order
of work matters. Beside a ravine such a mean lies below the plateau; so the nodes are corrected for what the
terrain's curvature does to it. docs/refine.md tells what was measured about it.
"""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import Window, aligned

Array = NDArray[np.float32]
Read = Callable[[Window], Array]
"""The heights of a window, (h, w) float32, metres, NaN = void."""
Sums = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Sum and number of the heights of cells, (h, w) each."""

NODES_PER_SPAN = 4
# Of terrain c x^2, the mean over a span of 4 steps h and the interpolation between nodes lie above it by
# 3/2 c h^2 (4/3 and, on average, 1/6); the second difference over REACH steps to both sides is 8 c h^2.
REACH = 2
CURVATURE = 3 / 16
# Cells are kept in squares; so many of them are some megabytes, and the surroundings of a row of blocks.
SQUARE = 4
KEPT_SQUARES = 1 << 14


class Reference:
    """The reference heights of one raster, which is read no further than they are asked for."""

    def __init__(self, read: Read, whole: Window, span: int) -> None:
        """Describe it; nothing is read yet.

        Args:
            read: the heights of a window.
            whole: where there are any; all windows here count pixels on the map's lattice.
            span: side of the window of a node's mean, in pixels; a multiple of 4.
        """
        self._step = span // NODES_PER_SPAN
        self._cells = Cells(read, whole, self._step)

    def over(self, window: Window) -> NDArray[np.float64]:
        """The reference height of each pixel of a window.

        Returns:
            (H, W) float64, metres; NaN where no height is near.

        Raises:
            ResDepthError: if heights cannot be read.
        """
        step, touched = self._step, aligned(window, self._step)
        margin = NODES_PER_SPAN // 2 + REACH
        sums, counts = self._cells.over(
            Window(
                touched.row // step - margin,
                touched.col // step - margin,
                touched.height // step + 2 * margin,
                touched.width // step + 2 * margin,
            )
        )
        total, count = _windowed(sums), _windowed(counts)  # a row more than cells
        has_heights = count > 0
        mean = np.where(has_heights, total / np.maximum(count, 1), 0.0)
        mean, has_heights = _uncurved(mean, has_heights)
        at_rows = (window.row - touched.row + np.arange(window.height) + 0.5) / step
        at_cols = (window.col - touched.col + np.arange(window.width) + 0.5) / step
        heights = _between(_between(mean.T, at_cols).T, at_rows)
        if not has_heights.all():
            share = _between(_between(has_heights.T.astype(np.float64), at_cols).T, at_rows)
            with np.errstate(invalid="ignore"):
                heights /= np.where(share > 1e-9, share, np.nan)
        return heights


class Cells:
    """Sum and number of the heights in each cell of a lattice; those of places lately asked for are kept.

    Neighbouring blocks need the same cells: without that, each height would be read many times.
    """

    def __init__(self, read: Read, whole: Window, side: int) -> None:
        """Describe them.

        Args:
            read: the heights of a window.
            whole: where there are any.
            side: of a cell, in pixels.
        """
        self._read, self._whole, self._side = read, whole, side
        self._kept: OrderedDict[tuple[int, int], Sums] = OrderedDict()

    def over(self, cells: Window) -> Sums:
        """Sum and number of the heights of the cells of a window, (h, w) float64 each."""
        squares = aligned(cells, SQUARE)
        rows = [
            [np.hstack(values) for values in zip(*self._row(row, squares), strict=True)]
            for row in range(squares.row, squares.row_stop, SQUARE)
        ]
        sums, counts = (np.vstack(values) for values in zip(*rows, strict=True))
        inside = cells.relative_to(squares).slices
        return sums[inside], counts[inside]

    def _row(self, row: int, squares: Window) -> list[Sums]:
        """A row of squares of cells; what is missing is read at once, as files may hold whole rows."""
        cols = range(squares.col, squares.col_stop, SQUARE)
        # Other threads may add and drop at any time, so what was found once is not looked up again.
        found = {col: kept for col in cols if (kept := self._kept.get((row, col))) is not None}
        missing = [col for col in cols if col not in found]
        if missing:
            first, last = missing[0], missing[-1]
            known, heights = self._heights(Window(row, first, SQUARE, last - first + SQUARE))
            for col in missing:
                found[col] = self._kept[row, col] = self._sums(
                    Window(row, col, SQUARE, SQUARE), known, heights
                )
        while len(self._kept) > KEPT_SQUARES:
            self._kept.popitem(last=False)
        return [found[col] for col in cols]

    def _pixels(self, cells: Window) -> Window:
        side = self._side
        return Window(cells.row * side, cells.col * side, cells.height * side, cells.width * side)

    def _heights(self, cells: Window) -> tuple[Window, Array]:
        """The heights that there are in a window of cells, and where they lie."""
        known = self._pixels(cells).grown(0, within=self._whole)
        if min(known.shape) <= 0:
            return Window(known.row, known.col, 0, 0), np.empty((0, 0), np.float32)
        return known, self._read(known)

    def _sums(self, square: Window, known: Window, heights: Array) -> Sums:
        """Those of a square, always added up in the same way, so that any process gets the same bits."""
        pixels = self._pixels(square)
        common = pixels.grown(0, within=known)
        if min(common.shape) <= 0:
            return np.zeros((SQUARE, SQUARE)), np.zeros((SQUARE, SQUARE))
        given = np.full(pixels.shape, np.nan, np.float32)
        given[common.relative_to(pixels).slices] = heights[common.relative_to(known).slices]
        void = np.isnan(given)
        np.copyto(given, 0, where=void)
        by_cell = (SQUARE, self._side, SQUARE, self._side)
        sums = given.reshape(by_cell).sum(axis=3, dtype=np.float64).sum(axis=1)
        counts = self._side**2 - void.reshape(by_cell).sum(axis=3).sum(axis=1, dtype=np.float64)
        return sums, counts


def _windowed(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over as many cells as a node's window has, one for each of their common corners."""
    n = NODES_PER_SPAN
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


def _between(nodes: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, w) values at the nodes of each column, interpolated linearly at ascending places: (len(at), w).

    Not as a product of matrices: the threads of BLAS would go on spinning beside those of the network.
    """
    before = at.astype(int)
    share = at - before
    nodes = np.ascontiguousarray(nodes)
    values = np.empty((len(at), nodes.shape[1]))
    for node in range(before[0], before[-1] + 1):
        here = slice(*np.searchsorted(before, (node, node + 1)))
        np.multiply.outer(share[here], nodes[node + 1] - nodes[node], out=values[here])
        values[here] += nodes[node]
    return values
