"""Odd surroundings: no stderr, legacy encodings, names that are not UTF-8, virtual paths and URLs."""

import io
import os
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
    dsm, truth = scene.folder / "initial.tif", scene.folder / "truth.tif"
    images = [scene.folder / f"ortho{number}.tif" for number in (1, 2)]
    assert evaluate(dsm, truth).refined["overall"].count > 0
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
        ["evaluate", "HERE", "--truth", "PATH", "-o", "out"],
        ["evaluate", "ours=PATH", "--truth", "HERE", "-o", "out"],
        ["evaluate", "HERE", "--truth", "HERE", "--mask", "water=PATH", "-o", "out"],
        ["evaluate", "HERE", "--truth", "HERE", "-o", "PATH"],
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
