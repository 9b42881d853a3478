"""Rasters on other grids of their CRS."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject
from rasterio.windows import Window as RasterioWindow

from resdepth.errors import ResDepthError
from resdepth.geo.crs import METRE, height_unit, vertical_part
from resdepth.geo.gdal import unreferenced_allowed
from resdepth.geo.grid import Grid
from resdepth.geo.raster import (
    Array,
    Numbers,
    Scaling,
    nodata_for,
    open_dataset,
    read_valid,
    scaled,
    scaling_for,
    void_to_nan,
)
from resdepth.geo.windows import Window

Method = Literal["nearest", "bilinear", "average"]

# What resampling looks at around a window, and how many pixels of a file are read for one part of a grid.
KERNEL_PX, PART_PX = 4, 2**24


def read_resampled(path: Path, grid: Grid, method: Method, numbers: Numbers = "scaled") -> Array:
    """The first band of a raster on another grid of the same CRS, whatever CRS the grid names.

    Whatever is void (a nodata number, NaN, infinity, mask, alpha) is so before pixels are resampled.
    Overviews are not used: they may be out of date, or made without regard to voids.

    Args:
        path: the file.
        grid: requested.
        method: how pixels become others.
        numbers: "scaled" for heights (in metres), "stored" for grey values, "mask" for masks.

    Returns:
        (grid.height, grid.width) float32, NaN = void or outside the file.

    Raises:
        ResDepthError: if the pixels cannot be read, or their scale or unit makes no heights.
    """
    stored = np.full((grid.height, grid.width), np.nan, np.float32)
    with open_dataset(path) as dataset:
        scaling = _scaling(path, dataset, numbers)
        try:
            for part, window in _parts(dataset, grid, grid.whole):
                values = _read(dataset, window, nodata_for(numbers, dataset.nodata))
                stored[part.slices] = _warped(values, _grid_of(dataset).crop(window), grid.crop(part), method)
        except RasterioError as error:
            raise ResDepthError(f"{path}: cannot be read ({error}); is the file complete?") from error
    return scaled(stored, scaling)


def _parts(dataset: Any, grid: Grid, part: Window) -> Iterator[tuple[Window, Window]]:
    """The parts of a grid that the file reaches, each with the pixels of the file that it needs."""
    window = _window_below(dataset, grid.crop(part))
    if window.area <= PART_PX or part.area == 1:
        if window.area:
            yield part, window
        return
    row, col, height, width = part.row, part.col, part.height, part.width
    if height > 1:
        upper = Window(row, col, height // 2, width)
        halves = upper, Window(upper.row_stop, col, height - upper.height, width)
    else:
        left = Window(row, col, height, width // 2)
        halves = left, Window(row, left.col_stop, height, width - left.width)
    for half in halves:
        yield from _parts(dataset, grid, half)


def _scaling(path: Path, dataset: Any, numbers: Numbers) -> Scaling:
    vertical = vertical_part(dataset.crs.to_wkt()) if dataset.crs and numbers == "scaled" else None
    unit = height_unit(path, dataset.units[0] or "", vertical) if numbers == "scaled" else None
    return scaling_for(path, numbers, (dataset.scales[0], dataset.offsets[0]), unit or METRE)


def _window_below(dataset: Any, grid: Grid) -> Window:
    """The pixels of a file that a grid needs; none if it lies elsewhere."""
    a, b, c, d, e, f = tuple(~dataset.transform)[:6]
    corners = [grid.map_position(row, col) for row in (0, grid.height) for col in (0, grid.width)]
    cols, rows = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
    top, left = max(math.floor(min(rows)) - KERNEL_PX, 0), max(math.floor(min(cols)) - KERNEL_PX, 0)
    bottom = min(math.ceil(max(rows)) + KERNEL_PX, dataset.height)
    right = min(math.ceil(max(cols)) + KERNEL_PX, dataset.width)
    return Window(top, left, max(bottom - top, 0), max(right - left, 0))


def _grid_of(dataset: Any) -> Grid:
    return Grid(dataset.height, dataset.width, tuple(dataset.transform)[:6])


def _read(dataset: Any, window: Window, nodata: float | None) -> Array:
    """Numbers as stored: a scale and an offset may come after resampling, whose weights sum to 1."""
    where = RasterioWindow(window.col, window.row, window.width, window.height)
    return void_to_nan(dataset.read(1, window=where), nodata, read_valid(dataset, where))


def _warped(values: Array, source: Grid, grid: Grid, method: Method) -> Array:
    """Pixels on another grid, as GDAL warps them once all voids are NaN: GDAL knows only one kind."""
    # Named alike for both sides: only the pixels' places count, and a CRS may be unknown.
    crs = CRS.from_wkt(grid.crs) if grid.crs else CRS.from_epsg(3857)
    # Left alone, GDAL widens its bilinear kernel by the shape of each window, and blocks would not fit.
    options = {"XSCALE": "1", "YSCALE": "1"} if method == "bilinear" else {}
    warped = np.full((grid.height, grid.width), np.nan, np.float32)
    with unreferenced_allowed():  # rasterio changes the warning filters within
        reproject(
            values, warped, src_transform=rasterio.Affine(*source.transform), src_crs=crs, src_nodata=np.nan,
            dst_transform=rasterio.Affine(*grid.transform), dst_crs=crs, dst_nodata=np.nan,
            resampling=Resampling[method], init_dest_nodata=True, **options,
        )  # fmt: skip
    return warped
