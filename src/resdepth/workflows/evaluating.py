"""Evaluating surfaces into a folder: figures, rasters of errors, a page to look at, pictures for papers."""

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
from resdepth.evaluation.request import INITIAL, Request
from resdepth.evaluation.result import TRUTH, EvaluationResult
from resdepth.evaluation.stored import read_result
from resdepth.geo.geotiff import ownerless_sidecars, remove_sidecars
from resdepth.geo.overwriting import refuse_existing, refuse_inputs_as_outputs
from resdepth.report.pictures import StyleKind, write_style
from resdepth.report.tables import csv_text, format_statistics, markdown_report
from resdepth.runtime.atomic import temporary_folder, write_json, write_text
from resdepth.runtime.placing import placing
from resdepth.workflows.aligning import write_aligned
from resdepth.workflows.evaluate import evaluate_files

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
    outcome: EvaluationResult

    @property
    def page(self) -> Path:
        """The page to look at."""
        return self.folder / PAGE


def evaluate_into(
    folder: Path,
    request: Request,
    *,
    title: str = "",
    error_rasters: bool = True,
    aligned_rasters: bool = False,
    overwrite: bool = False,
) -> Evaluated:
    """Evaluate surfaces, and write all that there is to know into a folder.

    Args:
        folder: made if it is not there.
        request: what is evaluated.
        title: of the page; by default it names the surfaces.
        error_rasters: also write surface minus truth as GeoTIFFs.
        aligned_rasters: also write the surfaces that were moved, on the grid of the reference DSM.
        overwrite: replace an earlier evaluation in the folder, and files that are called like those of this
            one; any others stay.

    Raises:
        ResDepthError: see `evaluate_files`; or the folder holds an evaluation already, or files with
            the names of one, or cannot be written.
    """
    from resdepth.report.plots import file_name

    names = [*([] if request.initial is None else [INITIAL]), *request.surfaces]
    _demand_file_names(names)
    if aligned_rasters and not request.align:
        raise ResDepthError("aligned_rasters: only aligned surfaces are moved; add align (--align)")
    rasters = {name: f"{ERRORS}{file_name(name)}.tif" for name in names} if error_rasters else {}
    aligned = {name: f"{ALIGNED}{file_name(name)}.tif" for name in names} if aligned_rasters else {}
    files = [*_raster_files(rasters, ERRORS), *_raster_files(aligned, ALIGNED)]
    files += _text_and_plot_files(request.surfaces, names)
    with placing(folder) as place:
        earlier, own = _earlier(folder), _own_files(files)
        refuse_inputs_as_outputs(request.files, [folder / name for name in (*own, *earlier, *place.left)])
        taken = [folder / name for name in own if name not in place.left]
        taken += [
            beside for name in files if name.endswith(".tif") for beside in ownerless_sidecars(folder / name)
        ]
        refuse_existing(taken, overwrite=overwrite)
        with temporary_folder(folder, "evaluation") as made:
            outcome = _evaluated_into(made, request, title, rasters, aligned)
            for raster in made.glob("*.tif"):
                remove_sidecars(folder / raster.name)
            place.exchange(made, earlier, mark=JSON)
    return Evaluated(folder, outcome)


def _evaluated_into(
    folder: Path, request: Request, title: str, rasters: Mapping[str, str], aligned: Mapping[str, str]
) -> EvaluationResult:
    """Evaluate, and write all files into an empty folder.

    Args:
        folder: of the evaluation.
        request: what is evaluated.
        title: of the page; "": it names the surfaces.
        rasters: of errors: their names in the folder by those of the surfaces.
        aligned: likewise of aligned surfaces; those that are not moved have none.
    """
    from resdepth.report.page import write_page
    from resdepth.report.page_contents import quick_looks
    from resdepth.report.plots import error_limit, file_name

    case, outcome = evaluate_files(request, {surface: folder / name for surface, name in rasters.items()})
    moved = write_aligned(case, {surface: folder / name for surface, name in aligned.items()})
    for raster in rasters.values():
        write_style(folder / raster, "error", limit_m=error_limit(outcome))
    for surface in moved:
        write_style(folder / aligned[surface], "height")
    for name in request.surfaces:
        text = format_statistics(evaluation_of(outcome, name), name, outcome.surfaces[name].source)
        write_text(folder / f"statistics_{file_name(name)}.txt", text)
    write_text(folder / CSV, csv_text(outcome))
    write_text(folder / MARKDOWN, markdown_report(outcome))
    with quick_looks(_content(request, case, outcome, title or _title(request), {})) as content:
        write_page(folder / PAGE, content)
        _write_figures(folder / FIGURES, content, outcome)
    write_json(folder / JSON, outcome.as_json())
    return outcome


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
        earlier = read_result(folder / JSON)
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


def write_evaluation_page(
    path: Path,
    request: Request,
    case: Case,
    outcome: EvaluationResult,
    *,
    title: str,
    images: Mapping[str, Path],
) -> None:
    """Write a page about evaluated surfaces."""
    from resdepth.report.page import write_page
    from resdepth.report.page_contents import quick_looks

    with quick_looks(_content(request, case, outcome, title, images)) as content:
        write_page(path, content)


def _content(
    request: Request, case: Case, outcome: EvaluationResult, title: str, images: Mapping[str, Path]
) -> "PageContent":
    from resdepth.report.page_contents import evaluation_content

    return evaluation_content(
        case, outcome, title=title, truth=request.truth, masks=request.masks, images=images
    )


def add_styles(kinds: Mapping[Path, StyleKind]) -> None:
    """Give rasters their colours for QGIS, unless somebody did so before."""
    for raster, kind in kinds.items():
        if not os.path.lexists(raster.with_suffix(".qml")):
            write_style(raster, kind)


def _title(request: Request) -> str:
    names = list(request.surfaces)
    stated = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{stated} against {request.truth.name}"


def _write_figures(folder: Path, content: "PageContent", outcome: EvaluationResult) -> None:
    from resdepth.report.plots import write_plots

    folder.mkdir(exist_ok=True)
    assert content.grid is not None, "surfaces were evaluated"
    shown = content.grid.coarser(PLOT_PX)
    heights = {name: read(shown) for name, read in content.surfaces.items()}
    write_plots(folder, outcome, heights, shown, TRUTH)
