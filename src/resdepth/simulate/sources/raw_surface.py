"""A surface as its file gives it: with voids, and with classes that are still unknown.

What all kinds of files share (options, CRS, grid), and the plainest kind: an elevation raster.
"""

import logging
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from resdepth.data.arrays import look_for_undeclared
from resdepth.errors import ResDepthError
from resdepth.geo.crs import METRE, Unit, find_crs, height_unit, metres_per_unit, parsed, vertical_part
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand, Header, Method, read_resampled
from resdepth.geo.windows import Window
from resdepth.runtime.atomic import writing
from resdepth.simulate.surface import Codes, Heights, Mask, Objects

logger = logging.getLogger(__name__)

# Beside the classes of SurfaceClass, codes for what is known in part.
UNKNOWN = 254  # anything
ROOF = 253  # some roof
PLANTS = 252  # a tree or a forest

# What an unknown class may become: "no buildings" where the file marks buildings itself.
Classifiable = Literal["everything", "no buildings", "nothing"]

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
# Without a CRS, pixels smaller than this are rather degrees than metres.
SMALLEST_PIXEL_M = 0.01
# Pixel sizes that differ by less than this share are the same.
SAME_SIZE = 1e-6


@dataclass(frozen=True)
class SourceOptions:
    """How a file becomes a reference surface.

    Attributes:
        gsd_m: side of a pixel of the result; None: the file's own for rasters, 0.5 m for the others.
        building_mask, water_mask, forest_mask: rasters in the CRS of the file, on any grid, nonzero = yes.
            A yes outranks the classes of the file, a no those that follow from heights; buildings outrank
            water, and water forest. Where a mask is void or ends, it has no effect.
        ground: what city models stand on: "tin" is the file's own terrain; "flat" a plane at the height of
            the lowest vertex of a building; "sloped" a plane through that height in the middle of the scene,
            each building being lifted or lowered with the plane as a whole. The planes replace any terrain
            of the file.
        ground_slope_deg: steepness of the sloped plane.
        ground_aspect_deg: where the sloped plane descends to, clockwise from north.
        extent: xmin, ymin, xmax, ymax in map units: only this part, grown to whole pixels.
        crs: the CRS of a file that does not name its own ("EPSG:28992").
    """

    gsd_m: float | None = None
    building_mask: Path | None = None
    water_mask: Path | None = None
    forest_mask: Path | None = None
    ground: Literal["tin", "flat", "sloped"] = "tin"
    ground_slope_deg: float = 0.0
    ground_aspect_deg: float = 0.0
    extent: tuple[float, float, float, float] | None = None
    crs: str | None = None

    @property
    def masks(self) -> dict[str, Path]:
        """The masks that were given: "building", "water", "forest"."""
        masks = {"building": self.building_mask, "water": self.water_mask, "forest": self.forest_mask}
        return {name: path for name, path in masks.items() if path is not None}


@dataclass(frozen=True)
class RawSurface:
    """What a file holds in a window.

    Attributes:
        height: (H, W) float32, metres, NaN = void.
        known: (H, W) bool, where the height is measured; a subset of the places that are not void.
        classes: (H, W) uint8, a SurfaceClass, UNKNOWN, ROOF or PLANTS.
        objects: (H, W) int32, positive where the file names the object that a pixel belongs to, else 0.
    """

    height: Heights
    known: Mask
    classes: Codes
    objects: Objects


class Source(Protocol):
    """A file that is read as raw surfaces, a window at a time.

    Attributes:
        grid: the pixels of the scene.
        classifiable: what pixels of unknown class may become.
        n_objects: the greatest number of an object in the file itself.
        detail_m: side of the smallest thing that the file shows, in metres; no less than a pixel.
    """

    grid: Grid
    detail_m: float
    classifiable: Classifiable
    n_objects: int

    def read(self, window: Window) -> RawSurface:
        """What the file holds in a window of the grid; the same for a pixel in any window."""


def unclassified(height: Heights) -> RawSurface:
    """A raw surface of heights alone: all that is not void is known, and of unknown class."""
    return RawSurface(
        height,
        np.isfinite(height),
        np.full(height.shape, UNKNOWN, np.uint8),
        np.zeros(height.shape, np.int32),
    )


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of zeros in a new file. Its room is taken at once: a disk that is full later ends the process.

    Raises:
        ResDepthError: if there is no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with writing(path), path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, dtype, "r+", shape=shape)


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
    path: Path, stated: str | None, options: SourceOptions, height_unit_stated: str = ""
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


def cropped_bounds(path: Path, bounds: Bounds, options: SourceOptions) -> Bounds:
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


def chosen_gsd(path: Path, own: float, options: SourceOptions) -> float:
    """The pixel size: the chosen one, or else the file's own.

    Raises:
        ResDepthError: if it is no positive number.
    """
    gsd = own if options.gsd_m is None else options.gsd_m
    if not (math.isfinite(gsd) and gsd > 0):
        raise ResDepthError(f"{path}: gsd_m = {gsd} is no pixel size; choose a positive number of metres")
    return gsd


class ElevationSource:
    """An elevation raster on a north-up grid of square pixels.

    Law: where the file has such a grid and no other pixel size is asked for, its heights are passed on as
    they are. Otherwise they are resampled: averaged to coarser pixels, else bilinearly.
    """

    classifiable: Classifiable = "everything"
    n_objects = 0

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._path, self._band = path, FileBand(path)
        header = self._band.header
        if not header.is_of_heights_first:
            raise ResDepthError(f"{path}: has {header.bands} bands; a raster of heights has one")
        if question := look_for_undeclared(self._band).question:
            logger.warning("%s: %s", path, question)
        grid, self._unit = _with_crs(header, options)
        own = _georeferenced(grid)
        if not own.crs and own.gsd < SMALLEST_PIXEL_M:
            raise ResDepthError(
                f"{path}: has no CRS, and its pixels of {own.gsd:g} are too small for metres; if they are "
                "degrees, name the CRS (gdal_edit.py -a_srs) and reproject it (gdalwarp -t_srs EPSG:32632)"
            )
        gsd = chosen_gsd(path, own.gsd, options)
        self._plain = _is_plain(own) and abs(gsd / own.gsd - 1) < SAME_SIZE
        self._average = gsd > own.gsd * (1 + SAME_SIZE)
        bounds = _bounds(own)
        anchor = (bounds[0], bounds[3])
        gsd = own.transform[0] if self._plain else gsd
        requested = cropped_bounds(path, bounds, options)
        self.grid = anchored_grid(path, requested, gsd, anchor, (own.crs, own.crs_name))
        self.detail_m = max(gsd, *own.sides_m)
        self._corner = (
            round((anchor[1] - self.grid.transform[5]) / gsd),
            round((self.grid.transform[2] - anchor[0]) / gsd),
        )

    def read(self, window: Window) -> RawSurface:
        """The heights of a window of the grid; all classes are unknown."""
        return unclassified(self._heights(window))

    def _heights(self, window: Window) -> Heights:
        return (
            self._stored(window) * np.float32(self._unit.metres)
            if self._unit != METRE
            else self._stored(window)
        )

    def _stored(self, window: Window) -> Heights:
        if not self._plain:
            method: Method = "average" if self._average else "bilinear"
            return read_resampled(self._path, self.grid.crop(window), method)
        row, col = self._corner
        return self._band.read(Window(window.row + row, window.col + col, window.height, window.width))


def _with_crs(header: Header, options: SourceOptions) -> tuple[Grid, Unit]:
    """The grid with its CRS, for heights in metres; and the unit that a chosen CRS gives them."""
    grid = header.grid
    if not grid.crs:
        crs, name, unit = chosen_crs(header.path, None, options, header.band_unit)
        # What the band states was considered when it was opened.
        return replace(grid, crs=crs, crs_name=name), METRE if header.unit else unit
    crs_in_metres(header.path, grid.crs, grid.crs_name)
    in_metres = header.unit is None or header.unit.is_metre
    return grid if in_metres else grid.flat, METRE


def _georeferenced(grid: Grid) -> Grid:
    """A raster without any georeference stands upright on local metres."""
    if grid.transform != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        return grid
    return Grid(
        grid.height, grid.width, (1.0, 0.0, 0.0, 0.0, -1.0, float(grid.height)), grid.crs, grid.crs_name
    )


def _is_plain(grid: Grid) -> bool:
    a, b, _, d, e, _ = grid.transform
    return a > 0 and b == d == 0 and abs(a + e) < SAME_SIZE * a


def _bounds(grid: Grid) -> Bounds:
    corners = [grid.map_position(row, col) for row in (0, grid.height) for col in (0, grid.width)]
    (left, bottom), (right, top) = np.min(corners, axis=0), np.max(corners, axis=0)
    return (float(left), float(bottom), float(right), float(top))
