"""What killed processes leave unfinished is removed; what others still write is not."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from resdepth.errors import ResDepthError
from resdepth.runtime.atomic import atomic_path, is_unfinished, temporary_folder, write_text
from resdepth.runtime.makers import MARK, maker_of, this_process

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
