"""Surfaces, errors and images in colours: pictures, figures for papers, layer styles of rasters for QGIS."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from resdepth.evaluation.result import OVERALL, EvaluationResult
from resdepth.geo.grid import Grid, Sides
from resdepth.refinement.provenance import PROVENANCE_TITLES
from resdepth.runtime.atomic import atomic_path, write_text, writing

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


def patch_picture(initial: Array, refined: Array | None, truth: Array, sides: Sides) -> Colours:
    """Five pictures of a patch side by side: initial, refined and true relief, errors before and after.

    Args:
        initial: (H, W) heights, metres, NaN = void; the others the same.
        refined: None: as void as can be.
        truth: of the same zero.
        sides: of a pixel.

    Returns:
        (H, 5 W + 4 gaps, 3) uint8. The strongest colours are 4 m below (blue) and above (red) the reference
        DSM.
    """
    if refined is None:
        refined = np.full_like(initial, np.nan)
    reliefs = [
        np.repeat(hillshade(height, sides)[..., None], 3, axis=2) for height in (initial, refined, truth)
    ]
    errors = [error_colours(height - truth, PATCH_LIMIT_M) for height in (initial, refined)]
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


ERROR_MAP = "RdBu_r"  # that of pictures.error_colours
DPI = 200
WIDTH_IN = 6.9  # of a page with two columns
# Okabe and Ito (2008): distinguished by colour-blind readers, too.
COLOURS = ("#999999", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SMALL = 8
SHOWN_CLASSES = 14
DISTRIBUTION, CLASSES = "distribution.png", "classes.png"


def write_plots(
    folder: Path, outcome: EvaluationResult, heights: Mapping[str, Array], grid: Grid, truth: str
) -> list[Path]:
    """Write hillshade and error map of each surface, and charts of errors.

    Args:
        folder: receives the files.
        outcome: the figures.
        heights: of all surfaces and of the reference DSM on one grid, an overview say; metres, NaN = void.
        grid: theirs.
        truth: its name among them.

    Returns:
        The files.
    """
    limit = error_limit(outcome)
    written = []
    for name, height in heights.items():
        relief, errors = plot_names(name)
        title = "reference DSM" if name == truth else name
        written.append(_saved(folder / relief, _relief(height, grid, title)))
        if name != truth:
            figure = _error_map(height - heights[truth], grid, name, limit)
            written.append(_saved(folder / errors, figure))
    written.append(_saved(folder / DISTRIBUTION, _distribution(outcome)))
    written.append(_saved(folder / CLASSES, _classes(outcome)))
    return written


def write_sky_plot(
    path: Path, directions: Mapping[str, tuple[float, float]], pairs: Sequence[tuple[str, str]]
) -> Path:
    """Where the sensors of views stood, seen from the ground: north up, the zenith in the middle.

    Args:
        path: the PNG.
        directions: azimuth and incidence of each view, degrees.
        pairs: of views, drawn as lines; the first is the best.

    Raises:
        ResDepthError: if it cannot be written.
    """
    figure = Figure(figsize=(WIDTH_IN / 2 + 0.8, WIDTH_IN / 2 + 0.8), layout="constrained")
    axes = figure.add_subplot(projection="polar")
    axes.set_theta_zero_location("N")  # type: ignore[attr-defined] # of polar axes
    axes.set_theta_direction(-1)  # type: ignore[attr-defined]
    for number, pair in reversed(list(enumerate(pairs))):
        angles, radii = zip(*(directions[name] for name in pair), strict=True)
        width = 2.0 if number == 0 else 0.6
        axes.plot(np.radians(angles), radii, color="#808080", linewidth=width, zorder=1)
    for (name, (azimuth, incidence)), colour in zip(
        directions.items(), _colours(len(directions)), strict=True
    ):
        axes.scatter([np.radians(azimuth)], [incidence], color=colour, label=name.lstrip("_"), zorder=2)
    axes.set_ylim(0, max(10.0, 1.2 * max(incidence for _, incidence in directions.values())))
    axes.tick_params(labelsize=SMALL)
    axes.set_title("Azimuth and incidence [deg]; thick: the best pair", fontsize=SMALL + 1)
    figure.legend(fontsize=SMALL, loc="outside lower center", ncols=2)
    return _saved(path, figure)


def error_limit(outcome: EvaluationResult) -> float:
    """The error of the strongest colours, metres: one for all surfaces, a round number."""
    largest = max(one.classes[OVERALL].statistics.le90 for one in outcome.surfaces.values())
    return next((limit for limit in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0) if limit >= largest), 32.0)


def plot_names(surface: str) -> tuple[str, str]:
    """The files of a surface: its hillshade and its error map."""
    return f"hillshade_{file_name(surface)}.png", f"errors_{file_name(surface)}.png"


def file_name(name: str) -> str:
    """A name of a surface as part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _saved(path: Path, figure: Figure) -> Path:
    with atomic_path(path) as temporary, writing(path):
        figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
    return path


def _extent(grid: Grid) -> tuple[float, float, float, float]:
    """In metres from the lower left corner."""
    sides = grid.sides_m
    return 0.0, grid.width * sides.width, 0.0, grid.height * sides.height


def _map(grid: Grid, title: str) -> tuple[Figure, Axes]:
    _, width_m, _, height_m = _extent(grid)
    height = WIDTH_IN / 2 * np.clip(height_m / width_m, 0.3, 3.0)
    figure = Figure(figsize=(WIDTH_IN / 2 + 0.8, float(height) + 0.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=SMALL + 1)
    axes.set_xlabel("m", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    return figure, axes


def _relief(height: Array, grid: Grid, title: str) -> Figure:
    figure, axes = _map(grid, title)
    axes.imshow(hillshade(height, grid.sides_m), cmap="gray", vmin=0, vmax=255, extent=_extent(grid))
    return figure


def _error_map(errors: Array, grid: Grid, title: str, limit_m: float) -> Figure:
    figure, axes = _map(grid, f"{title} minus reference DSM")
    colours = mpl.colormaps[ERROR_MAP].with_extremes(bad="#808080")
    shown = axes.imshow(
        errors, cmap=colours, vmin=-limit_m, vmax=limit_m, extent=_extent(grid), interpolation="none"
    )
    bar = figure.colorbar(shown, ax=axes, extend="both", shrink=0.8)
    bar.set_label("error [m]", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def _distribution(outcome: EvaluationResult) -> Figure:
    """How often errors occur, and what share of them is smaller than a size."""
    figure = Figure(figsize=(WIDTH_IN, 2.6), layout="constrained")
    often, cumulative = figure.subplots(1, 2)
    for surface, colour in zip(outcome.surfaces.values(), _colours(len(outcome.surfaces)), strict=True):
        found = surface.classes[OVERALL].histogram
        edges = np.asarray(found.edges_m)
        density = (
            np.asarray(found.counts) / max(surface.classes[OVERALL].statistics.count, 1) / np.diff(edges)
        )
        often.stairs(density, edges, color=colour, label=surface.name.lstrip("_"))
        cumulative.plot(
            found.sizes_m, 100 * np.asarray(found.shares), color=colour, label=surface.name.lstrip("_")
        )
    often.set_xlabel("error [m]", fontsize=SMALL)
    often.set_ylabel("density [1/m]", fontsize=SMALL)
    cumulative.set_xlabel("absolute error [m]", fontsize=SMALL)
    cumulative.set_ylabel("pixels below [%]", fontsize=SMALL)
    cumulative.set_ylim(0, 100)
    cumulative.legend(fontsize=SMALL, frameon=False, loc="lower right")
    _plain(often, cumulative)
    return figure


def _classes(outcome: EvaluationResult) -> Figure:
    """The mean absolute error of each class, with its interval."""
    filled = [
        name
        for name in outcome.titles
        if any(one.classes[name].statistics.count for one in outcome.surfaces.values())
    ][:SHOWN_CLASSES]
    count = len(outcome.surfaces)
    figure = Figure(figsize=(WIDTH_IN, 0.9 + len(filled) * (0.12 + 0.14 * count)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(filled), dtype=float)
    for index, (surface, colour) in enumerate(zip(outcome.surfaces.values(), _colours(count), strict=True)):
        results = [surface.classes[name] for name in filled]
        values = [one.statistics.mae for one in results]
        limits = [
            one.intervals.get("mae", (value, value)) for one, value in zip(results, values, strict=True)
        ]
        reach = [
            [max(value - low, 0) for value, (low, _) in zip(values, limits, strict=True)],
            [max(high - value, 0) for value, (_, high) in zip(values, limits, strict=True)],
        ]
        axes.barh(
            places + 0.8 * (index + 0.5) / count - 0.4, values, 0.8 / count, xerr=reach, color=colour,
            label=surface.name.lstrip("_"), error_kw={"elinewidth": 0.8, "ecolor": "black"},
        )  # fmt: skip
    axes.set_yticks(places, [outcome.titles[name] for name in filled])
    axes.invert_yaxis()
    axes.set_xlabel("mean absolute error [m], with 95 % intervals", fontsize=SMALL)
    axes.legend(fontsize=SMALL, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    _plain(axes)
    return figure


def _colours(count: int) -> Sequence[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _plain(*several: Axes) -> None:
    for axes in several:
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
