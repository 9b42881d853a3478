"""Pixels between points: small gaps take their heights from what is around them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.simulate.surface import Codes, Heights, Mask

# A pixel without a point has a height if a point is this near.
GAP_PX = 2
# Between heights that differ by more there is an edge, which is not to be smoothed.
EDGE_M = 1.0
# What stands out more above all pixels within two is a bird.
SPIKE_M = 10.0


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
