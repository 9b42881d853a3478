"""From a JSON file and options to what is requested of a simulation; and all that is wrong with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resdepth.config.parse import draft
from resdepth.errors import InputProblems
from resdepth.runtime.jsonfiles import read_json
from resdepth.simulate.plan import find_misfits
from resdepth.simulate.settings import SimulateConfig


def requested(given: Path | Mapping[str, Any] | None, options: Mapping[str, Any]) -> SimulateConfig:
    """The configuration in a JSON file or a mapping (None: all defaults), with options put over it.

    Args:
        given: relative paths in a file lead from where it lies.
        options: by key, "town.style"; they win.

    Raises:
        InputProblems: with everything that is wrong.
    """
    path = given if isinstance(given, Path) else None
    content = read_json(path) if path else json.loads(json.dumps(given or {}, default=str))
    for key, value in options.items():
        section, _, name = key.rpartition(".")
        place = content.setdefault(section, {}) if section else content
        if isinstance(place, dict):
            place[name] = value
    where = f"{path}: " if path else ""
    config, problems = draft(SimulateConfig, content, where, named_in=path)
    problems = problems or find_misfits(config, where)
    if problems:
        raise InputProblems(problems)
    return config
