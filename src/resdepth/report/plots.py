"""Figures for papers: PNG files of an evaluation and of the surfaces that it evaluates."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from resdepth.evaluation.result import OVERALL, EvaluationResult
from resdepth.geo.grid import Grid
from resdepth.report.pictures import hillshade
from resdepth.runtime.atomic import atomic_path, writing

Array = NDArray[np.float32]

ERROR_MAP = "RdBu_r"  # that of pictures.error_colours
DPI = 200
WIDTH_IN = 6.9  # of a page with two columns
# Okabe and Ito (2008): distinguished by colour-blind readers, too.
COLOURS = ("#999999", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SMALL = 8
SHOWN_CLASSES = 14
DISTRIBUTION, CLASSES = "distribution.png", "classes.png"


def write_plots(
    folder: Path, outcome: EvaluationResult, heights: Mapping[str, Array], grid: Grid, reference: str
) -> list[Path]:
    """Write hillshade and error map of each surface, and charts of errors.

    Args:
        folder: receives the files.
        outcome: the figures.
        heights: of all surfaces and of the reference DSM on one grid, an overview say; metres, NaN = void.
        grid: theirs.
        reference: its name among them.

    Returns:
        The files.
    """
    limit = error_limit(outcome)
    written = []
    for name, height in heights.items():
        relief, errors = plot_names(name)
        title = "reference DSM" if name == reference else name
        written.append(_saved(folder / relief, _relief(height, grid, title)))
        if name != reference:
            figure = _error_map(height - heights[reference], grid, name, limit)
            written.append(_saved(folder / errors, figure))
    written.append(_saved(folder / DISTRIBUTION, _distribution(outcome)))
    written.append(_saved(folder / CLASSES, _classes(outcome)))
    return written


def show_refined(initial: Array, refined: Array, grid: Grid) -> Figure:
    """Hillshades of a DSM before and after refinement, and what has changed, side by side.

    Args:
        initial: (H, W) float32, metres, NaN = void.
        refined: the same afterwards.
        grid: of both.
    """
    change = refined - initial
    known = np.abs(change[np.isfinite(change)])
    limit = round_limit(float(np.quantile(known, 0.98)) if known.size else 0.0)
    figure = _on_screen(
        1.5 * WIDTH_IN, 0.5 * WIDTH_IN * float(np.clip(grid.height / grid.width, 0.4, 2.0)) + 0.8
    )
    before, after, changed = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes, heights, title in ((before, initial, "initial DSM"), (after, refined, "refined DSM")):
        _draw_relief(axes, heights, grid)
        axes.set_title(title, fontsize=SMALL + 1)
    _draw_errors(figure, changed, change, grid, limit, "refined minus initial [m]")
    changed.set_title("change", fontsize=SMALL + 1)
    return figure


def show_evaluated(outcome: EvaluationResult) -> Figure:
    """The distribution of errors, and the mean absolute error by class, as one figure."""
    figure = _on_screen(1.5 * WIDTH_IN, 3.2)
    often, cumulative, classes = figure.subplots(1, 3)
    _draw_distribution(often, cumulative, outcome)
    _draw_classes(classes, outcome)
    return figure


def _on_screen(width: float, height: float) -> Figure:
    """A figure that notebooks and `pyplot.show()` show."""
    from matplotlib import pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")


def write_sky_plot(
    path: Path,
    directions: Mapping[str, tuple[float, float]],
    pairs: Sequence[tuple[str, str]],
    suns: Mapping[str, tuple[float, float]] | None = None,
) -> Path:
    """Where the sensors of views, and the sun, stood, from the ground: north up, the zenith in the middle.

    Args:
        path: the PNG.
        directions: azimuth and incidence of each view, degrees.
        pairs: of views, drawn as lines; the first is the best.
        suns: azimuth and elevation of the sun, degrees, for those views of which it is known: stars of their
            colours, at the rim where the sun stands lower than the plot reaches.

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
    reach = max(10.0, 1.2 * max(incidence for _, incidence in directions.values()))
    axes.set_ylim(0, reach)
    shown = {name: sun for name, sun in (suns or {}).items() if name in directions}
    for name, (azimuth, elevation) in shown.items():
        colour = _colours(len(directions))[list(directions).index(name)]
        axes.scatter([np.radians(azimuth)], [min(90 - elevation, reach)], color=colour, marker="*", s=90,
                     edgecolors="black", linewidths=0.4, clip_on=False, zorder=3)  # fmt: skip
    axes.tick_params(labelsize=SMALL)
    stars = "; stars: the sun" if shown else ""
    axes.set_title(f"Azimuth and incidence [deg]; thick: the best pair{stars}", fontsize=SMALL + 1)
    figure.legend(fontsize=SMALL, loc="outside lower center", ncols=2)
    return _saved(path, figure)


def error_limit(outcome: EvaluationResult) -> float:
    """The error of the strongest colours, metres: one for all surfaces, a round number."""
    return round_limit(max(one.classes[OVERALL].statistics.le90 for one in outcome.surfaces.values()))


def round_limit(largest: float) -> float:
    """A round number of metres, no smaller than the largest, if that is below 16."""
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
    _draw_relief(axes, height, grid)
    return figure


def _draw_relief(axes: Axes, height: Array, grid: Grid) -> None:
    axes.imshow(hillshade(height, grid.sides_m), cmap="gray", vmin=0, vmax=255, extent=_extent(grid))
    axes.tick_params(labelsize=SMALL)


def _error_map(errors: Array, grid: Grid, title: str, limit_m: float) -> Figure:
    figure, axes = _map(grid, f"{title} minus reference DSM")
    _draw_errors(figure, axes, errors, grid, limit_m, "error [m]")
    return figure


def _draw_errors(figure: Figure, axes: Axes, errors: Array, grid: Grid, limit_m: float, label: str) -> None:
    colours = mpl.colormaps[ERROR_MAP].with_extremes(bad="#808080")
    shown = axes.imshow(
        errors, cmap=colours, vmin=-limit_m, vmax=limit_m, extent=_extent(grid), interpolation="none"
    )
    bar = figure.colorbar(shown, ax=axes, extend="both", shrink=0.8)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    axes.tick_params(labelsize=SMALL)


def _distribution(outcome: EvaluationResult) -> Figure:
    """How often errors occur, and what share of them is smaller than a size."""
    figure = Figure(figsize=(WIDTH_IN, 2.6), layout="constrained")
    often, cumulative = figure.subplots(1, 2)
    _draw_distribution(often, cumulative, outcome)
    return figure


def _draw_distribution(often: Axes, cumulative: Axes, outcome: EvaluationResult) -> None:
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


def _classes(outcome: EvaluationResult) -> Figure:
    """The mean absolute error of each class, with its interval."""
    rows, count = len(_filled(outcome)), len(outcome.surfaces)
    figure = Figure(figsize=(WIDTH_IN, 0.9 + rows * (0.12 + 0.14 * count)), layout="constrained")
    _draw_classes(figure.add_subplot(), outcome)
    return figure


def _filled(outcome: EvaluationResult) -> list[str]:
    """The classes that have pixels; the first ones."""
    return [
        name
        for name in outcome.titles
        if any(one.classes[name].statistics.count for one in outcome.surfaces.values())
    ][:SHOWN_CLASSES]


def _draw_classes(axes: Axes, outcome: EvaluationResult) -> None:
    filled, count = _filled(outcome), len(outcome.surfaces)
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


def _colours(count: int) -> Sequence[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _plain(*several: Axes) -> None:
    for axes in several:
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
