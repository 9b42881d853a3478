"""Rasters as other libraries hold them: read, and given back as the kind that they were.

Known are open data sets of rasterio, DataArrays of xarray (with or without rioxarray), rasters of geoutils
and xDEM, tensors of torch, arrays of dask and of numpy. They are recognised by the names of their classes, so
that none of these libraries is imported, or needs to be there. What lies on a map becomes a file while it is
needed.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import MemoryFile

from resdepth.errors import InputProblems, Problem, ResDepthError
from resdepth.geo.crs import READ_FAILURES, length_unit
from resdepth.geo.gdal import open_raster, unreferenced_allowed
from resdepth.geo.geotiff import NODATA
from resdepth.geo.grid import Grid
from resdepth.geo.raster import HEIGHT, UNSCALED, Array, Scaling, read_header
from resdepth.geo.windows import Window
from resdepth.runtime.atomic import temporary_folder
from resdepth.runtime.surroundings import imported, noted_warnings

Transform = tuple[float, float, float, float, float, float]
N_AXES = 2
X_NAMES, Y_NAMES = ("x", "lon", "longitude", "easting"), ("y", "lat", "latitude", "northing")
UNPLACED, HOW_TO_PLACE = "an array has no georeference", "give transform= and crs="
EVEN = 1e-3
"""Coordinates are evenly spaced whose steps differ by less than this share."""
VOID_KEYS = ("_FillValue", "missing_value", "nodata")
STORED_KEYS = (*VOID_KEYS, "scale_factor", "add_offset", "valid_min", "valid_max", "valid_range")
"""Attributes that speak of numbers as they were stored, which refined heights no longer are."""


@dataclass(frozen=True)
class Pixels:
    """What an object holds.

    Attributes:
        values: (H, W), as stored; masked arrays mask voids.
        transform: from (column, row) to map coordinates; None if the object lies on no map.
        crs: WKT; "" if it names none.
        nodata: the number of a void; None if there is none.
        unit: of its heights; "" if it names none.
        scaling: what makes heights of the stored numbers.
    """

    values: NDArray[Any]
    transform: Transform | None = None
    crs: str = ""
    nodata: float | None = None
    unit: str = ""
    scaling: Scaling = UNSCALED


@dataclass(frozen=True)
class Placement:
    """What a user states of arrays, which know neither where they lie nor what is void.

    Attributes:
        gsd: side of a pixel, metres.
        transform: from (column, row) to map coordinates, as rasterio has it.
        crs: of the map: "EPSG:32632", a number, WKT, or a CRS of rasterio or pyproj.
        nodata: the number of a void among heights.
    """

    gsd: float | None = None
    transform: Any = None
    crs: Any = None
    nodata: float | None = None

    @property
    def lies_on_a_map(self) -> bool:
        """Whether more is stated than the size of pixels."""
        return self.transform is not None or self.crs is not None

    @property
    def wkt(self) -> str:
        """The CRS as WKT; "" if none is stated.

        Raises:
            ResDepthError: if it is none.
        """
        return "" if self.crs is None else crs_wkt(self.crs, "crs")

    @property
    def coefficients(self) -> Transform | None:
        """Where pixels lie; None if that is not stated.

        Raises:
            ResDepthError: if the transform is none, or contradicts the pixel size.
        """
        if self.transform is None:
            return None if self.gsd is None else (self.gsd, 0.0, 0.0, 0.0, -self.gsd, 0.0)
        if self.gsd is not None:
            raise ResDepthError("gsd, transform: give one of them; a transform states the size of pixels")
        try:
            a, b, c, d, e, f = (float(value) for value in tuple(self.transform)[:6])
        except (TypeError, ValueError) as error:
            raise ResDepthError(f"transform: found {self.transform!r:.80}; give six numbers") from error
        if not np.isfinite((a, b, c, d, e, f)).all() or a * e == b * d:
            raise ResDepthError(f"transform: found {(a, b, c, d, e, f)}, which gives pixels no area")
        return a, b, c, d, e, f


def crs_wkt(given: Any, name: str) -> str:
    """WKT of a CRS in any form that rasterio takes; `name` is that of the argument or the object.

    Raises:
        ResDepthError: if it is none.
    """
    try:
        wkt: str = CRS.from_user_input(given).to_wkt()
    except (CRSError, TypeError, ValueError) as error:
        raise ResDepthError(
            f"{name}: found {given!r:.80}, which is no CRS that GDAL knows ({error})"
        ) from error
    return wkt


def kind_of(given: Any) -> str:
    """Which kind of raster an object is: "path", "array", or the name of its library."""
    if isinstance(given, str | os.PathLike):
        return "path"
    classes = {(one.__module__.partition(".")[0], one.__name__) for one in type(given).__mro__}
    return next((_SIGNS[one] for one in sorted(classes) if one in _SIGNS), "array")


def is_path(given: Any) -> bool:
    """Whether a raster is named by its path."""
    return kind_of(given) == "path"


def plain(given: Any) -> Any:
    """Arrays of any library as numpy has them; paths, and what no numbers can be made of, as they are."""
    return given if is_path(given) else KINDS[kind_of(given)].read(given, "").values


def like(given: Any, values: Array, part: Window) -> Any:
    """Refined heights as the kind of raster that was given.

    Args:
        given: the raster.
        values: (height, width) float32 of the part, in the unit of the raster, NaN = void.
        part: its pixels.

    Returns:
        A DataArray for a DataArray, and so on, with its georeference, names and chunks; an open data set in
        memory for one of rasterio; an array for a path or an array.
    """
    return KINDS[kind_of(given)].like(given, values, part)


@dataclass(frozen=True)
class Placed:
    """Rasters that can be worked on.

    Attributes:
        rasters: by name, paths; or arrays, if nothing lies on a map.
        placement: what is still to be said of arrays.
        warnings: what may make the result differ from the request, so far.
    """

    rasters: Mapping[str, Any]
    placement: Placement
    warnings: list[str] = field(default_factory=list)


@contextmanager
def placed(
    objects: Mapping[str, Any], placement: Placement, *, heights: Collection[str], to_files: bool = False
) -> Iterator[Placed]:
    """Let rasters of any library be worked on, as long as the block runs.

    Those on a map become files: arrays lie where `placement` says, or as the first raster of their shape.
    Errors and warnings name what was given, not these files.

    Args:
        objects: by the name of the argument: "dsm", "images[0]", "masks['water']".
        placement: what is stated of arrays.
        heights: the names of those that are heights; for them counts `placement.nodata`.
        to_files: let plain arrays become files, too, which lie on no map.

    Raises:
        InputProblems: all objects that are no rasters.
    """
    kinds = {name: kind_of(given) for name, given in objects.items()}
    if not {*kinds.values()} - {"path"}:
        if placement.lies_on_a_map:
            raise ResDepthError("transform, crs: are for arrays; files state their own")
        with noted_warnings() as warnings:
            yield Placed(objects, placement, warnings)
        return
    pixels = _all_read(objects, kinds)
    on_map = placement.lies_on_a_map or any(
        one is None or one.transform for name, one in pixels.items() if kinds[name] != "path"
    )
    if not (on_map or to_files):
        arrays = {name: objects[name] if one is None else one.values for name, one in pixels.items()}
        with noted_warnings() as warnings:
            yield Placed(arrays, placement, warnings)
        return
    if not on_map:
        placement = replace(placement, gsd=1.0 if placement.gsd is None else placement.gsd)
    with temporary_folder(Path(tempfile.gettempdir()), "rasters") as temporary:
        temporary.mkdir(exist_ok=True)
        with _named(temporary, objects) as warnings:
            files = _files(temporary, objects, pixels, placement, heights)
            yield Placed(files, Placement(), warnings)


def write_object(given: Any, path: Path, name: str, *, nodata: float | None = None) -> None:
    """Write a raster of any library that lies on a map to a GeoTIFF.

    Raises:
        ResDepthError: if it is no raster, or lies on no map.
    """
    pixels = KINDS[kind_of(given)].read(given, name)
    if pixels.transform is None:
        raise ResDepthError(f"{name}: {UNPLACED}; give a path, or a raster that has one")
    _write(path, pixels if nodata is None else replace(pixels, nodata=nodata))


def path_of(given: Any) -> Path | None:
    """The file that a raster is, if it is one: a path, or an open data set of rasterio on disk."""
    if is_path(given):
        return Path(given)
    if kind_of(given) != "rasterio" or type(given).__name__ == "WarpedVRT":
        return None
    return Path(given.name) if os.path.isfile(given.name) else None  # noqa: PTH113 - names of memory files


def data_array(values: NDArray[Any], grid: Grid, name: str, **attrs: Any) -> Any:
    """(H, W) values as a DataArray with the coordinates and the CRS of a grid, as rioxarray has them.

    Raises:
        ResDepthError: if xarray is not installed.
    """
    xarray = imported("xarray", "xarray")
    a, b, c, d, e, f = grid.transform
    coords: dict[str, Any] = {}
    if b == d == 0:  # else no axis of the raster has coordinates of its own
        coords = {"y": f + e * (np.arange(grid.height) + 0.5), "x": c + a * (np.arange(grid.width) + 0.5)}
    stated = {"crs_wkt": grid.crs, "spatial_ref": grid.crs} if grid.crs else {}
    reference = xarray.DataArray(0, attrs={**stated, "GeoTransform": _gdal_order(grid.transform)})
    array = xarray.DataArray(
        values, dims=("y", "x"), coords={**coords, "spatial_ref": reference}, name=name, attrs=attrs
    )
    array.encoding["grid_mapping"] = "spatial_ref"
    return array


def _gdal_order(transform: Transform) -> str:
    a, b, c, d, e, f = transform
    return " ".join(repr(float(value)) for value in (c, a, b, f, d, e))


def _transform_within(transform: Transform, part: Window) -> Transform:
    """The transform of a part of a raster."""
    a, b, c, d, e, f = transform
    return a, b, a * part.col + b * part.row + c, d, e, d * part.col + e * part.row + f


def _all_read(objects: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Pixels | None]:
    """The pixels of all objects; None for those that are files.

    Raises:
        InputProblems: all that are no rasters.
    """
    pixels: dict[str, Pixels | None] = {}
    problems = []
    for name, given in objects.items():
        try:
            pixels[name] = None if path_of(given) else KINDS[kinds[name]].read(given, name)
        except ResDepthError as error:
            problems.append(Problem(name, str(error).removeprefix(f"{name}: ")))
    if problems:
        raise InputProblems(problems)
    return pixels


def _files(
    folder: Path, objects: Mapping[str, Any], pixels: Mapping[str, Pixels | None], placement: Placement,
    heights: Collection[str],
) -> dict[str, Path]:  # fmt: skip
    """All objects as files, those in memory in a folder.

    Raises:
        InputProblems: all arrays of which nobody knows where they lie.
    """
    transform, wkt = placement.coefficients, placement.wkt
    files, problems = {}, []
    for name, given in objects.items():
        own, found = path_of(given), pixels[name]
        nodata = placement.nodata if name in heights and not is_path(given) else None
        if found is None and nodata is None and own is not None:
            files[name] = own
            continue
        found = KINDS[kind_of(given)].read(given, name) if found is None else found
        if not found.transform:
            twin = None if transform else _twin_of(found, objects, pixels)
            if transform is None and twin is None:
                text = f"{UNPLACED}, and no other raster has its shape; {HOW_TO_PLACE}"
                problems.append(Problem(name, text))
                continue
            where = (transform, wkt) if twin is None else (twin.transform, twin.crs)
            found = replace(found, transform=where[0], crs=where[1])
        files[name] = folder / name
        voids = found.nodata if nodata is None else nodata
        _write(files[name], replace(found, crs=found.crs or wkt, nodata=voids))
    if problems:
        raise InputProblems(problems)
    return files


def _twin_of(array: Pixels, objects: Mapping[str, Any], pixels: Mapping[str, Pixels | None]) -> Grid | None:
    """Where the first raster lies that has the shape of an array and lies anywhere."""
    for name, one in pixels.items():
        own = path_of(objects[name])
        if one is not None and one.transform and one.values.shape == array.values.shape:
            height, width = array.values.shape
            return Grid(height, width, one.transform, one.crs)
        if one is None and own is not None:
            with suppress(ResDepthError):  # what cannot be read is stated by whoever reads it
                grid = read_header(own).grid
                if (grid.height, grid.width) == array.values.shape:
                    return grid
    return None


@contextmanager
def _named(folder: Path, objects: Collection[str]) -> Iterator[list[str]]:
    """Name the files of a folder by their names alone in errors and warnings: they are arguments."""
    declared = re.compile(rf"gdal_edit\.py -a_nodata (\S+) ({'|'.join(map(re.escape, objects))})(?!\S)")

    def renamed(text: str) -> str:
        return declared.sub(r"give nodata=\1", text.replace(f"{folder}{os.sep}", ""))

    with noted_warnings(renamed) as warnings:
        try:
            yield warnings
        except InputProblems as error:
            error.problems = tuple(_stated(one, renamed) for one in error.problems)
            error.args = ("\n".join(str(one) for one in error.problems),)
            raise
        except ResDepthError as error:
            error.args = tuple(renamed(one) if isinstance(one, str) else one for one in error.args)
            raise


def _stated(problem: Problem, renamed: Callable[[str], str]) -> Problem:
    where, message = renamed(problem.where), renamed(problem.message)
    return replace(problem, where=where, message=message.removeprefix(f"{where}: "))


def _write(path: Path, pixels: Pixels) -> None:
    """A GeoTIFF of what an object holds."""
    values = _storable(pixels.values)
    try:
        with open_raster(
            path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1,
            dtype=values.dtype, crs=pixels.crs or None, nodata=_nodata_within(pixels.nodata, values.dtype),
            transform=rasterio.Affine(*pixels.transform or ()), tiled=True, BIGTIFF="IF_SAFER",
        ) as file:  # fmt: skip
            file.write(values, 1)
            file.scales, file.offsets = (pixels.scaling[0],), (pixels.scaling[1],)
            if length_unit(pixels.unit):
                file.units = (pixels.unit,)
    except (*READ_FAILURES, OSError, TypeError, ValueError) as error:
        raise ResDepthError(f"{path}: cannot be kept as a raster ({error})") from error


def _storable(values: NDArray[Any]) -> NDArray[Any]:
    """Pixels in a type of GeoTIFFs, without a mask."""
    if values.dtype.kind == "b" or values.dtype == np.float16:
        values = values.astype(np.uint8 if values.dtype.kind == "b" else np.float32)
    if isinstance(values, np.ma.MaskedArray):
        if not np.ma.getmaskarray(values).any():
            return values.data
        wide = values.dtype.itemsize > 2 and values.dtype != np.float32
        return np.ma.filled(values.astype(np.float64 if wide else np.float32), np.nan)
    return values


def _nodata_within(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """The number that stands for a void, if the type has it at all."""
    if nodata is None or dtype.kind == "f":
        return nodata
    limits = np.iinfo(dtype)
    return nodata if np.isfinite(nodata) and limits.min <= nodata <= limits.max else None


class Kind(NamedTuple):
    """How rasters of a library are read, by their argument's name, and made (see `like`)."""

    read: Callable[[Any, str], Pixels]
    like: Callable[[Any, Array, Window], Any]


def _of_array(given: Any, name: str) -> Pixels:  # noqa: ARG001 - as all others
    return Pixels(given)


def _like_array(given: Any, values: Array, part: Window) -> Any:  # noqa: ARG001 - as all others
    return values


def _of_tensor(given: Any, name: str) -> Pixels:  # noqa: ARG001 - as all others
    held = given.detach().cpu()
    return Pixels((held.float() if held.is_floating_point() else held).numpy())


def _like_tensor(given: Any, values: Array, part: Window) -> Any:  # noqa: ARG001 - as all others
    return sys.modules["torch"].from_numpy(values).to(given.device)


def _of_dask(given: Any, name: str) -> Pixels:  # noqa: ARG001 - as all others
    return Pixels(np.asanyarray(given))


def _like_dask(given: Any, values: Array, part: Window) -> Any:  # noqa: ARG001 - as all others
    return sys.modules["dask.array"].from_array(values, chunks=given.chunksize)


def _of_rasterio(given: Any, name: str) -> Pixels:
    if given.closed:
        raise ResDepthError(f"{name}: the data set {given.name} is closed; use it within its `with` block")
    if given.mode != "r":
        raise ResDepthError(
            f"{name}: the data set {given.name} is open for writing; close it, and give its path"
        )
    if given.count > 1 and given.descriptions[0] != HEIGHT:
        raise ResDepthError(
            f"{name}: {given.name} is no file, and has {given.count} bands; write the one to use to a file"
        )
    if given.rpcs is not None:
        raise ResDepthError(
            f"{name}: {given.name} is no file; raw images with RPCs are read from files: give a path, or a "
            "data set that was opened by one"
        )
    try:
        values = given.read(1, masked=True)
    except READ_FAILURES as error:
        raise ResDepthError(f"{name}: the pixels of {given.name} cannot be read ({error})") from error
    crs = given.crs.to_wkt() if given.crs else ""
    scaling = given.scales[0], given.offsets[0]
    return Pixels(values, tuple(given.transform)[:6], crs, given.nodata, given.units[0] or "", scaling)


def _like_rasterio(given: Any, values: Array, part: Window) -> Any:
    """An open data set in memory, which goes with the last reference to it."""
    memory = MemoryFile()
    voids = np.isnan(values)
    with unreferenced_allowed(), memory.open(
        driver="GTiff", height=part.height, width=part.width, count=1, dtype="float32", crs=given.crs,
        transform=rasterio.Affine(*_transform_within(tuple(given.transform)[:6], part)), nodata=NODATA,
    ) as file:  # fmt: skip
        file.write(np.where(voids, np.float32(NODATA), values), 1)
        file.descriptions, file.units = (HEIGHT,), (given.units[0] or "metre",)
    with unreferenced_allowed():
        opened = memory.open()
    opened.memory = memory  # or its bytes would go with it
    return opened


def _of_xarray(given: Any, name: str) -> Pixels:
    if hasattr(given, "data_vars"):
        raise ResDepthError(f"{name}: is a Dataset; give one of its variables: data['dsm']")
    if len(given.dims) < N_AXES or any(size != 1 for size in given.shape[:-2]):
        sizes = ", ".join(f"{dim}: {size}" for dim, size in zip(given.dims, given.shape, strict=True))
        raise ResDepthError(f"{name}: has the dimensions ({sizes}); choose one band: array.isel(band=0)")
    rows, cols = given.dims[-2:]
    if str(rows).lower() in X_NAMES or str(cols).lower() in Y_NAMES:
        raise ResDepthError(
            f"{name}: its dimensions are ({rows}, {cols}); rows come first: "
            f"array.transpose({cols!r}, {rows!r})"
        )
    attrs = {**given.encoding, **given.attrs}
    nodata = next((attrs[key] for key in VOID_KEYS if attrs.get(key) is not None), None)
    stored = "scale_factor" in given.attrs or "add_offset" in given.attrs
    scaling = (float(attrs.get("scale_factor", 1)), float(attrs.get("add_offset", 0))) if stored else UNSCALED
    return Pixels(
        np.asarray(given.values).reshape(given.shape[-2:]),
        _transform_of(given, name),
        _crs_of(given, name),
        None if nodata is None else float(nodata),
        str(attrs.get("units", "")),
        scaling,
    )


def _mapping_of(given: Any) -> tuple[str, Mapping[str, Any]]:
    """Name and attributes of the coordinate that states the CRS; "" without one."""
    stated = (given.encoding.get("grid_mapping"), given.attrs.get("grid_mapping"), "spatial_ref", "crs")
    name = next((one for one in stated if one in given.coords), "")
    return name, given.coords[name].attrs if name else {}


def _crs_of(given: Any, name: str) -> str:
    _, attrs = _mapping_of(given)
    stated = attrs.get("crs_wkt") or attrs.get("spatial_ref") or given.attrs.get("crs")
    if not stated and str(given.dims[-1]).lower() in ("lon", "longitude"):
        stated = "EPSG:4326"  # CF: longitudes are degrees
    return crs_wkt(stated, name) if stated else ""


def _transform_of(given: Any, name: str) -> Transform | None:
    """From the coordinates of its axes, or else from what its CRS's coordinate states."""
    axes = [given.coords[dim] for dim in given.dims[-2:] if dim in given.coords]
    if len(axes) == N_AXES and all(axis.ndim == 1 and axis.size > 1 for axis in axes):
        (y, dy), (x, dx) = (_even(np.asarray(axis.values, np.float64), axis.name, name) for axis in axes)
        return dx, 0.0, x - dx / 2, 0.0, dy, y - dy / 2
    stated = str(_mapping_of(given)[1].get("GeoTransform", "")).split()
    if len(stated) != len("abcdef"):
        return None
    c, a, b, f, d, e = (float(value) for value in stated)
    return a, b, c, d, e, f


def _even(values: NDArray[np.float64], axis: Any, name: str) -> tuple[float, float]:
    """The first coordinate, and the step to the next."""
    step = (values[-1] - values[0]) / (values.size - 1)
    if not step or np.abs(np.diff(values) - step).max() > EVEN * abs(step):
        raise ResDepthError(
            f"{name}: its coordinates {axis} are not evenly spaced; bring it to a regular grid"
        )
    return float(values[0]), float(step)


def _like_xarray(given: Any, values: Array, part: Window) -> Any:
    rows, cols = given.dims[-2:]
    cut = given.isel({rows: slice(part.row, part.row_stop), cols: slice(part.col, part.col_stop)})
    result = cut.copy(data=values.reshape(cut.shape))
    result.attrs = {key: value for key, value in given.attrs.items() if key not in STORED_KEYS}
    result.encoding = {key: value for key, value in given.encoding.items() if key == "grid_mapping"}
    mapping, attrs = _mapping_of(given)
    if "GeoTransform" in attrs and (transform := _transform_of(given, "")) is not None:
        moved = {**attrs, "GeoTransform": _gdal_order(_transform_within(transform, part))}
        result = result.assign_coords({mapping: given.coords[mapping].copy().assign_attrs(moved)})
    return result if given.chunks is None else result.chunk(cut.chunksizes)


def _of_geoutils(given: Any, name: str) -> Pixels:
    if given.count > 1:
        raise ResDepthError(f"{name}: has {given.count} bands; choose one: raster.split_bands()[0]")
    crs = given.crs.to_wkt() if given.crs else ""
    values = np.ma.asanyarray(given.data)
    nodata = None if given.nodata is None else float(given.nodata)
    return Pixels(values.reshape(values.shape[-2:]), tuple(given.transform)[:6], crs, nodata)


def _like_geoutils(given: Any, values: Array, part: Window) -> Any:
    more = {"vcrs": given.vcrs} if getattr(given, "vcrs", None) is not None else {}
    transform = rasterio.Affine(*_transform_within(tuple(given.transform)[:6], part))
    return type(given).from_array(
        np.ma.masked_invalid(values), transform=transform, crs=given.crs, nodata=NODATA, **more
    )


KINDS: Mapping[str, Kind] = {
    "path": Kind(_of_array, _like_array),
    "array": Kind(_of_array, _like_array),
    "dask": Kind(_of_dask, _like_dask),
    "geoutils": Kind(_of_geoutils, _like_geoutils),
    "rasterio": Kind(_of_rasterio, _like_rasterio),
    "torch": Kind(_of_tensor, _like_tensor),
    "xarray": Kind(_of_xarray, _like_xarray),
}
_SIGNS = {
    ("dask", "Array"): "dask",
    ("geoutils", "Raster"): "geoutils",
    ("rasterio", "DatasetBase"): "rasterio",
    ("torch", "Tensor"): "torch",
    ("xarray", "DataArray"): "xarray",
    ("xarray", "Dataset"): "xarray",
}
