"""What a pixel is, where the file has no class for it: from the shape of the surface, and from masks.

What is planar, high and walled is a roof; what is rough and high a plant. The ground beneath is found by
progressive morphological opening (Zhang et al., 2003). Then crowns and buildings get numbers.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resdepth.errors import InputProblems, Problem
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand, read_header, read_resampled
from resdepth.geo.windows import Window
from resdepth.simulate.sources.raw_surface import PLANTS, ROOF, UNKNOWN, Source
from resdepth.simulate.surface import BUILDING_CLASSES, Codes, Heights, Mask, Objects, SurfaceClass, is_any

# Side of the cells on which the ground is searched, and the radii of the openings: half a building's width.
CELL_M = 2.0
RADII_M = (2.0, 4.0, 8.0, 16.0, 28.0, 44.0)
# What may stand out from an opening and still be ground (Zhang et al., 2003, eq. 4).
BASE_THRESHOLD_M = 0.5
TERRAIN_SLOPE = 0.2
MAX_THRESHOLD_M = 2.5
# A cell that lies this much below the median of its neighbours is a blunder and no ground.
PIT_M = 3.0
OBJECT_M = 2.5  # what stands higher above the ground is no ground
PLANE_SIDE_M = 1.5
ROOF_ROUGHNESS_M = 0.18
ROOF_WIDTH_M = 1.0  # narrower planar patches are chance
ROOF_GAP_M = 1.5  # chimneys and dormers are narrower
SMALLEST_ROOF_M2 = 25.0
WALL_M = 1.5  # an embankment is planar and high, too, but has no walls
WALLED_SHARE = 0.3
SMALLEST_EMBANKMENT_M2 = 400.0
PITCHED_SLOPE = math.tan(math.radians(10.0))
PITCH_AREA_M = 7.0  # a roof is pitched if most of the square of this side around a pixel is
# A closed canopy shows no ground beneath it; it shows by being rough all over.
CANOPY_ROUGHNESS_M = 0.4
CANOPY_RADIUS_M = 6.0
FOREST_GAP_M = 4.0
FOREST_RADIUS_M = 18.0  # plants are a forest where a disc of this radius fits in
LEVEL_M = 0.002  # water in elevation models is level to the last digit
LEVEL_SIDE_M = 4.0
SMALLEST_WATER_M2 = 400.0
BANK_M = 0.2
PLACELESS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# The least important first: the code of a yes, the classes that a no forbids, and what they become.
MEANINGS = {
    "forest": (SurfaceClass.FOREST, (SurfaceClass.FOREST,), SurfaceClass.TREE),
    "water": (SurfaceClass.WATER, (SurfaceClass.WATER,), SurfaceClass.GROUND),
    "building": (ROOF, BUILDING_CLASSES, SurfaceClass.TREE),
}
SMOOTHING_M = 1.0
# Numbers of crowns lie from here on; those of buildings below.
FIRST_CROWN = 2**30
STEPS = 6  # doublings of the climb, which goes over 64 pixels then


def ground_cell_px(gsd: float) -> int:
    """Side in pixels of the cells on which the ground is searched: a power of two."""
    return int(2 ** np.clip(round(np.log2(CELL_M / gsd)), 0, 6))


def ground_reach_px(gsd: float) -> int:
    """How far, in pixels, the ground's height depends on what lies around it."""
    return int(np.ceil(2 * sum(RADII_M[-2:]) / max(gsd, 1e-3)))


def bare_ground(height: Heights, gsd: float) -> Heights:
    """Heights of the ground: those of the surface where it is bare, opened heights beneath objects.

    Args:
        height: (H, W) float32, metres, without voids. The cells are counted from its corner: results for
            windows agree where their corners differ by multiples of `ground_cell_px`.
        gsd: side of a pixel in metres.
    """
    cell = ground_cell_px(gsd)
    ground = _lowest(height, cell)
    ground = np.maximum(ground, cv2.medianBlur(ground, 5) - np.float32(PIT_M))
    border = math.ceil(2 * RADII_M[-1] / (cell * gsd))
    ground = _continued(ground, border)
    before = 0.0
    for radius in RADII_M:
        reach = max(1, round(radius / (cell * gsd)))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        opened = cv2.morphologyEx(ground, cv2.MORPH_OPEN, disc, borderType=cv2.BORDER_REPLICATE)
        threshold = min(BASE_THRESHOLD_M + TERRAIN_SLOPE * (radius - before), MAX_THRESHOLD_M)
        ground = np.where(ground - opened > threshold, opened, ground)
        before = radius
    smooth = cv2.GaussianBlur(ground, (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE)
    fine = cv2.resize(
        smooth[border:-border, border:-border], None, fx=cell, fy=cell, interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(fine[: height.shape[0], : height.shape[1]], np.float32)


def _continued(ground: Heights, border: int) -> Heights:
    """The ground with a border on which slopes rise on, for an opening would lower a slope's upper end."""
    mirrored = np.pad(ground, border, mode="reflect", reflect_type="odd")
    # But slopes do not fall on: beside a building that would be a pit.
    return np.maximum(mirrored, np.pad(ground, border, mode="edge"))


def _lowest(height: Heights, cell: int) -> Heights:
    rows, cols = (-(-side // cell) for side in height.shape)
    padded = np.full((rows * cell, cols * cell), np.inf, np.float32)
    padded[: height.shape[0], : height.shape[1]] = height
    lowest: Heights = padded.reshape(rows, cell, cols, cell).min(axis=(1, 3))
    return lowest


@dataclass(frozen=True)
class Planes:
    """Least-squares planes through the square around each pixel.

    Attributes:
        roughness: (H, W) float32, metres: root mean square distance of the square's heights from the plane.
        slope: (H, W) float32: tangent of the plane's inclination.
    """

    roughness: NDArray[np.float32]
    slope: NDArray[np.float32]


def fitted_planes(height: Heights, gsd: float, side: int) -> Planes:
    """The plane through the square of side x side pixels (odd) around each pixel.

    Args:
        height: (H, W) float32, metres, without voids.
        gsd: side of a pixel in metres.
        side: of the squares, in pixels.
    """
    offsets = np.arange(side) - (side - 1) / 2
    spread = float((offsets**2).mean())
    flat, ramp = np.full(side, 1 / side), offsets / (side * spread)

    def weighted(of: NDArray[Any], across: NDArray[Any], down: NDArray[Any]) -> NDArray[np.float64]:
        result = cv2.sepFilter2D(of, cv2.CV_64F, across, down, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(result, np.float64)

    values = height.astype(np.float64)
    values -= values.mean()
    mean = weighted(values, flat, flat)
    by_col, by_row = weighted(values, ramp, flat), weighted(values, flat, ramp)
    variance = weighted(values**2, flat, flat) - mean**2 - (by_col**2 + by_row**2) * spread
    roughness, slope = np.sqrt(np.maximum(variance, 0)), np.hypot(by_col, by_row) / gsd
    return Planes(roughness.astype(np.float32), slope.astype(np.float32))


def best_roughness(planes: Planes, side: int) -> NDArray[np.float32]:
    """(H, W) float32, metres: at each pixel the least roughness of all squares that contain it.

    A roof's edge lies in some square that is wholly on the roof; a crown's pixel lies in none that is planar.
    """
    return np.asarray(cv2.erode(planes.roughness, np.ones((side, side), np.uint8)), np.float32)


def classification_reach_px(gsd: float) -> int:
    """How far, in pixels, a class depends on the heights around it.

    What is large (lakes, halls, embankments) is evaluated by as much of it as is seen.
    """
    return ground_reach_px(gsd) + math.ceil((3 * FOREST_RADIUS_M + 2 * PLANE_SIDE_M) / gsd)


def classified(height: Heights, known: Mask, codes: Codes, source: Source) -> Codes:
    """Classes for the pixels that have none.

    Args:
        height: (H, W) float32, metres, without voids.
        known: (H, W) bool, where heights are not filled: there are no roofs and no plants elsewhere.
        codes: (H, W) uint8: SurfaceClass, UNKNOWN, ROOF or PLANTS.
        source: states what unknown pixels may become (ROOF and PLANTS become classes in any case), and how
            fine it is.

    Returns:
        (H, W) uint8, a SurfaceClass everywhere.
    """
    gsd, classifiable = source.grid.gsd, source.classifiable
    result = codes.copy()
    unknown = codes == UNKNOWN
    result[unknown] = SurfaceClass.GROUND
    if not ((codes == ROOF) | (codes == PLANTS) | (unknown & (classifiable != "nothing"))).any():
        return result
    side = _odd(max(PLANE_SIDE_M, 3 * source.detail_m) / gsd, 3)
    planes = fitted_planes(height, gsd, side)
    if unknown.any() and classifiable != "nothing":
        above = height - bare_ground(height, gsd)
        rough = _opened(best_roughness(planes, side) > CANOPY_ROUGHNESS_M, CANOPY_RADIUS_M / gsd)
        high = unknown & known & ((above > OBJECT_M) | rough)
        result[high] = PLANTS
        if classifiable == "everything":
            roof, bare = _roofs(height, high, planes, side, gsd)
            result[roof] = ROOF
            result[bare] = SurfaceClass.GROUND
            result[unknown & known & _water(height, above, gsd)] = SurfaceClass.WATER
    roof = result == ROOF
    result[roof] = np.where(
        _pitched(roof, planes, gsd)[roof], SurfaceClass.ROOF_TILES, SurfaceClass.ROOF_FLAT
    )
    plants = result == PLANTS
    result[plants] = np.where(_forest(plants, gsd)[plants], SurfaceClass.FOREST, SurfaceClass.TREE)
    return result


def _odd(length: float, least: int) -> int:
    return max(least, 2 * math.floor(length / 2) + 1)


def _disc(radius_px: float) -> Codes:
    side = 2 * max(1, round(radius_px)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _opened(mask: Mask, radius_px: float) -> Mask:
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disc(radius_px))
    return np.asarray(opened, bool)


def _roofs(height: Heights, high: Mask, planes: Planes, side: int, gsd: float) -> tuple[Mask, Mask]:
    """Large planar patches of high pixels: those with walls, which are roofs, and large ones without any."""
    planar = high & (best_roughness(planes, side) < ROOF_ROUGHNESS_M)
    planar = _opened(planar, ROOF_WIDTH_M / 2 / gsd)
    closed = cv2.morphologyEx(planar.astype(np.uint8), cv2.MORPH_CLOSE, _disc(ROOF_GAP_M / gsd)).astype(bool)
    labels, n = ndimage.label(closed & high)
    size = np.bincount(labels.ravel(), minlength=n + 1)
    edge = (labels > 0) & (cv2.erode((labels > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    drop = height - cv2.erode(height, _disc(max(WALL_M, 1.5 * gsd) / gsd))
    length = np.bincount(labels[edge], minlength=n + 1)
    walls = np.bincount(labels[edge & (drop > WALL_M)], minlength=n + 1)
    size[0] = 0
    walled = walls >= WALLED_SHARE * length
    roof = walled & (size * gsd**2 >= SMALLEST_ROOF_M2)
    bare = ~walled & (size * gsd**2 >= SMALLEST_EMBANKMENT_M2)
    return roof[labels], bare[labels]


def _pitched(roof: Mask, planes: Planes, gsd: float) -> Mask:
    side = _odd(PITCH_AREA_M / gsd, 3)
    steep = roof & (planes.slope > PITCHED_SLOPE)
    share = [cv2.blur(mask.astype(np.float32), (side, side)) for mask in (steep, roof)]
    pitched: Mask = share[0] > 0.5 * share[1]
    return pitched


def _forest(plants: Mask, gsd: float) -> Mask:
    """Plants around places where a large disc fits in; sought on pixels of about a metre."""
    factor = max(1, round(1 / gsd))
    rows, cols = (-(-side // factor) for side in plants.shape)
    padded = np.zeros((rows * factor, cols * factor), np.float32)
    padded[: plants.shape[0], : plants.shape[1]] = plants
    coarse = (padded.reshape(rows, factor, cols, factor).mean(axis=(1, 3)) >= 0.5).astype(np.uint8)
    pixel = gsd * factor
    closed = cv2.morphologyEx(coarse, cv2.MORPH_CLOSE, _disc(FOREST_GAP_M / pixel))
    large = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _disc(FOREST_RADIUS_M / pixel))
    around = cv2.dilate(large, _disc(FOREST_GAP_M / pixel))
    fine = np.repeat(np.repeat(around, factor, axis=0), factor, axis=1)
    forest: Mask = plants & fine[: plants.shape[0], : plants.shape[1]].astype(bool)
    return forest


def _water(height: Heights, above: Heights, gsd: float) -> Mask:
    """Large exactly level areas on the ground, most of whose banks are higher."""
    square = np.ones((_odd(LEVEL_SIDE_M / gsd, 3),) * 2, np.uint8)
    level = (cv2.dilate(height, square) - cv2.erode(height, square) < LEVEL_M) & (above < OBJECT_M)
    labels, n = ndimage.label(level)
    if n == 0:
        return level
    size = np.bincount(labels.ravel(), minlength=n + 1)
    largest = size * gsd**2 >= SMALLEST_WATER_M2
    largest[0] = False
    grown = cv2.dilate((labels * largest[labels]).astype(np.float32), square).astype(np.int64)
    surface = np.bincount(labels.ravel(), height.ravel(), n + 1) / np.maximum(size, 1)
    same = np.abs(height - surface[grown]) < LEVEL_M
    bank = cv2.dilate(grown.astype(np.float32), _disc(3 / gsd)).astype(np.int64)
    bank[(grown > 0) | (above > OBJECT_M)] = 0
    higher = np.bincount(bank.ravel(), (height > surface[bank] + BANK_M).ravel(), n + 1)
    length = np.bincount(bank.ravel(), minlength=n + 1)
    lake = largest & (length > 0) & (higher > 0.6 * length)
    water: Mask = lake[grown] & same
    return water


class Masks:
    """The masks of a scene, read on its grid.

    Raises:
        InputProblems: naming each mask that has another CRS, or no place.
    """

    def __init__(self, paths: dict[str, Path], grid: Grid) -> None:
        self._paths, self._grid = paths, grid
        if problems := [text for path in paths.values() for text in _mismatches(path, grid)]:
            raise InputProblems(problems)

    def read(self, window: Window) -> dict[str, Heights]:
        """For each mask that was given (H, W) float32: 0 no, else yes, NaN where it is void or ends."""
        found = {}
        for name in MEANINGS:
            if path := self._paths.get(name):
                placeless = read_header(path).grid.transform == PLACELESS
                found[name] = (
                    FileBand(path, "mask").read(window)
                    if placeless
                    else read_resampled(path, self._grid.crop(window), "nearest", "mask")
                )
        return found


def with_yes(codes: Codes, masks: dict[str, Heights]) -> Codes:
    """The codes of a raw surface, and where a mask is set the mask's code."""
    result = codes.copy()
    for name, values in masks.items():
        result[_yes(values)] = MEANINGS[name][0]
    return result


def without_no(classes: Codes, stated: Codes, masks: dict[str, Heights]) -> Codes:
    """The classes; where a mask is 0, its class stays only if the file states it.

    Args:
        classes: (H, W) uint8, a SurfaceClass everywhere.
        stated: (H, W) uint8, the codes from which the classes were found.
        masks: of `Masks.read`.
    """
    result = classes.copy()
    for name, values in masks.items():
        _, forbidden, instead = MEANINGS[name]
        result[(stated == UNKNOWN) & (values == 0) & is_any(classes, forbidden)] = instead
    return result


def _yes(values: Heights) -> Mask:
    yes: Mask = np.isfinite(values) & (values != 0)
    return yes


def _mismatches(path: Path, grid: Grid) -> list[Problem]:
    found = read_header(path).grid
    if found.transform == PLACELESS:
        if (found.height, found.width) == (grid.height, grid.width):
            return []
        size = f"{found.height} x {found.width} instead of {grid.height} x {grid.width} pixels"
        return [Problem(str(path), f"has no georeference and {size}; add one (gdal_edit.py -a_srs -a_ullr)")]
    alike = Grid(grid.height, grid.width, grid.transform, found.crs, found.crs_name)
    return [
        Problem(str(path), f"has {difference}, that of the scene; reproject the mask (gdalwarp -t_srs)")
        for difference in grid.differences(alike)
    ]


def crown_reach_px(gsd: float) -> int:
    """How far, in pixels, a crown's number depends on the heights around it."""
    return 64 + math.ceil(4 * SMOOTHING_M / gsd)


def crown_numbers(height: Heights, plants: Mask, gsd: float, window: Window, scene_width: int) -> Objects:
    """A number for each crown, made from the place of its top; 0 outside plants.

    Law: the number of a pixel is the same in all windows that reach `crown_reach_px` further.

    Args:
        height: (H, W) float32, metres, without voids.
        plants: (H, W) bool, where crowns are.
        gsd: side of a pixel in metres.
        window: where the heights are in the scene.
        scene_width: of the scene, in pixels.
    """
    if not plants.any():
        return np.zeros(height.shape, np.int32)
    smooth = cv2.GaussianBlur(height, (0, 0), SMOOTHING_M / gsd, borderType=cv2.BORDER_REPLICATE)
    target = _highest_neighbour(np.where(plants, smooth, -np.inf).astype(np.float32))
    for _ in range(STEPS):
        target = target[target]
    rows, cols = np.divmod(target, height.shape[1])
    place = (rows + window.row) * scene_width + cols + window.col
    numbers = FIRST_CROWN + place % (2**30 - 1)
    return np.where(plants, numbers.reshape(height.shape), 0).astype(np.int32)


def _highest_neighbour(height: Heights) -> NDArray[np.int64]:
    """(H * W,) int64: for each pixel the index of the highest of the nine around it, itself if equal."""
    rows, cols = height.shape
    padded = np.pad(height, 1, constant_values=-np.inf)
    best, target = height.copy(), np.arange(height.size).reshape(height.shape)
    index = target.copy()
    for drow in (-1, 0, 1):
        for dcol in (-1, 0, 1):
            other = padded[1 + drow : 1 + drow + rows, 1 + dcol : 1 + dcol + cols]
            better = other > best
            best[better] = other[better]
            target[better] = (index + drow * cols + dcol)[better]
    return np.asarray(target.ravel(), np.int64)


class Parts:
    """Numbers for the connected parts (4-neighbours) of a mask that is given window by window.

    The windows tile the scene and come row by row. What is kept in memory grows with the number of parts;
    the numbers of pixels are in an array of the whole scene, which may be a file.

    Attributes:
        marks: (height, width) int32 of the whole scene, 0 outside the mask: which provisional part each
            pixel is in. `final` makes numbers of them.
    """

    def __init__(self, marks: NDArray[np.int32]) -> None:
        self.marks = marks
        self._parent = [0]
        self._numbers: NDArray[np.int32] | None = None

    def add(self, window: Window, mask: Mask) -> None:
        """Take in the mask of one window."""
        labels, n = ndimage.label(mask)
        first = len(self._parent)
        self._parent.extend(range(first, first + n))
        marks = np.where(labels > 0, labels + (first - 1), 0).astype(np.int32)
        self.marks[window.slices] = marks
        if window.row > 0:
            self._join(self.marks[window.row - 1, window.col : window.col_stop], marks[0])
        if window.col > 0:
            self._join(self.marks[window.row : window.row_stop, window.col - 1], marks[:, 0])

    def _join(self, before: NDArray[np.int32], here: NDArray[np.int32]) -> None:
        touching = (before > 0) & (here > 0)
        for one, other in np.unique(np.stack([before[touching], here[touching]]), axis=1).T.tolist():
            first, second = self._root(one), self._root(other)
            self._parent[max(first, second)] = min(first, second)

    def _root(self, mark: int) -> int:
        while self._parent[mark] != mark:
            self._parent[mark] = mark = self._parent[self._parent[mark]]
        return mark

    def final(self, window: Window) -> Objects:
        """(H, W) int32: the same positive number on all pixels of a part, 0 outside; once all is added."""
        if self._numbers is None:
            roots = np.array([self._root(mark) for mark in range(len(self._parent))], np.int32)
            self._numbers = np.unique(roots, return_inverse=True)[1].astype(np.int32)
        return self._numbers[self.marks[window.slices]]
