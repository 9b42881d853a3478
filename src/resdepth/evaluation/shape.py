"""The shape of surfaces: gradients, normals, roughness, and where the edges of buildings lie."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Sides

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHAPE_MARGIN_PX = 1

REACH_M = 4.0  # how far profiles go to both sides of an outline
LEAST_REACH_PX = 4  # ... with large pixels
MOST_STEPS = 32  # ... from the outline to an end; with pixels of 0.25 m and more two per pixel
LEAST_DROP_M = 2.0  # of the reference DSM, from roof to ground
FOUND_SHARE = 0.5  # of this drop that a surface must have
# The direction of an outline comes from the mask smoothed by a Gaussian of 2 pixels, seen as far as 4: so it
# follows a slanted wall, not the stairs that pixels make of it.
SIGMA_PX, SEEN_PX = 2.0, 4
# Below this the smoothed mask is about level: a thin wall, or a single pixel, faces no side. Straight
# outlines have 0.2.
LEAST_GRADIENT = 0.04
PROFILES_AT_ONCE = 8192


@dataclass(frozen=True)
class Shape:
    """What a surface looks like around each pixel; NaN where one of the 3 x 3 pixels is void.

    Attributes:
        along_row, along_col: (H, W) float32, change of the height per metre along rows (to the right) and
            along columns (down).
        roughness: (H, W) float32, metres, range of the heights among 3 x 3 pixels (Wilson et al. 2007).
    """

    along_row: Array
    along_col: Array
    roughness: Array

    @property
    def slope(self) -> Array:
        """(H, W) float32, metres per metre: the tangent of the slope."""
        return np.hypot(self.along_row, self.along_col)


def shape_of(height: Array, sides: Sides) -> Shape:
    """Gradient (Horn 1981) and roughness.

    Args:
        height: (H + 2, W + 2) float32, metres, NaN = void: with a margin of SHAPE_MARGIN_PX.
        sides: of a pixel.
    """
    down: Array = height[:-2] + 2 * height[1:-1] + height[2:]
    across: Array = height[:, :-2] + 2 * height[:, 1:-1] + height[:, 2:]
    highest = np.maximum(np.maximum(height[:-2], height[1:-1]), height[2:])
    lowest = np.minimum(np.minimum(height[:-2], height[1:-1]), height[2:])
    highest = np.maximum(np.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:])
    lowest = np.minimum(np.minimum(lowest[:, :-2], lowest[:, 1:-1]), lowest[:, 2:])
    roughness = highest - lowest  # NaN in any pixel goes through maximum and minimum
    # No numpy numbers: float32 stays float32.
    along_row: Array = (down[:, 2:] - down[:, :-2]) / float(8 * sides.width)
    along_col: Array = (across[2:] - across[:-2]) / float(8 * sides.height)
    void = np.isnan(roughness)  # the gradients themselves do not look at the pixel in the middle
    along_row[void] = along_col[void] = np.nan
    return Shape(along_row, along_col, roughness)


def gradient_errors(one: Shape, other: Shape) -> Array:
    """(H, W) float32, metres per metre: length of the difference of both gradients."""
    errors: Array = np.hypot(one.along_row - other.along_row, one.along_col - other.along_col)
    return errors


def normal_angles(one: Shape, other: Shape) -> Array:
    """(H, W) float32, degrees between both normals; exactly 0 for equal shapes.

    The normals are (-dz/dx, -dz/dy, 1); the angle comes from their cross and dot products, since an arc
    cosine loses small angles.
    """
    a, b, c, d = one.along_row, one.along_col, other.along_row, other.along_col
    cross = np.sqrt((b - d) ** 2 + (a - c) ** 2 + (a * d - b * c) ** 2)
    angles: Array = np.degrees(np.arctan2(cross, 1 + a * c + b * d))
    return angles


def outline_margin_px(sides: Sides) -> int:
    """How many pixels around a block its profiles look at, at most."""
    return max(_reach_px(sides) + 1, SEEN_PX)


def _reach_px(sides: Sides) -> int:
    """Counted along the shorter side of pixels, as steps are."""
    return max(round(REACH_M / min(sides)), math.ceil(LEAST_REACH_PX * max(sides) / min(sides)))


def _step_px(sides: Sides) -> float:
    return max(0.5, _reach_px(sides) / MOST_STEPS)


@dataclass(frozen=True)
class OutlineProfiles:
    """Profiles across the outlines of buildings where the reference DSM has a clear edge.

    They begin 4 m inside and end 4 m outside, in steps of half a pixel (larger ones below 0.25 m per pixel).
    The edge is where heights fall through the middle between the profile's own roof, the median of its first
    eighth, and its own ground, the median of its last. Heights between pixels are bilinear: so an edge that
    is two pixels wide, or wider, is placed exactly, one that is mixed in a single pixel to a twelfth of it.

    Attributes:
        cells: (N, 2) int64: row and column of the outline's pixel in the block.
        outward: (N, 2) float64: across the outline, down columns and along rows: pixels for each length of
            the shorter side of pixels.
        drops: (N,) float32, metres: the reference DSM's roof above its ground.
        edges: (N,) float32: where the true edge is, in steps from the profile's middle, positive = outward.
        sides: of a pixel.
    """

    cells: Ints
    outward: Floats
    drops: Array
    edges: Array
    sides: Sides

    @classmethod
    def of(
        cls,
        building: NDArray[np.bool_],
        reference: Array,
        inner: tuple[slice, slice],
        sides: Sides,
        origin: tuple[int, int] = (0, 0),
    ) -> "OutlineProfiles":
        """The profiles of a block: across every second outline pixel, as a chessboard takes them.

        With the origin stated, which profiles these are does not depend on the blocks: what blocks find adds
        up to what the whole finds.

        Args:
            building: (H, W) bool: the block, and `outline_margin_px` more on each side.
            reference: (H, W) float32, metres, NaN = void. Profiles that touch a void are left out.
            inner: the block in these arrays: rows and columns. Outline pixels in it count, except those
                nearer to an end of the arrays than the margin.
            sides: of a pixel.
            origin: row and column, in the raster, of the first pixel of the arrays.
        """
        cells = _outline_cells(building, inner, outline_margin_px(sides), origin)
        directions = _outward(building, cells)
        facing = np.hypot(directions[:, 0], directions[:, 1]) > LEAST_GRADIENT
        # Gradients for each pixel become those for each metre, of one unit of length; then that many pixels.
        scale = min(sides) / np.array(sides)
        cells, directions = cells[facing], directions[facing] * scale
        outward = directions / np.hypot(directions[:, 0], directions[:, 1])[:, None] * scale
        unknown = np.zeros(len(cells), np.float32)
        drops, edges = cls(cells, outward, unknown, unknown, sides)._edges_of(reference)
        clear = (drops > LEAST_DROP_M) & np.isfinite(edges)
        return cls(cells[clear], outward[clear], drops[clear], edges[clear], sides)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.cells)

    def displacements(self, surface: Array) -> Array:
        """How far the edges of a surface lie from the true ones, for those profiles where it has one.

        It has an edge if it is nowhere void along the profile, drops by half of what the reference DSM does,
        or more, and falls through the middle of its own roof and ground. Where it does so several times, the
        one nearest to the true edge counts.

        Args:
            surface: (H, W) float32, metres, NaN = void; the same block.

        Returns:
            (M,) float32, metres; positive: the surface's building is too large.
        """
        drops, edges = self._edges_of(surface)
        found = (drops >= FOUND_SHARE * self.drops) & np.isfinite(edges)
        return (edges[found] - self.edges[found]) * np.float32(_step_px(self.sides) * min(self.sides))

    def _edges_of(self, heights: Array) -> tuple[Array, Array]:
        """(N,) drops, NaN where a profile touches a void; (N,) edges, infinite where there is none."""
        found = [(np.zeros(0, np.float32), np.zeros(0, np.float32)), *self._portions(heights)]
        drops, edges = zip(*found, strict=True)
        return np.concatenate(drops), np.concatenate(edges)

    def _portions(self, heights: Array) -> Iterator[tuple[Array, Array]]:
        for start in range(0, self.count, PROFILES_AT_ONCE):
            some = slice(start, start + PROFILES_AT_ONCE)
            profiles = _sampled(heights, self.cells[some], self.outward[some], self.sides)
            yield _crossing(profiles, self.edges[some])


def _outline_cells(
    building: NDArray[np.bool_], inner: tuple[slice, slice], margin: int, origin: tuple[int, int]
) -> Ints:
    """(N, 2) row and column: set pixels with an unset one beside, above or below them."""
    top, bottom = max(inner[0].start, margin), min(inner[0].stop, building.shape[0] - margin)
    left, right = max(inner[1].start, margin), min(inner[1].stop, building.shape[1] - margin)
    if top >= bottom or left >= right:
        return np.zeros((0, 2), np.int64)
    here = building[top:bottom, left:right]
    inside = building[top - 1 : bottom - 1, left:right] & building[top + 1 : bottom + 1, left:right]
    inside &= building[top:bottom, left - 1 : right - 1] & building[top:bottom, left + 1 : right + 1]
    rows, cols = np.nonzero(here & ~inside)
    cells: Ints = np.stack([rows + top, cols + left], axis=1)
    lattice = (cells.sum(axis=1) + sum(origin)) % 2 == 0
    return np.compress(lattice, cells, axis=0)


def _outward(building: NDArray[np.bool_], cells: Ints) -> Floats:
    """(N, 2) minus the gradient of the smoothed mask, along rows and columns; at some pixels only."""
    offsets = np.arange(-SEEN_PX, SEEN_PX + 1)
    bell = np.exp(-(offsets**2) / (2 * SIGMA_PX**2))
    bell /= bell.sum()
    width = building.shape[1]
    flat, base = building.reshape(-1), cells[:, 0] * width + cells[:, 1]
    result = np.zeros((2, len(cells)))
    for row, row_weight in zip(offsets.tolist(), bell.tolist(), strict=True):
        for col, col_weight in zip(offsets.tolist(), bell.tolist(), strict=True):
            pull = flat[base + (row * width + col)] * (row_weight * col_weight / SIGMA_PX**2)
            result[0] -= pull * row
            result[1] -= pull * col
    return result.T


def _sampled(heights: Array, cells: Ints, outward: Floats, sides: Sides) -> Array:
    """(N, K) heights along profiles, from the inside to the outside; NaN where one of four heights is."""
    step = _step_px(sides)
    count = int(_reach_px(sides) / step)
    # Offsets from the pixel are split, not positions in the block: so they round alike in every block.
    offsets = np.arange(-count, count + 1) * step
    rows, cols = outward[:, :1] * offsets, outward[:, 1:] * offsets
    top, left = np.floor(rows), np.floor(cols)
    down, right = (rows - top).astype(np.float32), (cols - left).astype(np.float32)
    width = heights.shape[1]
    corner = (top * width + left).astype(np.int64) + (cells[:, :1] * width + cells[:, 1:])
    flat = heights.reshape(-1)
    upper, lower = flat[corner], flat[corner + width]
    upper += right * (flat[corner + 1] - upper)
    lower += right * (flat[corner + (width + 1)] - lower)
    return np.asarray(upper + down * (lower - upper), np.float32)


def _crossing(profiles: Array, near: Array) -> tuple[Array, Array]:
    """How far profiles drop, and where they fall through the middle, nearest to some place.

    Args:
        profiles: (N, K) metres, from roof to ground.
        near: (N,) in steps from the middle of the profile.

    Returns:
        (N,) metres, NaN where the profile touches a void; (N,) steps, infinite where it never falls so.
    """
    half, end = profiles.shape[1] // 2, max(profiles.shape[1] // 8, 1)
    roof, ground = np.median(profiles[:, :end], axis=1), np.median(profiles[:, -end:], axis=1)
    drops = np.where(np.isnan(profiles.sum(axis=1)), np.float32(np.nan), roof - ground)
    above = profiles - ((roof + ground) / 2)[:, None]
    profile, before = np.nonzero((above[:, :-1] >= 0) & (above[:, 1:] < 0))
    high, low = above[profile, before], above[profile, before + 1]
    places = (before - half).astype(np.float32) + high / (high - low)
    distances = np.abs(places - near[profile])
    # The nearest of each profile first; of two at the same distance the inner one.
    order = np.lexsort((distances, profile))
    chosen, first = np.unique(profile[order], return_index=True)
    edges = np.full(len(profiles), np.inf, np.float32)
    edges[chosen] = places[order][first]
    return drops, edges
