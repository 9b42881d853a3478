"""What is wrong with the single keys of a JSON object: names, types, ranges; and what was probably meant.

Where a value is wrong, a stand-in takes its place, so that the search for problems can go on.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from resdepth.config.schema import DERIVED_KEYS, Section
from resdepth.errors import Problem, location

Loc = tuple[int | str, ...]
AnySection = TypeVar("AnySection", bound=Section)

SHOWN_VALUE_CHARACTERS = 80
_PLAIN_STAND_INS: dict[Any, Any] = {str: "?", int: 1, float: 1.0}
_SHOULD = {
    "bool_type": "should be true or false",
    "dict_type": "should be an object {...}",
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "model_type": "should be an object {...}",
    "string_type": "should be a text in quotes",
    "too_short": "should not be empty",
    "tuple_type": "should be a list [...]",
}


def draft(schema: type[AnySection], given: Mapping[str, Any], where: str) -> tuple[AnySection, list[Problem]]:
    """What an object says by its schema, and every problem of a single key.

    Where a key is a problem, the content holds a stand-in; errors.without_consequences drops what would be
    concluded from it.

    Args:
        schema: the section that the object should be.
        given: the object, as JSON holds it.
        where: what its keys are named after: "config.json: ".
    """
    content, problems = _with_known_keys(schema, given, where)
    try:
        return schema.model_validate_json(json.dumps(content)), problems
    except ValidationError as error:
        for found in error.errors(include_url=False):
            if found["type"] == "too_short" and found["input"]:
                continue  # a list that is short only because its items are wrong
            problems.append(Problem(f"{where}{location(found['loc'])}", _describe(schema, found)))
            _put_stand_in(schema, content, found["loc"])
    return schema.model_validate_json(json.dumps(content)), problems


def _with_known_keys(
    schema: type[Section], given: Mapping[str, Any], where: str
) -> tuple[Any, list[Problem]]:
    """A copy without unknown keys, or with their values under the keys that were probably meant."""
    problems: list[Problem] = []
    homes = _homes(schema)

    def meant(key: str, section: type[Section], loc: Loc) -> str | None:
        """The known key that was probably meant by an unknown one, if any."""
        if key in DERIVED_KEYS.get(section, ()):
            return None
        known = _fields(section)
        near = None if key in homes else nearest(key, known)
        if key in homes:
            advice = f"it belongs to {homes[key]}"
        else:
            advice = f"did you mean {near!r}?" if near else "remove it"
        listed = ", ".join(name for name in known if name != "$schema")
        place = f"{where}{location((*loc, key))}"
        problems.append(Problem(place, f"unknown key; {advice} (known here: {listed})"))
        return near

    def mended(section: type[Section], value: Any, loc: Loc) -> Any:
        if isinstance(value, list):
            return [mended(section, item, (*loc, index)) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        known = _fields(section)
        kept: dict[str, Any] = {}
        for key, item in value.items():
            name = key if key in known else meant(key, section, loc)
            if name is None or (name != key and (name in value or name in kept)):
                continue
            inner = _section_in(known[name].annotation)
            kept[name] = mended(inner, item, (*loc, name)) if inner else item
        return kept

    return mended(schema, given, ()), problems


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return near[0] if near else None


def _fields(section: type[Section]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that a field holds, by itself or as the items of a list."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def _homes(schema: type[Section], name: str = "the top level") -> dict[str, str]:
    """The section of each key, for keys that stand in the wrong one."""
    homes: dict[str, str] = {}
    for key, field in _fields(schema).items():
        inner = _section_in(field.annotation)
        homes |= _homes(inner, repr(key)) if inner else {}
        homes[key] = name
    return homes


def _field_at(schema: type[Section], loc: Loc) -> FieldInfo:
    """The field that a place in an object belongs to."""
    *sections, name = [part for part in loc if isinstance(part, str)]
    section: type[Section] | None = schema
    for part in sections:
        section = _section_in(_fields(section)[part].annotation) if section else None
    assert section is not None, "only sections have keys that are checked"
    return _fields(section)[name]


def _describe(schema: type[Section], found: ErrorDetails) -> str:
    """What is wrong with one value, and what to do."""
    field = _field_at(schema, found["loc"])
    if found["type"] == "missing":
        return f"missing; {field.description or 'this section is mandatory'}"
    shown = json.dumps(found["input"], default=str)
    if len(shown) > SHOWN_VALUE_CHARACTERS:
        shown = f"{shown[:SHOWN_VALUE_CHARACTERS]}..."
    stated = found["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    advice = _SHOULD.get(found["type"], stated)
    if found["type"] == "literal_error":
        options = _options(field.annotation)
        near = nearest(str(found["input"]), options)
        advice = f"should be one of {', '.join(options)}" + (f"; did you mean {near!r}?" if near else "")
    return f"found {shown}; {advice}"


def _options(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(option for part in get_args(annotation) for option in _options(part))


def _put_stand_in(schema: type[Section], content: Any, loc: Loc) -> None:
    """Replace a wrong or missing value by its default, or by something of the right type."""
    *parents, key = loc
    field = _field_at(schema, loc)
    if isinstance(key, int) and _section_in(field.annotation) is None:
        _put_stand_in(schema, content, tuple(parents))  # one number of a few: all of them go
        return
    holder = content
    for part in parents:
        if part not in (holder if isinstance(holder, dict) else range(len(holder))):
            return  # gone already, for another reason
        holder = holder[part]
    if isinstance(key, int):
        holder[key] = _stand_in(_section_in(field.annotation))
    elif field.is_required():
        holder[key] = _stand_in_for(field)
    else:
        holder.pop(key, None)


def _stand_in_for(field: FieldInfo) -> Any:
    """A stand-in that keeps to the field's lower limit."""
    value = _stand_in(field.annotation)
    lowest = [limit for rule in field.metadata if (limit := getattr(rule, "ge", None)) is not None]
    return max(value, *lowest) if lowest and isinstance(value, int | float) else value


def _stand_in(annotation: Any) -> Any:
    if get_origin(annotation) is tuple:
        return [_stand_in(get_args(annotation)[0])]
    if get_origin(annotation) is Literal:
        return get_args(annotation)[-1]  # "train+val" of the area types: every list is looked at
    if isinstance(annotation, type) and issubclass(annotation, Section):
        required = {name: field for name, field in _fields(annotation).items() if field.is_required()}
        return {name: _stand_in_for(field) for name, field in required.items()}
    return _PLAIN_STAND_INS[annotation]
