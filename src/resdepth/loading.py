"""From a JSON file to a configuration with absolute paths, and what is wrong with its keys.

Problems between keys are in rules.py; what takes a look at the disk is in checking.py.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from resdepth.config import Section, TestConfig, TrainConfig
from resdepth.drafting import AnySection, draft
from resdepth.errors import Problem, unusable
from resdepth.paths import read_text, resolve_path
from resdepth.rules import SUFFIXES

Kind = Literal["train", "test"]

SCHEMAS: dict[Kind, type[TrainConfig] | type[TestConfig]] = {"train": TrainConfig, "test": TestConfig}
PATH_KEYS = frozenset(SUFFIXES) | {
    "raster_in", "raster_gt", "mask_ground_truth", "mask_building", "mask_water", "mask_forest",
    "output_directory", "tboard_log_dir", "directory",
}  # fmt: skip
DEEPEST_NESTING = 50


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputProblems: if it cannot be read, or is no JSON object.
    """
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise unusable(path, str(error)) from error


def parse_json(text: str) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        ValueError: if it is no JSON, no object, holds a key twice, or what no file of ours needs: infinite
            numbers, half characters, deep nesting.
    """
    try:
        content = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite
        )
        json.dumps(content, ensure_ascii=False).encode()
        if _depth(content) > DEEPEST_NESTING:
            raise ValueError(f"nested more than {DEEPEST_NESTING} levels deep")
    except json.JSONDecodeError as error:
        raise ValueError(
            f"line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})"
        ) from error
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character ({error.object[error.start]!r})") from error
    except RecursionError as error:
        raise ValueError(f"nested more than {DEEPEST_NESTING} levels deep") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected an object {{...}}, found {text.strip()[:20]!r}")  # noqa: TRY004 - the text is at fault
    return content


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r} occurs twice in one object; keep one")
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text} is too large")
    return value


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in inner), default=0)


def kind_of(content: Mapping[str, Any]) -> Kind:
    """Whether a configuration trains or tests: what is in it decides, not what is missing."""

    def misfits(kind: Kind) -> int:
        _, problems = draft(SCHEMAS[kind], content, "")
        return sum(not problem.message.startswith("missing") for problem in problems)

    return "test" if misfits("test") < misfits("train") else "train"


def load_train_config(path: Path) -> tuple[TrainConfig, list[Problem]]:
    """A training configuration with absolute paths, and every problem of a single key (see drafting.py).

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
