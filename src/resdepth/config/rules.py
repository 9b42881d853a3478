"""Rules between the keys of a configuration, which no schema tells. The text alone shows them."""

from collections import Counter

from resdepth.config.schema import Section, TestConfig, TestDataset, TrainConfig, TrainDataset, paths_in
from resdepth.data.scene import MASKS
from resdepth.errors import Problem, location, resting_on


def _suffix_problems(config: Section, path: str) -> list[Problem]:
    """Paths whose ending shows that another file was meant."""
    return [
        Problem(f"{path}: {location(loc)}", f"found {str(named)!r}; should end in {kind.suffix}")
        for loc, kind, named in paths_in(config)
        if not str(named).endswith(kind.suffix)
    ]


def smallest_tile(depth: int) -> int:
    """The smallest tile that a U-Net of this depth takes."""
    return max(16, 4 << depth)


def tile_size_problems(tile: int, depth: int, section: str) -> list[Problem]:
    """A tile that is too small for a network."""
    smallest = smallest_tile(depth)
    text = f"found {tile}; depth {depth} needs {smallest} or more"
    return [Problem(f"{section}.tile_size", text)] if tile < smallest else []


def train_rules(config: TrainConfig, path: str) -> list[Problem]:
    """Everything wrong between the keys of a training configuration."""
    problems = [*_suffix_problems(config, path), *_role_problems(config, path)]
    for index, dataset in enumerate(config.datasets):
        key = f"{path}: datasets[{index}]"
        problems += _split_problems(config, dataset, key, path)
        found = list_problems(dataset, uses_images=config.model.input_channels != "geom", key=key)
        problems += resting_on([f"{path}: model.input_channels"], found)
    if config.model.input_channels == "stereo" and config.model.outer_skip:
        text = "should be false for input_channels 'stereo', which sees no DSM"
        problems.append(Problem(f"{path}: model.outer_skip", text))
    if config.model.input_channels == "stereo" and config.training_settings.height_stretch > 1:
        text = "should be 1 for input_channels 'stereo', which sees no DSM that could be stretched"
        problems.append(Problem(f"{path}: training_settings.height_stretch", text))
    tile, depth = config.training_settings.tile_size, config.model.depth
    found = tile_size_problems(tile, depth, f"{path}: training_settings")
    problems += resting_on([f"{path}: model.depth"], found)
    scheduler = config.scheduler
    if scheduler.enabled and scheduler.name == "StepLR" and "step_size" not in scheduler.settings:
        text = "StepLR has no step_size: the learning rate stays as it is"
        causes = (f"{path}: scheduler",)
        problems.append(Problem(f"{path}: scheduler.settings", text, "warning", causes))
    return problems


def _role_problems(config: TrainConfig, path: str) -> list[Problem]:
    roles = {role for dataset in config.datasets for role in dataset.area_type.split("+")}
    return [
        Problem(f"{path}: datasets", f"no data set {does}; give one the area_type {role!r} or 'train+val'")
        for role, does in (("train", "trains"), ("val", "validates"))
        if role not in roles
    ]


def split_keys(key: str, path: str | None = None) -> tuple[str, ...]:
    """The keys that rule how a data set is split into regions; in training (`path`) with their defaults."""
    names = ("allocation_strategy", "test_stripe")
    defaults = [f"{path}: general.{name}" for name in names] if path else []
    return (*(f"{key}.{name}" for name in ("area_type", "crossval_training", *names)), *defaults)


def _split_problems(config: TrainConfig, dataset: TrainDataset, key: str, path: str) -> list[Problem]:
    problems: list[Problem] = []

    def problem(name: str, message: str) -> None:
        problems.append(Problem(f"{key}.{name}", message, rests_on=split_keys(key, path)))

    strategy = dataset.allocation_strategy or config.general.allocation_strategy
    if strategy == "entire" and dataset.area_type == "train+val":
        problem(
            "allocation_strategy", "'entire' cannot both train and validate; take stripes, or two data sets"
        )
    if not dataset.crossval_training:
        return problems
    if len(config.datasets) != 1:
        text = f"cross-validation takes exactly one data set, found {len(config.datasets)}"
        problem("crossval_training", text)
    if strategy == "entire":
        problem("allocation_strategy", "cross-validation needs stripes, found 'entire'")
    if dataset.area_type != "train+val":
        problem("area_type", f"cross-validation needs 'train+val', found {dataset.area_type!r}")
    return problems


def pair_lists(dataset: TrainDataset | TestDataset) -> dict[str, bool]:
    """The keys of a data set's pair lists, and whether what it serves for needs them."""
    if isinstance(dataset, TestDataset):
        return {"path_pairlist": True}
    trains, validates = (role in dataset.area_type for role in ("train", "val"))
    return {"path_pairlist_training": trains, "path_pairlist_validation": validates}


def list_problems(dataset: TrainDataset | TestDataset, *, uses_images: bool, key: str) -> list[Problem]:
    """What is missing of, or superfluous in, the lists of a data set for a network that is known."""
    problems = []
    for name, is_wanted in {"path_image_list": True, **pair_lists(dataset)}.items():
        given = getattr(dataset, name) is not None
        if uses_images and is_wanted and not given:
            causes = (f"{key}.area_type",) if name.startswith("path_pairlist_") else ()
            text = "missing; a network that sees images needs it"
            problems.append(Problem(f"{key}.{name}", text, rests_on=causes))
        elif given and not uses_images:
            text = "ignored: a network with input_channels 'geom' sees no images"
            problems.append(Problem(f"{key}.{name}", text, "warning"))
    return problems


def test_rules(config: TestConfig, path: str) -> list[Problem]:
    """Everything wrong between the keys of a test configuration."""
    problems = _suffix_problems(config, path)
    others = config.model.model_dump(exclude={"path"}, exclude_none=True)
    if config.model.path is not None and others:
        text = f"found path and {', '.join(others)}; give either path or the published files"
        problems.append(Problem(f"{path}: model", text))
    names = [dataset_name(dataset, index) for index, dataset in enumerate(config.datasets)]
    times = Counter(names)
    for index, dataset in enumerate(config.datasets):
        key = f"{path}: datasets[{index}]"
        if times[names[index]] > 1:
            text = f"{names[index]!r} occurs twice; results would overwrite each other"
            problems.append(Problem(f"{key}.name", text))
        problems += _region_problems(dataset, key)
        problems += _mask_problems(dataset, key)
    return problems


def dataset_name(dataset: TestDataset, index: int) -> str:
    """The name of a data set's result folder."""
    return dataset.name if dataset.name is not None else f"dataset_{index}"


def _mask_problems(dataset: TestDataset, key: str) -> list[Problem]:
    """Masks that count only beside something else."""
    problems = []
    for mask in MASKS:
        needed = {"raster_gt": "without raster_gt nothing is evaluated"}
        if mask in ("water", "forest"):
            needed["mask_building"] = "it counts only with a mask_building"
        if getattr(dataset, f"mask_{mask}") is not None:
            problems += [
                Problem(f"{key}.mask_{mask}", f"ignored: {text}", "warning", (f"{key}.{other}",))
                for other, text in needed.items()
                if getattr(dataset, other) is None
            ]
    return problems


def _region_problems(dataset: TestDataset, key: str) -> list[Problem]:
    problems: list[Problem] = []

    def problem(name: str, message: str) -> None:
        problems.append(Problem(f"{key}.{name}", message, rests_on=split_keys(key)))

    if dataset.allocation_strategy != "entire":
        for name in ("area_type", "test_stripe"):
            if getattr(dataset, name) is None:
                problem(name, f"missing; mandatory with allocation_strategy {dataset.allocation_strategy!r}")
    if dataset.crossval_training and dataset.allocation_strategy == "entire":
        problem("allocation_strategy", "cross-validation needs the stripes of training, found 'entire'")
    if dataset.crossval_training and dataset.area_type == "test":
        problem("area_type", "cross-validation leaves nothing to test; take 'val'")
    return problems
