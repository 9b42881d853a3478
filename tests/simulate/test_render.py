"""Rays against a slow search that asks each by itself; light, water and walls."""

from dataclasses import replace

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from resdepth.geo.grid import Grid
from resdepth.geo.rpc import Direction
from resdepth.geo.windows import Window
from resdepth.simulate.plan import Day, Shot, Sun, aim
from resdepth.simulate.render import (
    Sensor,
    expose,
    first_hits,
    in_shadow,
    inverted,
    lit_surface,
    profiles_around,
    shadow_heights,
    shadow_reach_m,
    shifted,
    warped,
)
from resdepth.simulate.surface import HeldSurface, Look, Surface, SurfaceClass, mirrored

GSD = 0.5
DAY = Day(0, Sun(180.0, 50.0), cars=0.0)
WHOLE = Window(0, 0, 120, 120)
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


def reference_of(height: np.ndarray, classes: np.ndarray) -> HeldSurface:
    grid = Grid(*height.shape, (GSD, 0.0, 5e5, 0.0, -GSD, 5.2e6), "EPSG:32632", "EPSG:32632")
    objects = np.where(classes >= SurfaceClass.ROOF_TILES, 7, 0).astype(np.int32)
    surface = Surface(
        height.astype(np.float32), np.ones(height.shape, bool), classes.astype(np.uint8), objects
    )
    return HeldSurface(grid, surface)


def flat(kind: SurfaceClass) -> HeldSurface:
    return reference_of(np.full(WHOLE.shape, 100.0), np.full(WHOLE.shape, kind))


def test_beyond_its_edge_a_scene_is_mirrored() -> None:
    rng = np.random.default_rng(0)
    reference = reference_of(rng.uniform(0, 9, WHOLE.shape), np.zeros(WHOLE.shape))
    seen = mirrored(reference, Window(-20, 100, 60, 50)).height
    expected = np.pad(reference.whole.height, 60, mode="symmetric")[40:100, 160:210]
    np.testing.assert_array_equal(seen, expected)


def test_slopes_that_face_the_sun_are_brighter_and_shadows_dark() -> None:
    rows = np.indices(WHOLE.shape)[0].astype(float)
    paved = np.full(WHOLE.shape, SurfaceClass.PAVING)

    def brightness(height: np.ndarray) -> float:
        lit = lit_surface(reference_of(height, paved), WHOLE, DAY, Look(1), relief_m=40.0)
        return float(lit.radiance.mean())

    # The sun stands in the south, where rows grow.
    assert (
        brightness(100 - 0.2 * rows) > 1.1 * brightness(100 + 0 * rows) > 1.2 * brightness(100 + 0.2 * rows)
    )
    block = np.full(WHOLE.shape, 100.0)
    block[60:64, 40:80] = 112
    shaded = in_shadow(reference_of(block, paved), WHOLE, DAY, relief_m=12.0)
    assert shaded[45:58, 45:75].mean() > 0.9  # north of the wall
    assert not shaded[70:].any()
    lit = lit_surface(reference_of(block, paved), WHOLE, DAY, Look(1), relief_m=12.0)
    assert lit.radiance[45:58, 45:75].mean() < 0.4 * lit.radiance[70:].mean()


def shown(reference: HeldSurface, number: int, direction: Direction, day: Day = DAY) -> np.ndarray:
    camera = aim(direction, grid=reference.grid, heights=(99.0, 130.0), gsd_m=GSD)
    shot = Shot("a", number, day, camera)
    return expose(reference, shot, Sensor(GSD), camera.whole, heights=(99.0, 130.0), look=Look(1)).astype(
        float
    )


def test_water_never_looks_the_same_twice_and_grass_does() -> None:
    def likeness(kind: SurfaceClass) -> float:
        one, other = (shown(flat(kind), number, Direction(20.0, 10.0)) for number in (0, 1))
        middle = (slice(60, -60), slice(60, -60))
        return float(np.corrcoef(one[middle].ravel(), other[middle].ravel())[0, 1])

    assert likeness(SurfaceClass.GRASS) > 0.9
    assert likeness(SurfaceClass.WATER) < 0.6


def test_winter_darkens_grass_and_leaves_roofs_alone() -> None:
    winter = replace(DAY, winter=1.0)
    for kind, darker in ((SurfaceClass.GRASS, True), (SurfaceClass.ROOF_METAL, False)):
        summer, later = (shown(flat(kind), 0, Direction(20.0, 10.0), day).mean() for day in (DAY, winter))
        assert bool(later < 0.95 * summer) is darker


def test_walls_have_windows_that_no_view_from_above_shows() -> None:
    height = np.full(WHOLE.shape, 100.0)
    height[40:80, 40:80] = 125
    classes = np.full(WHOLE.shape, SurfaceClass.PAVING)
    classes[40:80, 40:80] = SurfaceClass.ROOF_FLAT
    reference = reference_of(height, classes)
    slanted, above = (shown(reference, 0, Direction(180.0, incidence)) for incidence in (35.0, 0.0))
    assert slanted[slanted > 0].std() != above[above > 0].std()
    # The south wall, 25 m high, fills a strip that the nadir view lacks: its storeys alternate.
    camera = aim(Direction(180.0, 35.0), grid=reference.grid, heights=(99.0, 130.0), gsd_m=GSD)
    x, y = (np.full(100, value) for value in reference.grid.map_position(80.2, 60.0))
    rows, cols = camera.view.project(x, y, np.linspace(103, 122, 100))
    profile = slanted[np.rint(rows).astype(int), np.rint(cols).astype(int)]
    crossings = np.abs(np.diff(np.sign(profile - profile.mean()))).sum() / 2
    assert crossings >= 4


def test_the_shadow_of_a_mountain_does_not_make_blocks_larger() -> None:
    low_sun = Sun(180.0, 12.0)
    assert shadow_reach_m(low_sun, 20.0) == 20.0 * low_sun.metres_per_metre
    assert shadow_reach_m(low_sun, 3000.0) == shadow_reach_m(low_sun, 300.0) == 250.0
    lit = lit_surface(flat(SurfaceClass.GRASS), Window(0, 0, 8, 8), DAY, Look(1), relief_m=3000.0)
    assert lit.radiance.shape == (8, 8)
    assert (lit.radiance > 0).all()
