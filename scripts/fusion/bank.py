"""What the training draws its samples from: of each scene surfaces, matched heights, and images on a plane.

Projected onto a plane, an image shows a point of height h displaced by g (h - z): locally a linear function
of the height. So the agreement of two images about any surface can be computed for a patch in milliseconds.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, median_filter

from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand
from resdepth.stereo.matching import MatcherSettings, filled, matched, rasterized
from resdepth.stereo.ortho import RawImage, to_geographic
from resdepth.stereo.remeasure import Placement, projected

Array = NDArray[np.float32]

MOST_MARGIN_PX = 400
REACH_M = 15.0
MOST_PAIRS = 5
SWEPT_VARIANTS = 3


@dataclass(frozen=True)
class Bank:
    """One scene.

    Attributes:
        reference: (H, W) metres, NaN = unknown.
        initials: (N, H, W) metres: initial DSMs of several kinds.
        matched: (P, 2, H, W) metres, NaN = void: what pairs show, with two settings of the matcher.
        views: (V, H + 2 M, W + 2 M) images on the plane, standardised, NaN = nothing.
        shifts: (V, 2) pixels (rows, columns) by which a metre of height displaces each image.
        pairs: (P, 2) of views; those of one date come first.
        plane: its height z, metres; the margin M, pixels; the pixel size, metres; pairs of one date.
    """

    reference: Array
    initials: Array
    matched: Array
    views: Array
    shifts: Array
    pairs: NDArray[np.int64]
    plane: NDArray[np.float64]


def load(path: Path) -> Bank:
    """A bank that `make` has written, without the biases of its surfaces.

    They come from the pointing errors of a few images, so a network would learn them by heart.
    """
    with np.load(path) as stored:
        bank = Bank(**{name: stored[name] for name in Bank.__dataclass_fields__})
    for surface in (*bank.initials, *bank.matched.reshape(-1, *bank.reference.shape)):
        np.subtract(surface, np.nanmedian(surface - bank.reference), out=surface)
    return bank


def make(folder: Path, path: Path) -> None:
    """Measure a simulated scene, unless it is done.

    Args:
        folder: of the scene.
        path: the file to write.
    """
    if path.exists():
        return
    data, seed = folder / "data", int.from_bytes(folder.name.encode()[-8:], "little")
    rng = np.random.default_rng(seed)
    dsm = FileBand(data / "dsm/initial.tif")
    grid = dsm.grid
    reference = FileBand(data / "dsm/reference.tif").read(grid.whole)
    initial = filled(dsm.read(grid.whole), 0.0)
    names = [Path(line).name for line in (data / "image_selection/imagelist.txt").read_text().split()]
    images = [RawImage(data / "satellite_views/raw" / name) for name in names]
    pairs, same_date = _pairs(data / "image_selection/pairlist.txt", names)
    z = float(np.median(initial))
    shifts = np.array([displacement(image, grid, z) for image in images], np.float32)
    relief = max(float(initial.max()) - z, z - float(initial.min()))
    margin = min(int(relief * float(np.abs(shifts).max())) + 24, MOST_MARGIN_PX)
    views = np.stack([_on_plane(image, grid, z, margin) for image in images])
    limits = float(np.nanmin(reference)) - REACH_M, float(np.nanmax(reference)) + REACH_M
    found = []
    for a, b in pairs:
        settings = (
            MatcherSettings(step_m=grid.gsd_m, smoothness=(16, 64)),
            MatcherSettings(step_m=grid.gsd_m, block_px=int(rng.choice([3, 7]))),
        )
        found.append([rasterized(matched(images[a], images[b], grid, limits, one), grid) for one in settings])
    initials = [initial, filled(found[int(rng.integers(same_date))][1], z)]
    for _ in range(SWEPT_VARIANTS):
        a, b = pairs[int(rng.integers(same_date))]
        initials.append(swept(initial, (views[a], views[b]), (shifts[a], shifts[b]), (z, margin), rng))
    plane = np.array([z, margin, grid.gsd_m, same_date], np.float64)
    temporary = path.with_suffix(".part.npz")
    np.savez(
        temporary, reference=reference, initials=np.stack(initials), matched=np.array(found), views=views,
        shifts=shifts, pairs=np.array(pairs), plane=plane,
    )  # fmt: skip
    temporary.rename(path)
    errors = [f"{np.nanmean(np.abs(one - reference)):.2f}" for one in (*initials, *(one[0] for one in found))]
    print(path.name, "MAE of initial and matched heights:", *errors, flush=True)


def _pairs(path: Path, names: list[str]) -> tuple[list[tuple[int, int]], int]:
    """The pairs of a list as indices, those of one date first, and how many these are."""
    listed = [[names.index(Path(one.strip()).name) for one in line.split(",")]
              for line in path.read_text().strip().splitlines()]  # fmt: skip
    pairs = [(a, b) for a, b in listed]
    same = [pair for pair in pairs if names[pair[0]][:5] == names[pair[1]][:5]]
    ordered = (same + [pair for pair in pairs if pair not in same])[:MOST_PAIRS]
    return ordered, min(len(same), len(ordered))


def displacement(image: RawImage, grid: Grid, z: float) -> NDArray[np.float64]:
    """Rows and columns on the plane by which a metre of height displaces what an image shows."""
    row, col = grid.height / 2, grid.width / 2

    def at(rows: float, cols: float, height: float) -> NDArray[np.float64]:
        x, y = grid.map_position(rows, cols)
        lon, lat = to_geographic(grid.crs, np.array([x]), np.array([y]))
        return np.array([one[0] for one in image.rpc.project(lon, lat, np.array([height]))])

    here, span = at(row, col, z), 50.0
    plane = np.stack([at(row + span, col, z) - here, at(row, col + span, z) - here], axis=1) / span
    return np.asarray(np.linalg.solve(plane, (at(row, col, z + 10) - at(row, col, z - 10)) / 20))


def _on_plane(image: RawImage, grid: Grid, z: float, margin: int) -> Array:
    """What an image shows of the plane, standardised."""
    x, y = grid.map_position(-margin, -margin)
    a, b, _, d, e, _ = grid.transform
    wide = Grid(
        grid.height + 2 * margin, grid.width + 2 * margin, (a, b, x, d, e, y), grid.crs, grid.crs_name
    )
    shown = projected(image, wide, np.full(wide.whole.shape, z, np.float32), Placement())
    return np.asarray((shown - np.nanmean(shown)) / np.nanstd(shown), np.float32)


def box(values: Array, side: int) -> Array:
    """The mean over square windows."""
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101))


def correlated(first: Array, second: Array, side: int) -> Array:
    """As stereo/remeasure.py does it, of standardised images without gaps."""
    a, b = box(first, side), box(second, side)
    var_a = np.maximum(box(first * first, side) - a * a, 0) + np.float32(0.03**2)
    var_b = np.maximum(box(second * second, side) - b * b, 0) + np.float32(0.03**2)
    return np.asarray((box(first * second, side) - a * b) / np.sqrt(var_a * var_b))


def sampled(view: Array, heights: Array, shift: Array, place: tuple[float, float], z: float) -> Array:
    """What a view on the plane shows of a surface whose first pixel lies at a place on it (row, column)."""
    rows = np.arange(heights.shape[0], dtype=np.float32)[:, None] + np.float32(place[0])
    cols = np.arange(heights.shape[1], dtype=np.float32)[None] + np.float32(place[1])
    above = (heights - np.float32(z)).astype(np.float32)
    at = cols + shift[1] * above, rows + shift[0] * above
    return np.asarray(cv2.remap(view, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def swept(
    initial: Array, views: tuple[Array, Array], shifts: tuple[Array, Array], plane: tuple[float, int],
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """An initial DSM of another kind: a plane sweep with windows, outliers removed, voids by the nearest."""
    (z, margin), unit = plane, float(1 / np.hypot(*(shifts[0] - shifts[1])))
    side, shape = int(rng.choice([5, 7, 9, 13])), initial.shape
    noisy = [np.nan_to_num(v) + rng.uniform(0, 0.15) * rng.standard_normal(v.shape) for v in views]
    noisy = [v.astype(np.float32) for v in noisy]
    reach, smooth = rng.uniform(3, 9) * unit, cv2.medianBlur(initial, 5)
    steps = np.arange(initial.min() - 4 * unit, initial.max() + 4 * unit, unit / 2)
    best, before, after, low = (np.full(shape, -2, np.float32) for _ in range(4))
    which, updated = np.zeros(shape, int), np.zeros(shape, bool)
    for number, height in enumerate(steps):
        level = np.full(shape, height, np.float32)
        a, b = (sampled(v, level, s, (margin, margin), z) for v, s in zip(noisy, shifts, strict=True))
        score = np.where(np.abs(smooth - height) <= reach, correlated(a, b, side), -1.5).astype(np.float32)
        after[updated] = score[updated]
        updated = score > best
        best[updated], which[updated], low[updated] = score[updated], number, before[updated]
        before = score
    bend = low - 2 * best + after
    part = np.where(bend < -1e-4, 0.5 * (low - after) / np.where(bend < -1e-4, bend, 1), 0).clip(-0.5, 0.5)
    heights = (steps[which] + part * unit / 2).astype(np.float32)
    bad = best < rng.uniform(0.2, 0.65)
    bad |= np.abs(heights - median_filter(heights, 9)) > rng.uniform(1, 3) * unit
    nearest = distance_transform_edt(bad, return_distances=False, return_indices=True)
    heights = heights[tuple(nearest)]
    return np.asarray(cv2.medianBlur(heights, 5)) if rng.random() < 0.4 else heights
