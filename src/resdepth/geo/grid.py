"""Where pixels lie: grids, on the map and on the ground."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs, ground_scale, metres_per_unit, same_horizontally, vertical_part
from resdepth.geo.windows import Window

# Two grids are the same if their corners agree within this share of a pixel.
CORNER_TOLERANCE_PX = 0.01
# Pixels are square, and their corners right angles, within this share.
SQUARE = 0.01
# Rounds an origin between two pixels of the map's lattice: an irrational share, which no grid in use
# has, or rounding errors would decide.
_BETWEEN_PX = 0.41421356237
UNREFERENCED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The transform of a raster that lies on no map."""
Bounds = tuple[float, float, float, float]
"""A rectangle of the map: xmin, ymin, xmax, ymax."""


class Sides(NamedTuple):
    """Sides of a pixel on the ground, metres.

    Attributes:
        height: from a row to the next.
        width: from a column to the next.
    """

    height: float
    width: float

    @property
    def mean(self) -> float:
        """Side of a square of the same area."""
        return float(np.sqrt(self.height * self.width))

    @property
    def are_equal(self) -> bool:
        """Whether the pixel is square."""
        return abs(self.height / self.width - 1) < SQUARE

    def __str__(self) -> str:
        """Height and width as people write them, "0.5" or "0.5 x 0.25"."""
        return f"{self.mean:.4g}" if self.are_equal else f"{self.height:.4g} x {self.width:.4g}"


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie.

    Attributes:
        height, width: in pixels.
        transform: affine map from (column, row) to map coordinates, six numbers a, b, c, d, e, f.
        crs: coordinate reference system as WKT; empty if unknown.
        crs_name: the same for people ("EPSG:32632").
    """

    height: int
    width: int
    transform: tuple[float, float, float, float, float, float]
    crs: str = field(default="", repr=False)
    crs_name: str = field(default="unknown", compare=False)

    @property
    def whole(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, self.height, self.width)

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared map units."""
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d)

    @property
    def gsd(self) -> float:
        """Side in map units of a square as large as a pixel."""
        return float(np.sqrt(self.pixel_area))

    @property
    def _ground(self) -> NDArray[np.float64]:
        """(2, 2) metres on the ground, east and north, for each unit of the map; as in the grid's middle."""
        if not self.crs:
            return np.eye(2)
        return np.array(ground_scale(self.crs, *self.map_position(self.height / 2, self.width / 2)))

    @property
    def sides_m(self) -> Sides:
        """Sides of a pixel on the ground, as in the grid's middle. An unknown unit is a metre."""
        a, b, _, d, e, _ = self.transform
        (east, north), (east_down, north_down) = (self._ground @ one for one in ((a, d), (b, e)))
        return Sides(float(np.hypot(east_down, north_down)), float(np.hypot(east, north)))

    @property
    def is_slanted(self) -> bool:
        """Whether rows and columns do not meet at right angles on the ground."""
        a, b, _, d, e, _ = self.transform
        along, down = (self._ground @ one for one in ((a, d), (b, e)))
        return bool(abs(along @ down) > SQUARE * np.hypot(*along) * np.hypot(*down))

    @property
    def pixel_area_m2(self) -> float:
        """Area of a pixel on the ground, as in the grid's middle."""
        return self.pixel_area * float(np.linalg.det(self._ground))

    @property
    def gsd_m(self) -> float:
        """Side on the ground of a square as large as a pixel, metres."""
        return float(np.sqrt(self.pixel_area_m2))

    def metres_of(self, x: float, y: float) -> tuple[float, float]:
        """A distance on the map as metres on the ground, along the map's axes."""
        east, north = self._ground @ (x, y)
        return float(east), float(north)

    def map_units_of(self, east_m: float, north_m: float) -> tuple[float, float]:
        """The inverse of `metres_of`."""
        x, y = np.linalg.solve(self._ground, (east_m, north_m))
        return float(x), float(y)

    @property
    def is_in_degrees(self) -> bool:
        """Whether its map units are angles."""
        return bool(self.crs) and metres_per_unit(self.crs) is None

    @property
    def stretched(self) -> str:
        """In words, how far map units are from metres on the ground where that surprises; "" elsewhere."""
        unit = metres_per_unit(self.crs) if self.crs else 1.0
        if unit is not None and np.allclose(self._ground, unit * np.eye(2), rtol=1e-9):
            return ""
        sides = self.sides_m
        return (
            f"its CRS {self.crs_name} {'is in degrees' if unit is None else 'stretches lengths'}: pixels are "
            f"taken as {sides.height:.4g} x {sides.width:.4g} m (height x width), their size on the ground "
            "in the middle of the raster"
        )

    @property
    def flat(self) -> "Grid":
        """The same for values that are no heights: without the vertical part of the CRS."""
        if not self.crs or vertical_part(self.crs) is None:
            return self
        crs, name = find_crs(self.crs)
        return replace(self, crs=crs, crs_name=name)

    def map_position(self, row: float, col: float) -> tuple[float, float]:
        """Map coordinates (x, y) of a pixel corner."""
        a, b, c, d, e, f = self.transform
        return (a * col + b * row + c, d * col + e * row + f)

    def pixel_position(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Row and column of map positions in a north-up grid; 0 is the centre of the first pixel."""
        a, _, c, _, e, f = self.transform
        return ((y - f) / e - 0.5).astype(np.float32), ((x - c) / a - 0.5).astype(np.float32)

    @property
    def _determinant(self) -> float:
        a, b, _, d, e, _ = self.transform
        determinant = a * e - b * d
        if not np.isfinite(determinant) or determinant == 0:
            raise ResDepthError(f"the transform {self.transform} gives pixels no area; mend the georeference")
        return determinant

    @property
    def bounds(self) -> Bounds:
        """The rectangle of the map that the pixels touch."""
        corners = [self.map_position(row, col) for row in (0, self.height) for col in (0, self.width)]
        x, y = zip(*corners, strict=True)
        return min(x), min(y), max(x), max(y)

    @property
    def lattice_origin(self) -> tuple[int, int]:
        """Row and column of the first pixel in the lattice of pixels that covers the whole map.

        It makes a place's number independent of where a raster begins: grids of one pixel size that are
        pixel-aligned have one lattice.
        """
        a, b, c, d, e, f = self.transform
        determinant = self._determinant
        col, row = (e * c - b * f) / determinant, (a * f - d * c) / determinant
        return int(np.floor(row + _BETWEEN_PX)), int(np.floor(col + _BETWEEN_PX))

    def window_of(self, bounds: Bounds) -> Window:
        """The pixels whose area touches a rectangle of the map; those of this raster.

        Args:
            bounds: xmin, ymin, xmax, ymax.

        Raises:
            ResDepthError: if the rectangle is empty or lies outside the raster.
        """
        xmin, ymin, xmax, ymax = bounds
        sound = bool(np.isfinite(bounds).all()) and xmin < xmax and ymin < ymax
        inside = self._touched(bounds) if sound else None
        if inside is None:
            west, south, east, north = self.bounds
            raise ResDepthError(
                f"region {xmin:.10g} {ymin:.10g} {xmax:.10g} {ymax:.10g} (xmin ymin xmax ymax): no pixel of "
                f"the raster lies in it, which covers {west:.10g} {south:.10g} {east:.10g} {north:.10g}"
            )
        return inside

    def _touched(self, bounds: Bounds) -> Window | None:
        xmin, ymin, xmax, ymax = bounds
        a, b, c, d, e, f = self.transform
        determinant = self._determinant
        corners = [(x - c, y - f) for x in (xmin, xmax) for y in (ymin, ymax)]
        rows = [(a * y - d * x) / determinant for x, y in corners]
        cols = [(e * x - b * y) / determinant for x, y in corners]
        # A corner that by rounding reaches a millionth into the next pixel does not touch it.
        if np.isnan([*rows, *cols]).any():
            return None
        row, row_stop = (int(np.clip(edge, 0, self.height)) for edge in _touched_between(rows))
        col, col_stop = (int(np.clip(edge, 0, self.width)) for edge in _touched_between(cols))
        height, width = row_stop - row, col_stop - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None

    def crop(self, window: Window) -> "Grid":
        """The grid of a part of this raster."""
        a, b, _, d, e, _ = self.transform
        x, y = self.map_position(window.row, window.col)
        return Grid(window.height, window.width, (a, b, x, d, e, y), self.crs, self.crs_name)

    def coarser(self, side: int) -> "Grid":
        """The same area in no more pixels than `side` on its longer side."""
        factor = max(1.0, max(self.height, self.width) / side)
        height, width = max(1, round(self.height / factor)), max(1, round(self.width / factor))
        if (height, width) == (self.height, self.width):
            return self
        a, b, c, d, e, f = self.transform
        across, down = self.width / width, self.height / height
        return replace(
            self, height=height, width=width, transform=(a * across, b * down, c, d * across, e * down, f)
        )

    def pixel_offset_of(self, other: "Grid") -> tuple[int, int] | None:
        """Row and column, in this raster, of the other's first pixel; None if the pixels do not coincide."""
        a, b, c, d, e, f = self.transform
        x, y = other.map_position(0, 0)
        determinant = self._determinant
        col = round((e * (x - c) - b * (y - f)) / determinant)
        row = round((a * (y - f) - d * (x - c)) / determinant)
        there = self.crop(Window(row, col, other.height, other.width))
        return (row, col) if there._corner_shift_px(other) <= CORNER_TOLERANCE_PX else None

    def may_share_crs(self, other: "Grid") -> bool:
        """Whether both CRSs place pixels alike; an unknown one might."""
        return same_horizontally(self.crs, other.crs)

    def differences(self, other: "Grid") -> list[str]:
        """In words, what keeps the two grids from being pixel-aligned; empty if they are the same."""
        found = []
        if (self.height, self.width) != (other.height, other.width):
            found.append(
                f"size {other.height} x {other.width} instead of {self.height} x {self.width} pixels"
            )
        if not same_horizontally(self.crs, other.crs):
            found.append(f"CRS {other.crs_name} instead of {self.crs_name}")
        if self._corner_shift_px(other) > CORNER_TOLERANCE_PX:
            ours, theirs = self.transform, other.transform
            found.append(f"{_placement(theirs)} instead of {_placement(ours)}")
        return found

    def _corner_shift_px(self, other: "Grid") -> float:
        a, b, _, d, e, _ = self.transform
        corners = [(0, 0), (0, self.width), (self.height, 0), (self.height, self.width)]
        shifts = []
        for corner in corners:
            x, y = np.subtract(self.map_position(*corner), other.map_position(*corner))
            shifts.append(np.hypot(e * x - b * y, a * y - d * x))
        return float(max(shifts)) / max(self.pixel_area, 1e-60)


def _touched_between(places: Sequence[float]) -> tuple[float, float]:
    return float(np.floor(min(places) + 1e-6)), float(np.ceil(max(places) - 1e-6))


def _placement(transform: tuple[float, ...]) -> str:
    a, _, c, _, e, f = transform
    return f"origin ({c:.10g}, {f:.10g}) with pixel size ({a:.6g}, {e:.6g})"
