"""Numbers that look like voids which nobody declared: -9999, -32768, or one height far from all others.

Only a sample of a large raster is looked at, so that it costs no more than a small one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.raster import UNSCALED, Band, FileBand, Scaling
from resdepth.geo.windows import Window

# What programs store for voids, besides numbers that are too large for heights.
USUAL = (-999.0, -9999.0, -99999.0, 9999.0, 99999.0, -32767.0, -32768.0, 32767.0, 65535.0)
ABSURD_M = 1e5
# How far such a number is from the nearest height. Any other must occur again and again and be so far below
# the others, or further above them: no pit is so deep, and no building so high. Or it is no height on Earth.
GAP_M, GAP_ABOVE_M = 100.0, 1000.0
GAP_SPREADS = 2.0  # and so many spreads of the others, without a hundredth at both ends
EARTH_M = (-1000.0, 9000.0)
MOST = 4
# Rasters below so many pixels are looked at as a whole, of others 8 x 8 windows, the outermost at the edges.
WHOLE_PX, SIDE_PX, A_SIDE = 2**20, 128, 8

Heights = NDArray[np.float64]


@dataclass(frozen=True)
class Undeclared:
    """A number that may stand for voids.

    Attributes:
        stored: as the file has it, without scale and offset.
        share: of the known pixels that were looked at, 0 to 1.
    """

    stored: float
    share: float


@dataclass(frozen=True)
class Look:
    """What a look at a raster found.

    Attributes:
        suspects: numbers that may stand for voids.
        lowest, highest: of all other heights, metres; NaN if there are none.
        sampled: whether only a part of the pixels was looked at.
        path: of the raster, None for an array.
    """

    suspects: tuple[Undeclared, ...]
    lowest: float
    highest: float
    sampled: bool
    path: Path | None

    @property
    def question(self) -> str:
        """What to ask the user, with the remedy; empty if nothing is suspicious."""
        if not self.suspects:
            return ""
        shares = ", ".join(f"{100 * one.share:.2g} % are {one.stored:.9g}" for one in self.suspects)
        others = (
            "no other height occurs"
            if np.isnan(self.lowest)
            else f"all others are from {self.lowest:.6g} to {self.highest:.6g} m"
        )
        number = f"{self.suspects[0].stored:.9g}"
        remedy = (
            f"set them to NaN, or give nodata={number}"
            if self.path is None
            else f"gdal_edit.py -a_nodata {number} {self.path.name}"
        )
        if len(self.suspects) > 1:
            remedy += ", once one number stands for all voids"
        of = "of the known pixels in a sample," if self.sampled else "of the known pixels,"
        return f"{of} {shares}; {others}. Are these voids, without a declared nodata value? Then {remedy}"


def look_for_undeclared(band: Band) -> Look:
    """Look for voids that nobody declared among the heights of a raster.

    Raises:
        ResDepthError: if the pixels cannot be read.
    """
    path, scaling = (band.header.path, band.scaling) if isinstance(band, FileBand) else (None, UNSCALED)
    windows = list(_sample(band.grid.whole))
    values = np.concatenate([band.read(window).ravel() for window in windows])
    values = heights = np.sort(values[~np.isnan(values)]).astype(np.float64)
    suspects: list[Undeclared] = []
    while len(suspects) < MOST:
        apart = [end for end in (0, -1) if _stands_apart(heights, end, scaling)]
        if not apart:
            break
        value = heights[apart[0]]
        rest = heights[heights != value]
        suspects.append(Undeclared(_stored(value, scaling), (heights.size - rest.size) / values.size))
        heights = rest
    lowest, highest = (heights[0], heights[-1]) if heights.size else (np.nan, np.nan)
    return Look(tuple(suspects), float(lowest), float(highest), windows != [band.grid.whole], path)


def _stands_apart(heights: Heights, end: int, scaling: Scaling) -> bool:
    """Whether the lowest (0) or highest (-1) of sorted heights looks like a void."""
    if not heights.size:
        return False
    value = heights[end]
    is_usual = _stored(value, scaling) in USUAL or abs(value) > ABSURD_M
    rest = heights[heights != value]
    if not rest.size:
        return is_usual
    gap = abs(value - rest[end])
    if is_usual:
        return bool(gap > GAP_M)
    if heights.size - rest.size > 1:
        spread = rest[-1 - rest.size // 100] - rest[rest.size // 100]
        return bool(gap > max(GAP_M if end == 0 else GAP_ABOVE_M, GAP_SPREADS * spread))
    return bool(gap > GAP_ABOVE_M) and not EARTH_M[0] < value < EARTH_M[1]


def _stored(value: float, scaling: Scaling) -> float:
    """The number that a file has for a height; which was rounded to float32."""
    scale, offset = scaling
    return float(value) if scaling == UNSCALED else float(f"{(value - offset) / scale:.6g}")


def _sample(whole: Window) -> Iterator[Window]:
    if whole.area <= WHOLE_PX:
        yield whole
        return
    height, width = min(SIDE_PX, whole.height), min(SIDE_PX, whole.width)
    for row in np.unique(np.linspace(0, whole.height - height, A_SIDE, dtype=int)):
        for col in np.unique(np.linspace(0, whole.width - width, A_SIDE, dtype=int)):
            yield Window(int(row), int(col), height, width)
