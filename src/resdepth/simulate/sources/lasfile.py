"""Reading LAS and LAZ files in portions. The only user of laspy, which is imported when it is needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError

POINTS_AT_ONCE, BYTES_AT_ONCE = 1_000_000, 2**26
LARGEST_SHARE = 4.0  # of the header's bounds in the area that points fill
FARTHEST = 1e9
PANICS = "pyo3_runtime"  # where the exceptions of lazrs are that are no Exception
# Of the header (LAS 1.4 R15, table 3), and of the table of chunks of a LAZ file.
HEAD_BYTES, RECORD_BYTES, COMPRESSED, STREAMED = 247, 54, 0x80, 2**64 - 1


@dataclass(frozen=True)
class Points:
    """Some points of a file.

    Attributes:
        x, y, z: (N,) float64, map coordinates and metres.
        codes: (N,) uint8, ASPRS classification.
        withheld: (N,) bool, True for points that the file's maker has struck out.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    codes: NDArray[np.uint8]
    withheld: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)


class PointFile:
    """An open point cloud.

    Attributes:
        path: the file.
        count: how many points its header tells.
        low, high: (2,) float64: x and y between which the header says that they lie.
        records: the variable length records of the header.
    """

    def __init__(self, path: Path, reader: Any) -> None:
        header = reader.header
        self.path, self._reader = path, reader
        self.count = int(header.point_count)
        self.low, self.high = np.array(header.mins[:2], np.float64), np.array(header.maxs[:2], np.float64)
        self.records = [*header.vlrs, *(header.evlrs or [])]
        size = max(1, int(header.point_format.size))
        self._at_once = max(1, min(POINTS_AT_ONCE, BYTES_AT_ONCE // size))
        self._begun = False
        self._tolerance = 2 * np.abs(np.array(header.scales[:2], np.float64))
        if self.count == 0:
            raise ResDepthError(f"{path}: has no points; there is nothing to build a scene from")

    def demand_filled_bounds(self) -> None:
        """Look at all points once: whether they lie all over the bounds that the header tells.

        Raises:
            ResDepthError: if they fill a small part alone, and room would be taken for nothing; or see
                `portions`.
        """
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for points in self.portions():
            places = np.stack([points.x, points.y])
            low, high = np.minimum(low, places.min(axis=1)), np.maximum(high, places.max(axis=1))
        stated, filled = self.high - self.low, np.maximum(high - low, self._tolerance)
        if np.prod(stated / filled) > LARGEST_SHARE:
            raise ResDepthError(
                f"{self.path}: its header tells bounds from {self.low.tolist()} to {self.high.tolist()}, but "
                f"all points lie from {low.tolist()} to {high.tolist()}; repair it (lasinfo -repair_bb)"
            )

    def portions(self) -> Iterator[Points]:
        """All points, a million at a time.

        Raises:
            ResDepthError: if points are damaged or missing, or lie outside the header's bounds.
        """
        if self._begun:
            with _telling(self.path):
                self._reader.seek(0)
        self._begun = True
        chunks, found = self._reader.chunk_iterator(self._at_once), 0
        while True:
            with _telling(self.path):
                chunk = next(chunks, None)
                if chunk is None:
                    break
                points = _points(chunk)
            self._check_bounds(points)
            found += len(points)
            yield points
        if found < self.count:
            raise ResDepthError(f"{self.path}: {found} of {self.count} points are there; is it complete?")

    def _check_bounds(self, points: Points) -> None:
        places = np.stack([points.x, points.y])
        low, high = places.min(axis=1, initial=np.inf), places.max(axis=1, initial=-np.inf)
        if not (np.abs(places) < FARTHEST).all() or not (np.abs(points.z) < FARTHEST).all():
            raise ResDepthError(f"{self.path}: coordinates lie on no map; its header is damaged")
        if (low < self.low - self._tolerance).any() or (high > self.high + self._tolerance).any():
            raise ResDepthError(
                f"{self.path}: points from {low.tolist()} to {high.tolist()} lie outside the bounds that its "
                f"header tells, {self.low.tolist()} to {self.high.tolist()}; repair it (lasinfo -repair_bb)"
            )


@contextmanager
def open_points(path: Path) -> Iterator[PointFile]:
    """Open a LAS or LAZ file.

    Raises:
        ResDepthError: if laspy is not installed, or the file is damaged or has no points.
    """
    try:
        import laspy
    except ImportError as error:
        raise ResDepthError(
            f"{path}: point clouds need laspy, which is not installed: pip install resdepth[simulate]"
        ) from error
    _refuse_bombs(path)
    with _telling(path):
        reader = laspy.open(path)
    with reader:
        yield PointFile(path, reader)


def _refuse_bombs(path: Path) -> None:
    """Look at the counts that a file declares; laspy takes time or memory for each before it looks."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if len(head) < HEAD_BYTES:
            return  # laspy tells what is wrong
        start, records = _whole_number(head, 96, 4), _whole_number(head, 100, 4)
        late_records = _whole_number(head, 243, 4) if head[25] >= 4 else 0  # since version 1.4
        if records * RECORD_BYTES > min(start, size) or late_records * RECORD_BYTES > size:
            raise ResDepthError(
                f"{path}: cannot be read as LAS (more records than it has room for); is it complete?"
            )
        if head[104] & COMPRESSED:
            _refuse_many_chunks(path, file, start, size)


def _refuse_many_chunks(path: Path, file: BinaryIO, start: int, size: int) -> None:
    file.seek(start)
    table = _whole_number(file.read(8), 0, 8)
    if table == STREAMED:
        file.seek(max(size - 8, 0))
        table = _whole_number(file.read(8), 0, 8)
    if not start < table <= size - 8:
        raise ResDepthError(
            f"{path}: cannot be read as LAZ (its table of chunks is not there); is it complete?"
        )
    file.seek(table + 4)
    chunks = _whole_number(file.read(4), 0, 4)
    if chunks > size:
        raise ResDepthError(f"{path}: cannot be read as LAZ ({chunks} chunks in {size} bytes)")


def _whole_number(raw: bytes, at: int, length: int) -> int:
    return int.from_bytes(raw[at : at + length], "little")


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # a damaged file makes laspy and lazrs raise whatever comes
        if not isinstance(error, Exception) and type(error).__module__ != PANICS:
            raise
        raise ResDepthError(f"{path}: cannot be read as LAS or LAZ ({error}); is it complete?") from error


def _points(chunk: Any) -> Points:
    x, y, z = (np.asarray(getattr(chunk, axis), np.float64) for axis in "xyz")
    codes = np.asarray(chunk.classification, np.uint8)
    return Points(x, y, z, codes, np.asarray(chunk.withheld, bool))
