"""Rasters in and out. Nodata numbers exist nowhere else: inside, void is NaN."""

import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from rasterio.windows import Window as RasterioWindow

from resdepth.errors import ResDepthError
from resdepth.grid import Grid, short_name
from resdepth.windows import Window

Array = NDArray[np.float32]
Method = Literal["nearest", "bilinear", "average"]

NODATA = -9999.0
# What resampling looks at around a window, and how many pixels of a file are cleaned of NaN before it.
KERNEL_PX, CLEANED_PX = 4, 2**26

_WARNINGS = threading.Lock()

# By default GDAL keeps up to 5 % of the machine's memory in decoded blocks, whatever we promise of ours.
_KEPT_IS_OURS = "GDAL_CACHEMAX" not in os.environ
if _KEPT_IS_OURS:
    set_gdal_config("GDAL_CACHEMAX", 128 * 2**20)
# And it lists the whole folder of each file that it opens, which takes long beside 100,000 blocks; TRUE makes
# it ask for the few names that matter (masks, overviews, statistics) instead.
if "GDAL_DISABLE_READDIR_ON_OPEN" not in os.environ:
    set_gdal_config("GDAL_DISABLE_READDIR_ON_OPEN", "TRUE")


@dataclass(frozen=True)
class Header:
    """What a raster file says of itself without its pixels being read."""

    path: Path
    grid: Grid
    bands: int
    dtype: str
    nodata: float | None
    has_mask: bool

    @property
    def may_have_voids(self) -> bool:
        """False only where a void cannot occur: integers without nodata value and mask."""
        return self.nodata is not None or self.has_mask or np.dtype(self.dtype).kind == "f"


@contextmanager
def decoded_at_most(size: int) -> Iterator[None]:
    """Let GDAL keep no more bytes of decoded blocks for a while, unless the user told it how many."""
    if not _KEPT_IS_OURS:
        yield
        return
    before = get_gdal_config("GDAL_CACHEMAX")
    set_gdal_config("GDAL_CACHEMAX", size)
    try:
        yield
    finally:
        set_gdal_config("GDAL_CACHEMAX", before)


@contextmanager
def unreferenced_allowed() -> Iterator[None]:
    """A raster without georeference is no reason to warn: it is told as an unknown CRS, where it matters."""
    # What Python does with warnings is one setting for all threads.
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_dataset(path: Path) -> Any:
    """A raster open for reading.

    Raises:
        ResDepthError: if it is none.
    """
    try:
        with unreferenced_allowed():
            return rasterio.open(path)
    except RasterioError as error:
        raise ResDepthError(f"{path}: this file cannot be read as a raster ({error})") from error


def read_header(path: Path) -> Header:
    """Open a raster, read its header, close it.

    Raises:
        ResDepthError: if the file is no raster, or holds complex numbers.
    """
    with open_dataset(path) as dataset:
        if np.dtype(dataset.dtypes[0]).kind not in "iuf":
            raise ResDepthError(f"{path}: holds {dataset.dtypes[0]} values; integers or floats are expected")
        crs = dataset.crs
        wkt, name = (crs.to_wkt(), short_name(crs)) if crs else ("", "unknown")
        grid = Grid(dataset.height, dataset.width, tuple(dataset.transform)[:6], wkt, name)
        flags = dataset.mask_flag_enums[0]
        has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        return Header(path, grid, dataset.count, dataset.dtypes[0], dataset.nodata, has_mask)


def read_tags(path: Path) -> dict[str, str]:
    """The text that a raster keeps about itself.

    Raises:
        ResDepthError: if it is no raster.
    """
    with open_dataset(path) as dataset:
        return {str(name): str(value) for name, value in dataset.tags().items()}


class Band(Protocol):
    """The first band of a raster, wherever its pixels are."""

    grid: Grid

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void. The window lies inside the raster."""


class FileBand:
    """A band whose pixels stay in the file; each thread reads through its own handle."""

    def __init__(self, path: Path) -> None:
        self.header = read_header(path)
        self.grid = self.header.grid
        self._handles = threading.local()

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void."""
        values, valid = self.read_raw(window)
        return _void_to_nan(values, self.header.nodata, valid)

    def read_raw(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The stored numbers, and the file's own mask where it has one."""
        if getattr(self._handles, "pid", None) != os.getpid():
            self._handles.dataset, self._handles.pid = open_dataset(self.header.path), os.getpid()
        where = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            values = self._handles.dataset.read(1, window=where)
            valid = self._handles.dataset.read_masks(1, window=where) > 0 if self.header.has_mask else None
        except RasterioError as error:
            raise ResDepthError(
                f"{self.header.path}: the pixels of {window} cannot be read ({error}); is the file complete?"
            ) from error
        return values, valid


def read_resampled(path: Path, grid: Grid, method: Method) -> Array:
    """The first band of a raster on another grid of the same CRS, whatever CRS the grid names.

    NaN beside a nodata number is void, too; but not where more than CLEANED_PX pixels of the file come
    together, in an overview of a large raster.

    Returns:
        (grid.height, grid.width) float32, NaN = void or outside the file.

    Raises:
        ResDepthError: if the pixels cannot be read.
    """
    # Named alike for both sides: only the pixels' places count, and a CRS may be unknown.
    crs = CRS.from_wkt(grid.crs) if grid.crs else CRS.from_epsg(3857)
    # Left alone, GDAL widens its bilinear kernel by the shape of each window, and blocks would not fit.
    options = {"XSCALE": "1", "YSCALE": "1"} if method == "bilinear" else {}
    with open_dataset(path) as dataset:
        window = _window_below(dataset, grid)
        is_float, nodata = np.dtype(dataset.dtypes[0]).kind == "f", dataset.nodata
        try:
            if is_float and nodata is not None and not np.isnan(nodata) and window.area <= CLEANED_PX:
                return _cleaned_and_warped(dataset, window, grid, crs, method, options)
            with WarpedVRT(
                dataset, src_crs=crs, crs=crs, transform=rasterio.Affine(*grid.transform),
                height=grid.height, width=grid.width, resampling=Resampling[method],
                src_nodata=float("nan") if nodata is None and is_float else nodata, nodata=np.nan,
                dtype="float32", **options,
            ) as warped:  # fmt: skip
                return _void_to_nan(warped.read(1), None, None)
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
    """As GDAL warps, with nodata numbers and NaN alike as voids; GDAL itself knows only one of them."""
    warped = np.full((grid.height, grid.width), np.nan, np.float32)
    if not window.area:
        return warped
    where = RasterioWindow(window.col, window.row, window.width, window.height)
    valid = dataset.read_masks(1, window=where) > 0
    heights = _void_to_nan(dataset.read(1, window=where), dataset.nodata, valid)
    source = Grid(dataset.height, dataset.width, tuple(dataset.transform)[:6]).crop(window)
    with unreferenced_allowed():  # rasterio changes the warning filters within
        reproject(
            heights, warped, src_transform=rasterio.Affine(*source.transform), src_crs=crs, src_nodata=np.nan,
            dst_transform=rasterio.Affine(*grid.transform), dst_crs=crs, dst_nodata=np.nan,
            resampling=Resampling[method], init_dest_nodata=True, **options,
        )  # fmt: skip
    return warped


class ArrayBand:
    """A band held in memory, in the type in which it is stored."""

    def __init__(
        self,
        values: NDArray[Any],
        grid: Grid,
        *,
        nodata: float | None = None,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        self.grid = grid
        self._values, self._nodata, self._valid = values, nodata, valid

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void; always a copy."""
        valid = None if self._valid is None else self._valid[window.slices]
        return _void_to_nan(self._values[window.slices], self._nodata, valid)


def hold(band: FileBand) -> ArrayBand:
    """Read a whole band into memory."""
    values, valid = band.read_raw(band.grid.whole)
    return ArrayBand(values, band.grid, nodata=band.header.nodata, valid=valid)


def _void_to_nan(values: NDArray[Any], nodata: float | None, valid: NDArray[np.bool_] | None) -> Array:
    # float64 beyond float32 becomes inf, which is void; nodata = NaN becomes some integer, seen below.
    with np.errstate(over="ignore", invalid="ignore"):
        result = values.astype(np.float32)
        # Compared in the stored type: -3.4e38 or 0.1 differ once they are float64.
        nodata_as_stored = None if nodata is None else np.array(nodata).astype(values.dtype)
    if values.dtype.kind == "f":
        result[~np.isfinite(result)] = np.nan
    # Not where the type cannot hold it: 0.5, as an integer, would make every 0 a void.
    if nodata_as_stored is not None and (values.dtype.kind == "f" or nodata_as_stored == nodata):
        result[values == nodata_as_stored] = np.nan
    if valid is not None:
        result[~valid] = np.nan
    return result


def count_voids(band: Band, windows: Iterator[Window] | list[Window], rows_at_once: int = 512) -> int:
    """How many void pixels lie in the windows; reads a strip at a time."""
    voids = 0
    for window in windows:
        for row in range(window.row, window.row_stop, rows_at_once):
            height = min(rows_at_once, window.row_stop - row)
            voids += int(np.isnan(band.read(Window(row, window.col, height, window.width))).sum())
    return voids
