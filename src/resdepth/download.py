"""Fetching the authors' archives: continued after a break, and checked before a byte of them is unpacked."""

import base64
import binascii
import errno
import hashlib
import ipaddress
import json
import logging
import re
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, cast
from urllib.parse import urlsplit

from resdepth.errors import ResDepthError
from resdepth.progress import progress_bar
from resdepth.unpacking import MAX_BYTES, RefusedError, unpack

BASE_URL = "https://share.phys.ethz.ch/~pf/stuckercdata/resdepth/"
_CHUNK = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Strongest first: one checksum is verified.
_CHECKSUMS = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}
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


@dataclass(frozen=True)
class Patience:
    """How often and how long one call tries.

    Attributes:
        tries: how many times a connection is opened, at least one.
        pause_seconds: the wait before the second try; it doubles before each further one.
        timeout_seconds: how long a silent connection counts as alive.
    """

    tries: int = 4
    pause_seconds: float = 1.0
    timeout_seconds: float = 30.0


@dataclass(frozen=True)
class _Errand:
    """What is fetched from where to where; `part` holds the bytes until they are unpacked to `target`."""

    url: str
    target: Path
    part: Path

    @property
    def side(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    @property
    def by_hand(self) -> str:
        return f"fetch {self.url} with a browser and unpack it to {self.target}"


@dataclass(frozen=True)
class _Origin:
    """The version of the file that the bytes in `part` belong to; kept in the side file.

    `validator` goes into If-Range; `checksum` is "algorithm=base64". None = the server did not say.
    """

    url: str
    validator: str | None
    size: int | None
    checksum: str | None


class _BrokenError(Exception):
    """The connection failed; another try may succeed."""


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
    errand = _Errand(f"{base_url.rstrip('/')}/{archive.file}", target, part)
    _check_errand(errand)
    try:
        origin = _fetch(errand, patience or Patience())
        with _writing(errand):
            _verify(part, origin)
            unpack(part, target.resolve(), PurePosixPath(archive.file).stem)
    except RefusedError as refused:
        _discard(errand)
        raise ResDepthError(
            f"{errand.url}: the archive is refused: {refused}. Nothing was unpacked, and the archive was "
            f"removed. Run the command again; if that does not help, open the address in a browser: "
            f"the server may not hold the authors' file."
        ) from refused
    _discard(errand)
    logger.info("Unpacked %s to %s", archive.file, target)
    return target


def _check_errand(errand: _Errand) -> None:
    """Raise ResDepthError for all that can be known to be wrong before anything is fetched."""
    problems = [_address_problem(errand.url), _target_problem(errand.target)]
    if not hasattr(tarfile, "data_filter"):
        problems.append(
            f"this Python cannot unpack archives safely. Update it to 3.11.4 or later, or {errand.by_hand}."
        )
    if found := [problem for problem in problems if problem]:
        raise ResDepthError("\n".join(found))


def _address_problem(url: str) -> str | None:
    try:
        address = urlsplit(url)
        host, _ = address.hostname, address.port
    except ValueError as error:
        return f"{url!r} is not an address ({error}). Give one that starts with https://."
    if not host or "@" in address.netloc or not re.fullmatch(r"[!-~]+", url):
        return f"{url!r} is not an address to fetch from. Give https://HOST/FOLDER/, no user name, no spaces."
    if address.scheme == "https" or (address.scheme == "http" and _is_loopback(host)):
        return None
    return f"{url!r} is not fetched: only https shows who answers. Give an address that starts with https://."


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def _fetch(errand: _Errand, patience: Patience) -> _Origin:
    """Bring `errand.part` to its full length; returns the version of the file that it holds."""
    reason: _BrokenError | None = None
    for attempt in range(patience.tries):
        if reason is not None:
            pause = patience.pause_seconds * 2 ** (attempt - 1)
            logger.info("%s: %s; trying again in %.3g s", errand.url, reason, pause)
            time.sleep(pause)
        try:
            return _transfer(errand, patience.timeout_seconds)
        except _BrokenError as broken:
            reason = broken
    known, have = _known_part(errand)
    if known is None or not have:
        raise ResDepthError(
            f"{errand.url}: cannot be reached ({reason}). Check the network connection and the "
            f"proxy settings, or {errand.by_hand}."
        ) from reason
    again = "continues there" if known.validator else "starts anew, as this server cannot continue"
    raise ResDepthError(
        f"{errand.url}: the transfer broke off at {have} of {known.size or 'unknown'} bytes ({reason}). "
        f"Run the command again: it {again}. If it breaks off every time, {errand.by_hand}."
    ) from reason


def _transfer(errand: _Errand, timeout_seconds: float) -> _Origin:
    """One connection: continue the part that is there, or start anew if that cannot be done."""
    known, have = _known_part(errand)
    if known is not None and known.size == have:
        return known
    headers = {}
    if known is not None and known.validator and 0 < have < (known.size or MAX_BYTES):
        headers = {"Range": f"bytes={have}-", "If-Range": known.validator}
    with _answer(errand, headers, timeout_seconds) as response:
        if known is not None and response.status == HTTPStatus.PARTIAL_CONTENT:
            origin, start = replace(known, size=_total(response, known, have)), have
            if origin.size is None:
                _discard(errand)
                raise _BrokenError("the file on the server is not the one of the earlier try")
        else:
            origin, start = _described(errand.url, response), 0
        with _writing(errand):
            _receive(errand, response, origin, start)
            have = errand.part.stat().st_size
    if origin.size is not None and have != origin.size:
        raise _BrokenError("the server closed the connection")
    return origin


def _answer(errand: _Errand, headers: dict[str, str], timeout_seconds: float) -> HTTPResponse:
    """Ask for the file; the answer is 200, or 206 if `headers` ask for a range."""
    # The address has been checked: https, or this computer.
    request = urllib.request.Request(  # noqa: S310 - see above
        errand.url, headers={"User-Agent": "resdepth", **headers}
    )
    try:
        response = cast("HTTPResponse", opener().open(request, timeout=timeout_seconds))
    except urllib.error.HTTPError as error:
        error.close()
        if headers and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            _discard(errand)
            raise _BrokenError(
                "the file on the server is shorter than the part of the earlier try"
            ) from error
        raise _bad_status(errand, error.code, error.reason) from error
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise _BrokenError(str(error.reason)) from error
        raise ResDepthError(
            f"{errand.url}: no safe connection can be made ({error.reason}). Check "
            f"this computer's clock and, behind a company proxy, name its certificates in SSL_CERT_FILE; or "
            f"{errand.by_hand}."
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error
    if response.status == HTTPStatus.OK or (headers and response.status == HTTPStatus.PARTIAL_CONTENT):
        return response
    response.close()
    raise _bad_status(errand, response.status, response.reason)


def _bad_status(errand: _Errand, code: int, reason: str) -> ResDepthError:
    advice = "Try again later" if code >= 500 else "The file may have moved: look for news of the authors"
    return ResDepthError(f"{errand.url}: the server answers {code} {reason}. {advice}, or {errand.by_hand}.")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a server elsewhere only where `download` would have gone itself, never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse with ResDepthError where urllib would follow."""
        problem = _address_problem(newurl)
        if problem is None and req.type == "https" and urlsplit(newurl).scheme != "https":
            problem = f"{newurl!r} is not fetched: it is not https."
        if problem is not None:
            fp.close()
            raise ResDepthError(f"{req.full_url}: the server sends elsewhere, and {problem}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener() -> urllib.request.OpenerDirector:
    """What opens addresses: http and https only, certificates checked, https through the system's proxy."""
    chosen = urllib.request.OpenerDirector()
    proxies = {kind: proxy for kind, proxy in urllib.request.getproxies().items() if kind == "https"}
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=tls_context()),
        _SafeRedirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        chosen.add_handler(handler)
    return chosen


def tls_context() -> ssl.SSLContext:
    """The rules of a safe connection: the server's certificate and its host name are checked."""
    return ssl.create_default_context()


def _described(url: str, response: HTTPResponse) -> _Origin:
    """What a 200 answer says about the file that follows."""
    return _Origin(url, _validator(response.headers), response.length, _checksum(response.headers))


def _validator(headers: HTTPMessage) -> str | None:
    """What tells this version of the file from others; a weak ETag promises no equal bytes."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _checksum(headers: HTTPMessage) -> str | None:
    """The strongest checksum of the whole file, "algorithm=base64" (RFC 9530, RFC 3230, RFC 1864)."""
    fields = [f"md5={value}" for value in headers.get_all("Content-MD5", [])]
    for header in ("Repr-Digest", "Digest"):
        fields += [field for value in headers.get_all(header, []) for field in value.split(",")]
    named = {
        key.strip().lower(): value.strip(" :") for key, _, value in (field.partition("=") for field in fields)
    }
    for key, algorithm in _CHECKSUMS.items():
        try:
            value = base64.b64decode(named.get(key, ""), validate=True)
        except binascii.Error:
            continue
        if len(value) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
            return f"{algorithm}={named[key]}"
    return None


def _total(response: HTTPResponse, known: _Origin, have: int) -> int | None:
    """The whole file's size if this 206 answer goes on after `have` bytes of the same version, else None."""
    found = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != have or known.size not in (None, int(found[2])):
        return None
    return int(found[2]) if _validator(response.headers) in (known.validator, None) else None


def _receive(errand: _Errand, response: HTTPResponse, origin: _Origin, start: int) -> None:
    """Write what arrives into the part, from byte `start` on."""
    folder = errand.part.parent
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(errand, origin.size or 0, start)
    if not start:
        # The old part goes first: a kill in between must not leave it under the new description.
        _discard(errand)
        errand.side.write_text(json.dumps(asdict(origin)), "utf-8")
    title = f"Fetching {errand.part.stem}"
    with (
        errand.part.open("r+b" if start else "wb") as file,
        progress_bar(title, origin.size, unit="B", done=start) as progress,
    ):
        file.seek(start)
        for chunk in _chunks(response):
            file.write(chunk)
            progress.advance(len(chunk))
            if file.tell() > MAX_BYTES:
                raise RefusedError(f"it has more than the {MAX_BYTES} bytes allowed")


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error


def _known_part(errand: _Errand) -> tuple[_Origin | None, int]:
    """What an earlier try left: the version that its bytes belong to, and their number; or (None, 0)."""
    try:
        origin = _Origin(**json.loads(errand.side.read_text("utf-8")))
        have = errand.part.stat().st_size
    except (OSError, ValueError, TypeError):
        return None, 0
    return (origin, have) if origin.url == errand.url else (None, 0)


def _discard(errand: _Errand) -> None:
    with _writing(errand):
        errand.part.unlink(missing_ok=True)
        errand.side.unlink(missing_ok=True)


def _check_room(errand: _Errand, size: int, have: int) -> None:
    """Raise if the archive (`size` bytes, `have` of them there) and its contents do not fit the disk."""
    if size > MAX_BYTES:
        raise RefusedError(f"it has {size} bytes, more than the {MAX_BYTES} allowed")
    needed, free = 2 * size - have, shutil.disk_usage(errand.part.parent).free
    if free < needed:
        raise ResDepthError(
            f"{errand.part.parent}: the disk has {free / 1e6:.0f} MB free, but {needed / 1e6:.0f} MB are "
            f"needed for {errand.part.stem} and its contents. Free some, or give another folder with --to."
        )


@contextmanager
def _writing(errand: _Errand) -> Iterator[None]:
    """Turn what the disk refuses into ResDepthError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ResDepthError(
                f"{errand.part.parent}: the disk is full ({error.strerror}). Free some space and run the "
                f"command again, it continues; or give a folder on another disk with --to."
            ) from error
        raise ResDepthError(
            f"{errand.target}: cannot be written ({error}). Give a folder that you may write with --to."
        ) from error


def _verify(part: Path, origin: _Origin) -> None:
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
