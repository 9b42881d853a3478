"""Files that appear complete or not at all, and show later whether they still are what was written.

The name of an unfinished file states which process makes it. What killed processes leave is removed later.
"""

import errno
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_IMODE
from typing import Any

from resdepth.errors import ResDepthError

SHOWN_LETTERS = 40
NO_LINKS: int = getattr(os, "O_NOFOLLOW", 0)
"""A flag for opening no link; 0 on Windows, which has none."""
MARK = ".resdepth-"
_NAME = re.compile(
    rf"\..*{re.escape(MARK)}([0-9a-f]{{6}})-([0-9a-f]{{6}})-([0-9a-f]{{6}})-(\d+)-(\d+)-", re.DOTALL
)
_PROC = Path("/proc")
_FIELDS_BEFORE_START, _DEAD_STATES = 19, ("Z", "X", "x")
_SEALED = b"RESDEPTH"
_SEAL_BYTES = len(_SEALED) + 4
_CHUNK_BYTES = 1 << 20


@contextmanager
def atomic_path(path: Path, *, sweep: bool = True) -> Iterator[Path]:
    """A name beside `path`, of no file; renamed to `path` if the block succeeds, removed if it does not.

    Args:
        path: the file.
        sweep: first remove what processes that ended have left unfinished in the folder; it is listed for
            that, which takes long where files are many.

    Raises:
        ResDepthError: if the file cannot be written. Errors of the block pass.
    """
    with writing(path):
        if sweep:
            remove_leftovers(path.parent)
        temporary = path.parent / f"{_unfinished(path.name)}{path.suffix}"
        mode = _mode_of_new(temporary)
    try:
        yield temporary
        with writing(path):
            temporary.chmod(mode)  # some libraries keep what they write to its owner
            with temporary.open("rb+") as written:  # or a loss of power could leave an empty file
                os.fsync(written.fileno())
            temporary.replace(path)
    except BaseException:
        beside = glob.escape(temporary.name) + ".*"  # GDAL may have added files of its own
        for left in (temporary, *temporary.parent.glob(beside)):
            _remove(left)
        raise


@contextmanager
def temporary_folder(folder: Path, name: str) -> Iterator[Path]:
    """A hidden folder for unfinished files in another folder, removed in the end.

    Args:
        folder: where; what processes that ended have left unfinished in it is removed first.
        name: shown in the name.

    Raises:
        ResDepthError: if it cannot be made. Errors of the block pass.
    """
    with writing(folder):
        remove_leftovers(folder)
        made = folder / _unfinished(name)
        made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def named(made: Path, path: Path) -> bool:
    """Give a folder of `temporary_folder` its name beside it; False if something else has it.

    Raises:
        ResDepthError: if it cannot be renamed.
    """
    with writing(path):
        if path.exists() or path.is_symlink():
            return False
        try:
            made.rename(path)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):  # it has just appeared
                return False
            raise
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are known to have ended have left unfinished in a folder."""
    with suppress(OSError):  # a folder that is not there, or not ours to list
        for name in os.listdir(folder):  # noqa: PTH208 - the names alone, as folders may be large
            maker = maker_of(name)
            if maker is not None and maker.is_gone():
                _remove(folder / name)


def is_unfinished(path: Path) -> bool:
    """Whether a file or folder is one that some process has not finished, or not yet."""
    return maker_of(path.name) is not None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses into an error that names the file.

    Raises:
        ResDepthError: the file, and why it cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ResDepthError(f"{path}: cannot be written ({reason}); is there space left?") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        ResDepthError: if it cannot be written.
    """
    with atomic_path(path) as temporary, writing(path):
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, sweep: bool = True) -> None:
    """Write a text file in UTF-8; bytes of file names that are not UTF-8 are written as their numbers.

    Raises:
        ResDepthError: if it cannot be written.
    """
    with atomic_path(path, sweep=sweep) as temporary, writing(path):
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file; raises as `write_bytes`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file; raises as `write_bytes`."""
    with atomic_path(path) as temporary, writing(path):
        shutil.copyfile(source, temporary)


def _unfinished(name: str) -> str:
    # A part of the name shows whose it is; a name may be as long as file systems allow.
    return f".{name[:SHOWN_LETTERS]}{MARK}{this_process()}-{secrets.token_hex(4)}"


def _mode_of_new(path: Path) -> int:
    """The permissions that a file made there gets. Asking for the umask would change it, for all threads."""
    made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return S_IMODE(os.fstat(made).st_mode)
    finally:
        os.close(made)
        path.unlink()  # GDAL lists the whole folder around a file that it is to replace


def _remove(path: Path) -> None:
    """Remove a file, a link, or a folder, if that is possible."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def seal(path: Path, name: str) -> None:
    """Append the checksum of a name and of the file's content.

    Readers of TIFF files, and of others that state where their parts lie, do not look at what follows.

    Args:
        path: the file, complete.
        name: under which it will lie, so that files which have been swapped are seen.

    Raises:
        OSError: if it cannot be read or written.
    """
    checksum = _checksum(path, name, path.stat().st_size)
    with path.open("ab") as file:
        file.write(_SEALED + checksum.to_bytes(4, "little"))


def is_intact(path: Path) -> bool:
    """Whether a file is there, and is what was sealed under its name."""
    try:
        content = path.stat().st_size - _SEAL_BYTES
        if content < 0:
            return False
        with path.open("rb") as file:
            file.seek(content)
            found = file.read()
        return found == _SEALED + _checksum(path, path.name, content).to_bytes(4, "little")
    except OSError:
        return False


def _checksum(path: Path, name: str, size: int) -> int:
    """CRC-32 of a name and of the first bytes of a file."""
    checksum = zlib.crc32(name.encode())
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(_CHUNK_BYTES, size))):
            checksum = zlib.crc32(chunk, checksum)
            size -= len(chunk)
    return checksum


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
