"""Raw surfaces from city models: terrain, what covers it, and what stands on it.

Roofs, roads and terrain are planar polygons in space, painted into a raster as they are seen from above.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.cityjson import BUILDINGS, GROUND_SURFACE, CityModel, CitySurface, read_city_model
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.simulate.sources.raw_surface import (
    DEFAULT_GSD_M,
    Classifiable,
    RawSurface,
    SourceOptions,
    chosen_crs,
    chosen_gsd,
    cropped_bounds,
    lattice_grid,
)
from resdepth.simulate.surface import SurfaceClass

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A polygon steeper than this (88.9 degrees) is a wall, which is not seen from above.
LEAST_UPWARD = 0.02
# Pixels that are painted at once.
MAX_PAINTED = 4_000_000
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
class Facets:
    """Polygons, possibly with holes, each in a plane.

    Attributes:
        edges: (E, 4) float64: x, y of the start and x, y of the end of each edge of the plan, of outer and
            inner rings alike.
        owner: (E,) int64, ascending: the polygon that an edge belongs to.
        planes: (N, 3) float64: height = a x + b y + c of each polygon, x and y as in the edges.
        lowest, highest: (N,) float64, metres: the heights between which the polygon lies.
        tags: (N,) int64: what the polygon stands for; the caller's.
    """

    edges: Floats
    owner: Ints
    planes: Floats
    lowest: Floats
    highest: Floats
    tags: Ints

    def __len__(self) -> int:
        return len(self.tags)

    @property
    def slopes(self) -> Floats:
        """(N,) float64: tangent of the inclination of each polygon."""
        return np.hypot(self.planes[:, 0], self.planes[:, 1])


def plan_facets(rings: list[Floats], polygon_of_ring: Ints, tags: Ints) -> Facets:
    """Polygons from their rings; those that are upright, or have no area, are left out.

    The plane has the normal of Newell's method and goes through the mean of the outer ring's vertices.

    Args:
        rings: (n, 3) float64 vertices each, not closed; the first ring of a polygon is its outer one.
        polygon_of_ring: (R,) ascending: the polygon to which each ring belongs.
        tags: (N,) of the polygons.
    """
    n = len(tags)
    lengths = np.array([len(ring) for ring in rings], np.int64)
    points = np.concatenate(rings) if rings else np.zeros((0, 3))
    first = np.cumsum(lengths) - lengths
    after = np.arange(1, len(points) + 1)
    after[(first + lengths - 1)[lengths > 0]] = first[lengths > 0]
    ends = points[after] if len(points) else points
    ring_of_edge = np.repeat(np.arange(len(rings)), lengths)
    owner = polygon_of_ring[ring_of_edge] if len(rings) else np.zeros(0, np.int64)
    outer = np.ones(len(rings), bool)
    outer[1:] = polygon_of_ring[1:] != polygon_of_ring[:-1]
    on_outer = outer[ring_of_edge] if len(rings) else np.zeros(0, bool)

    centre, normal = _centres_and_normals(points, ends, owner, on_outer, n)
    length = np.linalg.norm(normal, axis=1)
    upward = np.abs(normal[:, 2])
    seen = (length > 0) & (upward > LEAST_UPWARD * length) & (upward > 1e-9)

    safe = np.where(seen, normal[:, 2], 1.0)
    a, b = -normal[:, 0] / safe, -normal[:, 1] / safe
    c = centre[:, 2] - a * centre[:, 0] - b * centre[:, 1]
    lowest, highest = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(lowest, owner, points[:, 2])
    np.maximum.at(highest, owner, points[:, 2])
    new_index = np.cumsum(seen) - 1
    kept = seen[owner]
    return Facets(
        np.hstack([points[kept, :2], ends[kept, :2]]),
        new_index[owner[kept]],
        np.stack([a, b, c], axis=1)[seen],
        lowest[seen],
        highest[seen],
        tags[seen],
    )


def _centres_and_normals(
    points: Floats, ends: Floats, owner: Ints, on_outer: NDArray[np.bool_], n: int
) -> tuple[Floats, Floats]:
    """(N, 3) each: the mean of a polygon's outer vertices, and its normal by Newell's method."""
    count = np.maximum(np.bincount(owner[on_outer], minlength=n), 1)
    centre = np.stack(
        [np.bincount(owner[on_outer], points[on_outer, i], n) / count for i in range(3)], axis=1
    )
    # About each polygon's own centre, or the digits of large coordinates would be lost in the products.
    start, end = points - centre[owner], ends - centre[owner]
    cross = np.cross(start, end)
    return centre, np.stack([np.bincount(owner[on_outer], cross[on_outer, i], n) for i in range(3)], axis=1)


@dataclass(frozen=True)
class Painting:
    """What is seen from above.

    Attributes:
        height: (H, W) float64, metres, NaN where there is nothing.
        facet: (H, W) int64: which polygon is seen, -1 where none is.
    """

    height: Floats
    facet: Ints


def paint(facets: Facets, grid: Grid) -> Painting:
    """The highest polygon at each pixel whose centre it covers; of equal ones the first.

    A polygon covers a point if an odd number of its edges lies to the left of it. A point on a common edge
    is covered by just one of two neighbours.

    Args:
        facets: the polygons.
        grid: a north-up grid of square pixels.
    """
    height, facet = np.full(grid.height * grid.width, np.nan), np.full(grid.height * grid.width, -1, np.int64)
    gsd, _, left, _, _, top = grid.transform
    # In pixels, with pixel centres at whole numbers.
    cols = (facets.edges[:, 0::2] - left) / gsd - 0.5
    rows = (top - facets.edges[:, 1::2]) / gsd - 0.5
    # All downwards, for the edge of two neighbours to be rounded alike.
    upwards = rows[:, 0] > rows[:, 1]
    cols[upwards], rows[upwards] = cols[upwards, ::-1], rows[upwards, ::-1]
    for first, last in _portions(facets, cols, rows, grid):
        here = slice(first, last)
        owner, row, col = _covered(facets.owner[here], cols[here], rows[here], grid)
        a, b, c = facets.planes[owner].T
        z = a * (left + (col + 0.5) * gsd) + b * (top - (row + 0.5) * gsd) + c
        z = np.clip(z, facets.lowest[owner], facets.highest[owner])
        _keep_highest(height, facet, row * grid.width + col, z, owner)
    return Painting(height.reshape(grid.height, grid.width), facet.reshape(grid.height, grid.width))


def _portions(facets: Facets, cols: Floats, rows: Floats, grid: Grid) -> list[tuple[int, int]]:
    """Runs of edges, of whole polygons, of which none covers too many pixels of the grid at once."""
    n = len(facets)
    if n == 0:
        return []
    starts = np.searchsorted(facets.owner, np.arange(n + 1))
    sizes = np.ones(n)
    for places, side in ((rows, grid.height), (cols, grid.width)):
        low = np.minimum.reduceat(places.min(axis=1), starts[:-1])
        high = np.maximum.reduceat(places.max(axis=1), starts[:-1])
        sizes *= np.clip(np.minimum(high, side) - np.maximum(low, -1), 0, None)
    portion = (np.cumsum(sizes) // MAX_PAINTED).astype(np.int64)
    breaks = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), n]
    return [
        (int(starts[one]), int(starts[other])) for one, other in pairwise(breaks) if sizes[one:other].any()
    ]


def _covered(owner: Ints, cols: Floats, rows: Floats, grid: Grid) -> tuple[Ints, Ints, Ints]:
    """Polygon, row and column of each pixel centre that is covered, by scan lines over all polygons."""
    # An edge crosses the scan lines from its upper end on, to just before its lower end.
    upper = np.clip(np.ceil(rows.min(axis=1)), 0, grid.height).astype(np.int64)
    lower = np.clip(np.ceil(rows.max(axis=1)), 0, grid.height).astype(np.int64)
    edge, row = _ranges(upper, lower)
    row_start, row_end = rows[edge].T
    col_start, col_end = cols[edge].T
    crossing = col_start + (row - row_start) / (row_end - row_start) * (col_end - col_start)
    polygon = owner[edge]
    order = np.lexsort((crossing, row, polygon))
    polygon, row, crossing = polygon[order][0::2], row[order][0::2], crossing[order]
    begin = np.clip(np.ceil(crossing[0::2]), 0, grid.width).astype(np.int64)
    end = np.clip(np.ceil(crossing[1::2]), 0, grid.width).astype(np.int64)
    span, col = _ranges(begin, end)
    return polygon[span], row[span], col


def _ranges(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """All whole numbers of the ranges [begin, end) one after the other, and which range each comes from."""
    lengths = np.maximum(end - begin, 0)
    which = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return which, begin[which] + within


def _keep_highest(height: Floats, facet: Ints, pixel: Ints, z: Floats, owner: Ints) -> None:
    order = np.lexsort((-owner, z, pixel))
    pixel, z, owner = pixel[order], z[order], owner[order]
    last = np.ones(len(pixel), bool)
    last[:-1] = pixel[1:] != pixel[:-1]
    pixel, z, owner = pixel[last], z[last], owner[last]
    better = ~(height[pixel] >= z)
    height[pixel[better]], facet[pixel[better]] = z[better], owner[better]


@dataclass(frozen=True)
class Layer:
    """Polygons of one kind.

    Attributes:
        facets: the polygons; a tag is its index in `classes` and `objects`.
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
    nothing, the height is void; with a flat or sloped ground it is that of the plane.
    """

    classifiable: Classifiable = "nothing"

    def __init__(self, path: Path, options: SourceOptions) -> None:
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

    def read(self, window: Window) -> RawSurface:
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
        return RawSurface(height.astype(np.float32), np.isfinite(height), classes, objects)


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
    path: Path, model: CityModel, buildings: list[CitySurface], options: SourceOptions
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
