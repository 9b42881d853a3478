"""The statistics files of the published ResDepth, layout included, and the same figures as JSON."""

from pathlib import Path

from resdepth.evaluation.evaluation import Evaluation
from resdepth.evaluation.metrics import Statistics
from resdepth.evaluation.result import OVERALL
from resdepth.runtime.atomic import write_json, write_text

# Label and the number of tabs that brings the figures into one column.
_LINES = (
    ("maximum", "Maximum residual error [m]:", 6),
    ("minimum", "Minimum residual error [m]:", 6),
    ("mae", "Mean absolute residual error (MAE) [m]:", 5),
    ("rmse", "RMSE residual error [m]:", 6),
    ("absolute_median", "Absolute median residual error [m]:", 5),
    ("median", "Median residual error [m]:", 6),
    ("nmad", "Normalized median absolute deviation (NMAD) [m]:", 3),
    ("nmad_resdepth_2022", "NMAD (ResDepth 2022) [m]:", 6),
)

_TITLES = {
    OVERALL: "OVERALL",
    "building": "BUILDING PIXELS",
    "terrain": "TERRAIN PIXELS",
    "terrain_without_water": "TERRAIN PIXELS WITHOUT WATER",
    "terrain_without_forest": "TERRAIN PIXELS WITHOUT FOREST",
    "terrain_without_water_forest": "TERRAIN PIXELS WITHOUT WATER/FOREST",
}


def _section(title: str, figures: Statistics, underline: int) -> str:
    lines = [title, "-" * underline, ""]
    for name, label, tabs in _LINES:
        value = getattr(figures, name)
        shown = f"{value:10.3f} m" if figures.count else "-- m"
        lines.append(label + "\t" * tabs + shown)
    return "\n".join(lines)


def format_statistics(evaluation: Evaluation, model_name: str, weights: str) -> str:
    """The text of `<dsm>_prediction_statistics.txt`."""
    header = [f"Model name:\t{model_name}", f"Model weights:\t{weights}", *[""] * 5]
    header += ["Performance Evaluation", "-" * 22, "", f"Number of pixels:\t\t\t{evaluation.pixels}"]
    header += [f"Area [km^2]:\t\t\t\t{evaluation.area_km2:.2f}"]
    sections = []
    for name, refined in evaluation.refined.items():
        title = f"STATISTICS, {_TITLES[name]}: "
        if evaluation.initial is not None:
            before = title + "INITIAL DSM"
            # One dash more below this one title, as published.
            dashes = len(before) + (name == OVERALL)
            sections.append(_section(before, evaluation.initial[name], dashes))
        after = title + "REFINED DSM"
        sections.append(_section(after, refined, len(after)))
    return "\n\n\n".join(["\n".join(header), *sections]) + "\n\n"


def format_overall_statistics(evaluation: Evaluation, model_name: str, weights: str) -> str:
    """The text of `<dsm>_prediction_performance_statistics_mean_over_all_stereopairs.txt`."""
    header = [f"Model name:\t{model_name}", f"Model weights:\t{weights}", *[""] * 4]
    title = "Performance Evaluation: Statistics over all predictions"
    header += [title, "-" * len(title)]
    sections = []
    for name, refined in evaluation.refined.items():
        after = f"STATISTICS, {_TITLES[name]}: REFINED DSM"
        sections.append(_section(after, refined, len(after)))
    return "\n\n\n".join(["\n".join(header), *sections]) + "\n\n"


def write_statistics(path: Path, text: str, evaluation: Evaluation) -> None:
    """Write the text file and, beside it, a JSON file with all figures."""
    write_text(path, text)
    write_json(path.with_suffix(".json"), evaluation.as_json())
