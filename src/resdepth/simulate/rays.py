"""Rays through a surface: what they meet first, and how high the shadow reaches behind what stands in light.

Rays of one direction are parallel. In a frame that is turned so that its rows run along the rays, away from
where they come from, each column is a profile of its own, and a running maximum answers exactly which points
are hidden from an eye in space, and how high the shadow reaches that the sun casts.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from resdepth.geo.grid import Grid

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Profiles:
    """A turned frame on a horizontal plane: rows along the rays, one column per profile.

    Attributes:
        origin: map (x, y) of its first point.
        along: unit vector (x, y) of growing rows: away from the satellite or the sun.
        step_m: distance between rows and between columns.
        n_rows, n_cols: its size.
    """

    origin: tuple[float, float]
    along: tuple[float, float]
    step_m: float
    n_rows: int
    n_cols: int

    @property
    def across(self) -> tuple[float, float]:
        """Unit vector of growing columns."""
        return (-self.along[1], self.along[0])

    def positions(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Array, Array]:
        """Fractional row and column of map positions."""
        dx, dy = (x - self.origin[0]) / self.step_m, (y - self.origin[1]) / self.step_m
        rows = (dx * self.along[0] + dy * self.along[1]).astype(np.float32)
        cols = (dx * self.across[0] + dy * self.across[1]).astype(np.float32)
        return rows, cols

    def on_map(self, row: ArrayLike, col: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Map x and y of rows and columns."""
        down, right = np.multiply(row, self.step_m), np.multiply(col, self.step_m)
        x = self.origin[0] + down * self.along[0] + right * self.across[0]
        y = self.origin[1] + down * self.along[1] + right * self.across[1]
        return np.asarray(x), np.asarray(y)

    def corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Map x and y of its four corners."""
        last_row, last_col = self.n_rows - 1, self.n_cols - 1
        return self.on_map([0, 0, last_row, last_row], [0, last_col, 0, last_col])

    def pixels_of(self, grid: Grid) -> NDArray[np.float64]:
        """The (2, 3) matrix from (column, row) here to (column, row) in a north-up raster."""
        a, _, c, _, e, f = grid.transform
        (ax, ay), (bx, by) = self.along, self.across
        first = [(self.origin[0] - c) / a - 0.5, (self.origin[1] - f) / e - 0.5]
        right, down = (
            [self.step_m * bx / a, self.step_m * by / e],
            [self.step_m * ax / a, self.step_m * ay / e],
        )
        return np.array([right, down, first]).T

    def with_rows_before(self, n: int) -> "Profiles":
        """The same frame with `n` more rows where the rays come from."""
        back = n * self.step_m
        origin = (self.origin[0] - back * self.along[0], self.origin[1] - back * self.along[1])
        return Profiles(origin, self.along, self.step_m, self.n_rows + n, self.n_cols)

    def with_rows_after(self, n: int) -> "Profiles":
        """The same frame with `n` more rows at its end."""
        return Profiles(self.origin, self.along, self.step_m, self.n_rows + n, self.n_cols)


def profiles_around(
    x: NDArray[np.float64], y: NDArray[np.float64], along: tuple[float, float], step_m: float
) -> Profiles:
    """The smallest frame of a direction that holds all the given map positions."""
    x, y = np.ravel(x), np.ravel(y)
    r, c = x * along[0] + y * along[1], -x * along[1] + y * along[0]
    r0, c0 = float(r.min()), float(c.min())
    origin = (r0 * along[0] - c0 * along[1], r0 * along[1] + c0 * along[0])
    n_rows, n_cols = (int(np.ceil((v.max() - v.min()) / step_m)) + 1 for v in (r, c))
    return Profiles(origin, along, step_m, n_rows, n_cols)


@dataclass(frozen=True)
class Hits:
    """What the rays of a frame on a plane meet first.

    Attributes:
        row: (R, C) int32, the profile sample just before the hit; the hit lies between it and the next.
        share: (R, C) float32, how far on the way to the next sample.
        rise: (R, C) float32, metres from the one to the other: large on walls.
    """

    row: NDArray[np.int32]
    share: Array
    rise: Array

    def of(self, profile_values: Array) -> Array:
        """Values along the profiles, interpolated at the hits."""
        before = np.take_along_axis(profile_values, self.row, axis=0)
        after = np.take_along_axis(profile_values, self.row + 1, axis=0)
        return before + self.share * (after - before)

    def nearest(self, profile_values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Values along the profiles, of the sample nearer to the hit."""
        return np.take_along_axis(profile_values, self.row + (self.share >= 0.5), axis=0)


def first_hits(heights: Array, slope: float, *, skipped: int, n_rows: int) -> Hits:
    """Where rays first meet the surface.

    A point at height h and row r lies on the ray that meets the plane of height 0 at row r + h * slope.
    Going away from the satellite, a point is hidden if an earlier one lies on a ray that goes farther.

    Args:
        heights: (P, C) float32, heights above the plane along the profiles, in metres.
        slope: rows per metre: tangent of the incidence over the step.
        skipped: the plane's row 0 is the profiles' row `skipped`.
        n_rows: R, rows of the plane.

    Returns:
        For each of the (R, C) rays its first hit. Rays beyond the profiles end at their last sample.
    """
    n_profile, n_cols = heights.shape
    reach = np.arange(n_profile, dtype=np.float32)[:, None] - skipped + heights * np.float32(slope)
    farthest = np.maximum.accumulate(reach, axis=0)
    # How many plane rows lie before each sample's reach: the first sample to reach a row is its hit.
    first = np.empty((n_rows, n_cols), dtype=np.int32)
    wanted = np.arange(n_rows, dtype=np.float32)
    for col, profile in enumerate(np.ascontiguousarray(farthest.T)):
        first[:, col] = np.searchsorted(profile, wanted, side="left")
    row = np.clip(first - 1, 0, n_profile - 2)
    before = np.take_along_axis(reach, row, axis=0)
    after = np.take_along_axis(reach, row + 1, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (wanted[:, None] - before) / (after - before)
    share = np.clip(np.nan_to_num(share, nan=0.0), 0.0, 1.0).astype(np.float32)
    rise = np.take_along_axis(heights, row + 1, axis=0) - np.take_along_axis(heights, row, axis=0)
    return Hits(row, share, rise)


def shadow_heights(heights: Array, slope: float) -> Array:
    """Below which height a point of a profile lies in the shadow of those before it.

    Args:
        heights: (P, C) float32, metres, along profiles away from the sun.
        slope: rows per metre: tangent of the sun's distance from the zenith over the step.

    Returns:
        (P, C) float32, metres; the surface is lit where it is not lower.
    """
    rows = np.arange(len(heights), dtype=np.float32)[:, None]
    farthest = np.maximum.accumulate(rows + heights * np.float32(slope), axis=0)
    # A sample does not shade itself: only those before it count.
    farthest = np.concatenate([np.full_like(farthest[:1], -np.inf), farthest[:-1]])
    return ((farthest - rows) / np.float32(slope)).astype(np.float32)


def warped(values: Array, matrix: NDArray[np.float64], shape: tuple[int, int]) -> Array:
    """A raster seen in another frame, bilinear; beyond its edge the nearest value.

    Args:
        values: (H, W) float32.
        matrix: (2, 3), from (column, row) in the other frame to (column, row) in the raster.
        shape: rows and columns of the other frame.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(values, matrix, shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, dtype=np.float32)


def inverted(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The way back of a (2, 3) matrix."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def shifted(matrix: NDArray[np.float64], row: float, col: float) -> NDArray[np.float64]:
    """A (2, 3) matrix for a frame that begins at (row, col) of the one it was for."""
    return np.column_stack([matrix[:, :2], matrix @ np.array([col, row, 1.0])])


def sample(values: Array, rows: Array, cols: Array) -> Array:
    """Bilinear values at fractional positions; beyond the edge the nearest value."""
    return np.asarray(cv2.remap(values, cols, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def sample_nearest(values: NDArray[np.generic], rows: Array, cols: Array) -> NDArray[np.generic]:
    """The values of the nearest pixels; beyond the edge the nearest value."""
    at_rows = np.clip(np.rint(rows), 0, values.shape[0] - 1).astype(np.int32)
    at_cols = np.clip(np.rint(cols), 0, values.shape[1] - 1).astype(np.int32)
    taken: NDArray[np.generic] = values[at_rows, at_cols]
    return taken
