"""The authors' archives: fetched with pooch, checked before a byte is unpacked."""

import base64
import binascii
import hashlib
import logging
import os
import posixpath
import re
import shutil
import tarfile
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NoReturn
from urllib.parse import urljoin, urlsplit

from resdepth.errors import ResDepthError
from resdepth.runtime.atomic import named, temporary_folder, writing
from resdepth.runtime.progress import Progress, progress_bar

if TYPE_CHECKING:
    from requests import Response

BASE_URL = "https://share.phys.ethz.ch/~pf/stuckercdata/resdepth/"
ARCHIVES: Mapping[str, Path] = {
    "demo": Path("demo"),
    "models": Path("logs/pretrained_models"),
    "ablations": Path("logs/pretrained_models_ablations"),
}
"""The folders to which the published manual unpacks the archives; their files are called like them."""
MAX_BYTES = 64 * 2**30
"""No archive may be larger, neither packed nor unpacked."""
MAX_MEMBERS = 100_000
"""No archive may hold more files and folders."""

_CHUNK = 256 * 1024
_CHECKSUMS = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}  # the strongest first
_THIS_COMPUTER = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
_SAFE_NAME = re.compile(r"(?!/|(.*/)?(\.\.(/|$)|[A-Za-z]:))[^\\\x00-\x1f\x7f]{1,1024}")
# What tarfile raises on damaged headers; OSError is left out, it means the disk.
_UNREADABLE = (tarfile.TarError, ValueError, LookupError, ArithmeticError, EOFError, RecursionError)
logger = logging.getLogger(__name__)


class _RefusedError(Exception):
    """The archive is damaged or not safe to unpack."""


def download(
    name: str, to: Path | None = None, *, base_url: str = BASE_URL, timeout_seconds: float = 30.0
) -> Path:
    """Fetch and unpack one of the authors' archives; returns the folder.

    The folder appears complete or not at all. Servers are always asked for a valid certificate.

    Args:
        name: a key of ARCHIVES.
        to: the folder to unpack to, new or empty; by default that of the published manual.
        base_url: where the archives lie: https, or http on this computer.
        timeout_seconds: how long a silent connection counts as alive.

    Raises:
        ResDepthError: the name is unknown, the address not safe, the folder in use, the server out of reach,
            the transfer cut short, the archive damaged or not safe to unpack, or the disk full.
    """
    if name not in ARCHIVES:
        raise ResDepthError(
            f"{name!r} is not an archive of the authors. Choose one of {', '.join(ARCHIVES)}."
        )
    target, file = to or ARCHIVES[name], f"{ARCHIVES[name].name}.tar"
    url = f"{base_url.rstrip('/')}/{file}"
    if found := [problem for problem in (_address_problem(url), _target_problem(target)) if problem]:
        raise ResDepthError("\n".join(found))
    place = target.resolve()
    # Folders above it that are missing are made in the end: a failure leaves none behind.
    above = next(folder for folder in place.parents if folder.is_dir())
    with temporary_folder(above, place.name) as contents:
        try:
            with temporary_folder(above, file) as beside, writing(target):
                _fetch(url, beside / file, timeout_seconds)
                _unpack(beside / file, contents, {ARCHIVES[name].name, place.name})
        except _RefusedError as refused:
            raise ResDepthError(
                f"{url}: the archive is refused: {refused}. Nothing was unpacked, and it was removed. "
                "Run the command again; if that does not help, open the address in a browser: the server "
                "may not hold the authors' file."
            ) from refused
        _place(contents, place)
    logger.info("Unpacked %s to %s", file, target)
    return target


def _target_problem(target: Path) -> str | None:
    """Why `target` cannot become the unpacked folder; None if it does not exist or is an empty folder."""
    try:
        there = next(path for path in (target, *target.resolve().parents) if path.exists())
        if not there.is_dir():
            return f"{there}: is a file. Remove it, or give another folder to unpack to with --to."
        if there is not target:
            return None
        if any(target.iterdir()):
            return f"{target}: the folder to unpack to is not empty. Remove it, or give another with --to."
        if target.is_mount() or target.samefile(Path.cwd()):
            return f"{target}: is the current folder or a mount point. Give a folder inside it with --to."
    except OSError as error:
        return f"{target}: the folder to unpack to cannot be read ({error}). Give another one with --to."
    return None


def _address_problem(url: str) -> str | None:
    """Why an address is not asked; None if it is https, or http on this computer."""
    try:
        address = urlsplit(url)
        host, _ = address.hostname, address.port
    except ValueError as error:
        return f"{url!r} is not an address ({error}). Give one that starts with https://."
    if not host or "@" in address.netloc or not re.fullmatch(r"[!-~]+", url):
        return f"{url!r} is not an address to fetch from. Give https://HOST/FOLDER/, no user name, no spaces."
    if address.scheme == "https" or (address.scheme == "http" and _THIS_COMPUTER.fullmatch(host)):
        return None
    return f"{url!r} is not fetched: only https shows who answers. Give an address that starts with https://."


def _place(contents: Path, place: Path) -> None:
    """Give the unpacked folder its name, in the place of an empty one."""
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            place.rmdir()
    if not named(contents, place):
        raise ResDepthError(f"{place}: has just appeared. Remove it, or give another folder with --to.")


@dataclass
class _Arriving:
    """An archive as pooch writes it: limited, shown, and with the checksum that the server promises."""

    file: BinaryIO
    progress: Progress | None = None
    promised: tuple[str, str] | None = None

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        _check_size(self.file.tell())
        if self.progress is not None:
            self.progress.advance(len(chunk))

    def flush(self) -> None:
        """Do nothing: pooch asks for it after each chunk."""


def _fetch(url: str, packed: Path, timeout_seconds: float) -> None:
    """Bring an archive to the disk.

    Raises:
        ResDepthError: the server is out of reach or refuses, the transfer breaks off, or the disk is small.
        _RefusedError: it is larger than any archive may be, or its checksum is not what the server promises.
    """
    import pooch
    import requests
    import urllib3

    with packed.open("wb") as file, ExitStack() as transfer:
        arriving = _Arriving(file)

        def answered(response: "Response", *_: object, **__: object) -> None:
            transfer.callback(response.close)
            _check_answer(response)
            if not response.is_redirect:
                size = response.raw.length_remaining
                _check_size(size or 0)
                _check_room(2 * (size or 0), packed)
                arriving.promised = _promised(response.headers)
                bar = progress_bar(f"Fetching {packed.name}", size, unit="B")
                arriving.progress = transfer.enter_context(bar)

        headers = {"User-Agent": "resdepth", "Accept-Encoding": "identity"}
        get = pooch.HTTPDownloader(
            chunk_size=_CHUNK, timeout=timeout_seconds, headers=headers, hooks={"response": answered}
        )
        try:
            get(url, arriving, None)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise ResDepthError(
                f"{url}: cannot be fetched ({_reason(error)}). Check the network connection, the proxy and "
                "this computer's clock (a company's certificates: environment variable REQUESTS_CA_BUNDLE) "
                "and run the command again; or fetch the file with a browser and unpack it."
            ) from error
    logger.info("%s: SHA-256 %s", packed.name, pooch.file_hash(str(packed)))
    algorithm, digest = arriving.promised or ("", "")
    if digest and (found := pooch.file_hash(str(packed), algorithm)) != digest:
        raise _RefusedError(f"damaged in transfer: its {algorithm} is {found}, the server promised {digest}")


def _reason(error: BaseException) -> str:
    """What went wrong in the end, below the layers of requests and urllib3."""
    from urllib3.exceptions import HTTPError

    while isinstance(deeper := error.__context__, OSError | HTTPError):
        error = deeper
    return str(error) or type(error).__name__


def _check_answer(response: "Response") -> None:
    """Raise ResDepthError unless it is the file, or leads on to an address that would have been asked."""
    if response.is_redirect:
        url = urljoin(response.url, response.headers["location"])
        problem = _address_problem(url)
        if problem is None and response.url.startswith("https:") and not url.startswith("https:"):
            problem = f"{url!r} is not fetched: it is not https."
        if problem is not None:
            raise ResDepthError(f"{response.url}: the server sends elsewhere, and {problem}")
    elif response.status_code != 200:
        advice = "Try again later" if response.status_code >= 500 else "It may have moved: look for news"
        raise ResDepthError(
            f"{response.url}: the server answers {response.status_code} {response.reason}. {advice}, or "
            "fetch it with a browser and unpack it."
        )


def _promised(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The strongest checksum in the server's answer: algorithm and hexadecimal digits."""
    fields = [f"md5={headers.get('Content-MD5', '')}"]
    fields += [field for name in ("Digest", "Repr-Digest") for field in headers.get(name, "").split(",")]
    parts = [field.partition("=") for field in fields]
    found = {key.strip().lower(): value.strip(" :") for key, _, value in parts}
    for key, algorithm in _CHECKSUMS.items():
        with suppress(binascii.Error):
            digest = base64.b64decode(found.get(key, ""), validate=True)
            if len(digest) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
                return algorithm, digest.hex()
    return None


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise _RefusedError(f"it has more than the {MAX_BYTES} bytes allowed")


def _check_room(needed: int, packed: Path) -> None:
    """Raise ResDepthError unless the disk has so many bytes free."""
    folder = packed.parent.parent
    if (free := shutil.disk_usage(folder).free) < needed:
        raise ResDepthError(
            f"{folder}: the disk has {free / 1e6:.0f} MB free, but {needed / 1e6:.0f} MB are needed for "
            f"{packed.name} and its contents. Free some, or give a folder on another disk with --to."
        )


def _unpack(packed: Path, folder: Path, names: set[str]) -> None:
    """Unpack into an empty folder; a single top folder called by one of `names` is left out.

    Raises:
        _RefusedError: a member is unsafe, or the archive cannot be read; nothing is written.
        ResDepthError: the contents do not fit the disk.
        OSError: the disk is full.
    """
    try:
        with packed.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = _listed(tar)
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise _RefusedError(f"it breaks off or is damaged at byte {tar.offset}")
            _leave_out_top(members, names)
            _check_members(members)
            _check_room(sum(member.size for member in members), packed)
            _extract(tar, members, folder)
    except _UNREADABLE as error:
        raise _RefusedError(f"it is not a plain tar archive, or a damaged one ({error})") from error


def _extract(tar: tarfile.TarFile, members: Sequence[tarfile.TarInfo], folder: Path) -> None:
    """Unpack members that are checked, as plain files of the user."""
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, members, filter="data")
        return
    for member in members:  # Python before 3.11.4, which Debian 12 has, filters nothing
        runs = member.isdir() or bool(member.mode & 0o100)
        member.mode, member.uname, member.gname = 0o755 if runs else 0o644, "", ""
        if hasattr(os, "getuid"):
            member.uid, member.gid = os.getuid(), os.getgid()
    tar.extractall(folder, members)  # noqa: S202 - _listed and _check_members have refused what is unsafe


def _refuse(member: tarfile.TarInfo, problem: str) -> NoReturn:
    raise _RefusedError(f"its member {member.name[:200]!r} {problem}")


def _listed(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """All members, of safe names; the limits are checked while reading, so that a bomb is not even listed."""
    members, total = [], 0
    for member in tar:
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            _refuse(member, "is a device, a pipe or of an unknown kind")
        if not _SAFE_NAME.fullmatch(member.name):
            _refuse(member, "has no safe name: absolute, '..', drive, '\\', control characters, or long")
        member.name = str(PurePosixPath(member.name))
        members.append(member)
        total += member.size
        if len(members) > MAX_MEMBERS:
            raise _RefusedError(f"it has more than {MAX_MEMBERS} members")
        if member.size < 0 or total > MAX_BYTES:
            _refuse(member, f"makes it unpack to more than {MAX_BYTES} bytes")
    return members


def _check_members(members: Sequence[tarfile.TarInfo]) -> None:
    """Refuse what lies twice or in a file, and links elsewhere; links are straightened."""
    leaves: dict[str, tarfile.TarInfo] = {}
    folders = {_key(str(parent)) for member in members for parent in PurePosixPath(member.name).parents}
    folders |= {_key(member.name) for member in members if member.isdir()}
    for member in members:
        if member.isdir():
            continue
        key = _key(member.name)
        if key in leaves or key in folders:
            _refuse(member, "is there twice, or holds others (small and capital letters count as equal)")
        if member.islnk():  # tarfile makes none to a file that comes later
            _straighten(member, leaves, set())
        leaves[key] = member
    if not any(member.isreg() for member in members):
        raise _RefusedError("there is no file in it")
    for member in members:
        if member.issym():
            _straighten(member, leaves, folders)


def _leave_out_top(members: Sequence[tarfile.TarInfo], names: set[str]) -> None:
    """Let members lie where they would without their single top folder, if it is called by one of `names`."""
    tops = {member.name.partition("/")[0] for member in members if member.name != "."}
    flat = any("/" not in member.name and not member.isdir() for member in members)
    if len(tops) == 1 and not flat and tops <= names:
        top = f"{tops.pop()}/"
        for member in members:
            member.name = member.name.partition("/")[2] or "."
            if member.islnk():
                member.linkname = posixpath.normpath(member.linkname).removeprefix(top)


def _straighten(member: tarfile.TarInfo, leaves: Mapping[str, tarfile.TarInfo], folders: set[str]) -> None:
    """Refuse a link that leads elsewhere, or over another link; what stays leads straight to its target."""
    at = posixpath.dirname(member.name) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(at, member.linkname))
    file = leaves.get(_key(target))
    if not (file is not None and file.isreg()) and _key(target) not in folders:
        _refuse(member, f"is a link to {member.linkname[:200]!r}, which is no file or folder of the archive")
    member.linkname = posixpath.relpath(target, at or ".") if member.issym() else target


def _key(name: str) -> str:
    """Equal for names that some file system cannot tell apart (case, composed letters)."""
    return unicodedata.normalize("NFC", name).casefold()
