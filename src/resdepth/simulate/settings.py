"""What can be chosen about a simulated scene. Field docstrings become the JSON schema and the manual."""

from typing import Annotated, Literal

from pydantic import Field

from resdepth.config.schema import LARGEST_SEED, FilePath, NamePart, Section
from resdepth.options import AnyStyle

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
    """How the true surface is read from a file."""

    gsd_m: Annotated[float, Field(ge=0.05, le=10, allow_inf_nan=False)] | None = None
    """Pixel size of the scene in metres. Default: that of a raster; 0.5 for other files, 0.25 for towns."""
    extent: tuple[float, float, float, float] | None = None
    """Part of the file to be taken: xmin, ymin, xmax, ymax in map coordinates. Default: everything."""
    crs: str | None = None
    """CRS of a file that names none, as "EPSG:25832"; in metres."""
    building_mask: FilePath | None = None
    """Raster of the buildings (not 0 = building). Default: the file's classes, or what the shapes tell."""
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
    """How far above and below the true relief heights are looked for."""


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
    """Raster of real reflectances (0 to 1, or integers up to 255) in the scene's CRS. It replaces the made
    texture of what is seen from above; walls, cars and places that it does not cover keep theirs."""
    sensor: SensorSettings = SensorSettings()
    matching: MatchingSettings = MatchingSettings()
    schema_: Annotated[str | None, Field(alias="$schema", exclude=True)] = None
    """Path of the JSON schema, for editors; not used otherwise."""
