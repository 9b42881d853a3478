"""One file from a server to the disk: tried again, and continued after a break."""

import base64
import binascii
import errno
import hashlib
import json
import logging
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Annotated, cast

from pydantic import Field

from resdepth.download.https import opener
from resdepth.download.untar import MAX_BYTES, RefusedError
from resdepth.errors import InputProblems, ResDepthError
from resdepth.runtime.atomic import write_json
from resdepth.runtime.jsonfiles import demand, read_json
from resdepth.runtime.placing import State, state_of
from resdepth.runtime.progress import progress_bar

_CHUNK = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Strongest first: one checksum is verified.
_CHECKSUMS = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}
logger = logging.getLogger(__name__)


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
class Errand:
    """What is fetched from where to where; `part` holds the bytes until they are unpacked to `target`."""

    url: str
    target: Path
    part: Path

    @property
    def side(self) -> Path:
        """What is known of the bytes in `part`."""
        return self.part.with_name(f"{self.part.name}.json")

    @property
    def by_hand(self) -> str:
        """What a person can do instead."""
        return f"fetch {self.url} with a browser and unpack it to {self.target}"


@dataclass(frozen=True)
class Origin:
    """The version of the file that the bytes in `part` belong to; kept in the side file.

    `validator` goes into If-Range; `checksum` is "algorithm=base64". None = the server did not say.
    `unpacked` is the folder with the contents, once it is complete.
    """

    url: str
    validator: Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")] | None
    size: Annotated[int, Field(ge=0)] | None
    checksum: Annotated[str, Field(pattern=r"^(sha512|sha256|sha1|md5)=[A-Za-z0-9+/=]+$")] | None
    unpacked: State | None = None


class _BrokenError(Exception):
    """The connection failed; another try may succeed."""


def fetch(errand: Errand, patience: Patience) -> Origin:
    """Bring `errand.part` to its full length; returns the version of the file that it holds.

    Raises:
        ResDepthError: the server is out of reach or refuses, the transfer broke off, or the disk is full.
        RefusedError: the file is larger than any archive may be.
    """
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


def _transfer(errand: Errand, timeout_seconds: float) -> Origin:
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
                discard(errand)
                raise _BrokenError("the file on the server is not the one of the earlier try")
        else:
            origin, start = _described(errand.url, response), 0
        with writing(errand):
            _receive(errand, response, origin, start)
            have = errand.part.stat().st_size
    if origin.size is not None and have != origin.size:
        raise _BrokenError("the server closed the connection")
    return origin


def _answer(errand: Errand, headers: dict[str, str], timeout_seconds: float) -> HTTPResponse:
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
            discard(errand)
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


def _bad_status(errand: Errand, code: int, reason: str) -> ResDepthError:
    advice = "Try again later" if code >= 500 else "The file may have moved: look for news of the authors"
    return ResDepthError(f"{errand.url}: the server answers {code} {reason}. {advice}, or {errand.by_hand}.")


def _described(url: str, response: HTTPResponse) -> Origin:
    """What a 200 answer says about the file that follows."""
    return Origin(url, _validator(response.headers), response.length, _checksum(response.headers))


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


def _total(response: HTTPResponse, known: Origin, have: int) -> int | None:
    """The whole file's size if this 206 answer goes on after `have` bytes of the same version, else None."""
    found = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != have or known.size not in (None, int(found[2])):
        return None
    return int(found[2]) if _validator(response.headers) in (known.validator, None) else None


def _receive(errand: Errand, response: HTTPResponse, origin: Origin, start: int) -> None:
    """Write what arrives into the part, from byte `start` on."""
    folder = errand.part.parent
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(errand, origin.size or 0, start)
    if not start:
        # The old part goes first: a kill in between must not leave it under the new description.
        discard(errand)
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


def _known_part(errand: Errand) -> tuple[Origin | None, int]:
    """What an earlier try left: the version that its bytes belong to, and their number; or (None, 0)."""
    try:
        origin = demand(Origin, read_json(errand.side), errand.side)
        have = errand.part.stat().st_size
    except (OSError, InputProblems):
        return None, 0
    return (origin, have) if origin.url == errand.url else (None, 0)


def remember_unpacked(errand: Errand, origin: Origin, contents: Path) -> None:
    """Keep which folder has the contents, before it gets the name of the target.

    Raises:
        ResDepthError: if that cannot be written.
    """
    write_json(errand.side, asdict(replace(origin, unpacked=state_of(contents))))


def was_unpacked(errand: Errand) -> bool:
    """Whether the target is the folder that the bytes were unpacked to, and nobody has changed it since."""
    try:
        origin = demand(Origin, read_json(errand.side), errand.side)
    except InputProblems:
        return False
    return origin.unpacked is not None and origin.unpacked == state_of(errand.target.resolve())


def discard(errand: Errand) -> None:
    """Remove what was fetched, and what is known of it."""
    with writing(errand):
        errand.part.unlink(missing_ok=True)
        errand.side.unlink(missing_ok=True)


def _check_room(errand: Errand, size: int, have: int) -> None:
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
def writing(errand: Errand) -> Iterator[None]:
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
