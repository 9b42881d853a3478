"""Judging surfaces into a folder: figures, rasters of errors, a page to look at, pictures for papers."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from resdepth.atomic import write_json, write_text
from resdepth.errors import ResDepthError
from resdepth.evaluation import evaluation_of
from resdepth.judge.judgement import Judgement
from resdepth.judge.judging import Case
from resdepth.judge.surfaces import OnGrid, coarser_grid
from resdepth.report.judged import csv_text, markdown_report
from resdepth.report.styles import Kind, write_style
from resdepth.report.text import format_statistics
from resdepth.windows import bounding
from resdepth.workflows.judging import INITIAL, Wish, judge_files

logger = logging.getLogger(__name__)

JSON, CSV, MARKDOWN, PAGE, FIGURES = (
    "evaluation.json", "evaluation.csv", "evaluation.md", "evaluation.html", "figures",
)  # fmt: skip
PAGE_MODULES = ("jinja2", "plotly")
PLOT_PX = 1400


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation left in its folder."""

    folder: Path
    judgement: Judgement

    @property
    def page(self) -> Path:
        """The page to look at."""
        return self.folder / PAGE


def evaluate_into(
    folder: Path, wish: Wish, *, title: str = "", error_rasters: bool = True, overwrite: bool = False
) -> Evaluated:
    """Judge surfaces, and write all that there is to know into a folder.

    Args:
        folder: made if it is not there.
        wish: what is judged.
        title: of the page; by default it names the surfaces.
        error_rasters: also write surface minus truth as GeoTIFFs.
        overwrite: replace an earlier evaluation in the folder.

    Raises:
        ResDepthError: see `judge_files`; or the folder holds an evaluation already, or cannot be written.
    """
    if (folder / JSON).exists() and not overwrite:
        raise ResDepthError(
            f"{folder}: holds an evaluation already; add --overwrite, or choose another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResDepthError(f"{folder}: cannot be made ({error})") from error
    (folder / JSON).unlink(missing_ok=True)  # written last: where it is, the evaluation is complete
    from resdepth.report.plots import error_limit, file_name

    names = [*([] if wish.initial is None else [INITIAL]), *wish.surfaces]
    rasters = {name: folder / f"errors_{file_name(name)}.tif" for name in names} if error_rasters else {}
    case, judgement = judge_files(wish, rasters)
    for path in rasters.values():
        write_style(path, "error", limit_m=error_limit(judgement))
    for name in wish.surfaces:
        text = format_statistics(evaluation_of(judgement, name), name, judgement.surfaces[name].source)
        write_text(folder / f"statistics_{file_name(name)}.txt", text)
    write_text(folder / CSV, csv_text(judgement))
    write_text(folder / MARKDOWN, markdown_report(judgement))
    write_judged_page(folder / PAGE, wish, case, judgement, title=title or _title(wish))
    _write_figures(folder / FIGURES, wish, case, judgement)
    write_json(folder / JSON, judgement.as_json())
    return Evaluated(folder, judgement)


def report_possible() -> bool:
    """Whether the packages are there that a page needs; if not, say so."""
    missing = [module for module in PAGE_MODULES if find_spec(module) is None]
    if missing:
        logger.warning("no page: %s is not installed; pip install 'resdepth[report]'", ", ".join(missing))
    return not missing


def write_judged_page(
    path: Path,
    wish: Wish,
    case: Case,
    judgement: Judgement,
    *,
    title: str,
    images: Mapping[str, Path] | None = None,
) -> None:
    """Write a page about judged surfaces."""
    from resdepth.report.judged_page import judged_content
    from resdepth.report.page import write_page

    content = judged_content(case, judgement, title=title, truth=wish.truth, masks=wish.masks, images=images)
    write_page(path, content)


def add_styles(kinds: Mapping[Path, Kind]) -> None:
    """Give rasters their colours for QGIS, unless somebody did so before."""
    for raster, kind in kinds.items():
        if not raster.with_suffix(".qml").exists():
            write_style(raster, kind)


def _title(wish: Wish) -> str:
    names = list(wish.surfaces)
    told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{told} against {wish.truth.name}"


def _write_figures(folder: Path, wish: Wish, case: Case, judgement: Judgement) -> None:
    from resdepth.report.judged_page import TRUTH
    from resdepth.report.plots import write_plots

    folder.mkdir(exist_ok=True)
    grid = case.truth.grid.crop(bounding(case.regions))
    shown = coarser_grid(grid, max(1.0, max(grid.height, grid.width) / PLOT_PX))
    bands = {one.name: one.band for one in case.surfaces} | {TRUTH: OnGrid([wish.truth], grid)}
    heights = {name: band.on(shown) for name, band in bands.items() if isinstance(band, OnGrid)}
    write_plots(folder, judgement, heights, shown, TRUTH)
