"""Randomness that belongs to a place: the same for each pixel, whichever window is asked for."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import Window

Array = NDArray[np.float32]

_MASK = (1 << 32) - 1


def hashed(*keys: NDArray[np.integer] | int) -> NDArray[np.uint32]:
    """32 well-mixed bits of integer keys (arrays that broadcast): any bit of a key changes half of them."""
    state: NDArray[np.uint32] = np.asarray(0x9E3779B9, dtype=np.uint32)
    with np.errstate(over="ignore"):
        for word in _words(keys):
            state = (state ^ word) * np.uint32(0x85EBCA6B)
            state = (state ^ (state >> np.uint32(15))) * np.uint32(0xC2B2AE35)
            state = state ^ (state >> np.uint32(13))
    return np.asarray(state, dtype=np.uint32)


def _words(keys: tuple[NDArray[np.integer] | int, ...]) -> Iterator[NDArray[np.uint32]]:
    """Keys in words of 32 bits: numbers of any size in as many as they need, arrays in their lowest."""
    for key in keys:
        if isinstance(key, int):
            rest = key & _MASK, key >> 32
            yield np.asarray(rest[0], dtype=np.uint32)
            while rest[1] not in (0, -1):
                rest = rest[1] & _MASK, rest[1] >> 32
                yield np.asarray(rest[0], dtype=np.uint32)
        else:
            yield (key & _MASK).astype(np.uint32)


def uniform(*keys: NDArray[np.integer] | int) -> Array:
    """float32 in [0, 1) from integer keys."""
    return (hashed(*keys) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def pixel_noise(window: Window, seed: int) -> Array:
    """Independent values in [-1, 1), one per pixel of the scene."""
    rows = np.arange(window.row, window.row_stop)[:, None]
    cols = np.arange(window.col, window.col_stop)[None, :]
    return uniform(seed, rows, cols) * 2 - 1


def smooth_noise(window: Window, spacing_px: float, seed: int) -> Array:
    """Values in [-1, 1), smoothly interpolated between lattice points `spacing_px` apart."""
    if spacing_px <= 1:
        return pixel_noise(window, seed)
    first_row, row, row_share = _lattice(window.row, window.height, spacing_px)
    first_col, col, col_share = _lattice(window.col, window.width, spacing_px)
    rows = np.arange(first_row, first_row + int(row[-1]) + 2)[:, None]
    cols = np.arange(first_col, first_col + int(col[-1]) + 2)[None, :]
    lattice = uniform(seed, rows, cols) * 2 - 1
    across = lattice[row] + row_share[:, None] * (lattice[row + 1] - lattice[row])
    left, right = across[:, col], across[:, col + 1]
    blended: Array = left + col_share[None, :] * (right - left)
    return blended


def _lattice(start: int, length: int, spacing: float) -> tuple[int, NDArray[np.int64], Array]:
    """The first lattice number, and for each pixel its cell (counted from there) and its share in it."""
    position = np.arange(start, start + length) / spacing
    cell = np.floor(position).astype(np.int64)
    share = (position - cell).astype(np.float32)
    return int(cell[0]), cell - cell[0], share * share * (3 - 2 * share)
