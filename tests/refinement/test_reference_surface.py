"""The height reference of seamless refinement."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resdepth.geo.windows import Window
from resdepth.refinement.reference_surface import Reference

WHOLE = Window(-37, 1003, 200, 180)
SPAN = 32


def surface(seed: int = 0, voids: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    heights = rng.normal(1500, 5, WHOLE.shape).astype(np.float32)
    heights[rng.random(WHOLE.shape) < voids] = np.nan
    return heights


def reference(window: Window, heights: np.ndarray) -> np.ndarray:
    return Reference(reader(heights), WHOLE, SPAN).over(window)


def reader(heights: np.ndarray) -> Callable[[Window], np.ndarray]:
    def read(window: Window) -> np.ndarray:
        assert WHOLE.contains(window)
        return heights[window.relative_to(WHOLE).slices]

    return read


@given(
    row=st.integers(-37, 140),
    col=st.integers(1003, 1160),
    height=st.integers(1, 23),
    width=st.integers(1, 23),
)
def test_it_is_a_function_of_the_place(row: int, col: int, height: int, width: int) -> None:
    heights = surface(voids=0.2)
    window = Window(row, col, height, width)
    whole = reference(WHOLE, heights)
    np.testing.assert_allclose(
        reference(window, heights), whole[window.relative_to(WHOLE).slices], atol=1e-9, rtol=0
    )


def test_at_a_node_it_is_the_mean_of_the_window_around_without_its_curvature() -> None:
    heights = surface(voids=0.3)
    at = Window(48, 1104, 1, 1).relative_to(WHOLE)  # a multiple of the step, 8

    def mean(row: int, col: int) -> float:
        around = heights[at.row + row - 16 : at.row + row + 16, at.col + col - 16 : at.col + col + 16]
        return float(np.nanmean(around, dtype=np.float64))

    bent = sum(mean(*place) for place in ((-16, 0), (16, 0), (0, -16), (0, 16))) - 4 * mean(0, 0)
    corners = reference(Window(47, 1103, 2, 2), heights)  # their common corner is the node
    np.testing.assert_allclose(corners.mean(), mean(0, 0) - 3 / 16 * bent, atol=0.05)


def test_a_ridge_is_no_lower_and_a_ravine_no_higher_than_it_is() -> None:
    rows, cols = np.mgrid[: WHOLE.height, : WHOLE.width] + 0.5
    bowl = (300 + 0.01 * (rows - 100) ** 2 - 0.02 * (cols - 90) ** 2).astype(np.float32)
    errors = (reference(WHOLE, bowl) - bowl)[48:-48, 48:-48]
    assert abs(errors.mean()) < 0.02, "without the correction: 1.5 (0.02 - 0.01) 8^2 = 1 m"
    assert np.abs(errors).max() < 0.5


def test_a_plane_is_its_own_reference_away_from_the_edges() -> None:
    rows, cols = np.mgrid[: WHOLE.height, : WHOLE.width] + 0.5
    plane = (300 + 0.2 * rows - 0.1 * cols).astype(np.float32)
    found = reference(WHOLE, plane)
    np.testing.assert_allclose(found[40:-40, 40:-40], plane[40:-40, 40:-40], atol=1e-3)


def test_a_constant_surface_far_up_is_its_own_reference_to_the_millimetre() -> None:
    flat = np.full(WHOLE.shape, 8848.123, np.float32)
    flat[50:60] = np.nan
    np.testing.assert_allclose(reference(WHOLE, flat), np.float64(np.float32(8848.123)), atol=1e-6)


def test_far_from_any_height_there_is_none() -> None:
    heights = surface()
    heights[:, 60:] = np.nan
    found = reference(WHOLE, heights)
    assert np.isfinite(found[:, :60]).all()
    assert np.isnan(found[:, 60 + 16 + 8 :]).all()


def test_without_any_height_there_is_none() -> None:
    assert np.isnan(reference(WHOLE, np.full(WHOLE.shape, np.nan, np.float32))).all()


def test_each_height_is_read_once_however_blocks_lie() -> None:
    heights, read = surface(), np.zeros(WHOLE.shape, int)

    def counting(window: Window) -> np.ndarray:
        read[window.relative_to(WHOLE).slices] += 1
        return reader(heights)(window)

    shared = Reference(counting, WHOLE, SPAN)
    for row in range(WHOLE.row, WHOLE.row_stop, 50):
        for col in range(WHOLE.col, WHOLE.col_stop, 60):
            block = Window(row, col, 50, 60)
            # To the bit, because blocks are computed by any process in any order.
            np.testing.assert_array_equal(shared.over(block), reference(block, heights))
    assert (read == 1).all()


def test_what_is_not_kept_any_more_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resdepth.refinement.reference_surface.KEPT_SQUARES", 1)
    heights = surface(voids=0.1)
    forgetful = Reference(reader(heights), WHOLE, SPAN)
    for block in (WHOLE, Window(0, 1050, 9, 9), WHOLE):
        np.testing.assert_array_equal(forgetful.over(block), reference(block, heights))
