"""Where a point of the ground appears in a satellite image: affine views, and the RPCs that describe them.

Image coordinates are (row, col) with the centre of the first pixel at (0, 0), as RPCs have them.

What stands a metre above the surface that an image was ortho-rectified with appears beside its place, away
from the sensor (`ViewGeometry`). Over an area the displacement changes little: a quadratic function holds it
to a thousandth.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError

Values = NDArray[np.float64]
Affine = tuple[float, float, float]

EARTH_RADIUS_KM = 6371.0
N_TERMS = 20
# Keeps the fit stable: the denominators of an almost affine view are hardly determined.
REGULARIZATION = 1e-9
NEWTON_STEPS, LOCATED_PX, DERIVATIVE = 20, 1e-4, 1e-4
TAG = "RESDEPTH_VIEW_GEOMETRY"
"""The tag of an ortho-image that holds its `ViewGeometry`, as JSON."""
VIEW_TERMS = 6


@dataclass(frozen=True)
class AffineView:
    """A view under parallel rays, as a push-broom scanner has it over a few kilometres.

    [row, col] = matrix @ ([x, y, z] - origin)

    Attributes:
        matrix: (2, 3), pixels per metre of x (east), y (north) and z (up).
        origin: the point, in map coordinates and metres, that appears in the centre of the first pixel.
    """

    matrix: Values
    origin: tuple[float, float, float]

    def project(self, x: Values, y: Values, z: Values) -> tuple[Values, Values]:
        """Row and column of points; arrays of any one shape."""
        dx, dy, dz = x - self.origin[0], y - self.origin[1], z - self.origin[2]
        (rx, ry, rz), (cx, cy, cz) = self.matrix
        return rx * dx + ry * dy + rz * dz, cx * dx + cy * dy + cz * dz

    def on_plane(self, row: Values, col: Values, z: float) -> tuple[Values, Values]:
        """Where the rays of image positions meet the horizontal plane at height z: x and y."""
        dz = z - self.origin[2]
        inverse = np.linalg.inv(self.matrix[:, :2])
        row, col = row - self.matrix[0, 2] * dz, col - self.matrix[1, 2] * dz
        x = inverse[0, 0] * row + inverse[0, 1] * col + self.origin[0]
        y = inverse[1, 0] * row + inverse[1, 1] * col + self.origin[1]
        return x, y

    @property
    def shift_per_metre(self) -> tuple[float, float]:
        """How far (x, y) the ray of a point one metre above a plane meets that plane from below the point."""
        dx, dy = np.linalg.solve(self.matrix[:, :2], self.matrix[:, 2])
        return float(dx), float(dy)


@dataclass(frozen=True)
class Direction:
    """From where a satellite looks.

    Attributes:
        azimuth_deg: of the satellite, seen from the ground, clockwise from north.
        incidence_deg: angle between its ray and the vertical, on the ground.
        orbit_km: its height above the ground below it.
        heading_deg: of its flight; image rows run along it.
    """

    azimuth_deg: float
    incidence_deg: float
    orbit_km: float = 617.0
    heading_deg: float = 192.0

    @property
    def off_nadir_deg(self) -> float:
        """The angle at the satellite, smaller than the incidence on a round earth."""
        ratio = EARTH_RADIUS_KM / (EARTH_RADIUS_KM + self.orbit_km)
        return float(np.degrees(np.arcsin(ratio * np.sin(np.radians(self.incidence_deg)))))

    @property
    def range_ratio(self) -> float:
        """Distance to the ground over the height of the orbit: pixels grow with it."""
        incidence, off_nadir = np.radians([self.incidence_deg, self.off_nadir_deg])
        if incidence < 1e-6:
            return 1.0
        return float(EARTH_RADIUS_KM * np.sin(incidence - off_nadir) / np.sin(off_nadir) / self.orbit_km)


def affine_view(direction: Direction, gsd_m: float) -> AffineView:
    """The view from a direction, in a sensor plane across the ray, of square pixels.

    Args:
        direction: from where.
        gsd_m: size of a pixel at the nadir; grows with the distance, and on the ground with the slant.

    Returns:
        A view that sees the point (0, 0, 0) in its first pixel; `placed` moves it.
    """
    azimuth, incidence = np.radians([direction.azimuth_deg, direction.incidence_deg])
    towards = np.array([np.sin(azimuth), np.cos(azimuth)])  # horizontally, to the satellite
    aside = np.array([towards[1], -towards[0]])
    # In the plane across the ray: one axis is foreshortened and sees heights, the other is level.
    slanted = np.array([*(towards * np.cos(incidence)), -np.sin(incidence)])
    level = np.array([*aside, 0.0])
    # The sensor is turned about the ray so that its rows run along the flight.
    turn = np.radians(direction.heading_deg) - azimuth
    rows = np.cos(turn) * slanted + np.sin(turn) * level
    cols = np.sin(turn) * slanted - np.cos(turn) * level
    pixel_m = gsd_m * direction.range_ratio
    return AffineView(np.stack([rows, cols]) / pixel_m, (0.0, 0.0, 0.0))


def placed(view: AffineView, x: float, y: float, z: float, *, at: tuple[float, float]) -> AffineView:
    """The same view, moved so that the point (x, y, z) appears at (row, col) `at`."""
    back = np.linalg.solve(view.matrix[:, :2], np.array(at))
    return AffineView(view.matrix, (x - float(back[0]), y - float(back[1]), z))


@dataclass(frozen=True)
class Rpc:
    """A rational polynomial camera (RPC00B): cubic numerators and denominators of the normalised ground.

    Attributes:
        row_num, row_den, col_num, col_den: (20,) coefficients in the order of RPC00B.
        offsets, scales: of row, column, latitude, longitude (degrees) and height (metres).
    """

    row_num: tuple[float, ...]
    row_den: tuple[float, ...]
    col_num: tuple[float, ...]
    col_den: tuple[float, ...]
    offsets: tuple[float, float, float, float, float]
    scales: tuple[float, float, float, float, float]

    def project(self, lon: Values, lat: Values, height: Values) -> tuple[Values, Values]:
        """Row and column of ground points; degrees and metres above the ellipsoid, any one shape."""
        _, _, lat_off, lon_off, height_off = self.offsets
        _, _, lat_scale, lon_scale, height_scale = self.scales
        terms = cubic_terms(
            (lon - lon_off) / lon_scale, (lat - lat_off) / lat_scale, (height - height_off) / height_scale
        )
        row = terms @ np.array(self.row_num) / (terms @ np.array(self.row_den))
        col = terms @ np.array(self.col_num) / (terms @ np.array(self.col_den))
        return row * self.scales[0] + self.offsets[0], col * self.scales[1] + self.offsets[1]

    def locate(self, row: Values, col: Values, height: Values) -> tuple[Values, Values]:
        """Longitude and latitude (degrees) of the points at given heights that appear on given pixels.

        Newton's method from the middle of the RPC's validity. Arrays of any one shape.

        Raises:
            ResDepthError: if it does not converge: the pixels lie far outside of what the RPC describes.
        """
        _, _, lat_off, lon_off, _ = self.offsets
        _, _, lat_scale, lon_scale, _ = self.scales
        lon, lat = np.full(np.shape(row), lon_off), np.full(np.shape(row), lat_off)
        east, north = DERIVATIVE * lon_scale, DERIVATIVE * lat_scale
        for _ in range(NEWTON_STEPS):
            at = np.stack(self.project(lon, lat, height))
            missing = np.stack([row, col]) - at
            if np.abs(missing).max() < LOCATED_PX:
                return lon, lat
            by_lon = (np.stack(self.project(lon + east, lat, height)) - at) / east
            by_lat = (np.stack(self.project(lon, lat + north, height)) - at) / north
            with np.errstate(all="ignore"):
                determinant = by_lon[0] * by_lat[1] - by_lat[0] * by_lon[1]
                lon = lon + (missing[0] * by_lat[1] - missing[1] * by_lat[0]) / determinant
                lat = lat + (missing[1] * by_lon[0] - missing[0] * by_lon[1]) / determinant
            if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
                break
        raise ResDepthError("an RPC does not show where its pixels lie; does it belong to this image?")


def shifted_in_image(rpc: Rpc, rows: float, cols: float) -> Rpc:
    """The RPC that shows everything so many rows and columns further down and to the right."""
    row, col, lat, lon, height = rpc.offsets
    return replace(rpc, offsets=(row + rows, col + cols, lat, lon, height))


def moved_on_ground(rpc: Rpc, east: Affine, north: Affine) -> Rpc:
    """The RPC that shows at each place what it showed at another one, an affine function of it.

    Cubic polynomials of an affine function of a place are cubic polynomials of the place: nothing is lost.

    Args:
        rpc: of an image.
        east: c0, c1, c2: the other place lies c0 + c1 u + c2 v further east, with u and v the longitude and
            latitude of the place; all in units of the RPC's own longitude (offset and scale taken out).
        north: likewise, of latitude.
    """
    x, y, z = (one.ravel() for one in np.meshgrid(*[np.linspace(-1, 1, 4)] * 3, indexing="ij"))
    here = cubic_terms(x, y, z)
    there = cubic_terms(
        x + east[0] + east[1] * x + east[2] * y, y + north[0] + north[1] * x + north[2] * y, z
    )
    polynomials = np.stack([rpc.row_num, rpc.row_den, rpc.col_num, rpc.col_den], axis=1)
    found = np.linalg.lstsq(here, there @ polynomials, rcond=None)[0]
    found /= found[0, [1, 1, 3, 3]]  # the first coefficient of a denominator is 1
    row_num, row_den, col_num, col_den = (tuple(map(float, one)) for one in found.T)
    return Rpc(row_num, row_den, col_num, col_den, rpc.offsets, rpc.scales)


def cubic_terms(x: Values, y: Values, z: Values) -> Values:
    """The 20 monomials of RPC00B (x longitude, y latitude, z height, normalised), last axis."""
    return np.stack(
        [np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x, y * y, z * z, x * y * z, x**3, x * y * y,
         x * z * z, x * x * y, y**3, y * z * z, x * x * z, y * y * z, z**3],
        axis=-1,
    )  # fmt: skip


def fit_rpc(lon: Values, lat: Values, height: Values, row: Values, col: Values) -> Rpc:
    """The RPC that puts ground points on given pixels, by linear least squares.

    Args:
        lon: (N,) degrees, of points on a three-dimensional lattice around the scene.
        lat: (N,) degrees.
        height: (N,) metres.
        row: (N,) where they appear.
        col: (N,)

    Raises:
        ResDepthError: if there are too few points for 39 unknowns per axis.
    """
    if len(row) < 2 * N_TERMS:
        raise ResDepthError(f"an RPC needs at least {2 * N_TERMS} points, {len(row)} are given")
    offsets, scales = [], []
    for values in (row, col, lat, lon, height):
        low, high = float(np.min(values)), float(np.max(values))
        offsets.append((low + high) / 2)
        scales.append(max((high - low) / 2, 1e-6))
    row_off, col_off, lat_off, lon_off, height_off = offsets
    row_scale, col_scale, lat_scale, lon_scale, height_scale = scales
    terms = cubic_terms(
        (lon - lon_off) / lon_scale, (lat - lat_off) / lat_scale, (height - height_off) / height_scale
    )
    row_num, row_den = _fit_ratio(terms, (row - row_off) / row_scale)
    col_num, col_den = _fit_ratio(terms, (col - col_off) / col_scale)
    return Rpc(
        row_num,
        row_den,
        col_num,
        col_den,
        (row_off, col_off, lat_off, lon_off, height_off),
        (row_scale, col_scale, lat_scale, lon_scale, height_scale),
    )


def _fit_ratio(terms: Values, values: Values) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Numerator and denominator (its first coefficient is 1) with numerator = value * denominator."""
    system = np.concatenate([terms, -values[:, None] * terms[:, 1:]], axis=1)
    normal = system.T @ system / len(values)
    normal[np.diag_indices_from(normal)] += REGULARIZATION
    solution = np.linalg.solve(normal, system.T @ values / len(values))
    return tuple(map(float, solution[:N_TERMS])), (1.0, *map(float, solution[N_TERMS:]))


LATTICE_PX = 32


def between(lattice: Values, height: int, width: int) -> Values:
    """Bilinear values between lattice points, exactly (OpenCV's resizing rounds to 1/2048).

    Args:
        lattice: (height // LATTICE_PX + 2, width // LATTICE_PX + 2) values.
        height: of the result.
        width: of the result.
    """
    row, row_share = np.divmod(np.arange(height) / LATTICE_PX, 1)
    col, col_share = np.divmod(np.arange(width) / LATTICE_PX, 1)
    i, j = row.astype(int), col.astype(int)
    across = lattice[i] + row_share[:, None] * (lattice[i + 1] - lattice[i])
    blended: Values = across[:, j] + col_share * (across[:, j + 1] - across[:, j])
    return blended


@dataclass(frozen=True)
class ViewGeometry:
    """Displacement on the ground for each metre of height: metres along the axes of the map.

    With u = (x - x0) / span and v = (y - y0) / span it is c . (1, u, v, u u, u v, v v) in each direction.

    Attributes:
        origin: x0 and y0, map coordinates.
        span: map units.
        east, north: six numbers each, c.
    """

    origin: tuple[float, float]
    span: float
    east: tuple[float, ...]
    north: tuple[float, ...]

    def at(self, x: Values | float, y: Values | float) -> tuple[Values, Values]:
        """Metres to the east and to the north for each metre of height, at map positions of any one shape."""
        terms = _terms(self.origin, self.span, np.asarray(x, np.float64), np.asarray(y, np.float64))
        return terms @ np.array(self.east), terms @ np.array(self.north)

    @property
    def incidence_deg(self) -> float:
        """Angle between ray and vertical in the middle of the area."""
        return float(np.degrees(np.arctan(np.hypot(self.east[0], self.north[0]))))

    @property
    def azimuth_deg(self) -> float:
        """Direction of the sensor in the middle of the area, clockwise from the map's north, 0 to 360."""
        return float(np.degrees(np.arctan2(-self.east[0], -self.north[0])) % 360)

    def as_json(self) -> dict[str, object]:
        """As a record or a tag holds it."""
        return {
            "origin": list(self.origin), "span": self.span,
            "east": [round(value, 9) for value in self.east],
            "north": [round(value, 9) for value in self.north],
        }  # fmt: skip

    def as_tags(self) -> dict[str, str]:
        """As an ortho-image holds it."""
        return {TAG: json.dumps(self.as_json())}


def fitted(x: Values, y: Values, east: Values, north: Values) -> ViewGeometry:
    """The quadratic function through displacements at places, by least squares.

    Args:
        x: (N,) map coordinates, at six places or more.
        y: (N,)
        east: (N,) metres for each metre of height.
        north: (N,)
    """
    origin = float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2
    span = max(float(np.ptp(x)), float(np.ptp(y)), 1e-6) / 2
    terms = _terms(origin, span, x, y)
    by_direction = (np.linalg.lstsq(terms, values, rcond=None)[0] for values in (east, north))
    first, second = (tuple(float(one) for one in found) for found in by_direction)
    return ViewGeometry(origin, span, first, second)


def _terms(origin: tuple[float, float], span: float, x: Values, y: Values) -> Values:
    u, v = (x - origin[0]) / span, (y - origin[1]) / span
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def from_tags(tags: Mapping[str, str]) -> ViewGeometry | None:
    """What the tags of an ortho-image state; None if they state none, or none that can be read."""
    try:
        found = json.loads(tags[TAG])
        east, north = (tuple(float(one) for one in found[name]) for name in ("east", "north"))
        x, y = (float(one) for one in found["origin"])
        geometry = ViewGeometry((x, y), float(found["span"]), east, north)
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    numbers = [*geometry.origin, geometry.span, *east, *north]
    sound = len(east) == len(north) == VIEW_TERMS and geometry.span > 0 and bool(np.isfinite(numbers).all())
    return geometry if sound else None
