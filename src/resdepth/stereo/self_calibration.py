"""Self-calibration of ortho-images: from where a camera looked, found in the ghosts of its ortho-image.

An ortho-image shows at a place what its camera saw of the height that the DSM has there. Behind a step the
camera saw nothing, and the image repeats what it shows beyond: a ghost. With the right direction of view, two
places that go back to one pixel of the raw image have one grey value; with any other direction, two places
have what two places have. So the direction is found from the image and the DSM that made it, without any
knowledge of the camera. The noise of a matched DSM is full of steps.

Put back to where they came from, the grey values make a raw image again, as a camera of parallel rays would
have seen the scene: what the ortho-image shows at x the raw image shows at x + g (h(x) - z). In that image
heights can be matched anew; an ortho-image itself is distorted by every error of the DSM.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band
from resdepth.geo.rpc import Rpc, ViewGeometry, fit_rpc
from resdepth.geo.windows import Window, blocks
from resdepth.stereo.ortho import to_geographic

Array = NDArray[np.float32]
Values = NDArray[np.float64]

logger = logging.getLogger(__name__)

WINDOW_PX, LOOKED_AT, WINDOWS = 512, 24, 3
"""Side of the windows in which ghosts are looked for; of so many all over the DSM, those with most steps."""
STEP_GSD = 1.5
"""Between neighbours, in pixel sizes: what counts as a step."""
LEAST_KNOWN, LEAST_SIDE_PX = 0.2, 64
"""Of a window: the share of known pixels, and the shorter side."""
CONTRAST_PX, LEAST_STD = 8.0, 0.05
"""Width of the Gaussian by whose contrast grey values are scaled, and the least, of the image's own."""
APART_PX = 2
"""Places that are nearer to each other are no ghosts: they look alike anyway."""
TANGENTS = tuple(float(one) for one in np.geomspace(0.06, 0.9, 9))
"""Metres of displacement per metre of height that are tried, the tangents of angles off nadir."""
DIRECTIONS, CANDIDATES = 20, 3
LEAST_GHOSTS, DOUBT = 150, 6.0
"""Few ghosts agree by chance: by so much over the square root of their number they count as worse."""
MOST_INCONSISTENT = 0.58
"""Mean difference of ghosts, as a share of that of any two places so far apart; above, none is found."""
MOST_CONTRADICTING = 0.67
"""The same in a direction that is stated instead of chosen by it; above, another DSM made the image."""
CELL_PX, SAME = 64, 0.5
"""Two halves of the cells, taken in turn, must show directions that differ by less, as a share."""
TRIES, FIRST_STEP = 40, 0.12
FEW = 2.0
"""Inconsistency of too few ghosts: more than any that counts."""
LEAST_RESPONSE, MOST_SHIFT_PX = 0.05, 32.0
"""Of the phase correlation of two images, and the farthest that they may lie beside each other."""


@dataclass(frozen=True)
class _Part:
    """The known pixels of a window: heights in pixel sizes, places, grey values, half of the cells."""

    heights: Array
    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    grey: Array
    half: NDArray[np.bool_]


@dataclass(frozen=True)
class Direction:
    """How heights displace what a camera sees.

    Attributes:
        rows, cols: metres on the ground, down and right in the raster, by which a metre of height displaces.
        inconsistency: mean difference of ghosts, as a share of that of any two places so far apart.
    """

    rows: float
    cols: float
    inconsistency: float

    @property
    def off_nadir_deg(self) -> float:
        """Angle between the line of sight and the vertical."""
        return float(np.degrees(np.arctan(np.hypot(self.rows, self.cols))))


class NotFound(ResDepthError):
    """The ghosts of an ortho-image do not show from where it was seen."""


def found_direction(dsm: Band, ortho: Band) -> Direction:
    """From where the camera of an ortho-image looked.

    Args:
        dsm: with which the image was ortho-rectified; metres, NaN = void.
        ortho: grey values on the same grid, NaN = nothing.

    Raises:
        NotFound: if its ghosts do not show it: it was made with another DSM, without ghosts, from the
            nadir, or the DSM is too smooth.
    """
    parts = [part for window in _windows(dsm) if (part := _part(dsm, ortho, window))]
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    tried = [length * np.array([np.cos(angle), np.sin(angle)]) for length in TANGENTS for angle in angles]
    counts = [_counted(parts, direction) for direction in tried]
    whole = np.array([_inconsistency(one.sum(axis=0)) for one in counts])
    halves = [tried[int(np.argmin([_inconsistency(one[half]) for one in counts]))] for half in (0, 1)]
    best = [_refined(parts, tried[number]) for number in np.argsort(whole)[:CANDIDATES]]
    inconsistency, found = min(best, key=lambda one: one[0])
    off = max(float(np.hypot(*(half - found)) / np.hypot(*found)) for half in halves)
    logger.debug("direction %s, inconsistency %.2f, halves %s", found, inconsistency, halves)
    if not (inconsistency < MOST_INCONSISTENT and off < SAME):
        raise NotFound(
            "its ghosts do not show from where it was seen (made with another DSM, or this is too smooth)"
        )
    return Direction(float(found[0]), float(found[1]), inconsistency)


def confirmed_direction(dsm: Band, ortho: Band, stated: ViewGeometry) -> Direction:
    """From where the camera of an ortho-image looked, as its tags state, if its ghosts agree.

    That the direction is right does not mean that the image was ortho-rectified with this DSM, without which
    it cannot be put back to where it came from.

    Args:
        dsm: metres, NaN = void.
        ortho: grey values on the same grid, NaN = nothing.
        stated: how heights displace what the image shows; its value in the middle of the area counts.

    Raises:
        NotFound: if its ghosts contradict, or are too few to tell.
    """
    direction = _in_raster(stated, ortho.grid)
    parts = [part for window in _windows(dsm) if (part := _part(dsm, ortho, window))]
    inconsistency = _inconsistency(_counted(parts, direction).sum(axis=0))
    logger.debug("stated direction %s, inconsistency %.2f", direction, inconsistency)
    if not inconsistency < MOST_CONTRADICTING:
        raise NotFound(
            "its ghosts do not confirm from where its tags state that it was seen (made with another DSM, or "
            "this is too smooth)"
        )
    return Direction(float(direction[0]), float(direction[1]), inconsistency)


def _in_raster(stated: ViewGeometry, grid: Grid) -> Values:
    """Metres down and right in a raster by which a metre of height displaces, in the middle of it."""
    east, north = stated.at(*grid.map_position(grid.height / 2, grid.width / 2))
    a, b, _, d, e, _ = grid.transform
    col, row = np.linalg.solve(np.array([[a, b], [d, e]]) / np.hypot(a, d), [float(east), float(north)])
    return np.array([row, col])


def found_shift(first: Band, second: Band) -> tuple[float, float]:
    """Rows and columns by which an ortho-image lies beside another, by phase correlation; 0 if not found.

    Args:
        first: grey values, NaN = nothing.
        second: on the same grid.
    """
    shifts = []
    for window in _spread(first.grid):
        a, b = first.read(window), second.read(window)
        if (
            min(window.shape) < LEAST_SIDE_PX
            or min(np.isfinite(a).mean(), np.isfinite(b).mean()) < 1 - LEAST_KNOWN
        ):
            continue
        weights = cv2.createHanningWindow(window.shape[::-1], cv2.CV_32F)
        (col, row), response = cv2.phaseCorrelate(_scaled(a), _scaled(b), weights)
        if response > LEAST_RESPONSE and np.hypot(row, col) < MOST_SHIFT_PX:
            shifts.append((row, col))
    row, col = np.median(shifts, axis=0) if shifts else (0.0, 0.0)
    return float(row), float(col)


def _refined(parts: Sequence[_Part], start: Values) -> tuple[float, Values]:
    """The least inconsistency near a direction, and where it is."""
    aside = start[::-1] * (-1, 1)
    simplex = np.array([start, start * (1 + FIRST_STEP), start + FIRST_STEP * aside])
    options: Any = {"maxfev": TRIES, "xatol": 1e-3, "fatol": 1e-4, "initial_simplex": simplex}

    def of(direction: Values) -> float:
        return _inconsistency(_counted(parts, direction).sum(axis=0))

    found = minimize(of, start, method="Nelder-Mead", options=options)
    return float(found.fun), np.asarray(found.x)


def _windows(dsm: Band) -> list[Window]:
    """Those with most steps."""
    return sorted(_spread(dsm.grid), key=lambda window: -_steps(dsm, window))[:WINDOWS]


def _spread(grid: Grid) -> list[Window]:
    """Windows all over a raster."""
    parts = list(blocks(grid.whole, WINDOW_PX))
    return [parts[int(i)] for i in np.unique(np.linspace(0, len(parts) - 1, LOOKED_AT).round())]


def _steps(dsm: Band, window: Window) -> int:
    heights = dsm.read(window)
    return sum(
        int((np.abs(np.diff(heights, axis=axis)) > STEP_GSD * dsm.grid.gsd_m).sum()) for axis in (0, 1)
    )


def _part(dsm: Band, ortho: Band, window: Window) -> _Part | None:
    heights, values = dsm.read(window), ortho.read(window)
    known = np.isfinite(heights) & np.isfinite(values)
    if known.mean() < LEAST_KNOWN or min(window.shape) < LEAST_SIDE_PX:
        return None
    rows, cols = (one.astype(np.int32) for one in np.nonzero(known))
    lifted = ((heights[known] - np.median(heights[known])) / dsm.grid.gsd_m).astype(np.float32)
    return _Part(lifted, rows, cols, _scaled(values), (rows // CELL_PX + cols // CELL_PX) % 2 == 0)


def _scaled(values: Array) -> Array:
    """Grey values of mean 0 and standard deviation 1 around every pixel."""
    grey = np.where(np.isfinite(values), values, np.nanmedian(values)).astype(np.float32)
    rest = grey - cv2.GaussianBlur(grey, (0, 0), CONTRAST_PX)
    least = np.float32(LEAST_STD * float(grey.std()) + 1e-6)
    return np.asarray(rest / (np.sqrt(cv2.GaussianBlur(rest * rest, (0, 0), CONTRAST_PX)) + least))


def _counted(parts: Sequence[_Part], direction: Values) -> Values:
    """(2, 3): of each half the number of ghosts, the sum of their differences, and that of other places."""
    result = np.zeros((2, 3))
    for part in parts:
        first, second = _ghosts(part, direction)
        height, width = part.grey.shape
        row, col = part.rows[first], part.cols[first]
        row_far, col_far = part.rows[second], part.cols[second]
        here, there = part.grey[row, col], part.grey[row_far, col_far]
        # As far away, but on the other side.
        beyond = part.grey[
            np.clip(2 * row - row_far, 0, height - 1), np.clip(2 * col - col_far, 0, width - 1)
        ]
        half = part.half[first].astype(np.int64)
        for number, values in enumerate((None, np.abs(here - there), np.abs(here - beyond))):
            result[:, number] += np.bincount(half, values, 2)
    return result


def _inconsistency(counted: Values) -> float:
    """Mean difference of ghosts as a share of that of other places; more if there are few."""
    count, ghosts, others = counted
    return FEW if count < LEAST_GHOSTS or not others else float(ghosts / others + DOUBT / np.sqrt(count))


def _ghosts(part: _Part, direction: Values) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pairs of pixels that go back to one pixel of the raw image."""
    height, width = part.grey.shape
    row = part.rows + np.rint(np.float32(direction[0]) * part.heights).astype(np.int32)
    col = part.cols + np.rint(np.float32(direction[1]) * part.heights).astype(np.int32)
    inside = np.flatnonzero((row >= 0) & (row < height) & (col >= 0) & (col < width)).astype(np.int32)
    place = row[inside] * np.int32(width) + col[inside]
    last = np.empty(height * width, np.int32)
    last[place] = inside
    other = last[place]
    candidates = other != inside
    inside, other = inside[candidates], other[candidates]
    rows, cols = (one[inside] - one[other] for one in (part.rows, part.cols))
    apart = rows * rows + cols * cols >= APART_PX**2
    return inside[apart], other[apart]


LOCAL_CRS, LOCAL_ORIGIN = "EPSG:32631", (500_000.0, 5_000_000.0)
"""Cameras are described on the globe; where an image lies on it does not matter here."""
LEAST_WEIGHT, NEAR_PX = 0.2, (1.0, 2.0, 4.0)
ABOVE_M, LATTICE, LEVELS = 200.0, 12, 6


class LocalBand:
    """A raster on a local grid in metres, whatever its own CRS is."""

    def __init__(self, band: Band) -> None:
        gsd, (x, y), grid = band.grid.gsd_m, LOCAL_ORIGIN, band.grid
        self.grid = Grid(grid.height, grid.width, (gsd, 0.0, x, 0.0, -gsd, y), *find_crs(LOCAL_CRS))
        self._band = band

    def read(self, window: Window) -> Array:
        """(H, W) float32, NaN = void."""
        return self._band.read(window)


class UnrectifiedImage:
    """What the raw image of an ortho-image shows, read a window at a time."""

    def __init__(
        self, ortho: Band, dsm: LocalBand, per_metre: tuple[float, float], shift: tuple[float, float],
        heights: tuple[float, float],
    ) -> None:  # fmt: skip
        """Describe the camera.

        Args:
            ortho: grey values, NaN = nothing.
            dsm: with which it was made.
            per_metre: rows and columns, pixels, by which a metre of height displaces what the camera sees.
            shift: rows and columns by which the ortho-image lies beside the DSM.
            heights: lowest and highest of the DSM.
        """
        self._ortho, self._dsm, self._per_metre = ortho, dsm, np.array(per_metre)
        low, high = heights
        self._middle = (low + high) / 2
        self._reach = int(np.ceil(np.abs(self._per_metre).max() * (high - low) / 2)) + 2
        whole = dsm.grid
        side = 2 * self._reach
        self.grid = replace(whole, height=whole.height + side, width=whole.width + side)
        self.rpc = self._camera(shift, heights)

    def _camera(self, shift: tuple[float, float], heights: tuple[float, float]) -> Rpc:
        grid, (low, high) = self._dsm.grid, heights
        lattice: Any = np.meshgrid(
            np.linspace(0, grid.height, LATTICE), np.linspace(0, grid.width, LATTICE),
            np.linspace(low - ABOVE_M, high + ABOVE_M, LEVELS), indexing="ij",
        )  # fmt: skip
        row, col, z = lattice
        x, y = grid.map_position(row + 0.5, col + 0.5)
        lon, lat = to_geographic(grid.crs, np.asarray(x), np.asarray(y))
        above = z - self._middle
        at = [
            place + offset + per_metre * above + self._reach
            for place, offset, per_metre in zip((row, col), shift, self._per_metre, strict=True)
        ]
        return fit_rpc(*(one.ravel() for one in (lon, lat, z, *at)))

    def read(self, window: Window) -> Array:
        """(H, W) float32 grey values, NaN = nothing seen."""
        total, weight = np.zeros(window.shape), np.zeros(window.shape)
        source = replace(window, row=window.row - self._reach, col=window.col - self._reach)
        around = source.grown(self._reach, within=self._dsm.grid.whole)
        if min(around.shape) > 0:
            self._splat(around, window, total, weight)
        seen = weight > LEAST_WEIGHT
        grey = np.where(seen, total / np.maximum(weight, LEAST_WEIGHT), 0).astype(np.float32)
        return _closed(grey, seen)

    def _splat(self, around: Window, window: Window, total: Values, weight: Values) -> None:
        """Add the grey values of a part of the ortho-image to where they came from."""
        grey, heights = self._ortho.read(around), self._dsm.read(around)
        known = np.isfinite(grey) & np.isfinite(heights)
        rows, cols = np.nonzero(known)
        above, values = heights[known] - self._middle, grey[known]
        reach = self._reach
        row = rows + self._per_metre[0] * above + (around.row + reach - window.row)
        col = cols + self._per_metre[1] * above + (around.col + reach - window.col)
        height, width = window.shape
        for i, j, share in _corners(row, col):
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            at, here = i[inside] * width + j[inside], share[inside]
            total += np.bincount(at, here * values[inside], height * width).reshape(height, width)
            weight += np.bincount(at, here, height * width).reshape(height, width)


def _corners(row: Array, col: Array) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Array]]:
    """The four pixels around positions, with their bilinear shares."""
    top, left = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
    down, right = row - top, col - left
    yield top, left, (1 - down) * (1 - right)
    yield top, left + 1, (1 - down) * right
    yield top + 1, left, down * (1 - right)
    yield top + 1, left + 1, down * right


def _closed(grey: Array, seen: NDArray[np.bool_]) -> Array:
    """Gaps between what was put back, filled from near by; wider ones stay."""
    for width in NEAR_PX:
        if seen.all():
            break
        there = seen.astype(np.float32)
        near = cv2.GaussianBlur(there, (0, 0), width)
        found = cv2.GaussianBlur(grey, (0, 0), width) / np.maximum(near, 1e-6)
        new = ~seen & (near > LEAST_WEIGHT / 2)
        grey, seen = np.where(new, found, grey).astype(np.float32), seen | new
    return np.where(seen, grey, np.nan).astype(np.float32)
