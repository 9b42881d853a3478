"""From a file or a mapping to a configuration, and what is wrong with its single keys: names, types, ranges.

Each key is read by itself, so that one that is wrong hides no other. A wrong value is not in the
configuration: asking for it raises UnknownValueError. So whoever looks for further problems, between keys
(rules.py) and on the disk (workflows/check.py), concludes nothing from it.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from resdepth.config.schema import DERIVED_KEYS, Loc, Section, TestConfig, TrainConfig
from resdepth.errors import InputProblems, Problem, location
from resdepth.options import Kind
from resdepth.runtime.jsonfiles import expected, parse_json
from resdepth.runtime.yamlfiles import read_config

AnySection = TypeVar("AnySection", bound=Section)
AnyOfKind = TypeVar("AnyOfKind", bound=str)

SCHEMAS: dict[Kind, type[TrainConfig] | type[TestConfig]] = {"train": TrainConfig, "test": TestConfig}
SHOWN_VALUE_CHARACTERS = 80
AN_OBJECT = "should be an object {...}"
HINTS = {
    "bool_type": "should be true or false",
    "dict_type": AN_OBJECT,
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "string_type": "should be a text in quotes",
    "too_short": "should not be empty",
    "tuple_type": "should be a list [...]",
}
"""What a value should be, by pydantic's types of errors, where its own words are a programmer's."""


def kind_of(content: Mapping[str, Any], schemas: Mapping[AnyOfKind, type[Section]]) -> AnyOfKind:
    """What a configuration is for: what is in it decides, not what is missing; of equals, the first.

    Args:
        content: the configuration.
        schemas: the kinds to choose from.
    """

    def misfits(kind: AnyOfKind) -> int:
        _, problems = draft(schemas[kind], content, "")
        return sum(not problem.message.startswith("missing") for problem in problems)

    related = [
        kind for kind, schema in schemas.items() if content.keys() & _fields(schema).keys() - {"$schema"}
    ]
    return min(related or schemas, key=misfits)


@dataclass(frozen=True)
class Source:
    """Where a configuration stands: in a file, or in a mapping of a program.

    Attributes:
        content: its keys, as JSON has them.
        text: the file, byte for byte, or the mapping as JSON.
        path: the file; None for a mapping, whose relative paths lead from the working directory.
    """

    content: dict[str, Any]
    text: bytes
    path: Path | None = None

    @property
    def name(self) -> str:
        """What it is called: the file, or "config"."""
        return "config" if self.path is None else str(self.path)

    @property
    def where(self) -> str:
        """What problems put before its keys."""
        return "" if self.path is None else f"{self.path}: "


Configuration = str | Path | Mapping[str, Any] | Source


def source_of(given: Configuration) -> Source:
    """A configuration, from the path of a file or from a mapping.

    Raises:
        InputProblems: if the file cannot be read, or either is no JSON object.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, str | Path):
        path = Path(given)
        return Source(read_config(path), path.read_bytes(), path)
    try:
        text = json.dumps(given, indent=2, default=os.fspath)
        return Source(parse_json(text), text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InputProblems([Problem("config", f"cannot be written as JSON ({error})")]) from error


def load_train_config(given: Configuration) -> tuple[TrainConfig, list[Problem]]:
    """A training configuration with absolute paths, and every problem of a single key (see `draft`).

    Raises:
        InputProblems: if it is no JSON object, or is a test configuration.
    """
    return _load(TrainConfig, source_of(given), "train", "test")


def load_test_config(given: Configuration) -> tuple[TestConfig, list[Problem]]:
    """A test configuration; otherwise as `load_train_config`."""
    return _load(TestConfig, source_of(given), "test", "train")


def _load(
    schema: type[AnySection], source: Source, kind: Kind, other: Kind
) -> tuple[AnySection, list[Problem]]:
    named_in = source.path or Path("config")
    config, problems = draft(schema, source.content, source.where, named_in=named_in)
    if problems and not draft(SCHEMAS[other], source.content, "")[1]:
        wrong = f"is a configuration for `resdepth {other}`, not for `resdepth {kind}`"
        raise InputProblems([Problem(source.name, wrong)])
    return config, problems


def draft(
    schema: type[AnySection], given: Mapping[str, Any], where: str, *, named_in: Path | None = None
) -> tuple[AnySection, list[Problem]]:
    """What an object says by its schema, and every problem of a single key, unknown keys first.

    Asking the section for a wrong value raises UnknownValueError. An unknown key stands for the key that was
    probably meant, and null for the default, though both are problems.

    Args:
        schema: the section that the object should be.
        given: the object, as JSON holds it.
        where: what its keys are named after: "config.json: ".
        named_in: the file that relative paths lead from; without it, they stay as they are.
    """
    reading = _Reading(where, _homes(schema), named_in)
    section: AnySection = reading.section(schema, given, ())
    return section, sorted(reading.problems, key=lambda one: not one.message.startswith("unknown key"))


@dataclass(frozen=True)
class _Reading:
    """An object that is read by its schema, key by key; `draft` explains it."""

    where: str
    homes: Mapping[str, str]
    named_in: Path | None
    problems: list[Problem] = field(default_factory=list)

    def section(self, schema: type[Section], given: Any, loc: Loc) -> Any:
        """A section with the sound values of an object."""
        if not isinstance(given, dict):
            self.state(loc, f"{_found(given)}; {AN_OBJECT}")
            nothing = schema.model_construct()
            nothing.__dict__.clear()
            return nothing
        sound, content = {}, self.renamed(schema, given, loc)
        for name, key in _fields(schema).items():
            if name in content:
                try:
                    sound[name] = self.value(schema, name, content[name], (*loc, name))
                except ValidationError as error:
                    for one in error.errors(include_url=False):
                        self.state((*loc, name, *one["loc"]), _described(one, key))
            elif key.is_required():
                self.state((*loc, name), _missing(key))
        section = schema.model_construct(**sound)
        for name in content.keys() - sound.keys():
            if content[name] is not None:
                section.__dict__.pop(name, None)
        return section

    def renamed(self, schema: type[Section], given: Mapping[str, Any], loc: Loc) -> dict[str, Any]:
        """The known keys of an object; the value of an unknown one goes to the key that was meant."""
        known = _fields(schema)
        content = {key: value for key, value in given.items() if key in known}
        for key in given:
            if key in known or key in DERIVED_KEYS.get(schema, ()):
                continue
            near = None if key in self.homes else nearest(key, known)
            if near is not None:
                content.setdefault(near, given[key])
            guess = f"did you mean {near!r}?" if near else "remove it"
            advice = f"it belongs to {self.homes[key]}" if key in self.homes else guess
            names = ", ".join(name for name in known if name != "$schema")
            self.state((*loc, key), f"unknown key; {advice} (known here: {names})")
        return content

    def value(self, schema: type[Section], name: str, given: Any, loc: Loc) -> Any:
        """The value of one key: a section, several, or what pydantic makes of it."""
        annotation: Any = _fields(schema)[name].annotation
        inner = _section_in(annotation)
        if inner and inner is annotation and isinstance(given, dict):
            return self.section(inner, given, loc)
        if inner and inner is not annotation and isinstance(given, list) and given:
            return tuple(self.section(inner, item, (*loc, index)) for index, item in enumerate(given))
        return _adapter(schema, name).validate_json(json.dumps(given), strict=True, context=self.named_in)

    def state(self, loc: Loc, message: str) -> None:
        """Add a problem of one key."""
        self.problems.append(Problem(self.where + location(loc), message))


def _missing(key: FieldInfo) -> str:
    return f"missing; {key.description or 'this section is mandatory'}"


def _described(found: ErrorDetails, key: FieldInfo) -> str:
    """What is wrong with the value of a key, and what to do."""
    if found["type"] == "missing":
        return _missing(key)
    advice = HINTS.get(found["type"], expected(found))
    if found["type"] == "literal_error":
        options = re.findall("'([^']*)'", found["ctx"]["expected"])
        near = nearest(str(found["input"]), options)
        advice = f"should be one of {', '.join(options)}" + (f"; did you mean {near!r}?" if near else "")
    return f"{_found(found['input'])}; {advice}"


def _found(value: object) -> str:
    shown = json.dumps(value, default=str)
    return f"found {shown[:SHOWN_VALUE_CHARACTERS]}" + ("..." if len(shown) > SHOWN_VALUE_CHARACTERS else "")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return near[0] if near else None


@cache
def _adapter(schema: type[Section], name: str) -> TypeAdapter[Any]:
    """What validates the value of one key."""
    key = _fields(schema)[name]
    typed: Any = Annotated[key.annotation, *key.metadata] if key.metadata else key.annotation
    return TypeAdapter(typed)


@cache
def _fields(section: type[Section]) -> dict[str, FieldInfo]:
    return {key.alias or name: key for name, key in section.model_fields.items()}


def _section_in(annotation: Any) -> type[Any] | None:
    """The section that a field holds, by itself or as the items of a list."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def _homes(schema: type[Section], name: str = "the top level") -> dict[str, str]:
    """The section of each key, for keys that stand in the wrong one."""
    homes: dict[str, str] = {}
    for key, field_ in _fields(schema).items():
        inner = _section_in(field_.annotation)
        homes |= _homes(inner, repr(key)) if inner else {}
        homes[key] = name
    return homes
