"""How far apart two images show the same things: phase correlation of blocks."""

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 0.12
"""Standard deviation of the low-pass, cycles per pixel: noise and single cars do not decide."""


def shift_between(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """By how many pixels one block must move so that it correlates best with the other.

    Only phases count, so contrast and brightness may differ (Kuglin and Hines 1975). Blocks that show
    different things correlate best anywhere.

    Args:
        first: (H, W) float32 grey values, NaN = void, which counts as mean grey.
        second: the same of the other image.
    """
    taper = np.outer(np.hanning(first.shape[0]), np.hanning(first.shape[1]))
    one, other = (np.fft.rfft2(np.nan_to_num(block - np.nanmean(block)) * taper) for block in (first, second))
    cross = one * np.conj(other)
    cross /= np.abs(cross) + np.finfo(np.float64).tiny
    rows, cols = np.fft.fftfreq(first.shape[0])[:, None], np.fft.rfftfreq(first.shape[1])[None]
    cross *= np.exp(-(rows**2 + cols**2) / (2 * SMOOTHING**2))
    surface = np.fft.irfft2(cross, s=first.shape)
    peak = np.unravel_index(np.argmax(surface), surface.shape)
    return float(
        np.hypot(*(min(int(at), side - int(at)) for at, side in zip(peak, first.shape, strict=True)))
    )


def correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Correlation coefficient of two blocks where both show something; 0 if one shows a single grey value."""
    both = np.isfinite(first) & np.isfinite(second)
    one, other = (block[both].astype(np.float64) for block in (first, second))
    if not one.size or one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def smoothness(block: NDArray[np.float32]) -> float:
    """Correlation coefficient of pixels with their neighbours to the right: near 1 in images, 0 in noise."""
    return correlation(block[:, :-1], block[:, 1:])
