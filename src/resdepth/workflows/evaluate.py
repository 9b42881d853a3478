"""Evaluating surfaces: arrays or files in, figures out."""

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from resdepth.data.arrays import bands_of
from resdepth.data.scene import MASKS
from resdepth.data.surfaces import Surface, refuse_nodata_of_files
from resdepth.data.undeclared import look_for_undeclared
from resdepth.errors import ResDepthError
from resdepth.evaluation.baselines import median_baselines
from resdepth.evaluation.classes import check_mask_values, empty_classes
from resdepth.evaluation.evaluate import Case, Sink, demand_pixels, evaluate_case
from resdepth.evaluation.evaluation import Evaluation, evaluation_of
from resdepth.evaluation.inputs import ABSURD_M, Candidate, OnGrid
from resdepth.evaluation.request import INITIAL, REFINED, Request, facts_of, open_case
from resdepth.evaluation.result import OVERALL, TRUTH, EvaluationResult
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Bounds
from resdepth.geo.raster import Array, FileBand
from resdepth.geo.units import METRE
from resdepth.geo.windows import Window
from resdepth.runtime.progress import progress_bar

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
            numbers than 1, or a surface has no pixel in common with the truth.
    """
    case, stated = open_case(request)
    asked = set() if request.lenient else ask_about_voids(case)
    pixels = sum(region.area for region in case.regions)
    with (
        progress_bar("evaluating", pixels / 1e6, unit="Mpx") as progress,
        _error_files(case, errors or {}) as sink,
    ):
        outcome = evaluate_case(
            case,
            facts=facts_of(request, case, stated),
            sink=sink,
            progress=lambda done: progress.advance(done / 1e6),
        )
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
    for name, band in [(TRUTH, case.truth), *((one.name, one.band) for one in case.surfaces)]:
        for one in [FileBand(path) for path in band.paths] if isinstance(band, OnGrid) else [band]:
            if question := look_for_undeclared(one).question:
                where = one.header.path if isinstance(one, FileBand) else name
                logger.warning("%s: %s", where, question)
                asked.add(name)
    return asked


def _warn_of_numbers(case: Case, outcome: EvaluationResult, asked: Collection[str]) -> None:
    """Warn of numbers that may be undeclared nodata values, but for surfaces already `asked` about."""
    if isinstance(case.truth, OnGrid) and case.truth.has_absurd and TRUTH not in asked:
        logger.warning(
            "the truth: numbers beyond %g m count as void; does the file not declare its nodata value?",
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
    grid = case.truth.grid.crop(region).flat
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
    refined: Surface,
    truth: Surface,
    *,
    initial: Surface | None = None,
    masks: Mapping[str, Surface] | None = None,
    gsd: float = 1.0,
    nodata: float | None = None,
    threshold: float | None = None,
    region: str | Path | Bounds | None = None,
    baselines: bool = False,
) -> Evaluation:
    """Evaluate a surface against the truth.

    Args:
        refined: the surface: (H, W) array in metres, NaN = void, or a path.
        truth: the true surface; an array of the same shape, or a file on any grid of the same CRS. The
            figures are those of its pixels.
        initial: the surface before refinement, evaluated as well.
        masks: by name (ground_truth, building, water, forest); the value 1 sets a mask. Vector files may be
            masks of files.
        gsd: side of a pixel in metres, for arrays; files know it.
        nodata: a number that marks voids of the heights, for arrays; files declare it.
        threshold: leave out residuals above this many metres.
        region: of files: "vertical:3", (xmin, ymin, xmax, ymax), or a file with polygons.
        baselines: also evaluate median filters of the initial DSM; without one, of `refined` itself.

    Returns:
        Figures per class of objects.

    Raises:
        ResDepthError: if arrays differ in shape, files cannot be read or have nothing in common.
    """
    given = dict(masks or {})
    unknown = sorted(set(given) - set(MASKS))
    if unknown:
        raise ResDepthError(f"masks: unknown name {', '.join(unknown)}; known: {', '.join(MASKS)}")
    surfaces = [refined, truth, *given.values(), *([] if initial is None else [initial])]
    are_paths = {isinstance(one, str | Path) for one in surfaces}
    if len(are_paths) > 1:
        raise ResDepthError("give either arrays or paths, not a mixture: arrays have no georeference")
    refuse_nodata_of_files(nodata, are_paths)
    if are_paths == {True}:
        request = Request(
            {REFINED: Path(refined)},  # type: ignore[arg-type] # all are paths
            Path(truth),  # type: ignore[arg-type]
            initial=None if initial is None else Path(initial),  # type: ignore[arg-type]
            masks={name: Path(one) for name, one in given.items()},  # type: ignore[arg-type]
            region=region,
            threshold=threshold,
            baselines=baselines,
        )
        return evaluation_of(evaluate_files(request)[1], REFINED)
    if region is not None:
        raise ResDepthError("region: cut arrays themselves; only files have a place on the map")
    heights = {REFINED: refined} if initial is None else {INITIAL: initial, REFINED: refined}
    case = _case_of_arrays(heights, truth, given, gsd=gsd, nodata=nodata, threshold=threshold)
    outcome = evaluate_case(case)
    for warning in empty_classes(outcome, {name: f"masks[{name!r}]" for name in given}):
        logger.warning("%s", warning)
    return evaluation_of(with_baselines(case, outcome) if baselines else outcome, REFINED)


def _case_of_arrays(
    surfaces: Mapping[str, Surface],
    truth: Surface,
    masks: Mapping[str, Surface],
    *,
    gsd: float,
    nodata: float | None,
    threshold: float | None,
) -> Case:
    bands = bands_of({**surfaces, TRUTH: truth}, (), masks, gsd=gsd, nodata=nodata)
    for warning in check_mask_values(bands.masks):
        logger.warning("%s", warning)
    case = Case(
        truth=bands.heights[TRUTH],
        surfaces=[Candidate(name, bands.heights[name]) for name in surfaces],
        regions=(bands.grid.whole,),
        initial=INITIAL if INITIAL in surfaces else None,
        masks=bands.masks,
        threshold=threshold,
    )
    ask_about_voids(case)
    return case
