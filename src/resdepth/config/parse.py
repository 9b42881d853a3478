"""From a JSON file to a configuration, and what is wrong with its single keys: names, types, ranges.

Where a value is wrong, a stand-in takes its place, so that the search for problems continues. Problems
between keys are in rules.py; what looks at the disk is in workflows/check.py.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from resdepth.config.schema import DERIVED_KEYS, Loc, Section, TestConfig, TrainConfig
from resdepth.errors import Problem, location, unusable
from resdepth.options import Kind
from resdepth.runtime.jsonfiles import expected, read_json

AnySection = TypeVar("AnySection", bound=Section)

SCHEMAS: dict[Kind, type[TrainConfig] | type[TestConfig]] = {"train": TrainConfig, "test": TestConfig}
SHOWN_VALUE_CHARACTERS = 80
HINTS = {
    "bool_type": "should be true or false",
    "dict_type": "should be an object {...}",
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "string_type": "should be a text in quotes",
    "too_short": "should not be empty",
    "tuple_type": "should be a list [...]",
}
"""What a value should be, by pydantic's types of errors, where its own words are a programmer's."""


def kind_of(content: Mapping[str, Any]) -> Kind:
    """Whether a configuration trains or tests: what is in it decides, not what is missing."""

    def misfits(kind: Kind) -> int:
        _, problems = draft(SCHEMAS[kind], content, "")
        return sum(not problem.message.startswith("missing") for problem in problems)

    return "test" if misfits("test") < misfits("train") else "train"


def load_train_config(path: Path) -> tuple[TrainConfig, list[Problem]]:
    """A training configuration with absolute paths, and every problem of a single key (see `draft`).

    Raises:
        InputProblems: if the file is no JSON object, or is a test configuration.
    """
    return _load(TrainConfig, path, "train", "test")


def load_test_config(path: Path) -> tuple[TestConfig, list[Problem]]:
    """A test configuration; otherwise as `load_train_config`."""
    return _load(TestConfig, path, "test", "train")


def _load(schema: type[AnySection], path: Path, kind: Kind, other: Kind) -> tuple[AnySection, list[Problem]]:
    content = read_json(path)
    config, problems = draft(schema, content, f"{path}: ", named_in=path)
    if problems and not draft(SCHEMAS[other], content, "")[1]:
        raise unusable(path, f"is a configuration for `resdepth {other}`, not for `resdepth {kind}`")
    return config, problems


def draft(
    schema: type[AnySection], given: Mapping[str, Any], where: str, *, named_in: Path | None = None
) -> tuple[AnySection, list[Problem]]:
    """What an object says by its schema, and every problem of a single key, unknown keys first.

    Where a key is a problem, the content holds what was probably meant, the default, or a stand-in;
    errors.without_consequences drops what would be concluded from it.

    Args:
        schema: the section that the object should be.
        given: the object, as JSON holds it.
        where: what its keys are named after: "config.json: ".
        named_in: the file that relative paths lead from; without it, they stay as they are.
    """
    content = deepcopy(dict(given))
    problems: list[Problem] = []
    while True:
        try:
            return schema.model_validate_json(json.dumps(content), context=named_in), problems
        except ValidationError as error:
            found = error.errors(include_url=False)
        unknown = [one for one in found if one["type"] == "extra_forbidden"]
        for one in sorted(unknown, key=lambda one: len(one["loc"])) or found:  # once keys have their names
            message = _mend(schema, content, one)
            problems += [Problem(f"{where}{location(one['loc'])}", message)] if message else []


def _mend(schema: type[Section], content: Any, found: ErrorDetails) -> str:
    """Put something sound in place of one wrong value, and state what is wrong; "" where nothing is."""
    *parents, key = found["loc"]
    section, field = _field_at(schema, found["loc"])
    holder = reduce(getitem, parents, content)
    if field is None:
        return _mend_unknown(schema, section, holder, str(key))
    if found["type"] == "too_short" and found["input"]:
        return ""  # a list that is short only because its items are wrong
    item = _section_in(field.annotation)
    if isinstance(key, int) and item is None:  # one number of a few: all of them go
        *parents, key = parents
        holder = reduce(getitem, parents, content)
    if isinstance(key, int):
        holder[key] = _stand_in(item)
    elif field.is_required():
        holder[key] = _stand_in(field.annotation, field.metadata)
    else:
        holder.pop(key, None)
    return _described(field, found)


def _mend_unknown(schema: type[Section], section: type[Section], holder: dict[str, Any], key: str) -> str:
    """Give the value of an unknown key the name that was probably meant, unless that one is there."""
    value = holder.pop(key)
    if key in DERIVED_KEYS.get(section, ()):
        return ""
    known, homes = _fields(section), _homes(schema)
    near = None if key in homes else nearest(key, known)
    if near is not None:
        holder.setdefault(near, value)
    guess = f"did you mean {near!r}?" if near else "remove it"
    advice = f"it belongs to {homes[key]}" if key in homes else guess
    return f"unknown key; {advice} (known here: {', '.join(name for name in known if name != '$schema')})"


def _described(field: FieldInfo, found: ErrorDetails) -> str:
    """What is wrong with one value, and what to do."""
    if found["type"] == "missing":
        return f"missing; {field.description or 'this section is mandatory'}"
    shown = json.dumps(found["input"], default=str)
    if len(shown) > SHOWN_VALUE_CHARACTERS:
        shown = f"{shown[:SHOWN_VALUE_CHARACTERS]}..."
    advice = HINTS.get(found["type"], expected(found))
    if found["type"] == "literal_error":
        options = re.findall("'([^']*)'", found["ctx"]["expected"])
        near = nearest(str(found["input"]), options)
        advice = f"should be one of {', '.join(options)}" + (f"; did you mean {near!r}?" if near else "")
    return f"found {shown}; {advice}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return near[0] if near else None


def _stand_in(annotation: Any, limits: Iterable[Any] = ()) -> Any:
    """Something of the right type for what is mandatory."""
    if get_origin(annotation) is tuple:
        return [_stand_in(get_args(annotation)[0])]
    if get_origin(annotation) is Literal:
        return get_args(annotation)[-1]  # "train+val" of the area types: every list is looked at
    if section := _section_in(annotation):
        fields = {name: field for name, field in _fields(section).items() if field.is_required()}
        return {name: _stand_in(field.annotation, field.metadata) for name, field in fields.items()}
    return "?" if annotation is str else max([1, *(one.ge for one in limits if hasattr(one, "ge"))])


def _fields(section: type[Section]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that a field holds, by itself or as the items of a list."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def _field_at(schema: type[Section], loc: Loc) -> tuple[type[Section], FieldInfo | None]:
    """The section that a place in an object belongs to, and its field; None for an unknown key."""
    home, field = schema, None
    for name in (part for part in loc if isinstance(part, str)):
        home = (_section_in(field.annotation) if field else None) or home
        field = _fields(home).get(name)
    return home, field


def _homes(schema: type[Section], name: str = "the top level") -> dict[str, str]:
    """The section of each key, for keys that stand in the wrong one."""
    homes: dict[str, str] = {}
    for key, field in _fields(schema).items():
        inner = _section_in(field.annotation)
        homes |= _homes(inner, repr(key)) if inner else {}
        homes[key] = name
    return homes
