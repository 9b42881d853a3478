"""Samples of the training: a patch, an initial DSM with errors of many kinds, and what a pair shows of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from bank import Array, Bank, correlated, sampled
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from resdepth.stereo.remeasure import WINDOWS_PX

PATCH_PX = 128
SAME_DATE = 0.8
"""Share of the samples whose images are of one date."""
SECOND_MATCHER = 0.25
GOOD_INITIAL = 0.1
"""Share of the initial DSMs that are the reference, or almost."""
NO_IMAGES, ORTHO_ONLY = 0.25, 0.05
"""Shares of the samples without images, and without heights matched in them."""
SMOOTH_WORLD = 0.6
"""Share of the samples without images whose ground has no fine structure: then roughness is noise."""
LEVEL = 3.0
"""Standard deviation of the level of a patch, units: the network must not depend on it."""
LEAST_KNOWN = 0.5


@dataclass(frozen=True)
class Batch:
    """What the network sees, and what it should say.

    Attributes:
        channels: (B, 7, T, T) float32, or (B, 1, T, T), see `FusionUNet.predict`.
        wanted: (B, 1, T, T) float32, normalised reference heights, NaN = unknown.
        weights: (B,) float32: how much each sample counts; None: all alike.
    """

    channels: Array
    wanted: Array
    weights: Array | None = None


def batch(banks: Sequence[Bank], size: int, seed: tuple[int, int]) -> Batch:
    """Draw samples; the same seed gives the same ones."""
    rng = np.random.default_rng(seed)
    channels, wanted = [], []
    while len(channels) < size:
        if (drawn := _sample(banks[rng.integers(len(banks))], rng)) is None:
            continue
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        for values, kept in zip(drawn, (channels, wanted), strict=True):
            turned = np.rot90(values, turns, (1, 2))
            kept.append(np.ascontiguousarray(turned[..., ::-1] if mirrored else turned, np.float32))
    return Batch(np.stack(channels), np.stack(wanted))


def _sample(bank: Bank, rng: np.random.Generator) -> tuple[Array, Array] | None:
    height, width = bank.reference.shape
    row, col = int(rng.integers(height - PATCH_PX + 1)), int(rng.integers(width - PATCH_PX + 1))
    here = slice(row, row + PATCH_PX), slice(col, col + PATCH_PX)
    reference = bank.reference[here]
    if np.isfinite(reference).mean() < LEAST_KNOWN:
        return None
    z, margin, _, same_date = bank.plane
    number = int(rng.integers(int(same_date) if rng.random() < SAME_DATE else len(bank.pairs)))
    a, b = bank.pairs[number]
    unit = float(1 / np.hypot(*(bank.shifts[a] - bank.shifts[b])))
    initial, kind = bank.initials[rng.integers(len(bank.initials))][here], rng.random()
    if kind < NO_IMAGES * SMOOTH_WORLD:
        initial, reference = _without_fine_structure(initial, reference, rng)
    initial = with_errors(initial, reference, unit, rng)
    if kind < NO_IMAGES:
        initial = initial + heavy_noise(rng, PATCH_PX) * np.float32(unit)
    matched = bank.matched[number, int(rng.random() < SECOND_MATCHER)][here] + np.float32(
        rng.normal() * 0.15 * unit
    )
    if kind < NO_IMAGES + ORTHO_ONLY:
        matched = np.full_like(matched, np.nan)
        unit *= float(np.exp(rng.normal() * 0.35))  # nobody knows it then
    known = np.isfinite(matched)
    found = np.where(known, matched, initial)
    zero = np.float32(np.median(initial) + rng.normal() * LEVEL * unit)
    channels = [(initial - zero) / unit, (found - zero) / unit, known]
    missed = rng.normal(size=2) * 0.2  # what is left of the pointing error, pixels
    for heights in (initial, found):
        first = sampled(bank.views[a], heights, bank.shifts[a], (row + margin, col + margin), z)
        place = row + margin + missed[0], col + margin + missed[1]
        second = sampled(bank.views[b], heights, bank.shifts[b], place, z)
        unseen = np.isnan(first) | np.isnan(second) | (kind < NO_IMAGES)
        for side in WINDOWS_PX:
            correlation = correlated(np.nan_to_num(first), np.nan_to_num(second), side)
            channels.append(np.where(unseen, 0, correlation))
    return np.stack(channels).astype(np.float32), ((reference - zero) / unit)[None]


def _without_fine_structure(
    initial: Array, reference: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """An initial DSM and its reference, less what a filter of random width takes out of the reference."""
    known = np.where(np.isfinite(reference), reference, initial).astype(np.float32)
    smooth = cv2.GaussianBlur(median(known, int(rng.choice([5, 9, 15]))), (0, 0), rng.uniform(0.5, 3))
    return initial - (known - smooth), np.where(np.isfinite(reference), smooth, np.nan)


def median(heights: Array, side: int) -> Array:
    """A median filter; OpenCV's own are of 3 and 5 pixels for such values."""
    result = heights
    for _ in range((side - 1) // 4):
        result = cv2.medianBlur(result, 5)
    return result


def heavy_noise(rng: np.random.Generator, side: int) -> Array:
    """(T, T) noise in units: of several widths, in some places strong, as left by weak matching."""
    noise = np.zeros((side, side), np.float32)
    if rng.random() < 0.3:
        return noise
    for _ in range(int(rng.integers(1, 4))):
        strength = np.exp(field(rng, side, rng.uniform(8, 64)) * rng.uniform(0.3, 1.3))
        noise += field(rng, side, rng.uniform(1.5, 10)) * strength * np.float32(rng.uniform(0.03, 0.4))
    return noise


def with_errors(initial: Array, reference: Array, unit: float, rng: np.random.Generator) -> Array:
    """An initial DSM with the errors of other pipelines than its own.

    Args:
        initial: (T, T) metres.
        reference: (T, T) metres, NaN = unknown.
        unit: metres of height for a pixel of disparity.
        rng: what decides.
    """
    side, heights = len(initial), initial.copy()
    known = np.where(np.isfinite(reference), reference, heights)
    if rng.random() < GOOD_INITIAL:
        rough = field(rng, side, rng.uniform(1.5, 12)) * rng.uniform(0, 0.15) * unit
        return np.asarray(known + (rough if rng.random() < 0.6 else 0), np.float32)
    if rng.random() < 0.35:
        return heights
    if rng.random() < 0.15:  # a part of it is right
        part = (
            np.ones((side, side), bool)
            if rng.random() < 0.5
            else field(rng, side, rng.uniform(16, 96)) > rng.normal()
        )
        heights = np.where(part, known, heights)
    if rng.random() < 0.35:  # voids, filled with the nearest height
        void = field(rng, side, rng.uniform(4, 40)) > rng.uniform(0.6, 1.8)
        if void.any() and not void.all():
            nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
            heights = heights[tuple(nearest)]
    if rng.random() < 0.3:
        heights = smoothed(heights.astype(np.float32), rng)
    if rng.random() < 0.5:  # rough
        heights = heights + field(rng, side, rng.uniform(1.5, 12)) * rng.uniform(0.05, 0.6) * unit
    if rng.random() < 0.25:  # blunders
        wrong = field(rng, side, rng.uniform(2, 8)) > 2.2
        heights = np.where(wrong, heights + field(rng, side, 8) * rng.uniform(2, 10) * unit, heights)
    if rng.random() < 0.3:
        heights = heights + rng.normal() * 0.3 * unit
    return np.asarray(heights, np.float32)


def smoothed(heights: Array, rng: np.random.Generator) -> Array:
    """As pipelines do it: Gaussian, median, or the highest or lowest of some points in each cell."""
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(cv2.GaussianBlur(heights, (0, 0), rng.uniform(0.7, 4)))
    if kind == 1:
        return np.asarray(cv2.medianBlur(heights, 5))
    square = np.ones((int(rng.choice([3, 5])),) * 2)
    return np.asarray((cv2.dilate if rng.random() < 0.6 else cv2.erode)(heights, square))


def field(rng: np.random.Generator, side: int, scale_px: float) -> NDArray[np.float32]:
    """(T, T) smooth noise of mean 0 and standard deviation 1."""
    n = max(2, int(side / scale_px) + 2)
    noise = cv2.resize(
        rng.standard_normal((n, n)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
    )
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-6))
