"""From a configuration file to a checked configuration, or to the list of everything wrong with it.

Here are the problems that the text alone shows: syntax, keys, types, ranges, and rules between fields. What
takes a look at the disk is in checking.py.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from resdepth.config import DERIVED_KEYS, TestConfig, TrainConfig
from resdepth.errors import InputProblems, Problem, ResDepthError, location
from resdepth.rules import SUFFIXES, suffix_problems, test_rules, train_rules
from resdepth.scene import resolve_path

Kind = Literal["train", "test"]
AnyConfig = TypeVar("AnyConfig", TrainConfig, TestConfig)

PATH_KEYS = frozenset(SUFFIXES) | {
    "raster_in", "raster_gt", "mask_ground_truth", "mask_building", "mask_water", "mask_forest",
    "output_directory", "tboard_log_dir", "directory",
}  # fmt: skip
SHOWN_VALUE_CHARACTERS = 80


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ResDepthError: if it cannot be read, is no JSON, or holds a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ResDepthError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ResDepthError(f"{path}: not a text file in UTF-8 ({error.reason})") from error
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ResDepthError(
            f"{path}: line {error.lineno}, column {error.colno}: no valid JSON ({error.msg})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ResDepthError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ResDepthError(f"{path}: expected an object {{...}}, found a {type(content).__name__}")
    return content


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise ValueError(f"the key {repeated[0]!r} occurs twice in one object; keep one")
    return dict(pairs)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def kind_of(content: Mapping[str, Any]) -> Kind:
    """Whether a configuration trains or tests, from the keys that only one of them has."""
    output = content.get("output")
    datasets = content.get("datasets")
    first = datasets[0] if isinstance(datasets, list) and datasets else {}
    keys = {*(output if isinstance(output, dict) else ()), *(first if isinstance(first, dict) else ())}
    model = content.get("model")
    keys |= set(model) if isinstance(model, dict) else set()
    for_test = {"directory", "path_pairlist", "weights", "architecture", "normalization_geom", "path"}
    for_train = {"output_directory", "tboard_log_dir", "path_pairlist_training", "n_training_samples"}
    for_train |= {"training_settings", "optimizer", "scheduler", "stereopair_settings", "multiview"}
    score = len(keys & for_test) - len((keys | set(content)) & for_train)
    return "test" if score > 0 else "train"


def load_train_config(path: Path) -> tuple[TrainConfig | None, list[Problem]]:
    """A training configuration with absolute paths, and every problem that the text shows.

    Where fields are wrong, the configuration is what remains without them, good enough to go on looking for
    problems; None if nothing useful remains.

    Raises:
        ResDepthError: if the file is no JSON.
    """
    config, problems = _parse(TrainConfig, read_json(path), path)
    if config is None:
        return None, problems
    return config, _merged(problems, [*suffix_problems(config, path), *train_rules(config, str(path))])


def load_test_config(path: Path) -> tuple[TestConfig | None, list[Problem]]:
    """A test configuration with absolute paths; otherwise as `load_train_config`."""
    config, problems = _parse(TestConfig, read_json(path), path)
    if config is None:
        return None, problems
    return config, _merged(problems, [*suffix_problems(config, path), *test_rules(config, str(path))])


def has_errors(problems: Sequence[Problem]) -> bool:
    """Whether any of the problems stops the work."""
    return any(problem.severity == "error" for problem in problems)


def raise_errors(problems: Sequence[Problem]) -> None:
    """Raise InputProblems if any of the problems stops the work."""
    if has_errors(problems):
        raise InputProblems(problems)


def _merged(field_problems: list[Problem], rule_problems: list[Problem]) -> list[Problem]:
    """Both lists, without what a rule says about a field that is known to be wrong."""
    wrong = {problem.where for problem in field_problems}
    hidden = wrong | {where.rsplit("[", 1)[0] for where in wrong if where.endswith("]")}
    return field_problems + [problem for problem in rule_problems if problem.where not in hidden]


def _parse(
    schema: type[AnyConfig], content: Mapping[str, Any], path: Path
) -> tuple[AnyConfig | None, list[Problem]]:
    content = _without_derived_keys(content, schema)
    problems: list[Problem] = []
    for _ in range(3):  # removing a wrong value can show that its section lacks another
        try:
            config = schema.model_validate_json(json.dumps(content))
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems += [
                _field_problem(schema, path, item)
                for item in found
                if not problems or item["type"] != "missing"
            ]
            content = json.loads(json.dumps(content))
            for item in reversed(found):
                _mend(content, schema, item["loc"], item["type"])
        else:
            resolved = _resolve_paths(config.model_dump(by_alias=True), path)
            return schema.model_validate_json(json.dumps(resolved)), problems
    return None, problems


def _mend(content: Any, schema: type[BaseModel], loc: tuple[int | str, ...], kind: str) -> None:
    """Take a wrong value out, or put it under the key that was probably meant."""
    holder: Any = content
    for part in loc[:-1]:
        try:
            holder = holder[part]
        except (KeyError, IndexError, TypeError):
            return
    key = loc[-1]
    if kind == "missing" and len(loc) > 2 and loc[0] == "datasets":
        # A data set without its rasters cannot be looked at; the others can.
        content["datasets"][loc[1]] = None
    elif isinstance(holder, dict) and key in holder:
        value = holder.pop(key)
        near = _nearest(str(key), _keys_at(schema, loc[:-1])) if kind == "extra_forbidden" else None
        if near and near not in holder:
            holder[near] = value
    elif isinstance(holder, list) and isinstance(key, int) and key < len(holder):
        holder.pop(key)
    content["datasets"] = [item for item in content.get("datasets") or [] if item is not None]


def _nearest(name: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return near[0] if near else None


def _keys_at(schema: type[BaseModel], loc: Sequence[int | str]) -> dict[str, FieldInfo]:
    section = _section_at(schema, loc)
    return {field.alias or name: field for name, field in section.model_fields.items()} if section else {}


def _without_derived_keys(content: Mapping[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    cleaned = dict(content)
    if isinstance(content.get("datasets"), list):
        cleaned["datasets"] = [
            {k: v for k, v in item.items() if k not in DERIVED_KEYS["datasets"]}
            if isinstance(item, dict)
            else item
            for item in content["datasets"]
        ]
    if schema is TestConfig and isinstance(content.get("model"), dict):
        cleaned["model"] = {k: v for k, v in content["model"].items() if k not in DERIVED_KEYS["model"]}
    return cleaned


def _resolve_paths(value: Any, named_in: Path, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _resolve_paths(item, named_in, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve_paths(item, named_in, key) for item in value]
    if key in PATH_KEYS and isinstance(value, str):
        return str(resolve_path(value, named_in))
    return value


def _field_problem(schema: type[BaseModel], path: Path, found: ErrorDetails) -> Problem:
    loc, value = found["loc"], found.get("input")
    where = f"{path}: {location(loc)}"
    known = _keys_at(schema, loc[:-1])
    if found["type"] == "extra_forbidden":
        near = _nearest(str(loc[-1]), known)
        advice = f"did you mean {near!r}?" if near else "remove it."
        return Problem(
            where, f"unknown key; {advice} Known here: {', '.join(k for k in known if k != '$schema')}"
        )
    if found["type"] == "missing":
        described = known[str(loc[-1])].description if str(loc[-1]) in known else None
        return Problem(where, f"missing; {described or 'this section is mandatory'}")
    shown = json.dumps(value, default=str)
    if len(shown) > SHOWN_VALUE_CHARACTERS:
        shown = shown[:SHOWN_VALUE_CHARACTERS] + "..."
    advice = found["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if found["type"] == "literal_error" and isinstance(value, str):
        options = advice.replace("should be", "").replace(" or ", ", ").replace("'", "").split(",")
        near = _nearest(value, [option.strip() for option in options])
        advice += f"; did you mean {near!r}?" if near else ""
    return Problem(where, f"found {shown}; {advice}")


def _section_at(schema: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel] | None:
    section: Any = schema
    for part in loc:
        if isinstance(part, int):
            continue
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
        field = section.model_fields.get(part)
        section = field.annotation if field else None
        inner = [kind for kind in get_args(section) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        section = inner[0] if inner else section
    return section if isinstance(section, type) and issubclass(section, BaseModel) else None
