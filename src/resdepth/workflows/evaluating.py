"""Judging surfaces into a folder: figures, rasters of errors, a page to look at, pictures for papers."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resdepth.atomic import write_json, write_text
from resdepth.errors import ResDepthError
from resdepth.evaluation import evaluation_of
from resdepth.judge.judgement import TRUTH, Judgement
from resdepth.judge.judging import Case
from resdepth.report.judged import csv_text, markdown_report
from resdepth.report.styles import Kind, write_style
from resdepth.report.text import format_statistics
from resdepth.workflows.judging import judge_files
from resdepth.workflows.wishes import INITIAL, Wish

if TYPE_CHECKING:  # pages and plots need packages that an installation may lack
    from resdepth.report.page import PageContent

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
    from resdepth.report.page import write_page
    from resdepth.report.plots import error_limit, file_name
    from resdepth.report.quicklook import quick_looks

    if (folder / JSON).exists() and not overwrite:
        raise ResDepthError(
            f"{folder}: holds an evaluation already; add --overwrite, or choose another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResDepthError(f"{folder}: cannot be made ({error})") from error
    names = [*([] if wish.initial is None else [INITIAL]), *wish.surfaces]
    _demand_file_names(names)
    rasters = {name: folder / f"errors_{file_name(name)}.tif" for name in names} if error_rasters else {}
    case, judgement = judge_files(wish, rasters)
    _remove_earlier(folder, keep=rasters.values())
    for path in rasters.values():
        write_style(path, "error", limit_m=error_limit(judgement))
    for name in wish.surfaces:
        text = format_statistics(evaluation_of(judgement, name), name, judgement.surfaces[name].source)
        write_text(folder / f"statistics_{file_name(name)}.txt", text)
    write_text(folder / CSV, csv_text(judgement))
    write_text(folder / MARKDOWN, markdown_report(judgement))
    with quick_looks(_content(wish, case, judgement, title or _title(wish), {})) as content:
        write_page(folder / PAGE, content)
        _write_figures(folder / FIGURES, content, judgement)
    write_json(folder / JSON, judgement.as_json())  # last: where it is, the evaluation is complete
    return Evaluated(folder, judgement)


def _demand_file_names(names: Sequence[str]) -> None:
    from resdepth.report.plots import file_name

    by_file: dict[str, str] = {}
    for name in names:
        other = by_file.setdefault(file_name(name).casefold(), name)
        if other != name:
            raise ResDepthError(
                f"the surfaces {other!r} and {name!r} would write files of one name; "
                "give other names: NAME=FILE"
            )


def _remove_earlier(folder: Path, keep: Collection[Path]) -> None:
    """Remove what an earlier evaluation left, by the names that only evaluations give."""
    (folder / JSON).unlink(missing_ok=True)
    for pattern in ("errors_*.tif", "errors_*.qml", "statistics_*.txt", f"{FIGURES}/*.png"):
        for path in folder.glob(pattern):
            if path not in keep:
                path.unlink()


def report_possible() -> bool:
    """Whether the packages are there that a page needs; if not, say so."""
    missing = [module for module in PAGE_MODULES if find_spec(module) is None]
    if missing:
        logger.warning("no page: %s is not installed; pip install 'resdepth[report]'", ", ".join(missing))
    return not missing


def write_judged_page(
    path: Path, wish: Wish, case: Case, judgement: Judgement, *, title: str, images: Mapping[str, Path]
) -> None:
    """Write a page about judged surfaces."""
    from resdepth.report.page import write_page
    from resdepth.report.quicklook import quick_looks

    with quick_looks(_content(wish, case, judgement, title, images)) as content:
        write_page(path, content)


def _content(
    wish: Wish, case: Case, judgement: Judgement, title: str, images: Mapping[str, Path]
) -> "PageContent":
    from resdepth.report.judged_page import judged_content

    return judged_content(case, judgement, title=title, truth=wish.truth, masks=wish.masks, images=images)


def add_styles(kinds: Mapping[Path, Kind]) -> None:
    """Give rasters their colours for QGIS, unless somebody did so before."""
    for raster, kind in kinds.items():
        if not raster.with_suffix(".qml").exists():
            write_style(raster, kind)


def _title(wish: Wish) -> str:
    names = list(wish.surfaces)
    told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{told} against {wish.truth.name}"


def _write_figures(folder: Path, content: "PageContent", judgement: Judgement) -> None:
    from resdepth.report.plots import write_plots

    folder.mkdir(exist_ok=True)
    assert content.grid is not None, "surfaces were judged"
    shown = content.grid.coarser(PLOT_PX)
    heights = {name: read(shown) for name, read in content.surfaces.items()}
    write_plots(folder, judgement, heights, shown, TRUTH)
