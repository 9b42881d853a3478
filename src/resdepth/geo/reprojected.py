"""Rasters on grids of other reference systems, block by block."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject, transform

from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs, horizontal_part
from resdepth.geo.gdal import unreferenced_allowed
from resdepth.geo.grid import Bounds, Grid
from resdepth.geo.raster import (
    UNSCALED,
    Array,
    BandsReduced,
    FileBand,
    Method,
    Numbers,
    ReducedBand,
    Scaling,
    read_resampled,
)
from resdepth.geo.rpc import ViewGeometry
from resdepth.geo.windows import Window

# A raster whose pixels are smaller than this share of the grid's is averaged over the pixels of the grid.
FINER = 0.75
MARGIN_PX, LARGEST_READ, EDGE_POINTS = 4, 2**24, 9
FARTHEST_M = 1e5
"""Larger numbers are no heights but nodata values that a file does not declare, as -3.4e38."""


class MapBand:
    """A raster on any grid of any map: its first band; of images the mean of all bands.

    Pixels that coincide with those of the grid are taken as they are. Otherwise finer rasters are averaged
    over the pixels of the grid, others interpolated bilinearly, masks taken from the nearest pixel. Void, or
    outside the raster, is NaN. Heights are metres, and numbers beyond 100 km are void.

    Args:
        path: the file.
        numbers: "scaled" for heights, "stored" for grey values, "mask" for masks.
        crs: of a file that names none.
        scaling: scale and offset that make heights of the numbers that the file has.
        valid: a raster of the same pixels, 0 where the file has no value.
        reduced_to: what counts of several bands of an image.
        other_way: how else a CRS can be named, for the message: ", or with dsm_crs=".

    Raises:
        ResDepthError: if it cannot be read, or lies on no map.
    """

    def __init__(
        self,
        path: Path,
        numbers: Numbers = "scaled",
        *,
        crs: str | None = None,
        scaling: Scaling = UNSCALED,
        other_way: str = "",
        valid: Path | None = None,
        reduced_to: BandsReduced = "mean",
    ) -> None:
        self.path, self.numbers, self._scaling = path, numbers, scaling
        self._band = (
            ReducedBand(path, reduced_to=reduced_to) if numbers == "stored" else FileBand(path, numbers)
        )
        self.header, grid = self._band.header, self._band.grid
        self._valid = None if valid is None else FileBand(valid, "stored")
        if self._valid is not None and self._valid.grid.whole.shape != grid.whole.shape:
            shapes = f"{self._valid.grid.whole.shape} instead of {grid.whole.shape} pixels"
            raise ResDepthError(f"{valid}: is no mask of {path}: it has {shapes}")
        if not grid.crs and crs:
            wkt, name = find_crs(crs)
            grid = replace(grid, crs=wkt, crs_name=name)
        if not grid.crs:
            raise ResDepthError(f"{path}: names no CRS; name it (gdal_edit.py -a_srs EPSG:32632){other_way}")
        self.grid = grid

    @property
    def geometry(self) -> ViewGeometry | None:
        """Of an ortho-image: how heights displace what it shows, if its tags state so."""
        return self._band.geometry

    def on(self, grid: Grid) -> Array:
        """(height, width) float32, NaN = void or outside.

        Raises:
            ResDepthError: if the pixels cannot be read.
        """
        values = self._on(grid)
        if self._scaling != UNSCALED:
            values = values * np.float32(self._scaling[0]) + np.float32(self._scaling[1])
        if self.numbers == "scaled":
            values[np.abs(values) > FARTHEST_M] = np.nan
        return values

    def bounds_on(self, crs: str) -> Bounds:
        """The rectangle of another map that the raster touches.

        Raises:
            ResDepthError: if it lies outside that map.
        """
        x, y = _moved_to(self.path, self.grid, crs, _edges(self.grid))
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def _on(self, grid: Grid) -> Array:
        if grid.may_share_crs(self.grid):
            offset = self.grid.pixel_offset_of(grid)
            if offset is not None:
                return self._cut(Window(*offset, grid.height, grid.width))
            if self._valid is not None or (self.header.bands > 1 and self.numbers == "stored"):
                return self._projected(grid)
            return read_resampled(self.path, grid, self._method(grid.gsd), self.numbers)
        return self._projected(grid)

    def _method(self, gsd: float) -> Method:
        if self.numbers == "mask":
            return "nearest"
        return "average" if self.grid.gsd < FINER * gsd else "bilinear"

    def _projected(self, grid: Grid) -> Array:
        """The pixels of a grid in another CRS; what would need too many of the file's is read in halves."""
        window = self._window_below(grid)
        if not window.area:
            return np.full((grid.height, grid.width), np.nan, np.float32)
        if window.area > LARGEST_READ and grid.whole.area > 1:
            axis = int(grid.width > grid.height)
            return np.concatenate([self._projected(half) for half in _halves(grid, axis)], axis=axis)
        method = self._method(self.grid.gsd_m and grid.gsd_m * self.grid.gsd / self.grid.gsd_m)
        source = self.grid.crop(window)
        warped = np.full((grid.height, grid.width), np.nan, np.float32)
        try:
            with unreferenced_allowed():  # rasterio changes the warning filters within
                reproject(
                    self._read(window), warped, src_nodata=np.nan, dst_nodata=np.nan,
                    src_transform=rasterio.Affine(*source.transform), src_crs=_flat(source),
                    dst_transform=rasterio.Affine(*grid.transform), dst_crs=_flat(grid),
                    resampling=Resampling[method], init_dest_nodata=True, tolerance=0.01,
                )  # fmt: skip
        except (RasterioError, CPLE_BaseError) as error:
            raise ResDepthError(f"{self.path}: cannot be reprojected to {grid.crs_name} ({error})") from error
        return warped

    def _read(self, window: Window) -> Array:
        """A window of the file, NaN where it is void or not valid."""
        values = self._band.read(window)
        if self._valid is not None:
            values[self._valid.read(window) == 0] = np.nan
        return values

    def _cut(self, window: Window) -> Array:
        """The same, NaN outside."""
        values = np.full(window.shape, np.nan, np.float32)
        inside = window.grown(0, within=self.grid.whole)
        if inside.height > 0 and inside.width > 0:
            values[inside.relative_to(window).slices] = self._read(inside)
        return values

    def _window_below(self, grid: Grid) -> Window:
        """The pixels of the file that a grid needs."""
        x, y = _moved_to(self.path, grid, self.grid.crs, _edges(grid))
        a, b, c, d, e, f = tuple(~rasterio.Affine(*self.grid.transform))[:6]
        rows, cols = d * x + e * y + f, a * x + b * y + c
        whole = self.grid.whole
        top, left = max(int(rows.min()) - MARGIN_PX, 0), max(int(cols.min()) - MARGIN_PX, 0)
        bottom = min(int(rows.max()) + 1 + MARGIN_PX, whole.height)
        right = min(int(cols.max()) + 1 + MARGIN_PX, whole.width)
        return Window(top, left, max(bottom - top, 0), max(right - left, 0))


def _flat(grid: Grid) -> CRS:
    return CRS.from_wkt(horizontal_part(grid.crs))


def _halves(grid: Grid, axis: int) -> tuple[Grid, Grid]:
    """The upper and lower half of a grid (axis 0), or the left and right one."""
    half = (grid.width if axis else grid.height) // 2
    if axis:
        return (
            grid.crop(Window(0, 0, grid.height, half)),
            grid.crop(Window(0, half, grid.height, grid.width - half)),
        )
    return (
        grid.crop(Window(0, 0, half, grid.width)),
        grid.crop(Window(half, 0, grid.height - half, grid.width)),
    )


def _edges(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Map positions along the edges of a grid and within it."""
    at = np.linspace(0, 1, EDGE_POINTS)
    row, col = (one.ravel() for one in np.meshgrid(at * grid.height, at * grid.width))
    a, b, c, d, e, f = grid.transform
    return a * col + b * row + c, d * col + e * row + f


def outline_of(grid: Grid) -> list[tuple[float, float]]:
    """Longitudes and latitudes (WGS 84) around a grid, counterclockwise and closed; empty without a CRS.

    Raises:
        ResDepthError: if places on its map have none.
    """
    if not grid.crs:
        return []
    along = np.linspace(0, 1, EDGE_POINTS)[:-1]
    row = np.concatenate([along, np.ones_like(along), 1 - along, np.zeros_like(along)]) * grid.height
    col = np.concatenate([np.zeros_like(along), along, np.ones_like(along), 1 - along]) * grid.width
    a, b, c, d, e, f = grid.transform
    places = a * col + b * row + c, d * col + e * row + f
    try:
        lon, lat = transform(_flat(grid), CRS.from_epsg(4326), *places)
    except (RasterioError, CPLE_BaseError) as error:
        raise ResDepthError(f"{grid.crs_name}: places have no longitude and latitude ({error})") from error
    ring = [(round(float(x), 7), round(float(y), 7)) for x, y in zip(lon, lat, strict=True)]
    if sum(x * v - u * y for (x, y), (u, v) in zip(ring, ring[1:] + ring[:1], strict=True)) < 0:
        ring.reverse()
    return [*ring, ring[0]]


def _moved_to(
    path: Path, grid: Grid, crs: str, places: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Positions on the map of a grid as those on another map."""
    try:
        x, y = np.array(transform(_flat(grid), CRS.from_wkt(horizontal_part(crs)), *places), np.float64)
    except (RasterioError, CPLE_BaseError) as error:
        raise ResDepthError(f"{path}: positions cannot be transformed ({error})") from error
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ResDepthError(
            f"{path}: its area lies outside of the map of the other raster; is its CRS right?"
        )
    return x, y
