"""By how much RPCs of images contradict each other: tie points between ortho-images, a term for each image.

Scale-invariant feature points of two ortho-images of one DSM are matched. Where heights are right, the same
thing lies at the same place in both; the median of what is missing is the bias of one RPC against the other.
Where what is missing changes across the area, an affine function of the place takes it out instead. Tie
points of every other cell of a checkerboard decide which: those that a term was not fitted to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band
from resdepth.geo.rpc import Rpc, moved_on_ground, shifted_in_image
from resdepth.geo.windows import Window, blocks
from resdepth.options import RpcBiases
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
CELLS, CLEARLY = 4, 0.9
"""Cells along each side of the checkerboard; the share of what a shift leaves that affine terms may leave."""
LEAST_KNOWN_PX = 4.0
"""Linear terms that no tie points show stay zero, as if so many pixels were their standard deviation."""
ALONG = np.linspace(-1, 1, 5)

Term = Literal["shift", "affine"]


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
        offsets_px: rows and columns that were added to each; in the middle of the area.
        before, after: ties between the ortho-images without and with it.
        unconnected: images that share too few tie points with any other.
        term: what was taken out of each RPC, a shift or an affine term.
        affine: of each image, by how much the added rows change with rows and with columns, and the added
            columns with both, pixels per pixel; none if shifts were taken out.
        left_m: median distance of tie points that a term was not fitted to: with shifts, with affine terms;
            None if there are too few.
    """

    rpcs: tuple[Rpc, ...]
    offsets_px: tuple[tuple[float, float], ...]
    before: tuple[Tie, ...]
    after: tuple[Tie, ...]
    unconnected: tuple[int, ...]
    term: Term = "shift"
    affine: tuple[tuple[float, float, float, float], ...] = ()
    left_m: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Points:
    """The tie points of a pair.

    Attributes:
        tie: what they show together.
        places: (N, 2) east and north of the middle of the DSM, in halves of its sides.
        moved: (N, 2) metres east and north, second minus first.
    """

    tie: Tie
    places: Floats
    moved: Floats

    def only(self, chosen: NDArray[np.bool_]) -> "_Points":
        return _Points(self.tie, self.places[chosen], self.moved[chosen])

    def missing(self, moves: Floats) -> Floats:
        """(N, 2) what is left if each image is moved: (images, terms, 2)."""
        apart = moves[self.tie.second] - moves[self.tie.first]
        return np.asarray(self.moved - _terms(self.places, len(apart)) @ apart)


def without_bias(
    images: Sequence[Image], dsm: Band, progress: Progress | None = None, *, term: RpcBiases = "auto"
) -> Biases:
    """The RPCs of images, with the biases between them taken out.

    What all have in common is not known: the mean of the terms on the ground is zero.

    Args:
        images: raw, with RPCs.
        dsm: heights as the RPCs count them, metres, NaN = void.
        progress: advances by 1 for each window that is looked at.
        term: what is taken out of each; `auto` takes affine terms only if they leave clearly less than shifts
            at tie points that they were not fitted to.
    """
    shown = progress or Silent()
    rpcs = [image.rpc for image in images]
    sizes = [pixel_size_m(image.rpc, image.grid.whole.shape, dsm.grid.crs) for image in images]
    dsm = _at_pixel_size(dsm, min(sizes))
    windows = _chosen(dsm)
    larger = max(int(dsm.grid.gsd_m / min(sizes)), 1)  # pixels of the DSM than those of the images
    before = after = _tie_points([reduced(image, larger) for image in images], dsm, windows, shown)
    left = _left_out(len(images), before, dsm.grid.gsd)
    chosen: Term = term if term != "auto" else _better(left)
    for _ in range(ROUNDS):
        moves = _solved(len(images), after, chosen, dsm.grid.gsd)
        if np.abs(moves).sum(axis=1).max() < SETTLED_M:
            break
        rpcs = [_moved_on_ground(rpc, dsm.grid, move) for rpc, move in zip(rpcs, moves, strict=True)]
        described = (DescribedImage(image, rpc) for image, rpc in zip(images, rpcs, strict=True))
        seen = [reduced(image, larger) for image in described]
        after = _tie_points(seen, dsm, windows, shown)
    added = [_added_px(image.rpc, rpc, dsm.grid) for image, rpc in zip(images, rpcs, strict=True)]
    ties = tuple(one.tie for one in before)
    connected = {one for tie in ties for one in (tie.first, tie.second)}
    unconnected = tuple(one for one in range(len(images)) if one not in connected)
    return Biases(
        tuple(rpcs), tuple(offset for offset, _ in added), ties, tuple(one.tie for one in after), unconnected,
        chosen, tuple(affine for _, affine in added) if chosen == "affine" else (),
        None if left is None else (float(left[:, 0].mean()), float(left[:, 1].mean())),
    )  # fmt: skip


def _tie_points(
    images: Sequence[Image], dsm: Band, windows: Sequence[Window], progress: Progress
) -> list[_Points]:
    """The tie points of all pairs that share enough of them in some windows of a DSM."""
    found: dict[tuple[int, int], list[Floats]] = {}
    for window in windows:
        progress.advance()
        grid, heights = dsm.grid.flat.crop(window), dsm.read(window)
        heights = filled(heights, float(np.nanmedian(heights)))
        features = [_features(projected(image, grid, heights, Placement())) for image in images]
        for pair in combinations(range(len(images)), 2):
            places, moved = _matched(features[pair[0]], features[pair[1]])
            places += (window.col, window.row)
            found.setdefault(pair, []).append(np.concatenate([places, moved], axis=1))
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


def _matched(first: Features, second: Features) -> tuple[Floats, Floats]:
    """Points that match best both ways: (N, 2) columns and rows in the first; second minus first."""
    if min(len(first[0]), len(second[0])) < 2:
        return np.empty((0, 2)), np.empty((0, 2))
    # Descriptors are whole numbers, and these sums below 2^24: exact, in whatever order they are added.
    squares = [np.square(one[1]).sum(axis=1) for one in (first, second)]
    distances = squares[0][:, None] + squares[1][None, :] - 2 * (first[1] @ second[1].T)
    best, back = distances.argmin(axis=1), distances.argmin(axis=0)
    nearest = np.partition(distances, 1, axis=1)[:, :2]
    here = np.arange(len(best))
    good = (nearest[:, 0] < RATIO**2 * nearest[:, 1]) & (back[best] == here)
    places = first[0][good]
    moved = second[0][best[good]] - places
    near = np.hypot(*moved.T) < FARTHEST_PX
    return np.asarray(places[near]), np.asarray(moved[near])


def _tie(pair: tuple[int, int], points: Floats, grid: Grid) -> _Points | None:
    """What belongs together of (N, 4) columns, rows and what is added to them; None of too few points."""
    moved, chosen = points[:, 2:], np.ones(len(points), np.bool_)
    kept = moved
    for _ in range(TRIMS):
        if len(kept) < LEAST_TIES:
            return None
        centre = np.median(kept, axis=0)
        apart = np.hypot(*(moved - centre).T)
        spread = NMAD_FACTOR * float(np.median(np.hypot(*(kept - centre).T)))
        chosen = apart <= TRIM * max(spread, 0.1)
        kept = moved[chosen]
    side = grid.gsd
    col, row = np.median(kept, axis=0)
    apart = np.hypot(*(kept - (col, row)).T)
    spread = NMAD_FACTOR * float(np.median(apart)) * side
    if spread > WIDEST_PX * side:
        return None
    tie = Tie(*pair, len(kept), float(col) * side, -float(row) * side, spread)
    half = np.array([grid.width / 2, grid.height / 2])
    places = (points[chosen, :2] + 0.5 - half) / half
    return _Points(tie, places * (1, -1), kept * (side, -side))


def _solved(count: int, points: Sequence[_Points], term: Term, side_m: float) -> Floats:
    """(N, terms, 2) metres east and north by which what an image shows lies beside its place.

    A shift is one term, of affine terms there are three, as `_terms` has them. The mean of the images is 0.
    """
    if not points:
        return np.zeros((count, 1, 2))
    if term == "affine":
        return _fitted(count, points, 3, side_m)
    return _shifts(count, [one.tie for one in points])


def _shifts(count: int, ties: Sequence[Tie]) -> Floats:
    rows = np.zeros((len(ties), count))
    for number, tie in enumerate(ties):
        weight = _weight(tie)
        rows[number, tie.second], rows[number, tie.first] = weight, -weight
    apart = np.array([(tie.east_m, tie.north_m) for tie in ties])
    weights = np.array([[_weight(tie)] for tie in ties])
    # Of all solutions the smallest: those that are tied have the mean 0, others stay where they are.
    return np.asarray((np.linalg.pinv(rows) @ (apart * weights))[:, None])


def _terms(places: Floats, count: int) -> Floats:
    """(N, count): a constant, and the places."""
    return np.concatenate([np.ones((len(places), 1)), places], axis=1)[:, :count]


def _fitted(count: int, points: Sequence[_Points], terms: int, side_m: float) -> Floats:
    """(N, terms, 2): by least squares over all tie points, without those that stand out of their pair."""
    found = np.zeros((count, terms, 2))
    for _ in range(TRIMS):
        normal, right = np.zeros((count, terms, count, terms)), np.zeros((count, terms, 2))
        for number in range(1, terms):
            normal[:, number, :, number] += np.eye(count) / (LEAST_KNOWN_PX * side_m) ** 2
        for one in points:
            apart = np.hypot(*one.missing(found).T)
            kept = one.only(apart <= TRIM * NMAD_FACTOR * max(float(np.median(apart)), 0.1 * side_m))
            known, weight = _terms(kept.places, terms), _weight(one.tie) ** 2 / one.tie.count
            squares, products = weight * known.T @ known, weight * known.T @ kept.moved
            first, second = one.tie.first, one.tie.second
            for here, sign in ((first, -1), (second, 1)):
                normal[here, :, here] += squares
                right[here] += sign * products
            normal[first, :, second] -= squares
            normal[second, :, first] -= squares
        size = count * terms
        inverse = np.linalg.pinv(normal.reshape(size, size), rcond=1e-9, hermitian=True)
        found = (inverse @ right.reshape(size, 2)).reshape(count, terms, 2)
    return found


def _left_out(count: int, points: Sequence[_Points], side_m: float) -> Floats | None:
    """(2, 2) metres: what is missing at tie points of each half of a checkerboard, the median.

    Once shifts and once affine terms are fitted to the other half. None if no pair has enough in both halves.
    """
    halves = []
    for one in points:
        cells = np.clip(((one.places + 1) * (CELLS / 2)).astype(int), 0, CELLS - 1)
        black = cells.sum(axis=1) % 2 == 0
        if min(black.sum(), (~black).sum()) >= LEAST_TIES:
            halves.append((one.only(black), one.only(~black)))
    if not halves:
        return None
    found = np.zeros((2, 2))
    for half in (0, 1):
        fitted, others = [one[half] for one in halves], [one[1 - half] for one in halves]
        for number, terms in enumerate((1, 3)):
            moves = _fitted(count, fitted, terms, side_m)
            missing = np.concatenate([one.missing(moves) for one in others])
            found[half, number] = np.median(np.hypot(*missing.T))
    return found


def _better(left: Floats | None) -> Term:
    """What is to be taken out: affine terms if they leave clearly less, and in no half more."""
    if left is None:
        return "shift"
    shift, affine = left.T
    return "affine" if affine.mean() < CLEARLY * shift.mean() and (affine < shift).all() else "shift"


def _weight(tie: Tie) -> float:
    """The inverse of the standard error of a tie, 1 / metres."""
    return float(np.sqrt(tie.count) / max(tie.nmad_m, 0.05))


def _moved_on_ground(rpc: Rpc, grid: Grid, move: Floats) -> Rpc:
    """The RPC without a displacement on the ground: (1, 2) metres east and north, or (3, 2) affine terms."""
    if len(move) > 1:
        return _affinely_moved(rpc, grid, move)
    x, y = grid.map_position(grid.height / 2, grid.width / 2)
    xs, ys = np.array([x, x + move[0, 0]]), np.array([y, y + move[0, 1]])
    lon, lat = to_geographic(grid.crs, xs, ys)
    rows, cols = rpc.project(lon, lat, np.full(2, rpc.offsets[4]))
    return shifted_in_image(rpc, float(rows[1] - rows[0]), float(cols[1] - cols[0]))


def _affinely_moved(rpc: Rpc, grid: Grid, move: Floats) -> Rpc:
    places, x, y = _lattice(grid)
    east, north = (_terms(places, 3) @ move).T
    lon, lat = to_geographic(grid.crs, x, y)
    there = to_geographic(grid.crs, x + east, y + north)
    (lat_off, lon_off), (lat_scale, lon_scale) = rpc.offsets[2:4], rpc.scales[2:4]
    u, v = (lon - lon_off) / lon_scale, (lat - lat_off) / lat_scale
    known = np.stack([np.ones_like(u), u, v], axis=1)
    added = np.stack([(there[0] - lon) / lon_scale, (there[1] - lat) / lat_scale], axis=1)
    found = np.linalg.lstsq(known, added, rcond=None)[0].T
    return moved_on_ground(rpc, *(tuple(map(float, one)) for one in found))  # type: ignore[arg-type] # 3 each


def _lattice(grid: Grid) -> tuple[Floats, Floats, Floats]:
    """Places all over a grid, (N, 2) as tie points have them, and x and y on the map."""
    north, east = (one.ravel() for one in np.meshgrid(ALONG, ALONG, indexing="ij"))
    rows, cols = (1 - north) * grid.height / 2, (1 + east) * grid.width / 2
    x, y = grid.map_position(rows, cols)  # type: ignore[arg-type] # arrays as well
    return np.stack([east, north], axis=1), np.asarray(x), np.asarray(y)


def _added_px(
    before: Rpc, after: Rpc, grid: Grid
) -> tuple[tuple[float, float], tuple[float, float, float, float]]:
    """Rows and columns that an RPC adds to those of another in the middle of a grid, and how they change."""
    if replace(after, offsets=before.offsets) == before:
        return (after.offsets[0] - before.offsets[0], after.offsets[1] - before.offsets[1]), (0, 0, 0, 0)
    _, x, y = _lattice(grid)
    lon, lat = to_geographic(grid.crs, x, y)
    z = np.full(lon.shape, before.offsets[4])
    old, new = (np.stack(one.project(lon, lat, z), axis=1) for one in (before, after))
    known = np.concatenate([np.ones((len(old), 1)), old - old.mean(axis=0)], axis=1)
    (row, col), by_row, by_col = np.linalg.lstsq(known, new - old, rcond=None)[0]
    return (float(row), float(col)), (float(by_row[0]), float(by_col[0]), float(by_row[1]), float(by_col[1]))
