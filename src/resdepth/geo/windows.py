"""Rectangles of pixels: regions, tiles, and random patches. Pure arithmetic; nothing here touches a file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Strategy = Literal["5-crossval_vertical", "5-crossval_horizontal", "entire"]

N_STRIPES = 5


@dataclass(frozen=True, order=True)
class Window:
    """A half-open rectangle of pixels: rows [row, row + height), columns [col, col + width)."""

    row: int
    col: int
    height: int
    width: int

    @property
    def row_stop(self) -> int:
        """The first row below the window."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """The first column to the right of the window."""
        return self.col + self.width

    @property
    def area(self) -> int:
        """The number of pixels."""
        return self.height * self.width

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return (self.height, self.width)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this window in an array that starts at (0, 0)."""
        return (slice(self.row, self.row_stop), slice(self.col, self.col_stop))

    def relative_to(self, outer: "Window") -> "Window":
        """The same pixels, counted from the upper-left corner of `outer`."""
        return Window(self.row - outer.row, self.col - outer.col, self.height, self.width)

    def grown(self, margin: int, within: "Window") -> "Window":
        """This window with `margin` more pixels on each side, as far as they lie in `within`."""
        row, col = max(self.row - margin, within.row), max(self.col - margin, within.col)
        row_stop = min(self.row_stop + margin, within.row_stop)
        col_stop = min(self.col_stop + margin, within.col_stop)
        return Window(row, col, row_stop - row, col_stop - col)

    def moved(self, rows: int, cols: int) -> "Window":
        """The window that lies so many pixels further down and to the right."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def contains(self, inner: "Window") -> bool:
        """Whether every pixel of `inner` lies in this window."""
        return (
            self.row <= inner.row
            and self.col <= inner.col
            and inner.row_stop <= self.row_stop
            and inner.col_stop <= self.col_stop
        )


@dataclass(frozen=True)
class Regions:
    """What a data set's area serves for. The windows of one role never overlap those of another."""

    train: tuple[Window, ...] = ()
    val: tuple[Window, ...] = ()
    test: tuple[Window, ...] = ()


def split_regions(
    height: int, width: int, strategy: Strategy, *, test_stripe: int = 0, crossval: bool = False
) -> Regions:
    """Cut an area into training, validation and test regions (ResDepth, ISPRS 2022, section 4).

    Stripes are cut along the columns (vertical) or the rows (horizontal): five, of round(0.2 n) pixels
    each, the last taking the rest. `test_stripe` tests, the next one (cyclic) validates, the others train,
    neighbouring training stripes merged. With `crossval`, `test_stripe` validates and the others train.
    With "entire" the whole area is offered to each role.
    """
    whole = Window(0, 0, height, width)
    if strategy == "entire":
        return Regions(train=(whole,), val=(whole,), test=(whole,))

    def regions(stripes: Iterable[int]) -> tuple[Window, ...]:
        return tuple(_stripe_window(whole, strategy, run) for run in _runs(sorted(stripes)))

    if crossval:
        return Regions(train=regions(set(range(N_STRIPES)) - {test_stripe}), val=regions([test_stripe]))
    val_stripe = (test_stripe + 1) % N_STRIPES
    return Regions(
        train=regions(set(range(N_STRIPES)) - {test_stripe, val_stripe}),
        val=regions([val_stripe]),
        test=regions([test_stripe]),
    )


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of successive numbers as (first, one past the last)."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _stripe_window(whole: Window, strategy: Strategy, run: tuple[int, int]) -> Window:
    length = whole.width if strategy == "5-crossval_vertical" else whole.height
    step = round(length / N_STRIPES)
    start = run[0] * step
    stop = length if run[1] == N_STRIPES else run[1] * step
    if strategy == "5-crossval_vertical":
        return Window(0, start, whole.height, stop - start)
    return Window(start, 0, stop - start, whole.width)


def blocks(region: Window, side: int) -> Iterator[Window]:
    """Windows of at most `side` x `side` pixels that cover a region, each pixel once, row by row."""
    for row in range(region.row, region.row_stop, side):
        for col in range(region.col, region.col_stop, side):
            height, width = min(side, region.row_stop - row), min(side, region.col_stop - col)
            yield Window(row, col, height, width)


def row_bands(shape: tuple[int, ...], pixels: int = 1 << 15) -> Iterator[slice]:
    """Slices of rows, a few at a time, from top to bottom: steps over them find pixels in the caches.

    Args:
        shape: rows and columns.
        pixels: about so many at once.
    """
    rows = max(pixels // shape[1], 1)
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def bounding(windows: Sequence[Window]) -> Window:
    """The smallest window that contains all of these."""
    row, col = min(one.row for one in windows), min(one.col for one in windows)
    row_stop, col_stop = max(one.row_stop for one in windows), max(one.col_stop for one in windows)
    return Window(row, col, row_stop - row, col_stop - col)


def aligned(window: Window, step: int) -> Window:
    """The smallest window with sides on multiples of `step` that contains another."""
    row, col = window.row // step * step, window.col // step * step
    height, width = -(-window.row_stop // step) * step - row, -(-window.col_stop // step) * step - col
    return Window(row, col, height, width)


def block_counts(shape: tuple[int, int], *, halo: int, area: int, side: int) -> tuple[int, int]:
    """Into how many rows and columns of blocks to cut an area so that least is computed for their halos.

    Args:
        shape: height and width of the area.
        halo: pixels around each block that must be computed, too.
        area: pixels that a block may have with its halo, at least (2 halo + 1)^2.
        side: pixels that each side of a block may have.
    """
    height, width = shape

    def options() -> Iterator[tuple[int, int, int]]:
        for tall in range(min(side, height), 0, -1):
            wide = min(area // (tall + 2 * halo) - 2 * halo, side)
            if wide > 0:
                rows, cols = -(-height // tall), -(-width // wide)
                yield (height + 2 * halo * rows) * (width + 2 * halo * cols), rows, cols

    return min(options())[1:]


def even_blocks(
    region: Window, counts: tuple[int, int], step: int, origin: tuple[int, int]
) -> Iterator[Window]:
    """Windows that cover a region, each pixel once, row by row; all but those at the rims of one size.

    Memory that is freed after one of them then fits the next.

    Args:
        region: what is covered.
        counts: rows and columns of blocks, or fewer where whole steps allow it.
        step: the edges between blocks lie on multiples of it in a lattice.
        origin: row and column, in the lattice's own pixels, of the pixel (0, 0).
    """
    rows = _even_edges(region.row, region.row_stop, counts[0], step, origin[0])
    cols = _even_edges(region.col, region.col_stop, counts[1], step, origin[1])
    for row, row_stop in pairwise(rows):
        for col, col_stop in pairwise(cols):
            yield Window(row, col, row_stop - row, col_stop - col)


def _even_edges(start: int, stop: int, count: int, step: int, origin: int) -> list[int]:
    length = -(-(stop - start) // (count * step)) * step
    first = (start + origin) // step * step - origin
    between = range(first + length, first + count * length, length)
    return [start, *(edge for edge in between if edge < stop), stop]


@dataclass(frozen=True)
class AxisTile:
    """One tile along one axis.

    Attributes:
        start: first pixel, counted from the region's edge.
        shared: how many of its pixels the previous tile covers already (0 for the first tile).
    """

    start: int
    shared: int


def axis_tiles(length: int, tile: int, stride: int) -> tuple[AxisTile, ...]:
    """Tiles that cover [0, length) without a gap; a last tile that would leave is shifted back inside.

    Raises:
        ValueError: if the region is smaller than a tile.
    """
    if length < tile:
        raise ValueError(f"a region of {length} pixels is smaller than a tile of {tile}")
    starts = [*range(0, length - tile, stride), length - tile]
    shared = [0, *(before + tile - start for before, start in pairwise(starts))]
    return tuple(AxisTile(start, overlap) for start, overlap in zip(starts, shared, strict=True))


@dataclass(frozen=True)
class TileGrid:
    """Square tiles over a region, row by row.

    Attributes:
        region: what is covered.
        tile: side of a tile in pixels.
        rows, cols: the tiles along each axis.
    """

    region: Window
    tile: int
    rows: tuple[AxisTile, ...]
    cols: tuple[AxisTile, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def windows(self) -> Iterator[Window]:
        """All tiles, in raster coordinates, row by row."""
        for row in self.rows:
            for col in self.cols:
                yield Window(self.region.row + row.start, self.region.col + col.start, self.tile, self.tile)

    def touching(self, block: Window) -> "TileGrid":
        """The tiles that cover a part of a block; within the block they weigh the same as among all."""
        rows = _touching(self.rows, self.tile, block.row - self.region.row, block.row_stop - self.region.row)
        cols = _touching(self.cols, self.tile, block.col - self.region.col, block.col_stop - self.region.col)
        region = Window(
            self.region.row + rows[0].start,
            self.region.col + cols[0].start,
            rows[-1].start + self.tile - rows[0].start,
            cols[-1].start + self.tile - cols[0].start,
        )
        return TileGrid(region, self.tile, _rebased(rows), _rebased(cols))

    def fresh(self) -> Iterator[Window]:
        """For each tile, in the tile's own coordinates, the part that no earlier tile covers.

        With stride = tile these parts cover each pixel of the region exactly once.
        """
        for row in self.rows:
            for col in self.cols:
                yield Window(row.shared, col.shared, self.tile - row.shared, self.tile - col.shared)


def _touching(tiles: tuple[AxisTile, ...], tile: int, start: int, stop: int) -> tuple[AxisTile, ...]:
    return tuple(one for one in tiles if one.start < stop and one.start + tile > start)


def _rebased(tiles: tuple[AxisTile, ...]) -> tuple[AxisTile, ...]:
    first = tiles[0].start
    return tuple(AxisTile(one.start - first, one.shared if index else 0) for index, one in enumerate(tiles))


def tile_grid(region: Window, tile: int, stride: int) -> TileGrid:
    """The lattice of tiles of the published method: stride = tile in validation, tile / 2 in testing."""
    return TileGrid(
        region, tile, axis_tiles(region.height, tile, stride), axis_tiles(region.width, tile, stride)
    )


def corner_count(regions: Iterable[Window], tile: int) -> int:
    """How many upper-left corners there are whose patch lies inside one of the regions."""
    return sum(max(w.height - tile + 1, 0) * max(w.width - tile + 1, 0) for w in regions)


def random_corners(
    regions: Sequence[Window], tile: int, n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Distinct upper-left corners, uniform over all corners whose patch lies inside one of the regions.

    Time and memory grow with n, not with the area: corners are numbered and numbers are drawn.

    Returns:
        (n, 2) int64: row and column of each corner.

    Raises:
        ValueError: if there are fewer than n corners.
    """
    spans = [(max(w.height - tile + 1, 0), max(w.width - tile + 1, 0)) for w in regions]
    ends = np.cumsum([rows * cols for rows, cols in spans])
    available = int(ends[-1]) if len(ends) else 0
    if n > available:
        raise ValueError(f"{n} patches of {tile} x {tile} pixels wanted, {available} are possible")
    numbers = rng.choice(available, size=n, replace=False, shuffle=True)
    which = np.searchsorted(ends, numbers, side="right")
    offset = numbers - np.concatenate([[0], ends[:-1]])[which]
    widths = np.array([cols for _, cols in spans])[which]
    origins = np.array([(w.row, w.col) for w in regions])[which]
    corners: NDArray[np.int64] = origins + np.stack([offset // widths, offset % widths], axis=1)
    return corners
