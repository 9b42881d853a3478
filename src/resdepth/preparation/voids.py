"""A DSM without voids: implausible heights go, small voids are filled from near, large ones smoothly.

A coarse surface of medians over the whole area, which memory always holds, shows what is implausible, and
fills what is far from any height. So blocks fit together, however large a void is.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.crs import METRE
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band
from resdepth.geo.windows import Window, blocks
from resdepth.runtime.prefetch import in_order
from resdepth.runtime.progress import Progress
from resdepth.stereo.matching import filled
from resdepth.stereo.ortho import fill_voids

Array = NDArray[np.float32]
Codes = NDArray[np.uint8]

BLOCK_PX, HALO_PX, TILE_PX = 1024, 96, 256
REACH_PX = 64
"""Voids are filled by inverse distance so far from the next height; beyond it smoothly."""
FACTOR, LARGEST_COARSE_PX, SMOOTH_CELLS = 16, 2048, 5
"""Side of a cell of the coarse surface in pixels, more where the area is large; and of its median filter."""
STANDS_OUT_M, SMALL_M2, ABSURD_M = 60.0, 50.0, 400.0
"""What stands out so far, on so small an area, is no building; what does by the last is nothing at all."""
LISTED = 50
FROM_DSM, NEAR, SMOOTH, OUTLIER = range(4)
"""Codes of the provenance raster."""
LEGEND = {
    "0": "as the initial DSM has it", "1": "void, filled by inverse distance", "2": "void, filled smoothly",
    "3": "implausible height, taken out and filled",
}  # fmt: skip


@dataclass(frozen=True)
class Outlier:
    """A group of implausible heights.

    Attributes:
        x, y: of its first pixel, map coordinates.
        height_m: there.
        level_m: of the neighbourhood.
        pixels: how many they are.
    """

    x: float
    y: float
    height_m: float
    level_m: float
    pixels: int


@dataclass(frozen=True)
class Filling:
    """What was filled.

    Attributes:
        void_share: of the pixels without a height, 0 to 1.
        near, smoothly: pixels that were filled in each way.
        implausible: heights that were taken out.
        outliers: the first groups of them.
        lowest_m, highest_m: of the filled heights.
    """

    void_share: float
    near: int
    smoothly: int
    implausible: int
    outliers: tuple[Outlier, ...]
    lowest_m: float
    highest_m: float


@dataclass(frozen=True)
class Coarse:
    """A coarse surface without voids.

    Attributes:
        heights: (h, w) float32, metres.
        factor: side of its cells in pixels.
    """

    heights: Array
    factor: int

    def over(self, window: Window) -> Array:
        """(H, W) float32, bilinear between the centres of cells."""
        rows, cols = (
            (start + np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(self.factor)
            - np.float32(0.5)
            for start, size in ((window.row, window.height), (window.col, window.width))
        )
        x, y = np.meshgrid(cols, rows)
        border = cv2.BORDER_REPLICATE
        return np.asarray(cv2.remap(self.heights, x, y, cv2.INTER_LINEAR, borderMode=border), np.float32)


def coarse_surface(dsm: Band, threads: int, progress: Progress) -> Coarse:
    """The medians of a DSM over cells, voids filled from around; progress advances by 1 in all.

    Raises:
        ResDepthError: if the DSM holds no height at all.
    """
    whole = dsm.grid.whole
    factor = max(FACTOR, -(-max(whole.shape) // LARGEST_COARSE_PX))
    side = max(BLOCK_PX // factor, 1) * factor
    parts = list(blocks(whole, side))
    medians = np.full((-(-whole.height // factor), -(-whole.width // factor)), np.nan, np.float32)
    jobs = (partial(_medians, dsm, part, factor) for part in parts)
    for part, found in zip(parts, in_order(jobs, threads), strict=True):
        row, col = part.row // factor, part.col // factor
        medians[row : row + found.shape[0], col : col + found.shape[1]] = found
        progress.advance(1 / len(parts))
    if np.isnan(medians).all():
        raise ResDepthError("dsm: it holds no heights in the area; is it the right file, and its CRS right?")
    level = filled(medians, float(np.nanmedian(medians)))
    if min(level.shape) >= SMOOTH_CELLS:
        level = np.asarray(cv2.medianBlur(level, SMOOTH_CELLS), np.float32)
    return Coarse(level, factor)


def write_filled(
    dsm: Band, grid: Grid, targets: tuple[Path, Path, Path], *, threads: int, progress: Progress
) -> Filling:
    """Write a DSM without voids.

    Args:
        dsm: heights, NaN = void.
        grid: of the files: that of the DSM, perhaps with a vertical CRS.
        targets: of the DSM, of a mask of what was filled, and of the provenance (see LEGEND).
        threads: that fill blocks.
        progress: advances by 2 in all.

    Raises:
        ResDepthError: if there are no heights, or a file cannot be written.
    """
    coarse = coarse_surface(dsm, threads, progress)
    parts = list(blocks(grid.whole, BLOCK_PX))
    jobs = (partial(_filled_block, dsm, coarse, part) for part in parts)
    counts = np.zeros(4, np.int64)
    outliers: list[Outlier] = []
    low, high = np.inf, -np.inf
    with ExitStack() as stack:
        files = [
            stack.enter_context(new_geotiff(path, place, dtype=dtype, tile=TILE_PX, unit=unit, tags=tags))
            for path, place, dtype, unit, tags in (
                (targets[0], grid, "float32", METRE, None),
                (targets[1], grid.flat, "uint8", None, None),
                (
                    targets[2],
                    grid.flat,
                    "uint8",
                    None,
                    {f"CODE_{code}": text for code, text in LEGEND.items()},
                ),
            )
        ]
        for part, (heights, codes, found) in zip(parts, in_order(jobs, threads), strict=True):
            layers: list[NDArray[Any]] = [heights, (codes > 0).astype(np.uint8), codes]
            for file, values in zip(files, layers, strict=True):
                file.write(part.row, values, col=part.col)
            low, high = min(low, float(heights.min())), max(high, float(heights.max()))
            counts += np.bincount(codes.ravel(), minlength=4)
            outliers += found[: LISTED - len(outliers)]
            progress.advance(1 / len(parts))
    void = int(counts[NEAR] + counts[SMOOTH]) / grid.whole.area
    near, smoothly, implausible = (int(counts[code]) for code in (NEAR, SMOOTH, OUTLIER))
    return Filling(void, near, smoothly, implausible, tuple(outliers), low, high)


def without_outliers(
    heights: Array, level: Array, pixel_m2: float
) -> tuple[Array, list[tuple[int, int, int]]]:
    """Heights without those that are implausible.

    Args:
        heights: (H, W) float32, metres, NaN = void.
        level: (H, W) float32, metres: of the neighbourhood.
        pixel_m2: area of a pixel.

    Returns:
        The heights, NaN where they are implausible; and row, column and size of each group of those.
    """
    far = np.abs(heights - level)
    out = far > STANDS_OUT_M  # False where void
    if not out.any():
        return heights, []
    count, labels, stats, _ = cv2.connectedComponentsWithStats(out.astype(np.uint8), connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    highest = np.zeros(count, np.float32)
    np.maximum.at(highest, labels[out], far[out])
    implausible = (sizes * pixel_m2 < SMALL_M2) | (highest > ABSURD_M)
    implausible[0] = False
    taken = implausible[labels]
    _, first = np.unique(labels.ravel(), return_index=True)
    groups = [
        (*divmod(int(first[number]), labels.shape[1]), int(sizes[number]))
        for number in np.flatnonzero(implausible)
    ]
    return np.where(taken, np.float32(np.nan), heights), groups


def _medians(dsm: Band, part: Window, factor: int) -> Array:
    height, width = -(-part.height // factor), -(-part.width // factor)
    heights = np.full((height * factor, width * factor), np.nan, np.float32)
    heights[: part.height, : part.width] = dsm.read(part)
    cells = heights.reshape(height, factor, width, factor).transpose(0, 2, 1, 3).reshape(height, width, -1)
    known = ~np.isnan(cells).all(axis=2)
    medians = np.full((height, width), np.nan, np.float32)
    medians[known] = np.nanmedian(cells[known], axis=1)
    return medians


def _filled_block(dsm: Band, coarse: Coarse, part: Window) -> tuple[Array, Codes, list[Outlier]]:
    outer = part.grown(HALO_PX, within=dsm.grid.whole)
    given, level = dsm.read(outer), coarse.over(outer)
    heights, groups = without_outliers(given, level, dsm.grid.pixel_area_m2)
    inner = part.relative_to(outer)
    near = fill_voids(heights, REACH_PX) if np.isnan(heights).any() else heights
    result = np.where(np.isnan(near), level, near)
    codes = np.full(outer.shape, FROM_DSM, np.uint8)
    codes[np.isnan(heights)] = NEAR
    codes[np.isnan(near)] = SMOOTH
    codes[np.isnan(heights) & ~np.isnan(given)] = OUTLIER
    found = list(_described(groups, given, level, outer, inner, dsm.grid))
    return result[inner.slices], codes[inner.slices], found


def _described(
    groups: Sequence[tuple[int, int, int]],
    given: Array,
    level: Array,
    outer: Window,
    inner: Window,
    grid: Grid,
) -> Iterator[Outlier]:
    """The groups that begin in the block itself."""
    for row, col, size in groups:
        if inner.contains(Window(row, col, 1, 1)):
            x, y = grid.map_position(outer.row + row + 0.5, outer.col + col + 0.5)
            height, around = (round(float(one[row, col]), 2) for one in (given, level))
            yield Outlier(round(x, 3), round(y, 3), height, around, size)
