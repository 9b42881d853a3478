"""Rasters on other grids of their CRS."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from rasterio.windows import Window as RasterioWindow

from resdepth.errors import ResDepthError
from resdepth.grid import Grid
from resdepth.raster import (
    Array,
    Numbers,
    alpha_band,
    open_dataset,
    read_valid,
    scaled,
    scaling_for,
    unreferenced_allowed,
    void_to_nan,
)
from resdepth.windows import Window

Method = Literal["nearest", "bilinear", "average"]

# What resampling looks at around a window, and how many pixels of a file are cleaned of NaN before it.
KERNEL_PX, CLEANED_PX = 4, 2**26


def read_resampled(path: Path, grid: Grid, method: Method, numbers: Numbers = "scaled") -> Array:
    """The first band of a raster on another grid of the same CRS, whatever CRS the grid names.

    Several kinds of voids (a nodata number, NaN, alpha) all count; but where more than CLEANED_PX pixels of
    the file come together, in an overview of a large raster, GDAL may overlook one kind beside another.

    Args:
        path: the file.
        grid: wished.
        method: how pixels become others.
        numbers: "scaled" for heights, "stored" for grey values and masks.

    Returns:
        (grid.height, grid.width) float32, NaN = void or outside the file.

    Raises:
        ResDepthError: if the pixels cannot be read, or their scale makes no heights.
    """
    # Named alike for both sides: only the pixels' places count, and a CRS may be unknown.
    crs = CRS.from_wkt(grid.crs) if grid.crs else CRS.from_epsg(3857)
    # Left alone, GDAL widens its bilinear kernel by the shape of each window, and blocks would not fit.
    options = {"XSCALE": "1", "YSCALE": "1"} if method == "bilinear" else {}
    with open_dataset(path) as dataset:
        window = _window_below(dataset, grid)
        is_float, nodata = np.dtype(dataset.dtypes[0]).kind == "f", dataset.nodata
        scaling = scaling_for(path, numbers, (dataset.scales[0], dataset.offsets[0]))
        has_several_kinds = is_float and nodata is not None and not np.isnan(nodata)
        try:
            if (has_several_kinds or alpha_band(dataset)) and window.area <= CLEANED_PX:
                return scaled(_cleaned_and_warped(dataset, window, grid, crs, method, options), scaling)
            with WarpedVRT(
                dataset, src_crs=crs, crs=crs, transform=rasterio.Affine(*grid.transform),
                height=grid.height, width=grid.width, resampling=Resampling[method],
                src_nodata=float("nan") if nodata is None and is_float else nodata, nodata=np.nan,
                dtype="float32", **options,
            ) as warped:  # fmt: skip
                return void_to_nan(warped.read(1), None, None, scaling)
        except RasterioError as error:
            raise ResDepthError(f"{path}: cannot be read ({error}); is the file complete?") from error


def _window_below(dataset: Any, grid: Grid) -> Window:
    """The pixels of a file that a grid needs; none if it lies elsewhere."""
    a, b, c, d, e, f = tuple(~dataset.transform)[:6]
    corners = [grid.map_position(row, col) for row in (0, grid.height) for col in (0, grid.width)]
    cols, rows = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
    top, left = max(math.floor(min(rows)) - KERNEL_PX, 0), max(math.floor(min(cols)) - KERNEL_PX, 0)
    bottom = min(math.ceil(max(rows)) + KERNEL_PX, dataset.height)
    right = min(math.ceil(max(cols)) + KERNEL_PX, dataset.width)
    return Window(top, left, max(bottom - top, 0), max(right - left, 0))


def _cleaned_and_warped(
    dataset: Any, window: Window, grid: Grid, crs: CRS, method: Method, options: dict[str, str]
) -> Array:
    """As GDAL warps, with nodata numbers, NaN and alpha alike as voids; GDAL itself knows only one of them.

    The numbers are as stored: a scale and an offset may come after resampling, whose weights sum to 1.
    """
    warped = np.full((grid.height, grid.width), np.nan, np.float32)
    if not window.area:
        return warped
    where = RasterioWindow(window.col, window.row, window.width, window.height)
    heights = void_to_nan(dataset.read(1, window=where), dataset.nodata, read_valid(dataset, where))
    source = Grid(dataset.height, dataset.width, tuple(dataset.transform)[:6]).crop(window)
    with unreferenced_allowed():  # rasterio changes the warning filters within
        reproject(
            heights, warped, src_transform=rasterio.Affine(*source.transform), src_crs=crs, src_nodata=np.nan,
            dst_transform=rasterio.Affine(*grid.transform), dst_crs=crs, dst_nodata=np.nan,
            resampling=Resampling[method], init_dest_nodata=True, **options,
        )  # fmt: skip
    return warped
