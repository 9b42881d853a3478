"""What a page about evaluated surfaces shows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resdepth.evaluation.evaluate import Case
from resdepth.evaluation.inputs import OnGrid, Read
from resdepth.evaluation.result import TRUTH, EvaluationResult
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Array
from resdepth.geo.vectors import is_vector, open_vector_mask
from resdepth.geo.windows import bounding
from resdepth.report.evaluated import (
    centred_rows,
    class_rows,
    median_rows,
    shape_rows,
    stated_facts,
    summary_rows,
)
from resdepth.report.page import PageContent, Table

MEDIANS = (
    "What median filters reach without any training: a refinement is worth its effort where it is better. "
    "Best by validation: each half of a checkerboard uses the width that is best on the other half."
)
LEAD = (
    "Errors are heights minus the truth. Look first at the table, then drag the divider to see what the "
    "heights look like, then at where the errors are."
)


def evaluation_content(
    case: Case,
    outcome: EvaluationResult,
    *,
    title: str,
    truth: Path,
    masks: Mapping[str, Path],
    images: Mapping[str, Path] | None = None,
) -> PageContent:
    """Tables, charts, the surfaces and the truth, masks and images.

    Args:
        case: what was evaluated.
        outcome: what was found.
        title: of the page.
        truth: its file.
        masks: their files by name, rasters or vectors.
        images: ortho-images by name.
    """
    grid = case.truth.grid.crop(bounding(case.regions))
    surfaces: dict[str, Read] = {
        one.name: one.band.on for one in case.surfaces if isinstance(one.band, OnGrid)
    }
    surfaces[TRUTH] = evaluated_truth(case, truth, masks)
    return PageContent(
        title=title,
        lead=LEAD,
        grid=grid,
        surfaces=surfaces,
        reference=TRUTH,
        images={name: OnGrid([path], grid, is_image=True).on for name, path in (images or {}).items()},
        masks={name: mask_reader(path, grid) for name, path in masks.items() if name != "ground_truth"},
        tables=tables_of(outcome),
        outcome=outcome,
        facts=stated_facts(outcome),
    )


def tables_of(outcome: EvaluationResult) -> list[Table]:
    """The tables of an evaluation; the summary first."""
    note = (
        "MAE mean absolute error; RMSE root mean square error; MedAE median absolute error; NMAD robust "
        "spread; LE90 what 90 % of errors stay below; bias mean error. ± is half of a 95 % interval."
    )
    return [
        Table("All pixels", summary_rows(outcome), note),
        Table(
            "Without the median difference",
            centred_rows(outcome),
            "A bias of the initial DSM that a refinement takes away makes MAE and RMSE fall, and no shape "
            "better. Median removed: of the errors minus their median.",
        ),
        *([Table("Beside median filters", medians, MEDIANS)] if (medians := median_rows(outcome)) else []),
        Table("By class", class_rows(outcome)),
        Table(
            "Shape, edges, shift",
            shape_rows(outcome),
            "Edges off by: where the walls of buildings stand; positive: the building is too large.",
        ),
    ]


def mask_reader(path: Path, grid: Grid) -> Read:
    """A mask from a raster or vector file, on any grid of the CRS."""
    if is_vector(path):
        return lambda there: open_vector_mask(path, there, may_be_empty=True).read(there.whole)
    return OnGrid([path], grid, is_mask=True).on


def evaluated_truth(case: Case, truth: Path, masks: Mapping[str, Path]) -> Read:
    """The truth where it counts, on any grid."""
    heights = OnGrid([truth], case.truth.grid)
    counting = [masks["ground_truth"]] if "ground_truth" in masks else []
    if case.inside is not None and case.inside_path is not None:
        counting.append(case.inside_path)
    readers = [mask_reader(path, case.truth.grid) for path in counting]

    def read(there: Grid) -> Array:
        values = heights.on(there)
        for inside in readers:
            values = np.where(inside(there) == 1, values, np.float32(np.nan))
        return values

    return read
