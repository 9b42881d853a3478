"""What moves the initial DSM onto the reference DSM: shift after Nuth and Kaab, vertical bias, tilt.

A `SurfaceFile` is a DSM as it will lie: on any grid, in metres, from another zero, moved and tilted.

The shift is looked for from coarse to fine, the tilt in what remains. Both are robust to buildings and
change: what stands out of most of the differences counts for nothing.
"""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.evaluation.coregistration import estimate_shift, sample_windows
from resdepth.evaluation.metrics import statistics
from resdepth.geo.grid import Grid
from resdepth.geo.reprojected import MapBand
from resdepth.geo.windows import Window
from resdepth.preparation.datum import HeightChange
from resdepth.runtime.progress import Progress, Silent

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

COARSE = (16, 8, 4, 2)
"""The first looks are at pixels so many times as large, which find shifts so many times as far."""
LEAST_COARSE_PX = 40
ROUNDS, STEP_M = 6, 0.002
"""Shift and tilt are looked for in turn, until the surface stays within this."""
TRIM, FIT_ROUNDS, LEAST_PIXELS = 3.0, 8, 1000
NMAD_FACTOR = 1.4826
FARTHEST_M = 500.0
"""What lies further apart is another place, or another unit."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Motion:
    """What moves a surface onto another: it is added to its coordinates and heights.

    Heights change by up_m + tilt_east (x - x0) + tilt_north (y - y0).

    Attributes:
        east_m, north_m: along the axes of the map.
        up_m: in the middle of the area.
        tilt_east, tilt_north: metres for each metre.
        middle: x0 and y0, map coordinates in metres.
    """

    east_m: float = 0.0
    north_m: float = 0.0
    up_m: float = 0.0
    tilt_east: float = 0.0
    tilt_north: float = 0.0
    middle: tuple[float, float] = (0.0, 0.0)

    @property
    def is_tilted(self) -> bool:
        """Whether it tilts."""
        return bool(self.tilt_east or self.tilt_north)

    def rise(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        """By how many metres heights change at places."""
        east, north = x - self.middle[0], y - self.middle[1]
        return np.asarray(self.up_m + self.tilt_east * east + self.tilt_north * north)

    def inverse(self) -> "Motion":
        """What moves the other surface onto this one instead; a tilt is the same at both places."""
        return Motion(-self.east_m, -self.north_m, -self.up_m, -self.tilt_east, -self.tilt_north, self.middle)


class SurfaceFile:
    """The heights of a raster on grids of a map: (H, W) float32, metres, NaN = void.

    Args:
        band: the raster.
        change: from its zero of heights to the one that is wanted.
        motion: of the surface.
    """

    def __init__(
        self, band: MapBand, change: HeightChange | None = None, motion: Motion | None = None
    ) -> None:
        self.band, self.change, self.motion = band, change, motion or Motion()

    @property
    def path(self) -> Path:
        """Of the raster."""
        return self.band.path

    def moved(self, motion: Motion) -> "SurfaceFile":
        """The same surface, moved from where its file has it."""
        return SurfaceFile(self.band, self.change, motion)

    def on(self, grid: Grid) -> Array:
        """Its heights on a north-up grid in metres."""
        motion = self.motion
        a, b, c, d, e, f = grid.transform
        # A surface that is moved to the east shows at a place what it had further to the west.
        origin = replace(grid, transform=(a, b, c - motion.east_m, d, e, f - motion.north_m))
        heights = self.band.on(origin)
        if self.change is not None and not self.change.is_none:
            heights = heights + self.change.over(origin)
        if motion.up_m or motion.is_tilted:
            x = c + a * (np.arange(grid.width) + 0.5)
            y = f + e * (np.arange(grid.height) + 0.5)
            heights = heights + motion.rise(np.asarray(x)[None, :], np.asarray(y)[:, None]).astype(np.float32)
        return heights

    def reader(self, grid: Grid) -> "OnOneGrid":
        """The surface on one grid, read a window at a time."""
        return OnOneGrid(self, grid)


class OnOneGrid:
    """A surface as a band: windows of a grid."""

    def __init__(self, surface: SurfaceFile, grid: Grid) -> None:
        self.surface, self.grid = surface, grid

    def read(self, window: Window) -> Array:
        """(height, width) float32, metres, NaN = void."""
        return self.surface.on(self.grid.crop(window))


@dataclass(frozen=True)
class Difference:
    """How far a surface lies from the reference DSM, surface minus reference; None without common pixels.

    Attributes:
        pixels: that were compared.
        median_m, nmad_m, mae_m: of the differences.
    """

    pixels: int
    median_m: float | None
    nmad_m: float | None
    mae_m: float | None


@dataclass(frozen=True)
class Coregistration:
    """What was found.

    Attributes:
        motion: what moves the surface onto the reference DSM.
        is_horizontal: whether a horizontal shift was found; in flat land none is.
        before, after: differences without and with the motion.
    """

    motion: Motion
    is_horizontal: bool
    before: Difference
    after: Difference


def coregistration(
    surface: SurfaceFile,
    reference: SurfaceFile,
    grid: Grid,
    *,
    tilt: bool = False,
    progress: Progress | None = None,
) -> Coregistration:
    """What moves a surface onto the reference DSM.

    A sample of 2.4 million pixels is looked at, so that time and memory do not grow with the area.

    Args:
        surface: the initial DSM.
        reference: the reference DSM.
        grid: of the data set.
        tilt: also look for a tilt.
        progress: advances by 1 for each look.

    Raises:
        ResDepthError: if both have too few pixels in common.
    """
    before = difference(surface, reference, grid)
    if before.median_m is None:
        raise ResDepthError(
            f"{reference.path}: has fewer than 100 pixels in common with {surface.path}; is it of the same "
            "place, and are the CRSs of both right?"
        )
    if abs(before.median_m) > FARTHEST_M:
        raise ResDepthError(
            f"{surface.path}: its heights lie {before.median_m:+.0f} m from those of {reference.path}; is "
            "the unit of both right (gdal_edit.py -units), and are both heights?"
        )
    x, y = grid.map_position(grid.height / 2, grid.width / 2)
    shown = progress or Silent()
    motion, found = _coarse_motion(surface, reference, grid, Motion(middle=(x, y)), shown), False
    for _ in range(ROUNDS):
        shown.advance(note="looking for what is still missing")
        shifted = _shifted(surface, reference, grid, motion)
        found |= shifted != motion
        turned = _tilted(surface, reference, grid, shifted) if tilt else shifted
        step = _farthest_apart(motion, turned, grid)
        motion = turned
        if step < STEP_M:
            break
    if not found:
        logger.warning(
            "%s: no horizontal shift against the reference DSM is found; only its bias is taken out",
            surface.path,
        )
        motion = replace(motion, up_m=motion.up_m - _median(surface.moved(motion), reference, grid))
    return Coregistration(motion, found, before, difference(surface.moved(motion), reference, grid))


def difference(surface: SurfaceFile, reference: SurfaceFile, grid: Grid) -> Difference:
    """Surface minus reference DSM, in a sample of windows of a grid."""
    values = _differences(surface, reference, grid)
    found = statistics(values[~np.isnan(values)].astype(np.float32))
    if found.count < 100:
        return Difference(int(found.count), None, None, None)
    rounded = (round(float(one), 4) for one in (found.median, found.nmad, found.mae))
    return Difference(int(found.count), *rounded)


def _differences(surface: SurfaceFile, reference: SurfaceFile, grid: Grid) -> Floats:
    ours, theirs = surface.reader(grid), reference.reader(grid)
    return np.concatenate([
        (ours.read(window) - theirs.read(window)).ravel() for window in sample_windows(grid)
    ]).astype(np.float64)  # fmt: skip


def _median(surface: SurfaceFile, reference: SurfaceFile, grid: Grid) -> float:
    return float(np.nanmedian(_differences(surface, reference, grid)))


def _shifted(surface: SurfaceFile, reference: SurfaceFile, grid: Grid, motion: Motion) -> Motion:
    """The motion with the shift that is still missing; the same if none is found."""
    ours, theirs = surface.moved(motion).reader(grid), reference.reader(grid)
    shift = estimate_shift(ours.read, theirs.read, grid, name=None)
    if not math.isfinite(shift.dx_m):
        return motion
    up = motion.rise(*(np.array(at) for at in motion.middle))
    return replace(
        motion,
        east_m=motion.east_m + shift.dx_m,
        north_m=motion.north_m + shift.dy_m,
        up_m=float(up) + shift.dz_m,
    )


def _coarse_motion(
    surface: SurfaceFile, reference: SurfaceFile, grid: Grid, start: Motion, progress: Progress
) -> Motion:
    """What coarse pixels tell of the motion; only what makes the differences spread less is kept."""
    best, spread = start, difference(surface.moved(start), reference, grid).nmad_m or math.inf
    for factor in COARSE:
        coarse = grid.coarser(max(grid.whole.shape) // factor)
        if min(coarse.whole.shape) < LEAST_COARSE_PX:
            continue
        progress.advance(note=f"in pixels of {coarse.gsd:.3g} m")
        found = _shifted(surface, reference, coarse, best)
        found_spread = difference(surface.moved(found), reference, grid).nmad_m or math.inf
        if found_spread < spread:
            best, spread = found, found_spread
    return best


def _tilted(surface: SurfaceFile, reference: SurfaceFile, grid: Grid, motion: Motion) -> Motion:
    """The motion with the plane that is still missing, fitted to the differences without what stands out."""
    ours, theirs = surface.moved(motion).reader(grid), reference.reader(grid)
    parts = []
    for window in sample_windows(grid):
        missing = theirs.read(window) - ours.read(window)
        rows, cols = np.nonzero(np.isfinite(missing))
        a, _, c, _, e, f = grid.crop(window).transform
        x, y = c + a * (cols + 0.5) - motion.middle[0], f + e * (rows + 0.5) - motion.middle[1]
        parts.append(np.stack([np.ones(len(x)), x, y, missing[rows, cols].astype(np.float64)], axis=1))
    up, east, north = _plane(np.concatenate(parts))
    return replace(
        motion,
        up_m=motion.up_m + up,
        tilt_east=motion.tilt_east + east,
        tilt_north=motion.tilt_north + north,
    )


def _plane(samples: Floats) -> tuple[float, float, float]:
    """A robust plane through (N, 4) samples of 1, x, y and z; none with too few of them."""
    terms, z = samples[:, :3], samples[:, 3]
    found: Floats = np.zeros(3)
    kept = np.ones(len(z), bool)
    if len(z) < LEAST_PIXELS:
        return 0.0, 0.0, 0.0
    for _ in range(FIT_ROUNDS):
        found = np.asarray(np.linalg.lstsq(terms[kept], z[kept], rcond=None)[0], np.float64)
        rest = z - terms @ found
        centre = np.median(rest[kept])
        spread = NMAD_FACTOR * np.median(np.abs(rest[kept] - centre))
        kept = np.abs(rest - centre) <= TRIM * max(float(spread), 1e-3)
    up, east, north = (float(one) for one in found)
    return up, east, north


def _farthest_apart(first: Motion, second: Motion, grid: Grid) -> float:
    """How far two motions move a corner of the grid apart, metres."""
    xmin, ymin, xmax, ymax = grid.bounds
    x, y = np.array([xmin, xmin, xmax, xmax]), np.array([ymin, ymax, ymin, ymax])
    up = np.abs(first.rise(x, y) - second.rise(x, y)).max()
    return float(max(up, abs(first.east_m - second.east_m), abs(first.north_m - second.north_m)))
