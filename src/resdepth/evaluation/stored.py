"""Evaluation results that were stored as JSON, read again."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from resdepth.errors import ResDepthError
from resdepth.evaluation.result import FORMAT, EvaluationResult
from resdepth.runtime.jsonfiles import read_json, shown

EARLIER_FORMAT = "resdepth-judgement 1"
"""The same under the name that it had before."""
LARGEST_BYTES = 256 * 2**20
LARGEST_NUMBER = 2**63  # of pixels, of metres: far beyond any figure, and within a float


def read_result(path: Path) -> EvaluationResult:
    """An evaluation result from its JSON file.

    Raises:
        ResDepthError: if the file is none; the message says which value is not as it should be.
    """
    content = read_json(path, at_most=LARGEST_BYTES)
    if content.get("format") not in (FORMAT, EARLIER_FORMAT):
        raise ResDepthError(
            f"{path}: is no evaluation of this version ({FORMAT!r}); resdepth evaluate and test "
            "write evaluation.json"
        )
    content.pop("format")
    built = _built(EvaluationResult, content, str(path))
    assert isinstance(built, EvaluationResult), "asked for"
    _demand_classes(built, path)
    return built


def _demand_classes(outcome: EvaluationResult, path: Path) -> None:
    """Every surface has every class, as they were written."""
    for surface in outcome.surfaces.values():
        if set(surface.classes) != set(outcome.titles):
            raise ResDepthError(f"{path}: the classes of {surface.name!r} are not those of the titles")
    if outcome.initial is not None and outcome.initial not in outcome.surfaces:
        raise ResDepthError(f"{path}: the initial surface {outcome.initial!r} is not there")


def _built(kind: Any, value: Any, where: str) -> Any:
    """A value of a type from what JSON has of it; None where a number is expected is NaN."""
    if is_dataclass(kind) and isinstance(kind, type):
        return _built_dataclass(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is types.UnionType:
        chosen = next(one for one in inner if one is not type(None))
        return None if value is None else _built(chosen, value, where)
    if origin is Mapping and isinstance(value, dict):
        return {key: _built(inner[1], one, f"{where}: {key}") for key, one in value.items()}
    if origin is tuple and isinstance(value, list):
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise ResDepthError(f"{where}: expected {len(inner)} values, found {len(value)}")
        return tuple(_built(inner[0], one, f"{where}: {number}") for number, one in enumerate(value))
    if type(value) in (int, float) and abs(value) > LARGEST_NUMBER:
        raise ResDepthError(f"{where}: found {shown(value)}, which no figure is; is the file damaged?")
    if kind is float and (value is None or type(value) in (int, float)):
        return float("nan") if value is None else float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ResDepthError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {shown(value)}")


def _built_dataclass(kind: type, value: Any, where: str) -> Any:
    names = [field.name for field in fields(kind)]
    # What has a default came later: files of earlier versions lack it.
    required = {field.name for field in fields(kind) if field.default is MISSING}
    if not isinstance(value, dict) or not required <= set(value) <= set(names):
        raise ResDepthError(f"{where}: expected the keys {', '.join(names)}")
    hints = get_type_hints(kind)
    return kind(**{name: _built(hints[name], one, f"{where}: {name}") for name, one in value.items()})
