"""True surfaces from city models: terrain, what covers it, and what stands on it."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.cityjson import BUILDINGS, GROUND_SURFACE, CityModel, CitySurface, read_city_model
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.simulate.sources.facets import Facets, Floats, paint, plan_facets
from resdepth.simulate.sources.options import TruthOptions
from resdepth.simulate.sources.placing import (
    DEFAULT_GSD_M,
    chosen_crs,
    chosen_gsd,
    cropped_bounds,
    lattice_grid,
)
from resdepth.simulate.sources.sketch import Guessing, Sketch
from resdepth.simulate.surface import SurfaceClass

STRUCTURES = {"Bridge": SurfaceClass.ASPHALT, "BridgePart": SurfaceClass.ASPHALT}
COVERS = {
    "LandUse": SurfaceClass.GROUND,
    "Road": SurfaceClass.ASPHALT,
    "Railway": SurfaceClass.SOIL,
    "TransportSquare": SurfaceClass.PAVING,
    "Waterway": SurfaceClass.WATER,
    "WaterBody": SurfaceClass.WATER,
    "PlantCover": SurfaceClass.GRASS,
}
TERRAIN = "TINRelief"
# Surfaces of a building that are beneath it or inside it.
UNSEEN = (GROUND_SURFACE, "FloorSurface", "CeilingSurface", "InteriorWallSurface", "ClosureSurface")
PITCHED_SLOPE = math.tan(math.radians(5.0))


@dataclass(frozen=True)
class Layer:
    """Polygons of one kind.

    Attributes:
        facets: the polygons; a tag is where `classes` and `objects` tell about it.
        classes: (T,) uint8, a SurfaceClass.
        objects: (T,) int32, the number of the object, or 0.
    """

    facets: Facets
    classes: NDArray[np.uint8]
    objects: NDArray[np.int32]


@dataclass(frozen=True)
class GroundPlane:
    """A plane that stands in for the terrain.

    Attributes:
        height: metres, at the pivot.
        gradient: metres of height per metre to the east and to the north.
        pivot: x, y.
    """

    height: float
    gradient: tuple[float, float]
    pivot: tuple[float, float]

    def rise(self, x: NDArray[Any], y: NDArray[Any]) -> Floats:
        """How much higher than at the pivot the plane is."""
        return np.asarray(
            self.gradient[0] * (x - self.pivot[0]) + self.gradient[1] * (y - self.pivot[1]), np.float64
        )


class CitySource:
    """A city model as it is seen from above: at each pixel centre the highest surface.

    Buildings are seen where they are higher than the ground. Roads, water and other covers take the place of
    the terrain beneath them. A roof is pitched if its plane is steeper than 5 degrees. Where the file shows
    nothing, the height is void; with a flat or sloped ground the plane is the truth there.
    """

    guessing: Guessing = "nothing"

    def __init__(self, path: Path, options: TruthOptions) -> None:
        model = read_city_model(path)
        wkt, name, unit = chosen_crs(path, model.crs_code or None, options)
        gsd = self.detail_m = chosen_gsd(path, DEFAULT_GSD_M, options)
        model = replace(model, vertices=model.vertices * (1, 1, unit.metres))
        vertices = model.vertices
        buildings = [one for one in model.surfaces if one.object_type in BUILDINGS]
        grounds = [one for one in model.surfaces if one.object_type == TERRAIN or one.object_type in COVERS]
        if options.ground == "tin" and not grounds:
            raise ResDepthError(
                f"{path}: has no terrain (TINRelief, LandUse, Road ...); choose ground = flat or sloped"
            )
        self._plane = None
        if options.ground != "tin":
            self._plane = _ground_plane(path, model, buildings, options)
            grounds = []
        structures = [one for one in model.surfaces if one.object_type in STRUCTURES]
        self._layers = {
            "terrain": _layer(vertices, [one for one in grounds if one.object_type == TERRAIN], None),
            "cover": _layer(vertices, [one for one in grounds if one.object_type != TERRAIN], None),
            "objects": _layer(vertices, _seen(buildings) + structures, self._plane),
        }
        edges = [layer.facets.edges for layer in self._layers.values() if len(layer.facets)]
        if not edges:
            raise ResDepthError(
                f"{path}: has no surface that is seen from above; it needs buildings or a terrain"
            )
        places = np.concatenate(edges).reshape(-1, 2)
        bounds = (*places.min(axis=0).tolist(), *places.max(axis=0).tolist())
        self.grid = lattice_grid(path, cropped_bounds(path, bounds, options), gsd, (wkt, name))
        self.n_objects = int(max(layer.objects.max(initial=0) for layer in self._layers.values()))

    def read(self, window: Window) -> Sketch:
        """What is seen of a window."""
        grid = self.grid.crop(window)
        shape = (window.height, window.width)
        height, classes = np.full(shape, np.nan), np.full(shape, SurfaceClass.GROUND, np.uint8)
        objects = np.zeros(shape, np.int32)
        if self._plane:
            height = _plane_heights(self._plane, grid)
        for name, layer in self._layers.items():
            painting = paint(layer.facets, grid)
            seen = painting.facet >= 0
            if name == "objects":
                seen &= ~(painting.height <= height)
            tags = layer.facets.tags[painting.facet[seen]]
            height[seen], classes[seen] = painting.height[seen], layer.classes[tags]
            objects[seen] = layer.objects[tags]
        return Sketch(height.astype(np.float32), np.isfinite(height), classes, objects)


def _seen(buildings: list[CitySurface]) -> list[CitySurface]:
    return [one for one in buildings if one.semantics not in UNSEEN]


def _layer(vertices: Floats, surfaces: list[CitySurface], lifted_with: GroundPlane | None) -> Layer:
    rings = [vertices[ring] for one in surfaces for ring in one.rings]
    polygon_of_ring = np.repeat(np.arange(len(surfaces)), [len(one.rings) for one in surfaces]).astype(
        np.int64
    )
    facets = plan_facets(rings, polygon_of_ring, np.arange(len(surfaces), dtype=np.int64))
    classes = np.array([_class(one) for one in surfaces], np.uint8)
    objects = np.array([one.family if one.object_type in BUILDINGS else 0 for one in surfaces], np.int32)
    roofs = np.array([one.object_type in BUILDINGS for one in surfaces], bool)
    pitched = facets.tags[(facets.slopes > PITCHED_SLOPE) & roofs[facets.tags]]
    classes[pitched] = SurfaceClass.ROOF_TILES
    if lifted_with:
        facets = _lifted(facets, objects, lifted_with)
    return Layer(facets, classes, objects)


def _class(surface: CitySurface) -> int:
    if surface.object_type in BUILDINGS:
        return SurfaceClass.ROOF_FLAT
    return STRUCTURES.get(surface.object_type) or COVERS.get(surface.object_type, SurfaceClass.GROUND)


def _lifted(facets: Facets, objects: NDArray[np.int32], plane: GroundPlane) -> Facets:
    """Each object raised by what the ground rises to the middle of its plan."""
    number = objects[facets.tags]
    of_edge = number[facets.owner]
    n = int(number.max(initial=0)) + 1
    middle = []
    for axis in (0, 1):
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        np.minimum.at(low, of_edge, facets.edges[:, axis])
        np.maximum.at(high, of_edge, facets.edges[:, axis])
        middle.append((low[number] + high[number]) / 2)
    rise = plane.rise(middle[0], middle[1])
    planes = facets.planes + np.stack([np.zeros_like(rise), np.zeros_like(rise), rise], axis=1)
    return replace(facets, planes=planes, lowest=facets.lowest + rise, highest=facets.highest + rise)


def _ground_plane(
    path: Path, model: CityModel, buildings: list[CitySurface], options: TruthOptions
) -> GroundPlane:
    used = np.unique([index for one in buildings for ring in one.rings for index in ring]).astype(np.int64)
    if len(used) == 0:
        raise ResDepthError(f"{path}: has no buildings to stand on a plane; choose ground = tin")
    vertices = model.vertices[used]
    pivot = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    slope = math.tan(math.radians(options.ground_slope_deg)) if options.ground == "sloped" else 0.0
    aspect = math.radians(options.ground_aspect_deg)
    gradient = (-slope * math.sin(aspect), -slope * math.cos(aspect))
    return GroundPlane(float(vertices[:, 2].min()), gradient, (float(pivot[0]), float(pivot[1])))


def _plane_heights(plane: GroundPlane, grid: Grid) -> Floats:
    gsd, _, left, _, _, top = grid.transform
    x = left + (np.arange(grid.width) + 0.5) * gsd
    y = top - (np.arange(grid.height) + 0.5) * gsd
    return plane.height + plane.rise(x[None, :], y[:, None])
