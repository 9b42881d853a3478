"""The reference system of a point cloud and its units, from the records in front of its points."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdepth.errors import ResDepthError
from resdepth.geo.crs import metres_per_unit, parsed
from resdepth.geo.units import Unit, length_unit

OWNER = "LASF_Projection"
WKT_RECORD, KEYS_RECORD = 2112, 34735
# Keys of GeoTIFF 1.1, section 7.1: geographic, projected and vertical systems, and units of the last two; and
# the value "defined by the user".
GEOGRAPHIC_KEY, PROJECTED_KEY, USER_DEFINED = 2048, 3072, 32767
UNIT_KEY, VERTICAL_KEY, HEIGHT_UNIT_KEY = 3076, 4096, 4099
# EPSG's numbers of units.
UNITS = {9001: "metre", 9002: "foot", 9003: "US survey foot"}


@dataclass(frozen=True)
class Stated:
    """What a file states about its reference system.

    Attributes:
        crs: WKT or "EPSG:..." text; None if it names none.
        unit, height_unit: of its coordinates and of its heights, where the file names them besides; else "".
    """

    crs: str | None
    unit: str = ""
    height_unit: str = ""


def stated_crs(path: Path, records: Iterable[Any], chosen: str | None) -> Stated:
    """The CRS and the units that a file names.

    Args:
        path: for messages.
        records: variable length records with `user_id`, `record_id` and `record_data_bytes()`.
        chosen: the CRS in the options, which is needed where the file's own has no EPSG code.

    Raises:
        ResDepthError: if the file's CRS has no EPSG code, and none is chosen.
    """
    found = {one.record_id: one.record_data_bytes() for one in records if one.user_id.strip("\0 ") == OWNER}
    wkt = bytes(found.get(WKT_RECORD, b"")).decode("utf-8", "replace").strip("\0 \n")
    if wkt:
        return Stated(wkt)
    keys = _short_keys(found.get(KEYS_RECORD, b""))
    code = keys.get(PROJECTED_KEY) or keys.get(GEOGRAPHIC_KEY)
    if code == USER_DEFINED and not chosen:
        raise ResDepthError(
            f"{path}: its CRS is described without an EPSG code; name it with the setting crs "
            "(such as EPSG:25832)"
        )
    units = (_unit(keys.get(key)) for key in (UNIT_KEY, HEIGHT_UNIT_KEY))
    if not code or code == USER_DEFINED:
        return Stated(None, *units)
    return Stated(_compound(code, keys.get(VERTICAL_KEY)), *units)


def demand_unit(path: Path, crs: str, unit: str) -> None:
    """Refuse coordinates in another unit than that of their CRS.

    Raises:
        ResDepthError: if the file names another unit beside the CRS.
    """
    found, expected = length_unit(unit), metres_per_unit(crs) if crs else 1.0
    if unit and expected is not None and (found is None or not found.same(Unit("", expected))):
        raise ResDepthError(
            f"{path}: its coordinates are in the unit {unit!r}, its CRS has units of {expected:.7g} m; "
            "reproject the file to a CRS in metres (pdal translate with filters.reprojection, in.srs and "
            "out.srs given)"
        )


def _unit(code: int | None) -> str:
    return "" if code in (None, 0, USER_DEFINED) else UNITS.get(code, f"EPSG unit {code}")


def _compound(code: int, vertical: int | None) -> str:
    """Both codes, where the vertical one is known: GeoTIFF 1.0 had numbers of its own."""
    if vertical and vertical != USER_DEFINED:
        with contextlib.suppress(ResDepthError):
            return parsed(f"EPSG:{code}+{vertical}")
    return f"EPSG:{code}"


def _short_keys(data: bytes) -> dict[int, int]:
    """The keys of a GeoKey directory whose value is a single 16-bit number."""
    numbers = [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data) - 1, 2)]
    entries = [numbers[i : i + 4] for i in range(4, len(numbers) - 3, 4)]
    return {key: value for key, location, _, value in entries if location == 0}
