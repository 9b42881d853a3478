"""Files that a command reads are never written by it, by whatever name they are called."""

from collections.abc import Iterable
from pathlib import Path

from resdepth.errors import ResDepthError
from resdepth.raster import files_behind


def refuse_inputs_as_outputs(inputs: Iterable[Path | None], outputs: Iterable[Path]) -> None:
    """Refuse to write what is read.

    Two names are one file if the file system states so: symbolic and hard links, other spellings, the sources
    of virtual rasters and the files beside a raster (masks, overviews, statistics) are all seen.

    Args:
        inputs: files that are read, rasters or not; None and what is not there do not count.
        outputs: what may be written.

    Raises:
        ResDepthError: which output is which input.
    """
    read: dict[tuple[int, int], Path] = {}
    for path in inputs:
        for file in () if path is None else files_behind(path):
            if (identity := _identity(file)) is not None:
                read.setdefault(identity, file)
    for output in outputs:
        identity = _identity(output)
        if identity is not None and identity in read:
            called = "" if read[identity] == output else f" ({read[identity]})"
            raise ResDepthError(
                f"{output}: is an input{called}, which is never overwritten; choose another name or folder "
                "for the output"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino
