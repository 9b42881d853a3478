"""Which pixels are evaluated together: objects (from masks), edges, slopes, heights above the ground."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resdepth.errors import InputProblems, Problem
from resdepth.evaluation.inputs import OnGrid
from resdepth.evaluation.result import OVERALL, EvaluationResult
from resdepth.geo.grid import Sides
from resdepth.geo.raster import ArrayBand, Band

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
MaskPixels = tuple[Mask, Mask]
"""Where a mask is set, and where it is known."""

DILATION_PX = 2
EDGE_M = 2.0
SLOPES_DEG = (0, 5, 15, 30, 60, 90)
ABOVE_GROUND_M = (-np.inf, 0.5, 3, 6, 12, 25, np.inf)
# Masks in files are looked at in so many pixels on a side.
GLANCE_PX = 1024
SHOWN_VALUES = 5
MADE_OF_BUILDINGS = ("terrain", "edge")


def dilation_px(sides: Sides) -> tuple[int, int]:
    """How many rows and columns buildings grow by: 2 and 2, or as far where pixels are not square."""
    if sides.are_equal:
        return DILATION_PX, DILATION_PX
    reach = DILATION_PX * sides.mean
    return round(reach / sides.height), round(reach / sides.width)


def edge_px(sides: Sides) -> tuple[int, int]:
    """How many rows and columns the band of EDGE_M to both sides of outlines reaches."""
    return max(1, round(EDGE_M / sides.height)), max(1, round(EDGE_M / sides.width))


def object_classes(
    shape: tuple[int, int],
    masks: Mapping[str, MaskPixels],
    dilation: tuple[int, int] = (DILATION_PX, DILATION_PX),
) -> dict[str, Mask]:
    """Which pixels belong to which class of objects.

    The building mask is dilated by two pixels (4-neighbours, so that walls do not count as terrain); terrain
    is what is no building. Water and forest count only beside a building mask. Nodata cells of the building
    mask are in neither class, unless the dilation reaches them.

    Args:
        shape: of the region.
        masks: name (building, water, forest) to (set, known), both (H, W) bool. Buildings beside a region
            grow into it: give it with a margin of as many pixels, and cut that off.
        dilation: rows and columns, as of `dilation_px`.

    Returns:
        Class name to (H, W) bool; always `overall`, then what the masks allow.
    """
    classes = {OVERALL: np.ones(shape, dtype=bool)}
    if "building" not in masks:
        return classes
    building, known = masks["building"]
    building = _dilated(building, *dilation)
    terrain = known & ~building
    classes |= {"building": building, "terrain": terrain}
    excluded: list[str] = []
    for name in ("water", "forest"):
        if name in masks:
            excluded.append(name)
            terrain = terrain & ~masks[name][0]
            classes[f"terrain_without_{'_'.join(excluded)}"] = terrain
    return classes


def _dilated(mask: Mask, rows: int, cols: int) -> Mask:
    """Grown by a diamond of so many rows and columns to each side; 2 and 2: two steps to the neighbours."""
    grown = mask.copy()
    for step in range(min(rows, len(mask) - 1) + 1):
        across = cols * (rows - step) // max(rows, 1) if step else cols
        wide = ndimage.maximum_filter1d(mask.view(np.uint8), 2 * across + 1, axis=1, mode="constant") > 0
        grown[step:] |= wide[: len(mask) - step]
        grown[: len(mask) - step] |= wide[step:]
    return grown


def edge_band(building: Mask, known: Mask, reach_px: tuple[int, int]) -> Mask:
    """Pixels with both building and known other ground within so many rows and columns."""
    side = (2 * reach_px[0] + 1, 2 * reach_px[1] + 1)
    inside = ndimage.maximum_filter(building.view(np.uint8), side, mode="constant")
    outside = ndimage.maximum_filter((known & ~building).view(np.uint8), side, mode="constant")
    return np.asarray((inside > 0) & (outside > 0))


def slope_classes(slope: Array) -> dict[str, Mask]:
    """By the slope of the reference DSM.

    Args:
        slope: (H, W) float32, metres per metre, NaN = unknown.
    """
    return _binned("slope", slope, [*np.tan(np.radians(SLOPES_DEG[:-1])), np.inf])


def above_ground_classes(above: Array) -> dict[str, Mask]:
    """By the height of the reference DSM above the ground.

    Args:
        above: (H, W) float32, metres, NaN = unknown.
    """
    return _binned("above_ground", above, ABOVE_GROUND_M)


def _binned(name: str, values: Array, edges: Sequence[float]) -> dict[str, Mask]:
    """Low <= value < high each; NaN is in none."""
    below = [values < np.float32(edge) for edge in edges]
    known = ~np.isnan(values)
    return {f"{name}_{number}": ~low & high & known for number, (low, high) in enumerate(pairwise(below), 1)}


def titles_of(masks: Sequence[str], *, with_ground: bool) -> dict[str, str]:
    """The names of all classes that these masks allow, in the order of reports, and what people call them."""
    titles = {OVERALL: "all"}
    known = {"building", "water", "forest"}
    if "building" in masks:
        titles |= {"building": "buildings", "terrain": "terrain"}
        excluded: list[str] = []
        for name in ("water", "forest"):
            if name in masks:
                excluded.append(name)
                titles[f"terrain_without_{'_'.join(excluded)}"] = f"terrain without {' and '.join(excluded)}"
        titles["edge"] = f"within {EDGE_M:g} m of outlines"
    titles |= {name: name for name in ("water", "forest") if name in masks}
    titles |= {name: name for name in masks if name not in known}
    titles |= {
        f"slope_{number}": f"slope {low} to {high}°"
        for number, (low, high) in enumerate(pairwise(SLOPES_DEG), 1)
    }
    if with_ground:
        titles |= {
            f"above_ground_{number}": _between(low, high)
            for number, (low, high) in enumerate(pairwise(ABOVE_GROUND_M), 1)
        }
    return titles


def _between(low: float, high: float) -> str:
    if np.isinf(low):
        return f"below {high:g} m above ground"
    if np.isinf(high):
        return f"over {low:g} m above ground"
    return f"{low:g} to {high:g} m above ground"


def check_mask_values(masks: Mapping[str, Band]) -> list[str]:
    """Warnings of masks that hold more than 0, 1 and voids.

    Raises:
        InputProblems: the masks that mark pixels by other numbers than 1 alone, as many programs do with 255.
    """
    problems, warnings = [], []
    for name, band in masks.items():
        seen = _values_of(band)
        if seen is None:
            continue
        others = seen[(seen != 0) & (seen != 1) & ~np.isnan(seen)]
        where = str(band.paths[0]) if isinstance(band, OnGrid) else f"masks[{name!r}]"
        shown = ", ".join(f"{value:g}" for value in others[:SHOWN_VALUES])
        text = f"the mask {name} has the values {shown}{', ...' if others.size > SHOWN_VALUES else ''}"
        if others.size and 1 not in seen:
            remedy = "1 marks what is inside, 0 what is not (gdal_calc --calc='A>0')"
            problems.append(Problem(where, f"{text}; {remedy}"))
        elif others.size:
            warnings.append(f"{where}: {text} besides 0 and 1; only 1 marks what is inside")
    if problems:
        raise InputProblems(problems)
    return warnings


def _values_of(band: Band) -> NDArray[np.float32] | None:
    """The different values of a mask, as far as a glance shows; None of a mask that is made of polygons."""
    if isinstance(band, OnGrid):
        return np.unique(band.on(band.grid.coarser(GLANCE_PX)))
    return np.unique(band.read(band.grid.whole)) if isinstance(band, ArrayBand) else None


def empty_classes(outcome: EvaluationResult, masks: Mapping[str, str]) -> Iterator[str]:
    """Warnings of masks whose classes have no pixel where the reference DSM is known.

    Args:
        outcome: what was found.
        masks: where each comes from, by name.
    """
    classes = [surface.classes for surface in outcome.surfaces.values()]
    empty = {name for name in outcome.titles if not any(one[name].reference_pixels for one in classes)}
    for name in [name for name in outcome.titles if name in masks and name != "ground_truth"]:
        made = [name, *(MADE_OF_BUILDINGS if name == "building" else ())]
        if left := [outcome.titles[one] for one in made if one in empty]:
            yield (
                f"{masks[name]}: no pixel belongs to {', '.join(left)}: does the mask {name} mark all or "
                "nothing here, or is its nodata value wrong? 1 marks what is inside, 0 what is not"
            )
