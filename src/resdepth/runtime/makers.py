"""Who makes an unfinished file, written into its name, and whether that process still runs."""

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MARK = ".resdepth-"
_NAME = re.compile(
    rf"\..*{re.escape(MARK)}([0-9a-f]{{6}})-([0-9a-f]{{6}})-([0-9a-f]{{6}})-(\d+)-(\d+)-", re.DOTALL
)
_PROC = Path("/proc")
_FIELDS_BEFORE_START, _DEAD_STATES = 19, ("Z", "X", "x")


@dataclass(frozen=True)
class Maker:
    """A process.

    Attributes:
        machine: a hash of its name and number.
        boot: a hash of what changes whenever it starts.
        space: a hash of the space of process numbers: containers have their own.
        pid: the number of the process.
        started: when it began, in ticks since the start of the machine; another one may get its number later.
    """

    machine: str
    boot: str
    space: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.machine}-{self.boot}-{self.space}-{self.pid}-{self.started}"

    def is_gone(self) -> bool:
        """Whether the process is known to have ended; False where nobody can tell, as on another machine."""
        machine, boot, space = _place()
        if self.machine != machine or os.name != "posix":
            return False
        if self.boot != boot:
            return True
        return self.space == space and _started(self.pid) != self.started


def this_process() -> Maker:
    """The process that calls it."""
    return Maker(*_place(), os.getpid(), _started(os.getpid()) or 0)


def maker_of(name: str) -> Maker | None:
    """The process that a file's name tells of; None for a name that is none of ours."""
    found = _NAME.match(name)
    return None if found is None else Maker(found[1], found[2], found[3], int(found[4]), int(found[5]))


@cache
def _place() -> tuple[str, str, str]:
    """Machine, boot, and space of process numbers."""
    try:
        space = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        space = ""
    machine = platform.node() + _content(Path("/etc/machine-id"))
    boot = _content(_PROC / "sys/kernel/random/boot_id")
    return _short(machine), _short(boot), _short(space)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:6]


def _started(pid: int) -> int | None:
    """When a process began; 0 if it runs but nobody can tell since when; None if it does not run."""
    try:
        # The name of the program, which may hold anything, ends with the last bracket.
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None if _PROC.joinpath("self", "stat").exists() or not _answers(pid) else 0
    return None if fields[0] in _DEAD_STATES else int(fields[_FIELDS_BEFORE_START])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
