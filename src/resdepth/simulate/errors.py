"""How wrong the initial DSM of a scene is, as its record tells it."""

from collections.abc import Mapping

import numpy as np

from resdepth.evaluation.metrics import Tally
from resdepth.geo.raster import Band
from resdepth.geo.windows import blocks

GROSS_M = 3.0
BLOCK = 1024
NAMES = {
    "bias": "bias", "median": "median", "MAE": "mae", "RMSE": "rmse", "MedAE": "absolute_median",
    "NMAD": "nmad", "LE90": "le90",
}  # fmt: skip


def stated_figures(tally: Tally) -> dict[str, float | int]:
    """Count; bias, median, MAE, RMSE, MedAE, NMAD and LE90 in metres; the share of gross errors."""
    found = tally.statistics()
    if not found.count:
        return {"n": 0}
    figures = {name: getattr(found, field) for name, field in NAMES.items()}
    figures["gross"] = 1 - float(tally.shares_within([GROSS_M])[0])
    return {"n": found.count} | {name: round(value, 4) for name, value in figures.items()}


def error_figures(surface: Band, truth: Band, masks: Mapping[str, Band]) -> dict[str, dict[str, float | int]]:
    """Figures of a surface against a truth, over all and by mask; void on either side does not count.

    Args:
        surface: heights in metres.
        truth: on the same grid.
        masks: by name; 1 = inside.

    Returns:
        For "all", "ground" (outside every mask) and each mask its figures.
    """
    tallies = {name: Tally() for name in ("all", "ground", *masks)}
    for window in blocks(truth.grid.whole, BLOCK):
        errors = surface.read(window) - truth.read(window)
        valid = ~np.isnan(errors)
        outside = valid.copy()
        tallies["all"].add(errors[valid])
        for name, mask in masks.items():
            inside = mask.read(window) == 1
            tallies[name].add(errors[inside & valid])
            outside &= ~inside
        tallies["ground"].add(errors[outside])
    return {name: stated_figures(tally) for name, tally in tallies.items()}


def stated(figures: Mapping[str, Mapping[str, float | int]]) -> str:
    """Error figures as a table for people."""
    columns = ("MAE", "RMSE", "MedAE", "NMAD", "bias")
    lines = [f"{'initial DSM - truth':<20}" + "".join(f"{name:>9}" for name in columns) + f"{'pixels':>12}"]
    for name, row in figures.items():
        if row["n"]:
            values = "".join(f"{row[column]:>7.2f} m" for column in columns)
            lines.append(f"{name:<20}{values}{row['n']:>12}")
    return "\n".join(lines)
