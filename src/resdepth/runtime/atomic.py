"""Files that appear complete or not at all. What killed processes leave unfinished is removed later."""

import errno
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from resdepth.errors import ResDepthError
from resdepth.runtime.makers import MARK, maker_of, this_process

SHOWN_LETTERS = 40
NO_LINKS: int = getattr(os, "O_NOFOLLOW", 0)
"""A flag for opening no link; 0 on Windows, which has none."""


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
        handle, name = tempfile.mkstemp(prefix=_prefix(path.name), suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        temporary.unlink()  # GDAL lists the whole folder around a file that it is to replace
    try:
        yield temporary
        with writing(path):
            temporary.chmod(0o666 & ~_umask())
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
        made = Path(tempfile.mkdtemp(prefix=_prefix(name), dir=folder))
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
        made.chmod(0o777 & ~_umask())
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


def _prefix(name: str) -> str:
    # A part of the name shows whose it is; a name may be as long as file systems allow.
    return f".{name[:SHOWN_LETTERS]}{MARK}{this_process()}-"


def _remove(path: Path) -> None:
    """Remove a file, a link, or a folder, if that is possible."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
