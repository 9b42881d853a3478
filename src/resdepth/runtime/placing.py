"""Files that get their names together, in a folder that one process holds against all others.

What a killed process has placed, the next one knows as its own.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from resdepth.errors import InputProblems, ResDepthError
from resdepth.runtime.atomic import NO_LINKS, writing
from resdepth.runtime.jsonfiles import demand, read_json

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

RECORD = ".resdepth-placing.json"


@dataclass(frozen=True)
class State:
    """What tells a file or folder from others that may bear its name later; renaming does not change it."""

    inode: int
    modified_ns: int
    size: int


@dataclass(frozen=True)
class _Record:
    """The files that were to appear or to go when a process ended, by their names in the folder."""

    files: list[tuple[str, State]]


def state_of(path: Path) -> State | None:
    """The state of what lies at a path, be it a link; None if nothing does."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return State(found.st_ino, found.st_mtime_ns, found.st_size)


@dataclass(frozen=True)
class Placing:
    """A folder in which files are to appear together.

    Attributes:
        folder: the folder.
        left: names of the files in it that a process has left which ended while it placed them.
    """

    folder: Path
    left: tuple[str, ...]

    def exchange(self, made: Path, earlier: Iterable[str], *, mark: str) -> None:
        """Remove files, then move others to their names.

        Args:
            made: a folder on the same disk, with the files to be moved, in folders of their own or not.
            earlier: names of the files to be removed, with all that are `left`; they need not be there.
            mark: the file that states that all are there: removed first, placed last.

        Raises:
            ResDepthError: if something cannot be written.
        """
        names = [path.relative_to(made).as_posix() for path in sorted(made.rglob("*")) if path.is_file()]
        names.sort(key=lambda name: name == mark)
        going = list(dict.fromkeys([mark, *earlier]))
        self._remove(self.left)
        states = [(name, state_of(self.folder / name)) for name in going]
        states += [(name, state_of(made / name)) for name in names]
        try:
            _write_record(
                self.folder / RECORD, [(name, state) for name, state in states if state is not None]
            )
            self._remove(going)
            for name in names:
                with writing(self.folder / name):
                    (self.folder / name).parent.mkdir(exist_ok=True)
                    (made / name).replace(self.folder / name)
        except BaseException:
            with suppress(ResDepthError):
                self._remove(_left(self.folder))
            raise

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with writing(self.folder / name):
                (self.folder / name).unlink(missing_ok=True)


@contextmanager
def placing(folder: Path) -> Iterator[Placing]:
    """Hold a folder, made if it is not there, against other processes that place files in it.

    While it is held, it contains a hidden record. A folder that is new is removed again if the block fails.

    Raises:
        ResDepthError: if the folder cannot be written, or another process is at work on it. Errors of the
            block pass.
    """
    record, is_new = folder / RECORD, not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with writing(record):
        os.close(os.open(record, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o666))
    with held(record, purpose=f"{folder}"):
        try:
            yield Placing(folder, _left(folder))
        except BaseException:
            if not _left(folder):  # else the next process needs to know
                with suppress(OSError):
                    record.unlink()
                    if is_new:
                        folder.rmdir()
            raise
    with writing(record):
        record.unlink()  # last: until then, what is placed is known


@contextmanager
def held(path: Path, *, purpose: str) -> Iterator[None]:
    """Hold a file that is there, which stays as it is, until the block ends or the process does.

    Args:
        path: the file; no link.
        purpose: what the file is held for, named in the messages: a run folder, say.

    Raises:
        ResDepthError: if another process holds it.
    """
    # Network file systems lock only what can be written.
    with path.open("rb+" if os.access(path, os.W_OK) else "rb") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResDepthError(f"{purpose}: another process is at work on it; wait, or stop it") from error
        except OSError as error:  # some network file systems know no locks
            logger.warning(
                "%s: files cannot be locked here (%s); let no other command write it", purpose, error
            )
        yield


def _left(folder: Path) -> tuple[str, ...]:
    """Names of the files of an interrupted exchange; others that are called like them are somebody's own."""
    try:
        files = demand(_Record, read_json(folder / RECORD), folder / RECORD).files
    except InputProblems:  # empty: nothing has been placed
        return ()
    inside = [(name, state) for name, state in files if ".." not in PurePath(name).parts]
    return tuple(dict.fromkeys(name for name, state in inside if state_of(folder / name) == state))


def _write_record(path: Path, files: list[tuple[str, State]]) -> None:
    """Write in place, as the file is held."""
    content = {"files": [[name, vars(state)] for name, state in files]}
    with writing(path), path.open("r+", encoding="utf-8") as file:
        file.truncate()
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
