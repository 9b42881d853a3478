"""The bare ground beneath a surface, by progressive morphological opening (Zhang et al., 2003)."""

import math

import cv2
import numpy as np

from resdepth.simulate.surface import Heights

# Side of the cells on which the ground is searched, and the radii of the openings: half a building's width.
CELL_M = 2.0
RADII_M = (2.0, 4.0, 8.0, 16.0, 28.0, 44.0)
# What may stand out from an opening and still be ground (Zhang et al., 2003, eq. 4).
BASE_THRESHOLD_M = 0.5
TERRAIN_SLOPE = 0.2
MAX_THRESHOLD_M = 2.5
# A cell that lies this much below the median of its neighbours is a blunder and no ground.
PIT_M = 3.0


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
