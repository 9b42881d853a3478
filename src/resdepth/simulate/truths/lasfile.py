"""Reading LAS and LAZ files in portions. The only user of laspy, which is imported when it is needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError

POINTS_AT_ONCE = 1_000_000


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
        self._tolerance = 2 * np.abs(np.array(header.scales[:2], np.float64))
        if self.count == 0:
            raise ResDepthError(f"{path}: has no points; there is nothing to build a scene from")

    def portions(self) -> Iterator[Points]:
        """All points, a million at a time.

        Raises:
            ResDepthError: if points are damaged or missing, or lie outside the header's bounds.
        """
        chunks, found = self._reader.chunk_iterator(POINTS_AT_ONCE), 0
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
    with _telling(path):
        reader = laspy.open(path)
    with reader:
        yield PointFile(path, reader)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file makes laspy and lazrs raise whatever comes
        raise ResDepthError(f"{path}: cannot be read as LAS or LAZ ({error}); is it complete?") from error


def _points(chunk: Any) -> Points:
    x, y, z = (np.asarray(getattr(chunk, axis), np.float64) for axis in "xyz")
    codes = np.asarray(chunk.classification, np.uint8)
    return Points(x, y, z, codes, np.asarray(chunk.withheld, bool))
