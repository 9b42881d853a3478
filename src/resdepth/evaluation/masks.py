"""What masks hold, where only 1 marks pixels; and which of the classes that they make are left empty."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import InputProblems, Problem
from resdepth.evaluation.inputs import OnGrid
from resdepth.evaluation.result import EvaluationResult
from resdepth.geo.raster import ArrayBand, Band

# Masks in files are looked at in so many pixels on a side.
GLANCE_PX = 1024
SHOWN_VALUES = 5
MADE_OF_BUILDINGS = ("terrain", "edge")


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
    empty = {name for name in outcome.titles if not any(one[name].truth_pixels for one in classes)}
    for name in [name for name in outcome.titles if name in masks and name != "ground_truth"]:
        made = [name, *(MADE_OF_BUILDINGS if name == "building" else ())]
        if left := [outcome.titles[one] for one in made if one in empty]:
            yield (
                f"{masks[name]}: no pixel belongs to {', '.join(left)}: does the mask {name} mark all or "
                "nothing here, or is its nodata value wrong? 1 marks what is inside, 0 what is not"
            )
