"""Surfaces, errors and images in colours: as pictures, and as layer styles of their rasters for QGIS."""

import io
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resdepth.geo.grid import Sides
from resdepth.refinement.provenance import PROVENANCE_TITLES
from resdepth.runtime.atomic import write_text

Array = NDArray[np.float32]
Colours = NDArray[np.uint8]

SUN_AZIMUTH_DEG, SUN_ELEVATION_DEG = 315.0, 45.0
# Red and blue of ColorBrewer (Brewer 2003), as matplotlib's RdBu_r has them at eleven places.
ERROR_COLOURS = (
    "#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d",
    "#b2182b", "#67001f",
)  # fmt: skip
VOID_GREY = 128
PATCH_LIMIT_M, GAP_PX = 4.0, 4
# Grey values between these percentiles fill the range of a picture.
STRETCH_PERCENT = (0.5, 99.5)
BRIGHTENING = 0.65  # exponent: panchromatic images are dark, but for a few bright roofs

StyleKind = Literal["height", "error", "provenance"]

PROVENANCE_COLOURS = ("#808080", "#1b9e77", "#d95f02", "#7570b3")  # of the codes of provenance, from 0 on


def hillshade(height: Array, sides: Sides) -> Colours:
    """A surface in relief, lit from the north-west; void is grey.

    Args:
        height: (H, W) float32, metres, NaN = void.
        sides: of a pixel.

    Returns:
        (H, W) uint8.
    """
    void = np.isnan(height)
    flat = np.where(void, np.nanmedian(height) if not void.all() else 0, height)
    azimuth, elevation = np.radians(SUN_AZIMUTH_DEG), np.radians(SUN_ELEVATION_DEG)
    sun = [np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
    slope_row, slope_col = (
        np.gradient(flat, sides[axis], axis=axis) if flat.shape[axis] > 1 else np.zeros_like(flat)
        for axis in (0, 1)
    )
    normal = np.stack([-slope_col, slope_row, np.ones_like(flat)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    bright = np.clip(
        normal @ np.array(sun, np.float32), 0, 1
    )  # one contrast, so that surfaces can be compared
    return np.where(void, VOID_GREY, np.rint(255 * bright)).astype(np.uint8)


def error_colours(errors: Array, limit_m: float) -> Colours:
    """Errors in colours, (H, W, 3) uint8: blue below the reference DSM, red above, white none, grey void."""
    scaled = np.clip(np.nan_to_num(errors) / (2 * limit_m) + 0.5, 0, 1)
    places = np.linspace(0, 1, len(ERROR_COLOURS))
    channels = np.array([tuple(bytes.fromhex(colour[1:])) for colour in ERROR_COLOURS]).T
    colours = np.rint(np.stack([np.interp(scaled, places, one) for one in channels], axis=-1)).astype(
        np.uint8
    )
    colours[np.isnan(errors)] = VOID_GREY
    return np.asarray(colours)


def patch_picture(initial: Array, refined: Array | None, reference: Array, sides: Sides) -> Colours:
    """Five pictures of a patch side by side: initial, refined and true relief, errors before and after.

    Args:
        initial: (H, W) heights, metres, NaN = void; the others the same.
        refined: None: as void as can be.
        reference: of the same zero.
        sides: of a pixel.

    Returns:
        (H, 5 W + 4 gaps, 3) uint8. The strongest colours are 4 m below (blue) and above (red) the reference
        DSM.
    """
    if refined is None:
        refined = np.full_like(initial, np.nan)
    reliefs = [
        np.repeat(hillshade(height, sides)[..., None], 3, axis=2) for height in (initial, refined, reference)
    ]
    errors = [error_colours(height - reference, PATCH_LIMIT_M) for height in (initial, refined)]
    gap = np.full((len(initial), GAP_PX, 3), 255, np.uint8)
    parts = [part for picture in [*reliefs, *errors] for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=1)


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


def write_style(raster: Path, kind: StyleKind, limit_m: float = 4.0) -> Path:
    """Write the style of a raster.

    Args:
        raster: the GeoTIFF; the style gets its name with the suffix .qml.
        kind: height: as a hillshade; error: blue below the reference DSM, red above it, white none;
            provenance: the codes of `refine`.
        limit_m: the error of the strongest colours.
    """
    path = raster.with_suffix(".qml")
    renderer = {"height": _hillshade_style, "provenance": _provenance_style}.get(
        kind, lambda: _error_style(limit_m)
    )()
    write_text(
        path,
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22" styleCategories="Symbology">\n'
        f"  <pipe>\n{renderer}\n"
        '    <rasterresampler zoomedInResampler="bilinear" zoomedOutResampler="bilinear"'
        ' maxOversampling="2"/>\n'
        "  </pipe>\n</qgis>\n",
    )
    return path


def _hillshade_style() -> str:
    return (
        f'    <rasterrenderer type="hillshade" band="1" azimuth="{SUN_AZIMUTH_DEG:g}" '
        f'angle="{SUN_ELEVATION_DEG:g}" zfactor="1" multidirection="0" opacity="1" alphaBand="-1"/>'
    )


def _error_style(limit_m: float) -> str:
    values = [limit_m * (2 * step / (len(ERROR_COLOURS) - 1) - 1) for step in range(len(ERROR_COLOURS))]
    entries = "\n".join(
        f'          <item value="{value:.6g}" label="{value:+.2g} m" color="{colour}" alpha="255"/>'
        for value, colour in zip(values, ERROR_COLOURS, strict=True)
    )
    return (
        f'    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" '
        f'classificationMin="{-limit_m:g}" classificationMax="{limit_m:g}">\n'
        "      <rastershader>\n"
        '        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" '
        f'minimumValue="{-limit_m:g}" maximumValue="{limit_m:g}">\n{entries}\n'
        "        </colorrampshader>\n      </rastershader>\n    </rasterrenderer>"
    )


def _provenance_style() -> str:
    entries = "\n".join(
        f'        <paletteEntry value="{int(code)}" label={quoteattr(title)} color="{colour}" alpha="255"/>'
        for (code, title), colour in zip(PROVENANCE_TITLES.items(), PROVENANCE_COLOURS, strict=True)
    )
    return (
        '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">\n'
        f"      <colorPalette>\n{entries}\n      </colorPalette>\n    </rasterrenderer>"
    )
