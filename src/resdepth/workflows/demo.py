"""The demonstration: a simulated town that no training has seen, refined with the bundled model.

Everything runs through the same configuration files and workflows that users have.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resdepth.data.image_lists import read_image_list, read_pair_list
from resdepth.data.scene import Scene, used_views
from resdepth.errors import InputProblems, Problem
from resdepth.evaluation.request import REFINED
from resdepth.evaluation.result import OVERALL, Evaluation, EvaluationResult, read_result
from resdepth.geo.geotiff import refuse_inputs_as_outputs
from resdepth.geo.raster import read_header
from resdepth.models.pretrained import TOWN_STEREO
from resdepth.models.published import load_model
from resdepth.options import AnyStyle
from resdepth.refinement.compatibility import examine, stated_gsd
from resdepth.report.page import PageContent, reading, write_page
from resdepth.report.page_contents import tables_of
from resdepth.runtime.atomic import write_json
from resdepth.simulate.dataset import MODEL, SceneFolder, largest_tile
from resdepth.simulate.settings import SimulateConfig, TownSettings
from resdepth.simulate.simulation import simulate
from resdepth.workflows._demo_folder import DATASET, PAGE, RECORD, contents, take_folder, write_record
from resdepth.workflows.evaluate import JSON
from resdepth.workflows.simulate import read_scene_facts
from resdepth.workflows.test import PairResult, test

logger = logging.getLogger(__name__)

SIZE_PX = 1024


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration gave.

    Attributes:
        page: to be looked at.
        results: with each pair of images.
    """

    page: Path
    results: tuple[PairResult, ...]


@dataclass(frozen=True)
class _OwnData:
    """A data set in the layout of the authors' demonstration.

    Attributes:
        initial, truth: heights; there need not be a truth.
        images, pairs: the lists.
        masks: by name.
    """

    initial: Path
    truth: Path | None
    images: Path
    pairs: Path
    masks: Mapping[str, Path]


def run_demo(
    folder: Path,
    *,
    seed: int = 0,
    style: AnyStyle = "any",
    data: Path | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> Demonstration:
    """Simulate a town, refine its DSM with the bundled model, evaluate it, and show it on a page.

    Args:
        folder: receives data/, models/, configs/, results/, results_expected/ and the page.
        seed: of the town.
        style: of the town; "any" lets the seed choose.
        data: a scene of one's own instead: the folder that holds data/ in the same layout.
        overwrite: replace an earlier demonstration in the folder: what it wrote, and nothing else.
        force: refine data that the model does not fit; the mismatches are then warnings.

    Raises:
        Unsuitable: if the data do not fit the model, unless forced; the message lists all mismatches.
        ResDepthError: if the folder holds a demonstration or something else, a training say, or the data are
            not complete.
    """
    misfits = () if data is None else _misfits(_found_data(data), force=force)
    if data is not None:
        refuse_inputs_as_outputs(_files(_found_data(data)), [folder / name for name in contents(folder)])
    made_from = {"seed": seed, "style": style, "data": None if data is None else str(data.resolve())}
    take_folder(folder, made_from, overwrite=overwrite)
    if data is None:
        _simulated(folder, seed, style)
    found = _found_data(folder if data is None else data)
    model = folder / "models" / MODEL
    model.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(TOWN_STEREO, model)
    config = folder / "configs" / "config_simple.json"
    for name in ("configs", "results"):  # relative outputs lead to where a folder is
        (folder / name).mkdir(exist_ok=True)
    write_json(config, _test_config(found, config.parent.resolve()))
    results = tuple(test(config))
    expected = folder / "results_expected"
    shutil.rmtree(expected, ignore_errors=True)
    shutil.copytree(folder / "results", expected)
    page = folder / PAGE
    write_page(page, _page(found, results[0], folder, misfits))
    write_record(folder, made_from, complete=True)
    return Demonstration(page, results)


def _simulated(folder: Path, seed: int, style: AnyStyle) -> None:
    """Simulate the town, unless the folder holds it already."""
    if (folder / "scene.json").exists() and not SceneFolder(folder).is_untidy():
        logger.info("%s: the town is there already", folder)
        return
    config = SimulateConfig(seed=seed, town=TownSettings(style=style, size_px=SIZE_PX))
    simulate("town", folder, config, beside=[RECORD])


def _found_data(scene: Path) -> _OwnData:
    """The files of a data set by the names that they have in the authors' demonstration, or here.

    Raises:
        InputProblems: with everything that is missing.
    """
    problems: list[Problem] = []

    def one(pattern: str, what: str) -> Path | None:
        matches = sorted((scene / "data").glob(pattern))
        if len(matches) != 1:
            found = f"{len(matches)} files match" if matches else "no file matches"
            problems.append(Problem(f"{scene / 'data' / pattern}", f"{found}; {what} is expected here"))
        return matches[0] if len(matches) == 1 else None

    initial = one("dsm/*initial*.tif", "the initial DSM")
    images = one("image_selection/imagelist.txt", "the list of the ortho-images")
    simple = sorted((scene / "data" / "image_selection").glob("pairlist_simple.txt"))
    pairs = simple[0] if simple else one("image_selection/pairlist*.txt", "the list of image pairs")
    if initial is None or images is None or pairs is None:
        raise InputProblems(problems)
    references = sorted((scene / "data").glob("dsm/*truth*.tif"))
    masks = {
        name: path
        for name in ("building", "water", "forest", "ground_truth")
        for path in sorted((scene / "data" / "mask").glob(f"*{name}*.tif"))[:1]
    }
    return _OwnData(initial, references[0] if references else None, images, pairs, masks)


def _files(found: _OwnData) -> list[Path | None]:
    """All files of a data set."""
    images = read_image_list(found.images)[0] or ()
    return [found.initial, found.truth, found.images, found.pairs, *found.masks.values(), *images]


def _misfits(found: _OwnData, *, force: bool) -> tuple[str, ...]:
    """What keeps the model from fitting own data.

    Raises:
        Unsuitable: if anything does, unless forced.
    """
    paths = read_image_list(found.images)[0] or ()
    view_sets, _ = read_pair_list(found.pairs, paths, n_views=2)
    if not view_sets:
        return ()  # `test` reports what is wrong with the lists
    used, model = used_views(view_sets), load_model(TOWN_STEREO)
    scene = Scene.open(found.initial, [paths[view] for view in used])
    renumbered = [tuple(used.index(view) for view in view_set) for view_set in view_sets]
    findings = examine(model, scene, renumbered, scene.grid.whole, stated_gsd(scene))
    if not force:
        findings.refuse_misfits(model)
    return findings.misfits


def _test_config(found: _OwnData, named_in: Path) -> dict[str, Any]:
    """Refine the whole scene with its best pair; paths are relative where the data lie beside."""

    def named(path: Path) -> str:
        scene = named_in.parent
        inside = path.resolve().is_relative_to(scene)
        return str(Path("..") / path.resolve().relative_to(scene)) if inside else str(path.resolve())

    dataset: dict[str, Any] = {
        "name": DATASET,
        "raster_in": named(found.initial),
        "path_image_list": named(found.images),
        "path_pairlist": named(found.pairs),
        "allocation_strategy": "entire",
    }
    if found.truth is not None:
        dataset["raster_gt"] = named(found.truth)
        dataset |= {f"mask_{name}": named(path) for name, path in found.masks.items()}
    grid = read_header(found.initial).grid
    return {
        "datasets": [dataset],
        "model": {"path": f"../models/{MODEL}"},
        "general": {"tile_size": largest_tile(grid.height, grid.width)},
        "output": {"directory": "../results"},
    }


def _page(found: _OwnData, result: PairResult, folder: Path, misfits: Sequence[str]) -> PageContent:
    """What there is to show: before, after, and what the network saw."""
    surfaces = {"Initial DSM": found.initial, "Refined DSM": result.predictions[0]}
    if found.truth is not None:
        surfaces["Reference DSM"] = found.truth
    paths = read_image_list(found.images)[0] or ()
    (first, *_), _ = read_pair_list(found.pairs, paths, n_views=2)  # `test` refined with it: it is there
    facts = {
        "Model": f"{MODEL}: {TOWN_STEREO.stat().st_size / 1e6:.1f} MB, trained on other simulated towns",
        "Configuration": f"{folder / 'configs' / 'config_simple.json'}",
        "To run it again": f"resdepth test {folder / 'configs' / 'config_simple.json'}",
        "What it should give": f"{folder / 'results_expected'}",
    }
    record = folder / "scene.json"
    if record.exists():
        facts |= read_scene_facts(record)
    outcome = None if found.truth is None else _result(result)
    return PageContent(
        title="A surface model, refined",
        lead=headline(result.evaluation),
        grid=read_header(found.initial).grid,
        surfaces={name: reading(path, "average") for name, path in surfaces.items()},
        reference="Initial DSM" if found.truth is None else "Reference DSM",
        images={
            f"Ortho-image {paths[view].name}": reading(paths[view], "average", "stored") for view in first
        },
        tables=[] if outcome is None else tables_of(outcome),
        outcome=outcome,
        facts=facts,
        warnings=misfits,
        difference="change" if found.truth is None else "error",
    )


def _result(result: PairResult) -> EvaluationResult:
    """What `test` found, by the names of the page."""
    stored = read_result(result.predictions[0].parents[1] / JSON)
    names = {stored.initial: "Initial DSM", result.views or REFINED: "Refined DSM"}
    surfaces = {
        title: replace(stored.surfaces[name], name=title) for name, title in names.items() if name is not None
    }
    return replace(stored, surfaces=surfaces, initial="Initial DSM")


def headline(evaluation: Evaluation | None) -> str:
    """The result in a sentence."""
    if evaluation is None or evaluation.initial is None:
        return "Refined. Without a reference DSM there is nothing to compare with."
    before, after = evaluation.initial[OVERALL].mae, evaluation.refined[OVERALL].mae
    change = 100 * (after / before - 1)
    return f"The mean absolute error goes from {before:.2f} m to {after:.2f} m ({change:+.0f} %)."
