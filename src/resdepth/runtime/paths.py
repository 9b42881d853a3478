"""Paths as people write them into files: where they lead, and what is there."""

import os
import re
from pathlib import Path
from stat import S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK

from resdepth.errors import unusable

SMALL_BYTES = 2**16
MAX_TEXT_BYTES = 16 * 2**20
"""No configuration and no list is larger; a raster given by mistake is."""
NO_SUCH_FILE = (
    "no such file; check the path (relative ones lead from the file that names them, or else from the "
    "working directory)"
)


# Path takes one slash of a URL away.
_URL = re.compile(r"(^|[/=])(https?|ftp|s3|gs|az|file):/", re.IGNORECASE)
_FIRST_HALF, _LAST_HALF = "\ud800", "\udfff"  # how Python keeps bytes of names that are no UTF-8


def resolve_path(text: str, named_in: Path) -> Path:
    """A path relative to the file that names it; if nothing is there, to the working directory."""
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for unknown users
    if path.is_absolute():
        return path
    beside = Path.cwd() / named_in.parent / path
    return beside if is_there(beside) else Path.cwd() / path


def is_there(path: Path) -> bool:
    """Whether a file or folder can be found; False also where looking is not permitted or not possible."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for names that are too long


def why_foreign(path: str | Path) -> str | None:
    """Why a path is none of a file that is read or written here; None if it may be one."""
    text = os.fspath(path)
    if text.startswith("/vsi"):
        return (
            "is a virtual path of GDAL; only files are read and written. Copy the raster out (gdal_translate "
            f"{text} FILE.tif), and name the copy"
        )
    if _URL.search(text):
        return "is a URL; download the file, and name the copy"
    if any(_FIRST_HALF <= letter <= _LAST_HALF for letter in text):
        return (
            "its name holds bytes that are not UTF-8, which GDAL does not open; rename it "
            "(convmv -f latin1 -t utf8 --notest FILE)"
        )
    return None


def why_no_file(path: Path) -> str | None:
    """What is wrong with the path of a file; None if there is a file."""
    if reason := why_foreign(path):
        return reason
    if os.path.isfile(path):  # noqa: PTH113 - as above
        return None
    if os.path.isdir(path):  # noqa: PTH112
        return "is a folder; name a file"
    return why_special(path) or NO_SUCH_FILE


def why_no_folder(folder: Path) -> str | None:
    """Why a folder is not there, nor can be made; None if it is or can be. Nothing is made."""
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not os.path.isdir(nearest):  # noqa: PTH112 - as above
        return f"{nearest} is no folder; choose another"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"no permission to write in {nearest}; choose another"
    longest = os.pathconf(nearest, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if any(len(os.fsencode(part)) > longest for part in folder.relative_to(nearest).parts):
        return f"a name is longer than {longest} bytes; choose another"
    return None


def why_special(path: Path) -> str | None:
    """Why a path is not opened: reading a pipe, a socket or a device may never end. None if it may be."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # whoever opens it finds out
        return None
    if S_ISREG(mode) or S_ISDIR(mode):
        return None
    kind = "a named pipe" if S_ISFIFO(mode) else "a socket" if S_ISSOCK(mode) else "a device"
    return f"is {kind}; name a file (what a program prints can be put into one)"


def read_text(path: Path, *, at_most: int = MAX_TEXT_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        at_most: bytes; a larger file is refused.

    Raises:
        InputProblems: if it cannot be read, is no text, or is far too large.
    """
    if reason := why_special(path):
        raise unusable(path, reason)
    try:
        with path.open("rb") as file:
            size = max(os.fstat(file.fileno()).st_size, SMALL_BYTES)  # of some, the system does not know it
            raw = file.read(min(size, at_most) + 1)
    except FileNotFoundError as error:
        raise unusable(path, NO_SUCH_FILE) from error
    except OSError as error:
        raise unusable(path, f"cannot be read ({error.strerror}); check the path") from error
    if len(raw) > at_most:
        raise unusable(path, f"larger than {at_most >> 20} MiB; is it the right file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unusable(path, f"not a text in UTF-8 ({error.reason} at byte {error.start})") from error
