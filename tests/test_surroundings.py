"""Odd surroundings: no stderr, legacy encodings, odd names, virtual paths. A host program keeps its own."""

import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from conftest import MadeScene, make_model, write_raster
from resdepth import evaluate, refine
from resdepth.cli import main
from resdepth.errors import ResDepthError
from resdepth.models.model import save_model
from resdepth.runtime.paths import why_foreign
from resdepth.runtime.progress import progress_bar
from resdepth.runtime.surroundings import logged_from, stoppable
from resdepth.workflows.check import check


class WriteOnly:
    """As QGIS and some services replace streams."""

    def write(self, text: str) -> None:
        """Take it."""


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, WriteOnly(), closed()])
def test_functions_work_without_a_sound_stderr(
    stream: Any, scene: MadeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(make_model(), tmp_path / "model.safetensors")
    monkeypatch.setattr("resdepth.runtime.progress.SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(sys, "stderr", stream)
    dsm, reference = scene.folder / "initial.tif", scene.folder / "reference.tif"
    images = [scene.folder / f"ortho{number}.tif" for number in (1, 2)]
    assert evaluate(dsm, reference).refined["overall"].count > 0
    assert refine(dsm, images, tmp_path / "model.safetensors", output=tmp_path / "refined.tif")


def test_progress_stays_away_from_stdout_without_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("resdepth.runtime.progress.SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar("work", 2) as progress:
        progress.advance()
    assert capsys.readouterr().out == ""


def run(*arguments: str | bytes, shell: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    command = [os.fsencode(one) for one in (sys.executable, "-m", "resdepth", *arguments)]
    environment = {**os.environ, **variables}
    if shell:
        command = [b"sh", b"-c", f'exec "$@" {shell}'.encode(), b"sh", *command]
    return subprocess.run(command, capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_help_is_printed_in_any_encoding(encoding: str) -> None:
    done = run("evaluate", "--help", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Nuth" in done.stdout


@pytest.mark.parametrize("shell", ["2>&-", ">&- 2>&-"])
def test_commands_work_with_closed_streams(tmp_path: Path, shell: str) -> None:
    path = write_raster(tmp_path / "dsm.tif", np.full((4, 4), 400, np.float32))
    done = run("info", str(path), shell=shell)
    assert done.returncode == 0
    assert (b"float32" in done.stdout) == (shell == "2>&-")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_refused_in_words(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dsm.tif", np.full((4, 4), 400, np.float32))
    named = os.fsencode(tmp_path) + b"/h\xf6he.tif"
    os.rename(path, named)  # noqa: PTH104 - of bytes
    done = run("info", named)
    assert done.returncode == 2
    assert named + b": its name holds bytes that are not UTF-8" in done.stderr
    assert b"convmv" in done.stderr
    with pytest.raises(ResDepthError, match="not UTF-8"):
        evaluate(Path(os.fsdecode(named)), Path(os.fsdecode(named)))
    with pytest.raises(ResDepthError, match="not UTF-8"):
        refine(Path(os.fsdecode(named)))


FOREIGN = [
    "/vsizip/z.zip/dsm.tif",
    "/vsicurl/https://example.org/dsm.tif",
    "https://example.org/dsm.tif",
    "s3://bucket/dsm.tif",
]


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize(
    "command",
    [
        ["info", "PATH"],
        ["refine", "PATH", "a.tif", "b.tif"],
        ["refine", "HERE", "PATH", "b.tif"],
        ["refine", "HERE", "a.tif", "b.tif", "-o", "PATH"],
        ["evaluate", "HERE", "--reference", "PATH", "-o", "out"],
        ["evaluate", "ours=PATH", "--reference", "HERE", "-o", "out"],
        ["evaluate", "HERE", "--reference", "HERE", "--mask", "water=PATH", "-o", "out"],
        ["evaluate", "HERE", "--reference", "HERE", "-o", "PATH"],
        ["simulate", "PATH", "-o", "out"],
        ["train", "PATH"],
        ["check", "PATH"],
        ["compare", "PATH", "-o", "out.html"],
        ["demo", "--to", "PATH"],
        ["convert-model", "PATH", "-o", "out.safetensors"],
    ],
)
def test_virtual_paths_and_urls_are_refused_in_words(
    command: list[str], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = write_raster(tmp_path / "dsm.tif", np.full((4, 4), 400, np.float32))
    done = CliRunner().invoke(main, [one.replace("PATH", path).replace("HERE", str(here)) for one in command])
    assert done.exit_code == 2
    assert "no such file" not in done.output
    assert why_foreign(path) in done.output.replace("https:/example", "https://example")
    assert [one.name for one in tmp_path.iterdir()] == ["dsm.tif"]


def test_urls_in_configurations_are_refused_in_words(scene: MadeScene) -> None:
    config = scene.train_config()
    config["datasets"][0]["raster_in"] = "https://example.org/dsm.tif"
    (problem,) = check(scene.write(config))
    assert "is a URL; download the file" in problem.message


# --- what belongs to the program around

HOST = """
import ctypes, logging, os, random, signal, sys, threading, warnings
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.env import get_gdal_config, set_gdal_config

import cv2  # it changes the environment
import resdepth

folder = Path(sys.argv[1])
libc = ctypes.CDLL(None)

# As no program has it by chance.
os.umask(0o027)
set_gdal_config("GDAL_CACHEMAX", 77 * 2**20)
warnings.filterwarnings("once", "of the program")
signal.signal(signal.SIGTERM, lambda number, frame: None)
logging.getLogger().setLevel(logging.ERROR)
torch.set_float32_matmul_precision("high")
torch.backends.cudnn.benchmark = True

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

def memory_goes_back():
    before = resident()
    block = np.ones(2**23)
    del block
    return resident() - before < 32

def loggers():
    names = ["", *(name for name in logging.root.manager.loggerDict if name.startswith("resdepth"))]
    stated = {one.name: (one.level, one.handlers[:], one.filters[:]) for one in map(logging.getLogger, names)}
    return {name: found for name, found in stated.items() if any(found)}

def surroundings():
    cudnn = torch.backends.cudnn
    return {
        "gdal": [get_gdal_config(name) for name in
                 ("GDAL_CACHEMAX", "GDAL_DISABLE_READDIR_ON_OPEN", "COG_TMP_COMPRESSION")],
        "environment": {name: value for name, value in os.environ.items() if not name.startswith("TORCHIND")},
        "umask": [line for line in Path("/proc/self/status").read_text().split("\\n") if "Umask" in line],
        "warnings": (list(warnings.filters), warnings.showwarning),
        "torch": (torch.get_float32_matmul_precision(), cudnn.enabled, cudnn.benchmark, cudnn.deterministic,
                  torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(),
                  torch.are_deterministic_algorithms_enabled(),
                  [one for one in torch.serialization.get_safe_globals() if "resdepth" in str(one)]),
        "random numbers": [hash(str(one)) for one in
                           (torch.get_rng_state().tolist(), random.getstate(), *np.random.get_state())],
        "signals": {number: signal.getsignal(number) for number in signal.Signals},
        "logging": loggers(),
        "streams": (sys.stdout, sys.stderr, os.getcwd()),
        "memory goes back to the system": memory_goes_back(),
    }

def unchanged(before, what, but=()):
    after = surroundings()
    changed = {name for name in before | after if before.get(name) != after.get(name)}.difference(but)
    assert not changed, (what, [(name, before.get(name), after.get(name)) for name in changed])

def refine(name):
    images = [folder / f"ortho{number}.tif" for number in (1, 2)]
    resdepth.refine(folder / "initial.tif", images, folder / "model.safetensors", output=folder / name)

def evaluate():
    resdepth.evaluate(folder / "initial.tif", folder / "reference.tif")

def train(name):
    resdepth.train(folder / name)

def side_by_side(*works):
    failed = []
    def run(work):
        try:
            work()
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
"""

ONE_AFTER_THE_OTHER = """
before, of_libraries = surroundings(), {"warnings"}  # which are imported meanwhile
refine("a.tif")
unchanged(before, "refine", of_libraries)
evaluate()
unchanged(before, "evaluate", of_libraries)
train("a.json")
unchanged(before, "train", of_libraries)
assert oct((folder / "a.tif").stat().st_mode & 0o777) == "0o640"
"""

SIDE_BY_SIDE = """
refine("first.tif"), evaluate(), train("a.json")  # all libraries are imported
before = surroundings()
side_by_side(lambda: refine("a.tif"), lambda: train("a.json"), evaluate, lambda: refine("b.tif"),
             lambda: train("b.json"))
unchanged(before, "side by side")
assert (folder / "a.tif").read_bytes() == (folder / "b.tif").read_bytes()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("script", [ONE_AFTER_THE_OTHER, SIDE_BY_SIDE], ids=["in turn", "side by side"])
def test_the_program_around_stays_as_it_was(script: str, scene: MadeScene) -> None:
    save_model(make_model(), scene.folder / "model.safetensors")
    for name in ("a", "b"):
        directory = {"output_directory": str(scene.folder / name), "tboard_log_dir": str(scene.folder / name)}
        scene.write(scene.train_config(output=directory), f"{name}.json")
    done = subprocess.run(
        [sys.executable, "-c", HOST + script, str(scene.folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_the_command_does_for_itself_a_program_can_ask_for(scene: MadeScene) -> None:
    script = (
        HOST
        + """
resdepth.tune_process()
assert not memory_goes_back()
assert get_gdal_config("GDAL_CACHEMAX") == 2**27
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(scene.folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_levels_of_loggers_are_as_before_whoever_ends_first() -> None:
    package = logging.getLogger("resdepth.of_this_test")
    first, second = (logged_from(logging.INFO, [package.name]) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert package.level == logging.INFO, "the second one still needs it"
    second.__exit__(None, None, None)
    assert package.level == logging.NOTSET


def test_a_signal_that_python_does_not_handle_stays_with_who_does(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        signal, "getsignal", lambda number: None if number == signal.SIGTERM else before
    )  # as in programs that embed Python
    taken: list[int] = []
    replace = signal.signal
    monkeypatch.setattr(signal, "signal", lambda number, to: taken.append(number) or replace(number, to))
    with stoppable():
        pass
    assert set(taken) == {signal.SIGINT}
