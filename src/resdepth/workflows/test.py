"""From a test configuration to refined DSMs and their statistics."""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resdepth.config.schema import TestGeneral, paths_in
from resdepth.data.scene import MASKS, Scene, ViewSet, used_views
from resdepth.errors import ResDepthError
from resdepth.evaluation.request import REFINED, Request
from resdepth.evaluation.result import Evaluation, evaluation_of
from resdepth.geo.crs import METRE
from resdepth.geo.geotiff import new_geotiff, refuse_existing, refuse_inputs_as_outputs
from resdepth.geo.raster import Band, FileBand
from resdepth.geo.windows import Window
from resdepth.models.model import fingerprint
from resdepth.models.published import CONFIG_FILE
from resdepth.refinement.blocks import Work, refined_strips
from resdepth.refinement.compatibility import examine, noise_of, stated_gsd
from resdepth.refinement.engine import Refiner, choose_device, choose_precision
from resdepth.refinement.provenance import Moved, in_words
from resdepth.refinement.tiles import Strip, refine_region
from resdepth.report.tables import format_overall_statistics, format_statistics, write_statistics
from resdepth.report.verdict import Verdict, verdict_of, with_verdict
from resdepth.runtime.atomic import write_bytes, write_json
from resdepth.runtime.progress import Progress, Watcher, progress_bar, reported_to
from resdepth.training.run_folder import ORIGINAL_CONFIG_FILE
from resdepth.workflows.check import Area, TestPlan, plan_test
from resdepth.workflows.descriptions import complete_config, extents, warn
from resdepth.workflows.evaluate import (
    JSON,
    PAGE,
    add_styles,
    evaluate_files,
    report_possible,
    write_evaluation_page,
)

logger = logging.getLogger(__name__)

SHOWN_IMAGES = 2
ALL_PAIRS = "all pairs"
OVER_ALL_PAIRS = "_prediction_performance_statistics_mean_over_all_stereopairs.txt"


@dataclass(frozen=True)
class PairResult:
    """What one data set refined with one view set gave.

    Attributes:
        dataset: its name.
        views: the result folder's name, "Stereopair_0_1"; "" without views; "all" over all view sets.
        predictions: the refined DSMs, one per region.
        evaluation: the metrics; None without a reference DSM.
    """

    dataset: str
    views: str
    predictions: tuple[Path, ...]
    evaluation: Evaluation | None


def test(
    config: str | Path | Mapping[str, Any],
    *,
    progress: Watcher | None = None,  # noqa: PT028 - this is no test
) -> list[PairResult]:
    """Refine DSMs as a configuration says, and evaluate them where a reference DSM is given.

    Args:
        config: the path of a file, or a mapping of its keys.
        progress: see `refine`.

    Returns:
        One result for each data set and view set, and one over all view sets where there are several.

    Raises:
        InputProblems: everything that is wrong with the configuration or its data; nothing is written then.
        ResDepthError: if a result cannot be written, or has the name of a file that is no result.

    Examples:
        >>> import resdepth
        >>> for result in resdepth.test("my_test.json"):
        ...     print(result.dataset, result.views, result.evaluation)
        small Stereopair_0_1 Evaluation(MAE ... m, ...)
        ...
    """
    with reported_to(progress):
        return _tested(plan_test(config))


def _tested(plan: TestPlan) -> list[PairResult]:
    """All results of a plan."""
    warn(plan.warnings)
    general = plan.config.general
    device = choose_device(general.device)
    refiner = Refiner(
        plan.network,
        device=device,
        batch_size=general.batch_size,
        precision=choose_precision(general.precision, device),
    )
    for index in range(len(plan.areas)):
        _refuse_taken(plan, index, refiner)
    results = []
    pixels = sum(region.area * len(area.test_sets) for area in plan.areas for region in area.test)
    with progress_bar("refining", pixels / 1e6, unit="Mpx") as progress:
        for index, area in enumerate(plan.areas):
            results += _test_area(plan, index, area, _for_area(plan, area, refiner), progress)
    return results


def _for_area(plan: TestPlan, area: Area, refiner: Refiner) -> Refiner:
    """The model as the DSM of an area wants it."""
    if not refiner.model.architecture.suits_any_sensor:
        return refiner
    model = refiner.model.for_noise(noise_of(area.scene, None))
    batch_size = plan.config.general.batch_size
    return Refiner(model, device=refiner.device, batch_size=batch_size, precision=refiner.precision)


def verdicts_of(results: Sequence[PairResult]) -> dict[str, Verdict]:
    """By the name of a data set with a reference DSM: is the best of its refined DSMs better?"""
    outcomes = {one.dataset: one.evaluation.outcome for one in results if one.evaluation is not None}
    verdicts = {name: verdict_of(outcome) for name, outcome in outcomes.items() if outcome is not None}
    return {name: verdict for name, verdict in verdicts.items() if verdict is not None}


test.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def _refuse_taken(plan: TestPlan, index: int, refiner: Refiner) -> None:
    """Refuse to write what is an input, or no result of `test`; results are replaced, as published."""
    taken = _results(plan, index, refiner)
    refuse_inputs_as_outputs(_inputs(plan, index), taken)
    folder = Path(plan.config.output.directory) / plan.areas[index].scene.name
    refuse_existing(
        taken,
        overwrite=(folder / ORIGINAL_CONFIG_FILE).is_file(),
        why=f", and without {ORIGINAL_CONFIG_FILE} beside it, it is no result of test",
        remedy="move it away, or choose another output.directory",
    )


def _inputs(plan: TestPlan, index: int) -> list[Path]:
    """The files that a data set is refined and evaluated from."""
    sections = (plan.config.model, plan.config.datasets[index])
    named = [path for section in sections for _, _, path in paths_in(section)]
    return [*filter(None, [plan.source.path]), *plan.areas[index].scene.image_paths, *named]


def _results(plan: TestPlan, index: int, refiner: Refiner) -> list[Path]:
    """The files that may be written for a data set, as far as such are there already."""
    area = plan.areas[index]
    folder = Path(plan.config.output.directory) / area.scene.name
    stem = Path(plan.config.datasets[index].raster_in).stem
    rasters = [
        path
        for inner in {folder, *(folder / refiner.inputs.folder_name(views) for views in area.test_sets)}
        if inner.is_dir()
        for path in inner.iterdir()
        if path.name.startswith((f"{stem}_prediction", f"{stem}_residuals"))
    ]
    return [*(folder / name for name in (CONFIG_FILE, ORIGINAL_CONFIG_FILE, JSON, PAGE)), *rasters]


def _test_area(
    plan: TestPlan, index: int, area: Area, refiner: Refiner, progress: Progress
) -> list[PairResult]:
    folder = Path(plan.config.output.directory) / area.scene.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResDepthError(f"{folder}: cannot be made ({error})") from error
    write_bytes(
        folder / ORIGINAL_CONFIG_FILE, plan.source.text
    )  # first: it marks the folder as one of results
    write_json(folder / CONFIG_FILE, _complete_test_config(plan))
    for misfit in _misfits(plan, area):
        logger.warning("%s: %s", area.scene.name, misfit)
    dsm = Path(plan.config.datasets[index].raster_in)
    predictions: dict[str, tuple[Path, ...]] = {}
    for view_set in area.test_sets:
        views = refiner.inputs.folder_name(view_set)
        (folder / views).mkdir(exist_ok=True)
        job = _Job(area.scene, view_set, refiner, plan.config.general, progress)
        predictions[views], moved = _refine_area(job, area.test, folder / views / dsm.stem)
        name = f"{area.scene.name}, {views}" if views else area.scene.name
        logger.info("%s: %s", name, in_words(moved))
        if moved.warning:
            logger.warning("%s: not to be trusted: %s", name, moved.warning)
    evaluated = _evaluated(plan, area, refiner, folder, dsm, predictions)
    return [
        PairResult(area.scene.name, views, predictions.get(views, ()), evaluated.get(views))
        for views in [*predictions, *(views for views in evaluated if views not in predictions)]
    ]


def _misfits(plan: TestPlan, area: Area) -> tuple[str, ...]:
    """What makes good results unlikely."""
    scene, regions = area.scene, area.test
    found = [examine(plan.network, scene, area.test_sets, one, stated_gsd(scene)).misfits for one in regions]
    return tuple(dict.fromkeys(misfit for misfits in found for misfit in misfits))


def _evaluated(
    plan: TestPlan,
    area: Area,
    refiner: Refiner,
    folder: Path,
    dsm: Path,
    predictions: Mapping[str, tuple[Path, ...]],
) -> dict[str, Evaluation]:
    """Statistics of each view set, and of all together where there are several; and a page to look at."""
    reference = area.scene.reference
    if reference is None:
        return {}
    request = Request(
        surfaces={views or REFINED: files for views, files in predictions.items()},
        reference=_path_of(reference),
        initial=dsm,
        masks={name: _path_of(area.scene.masks[name]) for name in MASKS if name in area.scene.masks},
        windows=tuple(area.test),
        together=ALL_PAIRS if len(predictions) > 1 else "",
        facts=_facts(plan, area, refiner),
        baselines=plan.config.output.baselines,
        lenient=True,
    )
    case, outcome = evaluate_files(request)
    weights = plan.config.model.weights or plan.config.model.path or ""
    name = plan.network.architecture.name
    evaluated = {}
    for views in predictions:
        evaluated[views] = evaluation_of(outcome, views or REFINED)
        text = format_statistics(evaluated[views], name, weights)
        write_statistics(folder / views / f"{dsm.stem}_prediction_statistics.txt", text, evaluated[views])
    if request.together:
        evaluated["all"] = evaluation_of(outcome, request.together, with_initial=False)
        text = format_overall_statistics(evaluated["all"], name, weights)
        write_statistics(folder / f"{dsm.stem}{OVER_ALL_PAIRS}", text, evaluated["all"])
    write_json(folder / JSON, with_verdict(outcome))
    if plan.config.output.report and report_possible():
        paths = [area.scene.image_paths[index] for index in used_views(area.test_sets)[:SHOWN_IMAGES]]
        images = {path.name: path for path in paths}  # others of the list need not be there
        logger.info("to look at: %s", os.path.normpath(folder / PAGE))
        write_evaluation_page(
            folder / PAGE, request, case, outcome, title=f"{area.scene.name}, refined", images=images
        )
    return evaluated


def _facts(plan: TestPlan, area: Area, refiner: Refiner) -> dict[str, str]:
    """How the surfaces were made, for the provenance."""
    general = plan.config.general
    images = ", ".join(f"{index}: {path.name}" for index, path in enumerate(area.scene.image_paths))
    return {
        "Model": f"{plan.network.source}, SHA-256 of its weights {fingerprint(plan.network)}",
        "Configuration": f"{plan.source.name}, SHA-256 {hashlib.sha256(plan.source.text).hexdigest()}",
        "Refined": f"mode {general.mode}, {_named(refiner.precision)}, tiles of {general.tile_size} px",
        **({"Images": images} if images else {}),
    }


def _named(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def _path_of(band: Band) -> Path:
    assert isinstance(band, FileBand), "test opens files"
    return band.header.path


@dataclass(frozen=True)
class _Job:
    """One scene to be refined with one view set."""

    scene: Scene
    view_set: ViewSet
    refiner: Refiner
    settings: TestGeneral
    progress: Progress

    def strips(self, region: Window) -> Iterator[Strip]:
        """The refined heights of a region."""
        settings = self.settings
        workers = min(4, os.cpu_count() or 1) if settings.workers is None else settings.workers
        if settings.mode == "exact":
            strips = refine_region(
                self.scene, self.view_set, region, self.refiner, settings.tile_size, workers=workers
            )
        else:
            work = Work(self.scene, region, (self.view_set,), "seamless", settings.tile_size)
            strips = refined_strips(work, self.refiner, workers=workers)
        for strip in strips:
            self.progress.advance(strip.values.size / 1e6)
            yield strip


def _refine_area(job: _Job, regions: Sequence[Window], stem: Path) -> tuple[tuple[Path, ...], Moved]:
    """Write the refined DSM of each region and, where there is a reference DSM, its residuals.

    Args:
        job: what to refine.
        regions: where.
        stem: the beginning of the results' names.

    Returns:
        The refined DSMs' paths, and how far their heights were moved.
    """
    predictions = []
    scene, moved = job.scene, Moved(job.refiner.model.normalization.height_sigma)
    for number, region in enumerate(regions):
        suffix = f"_{number}" if len(regions) > 1 else ""
        path = stem.with_name(f"{stem.name}_prediction{suffix}.tif")
        residuals = stem.with_name(f"{stem.name}_residuals{suffix}.tif")
        grid, dtype = scene.grid.crop(region), _height_type(scene)
        with ExitStack() as stack:
            errors = None
            refined = stack.enter_context(new_geotiff(path, grid, dtype=dtype, unit=scene.unit))
            if scene.reference is not None:
                errors = stack.enter_context(new_geotiff(residuals, grid.flat, dtype=dtype, unit=METRE))
            for strip in job.strips(region):
                heights = strip.values.astype(dtype)  # the residuals are those of the heights in the file
                refined.write(strip.row, heights)
                rows = Window(region.row + strip.row, region.col, *heights.shape)
                moved += Moved.between(scene.dsm.read(rows), heights, moved.sigma_m)
                if errors is not None:
                    errors.write(strip.row, heights - scene.counted_reference(rows))
        add_styles({path: "height"})
        if scene.reference is not None:
            add_styles({residuals: "error"})
        predictions.append(path)
    return tuple(predictions), moved


def _height_type(scene: Scene) -> str:
    """The type of the initial DSM; float32 where that would round heights (tests/workflows/test_test.py)."""
    header = getattr(scene.dsm, "header", None)
    return header.dtype if header is not None and header.dtype in ("float32", "float64") else "float32"


def _complete_test_config(plan: TestPlan) -> dict[str, Any]:
    areas = []
    for area in plan.areas:
        described: dict[str, Any] = {"area_defn": extents(area.test)}
        if area.scene.image_paths:
            described["image_list"] = [str(path) for path in area.scene.image_paths]
            described["image_pairs"] = [list(view_set) for view_set in area.test_sets]
        areas.append(described)
    content = complete_config(plan.config, areas)
    architecture = plan.network.architecture
    content["model"] |= {
        "name": architecture.name,
        "input_channels": architecture.input_channels,
        "settings": dict(architecture.settings),
    }
    return content
