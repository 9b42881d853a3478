"""Files that one process holds against all others, on this computer and wherever locks reach."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resdepth.errors import ResDepthError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)


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
