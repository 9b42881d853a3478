"""Files that show whether they are what was written: a checksum of name and content lies at their end.

Readers of TIFF files, and of others that state where their parts lie, do not look at what follows.
"""

import zlib
from pathlib import Path

MARK = b"RESDEPTH"
SEAL_BYTES = len(MARK) + 4
CHUNK = 1 << 20


def seal(path: Path, name: str) -> None:
    """Append the checksum of a name and of the file's content.

    Args:
        path: the file, complete.
        name: under which it will lie, so that files which have been swapped are seen.

    Raises:
        OSError: if it cannot be read or written.
    """
    checksum = _checksum(path, name, path.stat().st_size)
    with path.open("ab") as file:
        file.write(MARK + checksum.to_bytes(4, "little"))


def is_intact(path: Path) -> bool:
    """Whether a file is there, and is what was sealed under its name."""
    try:
        content = path.stat().st_size - SEAL_BYTES
        if content < 0:
            return False
        with path.open("rb") as file:
            file.seek(content)
            found = file.read()
        return found == MARK + _checksum(path, path.name, content).to_bytes(4, "little")
    except OSError:
        return False


def _checksum(path: Path, name: str, size: int) -> int:
    """CRC-32 of a name and of the first bytes of a file."""
    checksum = zlib.crc32(name.encode())
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(CHUNK, size))):
            checksum = zlib.crc32(chunk, checksum)
            size -= len(chunk)
    return checksum
