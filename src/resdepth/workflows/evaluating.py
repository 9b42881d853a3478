"""Judging surfaces into a folder: figures, rasters of errors, a page to look at, pictures for papers."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resdepth.errors import ResDepthError
from resdepth.evaluation.evaluate import Case
from resdepth.evaluation.evaluation import evaluation_of
from resdepth.evaluation.request import INITIAL, Wish
from resdepth.evaluation.result import TRUTH, Judgement
from resdepth.evaluation.stored import read_judgement
from resdepth.geo.geotiff import ownerless_sidecars, remove_sidecars
from resdepth.geo.overwriting import refuse_existing, refuse_inputs_as_outputs
from resdepth.report.judged import csv_text, markdown_report
from resdepth.report.styles import Kind, write_style
from resdepth.report.text import format_statistics
from resdepth.runtime.atomic import temporary_folder, write_json, write_text
from resdepth.runtime.placing import placing
from resdepth.workflows.aligning import write_aligned
from resdepth.workflows.evaluate import judge_files

if TYPE_CHECKING:  # pages and plots need packages that an installation may lack
    from resdepth.report.page import PageContent

logger = logging.getLogger(__name__)

JSON, CSV, MARKDOWN, PAGE, FIGURES = (
    "evaluation.json", "evaluation.csv", "evaluation.md", "evaluation.html", "figures",
)  # fmt: skip
ERRORS, ALIGNED = "errors_", "aligned_"
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
    folder: Path,
    wish: Wish,
    *,
    title: str = "",
    error_rasters: bool = True,
    aligned_rasters: bool = False,
    overwrite: bool = False,
) -> Evaluated:
    """Judge surfaces, and write all that there is to know into a folder.

    Args:
        folder: made if it is not there.
        wish: what is judged.
        title: of the page; by default it names the surfaces.
        error_rasters: also write surface minus truth as GeoTIFFs.
        aligned_rasters: also write the surfaces that were moved, on the grid of the reference DSM.
        overwrite: replace an earlier evaluation in the folder, and files that are called like those of this
            one; any others stay.

    Raises:
        ResDepthError: see `judge_files`; or the folder holds an evaluation already, or files with the names
            of one, or cannot be written.
    """
    from resdepth.report.plots import file_name

    names = [*([] if wish.initial is None else [INITIAL]), *wish.surfaces]
    _demand_file_names(names)
    if aligned_rasters and not wish.align:
        raise ResDepthError("aligned_rasters: only aligned surfaces are moved; add align (--align)")
    rasters = {name: f"{ERRORS}{file_name(name)}.tif" for name in names} if error_rasters else {}
    aligned = {name: f"{ALIGNED}{file_name(name)}.tif" for name in names} if aligned_rasters else {}
    files = [*_raster_files(rasters, ERRORS), *_raster_files(aligned, ALIGNED)]
    files += _text_and_plot_files(wish.surfaces, names)
    with placing(folder) as place:
        earlier, own = _earlier(folder), _own_files(files)
        refuse_inputs_as_outputs(wish.files, [folder / name for name in (*own, *earlier, *place.left)])
        taken = [folder / name for name in own if name not in place.left]
        taken += [
            beside for name in files if name.endswith(".tif") for beside in ownerless_sidecars(folder / name)
        ]
        refuse_existing(taken, overwrite=overwrite)
        with temporary_folder(folder, "evaluation") as made:
            judgement = _evaluated_into(made, wish, title, rasters, aligned)
            for raster in made.glob("*.tif"):
                remove_sidecars(folder / raster.name)
            place.exchange(made, earlier, mark=JSON)
    return Evaluated(folder, judgement)


def _evaluated_into(
    folder: Path, wish: Wish, title: str, rasters: Mapping[str, str], aligned: Mapping[str, str]
) -> Judgement:
    """Evaluate, and write all files into an empty folder.

    Args:
        folder: of the evaluation.
        wish: what is evaluated.
        title: of the page; "": it names the surfaces.
        rasters: of errors: their names in the folder by those of the surfaces.
        aligned: likewise of aligned surfaces; those that are not moved have none.
    """
    from resdepth.report.page import write_page
    from resdepth.report.plots import error_limit, file_name
    from resdepth.report.quicklook import quick_looks

    case, judgement = judge_files(wish, {surface: folder / name for surface, name in rasters.items()})
    moved = write_aligned(case, {surface: folder / name for surface, name in aligned.items()})
    for raster in rasters.values():
        write_style(folder / raster, "error", limit_m=error_limit(judgement))
    for surface in moved:
        write_style(folder / aligned[surface], "height")
    for name in wish.surfaces:
        text = format_statistics(evaluation_of(judgement, name), name, judgement.surfaces[name].source)
        write_text(folder / f"statistics_{file_name(name)}.txt", text)
    write_text(folder / CSV, csv_text(judgement))
    write_text(folder / MARKDOWN, markdown_report(judgement))
    with quick_looks(_content(wish, case, judgement, title or _title(wish), {})) as content:
        write_page(folder / PAGE, content)
        _write_figures(folder / FIGURES, content, judgement)
    write_json(folder / JSON, judgement.as_json())
    return judgement


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


def _own_files(files: Iterable[str]) -> list[str]:
    """All that an evaluation writes into its folder, given the files of its surfaces."""
    from resdepth.report.plots import CLASSES, DISTRIBUTION, plot_names

    plots = [f"{FIGURES}/{name}" for name in (DISTRIBUTION, CLASSES, plot_names(TRUTH)[0])]
    return [JSON, CSV, MARKDOWN, PAGE, *files, *plots]


def _earlier(folder: Path) -> list[str]:
    """The files of the surfaces of an earlier evaluation in its folder."""
    try:
        earlier = read_judgement(folder / JSON)
    except ResDepthError:  # there is none, or it is of another version: nobody knows which files are its
        return []
    names = list(earlier.surfaces)
    texts = [name for name in names if name != earlier.initial]
    rasters = [*_raster_files(names, ERRORS), *_raster_files(names, ALIGNED)]
    return [*rasters, *_text_and_plot_files(texts, names)]


def _raster_files(surfaces: Iterable[str], kind: str) -> list[str]:
    """The rasters of one kind, and their styles; within the folder of the evaluation."""
    from resdepth.report.plots import file_name

    return [f"{kind}{file_name(name)}{suffix}" for name in surfaces for suffix in (".tif", ".qml")]


def _text_and_plot_files(refined: Iterable[str], surfaces: Iterable[str]) -> list[str]:
    """The statistics of refined surfaces, and the plots of all; within the folder of the evaluation."""
    from resdepth.report.plots import file_name, plot_names

    plots = [f"{FIGURES}/{plot}" for name in surfaces for plot in plot_names(name)]
    return [*(f"statistics_{file_name(name)}.txt" for name in refined), *plots]


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
        if not os.path.lexists(raster.with_suffix(".qml")):
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
