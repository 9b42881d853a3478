"""A configuration to begin with: every key, what it does, and its default, as YAML with comments.

All of it comes from the schemas; only the paths to fill in stand here.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from textwrap import wrap
from typing import Any

from resdepth.config.schema import Section

WIDTH = 100
LARGEST_SHOWN = 10**6
"""Larger limits only say that numbers end somewhere."""

TO_FILL_IN: Mapping[str, Any] = {
    "TrainDataset.name": "my_town",
    "TrainDataset.raster_in": "path/to/initial.tif",
    "TrainDataset.raster_gt": "path/to/reference.tif",
    "TrainDataset.path_image_list": "path/to/imagelist.txt",
    "TrainDataset.path_pairlist_training": "path/to/pairlist.txt",
    "TrainDataset.path_pairlist_validation": "path/to/pairlist.txt",
    "TrainDataset.area_type": "train+val",
    "TrainOutput.output_directory": "logs",
    "TrainOutput.tboard_log_dir": "logs/tensorboard",
    "SchedulerConfig.settings": {"step_size": 200},
    "TestDataset.name": "my_town",
    "TestDataset.raster_in": "path/to/initial.tif",
    "TestDataset.raster_gt": "path/to/reference.tif",
    "TestDataset.path_image_list": "path/to/imagelist.txt",
    "TestDataset.path_pairlist": "path/to/pairlist.txt",
    "TestModel.path": "path/to/model.safetensors",
    "TestOutput.directory": "results",
    "PrepareConfig.dsm": "path/to/dsm.tif",
    "PrepareConfig.images": ["path/to/image1.tif", "path/to/image2.tif"],
    "PrepareConfig.reference": "path/to/reference.tif",
    "DateSettings.sun_azimuth_deg": 160,
    "DateSettings.sun_elevation_deg": 50,
    "ViewSettings.name": "view1",
    "ViewSettings.date": 0,
    "ViewSettings.azimuth_deg": 200,
    "ViewSettings.incidence_deg": 10,
}
"""By section and key: what a template holds instead of the default."""

_PLAIN_TEXT = re.compile(r"[A-Za-z][\w./+-]*")
_NOT_PLAIN = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false", "null"})
_TITLE = "$title"


def template(schema: type[Section], command: str) -> str:
    """A configuration with every key; those that have no default and need none are commented out.

    Args:
        schema: of the whole configuration.
        command: that takes it: "resdepth train CONFIG".
    """
    described = schema.model_json_schema(by_alias=True)
    lines = _comment(
        f"A configuration of `{command}`. Keys that are left out, or commented out, take their defaults, "
        "which stand here. A relative path leads from this file, or else from the working directory. "
        "`resdepth check` finds what is wrong.", 0,
    )  # fmt: skip
    root = {**described, _TITLE: schema.__name__}
    return "\n".join([*lines, *_section_lines(root, described.get("$defs", {}), 0)]) + "\n"


def _section_lines(section: Mapping[str, Any], sections: Mapping[str, Any], indent: int) -> Iterator[str]:
    """The keys of a section, each below its comment."""
    for name, field in section["properties"].items():
        if name == "$schema":
            continue
        inner = _section_of(field, sections)
        if not indent or inner is not None:
            yield ""
        meant = field.get("description", "") or (inner or {}).get("description", "")
        yield from _comment(_stated(meant, field, inner), indent)
        if inner is None:
            yield _key_line(f"{section[_TITLE]}.{name}", name, field, indent)
            continue
        lines = [f"{' ' * indent}{name}:"]
        if "items" in field:
            lines.append(f"{' ' * (indent + 2)}-")
        lines += _section_lines(inner, sections, indent + (4 if "items" in field else 2))
        is_empty = field.get("default") == []
        yield from (f"# {line}".rstrip() if is_empty else line for line in lines)


def _section_of(field: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any] | None:
    """The section that a key holds, by itself or in a list; None if it holds a value."""
    reference = item_of(field).get("$ref")
    if reference is None:
        return None
    name = reference.rsplit("/", 1)[-1]
    return {**sections[name], _TITLE: name}


def _stated(description: str, field: Mapping[str, Any], inner: object) -> str:
    """What a key does, and which values it takes."""
    meaning = " ".join(description.split()).removeprefix("(new) ")
    if inner is not None:
        return meaning
    kind = kind_of_value(field).replace("`", "").replace('"', "")
    return f"{meaning} [{kind}]"


def _comment(text: str, indent: int) -> list[str]:
    before = " " * indent + "# "
    return [before + line for line in wrap(text, WIDTH - len(before), break_on_hyphens=False)]


def _key_line(place: str, name: str, field: Mapping[str, Any], indent: int) -> str:
    value = TO_FILL_IN.get(place, default_of(field))
    if value is None:
        return f"{' ' * indent}# {name}:"
    return f"{' ' * indent}{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """A value as every reader of YAML takes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}"  # 1e-05 is a text to YAML 1.1
    if isinstance(value, str) and _PLAIN_TEXT.fullmatch(value) and value.lower() not in _NOT_PLAIN:
        return value
    return json.dumps(value)


def item_of(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a list holds, or the key itself; of a JSON schema, as all below."""
    found: Mapping[str, Any] = field.get("items", field)
    return found


def default_of(field: Mapping[str, Any]) -> Any:
    """The default of a key; None without one."""
    return field.get("default", {} if field.get("type") == "object" else None)


def kind_of_value(field: Mapping[str, Any]) -> str:
    """Which values a key takes, in words."""
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    (option,) = options
    if "enum" in option:
        return _listed(option["enum"])
    if "const" in option:
        return _listed([option["const"]])
    if "prefixItems" in option:
        return f"list of {len(option['prefixItems'])} numbers"
    kinds = {"string": "text", "boolean": "true or false", "object": "object", "array": "list of texts"}
    return kinds.get(option["type"]) or f"{option['type']}{_range(option)}".replace("integer", "whole number")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"`{json.dumps(value)}`" for value in values)


def _range(option: Mapping[str, Any]) -> str:
    if "minimum" in option and option.get("maximum", LARGEST_SHOWN + 1) <= LARGEST_SHOWN:
        return f", {option['minimum']} to {option['maximum']}"
    if "minimum" in option and "exclusiveMaximum" in option:
        return f", {option['minimum']:g} to below {option['exclusiveMaximum']:g}"
    if "exclusiveMinimum" in option:
        return f" > {option['exclusiveMinimum']:g}"
    return f" ≥ {option['minimum']:g}" if "minimum" in option else ""
