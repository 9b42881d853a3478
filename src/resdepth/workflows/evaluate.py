"""Evaluating surfaces: arrays or files in, metrics out; with a folder, rasters and a page as well."""

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resdepth.data.arrays import bands_of, look_for_undeclared
from resdepth.data.scene import refuse_nodata_of_files
from resdepth.errors import ResDepthError
from resdepth.evaluation.baselines import median_baselines
from resdepth.evaluation.classes import check_mask_values, empty_classes
from resdepth.evaluation.evaluate import Case, Sink, demand_pixels, evaluate_case
from resdepth.evaluation.inputs import ABSURD_M, Candidate, OnGrid
from resdepth.evaluation.request import INITIAL, REFINED, Request, conditions_of, facts_of, open_case
from resdepth.evaluation.result import (
    OVERALL,
    REFERENCE_KEY,
    Evaluation,
    EvaluationResult,
    evaluation_of,
    read_result,
)
from resdepth.geo.crs import METRE
from resdepth.geo.geotiff import (
    new_geotiff,
    ownerless_sidecars,
    refuse_existing,
    refuse_inputs_as_outputs,
    remove_sidecars,
)
from resdepth.geo.grid import Bounds
from resdepth.geo.objects import HOW_TO_PLACE, Placement, is_path, placed
from resdepth.geo.raster import Array, FileBand
from resdepth.geo.vectors import is_vector
from resdepth.geo.windows import Window, blocks, bounding
from resdepth.options import option
from resdepth.report.pictures import StyleKind, write_style
from resdepth.report.tables import csv_text, format_statistics, markdown_report
from resdepth.report.verdict import with_verdict
from resdepth.runtime.atomic import temporary_folder, write_json, write_text
from resdepth.runtime.placing import placing
from resdepth.runtime.progress import Watcher, progress_bar, reported_to

if TYPE_CHECKING:
    from resdepth.report.page import PageContent

logger = logging.getLogger(__name__)

SUSPICIOUS_M = 5000.0
TILE_PX = 256  # of rasters of errors


def evaluate_files(
    request: Request, errors: Mapping[str, Path] | None = None
) -> tuple[Case, EvaluationResult]:
    """Evaluate rasters of any size, on any grids of one CRS.

    Args:
        request: what is evaluated.
        errors: by the name of a surface, the file that receives its errors; those of a single region.

    Returns:
        What was evaluated, opened, and what was found.

    Raises:
        ResDepthError: if a file cannot be read, names are not unique, CRSs differ, masks mark by other
            numbers than 1, or a surface has no pixel in common with the reference DSM.
    """
    case, area = open_case(request)
    conditions = conditions_of(request, case, area)
    asked = set() if request.lenient else ask_about_voids(case)
    pixels = sum(region.area for region in case.regions)
    with (
        progress_bar("evaluating", pixels / 1e6, unit="Mpx") as progress,
        _error_files(case, errors or {}) as sink,
    ):
        outcome = evaluate_case(
            case,
            facts=facts_of(request, case, area, conditions),
            sink=sink,
            progress=lambda done: progress.advance(done / 1e6),
        )
        outcome = replace(outcome, conditions=conditions)
        _warn_of_numbers(case, outcome, asked)
        for warning in empty_classes(outcome, {name: str(path) for name, path in request.masks.items()}):
            logger.warning("%s", warning)
        if not request.lenient:
            demand_pixels(outcome, request.threshold)  # or rasters of nothing would appear
        if request.baselines:
            outcome = with_baselines(case, outcome)
    return case, outcome


def with_baselines(case: Case, outcome: EvaluationResult) -> EvaluationResult:
    """The same with median filters of the initial DSM, or else of the only surface."""
    initial = next((one for one in case.surfaces if one.name == case.initial), case.surfaces[0])
    pixels = sum(region.area for region in case.regions)
    with progress_bar("median filters", pixels / 1e6, unit="Mpx") as progress:
        found = median_baselines(
            case,
            initial,
            workers=min(8, os.cpu_count() or 1),
            progress=lambda done: progress.advance(done / 1e6),
        )
    return replace(outcome, baselines=found)


def ask_about_voids(case: Case) -> set[str]:
    """Warn of surfaces that seem to hold voids which nobody declared.

    Returns:
        The names of those surfaces.
    """
    asked = set()
    for name, band in [(REFERENCE_KEY, case.reference), *((one.name, one.band) for one in case.surfaces)]:
        for one in [FileBand(path) for path in band.paths] if isinstance(band, OnGrid) else [band]:
            if question := look_for_undeclared(one).question:
                where = one.header.path if isinstance(one, FileBand) else name
                logger.warning("%s: %s", where, question)
                asked.add(name)
    return asked


def _warn_of_numbers(case: Case, outcome: EvaluationResult, asked: Collection[str]) -> None:
    """Warn of numbers that may be undeclared nodata values, but for surfaces already `asked` about."""
    if isinstance(case.reference, OnGrid) and case.reference.has_absurd and REFERENCE_KEY not in asked:
        logger.warning(
            "the reference DSM: numbers beyond %g m count as void; does the file declare its nodata value?",
            ABSURD_M,
        )
    for surface in case.surfaces:
        if surface.name in asked:
            continue
        found = outcome.surfaces[surface.name].classes[OVERALL].statistics
        if isinstance(surface.band, OnGrid) and surface.band.has_absurd:
            logger.warning(
                "%s: numbers beyond %g m count as void; does the file not declare its nodata value? "
                "(gdal_edit.py -a_nodata)", surface.name, ABSURD_M,
            )  # fmt: skip
        elif max(found.maximum, -found.minimum) > SUSPICIOUS_M:
            logger.warning(
                "%s: an error of %.0f m: is it a nodata value that the file does not declare? "
                "(gdal_edit.py -a_nodata)", surface.name, max(found.maximum, -found.minimum),
            )  # fmt: skip


@contextmanager
def _error_files(case: Case, paths: Mapping[str, Path]) -> Iterator[Sink | None]:
    """Rasters of errors, filled while surfaces are evaluated; they appear once all are complete."""
    if not paths:
        yield None
        return
    (region,) = case.regions
    grid = case.reference.grid.crop(region).flat
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                new_geotiff(path, grid, tile=TILE_PX, overviews=True, compression="zstd", unit=METRE)
            )
            for name, path in paths.items()
        }

        def write(name: str, window: Window, errors: Array) -> None:
            if name in writers:
                writers[name].write(window.row - region.row, errors, col=window.col - region.col)

        yield write


def evaluate(  # noqa: PLR0913 - each is a choice of its own, with a default
    refined: Any,
    reference: Any,
    *,
    initial: Any = None,
    masks: Mapping[str, Any] | None = None,
    ground: Any = None,
    region: str | Path | Bounds | None = None,
    threshold: float | None = None,
    align: bool = False,
    baselines: bool = False,
    output: str | Path | None = None,
    title: str = "",
    error_rasters: bool = True,
    aligned_rasters: bool = False,
    overwrite: bool = False,
    gsd: float | None = None,
    transform: Any = None,
    crs: Any = None,
    nodata: float | None = None,
    progress: Watcher | None = None,
) -> Evaluation:
    """Evaluate a surface against the reference DSM.

    Surfaces and masks may be any kinds of rasters: paths, open data sets of rasterio, DataArrays of xarray,
    rasters of geoutils or xDEM, or (H, W) arrays of numpy, dask or torch in metres, NaN = void. Those on maps
    may have any grids of one CRS.

    Args:
        refined: the surface.
        reference: the reference DSM. The metrics are those of its pixels.
        initial: the surface before refinement, evaluated as well.
        masks: by name (ground_truth, building, water, forest, or of your own); the value 1 sets a mask.
            Vector files may be masks.
        ground: a model of the bare ground: classes by the height above it.
        region: "vertical:3", (xmin, ymin, xmax, ymax), or a file with polygons.
        threshold: leave out residuals above this many metres.
        align: move the surfaces onto the reference DSM first (Nuth & Kaab 2011).
        baselines: also evaluate median filters of the initial DSM; without one, of `refined` itself.
        output: a folder, which receives a page to look at, tables, rasters of errors and figures (extra
            `report`).
        title: of the page; by default it names the surfaces.
        error_rasters: write rasters of errors into it.
        aligned_rasters: also write the moved surfaces into it.
        overwrite: replace an earlier evaluation in it.
        gsd: side of a pixel in metres, for arrays (default 1).
        transform: where the pixels of arrays lie, as rasterio has it.
        crs: the CRS of arrays.
        nodata: a number that marks voids of the heights, for all but paths; files declare it.
        progress: see `refine`.

    Returns:
        Metrics per class of objects, warnings, intervals; it can show itself.

    Raises:
        ResDepthError: if arrays differ in shape, rasters cannot be read or have nothing in common.

    Examples:
        >>> import resdepth
        >>> found = resdepth.evaluate("initial.tif", "reference.tif", masks={"building": "mask_building.tif"})
        >>> found
        Evaluation(MAE 0.481 m, 10,160 pixels, 3 classes, 0 warnings)
        >>> round(found.refined["building"].nmad, 2)
        0.62
    """
    given, named = dict(masks or {}), {"refined": refined, "reference": reference}
    named |= {name: one for name, one in (("initial", initial), ("ground", ground)) if one is not None}
    named |= {f"masks[{name!r}]": one for name, one in given.items() if not is_layer(one)}
    in_place = any(is_layer(one) for one in given.values())
    in_place = in_place or align or ground is not None or output is not None or region is not None
    place = Placement(gsd, transform, crs, nodata)
    with reported_to(progress), placed(named, place, heights=HEIGHTS, to_files=in_place) as rasters:
        found = rasters.rasters
        chosen = {name: found.get(f"masks[{name!r}]", one) for name, one in given.items()}
        if not any(isinstance(one, str | Path) for one in found.values()):
            case = _case_of_arrays(found, chosen, rasters.placement, threshold)
            outcome = evaluate_case(case)
            for warning in empty_classes(outcome, {name: f"masks[{name!r}]" for name in given}):
                logger.warning("%s", warning)
            outcome = with_baselines(case, outcome) if baselines else outcome
        else:
            _refuse_mixture(found, rasters.placement)
            request = Request(
                {REFINED: Path(found["refined"])}, Path(found["reference"]), _path(found.get("initial")),
                {name: Path(one) for name, one in chosen.items()}, _path(found.get("ground")), region,
                threshold=threshold, align=align, baselines=baselines,
            )  # fmt: skip
            if output is None:
                outcome = evaluate_files(request)[1]
            else:
                outcome = evaluate_into(
                    Path(output), request, title=title, error_rasters=error_rasters,
                    aligned_rasters=aligned_rasters, overwrite=overwrite,
                ).outcome  # fmt: skip
    folder = None if output is None else Path(output)
    return replace(
        evaluation_of(outcome, REFINED, own=given), warnings=tuple(rasters.warnings), folder=folder
    )


HEIGHTS = ("refined", "reference", "initial", "ground")


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def is_layer(given: Any) -> bool:
    """Whether a mask is a file of polygons, or a layer in one, not a raster."""
    return is_path(given) and is_vector(Path(given))


def _refuse_mixture(rasters: Mapping[str, Any], placement: Placement) -> None:
    """Refuse arrays beside files, and what is stated of arrays where there are none.

    Raises:
        ResDepthError: saying what to do.
    """
    if not all(isinstance(one, str | Path) for one in rasters.values()):
        raise ResDepthError(
            "give either arrays or paths, not a mixture: arrays have no georeference; "
            f"{HOW_TO_PLACE} of the arrays"
        )
    refuse_nodata_of_files(placement.nodata, [True])


def _case_of_arrays(
    rasters: Mapping[str, Any], masks: Mapping[str, Any], placement: Placement, threshold: float | None
) -> Case:
    """Arrays of one shape, ready to be evaluated."""
    heights = {name: rasters[name] for name in (INITIAL, REFINED, REFERENCE_KEY) if name in rasters}
    side = 1.0 if placement.gsd is None else placement.gsd
    bands = bands_of(heights, (), masks, gsd=side, nodata=placement.nodata)
    for warning in check_mask_values(bands.masks):
        logger.warning("%s", warning)
    case = Case(
        reference=bands.heights[REFERENCE_KEY],
        surfaces=[Candidate(name, bands.heights[name]) for name in heights if name != REFERENCE_KEY],
        regions=(bands.grid.whole,),
        initial=INITIAL if INITIAL in heights else None,
        masks=bands.masks,
        threshold=threshold,
    )
    ask_about_voids(case)
    return case


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
        error_rasters: also write surface minus reference as GeoTIFFs.
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
        raise ResDepthError(
            f"aligned_rasters: only aligned surfaces are moved; add {option('align', value=True)}"
        )
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
    from resdepth.report.page import quick_looks, write_page
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
    write_json(folder / JSON, with_verdict(outcome))
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

    plots = [f"{FIGURES}/{name}" for name in (DISTRIBUTION, CLASSES, plot_names(REFERENCE_KEY)[0])]
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
    from resdepth.report.page import quick_looks, write_page

    with quick_looks(_content(request, case, outcome, title, images)) as content:
        write_page(path, content)


def _content(
    request: Request, case: Case, outcome: EvaluationResult, title: str, images: Mapping[str, Path]
) -> "PageContent":
    from resdepth.report.page import evaluation_content

    return evaluation_content(
        case, outcome, title=title, reference=request.reference, masks=request.masks, images=images
    )


def add_styles(kinds: Mapping[Path, StyleKind]) -> None:
    """Give rasters their colours for QGIS, unless somebody did so before."""
    for raster, kind in kinds.items():
        if not os.path.lexists(raster.with_suffix(".qml")):
            write_style(raster, kind)


def _title(request: Request) -> str:
    names = list(request.surfaces)
    stated = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{stated} against {request.reference.name}"


def _write_figures(folder: Path, content: "PageContent", outcome: EvaluationResult) -> None:
    from resdepth.report.plots import write_plots

    folder.mkdir(exist_ok=True)
    assert content.grid is not None, "surfaces were evaluated"
    shown = content.grid.coarser(PLOT_PX)
    heights = {
        REFERENCE_KEY if name == content.reference else name: read(shown)
        for name, read in content.surfaces.items()
    }
    write_plots(folder, outcome, heights, shown, REFERENCE_KEY)


BLOCK_PX, TILE_PX = 1024, 256


def write_aligned(case: Case, paths: Mapping[str, Path]) -> list[str]:
    """Write each surface that was moved, on the grid of the reference DSM, as it is compared there.

    Heights are those of the moved surface, resampled as the evaluation does it, with its vertical shift;
    voids, and what the surface does not cover, are nodata (-9999). The raster covers the evaluated regions.

    Args:
        case: what was evaluated, aligned.
        paths: by the name of a surface, the file to write.

    Returns:
        The names of the surfaces that were moved, and so written.

    Raises:
        ResDepthError: if a surface cannot be read, or a file not be written.
    """
    region = bounding(case.regions)
    grid = case.reference.grid.crop(region).flat
    moved = [one for one in case.surfaces if one.name in paths and case.shifts[one.name].applied]
    for surface in moved:
        with new_geotiff(
            paths[surface.name], grid, tile=TILE_PX, overviews=True, compression="zstd", unit=METRE
        ) as file:
            for block in blocks(region, BLOCK_PX):
                file.write(block.row - region.row, surface.band.read(block), col=block.col - region.col)
    return [one.name for one in moved]
