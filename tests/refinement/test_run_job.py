"""Jobs that are stopped, cannot lock, cannot tidy up, or find files of others."""

import errno
import fcntl
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from conftest import MadeScene, make_model, read_raster
from resdepth import refine
from resdepth.errors import Interrupted, ResDepthError
from resdepth.models.model import Model
from resdepth.refinement import run_job
from resdepth.refinement.job import LOCK, Job
from resdepth.workflows import refine as refine_workflow


@pytest.fixture
def model() -> Model:
    return make_model()


def refined(scene: MadeScene, model: Model, *, n_images: int = 2, **options: Any) -> list[Path]:
    images = [scene.path(f"ortho{number}.tif") for number in range(1, n_images + 1)]
    given = {"output": scene.folder / "out.tif", **options}
    return refine(scene.path("initial.tif"), images, model, **given)


def with_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the last block of a job is refined."""
    refine_blocks = run_job.refined_blocks

    def stopped(work: Any, refiner: Any, windows: Any) -> Any:
        todo = list(windows)
        for number, block in enumerate(refine_blocks(work, refiner, todo), 1):
            if number == len(todo):
                os.kill(os.getpid(), signal.SIGINT)
            yield block

    monkeypatch.setattr(run_job, "refined_blocks", stopped)


def test_ctrl_c_in_the_last_block_stops_before_anything_else_is_done(
    scene: MadeScene, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"n_images": 3, "pairs": [(0, 1), (1, 2)], "fuse": None}
    with monkeypatch.context() as patch:
        with_ctrl_c(patch)
        with pytest.raises(Interrupted, match="1 of 1 blocks are finished; the same command resumes"):
            refined(scene, model, **options)
    assert not list(scene.folder.glob("out_*.tif"))
    assert all(path.exists() for path in refined(scene, model, **options))


def test_where_files_cannot_be_locked_work_continues_with_a_warning(
    scene: MadeScene, model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (path,) = refined(scene, model)
    assert path.exists()
    assert "files cannot be locked here" in caplog.text


def test_the_lock_is_let_go_before_its_file_is_removed(
    scene: MadeScene, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems keep an open file under another name, and with it the folder."""
    remove, seen = run_job._remove_folder, []

    def looked_at(job: Job) -> None:
        with (job.unfinished / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append([path.name for path in job.unfinished.iterdir()])
        remove(job)

    monkeypatch.setattr(run_job, "_remove_folder", looked_at)
    refined(scene, model)
    assert seen == [[LOCK]]
    assert not (scene.folder / "out.tif.unfinished").exists()


def test_a_folder_that_could_not_be_removed_keeps_nothing_from_being_replaced(
    scene: MadeScene, model: Model
) -> None:
    (path,) = refined(scene, model)
    before = path.stat().st_mtime_ns
    (scene.folder / "out.tif.unfinished").mkdir()
    refined(scene, model, existing="replace")
    assert path.stat().st_mtime_ns > before


def test_a_command_that_was_stopped_while_it_made_the_page_resumes(
    scene: MadeScene, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(refine_workflow, "_write_report", stopped)
        with pytest.raises(KeyboardInterrupt):
            refined(scene, model, report=True)
    before = (scene.folder / "out.tif").stat().st_mtime_ns
    (path,) = refined(scene, model, report=True)
    assert path.stat().st_mtime_ns == before
    assert (scene.folder / "out.html").exists()


def test_what_others_keep_beside_a_raster_goes_when_it_is_replaced(scene: MadeScene, model: Model) -> None:
    (path,) = refined(scene, model)
    path.with_name("out.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MEAN">1</MDI></Metadata>'
        "</PAMRasterBand></PAMDataset>"
    )
    refined(scene, model, existing="replace")
    with rasterio.open(path) as dataset:
        assert float(dataset.tags(1)["STATISTICS_MEAN"]) == pytest.approx(
            np.nanmean(read_raster(path)), abs=0.01
        )


def test_numbers_of_numpy_are_numbers(scene: MadeScene, model: Model) -> None:
    pairs = [(np.int64(0), np.int64(1))]
    (path,) = refined(scene, model, pairs=pairs, tile_size=np.int64(32))
    assert path.exists()


@pytest.mark.parametrize("region", [(1.0, 2.0, 3.0), "a"], ids=str)
def test_regions_of_other_lengths_are_stated(scene: MadeScene, model: Model, region: Any) -> None:
    with pytest.raises(ResDepthError, match=r"region: found .*; give xmin, ymin, xmax, ymax"):
        refined(scene, model, region=region)


def test_tiles_that_are_too_large_are_stated(scene: MadeScene, model: Model) -> None:
    with pytest.raises(ResDepthError, match="found 4096; must be a power of two from 16 to 2048"):
        refined(scene, model, tile_size=4096)


def test_a_name_as_long_as_file_systems_allow_will_do(
    scene: MadeScene, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    longest = 255 - len("_not_trusted_provenance.tif")
    with caplog.at_level(logging.INFO):
        (path,) = refined(scene, model, output=scene.folder / f"{'x' * longest}.tif")
    assert path.exists()
    with pytest.raises(ResDepthError, match="too long by 1 bytes"):
        refined(scene, model, output=scene.folder / f"{'x' * (longest + 1)}.tif")
    assert "putting the blocks together" in caplog.text
