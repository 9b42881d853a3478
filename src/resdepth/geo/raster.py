"""Rasters in, as they are and on other grids. Nodata numbers exist nowhere else: inside, void is NaN."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject
from rasterio.windows import Window as RasterioWindow

from resdepth.errors import ResDepthError
from resdepth.geo.crs import (
    METRE,
    READ_FAILURES,
    Unit,
    height_unit,
    metres_per_unit,
    refuse_unmapped,
    short_name,
    vertical_part,
)
from resdepth.geo.gdal import open_raster, unreferenced_allowed
from resdepth.geo.grid import Grid
from resdepth.geo.rpc import ViewGeometry, from_tags
from resdepth.geo.windows import Window
from resdepth.runtime.paths import why_foreign, why_no_file, why_special

Array = NDArray[np.float32]
Numbers = Literal["scaled", "stored", "mask"]
"""What is read of a band: "scaled" are heights, in metres, whatever the band's unit, scale and offset. Grey
values are taken as stored, because models know those of their training; masks too, where 1 means set and 0 is
never void."""
BandsReduced = Literal["mean", "length"]
"""What counts of several bands: their mean, or the length of the vector of which they are parts."""

Scaling = tuple[float, float]
"""Scale and offset: value = scale * stored number + offset."""
UNSCALED: Scaling = (1.0, 0.0)

# GDAL takes a float for the nodata value within two units in the last place of their sum, of float32 always.
_TOLERANCE = 2 * float(np.finfo(np.float32).eps)

FARTHEST = 1e12  # in the units of any map
HEIGHT = "height"
"""The name of the first band of a refined DSM."""


@dataclass(frozen=True)
class Header:
    """What a raster file says of itself without its pixels being read.

    Attributes:
        path: the file.
        grid: where its pixels lie.
        bands: how many hold data; an alpha band does not.
        dtype, nodata: of the first band, as stored.
        has_mask: whether a mask or an alpha band tells voids.
        has_alpha: whether there is an alpha band; 0 in it is a void of the first band.
        scaling: of the first band.
        band_unit: the unit that the first band names; "" if it names none.
        first_band: what the first band is called; "" if it has no name.
    """

    path: Path
    grid: Grid
    bands: int
    dtype: str
    nodata: float | None
    has_mask: bool
    has_alpha: bool = False
    scaling: Scaling = UNSCALED
    band_unit: str = ""
    first_band: str = ""

    @property
    def is_of_heights_first(self) -> bool:
        """Whether it may be a DSM: of one band, or as `refine` writes it, with others about the first."""
        return self.bands == 1 or self.first_band == HEIGHT

    @property
    def unit(self) -> Unit | None:
        """The unit of its values, if they are heights; None if neither band nor CRS names one.

        Raises:
            ResDepthError: if it is no known length, or band and CRS contradict each other.
        """
        return height_unit(self.path, self.band_unit, vertical_part(self.grid.crs))

    @property
    def doubt_about_unit(self) -> str:
        """In words, why its heights may not be metres though nothing states so; "" without doubt."""
        unit = metres_per_unit(self.grid.crs) if self.grid.crs else 1.0
        if unit in (None, 1.0) or self.unit is not None:
            return ""
        return (
            f"{self.path}: its CRS {self.grid.crs_name} is in units of {unit:.6g} m, and nothing states the "
            "unit of its heights: they are taken as metres; if they are feet, name the unit "
            "(gdal_edit.py -units 'US survey foot')"
        )

    def other_zero(self, other: "Header") -> str:
        """In words, that both count heights from different zeros, if their CRSs state so; else ""."""
        ours, theirs = vertical_part(self.grid.crs), vertical_part(other.grid.crs)
        if ours is None or theirs is None or ours.same_zero(theirs):
            return ""
        return (
            f"{self.path}: its heights count from another zero than those of {other.path}: {ours} instead of "
            f"{theirs}; transform one of them (gdalwarp -s_srs and -t_srs with compound CRSs)"
        )

    @property
    def may_have_voids(self) -> bool:
        """False only where a void cannot occur: integers without nodata value and mask."""
        return self.nodata is not None or self.has_mask or np.dtype(self.dtype).kind == "f"


def open_dataset(path: Path) -> Any:
    """A raster open for reading.

    Raises:
        ResDepthError: if it is none.
    """
    if reason := why_special(path):
        raise ResDepthError(f"{path}: {reason}")
    if reason := why_foreign(path):
        raise ResDepthError(f"{path}: {reason}")
    try:
        return open_raster(path)
    except READ_FAILURES as error:
        reason = why_no_file(path) or f"this file cannot be read as a raster ({error})"
        raise ResDepthError(f"{path}: {reason}") from error


@contextmanager
def open_header(path: Path) -> Iterator[Any]:
    """A raster open for a look at what it states about itself.

    Raises:
        ResDepthError: if it is no raster, or what it states cannot be read.
    """
    with open_dataset(path) as dataset:
        try:
            yield dataset
        except READ_FAILURES as error:
            raise ResDepthError(f"{path}: its header cannot be read ({error!s:.200})") from error


@dataclass(frozen=True)
class StoredBand:
    """What a file says of one of its bands: name, type and nodata value as stored, and unit; "" = none."""

    name: str
    dtype: str
    nodata: float | None
    unit: str


def described_bands(path: Path) -> list[StoredBand]:
    """All bands of a raster.

    Raises:
        ResDepthError: if the file is no raster.
    """
    with open_header(path) as dataset:
        stated = zip(dataset.descriptions, dataset.dtypes, dataset.nodatavals, dataset.units, strict=True)
        return [StoredBand(name or "", dtype, nodata, unit or "") for name, dtype, nodata, unit in stated]


def read_header(path: Path) -> Header:
    """Open a raster, read its header, close it.

    Raises:
        ResDepthError: if the file is no raster, holds complex numbers, or lies on no map.
    """
    with open_header(path) as dataset:
        if np.dtype(dataset.dtypes[0]).kind not in "iuf":
            raise ResDepthError(f"{path}: holds {dataset.dtypes[0]} values; integers or floats are expected")
        crs = dataset.crs
        _refuse_unmapped(path, crs)
        wkt, name = (crs.to_wkt(), short_name(crs)) if crs else ("", "unknown")
        grid = Grid(dataset.height, dataset.width, tuple(dataset.transform)[:6], wkt, name)
        if not all(abs(edge) < FARTHEST for edge in (*grid.transform, *grid.bounds)):
            raise ResDepthError(
                f"{path}: its georeference {grid.transform} lies on no map; correct it (gdal_edit.py -a_ullr)"
            )
        has_alpha = alpha_band(dataset) is not None
        return Header(
            path,
            grid,
            bands=dataset.count - has_alpha,
            dtype=dataset.dtypes[0],
            nodata=dataset.nodata,
            has_mask=has_alpha or _has_own_mask(dataset),
            has_alpha=has_alpha,
            scaling=(dataset.scales[0], dataset.offsets[0]),
            band_unit=dataset.units[0] or "",
            first_band=dataset.descriptions[0] or "",
        )


def _refuse_unmapped(path: Path, crs: CRS | None) -> None:
    try:
        if crs:
            refuse_unmapped(crs)
    except ResDepthError as error:
        raise ResDepthError(f"{path}: {error}") from error


def _has_own_mask(dataset: Any) -> bool:
    flags = dataset.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def alpha_band(dataset: Any) -> int | None:
    """Number of the alpha band, if there is one besides the first."""
    kinds = dataset.colorinterp[1:]
    return kinds.index(ColorInterp.alpha) + 2 if ColorInterp.alpha in kinds else None


def read_valid(dataset: Any, where: RasterioWindow) -> NDArray[np.bool_] | None:
    """What the file's own mask and its alpha band both let through; None if it has neither.

    Alpha is read as a band: GDAL takes it for a mask in uint8 and uint16 only, and not beside a nodata value.
    """
    valid: NDArray[np.bool_] | None = None
    if _has_own_mask(dataset):
        valid = dataset.read_masks(1, window=where) > 0
    alpha = alpha_band(dataset)
    if alpha is None:
        return valid
    opaque: NDArray[np.bool_] = dataset.read(alpha, window=where) > 0
    return opaque if valid is None else valid & opaque


def files_behind(path: Path) -> tuple[Path, ...]:
    """All files that a raster is read from: its own, those beside it, and the sources of virtual rasters.

    Sources may be virtual themselves. A file that is no raster stands alone; what is not there is left out.
    """
    found: dict[Path, None] = {}
    todo = [path]
    while todo:
        file = todo.pop()
        if file in found or not file.is_file():
            continue
        found[file] = None
        try:
            with open_dataset(file) as dataset:
                todo += [Path(name) for name in reversed(dataset.files)]
        except ResDepthError:  # a list, a model, statistics in XML
            continue
    return tuple(found)


def read_tags(path: Path, domain: str | None = None) -> dict[str, str]:
    """The text that a raster keeps about itself; in a domain of GDAL's, or in none.

    Raises:
        ResDepthError: if it is no raster.
    """
    with open_header(path) as dataset:
        return {str(name): str(value) for name, value in dataset.tags(ns=domain).items()}


def read_bands(path: Path) -> dict[str, Array]:
    """All bands of a raster of heights by their names: (H, W) float32, in metres, NaN = void.

    Raises:
        ResDepthError: if they cannot be read.
    """
    first = FileBand(path)
    with open_dataset(path) as dataset:
        try:
            stored, names = dataset.read(), dataset.descriptions
        except READ_FAILURES as error:
            raise ResDepthError(f"{path}: cannot be read ({error}); is the file complete?") from error
    return {
        name or str(number): void_to_nan(values, first.nodata, None, first.scaling)
        for number, (name, values) in enumerate(zip(names, stored, strict=True), 1)
    }


class Band(Protocol):
    """The first band of a raster, wherever its pixels are."""

    grid: Grid

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void. The window lies inside the raster."""


class FileBand:
    """A band whose pixels stay in the file; each thread reads through its own handle.

    Args:
        path: the file.
        numbers: "scaled" for heights, "stored" for grey values, "mask" for masks.

    Attributes:
        header: of the file.
        unit: in which the file has its heights; they are read in metres.

    Raises:
        ResDepthError: if it is no raster that can be used, or its scale or its unit makes no heights.
    """

    def __init__(self, path: Path, numbers: Numbers = "scaled") -> None:
        self.header, self.numbers = read_header(path), numbers
        self.nodata = nodata_for(numbers, self.header.nodata)
        self.grid = self.header.grid
        self.unit = (self.header.unit if numbers == "scaled" else None) or METRE
        self.scaling = scaling_for(path, numbers, self.header.scaling, self.unit)
        self._handles = threading.local()

    @property
    def geometry(self) -> ViewGeometry | None:
        """Of an ortho-image: how heights displace what it shows, if its tags state so."""
        return from_tags(read_tags(self.header.path))

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void."""
        values, valid = self.read_raw(window)
        return void_to_nan(values, self.nodata, valid, self.scaling)

    def read_raw(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The stored numbers, unscaled, and True where mask and alpha let them count; None without them."""
        if getattr(self._handles, "pid", None) != os.getpid():
            self._handles.dataset, self._handles.pid = open_dataset(self.header.path), os.getpid()
        where = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            values = self._handles.dataset.read(1, window=where)
            valid = read_valid(self._handles.dataset, where) if self.header.has_mask else None
        except READ_FAILURES as error:
            raise ResDepthError(
                f"{self.header.path}: the pixels of {window} cannot be read ({error}); is the file complete?"
            ) from error
        return values, valid


class ReducedBand(FileBand):
    """All bands of an image as one, alpha aside: their mean, as the grey values of a colour image.

    Args:
        path: the file.
        reduced_to: what counts of several bands.
    """

    def __init__(self, path: Path, *, reduced_to: BandsReduced = "mean") -> None:
        super().__init__(path, "stored")
        self._reduced_to = reduced_to

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void in one of the bands."""
        if self.header.bands == 1:
            return super().read(window)
        where = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            with open_dataset(self.header.path) as dataset:
                alpha = alpha_band(dataset)
                numbers = [number for number in range(1, dataset.count + 1) if number != alpha]
                stored, valid = dataset.read(numbers, window=where), read_valid(dataset, where)
        except READ_FAILURES as error:
            raise ResDepthError(
                f"{self.header.path}: the pixels of {window} cannot be read ({error}); is the file complete?"
            ) from error
        total = np.zeros(window.shape, np.float32)
        for values in stored:
            known = void_to_nan(values, self.nodata, valid)
            total += known if self._reduced_to == "mean" else known * known
        return total / np.float32(len(numbers)) if self._reduced_to == "mean" else np.sqrt(total)


def scaling_for(path: Path, numbers: Numbers, stated: Scaling, unit: Unit) -> Scaling:
    """The scaling to be applied, which makes metres of heights.

    Raises:
        ResDepthError: if heights are meant, and it makes none.
    """
    if numbers != "scaled":
        return UNSCALED
    scale, offset = stated
    if scale == 0 or not (math.isfinite(scale) and math.isfinite(offset)):
        raise ResDepthError(
            f"{path}: its scale {scale:g} and offset {offset:g} make no heights of the stored numbers; "
            "correct them (gdal_edit.py -scale 1 -offset 0, if the numbers are metres)"
        )
    return stated if unit.is_metre else (scale * unit.metres, offset * unit.metres)


def nodata_for(numbers: Numbers, declared: float | None) -> float | None:
    """The nodata value that counts: of a mask not 0, though rasterizers declare it; it is what is not set."""
    return None if numbers == "mask" and declared == 0 else declared


class ArrayBand:
    """A band held in memory, in the type in which it is stored."""

    def __init__(
        self,
        values: NDArray[Any],
        grid: Grid,
        *,
        nodata: float | None = None,
        valid: NDArray[np.bool_] | None = None,
        scaling: Scaling = UNSCALED,
        geometry: ViewGeometry | None = None,
    ) -> None:
        self.grid, self.geometry, self._scaling = grid, geometry, scaling
        self._values, self._nodata, self._valid = values, nodata, valid

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void; always a copy."""
        valid = None if self._valid is None else self._valid[window.slices]
        return void_to_nan(self._values[window.slices], self._nodata, valid, self._scaling)


def hold(band: FileBand) -> ArrayBand:
    """Read a whole band into memory."""
    values, valid = band.read_raw(band.grid.whole)
    return ArrayBand(
        values, band.grid, nodata=band.nodata, valid=valid, scaling=band.scaling, geometry=band.geometry
    )


def void_to_nan(
    values: NDArray[Any],
    nodata: float | None,
    valid: NDArray[np.bool_] | None,
    scaling: Scaling = UNSCALED,
) -> Array:
    """Stored numbers as values: (H, W) float32, a copy; NaN where nodata, not finite or not valid."""
    result = scaled(values, scaling)
    if values.dtype.kind == "f" or scaling != UNSCALED:
        result[~np.isfinite(result)] = np.nan
    if nodata is not None:
        result[_equal_nodata(values, nodata)] = np.nan
    if valid is not None:
        result[~valid] = np.nan
    return result


def _equal_nodata(values: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """(H, W) bool: where stored numbers are the nodata value, as GDAL compares them in the stored type.

    Floats may differ by some units in the last place (ARE_REAL_EQUAL of gdal_priv.h), because programs write
    -3.4e38 and 0.1 in many ways; a nodata value beyond the type's range is its largest number. Integers are
    compared exactly: 0.5, as an integer, would make every 0 a void.
    """
    if values.dtype.kind != "f":
        fits = np.isfinite(nodata) and nodata == int(nodata) and _holds(values.dtype, int(nodata))
        return values == values.dtype.type(int(nodata)) if fits else np.zeros(values.shape, np.bool_)
    largest = float(np.finfo(values.dtype).max)
    as_stored = values.dtype.type(min(max(nodata, -largest), largest))
    with np.errstate(over="ignore", invalid="ignore"):
        near: NDArray[np.bool_] = np.abs(values - as_stored) <= _TOLERANCE * np.abs(values + as_stored)
    return near


def _holds(dtype: np.dtype[Any], number: int) -> bool:
    return dtype.kind != "b" and bool(np.iinfo(dtype).min <= number <= np.iinfo(dtype).max)


def scaled(values: NDArray[Any], scaling: Scaling) -> Array:
    """Stored numbers as values: (H, W) float32, a copy; computed in float64, so as to round once."""
    scale, offset = scaling
    with np.errstate(over="ignore", invalid="ignore"):
        if scaling == UNSCALED:
            return values.astype(np.float32)
        return (values.astype(np.float64) * scale + offset).astype(np.float32)


def count_voids(band: Band, windows: Iterator[Window] | list[Window], rows_at_once: int = 512) -> int:
    """How many void pixels lie in the windows; reads a strip at a time."""
    voids = 0
    for window in windows:
        for row in range(window.row, window.row_stop, rows_at_once):
            height = min(rows_at_once, window.row_stop - row)
            voids += int(np.isnan(band.read(Window(row, window.col, height, window.width))).sum())
    return voids


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
