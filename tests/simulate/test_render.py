"""Light, water and walls."""

from dataclasses import replace

import numpy as np

from resdepth.geo.grid import Grid
from resdepth.geo.rpc import Direction
from resdepth.geo.windows import Window
from resdepth.simulate.plan import Day, Shot, Sun, aim
from resdepth.simulate.render import (
    Sensor,
    expose,
    in_shadow,
    lit_surface,
    shadow_reach_m,
)
from resdepth.simulate.surface import HeldSurface, Look, Surface, SurfaceClass, mirrored

GSD = 0.5
DAY = Day(0, Sun(180.0, 50.0), cars=0.0)
WHOLE = Window(0, 0, 120, 120)


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
