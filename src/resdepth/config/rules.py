"""Rules between the keys of a configuration, which no schema tells. The text alone shows them."""

from collections import Counter
from collections.abc import Iterator

from resdepth.config.schema import Section, TestConfig, TestDataset, TrainConfig, TrainDataset, paths_in
from resdepth.data.scene import MASKS
from resdepth.errors import Problem, location, resting_on


def train_rules(config: TrainConfig) -> Iterator[Problem]:
    """Everything wrong between the keys of a training configuration."""
    yield from _suffix_problems(config)
    roles = {role for dataset in config.datasets for role in dataset.area_type.split("+")}
    for role, does in (("train", "trains"), ("val", "validates")):
        if role not in roles:
            text = f"no data set {does}; give one the area_type {role!r} or 'train+val'"
            yield Problem("datasets", text)
    for index, dataset in enumerate(config.datasets):
        key = f"datasets[{index}]"
        yield from resting_on(split_keys(key, "general"), _training_split_problems(config, dataset, key))
        uses_images = config.model.input_channels != "geom"
        found = list_problems(dataset, uses_images=uses_images, key=key)
        yield from resting_on(["model.input_channels"], found)
    if config.model.input_channels == "stereo":
        if config.model.outer_skip:
            text = "should be false for input_channels 'stereo', which sees no DSM"
            yield Problem("model.outer_skip", text)
        if config.training_settings.height_stretch > 1:
            text = "should be 1 for input_channels 'stereo', which sees no DSM that could be stretched"
            yield Problem("training_settings.height_stretch", text)
    tile, depth = config.training_settings.tile_size, config.model.depth
    yield from resting_on(["model.depth"], tile_size_problems(tile, depth, "training_settings.tile_size"))
    scheduler = config.scheduler
    if scheduler.enabled and scheduler.name == "StepLR" and "step_size" not in scheduler.settings:
        text = "StepLR has no step_size: the learning rate stays as it is"
        yield Problem("scheduler.settings", text, "warning", ("scheduler",))


def test_rules(config: TestConfig) -> Iterator[Problem]:
    """Everything wrong between the keys of a test configuration."""
    yield from _suffix_problems(config)
    others = config.model.model_dump(exclude={"path"}, exclude_none=True)
    if config.model.path is not None and others:
        text = f"found path and {', '.join(others)}; give either path or the published files"
        yield Problem("model", text)
    names = [dataset_name(dataset, index) for index, dataset in enumerate(config.datasets)]
    times = Counter(names)
    for index, dataset in enumerate(config.datasets):
        key = f"datasets[{index}]"
        if times[names[index]] > 1:
            text = f"{names[index]!r} occurs twice; results would overwrite each other"
            yield Problem(f"{key}.name", text)
        yield from resting_on(split_keys(key), _test_split_problems(dataset, key))
        yield from _mask_problems(dataset, key)


def dataset_name(dataset: TrainDataset | TestDataset, index: int) -> str:
    """The name of a data set, and of its result folder."""
    return dataset.name or f"dataset_{index}"


def split_keys(dataset: str, *others: str) -> list[str]:
    """The keys that rule how a data set is split into regions; `others` hold the defaults of two of them."""
    names = ("allocation_strategy", "test_stripe")
    both = [f"{section}.{name}" for section in (dataset, *others) for name in names]
    return [f"{dataset}.area_type", f"{dataset}.crossval_training", *both]


def pair_lists(dataset: TrainDataset | TestDataset) -> dict[str, bool]:
    """The keys of a data set's pair lists, and whether what it serves for needs them."""
    if isinstance(dataset, TestDataset):
        return {"path_pairlist": True}
    trains, validates = (role in dataset.area_type for role in ("train", "val"))
    return {"path_pairlist_training": trains, "path_pairlist_validation": validates}


def list_problems(dataset: TrainDataset | TestDataset, *, uses_images: bool, key: str) -> Iterator[Problem]:
    """What is missing of, or superfluous in, the lists of a data set for a network that is known."""
    for name, is_wanted in {"path_image_list": True, **pair_lists(dataset)}.items():
        given = getattr(dataset, name) is not None
        if uses_images and is_wanted and not given:
            causes = (f"{key}.area_type",) if name.startswith("path_pairlist_") else ()
            text = "missing; a network that sees images needs it"
            yield Problem(f"{key}.{name}", text, rests_on=causes)
        elif given and not uses_images:
            text = "ignored: a network with input_channels 'geom' sees no images"
            yield Problem(f"{key}.{name}", text, "warning")


def smallest_tile(depth: int) -> int:
    """The smallest tile that a U-Net of this depth takes."""
    return max(16, 4 << depth)


def tile_size_problems(tile: int, depth: int, key: str) -> list[Problem]:
    """A tile that is too small for a network."""
    smallest = smallest_tile(depth)
    text = f"found {tile}; depth {depth} needs {smallest} or more"
    return [Problem(key, text)] if tile < smallest else []


def _suffix_problems(config: Section) -> Iterator[Problem]:
    """Paths whose ending shows that another file was meant."""
    for loc, rule, path in paths_in(config):
        if not str(path).endswith(rule.suffix):
            yield Problem(location(loc), f"found {str(path)!r}; should end in {rule.suffix}")


def _training_split_problems(config: TrainConfig, dataset: TrainDataset, key: str) -> Iterator[Problem]:
    strategy = dataset.allocation_strategy or config.general.allocation_strategy
    if strategy == "entire" and dataset.area_type == "train+val":
        text = "'entire' cannot both train and validate; take stripes, or two data sets"
        yield Problem(f"{key}.allocation_strategy", text)
    if not dataset.crossval_training:
        return
    if len(config.datasets) != 1:
        text = f"cross-validation takes exactly one data set, found {len(config.datasets)}"
        yield Problem(f"{key}.crossval_training", text)
    if strategy == "entire":
        yield Problem(f"{key}.allocation_strategy", "cross-validation needs stripes, found 'entire'")
    if dataset.area_type != "train+val":
        text = f"cross-validation needs 'train+val', found {dataset.area_type!r}"
        yield Problem(f"{key}.area_type", text)


def _test_split_problems(dataset: TestDataset, key: str) -> Iterator[Problem]:
    if dataset.allocation_strategy != "entire":
        for name in ("area_type", "test_stripe"):
            if getattr(dataset, name) is None:
                text = f"missing; mandatory with allocation_strategy {dataset.allocation_strategy!r}"
                yield Problem(f"{key}.{name}", text)
    if dataset.crossval_training and dataset.allocation_strategy == "entire":
        text = "cross-validation needs the stripes of training, found 'entire'"
        yield Problem(f"{key}.allocation_strategy", text)
    if dataset.crossval_training and dataset.area_type == "test":
        yield Problem(f"{key}.area_type", "cross-validation leaves nothing to test; take 'val'")


def _mask_problems(dataset: TestDataset, key: str) -> Iterator[Problem]:
    """Masks that count only beside something else."""
    for mask in (name for name in MASKS if getattr(dataset, f"mask_{name}") is not None):
        needed = {"raster_gt": "without raster_gt nothing is evaluated"}
        if mask in ("water", "forest"):
            needed["mask_building"] = "it counts only with a mask_building"
        for other, text in needed.items():
            if getattr(dataset, other) is None:
                causes = (f"{key}.{other}",)
                yield Problem(f"{key}.mask_{mask}", f"ignored: {text}", "warning", causes)
