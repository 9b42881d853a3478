"""From a test configuration to refined DSMs and their statistics."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resdepth.checking import TestArea, TestPlan, plan_test
from resdepth.engine import Refiner, choose_device
from resdepth.errors import ResDepthError
from resdepth.evaluation import (
    BUILDING_DILATION_PX,
    Evaluation,
    Mask,
    Statistics,
    object_classes,
    statistics,
)
from resdepth.progress import Progress, progress_bar
from resdepth.published import CONFIG_FILE
from resdepth.raster import Array, atomic_path, new_geotiff
from resdepth.refinement import refine_region
from resdepth.report.text import format_overall_statistics, format_statistics, write_statistics
from resdepth.runs import ORIGINAL_CONFIG_FILE, write_json
from resdepth.scene import MASKS, Scene, ViewSet
from resdepth.windows import Window, tile_grid
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


@dataclass
class _Residuals:
    """Residuals of one view set over all regions, per class of objects; metres."""

    refined: dict[str, list[Array]] = field(default_factory=dict)
    initial: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, classes: Mapping[str, Mask], refined: Array, initial: Array) -> None:
        valid = np.isfinite(refined)
        for name, inside in classes.items():
            self.refined.setdefault(name, []).append(refined[inside & valid])
            self.initial.setdefault(name, []).append(initial[inside & valid])


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
    refiner = Refiner(plan.model, device=choose_device(general.device), batch_size=general.batch_size)
    results = []
    tiles = _count_tiles(plan)
    with _threads(general.workers), progress_bar("refining", tiles, unit="tiles") as progress:
        for index, area in enumerate(plan.areas):
            results += _test_area(plan, index, area, refiner, progress)
    return results


test.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """Let torch compute with so many threads as long as the block runs; None or 0: as many as it likes."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _count_tiles(plan: TestPlan) -> int:
    tile = plan.config.general.tile_size
    return sum(
        len(tile_grid(region, tile, tile // 2)) * len(area.view_sets)
        for area in plan.areas
        for region in area.regions
    )


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
        shutil.copyfile(plan.source, temporary)
    weights = plan.config.model.weights or plan.config.model.path or ""
    name = plan.model.architecture.name
    results, over_all = [], _Residuals()
    stem = Path(plan.config.datasets[index].raster_in).stem
    for view_set in area.view_sets:
        views = refiner.inputs.folder_name(view_set)
        (folder / views).mkdir(exist_ok=True)
        predictions, residuals = _refine_area(
            area, view_set, refiner, plan.config.general.tile_size, folder / views / stem, progress
        )
        evaluation = None
        if area.scene.truth is not None:
            evaluation = _evaluation(residuals, area.scene, with_initial=True)
            text = format_statistics(evaluation, name, weights)
            write_statistics(folder / views / f"{stem}_prediction_statistics.txt", text, evaluation)
            for label, parts in residuals.refined.items():
                over_all.refined.setdefault(label, []).extend(parts)
        results.append(PairResult(area.name, views, predictions, evaluation))
    if len(area.view_sets) > 1 and area.scene.truth is not None:
        evaluation = _evaluation(over_all, area.scene, with_initial=False)
        text = format_overall_statistics(evaluation, name, weights)
        write_statistics(folder / f"{stem}{OVER_ALL_PAIRS}", text, evaluation)
        results.append(PairResult(area.name, "all", (), evaluation))
    return results


def _refine_area(
    area: TestArea, view_set: ViewSet, refiner: Refiner, tile: int, stem: Path, progress: Progress
) -> tuple[tuple[Path, ...], _Residuals]:
    """Refine all regions with one view set; `stem` is the beginning of the results' names."""
    predictions, residuals = [], _Residuals()
    scene = area.scene
    for number, region in enumerate(area.regions):
        suffix = f"_{number}" if len(area.regions) > 1 else ""
        path = stem.with_name(f"{stem.name}_prediction{suffix}.tif")
        refined = np.empty(region.shape, dtype=np.float64) if scene.truth is not None else None
        with new_geotiff(path, scene.grid.crop(region), dtype=_height_type(scene)) as output:
            for strip in refine_region(scene, view_set, region, refiner, tile, progress):
                output.write(strip.row, strip.values)
                if refined is not None:
                    refined[strip.row : strip.row + len(strip.values)] = strip.values
        predictions.append(path)
        if refined is None:
            continue
        after, before, classes = _judge(scene, region, refined)
        residuals.add(classes, after, before)
        path = stem.with_name(f"{stem.name}_residuals{suffix}.tif")
        with new_geotiff(path, scene.grid.crop(region), dtype=_height_type(scene)) as output:
            for row in range(0, region.height, ROWS_AT_ONCE):
                output.write(row, after[row : row + ROWS_AT_ONCE])
    return tuple(predictions), residuals


def _height_type(scene: Scene) -> str:
    """The type of the initial DSM; float32 where that would round heights (tests/test_test_workflow.py)."""
    header = getattr(scene.dsm, "header", None)
    return header.dtype if header is not None and header.dtype in ("float32", "float64") else "float32"


def _judge(
    scene: Scene, region: Window, refined: NDArray[np.float64]
) -> tuple[Array, Array, dict[str, Mask]]:
    """Residuals after and before refinement (NaN where invalid), and the classes of objects."""
    assert scene.truth is not None, "only scenes with a truth are judged"
    truth = scene.truth.read(region)
    # Buildings beside the region grow into it.
    around = region.grown(BUILDING_DILATION_PX, scene.grid.whole)
    inside = region.relative_to(around).slices
    masks = {name: scene.read_mask(name, around) for name in MASKS if name in scene.masks}
    if "ground_truth" in masks:
        truth[~masks.pop("ground_truth")[0][inside]] = np.nan
    classes = {name: pixels[inside] for name, pixels in object_classes(around.shape, masks).items()}
    return (refined - truth).astype(np.float32), scene.dsm.read(region) - truth, classes


def _evaluation(residuals: _Residuals, scene: Scene, *, with_initial: bool) -> Evaluation:
    def figures(parts: Mapping[str, list[Array]]) -> dict[str, Statistics]:
        return {name: statistics(np.concatenate(values)) for name, values in parts.items()}

    return Evaluation(
        refined=figures(residuals.refined),
        initial=figures(residuals.initial) if with_initial else None,
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
