"""Voids filled smoothly, whatever their size: from the mean heights of ever larger cells around them."""

from collections.abc import Callable, Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.simulate.surface import Heights

# Side in pixels of the cells of the coarse level, which covers the whole scene; windows start at multiples.
CELL = 64
LEVELS = 6
# How far, in pixels, a void's height may depend on what lies around it in the window.
REACH = 2 * CELL
SMOOTHING_STEPS = 12
# Heights count less by a factor e for every so many metres above the lowest beside them: what is void is
# rather the water, or the ground behind a building, than the tree beside it.
LOW_SCALE_M = 2.0


def coarse_heights(
    grid: Grid, windows: Iterable[Window], read: Callable[[Window], Heights]
) -> tuple[Heights, int]:
    """Mean heights of cells of CELL x CELL pixels; cells without any height are filled from their neighbours.

    Args:
        grid: the scene.
        windows: cover it; they start at multiples of CELL.
        read: (H, W) float32 heights of a window, NaN = void.

    Returns:
        (ceil(height / CELL), ceil(width / CELL)) float32, all NaN if the scene is; and the number of pixels
        that are not void.
    """
    coarse = np.full((-(-grid.height // CELL), -(-grid.width // CELL)), np.nan, np.float32)
    found = 0
    for window in windows:
        height, count = _levels(read(window))[-1]
        found += int(count.sum())
        row, col = window.row // CELL, window.col // CELL
        coarse[row : row + height.shape[0], col : col + height.shape[1]] = np.where(count > 0, height, np.nan)
    return _completed(coarse), found


def fill(height: Heights, window: Window, coarse: Heights) -> Heights:
    """The heights without voids.

    Law: heights that are there stay as they are, to the bit. A filled height does not depend on the window
    if that reaches REACH pixels further in every direction, or to the edge of the scene.

    Args:
        height: (H, W) float32, NaN = void; (H, W) is the shape of the window.
        window: where they are in the scene; starts at multiples of CELL.
        coarse: `coarse_heights` of the scene.
    """
    void = np.isnan(height)
    if not void.any():
        return height
    levels = _levels(height)
    rows, cols = levels[-1][0].shape
    row, col = window.row // CELL, window.col // CELL
    result = coarse[row : row + rows, col : col + cols]
    for mean, count in reversed(levels[:-1]):
        above = cv2.resize(result, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        result = np.where(count > 0, mean, above).astype(np.float32)
    result = result[: height.shape[0], : height.shape[1]]
    for _ in range(SMOOTHING_STEPS):
        result = np.where(void, cv2.blur(result, (3, 3), borderType=cv2.BORDER_REPLICATE), height)
    return result


def _levels(height: Heights) -> list[tuple[Heights, NDArray[np.float32]]]:
    """Heights of cells of 1, 2, 4 ... CELL pixels, and the number of heights in them.

    The height is a mean that leans to the lowest, 0 where there is none.
    """
    rows, cols = (-(-side // CELL) * CELL for side in height.shape)
    padded = np.full((rows, cols), np.nan, np.float32)
    padded[: height.shape[0], : height.shape[1]] = height
    count = np.isfinite(padded).astype(np.float32)
    levels = [(np.nan_to_num(padded), count)]
    for _ in range(LEVELS):
        levels.append(_halved(*levels[-1]))
    return levels


def _halved(mean: Heights, count: NDArray[np.float32]) -> tuple[Heights, NDArray[np.float32]]:
    means, counts = _four(np.where(count > 0, mean, np.inf)), _four(count)
    lowest = means.min(axis=0)
    lowest[np.isinf(lowest)] = 0
    weights = counts * np.exp(-np.minimum((means - lowest) / LOW_SCALE_M, 50))
    means[np.isinf(means)] = 0
    total, weight = (weights * means).sum(axis=0), weights.sum(axis=0)
    halved = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return halved.astype(np.float32), counts.sum(axis=0).astype(np.float32)


def _four(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The four quarters of each cell of 2 x 2, along a first axis."""
    quarters = [values[row::2, col::2] for row in (0, 1) for col in (0, 1)]
    return np.stack(quarters).astype(np.float64)


def _completed(coarse: Heights) -> Heights:
    """The coarse level without voids, from its own coarser levels up to a single cell."""
    if not np.isnan(coarse).any() or np.isnan(coarse).all():
        return coarse
    side = 1 << int(max(coarse.shape) - 1).bit_length()
    padded = np.full((side, side), np.nan, np.float32)
    padded[: coarse.shape[0], : coarse.shape[1]] = coarse
    levels = [(np.nan_to_num(padded), np.isfinite(padded).astype(np.float32))]
    while levels[-1][0].size > 1:
        levels.append(_halved(*levels[-1]))
    result = levels[-1][0]
    for mean, count in reversed(levels[:-1]):
        above = cv2.resize(result, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        result = np.where(count > 0, mean, above).astype(np.float32)
    return result[: coarse.shape[0], : coarse.shape[1]]
