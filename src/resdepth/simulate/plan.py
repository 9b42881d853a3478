"""What is photographed, when and from where, and which pairs are matched: drawn by the seed or as asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from resdepth.errors import Problem
from resdepth.geo.grid import Grid
from resdepth.geo.rpc import Direction
from resdepth.simulate.imaging.light import Day, Sun
from resdepth.simulate.settings import SimulateConfig
from resdepth.simulate.shots import Shot, aim

# Pairs outside these base-to-height ratios are not matched: too flat, or too different to look at.
BASE_TO_HEIGHT = (0.1, 1.0)
# The ratio at which matching and precision are balanced best.
BEST_BASE_TO_HEIGHT = 0.4
# Streams of random numbers that must not meet.
_DATES, _VIEWS, _POINTING = 101, 102, 103


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


def find_misfits(config: SimulateConfig, where: str = "") -> list[Problem]:
    """What is wrong between the keys of a configuration; `where` names the file."""
    problems = []
    if bool(config.dates) != bool(config.views):
        missing = "views" if config.dates else "dates"
        problems.append(Problem(f"{where}{missing}", "give both dates and views, or none of them"))
    names = [view.name for view in config.views]
    for number, view in enumerate(config.views):
        place = f"{where}views[{number}]"
        if config.dates and view.date >= len(config.dates):
            problems.append(
                Problem(f"{place}.date", f"found {view.date}; there are {len(config.dates)} dates, from 0 on")
            )
        if names.index(view.name) < number or not view.name:
            problems.append(
                Problem(f"{place}.name", f"found {view.name!r}; give each image a name of its own")
            )
    if len(config.views) == 1:
        problems.append(Problem(f"{where}views", "one view shows no heights; give at least two"))
    if config.matching.block_px % 2 == 0:
        problems.append(
            Problem(f"{where}matching.block_px", f"found {config.matching.block_px}; give an odd number")
        )
    return problems


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
