"""What can be chosen about a simulated scene. Field docstrings become the JSON schema and the manual."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from resdepth.config.parse import draft
from resdepth.config.schema import LARGEST_SEED, FilePath, NamePart, Section
from resdepth.errors import InputProblems, Problem
from resdepth.options import AnyStyle
from resdepth.runtime.jsonfiles import read_json

Degrees = Annotated[float, Field(ge=0, lt=360, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Metres = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=10000, allow_inf_nan=False)]


class TownSettings(Section):
    """The procedural town (TRUTH = town)."""

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
    truth: SurfaceSettings = SurfaceSettings()
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
    """The configuration in a JSON file or a mapping (None: all defaults), with options put over it.

    Args:
        given: relative paths in a file lead from where it lies.
        options: by key, "town.style"; they win.

    Raises:
        InputProblems: with everything that is wrong.
    """
    path = given if isinstance(given, Path) else None
    content = read_json(path) if path else json.loads(json.dumps(given or {}, default=str))
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
