"""Rasters in and out. The only user of rasterio; nodata numbers exist nowhere else: inside, void is NaN."""

import json
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.env import set_gdal_config
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from resdepth.atomic import atomic_path
from resdepth.errors import ResDepthError
from resdepth.windows import Window

Array = NDArray[np.float32]
Method = Literal["nearest", "bilinear", "average"]

NODATA = -9999.0
# Two grids are the same if their corners agree within this share of a pixel.
CORNER_TOLERANCE_PX = 0.01

_WARNINGS = threading.Lock()

# By default GDAL keeps up to 5 % of the machine's memory in decoded blocks, whatever we promise of ours.
if "GDAL_CACHEMAX" not in os.environ:
    set_gdal_config("GDAL_CACHEMAX", 128 * 2**20)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie.

    Attributes:
        height, width: in pixels.
        transform: affine map from (column, row) to map coordinates, six numbers a, b, c, d, e, f.
        crs: coordinate reference system as WKT; empty if unknown.
        crs_name: the same for people ("EPSG:32632").
    """

    height: int
    width: int
    transform: tuple[float, float, float, float, float, float]
    crs: str = field(default="", repr=False)
    crs_name: str = field(default="unknown", compare=False)

    @property
    def whole(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, self.height, self.width)

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared map units (m2 in projected systems)."""
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d)

    @property
    def gsd(self) -> float:
        """Side of a pixel in map units."""
        return float(np.sqrt(self.pixel_area))

    def map_position(self, row: float, col: float) -> tuple[float, float]:
        """Map coordinates (x, y) of a pixel corner."""
        a, b, c, d, e, f = self.transform
        return (a * col + b * row + c, d * col + e * row + f)

    def crop(self, window: Window) -> "Grid":
        """The grid of a part of this raster."""
        a, b, _, d, e, _ = self.transform
        x, y = self.map_position(window.row, window.col)
        return Grid(window.height, window.width, (a, b, x, d, e, y), self.crs, self.crs_name)

    def differences(self, other: "Grid") -> list[str]:
        """In words, what keeps the two grids from being pixel-aligned; empty if they are the same."""
        found = []
        if (self.height, self.width) != (other.height, other.width):
            found.append(
                f"size {other.height} x {other.width} instead of {self.height} x {self.width} pixels"
            )
        if not _same_horizontally(self.crs, other.crs):
            found.append(f"CRS {other.crs_name} instead of {self.crs_name}")
        if self._corner_shift_px(other) > CORNER_TOLERANCE_PX:
            ours, theirs = self.transform, other.transform
            found.append(f"{_placement(theirs)} instead of {_placement(ours)}")
        return found

    def _corner_shift_px(self, other: "Grid") -> float:
        corners = [(0, 0), (0, self.width), (self.height, 0), (self.height, self.width)]
        shifts = [
            np.hypot(*np.subtract(self.map_position(*corner), other.map_position(*corner)))
            for corner in corners
        ]
        return float(max(shifts)) / max(self.gsd, 1e-30)


def _same_horizontally(first: str, second: str) -> bool:
    """Whether two CRSs place pixels alike, whatever their names and their heights; unknown ones might."""
    if not first or not second or first == second:
        return True
    one, other = (_horizontal(CRS.from_wkt(wkt)) for wkt in (first, second))
    return bool(one == other) or (one.to_epsg() is not None and one.to_epsg() == other.to_epsg())


def _horizontal(crs: CRS) -> CRS:
    """A CRS without its vertical part: a DSM may have one, and its ortho-images none."""
    described = crs.to_dict(projjson=True)
    if described.get("type") != "CompoundCRS":
        return crs
    return CRS.from_string(json.dumps(described["components"][0]))


def find_crs(text: str) -> tuple[str, str]:
    """WKT and short name of the horizontal part of a CRS given as "EPSG:7415", as WKT or as a URN.

    Raises:
        ResDepthError: if there is no such CRS.
    """
    try:
        crs = _horizontal(CRS.from_user_input(text))
        return crs.to_wkt(), _short_name(crs)
    except CRSError as error:
        raise ResDepthError(f"{text[:80]!r} is no coordinate system that GDAL knows ({error})") from error


def metres_per_unit(crs: str) -> float | None:
    """Length in metres of the horizontal unit of a CRS given as WKT; None where the unit is an angle."""
    known = _horizontal(CRS.from_wkt(crs))
    return None if known.is_geographic else float(known.linear_units_factor[1])


def _short_name(crs: CRS) -> str:
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.to_string())


def _placement(transform: tuple[float, ...]) -> str:
    a, _, c, _, e, f = transform
    return f"origin ({c:.10g}, {f:.10g}) with pixel size ({a:.6g}, {e:.6g})"


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
        wkt, name = (crs.to_wkt(), _short_name(crs)) if crs else ("", "unknown")
        grid = Grid(dataset.height, dataset.width, tuple(dataset.transform)[:6], wkt, name)
        flags = dataset.mask_flag_enums[0]
        has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        return Header(path, grid, dataset.count, dataset.dtypes[0], dataset.nodata, has_mask)


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

    Returns:
        (grid.height, grid.width) float32, NaN = void or outside the file.

    Raises:
        ResDepthError: if the pixels cannot be read.
    """
    # Named alike for both sides: only the pixels' places count, and a CRS may be unknown.
    crs = CRS.from_wkt(grid.crs) if grid.crs else CRS.from_epsg(3857)
    with open_dataset(path) as dataset:
        nodata = dataset.nodata if dataset.nodata is not None else _void_of(dataset.dtypes[0])
        try:
            with WarpedVRT(
                dataset, src_crs=crs, crs=crs, transform=rasterio.Affine(*grid.transform),
                height=grid.height, width=grid.width, resampling=Resampling[method],
                src_nodata=nodata, nodata=np.nan, dtype="float32",
            ) as warped:  # fmt: skip
                return _void_to_nan(warped.read(1), None, None)
        except RasterioError as error:
            raise ResDepthError(f"{path}: cannot be read ({error}); is the file complete?") from error


def _void_of(dtype: str) -> float | None:
    return float("nan") if np.dtype(dtype).kind == "f" else None


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


class GeoTiffWriter:
    """An open GeoTIFF that is being filled; see `new_geotiff`."""

    def __init__(self, dataset: Any, dtype: str) -> None:
        self._dataset, self._dtype = dataset, np.dtype(dtype)

    def write(self, row: int, values: NDArray[Any], *, col: int = 0) -> None:
        """Write full rows from `row` on, in a tiled file a part of them from `col` on; NaN becomes nodata."""
        stored = np.where(np.isnan(values), NODATA, values) if self._dtype.kind == "f" else values
        height, width = values.shape
        window = RasterioWindow(col, row, width, height)
        self._dataset.write(stored.astype(self._dtype), 1, window=window)


@contextmanager
def new_geotiff(
    path: Path, grid: Grid, *, dtype: str = "float32", tile: int | None = None
) -> Iterator[GeoTiffWriter]:
    """Write a one-band GeoTIFF (LZW, nodata -9999); it appears under its name only once it is complete.

    Args:
        path: the file; its folder exists.
        grid: size and georeference.
        dtype: float32 or float64; or an integer type, which has no nodata value.
        tile: side of the file's tiles in pixels, a multiple of 16; None: it is stored row by row.

    Raises:
        ResDepthError: if it cannot be written (disk full, no permission).
    """
    floats = np.dtype(dtype).kind == "f"
    layout = {"tiled": True, "blockxsize": tile, "blockysize": tile} if tile else {}
    try:
        with (
            atomic_path(path) as temporary,
            rasterio.open(
                temporary,
                "w",
                driver="GTiff",
                height=grid.height,
                width=grid.width,
                count=1,
                dtype=dtype,
                crs=grid.crs or None,
                transform=rasterio.Affine(*grid.transform),
                nodata=NODATA if floats else None,
                compress="LZW",
                predictor=3 if floats else 2,
                BIGTIFF="IF_SAFER",
                **layout,
            ) as dataset,
        ):
            yield GeoTiffWriter(dataset, dtype)
    except (RasterioError, OSError) as error:
        raise ResDepthError(f"{path}: cannot be written ({error}); is there space left?") from error


def count_voids(band: Band, windows: Iterator[Window] | list[Window], rows_at_once: int = 512) -> int:
    """How many void pixels lie in the windows; reads a strip at a time."""
    voids = 0
    for window in windows:
        for row in range(window.row, window.row_stop, rows_at_once):
            height = min(rows_at_once, window.row_stop - row)
            voids += int(np.isnan(band.read(Window(row, window.col, height, window.width))).sum())
    return voids
