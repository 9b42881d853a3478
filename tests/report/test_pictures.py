"""Surfaces and errors as pictures."""

from pathlib import Path

import numpy as np

from resdepth.geo.grid import Sides
from resdepth.report.pictures import error_colours, hillshade
from resdepth.report.plots import write_sky_plot

SQUARE = Sides(1.0, 1.0)


def test_errors_are_red_above_the_reference_blue_below_and_grey_where_unknown() -> None:
    colours = error_colours(np.array([[-4.0, 0.0, 4.0, np.nan]], dtype=np.float32), 4.0)
    below, none, above, void = (tuple(int(v) for v in pixel) for pixel in colours[0])
    assert below[2] > below[0] + 50
    assert above[0] > above[2] + 50
    assert min(none) > 240
    assert void == (128, 128, 128)


def test_slopes_towards_the_north_west_are_brighter() -> None:
    rows, cols = np.indices((20, 20), dtype=np.float32)
    towards, away = hillshade(rows + cols, SQUARE), hillshade(-rows - cols, SQUARE)
    assert towards[10, 10] > 200
    assert away[10, 10] < 50
    np.testing.assert_array_equal(hillshade(np.full((3, 3), np.nan, dtype=np.float32), SQUARE), 128)


def test_relief_of_pixels_that_are_not_square_is_that_of_the_ground() -> None:
    rows, cols = np.mgrid[:8, :8].astype(np.float32)
    square = hillshade(rows + cols, SQUARE)
    np.testing.assert_array_equal(hillshade(2 * rows + cols, Sides(2.0, 1.0)), square)


def test_the_sky_plot_shows_the_sun_where_it_is_known(tmp_path: Path) -> None:
    directions, pairs = {"a": (10.0, 14.0), "b": (190.0, 10.0)}, [("a", "b")]
    suns = ({}, {"c": (150.0, 50.0)}, {"a": (150.0, 50.0)}, {"a": (150.0, 88.0)})
    plain, unknown, low, high = (
        write_sky_plot(tmp_path / f"{number}.png", directions, pairs, one).read_bytes()
        for number, one in enumerate(suns)
    )
    assert plain == unknown
    assert len({plain, low, high}) == 3
