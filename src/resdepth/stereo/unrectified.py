"""Ortho-images turned back into raw images: as a camera of parallel rays would have seen the scene.

An ortho-image was made with a DSM, and shows at x what the raw image shows at x + g (h(x) - z). Put back to
where they came from, its grey values make an image whose geometry is known, and in which heights can be
matched anew: an ortho-image itself is distorted by every error of the DSM.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band
from resdepth.geo.rpc import Rpc, fit_rpc
from resdepth.geo.windows import Window
from resdepth.stereo.ortho import to_geographic

Array = NDArray[np.float32]
Values = NDArray[np.float64]

LOCAL_CRS, LOCAL_ORIGIN = "EPSG:32631", (500_000.0, 5_000_000.0)
"""Cameras are described on the globe; where an image lies on it does not matter here."""
LEAST_WEIGHT, NEAR_PX = 0.2, (1.0, 2.0, 4.0)
ABOVE_M, LATTICE, LEVELS = 200.0, 12, 6


class LocalBand:
    """A raster on a local grid in metres, whatever its own CRS is."""

    def __init__(self, band: Band) -> None:
        gsd, (x, y), grid = band.grid.gsd_m, LOCAL_ORIGIN, band.grid
        self.grid = Grid(grid.height, grid.width, (gsd, 0.0, x, 0.0, -gsd, y), *find_crs(LOCAL_CRS))
        self._band = band

    def read(self, window: Window) -> Array:
        """(H, W) float32, NaN = void."""
        return self._band.read(window)


class UnrectifiedImage:
    """What the raw image of an ortho-image shows, read a window at a time."""

    def __init__(
        self, ortho: Band, dsm: LocalBand, per_metre: tuple[float, float], shift: tuple[float, float],
        heights: tuple[float, float],
    ) -> None:  # fmt: skip
        """Describe the camera.

        Args:
            ortho: grey values, NaN = nothing.
            dsm: with which it was made.
            per_metre: rows and columns, pixels, by which a metre of height displaces what the camera sees.
            shift: rows and columns by which the ortho-image lies beside the DSM.
            heights: lowest and highest of the DSM.
        """
        self._ortho, self._dsm, self._per_metre = ortho, dsm, np.array(per_metre)
        low, high = heights
        self._middle = (low + high) / 2
        self._reach = int(np.ceil(np.abs(self._per_metre).max() * (high - low) / 2)) + 2
        whole = dsm.grid
        side = 2 * self._reach
        self.grid = replace(whole, height=whole.height + side, width=whole.width + side)
        self.rpc = self._camera(shift, heights)

    def _camera(self, shift: tuple[float, float], heights: tuple[float, float]) -> Rpc:
        grid, (low, high) = self._dsm.grid, heights
        lattice: Any = np.meshgrid(
            np.linspace(0, grid.height, LATTICE), np.linspace(0, grid.width, LATTICE),
            np.linspace(low - ABOVE_M, high + ABOVE_M, LEVELS), indexing="ij",
        )  # fmt: skip
        row, col, z = lattice
        x, y = grid.map_position(row + 0.5, col + 0.5)
        lon, lat = to_geographic(grid.crs, np.asarray(x), np.asarray(y))
        above = z - self._middle
        at = [
            place + offset + per_metre * above + self._reach
            for place, offset, per_metre in zip((row, col), shift, self._per_metre, strict=True)
        ]
        return fit_rpc(*(one.ravel() for one in (lon, lat, z, *at)))

    def read(self, window: Window) -> Array:
        """(H, W) float32 grey values, NaN = nothing seen."""
        total, weight = np.zeros(window.shape), np.zeros(window.shape)
        source = replace(window, row=window.row - self._reach, col=window.col - self._reach)
        around = source.grown(self._reach, within=self._dsm.grid.whole)
        if min(around.shape) > 0:
            self._splat(around, window, total, weight)
        seen = weight > LEAST_WEIGHT
        grey = np.where(seen, total / np.maximum(weight, LEAST_WEIGHT), 0).astype(np.float32)
        return _closed(grey, seen)

    def _splat(self, around: Window, window: Window, total: Values, weight: Values) -> None:
        """Add the grey values of a part of the ortho-image to where they came from."""
        grey, heights = self._ortho.read(around), self._dsm.read(around)
        known = np.isfinite(grey) & np.isfinite(heights)
        rows, cols = np.nonzero(known)
        above, values = heights[known] - self._middle, grey[known]
        reach = self._reach
        row = rows + self._per_metre[0] * above + (around.row + reach - window.row)
        col = cols + self._per_metre[1] * above + (around.col + reach - window.col)
        height, width = window.shape
        for i, j, share in _corners(row, col):
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            at, here = i[inside] * width + j[inside], share[inside]
            total += np.bincount(at, here * values[inside], height * width).reshape(height, width)
            weight += np.bincount(at, here, height * width).reshape(height, width)


def _corners(row: Array, col: Array) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Array]]:
    """The four pixels around positions, with their bilinear shares."""
    top, left = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
    down, right = row - top, col - left
    yield top, left, (1 - down) * (1 - right)
    yield top, left + 1, (1 - down) * right
    yield top + 1, left, down * (1 - right)
    yield top + 1, left + 1, down * right


def _closed(grey: Array, seen: NDArray[np.bool_]) -> Array:
    """Gaps between what was put back, filled from near by; wider ones stay."""
    for width in NEAR_PX:
        if seen.all():
            break
        there = seen.astype(np.float32)
        near = cv2.GaussianBlur(there, (0, 0), width)
        found = cv2.GaussianBlur(grey, (0, 0), width) / np.maximum(near, 1e-6)
        new = ~seen & (near > LEAST_WEIGHT / 2)
        grey, seen = np.where(new, found, grey).astype(np.float32), seen | new
    return np.where(seen, grey, np.nan).astype(np.float32)
