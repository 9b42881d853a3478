"""Two raw images and their RPCs in, heights out: epipolar resampling, semi-global matching, triangulation.

A pair is matched on a plane, from where triangulation leads back to the ground. The points of several pairs
become one DSM: rasterised, fused by the median, voids filled. Nothing here knows of a reference surface, or
that the images are simulated: real ones are matched alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.rpc import LATTICE_PX, Rpc, ViewGeometry, between, fitted
from resdepth.geo.windows import Window
from resdepth.stereo.ortho import Image, fill_voids, to_geographic

Array = NDArray[np.float32]
Values = NDArray[np.float64]

# OpenCV's matcher counts in sixteenths and wants the range in multiples of sixteen.
SUBPIXEL, RANGE_STEP = 16, 16
# So many good tie points tell the pointing error; fewer leave the RPCs as they are.
LEAST_BASE_TO_HEIGHT = 0.02
# The planes of the blocks of a raster lie at multiples of so many pixels of disparity.
PLANE_STEP_PX = 16
# Points along each side of an area in which its view geometry is looked at.
LATTICE = 5


@dataclass(frozen=True)
class Rectified:
    """The ground plane at one height, turned so that heights shift points along its columns.

    Attributes:
        grid_origin: map (x, y) of its first pixel's centre.
        along: unit vector (x, y) of growing columns: the direction in which the first image shifts heights
            relative to the second.
        step_m: size of its pixels.
        height, width: in pixels.
        plane_z: metres.
        disparity_per_metre: pixels by which a metre of height moves the images against each other.
    """

    grid_origin: tuple[float, float]
    along: tuple[float, float]
    step_m: float
    height: int
    width: int
    plane_z: float
    disparity_per_metre: float

    def on_map(self, row: Values, col: Values) -> tuple[Values, Values]:
        """Map x and y of positions on the plane."""
        ax, ay = self.along
        x = self.grid_origin[0] + self.step_m * (col * ax + row * ay)
        y = self.grid_origin[1] + self.step_m * (col * ay - row * ax)
        return x, y

    def of_map(self, x: Values, y: Values) -> tuple[Values, Values]:
        """Row and column of positions on the plane."""
        ax, ay = self.along
        dx, dy = (x - self.grid_origin[0]) / self.step_m, (y - self.grid_origin[1]) / self.step_m
        return dx * ay - dy * ax, dx * ax + dy * ay


def rectified(
    first: Rpc,
    second: Rpc,
    grid: Grid,
    heights: tuple[float, float],
    *,
    step_m: float,
    whole: Grid | None = None,
) -> Rectified:
    """The plane on which a pair of images is matched over a grid.

    Args:
        first: camera.
        second: camera.
        grid: the part of the map to be matched.
        heights: lowest and highest that are looked for.
        step_m: pixel size on the plane.
        whole: the grid of which this is a block: the pixels of all blocks then lie on one lattice, so that
            what is seen of a place hardly depends on the block.

    Raises:
        ResDepthError: if the two look from the same direction: there is nothing to measure heights by.
    """
    plane_z = sum(heights) / 2
    middle = whole or grid
    x, y = middle.map_position(middle.height / 2, middle.width / 2)
    shifts = np.subtract(_shift(first, grid.crs, x, y, plane_z), _shift(second, grid.crs, x, y, plane_z))
    length = float(np.hypot(*shifts))
    if whole is not None and length > 0:
        levels = PLANE_STEP_PX * step_m / length
        plane_z = round(plane_z / levels) * levels
    if length < LEAST_BASE_TO_HEIGHT:
        raise ResDepthError(
            f"the two images look from almost one direction (base to height {length:.3f}); "
            f"{LEAST_BASE_TO_HEIGHT} is the least"
        )
    along = (float(shifts[0]) / length, float(shifts[1]) / length)
    x0, y1 = grid.map_position(0, 0)
    x1, y0 = grid.map_position(grid.height, grid.width)
    corners_x, corners_y = np.array([x0, x1, x0, x1]), np.array([y0, y0, y1, y1])
    c = corners_x * along[0] + corners_y * along[1]
    r = corners_x * along[1] - corners_y * along[0]
    c0, r0 = float(c.min()), float(r.min())
    if whole is not None:
        east, north = whole.map_position(0, 0)
        c_first, r_first = east * along[0] + north * along[1], east * along[1] - north * along[0]
        c0 = c_first + np.floor((c0 - c_first) / step_m) * step_m
        r0 = r_first + np.floor((r0 - r_first) / step_m) * step_m
    origin = (c0 * along[0] + r0 * along[1], c0 * along[1] - r0 * along[0])
    height, width = (int(np.ceil((v.max() - v0) / step_m)) + 1 for v, v0 in ((r, r0), (c, c0)))
    return Rectified(origin, along, step_m, height, width, plane_z, length / step_m)


def _shift(rpc: Rpc, crs: str, x: float, y: float, z: float) -> Values:
    """By how many metres (x, y) on a plane a point one metre above it appears beside its foot."""
    found: Values = displacements(rpc, crs, np.array([x]), np.array([y]), z)[0]
    return found


def displacements(rpc: Rpc, crs: str, x: Values, y: Values, z: float) -> Values:
    """By how many metres a metre of height displaces what an image shows on the ground.

    Args:
        rpc: of the image.
        crs: of the map, in metres.
        x: (N,) places.
        y: (N,)
        z: height of the ground, metres above the ellipsoid.

    Returns:
        (N, 2) float64, along the map's x and y: from its foot to where a point one metre above it appears.
    """
    d = 1.0
    xs, ys = x[:, None] + np.array([0, d, 0, 0]), y[:, None] + np.array([0, 0, d, 0])
    lon, lat = to_geographic(crs, xs, ys)
    at = np.stack(rpc.project(lon, lat, np.broadcast_to(z + np.array([0, 0, 0, d]), xs.shape)), axis=1)
    moved = at[:, :, 1:] - at[:, :, :1]  # pixels per metre of x, y, z
    return np.asarray(np.linalg.solve(moved[:, :, :2], moved[:, :, 2:])[:, :, 0], dtype=np.float64)


def view_geometry(rpc: Rpc, grid: Grid, z: float) -> ViewGeometry:
    """How heights displace what an image shows, over the area of a grid.

    Args:
        rpc: of the image.
        grid: on a map in metres.
        z: a height in the middle of those of the area, metres above the ellipsoid.
    """
    xmin, ymin, xmax, ymax = grid.bounds
    x, y = (
        one.ravel()
        for one in np.meshgrid(*(np.linspace(*ends, LATTICE) for ends in ((xmin, xmax), (ymin, ymax))))
    )
    moved = displacements(rpc, grid.crs, x, y, z)
    return fitted(x, y, moved[:, 0], moved[:, 1])


@dataclass(frozen=True)
class Points:
    """Matched points, map coordinates and metres; (N,) float64 each."""

    x: Values
    y: Values
    z: Values


def triangulated(
    disparity: Array, plane: Rectified, first: Rpc, second: Rpc, crs: str, heights: tuple[float, float]
) -> Points:
    """The points on the ground that a disparity map stands for, through both RPCs.

    The way back from two image positions to a point is fitted, as a polynomial of second degree, to a lattice
    of points that both RPCs have projected: over one block it is as exact as solving for each point.

    Args:
        disparity: (H, W), NaN = no match.
        plane: on which it was measured.
        first: camera.
        second: camera.
        crs: of the map.
        heights: between which points are expected.
    """
    inverse = _fitted_inverse(plane, first, second, crs, heights)
    rows, cols = np.nonzero(~np.isnan(disparity))
    found = disparity[rows, cols].astype(np.float64)
    terms = _quadratic(rows.astype(float), cols.astype(float), found, plane)
    x, y, z = (terms @ coefficients for coefficients in inverse.T)
    return Points(x, y, z)


def _quadratic(rows: Values, cols: Values, disparity: Values, plane: Rectified) -> Values:
    r, c = rows / plane.height - 0.5, cols / plane.width - 0.5
    d = disparity / (100 * plane.disparity_per_metre)
    return np.stack([np.ones_like(r), r, c, d, r * r, c * c, d * d, r * c, r * d, c * d], axis=-1)


def _fitted_inverse(
    plane: Rectified, first: Rpc, second: Rpc, crs: str, heights: tuple[float, float]
) -> Values:
    """(10, 3) coefficients from plane row, column and disparity to x, y, z."""
    axes = (np.linspace(0, plane.height - 1, 8), np.linspace(0, plane.width - 1, 8), np.linspace(*heights, 5))
    r, c, z = (values.ravel() for values in np.meshgrid(*axes, indexing="ij"))
    x, y = plane.on_map(r, c)
    lon, lat = to_geographic(crs, x, y)
    (row1, col1), (_, col2) = (_seen_on_plane(rpc, plane, crs, lon, lat, z) for rpc in (first, second))
    terms = _quadratic(row1, col1, col1 - col2, plane)
    wanted = np.stack([x, y, z], axis=-1)
    centre = wanted.mean(axis=0)
    coefficients = np.linalg.lstsq(terms, wanted - centre, rcond=None)[0]
    coefficients[0] += centre
    return np.asarray(coefficients)


def _seen_on_plane(
    rpc: Rpc, plane: Rectified, crs: str, lon: Values, lat: Values, z: Values
) -> tuple[Values, Values]:
    """Where on the plane an image shows points: their image positions, taken down to the plane's height."""
    at_row, at_col = rpc.project(lon, lat, z)
    # The image lies on the plane a little beside the points, by what their heights shift them.
    lattice = np.meshgrid(np.linspace(-0.3, 1.3, 9), np.linspace(-0.3, 1.3, 9), indexing="ij")
    r, c = lattice[0].ravel() * plane.height, lattice[1].ravel() * plane.width
    plane_lon, plane_lat = to_geographic(crs, *plane.on_map(r, c))
    row, col = rpc.project(plane_lon, plane_lat, np.full(r.shape, plane.plane_z))
    mean, spread = (np.array([f(row), f(col)]) for f in (np.mean, np.ptp))

    def terms(row: Values, col: Values) -> Values:
        u, v = (row - mean[0]) / spread[0], (col - mean[1]) / spread[1]
        return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)

    back = np.linalg.lstsq(terms(row, col), np.stack([r, c], axis=-1), rcond=None)[0]
    rows, cols = (terms(at_row, at_col) @ back).T
    return rows, cols


MIN_TIES = 12
TIE_RATIO, MIN_POINTING_PX, MAX_POINTING_PX = 0.8, 0.05, 8.0
# The grey values between these percentiles become the matcher's 8 bits.
STRETCH_PERCENT = (0.5, 99.5)
# Side of the windows in which the images are correlated after matching.
AGREEMENT_PX = 11


@dataclass(frozen=True)
class MatcherSettings:
    """How two images are matched.

    Attributes:
        step_m: pixel size at which they are compared: about that of the images.
        block_px: side of the blocks that are compared (odd).
        smoothness: weight of small (first) and large (second) steps between neighbours, per block pixel.
        left_right_px: how far the match back may miss.
        uniqueness_percent: how much better than the second best a match must be.
        speckle_px: islands smaller than this are voids.
    """

    step_m: float = 0.5
    block_px: int = 5
    smoothness: tuple[int, int] = (8, 32)
    left_right_px: int = 1
    uniqueness_percent: int = 5
    speckle_px: int = 60


def resampled(image: Image, plane: Rectified, crs: str, *, row_shift: float = 0.0) -> Array:
    """What an image shows of the plane, `row_shift` of its rows below; (H, W) float32, NaN = nothing."""
    rows, cols = _on_image(image.rpc, plane, crs, row_shift)
    row0, col0 = int(np.floor(rows.min())) - 4, int(np.floor(cols.min())) - 4
    row1, col1 = int(np.ceil(rows.max())) + 5, int(np.ceil(cols.max())) + 5
    whole = image.grid.whole
    row, col = max(row0, 0), max(col0, 0)
    inside = Window(row, col, min(row1, whole.height) - row, min(col1, whole.width) - col)
    if inside.height <= 0 or inside.width <= 0:
        return np.full((plane.height, plane.width), np.nan, dtype=np.float32)
    values = image.read(inside)
    seen = ~np.isnan(values)
    at = (cols - col).astype(np.float32), (rows - row).astype(np.float32)
    grey = cv2.remap(np.where(seen, values, 0), *at, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
    covered = cv2.remap(seen.astype(np.float32), *at, cv2.INTER_LINEAR, borderValue=0)
    return np.where(covered > 0.999, grey, np.nan).astype(np.float32)


def _on_image(rpc: Rpc, plane: Rectified, crs: str, row_shift: float) -> tuple[Values, Values]:
    """Image row and column of each pixel of the plane."""
    n_rows = plane.height // LATTICE_PX + 2
    n_cols = plane.width // LATTICE_PX + 2
    steps = np.arange(max(n_rows, n_cols), dtype=np.float64) * LATTICE_PX
    r, c = np.meshgrid(steps[:n_rows] + row_shift, steps[:n_cols], indexing="ij")
    lon, lat = to_geographic(crs, *plane.on_map(r, c))
    lattice = rpc.project(lon, lat, np.full(lon.shape, plane.plane_z))
    rows, cols = (between(values, plane.height, plane.width) for values in lattice)
    return rows, cols


def row_offset(first: Array, second: Array) -> float:
    """By how many rows the second image lies below the first: the pointing error across the epipolar lines.

    Scale-invariant feature points of both are matched; the median tells the offset. 0 if there are too few.
    """
    finder = cv2.SIFT.create(nfeatures=3000)
    found = [finder.detectAndCompute(_eight_bit(image), None) for image in (first, second)]
    if any(descriptors is None or len(points) < MIN_TIES for points, descriptors in found):
        return 0.0
    (points, ours), (others, theirs) = found
    matches = cv2.BFMatcher().knnMatch(ours, theirs, k=2)
    good = [best for best, second_best in matches if best.distance < TIE_RATIO * second_best.distance]
    offsets = np.array([others[m.trainIdx].pt[1] - points[m.queryIdx].pt[1] for m in good])
    offsets = offsets[np.abs(offsets) < MAX_POINTING_PX]
    return float(np.median(offsets)) if len(offsets) >= MIN_TIES else 0.0


def disparities(first: Array, second: Array, limits: tuple[float, float], settings: MatcherSettings) -> Array:
    """Column in the first image minus column in the second, (H, W) float32, NaN where no match is trusted.

    A match is trusted if matching back from the second image to the first leads to where it started.

    Args:
        first: (H, W) float32, NaN = nothing.
        second: the same plane in the other image.
        limits: lowest and highest disparity looked for.
        settings: of the matcher.
    """
    ours, theirs = _eight_bit(first), _eight_bit(second)
    there = _one_way(ours, theirs, limits, settings)
    # Seen in a mirror, the second image is the left one, and disparities keep their sign.
    back = np.fliplr(_one_way(np.fliplr(theirs), np.fliplr(ours), limits, settings))
    rows, cols = np.indices(there.shape, dtype=np.int32)
    partner = np.rint(np.clip(np.nan_to_num(cols - there), 0, there.shape[1] - 1)).astype(np.int32)
    trusted = np.abs(there - back[rows, partner]) <= settings.left_right_px  # False where either is NaN
    trusted &= ~np.isnan(first) & ~np.isnan(second)[rows, partner]
    return np.where(trusted, there, np.nan).astype(np.float32)


def _one_way(
    left: NDArray[np.uint8], right: NDArray[np.uint8], limits: tuple[float, float], settings: MatcherSettings
) -> Array:
    """OpenCV's semi-global matching along eight paths (Hirschmueller 2008); NaN = no match."""
    low = int(np.floor(limits[0]))
    count = int(np.ceil((limits[1] - low + 1) / RANGE_STEP)) * RANGE_STEP
    area = settings.block_px**2
    matcher = cv2.StereoSGBM.create(
        minDisparity=low,
        numDisparities=count,
        blockSize=settings.block_px,
        P1=settings.smoothness[0] * area,
        P2=settings.smoothness[1] * area,
        disp12MaxDiff=-1,
        preFilterCap=31,
        uniquenessRatio=settings.uniqueness_percent,
        speckleWindowSize=settings.speckle_px,
        speckleRange=1,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    # The matcher skips as many columns as there are disparities: they are put on before.
    pad = (max(low + count, 0), max(-low, 0))
    padded = [np.pad(image, ((0, 0), pad), mode="edge") for image in (left, right)]
    raw = matcher.compute(*padded)[:, pad[0] : pad[0] + left.shape[1]]
    return np.where(raw < low * SUBPIXEL, np.nan, raw / SUBPIXEL).astype(np.float32)


def _eight_bit(image: Array) -> NDArray[np.uint8]:
    low, high = np.nanpercentile(image, STRETCH_PERCENT) if not np.isnan(image).all() else (0.0, 1.0)
    scaled = (np.nan_to_num(image, nan=low) - low) * (255 / max(high - low, 1e-6))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Match:
    """Two images on the plane of a pair, and what was measured between them.

    Attributes:
        plane: on which they are compared.
        left, right: (H, W) float32 grey values, NaN = nothing.
        disparity: (H, W) float32, NaN where no match is trusted.
    """

    plane: Rectified
    left: Array
    right: Array
    disparity: Array

    @property
    def agreement(self) -> float:
        """Median local correlation of the grey values at the matches, -1 to 1; NaN without any."""
        known = ~np.isnan(self.disparity)
        if not known.any():
            return float("nan")
        indices: Array = np.indices(known.shape).astype(np.float32)
        rows, at = indices[0, :, :], indices[1, :, :] - np.nan_to_num(self.disparity)
        left = np.nan_to_num(self.left)
        right = cv2.remap(np.nan_to_num(self.right), at, rows, cv2.INTER_LINEAR)
        side = (AGREEMENT_PX, AGREEMENT_PX)
        (mean, other), (square, other_square) = (
            [cv2.blur(one, side) for one in pair] for pair in ((left, right), (left * left, right * right))
        )
        spread = np.maximum(square - mean * mean, 1) * np.maximum(other_square - other * other, 1)
        correlation = (cv2.blur(left * right, side) - mean * other) / np.sqrt(spread)
        return float(np.median(correlation[known]))


def match(
    first: Image,
    second: Image,
    grid: Grid,
    heights: tuple[float, float],
    settings: MatcherSettings,
    row_shift: float | None = None,
    whole: Grid | None = None,
) -> Match:
    """Compare a pair of images over a grid.

    Args:
        first: raw image with an RPC.
        second: the other.
        grid: the part of the map to be matched.
        heights: lowest and highest that are looked for, metres.
        settings: of the matcher.
        row_shift: by how many rows of the plane the second image lies below the first, where it is known from
            more than this part of the map; None: it is measured here.
        whole: the grid of which this is a block.
    """
    plane = rectified(first.rpc, second.rpc, grid, heights, step_m=settings.step_m, whole=whole)
    left, right = resampled(first, plane, grid.crs), resampled(second, plane, grid.crs)
    offset = row_offset(left, right) if row_shift is None else row_shift
    if abs(offset) > MIN_POINTING_PX:
        right = resampled(second, plane, grid.crs, row_shift=offset)
    limits = tuple((z - plane.plane_z) * plane.disparity_per_metre for z in heights)
    return Match(plane, left, right, disparities(left, right, (limits[0], limits[1]), settings))


def matched(
    first: Image, second: Image, grid: Grid, heights: tuple[float, float], settings: MatcherSettings
) -> Points:
    """The points that a pair of images shows over a grid; arguments as for `match`."""
    found = match(first, second, grid, heights, settings)
    return triangulated(found.disparity, found.plane, first.rpc, second.rpc, grid.crs, heights)


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


# Two views that differ by less cannot tell heights: metres of shift per metre of height.
