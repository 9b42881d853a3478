"""Error figures: known distributions give known figures, counted ones those of all values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resdepth.evaluation.metrics import BIN_M, KNEE_M, Tally, bins_of, centres_of, statistics
from resdepth.geo.grid import Grid
from resdepth.geo.raster import ArrayBand
from resdepth.simulate.simulation import error_metrics, errors_as_text, metrics_of

QUANTILES = ("median", "absolute_median", "nmad", "nmad_resdepth_2022", "le68", "le90", "le95")


def tallied(errors: np.ndarray, exact: int, parts: int = 4) -> Tally:
    tally = Tally(exact)
    for part in np.array_split(errors, parts):
        tally.add(part)
    return tally


def counted_bound(value: float) -> float:
    """How far a counted quantile may be off: half a bin, and half another for that of a difference."""
    return BIN_M * max(1.0, abs(value) / KNEE_M) * 1.6


@given(st.integers(1, 3000), st.floats(-5, 5), st.floats(0.01, 20), st.integers(0, 10**6))
def test_parts_have_the_figures_of_the_whole(n: int, bias: float, spread: float, seed: int) -> None:
    errors = np.random.default_rng(seed).normal(bias, spread, n).astype(np.float32)
    whole, parts = statistics(errors), tallied(errors, exact=n).statistics()
    for name, value in vars(whole).items():
        assert getattr(parts, name) == pytest.approx(value, rel=1e-12, abs=1e-12), name


@given(st.integers(1, 3000), st.floats(-50, 50), st.floats(0.01, 200), st.integers(0, 10**6))
def test_counted_quantiles_are_within_the_stated_bound(n: int, bias: float, spread: float, seed: int) -> None:
    n |= 1  # of an even number the median lies between two values, and a counted one is one of them
    errors = np.random.default_rng(seed).normal(bias, spread, n).astype(np.float32)
    found = tallied(errors, exact=0)
    assert not found.is_exact
    counted, size = found.statistics(), np.sort(np.abs(errors.astype(np.float64)))
    assert counted.median == pytest.approx(np.median(errors), abs=counted_bound(float(np.median(errors))))
    for name, share in (("absolute_median", 0.5), ("le68", 0.68), ("le90", 0.9), ("le95", 0.95)):
        # A counted quantile is the smallest value that the share reaches; numpy's may lie up to the next one.
        expected = size[int(np.ceil(share * n)) - 1]
        assert getattr(counted, name) == pytest.approx(expected, abs=counted_bound(expected)), name
    spread_of = np.median(np.abs(errors.astype(np.float64) - np.median(errors)))
    worst = counted_bound(float(np.abs(errors).max()))
    assert counted.nmad == pytest.approx(1.4826 * spread_of, abs=3 * worst)


@given(st.floats(-1e6, 1e6, width=32))
def test_bins_tell_the_error_again(error: float) -> None:
    bins = bins_of(np.array([error], np.float32))
    assert centres_of(bins)[0] == pytest.approx(error, abs=max(BIN_M * 0.51, abs(error) * 9e-6))


def test_bins_are_ordered_and_symmetric() -> None:
    errors = np.concatenate([np.linspace(0, 20, 4001), np.geomspace(20, 1e9, 400)]).astype(np.float32)
    bins = bins_of(errors)
    assert (np.diff(bins) >= 0).all()
    np.testing.assert_array_equal(bins_of(-errors), -bins)


def test_a_normal_distribution_has_its_known_figures() -> None:
    found = statistics(np.random.default_rng(1).normal(0, 2, 400_000).astype(np.float32))
    assert found.rmse == pytest.approx(2, rel=0.01)
    assert found.nmad == pytest.approx(2, rel=0.01)
    assert found.mae == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.01)
    assert found.absolute_median == pytest.approx(2 * 0.67449, rel=0.01)
    assert found.le68 == pytest.approx(2 * 0.99446, rel=0.01)
    assert found.le90 == pytest.approx(2 * 1.64485, rel=0.01)
    assert found.le95 == pytest.approx(2 * 1.95996, rel=0.01)
    assert found.within_2 == pytest.approx(0.6827, abs=0.005)


def test_a_uniform_distribution_has_its_known_figures() -> None:
    found = statistics(np.random.default_rng(2).uniform(-1, 3, 400_000).astype(np.float32))
    assert found.bias == pytest.approx(1, abs=0.01)
    assert found.median == pytest.approx(1, abs=0.01)
    assert found.nmad == pytest.approx(1.4826, rel=0.01)
    assert (found.within_05, found.within_1) == pytest.approx((0.25, 0.5), abs=0.005)
    assert found.le90 == pytest.approx(2.6, rel=0.01)


def test_the_histogram_and_the_cumulative_curve_count_every_error() -> None:
    tally = tallied(np.array([-1.5, -0.25, 0.25, 0.75, 9], np.float32), exact=10)
    assert tally.histogram([-2, -1, 0, 1, 2]) == [1, 1, 2, 0]
    np.testing.assert_allclose(tally.shares_within([0, 0.3, 1, 10]), [0, 0.4, 0.6, 1])


def test_gigantic_errors_do_not_break_the_count() -> None:
    found = tallied(np.array([1e30, -1e30, 0], np.float32), exact=0).statistics()
    assert found.maximum == pytest.approx(1e30)
    assert found.median == 0


def test_masks_divide_the_pixels_and_voids_do_not_count() -> None:
    grid = Grid(2, 3, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    surface = ArrayBand(np.array([[1, 2, 3], [4, np.nan, 6]], dtype=np.float32), grid)
    reference = ArrayBand(np.array([[0, 0, 0], [0, 0, np.nan]], dtype=np.float32), grid)
    mask = ArrayBand(np.array([[1, 0, 0], [1, 1, 1]], dtype=np.uint8), grid)
    figures = error_metrics(surface, reference, {"building": mask})
    assert {name: row["n"] for name, row in figures.items()} == {"all": 4, "ground": 2, "building": 2}
    assert figures["building"]["MAE"] == 2.5
    assert figures["all"]["gross"] == 0.25
    assert "building" in errors_as_text(figures)


def test_nothing_counted_is_nothing_stated() -> None:
    assert Tally().statistics().count == 0
    figures = {"all": metrics_of(Tally())}
    assert figures == {"all": {"n": 0}}
    assert len(errors_as_text(figures).splitlines()) == 1
