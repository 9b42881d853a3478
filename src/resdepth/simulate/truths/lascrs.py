"""The reference system of a point cloud, from the records in front of its points."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resdepth.errors import ResDepthError

OWNER = "LASF_Projection"
WKT_RECORD, KEYS_RECORD = 2112, 34735
# Keys of GeoTIFF 1.1, section 7.1: geographic and projected systems; and the value "defined by the user".
GEOGRAPHIC_KEY, PROJECTED_KEY, USER_DEFINED = 2048, 3072, 32767


def told_crs(path: Path, records: Iterable[Any], chosen: str | None) -> str | None:
    """The CRS as WKT or "EPSG:..." text; None if the file tells none.

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
        return wkt
    keys = _short_keys(found.get(KEYS_RECORD, b""))
    code = keys.get(PROJECTED_KEY) or keys.get(GEOGRAPHIC_KEY)
    if code == USER_DEFINED and not chosen:
        raise ResDepthError(
            f"{path}: its CRS is described without an EPSG code; name it with the setting crs "
            "(such as EPSG:25832)"
        )
    return f"EPSG:{code}" if code and code != USER_DEFINED else None


def _short_keys(data: bytes) -> dict[int, int]:
    """The keys of a GeoKey directory whose value is a single 16-bit number."""
    numbers = [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data) - 1, 2)]
    entries = [numbers[i : i + 4] for i in range(4, len(numbers) - 3, 4)]
    return {key: value for key, location, _, value in entries if location == 0}
