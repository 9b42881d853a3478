"""Polygons of vector files, in the files' own coordinates. The only user of pyogrio."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.cityjson import read_city_model
from resdepth.geo.grid import Bounds
from resdepth.runtime.paths import why_special

SUFFIXES = (".gpkg", ".geojson", ".json", ".jsonl", ".shp", ".fgb", ".gml")
LAYER_MARK = "|layername="
# GDAL's names of formats that find the polygons of a rectangle without reading all others.
SEARCHABLE = ("GPKG", "FlatGeobuf", "ESRI Shapefile", "OpenFileGDB")
HEAD_BYTES = 2**20  # in which a CityJSON file shows what it is
NOTHING, POLYGON, MULTIPOLYGON, COLLECTION = -1, 3, 6, 7  # shapely's numbers of types


Shapes = NDArray[np.object_]
"""(N,) polygons of shapely, each of one part."""


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
