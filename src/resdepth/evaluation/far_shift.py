"""How far a surface lies beside the reference DSM, where the search of `coregistration` does not reach."""

import logging
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resdepth.evaluation.coregistration import MIN_PIXELS, Array, Read, estimate_shift, sample_windows
from resdepth.evaluation.metrics import statistics
from resdepth.evaluation.phase_correlation import edges_apart
from resdepth.evaluation.result import Shift
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window

logger = logging.getLogger(__name__)

Pixels = NDArray[np.float64]
"""(2,) rows down and columns to the right."""

DOUBTFUL, CLEARLY_BETTER = 0.5, 0.7
"""Differences that vary by more than so much of the relief may come from a search that ended elsewhere; and
to how much of it they must go down for another place to be believed."""


def find_shift(surface: Read, reference: Read, grid: Grid, *, name: str) -> Shift:
    """What moves a surface onto the reference DSM, as `estimate_shift` has it, also from far away.

    Where that does not converge, or leaves differences that vary nearly as much as the heights do, the search
    begins where the edges of both lie over each other. What it leads to counts if the differences then vary
    clearly less. So shifts of up to about 60 pixels are found where there are edges, as in towns.

    Args:
        surface: reads windows of it on the grid: (h, w) float32, metres, NaN = void.
        reference: likewise.
        grid: of both.
        name: of the surface, for a warning if no search converges.
    """
    near = estimate_shift(surface, reference, grid, name=None)
    spread = _spread(surface, reference, grid, _pixels(near, grid))
    if near.pixels and spread <= DOUBTFUL * _relief(reference, grid):
        return near
    apart = edges_apart(reference, surface, grid.whole)
    offset: Pixels = np.zeros(2) if apart is None else -np.rint(apart)
    far = estimate_shift(_beside(surface, grid, offset), reference, grid, name=None)
    moved = offset + _pixels(far, grid)
    if math.isfinite(far.dx_m) and _spread(surface, reference, grid, moved) < CLEARLY_BETTER * spread:
        east_m, north_m = _metres(moved, grid)
        return replace(far, dx_m=east_m, dy_m=north_m)
    if not near.pixels and math.isfinite(spread):
        logger.warning(
            "%s: the search for the shift against the reference DSM does not converge: none is reported", name
        )
    return near


def _pixels(shift: Shift, grid: Grid) -> Pixels:
    """What a shift is in pixels; none where it was not found."""
    if not math.isfinite(shift.dx_m):
        return np.zeros(2)
    a, b, _, d, e, _ = grid.transform
    right, down = np.linalg.solve([[a, b], [d, e]], grid.map_units_of(shift.dx_m, shift.dy_m))
    return np.array([down, right])


def _metres(moved: Pixels, grid: Grid) -> tuple[float, float]:
    """East and north."""
    (down, right), (a, b, _, d, e, _) = moved, grid.transform
    return grid.metres_of(float(a * right + b * down), float(d * right + e * down))


def _beside(read: Read, grid: Grid, offset: Pixels) -> Read:
    """Reads a surface that was moved so many whole pixels; NaN beyond its edges."""
    down, right = (int(one) for one in offset)

    def moved(window: Window) -> Array:
        there = window.moved(-down, -right)
        inside = there.grown(0, within=grid.whole)
        result = np.full(window.shape, np.nan, np.float32)
        if min(inside.shape) > 0:
            result[inside.relative_to(there).slices] = read(inside)
        return result

    return moved


def _spread(surface: Read, reference: Read, grid: Grid, moved: Pixels) -> float:
    """The NMAD of the differences of a surface that was moved, to whole pixels; infinite if few are known."""
    there = _beside(surface, grid, np.rint(moved))
    differences = [(there(window) - reference(window)).ravel() for window in sample_windows(grid)]
    found = statistics(np.concatenate(differences))
    return float(found.nmad) if found.count >= MIN_PIXELS else math.inf


def _relief(reference: Read, grid: Grid) -> float:
    heights = np.concatenate([reference(window).ravel() for window in sample_windows(grid)])
    return float(statistics(heights).nmad)
