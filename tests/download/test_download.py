"""The authors' archives: fetched from servers of every temper, all of them on this computer."""

import base64
import errno
import gzip
import hashlib
import io
import json
import logging
import shutil
import socket
import ssl
import struct
import subprocess
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from resdepth.download import https, transfer
from resdepth.download.download import ARCHIVES, download
from resdepth.download.transfer import Patience
from resdepth.errors import ResDepthError

QUICK = Patience(tries=3, pause_seconds=0.01, timeout_seconds=5)
ONCE = Patience(tries=1, pause_seconds=0, timeout_seconds=5)
DATE = "Tue, 01 Mar 2022 10:00:00 GMT"
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
    """What the server holds, how it behaves, and what it was asked."""

    body: bytes = DEMO
    etag: str | None = '"one"'
    modified: str | None = DATE
    breaks: list[int] = field(default_factory=list)
    """After how many bytes each of the next answers breaks off."""
    resets: bool = False
    ranges: bool = True
    heeds_if_range: bool = True
    status: int = 200
    length: int | str | None = None
    """The length announced: None for the true one, "" for none at all."""
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def asked_ranges(self) -> list[str | None]:
        return [request.get("Range") for request in self.asked]


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked.append(dict(self.headers))
        if self.path != "/demo.tar" or site.status != 200:
            self.send_response(404 if site.status == 200 else site.status)
            for name, value in site.headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        start = self._start()
        if start is not None and start >= len(site.body):
            self.send_response(416)
            self.end_headers()
            return
        self._answer(start)

    def _start(self) -> int | None:
        asked = self.headers.get("Range")
        if asked is None or not self.site.ranges:
            return None
        condition = self.headers.get("If-Range")
        if self.site.heeds_if_range and condition not in (self.site.etag, self.site.modified):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _answer(self, start: int | None) -> None:
        site, body = self.site, self.site.body[start or 0 :]
        self.send_response(200 if start is None else 206)
        if site.length != "":
            self.send_header("Content-Length", str(len(body) if site.length is None else site.length))
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(site.body) - 1}/{len(site.body)}")
        for name, value in {"ETag": site.etag, "Last-Modified": site.modified, **site.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if not site.breaks:
            self.wfile.write(body)
            return
        self.wfile.write(body[: site.breaks.pop(0)])
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


def fetch(site: Site, target: Path, patience: Patience = QUICK) -> Path:
    return download("demo", target, base_url=site.url, patience=patience)


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


def test_an_archive_is_unpacked_and_nothing_else_is_left(site: Site, target: Path) -> None:
    assert fetch(site, target) == target
    assert_whole(target)


@pytest.mark.parametrize("removed", [[], ["demo.tar.part"]])
def test_a_download_killed_after_its_folder_appeared_is_complete(
    site: Site, target: Path, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def kill(errand: object) -> None:
        for name in removed:
            (target.parent / name).unlink()
        raise KilledError

    monkeypatch.setattr("resdepth.download.download.discard", kill)
    with pytest.raises(KilledError):
        fetch(site, target)
    assert len(list(target.parent.iterdir())) == 3 - len(removed)
    monkeypatch.undo()
    assert fetch(site, target) == target
    assert_whole(target)
    assert len(site.asked) == 1


def test_a_folder_that_somebody_has_changed_since_is_not_taken_for_the_unpacked_one(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.download.download.discard", lambda errand: None)
    fetch(site, target)
    (target / "mine.txt").write_text("mine")
    with pytest.raises(ResDepthError, match="not empty"):
        fetch(site, target)
    assert (target / "mine.txt").read_text() == "mine"


def test_the_default_folders_are_those_of_the_published_manual() -> None:
    folders = {name: (archive.file, archive.folder.as_posix()) for name, archive in ARCHIVES.items()}
    assert folders == {
        "demo": ("demo.tar", "demo"),
        "models": ("pretrained_models.tar", "logs/pretrained_models"),
        "ablations": ("pretrained_models_ablations.tar", "logs/pretrained_models_ablations"),
    }


def test_without_a_folder_it_goes_below_the_current_one(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert download("demo", base_url=site.url) == Path("demo")
    assert_whole(tmp_path / "demo")


def test_missing_parent_folders_are_made(site: Site, target: Path) -> None:
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
    assert site.asked == []


def test_a_file_in_the_place_of_the_folder_is_named(site: Site, target: Path) -> None:
    target.write_text("work")
    with pytest.raises(ResDepthError, match="is a file"):
        fetch(site, target)


def test_the_current_folder_is_not_replaced(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResDepthError, match="is the current folder"):
        fetch(site, Path())


def test_a_parent_that_is_a_file_is_a_clear_error(site: Site, target: Path) -> None:
    target.write_text("work")
    with pytest.raises(ResDepthError, match=r"cannot be written.*--to"):
        fetch(site, target / "below")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ResDepthError, match=r"'dmeo' is not an archive .* demo, models, ablations"):
        download("dmeo")


def test_the_sha256_of_the_archive_is_logged(
    site: Site, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="resdepth.download.download"):
        fetch(site, target)
    assert hashlib.sha256(DEMO).hexdigest() in caplog.text


def test_links_that_stay_inside_are_unpacked(site: Site, target: Path) -> None:
    site.body = packed_members(
        member("demo/data/a", size=5),
        member("demo/data/hard", tarfile.LNKTYPE, "demo/data/a"),
        member("demo/models/soft", tarfile.SYMTYPE, "../data/a"),
    )
    fetch(site, target)
    assert files_below(target) == {"data/a": bytes(5), "data/hard": bytes(5), "models/soft": bytes(5)}


def test_unpacked_files_are_plain_files_of_the_user(site: Site, target: Path) -> None:
    info = member("demo/data/a", size=5)
    info.mode, info.uid = 0o6777, 12345
    site.body = packed_members(info)
    fetch(site, target)
    assert (target / "data/a").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
def test_a_broken_transfer_is_continued_within_one_call(resets: bool, site: Site, target: Path) -> None:
    site.breaks, site.resets = [100_000, 50_000], resets
    fetch(site, target)
    assert_whole(target)
    assert site.asked_ranges[0] is None
    assert None not in site.asked_ranges[1:]


def test_the_next_call_continues_where_the_last_one_broke_off(site: Site, target: Path) -> None:
    site.breaks = [100_000]
    with pytest.raises(ResDepthError, match=rf"at 100000 of {len(DEMO)} bytes .* again: it continues there"):
        fetch(site, target, ONCE)
    assert sorted(path.name for path in target.parent.iterdir()) == ["demo.tar.part", "demo.tar.part.json"]
    fetch(site, target, ONCE)
    assert_whole(target)
    assert site.asked_ranges == [None, "bytes=100000-"]
    assert site.asked[1]["If-Range"] == '"one"'


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_etag_the_date_tells_the_version(etag: str | None, site: Site, target: Path) -> None:
    site.etag, site.breaks = etag, [100_000]
    fetch(site, target)
    assert_whole(target)
    assert site.asked[1]["If-Range"] == DATE


def test_a_server_without_versions_is_asked_for_the_whole_file_again(site: Site, target: Path) -> None:
    site.etag, site.modified, site.breaks = None, None, [100_000]
    with pytest.raises(ResDepthError, match="starts anew, as this server cannot continue"):
        fetch(site, target, ONCE)
    fetch(site, target, ONCE)
    assert_whole(target)
    assert site.asked_ranges == [None, None]


def test_a_server_that_ignores_ranges_sends_the_whole_file(site: Site, target: Path) -> None:
    site.breaks, site.ranges = [100_000], False
    fetch(site, target)
    assert_whole(target)
    assert site.asked_ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_anew(
    heeds_if_range: bool, site: Site, target: Path
) -> None:
    site.body, site.breaks = bytes(len(DEMO)), [100_000]
    with pytest.raises(ResDepthError):
        fetch(site, target, ONCE)
    site.body, site.etag, site.heeds_if_range = DEMO, '"two"', heeds_if_range
    fetch(site, target)
    assert_whole(target)


def test_a_file_that_became_shorter_is_fetched_anew(site: Site, target: Path) -> None:
    site.body, site.breaks = bytes(2 * len(DEMO)), [len(DEMO) + 1]
    with pytest.raises(ResDepthError):
        fetch(site, target, ONCE)
    site.body, site.heeds_if_range = DEMO, False
    fetch(site, target)
    assert_whole(target)
    assert site.asked_ranges == [None, f"bytes={len(DEMO) + 1}-", None]


@pytest.mark.parametrize("text", ["", "[]", '{"url": 3}', json.dumps({"url": "https://elsewhere/demo.tar"})])
def test_a_part_of_unknown_origin_is_not_continued(text: str, site: Site, target: Path) -> None:
    target.with_name("demo.tar.part").write_bytes(bytes(1000))
    target.with_name("demo.tar.part.json").write_text(text)
    fetch(site, target)
    assert_whole(target)
    assert site.asked_ranges == [None]


def test_a_length_that_is_never_reached_is_an_error_that_says_how_to_go_on(site: Site, target: Path) -> None:
    site.length, site.ranges = len(DEMO) + 10, False
    with pytest.raises(ResDepthError, match=r"broke off at .* Run the command again"):
        fetch(site, target)
    assert not target.exists()
    assert len(site.asked) == QUICK.tries


def test_a_length_that_is_too_short_gives_no_half_archive(site: Site, target: Path) -> None:
    site.length = 100_000
    with pytest.raises(ResDepthError, match="damaged"):
        fetch(site, target)
    assert_untouched(target)


def test_a_server_that_tells_no_length_is_trusted_until_the_archive_ends(site: Site, target: Path) -> None:
    site.length = ""
    fetch(site, target)
    assert_whole(target)


def test_a_break_without_a_known_length_is_noticed_in_the_archive(site: Site, target: Path) -> None:
    site.length, site.breaks = "", [100_000]
    with pytest.raises(ResDepthError, match="damaged"):
        fetch(site, target)
    assert_untouched(target)


def _base64(algorithm: str, content: bytes = DEMO) -> str:
    return base64.b64encode(hashlib.new(algorithm, content).digest()).decode()


CHECKSUMS = {
    "Content-MD5": lambda content: _base64("md5", content),
    "Digest": lambda content: f"UNIXsum=30637, SHA-256={_base64('sha256', content)}",
    "Repr-Digest": lambda content: f"sha-512=:{_base64('sha512', content)}:",
}


@pytest.mark.parametrize("header", CHECKSUMS)
def test_a_checksum_of_the_server_is_verified(header: str, site: Site, target: Path) -> None:
    site.headers = {header: CHECKSUMS[header](DEMO)}
    site.breaks = [100_000]
    fetch(site, target)
    assert_whole(target)


@pytest.mark.parametrize("header", CHECKSUMS)
def test_an_archive_with_another_checksum_is_removed(header: str, site: Site, target: Path) -> None:
    site.headers = {header: CHECKSUMS[header](b"something else")}
    with pytest.raises(ResDepthError, match=r"arrived damaged: its (md5|sha256|sha512) is .* promised"):
        fetch(site, target)
    assert_untouched(target)


@pytest.mark.parametrize("value", ["nonsense", "sha-256=:AAAA:", "sha-256=:*:", "crc32c=AAAAAA=="])
def test_a_checksum_that_cannot_be_read_is_ignored(value: str, site: Site, target: Path) -> None:
    site.headers = {"Repr-Digest": value}
    fetch(site, target)
    assert_whole(target)


def test_a_missing_file_names_the_address_and_the_way_by_hand(site: Site, target: Path) -> None:
    site.url += "elsewhere/"
    with pytest.raises(ResDepthError, match=r"elsewhere/demo\.tar: the server answers 404 .* with a browser"):
        fetch(site, target)
    assert_untouched(target)


def test_a_failing_server_is_named(site: Site, target: Path) -> None:
    site.status = 500
    with pytest.raises(ResDepthError, match=r"answers 500 .* Try again later, or fetch http.* unpack it to"):
        fetch(site, target)
    assert_untouched(target)


def test_an_answer_without_a_file_is_an_error(site: Site, target: Path) -> None:
    site.status = 204
    with pytest.raises(ResDepthError, match="answers 204"):
        fetch(site, target)
    assert_untouched(target)


def test_a_login_page_in_the_place_of_the_archive_is_refused(site: Site, target: Path) -> None:
    site.body = b"<html>Please log in</html>" * 100
    with pytest.raises(ResDepthError, match=r"not a plain tar archive.* in a browser"):
        fetch(site, target)
    assert_untouched(target)


def test_an_unreachable_server_is_a_clear_error(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(
        ResDepthError, match=rf"127.0.0.1:{port}/demo.tar: cannot be reached .* with a browser"
    ):
        download("demo", target, base_url=f"http://127.0.0.1:{port}", patience=QUICK)
    assert_untouched(target)


def test_a_host_name_that_nobody_knows_is_a_clear_error(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_knows(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    with pytest.raises(ResDepthError, match=r"cannot be reached \(.*Name or service not known"):
        download("demo", target, base_url="https://offline.invalid", patience=QUICK)
    assert_untouched(target)


def test_a_silent_server_is_given_up(target: Path) -> None:
    patience = Patience(tries=2, pause_seconds=0, timeout_seconds=0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ResDepthError, match=r"cannot be reached \(timed out\)"):
            download("demo", target, base_url=url, patience=patience)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_a_server_with_a_certificate_of_its_own_making_is_refused(tmp_path: Path, target: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    certificate.write_text(certificate.read_text() + key.read_text())
    with serving(Site(), certificate) as site:
        with pytest.raises(ResDepthError, match=r"no safe connection .*self.signed certificate.*clock"):
            fetch(site, target)
        assert site.asked == []
    assert list(target.parent.iterdir()) == []


def test_certificates_and_host_names_are_checked() -> None:
    context = https.tls_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "http://127.0.0.1.example.org/",
        "ftp://127.0.0.1/",
        "file:///etc",
        "//127.0.0.1/",
        "https://",
        "https://user:secret@127.0.0.1/",
        "https://127.0.0.1:port/",
        "https://127.0.0.1/a b/",
        "https://127.0.0.1/ä/",
        "https://[::1/",
    ],
)
def test_only_https_or_this_computer_is_asked(url: str, target: Path) -> None:
    with pytest.raises(ResDepthError, match="https://"):
        download("demo", target, base_url=url)
    assert_untouched(target)


def test_a_server_cannot_send_on_to_an_unsafe_address(site: Site, target: Path) -> None:
    site.status, site.headers = 302, {"Location": "http://example.org/demo.tar"}
    with pytest.raises(
        ResDepthError, match=r"the server sends elsewhere, and 'http://example\.org/demo\.tar'"
    ):
        fetch(site, target)
    assert_untouched(target)


def test_a_safe_server_cannot_send_on_to_plain_http() -> None:
    redirects = next(
        handler
        for handler in https.opener().handlers
        if isinstance(handler, urllib.request.HTTPRedirectHandler)
    )
    request = urllib.request.Request("https://example.org/demo.tar")
    with pytest.raises(ResDepthError, match="it is not https"):
        redirects.redirect_request(
            request, io.BytesIO(), 302, "", request.headers, "http://127.0.0.1/demo.tar"
        )


def test_a_server_may_send_on_to_another_safe_one(site: Site, target: Path) -> None:
    first = Site(status=302, headers={"Location": f"{site.url}demo.tar"})
    with serving(first):
        fetch(first, target)
    assert_whole(target)


def test_too_small_a_disk_is_noticed_before_the_transfer(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        with pytest.raises(ResDepthError, match=r"the disk is full .* Free some space"):
            fetch(site, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not target.exists()
    fetch(site, target)
    assert files_below(target) == {"data": bytes(3_000_000)}


def test_a_disk_that_fills_while_unpacking_costs_no_second_transfer(site: Site, target: Path) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", fill)
        with pytest.raises(ResDepthError, match=r"the disk is full \(No space left on device\)"):
            fetch(site, target)
    assert sorted(path.name for path in target.parent.iterdir()) == ["demo.tar.part", "demo.tar.part.json"]
    fetch(site, target)
    assert_whole(target)
    assert len(site.asked) == 1


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


GOOD = member("demo/good", size=3)


def _sparse_giant() -> bytes:
    """A file of 2 TB that takes no room in the archive, in the format of old GNU tar."""
    header = bytearray(member("demo/giant", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"\x80" + (2 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _sparse_without_numbers() -> bytes:
    fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    header = tarfile.TarInfo._create_pax_generic_header(fields, tarfile.XHDTYPE, "utf-8")
    return header + member("demo/s", size=512).tobuf() + b"many\n".ljust(512, b"x")


SYMLINK, HARDLINK, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
BEGUN = packed_members(GOOD)[:1024]
"""An archive of one file, without its end."""

UNSAFE: dict[str, tuple[str, bytes]] = {
    "absolute path": ("is an absolute path", packed_members(GOOD, member("/tmp/escaped"))),
    "parent folder": ("climbs out", packed_members(GOOD, member("../escaped"))),
    "parent folder inside": ("climbs out", packed_members(GOOD, member("demo/../../escaped"))),
    "drive letter": ("has a drive letter", packed_members(GOOD, member("C:/escaped"))),
    "drive letter, no slash": ("has a drive letter", packed_members(GOOD, member("C:escaped"))),
    "backslash": ("has a backslash", packed_members(GOOD, member("demo\\..\\escaped"))),
    "control character": ("has a control character", packed_members(GOOD, member("demo/\x1b[2J"))),
    "no name": ("has no name", packed_members(GOOD, member("."))),
    "long name": ("longer than 1024", packed_members(GOOD, member("demo/" + "a/" * 600 + "b"))),
    "symlink to /etc": ("an absolute path", packed_members(GOOD, member("demo/l", SYMLINK, "/etc"))),
    "symlink outside": ("leads outside", packed_members(GOOD, member("demo/l", SYMLINK, "../../escaped"))),
    "symlink through the top": (
        "leads outside",
        packed_members(GOOD, member("demo/l", SYMLINK, "../demo/x")),
    ),
    "symlink with drive letter": ("a drive letter", packed_members(GOOD, member("demo/l", SYMLINK, "C:/x"))),
    "symlink to itself": ("another link", packed_members(GOOD, member("demo/l", SYMLINK, "l"))),
    "file behind a symlink": (
        "not a folder",
        packed_members(GOOD, member("demo/l", SYMLINK, "sub"), member("demo/L/escaped")),
    ),
    "symlinks that climb together": (
        "passes another link",
        packed_members(
            GOOD, member("demo/a/b/c", SYMLINK, "../.."), member("demo/e", SYMLINK, "a/b/c/../../escaped")
        ),
    ),
    "hardlink outside": ("no file before it", packed_members(GOOD, member("demo/l", HARDLINK, "../escaped"))),
    "hardlink to /etc": ("absolute path", packed_members(GOOD, member("demo/l", HARDLINK, "/etc/passwd"))),
    "hardlink to a symlink": (
        "no file before it",
        packed_members(GOOD, member("demo/s", SYMLINK, "good"), member("demo/l", HARDLINK, "demo/s")),
    ),
    "hardlink to nothing": ("no file before it", packed_members(GOOD, member("demo/l", HARDLINK, "demo/x"))),
    "hardlink to a later file": (
        "no file before it",
        packed_members(member("demo/l", HARDLINK, "demo/good"), GOOD),
    ),
    "character device": ("a device", packed_members(GOOD, member("demo/d", tarfile.CHRTYPE))),
    "block device": ("a device", packed_members(GOOD, member("demo/d", tarfile.BLKTYPE))),
    "pipe": ("a pipe", packed_members(GOOD, member("demo/p", tarfile.FIFOTYPE))),
    "unknown kind": ("unknown kind", packed_members(GOOD, member("demo/u", b"Z"))),
    "file twice": ("there twice", packed_members(GOOD, GOOD)),
    "file twice, other letters": ("there twice", packed_members(GOOD, member("demo/./GOOD"))),
    "folder, then file": ("there twice", packed_members(GOOD, member("demo/x", FOLDER), member("demo/x"))),
    "file, then folder": ("there twice", packed_members(GOOD, member("demo/x"), member("demo/x", FOLDER))),
    "file in a file": ("not a folder", packed_members(GOOD, member("demo/good/escaped"))),
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
    "cut in a file": ("unexpected end", packed_members(GOOD, member("demo/b", size=2000))[:2000]),
    "no number": ("not a plain tar archive", BEGUN + _sparse_without_numbers() + bytes(1024)),
    "compressed": ("not a plain tar archive", gzip.compress(packed_members(GOOD))),
    "empty": ("empty file", b""),
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_an_unsafe_archive_is_refused_before_a_byte_of_it_is_written(
    kind: str, site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.download.untar.MAX_MEMBERS", 10)
    why, site.body = UNSAFE[kind]
    with pytest.raises(ResDepthError, match=rf"the archive is refused: .*{why}.*\. Nothing was unpacked"):
        fetch(site, target)
    assert_untouched(target)
    assert not Path("/tmp/escaped").exists()


def test_all_unsafe_members_are_counted_and_the_first_ones_named(site: Site, target: Path) -> None:
    site.body = packed_members(GOOD, *(member(f"../escaped{number}") for number in range(7)))
    with pytest.raises(ResDepthError, match=r"'\.\./escaped4' climbs out of its folder .* and 2 more"):
        fetch(site, target)


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_that_is_far_too_large_is_not_kept(
    announced: bool, site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 100_000)
    if not announced:
        site.length = ""
    with pytest.raises(ResDepthError, match="more than the 100000"):
        fetch(site, target)
    assert_untouched(target)


def test_a_python_without_safe_unpacking_is_stated_so(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(ResDepthError, match=r"cannot unpack archives safely\. Update it to 3\.11\.4"):
        fetch(site, target)
    assert site.asked == []
