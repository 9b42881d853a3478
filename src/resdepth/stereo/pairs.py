"""Pairs of raw images: which can be matched, how good they are, and what a pair shows of a block."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band
from resdepth.geo.windows import Window, blocks
from resdepth.stereo.epipolar import rectified, triangulated
from resdepth.stereo.matching import MatcherSettings, match, rasterized, resampled, row_offset
from resdepth.stereo.ortho import Image

Array = NDArray[np.float32]
Heights = tuple[float, float]

BLOCK_PX, HALO_PX = 512, 64
MARGIN_M, MARGIN_PX = 5.0, 4
"""So far above and below the heights of the level before the next looks: metres, and pixels of disparity."""
OUTLIERS_PERCENT = 0.2
"""So many of the lowest and of the highest heights of a level do not widen the range of the next."""
BASES = (0.05, 1.0)
"""Base to height of the pairs that are matched; steeper ones see other sides of things."""
LEAST_AGREEMENT, NEAR_SHARE, NEAR_AGREEMENT, MOST_PAIRS = 0.3, 0.7, 0.95, 4
"""Pairs are kept whose matched share and agreement are so near to the best; two dates fall behind."""
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
    """The widest of the pairs whose images agree almost as well as those of the best."""
    agreement, matched = (
        max(values) for values in zip(*((p.agreement, p.matched) for p in pairs), strict=True)
    )
    near = [
        p for p in pairs if p.agreement >= NEAR_AGREEMENT * agreement and p.matched >= NEAR_SHARE * matched
    ]
    return sorted(near, key=lambda pair: -pair.base_to_height)[:MOST_PAIRS]


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
