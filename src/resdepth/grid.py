"""Where pixels lie: grids and coordinate reference systems."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError

from resdepth.errors import ResDepthError
from resdepth.windows import Window

# Two grids are the same if their corners agree within this share of a pixel.
CORNER_TOLERANCE_PX = 0.01
ANGLES = ("degree", "radian", "grad")  # units that a local CRS may have, as GDAL names them
METRES_PER_DEGREE = 111_195.0  # on a sphere as large as the Earth
# Rounds an origin between two pixels of the map's lattice: an irrational share, which no grid in use
# has, or rounding errors would decide.
_BETWEEN_PX = 0.41421356237


Bounds = tuple[float, float, float, float]
"""A rectangle of the map: xmin, ymin, xmax, ymax."""


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
        """Area of a pixel in squared map units (m2 in projected systems)."""
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d)

    @property
    def gsd(self) -> float:
        """Side of a pixel in map units."""
        return float(np.sqrt(self.pixel_area))

    @property
    def gsd_m(self) -> float:
        """Side of a pixel in metres; about, where coordinates are angles. An unknown unit is a metre."""
        unit = metres_per_unit(self.crs) if self.crs else 1.0
        if unit is not None:
            return self.gsd * unit
        _, south, _, north = self.bounds
        return float(
            self.gsd * METRES_PER_DEGREE * np.sqrt(max(np.cos(np.radians((south + north) / 2)), 0.01))
        )

    def map_position(self, row: float, col: float) -> tuple[float, float]:
        """Map coordinates (x, y) of a pixel corner."""
        a, b, c, d, e, f = self.transform
        return (a * col + b * row + c, d * col + e * row + f)

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
        row, col = max(int(np.floor(min(rows) + 1e-6)), 0), max(int(np.floor(min(cols) + 1e-6)), 0)
        height = min(int(np.ceil(max(rows) - 1e-6)), self.height) - row
        width = min(int(np.ceil(max(cols) - 1e-6)), self.width) - col
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
        return _same_horizontally(self.crs, other.crs)

    def differences(self, other: "Grid") -> list[str]:
        """In words, what keeps the two grids from being pixel-aligned; empty if they are the same."""
        found = []
        if (self.height, self.width) != (other.height, other.width):
            found.append(
                f"size {other.height} x {other.width} instead of {self.height} x {self.width} pixels"
            )
        if not _same_horizontally(self.crs, other.crs):
            found.append(f"CRS {other.crs_name} instead of {self.crs_name}")
        if self._corner_shift_px(other) > CORNER_TOLERANCE_PX:
            ours, theirs = self.transform, other.transform
            found.append(f"{_placement(theirs)} instead of {_placement(ours)}")
        return found

    def _corner_shift_px(self, other: "Grid") -> float:
        corners = [(0, 0), (0, self.width), (self.height, 0), (self.height, self.width)]
        shifts = [
            np.hypot(*np.subtract(self.map_position(*corner), other.map_position(*corner)))
            for corner in corners
        ]
        return float(max(shifts)) / max(self.gsd, 1e-30)


def _same_horizontally(first: str, second: str) -> bool:
    """Whether two CRSs place pixels alike, whatever their names and their heights; unknown ones might."""
    if not first or not second or first == second:
        return True
    one, other = (_horizontal(CRS.from_wkt(wkt)) for wkt in (first, second))
    return bool(one == other) or (one.to_epsg() is not None and one.to_epsg() == other.to_epsg())


def _horizontal(crs: CRS) -> CRS:
    """A CRS without its vertical part: a DSM may have one, and its ortho-images none."""
    described = crs.to_dict(projjson=True)
    if described.get("type") != "CompoundCRS":
        return crs
    return CRS.from_string(json.dumps(described["components"][0]))


def find_crs(text: str) -> tuple[str, str]:
    """WKT and short name of the horizontal part of a CRS given as "EPSG:7415", as WKT or as a URN.

    Raises:
        ResDepthError: if there is no such CRS, or it is no map's.
    """
    try:
        crs = _horizontal(CRS.from_user_input(text))
        refuse_geocentric(crs)
        return crs.to_wkt(), short_name(crs)
    except CRSError as error:
        raise ResDepthError(f"{text[:80]!r} is no coordinate system that GDAL knows ({error})") from error


def refuse_geocentric(crs: CRS) -> None:
    """Refuse a CRS that counts from the centre of the Earth: no height lies above its X and Y.

    Raises:
        ResDepthError: if it is one, saying what to do.
    """
    if crs.is_geographic or crs.is_projected:
        return  # the way of nearly all, without asking PROJ
    described = crs.to_dict(projjson=True)
    if described.get("type") == "GeodeticCRS":
        raise ResDepthError(
            f"its CRS {described['name']} is geocentric (counted from the centre of the Earth), which is no "
            "map: reproject the file to a projected CRS in metres (gdalwarp -t_srs EPSG:32632), or correct "
            "the CRS if it was named by mistake (gdal_edit.py -a_srs)"
        )


def metres_per_unit(crs: str) -> float | None:
    """Length in metres of the horizontal unit of a CRS given as WKT; None where the unit is an angle.

    A local CRS (of a building site, say) may tell no unit; then it is a metre.
    """
    known = _horizontal(CRS.from_wkt(crs))
    if known.is_geographic:
        return None
    if known.is_projected:
        return float(known.linear_units_factor[1])
    # rasterio gives linear_units_factor of projected CRSs alone.
    try:
        unit, factor = known.units_factor
    except CRSError:
        return 1.0
    return None if unit.lower() in ANGLES else float(factor) or 1.0


def short_name(crs: CRS) -> str:
    """What people call it: "EPSG:32632"."""
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.to_string())


def _placement(transform: tuple[float, ...]) -> str:
    a, _, c, _, e, f = transform
    return f"origin ({c:.10g}, {f:.10g}) with pixel size ({a:.6g}, {e:.6g})"
