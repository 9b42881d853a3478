"""Single crowns in a canopy: each pixel belongs to the top that one reaches by always climbing."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import Window
from resdepth.simulate.surface import Heights, Mask, Objects

SMOOTHING_M = 1.0
# Numbers of crowns lie from here on; those of buildings below.
FIRST_CROWN = 2**30
STEPS = 6  # doublings of the climb, which goes over 64 pixels then


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
