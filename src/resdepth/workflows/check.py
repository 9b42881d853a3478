"""From a configuration file to a plan that can run: all files looked at, every problem reported at once.

Headers are read; what no header tells is looked for in the pixels: voids of the initial DSM, and, in a sample
of windows, undeclared voids and how the initial DSM lies to the reference DSM. Nothing is written.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from resdepth.config.parse import kind_of, load_test_config, load_train_config
from resdepth.config.rules import (
    dataset_name,
    list_problems,
    pair_lists,
    split_keys,
    test_rules,
    tile_size_problems,
    train_rules,
)
from resdepth.config.schema import (
    NetworkSettings,
    TestConfig,
    TestDataset,
    TestModel,
    TrainConfig,
    TrainDataset,
    paths_in,
)
from resdepth.data.arrays import look_for_undeclared
from resdepth.data.normalization import inputs_for_training
from resdepth.data.scene import (
    MASKS,
    Scene,
    SceneFiles,
    ViewSet,
    open_scene,
    read_image_list,
    read_pair_list,
    used_views,
)
from resdepth.errors import (
    InputProblems,
    Problem,
    ResDepthError,
    doubtful,
    has_errors,
    in_file,
    location,
    resting_on,
    without_consequences,
)
from resdepth.evaluation.coregistration import align
from resdepth.geo.raster import Band, FileBand, count_voids
from resdepth.geo.windows import Regions, Strategy, Window, bounding, corner_count, split_regions
from resdepth.models.model import Architecture, Model, check_weights, load_safetensors
from resdepth.models.published import PublishedFiles, load_published, read_training_state
from resdepth.options import Kind
from resdepth.refinement.engine import choose_device
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.paths import is_there, why_no_folder
from resdepth.training.optim import ignored_options, setting_problems, state_misfits

Doubts = Callable[[Iterable[str]], bool]
"""Whether any of these keys is wrong by itself, so that a stand-in has its place."""


@dataclass(frozen=True)
class TrainArea:
    """A data set ready for training.

    Attributes:
        scene: its rasters.
        train, val: the regions in use; empty if the data set does not serve for it.
        train_sets, val_sets: view sets to train and validate with.
        n_samples: patches to draw.
    """

    scene: Scene
    train: tuple[Window, ...]
    val: tuple[Window, ...]
    train_sets: tuple[ViewSet, ...]
    val_sets: tuple[ViewSet, ...]
    n_samples: int


@dataclass(frozen=True)
class TrainPlan:
    """A checked training configuration; `original` is its file, byte for byte."""

    config: TrainConfig
    source: Path
    original: bytes
    architecture: Architecture
    areas: tuple[TrainArea, ...]
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class TestArea:
    """A data set ready to be refined."""

    __test__ = False

    name: str
    scene: Scene
    regions: tuple[Window, ...]
    view_sets: tuple[ViewSet, ...]


@dataclass(frozen=True)
class TestPlan:
    """A checked test configuration; `original` is its file, byte for byte."""

    __test__ = False

    config: TestConfig
    source: Path
    original: bytes
    model: Model
    areas: tuple[TestArea, ...]
    warnings: tuple[Problem, ...] = ()


def check(path: str | Path, kind: Kind | None = None) -> list[Problem]:
    """Every problem of a configuration file, of either kind; an empty list if it can run.

    Args:
        path: the configuration file.
        kind: "train" or "test"; by default it is seen from the keys.
    """
    path = Path(path)
    try:
        kind = kind or kind_of(read_json(path))
        plan = plan_training(path) if kind == "train" else plan_test(path)
    except InputProblems as error:
        return list(error.problems)
    return list(plan.warnings)


def plan_training(path: Path, *, resumed: bool = False) -> TrainPlan:
    """Check a training configuration.

    Args:
        path: the configuration file.
        resumed: it is that of a run that resumes, which no longer needs the checkpoint it began with.

    Raises:
        InputProblems: everything that is wrong.
    """
    config, wrong = load_train_config(path)
    original, doubts = path.read_bytes(), _doubts(path, wrong)
    architecture = architecture_of(config)
    inputs_unknown = doubts(["model.input_channels", "multiview.config"])
    n_views = None if inputs_unknown else architecture.inputs.n_views
    found = list(train_rules(config))
    for name, message in setting_problems(config.scheduler):
        key = "scheduler.settings" + (f".{name}" if name else "")
        found.append(Problem(key, message, rests_on=("scheduler",)))
    areas = [_train_area(config, index, n_views, doubts) for index in range(len(config.datasets))]
    found += chain.from_iterable(problems for _, problems in areas)
    if config.model.pretrained_path is not None and not resumed:
        found += _checkpoint_problems(config.model.pretrained_path, config, architecture)
    found += _machine_problems(config)
    warnings = _refuse_errors(path, found, wrong)
    return TrainPlan(config, path, original, architecture, tuple(area for area, _ in areas if area), warnings)


def plan_test(path: Path) -> TestPlan:
    """Check a test configuration.

    Raises:
        InputProblems: everything that is wrong.
    """
    config, wrong = load_test_config(path)
    original, doubts = path.read_bytes(), _doubts(path, wrong)
    model, problems = read_model(config.model)
    found = [*test_rules(config), *problems]
    if model is not None:
        tile, depth = config.general.tile_size, model.architecture.depth
        found += tile_size_problems(tile, depth, "general.tile_size")
    areas = [_test_area(config, index, model, doubts) for index in range(len(config.datasets))]
    found += chain.from_iterable(problems for _, problems in areas)
    found += _machine_problems(config)
    warnings = _refuse_errors(path, found, wrong)
    assert model is not None, "what is wrong with it is an error"
    return TestPlan(config, path, original, model, tuple(area for area, _ in areas if area), warnings)


def architecture_of(config: TrainConfig) -> Architecture:
    """The network that a training configuration asks for."""
    model = config.model
    inputs = inputs_for_training(model.input_channels, config.multiview.config)
    chosen = model.model_dump(include=set(NetworkSettings.model_fields))
    return Architecture(model.name, model.input_channels, {"n_input_channels": inputs.n_channels, **chosen})


def _refuse_errors(path: Path, found: list[Problem], wrong: list[Problem]) -> tuple[Problem, ...]:
    """The warnings, where nothing but warnings was found.

    Args:
        path: the configuration file.
        found: problems at its keys.
        wrong: what is wrong with single keys.

    Raises:
        InputProblems: all problems, without what only follows from others.
    """
    problems = [*wrong, *without_consequences(in_file(path, found), wrong)]
    if has_errors(problems):
        raise InputProblems(problems)
    return tuple(problems)


def _doubts(path: Path, wrong: Collection[Problem]) -> Doubts:
    return lambda keys: doubtful([f"{path}: {key}" for key in keys], wrong)


def _train_area(
    config: TrainConfig, index: int, n_views: int | None, doubts: Doubts
) -> tuple[TrainArea | None, list[Problem]]:
    dataset, key = config.datasets[index], f"datasets[{index}]"
    images, (train_sets, val_sets), problems = _read_lists(dataset, n_views, key)
    name = dataset_name(dataset, index)
    scene, found = _open(name, dataset, key, images, [*train_sets, *val_sets])
    problems += found
    if scene is None:
        return None, problems
    strategy = dataset.allocation_strategy or config.general.allocation_strategy
    stripe = config.general.test_stripe if dataset.test_stripe is None else dataset.test_stripe
    regions = _split(scene, dataset, strategy, stripe)
    roles = [] if doubts(split_keys(key, "general")) else dataset.area_type.split("+")
    train, val = (regions.train if "train" in roles else ()), (regions.val if "val" in roles else ())
    tile, tile_key = config.training_settings.tile_size, "training_settings.tile_size"
    n_samples = dataset.n_training_samples or config.training_settings.n_training_samples
    found = _tile_problems((*train, *val), tile, f"{key}.raster_in", tile_key)
    possible = corner_count(train, tile)
    if train and not found and possible < n_samples:
        text = f"{n_samples} patches of {tile} x {tile} pixels wanted, only {possible} places are possible"
        causes = (tile_key, "training_settings.n_training_samples")
        found.append(Problem(f"{key}.n_training_samples", text, rests_on=causes))
    problems += [*found, *_pixel_problems(scene, (*train, *val), f"{key}.raster_in")]
    return TrainArea(scene, train, val, train_sets, val_sets, n_samples), problems


def _test_area(
    config: TestConfig, index: int, model: Model | None, doubts: Doubts
) -> tuple[TestArea | None, list[Problem]]:
    dataset, key = config.datasets[index], f"datasets[{index}]"
    name, results = dataset_name(dataset, index), Path(config.output.directory)
    n_views = None if model is None else model.architecture.inputs.n_views
    images, (view_sets,), problems = _read_lists(dataset, n_views, key)
    if n_views is not None:
        problems += list_problems(dataset, uses_images=n_views > 0, key=key)
    scene, found = _open(name, dataset, key, images, view_sets)
    problems += found
    if not why_no_folder(results) and (reason := why_no_folder(results / name)):
        problems.append(Problem(f"{key}.name", f"{results / name}: {reason}"))
    if scene is None:
        return None, problems
    split = _split(scene, dataset, dataset.allocation_strategy, dataset.test_stripe or 0)
    regions = () if doubts(split_keys(key)) else getattr(split, dataset.area_type or "test")
    tile = config.general.tile_size
    problems += _tile_problems(regions, tile, f"{key}.raster_in", "general.tile_size")
    problems += _pixel_problems(scene, regions, f"{key}.raster_in")
    return TestArea(name, scene, regions, view_sets or ((),)), problems


def _read_lists(
    dataset: TrainDataset | TestDataset, n_views: int | None, key: str
) -> tuple[tuple[Path, ...], list[tuple[ViewSet, ...]], list[Problem]]:
    """The images, the view sets of each pair list (none where it is absent), and what is wrong with them.

    Args:
        dataset: it names the lists.
        n_views: how many images the network takes; None if it is unknown.
        key: where the data set stands.
    """
    wanted = pair_lists(dataset)
    if n_views == 0:
        return (), [() for _ in wanted], []
    images: tuple[Path, ...] | None = None
    problems: list[Problem] = []
    if dataset.path_image_list is not None:
        images, found = read_image_list(Path(dataset.path_image_list))
        problems += _stated_at(f"{key}.path_image_list", found)
    view_sets = []
    for name, is_wanted in wanted.items():
        pair_list = getattr(dataset, name) if is_wanted else None
        sets, found = read_pair_list(Path(pair_list), images, n_views) if pair_list else ((), [])
        problems += _stated_at(f"{key}.{name}", found)
        view_sets.append(sets)
    if has_errors(problems) or images is None:
        return images or (), view_sets, problems
    used = used_views(view for sets in view_sets for view in sets)
    problems += [
        Problem(f"{key}.path_image_list", f"{image}: no such file; no pair uses it", "warning")
        for index, image in enumerate(images)
        if index not in used and not is_there(image)
    ]
    return images, view_sets, problems


def _stated_at(key: str, problems: Iterable[Problem]) -> list[Problem]:
    """What is wrong within a file, stated where the configuration names it."""
    return [Problem(key, str(problem), problem.severity) for problem in problems]


def _open(
    name: str,
    dataset: TrainDataset | TestDataset,
    key: str,
    images: tuple[Path, ...],
    view_sets: Iterable[ViewSet],
) -> tuple[Scene | None, list[Problem]]:
    """The rasters of a data set, and what is wrong with their headers or looks like undeclared voids."""
    named = {str(loc[-1]): (f"{key}.{loc[-1]}", path) for loc, _, path in paths_in(dataset)}
    files = SceneFiles(
        name=name,
        dsm=named["raster_in"],
        truth=named.get("raster_gt"),
        images=images,
        image_list_key=f"{key}.path_image_list",
        used_views=used_views(view_sets),
        masks={mask: named[f"mask_{mask}"] for mask in MASKS if f"mask_{mask}" in named},
    )
    scene, problems = open_scene(files)
    if scene is None:
        return None, problems
    if scene.grid.is_in_degrees:  # no network knows what its pixels are in metres
        text = (
            f"{scene.dsm_path}: its CRS {scene.grid.crs_name} is in degrees; bring all rasters to a "
            "projected CRS in metres, for example UTM zone 32N (gdalwarp -t_srs EPSG:32632)"
        )
        problems.append(Problem(f"{key}.raster_in", text))
    bands = {f"{key}.raster_in": scene.dsm, f"{key}.raster_gt": scene.truth}
    return scene, [*problems, *_undeclared_problems(bands)]


def _split(scene: Scene, dataset: TrainDataset | TestDataset, strategy: Strategy, stripe: int) -> Regions:
    shape = scene.grid.whole.shape
    return split_regions(*shape, strategy, test_stripe=stripe, crossval=dataset.crossval_training)


def _tile_problems(regions: tuple[Window, ...], tile: int, key: str, tile_key: str) -> list[Problem]:
    """Regions that no tile fits into."""
    small = dict.fromkeys(f"{area.height} x {area.width}" for area in regions if min(area.shape) < tile)
    stated = f"pixels is smaller than a tile; {tile_key} is {tile}"
    return [Problem(key, f"a region of {size} {stated}", rests_on=(tile_key,)) for size in small]


def _undeclared_problems(bands: Mapping[str, Band | None]) -> list[Problem]:
    """Warnings of heights, by the keys that name them, which may be voids that a file does not declare."""
    problems = []
    for key, band in bands.items():
        if not isinstance(band, FileBand):
            continue
        try:
            question = look_for_undeclared(band).question
        except ResDepthError as error:
            problems.append(Problem(key, str(error)))
            continue
        if question:
            problems.append(Problem(key, f"{band.header.path}: {question}", "warning"))
    return problems


def _pixel_problems(scene: Scene, regions: tuple[Window, ...], key: str) -> list[Problem]:
    """What the pixels of the regions show about the initial DSM; a file that cannot be read is a problem."""
    problems = []
    for look in (_void_problems, _alignment_problems):
        try:
            problems += look(scene, regions, key)
        except ResDepthError as error:
            problems.append(Problem(key, str(error)))
    return problems


def _void_problems(scene: Scene, regions: tuple[Window, ...], key: str) -> list[Problem]:
    """Voids of the initial DSM; all pixels of the regions are read, a strip at a time."""
    if not isinstance(scene.dsm, FileBand) or not scene.dsm.header.may_have_voids:
        return []
    voids = count_voids(scene.dsm, list(regions))
    if not voids:
        return []
    total = sum(region.area for region in regions)
    text = (
        f"{scene.dsm_path}: {voids} of {total} pixels in use are void (nodata {scene.dsm.header.nodata}); "
        "the network needs a height everywhere: fill them, for example with gdal_fillnodata.py"
    )
    return [Problem(key, text)]


def _alignment_problems(scene: Scene, regions: tuple[Window, ...], key: str) -> list[Problem]:
    """Warnings of an initial DSM that lies above, below or beside the reference DSM; a sample is read."""
    if scene.truth is None or not regions or scene.grid.is_in_degrees:
        return []
    if scene.truth.grid.whole != scene.grid.whole:
        return []  # a problem of its own, which the scene has reported
    around, name = bounding(regions), str(scene.dsm_path)
    found = align(
        lambda window: scene.dsm.read(window.moved(around.row, around.col)),
        lambda window: scene.counted_truth(window.moved(around.row, around.col)),
        scene.grid.crop(around),
        name=name,
    )
    return [Problem(key, f"{name}: {doubt}", "warning") for doubt in found.doubts]


def _checkpoint_problems(pretrained: str, config: TrainConfig, architecture: Architecture) -> list[Problem]:
    """Whether training can resume from a checkpoint with this configuration."""
    where = "model.pretrained_path"
    try:
        checkpoint = read_training_state(Path(pretrained))
    except InputProblems as error:
        return _stated_at(where, error.problems)
    try:
        check_weights(architecture, checkpoint["model_state_dict"])
    except ResDepthError as error:
        return [Problem(where, f"{pretrained}: {error}", rests_on=("model", "multiview"))]
    if misfits := state_misfits(config.optimizer, config.scheduler, checkpoint):
        return [Problem(key, f"{message} ({pretrained})", rests_on=(where,)) for key, message in misfits]
    ignored = ignored_options(config.optimizer, config.scheduler, checkpoint)
    return [Problem(key, f"{message} ({pretrained})", "warning", (where,)) for key, message in ignored]


def _machine_problems(config: TrainConfig | TestConfig) -> list[Problem]:
    """Folders that cannot be made, and a device that is not here."""
    problems = [
        Problem(location(loc), f"{folder}: {reason}")
        for loc, rule, folder in paths_in(config)
        if rule.is_written and (reason := why_no_folder(folder))
    ]
    try:
        choose_device(config.general.device)
    except ResDepthError as error:
        problems.append(Problem("general.device", str(error).removeprefix("device: ")))
    return problems


def read_model(config: TestModel) -> tuple[Model | None, list[Problem]]:
    """The model of a test configuration, None if it is unusable."""
    if config.path is not None:
        try:
            return load_safetensors(Path(config.path)), []
        except InputProblems as error:
            return None, _stated_at("model.path", error.problems)
    files = PublishedFiles(**{str(loc[-1]): named for loc, _, named in paths_in(config)})
    try:
        return load_published(files, "model."), []
    except InputProblems as error:
        return None, resting_on(["model.path"], error.problems)
