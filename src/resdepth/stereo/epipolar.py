"""The geometry of a stereo pair: the plane on which it is matched, and the way back to the ground.

Only RPCs are known here; whose images they describe does not matter.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.rpc import Rpc
from resdepth.stereo.ortho import to_geographic

Array = NDArray[np.float32]
Values = NDArray[np.float64]

# Two views that differ by less cannot tell heights: metres of shift per metre of height.
LEAST_BASE_TO_HEIGHT = 0.02
# The planes of the blocks of a raster lie at multiples of so many pixels of disparity.
PLANE_STEP_PX = 16


@dataclass(frozen=True)
class Rectified:
    """The ground plane at one height, turned so that heights shift points along its columns.

    Attributes:
        grid_origin: map (x, y) of its first pixel's centre.
        along: unit vector (x, y) of growing columns: the direction in which the first image shifts heights
            relative to the second.
        step_m: size of its pixels.
        height, width: in pixels.
        plane_z: metres.
        disparity_per_metre: pixels by which a metre of height moves the images against each other.
    """

    grid_origin: tuple[float, float]
    along: tuple[float, float]
    step_m: float
    height: int
    width: int
    plane_z: float
    disparity_per_metre: float

    def on_map(self, row: Values, col: Values) -> tuple[Values, Values]:
        """Map x and y of positions on the plane."""
        ax, ay = self.along
        x = self.grid_origin[0] + self.step_m * (col * ax + row * ay)
        y = self.grid_origin[1] + self.step_m * (col * ay - row * ax)
        return x, y

    def of_map(self, x: Values, y: Values) -> tuple[Values, Values]:
        """Row and column of positions on the plane."""
        ax, ay = self.along
        dx, dy = (x - self.grid_origin[0]) / self.step_m, (y - self.grid_origin[1]) / self.step_m
        return dx * ay - dy * ax, dx * ax + dy * ay


def rectified(
    first: Rpc,
    second: Rpc,
    grid: Grid,
    heights: tuple[float, float],
    *,
    step_m: float,
    whole: Grid | None = None,
) -> Rectified:
    """The plane on which a pair of images is matched over a grid.

    Args:
        first: camera.
        second: camera.
        grid: the part of the map to be matched.
        heights: lowest and highest that are looked for.
        step_m: pixel size on the plane.
        whole: the grid of which this is a block: the pixels of all blocks then lie on one lattice, so that
            what is seen of a place hardly depends on the block.

    Raises:
        ResDepthError: if the two look from the same direction: there is nothing to measure heights by.
    """
    plane_z = sum(heights) / 2
    middle = whole or grid
    x, y = middle.map_position(middle.height / 2, middle.width / 2)
    shifts = np.subtract(_shift(first, grid.crs, x, y, plane_z), _shift(second, grid.crs, x, y, plane_z))
    length = float(np.hypot(*shifts))
    if whole is not None and length > 0:
        levels = PLANE_STEP_PX * step_m / length
        plane_z = round(plane_z / levels) * levels
    if length < LEAST_BASE_TO_HEIGHT:
        raise ResDepthError(
            f"the two images look from almost one direction (base to height {length:.3f}); "
            f"{LEAST_BASE_TO_HEIGHT} is the least"
        )
    along = (float(shifts[0]) / length, float(shifts[1]) / length)
    x0, y1 = grid.map_position(0, 0)
    x1, y0 = grid.map_position(grid.height, grid.width)
    corners_x, corners_y = np.array([x0, x1, x0, x1]), np.array([y0, y0, y1, y1])
    c = corners_x * along[0] + corners_y * along[1]
    r = corners_x * along[1] - corners_y * along[0]
    c0, r0 = float(c.min()), float(r.min())
    if whole is not None:
        east, north = whole.map_position(0, 0)
        c_first, r_first = east * along[0] + north * along[1], east * along[1] - north * along[0]
        c0 = c_first + np.floor((c0 - c_first) / step_m) * step_m
        r0 = r_first + np.floor((r0 - r_first) / step_m) * step_m
    origin = (c0 * along[0] + r0 * along[1], c0 * along[1] - r0 * along[0])
    height, width = (int(np.ceil((v.max() - v0) / step_m)) + 1 for v, v0 in ((r, r0), (c, c0)))
    return Rectified(origin, along, step_m, height, width, plane_z, length / step_m)


def _shift(rpc: Rpc, crs: str, x: float, y: float, z: float) -> Values:
    """By how many metres (x, y) on a plane a point one metre above it appears beside its foot."""
    d = 1.0
    xs, ys, zs = np.array([x, x + d, x, x]), np.array([y, y, y + d, y]), np.array([z, z, z, z + d])
    lon, lat = to_geographic(crs, xs, ys)
    at = np.stack(rpc.project(lon, lat, zs))
    moved = at[:, 1:] - at[:, :1]  # pixels per metre of x, y, z
    return np.asarray(np.linalg.solve(moved[:, :2], moved[:, 2]), dtype=np.float64)


@dataclass(frozen=True)
class Points:
    """Matched points, map coordinates and metres; (N,) float64 each."""

    x: Values
    y: Values
    z: Values


def triangulated(
    disparity: Array, plane: Rectified, first: Rpc, second: Rpc, crs: str, heights: tuple[float, float]
) -> Points:
    """The points on the ground that a disparity map stands for, through both RPCs.

    The way back from two image positions to a point is fitted, as a polynomial of second degree, to a lattice
    of points that both RPCs have projected: over one block it is as exact as solving for each point.

    Args:
        disparity: (H, W), NaN = no match.
        plane: on which it was measured.
        first: camera.
        second: camera.
        crs: of the map.
        heights: between which points are expected.
    """
    inverse = _fitted_inverse(plane, first, second, crs, heights)
    rows, cols = np.nonzero(~np.isnan(disparity))
    found = disparity[rows, cols].astype(np.float64)
    terms = _quadratic(rows.astype(float), cols.astype(float), found, plane)
    x, y, z = (terms @ coefficients for coefficients in inverse.T)
    return Points(x, y, z)


def _quadratic(rows: Values, cols: Values, disparity: Values, plane: Rectified) -> Values:
    r, c = rows / plane.height - 0.5, cols / plane.width - 0.5
    d = disparity / (100 * plane.disparity_per_metre)
    return np.stack([np.ones_like(r), r, c, d, r * r, c * c, d * d, r * c, r * d, c * d], axis=-1)


def _fitted_inverse(
    plane: Rectified, first: Rpc, second: Rpc, crs: str, heights: tuple[float, float]
) -> Values:
    """(10, 3) coefficients from plane row, column and disparity to x, y, z."""
    axes = (np.linspace(0, plane.height - 1, 8), np.linspace(0, plane.width - 1, 8), np.linspace(*heights, 5))
    r, c, z = (values.ravel() for values in np.meshgrid(*axes, indexing="ij"))
    x, y = plane.on_map(r, c)
    lon, lat = to_geographic(crs, x, y)
    (row1, col1), (_, col2) = (_seen_on_plane(rpc, plane, crs, lon, lat, z) for rpc in (first, second))
    terms = _quadratic(row1, col1, col1 - col2, plane)
    wanted = np.stack([x, y, z], axis=-1)
    centre = wanted.mean(axis=0)
    coefficients = np.linalg.lstsq(terms, wanted - centre, rcond=None)[0]
    coefficients[0] += centre
    return np.asarray(coefficients)


def _seen_on_plane(
    rpc: Rpc, plane: Rectified, crs: str, lon: Values, lat: Values, z: Values
) -> tuple[Values, Values]:
    """Where on the plane an image shows points: their image positions, taken down to the plane's height."""
    at_row, at_col = rpc.project(lon, lat, z)
    # The image lies on the plane a little beside the points, by what their heights shift them.
    lattice = np.meshgrid(np.linspace(-0.3, 1.3, 9), np.linspace(-0.3, 1.3, 9), indexing="ij")
    r, c = lattice[0].ravel() * plane.height, lattice[1].ravel() * plane.width
    plane_lon, plane_lat = to_geographic(crs, *plane.on_map(r, c))
    row, col = rpc.project(plane_lon, plane_lat, np.full(r.shape, plane.plane_z))
    mean, spread = (np.array([f(row), f(col)]) for f in (np.mean, np.ptp))

    def terms(row: Values, col: Values) -> Values:
        u, v = (row - mean[0]) / spread[0], (col - mean[1]) / spread[1]
        return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)

    back = np.linalg.lstsq(terms(row, col), np.stack([r, c], axis=-1), rcond=None)[0]
    rows, cols = (terms(at_row, at_col) @ back).T
    return rows, cols
