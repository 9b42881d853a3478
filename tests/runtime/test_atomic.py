"""Files appear whole, and seals show whether they stay so; what killed processes leave is removed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_raster
from resdepth.errors import ResDepthError
from resdepth.runtime.atomic import (
    MARK,
    atomic_path,
    is_intact,
    is_unfinished,
    maker_of,
    named,
    seal,
    temporary_folder,
    this_process,
    write_text,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere nobody can tell whether a process runs")

KILLED = """
import os, signal, sys
from pathlib import Path
from resdepth.runtime.atomic import atomic_path, temporary_folder
within = Path(sys.argv[1])
with atomic_path(within / "heights.tif") as temporary, temporary_folder(within, "parts") as folder:
    temporary.write_text("half")
    temporary.with_name(temporary.name + ".aux.xml").write_text("of GDAL")
    (folder / "part").write_text("half")
    print("ready", flush=True)
    signal.pause()
"""


def writer_in(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_a_killed_process_left_goes_with_the_next_file_written_beside_it(tmp_path: Path) -> None:
    process = writer_in(tmp_path)
    assert len([path for path in tmp_path.iterdir() if is_unfinished(path)]) == 3
    write_text(tmp_path / "while it runs.txt", "x")
    assert len(list(tmp_path.iterdir())) == 4
    process.send_signal(signal.SIGKILL)
    process.communicate()
    write_text(tmp_path / "after it.txt", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after it.txt", "while it runs.txt"]


def test_a_process_that_is_dead_but_not_yet_fetched_by_its_parent_is_gone(tmp_path: Path) -> None:
    process = writer_in(tmp_path)
    process.send_signal(signal.SIGKILL)
    for _ in range(100):
        write_text(tmp_path / "x.txt", "x")
        if len(list(tmp_path.iterdir())) == 1:
            break
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    process.communicate()


def test_only_processes_that_are_known_to_have_ended_are_gone() -> None:
    mine = this_process()
    assert not mine.is_gone()
    assert replace(mine, started=mine.started + 1).is_gone() is (mine.started > 0)
    assert replace(mine, boot="0" * 6).is_gone()
    for elsewhere in (replace(mine, machine="0" * 6), replace(mine, pid=2**22 + 1, space="0" * 6)):
        assert not elsewhere.is_gone()
    assert replace(mine, pid=2**22 + 1).is_gone()


def test_names_tell_their_maker_and_other_hidden_names_none(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x.tif") as temporary:
        assert maker_of(temporary.name) == this_process()
        temporary.write_text("x")
    for name in (".x.tif.abcdefgh.tif", f".x{MARK}notes.txt", f"x{MARK}abcdef-abcdef-abcdef-1-1-x.tif", "x"):
        assert maker_of(name) is None


def test_a_link_that_is_called_like_a_leftover_is_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    gone = replace(this_process(), pid=2**22 + 1)
    (tmp_path / f".x{MARK}{gone}-abcdefgh").symlink_to(kept)
    write_text(tmp_path / "x", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "x"]
    assert (kept / "mine.txt").read_text() == "mine"


def test_a_failed_file_takes_along_what_gdal_put_beside_it(tmp_path: Path) -> None:
    def fails() -> None:
        with atomic_path(tmp_path / "[x].tif") as temporary:
            temporary.write_text("x")
            temporary.with_name(temporary.name + ".ovr.tmp").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_a_file_or_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResDepthError, match=r"gone/x\.txt: cannot be written \(No such file"):
        write_text(tmp_path / "gone" / "x.txt", "x")
    with (
        pytest.raises(ResDepthError, match=r"gone: cannot be written"),
        temporary_folder(tmp_path / "gone", "x"),
    ):
        pass


def test_files_and_folders_get_the_permissions_of_any_other_without_a_touch_of_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            # To ask for the umask is to change it, also for files that other threads make meanwhile.
            patched.setattr(os, "umask", lambda _mask: pytest.fail("it is one for all threads"))
            write_text(tmp_path / "x.txt", "x")
            with atomic_path(tmp_path / "private.txt") as temporary:
                temporary.touch(0o600)  # as some libraries do
            with temporary_folder(tmp_path, "parts") as made:
                assert named(made, tmp_path / "parts")
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert modes == {"x.txt": "0o640", "private.txt": "0o640", "parts": "0o750"}


@pytest.fixture
def block(tmp_path: Path) -> Path:
    path = write_raster(tmp_path / "block.tif", np.arange(256, dtype=np.float32).reshape(16, 16))
    seal(path, path.name)
    return path


def test_a_sealed_raster_is_intact_and_readable(block: Path) -> None:
    assert is_intact(block)
    with rasterio.open(block) as dataset:
        assert dataset.read(1)[15, 15] == 255


def test_files_that_were_swapped_or_are_missing_are_seen(block: Path) -> None:
    moved = block.rename(block.with_name("other.tif"))
    assert not is_intact(moved)
    assert not is_intact(block)


def test_files_without_a_seal_are_not_intact(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    (tmp_path / "long").write_bytes(bytes(100))
    assert not is_intact(tmp_path / "short")
    assert not is_intact(tmp_path / "long")


@given(st.data())
def test_any_damaged_byte_and_any_cut_is_seen(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("seal") / "file"
    path.write_bytes(data.draw(st.binary(min_size=1, max_size=50)))
    seal(path, path.name)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:place])
    assert not is_intact(path)
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert not is_intact(path)
