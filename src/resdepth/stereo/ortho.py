"""Raw satellite images, their RPCs and when they were taken, coordinates between CRSs, ortho-rectification.

Like geo/raster.py this speaks to rasterio, and like it keeps nodata numbers to itself. GDAL reads the files
that sensors deliver (DIMAP of Pleiades and SPOT, .IMD of WorldView, and others) as tags of the domains
IMAGERY and IMD; a GeoTIFF may have tags of its own.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.fill import fillnodata
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject, transform
from rasterio.windows import Window as RasterioWindow

from resdepth.errors import ResDepthError
from resdepth.geo.crs import READ_FAILURES
from resdepth.geo.gdal import open_raster, unreferenced_allowed
from resdepth.geo.geotiff import CheckedBand, writing
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand, ReducedBand, open_dataset, read_tags
from resdepth.geo.rpc import N_TERMS, Rpc
from resdepth.geo.windows import Window
from resdepth.runtime.atomic import atomic_path
from resdepth.runtime.paths import read_text

Array = NDArray[np.float32]
TAKEN = ("acquisitiondatetime", "acquisitiondate")
SUN_AZIMUTH = ("sunazimuth", "sunazimuthangle", "meansunaz", "sunaz")
SUN_ELEVATION = ("sunelevation", "sunelevationangle", "meansunel", "sunel")
"""Last parts of the names of tags, in small letters alone."""


class Image(Protocol):
    """A raw image, read a window at a time."""

    rpc: Rpc
    grid: Grid

    def read(self, window: Window) -> Array:
        """(H, W) float32 grey values, NaN = nothing seen."""


class RawImage:
    """A raw satellite image with the RPC in its tags."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            ResDepthError: if it cannot be read, or has no RPC.
        """
        self.path, self._band = path, FileBand(path)
        self.rpc, self.grid = read_rpc(path), self._band.grid

    def read(self, window: Window) -> Array:
        """(H, W) float32 grey values, NaN = nothing seen."""
        return self._band.read(window)


class PanchromaticImage:
    """A raw image of any number of bands as one of grey values: the mean of its bands, alpha aside.

    Attributes:
        bands: how many there are.
        dtype: in which they are stored.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            ResDepthError: if it cannot be read, or has no RPC.
        """
        self.path, self._band = path, ReducedBand(path)
        self.rpc, self.grid = read_rpc(path), self._band.grid
        self.bands, self.dtype = self._band.header.bands, self._band.header.dtype

    def read(self, window: Window) -> Array:
        """(H, W) float32 grey values, NaN = nothing seen in one of the bands."""
        return self._band.read(window)


class DescribedImage:
    """An image with another RPC."""

    def __init__(self, image: Image, rpc: Rpc) -> None:
        self._image, self.rpc, self.grid = image, rpc, image.grid

    def read(self, window: Window) -> Array:
        """(H, W) float32 grey values, NaN = nothing seen."""
        return self._image.read(window)


class ReducedImage:
    """An image of larger pixels, each the mean of `factor` x `factor` pixels of another.

    Its grid has a size only: its RPC knows where its pixels lie. What is left of a last row is left out.
    """

    def __init__(self, image: Image, factor: int) -> None:
        self._image, self._factor = image, factor
        row, col, *_ = image.rpc.offsets
        rows, cols, *_ = image.rpc.scales
        half = (factor - 1) / 2  # its first centre lies so far from that of the image
        self.rpc = replace(
            image.rpc,
            offsets=((row - half) / factor, (col - half) / factor, *image.rpc.offsets[2:]),
            scales=(rows / factor, cols / factor, *image.rpc.scales[2:]),
        )
        whole = image.grid
        self.grid = replace(whole, height=whole.height // factor, width=whole.width // factor)

    def read(self, window: Window) -> Array:
        """(H, W) float32 means of grey values, NaN = one of the pixels shows nothing."""
        n = self._factor
        fine = self._image.read(Window(window.row * n, window.col * n, window.height * n, window.width * n))
        means: Array = fine.reshape(window.height, n, window.width, n).mean(axis=(1, 3), dtype=np.float32)
        return means


def reduced(image: Image, factor: int) -> Image:
    """The image in pixels `factor` times as large."""
    return image if factor == 1 else ReducedImage(image, factor)


Values = NDArray[np.float64]

# Satellite images store 0 where they see nothing.
IMAGE_NODATA = 0

IN_MEMORY = Path("/vsimem/ortho")
"""The name of a raster in memory: of no file, as what has its name is removed."""


def to_geographic(crs: str, x: Values, y: Values) -> tuple[Values, Values]:
    """Longitude and latitude (WGS 84, degrees) of map positions; arrays of any one shape.

    Raises:
        ResDepthError: if the CRS does not say where on earth it lies.
    """
    return _transformed(crs, x, y, back=False)


def from_geographic(crs: str, lon: Values, lat: Values) -> tuple[Values, Values]:
    """Map positions of longitudes and latitudes (WGS 84, degrees); arrays of any one shape.

    Raises:
        ResDepthError: if the CRS does not say where on earth it lies.
    """
    return _transformed(crs, lon, lat, back=True)


def _transformed(crs: str, x: Values, y: Values, *, back: bool) -> tuple[Values, Values]:
    x, y = np.broadcast_arrays(x, y)
    try:
        ends = CRS.from_user_input(crs), CRS.from_epsg(4326)
        first, second = transform(*(reversed(ends) if back else ends), x.ravel(), y.ravel())
    except (RasterioError, CPLE_BaseError) as error:
        raise ResDepthError(
            f"positions in {crs!r} cannot be turned into longitude and latitude, or back ({error})"
        ) from error
    return np.reshape(first, x.shape), np.reshape(second, x.shape)


class ImageWriter:
    """An open satellite image that is being filled; see `new_image`."""

    def __init__(self, band: CheckedBand) -> None:
        self._band = band

    def write(self, window: Window, values: NDArray[Any]) -> None:
        """Write the pixels of a window."""
        where = RasterioWindow(window.col, window.row, window.width, window.height)
        self._band.write(where, values)


@contextmanager
def new_image(
    path: Path, height: int, width: int, rpc: Rpc, *, dtype: str = "uint16"
) -> Iterator[ImageWriter]:
    """Write a raw satellite image (tiled, 0 = nothing seen) with its RPC in the tags.

    Args:
        path: the file; its folder exists. It appears once it is complete.
        height: in pixels.
        width: in pixels.
        rpc: where its pixels lie.
        dtype: of its grey values: uint8, uint16 or float32.

    Raises:
        ResDepthError: if it cannot be written.
    """
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": dtype,
        "nodata": IMAGE_NODATA, "compress": "DEFLATE", "zlevel": 1,
        "predictor": 3 if dtype == "float32" else 2,
        "tiled": True, "blockxsize": 128, "blockysize": 128, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    with writing(path), atomic_path(path) as temporary:
        with open_raster(temporary, "w", **profile) as dataset:
            dataset.rpcs = _to_tags(rpc)
            band = CheckedBand(dataset)
            with band.in_use():
                yield ImageWriter(band)
        band.demand_kept(temporary)


def read_rpc(path: Path) -> Rpc:
    """The RPC of an image: in its tags, in a file that GDAL finds beside it, or in a .geom file.

    Raises:
        ResDepthError: if the file is no raster, or has none.
    """
    try:
        with open_dataset(path) as dataset:
            tags = dataset.rpcs
            values = [] if tags is None else [*tags.to_dict().values()]
            left, _, _, top, *_ = dataset.get_transform()
    except (ValueError, LookupError, TypeError, AttributeError, *READ_FAILURES) as error:
        raise ResDepthError(f"{path}: the RPC in its tags cannot be read ({error!s:.200})") from error
    lists = [value for value in values if isinstance(value, list)]
    numbers = np.array([one for value in values for one in np.ravel(value) if one is not None], np.float64)
    if not np.isfinite(numbers).all() or any(len(one) != N_TERMS for one in lists):
        raise ResDepthError(f"{path}: the RPC in its tags has numbers that are not finite, or too few")
    if tags is None and (geom := geom_beside(path)):
        # Orfeo ToolBox counts from the middle of the first pixel, geotransforms from its corner.
        return read_geom(geom, (top + 0.5 if top else 0.0, left + 0.5 if left else 0.0))
    if tags is None:
        raise ResDepthError(f"{path}: has no RPC in its tags; a raw satellite image is expected")
    return Rpc(
        tuple(tags.line_num_coeff),
        tuple(tags.line_den_coeff),
        tuple(tags.samp_num_coeff),
        tuple(tags.samp_den_coeff),
        (tags.line_off, tags.samp_off, tags.lat_off, tags.long_off, tags.height_off),
        (tags.line_scale, tags.samp_scale, tags.lat_scale, tags.long_scale, tags.height_scale),
    )


def has_rpc(path: Path) -> bool:
    """Whether there is an RPC in an image or beside it.

    Raises:
        ResDepthError: if the file is no raster.
    """
    with open_dataset(path) as dataset:
        return bool(dataset.tags(ns="RPC")) or geom_beside(path) is not None


def _to_tags(rpc: Rpc) -> RPC:
    row_off, col_off, lat_off, lon_off, height_off = rpc.offsets
    row_scale, col_scale, lat_scale, lon_scale, height_scale = rpc.scales
    return RPC(
        height_off=height_off,
        height_scale=height_scale,
        lat_off=lat_off,
        lat_scale=lat_scale,
        line_den_coeff=list(rpc.row_den),
        line_num_coeff=list(rpc.row_num),
        line_off=row_off,
        line_scale=row_scale,
        long_off=lon_off,
        long_scale=lon_scale,
        samp_den_coeff=list(rpc.col_den),
        samp_num_coeff=list(rpc.col_num),
        samp_off=col_off,
        samp_scale=col_scale,
        err_bias=None,
        err_rand=None,
    )


def orthorectified(image: Path, dsm: Path, grid: Grid, *, threads: int = 1) -> Array:
    """An image put onto a grid of the ground, through its RPC and the heights of a DSM.

    Nothing is looked at but the DSM: what it hides or misplaces shows up as ghosts, as in the published data.

    Args:
        image: with RPC tags; 0 = nothing seen.
        dsm: GeoTIFF of heights as the RPC has them (above the ellipsoid); covers the grid.
        grid: of the result.
        threads: of GDAL; the result does not depend on them.

    Returns:
        (H, W) float32 grey values, cubic, NaN where the image shows nothing.

    Raises:
        ResDepthError: if one of the files cannot be read.
    """
    place = {"crs": CRS.from_user_input(grid.crs), "transform": Affine(*grid.transform)}
    layout = {"driver": "MEM", "height": grid.height, "width": grid.width, "count": 1, "dtype": "float32"}
    # Not into an array: for those rasterio changes the filters of warnings, and all others had to wait.
    with (
        open_dataset(image) as dataset,
        open_raster(IN_MEMORY, "w+", **layout, **place, nodata=np.nan) as result,
        _stated_as(image, dsm),
    ):
        reproject(
            rasterio.band(dataset, 1),
            rasterio.band(result, 1),
            rpcs=dataset.rpcs,
            src_crs=CRS.from_epsg(4326),
            src_nodata=IMAGE_NODATA,
            dst_nodata=np.nan,
            resampling=Resampling.cubic,
            RPC_DEM=str(dsm),
            num_threads=threads,
            warp_mem_limit=64,
        )
        ortho: Array = result.read(1)
    return ortho


@contextmanager
def _stated_as(image: Path, dsm: Path) -> Iterator[None]:
    try:
        yield
    except RasterioError as error:
        raise ResDepthError(f"{image}: cannot be ortho-rectified with {dsm} ({error})") from error


def fill_voids(values: Array, reach_px: int) -> Array:
    """Heights with voids filled from around by inverse distance; voids wider than the reach stay.

    Args:
        values: (H, W) float32, NaN = void.
        reach_px: how far a void looks for heights.
    """
    filled = values.copy()
    known = (~np.isnan(values)).astype(np.uint8)
    with unreferenced_allowed():  # rasterio changes the warning filters within
        fillnodata(filled, mask=known, max_search_distance=reach_px, smoothing_iterations=0)
    return filled


FORMAT = "B"
"""The order of terms that RPCs have in GeoTIFF tags, RPC00B."""
OFFSETS = ("line", "samp", "lat", "long", "height")


def geom_beside(image: Path) -> Path | None:
    """The .geom file of an image, if there is one."""
    path = image.with_suffix(".geom")
    return path if path.is_file() else None


def read_geom(path: Path, corner: tuple[float, float]) -> Rpc:
    """The RPC of a .geom file.

    Args:
        path: the file.
        corner: row and column, in the image for which the RPC was made, of the first pixel's centre: cut-outs
            state it in their geotransform.

    Raises:
        ResDepthError: if it cannot be read, or holds no such RPC.
    """
    values = _values(path)
    kind = values.get("polynomial_format", FORMAT)
    if kind != FORMAT:
        raise ResDepthError(f"{path}: polynomial_format is {kind!r}; only {FORMAT!r} (RPC00B) is read")

    def number(key: str) -> float:
        try:
            found = float(values[key])
        except (KeyError, ValueError) as error:
            found_text = values.get(key, "nothing")
            raise ResDepthError(f"{path}: {key}: found {found_text!r:.80}; a number is needed") from error
        if not math.isfinite(found):
            raise ResDepthError(f"{path}: {key}: found {found}; must be finite")
        return found

    def terms(name: str) -> tuple[float, ...]:
        return tuple(number(f"{name}_coeff_{index:02d}") for index in range(N_TERMS))

    row, col, *others = (number(f"{name}_off") for name in OFFSETS)
    return Rpc(
        terms("line_num"), terms("line_den"), terms("samp_num"), terms("samp_den"),
        (row - corner[0], col - corner[1], *others),  # type: ignore[arg-type] # five
        tuple(number(f"{name}_scale") for name in OFFSETS),  # type: ignore[arg-type]
    )  # fmt: skip


def _values(path: Path) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in read_text(path).splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


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
