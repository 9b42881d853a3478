"""Rules between the fields of a configuration, which no schema tells. The text alone shows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from resdepth.config import TestConfig, TestDataset, TrainConfig, TrainDataset
from resdepth.errors import Problem, location

SUFFIXES = {
    "path_image_list": ".txt",
    "path_pairlist": ".txt",
    "path_pairlist_training": ".txt",
    "path_pairlist_validation": ".txt",
    "weights": ".pth",
    "pretrained_path": ".pth",
    "architecture": ".json",
    "normalization_geom": ".p",
    "normalization_image": ".p",
    "path": ".safetensors",
}


def suffix_problems(config: BaseModel, path: Path, prefix: tuple[int | str, ...] = ()) -> list[Problem]:
    """Paths whose ending shows that another file was meant."""
    problems: list[Problem] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            problems += suffix_problems(value, path, (*prefix, name))
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                problems += suffix_problems(item, path, (*prefix, name, index))
        elif name in SUFFIXES and isinstance(value, str) and not value.endswith(SUFFIXES[name]):
            where = f"{path}: {location((*prefix, name))}"
            problems.append(Problem(where, f"found {value!r}; should end in {SUFFIXES[name]}"))
    return problems


def smallest_tile(depth: int) -> int:
    """The smallest tile that a U-Net of this depth takes."""
    return max(16, 4 << depth)


def train_rules(config: TrainConfig, path: str) -> list[Problem]:
    """Everything wrong between the fields of a training configuration."""
    problems = _role_problems(config, path)
    for index, dataset in enumerate(config.datasets):
        key = f"{path}: datasets[{index}]"
        problems += _image_key_problems(dataset, config.model.input_channels, key)
        problems += _split_problems(config, dataset, key)
    if config.model.input_channels == "stereo" and config.model.outer_skip:
        text = "must be false for input_channels 'stereo', which sees no DSM"
        problems.append(Problem(f"{path}: model.outer_skip", text))
    smallest = smallest_tile(config.model.depth)
    if config.training_settings.tile_size < smallest:
        text = (
            f"found {config.training_settings.tile_size}; at least {smallest} for depth {config.model.depth}"
        )
        problems.append(Problem(f"{path}: training_settings.tile_size", text))
    scheduler = config.scheduler
    if scheduler.enabled and scheduler.name == "StepLR" and "step_size" not in scheduler.settings:
        text = "StepLR has no step_size: the learning rate stays as it is"
        problems.append(Problem(f"{path}: scheduler.settings", text, "warning"))
    return problems


def _role_problems(config: TrainConfig, path: str) -> list[Problem]:
    roles = {role for dataset in config.datasets for role in dataset.area_type.split("+")}
    return [
        Problem(f"{path}: datasets", f"no data set {does}; give one the area_type {role!r} or 'train+val'")
        for role, does in (("train", "trains"), ("val", "validates"))
        if role not in roles
    ]


def _split_problems(config: TrainConfig, dataset: TrainDataset, key: str) -> list[Problem]:
    problems = []
    strategy = dataset.allocation_strategy or config.general.allocation_strategy
    if strategy == "entire" and dataset.area_type == "train+val":
        text = "'entire' cannot both train and validate; choose stripes, or two data sets"
        problems.append(Problem(f"{key}.allocation_strategy", text))
    if not dataset.crossval_training:
        return problems
    if len(config.datasets) != 1:
        text = f"cross-validation takes exactly one data set, found {len(config.datasets)}"
        problems.append(Problem(f"{key}.crossval_training", text))
    if strategy == "entire":
        text = "cross-validation needs stripes, found 'entire'"
        problems.append(Problem(f"{key}.allocation_strategy", text))
    if dataset.area_type != "train+val":
        text = f"cross-validation needs 'train+val', found {dataset.area_type!r}"
        problems.append(Problem(f"{key}.area_type", text))
    return problems


def _image_key_problems(dataset: TrainDataset, input_channels: str, key: str) -> list[Problem]:
    wanted = {"path_image_list": True}
    wanted["path_pairlist_training"] = "train" in dataset.area_type
    wanted["path_pairlist_validation"] = "val" in dataset.area_type
    return _list_problems(dataset, wanted, uses_images=input_channels != "geom", key=key)


def _list_problems(
    dataset: TrainDataset | TestDataset, wanted: Mapping[str, bool], *, uses_images: bool, key: str
) -> list[Problem]:
    problems = []
    for name, is_wanted in wanted.items():
        given = getattr(dataset, name) is not None
        if uses_images and is_wanted and not given:
            problems.append(Problem(f"{key}.{name}", "missing; this network sees images"))
        elif given and not uses_images:
            text = "ignored: a network with input_channels 'geom' sees no images"
            problems.append(Problem(f"{key}.{name}", text, "warning"))
    return problems


def inference_list_problems(dataset: TestDataset, *, uses_images: bool, key: str) -> list[Problem]:
    """What is missing of, or superfluous in, a test data set's lists, once the model is known."""
    wanted = {"path_image_list": True, "path_pairlist": True}
    return _list_problems(dataset, wanted, uses_images=uses_images, key=key)


def test_rules(config: TestConfig, path: str) -> list[Problem]:
    """Everything wrong between the fields of a test configuration."""
    problems: list[Problem] = []

    def problem(key: str, message: str, severity: Literal["error", "warning"] = "error") -> None:
        problems.append(Problem(f"{path}: {key}", message, severity))

    files = ("weights", "architecture", "normalization_geom")
    given = [name for name in (*files, "normalization_image") if getattr(config.model, name) is not None]
    if config.model.path is not None and given:
        problem("model", f"give either path or {', '.join(given)}, not both")
    if config.model.path is None:
        for name in files:
            if name not in given:
                problem(f"model.{name}", "missing; or give model.path (.safetensors) alone")
    names = [dataset_name(dataset, index) for index, dataset in enumerate(config.datasets)]
    for index, dataset in enumerate(config.datasets):
        key = f"datasets[{index}]"
        if names.count(names[index]) > 1:
            problem(f"{key}.name", f"{names[index]!r} occurs twice; results would overwrite each other")
        if names[index] in (".", "..", "") or set(names[index]) & set("/\\"):
            problem(f"{key}.name", f"found {names[index]!r}; it names a folder and must not hold slashes")
        problems += _region_problems(dataset, f"{path}: {key}")
        masks = [name for name in ("water", "forest") if getattr(dataset, f"mask_{name}") is not None]
        if masks and dataset.mask_building is None:
            problem(f"{key}.mask_{masks[0]}", "ignored: it counts only with a mask_building", "warning")
    return problems


def dataset_name(dataset: TestDataset, index: int) -> str:
    """The name of a data set's result folder."""
    return dataset.name if dataset.name is not None else f"dataset_{index}"


def _region_problems(dataset: TestDataset, key: str) -> list[Problem]:
    problems = []
    if dataset.allocation_strategy != "entire":
        for name in ("area_type", "test_stripe"):
            if getattr(dataset, name) is None:
                text = f"missing; mandatory with allocation_strategy {dataset.allocation_strategy!r}"
                problems.append(Problem(f"{key}.{name}", text))
    if dataset.crossval_training and dataset.allocation_strategy == "entire":
        text = "cross-validation needs the stripes of training, found 'entire'"
        problems.append(Problem(f"{key}.allocation_strategy", text))
    if dataset.crossval_training and dataset.area_type == "test":
        problems.append(Problem(f"{key}.area_type", "cross-validation leaves nothing to test; take 'val'"))
    return problems
