"""How surfaces look: randomness that belongs to a place, cars, days, water, walls."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resdepth.geo.grid import Grid
from resdepth.geo.rpc import Direction
from resdepth.geo.windows import Window
from resdepth.simulate.imaging.cars import HEIGHT_M, draw_cars
from resdepth.simulate.imaging.light import Day, Look, Sun, in_shadow, lit_surface, mirrored
from resdepth.simulate.imaging.render import Sensor, expose
from resdepth.simulate.noise import hashed, pixel_noise, smooth_noise
from resdepth.simulate.shots import Shot, aim
from resdepth.simulate.surface import HeldSurface, Surface, SurfaceClass

GSD = 0.5
DAY = Day(0, Sun(180.0, 50.0), cars=0.0)
WHOLE = Window(0, 0, 120, 120)


def truth_of(height: np.ndarray, classes: np.ndarray) -> HeldSurface:
    grid = Grid(*height.shape, (GSD, 0.0, 5e5, 0.0, -GSD, 5.2e6), "EPSG:32632", "EPSG:32632")
    objects = np.where(classes >= SurfaceClass.ROOF_TILES, 7, 0).astype(np.int32)
    surface = Surface(
        height.astype(np.float32), np.ones(height.shape, bool), classes.astype(np.uint8), objects
    )
    return HeldSurface(grid, surface)


def flat(kind: SurfaceClass) -> HeldSurface:
    return truth_of(np.full(WHOLE.shape, 100.0), np.full(WHOLE.shape, kind))


WINDOWS = st.builds(
    Window, st.integers(-500, 500), st.integers(-500, 500), st.integers(1, 60), st.integers(1, 60)
)


@settings(max_examples=40)
@given(WINDOWS, st.floats(0.5, 40), st.integers(0, 2**64 - 1))
def test_noise_belongs_to_the_place(window: Window, spacing: float, seed: int) -> None:
    outer = Window(window.row - 7, window.col - 3, window.height + 12, window.width + 9)
    for noise in (smooth_noise(outer, spacing, seed), pixel_noise(outer, seed)):
        assert noise.min() >= -1
        assert noise.max() <= 1
    inner = window.relative_to(outer).slices
    np.testing.assert_array_equal(
        smooth_noise(outer, spacing, seed)[inner], smooth_noise(window, spacing, seed)
    )


def test_every_bit_of_a_seed_counts() -> None:
    numbers = np.arange(1000)
    seen = {hashed(2**bit, numbers).tobytes() for bit in range(64)}
    assert len(seen) == 64
    bits = np.unpackbits(hashed(3, numbers).view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.02


def test_cars_stand_on_asphalt_along_the_road_and_elsewhere_another_day() -> None:
    classes = np.full((200, 200), SurfaceClass.GRASS, dtype=np.uint8)
    classes[90:110] = SurfaceClass.ASPHALT  # a road from west to east
    window = Window(0, 0, 200, 200)
    rise, paint = draw_cars(classes, window, 0.25, seed=1, date=0, density=0.8)
    assert rise.max() == np.float32(HEIGHT_M)
    assert (rise[classes != SurfaceClass.ASPHALT] == 0).all()
    assert ((paint > 0) == (rise > 0)).all()
    rows, cols = np.nonzero(rise > 0)
    runs = [np.ptp(cols[rows == row]) for row in np.unique(rows)]
    assert len(runs) > 5
    length = np.abs(np.diff((rise > 0).astype(int), axis=1)).sum()
    breadth = np.abs(np.diff((rise > 0).astype(int), axis=0)).sum()
    assert length < breadth  # longer along the road than across it
    another = draw_cars(classes, window, 0.25, seed=1, date=1, density=0.8)[0]
    assert (another != rise).mean() > 0.02
    assert not draw_cars(classes, window, 0.25, seed=1, date=0, density=0.0)[0].any()


def test_beyond_its_edge_a_scene_is_mirrored() -> None:
    rng = np.random.default_rng(0)
    truth = truth_of(rng.uniform(0, 9, WHOLE.shape), np.zeros(WHOLE.shape))
    seen = mirrored(truth, Window(-20, 100, 60, 50)).height
    expected = np.pad(truth.whole.height, 60, mode="symmetric")[40:100, 160:210]
    np.testing.assert_array_equal(seen, expected)


def test_slopes_that_face_the_sun_are_brighter_and_shadows_dark() -> None:
    rows = np.indices(WHOLE.shape)[0].astype(float)
    paved = np.full(WHOLE.shape, SurfaceClass.PAVING)

    def brightness(height: np.ndarray) -> float:
        lit = lit_surface(truth_of(height, paved), WHOLE, DAY, Look(1), relief_m=40.0)
        return float(lit.radiance.mean())

    # The sun stands in the south, where rows grow.
    assert (
        brightness(100 - 0.2 * rows) > 1.1 * brightness(100 + 0 * rows) > 1.2 * brightness(100 + 0.2 * rows)
    )
    block = np.full(WHOLE.shape, 100.0)
    block[60:64, 40:80] = 112
    shaded = in_shadow(truth_of(block, paved), WHOLE, DAY, relief_m=12.0)
    assert shaded[45:58, 45:75].mean() > 0.9  # north of the wall
    assert not shaded[70:].any()
    lit = lit_surface(truth_of(block, paved), WHOLE, DAY, Look(1), relief_m=12.0)
    assert lit.radiance[45:58, 45:75].mean() < 0.4 * lit.radiance[70:].mean()


def shown(truth: HeldSurface, number: int, direction: Direction, day: Day = DAY) -> np.ndarray:
    camera = aim(direction, grid=truth.grid, heights=(99.0, 130.0), gsd_m=GSD)
    shot = Shot("a", number, day, camera)
    return expose(truth, shot, Sensor(GSD), camera.whole, heights=(99.0, 130.0), look=Look(1)).astype(float)


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
    truth = truth_of(height, classes)
    slanted, above = (shown(truth, 0, Direction(180.0, incidence)) for incidence in (35.0, 0.0))
    assert slanted[slanted > 0].std() != above[above > 0].std()
    # The south wall, 25 m high, fills a strip that the nadir view lacks: its storeys alternate.
    camera = aim(Direction(180.0, 35.0), grid=truth.grid, heights=(99.0, 130.0), gsd_m=GSD)
    x, y = (np.full(100, value) for value in truth.grid.map_position(80.2, 60.0))
    rows, cols = camera.view.project(x, y, np.linspace(103, 122, 100))
    profile = slanted[np.rint(rows).astype(int), np.rint(cols).astype(int)]
    crossings = np.abs(np.diff(np.sign(profile - profile.mean()))).sum() / 2
    assert crossings >= 4


def test_the_shadow_of_a_mountain_does_not_make_blocks_larger() -> None:
    low_sun = Sun(180.0, 12.0)
    assert Look(1).shadow_reach_m(low_sun, 20.0) == 20.0 * low_sun.metres_per_metre
    assert Look(1).shadow_reach_m(low_sun, 3000.0) == Look(1).shadow_reach_m(low_sun, 300.0) == 250.0
    lit = lit_surface(flat(SurfaceClass.GRASS), Window(0, 0, 8, 8), DAY, Look(1), relief_m=3000.0)
    assert lit.radiance.shape == (8, 8)
    assert (lit.radiance > 0).all()
