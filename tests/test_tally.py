"""Error figures from a histogram, against the same from all errors at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resdepth.grid import Grid
from resdepth.raster import ArrayBand
from resdepth.simulate.tally import BIN_M, Tally, error_figures, told


@given(st.integers(1, 3000), st.floats(-5, 5), st.floats(0.01, 20), st.integers(0, 10**6))
def test_the_figures_are_those_of_all_errors(n: int, bias: float, spread: float, seed: int) -> None:
    errors = np.random.default_rng(seed).normal(bias, spread, n).astype(np.float32)
    tally = Tally()
    for part in np.array_split(errors, 4):
        tally.add(part)
    figures, size = tally.figures(), np.abs(errors.astype(np.float64))
    assert figures["n"] == n
    assert figures["bias"] == pytest.approx(errors.mean(dtype=np.float64), abs=1e-4)
    assert figures["MAE"] == pytest.approx(size.mean(), abs=1e-4)
    assert figures["RMSE"] == pytest.approx(np.sqrt((size**2).mean()), abs=1e-4)
    assert figures["gross"] == pytest.approx((size > 3).mean(), abs=1.1 / n + 1e-3)
    lower, upper = np.quantile(errors, [max(0.5 - 1 / n, 0), min(0.5 + 1 / n, 1)])
    assert lower - 2 * BIN_M <= figures["median"] <= upper + 2 * BIN_M
    for name, share in (("MedAE", 0.5), ("LE90", 0.9)):
        lower, upper = np.quantile(size, [max(share - 1 / n, 0), min(share + 1 / n, 1)])
        assert lower - 2 * BIN_M <= figures[name] <= upper + 2 * BIN_M


def test_masks_divide_the_pixels_and_voids_do_not_count() -> None:
    grid = Grid(2, 3, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    surface = ArrayBand(np.array([[1, 2, 3], [4, np.nan, 6]], dtype=np.float32), grid)
    truth = ArrayBand(np.array([[0, 0, 0], [0, 0, np.nan]], dtype=np.float32), grid)
    mask = ArrayBand(np.array([[1, 0, 0], [1, 1, 1]], dtype=np.uint8), grid)
    figures = error_figures(surface, truth, {"building": mask})
    assert {name: row["n"] for name, row in figures.items()} == {"all": 4, "ground": 2, "building": 2}
    assert figures["building"]["MAE"] == 2.5
    assert "building" in told(figures)


def test_nothing_counted_is_nothing_told() -> None:
    figures = {"all": Tally().figures()}
    assert figures == {"all": {"n": 0}}
    assert len(told(figures).splitlines()) == 1
