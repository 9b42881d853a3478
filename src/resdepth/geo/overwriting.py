"""What a command may write: never what it reads, and what is there already only if it is asked to."""

import os
from collections.abc import Iterable
from pathlib import Path

from resdepth.errors import ResDepthError
from resdepth.geo.raster import files_behind

SHOWN = 5


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


def refuse_existing(
    paths: Iterable[Path],
    *,
    overwrite: bool,
    why: str = "",
    remedy: str = "add --overwrite, or choose another name",
) -> None:
    """Refuse to write what is there already, be it a link that leads nowhere.

    What is an input is refused first (`refuse_inputs_as_outputs`), as no --overwrite lets it be written.

    Args:
        paths: what is to be written.
        overwrite: let it be replaced.
        why: what else is known of what is there, for the message.
        remedy: what to do.

    Raises:
        ResDepthError: which of them are there.
    """
    taken = [] if overwrite else [f"{path}" for path in paths if os.path.lexists(path)]
    if taken:
        more = f" and {len(taken) - SHOWN} more" if len(taken) > SHOWN else ""
        exist = "exists" if len(taken) == 1 else "exist"
        raise ResDepthError(f"{', '.join(taken[:SHOWN])}{more}: {exist} already{why}; {remedy}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino
