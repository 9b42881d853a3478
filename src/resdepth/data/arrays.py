"""Arrays as Python users have them, looked at and made bands of one grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdepth.errors import InputProblems, Problem
from resdepth.geo.grid import Grid
from resdepth.geo.raster import ArrayBand, Numbers

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
