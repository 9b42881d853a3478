"""By how much RPCs of images contradict each other: tie points between ortho-images, an offset for each.

Scale-invariant feature points of two ortho-images of one DSM are matched. Where heights are right, the same
thing lies at the same place in both; the median of what is missing is the bias of one RPC against the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band
from resdepth.geo.rpc import Rpc, shifted_in_image
from resdepth.geo.windows import Window, blocks
from resdepth.runtime.progress import Progress, Silent
from resdepth.stereo.matching import filled
from resdepth.stereo.ortho import DescribedImage, Image, reduced, to_geographic
from resdepth.stereo.pairs import pixel_size_m
from resdepth.stereo.remeasure import Placement, projected

Array = NDArray[np.float32]
Floats = NDArray[np.float64]

SIDE_PX, WINDOWS, GOLDEN = 512, 9, 0.6180339887
"""Of the windows in which tie points are looked for; and by what they are spread."""
FEATURES, RATIO, FARTHEST_PX = 2500, 0.8, 64.0
"""Features of a window; how much better the best match is than the second; how far the two may lie apart."""
WIDEST_PX = 4.0
"""Points that spread more have nothing in common."""
LEAST_TIES, ROUNDS, TRIM, TRIMS, NMAD_FACTOR = 20, 3, 2.5, 6, 1.4826
SETTLED_M = 0.02
LEAST_SHOWN, LEAST_SIDE_PX = 0.2, 128
STRETCH_PERCENT = (0.5, 99.5)


@dataclass(frozen=True)
class Tie:
    """How the ortho-images of a pair lie to each other.

    Attributes:
        first, second: the images.
        count: tie points.
        east_m, north_m: median of second minus first.
        nmad_m: spread of the tie points, mostly of wrong heights.
    """

    first: int
    second: int
    count: int
    east_m: float
    north_m: float
    nmad_m: float


@dataclass(frozen=True)
class Biases:
    """What was found of the RPCs.

    Attributes:
        rpcs: with the biases taken out.
        offsets_px: rows and columns that were added to each.
        before, after: ties between the ortho-images without and with it.
        unconnected: images that share too few tie points with any other.
    """

    rpcs: tuple[Rpc, ...]
    offsets_px: tuple[tuple[float, float], ...]
    before: tuple[Tie, ...]
    after: tuple[Tie, ...]
    unconnected: tuple[int, ...]


def without_bias(images: Sequence[Image], dsm: Band, progress: Progress | None = None) -> Biases:
    """The RPCs of images, with the biases between them taken out.

    What all have in common is not known: the mean of the offsets on the ground is zero.

    Args:
        images: raw, with RPCs.
        dsm: heights as the RPCs count them, metres, NaN = void.
        progress: advances by 1 for each window that is looked at.
    """
    shown = progress or Silent()
    rpcs = [image.rpc for image in images]
    sizes = [pixel_size_m(image.rpc, image.grid.whole.shape, dsm.grid.crs) for image in images]
    dsm = _at_pixel_size(dsm, min(sizes))
    windows = _chosen(dsm)
    larger = max(int(dsm.grid.gsd_m / min(sizes)), 1)  # pixels of the DSM than those of the images
    before = after = ties_of([reduced(image, larger) for image in images], dsm, windows, shown)
    connected = {one for tie in before for one in (tie.first, tie.second)}
    for _ in range(ROUNDS):
        moves = _solved(len(images), after)
        if np.abs(moves).max() < SETTLED_M:
            break
        rpcs = [_moved_on_ground(rpc, dsm, move) for rpc, move in zip(rpcs, moves, strict=True)]
        described = (DescribedImage(image, rpc) for image, rpc in zip(images, rpcs, strict=True))
        seen = [reduced(image, larger) for image in described]
        after = ties_of(seen, dsm, windows, shown)
    offsets = [
        (rpc.offsets[0] - image.rpc.offsets[0], rpc.offsets[1] - image.rpc.offsets[1])
        for rpc, image in zip(rpcs, images, strict=True)
    ]
    unconnected = tuple(one for one in range(len(images)) if one not in connected)
    return Biases(tuple(rpcs), tuple(offsets), tuple(before), tuple(after), unconnected)


def ties_of(images: Sequence[Image], dsm: Band, windows: Sequence[Window], progress: Progress) -> list[Tie]:
    """The ties of all pairs that share enough points in some windows of a DSM."""
    found: dict[tuple[int, int], list[Floats]] = {}
    for window in windows:
        progress.advance()
        grid, heights = dsm.grid.flat.crop(window), dsm.read(window)
        heights = filled(heights, float(np.nanmedian(heights)))
        features = [_features(projected(image, grid, heights, Placement())) for image in images]
        for pair in combinations(range(len(images)), 2):
            found.setdefault(pair, []).append(_matched(features[pair[0]], features[pair[1]]))
    ties = [_tie(pair, np.concatenate(parts), dsm.grid) for pair, parts in found.items()]
    return [tie for tie in ties if tie is not None]


Features = tuple[Floats, Array]


class _CoarseBand:
    """A DSM in pixels `factor` times as large, each the mean of the heights in it."""

    def __init__(self, dsm: Band, factor: int) -> None:
        whole, (a, b, c, d, e, f) = dsm.grid, dsm.grid.transform
        self.grid = replace(
            whole,
            height=whole.height // factor,
            width=whole.width // factor,
            transform=(a * factor, b * factor, c, d * factor, e * factor, f),
        )
        self._dsm, self._factor = dsm, factor

    def read(self, window: Window) -> Array:
        """(H, W) float32, metres, NaN = void."""
        n = self._factor
        fine = self._dsm.read(Window(window.row * n, window.col * n, window.height * n, window.width * n))
        four = fine.reshape(window.height, n, window.width, n)
        known = ~np.isnan(four)
        count = known.sum(axis=(1, 3))
        total = np.where(known, four, 0).sum(axis=(1, 3), dtype=np.float64)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _at_pixel_size(dsm: Band, side_m: float) -> Band:
    """The DSM in pixels about as large as those of the images, if its own are smaller."""
    factor = min(round(side_m / dsm.grid.gsd_m), min(dsm.grid.whole.shape) // LEAST_SIDE_PX)
    return _CoarseBand(dsm, factor) if factor > 1 else dsm


def _chosen(dsm: Band) -> list[Window]:
    """Windows all over a DSM in which most pixels have heights."""
    parts = list(blocks(dsm.grid.whole, SIDE_PX))
    order = sorted(range(len(parts)), key=lambda number: (number * GOLDEN) % 1)
    found: list[Window] = []
    for number in order:
        if len(found) < WINDOWS and np.isfinite(dsm.read(parts[number])).mean() > LEAST_SHOWN:
            found.append(parts[number])
    return found


def _features(image: Array) -> Features:
    """Places (N, 2), column and row, and descriptors of an ortho-image's feature points."""
    nothing = np.empty((0, 2)), np.empty((0, 128), np.float32)
    seen = ~np.isnan(image)
    if seen.mean() < LEAST_SHOWN:
        return nothing
    low, high = np.percentile(image[seen], STRETCH_PERCENT)
    grey = np.clip((np.nan_to_num(image, nan=low) - low) * (255 / max(high - low, 1e-6)), 0, 255)
    inside = cv2.erode(seen.astype(np.uint8), np.ones((9, 9), np.uint8))
    points, descriptors = cv2.SIFT.create(nfeatures=FEATURES).detectAndCompute(grey.astype(np.uint8), inside)
    if descriptors is None or not len(points):
        return nothing
    return np.array([point.pt for point in points]), np.asarray(descriptors, np.float32)


def _matched(first: Features, second: Features) -> Floats:
    """(N, 2) columns and rows, second minus first, of points that match best both ways."""
    if min(len(first[0]), len(second[0])) < 2:
        return np.empty((0, 2))
    # Descriptors are whole numbers, and these sums below 2^24: exact, in whatever order they are added.
    squares = [np.square(one[1]).sum(axis=1) for one in (first, second)]
    distances = squares[0][:, None] + squares[1][None, :] - 2 * (first[1] @ second[1].T)
    best, back = distances.argmin(axis=1), distances.argmin(axis=0)
    nearest = np.partition(distances, 1, axis=1)[:, :2]
    here = np.arange(len(best))
    good = (nearest[:, 0] < RATIO**2 * nearest[:, 1]) & (back[best] == here)
    moved = second[0][best[good]] - first[0][good]
    return np.asarray(moved[np.hypot(*moved.T) < FARTHEST_PX])


def _tie(pair: tuple[int, int], moved: Floats, grid: Grid) -> Tie | None:
    """The median of what belongs together; None of too few points."""
    kept = moved
    for _ in range(TRIMS):
        if len(kept) < LEAST_TIES:
            return None
        centre = np.median(kept, axis=0)
        apart = np.hypot(*(moved - centre).T)
        spread = NMAD_FACTOR * float(np.median(np.hypot(*(kept - centre).T)))
        kept = moved[apart <= TRIM * max(spread, 0.1)]
    side = grid.gsd
    col, row = np.median(kept, axis=0)
    apart = np.hypot(*(kept - (col, row)).T)
    spread = NMAD_FACTOR * float(np.median(apart)) * side
    if spread > WIDEST_PX * side:
        return None
    return Tie(*pair, len(kept), float(col) * side, -float(row) * side, spread)


def _solved(count: int, ties: Sequence[Tie]) -> Floats:
    """(N, 2) metres east and north by which what an image shows lies beside its place; their mean is 0."""
    if not ties:
        return np.zeros((count, 2))
    rows = np.zeros((len(ties), count))
    for number, tie in enumerate(ties):
        weight = _weight(tie)
        rows[number, tie.second], rows[number, tie.first] = weight, -weight
    apart = np.array([(tie.east_m, tie.north_m) for tie in ties])
    weights = np.array([[_weight(tie)] for tie in ties])
    # Of all solutions the smallest: those that are tied have the mean 0, others stay where they are.
    return np.asarray(np.linalg.pinv(rows) @ (apart * weights))


def _weight(tie: Tie) -> float:
    """The inverse of the standard error of a tie, 1 / metres."""
    return float(np.sqrt(tie.count) / max(tie.nmad_m, 0.05))


def _moved_on_ground(rpc: Rpc, dsm: Band, move: Floats) -> Rpc:
    """The RPC with the offset in the image that takes a displacement on the ground out."""
    grid = dsm.grid
    x, y = grid.map_position(grid.height / 2, grid.width / 2)
    xs, ys = np.array([x, x + move[0]]), np.array([y, y + move[1]])
    lon, lat = to_geographic(grid.crs, xs, ys)
    rows, cols = rpc.project(lon, lat, np.full(2, rpc.offsets[4]))
    return shifted_in_image(rpc, float(rows[1] - rows[0]), float(cols[1] - cols[0]))
