"""Samples without images: surfaces of towns and landscapes, and the errors of dense matching on them."""

from collections.abc import Sequence

import cv2
import numpy as np
from bank import Array
from samples import Batch, field, median, smoothed
from scenes import landscape
from scipy.ndimage import distance_transform_edt

from resdepth.geo.windows import Window
from resdepth.simulate.town.layout import STYLES
from resdepth.simulate.town.town import Town, town_grid

PATCH_PX = 192
SIDE_PX = 640
GSDS_M = (0.3, 0.5, 0.7)
# People choose small seeds; those of the other training lie elsewhere.
FIRST_SEED = 2**42
SMOOTH_WORLD = 0.4
"""Share of the samples whose ground has no fine structure: then roughness is noise."""
GOOD_INITIAL = 0.08
FILLED_VOIDS = 0.7
LEVEL_M = 3.0
"""Standard deviation of the level of a patch: the network must not depend on it."""


def surfaces(landscapes: int, towns: int) -> list[Array]:
    """(SIDE, SIDE) metres each: landscapes, and towns of each style."""
    made = [landscape(FIRST_SEED + number, SIDE_PX).astype(np.float32) for number in range(landscapes)]
    whole = Window(0, 0, SIDE_PX, SIDE_PX)
    for number in range(towns * len(STYLES)):
        grid = town_grid(SIDE_PX, GSDS_M[number % len(GSDS_M)])
        style = STYLES[sorted(STYLES)[number % len(STYLES)]]
        made.append(Town(grid, style, FIRST_SEED + 1000 + number).surface(whole).height.astype(np.float32))
    return made


def batch(drawn_from: Sequence[Array], size: int, seed: tuple[int, int]) -> Batch:
    """Draw samples; the same seed gives the same ones."""
    rng = np.random.default_rng(seed)
    samples = [_sample(drawn_from[rng.integers(len(drawn_from))], rng) for _ in range(size)]
    return Batch(np.stack([channels for channels, _ in samples]), np.stack([wanted for _, wanted in samples]))


def _sample(surface: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    row, col = rng.integers(SIDE_PX - PATCH_PX + 1, size=2)
    reference = surface[row : row + PATCH_PX, col : col + PATCH_PX] * np.float32(np.exp(rng.normal() * 0.3))
    if rng.random() < SMOOTH_WORLD:
        filtered = median(reference, int(rng.choice([5, 9, 15])))
        reference = cv2.GaussianBlur(filtered, (0, 0), rng.uniform(0.5, 3))
    heights = _with_errors(reference, rng)
    zero = np.median(heights) + rng.normal() * LEVEL_M
    channels = np.zeros((7, *heights.shape), np.float32)  # no images: nothing matched, nothing agrees
    channels[:2] = heights - zero
    wanted = (reference - zero)[None].astype(np.float32)
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    turned = (np.rot90(values, turns, (1, 2)) for values in (channels, wanted))
    channels, wanted = (np.ascontiguousarray(one[..., ::-1] if mirrored else one) for one in turned)
    return channels, wanted


def _with_errors(reference: Array, rng: np.random.Generator) -> Array:
    """Smoothed, rough in several widths, with blunders, voids filled along them, in steps."""
    side, unit = len(reference), float(np.exp(rng.normal() * 0.5))
    heights = smoothed(reference, rng) if rng.random() < 0.25 else reference
    if rng.random() < GOOD_INITIAL:
        rough = field(rng, side, rng.uniform(1.5, 12)) * rng.uniform(0, 0.1) * unit
        return np.asarray(heights + rough, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        strength = np.exp(field(rng, side, rng.uniform(8, 64)) * rng.uniform(0, 1.2))
        width = rng.choice([1.0, rng.uniform(1, 3), rng.uniform(3, 10)])
        heights = heights + field(rng, side, width) * strength * rng.uniform(0.05, 0.6) * unit
    if rng.random() < FILLED_VOIDS:
        heights = _voids_along_blunders(heights, rng)
    if rng.random() < 0.25:
        wrong = field(rng, side, rng.uniform(2, 8)) > 2.2
        heights = np.where(wrong, heights + field(rng, side, 8) * rng.uniform(2, 10) * unit, heights)
    if rng.random() < 0.3:  # the steps of a plane sweep
        step = rng.uniform(0.1, 0.8) * unit
        heights = np.round(heights / step) * step + rng.normal(size=heights.shape) * step * 0.2
    if rng.random() < 0.25:
        heights = cv2.medianBlur(heights.astype(np.float32), 5)
    return np.asarray(heights, np.float32)


def _voids_along_blunders(heights: Array, rng: np.random.Generator) -> Array:
    """What weak texture leaves: blunders at the rims of voids, which are filled with the nearest height."""
    side = len(heights)
    void = field(rng, side, rng.uniform(3, 60)) > rng.uniform(0.2, 1.4)
    if not void.any() or void.all():
        return heights
    wrong = field(rng, side, rng.uniform(1.5, 6)) > rng.uniform(0.8, 2.2)
    size = np.exp(rng.uniform(0, 2.7))
    blundered = np.where(wrong, heights + field(rng, side, rng.uniform(3, 16)) * size, heights)
    nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
    return np.asarray(blundered[tuple(nearest)])
