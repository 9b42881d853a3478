import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resdepth.evaluation.coregistration import Read, estimate_shift, estimate_tilt
from resdepth.evaluation.result import Shift
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window

GSD = 0.5
GRID = Grid(240, 256, (GSD, 0, 465000, 0, -GSD, 5248000))


def covered(places: np.ndarray, low: float, high: float) -> np.ndarray:
    """How much of each pixel (centre, in pixels) lies in an interval, 0 to 1."""
    return np.clip(np.minimum(places + 0.5, high) - np.maximum(places - 0.5, low), 0, 1)


def town(down: float = 0.0, right: float = 0.0, *, relief: float = 1.0, buildings: bool = True) -> np.ndarray:
    """(240, 256) float32: a landscape moved by some pixels, sampled anew; roofs are mixed at their edges."""
    row, col = np.arange(240)[:, None] - down, np.arange(256)[None, :] - right
    heights = relief * (
        6 * np.sin(row / 23 + 0.4) * np.cos(col / 31) + 2 * np.sin(col / 11 + row / 17) + 0.02 * row
    )
    if buildings:
        rng = np.random.default_rng(2)
        for _ in range(25):
            top, left = rng.uniform(0, 210), rng.uniform(0, 225)
            share = covered(row, top, top + rng.uniform(12, 30)) * covered(
                col, left, left + rng.uniform(12, 30)
            )
            heights = heights * (1 - share) + rng.uniform(4, 15) * share
    return heights.astype(np.float32)


TOWN = town(buildings=False)


def reader(heights: np.ndarray) -> Read:
    def read(window: Window) -> np.ndarray:
        assert Window(0, 0, *heights.shape).contains(window)
        return heights[window.slices].copy()

    return read


def found(surface: np.ndarray, reference: np.ndarray, grid: Grid = GRID) -> Shift:
    return estimate_shift(reader(surface), reader(reference), grid, name="initial")


@pytest.mark.parametrize("buildings", [True, False])
@pytest.mark.parametrize(
    ("down", "right", "up"), [(0.3, -0.7, 1.25), (-2.4, 1.9, -0.4), (0, 0.11, 0), (6.2, 4.5, 3), (9, -12, 0)]
)
def test_a_known_shift_is_found(down: float, right: float, up: float, *, buildings: bool) -> None:
    shift = found(town(down, right, buildings=buildings) + np.float32(up), town(buildings=buildings))
    assert shift.dx_m == pytest.approx(-right * GSD, abs=0.02 * GSD)
    assert shift.dy_m == pytest.approx(down * GSD, abs=0.02 * GSD)
    assert shift.dz_m == pytest.approx(-up, abs=0.01)
    assert not shift.applied
    assert shift.pixels > 30000


def test_buildings_alone_are_enough() -> None:
    shift = found(town(0.6, 1.4, relief=0) + np.float32(0.5), town(relief=0))
    assert (shift.dx_m, shift.dy_m) == pytest.approx((-0.7, 0.3), abs=0.02 * GSD)
    assert shift.dz_m == pytest.approx(-0.5, abs=0.01)


def test_a_surface_lies_where_it_lies() -> None:
    shift = found(town(), town())
    assert (shift.dx_m, shift.dy_m, shift.dz_m) == (0, 0, 0)


def test_noise_and_blunders_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    surface = town(1.3, -0.6) + rng.normal(0, 0.5, (240, 256)).astype(np.float32)
    wrong = rng.random(surface.shape) < 0.05
    surface[wrong] += rng.uniform(-40, 80, int(wrong.sum())).astype(np.float32)
    shift = found(surface + np.float32(2), town())
    assert (shift.dx_m, shift.dy_m) == pytest.approx((0.3, 0.65), abs=0.1 * GSD)
    assert shift.dz_m == pytest.approx(-2, abs=0.05)


def test_trees_and_new_buildings_do_not_matter() -> None:
    reference = town()
    reference[40:90, 30:100] += 8
    reference[150:200, 120:180] += np.random.default_rng(1).uniform(2, 9, (50, 60)).astype(np.float32)
    shift = found(town(0.4, 0.8), reference)
    assert (shift.dx_m, shift.dy_m) == pytest.approx((-0.4, 0.2), abs=0.1 * GSD)
    assert shift.dz_m == pytest.approx(0, abs=0.02)


def test_voids_are_passed_over() -> None:
    surface, reference = town(0.3, -0.7), town()
    rng = np.random.default_rng(3)
    surface[rng.random(surface.shape) < 0.1] = np.nan
    reference[rng.random(reference.shape) < 0.02] = np.nan
    reference[:100, :50] = np.nan
    shift = found(surface, reference)
    assert (shift.dx_m, shift.dy_m) == pytest.approx((0.35, 0.15), abs=0.05 * GSD)


@pytest.mark.parametrize("slope", [0, 0.3])
def test_on_one_even_slope_only_the_heights_are_found(slope: float) -> None:
    reference = (np.zeros((240, 256)) + slope * GSD * np.arange(256)).astype(np.float32)
    noise = np.random.default_rng(4).normal(0, 0.3, reference.shape).astype(np.float32)
    shift = found(reference + noise - np.float32(1.5), reference)
    assert np.isnan([shift.dx_m, shift.dy_m]).all()
    assert shift.dz_m == pytest.approx(1.5, abs=0.01)
    assert shift.pixels > 30000


def test_nothing_is_stated_from_too_few_pixels() -> None:
    surface = town()
    surface[9:] = np.nan
    surface[:, 10:] = np.nan
    shift = found(surface, town())
    assert np.isnan([shift.dx_m, shift.dy_m, shift.dz_m]).all()
    assert shift.pixels == 0


@pytest.mark.parametrize("shape", [(3, 3), (1, 256), (240, 2)])
def test_tiny_rasters_are_no_reason_to_fail(shape: tuple[int, int]) -> None:
    heights = town()[: shape[0], : shape[1]]
    assert found(heights, heights, Grid(*shape, GRID.transform)).pixels == 0


def test_directions_are_those_of_the_map_on_turned_grids() -> None:
    angle = np.radians(30)
    c, s = GSD * np.cos(angle), GSD * np.sin(angle)
    turned = Grid(240, 256, (c, s, 465000, s, -c, 5248000))
    shift = found(town(0.8, -0.5), town(), turned)
    # The surface must go 0.8 pixels up and 0.5 to the right.
    assert (shift.dx_m, shift.dy_m) == pytest.approx((0.5 * c - 0.8 * s, 0.5 * s + 0.8 * c), abs=0.02 * GSD)


def test_the_sample_of_a_large_raster_stays_small() -> None:
    read = []

    def heights(window: Window) -> np.ndarray:
        read.append(window)
        row, col = np.ogrid[window.row : window.row_stop, window.col : window.col_stop]
        return (9 * np.sin(row / 19) * np.cos(col / 27)).astype(np.float32)

    grid = Grid(60000, 90000, GRID.transform)
    shift = estimate_shift(lambda window: heights(window.moved(1, 2)), heights, grid, name="initial")
    assert (shift.dx_m, shift.dy_m) == pytest.approx((1, -0.5), abs=0.02 * GSD)
    assert sum(window.area for window in read) < 12e6
    assert len({(window.row // 7500, window.col // 11250) for window in read}) == 64


@given(
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.sampled_from([(0.5, 0, 0, -0.5), (0.4, 0.3, 0.3, -0.4), (0.5, 0, 0, 0.5)]),
)
def test_the_shift_leads_back_on_any_grid(down: float, right: float, axes: tuple[float, ...]) -> None:
    a, b, d, e = axes
    grid = Grid(240, 256, (a, b, 465000, d, e, 5248000))
    shift = found(town(down, right, buildings=False), TOWN, grid)
    expected = (-a * right - b * down, -d * right - e * down)
    assert (shift.dx_m, shift.dy_m) == pytest.approx(expected, abs=0.02 * GSD)


def test_pixels_that_are_not_square_shift_by_their_own_sides() -> None:
    grid = Grid(*TOWN.shape, (2.0, 0, 0, 0, -0.5, 0))
    shift = found(town(-1.2, 0.7, buildings=False), TOWN, grid)
    assert (shift.dx_m, shift.dy_m) == pytest.approx((-0.7 * 2.0, -1.2 * 0.5), abs=0.02)


def test_a_tilt_is_found_beside_noise_and_new_buildings() -> None:
    row, col = np.mgrid[:240, :256]
    noise = np.random.default_rng(0).normal(0, 0.4, TOWN.shape)
    tilted = (town() + 0.004 * GSD * col - 0.002 * GSD * -row + noise).astype(np.float32)
    tilted[40:90, 100:160] += 20
    found = estimate_tilt(reader(tilted), reader(town()), GRID)
    assert found is not None
    assert found.matters
    assert (found.east, found.north) == pytest.approx((0.004, -0.002), abs=2e-4)
    assert found.medians.shape == (8, 8)


def test_no_tilt_matters_where_there_is_none() -> None:
    noisy = (TOWN + 3 + np.random.default_rng(1).normal(0, 1, TOWN.shape)).astype(np.float32)
    found = estimate_tilt(reader(noisy), reader(TOWN), GRID)
    assert found is not None
    assert not found.matters


def test_a_tilt_needs_more_than_a_line_of_windows() -> None:
    hidden = np.full_like(TOWN, np.nan)
    hidden[:30] = TOWN[:30]
    assert estimate_tilt(reader(hidden), reader(TOWN), GRID) is None
