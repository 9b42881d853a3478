"""What can be chosen about a simulated scene; what is photographed, from where, and which pairs are matched.

What is not chosen is drawn by the seed. Field docstrings become the JSON schema and the manual.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from resdepth.config.parse import draft
from resdepth.config.schema import LARGEST_SEED, FilePath, NamePart, Section
from resdepth.errors import InputProblems, Problem
from resdepth.geo.grid import Grid
from resdepth.geo.rpc import AffineView, Direction, Rpc, affine_view, fit_rpc, placed
from resdepth.geo.windows import Window
from resdepth.options import AnyStyle
from resdepth.runtime.yamlfiles import read_config
from resdepth.stereo.ortho import to_geographic

Degrees = Annotated[float, Field(ge=0, lt=360, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Metres = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=10000, allow_inf_nan=False)]


class TownSettings(Section):
    """The procedural town (REFERENCE = town)."""

    style: AnyStyle = "any"
    """What is built; `any` lets the seed choose."""
    size_px: Annotated[int, Field(ge=128, le=200000)] = 2048
    """Side of the scene in pixels."""


class SurfaceSettings(Section):
    """How the reference surface is read from a file."""

    gsd_m: Annotated[float, Field(ge=0.05, le=10, allow_inf_nan=False)] | None = None
    """Pixel size of the scene in metres. Default: that of a raster; 0.5 for other files, 0.25 for towns."""
    extent: tuple[float, float, float, float] | None = None
    """Part of the file to be taken: xmin, ymin, xmax, ymax in map coordinates. Default: everything."""
    crs: str | None = None
    """CRS of a file that names none, as "EPSG:25832"; in metres."""
    building_mask: FilePath | None = None
    """Raster of the buildings (not 0 = building). Default: by the file's classes, or by the heights."""
    water_mask: FilePath | None = None
    """Raster of water."""
    forest_mask: FilePath | None = None
    """Raster of forest."""
    ground: Literal["tin", "flat", "sloped"] = "tin"
    """Ground of a CityJSON model: its own terrain, or a plane below its lowest wall."""
    ground_slope_deg: Annotated[float, Field(ge=0, le=45, allow_inf_nan=False)] = 0.0
    """Slope of a `sloped` ground."""
    ground_aspect_deg: Degrees = 0.0
    """Direction in which a `sloped` ground falls, clockwise from north."""


class DateSettings(Section):
    """A date on which images are taken."""

    sun_azimuth_deg: Degrees
    """Direction of the sun, clockwise from north."""
    sun_elevation_deg: Annotated[float, Field(ge=10, le=90, allow_inf_nan=False)]
    """Height of the sun above the horizon."""
    winter: Share = 0.0
    """0 in summer, 1 in winter: vegetation gets darker."""
    sky: Share = 0.22
    """Light of the sky, as a share of that of the sun."""
    cars: Share = 0.35
    """Share of the parking places that are taken."""


class ViewSettings(Section):
    """An image that is taken."""

    name: NamePart
    """Name of the image."""
    date: Annotated[int, Field(ge=0, le=1000)]
    """Number of the date in `dates`, from 0."""
    azimuth_deg: Degrees
    """Direction of the satellite seen from the ground, clockwise from north."""
    incidence_deg: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]
    """Angle between the ray and the vertical, on the ground."""


class SensorSettings(Section):
    """The satellite and its camera."""

    gsd_m: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)] = 0.5
    """Pixel size at the nadir, in metres."""
    orbit_km: Annotated[float, Field(ge=100, le=2000, allow_inf_nan=False)] = 617.0
    """Height of the orbit: pixels grow with the distance."""
    heading_deg: Degrees = 192.0
    """Direction of flight; image rows run along it."""
    pointing_px: Annotated[float, Field(ge=0, le=20, allow_inf_nan=False)] = 0.02
    """Spread of the pointing error of each image, in pixels: by so much its RPC is off. The default is what
    an adjustment with many ground control points leaves, a few centimetres of height: the method demands a
    DSM that is co-registered. Tie points alone leave a tenth of a pixel, and no adjustment some pixels."""
    blur_px: Annotated[float, Field(ge=0.05, le=5, allow_inf_nan=False)] = 0.45
    """Blur of the optics (sigma in pixels), beyond the pixel's own size."""
    gain: Annotated[float, Field(gt=0, le=100000, allow_inf_nan=False)] = 2600.0
    """Grey values of a white surface that faces the sun."""
    haze: NotNegative = 90.0
    """Grey values that the air adds."""
    electrons: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 6.0
    """Electrons per grey value: the fewer, the stronger the shot noise."""
    read_noise: NotNegative = 3.0
    """Spread of the electronics' noise, in grey values."""


class MatchingSettings(Section):
    """How the initial DSM is made from the images."""

    pairs: Annotated[int, Field(ge=1, le=100)] = 3
    """How many stereo pairs are fused, the best first."""
    block_px: Annotated[int, Field(ge=3, le=21)] = 5
    """Side of the blocks that are compared."""
    margin_m: Metres = 15.0
    """How far above and below the relief heights are looked for."""


class SimulateConfig(Section):
    """Configuration of `resdepth simulate`."""

    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    """Of everything random. The same seed gives the same bytes."""
    town: TownSettings = TownSettings()
    reference: SurfaceSettings = SurfaceSettings()
    dates: tuple[DateSettings, ...] = ()
    """The dates. Default: two, drawn from the seed."""
    views: tuple[ViewSettings, ...] = ()
    """The images. Default: five, three on the first date and two on the second, drawn from the seed."""
    texture: FilePath | None = None
    """Raster of real reflectances (0 to 1, or integers up to 255) in the scene's CRS. It replaces the drawn
    texture of what is seen from above; walls, cars and places that it does not cover keep theirs."""
    sensor: SensorSettings = SensorSettings()
    matching: MatchingSettings = MatchingSettings()
    schema_: Annotated[str | None, Field(alias="$schema", exclude=True)] = None
    """Path of the JSON schema, for editors; not used otherwise."""


def requested(given: Path | Mapping[str, Any] | None, options: Mapping[str, Any]) -> SimulateConfig:
    """The configuration in a file (JSON, YAML) or a mapping (None: all defaults), with options put over it.

    Args:
        given: relative paths in a file lead from where it lies.
        options: by key, "town.style"; they win.

    Raises:
        InputProblems: with everything that is wrong.
    """
    path = given if isinstance(given, Path) else None
    content = read_config(path) if path else json.loads(json.dumps(given or {}, default=str))
    if "truth" in content:  # the name that the section had before
        content.setdefault("reference", content.pop("truth"))
    for key, value in options.items():
        section, _, name = key.rpartition(".")
        place = content.setdefault(section, {}) if section else content
        if isinstance(place, dict):
            place[name] = value
    where = f"{path}: " if path else ""
    config, problems = draft(SimulateConfig, content, where, named_in=path)
    problems = problems or simulate_rules(config, where)
    if problems:
        raise InputProblems(problems)
    return config


def simulate_rules(config: SimulateConfig, where: str = "") -> list[Problem]:
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
