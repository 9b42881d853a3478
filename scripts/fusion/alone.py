"""Samples without images: surfaces of towns, landscapes and lidar, with the errors of dense matching."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import rasterio
from bank import Array
from samples import Batch, field, median, smoothed
from scenes import fractal, landscape
from scipy.ndimage import distance_transform_edt

from resdepth.geo.windows import Window
from resdepth.simulate.town.layout import STYLES
from resdepth.simulate.town.town import Town, town_grid

PATCH_PX = 192
SIDE_PX = 640
GSDS_M = (0.3, 0.5, 0.7)
# People choose small seeds; those of the other training lie elsewhere.
FIRST_SEED = 2**42
LIDAR_SHARE = 0.3
"""Of the samples, if there is lidar."""
LEARNED = 0.55
"""Share of the columns of a lidar DSM, from the left: the others are left to evaluate on."""
SMOOTH_WORLD = 0.3
"""Share of the samples whose ground has no fine structure: then roughness is noise."""
OVERGROWN, ROUGH_GROUND = 0.5, 0.3
"""Shares of the samples that are rough in places, or all over, and right."""
GOOD_INITIAL = 0.12
FILLED_VOIDS = 0.5
STREAKS = 0.15
"""Share of the rough layers that lie along rows, as matching leaves it along epipolar lines."""
LEVEL_M = 3.0
"""Standard deviation of the level of a patch: the network must not depend on it."""
LEAST_ERROR_M = 0.1
"""Samples count by their mean error and this, to the power of WEIGHING: else good DSMs, whose errors are
small, would count for nothing."""
WEIGHING = -0.5


def surfaces(landscapes: int, towns: int) -> list[Array]:
    """(SIDE, SIDE) metres each: landscapes, and towns of each style."""
    made = [landscape(FIRST_SEED + number, SIDE_PX).astype(np.float32) for number in range(landscapes)]
    whole = Window(0, 0, SIDE_PX, SIDE_PX)
    for number in range(towns * len(STYLES)):
        grid = town_grid(SIDE_PX, GSDS_M[number % len(GSDS_M)])
        style = STYLES[sorted(STYLES)[number % len(STYLES)]]
        made.append(Town(grid, style, FIRST_SEED + 1000 + number).surface(whole).height.astype(np.float32))
    return made


def lidar(path: Path) -> Array:
    """(H, W) metres of a DSM without voids, less the columns to evaluate on."""
    with rasterio.open(path) as dataset:
        heights = dataset.read(1).astype(np.float32)
    return np.ascontiguousarray(heights[:, : int(LEARNED * heights.shape[1])])


def batch(drawn_from: Sequence[Array], measured: Sequence[Array], size: int, seed: tuple[int, int]) -> Batch:
    """Draw samples of simulated and measured surfaces; the same seed gives the same ones."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(size):
        among = measured if measured and rng.random() < LIDAR_SHARE else drawn_from
        samples.append(_sample(among[rng.integers(len(among))], rng))
    shown, wanted = (np.stack(values) for values in zip(*samples, strict=True))
    weights = (np.abs(shown - wanted).mean((1, 2, 3)) + LEAST_ERROR_M) ** WEIGHING
    return Batch(shown, wanted, (weights / weights.mean()).astype(np.float32))


def _sample(surface: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    row, col = (rng.integers(side - PATCH_PX + 1) for side in surface.shape)
    reference = surface[row : row + PATCH_PX, col : col + PATCH_PX] * np.float32(np.exp(rng.normal() * 0.3))
    if rng.random() < SMOOTH_WORLD:
        filtered = median(reference, int(rng.choice([5, 9, 15])))
        reference = cv2.GaussianBlur(filtered, (0, 0), rng.uniform(0.5, 3))
    reference = _with_natural_roughness(reference, rng)
    heights = _with_errors(reference, rng)
    zero = np.median(heights) + rng.normal() * LEVEL_M
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    turned = (np.rot90((values - zero)[None], turns, (1, 2)) for values in (heights, reference))
    shown, wanted = (np.ascontiguousarray(one[..., ::-1] if mirrored else one, np.float32) for one in turned)
    return shown, wanted


def _with_natural_roughness(reference: Array, rng: np.random.Generator) -> Array:
    """Leaves, bushes, rocks: rough where they are, down to the pixel, and right."""
    side = len(reference)
    if rng.random() < OVERGROWN:
        leaves = np.abs(field(rng, side, rng.uniform(1, 2.5))) * np.exp(rng.uniform(-2.3, 0.7))
        grown = field(rng, side, rng.uniform(8, 60)) > rng.uniform(-0.5, 1.5)
        reference = np.where(grown, reference + leaves, reference)
    if rng.random() < ROUGH_GROUND:
        ground = fractal(rng, side, rng.uniform(1.5, 3.0)) * np.exp(rng.uniform(-3, -0.7))
        reference = reference + ground
    return np.asarray(reference, np.float32)


def _with_errors(reference: Array, rng: np.random.Generator) -> Array:
    """Smoothed, rough in several widths, with blunders, voids filled along them, in steps."""
    side, unit = len(reference), float(np.exp(rng.normal() * 0.5))
    heights = smoothed(reference, rng) if rng.random() < 0.2 else reference
    if rng.random() < GOOD_INITIAL:
        rough = field(rng, side, rng.uniform(1, 12)) * rng.uniform(0, 0.1) * unit
        return np.asarray(heights + rough, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        strength = np.exp(field(rng, side, rng.uniform(8, 64)) * rng.uniform(0, 1.2))
        noise = field(rng, side, rng.choice([1.0, rng.uniform(1, 3), rng.uniform(3, 10)]))
        if rng.random() < STREAKS:
            noise = cv2.blur(noise, (int(rng.integers(3, 30)), 1))
            noise /= noise.std()
        heights = heights + noise * strength * np.exp(rng.uniform(-3.5, -0.4)) * unit
    if rng.random() < FILLED_VOIDS:
        heights = _voids_along_blunders(heights, rng)
    if rng.random() < 0.25:
        wrong = field(rng, side, rng.uniform(1.5, 8)) > 2.2
        heights = np.where(wrong, heights + field(rng, side, 8) * rng.uniform(2, 10) * unit, heights)
    if rng.random() < 0.3:  # the steps of a plane sweep
        step = rng.uniform(0.1, 0.8) * unit
        heights = np.round(heights / step) * step + rng.normal(size=heights.shape) * step * 0.2
    if rng.random() < 0.2:
        heights = cv2.medianBlur(heights.astype(np.float32), 5)
    return np.asarray(heights, np.float32)


def _voids_along_blunders(heights: Array, rng: np.random.Generator) -> Array:
    """What weak texture leaves: blunders at the rims of voids, which are filled with the nearest height."""
    side = len(heights)
    void = field(rng, side, rng.uniform(3, 60)) > rng.uniform(0.2, 1.8)
    if not void.any() or void.all():
        return heights
    wrong = field(rng, side, rng.uniform(1.5, 6)) > rng.uniform(0.8, 2.2)
    size = np.exp(rng.uniform(0, 2.7))
    blundered = np.where(wrong, heights + field(rng, side, rng.uniform(3, 16)) * size, heights)
    nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
    return np.asarray(blundered[tuple(nearest)])
