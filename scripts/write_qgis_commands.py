"""Write qgis/resdepth_qgis/commands.json: what the commands take, and their help, for the plugin of QGIS.

The plugin runs in the Python of QGIS, where resdepth cannot be imported.

python scripts/write_qgis_commands.py [file]
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import rich_click as click

from resdepth import __version__
from resdepth.cli import main

FILE = Path(__file__).resolve().parents[1] / "qgis" / "resdepth_qgis" / "commands.json"
SHOWN = ("prepare", "refine", "evaluate", "doctor")
LEFT_OUT = {"help", "quiet", "verbose", "log_level", "skip_existing", "dry_run"}
"""What a dialog has no use for."""


def described() -> dict[str, Any]:
    """The version of the package, and by name the commands: their help, and each of their parameters."""
    return {"version": __version__, "commands": {name: _command(main.commands[name]) for name in SHOWN}}


def _command(command: click.Command) -> dict[str, Any]:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    shown = [" ".join(one.split()) for one in paragraphs if not one.startswith("\b")]  # no examples
    parameters = [one for one in command.params if not getattr(one, "hidden", False)]
    return {
        "help": shown,
        "parameters": [_parameter(one) for one in parameters if one.name not in LEFT_OUT],
    }


def _parameter(one: click.Parameter) -> dict[str, Any]:
    """What is known of a parameter, but for what it has not."""
    kind = one.type
    known = {
        "name": one.name,
        "flags": _flags(one),
        "help": getattr(one, "help", None),
        "type": "flag" if getattr(one, "is_flag", False) else _TYPES.get(type(kind), "text"),
        "choices": list(getattr(kind, "choices", ())),
        "smallest": getattr(kind, "min", None),
        "largest": getattr(kind, "max", None),
        "default": _default(one),
        "required": one.required,
        "several": getattr(one, "multiple", False) or one.nargs == -1,
        "values": max(one.nargs, 1),
    }
    return {key: value for key, value in known.items() if value not in (None, [], False)}


_TYPES: dict[type, str] = {
    click.Path: "path",
    click.Choice: "choice",
    click.IntRange: "integer",
    click.types.IntParamType: "integer",
    click.FloatRange: "number",
    click.types.FloatParamType: "number",
}


def _flags(one: click.Parameter) -> list[str]:
    """Those that stand for a value: --region; --uncertainty and --no-uncertainty; none of an argument."""
    if isinstance(one, click.Argument):
        return []
    return [max(names, key=len) for names in (one.opts, one.secondary_opts) if names]


def _default(one: click.Parameter) -> Any:
    """The value if none is given; null where the command finds one itself."""
    default = one.to_info_dict()["default"]
    return None if one.required or isinstance(default, (list, tuple)) else default


def write(file: Path) -> None:
    """Write the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(described(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
