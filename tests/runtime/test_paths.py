"""Paths as people write them: they lead from the file that names them, or else from the working directory."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from resdepth.errors import InputProblems, ResDepthError
from resdepth.geo.raster import FileBand
from resdepth.geo.vectors import open_vector_file
from resdepth.models.published import load_model
from resdepth.runtime.paths import MAX_TEXT_BYTES, is_there, read_text, resolve_path, why_no_file
from resdepth.simulate.sources.prepared import made_from
from resdepth.simulate.sources.raw_surface import SourceOptions
from resdepth.workflows.check import plan_training


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file in a folder beside the working directory."""
    for folder in ("named", "working"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "working")
    return tmp_path / "named" / "config.json"


def test_a_path_leads_from_the_file_that_names_it(config: Path) -> None:
    for folder in (config.parent, Path.cwd()):
        (folder / "dsm.tif").touch()
    assert resolve_path("dsm.tif", config) == config.parent / "dsm.tif"


def test_a_path_leads_from_the_working_directory_if_nothing_is_there(config: Path) -> None:
    (Path.cwd() / "dsm.tif").touch()
    assert resolve_path("dsm.tif", config) == Path.cwd() / "dsm.tif"
    assert resolve_path("new", config) == Path.cwd() / "new"


def test_a_path_leads_from_a_file_that_is_named_relative_to_the_working_directory(config: Path) -> None:
    (config.parent / "dsm.tif").touch()
    found = resolve_path("dsm.tif", Path("../named/config.json"))
    assert found.is_absolute()
    assert found.samefile(config.parent / "dsm.tif")


def test_an_absolute_path_is_kept_and_the_home_is_known(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(config.parent))
    assert resolve_path("/data/dsm.tif", config) == Path("/data/dsm.tif")
    assert resolve_path("~/dsm.tif", config) == config.parent / "dsm.tif"


@pytest.mark.parametrize("text", ["x" * 300, "~nobody-of-that-name/x", "a/\0/b", "loop/x"])
def test_a_path_that_cannot_be_is_a_path_to_nothing(config: Path, text: str) -> None:
    (config.parent / "loop").symlink_to("loop")
    path = resolve_path(text, config)
    assert not is_there(path)
    assert "no such file" in str(why_no_file(path))


def test_a_folder_is_no_file(config: Path) -> None:
    config.touch()
    assert why_no_file(config) is None
    assert why_no_file(config.parent) == "is a folder; name a file"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_texts_are_read_with_and_without_byte_order_mark(config: Path, mark: bytes) -> None:
    config.write_bytes(mark + "Zürich".encode())
    assert read_text(config) == "Zürich"


@pytest.mark.parametrize(
    ("content", "stated"),
    [
        ("Zürich".encode("latin-1"), "not a text in UTF-8"),
        (bytes(MAX_TEXT_BYTES + 1), "16 MiB"),
        (None, "no such file"),
    ],
)
def test_what_is_no_text_is_stated(config: Path, content: bytes | None, stated: str) -> None:
    if content is not None:
        config.write_bytes(content)
    with pytest.raises(InputProblems, match=stated) as raised:
        read_text(config)
    assert str(raised.value).startswith(f"{config}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_stated(config: Path) -> None:
    config.touch(mode=0)
    with pytest.raises(InputProblems, match="Permission denied"):
        read_text(config)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_sockets_and_devices_are_refused_at_once(config: Path) -> None:
    os.mkfifo(config)
    assert "named pipe" in str(why_no_file(config))
    assert "a device" in str(why_no_file(Path(os.devnull)))
    with pytest.raises(InputProblems, match="named pipe"):
        read_text(config)
    with socket.socket(socket.AF_UNIX) as listening:
        path = Path(tempfile.mkdtemp()) / "s"  # the names of sockets are short
        listening.bind(str(path))
        with pytest.raises(InputProblems, match="a socket"):
            read_text(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("use", ["check", "raster", "reference", "polygons", "model"])
def test_no_command_waits_for_a_named_pipe(tmp_path: Path, use: str) -> None:
    pipe = tmp_path / ("pipe.json" if use in ("check", "reference") else "pipe.gpkg")
    os.mkfifo(pipe)
    readers: dict[str, Callable[[], object]] = {
        "check": lambda: plan_training(pipe),
        "raster": lambda: FileBand(pipe),
        "reference": lambda: made_from(pipe, SourceOptions()),
        "polygons": lambda: open_vector_file(pipe),
        "model": lambda: load_model(pipe),
    }
    with pytest.raises(ResDepthError, match="named pipe"):
        readers[use]()
