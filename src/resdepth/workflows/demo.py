"""The demonstration: a simulated town that no training has seen, refined with the bundled model.

Everything runs through the same configuration files and workflows that users have. The folder's record states
what was written, and nothing else is ever removed.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from resdepth.data.dataset_folder import MODEL, SCENE_MASKS, largest_tile
from resdepth.data.scene import Scene, read_image_list, read_pair_list, used_views
from resdepth.errors import InputProblems, Problem, ResDepthError
from resdepth.evaluation.request import REFINED
from resdepth.evaluation.result import OVERALL, Evaluation, EvaluationResult, read_result
from resdepth.geo.geotiff import refuse_existing, refuse_inputs_as_outputs
from resdepth.geo.raster import read_header
from resdepth.models.pretrained import TOWN_STEREO
from resdepth.models.published import CONFIG_FILE, load_model
from resdepth.options import AnyStyle
from resdepth.refinement.compatibility import examine, stated_gsd
from resdepth.report.page import LEAD, PageContent, reading, today, write_page
from resdepth.report.page_tables import tables_of
from resdepth.report.tables import csv_text
from resdepth.report.verdict import verdict_of
from resdepth.runtime.atomic import is_unfinished, write_json, writing
from resdepth.runtime.jsonfiles import demand, read_json
from resdepth.simulate.dataset import SceneFolder
from resdepth.simulate.plan import SimulateConfig, TownSettings
from resdepth.simulate.simulation import simulate
from resdepth.training.run_folder import ORIGINAL_CONFIG_FILE
from resdepth.workflows.evaluate import JSON
from resdepth.workflows.evaluate import PAGE as TEST_PAGE
from resdepth.workflows.simulate import read_scene_facts
from resdepth.workflows.test import OVER_ALL_PAIRS, PairResult, test

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
        initial, reference: heights; there need not be a reference DSM.
        images, pairs: the lists.
        masks: by name.
    """

    initial: Path
    reference: Path | None
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
    names = ("reference", "truth")  # the second is that of the authors
    references = [path for name in names for path in sorted((scene / "data").glob(f"dsm/*{name}*.tif"))]
    masks = {
        name: path
        for name in ("building", "water", "forest", "ground_truth")
        for path in sorted((scene / "data" / "mask").glob(f"*{name}*.tif"))[:1]
    }
    return _OwnData(initial, references[0] if references else None, images, pairs, masks)


def _files(found: _OwnData) -> list[Path | None]:
    """All files of a data set."""
    images = read_image_list(found.images)[0] or ()
    return [found.initial, found.reference, found.images, found.pairs, *found.masks.values(), *images]


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
    if found.reference is not None:
        dataset["raster_gt"] = named(found.reference)
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
    if found.reference is not None:
        surfaces["Reference DSM"] = found.reference
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
    outcome = None if found.reference is None else _result(result)
    return PageContent(
        title="A surface model, refined",
        lead=headline(None) if outcome is None else LEAD,
        grid=read_header(found.initial).grid,
        surfaces={name: reading(path, "average") for name, path in surfaces.items()},
        reference="Initial DSM" if found.reference is None else "Reference DSM",
        images={
            f"Ortho-image {paths[view].name}": reading(paths[view], "average", "stored") for view in first
        },
        tables=[] if outcome is None else tables_of(outcome),
        verdict=None if outcome is None else verdict_of(outcome),
        day=today(),
        csv="" if outcome is None else csv_text(outcome),
        outcome=outcome,
        facts=facts,
        warnings=misfits,
        difference="change" if found.reference is None else "error",
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


RECORD = "demo.json"
PAGE = "demo.html"
DATASET = "ResDepth-stereo"
SHOWN = 3
TEXTS = (".txt", ".json", ".html")
# What the simulation, the demonstration and `test` write into the folder; * stands for a slash, too.
WRITTEN = (
    "data", "models", "configs", "results", "results_expected", "logs", "unfinished", "unfinished/*",
    "scene.json", "simulate.json", PAGE,
    "data/dsm/initial.tif", "data/dsm/reference.tif",
    *(f"data/mask/{name}.tif" for name in (*SCENE_MASKS, "void", "shadow_date[0-9]")),
    *(f"data/satellite_views/{raw}date[0-9][a-z].tif" for raw in ("", "raw/")),
    *(f"data/image_selection/{name}.txt" for name in ("imagelist", "pairlist", "pairlist_simple",
                                                      "pairlist_generalized")),
    f"models/{MODEL}",
    *(f"configs/config_{name}.json" for name in ("simple", "test", "train")),
    *(f"{results}/{DATASET}/{name}" for results in ("results", "results_expected") for name in (
        CONFIG_FILE, ORIGINAL_CONFIG_FILE, JSON, TEST_PAGE, f"*{OVER_ALL_PAIRS}", "*_stereopairs.json",
        *(f"Stereopair_[0-9]*/*_{kind}.{suffix}"
          for kind in ("prediction", "residuals") for suffix in ("tif", "qml")),
        *(f"Stereopair_[0-9]*/*_prediction_statistics.{suffix}" for suffix in ("txt", "json")),
    )),
)  # fmt: skip


@dataclass(frozen=True)
class _Record:
    """What a demonstration is made from, and the SHA-256 of its files by name; none until it is complete."""

    made_from: dict[str, Any]
    files: dict[str, str]


def take_folder(folder: Path, made_from: Mapping[str, Any], *, overwrite: bool) -> None:
    """Begin a demonstration in a folder, or resume one that was stopped.

    Args:
        folder: made if it is not there.
        made_from: what tells demonstrations from each other.
        overwrite: remove an earlier demonstration first.

    Raises:
        ResDepthError: if the folder holds a complete demonstration and is not to be overwritten, or anything
            that no demonstration wrote.
    """
    found = [name for name in contents(folder) if not is_unfinished(folder / name)]
    if found:
        record = _read_record(folder)
        if not overwrite and (record.files or record.made_from != made_from):
            refuse_existing([folder], overwrite=False)
        _refuse_strange(folder, record)
        if not overwrite:
            logger.info("%s: resuming", folder)
            return
        _empty(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, made_from, complete=False)


def write_record(folder: Path, made_from: Mapping[str, Any], *, complete: bool) -> None:
    """State what a demonstration is made from and, once it is complete, what it wrote."""
    names = [name for name in contents(folder) if _is_called_like_ours(name)] if complete else []
    files = {name: _digest(folder / name) for name in names if (folder / name).is_file()}
    write_json(folder / RECORD, {"made_from": dict(made_from), "files": files})


def contents(folder: Path) -> list[str]:
    """Names of all files and links, and of what lies in the folder itself; links are not followed."""
    found = []
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink() or Path(place) == folder]
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(found)


def _read_record(folder: Path) -> _Record:
    path = folder / RECORD
    if path.is_symlink() or not path.is_file():
        raise ResDepthError(
            f"{folder}: not empty, and holds no demonstration; choose another folder with --to"
        )
    return demand(_Record, read_json(path), path)


def _refuse_strange(folder: Path, record: _Record) -> None:
    """Refuse a folder that holds what the demonstration did not write, or what has changed since."""
    strange = [name for name in contents(folder) if not _is_own(folder, name, record)]
    if strange:
        shown = ", ".join(strange[:SHOWN])
        shown += f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
        raise ResDepthError(
            f"{folder}: holds {shown}, which no demonstration wrote, or which has changed since; move it "
            "away, or choose another folder with --to"
        )


def _is_own(folder: Path, name: str, record: _Record) -> bool:
    path = folder / name
    if path.is_symlink():
        return False
    if name == RECORD or any(is_unfinished(Path(part)) for part in Path(name).parts):
        return True
    if path.is_dir() or not record.files:
        return _is_called_like_ours(name)
    beside = name.removesuffix(".aux.xml")  # what GDAL finds out about a raster
    if beside != name and beside in record.files:
        return True
    if name not in record.files or not path.is_file():
        return False
    # `test`, run again with the configuration of the demonstration, names other paths and times in its texts.
    is_text = name.startswith("results/") and path.suffix in TEXTS
    return is_text or record.files[name] == _digest(path)


def _is_called_like_ours(name: str) -> bool:
    return any(fnmatchcase(name, one) for pattern in WRITTEN for one in (pattern, f"{pattern}.aux.xml"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _empty(folder: Path) -> None:
    """Remove all files, the record last, and the folders within."""
    names = [name for name in contents(folder) if name != RECORD]
    for path in (folder / name for name in names):
        if path.is_symlink() or not path.is_dir():
            with writing(path):
                path.unlink()
    for place, folders, _ in os.walk(folder, topdown=False):
        for path in (Path(place) / name for name in folders):
            with writing(path):
                path.rmdir()
    with writing(folder / RECORD):
        (folder / RECORD).unlink(missing_ok=True)
