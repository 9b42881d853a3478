"""The plugin without QGIS: where the command is, what it is given, what it reports, and cancelling."""

import json
import os
import runpy
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rich_click as click
from resdepth_qgis import command as plugin
from resdepth_qgis.command import (
    CommandCancelled,
    CommandError,
    Finished,
    find_command,
    message_in,
    progress_in,
)

from resdepth import __version__
from resdepth.cli import main
from resdepth.runtime import progress

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = plugin.read_commands()


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "scripts" / name))


def program(folder: Path, text: str) -> str:
    path = folder / "resdepth"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


def run(
    path: str, *arguments: str, is_cancelled: Callable[[], bool] = lambda: False
) -> tuple[Finished, list[Any]]:
    said: list[Any] = []
    finished = plugin.run(
        path,
        arguments,
        report=said.append,
        progress=lambda *state: said.append(state),
        is_cancelled=is_cancelled,
    )
    return finished, said


# What the commands take


def test_the_file_of_commands_is_up_to_date(tmp_path: Path) -> None:
    script("write_qgis_commands.py")["write"](tmp_path / "commands.json")
    assert (tmp_path / "commands.json").read_text() == plugin.COMMANDS_FILE.read_text(), "run `make schemas`"


def test_titles_and_keys_are_those_of_the_options() -> None:
    titles = {one.name: (one.title, one.key) for one in COMMANDS["prepare"].parameters}
    assert titles["gsd_m"] == ("GSD", "GSD")
    assert titles["dsm_crs"] == ("DSM CRS", "DSM_CRS")
    assert titles["images"] == ("Images", "IMAGES")
    for command in COMMANDS.values():
        keys = [one.key for one in command.parameters]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("refine", {"dsm": "a b.tif", "images": ["1.tif", "-2.tif"], "output": "o.tif",
                    "region": [-5.5, 0.0, 1.0, 2.0], "fuse": "mean", "uncertainty": "--no-uncertainty",
                    "workers": 3, "report": True}),
        ("evaluate", {"dsms": ["a.tif"], "reference": "r.tif", "threshold": 5.0,
                      "masks": ["water=w.tif", "roof=r.gpkg|layername=x"],
                      "region": "-1.0,2.0,3.0,4.0", "as_json": True, "output": "out"}),
        ("prepare", {"dsm": "a.tif", "images": ["1.tif", "2.tif"], "gsd_m": 0.5, "output": "out",
                     "extent": [1.0, 2.0, 3.0, 4.0], "coregister": "tilt"}),
        ("doctor", {"subject": "folder", "page": "p.html"}),
    ],
)  # fmt: skip
def test_the_command_understands_the_arguments(name: str, values: dict[str, Any]) -> None:
    arguments = COMMANDS[name].arguments(values)
    assert arguments[0] == name
    # Without the group's settings, the command would keep its options of help without -h.
    group = click.Context(main, **main.context_settings)
    found = main.commands[name].make_context(name, arguments[1:], parent=group).params
    for key, value in values.items():
        wanted = False if value == "--no-uncertainty" else value
        given = found[key]
        if isinstance(wanted, list):
            assert [one if isinstance(one, float) else str(one) for one in given] == wanted
        else:
            assert (str(given) if isinstance(given, Path) else given) == wanted


def test_what_is_not_given_is_left_to_the_command() -> None:
    nothing = {"dsm": "a.tif", "images": [], "model": "", "region": None, "fuse": "median", "fill": False}
    assert COMMANDS["refine"].arguments(nothing) == ["refine", "--", "a.tif"]


# Where it is


def test_the_setting_comes_before_the_variable_and_that_before_the_path(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("setting", "variable", "path")}
    for folder in places.values():
        folder.mkdir()
        program(folder, "")
    environ = {"PATH": str(places["path"])}
    assert find_command("", environ) == str(places["path"] / "resdepth")
    environ["RESDEPTH_COMMAND"] = str(places["variable"] / "resdepth")
    assert find_command("", environ) == str(places["variable"] / "resdepth")
    assert find_command(str(places["setting"] / "resdepth"), environ) == str(places["setting"] / "resdepth")


def test_a_command_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"not on PATH; install it .* RESDEPTH_COMMAND"):
        find_command("", {"PATH": str(tmp_path)})
    with pytest.raises(CommandError, match=r"/nowhere: no program .* setting of the provider"):
        find_command("/nowhere", {})


def test_what_qgis_sets_for_itself_does_not_reach_the_command() -> None:
    of_qgis = {"PYTHONHOME": "a", "PYTHONPATH": "b", "PROJ_LIB": "c", "GDAL_DATA": "d"}
    found = plugin.own_environment({**of_qgis, "PATH": "p", "GDAL_CACHEMAX": "512", "HOME": "h"})
    assert {*of_qgis}.isdisjoint(found)
    assert (found["PATH"], found["GDAL_CACHEMAX"], found["HOME"]) == ("p", "512", "h")


# What it reports


def test_the_lines_of_our_progress_are_understood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    with progress.progress_bar("matching images", 4, unit="blocks") as shown:
        shown.advance(1, note="pair 1")
    assert progress_in(capsys.readouterr().err.strip()) == ("matching images", 25)


SHORT_WORK = """
from resdepth.runtime.progress import progress_bar
import time
with progress_bar("refining", 4, unit="blocks") as shown:
    for _ in range(2):
        time.sleep(1.1)
        shown.advance(2)
"""


def test_short_work_reports_its_progress_from_the_beginning(tmp_path: Path) -> None:
    """Lines for people come every ten seconds."""
    _, said = run(program(tmp_path, f"import sys\nsys.path[:0] = {sys.path!r}\n{SHORT_WORK}"))
    assert said == [("refining", 0), ("refining", 50), ("refining", 100)]


@pytest.mark.parametrize(("value", "lines"), [("0", 3), ("3600", 1), ("often", 0), ("-1", 0), ("nan", 0)])
def test_a_variable_says_how_often_lines_come(
    value: str, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(progress.VARIABLE, value)
    with progress.progress_bar("matching images", 2) as shown:
        shown.advance()
        shown.advance()
    assert len(capsys.readouterr().err.splitlines()) == lines
    assert plugin.PROGRESS_SECONDS == progress.VARIABLE


@pytest.mark.parametrize(
    "line",
    [
        "The mean absolute error goes from 2 m to 1 m (-64 %).",
        "a.tif: heights change by 0.31 m on average, up or down; 2.0 % of them by more than 3 m",
    ],
)
def test_shares_in_messages_are_no_progress(line: str) -> None:
    assert progress_in(line) is None


def test_progress_and_messages_reach_the_log(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        "import sys\nprint('a note', 'refining  42 %  3 s left', sep='\\n', file=sys.stderr)\nprint('ö.tif')",
    )
    finished, said = run(path)
    assert said == ["a note", ("refining", 42)]
    assert (finished.code, finished.printed) == (0, "ö.tif")
    finished.refuse_failure()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refine", "nowhere.tif"], r"^nowhere\.tif: no such file; check the path"),
        (["refine"], r"^Missing argument 'DSM'\.$"),
        (["refine", "a.tif", "--workers=0"], r"^Invalid value for '--workers'"),
    ],
)
def test_a_failure_has_the_message_of_the_command(arguments: list[str], message: str, tmp_path: Path) -> None:
    path = program(
        tmp_path, f"import sys\nsys.path[:0] = {sys.path!r}\nfrom resdepth.cli import main\nmain()"
    )
    finished, _ = run(path, *arguments)
    assert finished.code == 2
    with pytest.raises(CommandError, match=message):
        finished.refuse_failure()


def test_all_problems_and_the_last_line_of_our_mistakes_are_shown() -> None:
    problems = ["a note", "error: a.tif: is wrong", "error: b.tif: too", "2 problems; nothing was written"]
    assert message_in(problems) == "a.tif: is wrong\nerror: b.tif: too\n2 problems; nothing was written"
    assert message_in(["Traceback:", "  File x", "KeyError: 'y'", ""]) == "KeyError: 'y'"


def test_cancelling_ends_the_command(tmp_path: Path) -> None:
    path = program(
        tmp_path, "import os, sys, time\nprint(os.getpid(), file=sys.stderr, flush=True)\ntime.sleep(60)"
    )
    said: list[str] = []
    start = time.monotonic()
    with pytest.raises(CommandCancelled, match="the same command resumes"):
        plugin.run(path, [], report=said.append, progress=lambda *_: None, is_cancelled=lambda: bool(said))
    assert time.monotonic() - start < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(said[0]), 0)


def test_a_command_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "SECONDS_TO_STOP", 0.2)
    deaf = "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
    said: list[str] = []
    with pytest.raises(CommandCancelled):
        plugin.run(
            program(tmp_path, f"{deaf}\nprint('on', file=sys.stderr, flush=True)\ntime.sleep(60)"), [],
            report=said.append, progress=lambda *_: None, is_cancelled=lambda: bool(said),
        )  # fmt: skip


# The package


def test_the_archive_is_a_plugin_of_the_version_of_the_package(tmp_path: Path) -> None:
    script("zip_qgis_plugin.py")["write"](tmp_path / "plugin.zip")
    with zipfile.ZipFile(tmp_path / "plugin.zip") as archive:
        names = set(archive.namelist())
        metadata = archive.read("resdepth_qgis/metadata.txt").decode()
        content = json.loads(archive.read("resdepth_qgis/commands.json"))
    wanted = {
        "__init__.py",
        "provider.py",
        "algorithms.py",
        "metadata.txt",
        "commands.json",
        "icon.svg",
        "LICENSE",
    }
    assert {f"resdepth_qgis/{name}" for name in wanted} <= names
    assert f"\nversion={__version__}\n" in metadata
    assert content["version"] == __version__


def test_the_plugin_never_imports_the_package() -> None:
    for path in (REPOSITORY / "qgis" / "resdepth_qgis").glob("*.py"):
        assert "import resdepth\n" not in path.read_text()
        assert "from resdepth" not in path.read_text()
