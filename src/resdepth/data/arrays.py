"""What is looked at before heights are trusted: arrays of Python users, and voids that nobody declared.

Numbers like -9999 or -32768, or one height far from all others, look like voids. Only a sample of a large
raster is looked at, so that it costs no more than a small one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import InputProblems, Problem
from resdepth.geo.grid import Grid
from resdepth.geo.raster import UNSCALED, ArrayBand, Band, FileBand, Numbers, Scaling
from resdepth.geo.windows import Window

N_AXES = 2
# What numpy calls integers and floats; a mask may be of bool as well.
KINDS: Mapping[Numbers, str] = {"scaled": "iuf", "stored": "iuf", "mask": "iufb"}


@dataclass(frozen=True)
class ArrayBands:
    """Bands of one grid, which has no place on the map.

    Attributes:
        grid: of all.
        heights: metres, by name.
        images: grey values.
        masks: 1 = set, by name.
    """

    grid: Grid
    heights: Mapping[str, ArrayBand]
    images: Sequence[ArrayBand]
    masks: Mapping[str, ArrayBand]


def bands_of(
    heights: Mapping[str, Any],
    images: Sequence[Any] = (),
    masks: Mapping[str, Any] | None = None,
    *,
    gsd: float = 1.0,
    nodata: float | None = None,
) -> ArrayBands:
    """Arrays of one shape (H, W), or lists of lists, as bands.

    NaN and infinity are void, and so is what an array masks (`numpy.ma`, as rasterio gives it with
    `masked=True`).

    Args:
        heights: by name; metres.
        images: grey values.
        masks: by name; 1 or True is set, 0 or False is not, NaN is unknown.
        gsd: side of a pixel in metres.
        nodata: a number that marks voids of the heights.

    Raises:
        InputProblems: all arrays that hold no numbers, are not two-dimensional or empty, or have another
            shape than the first one.
    """
    first = next(iter(heights))
    shape = _shape_of(heights[first])
    given: dict[str, tuple[Any, Numbers]] = {name: (values, "scaled") for name, values in heights.items()}
    given |= {f"images[{index}]": (values, "stored") for index, values in enumerate(images)}
    given |= {f"masks[{name!r}]": (values, "mask") for name, values in (masks or {}).items()}
    problems = [
        Problem(key, text)
        for key, (values, numbers) in given.items()
        if (text := _misfit(values, numbers, first, shape))
    ]
    if not (np.isfinite(gsd) and gsd > 0):
        problems.append(Problem("gsd", f"found {gsd}; the side of a pixel is above 0 m"))
    if problems:
        raise InputProblems(problems)
    grid = Grid(shape[0], shape[1], (float(gsd), 0.0, 0.0, 0.0, -float(gsd), 0.0))
    bands = {
        key: ArrayBand(
            np.asarray(values),
            grid,
            nodata=nodata if numbers == "scaled" else None,
            valid=~np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None,
        )
        for key, (values, numbers) in given.items()
    }
    return ArrayBands(
        grid,
        heights={name: bands[name] for name in heights},
        images=[bands[f"images[{index}]"] for index in range(len(images))],
        masks={name: bands[f"masks[{name!r}]"] for name in masks or {}},
    )


def _misfit(values: Any, numbers: Numbers, first: str, expected: tuple[int, ...]) -> str:
    """What is wrong with an array; empty if it can be used."""
    shape = _shape_of(values)
    if len(shape) != N_AXES or 0 in shape:
        return f"expected an array (height, width), found shape {shape}"
    if len(expected) == N_AXES and shape != expected:
        return f"shape {shape} differs from that of {first}, {expected}"
    dtype = np.asarray(values).dtype
    if dtype.kind not in KINDS[numbers]:
        return f"holds {dtype} values; integers or floats are expected (array.astype('float32'))"
    return ""


def _shape_of(values: Any) -> tuple[int, ...]:
    """The shape of an array or of lists of lists; () of what is neither."""
    try:
        return np.shape(values)
    except ValueError:  # lists of several lengths
        return ()


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
