"""Fetching the authors' archives, and checking them before a byte is unpacked."""

import base64
import hashlib
import logging
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resdepth.download.https import address_problem
from resdepth.download.transfer import (
    Errand,
    Origin,
    Patience,
    discard,
    fetch,
    remember_unpacked,
    was_unpacked,
    writing,
)
from resdepth.download.untar import RefusedError, unpack
from resdepth.errors import ResDepthError
from resdepth.runtime.atomic import remove_leftovers, temporary_folder

BASE_URL = "https://share.phys.ethz.ch/~pf/stuckercdata/resdepth/"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """One of the authors' archives.

    Attributes:
        file: its name on the server.
        folder: where the published manual unpacks it, relative to the current folder.
    """

    file: str
    folder: Path


ARCHIVES: Mapping[str, Archive] = {
    "demo": Archive("demo.tar", Path("demo")),
    "models": Archive("pretrained_models.tar", Path("logs/pretrained_models")),
    "ablations": Archive("pretrained_models_ablations.tar", Path("logs/pretrained_models_ablations")),
}


def download(
    name: str, to: Path | None = None, *, base_url: str = BASE_URL, patience: Patience | None = None
) -> Path:
    """Fetch and unpack one of the authors' archives; returns the folder.

    The folder appears complete or not at all. A transfer that broke off is continued by the next call, from
    `<archive>.part` beside the folder. Servers are always asked for a valid certificate.

    Args:
        name: a key of ARCHIVES.
        to: the folder to unpack to, new or empty; by default that of the published manual.
        base_url: where the archives lie: https, or http on this computer.
        patience: how often and how long a bad connection is tried; by default Patience().

    Raises:
        ResDepthError: the name is unknown, the address not safe, the folder in use, the server out of reach,
            the transfer cut short, the archive damaged or not safe to unpack, or the disk full.
    """
    if name not in ARCHIVES:
        raise ResDepthError(
            f"{name!r} is not an archive of the authors. Choose one of {', '.join(ARCHIVES)}."
        )
    archive = ARCHIVES[name]
    target = archive.folder if to is None else to
    part = target.resolve().parent / f"{archive.file}.part"
    errand = Errand(f"{base_url.rstrip('/')}/{archive.file}", target, part)
    if was_unpacked(errand):  # by a process that was killed before it could tidy up
        remove_leftovers(part.parent)
        discard(errand)
        return target
    _check_errand(errand)
    try:
        origin = fetch(errand, patience or Patience())
        with writing(errand):
            _verify(part, origin)
            _unpack(errand, origin)
    except RefusedError as refused:
        discard(errand)
        raise ResDepthError(
            f"{errand.url}: the archive is refused: {refused}. Nothing was unpacked, and the archive was "
            f"removed. Run the command again; if that does not help, open the address in a browser: "
            f"the server may not hold the authors' file."
        ) from refused
    discard(errand)
    logger.info("Unpacked %s to %s", archive.file, target)
    return target


def _unpack(errand: Errand, origin: Origin) -> None:
    """Unpack beside the target, then rename."""
    target = errand.target.resolve()
    with temporary_folder(target.parent, target.name) as beside:
        contents = unpack(errand.part, beside, (PurePosixPath(errand.part.stem).stem, target.name))
        remember_unpacked(errand, origin, contents)
        if target.exists():
            target.rmdir()
        contents.rename(target)


def _check_errand(errand: Errand) -> None:
    """Raise ResDepthError for all that can be known to be wrong before anything is fetched."""
    problems = [address_problem(errand.url), _target_problem(errand.target)]
    if not hasattr(tarfile, "data_filter"):
        problems.append(
            f"this Python cannot unpack archives safely. Update it to 3.11.4 or later, or {errand.by_hand}."
        )
    if found := [problem for problem in problems if problem]:
        raise ResDepthError("\n".join(found))


def _target_problem(target: Path) -> str | None:
    """Why `target` cannot become the unpacked folder; None if it does not exist or is an empty folder."""
    try:
        if not target.exists():
            return None
        if not target.is_dir() or any(target.iterdir()):
            kind = "is not empty" if target.is_dir() else "is a file"
            return f"{target}: the folder to unpack to {kind}. Remove it, or give another one with --to."
        if target.is_mount() or target.samefile(Path.cwd()):
            return f"{target}: is the current folder or a mount point. Give a folder inside it with --to."
    except OSError as error:
        return f"{target}: the folder to unpack to cannot be read ({error}). Give another one with --to."
    return None


def _verify(part: Path, origin: Origin) -> None:
    """Log the archive's SHA-256 and raise RefusedError if the server's checksum is another."""
    logger.info("%s: SHA-256 %s", part.stem, _digest(part, "sha256").hex())
    if origin.checksum is None:
        return
    algorithm, _, text = origin.checksum.partition("=")
    found, promised = _digest(part, algorithm), base64.b64decode(text)
    if found != promised:
        raise RefusedError(
            f"it arrived damaged: its {algorithm} is {found.hex()}, the server promised {promised.hex()}"
        )


def _digest(path: Path, algorithm: str) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).digest()
