"""Configurations as people write them, in YAML or JSON: YAML that can be read in one way only.

What YAML 1.1 and 1.2 read differently (no, on, 010) is refused, and so is what no configuration needs: tags,
merge keys, several documents, aliases that multiply. What is left is what JSON holds.
"""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resdepth.errors import ResDepthError, unusable
from resdepth.runtime.jsonfiles import DEEPEST_NESTING, SHOWN_CHARACTERS, parse_json, read_json
from resdepth.runtime.paths import read_text

if TYPE_CHECKING:
    import yaml

SUFFIXES = (".yaml", ".yml")
CONFIG_SUFFIXES = (".json", *SUFFIXES)
"""Of the names of configurations."""
LARGEST_BYTES = 2**20
"""PyYAML takes seconds for as much."""
MOST_VALUES = 100_000
"""So many values a file may hold, with those that aliases repeat."""

_TRUE_OR_FALSE = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_NULLS, _BOOLEANS = frozenset({"", "~", "null", "Null", "NULL"}), {"true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"[-+]?0[0-9]+")
_INFINITE = (float("inf"), float("-inf"))
_NO_NUMBER = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)


def read_config(path: Path) -> dict[str, Any]:
    """The keys of a configuration: YAML if its name ends in .yaml or .yml, else JSON.

    Raises:
        InputProblems: if it cannot be read, is neither, or could be read in more than one way.
        ResDepthError: if PyYAML is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        return read_json(path)
    text = read_text(path, at_most=LARGEST_BYTES)
    if find_spec("yaml") is None:
        raise ResDepthError(
            f"{path}: YAML needs PyYAML, which is not installed: pip install 'resdepth[yaml]'"
        )
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise unusable(path, str(error)) from error


def parse_yaml(text: str) -> dict[str, Any]:
    """The mapping in a YAML text, as JSON would hold it.

    Raises:
        ValueError: if it is no YAML, no mapping, holds a key twice, or a value that readers of YAML
            understand differently; the message names line and key.
    """
    import yaml

    try:
        _refuse_tags_and_depth(text)
        root = yaml.compose(text, Loader=yaml.BaseLoader)  # to which plain values are texts
    except yaml.MarkedYAMLError as error:
        raise ValueError(_described(error)) from error
    except yaml.YAMLError as error:  # characters that no text holds
        raise ValueError(f"not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("expected keys with values (key: value)")  # noqa: TRY004 - the text is at fault
    _refuse_bombs(root)
    return parse_json(json.dumps(_value(root, "")))


def _refuse_tags_and_depth(text: str) -> None:
    """Refuse what names a type, and nesting that takes PyYAML long.

    Raises:
        ValueError: which of both.
        YAMLError: if it is no YAML.
    """
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"{_line(event)}tags ({event.tag}) are not read")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_NESTING:
            raise ValueError(f"{_line(event)}nested more than {DEEPEST_NESTING} levels deep")


def _described(error: "yaml.MarkedYAMLError") -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    if error.problem == "but found another document":
        return f"{where}holds several documents (---); keep one"
    return f"{where}not valid YAML ({error.problem})"


def _refuse_bombs(root: "yaml.Node") -> None:
    """Refuse aliases that contain themselves, or that make a small file a large one.

    Raises:
        ValueError: which of both.
    """
    sizes: dict[int, int] = {}
    being_counted: set[int] = set()

    def size_of(node: "yaml.Node", depth: int) -> int:
        if depth > DEEPEST_NESTING:
            raise ValueError(f"nested more than {DEEPEST_NESTING} levels deep")
        if id(node) in being_counted:
            raise ValueError(f"{_line(node)}an alias contains itself")
        if id(node) not in sizes:
            being_counted.add(id(node))
            sizes[id(node)] = 1 + sum(size_of(child, depth + 1) for child in _children(node))
            being_counted.remove(id(node))
        return sizes[id(node)]

    if size_of(root, 1) > MOST_VALUES:
        raise ValueError(f"holds more than {MOST_VALUES} values, those repeated by aliases counted")


def _children(node: "yaml.Node") -> list[Any]:
    if node.id == "mapping":
        return [one for pair in node.value for one in pair]
    return list(node.value) if node.id == "sequence" else []


def _value(node: "yaml.Node", key: str) -> Any:
    """What a node holds; `key` is the place of it, as problems name it."""
    if node.id == "sequence":
        return [_value(item, f"{key}[{number}]") for number, item in enumerate(node.value)]
    if node.id == "scalar":
        return node.value if node.style is not None else _plain_value(node, key)
    content: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name = _name(key_node)
        if name in content:
            raise ValueError(f"{_line(key_node)}the key {name!r} occurs twice in one mapping; keep one")
        content[name] = _value(value_node, f"{key}.{name}".lstrip("."))
    return content


def _name(node: "yaml.Node") -> str:
    """The name of a key.

    Raises:
        ValueError: if it is no text.
    """
    if node.id != "scalar":
        raise ValueError(f"{_line(node)}a key should be a name")
    name = str(node.value)[:SHOWN_CHARACTERS]
    if node.style is not None:
        return str(node.value)
    if name == "<<":
        raise ValueError(f"{_line(node)}merge keys (<<) are not read; name the keys")
    if not isinstance(_plain_value(node, name, of_key=True), str):
        raise ValueError(f"{_line(node)}the key {name} should be a name; put it in quotes if it is one")  # noqa: TRY004 - the text is at fault
    return str(node.value)


def _plain_value(node: "yaml.Node", key: str, *, of_key: bool = False) -> Any:
    """The value of a scalar without quotes, by the core schema of YAML 1.2.

    Raises:
        ValueError: if YAML 1.1 has another.
    """
    text = str(node.value)
    if text in _NULLS:
        return None
    if text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    where = _line(node) + ("" if of_key else f"{key}: ")
    if (meant := _TRUE_OR_FALSE.get(text.lower())) is not None:
        raise ValueError(
            f"{where}found {text}, which some programs read as {meant}; write {meant}, or {text!r}"
        )
    if _OCTAL.fullmatch(text):
        raise ValueError(f"{where}found {text}, which some programs read to the base 8; write it without 0")
    if _INTEGER.fullmatch(text) and len(text) <= SHOWN_CHARACTERS:
        return int(text)
    value = float(text) if _NUMBER.fullmatch(text) else text
    if value in _INFINITE or _NO_NUMBER.fullmatch(text):
        raise ValueError(f"{where}{text[:SHOWN_CHARACTERS]} is not a number that a configuration needs")
    return value


def _line(node: Any) -> str:
    """Where a node or an event begins."""
    return f"line {node.start_mark.line + 1}: "
