"""Surfaces, errors and images as pictures: arrays in, PNG bytes out."""

import io

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LightSource
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Colours = NDArray[np.uint8]

SUN_AZIMUTH_DEG, SUN_ELEVATION_DEG = 315.0, 45.0
ERROR_MAP = "RdBu_r"
VOID_GREY = 128
# Grey values between these percentiles fill the range of a picture.
STRETCH_PERCENT = (0.5, 99.5)
BRIGHTENING = 0.65  # exponent: panchromatic images are dark, but for a few bright roofs


def hillshade(height: Array, gsd_m: float) -> Colours:
    """A surface in relief, lit from the north-west; void is grey.

    Args:
        height: (H, W) float32, metres, NaN = void.
        gsd_m: size of a pixel.

    Returns:
        (H, W) uint8.
    """
    void = np.isnan(height)
    flat = np.where(void, np.nanmedian(height) if not void.all() else 0, height)
    sun = LightSource(SUN_AZIMUTH_DEG, SUN_ELEVATION_DEG)
    # matplotlib stretches each picture to its own contrast; a fixed one lets surfaces be compared.
    slope_row, slope_col = np.gradient(flat, gsd_m)
    normal = np.stack([-slope_col, slope_row, np.ones_like(flat)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    bright = np.clip(normal @ sun.direction, 0, 1)
    return np.where(void, VOID_GREY, np.rint(255 * bright)).astype(np.uint8)


def error_colours(errors: Array, limit_m: float) -> Colours:
    """Errors in colours: blue below the truth, red above it, white none, grey void; (H, W, 3) uint8."""
    scaled = np.clip(np.nan_to_num(errors) / (2 * limit_m) + 0.5, 0, 1)
    colours = np.rint(255 * mpl.colormaps[ERROR_MAP](scaled)[..., :3]).astype(np.uint8)
    colours[np.isnan(errors)] = VOID_GREY
    return np.asarray(colours)


def grey(image: Array) -> Colours:
    """An image, stretched to the range of a picture, of which its darker half takes more than half.

    Args:
        image: (H, W) grey values, NaN = void.

    Returns:
        (H, W) uint8.
    """
    low, high = np.nanpercentile(image, STRETCH_PERCENT) if not np.isnan(image).all() else (0.0, 1.0)
    share = np.clip((np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-6), 0, 1)
    return np.rint(255 * share**BRIGHTENING).astype(np.uint8)


def black_where(inside: Array) -> Colours:
    """A mask in black (1) and white; (H, W) uint8."""
    return np.where(inside == 1, 0, 255).astype(np.uint8)


def png(colours: Colours) -> bytes:
    """The bytes of a PNG file of (H, W) grey or (H, W, 3) colours."""
    buffer = io.BytesIO()
    picture = Image.fromarray(colours)
    if colours.ndim == 3:  # 256 colours show an error map as well as all of them, in a third of the bytes
        picture = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
