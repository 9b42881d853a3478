"""Polygons of vector files: in their own coordinates (pyogrio), and as masks on a grid, by blocks."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.warp import transform, transform_bounds

from resdepth.errors import ResDepthError
from resdepth.geo.cityjson import read_city_model
from resdepth.geo.crs import find_crs
from resdepth.geo.gdal import unreferenced_allowed
from resdepth.geo.grid import Bounds, Grid
from resdepth.geo.raster import Array
from resdepth.geo.windows import Window
from resdepth.runtime.paths import why_special

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

# So many polygons are kept in memory, at about 1 kB each; of more only those of the block that is read.
HELD = 200_000


def is_vector(path: Path) -> bool:
    """Whether a file holds polygons rather than pixels, by its suffix ("town.gpkg|layername=roofs" does)."""
    return split_layer(path)[0].suffix.lower() in SUFFIXES


Shapes = NDArray[np.object_]


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


class VectorFile(Protocol):
    """Where polygons come from.

    Attributes:
        path: the file, with its layer where one was named.
        crs: as the file names it; empty if unknown.
        bounds: of all that the file holds, in its own coordinates.
        searchable: whether the polygons of a rectangle are found without reading all others.
    """

    path: Path
    crs: str
    bounds: Bounds
    searchable: bool

    def polygons(self, box: Bounds | None = None, limit: int | None = None) -> Shapes | None:
        """The polygons near a rectangle, or all, valid; None if there are more than the limit.

        Raises:
            ResDepthError: if they cannot be read, or are no polygons.
        """


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


SUFFIXES = (".gpkg", ".geojson", ".json", ".jsonl", ".shp", ".fgb", ".gml", ".sqlite")
LAYER_MARK = "|layername="
# GDAL's names of formats that find the polygons of a rectangle without reading all others.
SEARCHABLE = ("GPKG", "FlatGeobuf", "ESRI Shapefile", "OpenFileGDB")
HEAD_BYTES = 2**20  # in which a CityJSON file shows what it is
NOTHING, POLYGON, MULTIPOLYGON, COLLECTION = -1, 3, 6, 7  # shapely's numbers of types


"""(N,) polygons of shapely, each of one part."""


def split_layer(path: Path) -> tuple[Path, str]:
    """The file and the name of the layer, "" where none is named: "town.gpkg|layername=roofs"."""
    file, _, layer = str(path).partition(LAYER_MARK)
    return Path(file), layer


def open_vector_file(path: Path) -> VectorFile:
    """Polygons, wherever they are.

    Args:
        path: a file that GDAL reads, where need be with a layer ("town.gpkg|layername=roofs"), or a CityJSON
            model, whose buildings count.

    Raises:
        ResDepthError: if it cannot be read, or has no polygons, or a package is missing.
    """
    file, _ = split_layer(path)
    if reason := why_special(file):
        raise ResDepthError(f"{path}: {reason}")
    return CityFile(path) if _is_city_model(file) else LayerFile(path)


def _is_city_model(file: Path) -> bool:
    if file.suffix.lower() not in (".json", ".jsonl"):
        return False
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
    except OSError as error:
        raise ResDepthError(f"{file}: cannot be read ({error.strerror})") from error
    return b'"CityJSON' in head or b'"CityObjects"' in head


class CityFile:
    """The footprints of the buildings of a CityJSON model; all in memory."""

    searchable = False

    def __init__(self, path: Path) -> None:
        self.path = path
        _, shapely = _packages(path)
        model = read_city_model(split_layer(path)[0])
        plan = model.vertices[:, :2]
        surfaces = [[plan[ring] for ring in one.rings if len(ring) > 2] for one in model.footprints()]
        shapes = [shapely.Polygon(rings[0], rings[1:]) for rings in surfaces if rings]
        self._polygons = _valid_polygons(shapely, np.array(shapes, np.object_))
        if not len(self._polygons):
            raise ResDepthError(f"{path}: has no buildings, whose footprints are expected")
        self.crs = model.crs_code
        self.bounds = extent(shapely.get_coordinates(self._polygons))

    def polygons(self, box: Bounds | None = None, limit: int | None = None) -> Shapes:  # noqa: ARG002 - a protocol
        """All polygons: they are in memory anyway."""
        return self._polygons


class LayerFile:
    """One layer of a file that GDAL reads; each read opens it anew, so threads may read side by side."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, requested = split_layer(path)
        self._pyogrio, self._shapely = _packages(path)
        with self._stated():
            layers = [(str(name), str(kind)) for name, kind in self._pyogrio.list_layers(self._file)]
            self._layer = _chosen_layer(path, layers, requested)
            facts = self._pyogrio.read_info(self._file, layer=self._layer, force_total_bounds=True)
        self.crs = facts["crs"] or ""
        self.searchable = facts["driver"] in SEARCHABLE
        if facts["total_bounds"] is None or not np.isfinite(facts["total_bounds"]).all():
            raise ResDepthError(f"{path}: the layer {self._layer!r} is empty; polygons are expected")
        xmin, ymin, xmax, ymax = (float(one) for one in facts["total_bounds"])
        self.bounds = (xmin, ymin, xmax, ymax)

    def polygons(self, box: Bounds | None = None, limit: int | None = None) -> Shapes | None:
        """The polygons near a rectangle, or all; None if there are more than the limit."""
        at_most = None if limit is None else limit + 1
        with self._stated():
            _, _, stored, _ = self._pyogrio.raw.read(
                self._file, layer=self._layer, columns=[], force_2d=True, bbox=box, max_features=at_most
            )
            if limit is not None and len(stored) > limit:
                return None
            shapes = self._shapely.from_wkb(stored, on_invalid="ignore")
            self._demand_polygons(shapes)
            return _valid_polygons(self._shapely, shapes)

    def _demand_polygons(self, shapes: Shapes) -> None:
        kinds = self._shapely.get_type_id(shapes)
        wrong = ~np.isin(kinds, (NOTHING, POLYGON, MULTIPOLYGON, COLLECTION))
        if wrong.any():
            found = shapes[int(np.flatnonzero(wrong)[0])].geom_type
            raise ResDepthError(
                f"{self.path}: the layer {self._layer!r} holds a {found}; polygons are expected (a buffer "
                "makes polygons of points and lines)"
            )

    @contextmanager
    def _stated(self) -> Iterator[None]:
        try:
            yield
        # pyogrio's errors are RuntimeErrors; what GEOS cannot work with, a GEOSException.
        except (RuntimeError, ValueError, self._shapely.errors.GEOSException) as error:
            raise ResDepthError(f"{self.path}: cannot be read as polygons ({error})") from error


def _packages(path: Path) -> tuple[Any, Any]:
    try:
        import pyogrio
        import pyogrio.raw
        import shapely
    except ImportError as error:
        raise ResDepthError(
            f"{path}: reading polygons needs pyogrio and shapely ({error}): pip install 'resdepth[vector]'"
        ) from error
    return pyogrio, shapely


def _valid_polygons(shapely: Any, shapes: Shapes) -> Shapes:
    """The polygons in geometries of any kind, each of one part; what has no area is left out."""
    # Not is_valid: it changes the warning filters, which all threads share.
    broken = (shapely.is_valid_reason(shapes) != "Valid Geometry") & (shapely.get_type_id(shapes) != NOTHING)
    shapes[broken] = shapely.make_valid(shapes[broken])
    # Twice: a collection may hold polygons of several parts.
    parts = shapely.get_parts(shapely.get_parts(shapes))
    return np.asarray(parts[(shapely.get_type_id(parts) == POLYGON) & (shapely.area(parts) > 0)])


def _chosen_layer(path: Path, layers: list[tuple[str, str]], requested: str) -> str:
    if requested:
        if requested not in dict(layers):
            names = ", ".join(name for name, _ in layers) or "none"
            raise ResDepthError(f"{path}: has no layer {requested!r}; its layers: {names}")
        return requested
    holding = [name for name, kind in layers if _may_hold_polygons(kind)]
    if not holding:
        found = ", ".join(f"{name} ({kind})" for name, kind in layers) or "no layer"
        raise ResDepthError(f"{path}: holds {found}; polygons are expected")
    if len(holding) > 1:
        raise ResDepthError(
            f"{path}: has several layers of polygons; name one: "
            + ", ".join(f"{split_layer(path)[0].name}{LAYER_MARK}{name}" for name in holding)
        )
    return holding[0]


def _may_hold_polygons(kind: str) -> bool:
    return any(word in kind for word in ("Polygon", "Surface", "Unknown", "Collection", "TIN", "Triangle"))


def extent(points: NDArray[np.float64]) -> Bounds:
    """The rectangle around (V, 2) points, one or more."""
    (xmin, ymin), (xmax, ymax) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return xmin, ymin, xmax, ymax
