"""Classes from heights alone: what is planar and high is a roof, what is rough and high a plant."""

import math

import cv2
import numpy as np
from scipy import ndimage

from resdepth.simulate.sources.bareground import bare_ground, ground_reach_px
from resdepth.simulate.sources.planes import Planes, best_roughness, fitted_planes
from resdepth.simulate.sources.sketch import PLANTS, ROOF, UNKNOWN, SketchSource
from resdepth.simulate.surface import Codes, Heights, Mask, SurfaceClass

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


def guess_reach_px(gsd: float) -> int:
    """How far, in pixels, a guessed class depends on the heights around it.

    What is large (lakes, halls, embankments) is evaluated by as much of it as is seen.
    """
    return ground_reach_px(gsd) + math.ceil((3 * FOREST_RADIUS_M + 2 * PLANE_SIDE_M) / gsd)


def guess_classes(height: Heights, known: Mask, codes: Codes, source: SketchSource) -> Codes:
    """Classes for the pixels that have none.

    Args:
        height: (H, W) float32, metres, without voids.
        known: (H, W) bool, where heights are not filled: there are no roofs and no plants elsewhere.
        codes: (H, W) uint8: SurfaceClass, UNKNOWN, ROOF or PLANTS.
        source: tells what may be guessed (ROOF and PLANTS become classes in any case), and how fine it is.

    Returns:
        (H, W) uint8, a SurfaceClass everywhere.
    """
    gsd, guessing = source.grid.gsd, source.guessing
    result = codes.copy()
    unknown = codes == UNKNOWN
    result[unknown] = SurfaceClass.GROUND
    if not ((codes == ROOF) | (codes == PLANTS) | (unknown & (guessing != "nothing"))).any():
        return result
    side = _odd(max(PLANE_SIDE_M, 3 * source.detail_m) / gsd, 3)
    planes = fitted_planes(height, gsd, side)
    if unknown.any() and guessing != "nothing":
        above = height - bare_ground(height, gsd)
        rough = _opened(best_roughness(planes, side) > CANOPY_ROUGHNESS_M, CANOPY_RADIUS_M / gsd)
        high = unknown & known & ((above > OBJECT_M) | rough)
        result[high] = PLANTS
        if guessing == "everything":
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
