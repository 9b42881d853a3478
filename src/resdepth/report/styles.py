"""Layer styles for QGIS (.qml), which lie beside a raster and give it sensible colours when it is opened."""

from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

from resdepth.refinement.provenance import PROVENANCE_TITLES
from resdepth.report.pictures import ERROR_COLOURS, SUN_AZIMUTH_DEG, SUN_ELEVATION_DEG
from resdepth.runtime.atomic import write_text

Kind = Literal["height", "error", "provenance"]

COLOURS = ("#808080", "#1b9e77", "#d95f02", "#7570b3")  # of the codes of provenance, from 0 on


def write_style(raster: Path, kind: Kind, limit_m: float = 4.0) -> Path:
    """Write the style of a raster.

    Args:
        raster: the GeoTIFF; the style gets its name with the suffix .qml.
        kind: height: as a hillshade; error: blue below the truth, red above it, white none; provenance: the
            codes of `refine`.
        limit_m: the error of the strongest colours.
    """
    path = raster.with_suffix(".qml")
    renderer = {"height": _hillshade, "provenance": _codes}.get(kind, lambda: _errors(limit_m))()
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


def _hillshade() -> str:
    return (
        f'    <rasterrenderer type="hillshade" band="1" azimuth="{SUN_AZIMUTH_DEG:g}" '
        f'angle="{SUN_ELEVATION_DEG:g}" zfactor="1" multidirection="0" opacity="1" alphaBand="-1"/>'
    )


def _errors(limit_m: float) -> str:
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


def _codes() -> str:
    entries = "\n".join(
        f'        <paletteEntry value="{int(code)}" label={quoteattr(title)} color="{colour}" alpha="255"/>'
        for (code, title), colour in zip(PROVENANCE_TITLES.items(), COLOURS, strict=True)
    )
    return (
        '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">\n'
        f"      <colorPalette>\n{entries}\n      </colorPalette>\n    </rasterrenderer>"
    )
