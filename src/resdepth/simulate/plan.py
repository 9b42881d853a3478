"""What is photographed, when and from where, and which pairs are matched: drawn by the seed or as asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from resdepth.geo.grid import Grid
from resdepth.geo.rpc import AffineView, Direction, Rpc, affine_view, fit_rpc, placed
from resdepth.geo.windows import Window
from resdepth.simulate.settings import SimulateConfig
from resdepth.stereo.ortho import to_geographic

# An image shows this much more than the scene.
MARGIN_M = 20.0
# The RPC is fitted to a lattice of so many points (x, y, height), reaching this far beyond the scene.
LATTICE = (9, 9, 5)
LATTICE_MARGIN_M = 60.0
# Pairs outside these base-to-height ratios are not matched: too flat, or too different to look at.
BASE_TO_HEIGHT = (0.1, 1.0)
# The ratio at which matching and precision are balanced best.
BEST_BASE_TO_HEIGHT = 0.4
# Streams of random numbers that must not meet.
_DATES, _VIEWS, _POINTING = 101, 102, 103


@dataclass(frozen=True)
class Sun:
    """Where the sun stands.

    Attributes:
        azimuth_deg: clockwise from north.
        elevation_deg: above the horizon.
    """

    azimuth_deg: float
    elevation_deg: float

    @property
    def vector(self) -> tuple[float, float, float]:
        """Unit vector (x, y, z) towards it."""
        azimuth, elevation = np.radians([self.azimuth_deg, self.elevation_deg])
        return (
            float(np.sin(azimuth) * np.cos(elevation)),
            float(np.cos(azimuth) * np.cos(elevation)),
            float(np.sin(elevation)),
        )

    @property
    def metres_per_metre(self) -> float:
        """Length of the shadow of a metre."""
        return float(1 / np.tan(np.radians(self.elevation_deg)))


@dataclass(frozen=True)
class Day:
    """What a date brings.

    Attributes:
        number: of the date in the scene; random things follow from it.
        sun: where it stands.
        winter: 0 in summer, 1 in winter: the darkness of vegetation.
        sky: light from the sky as a share of that of the sun.
        cars: share of the parking places taken.
    """

    number: int
    sun: Sun
    winter: float = 0.0
    sky: float = 0.22
    cars: float = 0.35


@dataclass(frozen=True)
class Camera:
    """A camera that holds a scene.

    Attributes:
        direction: from where it looks.
        view: where it shows a point.
        rpc: how the image's tags describe it, pointing error included.
        height, width: of the image in pixels.
    """

    direction: Direction
    view: AffineView
    rpc: Rpc
    height: int
    width: int

    @property
    def whole(self) -> Window:
        """All pixels of the image."""
        return Window(0, 0, self.height, self.width)


@dataclass(frozen=True)
class Shot:
    """One image to be taken.

    Attributes:
        name: of the image.
        number: in the scene; its noise follows from it.
        day: the date.
        camera: from where, and how it is described.
    """

    name: str
    number: int
    day: Day
    camera: Camera


def aim(
    direction: Direction,
    *,
    grid: Grid,
    heights: tuple[float, float],
    gsd_m: float,
    pointing_px: tuple[float, float] = (0.0, 0.0),
) -> Camera:
    """Point a camera at a scene so that the image holds all of it.

    Args:
        direction: from where.
        grid: of the scene.
        heights: lowest and highest, metres.
        gsd_m: of the sensor, at the nadir.
        pointing_px: (row, col), where a point is by the RPC, minus where it is.
    """
    x0, y1 = grid.map_position(0, 0)
    x1, y0 = grid.map_position(grid.height, grid.width)
    x, y, z = (v.ravel() for v in np.meshgrid([x0, x1], [y0, y1], list(heights), indexing="ij"))
    view = placed(affine_view(direction, gsd_m), x0, y0, heights[0], at=(0.0, 0.0))
    rows, cols = view.project(x, y, z)
    margin = MARGIN_M / gsd_m
    first = (float(margin - np.floor(rows.min())), float(margin - np.floor(cols.min())))
    view = placed(view, x0, y0, heights[0], at=first)
    height, width = (int(np.ceil(np.ptp(v) + 2 * margin)) + 1 for v in (rows, cols))
    return Camera(direction, view, describing(view, grid, heights, pointing_px), height, width)


def describing(
    view: AffineView, grid: Grid, heights: tuple[float, float], pointing_px: tuple[float, float]
) -> Rpc:
    """The RPC of a view of a scene, off by a pointing error (row, col)."""
    x0, y1 = grid.map_position(0, 0)
    x1, y0 = grid.map_position(grid.height, grid.width)
    margin = LATTICE_MARGIN_M
    axes = [
        np.linspace(x0 - margin, x1 + margin, LATTICE[0]),
        np.linspace(y0 - margin, y1 + margin, LATTICE[1]),
        np.linspace(heights[0] - margin, heights[1] + margin, LATTICE[2]),
    ]
    x, y, z = (v.ravel() for v in np.meshgrid(*axes, indexing="ij"))
    rows, cols = view.project(x, y, z)
    lon, lat = to_geographic(grid.crs, x, y)
    return fit_rpc(lon, lat, z, rows + pointing_px[0], cols + pointing_px[1])


@dataclass(frozen=True)
class Pair:
    """Two images of a scene.

    Attributes:
        first, second: their places in the list of shots.
        base_to_height: distance of the two rays over the height above ground.
        same_date: whether the light is the same.
        cost: the lower, the better the pair suits matching.
    """

    first: int
    second: int
    base_to_height: float
    same_date: bool
    cost: float


def days(config: SimulateConfig) -> tuple[Day, ...]:
    """The dates: those of the configuration, or two of different seasons."""
    if config.dates:
        return tuple(
            Day(number, Sun(one.sun_azimuth_deg, one.sun_elevation_deg), one.winter, one.sky, one.cars)
            for number, one in enumerate(config.dates)
        )
    rng = np.random.default_rng([config.seed, _DATES])
    found = []
    for number in range(2):
        # Satellites pass in the late morning: the sun stands in the south-east.
        azimuth, elevation = rng.uniform(135, 178), rng.uniform(30, 62)
        winter = float(np.clip((52 - elevation) / 25, 0, 1))
        sky, cars = rng.uniform(0.16, 0.30), rng.uniform(0.2, 0.5)
        found.append(Day(number, Sun(float(azimuth), float(elevation)), winter, float(sky), float(cars)))
    return tuple(found)


def directions(config: SimulateConfig) -> tuple[tuple[str, int, Direction], ...]:
    """Name, date and direction of each image."""
    orbit, heading = config.sensor.orbit_km, config.sensor.heading_deg
    if config.views:
        return tuple(
            (one.name, one.date, Direction(one.azimuth_deg, one.incidence_deg, orbit, heading))
            for one in config.views
        )
    rng = np.random.default_rng([config.seed, _VIEWS])
    found = []
    # Along the track: looking back, down and ahead; the satellite is rolled aside by some degrees.
    for date, pitches in enumerate([(14.0, 2.0, -13.0), (9.0, -9.0)]):
        roll = rng.uniform(-13, 13)
        for letter, pitch in zip("abc", pitches, strict=False):
            ahead, aside = np.tan(np.radians([pitch + rng.uniform(-4, 4), roll + rng.uniform(-1, 1)]))
            azimuth = (heading + np.degrees(np.arctan2(aside, ahead))) % 360
            incidence = np.degrees(np.arctan(np.hypot(ahead, aside)))
            direction = Direction(float(azimuth), float(incidence), orbit, heading)
            found.append((f"date{date + 1}{letter}", date, direction))
    return tuple(found)


def shots(config: SimulateConfig, grid: Grid, heights: tuple[float, float]) -> tuple[Shot, ...]:
    """The images, aimed at a scene whose lowest and highest points are given."""
    rng = np.random.default_rng([config.seed, _POINTING])
    dates = days(config)
    taken = []
    for number, (name, date, direction) in enumerate(directions(config)):
        row, col = rng.normal(0.0, config.sensor.pointing_px, 2) if config.sensor.pointing_px else (0.0, 0.0)
        pointing = (float(row), float(col))
        camera = aim(direction, grid=grid, heights=heights, gsd_m=config.sensor.gsd_m, pointing_px=pointing)
        taken.append(Shot(name, number, dates[date], camera))
    return tuple(taken)


def ranked_pairs(shots: Sequence[Shot]) -> tuple[Pair, ...]:
    """All pairs whose heights can be measured, those that match best first."""
    found = []
    for i, j in combinations(range(len(shots)), 2):
        one, other = shots[i], shots[j]
        apart = np.subtract(one.camera.view.shift_per_metre, other.camera.view.shift_per_metre)
        ratio = float(np.hypot(*apart))
        if not BASE_TO_HEIGHT[0] <= ratio <= BASE_TO_HEIGHT[1]:
            continue
        same = one.day.number == other.day.number
        slant = (one.camera.direction.incidence_deg + other.camera.direction.incidence_deg) / 60
        cost = abs(float(np.log(ratio / BEST_BASE_TO_HEIGHT))) + slant + (0.0 if same else 1.0)
        found.append(Pair(i, j, ratio, same, cost))
    return tuple(sorted(found, key=lambda pair: (pair.cost, pair.first, pair.second)))
