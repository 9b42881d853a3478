"""The installed command `resdepth`: what it takes, where it is, what it reports. Knows nothing of QGIS.

It runs in an environment of its own, since QGIS brings its own Python. What the commands take, and their
help, stands in commands.json, which resdepth's scripts/write_qgis_commands.py makes of them.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

NAME, VARIABLE = "resdepth", "RESDEPTH_COMMAND"
PROGRESS_SECONDS = "RESDEPTH_PROGRESS_SECONDS"  # how often the command reports progress
COMMANDS_FILE = Path(__file__).with_name("commands.json")
SECONDS_TO_STOP, SECONDS_BETWEEN_LOOKS = 10.0, 0.2
# What QGIS sets for its own libraries leads those of another environment astray.
_OF_QGIS = ("PYTHON", "QGIS_", "QT_", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA", "GEOTIFF_CSV")
_NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # of a console, on Windows
_PROGRESS = re.compile(r"(?P<title>\S.*?)  (?P<percent>\d{1,3}) %(?:  |$)")
_UPPER = {
    "dsm": "DSM",
    "dsms": "DSMs",
    "gsd": "GSD",
    "crs": "CRS",
    "rpcs": "RPCs",
    "stac": "STAC",
    "html": "HTML",
}


class CommandError(Exception):
    """The command is not there, or has not done what it should; the message is for users."""


class CommandCancelled(CommandError):
    """It was asked to stop, and has ended."""


@dataclass(frozen=True)
class Parameter:
    """An option or an argument of a command.

    Attributes:
        name: of it in Python.
        type: flag, choice, integer, number, path or text.
        flags: what stands before its value: --region; two of a flag that can be denied; none of an argument.
        help: its text in `--help`.
        choices: of the type choice.
        smallest: value, if it is a number.
        largest: value, if it is a number.
        default: the value if none is given; None where the command finds one itself.
        required: the command does not run without it.
        several: it may be given again.
        values: how many follow its flag.
    """

    name: str
    type: str
    flags: Sequence[str] = ()
    help: str = ""
    choices: Sequence[str] = ()
    smallest: float | None = None
    largest: float | None = None
    default: Any = None
    required: bool = False
    several: bool = False
    values: int = 1

    @property
    def title(self) -> str:
        """What a dialog calls it: as the option is called, in words."""
        named = self.flags[0] if self.flags and not self.several else self.name
        words = re.split("[-_]", named.strip("-"))
        title = " ".join(_UPPER.get(word, word) for word in words)
        return title[0].upper() + title[1:]

    @property
    def key(self) -> str:
        """What scripts and models call it: WAIT_FOR_WORKERS."""
        return self.title.upper().replace(" ", "_")


@dataclass(frozen=True)
class Command:
    """A command: its name, the paragraphs of its help, and what it takes."""

    name: str
    help: Sequence[str]
    parameters: Sequence[Parameter]

    def arguments(self, values: Mapping[str, Any]) -> list[str]:
        """The arguments of a call, without the name of the program.

        Args:
            values: by names of parameters: text, numbers, True for a flag, or which of two flags; sequences
                where several values are meant. What is missing, None, empty, False or the default is left to
                the command.
        """
        found, at_the_end = [self.name], []
        for one in self.parameters:
            value = values.get(one.name)
            if value is None or value is False or value in ("", one.default) or not _is_filled(value):
                continue
            if not one.flags:
                at_the_end += [str(each) for each in (value if one.several else [value])]
            elif one.type == "flag":
                found.append(one.flags[0] if value is True else value)
            elif one.values > 1:
                found += [one.flags[0], *map(str, value)]
            else:
                found += [f"{one.flags[0]}={each}" for each in (value if one.several else [value])]
        return [*found, "--", *at_the_end] if at_the_end else found


def _is_filled(value: Any) -> bool:
    return not isinstance(value, (list, tuple)) or bool(value)


def read_commands(file: Path = COMMANDS_FILE) -> dict[str, Command]:
    """The commands by name, from commands.json."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Command(name, found["help"], [Parameter(**one) for one in found["parameters"]])
        for name, found in content["commands"].items()
    }


def find_command(setting: str = "", environ: Mapping[str, str] = os.environ) -> str:
    """The path of the command: of the setting, of the variable RESDEPTH_COMMAND, or found on PATH.

    Raises:
        CommandError: if it is not there.
    """
    named = {"the setting of the provider": setting, f"the variable {VARIABLE}": environ.get(VARIABLE, "")}
    for where, given in named.items():
        if not given:
            continue
        found = shutil.which(Path(given).expanduser())
        if found is None:
            raise CommandError(f"{given}: no program that can be run, but {where} names it; correct the path")
        return str(found)
    found = shutil.which(NAME, path=environ.get("PATH"))
    if found is None:
        raise CommandError(
            f"the command {NAME} is not on PATH; install it in an environment of its own, and name its path "
            f"in Settings > Options > Processing > Providers > {NAME}, or in the variable {VARIABLE}"
        )
    return found


def own_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of the command: those of QGIS without those for its own libraries, and some of ours."""
    kept = {name: value for name, value in environ.items() if not name.upper().startswith(_OF_QGIS)}
    return {**kept, "PYTHONUTF8": "1", "COLUMNS": "500", "NO_COLOR": "1", PROGRESS_SECONDS: "1"}


def progress_in(line: str) -> tuple[str, int] | None:
    """What is being done, and how much of it in percent, if a line on stderr states that."""
    found = _PROGRESS.match(line)
    return (found["title"], min(int(found["percent"]), 100)) if found else None


def message_in(lines: Sequence[str]) -> str:
    """What went wrong, of the lines that a command that failed has left on stderr."""
    for number, line in enumerate(lines):
        if line.startswith("error: "):
            return "\n".join([line[len("error: ") :], *lines[number + 1 :]])
    boxed = [line.strip("│ ") for line in lines if line.startswith("│")]  # of wrong options
    if boxed:
        return " ".join(boxed)
    return next((line for line in reversed(lines) if line.strip()), "")


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code, what it printed, and the lines on stderr but for progress."""

    code: int
    printed: str
    lines: Sequence[str]

    def refuse_failure(self) -> None:
        """Raise.

        Raises:
            CommandError: if the exit code is not 0, with the message of the command.
        """
        if self.code:
            raise CommandError(message_in(self.lines) or f"{NAME} ended with exit code {self.code}")


def run(
    program: str, arguments: Sequence[str], *,
    report: Callable[[str], None], progress: Callable[[str, int], None], is_cancelled: Callable[[], bool],
) -> Finished:  # fmt: skip
    """Run the command to its end.

    Args:
        program: its path.
        arguments: of it.
        report: called with each line on stderr.
        progress: called with what is being done and how much of it, in percent.
        is_cancelled: asked several times a second; the command is then terminated, and after ten seconds
            killed. What it has finished stays, and the same command resumes.

    Raises:
        CommandCancelled: if it was cancelled.
        CommandError: if it cannot be started.
    """
    try:
        process = subprocess.Popen(
            [program, *arguments], env=own_environment(), creationflags=_NO_WINDOW,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise CommandError(f"{program}: cannot be started: {error.strerror}") from error
    lines: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    printed, said = _lines_of(process.stdout), _lines_of(process.stderr)
    for line in _until_the_end(process, said, is_cancelled):
        state = progress_in(line)
        if state:
            progress(*state)
        else:
            lines.append(line)
            report(line)
    printed_lines = list(_until_the_end(process, printed, is_cancelled))
    return Finished(process.wait(), "\n".join(printed_lines), lines)


def _lines_of(stream: TextIO) -> queue.Queue[str | None]:
    """The lines of a stream as they come, read by a thread, and None as the last."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        with stream:
            for line in stream:
                lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _until_the_end(
    process: subprocess.Popen[str], lines: queue.Queue[str | None], is_cancelled: Callable[[], bool]
) -> Iterator[str]:
    """Lines, until there are no more; a process that has ended may leave the stream open to others."""
    while True:
        if is_cancelled():
            _stop(process)
            raise CommandCancelled(f"{NAME} was cancelled; the same command resumes")
        try:
            line = lines.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            if process.poll() is None:
                continue
            return
        if line is None:
            return
        yield line


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
