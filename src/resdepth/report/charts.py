"""What the charts of a page need of an evaluation, in values that JSON has."""

import math
from typing import Any

from resdepth.evaluation.result import ClassResult, EvaluationResult

# The figures to choose from: the field of Statistics, its name, what it stands for, what it tells.
FIGURES = (
    ("mae", "MAE", "mean absolute error", "how far heights are off on average"),
    ("rmse", "RMSE", "root mean square error", "as the MAE, but large errors count more"),
    ("absolute_median", "MedAE", "median absolute error", "half of the pixels are better, half are worse"),
    ("nmad", "NMAD", "normalised median absolute deviation", "how far errors scatter, outliers aside"),
    ("le90", "LE90", "linear error 90 %", "90 % of the pixels are better"),
    ("bias", "bias", "mean error", "above zero the surface is too high, below zero too low"),
)


def chart_data(outcome: EvaluationResult) -> dict[str, Any]:
    """Figures, intervals, histograms and curves by surface and class; without classes that have no errors."""
    names = {name: None for surface in outcome.surfaces.values() for name in surface.classes}
    filled = [
        name
        for name in names
        if any(name in of.classes and of.classes[name].statistics.count for of in outcome.surfaces.values())
    ]
    return {
        "figures": [
            {"key": key, "name": name, "title": f"{name}: {title}", "stated": stated}
            for key, name, title, stated in FIGURES
        ],
        "classes": [{"key": name, "title": outcome.titles.get(name, name)} for name in filled],
        "surfaces": [
            {
                "name": surface.name,
                "classes": {key: _class(surface.classes[key]) for key in filled if key in surface.classes},
            }
            for surface in outcome.surfaces.values()
        ],
    }


def _class(result: ClassResult) -> dict[str, Any]:
    histogram = result.histogram
    return {
        "count": result.statistics.count,
        "figures": {key: _rounded(getattr(result.statistics, key)) for key, *_ in FIGURES},
        "intervals": {
            key: [_rounded(end) for end in result.intervals[key]]
            for key, *_ in FIGURES
            if key in result.intervals
        },
        "edges": [_rounded(edge) for edge in histogram.edges_m],
        "counts": list(histogram.counts),
        "sizes": [_rounded(size) for size in histogram.sizes_m],
        "shares": [_rounded(share) for share in histogram.shares],
    }


def _rounded(value: float) -> float | None:
    """Six digits, which no chart shows; None for NaN, which JSON lacks."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
