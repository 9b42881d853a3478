"""Cameras: affine views, and RPCs fitted to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resdepth.errors import ResDepthError
from resdepth.geo.rpc import Direction, Rpc, affine_view, fit_rpc, moved_on_ground, placed

DIRECTIONS = st.builds(
    Direction,
    azimuth_deg=st.floats(0, 359),
    incidence_deg=st.floats(0, 50),
    orbit_km=st.floats(300, 900),
    heading_deg=st.floats(0, 359),
)


@given(DIRECTIONS)
def test_points_of_one_ray_appear_in_one_pixel(direction: Direction) -> None:
    view = affine_view(direction, 0.5)
    azimuth, incidence = np.radians([direction.azimuth_deg, direction.incidence_deg])
    towards = np.array([np.sin(azimuth), np.cos(azimuth)]) * np.tan(incidence)
    z = np.array([0.0, 10.0, 300.0])
    row, col = view.project(5 + towards[0] * z, 7 + towards[1] * z, z)
    assert np.ptp(row) < 1e-6
    assert np.ptp(col) < 1e-6


@given(DIRECTIONS, st.floats(-50, 200))
def test_an_image_position_is_found_again_on_any_plane(direction: Direction, z: float) -> None:
    view = placed(affine_view(direction, 0.4), 1000.0, 2000.0, 30.0, at=(12.0, 34.0))
    row, col = np.array([0.0, 100.0]), np.array([50.0, -3.0])
    x, y = view.on_plane(row, col, z)
    again = view.project(x, y, np.full(2, z))
    np.testing.assert_allclose(again, (row, col), atol=1e-6)
    at = view.project(np.array([1000.0]), np.array([2000.0]), np.array([30.0]))
    np.testing.assert_allclose(np.ravel(at), (12, 34), atol=1e-6)


@given(DIRECTIONS)
def test_heights_move_points_away_from_the_satellite(direction: Direction) -> None:
    shift = affine_view(direction, 0.5).shift_per_metre
    azimuth, incidence = np.radians([direction.azimuth_deg, direction.incidence_deg])
    expected = -np.tan(incidence) * np.array([np.sin(azimuth), np.cos(azimuth)])
    np.testing.assert_allclose(shift, expected, atol=1e-9)


def test_images_are_not_mirrored_and_their_rows_run_along_the_flight() -> None:
    view = affine_view(Direction(0.0, 0.0, heading_deg=180.0), 0.5)
    row, col = view.project(np.array([0.0, 1.0]), np.array([-1.0, 0.0]), np.zeros(2))
    np.testing.assert_allclose(row, [2, 0], atol=1e-9)  # south is down
    np.testing.assert_allclose(col, [0, 2], atol=1e-9)  # east is right


def test_pixels_grow_with_the_distance_to_the_satellite() -> None:
    at_nadir, slanted = Direction(90.0, 0.0), Direction(90.0, 35.0)
    assert at_nadir.range_ratio == 1
    # A round earth: the slant range is a little less than that over a flat one.
    assert 1.15 < slanted.range_ratio < 1 / np.cos(np.radians(35))
    assert slanted.off_nadir_deg < 35


@given(DIRECTIONS)
def test_a_fitted_rpc_tells_the_same_as_the_view(direction: Direction) -> None:
    view = affine_view(direction, 0.5)
    rng = np.random.default_rng(0)

    def seen(x, y, z):
        # Degrees bend a little, as a map projection has it.
        lon, lat = 8 + x / 75_000 + 1e-12 * x * y, 47 + y / 111_000 + 1e-13 * x * x
        return lon, lat, z, *view.project(x, y, z)

    axes = np.meshgrid(np.linspace(-900, 900, 9), np.linspace(-900, 900, 9), np.linspace(0, 200, 5))
    rpc = fit_rpc(*seen(*(axis.ravel() for axis in axes)))
    lon, lat, z, row, col = seen(*rng.uniform([-800, -800, 10], [800, 800, 190], (200, 3)).T)
    np.testing.assert_allclose(rpc.project(lon, lat, z), (row, col), atol=2e-3)


def test_too_few_points_make_no_rpc() -> None:
    with pytest.raises(ResDepthError, match="at least 40 points"):
        fit_rpc(*np.zeros((5, 10)))


def test_an_rpc_shows_a_place_where_it_showed_an_affine_function_of_it() -> None:
    rng = np.random.default_rng(0)
    numbers = [tuple(map(float, scale * rng.normal(size=20))) for scale in (1.0, 1e-3, 1.0, 1e-3)]
    row_den, col_den = ((1.0, *one[1:]) for one in numbers[1::2])
    rpc = Rpc(numbers[0], row_den, numbers[2], col_den, (500, 600, 47, 8, 300), (500, 600, 0.1, 0.2, 400))
    moved = moved_on_ground(rpc, (1e-3, 2e-3, -1e-3), (-5e-4, 1e-3, 3e-3))
    u, v, z = rng.uniform(-1.5, 1.5, (3, 50))
    there = u + 1e-3 + 2e-3 * u - 1e-3 * v, v - 5e-4 + 1e-3 * u + 3e-3 * v
    expected = rpc.project(8 + 0.2 * there[0], 47 + 0.1 * there[1], 300 + 400 * z)
    np.testing.assert_allclose(moved.project(8 + 0.2 * u, 47 + 0.1 * v, 300 + 400 * z), expected, atol=1e-6)
    assert (moved.row_den[0], moved.col_den[0]) == (1, 1)
