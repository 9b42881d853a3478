"""The grid of a scene: north-up, square pixels, metres; of a size that can be worked with."""

import math
from pathlib import Path

from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs, metres_per_unit, parsed, vertical_part
from resdepth.geo.grid import Grid
from resdepth.geo.units import METRE, Unit, height_unit
from resdepth.simulate.sources.options import TruthOptions

Bounds = tuple[float, float, float, float]

DEFAULT_GSD_M = 0.5
MAX_PIXELS = 10**10
REPROJECT = (
    "Reproject the file, for example to UTM zone 32N: gdalwarp -t_srs EPSG:32632 -r bilinear IN.tif OUT.tif "
    "(rasters), pdal translate with filters.reprojection (points), cjio IN.json crs_reproject 25832 save "
    "OUT.json"
)
# Edges within this share of a pixel of the lattice lie on it.
SNAP_PX = 1e-3


def crs_in_metres(path: Path, crs: str, name: str) -> None:
    """Refuse a CRS in degrees or feet; no CRS at all is taken for local metres.

    Raises:
        ResDepthError: saying which CRS it is, and how to reproject the file.
    """
    factor = metres_per_unit(crs) if crs else 1.0
    if factor is not None and abs(factor - 1) < 1e-9:
        return
    unit = "degrees" if factor is None else f"units of {factor:.7g} m"
    raise ResDepthError(
        f"{path}: its CRS {name} is in {unit}; a projected CRS in metres is needed. {REPROJECT}"
    )


def chosen_crs(
    path: Path, stated: str | None, options: TruthOptions, height_unit_stated: str = ""
) -> tuple[str, str, Unit]:
    """WKT and name of a file's horizontal CRS, and the unit of its heights.

    Args:
        path: the file.
        stated: the CRS that it names; None if it names none, and that of the options counts.
        options: name a CRS.
        height_unit_stated: what else the file states about the unit of its heights.

    Returns:
        ("", "unknown", ...) without any CRS; metres where nothing states a unit.

    Raises:
        ResDepthError: if there is no such CRS, or it is not in metres, or units contradict each other.
    """
    text = stated or options.crs
    if not text:
        return "", "unknown", height_unit(path, height_unit_stated, None) or METRE
    try:
        wkt, name = find_crs(text)
        vertical = vertical_part(parsed(text))
    except ResDepthError as error:
        raise ResDepthError(
            f"{path}: {error}; correct the file or, if it was named there, the setting crs (EPSG:28992)"
        ) from error
    crs_in_metres(path, wkt, name)
    return wkt, name, height_unit(path, height_unit_stated, vertical) or METRE


def lattice_grid(path: Path, bounds: Bounds, gsd: float, crs: tuple[str, str]) -> Grid:
    """The smallest grid around the bounds whose edges are multiples of the pixel size.

    Raises:
        ResDepthError: if it has more pixels than can be worked with.
    """
    return anchored_grid(path, bounds, gsd, (0.0, 0.0), crs)


def anchored_grid(
    path: Path, bounds: Bounds, gsd: float, anchor: tuple[float, float], crs: tuple[str, str]
) -> Grid:
    """The smallest grid around the bounds of which a pixel corner, continued, meets the anchor (x, y).

    Raises:
        ResDepthError: if it has more pixels than can be worked with, or its map stretches lengths.
    """
    if not all(map(math.isfinite, bounds)):
        raise ResDepthError(f"{path}: its extent {bounds} is not finite; the file is damaged")
    left, bottom = (math.floor((bounds[i] - anchor[i]) / gsd + SNAP_PX) for i in (0, 1))
    right, top = (math.ceil((bounds[2 + i] - anchor[i]) / gsd - SNAP_PX) for i in (0, 1))
    width, height = max(right - left, 1), max(top - bottom, 1)
    if width * height > MAX_PIXELS:
        raise ResDepthError(
            f"{path}: {height} x {width} pixels of gsd_m = {gsd:g} are more than can be worked with; "
            "choose a greater gsd_m or a smaller extent"
        )
    origin = (anchor[0] + left * gsd, anchor[1] + top * gsd)
    grid = Grid(height, width, (gsd, 0.0, origin[0], 0.0, -gsd, origin[1]), *crs)
    if grid.stretched:
        raise ResDepthError(f"{path}: {grid.stretched}; {REPROJECT}")
    return grid


def cropped_bounds(path: Path, bounds: Bounds, options: TruthOptions) -> Bounds:
    """The part of the bounds that lies in the chosen extent.

    Raises:
        ResDepthError: if none does.
    """
    if options.extent is None:
        return bounds
    xmin, ymin, xmax, ymax = options.extent
    left, bottom, right, top = bounds
    inside = (max(left, xmin), max(bottom, ymin), min(right, xmax), min(top, ymax))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise ResDepthError(
            f"{path}: nothing of it lies in the extent {options.extent}; it covers x {left:.10g} to "
            f"{right:.10g} and y {bottom:.10g} to {top:.10g} (an extent is xmin, ymin, xmax, ymax in map "
            "units)"
        )
    return inside


def chosen_gsd(path: Path, own: float, options: TruthOptions) -> float:
    """The pixel size: the chosen one, or else the file's own.

    Raises:
        ResDepthError: if it is no positive number.
    """
    gsd = own if options.gsd_m is None else options.gsd_m
    if not (math.isfinite(gsd) and gsd > 0):
        raise ResDepthError(f"{path}: gsd_m = {gsd} is no pixel size; choose a positive number of metres")
    return gsd
