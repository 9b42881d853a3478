"""Error figures of a surface of any size, from a histogram that is filled block by block."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from resdepth.raster import Band
from resdepth.windows import blocks

Array = NDArray[np.float32]

# Errors are counted in bins of a millimetre up to 200 m: medians are exact to half of one.
BIN_M, LIMIT_M = 1e-3, 200.0
# What makes the median absolute deviation the spread of a normal distribution.
NORMAL = 1.4826
GROSS_M = 3.0
BLOCK = 1024


class Tally:
    """Counts errors; asks for no more memory than one histogram."""

    def __init__(self) -> None:
        self._counts = np.zeros(round(2 * LIMIT_M / BIN_M) + 1, dtype=np.int64)
        self._sum = self._sum_of_squares = self._sum_of_sizes = 0.0

    def add(self, errors: Array) -> None:
        """Count errors, (N,) metres, none of them void."""
        values = errors.astype(np.float64)
        self._sum += float(values.sum())
        self._sum_of_squares += float((values**2).sum())
        self._sum_of_sizes += float(np.abs(values).sum())
        bins = np.rint((np.clip(values, -LIMIT_M, LIMIT_M) + LIMIT_M) / BIN_M).astype(np.int64)
        used, counts = np.unique(bins, return_counts=True)
        self._counts[used] += counts

    def figures(self) -> dict[str, float | int]:
        """Count; bias, median, MAE, RMSE, MedAE, NMAD and LE90 in metres; the share of gross errors."""
        n = int(self._counts.sum())
        if not n:
            return {"n": 0}
        centres = np.arange(len(self._counts)) * BIN_M - LIMIT_M
        median = float(centres[np.searchsorted(np.cumsum(self._counts), (n + 1) // 2)])
        gross = float(self._counts[np.abs(centres) > GROSS_M].sum() / n)
        figures = {
            "bias": self._sum / n,
            "median": median,
            "MAE": self._sum_of_sizes / n,
            "RMSE": (self._sum_of_squares / n) ** 0.5,
            "MedAE": self._size_quantile(0.0, 0.5),
            "NMAD": NORMAL * self._size_quantile(median, 0.5),
            "LE90": self._size_quantile(0.0, 0.9),
            "gross": gross,
        }
        return {"n": n} | {name: round(value, 4) for name, value in figures.items()}

    def _size_quantile(self, centre: float, share: float) -> float:
        """Below which distance from a centre a share of the errors lies."""
        sizes = np.abs(np.arange(len(self._counts)) * BIN_M - LIMIT_M - centre)
        order = np.argsort(sizes, kind="stable")
        reached = np.searchsorted(np.cumsum(self._counts[order]), share * self._counts.sum())
        return float(sizes[order[min(reached, len(order) - 1)]])


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
    return {name: tally.figures() for name, tally in tallies.items()}


def told(figures: Mapping[str, Mapping[str, float | int]]) -> str:
    """Error figures as a table for people."""
    columns = ("MAE", "RMSE", "MedAE", "NMAD", "bias")
    lines = [f"{'initial DSM - truth':<20}" + "".join(f"{name:>9}" for name in columns) + f"{'pixels':>12}"]
    for name, row in figures.items():
        if row["n"]:
            values = "".join(f"{row[column]:>7.2f} m" for column in columns)
            lines.append(f"{name:<20}{values}{row['n']:>12}")
    return "\n".join(lines)
