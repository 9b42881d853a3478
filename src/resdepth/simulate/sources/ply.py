"""Point clouds in PLY, as stereo pipelines write them: the vertices of a file, a million at a time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError

Floats = NDArray[np.float64]

POINTS_AT_ONCE = 1_000_000
LONGEST_HEADER, FARTHEST = 2**16, 1e9
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_EPSG, _UTM = (
    re.compile(r"EPSG:(\d+)", re.IGNORECASE),
    re.compile(r"\bUTM\s+(\d{1,2})\s*([NS])\b", re.IGNORECASE),
)


@dataclass(frozen=True)
class PlyHeader:
    """What a file states about its vertices.

    Attributes:
        count: how many there are.
        kind: of a vertex, with fields x, y and z; None if they are text.
        names: of the properties of a vertex.
        start: where the first one begins, bytes.
        crs: that a comment names, as s2p writes them ("UTM 40S", "EPSG:32740"); "" without one.
    """

    count: int
    kind: np.dtype[Any] | None
    names: tuple[str, ...]
    start: int
    crs: str


def read_ply_header(path: Path) -> PlyHeader:
    """The header of a PLY file.

    Raises:
        ResDepthError: if it is none, or its first element is no list of vertices with x, y and z.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_HEADER)
    except OSError as error:
        raise ResDepthError(f"{path}: cannot be read ({error.strerror})") from error
    end = re.search(rb"end_header\r?\n", raw)
    if not raw.startswith(b"ply") or end is None:
        raise ResDepthError(f"{path}: cannot be read as PLY; is it complete?")
    lines = raw[: end.start()].decode("ascii", "replace").splitlines()
    words = [line.split() for line in lines]
    order = next((line[1] for line in words if line[:1] == ["format"] and len(line) > 1), "")
    elements = [number for number, line in enumerate(words) if line[:1] == ["element"]]
    first = words[elements[0]] if elements else []
    stop = elements[1] if len(elements) > 1 else len(words)
    properties = [line for line in words[elements[0] + 1 : stop] if line[:1] == ["property"]] if first else []
    fields = [(line[2], TYPES[line[1]]) for line in properties if len(line) == 3 and line[1] in TYPES]
    names = tuple(name for name, _ in fields)
    sound = first[:2] == ["element", "vertex"] and len(first) == 3 and first[2].isdigit()
    if (
        not sound
        or len(fields) != len(properties)
        or len(set(names)) < len(names)
        or not {"x", "y", "z"} <= {*names}
    ):
        raise ResDepthError(f"{path}: its first element is no list of vertices with x, y and z")
    if order not in {*ORDERS, "ascii"}:
        raise ResDepthError(f"{path}: its format is {order[:30]!r}; ascii and binary ones are read")
    kind = None if order == "ascii" else np.dtype([(name, ORDERS[order] + code) for name, code in fields])
    return PlyHeader(int(first[2]), kind, names, end.end(), _crs_in(lines))


def _crs_in(lines: list[str]) -> str:
    comments = " ".join(line for line in lines if line.startswith("comment"))
    if found := _EPSG.search(comments):
        return f"EPSG:{found[1]}"
    if found := _UTM.search(comments):
        return f"EPSG:{(32600 if found[2].upper() == 'N' else 32700) + int(found[1])}"
    return ""


def ply_portions(path: Path, header: PlyHeader) -> Iterator[Floats]:
    """All vertices, (N, 3) map coordinates and heights, a million at a time.

    Raises:
        ResDepthError: if some are missing, or lie on no map.
    """
    found = 0
    try:
        with path.open("rb") as file:
            file.seek(header.start)
            while found < header.count:
                wanted = min(POINTS_AT_ONCE, header.count - found)
                points = _read_some(file, header, wanted)
                if len(points) < wanted or not (np.abs(points) < FARTHEST).all():
                    break
                found += len(points)
                yield points
    except (OSError, ValueError) as error:
        raise ResDepthError(f"{path}: cannot be read as PLY ({error!s:.100}); is it complete?") from error
    if found < header.count:
        raise ResDepthError(f"{path}: {header.count} points are stated, not all are there; is it complete?")


def _read_some(file: Any, header: PlyHeader, wanted: int) -> Floats:
    if header.kind is not None:
        raw = file.read(wanted * header.kind.itemsize)
        values = np.frombuffer(raw[: len(raw) // header.kind.itemsize * header.kind.itemsize], header.kind)
        return np.stack([values[axis].astype(np.float64) for axis in "xyz"], axis=1)
    columns = [header.names.index(axis) for axis in "xyz"]
    return np.loadtxt(islice(file, wanted), usecols=columns, ndmin=2, dtype=np.float64, encoding="ascii")
