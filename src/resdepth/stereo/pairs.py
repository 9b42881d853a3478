"""Pairs of raw images: which can be matched, how good they are, and a DSM from several, block by block.

A DSM comes from images and RPCs alone: the coarse levels look through the whole range of heights that the
RPCs allow, each finer one only around what the level before found. Neither a first DSM nor a range of heights
is needed, and memory does not grow with the area.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.crs import METRE, find_crs
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Bounds, Grid
from resdepth.geo.raster import Band, FileBand
from resdepth.geo.rpc import Rpc
from resdepth.geo.windows import Window, blocks
from resdepth.runtime.prefetch import in_order
from resdepth.runtime.progress import Progress
from resdepth.stereo.matching import (
    MatcherSettings,
    fused,
    match,
    rasterized,
    rectified,
    resampled,
    row_offset,
    triangulated,
)
from resdepth.stereo.ortho import Image, from_geographic, reduced

Array = NDArray[np.float32]
Heights = tuple[float, float]

BLOCK_PX, HALO_PX = 512, 64
MARGIN_M, MARGIN_PX = 5.0, 4
"""So far above and below the heights of the level before the next looks: metres, and pixels of disparity."""
OUTLIERS_PERCENT = 0.2
"""So many of the lowest and of the highest heights of a level do not widen the range of the next."""
BASES = (0.05, 1.0)
"""Base to height of the pairs that are matched; steeper ones see other sides of things."""
LEAST_AGREEMENT, NEAR_SHARE, NEAR_AGREEMENT, NEAR_ERROR, MOST_PAIRS = 0.3, 0.7, 0.95, 2.0, 4
"""Pairs are kept whose matched share, agreement and height error are so near to the best."""
AGREEMENT_LOST = 0.02
"""What sampling alone takes from the agreement of images that are alike."""
SAMPLES = 5


class NoUsefulPair(ResDepthError):
    """No two images have directions that suit, or none agree."""


@dataclass(frozen=True)
class StereoPair:
    """Two of the images.

    Attributes:
        first, second: their indices.
        base_to_height: metres of displacement for each metre of height.
        matched: share of the cells that it matches, of those that any pair does, 0 to 1.
        agreement: median correlation of the grey values at its matches, -1 to 1.
    """

    first: int
    second: int
    base_to_height: float
    matched: float = 1.0
    agreement: float = 1.0

    @property
    def height_error(self) -> float:
        """Grows with the error of its heights: how badly the grey values agree, over the base to height."""
        return (1 - self.agreement + AGREEMENT_LOST) / self.base_to_height


@dataclass(frozen=True)
class Stereo:
    """What is matched.

    Attributes:
        images: raw images with RPCs.
        grid: of the DSM; heights are metres above the ellipsoid.
        heights: lowest and highest that are looked for, metres.
        settings: of the matcher; its step is set for each level.
        threads: that match blocks.
    """

    images: Sequence[Image]
    grid: Grid
    heights: Heights
    settings: MatcherSettings = field(default_factory=partial(MatcherSettings, smoothness=(16, 64)))
    threads: int = 2


@dataclass(frozen=True)
class Level:
    """One pixel size.

    Attributes:
        images: in pixels of about that size.
        grid: of the cells.
        settings: of the matcher.
        before: the DSM of the level before; None at the first.
    """

    images: Sequence[Image]
    grid: Grid
    settings: MatcherSettings
    before: Band | None


def possible_pairs(stereo: Stereo) -> list[StereoPair]:
    """The pairs whose directions suit, widest first.

    Raises:
        NoUsefulPair: if there is none.
    """
    pairs, bases = [], []
    for first, second in combinations(range(len(stereo.images)), 2):
        rpcs = stereo.images[first].rpc, stereo.images[second].rpc
        try:
            plane = rectified(*rpcs, stereo.grid, stereo.heights, step_m=1.0)
        except ResDepthError:
            bases.append(0.0)
            continue
        bases.append(plane.disparity_per_metre)
        if BASES[0] <= bases[-1] <= BASES[1]:
            pairs.append(StereoPair(first, second, bases[-1]))
    if not pairs:
        listed = ", ".join(f"{base:.2f}" for base in bases)
        raise NoUsefulPair(
            f"images: no pair has a base to height of {BASES[0]:g} to {BASES[1]:g}, as matching needs "
            f"(found {listed})"
        )
    return sorted(pairs, key=lambda pair: -pair.base_to_height)


@dataclass(frozen=True)
class PairSurface:
    """What a pair shows of a block: (H, W) float32 metres, NaN = void; and the agreement of its images."""

    heights: Array
    agreement: float


class Quality:
    """What the blocks of a level show of a pair."""

    def __init__(self) -> None:
        self._matched, self._seen, self._agreement = 0, 0, 0.0

    def add(self, surface: PairSurface, heights: Array) -> None:
        """Count a block in which the pair matches anything."""
        if matched := int((~np.isnan(surface.heights)).sum()):
            self._matched += matched
            self._seen += int((~np.isnan(heights)).sum())
            self._agreement += matched * surface.agreement

    def of(self, pair: StereoPair) -> StereoPair:
        """The pair with its quality."""
        seen, matched = max(self._seen, 1), max(self._matched, 1)
        return replace(pair, matched=self._matched / seen, agreement=self._agreement / matched)


def sound_pairs(pairs: Sequence[StereoPair]) -> list[StereoPair]:
    """The pairs that match at all.

    Raises:
        NoUsefulPair: if there is none.
    """
    best = max(pair.agreement for pair in pairs)
    if best < LEAST_AGREEMENT:
        raise NoUsefulPair(
            f"images: the grey values of the best pair correlate by {best:.2f} at its matches (at least "
            f"{LEAST_AGREEMENT:g}): do the images show the same place, do their RPCs belong to them, "
            "and does the ground lie between the heights that are looked for?"
        )
    return [pair for pair in pairs if pair.agreement >= LEAST_AGREEMENT]


def best_pairs(pairs: Sequence[StereoPair]) -> list[StereoPair]:
    """The pairs whose heights are almost as good as those of the best, best first."""
    agreement, matched = (
        max(values) for values in zip(*((p.agreement, p.matched) for p in pairs), strict=True)
    )
    near = [
        p for p in pairs if p.agreement >= NEAR_AGREEMENT * agreement and p.matched >= NEAR_SHARE * matched
    ]
    ranked = sorted(near, key=lambda pair: pair.height_error)
    return [pair for pair in ranked if pair.height_error <= NEAR_ERROR * ranked[0].height_error][:MOST_PAIRS]


def limits_of(stereo: Stereo, level: Level, pair: StereoPair, outer: Window) -> Heights:
    """Between which heights a block is matched."""
    if level.before is None:
        return stereo.heights
    coarse = level.before
    ratio = level.grid.gsd / coarse.grid.gsd
    row, col = int(outer.row * ratio), int(outer.col * ratio)
    below, right = int(np.ceil(outer.row_stop * ratio)), int(np.ceil(outer.col_stop * ratio))
    near = Window(row, col, below - row, right - col).grown(2, within=coarse.grid.whole)
    heights = coarse.read(near)
    if np.isnan(heights).all():
        heights = coarse.read(near.grown(BLOCK_PX, within=coarse.grid.whole))
    if np.isnan(heights).all():
        return stereo.heights
    low, high = np.nanpercentile(heights, (OUTLIERS_PERCENT, 100 - OUTLIERS_PERCENT))
    margin = MARGIN_M + MARGIN_PX * coarse.grid.gsd_m / pair.base_to_height
    return max(float(low) - margin, stereo.heights[0]), min(float(high) + margin, stereo.heights[1])


def row_shift_of(stereo: Stereo, level: Level, pair: StereoPair) -> float:
    """By how many rows of the plane the second image lies below the first: the median over some blocks."""
    parts = list(blocks(level.grid.whole, BLOCK_PX))
    chosen = [parts[int(i)] for i in np.unique(np.linspace(0, len(parts) - 1, SAMPLES).round())]
    offsets = []
    first, second = level.images[pair.first], level.images[pair.second]
    for block in chosen:
        part, limits = level.grid.crop(block), limits_of(stereo, level, pair, block)
        plane = rectified(first.rpc, second.rpc, part, limits, step_m=level.settings.step_m, whole=level.grid)
        left, right = (resampled(image, plane, part.crs) for image in (first, second))
        if not (np.isnan(left).all() or np.isnan(right).all()):
            offsets.append(row_offset(left, right))
    return float(np.median(offsets)) if offsets else 0.0


def surface_of_pair(
    stereo: Stereo, level: Level, pair: StereoPair, row_shift: float, block: Window
) -> PairSurface:
    """Match a pair over a block of cells."""
    outer = block.grown(HALO_PX, within=level.grid.whole)
    part, limits = level.grid.crop(outer), limits_of(stereo, level, pair, outer)
    first, second = level.images[pair.first], level.images[pair.second]
    found = match(first, second, part, limits, level.settings, row_shift, level.grid)
    points = triangulated(found.disparity, found.plane, first.rpc, second.rpc, part.crs, limits)
    return PairSurface(rasterized(points, part)[block.relative_to(outer).slices], found.agreement)


FACTORS = (16, 8, 4, 2, 1)
"""Pixel sizes of the levels, in pixels of the result."""
SMALLEST_LEVEL_PX = 48
TILE_PX = 256
EDGE_POINTS, SPAN_PX, GSD_STEP_M = 9, 16, 0.05
LARGEST_RATIO = 64.0
"""Between the pixels of the DSM and those of the images."""


def ground_grid(rpcs: Sequence[Rpc], shapes: Sequence[tuple[int, int]], gsd_m: float | None = None) -> Grid:
    """The grid of what at least two images show: UTM, whole multiples of the pixel size.

    Args:
        rpcs: of the images.
        shapes: rows and columns of each.
        gsd_m: pixel size; None: that of the images on the ground, in steps of 5 cm.

    Raises:
        ResDepthError: if no two images overlap.
    """
    lat, lon = (float(np.mean([rpc.offsets[i] for rpc in rpcs])) for i in (2, 3))
    zone = int((lon + 180) // 6) % 60 + 1
    crs, name = find_crs(f"EPSG:{(32600 if lat >= 0 else 32700) + zone}")
    shared = shared_areas(rpcs, shapes, crs)
    finest = min(pixel_size_m(rpc, shape, crs) for rpc, shape in zip(rpcs, shapes, strict=True))
    if gsd_m is None:
        gsd_m = max(round(finest / GSD_STEP_M), 1) * GSD_STEP_M
    if not finest / LARGEST_RATIO <= gsd_m <= finest * LARGEST_RATIO:
        raise ResDepthError(f"gsd: found {gsd_m:g} m; the images have pixels of {finest:.3g} m on the ground")
    x0, y0 = (min(one[i] for one in shared) for i in (0, 1))
    x1, y1 = (max(one[i] for one in shared) for i in (2, 3))
    left, top = np.floor(x0 / gsd_m) * gsd_m, np.ceil(y1 / gsd_m) * gsd_m
    height, width = int(np.ceil((top - y0) / gsd_m)), int(np.ceil((x1 - left) / gsd_m))
    return Grid(height, width, (gsd_m, 0.0, float(left), 0.0, -gsd_m, float(top)), crs, name)


def shared_areas(rpcs: Sequence[Rpc], shapes: Sequence[tuple[int, int]], crs: str) -> list[Bounds]:
    """Rectangles of the map around what two images show, for each pair that shows the same area.

    Raises:
        ResDepthError: if there is none.
    """
    z = float(np.median([rpc.offsets[4] for rpc in rpcs]))
    boxes = [footprint(rpc, shape, crs, z) for rpc, shape in zip(rpcs, shapes, strict=True)]
    shared = [common for pair in combinations(boxes, 2) if (common := overlap(*pair))]
    if not shared:
        raise ResDepthError("images: no two of them show the same area")
    return shared


def demand_overlap(grid: Grid, rpcs: Sequence[Rpc], shapes: Sequence[tuple[int, int]]) -> None:
    """Refuse a grid that lies outside of what two images show.

    Raises:
        ResDepthError: if it does.
    """
    if not any(overlap(grid.bounds, area) for area in shared_areas(rpcs, shapes, grid.crs)):
        raise ResDepthError(
            "images: no two of them show any of the grid's area; is it a raster of this place?"
        )


def overlap(first: Bounds, second: Bounds) -> Bounds | None:
    """What two rectangles have in common."""
    x0, y0 = max(first[0], second[0]), max(first[1], second[1])
    x1, y1 = min(first[2], second[2]), min(first[3], second[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def footprint(rpc: Rpc, shape: tuple[int, int], crs: str, z: float) -> Bounds:
    """The rectangle of a map around what an image shows of ground at one height.

    Raises:
        ResDepthError: if the RPC does not show where its pixels lie, or they lie outside of the map.
    """
    x, y = from_geographic(crs, *_outline(rpc, shape, z))
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _outline(rpc: Rpc, shape: tuple[int, int], z: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes of points along the edges of an image."""
    at = np.linspace(0, 1, EDGE_POINTS)
    row = np.concatenate([0 * at, at, 1 + 0 * at, at]) * (shape[0] - 1)
    col = np.concatenate([at, 1 + 0 * at, at, 0 * at]) * (shape[1] - 1)
    return rpc.locate(row, col, np.full(row.shape, z))


def heights_of(rpcs: Sequence[Rpc]) -> Heights:
    """The heights for which all RPCs were made, metres above the ellipsoid.

    Raises:
        ResDepthError: if they have none in common.
    """
    low = max(rpc.offsets[4] - rpc.scales[4] for rpc in rpcs)
    high = min(rpc.offsets[4] + rpc.scales[4] for rpc in rpcs)
    if not low < high:
        raise ResDepthError("images: their RPCs have no heights in common; are they of one place?")
    return low, high


def write_surface(stereo: Stereo, path: Path, work: Path, progress: Progress) -> tuple[StereoPair, ...]:
    """Match the images and write the DSM, NaN (nodata) where nothing is matched.

    Args:
        stereo: what to match.
        path: the GeoTIFF to write; it appears once it is complete.
        work: a folder for coarser levels, which the caller removes.
        progress: advances by 1 in all.

    Returns:
        The pairs that were used for the finest level, best first.

    Raises:
        ResDepthError: if no pair can be matched, or a file cannot be read or written.
    """
    sizes = [pixel_size_m(one.rpc, one.grid.whole.shape, stereo.grid.crs) for one in stereo.images]
    step_m = min(stereo.grid.gsd_m, *sizes)
    smallest = min(stereo.grid.whole.shape) * stereo.grid.gsd_m / step_m
    factors = [factor for factor in FACTORS if factor == 1 or smallest >= factor * SMALLEST_LEVEL_PX]
    pairs, found = possible_pairs(stereo), []
    before: FileBand | None = None
    whole = sum(factor**-2 for factor in factors)
    for factor in factors:
        level = _level(stereo, factor, step_m, before)
        target = path if factor == 1 else work / f"level_{factor}.tif"
        found = _write_level(stereo, level, pairs, target, progress, factor**-2 / whole)
        pairs = sound_pairs(found) if factor > FACTORS[-2] else best_pairs(sound_pairs(found))
        before = None if factor == 1 else FileBand(target)
    return tuple(found)


def pixel_size_m(rpc: Rpc, shape: tuple[int, int], crs: str) -> float:
    """Side on the ground of a square as large as a pixel in the middle of an image, metres.

    Args:
        rpc: of the image.
        shape: its rows and columns.
        crs: a projected one, in metres.

    Raises:
        ResDepthError: if the RPC does not show where the pixels lie.
    """
    row, col = shape[0] / 2 + SPAN_PX * np.array([0, 1, 0]), shape[1] / 2 + SPAN_PX * np.array([0, 0, 1])
    x, y = from_geographic(crs, *rpc.locate(row, col, np.full(3, rpc.offsets[4])))
    area = abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]))
    return float(np.sqrt(area)) / SPAN_PX


def _level(stereo: Stereo, factor: int, step_m: float, before: FileBand | None) -> Level:
    images = [reduced(image, factor) for image in stereo.images]
    cells = coarser(stereo.grid, max(1, int(factor * step_m / stereo.grid.gsd_m + 1e-6)))
    return Level(images, cells, replace(stereo.settings, step_m=factor * step_m), before)


def coarser(grid: Grid, factor: int) -> Grid:
    """A grid of pixels `factor` times as large from the same corner, which covers it."""
    a, b, c, d, e, f = grid.transform
    transform = (a * factor, b * factor, c, d * factor, e * factor, f)
    return replace(
        grid, height=-(-grid.height // factor), width=-(-grid.width // factor), transform=transform
    )


def _write_level(
    stereo: Stereo, level: Level, pairs: Sequence[StereoPair], path: Path, progress: Progress, share: float
) -> list[StereoPair]:
    """Match and write all blocks; returns the pairs with what was seen of their quality."""
    shifts = [row_shift_of(stereo, level, pair) for pair in pairs]
    parts = list(blocks(level.grid.whole, BLOCK_PX))
    jobs = [
        partial(surface_of_pair, stereo, level, pair, shift, block)
        for block in parts
        for pair, shift in zip(pairs, shifts, strict=True)
    ]
    surfaces = in_order(jobs, stereo.threads)
    qualities = [Quality() for _ in pairs]
    with new_geotiff(path, level.grid, tile=TILE_PX, unit=METRE) as file:
        for block in parts:
            found = [next(surfaces) for _ in pairs]
            heights = fused([one.heights for one in found])
            for quality, one in zip(qualities, found, strict=True):
                quality.add(one, heights)
            file.write(block.row, heights, col=block.col)
            progress.advance(share / len(parts))
    return [quality.of(pair) for quality, pair in zip(qualities, pairs, strict=True)]
