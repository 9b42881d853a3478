"""How far two rasters lie beside each other, by the phases of blocks (Kuglin and Hines 1975)."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.raster import Array
from resdepth.geo.windows import Window

Move = tuple[float, float]
"""Pixels down and to the right."""
Read = Callable[[Window], Array]
Correlations = NDArray[np.float64]

LEAST_BLOCK_PX, MOSTLY = 32, 0.8
"""The smallest block that is compared, and how much of it must be known."""
EDGE_PERCENT, LEAST_PEAK = 95, 10.0
"""Edges steeper than most count alike; how far a peak must stand out, in standard deviations."""
BLOCK_PX, BLOCKS_A_SIDE = 128, 6


def edges_apart(first: Read, second: Read, whole: Window) -> Move | None:
    """How far the edges of the second raster lie down and to the right of those of the first, in pixels.

    The correlations of blocks all over the area are added up, so that what they have in common stands out;
    up to 64 pixels are found.

    Args:
        first: reads windows of heights or grey values: (h, w) float32, NaN = void.
        second: likewise.
        whole: the area.

    Returns:
        None if nothing stands out, as in fields and mountains.
    """
    return place_of(added_up(first, second, whole, BLOCK_PX, BLOCKS_A_SIDE, _edges_of_both), LEAST_PEAK)


def added_up(
    first: Read,
    second: Read,
    whole: Window,
    side: int,
    a_side: int,
    compared: Callable[[Array, Array], Correlations],
) -> Correlations | None:
    """(N, side, side) the correlations of blocks all over the area, added up; None without any.

    Blocks of which one raster has a part only are left out: that it lies on another grid is stated elsewhere.
    """
    side = min(side, *whole.shape)
    total: Correlations | None = None
    for place in sample_places(whole, side, a_side) if side >= LEAST_BLOCK_PX else ():
        one, other = first(place), second(place)
        if one.shape == other.shape and min(np.isfinite(one).mean(), np.isfinite(other).mean()) >= MOSTLY:
            found = compared(one, other)
            total = found if total is None else total + found
    return total


def place_of(correlations: Correlations | None, least: float) -> Move | None:
    """Where the second lies; None if the peak does not stand out by so many standard deviations."""
    if correlations is None:
        return None
    surface = np.sqrt(np.square(correlations).sum(axis=0)) if len(correlations) > 1 else correlations[0]
    if surface.max() - surface.mean() < least * surface.std():
        return None
    down, right = peak_of(surface)
    return -down, -right


def _edges_of_both(one: Array, other: Array) -> Correlations:
    """(1, H, W)."""
    return phase_correlation(_edges(one), _edges(other))[None]


def _edges(values: Array) -> Array:
    """How steep values are, without the steepest few percent; the mean where it is not known."""
    rows, cols = np.gradient(values)
    steep = np.hypot(rows, cols)
    known = np.isfinite(steep)
    if not known.any():
        return np.zeros_like(steep)
    steep = np.where(known, steep, steep[known].mean())
    return np.asarray(np.minimum(steep, np.percentile(steep, EDGE_PERCENT)), np.float32)


def sample_places(area: Window, side: int, places_a_side: int) -> Iterator[Window]:
    """Windows all over an area, their corners on a regular grid."""
    height, width = min(side, area.height), min(side, area.width)

    def corners(start: int, length: int) -> Iterable[int]:
        return (int(at) for at in np.unique(np.linspace(start, start + length, places_a_side, dtype=int)))

    for row in corners(area.row, area.height - height):
        for col in corners(area.col, area.width - width):
            yield Window(row, col, height, width)


SMOOTHING = 0.12
"""Standard deviation of the low-pass, cycles per pixel: noise and single cars do not decide."""


def shift_between(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """By how many pixels a block must move so that it correlates best with another; see `displacement`."""
    return float(np.hypot(*displacement(first, second)))


def displacement(first: NDArray[np.float32], second: NDArray[np.float32]) -> Move:
    """How the second block must move so that it correlates best with the first, to a fraction of a pixel.

    Only phases count, so contrast and brightness may differ (Kuglin and Hines 1975). Blocks that show
    different things correlate best anywhere.

    Args:
        first: (H, W) float32 grey values, NaN = void, which counts as mean grey.
        second: the same of the other image.
    """
    return peak_of(phase_correlation(first, second))


def phase_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """(H, W) how well two blocks correlate when the second is moved by so many pixels, cyclically."""
    taper = np.outer(np.hanning(first.shape[0]), np.hanning(first.shape[1]))
    one, other = (np.fft.rfft2(np.nan_to_num(block - np.nanmean(block)) * taper) for block in (first, second))
    cross = one * np.conj(other)
    cross /= np.abs(cross) + np.finfo(np.float64).tiny
    rows, cols = np.fft.fftfreq(first.shape[0])[:, None], np.fft.rfftfreq(first.shape[1])[None]
    cross *= np.exp(-(rows**2 + cols**2) / (2 * SMOOTHING**2))
    return np.asarray(np.fft.irfft2(cross, s=first.shape))


def peak_of(surface: NDArray[np.float64]) -> Move:
    """Where a cyclic surface of correlations is highest, by a parabola through its neighbours."""
    row, col = (int(place) for place in np.unravel_index(np.argmax(surface), surface.shape))
    ends = ((row, surface[:, col]), (col, surface[row]))
    down, right = (
        (at + _peak_between(np.roll(along, 1 - at)[:3]) + len(along) / 2) % len(along) - len(along) / 2
        for at, along in ends
    )
    return float(down), float(right)


def _peak_between(values: NDArray[np.float64]) -> float:
    """Where the parabola through three equidistant values is highest, counted from the middle one."""
    if len(values) < 3:
        return 0.0
    bend = values[0] - 2 * values[1] + values[2]
    return float((values[0] - values[2]) / (2 * bend)) if bend < 0 else 0.0
