"""Files that appear complete or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHOWN_LETTERS = 40


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A name beside `path`, of no file; renamed to `path` if the block succeeds, removed if it does not."""
    # A part of the name shows whose it is; a name may be as long as file systems allow.
    start = path.name[:SHOWN_LETTERS]
    handle, name = tempfile.mkstemp(prefix=f".{start}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    temporary.unlink()  # GDAL lists the whole folder around a file that it is to replace
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb+") as written:  # or a loss of power could leave an empty file
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; bytes of file names that are not UTF-8 are written as their numbers."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
