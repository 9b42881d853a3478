"""From a configuration file to a plan that can run: everything on disk looked at, every problem told at once.

Only headers are read, except that the initial DSM is scanned for voids, which no header tells.
"""

from dataclasses import dataclass
from pathlib import Path

from resdepth.checkpoint import Architecture, Model
from resdepth.config import TestConfig, TestDataset, TrainConfig, TrainDataset
from resdepth.errors import Problem, ResDepthError
from resdepth.inputs import Inputs, inputs_for_training
from resdepth.inspections import (
    checkpoint_problems,
    folder_problems,
    read_lists,
    read_model,
    tile_problems,
    void_problems,
)
from resdepth.loading import (
    Kind,
    has_errors,
    kind_of,
    load_test_config,
    load_train_config,
    raise_errors,
    read_json,
)
from resdepth.optimization import setting_problems
from resdepth.rules import dataset_name, inference_list_problems, smallest_tile
from resdepth.scene import MASKS, Scene, SceneFiles, ViewSet, open_scene, used_views
from resdepth.windows import Regions, Window, corner_count, split_regions


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
    """A checked training configuration."""

    config: TrainConfig
    source: Path
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
    """A checked test configuration."""

    __test__ = False

    config: TestConfig
    source: Path
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
    except ResDepthError as error:
        return [Problem(*_split_where(str(error)))]


def _split_where(message: str) -> tuple[str, str]:
    where, _, text = message.partition(": ")
    return where, text


def plan_training(path: Path, *, resumed: bool = False) -> TrainPlan:
    """Check a training configuration.

    Args:
        path: the configuration file.
        resumed: it is that of a run that goes on, which needs the checkpoint it began with no more.

    Raises:
        InputProblems: everything that is wrong.
    """
    plan, problems = _check_training(path, resumed=resumed)
    raise_errors(problems)
    assert plan is not None, "no plan without a problem"
    return plan


def plan_test(path: Path) -> TestPlan:
    """Check a test configuration.

    Raises:
        InputProblems: everything that is wrong.
    """
    plan, problems = _check_test(path)
    raise_errors(problems)
    assert plan is not None, "no plan without a problem"
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
    config, problems = load_train_config(path)
    if config is None:
        return None, problems
    inputs = inputs_for_training(config.model.input_channels, config.multiview.config)
    for name, message in setting_problems(config.scheduler):
        key = f"scheduler.settings.{name}" if name else "scheduler.settings"
        problems.append(Problem(f"{path}: {key}", message))
    areas = []
    for index, dataset in enumerate(config.datasets):
        area, found = _check_train_area(config, dataset, inputs, f"{path}: datasets[{index}]", index)
        problems += found
        areas += [area] if area else []
    architecture = architecture_of(config)
    if config.model.pretrained_path is not None and not resumed:
        problems += checkpoint_problems(config.model.pretrained_path, architecture, path)
    for name in ("output_directory", "tboard_log_dir"):
        problems += folder_problems(getattr(config.output, name), f"{path}: output.{name}")
    if has_errors(problems):
        return None, problems
    return TrainPlan(config, path, architecture, tuple(areas), tuple(problems)), problems


def _check_train_area(
    config: TrainConfig, dataset: TrainDataset, inputs: Inputs, key: str, index: int
) -> tuple[TrainArea | None, list[Problem]]:
    roles = dataset.area_type.split("+")
    lists = {
        f"{key}.path_pairlist_training": dataset.path_pairlist_training if "train" in roles else None,
        f"{key}.path_pairlist_validation": dataset.path_pairlist_validation if "val" in roles else None,
    }
    images, view_sets, problems = read_lists(dataset.path_image_list, lists, inputs, key)
    train_sets, val_sets = view_sets
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
    strategy = dataset.allocation_strategy or config.general.allocation_strategy
    stripe = config.general.test_stripe if dataset.test_stripe is None else dataset.test_stripe
    regions = split_regions(
        *scene.grid.whole.shape, strategy, test_stripe=stripe, crossval=dataset.crossval_training
    )
    train = regions.train if "train" in roles else ()
    val = regions.val if "val" in roles else ()
    tile = config.training_settings.tile_size
    n_samples = dataset.n_training_samples or config.training_settings.n_training_samples
    problems += tile_problems((*train, *val), tile, f"{key}.raster_in", "training_settings.tile_size")
    possible = corner_count(train, tile)
    if train and 0 < possible < n_samples:
        text = f"{n_samples} patches of {tile} x {tile} pixels wanted, only {possible} places are possible"
        problems.append(Problem(f"{key}.n_training_samples", text))
    problems += void_problems(scene, (*train, *val), f"{key}.raster_in")
    return TrainArea(scene, train, val, train_sets, val_sets, n_samples), problems


def _check_test(path: Path) -> tuple[TestPlan | None, list[Problem]]:
    config, problems = load_test_config(path)
    if config is None:
        return None, problems
    model, found = read_model(config.model, path)
    problems += found
    if model is not None:
        smallest = smallest_tile(model.architecture.depth)
        if config.general.tile_size < smallest:
            text = (
                f"found {config.general.tile_size}; depth {model.architecture.depth} needs {smallest} or more"
            )
            problems.append(Problem(f"{path}: general.tile_size", text))
    areas = []
    for index, dataset in enumerate(config.datasets):
        area, found = _check_test_area(config, dataset, model, f"{path}: datasets[{index}]", index)
        problems += found
        areas += [area] if area else []
    problems += folder_problems(config.output.directory, f"{path}: output.directory")
    if model is None or has_errors(problems):
        return None, problems
    return TestPlan(config, path, model, tuple(areas), tuple(problems)), problems


def _check_test_area(
    config: TestConfig, dataset: TestDataset, model: Model | None, key: str, index: int
) -> tuple[TestArea | None, list[Problem]]:
    inputs = model.architecture.inputs if model else Inputs(uses_dsm=True, n_views=0)
    problems: list[Problem] = []
    if model:
        problems += inference_list_problems(dataset, uses_images=inputs.n_views > 0, key=key)
    lists = {f"{key}.path_pairlist": dataset.path_pairlist}
    images, (view_sets,), found = read_lists(dataset.path_image_list, lists, inputs, key)
    problems += found
    masks = {
        name: (f"{key}.mask_{name}", Path(getattr(dataset, f"mask_{name}")))
        for name in MASKS
        if getattr(dataset, f"mask_{name}") is not None
    }
    if masks and dataset.raster_gt is None:
        text = "ignored: without raster_gt nothing is judged"
        problems += [Problem(named, text, "warning") for named, _ in masks.values()]
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
    if scene is None:
        return None, problems
    regions = _used_regions(scene, dataset)
    problems += tile_problems(regions, config.general.tile_size, f"{key}.raster_in", "general.tile_size")
    problems += void_problems(scene, regions, f"{key}.raster_in")
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
