"""Raw surfaces from point clouds (LAS, LAZ, PLY): the highest point of each pixel.

Points are read in portions, with the CRS and the units in the records in front of them; small gaps between
them are closed. This is the only user of laspy, which is imported when it is needed.
"""

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.crs import Unit, length_unit, metres_per_unit, parsed
from resdepth.geo.windows import Window
from resdepth.runtime.progress import Progress
from resdepth.simulate.sources.ply import ply_portions, read_ply_header
from resdepth.simulate.sources.raw_surface import (
    DEFAULT_GSD_M,
    PLANTS,
    ROOF,
    UNKNOWN,
    Bounds,
    Classifiable,
    RawSurface,
    SourceOptions,
    chosen_crs,
    chosen_gsd,
    cropped_bounds,
    lattice_grid,
    new_array,
)
from resdepth.simulate.surface import Codes, Heights, Mask, SurfaceClass

PLY = ".ply"
POINTS_AT_ONCE, BYTES_AT_ONCE = 1_000_000, 2**26
LARGEST_SHARE = 4.0  # of the header's bounds in the area that points fill
FARTHEST = 1e9
PANICS = "pyo3_runtime"  # where the exceptions of lazrs are that are no Exception
# Of the header (LAS 1.4 R15, table 3), and of the table of chunks of a LAZ file.
HEAD_BYTES, RECORD_BYTES, COMPRESSED, STREAMED = 247, 54, 0x80, 2**64 - 1
OWNER = "LASF_Projection"
WKT_RECORD, KEYS_RECORD = 2112, 34735
# Keys of GeoTIFF 1.1, section 7.1: geographic, projected and vertical systems, and units of the last two; and
# the value "defined by the user".
GEOGRAPHIC_KEY, PROJECTED_KEY, USER_DEFINED = 2048, 3072, 32767
UNIT_KEY, VERTICAL_KEY, HEIGHT_UNIT_KEY = 3076, 4096, 4099
# EPSG's numbers of units.
UNITS = {9001: "metre", 9002: "foot", 9003: "US survey foot"}
# A pixel without a point has a height if a point is this near.
GAP_PX = 2
# Between heights that differ by more there is an edge, which is not to be smoothed.
EDGE_M = 1.0
# What stands out more above all pixels within two is a bird.
SPIKE_M = 10.0
NOISE = (7, 18)
# So many pixels, and so many for each point, are given room before the points have been looked at.
FREE_PIXELS, SPARSEST = 10**7, 10
BUILDING = 6
# ASPRS codes (LAS 1.4 R15, table 17); 26 is what the Dutch AHN calls structures: bridges, quays, locks.
CODES = {
    2: SurfaceClass.GROUND,
    3: SurfaceClass.GRASS,
    4: PLANTS,
    5: PLANTS,
    BUILDING: ROOF,
    9: SurfaceClass.WATER,
    10: SurfaceClass.SOIL,  # railways
    11: SurfaceClass.ASPHALT,
    17: SurfaceClass.ASPHALT,  # bridges
    26: SurfaceClass.PAVING,
}


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
        count: how many points its header states.
        low, high: (2,) float64: x and y between which they lie, as the header states.
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
        """Look at all points once: whether they lie all over the bounds that the header states.

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
                f"{self.path}: its header states bounds from {self.low.tolist()} to {self.high.tolist()}, "
                f"but all points lie from {low.tolist()} to {high.tolist()}; repair it (lasinfo -repair_bb)"
            )

    def portions(self) -> Iterator[Points]:
        """All points, a million at a time.

        Raises:
            ResDepthError: if points are damaged or missing, or lie outside the header's bounds.
        """
        if self._begun:
            with _errors_named(self.path):
                self._reader.seek(0)
        self._begun = True
        chunks, found = self._reader.chunk_iterator(self._at_once), 0
        while True:
            with _errors_named(self.path):
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
                f"header states, {self.low.tolist()} to {self.high.tolist()}; repair it (lasinfo -repair_bb)"
            )

    def stated(self, chosen: str | None) -> "Stated":
        """What the file states about its reference system; see `stated_crs`."""
        return stated_crs(self.path, self.records, chosen)


class PlyFile:
    """An open point cloud in PLY; its bounds are those of the points, which are all looked at once."""

    def __init__(self, path: Path) -> None:
        self._path, self._header = path, read_ply_header(path)
        self.count = self._header.count
        if self.count == 0:
            raise ResDepthError(f"{path}: has no points; there is nothing to build a scene from")
        self.low, self.high = np.full(2, np.inf), np.full(2, -np.inf)
        for points in ply_portions(path, self._header):
            self.low = np.minimum(self.low, points[:, :2].min(axis=0))
            self.high = np.maximum(self.high, points[:, :2].max(axis=0))

    def demand_filled_bounds(self) -> None:
        """They are."""

    def portions(self) -> Iterator[Points]:
        """All points, a million at a time, of no class."""
        for xyz in ply_portions(self._path, self._header):
            nothing = np.zeros(len(xyz), np.uint8)
            yield Points(xyz[:, 0], xyz[:, 1], xyz[:, 2], nothing, nothing.astype(bool))

    def stated(self, chosen: str | None) -> "Stated":  # noqa: ARG002 - as of other files
        """What a comment states about the reference system."""
        return Stated(self._header.crs or None)


@contextmanager
def open_points(path: Path) -> Iterator[PointFile | PlyFile]:
    """Open a LAS, LAZ or PLY file.

    Raises:
        ResDepthError: if laspy is not installed, or the file is damaged or has no points.
    """
    if path.suffix.lower() == PLY:
        yield PlyFile(path)
        return
    try:
        import laspy
    except ImportError as error:
        raise ResDepthError(
            f"{path}: point clouds need laspy, which is not installed: pip install resdepth[simulate]"
        ) from error
    _refuse_bombs(path)
    with _errors_named(path):
        reader = laspy.open(path)
    with reader:
        yield PointFile(path, reader)


def _refuse_bombs(path: Path) -> None:
    """Look at the counts that a file declares; laspy takes time or memory for each before it looks."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if len(head) < HEAD_BYTES:
            return  # laspy reports what is wrong
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
def _errors_named(path: Path) -> Iterator[None]:
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


def spikes(height: Heights, there: Mask) -> Mask:
    """(H, W) bool: pixels that are much higher than all others near.

    Args:
        height: (H, W) float32, metres.
        there: (H, W) bool, where the height is one.
    """
    around = np.ones((5, 5), np.uint8)
    around[2, 2] = 0
    highest = cv2.dilate(np.where(there, height, np.float32(-1e30)), around)
    found: Mask = there & (highest > -1e29) & (height - highest > SPIKE_M)
    return found


def close_gaps(height: Heights, codes: Codes, there: Mask) -> tuple[Heights, Codes]:
    """Heights and codes where there are some, or some within GAP_PX; NaN and any code elsewhere.

    A gap takes the mean of the heights near it or, at an edge, the nearest one; and the nearest code.

    Args:
        height: (H, W) float32, metres.
        codes: (H, W) uint8.
        there: (H, W) bool, where height and code are given.
    """
    side = 2 * GAP_PX + 1
    square = np.ones((side, side), np.uint8)
    near = cv2.dilate(there.astype(np.uint8), square).astype(bool) & ~there
    closed, closed_codes = np.where(there, height, np.float32(np.nan)), codes.copy()
    if near.any():
        lowest = cv2.erode(np.where(there, height, np.float32(1e30)), square)[near]
        highest = cv2.dilate(np.where(there, height, np.float32(-1e30)), square)[near]
        total = cv2.GaussianBlur(np.where(there, height, 0).astype(np.float64), (side, side), 1.0)
        weight = cv2.GaussianBlur(there.astype(np.float64), (side, side), 1.0)
        nearest = _nearest(there)[near]
        mean = total[near] / weight[near]
        closed[near] = np.where(highest - lowest > EDGE_M, height.reshape(-1)[nearest], mean)
        closed_codes[near] = codes.reshape(-1)[nearest]
    return closed, closed_codes


def _nearest(there: Mask) -> NDArray[np.int64]:
    """(H, W) int64: the flat index of the nearest pixel that is there."""
    _, labels = cv2.distanceTransformWithLabels(
        (~there).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    index = np.zeros(int(labels.max()) + 1, np.int64)
    index[labels[there]] = np.flatnonzero(there)
    return np.asarray(index[labels], np.int64)


class PointSource:
    """A point cloud as a raster of its highest points, and what the highest one is.

    A pixel without a point takes its height from those within two pixels; it is void if there are none.
    Points of the noise classes 7 and 18, withheld ones, and single ones high in the air are left out. Where
    the file marks buildings, what it does not mark is none.
    """

    n_objects = 0

    def __init__(self, path: Path, options: SourceOptions, folder: Path, progress: Progress) -> None:
        """Read the points into two files of the size of the scene.

        Args:
            path: the point cloud.
            options: how to read it.
            folder: where the files are put; they are needed as long as this object.
            progress: advances by 1 in all.

        Raises:
            ResDepthError: if the file cannot be read, has no points, or laspy is not installed.
        """
        buildings = False
        with open_points(path) as file:
            stated = file.stated(options.crs)
            wkt, name, self._unit = chosen_crs(path, stated.crs, options, stated.height_unit)
            demand_unit(path, wkt, stated.unit)
            self.detail_m = chosen_gsd(path, DEFAULT_GSD_M, options)
            bounds: Bounds = (*file.low.tolist(), *file.high.tolist())
            self.grid = lattice_grid(path, cropped_bounds(path, bounds, options), self.detail_m, (wkt, name))
            shape = (self.grid.height, self.grid.width)
            if self.grid.height * self.grid.width > FREE_PIXELS + SPARSEST * file.count:
                file.demand_filled_bounds()
            self._height = new_array(folder / "highest", np.float32, shape)
            # One more than the code of the highest point; 0 without a point, as in a new file.
            self._mark = new_array(folder / "codes", np.uint8, shape)
            for points in file.portions():
                buildings |= bool((points.codes == BUILDING).any())
                self._take(points)
                progress.advance(len(points) / file.count, note="points")
        self.classifiable: Classifiable = "no buildings" if buildings else "everything"

    def _take(self, points: Points) -> None:
        gsd, _, left, _, _, top = self.grid.transform
        col = _cell((points.x - left) / gsd, self.grid.width)
        row = _cell((top - points.y) / gsd, self.grid.height)
        used = ~np.isin(points.codes, NOISE) & ~points.withheld & (col >= 0) & (row >= 0)
        cell = row[used] * self.grid.width + col[used]
        z, mark = self._unit.to_metres(points.z[used]).astype(np.float32), MARKS[points.codes[used]]
        # Of equally high points the one with the greatest mark, for the result not to depend on their order.
        order = np.lexsort((mark, z, cell))
        cell, z, mark = cell[order], z[order], mark[order]
        last = np.ones(len(cell), bool)
        last[:-1] = cell[1:] != cell[:-1]
        cell, z, mark = cell[last], z[last], mark[last]
        heights, marks = self._height.reshape(-1), self._mark.reshape(-1)
        before, height = marks[cell], heights[cell]
        higher = (before == 0) | (z > height) | ((z == height) & (mark > before))
        heights[cell[higher]], marks[cell[higher]] = z[higher], mark[higher]

    def read(self, window: Window) -> RawSurface:
        """The highest points of a window, its small gaps closed."""
        outer = window.grown(2 * GAP_PX, self.grid.whole)
        height, mark = np.array(self._height[outer.slices]), np.array(self._mark[outer.slices])
        there = (mark > 0) & ~spikes(height, mark > 0)
        height, mark = close_gaps(height, mark, there)
        known = np.isfinite(height)
        codes = np.where(known, mark - np.uint8(1), np.uint8(UNKNOWN)).astype(np.uint8)
        part = window.relative_to(outer).slices
        return RawSurface(height[part], known[part], codes[part], np.zeros(window.shape, np.int32))


def _marks() -> Codes:
    marks = np.full(256, UNKNOWN + 1, np.uint8)
    for code, meaning in CODES.items():
        marks[code] = meaning + 1
    return marks


MARKS = _marks()


def _cell(place: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """The cell of each place along one axis, -1 outside; a place on the last edge is in the last cell."""
    cell = np.floor(place).astype(np.int64)
    cell[(cell == n) & (place < n + 1e-3)] = n - 1
    cell[(cell == -1) & (place > -1e-3)] = 0
    cell[(cell < 0) | (cell >= n)] = -1
    return cell
