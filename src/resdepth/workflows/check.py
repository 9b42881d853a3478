"""From a configuration file to a plan that can run: all files looked at, every problem reported at once.

Headers are read; what no header tells is looked for in the pixels: voids of the initial DSM, and, in a sample
of windows, undeclared voids and what the quick part of the doctor looks for. Nothing is written.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from resdepth.config import parse
from resdepth.config.parse import Configuration, Source, kind_of, source_of
from resdepth.config.rules import (
    PAIR_LISTS,
    AnyConfig,
    AnyDataset,
    conclusions,
    dataset_name,
    patches_wanted,
    roles,
    strategy_of,
    test_rules,
    tile_of,
    train_rules,
)
from resdepth.config.schema import (
    NetworkSettings,
    Section,
    TestConfig,
    TestDataset,
    TrainConfig,
    UnknownValueError,
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
from resdepth.diagnosis.quick import quick_images, quick_surfaces
from resdepth.errors import InputProblems, Problem, ResDepthError, has_errors, location, within
from resdepth.geo.raster import Band, FileBand, count_voids
from resdepth.geo.windows import Window, corner_count, split_regions
from resdepth.models.model import Architecture, Model, check_weights, load_safetensors
from resdepth.models.published import PublishedFiles, load_published, read_training_state
from resdepth.options import AnyKind
from resdepth.preparation import request as preparation
from resdepth.refinement.engine import choose_device
from resdepth.runtime.paths import is_there, why_no_folder
from resdepth.simulate import plan as simulation
from resdepth.training.optim import setting_problems, state_problems

Config = TypeVar("Config", TrainConfig, TestConfig)
Network = TypeVar("Network", Architecture, Model)
ViewSets = Mapping[str, tuple[ViewSet, ...]]
"""View sets by what they serve for: the keys of `PAIR_LISTS`."""


@dataclass(frozen=True)
class Area:
    """A data set that is ready, and what of it serves for what; empty where it does not serve for that.

    Attributes:
        scene: its rasters.
        train, val, test: the regions to train on, to validate on, and to refine.
        train_sets, val_sets, test_sets: view sets for these.
    """

    scene: Scene
    train: tuple[Window, ...] = ()
    val: tuple[Window, ...] = ()
    test: tuple[Window, ...] = ()
    train_sets: tuple[ViewSet, ...] = ()
    val_sets: tuple[ViewSet, ...] = ()
    test_sets: tuple[ViewSet, ...] = ()

    @property
    def windows(self) -> tuple[Window, ...]:
        """All regions in use."""
        return (*self.train, *self.val, *self.test)


@dataclass(frozen=True)
class Plan(Generic[Config, Network]):
    """A checked configuration.

    Attributes:
        config: what it says.
        source: the file that says it, byte for byte, or the mapping.
        network: what is to be trained, or the model that refines.
        areas: its data sets.
        warnings: what may make the result differ from the request.
    """

    config: Config
    source: Source
    network: Network
    areas: tuple[Area, ...]
    warnings: tuple[Problem, ...] = ()


TrainPlan = Plan[TrainConfig, Architecture]
TestPlan = Plan[TestConfig, Model]


_ALL_SCHEMAS: Mapping[AnyKind, type[Section]] = {
    "train": TrainConfig,
    "test": TestConfig,
    "prepare": preparation.PrepareConfig,
    "simulate": simulation.SimulateConfig,
}


def check(config: str | Path | Mapping[str, Any], kind: AnyKind | None = None) -> list[Problem]:
    """Every problem of a configuration, of any kind; an empty list if it can run.

    Args:
        config: the path of a configuration file, or a mapping of its keys.
        kind: "train", "test", "simulate" or "prepare"; by default it is seen from the keys.

    Examples:
        >>> import resdepth
        >>> resdepth.check("my_train.json")
        []
        >>> print(resdepth.check({"datasets": [{"raster_in": "initial.tiff"}]}, "train")[0])
        datasets[0].raster_gt: missing; ...
    """
    try:
        source = source_of(config)
        kind = kind or kind_of(source.content, _ALL_SCHEMAS)
        if kind in ("train", "test"):
            plan = plan_training(source) if kind == "train" else plan_test(source)
            return list(plan.warnings)
        read = preparation.requested if kind == "prepare" else simulation.requested
        read(source.path or source.content, {})
    except InputProblems as error:
        return list(error.problems)
    return []


def plan_training(given: Configuration, *, resumed: bool = False) -> TrainPlan:
    """Check a training configuration.

    Args:
        given: the configuration.
        resumed: it is that of a run that resumes, which no longer needs the checkpoint it began with.

    Raises:
        InputProblems: everything that is wrong.
    """
    source = source_of(given)
    config, wrong = parse.load_train_config(source)
    n_views = None
    with suppress(UnknownValueError):
        n_views = inputs_for_training(config.model.input_channels, config.multiview.config).n_views
    areas, found = _read_areas(config, n_views)
    found = [*conclusions(train_rules(config)), *found, *conclusions(_scheduler_problems(config))]
    found += conclusions(_machine_problems(config), *([] if resumed else [_checkpoint_problems(config)]))
    warnings = _refuse_errors(source, wrong, found)
    return TrainPlan(config, source, architecture_of(config), areas, warnings)


def plan_test(given: Configuration) -> TestPlan:
    """Check a test configuration.

    Raises:
        InputProblems: everything that is wrong.
    """
    source = source_of(given)
    config, wrong = parse.load_test_config(source)
    model, problems = read_model(config)
    n_views = model.architecture.inputs.n_views if model else None
    sees_images = None if n_views is None else n_views > 0
    rules = test_rules(config, sees_images=sees_images, depth=model.architecture.depth if model else 0)
    areas, found = _read_areas(config, n_views)
    found = [*problems, *conclusions(rules), *found]
    found += conclusions(_folder_problems(config), _machine_problems(config))
    warnings = _refuse_errors(source, wrong, found)
    assert model is not None, "what is wrong with it is an error"
    return TestPlan(config, source, model, areas, warnings)


def architecture_of(config: TrainConfig) -> Architecture:
    """The network that a training configuration asks for."""
    model = config.model
    inputs = inputs_for_training(model.input_channels, config.multiview.config)
    chosen = {name: getattr(model, name) for name in NetworkSettings.model_fields}
    return Architecture(model.name, model.input_channels, {"n_input_channels": inputs.n_channels, **chosen})


def _refuse_errors(source: Source, wrong: list[Problem], found: list[Problem]) -> tuple[Problem, ...]:
    """The warnings about a configuration: what is `wrong` with single keys, and `found` at its keys.

    Raises:
        InputProblems: all problems, if one is no mere warning.
    """
    problems = [*wrong, *within(source.where, found)]
    if has_errors(problems):
        raise InputProblems(problems)
    return tuple(problems)


def _read_areas(config: AnyConfig, n_views: int | None) -> tuple[tuple[Area, ...], list[Problem]]:
    """The data sets as far as they can be used, and what is wrong with them.

    Args:
        config: what is known of the configuration.
        n_views: how many images the network takes; None if it is unknown.
    """
    datasets, areas = getattr(config, "datasets", ()), []
    lists = [_read_lists(dataset, n_views) for dataset in datasets]
    found = [one for index, read in enumerate(lists) for one in within(f"datasets[{index}].", read[2])]
    for index, (dataset, (images, sets, _)) in enumerate(zip(datasets, lists, strict=True)):
        scene, problems = _open(dataset, dataset_name(dataset, index), images, sets)
        if scene is not None:
            area = Area(scene)
            with suppress(UnknownValueError):
                area = _area(config, dataset, scene, sets)
            problems += conclusions(_size_problems(config, index, area), _pixel_problems(config, area))
            areas.append(area)
        found += within(f"datasets[{index}].", problems)
    return tuple(areas), found


def _read_lists(dataset: AnyDataset, n_views: int | None) -> tuple[tuple[Path, ...], ViewSets, list[Problem]]:
    """The images and the view sets that a data set names, and what is wrong with its lists."""
    if n_views == 0:
        return (), {}, []
    problems: list[Problem] = []
    served = list(PAIR_LISTS)  # all are looked at while it is unknown which are needed
    with suppress(UnknownValueError):
        served = roles(dataset)
    images: tuple[Path, ...] | None = None
    if image_list := getattr(dataset, "path_image_list", None):
        images, found = read_image_list(Path(image_list))
        problems += _stated_at("path_image_list", found)
    sets = {}
    for role in served:
        if pair_list := getattr(dataset, PAIR_LISTS[role], None):
            sets[role], found = read_pair_list(Path(pair_list), images, n_views)
            problems += _stated_at(PAIR_LISTS[role], found)
    if images is not None and not has_errors(problems):
        used = used_views(chain.from_iterable(sets.values()))
        unused = [image for index, image in enumerate(images) if index not in used and not is_there(image)]
        text = "no such file; no pair uses it"
        problems += [Problem("path_image_list", f"{image}: {text}", "warning") for image in unused]
    return images or (), sets, problems


def _area(config: AnyConfig, dataset: AnyDataset, scene: Scene, sets: ViewSets) -> Area:
    """A data set with the regions that it is split into, and the view sets of what it serves for."""
    shape, strategy = scene.grid.whole.shape, strategy_of(config, dataset)
    default = config.general.test_stripe if isinstance(config, TrainConfig) else 0
    stripe = default if dataset.test_stripe is None else dataset.test_stripe
    split = split_regions(*shape, strategy, test_stripe=stripe, crossval=dataset.crossval_training)
    if isinstance(dataset, TestDataset):
        regions = getattr(split, dataset.area_type or "test")
        return Area(scene, test=regions, test_sets=sets.get("test") or ((),))
    train = split.train if "train" in roles(dataset) else ()
    val = split.val if "val" in roles(dataset) else ()
    return Area(scene, train, val, train_sets=sets.get("train", ()), val_sets=sets.get("val", ()))


def _stated_at(key: str, problems: Iterable[Problem]) -> list[Problem]:
    """What is wrong within a file, stated where the configuration names it."""
    return [Problem(key, str(problem), problem.severity) for problem in problems]


def _open(
    dataset: AnyDataset, name: str, images: tuple[Path, ...], sets: ViewSets
) -> tuple[Scene | None, list[Problem]]:
    """The rasters of a data set, and what is wrong with their headers."""
    named = {str(loc[-1]): (str(loc[-1]), path) for loc, _, path in paths_in(dataset)}
    files = SceneFiles(
        name=name,
        dsm=named.get("raster_in"),
        reference=named.get("raster_gt"),
        images=images,
        image_list_key="path_image_list",
        used_views=used_views(chain.from_iterable(sets.values())),
        masks={mask: named[f"mask_{mask}"] for mask in MASKS if f"mask_{mask}" in named},
    )
    scene, problems = open_scene(files)
    if scene is not None and scene.grid.is_in_degrees:  # no network knows what its pixels are in metres
        text = (
            f"{scene.dsm_path}: its CRS {scene.grid.crs_name} is in degrees; bring all rasters to a "
            "projected CRS in metres, for example UTM zone 32N (gdalwarp -t_srs EPSG:32632)"
        )
        problems.append(Problem("raster_in", text))
    return scene, problems


def _size_problems(config: AnyConfig, index: int, area: Area) -> Iterator[Problem]:
    """Regions that no tile fits into, or with fewer places than patches are to be drawn."""
    tile, tile_key = tile_of(config)
    small = dict.fromkeys(f"{one.height} x {one.width}" for one in area.windows if min(one.shape) < tile)
    for size in small:
        text = f"a region of {size} pixels is smaller than a tile; {tile_key} is {tile}"
        yield Problem("raster_in", text)
    if small or not area.train or not isinstance(config, TrainConfig):
        return
    wanted, possible = patches_wanted(config, index), corner_count(area.train, tile)
    if possible < wanted:
        text = f"{wanted} patches of {tile} x {tile} pixels wanted, only {possible} places are possible"
        yield Problem("n_training_samples", text)


def _pixel_problems(config: AnyConfig, area: Area) -> Iterator[Problem]:
    """What the pixels of the regions show; a file that cannot be read is a problem."""
    looks: dict[Iterator[str], tuple[str, Literal["error", "warning"]]] = {
        _undeclared(area.scene.dsm): ("raster_in", "warning"),
        _undeclared(area.scene.reference): ("raster_gt", "warning"),
        _voids(area.scene, area.windows): ("raster_in", "error"),
        _surfaces(config, area): ("raster_in", "warning"),
        _images(area): ("path_image_list", "warning"),
    }
    for texts, (key, severity) in looks.items():
        try:
            yield from (Problem(key, text, severity) for text in texts)
        except ResDepthError as error:
            yield Problem(key, str(error))


def _undeclared(band: Band | None) -> Iterator[str]:
    """Heights which may be voids that a file does not declare; a sample is read."""
    if isinstance(band, FileBand) and (question := look_for_undeclared(band).question):
        yield f"{band.header.path}: {question}"


def _voids(scene: Scene, windows: tuple[Window, ...]) -> Iterator[str]:
    """Voids of the initial DSM; all pixels in use are read, a strip at a time."""
    if not isinstance(scene.dsm, FileBand) or not scene.dsm.header.may_have_voids:
        return
    if voids := count_voids(scene.dsm, list(windows)):
        yield (
            f"{scene.dsm_path}: {voids} of {sum(window.area for window in windows)} pixels in use are void "
            f"(nodata {scene.dsm.header.nodata}); the network needs a height everywhere: fill them, for "
            "example with gdal_fillnodata.py"
        )


def _surfaces(config: AnyConfig, area: Area) -> Iterator[str]:
    """How the initial DSM lies to the reference DSM; a sample is read."""
    removes = isinstance(config, TrainConfig) and config.training_settings.remove_bias
    for one in quick_surfaces(area.scene, area.windows):
        if not (removes and one.kind == "vertical_offset"):  # train states it
            yield f"{area.scene.dsm_path}: {one.stated}"


def _images(area: Area) -> Iterator[str]:
    """What is wrong with the images in use; a sample is read."""
    yield from (one.stated for one in quick_images(area.scene, area.windows))


def _scheduler_problems(config: TrainConfig) -> Iterator[Problem]:
    """What PyTorch does not take as settings of the scheduler, and what leaves it without effect."""
    scheduler, where = config.scheduler, "scheduler.settings"
    for name, message in setting_problems(scheduler):
        yield Problem(f"{where}.{name}" if name else where, message)
    if scheduler.enabled and scheduler.name == "StepLR" and "step_size" not in scheduler.settings:
        yield Problem(where, "StepLR has no step_size: the learning rate stays as it is", "warning")


def _checkpoint_problems(config: TrainConfig) -> Iterator[Problem]:
    """Whether training can resume from a checkpoint with this configuration."""
    pretrained, where = config.model.pretrained_path, "model.pretrained_path"
    if pretrained is None:
        return
    try:
        checkpoint = read_training_state(Path(pretrained))
        check_weights(architecture_of(config), checkpoint["model_state_dict"])
    except InputProblems as error:
        yield from _stated_at(where, error.problems)
    except ResDepthError as error:
        yield Problem(where, f"{pretrained}: {error}")
    else:
        for one in state_problems(config.optimizer, config.scheduler, checkpoint):
            yield replace(one, message=f"{one.message} ({pretrained})")


def _folder_problems(config: TestConfig) -> Iterator[Problem]:
    """Result folders that cannot be made."""
    results = Path(config.output.directory)
    if why_no_folder(results):
        return  # a problem of its own
    for index, dataset in enumerate(config.datasets):
        folder = results / dataset_name(dataset, index)
        if reason := why_no_folder(folder):
            yield Problem(f"datasets[{index}].name", f"{folder}: {reason}")


def _machine_problems(config: AnyConfig) -> Iterator[Problem]:
    """Folders that cannot be made, and a device that is not here."""
    for loc, rule, folder in paths_in(config):
        if rule.is_written and (reason := why_no_folder(folder)):
            yield Problem(location(loc), f"{folder}: {reason}")
    try:
        choose_device(config.general.device)
    except ResDepthError as error:
        yield Problem("general.device", str(error).removeprefix("device: "))


def read_model(config: TestConfig) -> tuple[Model | None, list[Problem]]:
    """The model of a test configuration, None if it is unusable, and what is wrong with it."""
    try:
        if config.model.path is not None:
            return load_safetensors(Path(config.model.path)), []
        files = PublishedFiles(**{str(loc[-1]): path for loc, _, path in paths_in(config.model)})
        return load_published(files, "model."), []
    except UnknownValueError:
        return None, []
    except InputProblems as error:
        if config.model.path is not None:
            return None, _stated_at("model.path", error.problems)
        known = [one for one in error.problems if hasattr(config.model, one.where.removeprefix("model."))]
        return None, known
