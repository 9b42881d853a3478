"""Surfaces and errors as pictures."""

import numpy as np

from resdepth.geo.grid import Sides
from resdepth.report.pictures import error_colours, hillshade

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
