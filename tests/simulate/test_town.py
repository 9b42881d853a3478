"""The procedural town: the same place looks the same from every window, and like a town."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from resdepth.geo.windows import Window
from resdepth.simulate.surface import BUILDING_CLASSES, VEGETATION_CLASSES, Surface, SurfaceClass, is_any
from resdepth.simulate.town.layout import STYLES
from resdepth.simulate.town.town import Town, town_grid

STYLE_NAMES = sorted(STYLES)
WHOLE = Window(40, 60, 256, 256)


@pytest.fixture(scope="module")
def wide():
    """Half a kilometre of each style in pixels of 2 m."""
    grid = town_grid(320, 2.0)
    return {name: Town(grid, STYLES[name], 4).surface(WHOLE) for name in STYLE_NAMES}


def assert_same(one: Surface, other: Surface):
    for name in ("height", "known", "classes", "objects"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("name", STYLE_NAMES)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_a_window_is_the_crop_of_any_window_around_it_bit_for_bit(wide, name, data):
    row, col = data.draw(st.integers(0, 250)), data.draw(st.integers(0, 250))
    height, width = data.draw(st.integers(1, 256 - row)), data.draw(st.integers(1, 256 - col))
    part = Window(row, col, height, width)
    fresh = Town(town_grid(320, 2.0), STYLES[name], 4)
    shifted = Window(row + WHOLE.row, col + WHOLE.col, min(height, 60), min(width, 60))
    assert_same(fresh.surface(shifted), wide[name].crop(Window(part.row, part.col, *shifted.shape)))


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_fine_windows_that_share_a_border_fit_together(name):
    town = Town(town_grid(4000, 0.25), STYLES[name], 1)
    both = town.surface(Window(900, 1500, 96, 200))
    assert_same(town.surface(Window(900, 1500, 96, 77)), both.crop(Window(0, 0, 96, 77)))
    assert_same(town.surface(Window(901, 1577, 95, 123)), both.crop(Window(1, 77, 95, 123)))


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_the_same_seed_builds_the_same_town_and_another_seed_another(name):
    window, grid = Window(10, 20, 50, 60), town_grid(100, 1.0)
    first = Town(grid, STYLES[name], 7).surface(window)
    assert_same(first, Town(grid, STYLES[name], 7).surface(window))
    assert np.abs(first.height - Town(grid, STYLES[name], 8).surface(window).height).mean() > 1


def test_the_grid_does_not_change_the_town():
    coarse = Town(town_grid(100, 3.0), STYLES["suburb"], 3).surface(Window(20, 20, 40, 40))
    fine = Town(town_grid(300, 1.0), STYLES["suburb"], 3).surface(Window(60, 60, 120, 120))
    # The middle of each coarse pixel is the middle of a fine one.
    np.testing.assert_array_equal(coarse.objects, fine.objects[1::3, 1::3])
    np.testing.assert_allclose(coarse.height, fine.height[1::3, 1::3], atol=1e-3)


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_every_town_has_buildings_streets_and_green(wide, name):
    surface = wide[name]
    assert is_any(surface.classes, BUILDING_CLASSES).mean() > 0.05
    assert is_any(surface.classes, VEGETATION_CLASSES).mean() > 0.005
    assert 0.08 < (surface.classes == SurfaceClass.ASPHALT).mean() < 0.6
    assert (surface.classes == SurfaceClass.GRASS).mean() > 0.02
    assert len(np.unique(surface.objects)) > 100


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_heights_are_finite_and_plausible(wide, name):
    surface = wide[name]
    assert surface.height.dtype == np.float32
    assert surface.known.all()
    assert np.isfinite(surface.height).all()
    assert 50 < surface.height.min() < surface.height.max() < 900
    assert np.ptp(surface.height) < 250


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_objects_are_numbered_exactly_on_buildings_and_plants(wide, name):
    surface = wide[name]
    standing = is_any(surface.classes, (*BUILDING_CLASSES, *VEGETATION_CLASSES))
    assert surface.objects.dtype == np.int32
    np.testing.assert_array_equal(surface.objects > 0, standing)
    assert surface.objects.min() == 0


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_roofs_stand_above_the_ground_beside_them(wide, name):
    surface = wide[name]
    building = is_any(surface.classes, BUILDING_CLASSES)
    open_ground = surface.objects == 0
    lowest_ground = ndimage.minimum_filter(np.where(open_ground, surface.height, np.inf), 5)
    beside = building & np.isfinite(lowest_ground)
    above = (surface.height - lowest_ground)[beside]
    assert np.quantile(above, 0.02) > 1.5
    assert 3 < np.median(above) < 40


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_each_water_is_level(wide, name):
    surface = wide[name]
    waters, count = ndimage.label(surface.classes == SurfaceClass.WATER, np.ones((3, 3)))
    for number in range(1, count + 1):
        assert np.ptp(surface.height[waters == number]) == 0


def test_rivers_flow_level_and_below_their_banks():
    # Main streets close together bring rivers close together.
    style = replace(STYLES["old-town"], river=1.0, superblock_m=90.0)
    surface = Town(town_grid(256, 2.2), style, 1).surface(Window(0, 0, 256, 256))
    rivers, count = ndimage.label(surface.classes == SurfaceClass.WATER, np.ones((3, 3)))
    largest = rivers == 1 + np.argmax(ndimage.sum_labels(rivers > 0, rivers, range(1, count + 1)))
    assert largest.sum() > 500
    assert np.ptp(surface.height[largest]) == 0
    beside = ndimage.binary_dilation(largest, iterations=8) & ~is_any(surface.classes, [SurfaceClass.WATER])
    assert np.median(surface.height[beside]) > surface.height[largest][0] + 1
    assert surface.height[beside].min() >= surface.height[largest][0] - 0.2


def test_streets_are_smooth_enough_to_drive():
    surface = Town(town_grid(256, 0.5), STYLES["old-town"], 2).surface(Window(0, 0, 256, 256))
    street = ndimage.binary_erosion(surface.classes == SurfaceClass.ASPHALT, iterations=3)
    assert street.sum() > 1000
    rise = np.abs(np.diff(surface.height, axis=1))[street[:, 1:] & street[:, :-1]]
    assert np.quantile(rise, 0.99) < 0.5 * 0.25  # a slope of 25 %


def test_high_rise_towns_rise_higher_than_suburbs(wide):
    def tallest(surface: Surface) -> float:
        ground = ndimage.minimum_filter(surface.height, 41)
        building = is_any(surface.classes, BUILDING_CLASSES)
        return float((surface.height - ground)[building].max())

    assert tallest(wide["high-rise"]) > tallest(wide["suburb"]) + 5


def test_town_grids_are_north_up_in_metres():
    grid = town_grid((30, 40), 0.5)
    assert (grid.height, grid.width, grid.gsd, grid.crs) == (30, 40, 0.5, "EPSG:32632")
    assert grid.transform[4] < 0
