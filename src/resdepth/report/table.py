"""Tables for the terminal and for Markdown; of the figures that matter most, before and after."""

from collections.abc import Mapping, Sequence

from resdepth.evaluation.evaluation import Evaluation
from resdepth.evaluation.metrics import Statistics
from resdepth.evaluation.result import OVERALL, Baselines

COLUMNS = (
    ("MAE", "mae"),
    ("RMSE", "rmse"),
    ("MedAE", "absolute_median"),
    ("NMAD", "nmad"),
    ("median", "median"),
    ("MAE, median removed", "mae_centred"),
    ("RMSE, median removed", "rmse_centred"),
)
BASELINE_COLUMNS = (
    ("MAE", "mae"),
    ("MAE, median removed", "mae_centred"),
    ("RMSE", "rmse"),
    ("RMSE, median removed", "rmse_centred"),
    ("MedAE", "absolute_median"),
    ("NMAD", "nmad"),
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


def baseline_rows(surfaces: Mapping[str, Statistics], baselines: Baselines) -> list[list[str]]:
    """A row for each evaluated surface, and for each median filter."""
    rows = {**surfaces}
    rows |= {f"median {one.width_px} x {one.width_px} px": one.statistics for one in baselines.filters}
    chosen = " and ".join(str(width) for width in sorted(set(baselines.chosen_px)))
    rows[f"median, best by validation{f' ({chosen} px)' if chosen else ''}"] = baselines.validated
    head = ["surface", *(f"{label} [m]" for label, _ in BASELINE_COLUMNS)]
    return [head, *([name, *_values(found, BASELINE_COLUMNS)] for name, found in rows.items())]


def baseline_tables(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """For each initial DSM a Markdown table: it, what was refined from it, and median filters of it."""
    tables = []
    for baselines in dict.fromkeys(one.baselines for one in evaluations.values()):
        if baselines is None:
            continue
        surfaces: dict[str, Statistics] = {}
        for name, one in evaluations.items():
            if one.baselines == baselines:
                surfaces |= {} if one.initial is None else {baselines.surface: one.initial[OVERALL]}
                surfaces[name] = one.refined[OVERALL]
        tables.append(markdown(baseline_rows(surfaces, baselines)))
    return tables


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
    return [f"{figures.count}", *_values(figures, COLUMNS)]


def _values(figures: Statistics, columns: Sequence[tuple[str, str]]) -> list[str]:
    values = [getattr(figures, name) for _, name in columns]
    return [f"{value:.3f}" if figures.count else "--" for value in values]
