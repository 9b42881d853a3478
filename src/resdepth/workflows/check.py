"""From a configuration file to a plan that can run: all files looked at, every problem reported at once.

Headers are read; what no header tells is looked for in the pixels: voids of the initial DSM, and, in a sample
of windows, undeclared voids and how the initial DSM lies to the reference DSM.
"""

from dataclasses import dataclass
from pathlib import Path

from resdepth.config.parse import kind_of, load_test_config, load_train_config
from resdepth.config.rules import (
    dataset_name,
    inference_list_problems,
    smallest_tile,
    split_keys,
    test_rules,
    train_rules,
)
from resdepth.config.schema import TestConfig, TestDataset, TrainConfig, TrainDataset
from resdepth.data.inputs import inputs_for_training
from resdepth.data.scene import MASKS, Scene, SceneFiles, ViewSet, open_scene, used_views
from resdepth.errors import InputProblems, Problem, doubtful, has_errors, resting_on, without_consequences
from resdepth.geo.windows import Regions, Window, corner_count, split_regions
from resdepth.models.model import Architecture, Model
from resdepth.options import Kind
from resdepth.runtime.jsonfiles import read_json
from resdepth.training.optim import setting_problems
from resdepth.workflows._on_disk import (
    alignment_problems,
    checkpoint_problems,
    degree_problems,
    device_problems,
    folder_problems,
    read_lists,
    read_model,
    tile_problems,
    undeclared_problems,
    void_problems,
)


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
        return (_check_training if kind == "train" else _check_test)(path)[1]
    except InputProblems as error:
        return list(error.problems)


def plan_training(path: Path, *, resumed: bool = False) -> TrainPlan:
    """Check a training configuration.

    Args:
        path: the configuration file.
        resumed: it is that of a run that goes on, which needs the checkpoint it began with no more.

    Raises:
        InputProblems: everything that is wrong.
    """
    plan, problems = _check_training(path, resumed=resumed)
    if plan is None:
        raise InputProblems(problems)
    return plan


def plan_test(path: Path) -> TestPlan:
    """Check a test configuration.

    Raises:
        InputProblems: everything that is wrong.
    """
    plan, problems = _check_test(path)
    if plan is None:
        raise InputProblems(problems)
    return plan


def architecture_of(config: TrainConfig) -> Architecture:
    """The network that a training configuration asks for."""
    model = config.model
    inputs = inputs_for_training(model.input_channels, config.multiview.config)
    chosen = ("start_kernel", "depth", "act_fn_encoder", "act_fn_decoder", "act_fn_bottleneck", "up_mode",
              "do_BN", "outer_skip", "outer_skip_BN", "bias_conv_layer")  # fmt: skip
    settings = {"n_input_channels": inputs.n_channels, **{name: getattr(model, name) for name in chosen}}
    return Architecture(model.name, model.input_channels, settings)


def _check_training(path: Path, *, resumed: bool = False) -> tuple[TrainPlan | None, list[Problem]]:
    config, wrong = load_train_config(path)
    original = path.read_bytes()
    found = train_rules(config, str(path))
    for name, message in setting_problems(config.scheduler):
        key = f"{path}: scheduler.settings" + (f".{name}" if name else "")
        found.append(Problem(key, message, rests_on=(f"{path}: scheduler",)))
    architecture = architecture_of(config)
    inputs_unknown = doubtful([f"{path}: model.input_channels", f"{path}: multiview.config"], wrong)
    n_views = None if inputs_unknown else architecture.inputs.n_views
    areas = []
    for index, dataset in enumerate(config.datasets):
        area, problems = _check_train_area(config, dataset, n_views, path, index)
        found += problems
        areas += [area] if area else []
    if config.model.pretrained_path is not None and not resumed:
        found += checkpoint_problems(config.model.pretrained_path, config, architecture, path)
    for name in ("output_directory", "tboard_log_dir"):
        found += folder_problems(Path(getattr(config.output, name)), f"{path}: output.{name}")
    found += device_problems(config.general.device, f"{path}: general.device")
    problems = [*wrong, *without_consequences(found, wrong)]
    if has_errors(problems):
        return None, problems
    return TrainPlan(config, path, original, architecture, tuple(areas), tuple(problems)), problems


def _check_train_area(
    config: TrainConfig, dataset: TrainDataset, n_views: int | None, path: Path, index: int
) -> tuple[TrainArea | None, list[Problem]]:
    key = f"{path}: datasets[{index}]"
    roles = dataset.area_type.split("+")
    lists = {
        f"{key}.path_pairlist_training": dataset.path_pairlist_training if "train" in roles else None,
        f"{key}.path_pairlist_validation": dataset.path_pairlist_validation if "val" in roles else None,
    }
    images, (train_sets, val_sets), problems = read_lists(dataset.path_image_list, lists, n_views, key)
    files = SceneFiles(
        name=dataset.name or f"dataset_{index}",
        dsm=(f"{key}.raster_in", Path(dataset.raster_in)),
        truth=(f"{key}.raster_gt", Path(dataset.raster_gt)),
        images=images,
        image_list_key=f"{key}.path_image_list",
        used_views=used_views([*train_sets, *val_sets]),
        masks={},
    )
    scene, found = open_scene(files)
    problems += found
    if scene is None:
        return None, problems
    problems += degree_problems(scene, f"{key}.raster_in")
    problems += undeclared_problems({f"{key}.raster_in": scene.dsm, f"{key}.raster_gt": scene.truth})
    train, val = _training_regions(config, dataset, scene)
    n_samples = dataset.n_training_samples or config.training_settings.n_training_samples
    tile = config.training_settings.tile_size
    found = tile_problems((*train, *val), tile, f"{key}.raster_in", "training_settings.tile_size")
    possible = corner_count(train, tile)
    if train and not found and possible < n_samples:
        text = f"{n_samples} patches of {tile} x {tile} pixels wanted, only {possible} places are possible"
        found.append(Problem(f"{key}.n_training_samples", text))
    causes = split_keys(key, str(path))
    sizes = [f"{path}: training_settings.{name}" for name in ("tile_size", "n_training_samples")]
    problems += resting_on([*causes, *sizes], found)
    problems += resting_on(causes, void_problems(scene, (*train, *val), f"{key}.raster_in"))
    problems += resting_on(causes, alignment_problems(scene, (*train, *val), f"{key}.raster_in"))
    return TrainArea(scene, train, val, train_sets, val_sets, n_samples), problems


def _training_regions(
    config: TrainConfig, dataset: TrainDataset, scene: Scene
) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """The regions of a data set that train, and those that validate."""
    strategy = dataset.allocation_strategy or config.general.allocation_strategy
    stripe = config.general.test_stripe if dataset.test_stripe is None else dataset.test_stripe
    shape = scene.grid.whole.shape
    regions = split_regions(*shape, strategy, test_stripe=stripe, crossval=dataset.crossval_training)
    roles = dataset.area_type.split("+")
    return (regions.train if "train" in roles else ()), (regions.val if "val" in roles else ())


def _check_test(path: Path) -> tuple[TestPlan | None, list[Problem]]:
    config, wrong = load_test_config(path)
    original = path.read_bytes()
    found = test_rules(config, str(path))
    model, problems = read_model(config.model, path)
    found += problems
    if model is not None:
        depth, smallest = model.architecture.depth, smallest_tile(model.architecture.depth)
        if config.general.tile_size < smallest:
            text = f"found {config.general.tile_size}; depth {depth} needs {smallest} or more"
            found.append(Problem(f"{path}: general.tile_size", text))
    areas = []
    for index, dataset in enumerate(config.datasets):
        area, problems = _check_test_area(config, dataset, model, path, index)
        found += problems
        areas += [area] if area else []
    found += folder_problems(Path(config.output.directory), f"{path}: output.directory")
    found += device_problems(config.general.device, f"{path}: general.device")
    problems = [*wrong, *without_consequences(found, wrong)]
    if model is None or has_errors(problems):
        return None, problems
    return TestPlan(config, path, original, model, tuple(areas), tuple(problems)), problems


def _check_test_area(
    config: TestConfig, dataset: TestDataset, model: Model | None, path: Path, index: int
) -> tuple[TestArea | None, list[Problem]]:
    key = f"{path}: datasets[{index}]"
    n_views = None if model is None else model.architecture.inputs.n_views
    problems: list[Problem] = []
    if n_views is not None:
        problems += inference_list_problems(dataset, uses_images=n_views > 0, key=key)
    lists = {f"{key}.path_pairlist": dataset.path_pairlist}
    images, (view_sets,), found = read_lists(dataset.path_image_list, lists, n_views, key)
    problems += found
    masks = {
        name: (f"{key}.mask_{name}", Path(getattr(dataset, f"mask_{name}")))
        for name in MASKS
        if getattr(dataset, f"mask_{name}") is not None
    }
    if masks and dataset.raster_gt is None:
        text, causes = "ignored: without raster_gt nothing is evaluated", (f"{key}.raster_gt",)
        problems += [Problem(named, text, "warning", causes) for named, _ in masks.values()]
    files = SceneFiles(
        name=dataset_name(dataset, index),
        dsm=(f"{key}.raster_in", Path(dataset.raster_in)),
        truth=None if dataset.raster_gt is None else (f"{key}.raster_gt", Path(dataset.raster_gt)),
        images=images,
        image_list_key=f"{key}.path_image_list",
        used_views=used_views(view_sets),
        masks=masks,
    )
    scene, found = open_scene(files)
    problems += found
    results = Path(config.output.directory)
    if not folder_problems(results, ""):
        problems += folder_problems(results / files.name, f"{key}.name")
    if scene is None:
        return None, problems
    problems += degree_problems(scene, f"{key}.raster_in")
    problems += undeclared_problems({f"{key}.raster_in": scene.dsm, f"{key}.raster_gt": scene.truth})
    regions = _used_regions(scene, dataset)
    found = tile_problems(regions, config.general.tile_size, f"{key}.raster_in", "general.tile_size")
    problems += resting_on([*split_keys(key), f"{path}: general.tile_size"], found)
    problems += resting_on(split_keys(key), void_problems(scene, regions, f"{key}.raster_in"))
    problems += resting_on(split_keys(key), alignment_problems(scene, regions, f"{key}.raster_in"))
    return TestArea(files.name, scene, regions, view_sets or ((),)), problems


def _used_regions(scene: Scene, dataset: TestDataset) -> tuple[Window, ...]:
    """The regions of a test data set that are to be refined."""
    regions: Regions = split_regions(
        *scene.grid.whole.shape,
        dataset.allocation_strategy,
        test_stripe=dataset.test_stripe or 0,
        crossval=dataset.crossval_training,
    )
    chosen: tuple[Window, ...] = getattr(regions, dataset.area_type or "test")
    return chosen
