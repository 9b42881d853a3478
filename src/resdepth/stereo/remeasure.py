"""Measuring a DSM again in raw images: a pair is matched around its heights, and both results are compared.

For each pair five rasters on the DSM's grid are made: the heights that the pair shows, and how well its
images agree about the initial and about the matched heights, in small and in large windows. They are what the
fusion network (models/fusion_unet.py) sees beside the DSM.

Where heights are right, two views of the ground show the same; where they are wrong, the images projected
onto them slip over each other, and their correlation falls (photo-consistency).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band
from resdepth.geo.rpc import LATTICE_PX, between
from resdepth.geo.windows import Window, blocks
from resdepth.runtime.prefetch import in_order
from resdepth.runtime.progress import Progress
from resdepth.stereo.matching import filled, rectified
from resdepth.stereo.ortho import Image, reduced, to_geographic
from resdepth.stereo.pairs import (
    BLOCK_PX,
    MOST_PAIRS,
    Level,
    NoUsefulPair,
    Quality,
    Stereo,
    StereoPair,
    best_pairs,
    coarser,
    limits_of,
    possible_pairs,
    row_shift_of,
    sound_pairs,
    surface_of_pair,
)

Array = NDArray[np.float32]

LAYERS = ("matched", "initial_small", "initial_large", "matched_small", "matched_large")
"""Of a pair: its heights, and how its images agree about the initial and about the matched heights."""
WINDOWS_PX = (5, 11)
"""Sides of the windows in which images are compared."""
MARGIN_PX, TILE_PX, SAMPLES = 8, 256, 5
GOLDEN = 0.6180339887
ANY_HEIGHT = (-1e4, 1e4)
COARSE, SMALLEST_LEVEL_PX, FARTHEST_M = 8, 48, 120.0
"""A geoid lies up to 110 m beside its ellipsoid."""
LEAST_OFFSET_M, LEAST_OFFSET_PX = 4.0, 0.5
"""What is less, in metres or in coarse pixels of disparity, is found at full resolution."""


@dataclass(frozen=True)
class Placement:
    """Where a DSM lies as the images' RPCs see it: what is to be added to its coordinates, in metres."""

    east_m: float = 0.0
    north_m: float = 0.0
    up_m: float = 0.0

    def of_grid(self, grid: Grid) -> Grid:
        """The grid as the images see it."""
        a, b, c, d, e, f = grid.transform
        return replace(grid, transform=(a, b, c + self.east_m, d, e, f + self.north_m))


class LiftedBand:
    """A DSM as the images see it: elsewhere, and higher."""

    def __init__(self, dsm: Band, placement: Placement) -> None:
        self.grid = placement.of_grid(dsm.grid.flat)
        self._dsm, self._up = dsm, np.float32(placement.up_m)

    def read(self, window: Window) -> Array:
        """(H, W) float32, metres, NaN = void."""
        return self._dsm.read(window) + self._up


@dataclass(frozen=True)
class Around:
    """What is measured again.

    Attributes:
        images: raw, with RPCs; their pixels are about as large as those of the DSM.
        dsm: heights on a north-up grid, metres, NaN = void.
        step_m: pixel size at which images are matched.
        placement: where the DSM lies as the images see it.
        region: pixels of the DSM beyond which nothing is measured; None: all.
        threads: that match blocks.
        written_on: the grid of the rasters to write; None: that of the DSM.
    """

    images: Sequence[Image]
    dsm: Band
    step_m: float
    placement: Placement = Placement()
    region: Window | None = None
    threads: int = 2
    written_on: Grid | None = None

    @property
    def grid(self) -> Grid:
        """Of the DSM."""
        return self.dsm.grid.flat

    @property
    def target(self) -> Grid:
        """Of the rasters to write."""
        return self.written_on or self.grid

    @cached_property
    def stereo(self) -> Stereo:
        """The images over the DSM's grid as they see it; heights are looked for around those of the DSM."""
        stereo = Stereo(self.images, self.placement.of_grid(self.grid), ANY_HEIGHT, threads=self.threads)
        return replace(stereo, settings=replace(stereo.settings, step_m=self.step_m))

    @cached_property
    def level(self) -> Level:
        """The whole of it at its own pixel size."""
        seen = LiftedBand(self.dsm, self.placement)
        return Level(self.images, self.stereo.grid, self.stereo.settings, seen)

    def measures(self, block: Window) -> bool:
        """Whether a block lies in the region, at least in part."""
        return self.region is None or min(block.grown(0, within=self.region).shape) > 0

    @cached_property
    def samples(self) -> tuple[Window, ...]:
        """Some blocks all over the DSM that hold heights, most of them if they can.

        Raises:
            ResDepthError: if there are none.
        """
        parts = [part for part in blocks(self.grid.whole, BLOCK_PX) if self.measures(part)]
        order = sorted(range(len(parts)), key=lambda number: (number * GOLDEN) % 1)  # spread evenly
        found: list[Window] = []
        for number in order:
            if len(found) < SAMPLES and not np.isnan(self.dsm.read(parts[number])).all():
                found.append(parts[number])
        if not found:
            raise ResDepthError("dsm: it holds no heights around which images could be matched")
        return tuple(found)


@dataclass(frozen=True)
class Pair:
    """A pair that is measured.

    Attributes:
        stereo: its images, and how they agree.
        row_shift: by how many rows of its plane the second image lies below the first.
        unit_m: metres of height that move the images against each other by a pixel.
    """

    stereo: StereoPair
    row_shift: float
    unit_m: float

    @property
    def numbers(self) -> tuple[int, int]:
        """The indices of its images."""
        return self.stereo.first, self.stereo.second


def chosen_pairs(around: Around, among: Sequence[tuple[int, int]] | None = None) -> list[Pair]:
    """The pairs to measure, best first: those whose images agree best at some places.

    Args:
        around: images and DSM.
        among: the pairs to choose from; None: all.

    Raises:
        NoUsefulPair: if no two images have suitable directions, or none agree.
    """
    stereo, level = around.stereo, around.level
    seen = []
    asked = None if among is None else {tuple(sorted(pair)) for pair in among}
    for pair in possible_pairs(stereo):
        if asked is not None and (pair.first, pair.second) not in asked:
            continue
        shift, quality = row_shift_of(stereo, level, pair), Quality()
        for block in around.samples:
            found = surface_of_pair(stereo, level, pair, shift, block)
            quality.add(found, around.dsm.read(block))
        seen.append(Pair(quality.of(pair), shift, around.step_m / pair.base_to_height))
    if not seen:
        raise NoUsefulPair("pairs: none of them has directions that suit (base to height 0.05 to 1)")
    sound = sound_pairs([one.stereo for one in seen])
    best = best_pairs(sound) if among is None else sound
    return [one for pair in best for one in seen if one.stereo == pair]


def height_offset(around: Around) -> float:
    """By how much the images see the DSM higher than it is: another datum, say; 0 if it is little.

    At a coarse pixel size heights are looked for far above and below the DSM.
    """
    grid = around.grid
    factor = max(min(COARSE, min(grid.whole.shape) // SMALLEST_LEVEL_PX), 1)
    images = [reduced(image, factor) for image in around.images]
    cells = coarser(around.stereo.grid, factor)
    settings = replace(around.stereo.settings, step_m=factor * around.step_m)
    found: list[Array] = []
    least = LEAST_OFFSET_M
    for block in _spread(_coarse_blocks(around, cells, factor), SAMPLES):
        heights = _means(around.dsm, block, factor)
        if np.isnan(heights).all():
            continue
        limits = float(np.nanmin(heights)) - FARTHEST_M, float(np.nanmax(heights)) + FARTHEST_M
        stereo = replace(around.stereo, images=images, grid=cells, heights=limits)
        level = Level(images, cells, settings, None)
        surfaces = [
            (surface_of_pair(stereo, level, pair, row_shift_of(stereo, level, pair), block), pair)
            for pair in possible_pairs(stereo)[:MOST_PAIRS]
        ]
        best, pair = max(surfaces, key=lambda one: np.nan_to_num(one[0].agreement, nan=-1.0))
        found.append((best.heights - heights).ravel())
        least = max(least, LEAST_OFFSET_PX * cells.gsd_m / pair.base_to_height)
    differences = np.concatenate(found) if found else np.empty(0, np.float32)
    differences = differences[np.isfinite(differences)]
    offset = float(np.median(differences)) if differences.size else 0.0
    return offset if abs(offset) > least else 0.0


def _coarse_blocks(around: Around, cells: Grid, factor: int) -> list[Window]:
    """Blocks of coarse cells in the region."""
    region, n = around.region or around.grid.whole, factor
    row, col = region.row // n, region.col // n
    covered = Window(row, col, -(-region.row_stop // n) - row, -(-region.col_stop // n) - col)
    return list(blocks(covered.grown(0, within=cells.whole), BLOCK_PX))


def _means(dsm: Band, cells: Window, factor: int) -> Array:
    """The mean height of each cell of a window, NaN where it holds none."""
    n, whole = factor, dsm.grid.whole
    fine = Window(cells.row * n, cells.col * n, cells.height * n, cells.width * n).grown(0, within=whole)
    heights = np.full((cells.height * n, cells.width * n), np.nan, np.float32)
    heights[: fine.height, : fine.width] = dsm.read(fine)
    four = heights.reshape(cells.height, n, cells.width, n)
    known = ~np.isnan(four)
    count = known.sum(axis=(1, 3))
    total = np.where(known, four, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _spread(parts: Sequence[Window], count: int) -> list[Window]:
    return [parts[int(i)] for i in np.unique(np.linspace(0, len(parts) - 1, count).round())]


def write_matched(around: Around, pair: Pair, path: Path, progress: Progress) -> None:
    """Match a pair around the DSM.

    Args:
        around: images and DSM.
        pair: the one.
        path: the raster to write: heights on the DSM's grid as the DSM has them, metres.
        progress: advances by 1 in all.

    Raises:
        ResDepthError: if files cannot be read or written.
    """
    parts = list(blocks(around.grid.whole, BLOCK_PX))
    jobs = (partial(_matched_block, around, pair, part) for part in parts)
    with new_geotiff(path, around.target, tile=TILE_PX, compression="zstd") as file:
        for part, heights in zip(parts, in_order(jobs, around.threads), strict=True):
            file.write(part.row, heights, col=part.col)
            progress.advance(1 / len(parts))


def _matched_block(around: Around, pair: Pair, block: Window) -> Array:
    if not around.measures(block):
        return np.full(block.shape, np.nan, np.float32)
    found = surface_of_pair(around.stereo, around.level, pair.stereo, pair.row_shift, block)
    return np.asarray(found.heights - np.float32(around.placement.up_m))


def write_agreement(
    around: Around, pair: Pair, matched: Band, paths: Sequence[Path], progress: Progress
) -> None:
    """How well the images of a pair agree about the DSM, and about the heights that were matched.

    Args:
        around: images and DSM.
        pair: the one.
        matched: heights, see `write_matched`; where they are void those of the DSM count.
        paths: of the four rasters to write, in the order of LAYERS; correlations, void where an image shows
            nothing.
        progress: advances by 1 in all.

    Raises:
        ResDepthError: if files cannot be read or written.
    """
    offset = _image_offset(around, pair)
    contrasts = _contrasts(around, pair, offset)
    parts = list(blocks(around.grid.whole, BLOCK_PX))
    jobs = (partial(_agreement, around, pair, matched, offset, contrasts, part) for part in parts)
    with ExitStack() as stack:
        files = [
            stack.enter_context(new_geotiff(path, around.target, tile=TILE_PX, compression="zstd"))
            for path in paths
        ]
        for part, layers in zip(parts, in_order(jobs, around.threads), strict=True):
            for file, layer in zip(files, layers, strict=True):
                file.write(part.row, layer, col=part.col)
            progress.advance(1 / len(parts))


@dataclass(frozen=True)
class Contrast:
    """Mean and standard deviation of an image's grey values."""

    mean: float
    std: float


def _agreement(
    around: Around,
    pair: Pair,
    matched: Band,
    offset: tuple[float, float],
    contrasts: tuple[Contrast, Contrast],
    block: Window,
) -> list[Array]:
    outer = block.grown(MARGIN_PX, within=around.grid.whole)
    initial = _without_voids(around, outer) if around.measures(block) else None
    if initial is None:
        return [np.full(block.shape, np.nan, np.float32)] * (2 * len(WINDOWS_PX))
    found = matched.read(outer)
    layers = []
    for heights in (initial, np.where(np.isnan(found), initial, found)):
        first, second = _both(around, pair, outer, heights, offset)
        for side in WINDOWS_PX:
            layer = local_correlation(first, second, side, contrasts)
            layers.append(layer[block.relative_to(outer).slices])
    return layers


def _without_voids(around: Around, window: Window) -> Array | None:
    heights = around.dsm.read(window)
    if np.isnan(heights).all():
        return None
    return filled(heights, float(np.nanmedian(heights))) if np.isnan(heights).any() else heights


def _both(
    around: Around, pair: Pair, window: Window, heights: Array, offset: tuple[float, float]
) -> tuple[Array, Array]:
    grid = around.grid.crop(window)
    first, second = (around.images[index] for index in (pair.stereo.first, pair.stereo.second))
    return (
        projected(first, grid, heights, around.placement),
        projected(second, grid, heights, around.placement, offset),
    )


def _contrasts(around: Around, pair: Pair, offset: tuple[float, float]) -> tuple[Contrast, Contrast]:
    """Of both images over some blocks of the DSM."""
    seen: tuple[list[Array], list[Array]] = ([], [])
    for block in around.samples:
        heights = _without_voids(around, block)
        assert heights is not None, "sample blocks hold heights"
        for values, image in zip(seen, _both(around, pair, block, heights, offset), strict=True):
            values.append(image[~np.isnan(image)])
    first, second = (np.concatenate(values) for values in seen)
    return _contrast(first), _contrast(second)


def _contrast(values: Array) -> Contrast:
    if not values.size:
        return Contrast(0.0, 1.0)
    return Contrast(float(values.mean(dtype=np.float64)), max(float(values.std(dtype=np.float64)), 1e-6))


def _image_offset(around: Around, pair: Pair) -> tuple[float, float]:
    """Rows and columns by which the second image lies beside its RPC, as the first sees it."""
    first, second = (around.images[index] for index in (pair.stereo.first, pair.stereo.second))
    block, stereo = around.samples[0], around.stereo
    limits = limits_of(stereo, around.level, pair.stereo, block)
    plane = rectified(first.rpc, second.rpc, stereo.grid, limits, step_m=around.step_m, whole=stereo.grid)
    r, c = (np.array([n / 2, n / 2]) for n in (plane.height, plane.width))
    lon, lat = to_geographic(stereo.grid.crs, *plane.on_map(r + np.array([0, pair.row_shift]), c))
    row, col = second.rpc.project(lon, lat, np.full(2, plane.plane_z))
    return float(row[1] - row[0]), float(col[1] - col[0])


Values = NDArray[np.float64]

LEAST_STD = 0.03
"""Of the grey values of a window, as a share of the image's own: below, noise decides, and they correlate
little."""
LEAST_COVERED = 0.99


Kernel = Literal["linear", "cubic"]
KERNELS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


def projected(
    image: Image,
    grid: Grid,
    heights: Array,
    placement: Placement,
    offset_px: tuple[float, float] = (0, 0),
    *,
    kernel: Kernel = "linear",
) -> Array:
    """What an image shows of a surface.

    Args:
        image: raw, with an RPC.
        grid: of the surface, north up.
        heights: (H, W) float32, metres, without voids.
        placement: of the surface in the images.
        offset_px: rows and columns by which the image lies beside its RPC.
        kernel: between pixels; a cubic one looks further, and leaves more void beside what shows nothing.

    Returns:
        (H, W) float32 grey values, NaN where the image shows nothing.
    """
    rows, cols = _positions(image, placement.of_grid(grid), heights + np.float32(placement.up_m))
    rows, cols = rows + np.float32(offset_px[0]), cols + np.float32(offset_px[1])
    whole = image.grid.whole
    row, col = max(int(rows.min()) - 2, 0), max(int(cols.min()) - 2, 0)
    below, right = min(int(rows.max()) + 4, whole.height), min(int(cols.max()) + 4, whole.width)
    if below <= row or right <= col:
        return np.full(heights.shape, np.nan, dtype=np.float32)
    values = image.read(Window(row, col, below - row, right - col))
    seen = ~np.isnan(values)
    at = cols - np.float32(col), rows - np.float32(row)
    grey = cv2.remap(np.where(seen, values, 0), *at, KERNELS[kernel], borderMode=cv2.BORDER_REPLICATE)
    if kernel == "cubic" and not seen.all():
        seen = cv2.erode(seen.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    covered = cv2.remap(seen.astype(np.float32), *at, cv2.INTER_LINEAR, borderValue=0)
    return np.where(covered > LEAST_COVERED, grey, np.nan).astype(np.float32)


def _positions(image: Image, grid: Grid, heights: Array) -> tuple[Array, Array]:
    """Image row and column of each pixel: by the RPC on a lattice at two heights, in between linear."""
    low, high = float(heights.min()), float(heights.max())
    high = max(high, low + 1.0)
    steps = [np.arange(n // LATTICE_PX + 2, dtype=np.float64) * LATTICE_PX for n in heights.shape]
    r, c = np.meshgrid(*steps, indexing="ij")
    x, y = grid.map_position(r + 0.5, c + 0.5)
    lon, lat = to_geographic(grid.crs, np.asarray(x), np.asarray(y))
    share = (heights - np.float32(low)) / np.float32(high - low)
    ends = [image.rpc.project(lon, lat, np.full(lon.shape, z)) for z in (low, high)]
    rows, cols = (
        (between(start, *heights.shape) + share * between(stop - start, *heights.shape)).astype(np.float32)
        for start, stop in zip(*ends, strict=True)
    )
    return rows, cols


def local_correlation(first: Array, second: Array, side: int, contrasts: tuple[Contrast, Contrast]) -> Array:
    """Correlation of two images in square windows, -1 to 1.

    Args:
        first: (H, W) float32 grey values, NaN = nothing.
        second: likewise.
        side: of the windows, pixels; at the edges they are mirrored.
        contrasts: of both images as a whole.

    Returns:
        (H, W) float32, NaN where one of the images shows nothing.
    """
    unseen = np.isnan(first) | np.isnan(second)
    a, b = (
        np.where(unseen, 0, (one - np.float32(contrast.mean)) / np.float32(contrast.std))
        for one, contrast in zip((first, second), contrasts, strict=True)
    )
    mean_a, mean_b = _box(a, side), _box(b, side)
    var_a, var_b = (
        np.maximum(_box(one * one, side) - mean * mean, 0) + np.float32(LEAST_STD**2)
        for one, mean in ((a, mean_a), (b, mean_b))
    )
    correlation = (_box(a * b, side) - mean_a * mean_b) / np.sqrt(var_a * var_b)
    return np.where(unseen, np.nan, correlation).astype(np.float32)


def _box(values: Array, side: int) -> Array:
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101))
