"""Whether an initial DSM lies where the reference DSM lies: its bias, and its shift."""

import math
from dataclasses import dataclass

import numpy as np

from resdepth.evaluation.coregistration import MIN_PIXELS, Read, estimate_shift, sample_windows
from resdepth.evaluation.metrics import NO_STATISTICS, statistics
from resdepth.evaluation.result import Shift
from resdepth.geo.grid import Grid

# A bias counts from this, and from this share of the spread of the differences; a shift from this.
LEAST_BIAS_M, LEAST_BIAS_SPREADS = 0.1, 0.5
LEAST_SHIFT_PX = 0.5


@dataclass(frozen=True)
class Alignment:
    """How an initial DSM lies to the reference DSM.

    Attributes:
        bias_m: median of initial minus reference DSM; NaN with fewer than 100 common pixels.
        spread_m: the NMAD of these differences.
        shift: what moves the initial DSM onto the reference DSM.
        shift_px: its horizontal length in pixels; NaN where it was not found.
    """

    bias_m: float
    spread_m: float
    shift: Shift
    shift_px: float

    @property
    def is_biased(self) -> bool:
        """Whether the bias is more than the noise explains."""
        return abs(self.bias_m) > max(LEAST_BIAS_M, LEAST_BIAS_SPREADS * self.spread_m)

    @property
    def is_shifted(self) -> bool:
        """Whether the horizontal shift matters."""
        return self.shift_px > LEAST_SHIFT_PX


def align(surface: Read, reference: Read, grid: Grid, *, name: str) -> Alignment:
    """Compare an initial DSM with the reference DSM.

    Up to 64 windows all over the grid are read (2.4 million pixels), so neither time nor memory grow with the
    area.

    Args:
        surface: reads windows of the initial DSM on the grid: (h, w) float32, metres, NaN = void.
        reference: likewise.
        grid: of both.
        name: of the initial DSM, for a warning if the search for the shift does not converge.
    """
    differences = np.concatenate(
        [(surface(window) - reference(window)).ravel() for window in sample_windows(grid)]
    )
    found = statistics(differences)
    if found.count < MIN_PIXELS:
        found = NO_STATISTICS
    shift = estimate_shift(surface, reference, grid, name=name)
    sides = grid.sides_m
    # Rows and columns of a grid may be turned; a pixel's mean side is as good for a threshold.
    return Alignment(found.median, found.nmad, shift, math.hypot(shift.dx_m, shift.dy_m) / sides.mean)
