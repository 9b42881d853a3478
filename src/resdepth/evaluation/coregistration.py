"""How far a surface lies beside the reference DSM: Nuth & Kaab (2011, The Cryosphere 5, 271-290).

Where a surface is shifted by (dx, dy, dz) against another, their difference is dz - dx gx - dy gy with the
gradient g; which is equation 2 of the paper, written with gradients instead of slope and aspect. The shift
comes from least squares over many pixels; the surface is moved by it, and so on, until it stays.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from resdepth.evaluation.metrics import NMAD_FACTOR, NO_STATISTICS, statistics
from resdepth.evaluation.phase_correlation import edges_apart
from resdepth.evaluation.result import Shift
from resdepth.geo.grid import Grid, Sides
from resdepth.geo.windows import Window

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Read = Callable[[Window], Array]

# The sample: the grid is cut into 8 x 8 cells, and in the middle of each is a window of up to 192 x 192
# pixels. So it has 2.4 million pixels at most, and is the whole of small rasters.
CELLS = 8
SIDE = 192
# Pixels around each window that are read of the surface, too, so that moving it costs no pixel at its edges.
MARGIN = 16
MAX_ROUNDS = 60
STEP_PX = 0.01  # smaller steps end the search
MIN_PIXELS = 100
# Errors grow with slope, so pixels are sorted into classes of slope (metres per metre), each with a spread.
SLOPES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# ... of a centimetre, and of what half a pixel makes of a slope, or more: or the few pixels of a class that
# happen to agree would decide alone.
LEAST_SPREAD_M, LEAST_SPREAD_PX = 0.01, 0.5
TRIM = 3.0  # spreads from the median beyond which a pixel is a blunder or a change, and is left out
# What the gradients of the reference DSM must vary by in the direction in which they vary least: a standard
# deviation in metres per metre, the root of the smaller eigenvalue of their covariance. In flat land, or on
# one even slope, the normal equations are as good as singular: no horizontal shift can be distinguished from
# none, or from a vertical one.
LEAST_RELIEF = 0.01
# A bias counts from this, and from this share of the spread of the differences; a shift from this.
LEAST_BIAS_M, LEAST_BIAS_SPREADS = 0.1, 0.5
LEAST_SHIFT_PX = 0.5

UNKNOWN = float("nan")
Pixels = NDArray[np.float64]
"""(2,) rows down and columns to the right."""

DOUBTFUL, CLEARLY_BETTER = 0.5, 0.7
"""Differences that vary by more than so much of the relief may come from a search that ended elsewhere; and
to how much of it they must go down for another place to be believed."""


@dataclass(frozen=True)
class Alignment:
    """How an initial DSM lies to the reference DSM.

    Attributes:
        bias_m: median of initial minus reference DSM; NaN with fewer than 100 common pixels.
        spread_m: the NMAD of these differences.
        shift: what moves the initial DSM onto the reference DSM.
        shift_px: its horizontal length in pixels; NaN where it was not found.
    """

    bias_m: float
    spread_m: float
    shift: Shift
    shift_px: float

    @property
    def is_biased(self) -> bool:
        """Whether the bias is more than the noise explains."""
        return abs(self.bias_m) > max(LEAST_BIAS_M, LEAST_BIAS_SPREADS * self.spread_m)

    @property
    def is_shifted(self) -> bool:
        """Whether the horizontal shift matters."""
        return self.shift_px > LEAST_SHIFT_PX


def align(surface: Read, reference: Read, grid: Grid, *, name: str) -> Alignment:
    """Compare an initial DSM with the reference DSM.

    Up to 64 windows all over the grid are read (2.4 million pixels), so neither time nor memory grow with the
    area.

    Args:
        surface: reads windows of the initial DSM on the grid: (h, w) float32, metres, NaN = void.
        reference: likewise.
        grid: of both.
        name: of the initial DSM, for a warning if the search for the shift does not converge.
    """
    differences = np.concatenate(
        [(surface(window) - reference(window)).ravel() for window in sample_windows(grid)]
    )
    found = statistics(differences)
    if found.count < MIN_PIXELS:
        found = NO_STATISTICS
    shift = estimate_shift(surface, reference, grid, name=name)
    sides = grid.sides_m
    # Rows and columns of a grid may be turned; a pixel's mean side is as good for a threshold.
    return Alignment(found.median, found.nmad, shift, math.hypot(shift.dx_m, shift.dy_m) / sides.mean)


@dataclass(frozen=True)
class Tilt:
    """The plane through the differences of a surface and the reference DSM.

    Attributes:
        east, north: how the surface rises against the reference DSM, metres per metre along the map's axes.
        rise_m: across the area, in the direction of the slope.
        noise_m: the standard error of `rise_m`.
        medians: (R, C) float64, metres, the median differences of the windows that it was found from, NaN
            where too few pixels are known.
    """

    east: float
    north: float
    rise_m: float
    noise_m: float
    medians: Floats

    @property
    def matters(self) -> bool:
        """Whether it is more than the noise explains."""
        return self.rise_m > max(LEAST_RISE_M, LEAST_RISE_ERRORS * self.noise_m)


LEAST_RISE_M, LEAST_RISE_ERRORS = 0.25, 6.0
FEWEST_WINDOWS = 12


def estimate_tilt(surface: Read, reference: Read, grid: Grid) -> Tilt | None:
    """How a surface is tilted against the reference DSM, from the medians of up to 64 windows.

    Windows that lie far from the plane (changes, blunders) count for nothing.

    Args:
        surface: reads windows of it on the grid: (h, w) float32, metres, NaN = void.
        reference: likewise.
        grid: of both.

    Returns:
        None if fewer than 12 windows have 100 common pixels, or if all of these lie in a line.
    """
    windows = list(sample_windows(grid))
    medians = np.array([_median_of(surface(window) - reference(window)) for window in windows])
    middles = [grid.map_position(one.row + one.height / 2, one.col + one.width / 2) for one in windows]
    places = np.array([grid.metres_of(x, y) for x, y in np.array(middles) - middles[0]])
    known = np.isfinite(medians)
    plane = np.column_stack([places, np.ones(len(places))])
    if known.sum() < FEWEST_WINDOWS or np.linalg.matrix_rank(plane[known]) < plane.shape[1]:
        return None
    kept = known
    for _ in range(MAX_ROUNDS):
        found = np.linalg.lstsq(plane[kept], medians[kept], rcond=None)[0]
        off = np.abs(medians - plane @ found)
        spread = NMAD_FACTOR * float(np.median(off[kept]))
        again = known & (off <= TRIM * max(spread, LEAST_SPREAD_M))
        if (again == kept).all() or again.sum() < FEWEST_WINDOWS:
            break
        kept = again
    slope = float(np.hypot(found[0], found[1]))
    along = places[kept] @ (found[:2] / slope) if slope else places[kept, 0]
    error = max(spread, LEAST_SPREAD_M) / max(float(along.std()) * math.sqrt(len(along)), 1e-9)
    reach = float(np.ptp(along))
    shape = len({one.row for one in windows}), len({one.col for one in windows})
    return Tilt(float(found[0]), float(found[1]), slope * reach, error * reach, medians.reshape(shape))


def _median_of(differences: Array) -> float:
    known = differences[np.isfinite(differences)]
    return float(np.median(known)) if len(known) >= MIN_PIXELS else UNKNOWN


@dataclass(frozen=True)
class _Sample:
    """One window of the sample, in pixels.

    Attributes:
        inner: the window, counted from the upper-left corner of `surface`.
        reference: (H, W) float32, NaN = void.
        surface: with a margin.
    """

    inner: Window
    reference: Array
    surface: Array


@dataclass(frozen=True)
class _Pixels:
    """The pixels of all samples where the reference DSM and its gradient are known, sorted by class of slope.

    Attributes:
        order: (N,) where they come from in the samples, one behind the other.
        reference: (N,) float64, metres.
        gradients: (N, 2) float64, metres per pixel, along rows and along columns.
        starts: where each class of slope begins, and N.
    """

    order: NDArray[np.int64]
    reference: Floats
    gradients: Floats
    starts: NDArray[np.int64]


@dataclass(frozen=True)
class _Step:
    """What least squares found: pixels down and to the right (None in flat land), metres up, pixels used."""

    moved: Floats | None
    up_m: float
    pixels: int


def estimate_shift(surface: Read, reference: Read, grid: Grid, *, name: str | None) -> Shift:
    """What moves a surface onto the reference DSM: added to its coordinates and heights.

    A sample of 2.4 million pixels at most is looked at, so neither time nor memory grow with the area.
    Blunders and changes (trees, new buildings) count for nothing as long as most pixels of their slope are
    sound. Shifts of up to about 10 pixels are found, in rough country more.

    Args:
        surface: reads windows of it on the grid: (h, w) float32, metres, NaN = void.
        reference: likewise.
        grid: of both. y grows to the north, whatever way the rows go.
        name: of the surface, for a warning if the search does not converge; None: no warning.

    Returns:
        Metres; NaN for all three with fewer than 100 common pixels, or if the search does not converge; NaN
        for dx and dy where the reference DSM is too flat to tell (its gradients vary by less than 0.01 in
        some direction).
    """
    samples = [_sample(surface, reference, grid, window) for window in sample_windows(grid)]
    pixels = _sorted_pixels(samples, grid.sides_m)
    (row, col), last, converged = _searched(samples, pixels, grid.sides_m)
    if not converged and name is not None:
        logger.warning(
            "%s: the search for the shift against the reference DSM does not converge: none is reported", name
        )
    if last is None:
        return Shift(UNKNOWN, UNKNOWN, UNKNOWN, 0, applied=False)
    if last.moved is None:
        return Shift(UNKNOWN, UNKNOWN, last.up_m, last.pixels, applied=False)
    a, b, _, d, e, _ = grid.transform
    east_m, north_m = grid.metres_of(float(a * col + b * row), float(d * col + e * row))
    return Shift(east_m, north_m, last.up_m, last.pixels, applied=False)


def _searched(samples: list[_Sample], pixels: _Pixels, sides: Sides) -> tuple[Floats, _Step | None, bool]:
    """How far down and right the surface must be moved, the last step, and whether the search ended."""
    at = np.zeros(2)
    step = None
    for _ in range(MAX_ROUNDS):
        step = _step(_differences(samples, pixels, at), pixels, sides)
        if step is None or step.moved is None:
            return at, None if at.any() else step, True
        at = at + step.moved
        if np.hypot(*step.moved) < STEP_PX:
            return at, step, True
    return at, None, False


def sample_windows(grid: Grid) -> Iterator[Window]:
    """The windows of the sample: one in the middle of each of 8 x 8 cells."""
    rows = np.linspace(0, grid.height, CELLS + 1).astype(int)
    cols = np.linspace(0, grid.width, CELLS + 1).astype(int)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            height, width = min(bottom - top, SIDE), min(right - left, SIDE)
            if height and width:
                row, col = (top + bottom - height) // 2, (left + right - width) // 2
                yield Window(int(row), int(col), int(height), int(width))


def _sample(surface: Read, reference: Read, grid: Grid, window: Window) -> _Sample:
    around = window.grown(MARGIN, grid.whole)
    return _Sample(window.relative_to(around), reference(window), surface(around))


def _sorted_pixels(samples: list[_Sample], sides: Sides) -> _Pixels:
    reference = np.concatenate([one.reference.ravel() for one in samples]).astype(np.float64)
    gradients = np.concatenate([_gradients(one.reference).reshape(-1, 2) for one in samples])
    known = np.flatnonzero(np.isfinite(gradients).all(axis=1) & np.isfinite(reference))
    slopes = np.hypot(*(gradients[known] / np.array(sides, np.float32)).T)
    classes = np.digitize(slopes, SLOPES).astype(np.int8)
    order = known[np.argsort(classes, kind="stable")]
    starts = np.searchsorted(np.sort(classes), np.arange(len(SLOPES) + 2))
    return _Pixels(order, reference[order], gradients[order].astype(np.float64), starts)


def _gradients(heights: Array) -> Array:
    """(H, W, 2) central differences per pixel along rows and columns; NaN at the edges."""
    result = np.full((*heights.shape, 2), np.nan, np.float32)
    result[1:-1, :, 0] = (heights[2:] - heights[:-2]) / 2
    result[:, 1:-1, 1] = (heights[:, 2:] - heights[:, :-2]) / 2
    return result


def _differences(samples: list[_Sample], pixels: _Pixels, by: Floats) -> Floats:
    """(N,) reference DSM minus moved surface; NaN where that is void."""
    surface = np.concatenate([_moved(one.surface, one.inner, by).ravel() for one in samples])
    result: Floats = pixels.reference - surface[pixels.order]
    return result


def _moved(values: Array, inner: Window, by: Floats) -> Array:
    """A part of a surface that was moved so many pixels down and to the right: bilinear between four heights.

    Where all of a height's weight is on some of the four, the others may be void.
    """
    result = np.zeros(inner.shape, np.float32)
    whole = np.floor(-by).astype(int)
    share = -by - whole
    for rows, row_weight in ((0, 1 - share[0]), (1, share[0])):
        for cols, col_weight in ((0, 1 - share[1]), (1, share[1])):
            if row_weight * col_weight > 0:
                part = inner.moved(int(whole[0]) + rows, int(whole[1]) + cols)
                result += np.float32(row_weight * col_weight) * _part(values, part)
    return result


def _part(values: Array, window: Window) -> Array:
    """A window of an array; NaN outside."""
    if Window(0, 0, *values.shape).contains(window):
        return values[window.slices]
    result = np.full(window.shape, np.nan, np.float32)
    row, col = max(window.row, 0), max(window.col, 0)
    found = values[row : max(window.row_stop, 0), col : max(window.col_stop, 0)]
    top, left = row - window.row, col - window.col
    result[top : top + found.shape[0], left : left + found.shape[1]] = found
    return result


def _step(differences: Floats, pixels: _Pixels, sides: Sides) -> _Step | None:
    """Weighted least squares over the pixels that are no blunders; None if there are too few."""
    known = ~np.isnan(differences)
    if int(known.sum()) < MIN_PIXELS:
        return None
    spreads = _spreads(differences, known, pixels)
    centre = np.median(differences[known])
    kept = known & (np.abs(differences - centre) <= TRIM * spreads)
    found, gradients, weights = differences[kept], pixels.gradients[kept], 1 / spreads[kept] ** 2
    # About the means: they are what a vertical shift explains.
    level, slope = (weights @ found) / weights.sum(), (weights @ gradients) / weights.sum()
    if np.linalg.eigvalsh(np.cov(gradients / sides, rowvar=False))[0] < LEAST_RELIEF**2:
        return _Step(None, float(level), len(found))
    around = gradients - slope
    weighted = around * weights[:, None]
    moved_by = np.linalg.solve(weighted.T @ around, weighted.T @ (level - found)).astype(np.float64)
    return _Step(moved_by, float(level + slope @ moved_by), len(found))


def _spreads(differences: Floats, known: NDArray[np.bool_], pixels: _Pixels) -> Floats:
    """(N,) the NMAD of the differences in each pixel's class of slope; not less than in a gentler one."""
    centre = np.median(differences[known])
    spreads = LEAST_SPREAD_PX * np.hypot(pixels.gradients[:, 0], pixels.gradients[:, 1])
    spread = LEAST_SPREAD_M
    for start, stop in pairwise(pixels.starts):
        found = differences[start:stop][known[start:stop]]
        if len(found):
            spread = max(spread, float(NMAD_FACTOR * np.median(np.abs(found - centre))))
        np.maximum(spreads[start:stop], spread, out=spreads[start:stop])
    return spreads


def find_shift(surface: Read, reference: Read, grid: Grid, *, name: str) -> Shift:
    """What moves a surface onto the reference DSM, as `estimate_shift` has it, also from far away.

    Where that does not converge, or leaves differences that vary nearly as much as the heights do, the search
    begins where the edges of both lie over each other. What it leads to counts if the differences then vary
    clearly less. So shifts of up to about 60 pixels are found where there are edges, as in towns.

    Args:
        surface: reads windows of it on the grid: (h, w) float32, metres, NaN = void.
        reference: likewise.
        grid: of both.
        name: of the surface, for a warning if no search converges.
    """
    near = estimate_shift(surface, reference, grid, name=None)
    spread = _spread(surface, reference, grid, _pixels(near, grid))
    if near.pixels and spread <= DOUBTFUL * _relief(reference, grid):
        return near
    apart = edges_apart(reference, surface, grid.whole)
    offset: Pixels = np.zeros(2) if apart is None else -np.rint(apart)
    far = estimate_shift(_beside(surface, grid, offset), reference, grid, name=None)
    moved = offset + _pixels(far, grid)
    if math.isfinite(far.dx_m) and _spread(surface, reference, grid, moved) < CLEARLY_BETTER * spread:
        east_m, north_m = _metres(moved, grid)
        return replace(far, dx_m=east_m, dy_m=north_m)
    if not near.pixels and math.isfinite(spread):
        logger.warning(
            "%s: the search for the shift against the reference DSM does not converge: none is reported", name
        )
    return near


def _pixels(shift: Shift, grid: Grid) -> Pixels:
    """What a shift is in pixels; none where it was not found."""
    if not math.isfinite(shift.dx_m):
        return np.zeros(2)
    a, b, _, d, e, _ = grid.transform
    right, down = np.linalg.solve([[a, b], [d, e]], grid.map_units_of(shift.dx_m, shift.dy_m))
    return np.array([down, right])


def _metres(moved: Pixels, grid: Grid) -> tuple[float, float]:
    """East and north."""
    (down, right), (a, b, _, d, e, _) = moved, grid.transform
    return grid.metres_of(float(a * right + b * down), float(d * right + e * down))


def _beside(read: Read, grid: Grid, offset: Pixels) -> Read:
    """Reads a surface that was moved so many whole pixels; NaN beyond its edges."""
    down, right = (int(one) for one in offset)

    def moved(window: Window) -> Array:
        there = window.moved(-down, -right)
        inside = there.grown(0, within=grid.whole)
        result = np.full(window.shape, np.nan, np.float32)
        if min(inside.shape) > 0:
            result[inside.relative_to(there).slices] = read(inside)
        return result

    return moved


def _spread(surface: Read, reference: Read, grid: Grid, moved: Pixels) -> float:
    """The NMAD of the differences of a surface that was moved, to whole pixels; infinite if few are known."""
    there = _beside(surface, grid, np.rint(moved))
    differences = [(there(window) - reference(window)).ravel() for window in sample_windows(grid)]
    found = statistics(np.concatenate(differences))
    return float(found.nmad) if found.count >= MIN_PIXELS else math.inf


def _relief(reference: Read, grid: Grid) -> float:
    heights = np.concatenate([reference(window).ravel() for window in sample_windows(grid)])
    return float(statistics(heights).nmad)
