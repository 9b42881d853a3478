"""When an image was taken, and how the sun stood, as its metadata state them.

GDAL reads the files that sensors deliver (DIMAP of Pleiades and SPOT, .IMD of WorldView, and others) as tags
of the domains IMAGERY and IMD; a GeoTIFF may have tags of its own.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resdepth.geo.raster import read_tags

TAKEN = ("acquisitiondatetime", "acquisitiondate")
SUN_AZIMUTH = ("sunazimuth", "sunazimuthangle", "meansunaz", "sunaz")
SUN_ELEVATION = ("sunelevation", "sunelevationangle", "meansunel", "sunel")
"""Last parts of the names of tags, in small letters alone."""


def read_acquisition(path: Path) -> str:
    """When an image was taken, as its metadata state it: "2013-01-18T06:41:00Z"; "" if they do not.

    Raises:
        ResDepthError: if the file is no raster.
    """
    tags = _by_plain_name({**read_tags(path), **read_tags(path, "IMAGERY")})
    return next((tags[name][-1].strip() for name in TAKEN if name in tags), "")


def read_sun(path: Path) -> tuple[float, float] | None:
    """Azimuth and elevation of the sun, degrees; None if the metadata of an image do not state them.

    Raises:
        ResDepthError: if the file is no raster.
    """
    tags = _by_plain_name({**read_tags(path), **read_tags(path, "IMD")})
    azimuth, elevation = (_mean_angle(tags, names) for names in (SUN_AZIMUTH, SUN_ELEVATION))
    return None if azimuth is None or elevation is None else (azimuth % 360, elevation)


def _by_plain_name(tags: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in tags.items():
        plain = re.sub("[^a-z]", "", name.rpartition(".")[2].casefold())
        found.setdefault(plain, []).append(value)
    return found


def _mean_angle(tags: Mapping[str, list[str]], names: tuple[str, ...]) -> float | None:
    """Degrees; some sensors state an angle for several places, perhaps on both sides of north."""
    try:
        stated = np.radians([float(text.strip(' "')) for name in names for text in tags.get(name, ())])
    except ValueError:
        return None
    if not stated.size or not np.isfinite(stated).all():
        return None
    return float(np.degrees(np.angle(np.exp(1j * stated).mean())))
