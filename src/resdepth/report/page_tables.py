"""Tables of pages: the best value of a column stands out, and classes have the surfaces side by side."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resdepth.evaluation.result import ClassResult, EvaluationResult
from resdepth.report.tables import (
    GAINS,
    NONE,
    SUMMARY,
    centred_rows,
    median_rows,
    percent_text,
    shape_rows,
    summary_rows,
    with_interval,
)

Place = tuple[int, int]
"""Of a cell: row and column, the head is row 0."""

# What a column begins with, and which of its values is the best.
LOWEST = ("MAE", "RMSE", "MedAE", "NMAD", "LE90", "gradient error", "normals off by", "worse")
NEAREST_TO_ZERO = ("bias", "median [m]", "edges off by")
HIGHEST = ("within", "coverage", "better", "edges found")
MEDIANS = (
    "What median filters reach without any training: a refinement is worth its effort where it is better. "
    "Best by validation: each half of a checkerboard uses the width that is best on the other half."
)


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: what it shows.
        rows: the first is the head; the first column names the row.
        note: a sentence below it.
        best: the cells whose value is the best of their column.
    """

    caption: str
    rows: Sequence[Sequence[str]]
    note: str = ""
    best: frozenset[Place] = frozenset()


@dataclass(frozen=True)
class ClassTable:
    """Surfaces side by side in each class of pixels, one metric at a time.

    Attributes:
        caption: what it shows.
        surfaces: the names of the columns.
        classes: titles of the rows, and how many pixels of the reference DSM each has.
        metrics: by name, a table of text: a row for each class, a cell for each surface.
        best: by metric, the cells whose value is the best of their row; both counted from 0.
        note: a sentence below it.
    """

    caption: str
    surfaces: Sequence[str]
    classes: Sequence[tuple[str, str]]
    metrics: Mapping[str, Sequence[Sequence[str]]]
    best: Mapping[str, frozenset[Place]]
    note: str = ""


def tables_of(outcome: EvaluationResult) -> list[Table | ClassTable]:
    """The tables of an evaluation; the summary first."""
    note = (
        "MAE mean absolute error; RMSE root mean square error; MedAE median absolute error; NMAD robust "
        "spread; LE90 what 90 % of errors stay below; bias mean error. ± is half of a 95 % interval. Bold is "
        "the best of each column."
    )
    return [
        marked(Table("All pixels", summary_rows(outcome), note), initial=outcome.initial),
        *(
            [marked(Table("Beside median filters", medians, MEDIANS))]
            if (medians := median_rows(outcome))
            else []
        ),
        class_table(outcome),
        marked(
            Table(
                "Without the median difference",
                centred_rows(outcome),
                "A bias of the initial DSM that a refinement takes away makes MAE and RMSE fall, and no "
                "shape better. Median removed: of the errors minus their median.",
            )
        ),
        marked(
            Table(
                "Shape, edges, shift",
                shape_rows(outcome),
                "Edges off by: where the walls of buildings stand; positive: the building is too large.",
            )
        ),
    ]


def marked(table: Table, *, initial: str | None = None) -> Table:
    """The table with the best value of each column that has a best one, as it is shown.

    Args:
        table: of surfaces; the first column has their names.
        initial: the name of the one that gains are measured from.
    """
    best: set[Place] = set()
    for column, head in enumerate(table.rows[0]):
        cells = [NONE if head in GAINS and row[0] == initial else row[column] for row in table.rows[1:]]
        best |= {(row + 1, column) for row in best_of(cells, head)}
    return Table(table.caption, table.rows, table.note, frozenset(best))


def best_of(cells: Sequence[str], metric: str) -> set[int]:
    """Which cells hold the best value of a metric; none where nothing can be compared, or all are alike."""
    if metric.startswith(LOWEST):
        cost = 1.0
    elif metric.startswith(HIGHEST):
        cost = -1.0
    elif metric.startswith(NEAREST_TO_ZERO):
        cost = math.nan
    else:
        return set()
    found = {index: float(value[0]) for index, cell in enumerate(cells) if (value := _NUMBER.match(cell))}
    costs = {index: abs(value) if math.isnan(cost) else cost * value for index, value in found.items()}
    if len(set(costs.values())) < 2:
        return set()
    least = min(costs.values())
    return {index for index, value in costs.items() if value == least}


_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


def class_table(outcome: EvaluationResult) -> ClassTable:
    """The classes that have pixels, each with all surfaces side by side."""
    surfaces = list(outcome.surfaces.values())
    rows: list[list[ClassResult | None]] = []
    classes: list[tuple[str, str]] = []
    for name, title in outcome.titles.items():
        found = [one.classes.get(name) for one in surfaces]  # runs that are compared may differ in classes
        pixels = max((one.reference_pixels for one in found if one is not None), default=0)
        if pixels:
            rows.append(found)
            classes.append((title, f"{pixels:,}"))
    metrics = {
        label: [[NONE if one is None else with_interval(one, field) for one in row] for row in rows]
        for label, field in SUMMARY
    }
    if outcome.initial is not None:
        first = list(outcome.surfaces).index(outcome.initial)
        for gain in GAINS:  # of the initial DSM against itself there is none
            metrics[gain] = [
                [NONE if one is None or column == first else percent_text(getattr(one, gain))
                 for column, one in enumerate(row)]
                for row in rows
            ]  # fmt: skip
    metrics["coverage"] = [
        [NONE if one is None else percent_text(one.coverage) for one in row] for row in rows
    ]
    best = {
        metric: frozenset(
            (row, column) for row, cells in enumerate(table) for column in best_of(cells, metric)
        )
        for metric, table in metrics.items()
    }
    note = "Metres; better, worse and coverage in percent of the pixels. Bold is the best of each row."
    return ClassTable("By class", [one.name for one in surfaces], classes, metrics, best, note)
