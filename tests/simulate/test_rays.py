"""Rays against a slow search that asks each by itself."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from resdepth.geo.grid import Grid
from resdepth.simulate.rays import (
    first_hits,
    inverted,
    profiles_around,
    shadow_heights,
    shifted,
    warped,
)

HEIGHTS = arrays(np.float32, (40, 3), elements=st.floats(0, 12, width=16))
SLOPES = st.floats(0.05, 2.0)


def surface_at(profile: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.interp(row, np.arange(len(profile)), profile)


@settings(max_examples=60, deadline=None)
@given(HEIGHTS, SLOPES)
def test_a_hit_lies_on_its_ray_and_nothing_stands_before_it(heights: np.ndarray, slope: float) -> None:
    hits = first_hits(heights, slope, skipped=0, n_rows=40)
    for col in range(heights.shape[1]):
        profile = heights[:, col].astype(np.float64)
        at = hits.row[:, col] + hits.share[:, col]
        z = hits.of(heights)[:, col]
        reach = at + z * slope
        wanted = np.arange(40)
        # Rays that meet the surface at all: those at the ends look beyond the profile.
        met = (wanted > profile[0] * slope + 1e-3) & (
            wanted <= np.maximum.accumulate(np.arange(40) + profile * slope)[-1]
        )
        np.testing.assert_allclose(reach[met], wanted[met], atol=2e-3)
        for ray in wanted[met]:
            before = np.linspace(0, at[ray], 400, endpoint=False)[:-2]
            above = (ray - before) / slope  # the ray's height there
            assert (surface_at(profile, before) <= above + 2e-2 / slope).all()


def test_what_a_wall_hides_is_never_seen_and_the_wall_itself_is() -> None:
    heights = np.zeros((60, 1), dtype=np.float32)
    heights[20:25] = 10
    hits = first_hits(heights, 1.0, skipped=0, n_rows=60)
    rows = hits.row[:, 0] + hits.share[:, 0]
    # The ground behind the block, as far as the block is high, is hidden.
    assert not ((rows > 25.01) & (rows < 34.9)).any()
    walls = hits.rise[:, 0] > 5
    assert walls.sum() >= 9
    assert set(hits.row[walls, 0]) == {19}


@settings(max_examples=60, deadline=None)
@given(HEIGHTS, SLOPES)
def test_shadows_reach_as_high_as_the_highest_of_the_lines_from_what_stands_before(
    heights: np.ndarray, slope: float
) -> None:
    shadow = shadow_heights(heights, slope)
    rows = np.arange(len(heights))
    for row in range(1, len(heights)):
        lines = heights[:row] - (row - rows[:row, None]) / slope
        np.testing.assert_allclose(shadow[row], lines.max(axis=0), atol=1e-2)


def test_a_post_throws_a_shadow_of_its_length() -> None:
    heights = np.zeros((50, 1), dtype=np.float32)
    heights[10] = 8
    dark = heights[:, 0] < shadow_heights(heights, 2.0)[:, 0] - 1e-4
    assert dark.nonzero()[0].tolist() == list(range(11, 26))


@given(st.floats(0, 6.28), st.integers(2, 30))
def test_a_frame_holds_what_it_was_made_around(angle: float, n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.uniform(-100, 100, (2, n)) + 5e5
    frame = profiles_around(x, y, (float(np.cos(angle)), float(np.sin(angle))), 0.5)
    row, col = frame.positions(x, y)
    assert row.min() > -1e-3
    assert col.min() > -1e-3
    assert row.max() < frame.n_rows
    assert col.max() < frame.n_cols
    longer = frame.with_rows_before(7).with_rows_after(3)
    np.testing.assert_allclose(longer.positions(x, y)[0], row + 7, atol=1e-3)
    rows, cols = frame.positions(*frame.corners())
    np.testing.assert_allclose(rows, np.array([0, 0, 1, 1]) * (frame.n_rows - 1), atol=1e-3)
    np.testing.assert_allclose(cols, np.array([0, 1, 0, 1]) * (frame.n_cols - 1), atol=1e-3)


def test_a_raster_is_seen_in_a_turned_frame_and_back() -> None:
    rng = np.random.default_rng(0)
    grid = Grid(80, 90, (0.5, 0.0, 1000.0, 0.0, -0.5, 2000.0))
    values = cv2.GaussianBlur(rng.normal(size=(80, 90)).astype(np.float32), (0, 0), 4)
    corners = np.array([grid.map_position(row, col) for row in (0, 80) for col in (0, 90)])
    frame = profiles_around(*corners.T, (0.6, -0.8), 0.5)
    matrix = frame.pixels_of(grid)
    seen = warped(values, matrix, (frame.n_rows, frame.n_cols))
    back = warped(seen, shifted(inverted(matrix), 30, 20), (20, 30))
    np.testing.assert_allclose(back, values[30:50, 20:50], atol=0.02 * np.ptp(values))
    row, col = frame.positions(*(np.array([v]) for v in grid.map_position(40.5, 60.5)))
    at = matrix @ [float(col[0]), float(row[0]), 1]
    np.testing.assert_allclose(at, (60, 40), atol=1e-3)
