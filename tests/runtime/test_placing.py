"""Files that appear together: a kill or a failure at any moment leaves what the next process cleans."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resdepth.errors import ResDepthError
from resdepth.runtime.atomic import temporary_folder
from resdepth.runtime.placing import RECORD, placing

EXCHANGE = """
import os, signal, sys
from pathlib import Path
from resdepth.runtime.atomic import temporary_folder
from resdepth.runtime.placing import placing

def exchange(folder, text, names):
    with placing(folder) as place, temporary_folder(folder, "new") as made:
        for name in names:
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_text(text)
        place.exchange(made, ["gone.txt"], mark="mark.txt")
"""
KILLED = (
    EXCHANGE
    + """
def killed_before(event, folder):
    seen = []
    def hook(name, arguments):
        if str(folder) in str(arguments[:2]) or name == "shutil.rmtree":
            seen.append(name)
            if len(seen) == event:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

for event in range(1, 1000):
    folder = Path(sys.argv[1]) / str(event)
    exchange(folder, "before", ["mark.txt", "a.txt", "gone.txt"])
    (folder / "mine.txt").write_text("mine")
    child = os.fork()
    if not child:
        killed_before(event, folder)
        exchange(folder, "new", ["mark.txt", "a.txt", "inner/b.txt"])
        os._exit(0)
    was_killed = os.waitpid(child, 0)[1] != 0
    marked = (folder / "mark.txt").exists() and (folder / "mark.txt").read_text()
    assert not marked or (folder / "a.txt").read_text() == marked, (event, "the mark is of other files")
    exchange(folder, "again", ["mark.txt", "a.txt"])
    found = {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}
    expected = {"mark.txt": "again", "a.txt": "again", "mine.txt": "mine"}
    if was_killed:  # a process that ended well has left files of its own
        assert found == expected, (event, found)
    else:
        print(event - 1)
        break
"""
)


@pytest.mark.skipif(os.name != "posix", reason="processes are killed and forked")
def test_a_process_killed_at_any_moment_leaves_what_the_next_one_replaces(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20, "moments"


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], None]:
    def placed(text: str) -> None:
        with placing(tmp_path / "out") as place, temporary_folder(tmp_path / "out", "new") as made:
            for name in ("a.txt", "b.txt", "mark.txt"):
                (made / name).write_text(text)
            place.exchange(made, [], mark="mark.txt")

    return placed


def test_a_folder_at_work_refuses_a_second_process(tmp_path: Path, place: Callable[[str], None]) -> None:
    with placing(tmp_path / "out"), pytest.raises(ResDepthError, match="another process is at work"):
        place("second")
    assert list((tmp_path / "out").iterdir()) == []
    place("third")


def test_a_failed_exchange_removes_what_it_has_placed(
    tmp_path: Path, place: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "b.txt":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ResDepthError, match=r"out/b\.txt: cannot be written \(No space left on device\)"):
        place("x")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_files_called_like_those_of_a_killed_process_are_somebody_elses(
    tmp_path: Path, place: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    unlink = Path.unlink
    with monkeypatch.context() as patched:
        patched.setattr(
            Path, "unlink", lambda path, **how: None if path.name == RECORD else unlink(path, **how)
        )
        place("x")
    (out / "a.txt").unlink()
    (out / "a.txt").write_text("mine")
    with placing(out) as found:
        assert found.left == ("b.txt", "mark.txt")


def test_a_record_that_is_a_link_is_not_followed(tmp_path: Path, place: Callable[[str], None]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out" / RECORD).symlink_to(tmp_path / "mine.txt")
    with pytest.raises(ResDepthError, match="cannot be written"):
        place("x")
    assert (tmp_path / "mine.txt").read_text() == "mine"
