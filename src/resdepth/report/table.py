"""Tables for the terminal and for Markdown; of the figures that matter most, before and after."""

from collections.abc import Mapping, Sequence

from resdepth.evaluation import Evaluation
from resdepth.judge.figures import Statistics

COLUMNS = (
    ("MAE", "mae"),
    ("RMSE", "rmse"),
    ("MedAE", "absolute_median"),
    ("NMAD", "nmad"),
    ("median", "median"),
    ("MAE, median removed", "mae_centred"),
    ("RMSE, median removed", "rmse_centred"),
)


def summary_table(evaluations: Mapping[str, Evaluation]) -> str:
    """A Markdown table: a row for each data set, class of objects and surface; metres."""
    rows = [["data set", "pixels", "surface", "n", *(f"{label} [m]" for label, _ in COLUMNS)]]
    for name, evaluation in evaluations.items():
        for label, refined in evaluation.refined.items():
            if evaluation.initial is not None:
                rows.append([name, label, "initial", *_figures(evaluation.initial[label])])
            rows.append([name, label, "refined", *_figures(refined)])
    return markdown(rows, text_columns=3)


def markdown(rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table whose columns line up; all but the first ones are aligned to the right."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(placed) + " |"

    rule = ["-" * width if n < text_columns else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])


def _figures(figures: Statistics) -> list[str]:
    values = [getattr(figures, name) for _, name in COLUMNS]
    return [f"{figures.count}", *(f"{value:.3f}" if figures.count else "--" for value in values)]
