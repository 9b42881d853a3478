"""Images projected onto a surface, and how well they agree there."""

import numpy as np
import pytest

from conftest import raw_images_of
from resdepth.geo.raster import FileBand
from resdepth.geo.windows import Window
from resdepth.stereo.ortho import RawImage, to_geographic
from resdepth.stereo.remeasure import Contrast, Placement, local_correlation, projected

STANDARD = (Contrast(0.0, 1.0), Contrast(0.0, 1.0))


def test_a_projected_image_shows_what_its_rpc_says(raw_scene) -> None:
    dsm = FileBand(raw_scene / "dsm" / "reference.tif")
    window = Window(40, 60, 64, 48)
    grid, heights = dsm.grid.crop(window), dsm.read(window)
    image = RawImage(raw_images_of(raw_scene)[0])
    shown = projected(image, grid, heights, Placement())
    assert shown.shape == (64, 48)
    values = image.read(image.grid.whole)
    for row, col in ((0, 0), (10, 20), (63, 47)):
        x, y = grid.map_position(row + 0.5, col + 0.5)
        lon, lat = to_geographic(grid.crs, np.array([x]), np.array([y]))
        (r,), (c,) = image.rpc.project(lon, lat, np.array([float(heights[row, col])]))
        i, j, down, right = int(r), int(c), r % 1, c % 1
        four = values[i : i + 2, j : j + 2].astype(float)
        expected = np.array([1 - down, down]) @ four @ np.array([1 - right, right])
        assert shown[row, col] == pytest.approx(expected, rel=5e-3)


def test_a_placement_moves_the_surface(raw_scene) -> None:
    dsm = FileBand(raw_scene / "dsm" / "reference.tif")
    near, moved = Window(40, 60, 32, 32), Window(44, 66, 32, 32)
    image = RawImage(raw_images_of(raw_scene)[0])
    heights = dsm.read(moved)
    grid = dsm.grid.crop(near)
    placement = Placement(east_m=6 * 0.5, north_m=-4 * 0.5, up_m=3.0)
    np.testing.assert_allclose(
        projected(image, grid, heights - 3, placement),
        projected(image, dsm.grid.crop(moved), heights, Placement()),
        atol=0.5,
    )


def test_beside_the_image_nothing_is_shown(raw_scene) -> None:
    dsm = FileBand(raw_scene / "dsm" / "reference.tif")
    window = Window(0, 0, 32, 32)
    image = RawImage(raw_images_of(raw_scene)[0])
    shown = projected(image, dsm.grid.crop(window), dsm.read(window), Placement(east_m=5000))
    assert np.isnan(shown).all()


def test_correlation_is_that_of_the_pixels_of_a_window() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(5, 2, (20, 20)).astype(np.float32)
    second = (0.5 * first + rng.normal(0, 1, (20, 20))).astype(np.float32)
    contrasts = Contrast(5, 2), Contrast(2.5, 1.4)
    found = local_correlation(first, second, 5, contrasts)
    a, b = first[6:11, 8:13].ravel(), second[6:11, 8:13].ravel()
    assert found[8, 10] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=2e-3)
    brighter = local_correlation(3 * first + 100, second, 5, (Contrast(115, 6), contrasts[1]))
    np.testing.assert_allclose(brighter, found, atol=1e-4)


def test_noise_of_a_flat_area_correlates_little() -> None:
    rng = np.random.default_rng(1)
    noise = (1e-3 * rng.standard_normal((20, 20))).astype(np.float32)
    assert np.abs(local_correlation(noise, noise, 5, STANDARD)).max() < 0.01


def test_where_an_image_shows_nothing_there_is_no_agreement() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((2, 20, 20)).astype(np.float32)
    first[3, 4] = np.nan
    second[10:, :] = np.nan
    found = local_correlation(first, second, 5, STANDARD)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(first) | np.isnan(second))
    assert np.nanmax(np.abs(found)) <= 1
