"""How well two images agree about a surface: both are projected onto it and correlated locally.

Where the heights are right, two views of the ground show the same; where they are wrong, the projected images
slip over each other and their correlation falls (photo-consistency).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.rpc import LATTICE_PX, between
from resdepth.geo.windows import Window
from resdepth.stereo.images import Image
from resdepth.stereo.ortho import to_geographic

Array = NDArray[np.float32]
Values = NDArray[np.float64]

LEAST_STD = 0.03
"""Of the grey values of a window, as a share of the image's own: below, noise decides, and they correlate
little."""
LEAST_COVERED = 0.99


@dataclass(frozen=True)
class Placement:
    """Where a DSM lies as the images' RPCs see it: what is to be added to its coordinates, in metres."""

    east_m: float = 0.0
    north_m: float = 0.0
    up_m: float = 0.0

    def of_grid(self, grid: Grid) -> Grid:
        """The grid as the images see it."""
        a, b, c, d, e, f = grid.transform
        return replace(grid, transform=(a, b, c + self.east_m, d, e, f + self.north_m))


def projected(
    image: Image, grid: Grid, heights: Array, placement: Placement, offset_px: tuple[float, float] = (0, 0)
) -> Array:
    """What an image shows of a surface.

    Args:
        image: raw, with an RPC.
        grid: of the surface, north up.
        heights: (H, W) float32, metres, without voids.
        placement: of the surface in the images.
        offset_px: rows and columns by which the image lies beside its RPC.

    Returns:
        (H, W) float32 grey values, bilinear, NaN where the image shows nothing.
    """
    rows, cols = _positions(image, placement.of_grid(grid), heights + np.float32(placement.up_m))
    rows, cols = rows + np.float32(offset_px[0]), cols + np.float32(offset_px[1])
    whole = image.grid.whole
    row, col = max(int(rows.min()) - 1, 0), max(int(cols.min()) - 1, 0)
    below, right = min(int(rows.max()) + 3, whole.height), min(int(cols.max()) + 3, whole.width)
    if below <= row or right <= col:
        return np.full(heights.shape, np.nan, dtype=np.float32)
    values = image.read(Window(row, col, below - row, right - col))
    seen = ~np.isnan(values)
    at = cols - np.float32(col), rows - np.float32(row)
    grey = cv2.remap(np.where(seen, values, 0), *at, cv2.INTER_LINEAR, borderValue=0)
    covered = cv2.remap(seen.astype(np.float32), *at, cv2.INTER_LINEAR, borderValue=0)
    return np.where(covered > LEAST_COVERED, grey, np.nan).astype(np.float32)


def _positions(image: Image, grid: Grid, heights: Array) -> tuple[Array, Array]:
    """Image row and column of each pixel: by the RPC on a lattice at two heights, in between linear."""
    low, high = float(heights.min()), float(heights.max())
    high = max(high, low + 1.0)
    steps = [np.arange(n // LATTICE_PX + 2, dtype=np.float64) * LATTICE_PX for n in heights.shape]
    r, c = np.meshgrid(*steps, indexing="ij")
    x, y = grid.map_position(r + 0.5, c + 0.5)
    lon, lat = to_geographic(grid.crs, np.asarray(x), np.asarray(y))
    share = (heights - np.float32(low)) / np.float32(high - low)
    ends = [image.rpc.project(lon, lat, np.full(lon.shape, z)) for z in (low, high)]
    rows, cols = (
        (between(start, *heights.shape) + share * between(stop - start, *heights.shape)).astype(np.float32)
        for start, stop in zip(*ends, strict=True)
    )
    return rows, cols


@dataclass(frozen=True)
class Contrast:
    """Mean and standard deviation of an image's grey values."""

    mean: float
    std: float


def local_correlation(first: Array, second: Array, side: int, contrasts: tuple[Contrast, Contrast]) -> Array:
    """Correlation of two images in square windows, -1 to 1.

    Args:
        first: (H, W) float32 grey values, NaN = nothing.
        second: likewise.
        side: of the windows, pixels; at the edges they are mirrored.
        contrasts: of both images as a whole.

    Returns:
        (H, W) float32, NaN where one of the images shows nothing.
    """
    unseen = np.isnan(first) | np.isnan(second)
    a, b = (
        np.where(unseen, 0, (one - np.float32(contrast.mean)) / np.float32(contrast.std))
        for one, contrast in zip((first, second), contrasts, strict=True)
    )
    mean_a, mean_b = _box(a, side), _box(b, side)
    var_a, var_b = (
        np.maximum(_box(one * one, side) - mean * mean, 0) + np.float32(LEAST_STD**2)
        for one, mean in ((a, mean_a), (b, mean_b))
    )
    correlation = (_box(a * b, side) - mean_a * mean_b) / np.sqrt(var_a * var_b)
    return np.where(unseen, np.nan, correlation).astype(np.float32)


def _box(values: Array, side: int) -> Array:
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101))
