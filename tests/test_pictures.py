"""Surfaces and errors as pictures."""

import numpy as np

from resdepth.report.pictures import error_colours, hillshade


def test_errors_are_red_above_the_truth_blue_below_and_grey_where_unknown() -> None:
    colours = error_colours(np.array([[-4.0, 0.0, 4.0, np.nan]], dtype=np.float32), 4.0)
    below, none, above, void = (tuple(int(v) for v in pixel) for pixel in colours[0])
    assert below[2] > below[0] + 50
    assert above[0] > above[2] + 50
    assert min(none) > 240
    assert void == (128, 128, 128)


def test_slopes_towards_the_north_west_are_brighter() -> None:
    rows, cols = np.indices((20, 20), dtype=np.float32)
    towards, away = hillshade(rows + cols, 1.0), hillshade(-rows - cols, 1.0)
    assert towards[10, 10] > 200
    assert away[10, 10] < 50
    np.testing.assert_array_equal(hillshade(np.full((3, 3), np.nan, dtype=np.float32), 1.0), 128)
