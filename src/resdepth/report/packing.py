"""Pixels as text within a page: differences of neighbours, deflated, in base64. For assets/content.js."""

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

HEIGHT_STEP_M = 0.01
LARGEST_M = 40_000.0  # differences of heights up to it fit into three bytes
LEVEL = 9
# Bytes of text per pixel that are reckoned with: real surfaces take two thirds of it, noise twice as many.
HEIGHT_BYTES, GREY_BYTES, MASK_BYTES = 1.8, 1.2, 0.2


def packed_heights(heights: Array) -> str:
    """Heights to the centimetre; equal heights stay equal.

    Successive pixels, row by row, differ little: their differences are written with the sign in the lowest
    bit, lowest bytes first, then the middle ones, then the highest. A bit for each void follows.

    Args:
        heights: (H, W) float32, metres, NaN = void; beyond 40 km they are cut off.
    """
    flat = heights.astype(np.float64).ravel()
    void = ~np.isfinite(flat)
    codes = np.rint(np.clip(np.where(void, 0, flat), -LARGEST_M, LARGEST_M) / HEIGHT_STEP_M).astype(np.int32)
    # A void repeats the pixel before it, which costs nothing.
    last = np.maximum.accumulate(np.where(void, 0, np.arange(flat.size)))
    steps = np.diff(codes[last], prepend=0)
    folded = ((steps << 1) ^ (steps >> 31)).astype("<u4")
    planes = folded.view(np.uint8).reshape(-1, 4)[:, :3].T
    return deflated(planes.tobytes() + np.packbits(void).tobytes())


def packed_bytes(values: NDArray[np.uint8]) -> str:
    """(H, W) uint8, as differences of successive pixels, modulo 256."""
    return deflated(np.diff(values.ravel(), prepend=np.uint8(0)).tobytes())


def stretched(image: Array, low: float, high: float, brightening: float) -> NDArray[np.uint8]:
    """Grey values from 1 (low) to 255 (high); 0 = void.

    Args:
        image: (H, W) float32, NaN = void.
        low: what becomes black.
        high: what becomes white.
        brightening: exponent of the share of the range; below 1 it brings out what is dark.
    """
    share = np.clip((np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-6), 0, 1)
    return np.where(np.isfinite(image), 1 + np.rint(254 * share**brightening), 0).astype(np.uint8)


def inside(mask: Array) -> NDArray[np.uint8]:
    """2 where a mask is set (1), 1 where it is not, 0 where it is void."""
    return np.where(np.isfinite(mask), 1 + (mask == 1), 0).astype(np.uint8)


def deflated(content: bytes) -> str:
    """Bytes as a page can hold them."""
    return base64.b64encode(zlib.compress(content, LEVEL)).decode()
