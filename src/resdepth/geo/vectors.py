"""Polygons of vector files as masks on a grid, block by block."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.warp import transform, transform_bounds

from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Bounds, Grid
from resdepth.geo.raster import Array, unreferenced_allowed
from resdepth.geo.vector_io import SUFFIXES, Shapes, VectorFile, extent, open_vector_file, split_layer
from resdepth.geo.windows import Window

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

# So many polygons are kept in memory, at about 1 kB each; of more only those of the block that is read.
HELD = 200_000


def is_vector(path: Path) -> bool:
    """Whether a file holds polygons rather than pixels, by its suffix ("town.gpkg|layername=roofs" does)."""
    return split_layer(path)[0].suffix.lower() in SUFFIXES


class VectorMask:
    """Polygons as a band: 1 where a pixel's centre lies in one of them, 0 elsewhere; never void.

    Where a centre lies on the edge of a polygon, GDAL's rasterize decides. Threads may read side by side.
    """

    def __init__(self, grid: Grid, find: Callable[[Window], Shapes]) -> None:
        """A mask on a grid; `find` gives the polygons near a window, in the grid's CRS."""
        self.grid = grid
        self._find = find

    def read(self, window: Window) -> Array:
        """(height, width) float32, 1 inside, 0 outside."""
        polygons = self._find(window)
        if not len(polygons):
            return np.zeros(window.shape, np.float32)
        place = rasterio.Affine(*self.grid.crop(window).transform)
        with unreferenced_allowed():  # rasterio changes the warning filters within
            return np.asarray(rasterize(polygons, out_shape=window.shape, transform=place, dtype="float32"))


def open_vector_mask(path: Path, grid: Grid, *, may_be_empty: bool = False) -> VectorMask:
    """The polygons of a file as a mask on a grid.

    Up to 200,000 polygons near the grid are kept in memory. Of more only those of the block that is read, if
    the format allows it (GeoPackage, FlatGeobuf, Shapefile); those of GeoJSON and GML are always kept.

    Args:
        path: a GeoPackage, GeoJSON, Shapefile or other file that GDAL reads, where need be with a layer:
            "town.gpkg|layername=roofs"; or a CityJSON model, whose buildings count.
        grid: of the mask. Polygons in another CRS are transformed, vertex by vertex. Where a CRS is unknown,
            coordinates are taken as they are, and a warning says so.
        may_be_empty: it does no harm if no polygon touches the grid.

    Raises:
        ResDepthError: if the file cannot be read, holds anything but polygons, or none that touches the grid;
            or if pyogrio or shapely is missing.
    """
    file = open_vector_file(path)
    placement = _placement(file, grid)
    box = placement.box_of(grid.whole)
    polygons = file.polygons(box, HELD)
    if polygons is None and file.searchable:
        return VectorMask(grid, lambda window: placement.placed(file.polygons(placement.box_of(window))))
    held = HeldPolygons(placement.placed(file.polygons(box) if polygons is None else polygons), grid)
    if not may_be_empty and not len(held.near(grid.whole)):
        raise ResDepthError(
            f"{path}: no polygon lies on the raster, which covers {_text(grid.bounds)} in {grid.crs_name}; "
            f"the file covers {_text(file.bounds)} in {file.crs[:60] or 'an unknown CRS'}. Is it the right "
            "file, and its CRS the one of its coordinates?"
        )
    return VectorMask(grid, held.near)


def bounds_on(path: Path, grid: Grid) -> Bounds:
    """The extent of all polygons of a file, in the CRS of a grid: xmin, ymin, xmax, ymax.

    Args:
        path: as for `open_vector_mask`.
        grid: whose CRS counts; its extent does not matter.

    Raises:
        ResDepthError: if the file cannot be read, holds anything but polygons, or none.
    """
    file = open_vector_file(path)
    polygons = _placement(file, grid).placed(file.polygons())
    if not len(polygons):
        raise ResDepthError(f"{path}: has no polygon with an area; there is no region to take from it")
    return extent(_shapely().get_coordinates(polygons))


def _shapely() -> Any:
    import shapely  # whoever opened a vector file has found it

    return shapely


def _text(bounds: Bounds) -> str:
    return " ".join(f"{one:.10g}" for one in bounds)


class HeldPolygons:
    """Polygons in memory, found by place."""

    def __init__(self, polygons: Shapes, grid: Grid) -> None:
        self._polygons, self._grid = polygons, grid
        self._tree = _shapely().STRtree(polygons)
        self.near(grid.whole)  # the first search completes the tree, which two threads must not do

    def near(self, window: Window) -> Shapes:
        """The polygons whose box touches that of a window."""
        found: NDArray[np.int64] = self._tree.query(_shapely().box(*self._grid.crop(window).bounds))
        return self._polygons[found]


@dataclass(frozen=True)
class Placement:
    """How the coordinates of a file become those of a grid.

    Attributes:
        path: for messages.
        grid: the grid.
        crs: the file's and the grid's where they differ; None where coordinates are taken as they are.
    """

    path: Path
    grid: Grid
    crs: tuple[CRS, CRS] | None

    def placed(self, polygons: Shapes | None) -> Shapes:
        """Polygons of the file in the grid's CRS, vertex by vertex."""
        assert polygons is not None, "asked for without a limit"
        return polygons if self.crs is None else np.asarray(_shapely().transform(polygons, self._on_map))

    def _on_map(self, points: Floats) -> Floats:
        """(V, 2) float64: coordinates in the grid's CRS."""
        assert self.crs is not None, "there is something to transform"
        if not len(points):
            return points
        try:
            places = np.stack(transform(*self.crs, points[:, 0], points[:, 1]), axis=1)
        except (RasterioError, CPLE_BaseError) as error:
            raise self._untransformable(str(error)) from error
        if not np.isfinite(places).all():
            raise self._untransformable("some lie where it does not reach")
        return places

    def box_of(self, window: Window) -> Bounds:
        """A rectangle of the file's coordinates that holds a window of the grid."""
        bounds = self.grid.crop(window).bounds
        if self.crs is None:
            return bounds
        theirs, ours = self.crs
        try:
            left, bottom, right, top = transform_bounds(ours, theirs, *bounds, densify_pts=21)
        except (RasterioError, CPLE_BaseError) as error:
            raise self._untransformable(str(error)) from error
        # Edges are bent, and only some of their points are looked at.
        margin = 0.01 * max(right - left, top - bottom)
        return left - margin, bottom - margin, right + margin, top + margin

    def _untransformable(self, found: str) -> ResDepthError:
        return ResDepthError(
            f"{self.path}: its coordinates cannot be transformed to {self.grid.crs_name} ({found}); "
            "transform the file yourself (ogr2ogr -t_srs) or cut it to the area"
        )


def _placement(file: VectorFile, grid: Grid) -> Placement:
    if not file.crs or not grid.crs:
        whose = "polygons" if grid.crs else "raster"
        logger.warning(
            "%s: the CRS of the %s is unknown; coordinates are taken as they are", file.path, whose
        )
        return Placement(file.path, grid, None)
    try:
        theirs, _ = find_crs(file.crs)
    except ResDepthError as error:
        raise ResDepthError(f"{file.path}: {error}; correct the file") from error
    if replace(grid, crs=theirs).may_share_crs(grid):
        return Placement(file.path, grid, None)
    return Placement(file.path, grid, (CRS.from_wkt(theirs), CRS.from_wkt(find_crs(grid.crs)[0])))
