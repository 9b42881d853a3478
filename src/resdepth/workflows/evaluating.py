"""Judging surfaces into a folder: figures, rasters of errors, a page to look at, pictures for papers."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from resdepth.atomic import write_json, write_text
from resdepth.errors import ResDepthError
from resdepth.evaluation import evaluation_of
from resdepth.geotiff import remove_sidecars
from resdepth.judge.judgement import TRUTH, Judgement
from resdepth.judge.judging import Case
from resdepth.judge.stored import read_judgement
from resdepth.overwriting import refuse_inputs_as_outputs
from resdepth.report.judged import csv_text, markdown_report
from resdepth.report.styles import Kind, write_style
from resdepth.report.text import format_statistics
from resdepth.workflows.aligning import write_aligned
from resdepth.workflows.judging import judge_files
from resdepth.workflows.wishes import INITIAL, Wish

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
    from resdepth.report.page import write_page
    from resdepth.report.plots import error_limit, file_name
    from resdepth.report.quicklook import quick_looks

    names = [*([] if wish.initial is None else [INITIAL]), *wish.surfaces]
    _demand_file_names(names)
    if aligned_rasters and not wish.align:
        raise ResDepthError("aligned_rasters: only aligned surfaces are moved; add align (--align)")
    rasters = {name: f"{ERRORS}{file_name(name)}.tif" for name in names} if error_rasters else {}
    aligned = {name: f"{ALIGNED}{file_name(name)}.tif" for name in names} if aligned_rasters else {}
    files = [*_raster_files(rasters, ERRORS), *_raster_files(aligned, ALIGNED)]
    files += _text_and_plot_files(wish.surfaces, names)
    if not overwrite:
        _demand_free(folder, files)
    refuse_inputs_as_outputs(wish.files, [folder / name for name in (*_own_files(files), *_earlier(folder))])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResDepthError(f"{folder}: cannot be made ({error})") from error
    case, judgement = _judged_into(folder, wish, rasters, aligned)
    for raster in rasters.values():
        write_style(folder / raster, "error", limit_m=error_limit(judgement))
    for raster in aligned.values():
        if (folder / raster).exists():
            write_style(folder / raster, "height")
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


def _demand_free(folder: Path, files: Iterable[str]) -> None:
    """Refuse a folder with an evaluation, or with files that one would replace.

    Raises:
        ResDepthError: which files are there.
    """
    if (folder / JSON).exists():
        raise ResDepthError(
            f"{folder}: holds an evaluation already; add --overwrite, or choose another folder"
        )
    taken = [name for name in _own_files(files) if (folder / name).exists()]
    if taken:
        shown = ", ".join(taken[:5]) + (f" and {len(taken) - 5} more" if len(taken) > 5 else "")
        raise ResDepthError(
            f"{folder}: holds {shown}, which would be replaced; move them away, choose another folder, or "
            "add --overwrite"
        )


def _own_files(files: Iterable[str]) -> list[str]:
    """All that an evaluation writes into its folder, given the files of its surfaces."""
    from resdepth.report.plots import CLASSES, DISTRIBUTION, plot_names

    plots = [f"{FIGURES}/{name}" for name in (DISTRIBUTION, CLASSES, plot_names(TRUTH)[0])]
    return [JSON, CSV, MARKDOWN, PAGE, *files, *plots]


def _judged_into(
    folder: Path, wish: Wish, rasters: Mapping[str, str], aligned: Mapping[str, str]
) -> tuple[Case, Judgement]:
    """Judge; once that is done, an earlier evaluation goes, and then the rasters appear.

    Args:
        folder: of the evaluation.
        wish: what is judged.
        rasters: of errors: their names in the folder by those of the surfaces.
        aligned: likewise of aligned surfaces; those that are not moved have none.
    """
    with TemporaryDirectory(prefix=".evaluating_", dir=folder) as unfinished:
        case, judgement = judge_files(
            wish, {surface: Path(unfinished) / name for surface, name in rasters.items()}
        )
        moved = write_aligned(case, {surface: Path(unfinished) / name for surface, name in aligned.items()})
        _remove_earlier(folder)
        for name in (*rasters.values(), *(aligned[surface] for surface in moved)):
            remove_sidecars(folder / name)
            (Path(unfinished) / name).replace(folder / name)
    return case, judgement


def _remove_earlier(folder: Path) -> None:
    """Remove what an earlier evaluation left of its surfaces, first of all what says that it is complete.

    Nothing else goes: other files of such names may be somebody's own.
    """
    files = _earlier(folder)
    (folder / JSON).unlink(missing_ok=True)
    for name in files:
        (folder / name).unlink(missing_ok=True)


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
