"""Rules between the keys of a configuration, which no schema tells. The text alone shows them."""

from collections import Counter
from collections.abc import Mapping

from resdepth.config.schema import Section, TestConfig, TestDataset, TrainConfig, TrainDataset, paths_in
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


def train_rules(config: TrainConfig, path: str) -> list[Problem]:
    """Everything wrong between the keys of a training configuration."""
    problems = [*_suffix_problems(config, path), *_role_problems(config, path)]
    for index, dataset in enumerate(config.datasets):
        key = f"{path}: datasets[{index}]"
        problems += _split_problems(config, dataset, key, path)
        problems += _training_list_problems(config, dataset, key, path)
    if config.model.input_channels == "stereo" and config.model.outer_skip:
        text = "should be false for input_channels 'stereo', which sees no DSM"
        problems.append(Problem(f"{path}: model.outer_skip", text))
    if config.model.input_channels == "stereo" and config.training_settings.height_stretch > 1:
        text = "should be 1 for input_channels 'stereo', which sees no DSM that could be stretched"
        problems.append(Problem(f"{path}: training_settings.height_stretch", text))
    smallest = smallest_tile(config.model.depth)
    if config.training_settings.tile_size < smallest:
        text = (
            f"found {config.training_settings.tile_size}; depth {config.model.depth} needs {smallest} or more"
        )
        causes = (f"{path}: model.depth",)
        problems.append(Problem(f"{path}: training_settings.tile_size", text, rests_on=causes))
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


def _training_list_problems(config: TrainConfig, dataset: TrainDataset, key: str, path: str) -> list[Problem]:
    uses_images = config.model.input_channels != "geom"
    wanted = {
        "path_pairlist_training": "train" in dataset.area_type,
        "path_pairlist_validation": "val" in dataset.area_type,
    }
    images = _list_problems(dataset, {"path_image_list": True}, uses_images=uses_images, key=key)
    pairs = _list_problems(dataset, wanted, uses_images=uses_images, key=key)
    found = [*images, *resting_on([f"{key}.area_type"], pairs)]
    return resting_on([f"{path}: model.input_channels"], found)


def _list_problems(
    dataset: TrainDataset | TestDataset, wanted: Mapping[str, bool], *, uses_images: bool, key: str
) -> list[Problem]:
    problems = []
    for name, is_wanted in wanted.items():
        given = getattr(dataset, name) is not None
        if uses_images and is_wanted and not given:
            problems.append(Problem(f"{key}.{name}", "missing; a network that sees images needs it"))
        elif given and not uses_images:
            text = "ignored: a network with input_channels 'geom' sees no images"
            problems.append(Problem(f"{key}.{name}", text, "warning"))
    return problems


def inference_list_problems(dataset: TestDataset, *, uses_images: bool, key: str) -> list[Problem]:
    """What is missing of, or superfluous in, a test data set's lists, once the model is known."""
    wanted = {"path_image_list": True, "path_pairlist": True}
    return _list_problems(dataset, wanted, uses_images=uses_images, key=key)


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
        for mask in ("water", "forest"):
            if getattr(dataset, f"mask_{mask}") is not None and dataset.mask_building is None:
                text = "ignored: it counts only with a mask_building"
                causes = (f"{key}.mask_building",)
                problems.append(Problem(f"{key}.mask_{mask}", text, "warning", causes))
    return problems


def dataset_name(dataset: TestDataset, index: int) -> str:
    """The name of a data set's result folder."""
    return dataset.name if dataset.name is not None else f"dataset_{index}"


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
