"""What will hurt in a data set, in plain words: a folder, a configuration, or rasters are looked at."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from resdepth.config.parse import SCHEMAS, kind_of, load_test_config, load_train_config
from resdepth.config.rules import conclusions, dataset_name, strategy_of, test_rules, tile_of, train_rules
from resdepth.config.schema import (
    TestConfig,
    TestDataset,
    TrainConfig,
    TrainDataset,
    UnknownValueError,
    paths_in,
)
from resdepth.data.dataset_folder import DatasetFolder, dataset_in
from resdepth.data.scene import MASKS, read_image_list
from resdepth.diagnosis.alignment import alignment_findings
from resdepth.diagnosis.findings import Diagnosis, Finding, of_problems, ordered
from resdepth.diagnosis.ortho_images import image_findings
from resdepth.diagnosis.subject import Opened, Subject, open_subject
from resdepth.diagnosis.surfaces import surface_findings, without_undeclared
from resdepth.errors import InputProblems, Problem, ResDepthError, unusable
from resdepth.models.model import Model
from resdepth.models.published import load_model
from resdepth.options import option
from resdepth.preparation.adapters import recognise
from resdepth.runtime.paths import NO_SUCH_FILE, is_there, why_no_file
from resdepth.runtime.yamlfiles import CONFIG_SUFFIXES, read_config
from resdepth.stereo.ortho import has_rpc
from resdepth.workflows.check import read_model

CONFIGURATIONS = ("config_train.json", "config_test.json")
"""Of the folder of a data set, the first that is there."""
DSM_NAMES = ("initial.tif", "dsm.tif", "*initial*.tif", "*[dD][sS][mM]*.tif")
REFERENCE_NAMES = ("reference.tif", "truth.tif", "*reference*.tif", "*truth*.tif")
ORTHO_NAMES = ("*ortho*.tif",)


@dataclass(frozen=True)
class _Asked:
    """What is to be looked at, and what was found wrong or left out on the way there."""

    subjects: tuple[Subject, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def doctor(
    subject: str | Path,
    images: Sequence[str | Path] = (),
    *,
    reference: str | Path | None = None,
    model: Model | str | Path | None = None,
) -> Diagnosis:
    """Look for what will hurt when data are trained on, refined or evaluated.

    Headers are read, and samples of the pixels, so that large rasters take no longer than others. Nothing is
    written. Rasters need not lie on one grid: what lies elsewhere is a finding, and is compared all the same.

    Args:
        subject: a folder (as `simulate` writes it, of a finished run of a stereo pipeline, or with rasters
            named initial.tif, reference.tif, ortho*.tif), a configuration file, or an initial DSM.
        images: of an initial DSM: ortho-images, or raw images with RPCs.
        reference: of an initial DSM: the reference DSM.
        model: what the data are for, a model or where it lies; by default that of a test configuration.

    Raises:
        ResDepthError: if there is nothing to look at, or a file cannot be read.

    Examples:
        >>> import resdepth
        >>> found = resdepth.doctor("initial.tif", ["ortho1.tif"], reference="reference.tif")
        >>> for finding in found.findings:
        ...     print(finding.severity, finding.kind)
        note size
    """
    subject = Path(subject)
    asked = _asked(subject, [Path(image) for image in images], None if reference is None else Path(reference))
    if model is not None:
        used = model if isinstance(model, Model) else load_model(model)
        asked = replace(asked, subjects=tuple(replace(one, model=used) for one in asked.subjects))
    findings, looked_at, left_out = list(asked.findings), [], list(asked.notes)
    for one in asked.subjects:
        opened, found = open_subject(one)
        findings += found
        if opened is not None:
            more, missed = _looked_at(opened)
            findings += more
            left_out += missed
            looked_at.append(_described(opened))
    return Diagnosis(str(subject), ordered(findings), tuple(looked_at), tuple(dict.fromkeys(left_out)))


def _looked_at(opened: Opened) -> tuple[list[Finding], list[str]]:
    """What all looks at a data set find, and what they could not compare."""
    opened, found = without_undeclared(opened)
    found += [*surface_findings(opened), *alignment_findings(opened)]
    of_images, left_out = image_findings(opened)
    subject = opened.subject
    if subject.reference is None:
        left_out.insert(
            0, f"{subject.dsm.name} beside a reference DSM: there is none ({option('reference')})"
        )
    elif opened.scene.reference is None:
        left_out.insert(
            0, f"{subject.dsm.name} beside {subject.reference.name}, which is not usable as it is"
        )
    if not subject.images and not subject.raw:
        left_out.append(f"images of {subject.dsm.name}: there are none")
    return found + of_images, left_out


def _described(opened: Opened) -> str:
    """What was looked at, in words."""
    subject, grid = opened.subject, opened.scene.grid
    parts = [f"{subject.dsm.name} ({grid.height} x {grid.width} pixels of {grid.sides_m} m, {grid.crs_name})"]
    if subject.reference:
        parts.append(f"reference DSM {subject.reference.name}")
    for name, paths in (("ortho-images", subject.images), ("raw images", subject.raw)):
        if paths:
            parts.append(f"{name} {', '.join(path.name for path in paths)}")
    return "; ".join(parts)


def _asked(subject: Path, images: list[Path], reference: Path | None) -> _Asked:
    is_alone = subject.is_dir() or subject.suffix.lower() in CONFIG_SUFFIXES
    if is_alone and (images or reference):
        named = images[0] if images else reference
        raise ResDepthError(
            f"{named}: images and a reference DSM go with an initial DSM; {subject} names its own"
        )
    if subject.is_dir():
        return _of_folder(subject)
    if reason := why_no_file(subject):
        what = "file or folder" if reason == NO_SUCH_FILE else "file"
        raise unusable(subject, reason.replace("file", what, 1))
    if subject.suffix.lower() in CONFIG_SUFFIXES:
        return _of_configuration(subject)
    return _of_rasters(subject, images, reference)


def _of_rasters(dsm: Path, images: Iterable[Path], reference: Path | None) -> _Asked:
    """A data set of files that were named one by one."""
    missing = [Problem(str(path), reason) for path in images if (reason := why_no_file(path))]
    if reference is not None and (reason := why_no_file(reference)):
        missing.append(Problem(str(reference), reason))
    if missing:
        raise InputProblems(missing)
    raw = tuple(path for path in images if has_rpc(path))
    ortho = tuple(path for path in images if path not in raw)
    return _Asked((Subject(dsm.stem, dsm, reference, ortho, raw),))


def _of_folder(folder: Path) -> _Asked:
    """What a folder holds: a configuration, rasters by their names, or a run of a stereo pipeline."""
    if (data := dataset_in(folder)) is not None:
        return _of_dataset_folder(data)
    try:
        run = recognise(folder)
    except InputProblems as error:
        return _by_names(folder, error)
    raw, ortho = (run.images, ()) if run.are_raw else ((), run.images)
    found = tuple(Finding("pipeline", "note", run.software, f"{note}.") for note in run.notes)
    return _Asked((Subject(folder.name, run.dsm, None, ortho, raw),), found)


def _of_dataset_folder(folder: DatasetFolder) -> _Asked:
    """What `simulate` or `prepare` has made: by its configuration, with the raw images in it."""
    raw = tuple(_shortest(path) for path in folder.images if has_rpc(path))
    for name in CONFIGURATIONS:
        if is_there(folder.configs / name):
            asked = _of_configuration(folder.configs / name)
            # The model in the folder is the bundled one; `test` says whether it fits.
            return replace(asked, subjects=tuple(replace(one, raw=raw, model=None) for one in asked.subjects))
    reference = folder.reference if folder.reference.is_file() else None
    orthos = tuple(folder.ortho_image(path.stem) for path in folder.images)
    return _Asked((Subject(folder.path.name, folder.initial, reference, orthos, raw),))


def _by_names(folder: Path, refusal: InputProblems) -> _Asked:
    """A folder with rasters whose names say what they are.

    Raises:
        InputProblems: if there is no initial DSM; what was found wrong with it as a run of a pipeline.
    """
    references = _first_named(folder, REFERENCE_NAMES)
    dsms = [path for path in _first_named(folder, DSM_NAMES) if path not in references]
    rasters = sorted(folder.glob("*.tif"))
    raw = tuple(path for path in rasters if path not in (*dsms, *references) and has_rpc(path))
    if not dsms and raw:
        named = " ".join(str(path) for path in raw)
        raise unusable(folder, f"holds raw images and no DSM; make one: resdepth match {named} -o dsm.tif")
    if not dsms:
        raise refusal
    if len(dsms) > 1 or len(references) > 1:
        listed = ", ".join(path.name for path in (dsms if len(dsms) > 1 else references))
        what = "initial" if len(dsms) > 1 else "reference"
        raise unusable(folder, f"which is the {what} DSM: {listed}? Name the files (resdepth doctor DSM ...)")
    orthos = tuple(dict.fromkeys(path for name in ORTHO_NAMES for path in sorted(folder.glob(name))))
    orthos = tuple(path for path in orthos if path not in (*dsms, *references, *raw))
    masks = {name: path for name in MASKS if (path := folder / f"mask_{name}.tif").is_file()}
    used = {*dsms, *references, *raw, *orthos, *masks.values()}
    notes = tuple(f"{path.name}: its name says nothing of what it is" for path in rasters if path not in used)
    reference = next(iter(references), None)
    return _Asked((Subject(folder.name, dsms[0], reference, orthos, raw, masks),), notes=notes)


def _first_named(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The files of the first pattern that has any."""
    return next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])


def _of_configuration(path: Path) -> _Asked:
    """The data sets of a configuration, and what is wrong with its keys."""
    kind = kind_of(read_config(path), SCHEMAS)
    config: TrainConfig | TestConfig
    config, wrong = load_train_config(path) if kind == "train" else load_test_config(path)
    rules = (
        train_rules(config)
        if isinstance(config, TrainConfig)
        else test_rules(config, sees_images=None, depth=0)
    )
    findings = of_problems([*wrong, *conclusions(rules)], "configuration")
    model, tile = None, None
    if isinstance(config, TestConfig):
        model, problems = read_model(config)
        findings += of_problems(problems, "configuration")
    with suppress(UnknownValueError):
        tile, _ = tile_of(config)
    subjects = []
    datasets: Sequence[TrainDataset | TestDataset] = getattr(config, "datasets", ())
    for index, dataset in enumerate(datasets):
        if not hasattr(dataset, "raster_in"):
            continue  # a problem that is stated already
        stripes = ""
        with suppress(UnknownValueError):
            strategy = strategy_of(config, dataset)
            stripes = strategy.rpartition("_")[2] if strategy.startswith("5-crossval") else ""
        one, found = _of_dataset(dataset, dataset_name(dataset, index))
        subjects.append(replace(one, model=model, tile=tile, stripes=stripes, is_trained_on=True))
        findings += found
    return _Asked(tuple(subjects), tuple(findings))


def _of_dataset(dataset: TrainDataset | TestDataset, name: str) -> tuple[Subject, list[Finding]]:
    named = {str(loc[-1]): _shortest(path) for loc, _, path in paths_in(dataset)}
    images, findings = None, []
    if "path_image_list" in named:
        images, problems = read_image_list(named["path_image_list"])
        findings = of_problems(problems, "configuration")
    masks = {mask: named[f"mask_{mask}"] for mask in MASKS if f"mask_{mask}" in named}
    orthos = tuple(_shortest(image) for image in images or ())
    return Subject(name, named["raster_in"], named.get("raster_gt"), orthos, masks=masks), findings


def _shortest(path: Path) -> Path:
    """A path without its detours, from the working directory if it is below that; to be shown and typed."""
    plain, here = Path(os.path.normpath(path)), Path.cwd()
    return plain.relative_to(here) if plain.is_relative_to(here) else plain
