"""What a page about judged surfaces shows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resdepth.grid import Grid
from resdepth.judge.judgement import Judgement
from resdepth.judge.judging import Case
from resdepth.judge.surfaces import OnGrid, Read
from resdepth.raster import Array
from resdepth.report.judged import class_rows, shape_rows, summary_rows, told_facts
from resdepth.report.page import PageContent, Table
from resdepth.vectors import is_vector, open_vector_mask
from resdepth.windows import bounding

TRUTH = "truth"
LEAD = (
    "Errors are heights minus the truth. Look first at the table, then drag the divider to see what the "
    "heights look like, then at where the errors are."
)


def judged_content(
    case: Case,
    judgement: Judgement,
    *,
    title: str,
    truth: Path,
    masks: Mapping[str, Path],
    images: Mapping[str, Path] | None = None,
) -> PageContent:
    """Tables, charts, the surfaces and the truth, masks and images.

    Args:
        case: what was judged.
        judgement: what was found.
        title: of the page.
        truth: its file.
        masks: their files by name, rasters or vectors.
        images: ortho-images by name.
    """
    grid = case.truth.grid.crop(bounding(case.regions))
    surfaces: dict[str, Read] = {
        one.name: one.band.on for one in case.surfaces if isinstance(one.band, OnGrid)
    }
    surfaces[TRUTH] = _judged_truth(truth, masks, grid)
    return PageContent(
        title=title,
        lead=LEAD,
        grid=grid,
        surfaces=surfaces,
        reference=TRUTH,
        images={name: OnGrid([path], grid).on for name, path in (images or {}).items()},
        masks={name: mask_reader(path, grid) for name, path in masks.items() if name != "ground_truth"},
        tables=tables_of(judgement),
        judgement=judgement,
        facts=told_facts(judgement),
    )


def tables_of(judgement: Judgement) -> list[Table]:
    """The tables of a judgement; the summary first."""
    note = (
        "MAE mean absolute error; RMSE root mean square error; MedAE median absolute error; NMAD robust "
        "spread; LE90 what 90 % of errors stay below; bias mean error."
    )
    return [
        Table("All pixels", summary_rows(judgement), note),
        Table("By class", class_rows(judgement)),
        Table(
            "Shape, edges, shift",
            shape_rows(judgement),
            "Edges off by: where the walls of buildings stand; positive: the building is too large.",
        ),
    ]


def mask_reader(path: Path, grid: Grid) -> Read:
    """A mask from a raster or vector file, on any grid of the CRS."""
    if is_vector(path):
        return lambda there: open_vector_mask(path, there).read(there.whole)
    return OnGrid([path], grid, is_mask=True).on


def _judged_truth(truth: Path, masks: Mapping[str, Path], grid: Grid) -> Read:
    """The truth where it counts."""
    heights = OnGrid([truth], grid)
    if "ground_truth" not in masks:
        return heights.on
    counts = mask_reader(masks["ground_truth"], grid)

    def read(there: Grid) -> Array:
        values = heights.on(there)
        return np.where(counts(there) == 1, values, np.float32(np.nan))

    return read
