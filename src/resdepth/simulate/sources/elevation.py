"""True surfaces from elevation rasters (GeoTIFF, or whatever else GDAL reads)."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from resdepth.data.undeclared import look_for_undeclared
from resdepth.errors import ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand, Header
from resdepth.geo.resampling import Method, read_resampled
from resdepth.geo.units import METRE, Unit
from resdepth.geo.windows import Window
from resdepth.simulate.sources.options import TruthOptions
from resdepth.simulate.sources.placing import (
    Bounds,
    anchored_grid,
    chosen_crs,
    chosen_gsd,
    cropped_bounds,
    crs_in_metres,
)
from resdepth.simulate.sources.sketch import Guessing, Sketch, unclassified
from resdepth.simulate.surface import Heights

logger = logging.getLogger(__name__)

# Without a CRS, pixels smaller than this are rather degrees than metres.
SMALLEST_PIXEL_M = 0.01
# Pixel sizes that differ by less than this share are the same.
SAME_SIZE = 1e-6


class ElevationSource:
    """An elevation raster on a north-up grid of square pixels.

    Law: where the file has such a grid and no other pixel size is asked for, its heights are passed on as
    they are. Otherwise they are resampled: averaged to coarser pixels, else bilinearly.
    """

    guessing: Guessing = "everything"
    n_objects = 0

    def __init__(self, path: Path, options: TruthOptions) -> None:
        self._path, self._band = path, FileBand(path)
        header = self._band.header
        if header.bands != 1:
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

    def read(self, window: Window) -> Sketch:
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


def _with_crs(header: Header, options: TruthOptions) -> tuple[Grid, Unit]:
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
