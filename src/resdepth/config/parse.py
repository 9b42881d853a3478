"""From a JSON file to a configuration with absolute paths, and what is wrong with its keys.

Problems between keys are in rules.py; what looks at the disk is in workflows/_on_disk.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resdepth.config.field_errors import AnySection, draft
from resdepth.config.rules import SUFFIXES
from resdepth.config.schema import Section, TestConfig, TrainConfig
from resdepth.errors import Problem, unusable
from resdepth.options import Kind
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.paths import resolve_path

SCHEMAS: dict[Kind, type[TrainConfig] | type[TestConfig]] = {"train": TrainConfig, "test": TestConfig}
PATH_KEYS = frozenset(SUFFIXES) | {
    "raster_in", "raster_gt", "mask_ground_truth", "mask_building", "mask_water", "mask_forest",
    "output_directory", "tboard_log_dir", "directory",
}  # fmt: skip


def kind_of(content: Mapping[str, Any]) -> Kind:
    """Whether a configuration trains or tests: what is in it decides, not what is missing."""

    def misfits(kind: Kind) -> int:
        _, problems = draft(SCHEMAS[kind], content, "")
        return sum(not problem.message.startswith("missing") for problem in problems)

    return "test" if misfits("test") < misfits("train") else "train"


def load_train_config(path: Path) -> tuple[TrainConfig, list[Problem]]:
    """A training configuration with absolute paths, and every problem of a single key (see field_errors.py).

    Raises:
        InputProblems: if the file is no JSON object, or is a test configuration.
    """
    return _load(TrainConfig, path, "train", "test")


def load_test_config(path: Path) -> tuple[TestConfig, list[Problem]]:
    """A test configuration; otherwise as `load_train_config`."""
    return _load(TestConfig, path, "test", "train")


def _load(schema: type[AnySection], path: Path, kind: Kind, other: Kind) -> tuple[AnySection, list[Problem]]:
    content = read_json(path)
    config, problems = draft(schema, content, f"{path}: ")
    if problems and not draft(SCHEMAS[other], content, "")[1]:
        raise unusable(path, f"is a configuration for `resdepth {other}`, not for `resdepth {kind}`")
    return _with_absolute_paths(config, path), problems


def _with_absolute_paths(section: AnySection, named_in: Path) -> AnySection:
    changed: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, tuple):
            changed[name] = tuple(_with_absolute_paths(item, named_in) for item in value)
        elif isinstance(value, Section):
            changed[name] = _with_absolute_paths(value, named_in)
        elif name in PATH_KEYS and isinstance(value, str):
            changed[name] = str(resolve_path(value, named_in))
    return section.model_copy(update=changed)
