"""From a test configuration to refined DSMs and their statistics."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from resdepth.atomic import atomic_path, write_json
from resdepth.blending import Strip
from resdepth.blockwise import Work, refined_strips
from resdepth.checking import TestArea, TestPlan, plan_test
from resdepth.config import TestGeneral
from resdepth.engine import Refiner, choose_device, choose_precision
from resdepth.errors import ResDepthError
from resdepth.evaluation import (
    BUILDING_DILATION_PX,
    Evaluation,
    Mask,
    Statistics,
    object_classes,
    statistics,
)
from resdepth.geotiff import new_geotiff
from resdepth.progress import Progress, progress_bar
from resdepth.published import CONFIG_FILE
from resdepth.raster import Array
from resdepth.refinement import refine_region
from resdepth.report.text import format_overall_statistics, format_statistics, write_statistics
from resdepth.runs import ORIGINAL_CONFIG_FILE
from resdepth.scene import MASKS, Scene, ViewSet
from resdepth.windows import Window
from resdepth.workflows.descriptions import complete_config, extents, warn

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 256
OVER_ALL_PAIRS = "_prediction_performance_statistics_mean_over_all_stereopairs.txt"


@dataclass(frozen=True)
class PairResult:
    """What one data set refined with one view set gave.

    Attributes:
        dataset: its name.
        views: the result folder's name, "Stereopair_0_1"; "" without views; "all" over all view sets.
        predictions: the refined DSMs, one per region.
        evaluation: the figures; None without a truth.
    """

    dataset: str
    views: str
    predictions: tuple[Path, ...]
    evaluation: Evaluation | None


@dataclass(frozen=True)
class _Reference:
    """What the results of one region are judged by; the same for all view sets.

    Attributes:
        truth: (H, W) float32, metres, NaN where nothing is judged.
        before: (H, W) float32, the initial DSM minus the truth.
        classes: (H, W) bool each, by the classes of objects.
    """

    truth: Array
    before: Array
    classes: dict[str, Mask]


def test(config: str | Path) -> list[PairResult]:
    """Refine DSMs as a configuration file says, and judge them where a truth is given.

    Returns:
        One result for each data set and view set, and one over all view sets where there are several.

    Raises:
        InputProblems: everything that is wrong with the configuration or its data; nothing is written then.
        ResDepthError: if a result cannot be written.
    """
    plan = plan_test(Path(config))
    warn(plan.warnings)
    general = plan.config.general
    device = choose_device(general.device)
    refiner = Refiner(
        plan.model,
        device=device,
        batch_size=general.batch_size,
        precision=choose_precision(general.precision, device),
    )
    results = []
    pixels = sum(region.area * len(area.view_sets) for area in plan.areas for region in area.regions)
    with progress_bar("refining", pixels / 1e6, unit="Mpx") as progress:
        for index, area in enumerate(plan.areas):
            results += _test_area(plan, index, area, refiner, progress)
    return results


test.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def _test_area(
    plan: TestPlan, index: int, area: TestArea, refiner: Refiner, progress: Progress
) -> list[PairResult]:
    folder = Path(plan.config.output.directory) / area.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResDepthError(f"{folder}: cannot be made ({error})") from error
    write_json(folder / CONFIG_FILE, _complete_test_config(plan))
    with atomic_path(folder / ORIGINAL_CONFIG_FILE) as temporary:
        temporary.write_bytes(plan.original)
    weights = plan.config.model.weights or plan.config.model.path or ""
    name = plan.model.architecture.name
    stem = Path(plan.config.datasets[index].raster_in).stem
    references = [_reference(area.scene, region) for region in area.regions] if area.scene.truth else []
    results: list[PairResult] = []
    all_residuals: list[Array] = []
    for view_set in area.view_sets:
        views = refiner.inputs.folder_name(view_set)
        (folder / views).mkdir(exist_ok=True)
        job = _Job(area.scene, view_set, refiner, plan.config.general, progress)
        predictions, residuals = _refine_area(job, area.regions, references, folder / views / stem)
        evaluation = None
        if references:
            evaluation = _evaluation(residuals, references, area.scene, with_initial=True)
            text = format_statistics(evaluation, name, weights)
            write_statistics(folder / views / f"{stem}_prediction_statistics.txt", text, evaluation)
            all_residuals += residuals
        results.append(PairResult(area.name, views, predictions, evaluation))
    if len(area.view_sets) > 1 and references:
        evaluation = _evaluation(all_residuals, references, area.scene, with_initial=False)
        text = format_overall_statistics(evaluation, name, weights)
        write_statistics(folder / f"{stem}{OVER_ALL_PAIRS}", text, evaluation)
        results.append(PairResult(area.name, "all", (), evaluation))
    return results


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


def _refine_area(
    job: _Job, regions: Sequence[Window], references: Sequence[_Reference], stem: Path
) -> tuple[tuple[Path, ...], list[Array]]:
    """Write the refined DSM and, with references, the residuals of each region.

    Args:
        job: what to refine.
        regions: where.
        references: of each region; empty if nothing is known of the truth.
        stem: the beginning of the results' names.

    Returns:
        The refined DSMs' paths, and the residuals of each region.
    """
    predictions, residuals = [], []
    scene = job.scene
    for number, region in enumerate(regions):
        suffix = f"_{number}" if len(regions) > 1 else ""
        path = stem.with_name(f"{stem.name}_prediction{suffix}.tif")
        after = np.empty(region.shape, dtype=np.float32) if references else None
        with new_geotiff(path, scene.grid.crop(region), dtype=_height_type(scene)) as output:
            for strip in job.strips(region):
                output.write(strip.row, strip.values)
                if after is not None:
                    rows = slice(strip.row, strip.row + len(strip.values))
                    after[rows] = strip.values - references[number].truth[rows]
        predictions.append(path)
        if after is None:
            continue
        residuals.append(after)
        path = stem.with_name(f"{stem.name}_residuals{suffix}.tif")
        with new_geotiff(path, scene.grid.crop(region), dtype=_height_type(scene)) as output:
            for row in range(0, region.height, ROWS_AT_ONCE):
                output.write(row, after[row : row + ROWS_AT_ONCE])
    return tuple(predictions), residuals


def _height_type(scene: Scene) -> str:
    """The type of the initial DSM; float32 where that would round heights (tests/test_test_workflow.py)."""
    header = getattr(scene.dsm, "header", None)
    return header.dtype if header is not None and header.dtype in ("float32", "float64") else "float32"


def _reference(scene: Scene, region: Window) -> _Reference:
    assert scene.truth is not None, "only scenes with a truth are judged"
    truth = scene.truth.read(region)
    # Buildings beside the region grow into it.
    around = region.grown(BUILDING_DILATION_PX, scene.grid.whole)
    inside = region.relative_to(around).slices
    masks = {name: scene.read_mask(name, around) for name in MASKS if name in scene.masks}
    if "ground_truth" in masks:
        truth[~masks.pop("ground_truth")[0][inside]] = np.nan
    classes = {name: pixels[inside] for name, pixels in object_classes(around.shape, masks).items()}
    return _Reference(truth, scene.dsm.read(region) - truth, classes)


def _evaluation(
    residuals: Sequence[Array], references: Sequence[_Reference], scene: Scene, *, with_initial: bool
) -> Evaluation:
    """Figures over residuals of all regions, of one view set or of several one after the other."""

    def figures(values: Sequence[Array]) -> dict[str, Statistics]:
        judged = list(zip(values, cycle(references), strict=False))
        return {
            name: statistics(np.concatenate([part[reference.classes[name]] for part, reference in judged]))
            for name in references[0].classes
        }

    return Evaluation(
        refined=figures(residuals),
        initial=figures([reference.before for reference in references]) if with_initial else None,
        pixel_area_m2=scene.grid.pixel_area,
    )


def _complete_test_config(plan: TestPlan) -> dict[str, Any]:
    areas = []
    for area in plan.areas:
        described: dict[str, Any] = {"area_defn": extents(area.regions)}
        if area.scene.image_paths:
            described["image_list"] = [str(path) for path in area.scene.image_paths]
            described["image_pairs"] = [list(view_set) for view_set in area.view_sets]
        areas.append(described)
    content = complete_config(plan.config, areas)
    architecture = plan.model.architecture
    content["model"] |= {
        "name": architecture.name,
        "input_channels": architecture.input_channels,
        "settings": dict(architecture.settings),
    }
    return content
