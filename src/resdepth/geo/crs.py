"""Coordinate reference systems and units of length: their names, where they agree, how long they are."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform

from resdepth.errors import ResDepthError

Floats = NDArray[np.float64]

ANGLES = ("degree", "radian", "grad")  # units that a local CRS may have, as GDAL names them
# Longer names are cut: a CRS without a code may be a page of text.
LONGEST_NAME = 60
# A map that stretches lengths by less counts as true: those of UTM do by 0.1 %, Web Mercator by 1 / cos(lat).
TRUE_TO_SCALE = 0.01
SMALLEST_SCALE = 1e-4  # beyond it a place lies on no map
METRES_PER_DEGREE = 111_195.0  # on a sphere as large as the Earth
STEP_M = 50.0  # over which a map's scale is measured
WGS84_AXIS_M, WGS84_FLATTENING = 6378137.0, 298.257223563
READ_FAILURES = (RasterioError, CRSError, CPLE_BaseError, UnicodeError, RecursionError, MemoryError)
"""What reading a file through GDAL may raise that is the file's fault."""
_FAILURES = (RasterioError, CPLE_BaseError, ValueError, KeyError, TypeError)


def short_name(crs: CRS) -> str:
    """What people call it: "EPSG:32632", "EPSG:32632+5773", or its own name."""
    epsg = crs.to_epsg()
    if epsg:
        return f"EPSG:{epsg}"
    described = crs.to_dict(projjson=True)
    flat = _flat(described)
    if flat != described:
        return f"{short_name(_from_json(flat))} with ellipsoidal heights"
    parts = described.get("components", [])
    codes = [None if part.get("type") == "BoundCRS" else _from_json(part).to_epsg() for part in parts]
    if codes and all(codes):
        return "EPSG:" + "+".join(str(code) for code in codes)
    name = str(described.get("name") or crs.to_string())
    if any(codes):
        known = zip(codes, parts, strict=True)
        name = " + ".join(f"EPSG:{code}" if code else str(part.get("name", "")) for code, part in known)
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."


def same_horizontally(first: str, second: str) -> bool:
    """Whether two CRSs place pixels alike, whatever their names and their heights; unknown ones might."""
    if not first or not second or first == second:
        return True
    one, other = (CRS.from_wkt(horizontal_part(wkt)) for wkt in (first, second))
    return bool(one == other) or (one.to_epsg() is not None and one.to_epsg() == other.to_epsg())


@lru_cache(maxsize=64)
def horizontal_part(wkt: str) -> str:
    """A CRS without its heights: a DSM may have some, and its ortho-images none."""
    crs = CRS.from_wkt(wkt)
    described = crs.to_dict(projjson=True)
    if described.get("type") == "CompoundCRS":
        return horizontal_part(_from_json(described["components"][0]).to_wkt())
    if described.get("type") == "BoundCRS":
        return horizontal_part(_from_json(described["source_crs"]).to_wkt())
    flat = _flat(described)
    return wkt if flat == described else _from_json(flat).to_wkt()


def _flat(described: dict[str, Any]) -> dict[str, Any]:
    """A 3D CRS as PROJ describes it, without the third axis; any other as it is."""
    flat = dict(described)
    if isinstance(flat.get("base_crs"), dict):
        flat["base_crs"] = _flat(flat["base_crs"])
    axes = flat.get("coordinate_system", {}).get("axis", [])
    if len(axes) > 2 and flat.get("type") != "GeodeticCRS":
        flat["coordinate_system"] = {**flat["coordinate_system"], "axis": axes[:2]}
        flat.pop("id", None)  # that of the 3D one
    return flat


def _from_json(described: dict[str, Any]) -> CRS:
    return CRS.from_string(json.dumps(described))


@dataclass(frozen=True)
class Unit:
    """A unit of length.

    Attributes:
        name: as the file gives it ("US survey foot").
        metres: its length.
    """

    name: str
    metres: float

    @property
    def is_metre(self) -> bool:
        """Whether it is a metre, whatever it is called."""
        return abs(self.metres - 1) < SAME

    def of_metres(self, values: NDArray[Any]) -> NDArray[Any]:
        """Metres as numbers of this unit, in the type they come in."""
        return values if self.is_metre else (values / np.float64(self.metres)).astype(values.dtype)

    def to_metres(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers of this unit as metres."""
        return values if self.is_metre else values * self.metres

    def same(self, other: "Unit") -> bool:
        """Whether both are equally long, as far as their names can tell."""
        return abs(self.metres / other.metres - 1) < SAME


@dataclass(frozen=True)
class Vertical:
    """What a CRS states about heights.

    Attributes:
        name: of the vertical part ("NAVD88 height (ftUS)").
        datum: what heights count from; "" if the CRS does not name it.
        unit: of the heights.
        is_depth: whether the numbers grow downwards.
    """

    name: str
    datum: str
    unit: Unit
    is_depth: bool = False

    def same_zero(self, other: "Vertical") -> bool:
        """Whether both count from the same; unnamed ones might."""
        first, second = (re.sub(r"[^a-z0-9]+", "", one.datum.casefold()) for one in (self, other))
        return not first or not second or first == second

    def __str__(self) -> str:
        """What it is called and counts from."""
        return f"{self.name} ({self.datum})" if self.datum else self.name


@lru_cache(maxsize=64)
def vertical_part(wkt: str) -> Vertical | None:
    """What a compound CRS or one in 3D states about heights; None for others."""
    if not wkt:
        return None
    described = CRS.from_wkt(wkt).to_dict(projjson=True)
    while described.get("type") == "BoundCRS":
        described = described["source_crs"]
    parts = described.get("components", [])
    if len(parts) > 1:
        part = parts[1]
        while part.get("type") == "BoundCRS":
            part = part["source_crs"]
        axis = part.get("coordinate_system", {}).get("axis", [{}])[0]
        return _vertical(part.get("name", ""), _datum_name(part), axis)
    axes = described.get("coordinate_system", {}).get("axis", [])
    if len(axes) != 3 or described.get("type") == "GeodeticCRS":
        return None
    datum = f"ellipsoid of {_datum_name(described.get('base_crs', described))}"
    return _vertical("ellipsoidal height", datum, axes[2])


def _vertical(name: str, datum: str, axis: dict[str, Any]) -> Vertical:
    return Vertical(name, datum, _unit_of(axis), axis.get("direction") == "down")


@lru_cache(maxsize=64)
def storable(text: str) -> str:
    """The CRS, by its WKT or a name, as a GeoTIFF holds it: one in 3D without its heights.

    GDAL would put a projected 3D CRS into a file beside it (.aux.xml), without which the raster lies nowhere.
    """
    crs = CRS.from_user_input(text) if text else None
    if crs is None or not crs.is_projected or "components" in crs.to_dict(projjson=True):
        return text
    wkt = crs.to_wkt()
    flat = horizontal_part(wkt)
    return text if flat == wkt else flat


def _datum_name(described: dict[str, Any]) -> str:
    return str((described.get("datum") or described.get("datum_ensemble") or {}).get("name", ""))


def _unit_of(axis: dict[str, Any]) -> Unit:
    """The unit of an axis, as PROJJSON gives it: a name, or a name and a number."""
    stated = axis.get("unit", "metre")
    if isinstance(stated, dict):
        size = float(stated.get("conversion_factor", 0)) or 1.0
        return METRE if size == 1 else Unit(str(stated.get("name", "unit")), size)
    return length_unit(stated) or METRE


def find_crs(text: str) -> tuple[str, str]:
    """WKT and short name of the horizontal part of a CRS given as "EPSG:7415", as WKT or as a URN.

    Raises:
        ResDepthError: if there is no such CRS, or it is no map's.
    """
    wkt = horizontal_part(parsed(text))
    return wkt, short_name(CRS.from_wkt(wkt))


def parsed(text: str) -> str:
    """WKT of a CRS given as "EPSG:7415", as WKT or as a URN, with its heights.

    Raises:
        ResDepthError: if there is no such CRS, or it is no map's.
    """
    try:
        crs = CRS.from_user_input(text)
        wkt = crs.to_wkt()
        refuse_unmapped(CRS.from_wkt(horizontal_part(wkt)))
    except CRSError as error:
        hint = ""
        if "proj.db" in str(error):
            hint = "; PROJ_DATA must lead to one folder, with the proj.db of GDAL's PROJ in it, or be unset"
        raise ResDepthError(
            f"{text[:80]!r} is no coordinate system that GDAL knows ({error}){hint}"
        ) from error
    return str(wkt)


def refuse_unmapped(crs: CRS) -> None:
    """Refuse a CRS that counts from the centre of the Earth, or knows heights alone.

    Raises:
        ResDepthError: if it is one, saying what to do.
    """
    if crs.is_geographic or crs.is_projected:
        return  # the way of nearly all, without asking PROJ
    described = crs.to_dict(projjson=True)
    kinds = {
        "GeodeticCRS": "geocentric (counted from the centre of the Earth)", "VerticalCRS": "vertical"
    }  # fmt: skip
    if described.get("type") in kinds:
        raise ResDepthError(
            f"its CRS {described['name']} is {kinds[described['type']]}, which is no map: reproject the file "
            "to a projected CRS in metres (gdalwarp -t_srs EPSG:32632), or correct the CRS if it was named "
            "by mistake (gdal_edit.py -a_srs)"
        )


@lru_cache(maxsize=64)
def metres_per_unit(wkt: str) -> float | None:
    """Length in metres of the horizontal unit of a CRS; None where the unit is an angle.

    It is what the unit is called, wherever the map stretches lengths. A local CRS (of a building site, say)
    may tell no unit; then it is a metre.
    """
    known = CRS.from_wkt(horizontal_part(wkt))
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


@lru_cache(maxsize=256)
def ground_scale(wkt: str, x: float, y: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Metres on the ground for each unit of the map, about a place: a symmetric 2 x 2 matrix, east and north.

    Where the map is true to scale within 1 %, or nothing is known of it, it is the length of its unit.
    Elsewhere (degrees, Web Mercator) it is measured on the CRS's own ellipsoid.
    """
    unit = metres_per_unit(wkt) if wkt else 1.0
    try:
        measured = _measured_scale(wkt, x, y, unit)
    except _FAILURES:
        measured = None
    if measured is None:
        size = METRES_PER_DEGREE if unit is None else unit
        measured = size * np.eye(2)
    (a, b), (c, d) = measured.tolist()
    return (a, b), (c, d)


def _measured_scale(wkt: str, x: float, y: float, unit: float | None) -> Floats | None:
    """The ground's metres for each unit; None where the map counts as true to scale."""
    crs = CRS.from_wkt(horizontal_part(wkt)) if wkt else None
    if crs is None or not (crs.is_geographic or crs.is_projected):
        return None
    described = crs.to_dict(projjson=True)
    if unit is None:
        radians = float(crs.units_factor[1])
        return np.asarray(_metres_of_angles(described, y * radians) * radians)
    base = described["base_crs"]
    step = STEP_M / unit
    places = np.array([[x - step, x + step, x, x], [y, y, y - step, y + step]])
    lon, lat = np.array(transform(crs, _from_json(base), *places))
    radians = float(_from_json(base).units_factor[1])
    turns = np.array([[lon[1] - lon[0], lon[3] - lon[2]], [lat[1] - lat[0], lat[3] - lat[2]]]) / (2 * step)
    turned = _metres_of_angles(base, float(lat.mean()) * radians) @ turns * radians
    if not np.isfinite(turned).all():
        return None
    # The map's own directions: what turns it against the north is left out.
    _, sizes, axes = np.linalg.svd(turned)
    if np.abs(sizes / unit - 1).max() < TRUE_TO_SCALE or sizes.min() < SMALLEST_SCALE * unit:
        return None
    return np.asarray(axes.T @ np.diag(sizes) @ axes, np.float64)


def _metres_of_angles(described: dict[str, Any], latitude: float) -> Floats:
    """Metres to the east and north for each radian of longitude and latitude, on an ellipsoid."""
    datum = described.get("datum") or described.get("datum_ensemble") or {}
    ellipsoid = datum.get("ellipsoid", {})
    major = float(ellipsoid.get("semi_major_axis", ellipsoid.get("radius", WGS84_AXIS_M)))
    if "semi_minor_axis" in ellipsoid:
        flattening = 1 - float(ellipsoid["semi_minor_axis"]) / major
    elif "radius" in ellipsoid:
        flattening = 0.0
    else:
        flattening = 1 / float(ellipsoid.get("inverse_flattening", WGS84_FLATTENING))
    squared = flattening * (2 - flattening)
    curved = 1 - squared * np.sin(latitude) ** 2
    east = major / np.sqrt(curved) * np.cos(latitude)
    return np.diag([east, major * (1 - squared) / curved**1.5])


# Units that differ by less are one: many files call the US survey foot (2 millionths longer) a foot.
SAME = 1e-5
FOOT, US_FOOT = 0.3048, 1200 / 3937
_METRES = {
    "m metre metres meter meters": 1.0,
    "dm decimetre decimetres decimeter decimeters": 0.1,
    "cm centimetre centimetres centimeter centimeters": 0.01,
    "mm millimetre millimetres millimeter millimeters": 0.001,
    "km kilometre kilometres kilometer kilometers": 1000.0,
    "ft foot feet ift international_foot international_feet foot_international": FOOT,
    "ftus usft us_ft ft_us us_foot us_feet foot_us feet_us us_survey_foot us_survey_feet survey_foot "
    "survey_feet foot_us_survey": US_FOOT,
    "yd yard yards": 3 * FOOT,
    "in inch inches": FOOT / 12,
    "fathom fathoms": 6 * FOOT,
}
METRES = {name: size for names, size in _METRES.items() for name in names.split()}
UNTOLD = ("", "unknown", "none", "unitless")
# "m above EGM96" names a unit, "m/s" another one.
ABOVE = ("above", "over", "asl", "amsl", "msl")


METRE = Unit("metre", 1.0)


def length_unit(text: str) -> Unit | None:
    """The unit that a text names; None if it names no length.

    Letters, blanks and dots are taken as people write them: "US survey foot", "us-ft", "m above geoid",
    "metres (NAVD88)".
    """
    remark = text.find("(")
    return _unit_in(text) or (_unit_in(text[:remark]) if remark > 0 else None)


def _unit_in(text: str) -> Unit | None:
    words = re.sub(r"[^a-z0-9]+", " ", text.casefold()).replace("u s ", "us ").split()
    for count in range(len(words), 0, -1):
        size = METRES.get("_".join(words[:count]))
        if size is not None and (count == len(words) or words[count] in ABOVE):
            return METRE if size == 1 else Unit(text.strip(), size)
    return None


def height_unit(path: Path, band: str, vertical: Vertical | None) -> Unit | None:
    """The unit of a raster's heights, from what its band and its CRS state; None if neither does.

    Where both state one they must agree. The CRS's number counts then: it has more digits.

    Raises:
        ResDepthError: if the band's unit is no known length, both contradict each other, or it has depths.
    """
    if vertical is not None and vertical.is_depth:
        raise ResDepthError(
            f"{path}: its vertical CRS {vertical.name} counts depths, downwards; heights are expected: "
            "change the sign of the values and name a CRS of heights (gdal_edit.py -a_srs)"
        )
    stated = None if band.strip().casefold() in UNTOLD else length_unit(band)
    if stated is None and band.strip().casefold() not in UNTOLD:
        raise ResDepthError(
            f"{path}: the unit of its band is {band[:40]!r}, which is no known unit of length; correct it "
            "(gdal_edit.py -units metre, or 'foot', or 'US survey foot')"
        )
    if vertical is None:
        return stated
    if stated is not None and not stated.same(vertical.unit):
        raise ResDepthError(
            f"{path}: the unit of its band is {stated.name}, that of its vertical CRS {vertical.name} is "
            f"{vertical.unit.name}; correct the wrong one (gdal_edit.py -units {vertical.unit.name!r}, or "
            "-a_srs with the right CRS)"
        )
    return METRE if vertical.unit.is_metre else vertical.unit
