"""The authors' archives: fetched from servers of every temper, all of them on this computer."""

import base64
import errno
import gzip
import hashlib
import io
import logging
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from resdepth.download import ARCHIVES, _check_answer, download
from resdepth.errors import ResDepthError

CONTENTS = {"data/dsm.tif": b"heights" * 30_000, "models/a/model.json": b"{}", "configs/c.json": b"{}"}


def packed(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def packed_members(*members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


DEMO = packed({f"demo/{name}": content for name, content in CONTENTS.items()})


@dataclass
class Site:
    """What the server holds, how it behaves, and how often it was asked."""

    body: bytes = DEMO
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | str | None = None
    """The length announced: None for the true one, "" for none at all."""
    breaks_after: int | None = None
    resets: bool = False
    asked: int = 0
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked += 1
        status = site.status if self.path == "/demo.tar" else 404
        self.send_response(status)
        for name, value in site.headers.items():
            self.send_header(name, value)
        if site.length != "":
            length = len(site.body) if site.length is None else site.length
            self.send_header("Content-Length", str(length if status == 200 else 0))
        self.end_headers()
        if status == 200:
            self.wfile.write(site.body[: site.breaks_after])
        if site.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(site: Site, certificate: Path | None = None) -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"site": site}))
    server.handle_error = lambda *_: None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}/"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_PROXY".upper(), raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder / "demo"


def fetch(site: Site, target: Path) -> Path:
    return download("demo", target, base_url=site.url, timeout_seconds=5)


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def assert_whole(target: Path) -> None:
    assert files_below(target) == CONTENTS
    assert list(target.parent.iterdir()) == [target]


def assert_untouched(target: Path) -> None:
    """Nothing is left in the folder of the target, nor beside that folder."""
    assert list(target.parent.iterdir()) == []
    assert list(target.parent.parent.iterdir()) == [target.parent]


# Folders


def test_an_archive_is_unpacked_and_nothing_else_is_left(
    site: Site, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="resdepth.download"):
        assert fetch(site, target) == target
    assert_whole(target)
    assert hashlib.sha256(DEMO).hexdigest() in caplog.text


def test_the_default_folders_are_those_of_the_published_manual(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {name: folder.as_posix() for name, folder in ARCHIVES.items()} == {
        "demo": "demo",
        "models": "logs/pretrained_models",
        "ablations": "logs/pretrained_models_ablations",
    }
    monkeypatch.chdir(tmp_path)
    assert download("demo", base_url=site.url) == Path("demo")
    assert_whole(tmp_path / "demo")


def test_missing_parent_folders_are_made_for_a_whole_archive_alone(site: Site, target: Path) -> None:
    site.status = 500
    with pytest.raises(ResDepthError):
        fetch(site, target / "below" / "it")
    assert_untouched(target)
    site.status = 200
    assert_whole(fetch(site, target / "below" / "it"))


@pytest.mark.parametrize("top", ["", "./", "demo/", "./demo/", "other/"])
def test_a_single_top_folder_called_like_the_archive_or_the_target_is_left_out(
    top: str, site: Site, target: Path
) -> None:
    site.body = packed({top + name: content for name, content in CONTENTS.items()})
    fetch(site, target.with_name("other"))
    assert_whole(target.with_name("other"))


def test_a_single_top_folder_of_another_name_is_kept(site: Site, target: Path) -> None:
    site.body = packed({f"data/{name}": content for name, content in CONTENTS.items()})
    fetch(site, target)
    assert set(files_below(target)) == {f"data/{name}" for name in CONTENTS}


def test_an_empty_folder_may_be_there_already(site: Site, target: Path) -> None:
    target.mkdir()
    fetch(site, target)
    assert_whole(target)


def test_a_folder_with_files_is_never_overwritten(site: Site, target: Path) -> None:
    target.mkdir()
    (target / "mine").write_text("work")
    with pytest.raises(ResDepthError, match=r"demo: the folder to unpack to is not empty\. Remove it.*--to"):
        fetch(site, target)
    assert files_below(target.parent) == {"demo/mine": b"work"}
    assert not site.asked


def test_a_folder_filled_by_somebody_else_meanwhile_is_kept(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractall = tarfile.TarFile.extractall

    def somebody_is_faster(*args: object, **kwargs: object) -> None:
        extractall(*args, **kwargs)
        target.mkdir()
        (target / "mine").write_text("work")

    monkeypatch.setattr(tarfile.TarFile, "extractall", somebody_is_faster)
    with pytest.raises(ResDepthError, match=r"demo: cannot be written .*not empty"):
        fetch(site, target)
    assert files_below(target) == {"mine": b"work"}


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_place_of_the_folder_is_named(below: str, site: Site, target: Path) -> None:
    target.write_text("work")
    with pytest.raises(ResDepthError, match=r"demo: is a file.*--to"):
        fetch(site, target / below)
    assert not site.asked


def test_the_current_folder_is_not_replaced(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResDepthError, match="is the current folder"):
        fetch(site, Path())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ResDepthError, match=r"'dmeo' is not an archive .* demo, models, ablations"):
        download("dmeo")


# Transfers


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
def test_a_transfer_that_breaks_off_leaves_nothing_and_begins_anew(
    resets: bool, site: Site, target: Path
) -> None:
    site.breaks_after, site.resets = 100_000, resets
    with pytest.raises(
        ResDepthError, match=r"demo\.tar: cannot be fetched \(.*run the command again; or fetch"
    ):
        fetch(site, target)
    assert_untouched(target)
    site.breaks_after, site.resets = None, False
    fetch(site, target)
    assert_whole(target)


def test_ctrl_c_leaves_nothing(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "makefile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(site, target)
    assert_untouched(target)


@pytest.mark.parametrize("length", [100_000, "many"], ids=["too short", "no number"])
def test_a_wrong_length_gives_no_half_archive(length: int | str, site: Site, target: Path) -> None:
    site.length = length
    with pytest.raises(ResDepthError, match=r"damaged|cannot be fetched"):
        fetch(site, target)
    assert_untouched(target)


def test_a_server_that_gives_no_length_is_trusted_until_the_archive_ends(site: Site, target: Path) -> None:
    site.length, site.breaks_after = "", 100_000
    with pytest.raises(ResDepthError, match="damaged"):
        fetch(site, target)
    assert_untouched(target)
    site.breaks_after = None
    fetch(site, target)
    assert_whole(target)


def _base64(algorithm: str, content: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, content).digest()).decode()


CHECKSUMS = {
    "Content-MD5": lambda content: _base64("md5", content),
    "Digest": lambda content: f"UNIXsum=30637, SHA-256={_base64('sha256', content)}",
    "Repr-Digest": lambda content: f"sha-512=:{_base64('sha512', content)}:",
}


@pytest.mark.parametrize("header", CHECKSUMS)
def test_a_checksum_of_the_server_is_verified(header: str, site: Site, target: Path) -> None:
    site.headers = {header: CHECKSUMS[header](b"something else")}
    with pytest.raises(ResDepthError, match=r"damaged in transfer: its (md5|sha256|sha512) is .* promised"):
        fetch(site, target)
    assert_untouched(target)
    site.headers = {header: CHECKSUMS[header](DEMO)}
    fetch(site, target)
    assert_whole(target)


@pytest.mark.parametrize("value", ["nonsense", "sha-256=:AAAA:", "sha-256=:*:", "crc32c=AAAAAA=="])
def test_a_checksum_that_cannot_be_read_is_ignored(value: str, site: Site, target: Path) -> None:
    site.headers = {"Repr-Digest": value}
    fetch(site, target)
    assert_whole(target)


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "It may have moved"), (500, "Try again later"), (204, "with a browser")]
)
def test_an_answer_without_a_file_is_named(status: int, advice: str, site: Site, target: Path) -> None:
    site.status = status
    with pytest.raises(ResDepthError, match=rf"demo\.tar: the server answers {status} .*{advice}"):
        fetch(site, target)
    assert_untouched(target)


def test_an_unreachable_server_is_a_clear_error(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    why = rf"127.0.0.1:{port}/demo.tar: cannot be fetched \(.*refused\).* with a browser"
    with pytest.raises(ResDepthError, match=why):
        download("demo", target, base_url=f"http://127.0.0.1:{port}")
    assert_untouched(target)


def test_a_host_name_that_nobody_knows_is_a_clear_error(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_knows(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    with pytest.raises(ResDepthError, match=r"cannot be fetched \(.*Name or service not known"):
        download("demo", target, base_url="https://offline.invalid")
    assert_untouched(target)


def test_a_silent_server_is_given_up(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ResDepthError, match=r"cannot be fetched \(timed out\)"):
            download("demo", target, base_url=url, timeout_seconds=0.05)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_a_server_with_a_certificate_of_its_own_making_is_refused(tmp_path: Path, target: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", key, "-out", certificate)
    subprocess.run(["openssl", "req", "-x509", *curve, *subject, *files], check=True, capture_output=True)
    certificate.write_text(certificate.read_text() + key.read_text())
    with serving(Site(), certificate) as site:
        with pytest.raises(ResDepthError, match=r"cannot be fetched \(.*self.signed certificate.*clock"):
            fetch(site, target)
        assert not site.asked
    assert list(target.parent.iterdir()) == []


UNSAFE_ADDRESSES = (
    "http://example.org/", "http://127.0.0.1.example.org/", "ftp://127.0.0.1/", "file:///etc",
    "//127.0.0.1/", "https://", "https://user:secret@127.0.0.1/", "https://127.0.0.1:port/",
    "https://127.0.0.1/a b/", "https://127.0.0.1/ä/", "https://[::1/",
)  # fmt: skip


@pytest.mark.parametrize("url", UNSAFE_ADDRESSES)
def test_only_https_or_this_computer_is_asked(url: str, target: Path) -> None:
    with pytest.raises(ResDepthError, match="https://"):
        download("demo", target, base_url=url)
    assert_untouched(target)


def test_a_server_cannot_send_on_to_an_unsafe_address(site: Site, target: Path) -> None:
    site.status, site.headers = 302, {"Location": "http://example.org/demo.tar"}
    why = r"the server sends elsewhere, and 'http://example\.org/demo\.tar'"
    with pytest.raises(ResDepthError, match=why):
        fetch(site, target)
    assert_untouched(target)


def test_a_safe_server_cannot_send_on_to_plain_http() -> None:
    answer = requests.Response()
    answer.url, answer.status_code = "https://example.org/demo.tar", 302
    answer.headers["Location"] = "http://127.0.0.1/demo.tar"
    with pytest.raises(ResDepthError, match="it is not https"):
        _check_answer(answer)


def test_a_server_may_send_on_to_another_safe_one(site: Site, target: Path) -> None:
    first = Site(status=302, headers={"Location": f"{site.url}demo.tar"})
    with serving(first):
        fetch(first, target)
    assert_whole(target)


# Disks


@pytest.mark.parametrize("length", [None, ""], ids=["before the transfer", "before it is unpacked"])
def test_too_small_a_disk_is_noticed(
    length: str | None, site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.length = length
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(ResDepthError, match=r"0 MB free, but 0 MB are needed .* --to"):
        fetch(site, target)
    assert_untouched(target)


def test_a_disk_that_fills_in_mid_transfer_is_a_clear_error(site: Site, target: Path) -> None:
    resource = pytest.importorskip("resource")
    site.body = packed({"demo/data": bytes(3_000_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(ResDepthError, match=r"demo: cannot be written .*is there space left"):
            fetch(site, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_untouched(target)


def test_a_disk_that_fills_while_unpacking_is_a_clear_error(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "makefile", fill)
    with pytest.raises(ResDepthError, match=r"cannot be written \(No space left on device\)"):
        fetch(site, target)
    assert_untouched(target)


@pytest.mark.parametrize("length", [None, ""], ids=["announced", "not announced"])
def test_a_file_that_is_far_too_large_is_not_kept(
    length: str | None, site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.download.MAX_BYTES", 100_000)
    site.length = length
    with pytest.raises(ResDepthError, match="more than the 100000 bytes"):
        fetch(site, target)
    assert_untouched(target)


# Archives


def test_links_that_stay_inside_are_unpacked(site: Site, target: Path) -> None:
    site.body = packed_members(
        member("demo/data/a", size=5),
        member("demo/data/hard", tarfile.LNKTYPE, "demo/data/a"),
        member("demo/models/soft", tarfile.SYMTYPE, "../data/a"),
        member("demo/all", tarfile.SYMTYPE, "data"),
    )
    fetch(site, target)
    assert files_below(target) == {"data/a": bytes(5), "data/hard": bytes(5), "models/soft": bytes(5)}
    assert (target / "all/a").read_bytes() == bytes(5)


@pytest.mark.parametrize("filters", [True, False])
def test_unpacked_files_are_plain_files_of_the_user(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch, filters: bool
) -> None:
    if not filters:  # Python before 3.11.4
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    info = member("demo/data/a", size=5)
    info.mode, info.uid = 0o6777, 12345
    site.body = packed_members(info)
    fetch(site, target)
    assert (target / "data/a").stat().st_mode & 0o7777 == 0o755
    assert (target / "data/a").stat().st_uid == os.getuid()


GOOD = member("demo/good", size=3)


def _sparse_giant() -> bytes:
    """A file of 2 TB that takes no room in the archive, in the format of old GNU tar."""
    header = bytearray(member("demo/giant", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"\x80" + (2 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


SYMLINK, HARDLINK, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
BEGUN = packed_members(GOOD)[:1024]
"""An archive of one file, without its end."""
NAME, LINK, KIND = "no safe name", "which is no file or folder of the archive", "unknown kind"


def _beside_good(*members: tarfile.TarInfo) -> bytes:
    return packed_members(GOOD, *members)


UNSAFE: dict[str, tuple[str, bytes]] = {
    "absolute path": (NAME, _beside_good(member("/tmp/escaped"))),
    "parent folder inside": (NAME, _beside_good(member("demo/../../escaped"))),
    "drive letter": (NAME, _beside_good(member("C:/escaped"))),
    "backslash": (NAME, _beside_good(member("demo\\..\\escaped"))),
    "control character": (NAME, _beside_good(member("demo/\x1b[2J"))),
    "long name": (NAME, _beside_good(member("demo/" + "a/" * 600 + "b"))),
    "symlink to /etc": (LINK, _beside_good(member("demo/l", SYMLINK, "/etc"))),
    "symlink outside": (LINK, _beside_good(member("demo/l", SYMLINK, "../../escaped"))),
    "symlink through the top": (LINK, _beside_good(member("demo/l", SYMLINK, "../demo/good"))),
    "symlink to itself": (LINK, _beside_good(member("demo/l", SYMLINK, "l"))),
    "file behind a symlink": (
        "holds others",
        _beside_good(member("demo/l", SYMLINK, "sub"), member("demo/L/escaped")),
    ),
    "symlinks that climb together": (
        LINK,
        _beside_good(
            member("demo/a/b/c", SYMLINK, "../.."), member("demo/e", SYMLINK, "a/b/c/../../escaped")
        ),
    ),
    "hardlink outside": (LINK, _beside_good(member("demo/l", HARDLINK, "../escaped"))),
    "hardlink to a symlink": (
        LINK,
        _beside_good(member("demo/s", SYMLINK, "good"), member("demo/l", HARDLINK, "demo/s")),
    ),
    "hardlink to a later file": (
        LINK,
        packed_members(member("demo/l", HARDLINK, "demo/good"), GOOD),
    ),
    "pipe": (KIND, _beside_good(member("demo/p", tarfile.FIFOTYPE))),
    "unknown kind": (KIND, _beside_good(member("demo/u", b"Z"))),
    "file twice": ("there twice", _beside_good(GOOD)),
    "file twice, other letters": ("there twice", _beside_good(member("demo/./GOOD"))),
    "folder, then file": ("there twice", _beside_good(member("demo/x", FOLDER), member("demo/x"))),
    "file in a file": ("holds others", _beside_good(member("demo/good/escaped"))),
    "too many": ("more than 10 members", packed_members(*(member(f"demo/{number}") for number in range(20)))),
    "too large": ("unpack to more", BEGUN + member("demo/giant", size=1 << 45).tobuf(tarfile.GNU_FORMAT)),
    "sparse giant": ("unpack to more", BEGUN + _sparse_giant() + bytes(1024)),
    "negative size": (
        "unpack to more",
        BEGUN + member("demo/n", size=-512).tobuf(tarfile.GNU_FORMAT) + bytes(1024),
    ),
    "nothing": ("no file in it", packed_members()),
    "folders only": ("no file in it", packed_members(member("demo", FOLDER))),
    "no end": ("breaks off or is damaged at byte 1024", BEGUN),
    "damaged header": ("breaks off or is damaged at byte 1024", BEGUN + b"damage" * 1000),
    "cut in a file": ("unexpected end", _beside_good(member("demo/b", size=2000))[:2000]),
    "login page": (r"not a plain tar archive.* in a browser", b"<html>Please log in</html>" * 100),
    "compressed": ("not a plain tar archive", gzip.compress(packed_members(GOOD))),
    "empty": ("empty file", b""),
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_an_unsafe_archive_is_refused_whole(
    kind: str, site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.download.MAX_MEMBERS", 10)
    why, site.body = UNSAFE[kind]
    with pytest.raises(ResDepthError, match=rf"the archive is refused: .*{why}"):
        fetch(site, target)
    assert_untouched(target)
    assert not Path("/tmp/escaped").exists()
