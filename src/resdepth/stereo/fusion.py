"""From points of several stereo pairs to one initial DSM: rasterised, fused by the median, voids filled."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.stereo.epipolar import Points
from resdepth.stereo.ortho import fill_voids

Array = NDArray[np.float32]

# A cell needs points of this total weight: a quarter of one that falls onto its centre.
MIN_WEIGHT = 0.25
# GDAL's fill looks so far; what is wider takes the height of a coarser level.
FILL_REACH_PX = 64


def rasterized(points: Points, grid: Grid) -> Array:
    """Points as heights of cells; each point counts for the four cells around it, by its distance.

    Returns:
        (H, W) float32, metres, NaN where there are too few points.
    """
    rows, cols = grid.pixel_position(points.x, points.y)
    near = (rows > -1) & (rows < grid.height) & (cols > -1) & (cols < grid.width)
    rows, cols, z = rows[near], cols[near], points.z[near]
    if not len(z):
        return np.full((grid.height, grid.width), np.nan, dtype=np.float32)
    base = float(z.mean())
    row, col = np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64)
    row_share, col_share = rows - row, cols - col
    size = (grid.height + 2) * (grid.width + 2)
    weight, total = np.zeros(size), np.zeros(size)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - row_share) * np.abs(1 - right - col_share)
            cell = (row + 1 + down) * (grid.width + 2) + col + 1 + right
            weight += np.bincount(cell, share, size)
            total += np.bincount(cell, share * (z - base), size)
    with np.errstate(divide="ignore", invalid="ignore"):
        heights = np.where(weight >= MIN_WEIGHT, total / weight, np.nan) + base
    inner: Array = heights.reshape(grid.height + 2, grid.width + 2)[1:-1, 1:-1].astype(np.float32)
    return inner


def fused(surfaces: Sequence[Array]) -> Array:
    """The median of the heights of several surfaces at each cell, voids aside; NaN where all are void."""
    ordered = np.sort(np.stack(surfaces), axis=0)  # NaN comes last
    count = (~np.isnan(ordered)).sum(axis=0)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, len(ordered) - 1)[None], axis=0)[0]
    median: Array = np.where(count > 0, (low + high) / 2, np.nan).astype(np.float32)
    return median


def filled(heights: Array, fallback: float) -> Array:
    """Heights without voids: from around, and where nothing is near from coarser and coarser levels.

    Args:
        heights: (H, W) float32, NaN = void.
        fallback: the height of a window that knows none.
    """
    if np.isnan(heights).all():
        return np.full_like(heights, fallback)
    result = fill_voids(heights, FILL_REACH_PX)
    unknown = np.isnan(result)
    if not unknown.any():
        return result
    coarse = filled(_halved(result), fallback)
    wide = cv2.resize(coarse, heights.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(unknown, wide, result)


def _halved(heights: Array) -> Array:
    """Every cell the mean of the known ones among four."""
    rows, cols = (-(-n // 2) * 2 for n in heights.shape)
    padded = np.full((rows, cols), np.nan, dtype=np.float32)
    padded[: heights.shape[0], : heights.shape[1]] = heights
    four = padded.reshape(rows // 2, 2, cols // 2, 2)
    known = ~np.isnan(four)
    total, count = np.where(known, four, 0).sum(axis=(1, 3)), known.sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def refined_to(heights: Array, factor: int) -> Array:
    """Cells cut into factor x factor pixels, bilinear between their centres."""
    size = (heights.shape[1] * factor, heights.shape[0] * factor)
    return np.asarray(cv2.resize(heights, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
