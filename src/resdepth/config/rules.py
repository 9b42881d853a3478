"""Rules between the keys of a configuration, which no schema states. The text alone shows them.

A rule need not state which values it rests on: it ends where it asks for one that is wrong by itself, since
there is none (parse.draft).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from resdepth.config.schema import (
    TestConfig,
    TestDataset,
    TrainConfig,
    TrainDataset,
    UnknownValueError,
    paths_in,
)
from resdepth.data.scene import MASKS
from resdepth.errors import Problem, location, within
from resdepth.geo.windows import Strategy

AnyConfig = TrainConfig | TestConfig
AnyDataset = TrainDataset | TestDataset
PAIR_LISTS = {"train": "path_pairlist_training", "val": "path_pairlist_validation", "test": "path_pairlist"}
"""The keys of pair lists, by what they serve for."""


def conclusions(*rules: Iterator[Problem]) -> Iterator[Problem]:
    """What rules state; each ends where it asks for a value that is wrong."""
    for rule in rules:
        with suppress(UnknownValueError):
            yield from rule


def train_rules(config: TrainConfig) -> Iterator[Problem]:
    """What is wrong between the keys of a training configuration."""
    yield from conclusions(_suffix_problems(config), _role_problems(config), _network_problems(config))
    for index, dataset in enumerate(config.datasets):
        found = conclusions(_training_split_problems(config, dataset), _list_problems(config, dataset))
        yield from within(f"datasets[{index}].", found)


def test_rules(config: TestConfig, *, sees_images: bool | None, depth: int) -> Iterator[Problem]:
    """What is wrong between the keys of a test configuration; None and 0 if its network is unknown."""
    yield from conclusions(_suffix_problems(config), _model_problems(config), _name_problems(config))
    yield from conclusions(_tile_problems(config, depth))
    for index, dataset in enumerate(config.datasets):
        rules = _test_split_problems(dataset), _mask_problems(dataset)
        found = conclusions(*rules, _list_problems(config, dataset, sees_images=sees_images))
        yield from within(f"datasets[{index}].", found)


def dataset_name(dataset: AnyDataset, index: int) -> str:
    """The name of a data set, and of its result folder."""
    return getattr(dataset, "name", None) or f"dataset_{index}"


def roles(dataset: AnyDataset) -> list[str]:
    """What a data set serves for: the keys of `PAIR_LISTS`."""
    return ["test"] if isinstance(dataset, TestDataset) else dataset.area_type.split("+")


def strategy_of(config: AnyConfig, dataset: AnyDataset) -> Strategy:
    """How a data set is split into regions."""
    default = config.general.allocation_strategy if isinstance(config, TrainConfig) else "entire"
    return dataset.allocation_strategy or default


def tile_of(config: AnyConfig) -> tuple[int, str]:
    """The side of a tile in pixels, and the key that holds it."""
    if isinstance(config, TrainConfig):
        return config.training_settings.tile_size, "training_settings.tile_size"
    return config.general.tile_size, "general.tile_size"


def patches_wanted(config: TrainConfig, index: int) -> int:
    """How many patches are to be drawn from a data set."""
    return config.datasets[index].n_training_samples or config.training_settings.n_training_samples


def smallest_tile(depth: int) -> int:
    """The smallest tile that a U-Net of this depth takes."""
    return max(16, 4 << depth)


def _tile_problems(config: AnyConfig, depth: int) -> Iterator[Problem]:
    """A tile that is too small for a network."""
    tile, key = tile_of(config)
    if tile < smallest_tile(depth):
        yield Problem(key, f"found {tile}; depth {depth} needs {smallest_tile(depth)} or more")


def _suffix_problems(config: AnyConfig) -> Iterator[Problem]:
    """Paths whose ending shows that another file was meant."""
    for loc, rule, path in paths_in(config):
        if not str(path).endswith(rule.suffix):
            yield Problem(location(loc), f"found {str(path)!r}; should end in {rule.suffix}")


def _list_problems(
    config: AnyConfig, dataset: AnyDataset, *, sees_images: bool | None = None
) -> Iterator[Problem]:
    """What is missing of, or superfluous in, the lists of a data set."""
    if isinstance(config, TrainConfig):
        sees_images = config.model.input_channels != "geom"
    if sees_images is False:
        for name in ("path_image_list", *PAIR_LISTS.values()):
            if getattr(dataset, name, None) is not None:
                text = "ignored: a network with input_channels 'geom' sees no images"
                yield Problem(name, text, "warning")
    elif sees_images:
        text = "missing; a network that sees images needs it"
        if getattr(dataset, "path_image_list", "?") is None:
            yield Problem("path_image_list", text)
        for name in (PAIR_LISTS[role] for role in roles(dataset)):
            if getattr(dataset, name, "?") is None:
                yield Problem(name, text)


def _role_problems(config: TrainConfig) -> Iterator[Problem]:
    served = {role for dataset in config.datasets for role in roles(dataset)}
    for role, does in (("train", "trains"), ("val", "validates")):
        if role not in served:
            yield Problem("datasets", f"no data set {does}; give one the area_type {role!r} or 'train+val'")


def _network_problems(config: TrainConfig) -> Iterator[Problem]:
    yield from _tile_problems(config, getattr(config.model, "depth", 0))
    if config.model.input_channels != "stereo":
        return
    if getattr(config.model, "outer_skip", False):
        yield Problem("model.outer_skip", "should be false for input_channels 'stereo', which sees no DSM")
    if config.training_settings.height_stretch > 1:
        text = "should be 1 for input_channels 'stereo', which sees no DSM that could be stretched"
        yield Problem("training_settings.height_stretch", text)


def _training_split_problems(config: TrainConfig, dataset: TrainDataset) -> Iterator[Problem]:
    strategy = strategy_of(config, dataset)
    if strategy == "entire" and dataset.area_type == "train+val":
        text = "'entire' cannot both train and validate; take stripes, or two data sets"
        yield Problem("allocation_strategy", text)
    if not dataset.crossval_training:
        return
    if len(config.datasets) != 1:
        text = f"cross-validation takes exactly one data set, found {len(config.datasets)}"
        yield Problem("crossval_training", text)
    if strategy == "entire":
        yield Problem("allocation_strategy", "cross-validation needs stripes, found 'entire'")
    if dataset.area_type != "train+val":
        text = f"cross-validation needs 'train+val', found {dataset.area_type!r}"
        yield Problem("area_type", text)


def _model_problems(config: TestConfig) -> Iterator[Problem]:
    others = [str(loc[-1]) for loc, _, _ in paths_in(config.model) if loc != ("path",)]
    if config.model.path is not None and others:
        yield Problem("model", f"found path and {', '.join(others)}; give either path or the published files")


def _name_problems(config: TestConfig) -> Iterator[Problem]:
    names = [dataset_name(dataset, index) for index, dataset in enumerate(config.datasets)]
    times = Counter(names)
    for index, name in enumerate(names):
        if times[name] > 1:
            text = f"{name!r} occurs twice; results would overwrite each other"
            yield Problem(f"datasets[{index}].name", text)


def _test_split_problems(dataset: TestDataset) -> Iterator[Problem]:
    if dataset.allocation_strategy != "entire":
        for name in ("area_type", "test_stripe"):
            if getattr(dataset, name, "?") is None:
                text = f"missing; mandatory with allocation_strategy {dataset.allocation_strategy!r}"
                yield Problem(name, text)
    if dataset.crossval_training and dataset.allocation_strategy == "entire":
        text = "cross-validation needs the stripes of training, found 'entire'"
        yield Problem("allocation_strategy", text)
    if dataset.crossval_training and dataset.area_type == "test":
        yield Problem("area_type", "cross-validation leaves nothing to test; take 'val'")


def _mask_problems(dataset: TestDataset) -> Iterator[Problem]:
    """Masks that count only beside something else."""
    for mask in (name for name in MASKS if getattr(dataset, f"mask_{name}", None) is not None):
        needed = {"raster_gt": "without raster_gt nothing is evaluated"}
        if mask in ("water", "forest"):
            needed["mask_building"] = "it counts only with a mask_building"
        for other, text in needed.items():
            if getattr(dataset, other, "?") is None:
                yield Problem(f"mask_{mask}", f"ignored: {text}", "warning")
