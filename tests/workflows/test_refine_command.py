"""`resdepth refine`: from rasters to a refined raster, block by block."""

import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner, Result

from conftest import GSD, ORIGIN, MadeScene, make_model, read_raster, write_raster, write_virtual
from resdepth import evaluate, refine, save_model
from resdepth.cli import main
from resdepth.errors import Interrupted, ResDepthError
from resdepth.models.model import new_network
from resdepth.refinement import provenance as moved_heights
from resdepth.refinement import run_job
from resdepth.refinement.engine import choose_precision
from resdepth.refinement.job import Job
from resdepth.refinement.provenance import NotTrusted
from resdepth.workflows.refine import _refiner


@pytest.fixture
def model(scene: MadeScene) -> Path:
    path = scene.folder / "model.safetensors"
    save_model(make_model(), path)
    return path


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resdepth.refinement.blocks.LARGEST_SIDE_PX", 64)


def paths(scene: MadeScene, count: int = 2) -> list[str]:
    return [scene.path(f"ortho{number}.tif") for number in range(1, count + 1)]


def command(scene: MadeScene, model: Path, *options: Any, images: int = 2) -> Result:
    arguments = ["refine", scene.path("initial.tif"), *paths(scene, images), "--model", model, *options]
    return CliRunner().invoke(main, [str(one) for one in arguments])


def output(scene: MadeScene) -> Path:
    return scene.folder / "initial_refined.tif"


def test_three_paths_give_a_refined_dsm_and_where_its_heights_come_from(
    scene: MadeScene, model: Path
) -> None:
    done = command(scene, model)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [str(output(scene))]
    expected = refine(scene.path("initial.tif"), paths(scene), model)
    np.testing.assert_array_equal(read_raster(output(scene)), expected)
    assert np.abs(expected - scene.initial).max() > 0.1
    assert (read_raster(scene.folder / "initial_refined_provenance.tif") == 1).all()
    assert not list(scene.folder.glob("*.unfinished"))


def test_the_output_is_a_cloud_optimised_geotiff_that_tells_about_itself(
    scene: MadeScene, model: Path
) -> None:
    command(scene, model)
    with rasterio.open(output(scene)) as found, rasterio.open(scene.path("initial.tif")) as dsm:
        assert (found.crs, found.transform, found.nodata) == (dsm.crs, dsm.transform, -9999)
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (found.descriptions, found.units) == (("height",), ("metre",))
        assert found.compression.value == "ZSTD"
        tags, statistics = found.tags(), found.tags(1)
        values = found.read(1)
    assert tags["RESDEPTH_MODEL"] == "model.safetensors"
    assert tags["RESDEPTH_IMAGES"] == "ortho1.tif, ortho2.tif"
    assert float(statistics["STATISTICS_MEAN"]) == pytest.approx(values.mean(dtype=float), abs=1e-3)
    assert float(statistics["STATISTICS_MAXIMUM"]) == pytest.approx(values.max(), abs=1e-3)


def test_a_larger_output_has_overviews(tmp_path: Path, scene: MadeScene) -> None:
    model = make_model("geom", 0)
    rng = np.random.default_rng(0)
    dsm = write_raster(tmp_path / "dsm.tif", rng.normal(300, 3, (600, 700)).astype(np.float32))
    (path,) = refine(dsm, [], model, output=tmp_path / "x.tif", compression="deflate")
    with rasterio.open(path) as found:
        assert found.overviews(1) == [2]
        assert found.compression.value == "DEFLATE"
        assert found.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"


@pytest.mark.parametrize("compress", ["deflate", "lzw", "none"])
def test_compression_does_not_change_heights(scene: MadeScene, model: Path, compress: str) -> None:
    other = scene.folder / "other.tif"
    assert command(scene, model, "-o", other, "--compress", compress).exit_code == 0
    command(scene, model)
    np.testing.assert_array_equal(read_raster(other), read_raster(output(scene)))


def test_exact_mode_gives_the_published_result(scene: MadeScene, model: Path) -> None:
    command(scene, model, "--mode", "exact", "--precision", "fp32")
    expected = refine(scene.initial, scene.images[:2], make_model(), mode="exact", precision="fp32")
    np.testing.assert_allclose(read_raster(output(scene)), expected, atol=1e-4)


def test_a_region_is_what_the_whole_is_there(scene: MadeScene, model: Path) -> None:
    command(scene, model)
    whole = read_raster(output(scene))
    west, north = ORIGIN[0] + 33 * GSD, ORIGIN[1] - 17 * GSD
    bounds = (west, north - 30 * GSD, west + 90 * GSD, north)
    part = scene.folder / "part.tif"
    done = command(scene, model, "-o", part, "--region", *bounds)
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(read_raster(part), whole[17:47, 33:123], atol=1e-4)
    with rasterio.open(part) as file:
        assert file.bounds == pytest.approx(bounds)


def with_hole(scene: MadeScene) -> np.ndarray:
    hole = np.zeros(scene.initial.shape, bool)
    hole[20:30, 40:60] = True
    write_raster(
        Path(scene.path("initial.tif")),
        np.where(hole, -32768, scene.initial).astype(np.float32),
        nodata=-32768,
    )
    return hole


def test_voids_stay_voids_unless_they_are_to_be_filled(scene: MadeScene, model: Path) -> None:
    hole = with_hole(scene)
    assert command(scene, model).exit_code == 0
    np.testing.assert_array_equal(read_raster(output(scene)) == -9999, hole)
    filled = scene.folder / "filled.tif"
    assert command(scene, model, "-o", filled, "--fill").exit_code == 0
    assert (read_raster(filled) > 0).all()
    np.testing.assert_array_equal(read_raster(scene.folder / "filled_provenance.tif") == 2, hole)


def test_several_pairs_become_one_with_their_spread(scene: MadeScene, model: Path) -> None:
    done = command(scene, model, "--pairs", scene.path("pairs.txt"), images=3)
    assert done.exit_code == 0, done.output
    each = [
        refine(scene.path("initial.tif"), paths(scene, 3), model, pairs=[pair]) for pair in ((0, 1), (1, 2))
    ]
    with rasterio.open(output(scene)) as found:
        assert found.descriptions == ("height", "spread")
        heights, spread = found.read()
    np.testing.assert_allclose(heights, np.mean(each, axis=0), atol=1e-4)  # the median of two
    assert (spread >= 0).all()
    assert spread.max() > 0.01


def test_without_fusion_each_pair_has_its_file(scene: MadeScene, model: Path) -> None:
    done = command(scene, model, "--pairs", scene.path("pairs.txt"), "--fuse", "none", images=3)
    names = [f"initial_refined_Stereopair_{pair}.tif" for pair in ("0_1", "1_2")]
    assert [Path(line).name for line in done.stdout.splitlines()] == names
    expected = refine(scene.path("initial.tif"), paths(scene, 3), model, pairs=[(1, 2)])
    np.testing.assert_array_equal(read_raster(scene.folder / names[1]), expected)


def test_page_and_terminal_show_what_has_changed_and_where_heights_come_from(
    scene: MadeScene, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hole = with_hole(scene)
    done = command(scene, model, "--report", "--fill")
    assert done.exit_code == 0, done.output
    page = (scene.folder / "initial_refined.html").read_text(encoding="utf-8")
    for text in ("Refined DSM minus initial DSM", "refined from a filled height", "Ortho-image ortho2.tif"):
        assert text in page, text
    assert f"<td>{10 * 20:,}</td>" in page
    top = re.search(r'<div class="verdict.*?</div>', page, re.DOTALL)
    assert top is not None
    change = np.abs(read_raster(output(scene)) - scene.initial)[~hole].mean()
    assert f"heights change by {change:.2f}\u00a0m on average" in top[0]
    stated = f"{output(scene)}: heights change by {change:.2f} m on average, up or down; "
    assert stated in caplog.text
    assert "sigma" not in top[0] + caplog.text
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


# --- outputs that are there, and work that was stopped


def test_an_output_is_never_replaced_silently(scene: MadeScene, model: Path) -> None:
    command(scene, model)
    before = output(scene).read_bytes()
    other = command(scene, model, "--fill")
    assert other.exit_code == 2
    assert "made from other inputs or with other options" in other.stderr
    assert output(scene).read_bytes() == before
    assert command(scene, model, "--mode", "exact", "--overwrite").exit_code == 0
    assert output(scene).read_bytes() != before


def test_the_same_command_again_writes_nothing_once_its_output_is_complete(
    scene: MadeScene, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def state() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (*scene.folder.iterdir(), scene.folder)}

    command(scene, model, "--report")
    before = state()
    for option in ("--report", "--skip-existing", "--resume"):
        again = command(scene, model, option)
        assert (again.exit_code, again.stdout) == (0, f"{output(scene)}\n")
        assert f"{output(scene)} is complete already" in caplog.text
        assert state() == before
    assert command(scene, model, "--report", "--overwrite").exit_code == 0
    assert min(state()[name] - before[name] for name in ("initial_refined.tif", "initial_refined.html")) > 0


# --- heights that are moved further than can be right


@pytest.fixture
def wild(scene: MadeScene, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that lifts all heights by 20 m; few heights are as good as many."""
    monkeypatch.setattr(moved_heights, "LEAST_HEIGHTS", 1)
    made = make_model()
    weights = {**made.weights, "last_layer.bias": made.weights["last_layer.bias"] + 8}
    path = scene.folder / "wild.safetensors"
    save_model(replace(made, weights=weights), path)
    return path


FIGURES = "100.0 % of the heights are moved by more than 3 m (at most 35 %)"


def test_an_output_that_cannot_be_right_is_set_aside(scene: MadeScene, wild: Path) -> None:
    aside = scene.folder / "initial_refined_not_trusted.tif"
    for _ in range(2):  # the second time nothing is computed
        refused = command(scene, wild, "--report")
        assert refused.exit_code == 2
        for part in (f"{aside}: not trusted: {FIGURES}", "--force", "docs/train.md"):
            assert part in refused.stderr
        assert not output(scene).exists()
    assert FIGURES in aside.with_suffix(".html").read_text(encoding="utf-8")
    stated = CliRunner().invoke(main, ["info", str(aside), "--json"])
    facts = json.loads(stated.stdout)[str(aside)]
    assert facts["moved"]["percent"]["12.5 m (5 height sigmas)"] == 100.0
    assert FIGURES in facts["tags"]["RESDEPTH_WARNING_1"]
    assert command(scene, wild, "--fill").exit_code == 2, "that of another job is not replaced"


@pytest.mark.parametrize("before", [(), ("--report",)], ids=["at once", "afterwards"])
def test_forced_it_has_its_name_and_carries_the_warning(
    scene: MadeScene, wild: Path, before: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    if before:
        command(scene, wild, *before)
    done = command(scene, wild, "--force", "--report")
    assert (done.exit_code, done.stdout) == (0, f"{output(scene)}\n")
    assert caplog.text.count("putting the blocks together") == 1, "nothing is computed twice"
    assert not list(scene.folder.glob("*not_trusted*"))
    assert FIGURES in caplog.text
    page = output(scene).with_suffix(".html").read_text(encoding="utf-8")
    assert FIGURES in page
    assert "not_trusted" not in page
    with rasterio.open(output(scene)) as dataset:
        assert FIGURES in dataset.tags()["RESDEPTH_WARNING_1"]
    assert command(scene, wild).exit_code == 2, "not without being forced"


def test_few_heights_have_their_name_and_carry_the_warning(
    scene: MadeScene, wild: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(moved_heights, "LEAST_HEIGHTS", scene.initial.size + 1)
    assert command(scene, wild).exit_code == 0
    assert FIGURES in caplog.text
    with rasterio.open(output(scene)) as dataset:
        assert FIGURES in dataset.tags()["RESDEPTH_WARNING_1"]
    assert refine(scene.initial, scene.images[:2], wild).shape == scene.initial.shape


def test_arrays_that_cannot_be_right_are_not_returned(scene: MadeScene, wild: Path) -> None:
    with pytest.raises(NotTrusted, match="moved by more than 10 m"):
        refine(scene.initial, scene.images[:2], wild)
    lifted = refine(scene.initial, scene.images[:2], wild, force=True) - scene.initial
    assert np.median(lifted) > 10


def test_a_resumed_job_counts_all_of_its_blocks(
    scene: MadeScene, wild: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hole = with_hole(scene)
    interrupted(scene, wild, monkeypatch, 1)
    command(scene, wild)
    with rasterio.open(scene.folder / "initial_refined_not_trusted.tif") as dataset:
        stated = json.loads(dataset.tags()["RESDEPTH_MOVED"])
        change = np.abs(dataset.read(1) - scene.initial)[~hole].sum(dtype=float)
    assert stated.pop("total_mm") == pytest.approx(1000 * change, rel=1e-5)
    assert stated == {"sigma_m": 2.5, "heights": (~hole).sum(), "beyond": [(~hole).sum()] * 3}


def interrupted(
    scene: MadeScene,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    existing: run_job.Existing = "refuse",
) -> None:
    """Stop a job as kill -9 does: nothing is tidied up."""
    write, written = run_job.write_finished, []

    def limited(job: Job, done: Any) -> None:
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(done)
        write(job, done)

    with monkeypatch.context() as patch:
        patch.setattr(run_job, "write_finished", limited)
        with pytest.raises(KeyboardInterrupt):
            refine(scene.path("initial.tif"), paths(scene), model, output=output(scene), existing=existing)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_stopped_job_resumes_and_ends_the_same(
    scene: MadeScene,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    after: int,
) -> None:
    command(scene, model)
    undisturbed = output(scene).read_bytes()
    provenance = (scene.folder / "initial_refined_provenance.tif").read_bytes()
    output(scene).unlink()
    interrupted(scene, model, monkeypatch, after)
    assert not output(scene).exists()
    assert len(list(scene.folder.glob("*.unfinished/height_*.tif"))) == after
    done_again: list[Any] = []
    refine_blocks = run_job.refined_blocks

    def counted(work: Any, refiner: Any, windows: list[Any]) -> Any:
        done_again.extend(windows)
        return refine_blocks(work, refiner, windows)

    monkeypatch.setattr(run_job, "refined_blocks", counted)
    done = command(scene, model)
    assert done.exit_code == 0, done.output
    assert output(scene).read_bytes() == undisturbed
    assert (scene.folder / "initial_refined_provenance.tif").read_bytes() == provenance
    assert len(done_again) == 3 - after
    assert ("resuming" in caplog.text) == (after > 0)


def test_unfinished_work_of_another_job_is_not_taken_for_ones_own(
    scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(scene, model, monkeypatch, 1)
    refused = command(scene, model, "--fill")
    assert refused.exit_code == 2
    assert "holds blocks of another job" in refused.stderr
    write_raster(Path(scene.path("ortho1.tif")), scene.images[0] + 1)  # an input that has changed
    assert "holds blocks of another job" in command(scene, model).stderr
    assert command(scene, model, "--overwrite").exit_code == 0


def test_a_job_killed_while_it_tidied_up_is_complete(
    scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run_job, "_remove_folder", lambda _job: None)
        command(scene, model)
    assert list(scene.folder.glob("*.unfinished"))
    before = output(scene).read_bytes()
    assert command(scene, model).exit_code == 0
    assert output(scene).read_bytes() == before
    assert not list(scene.folder.glob("*.unfinished"))


def test_killed_at_any_moment_the_same_command_ends_byte_identical(scene: MadeScene, model: Path) -> None:
    script = (
        "import sys, resdepth.refinement.blocks as blocks; blocks.LARGEST_SIDE_PX = 64\n"
        "from resdepth.cli import main; main(sys.argv[1:])"
    )
    arguments = ["refine", scene.path("initial.tif"), *paths(scene), "--model", str(model)]
    run = [sys.executable, "-c", script, *arguments]
    command(scene, model)
    provenance = scene.folder / "initial_refined_provenance.tif"
    undisturbed = output(scene).read_bytes(), provenance.read_bytes()
    output(scene).unlink()
    provenance.unlink()
    unfinished = scene.folder / "initial_refined.tif.unfinished"
    for sign in ("height_*_0_*.tif", "whole_*provenance.tif"):  # amid the blocks, amid putting them together
        process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not list(unfinished.glob(sign)) and not provenance.exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    assert command(scene, model).exit_code == 0
    assert (output(scene).read_bytes(), provenance.read_bytes()) == undisturbed
    assert not unfinished.exists()


def test_a_command_that_writes_several_files_resumes_after_the_first(
    scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--pairs", scene.path("pairs.txt"), "--fuse", "none")
    first, second = (scene.folder / f"initial_refined_Stereopair_{pair}.tif" for pair in ("0_1", "1_2"))
    write, written = run_job.write_finished, []

    def limited(job: Job, done: Any) -> None:
        if len(written) == 4:  # of 3 blocks each
            raise KeyboardInterrupt
        written.append(done)
        write(job, done)

    with monkeypatch.context() as patch:
        patch.setattr(run_job, "write_finished", limited)
        assert command(scene, model, *options, images=3).exit_code == 130
    assert first.exists()
    assert not second.exists()
    before = first.stat().st_mtime_ns
    assert command(scene, model, *options, images=3).exit_code == 0
    assert first.stat().st_mtime_ns == before
    assert second.exists()
    assert command(scene, model, *options, images=3).exit_code == 0
    assert first.stat().st_mtime_ns == before


def test_files_beside_the_output_are_not_replaced_silently_either(scene: MadeScene, model: Path) -> None:
    others = ("initial_refined.tif.aux.xml", "initial_refined_provenance.tif.ovr", "initial_refined.tif.msk")
    for name in ("initial_refined_provenance.tif", "initial_refined.html", *others):
        foreign = scene.folder / name
        foreign.write_text("mine")
        refused = command(scene, model, "--report")
        assert refused.exit_code == 2
        assert f"{name}: exists already" in refused.stderr
        assert foreign.read_text() == "mine"
        foreign.unlink()
    assert command(scene, model, "--report").exit_code == 0


def test_two_processes_do_not_work_on_one_output(scene: MadeScene, model: Path) -> None:
    unfinished = scene.folder / "initial_refined.tif.unfinished"
    unfinished.mkdir()
    with (unfinished / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = command(scene, model)
        assert refused.exit_code == 2
        assert "another process is at work on it" in refused.stderr
        assert command(scene, model, "--overwrite").exit_code == 2
    assert command(scene, model).exit_code == 0


def test_overwriting_leaves_the_unfinished_blocks_of_another_job_alone_until_it_begins(
    scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(scene, model, "--fill")
    interrupted(scene, model, monkeypatch, 1, existing="replace")
    assert command(scene, model, "--fill", "--skip-existing").exit_code == 0  # its output stands
    assert len(list(scene.folder.glob("*.unfinished/height_*.tif"))) == 1
    assert command(scene, model, "--overwrite").exit_code == 0


def test_images_of_one_name_are_refused(scene: MadeScene, model: Path) -> None:
    (scene.folder / "other").mkdir()
    same = write_raster(scene.folder / "other" / "ortho1.tif", scene.images[0])
    arguments = ["refine", scene.path("initial.tif"), *paths(scene, 2), str(same), "--model", str(model)]
    done = CliRunner().invoke(main, [*arguments, "--pairs", scene.path("pairs.txt")])
    assert done.exit_code == 2
    assert "ortho1.tif occurs twice" in done.stderr


def test_ctrl_c_states_how_to_resume(scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refine_blocks = run_job.refined_blocks

    def with_ctrl_c(*given: Any) -> Any:
        for number, block in enumerate(refine_blocks(*given)):
            if number == 0:
                os.kill(os.getpid(), signal.SIGINT)
            yield block

    monkeypatch.setattr(run_job, "refined_blocks", with_ctrl_c)
    with pytest.raises(Interrupted, match=r"stopped by Ctrl-C: 1 of 3 blocks are finished; the same command"):
        refine(scene.path("initial.tif"), paths(scene), model, output=output(scene))


@pytest.mark.parametrize("step", ["job.write_block", "run_job.write_cog"])
@pytest.mark.parametrize("limit", [100, 8000, 20000])
def test_a_full_disk_is_stated_and_leaves_no_half_file(
    scene: MadeScene, model: Path, step: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for the disk that fills."""
    module, name = step.split(".")
    written = getattr(import_module(f"resdepth.refinement.{module}"), name)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(*arguments: Any, **options: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        return written(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(f"resdepth.refinement.{step}", limited)
        try:
            done = command(scene, model)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.exit_code == 2, done.output
    assert "cannot be written" in done.stderr
    assert not output(scene).exists()
    assert command(scene, model).exit_code == 0


def test_an_unreadable_block_is_named(scene: MadeScene, model: Path) -> None:
    path = Path(scene.path("ortho2.tif"))
    write_raster(path, scene.images[1], compress="deflate")
    content = bytearray(path.read_bytes())
    content[300:1500] = bytes(1200)
    path.write_bytes(bytes(content))
    done = command(scene, model)
    assert done.exit_code == 2, done.output
    assert "ortho2.tif" in done.stderr
    assert not output(scene).exists()


# --- misuse


@pytest.mark.parametrize(
    ("options", "images", "stated"),
    [
        ((), 3, "images: found 3; this model takes 2; name the sets to use with --pairs"),
        ((), 1, "images: found 1; this model takes 2"),
        (("--region", 0, 0, 1, 1), 2, "no pixel of the raster lies in it, which covers 465000"),
        (("-o", "x.png"), 2, "should end in .tif"),
        (("-o", "initial.tif", "--overwrite"), 2, "initial.tif: is an input"),
        (("-o", "./ortho2.tif", "--overwrite"), 2, "ortho2.tif: is an input"),
        (("-o", "absent/x.tif"), 2, "there is no folder absent"),
        (("--pairs", "absent.txt"), 2, "absent.txt"),
        (("--skip-existing", "--overwrite"), 2, "not both"),
        (("--resume", "--overwrite"), 2, "not both"),
        (("--tile-size", "20"), 2, "must be a power of two"),
        (("--tile-size", "4194304"), 2, "must be a power of two"),
        (("--region", "-inf", "-inf", "inf", "inf"), 2, "no pixel of the raster lies in it"),
        (("--mode", "exact", "--tile-size", "128"), 2, "smaller than a tile"),
    ],
    ids=str,
)
def test_misuse_is_stated_and_nothing_is_written(
    scene: MadeScene, model: Path, options: tuple[Any, ...], images: int, stated: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(scene.folder)
    before = sorted(scene.folder.iterdir())
    done = command(scene, model, *options, images=images)
    assert done.exit_code == 2
    assert stated in " ".join(done.stderr.replace("│", "").split())
    assert sorted(scene.folder.iterdir()) == before


def test_a_network_that_is_too_deep_for_seamless_blocks_is_warned_of(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model("geom", 0)
    settings = {**model.architecture.settings, "depth": 8}
    weights = new_network("UNet", settings).state_dict()
    deep = replace(model, architecture=replace(model.architecture, settings=settings), weights=weights)
    refine(scene.initial, [], deep, tile_size=1024)
    assert "computes each pixel 49 times" in caplog.text


def test_heights_that_must_be_voids_are_warned_of(scene: MadeScene, caplog: pytest.LogCaptureFixture) -> None:
    dsm = scene.initial.copy()
    dsm[3, 4] = -9999
    refine(dsm, scene.images[:2], make_model(), force=True)
    assert "0.0098 % are -9999; all others are from" in caplog.text


def test_degrees_are_refused(scene: MadeScene) -> None:
    paths = [
        write_raster(
            scene.folder / f"degrees{index}.tif", values, crs="EPSG:4326", gsd=1e-5, origin=(7.0, 50.0)
        )
        for index, values in enumerate([scene.initial, *scene.images[:2]])
    ]
    with pytest.raises(ResDepthError, match="EPSG:4326 counts in degrees"):
        refine(paths[0], paths[1:], make_model())


def test_a_raster_of_several_bands_is_warned_of(
    scene: MadeScene, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_raster(Path(scene.path("ortho2.tif")), np.stack([scene.images[1]] * 3))
    assert command(scene, model).exit_code == 0
    assert "has 3 bands; only the first is used" in caplog.text


def test_rasters_without_a_georeference_are_refined_too(scene: MadeScene, model: Path) -> None:
    names = []
    for name, values in (("a", scene.initial), ("b", scene.images[0]), ("c", scene.images[1])):
        with (
            pytest.warns(rasterio.errors.NotGeoreferencedWarning),
            rasterio.open(
                scene.folder / f"{name}.tif", "w", driver="GTiff", width=160, height=64, count=1,
                dtype=values.dtype,
            ) as file,
        ):  # fmt: skip
            file.write(values, 1)
        names.append(str(scene.folder / f"{name}.tif"))
    done = CliRunner().invoke(main, ["refine", *names, "--model", str(model)])
    assert done.exit_code == 0, done.output
    expected = refine(names[0], names[1:], model)
    np.testing.assert_array_equal(read_raster(scene.folder / "a_refined.tif"), expected)


def test_arrays_cannot_go_to_a_file(scene: MadeScene) -> None:
    with pytest.raises(ResDepthError, match="output: an array has no georeference; give transform= and crs="):
        refine(scene.initial, scene.images[:2], make_model(), output="x.tif")


def test_without_a_model_the_one_that_comes_along_is_taken(scene: MadeScene) -> None:
    refined = refine(scene.initial, scene.images[:2], force=True)
    assert refined.shape == scene.initial.shape


# --- info


def test_info_tells_what_a_model_and_a_raster_are(scene: MadeScene, model: Path) -> None:
    stated = CliRunner().invoke(main, ["info", str(model), scene.path("initial.tif"), "town-stereo"])
    assert stated.exit_code == 0, stated.output
    assert "the DSM and 2 images" in stated.stdout
    assert "64 x 160 px" in stated.stdout
    as_json = CliRunner().invoke(main, ["info", "--json", "town-stereo", scene.path("initial.tif")])
    facts = json.loads(as_json.stdout)
    assert facts["town-stereo"]["gsd_range_m"] == [0.25, 0.25]
    assert facts["town-stereo"]["views"] == 2
    raster = facts[scene.path("initial.tif")]
    assert (raster["height"], raster["width"], raster["pixel_width_m"]) == (64, 160, 0.5)
    assert raster["nodata"] == -9999


def test_info_tells_the_unit_of_heights_and_what_a_map_makes_of_pixels(scene: MadeScene) -> None:
    feet = write_raster(scene.folder / "feet.tif", scene.initial, crs="EPSG:32632+6360")
    mercator = write_raster(scene.folder / "web.tif", scene.initial, crs="EPSG:3857", origin=(1e6, 6e6))
    wrong = write_raster(scene.folder / "wrong.tif", scene.initial)
    with rasterio.open(wrong, "r+") as file:
        file.units = ("dB",)
    stated = CliRunner().invoke(main, ["info", str(feet), str(mercator), str(wrong)]).stdout
    for fact in ("US survey foot", "not stated; metres are taken", "'dB', which is no known unit"):
        assert re.search(rf"unit of heights +.*{fact}", stated), stated
    listed = CliRunner().invoke(main, ["info", "--json", str(feet), str(mercator), str(wrong)])
    found = json.loads(listed.stdout)
    assert found[str(feet)]["unit_of_heights"] == "US survey foot"
    assert found[str(feet)]["pixel_height_m"] == pytest.approx(0.5)
    assert found[str(mercator)]["unit_of_heights"] is None
    assert "stretches lengths" in found[str(mercator)]["doubts"][0]
    assert "'dB', which is no known unit" in found[str(wrong)]["doubts"][0]


def test_info_on_what_is_neither_is_stated(scene: MadeScene) -> None:
    for name in ("absent.tif", "imagelist.txt"):
        stated = CliRunner().invoke(main, ["info", scene.path(name)])
        assert stated.exit_code == 2
        assert name in stated.stderr


# --- what rasters say of themselves


def test_rasters_in_a_local_crs_are_refined_and_evaluated(scene: MadeScene, model: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    named = {"initial": scene.initial, "ortho1": scene.images[0], "ortho2": scene.images[1]}
    for name, values in (named | {"reference": scene.reference}).items():
        write_raster(scene.folder / f"{name}.tif", values, crs=local)
    done = command(scene, model, "--report")
    assert done.exit_code == 0, done.output
    assert Path(output(scene)).with_suffix(".html").exists()
    with rasterio.open(output(scene)) as file:
        assert file.crs.to_wkt().startswith('LOCAL_CS["site"')
    evaluated = evaluate(output(scene), scene.path("reference.tif"), initial=scene.path("initial.tif"))
    assert evaluated.refined["overall"].count > 0


def test_a_dsm_in_centimetres_with_a_scale_gives_a_dsm_in_metres(scene: MadeScene, model: Path) -> None:
    centimetres = np.rint(scene.initial * 100).astype(np.int32)
    metres = write_raster(scene.folder / "metres.tif", (centimetres * 0.01).astype(np.float32))
    expected = refine(metres, paths(scene), model)
    with rasterio.open(write_raster(scene.folder / "initial.tif", centimetres), "r+") as file:
        file.scales = (0.01,)
    assert command(scene, model).exit_code == 0
    with rasterio.open(output(scene)) as file:
        assert (file.dtypes[0], file.scales, file.offsets) == ("float32", (1.0,), (0.0,))
        np.testing.assert_array_equal(file.read(1), expected)


@pytest.mark.parametrize(
    ("crs", "unit", "size", "name"),
    [
        ("EPSG:32632+6360", None, 1200 / 3937, "US survey foot"),
        ("EPSG:32632", "ft", 0.3048, "ft"),
        ("EPSG:32632", "cm", 0.01, "cm"),
    ],
)
def test_heights_in_another_unit_are_refined_as_metres_and_written_in_their_unit(
    scene: MadeScene, model: Path, crs: str, unit: str | None, size: float, name: str
) -> None:
    expected = refine(scene.path("initial.tif"), paths(scene), model)
    path = write_raster(scene.folder / "initial.tif", (scene.initial / size).astype(np.float32), crs=crs)
    if unit:
        with rasterio.open(path, "r+") as file:
            file.units = (unit,)
    np.testing.assert_allclose(refine(path, paths(scene), model), expected, atol=2e-3)
    assert command(scene, model).exit_code == 0
    with rasterio.open(output(scene)) as file:
        assert (file.units[0], file.crs) == (name, rasterio.CRS.from_user_input(crs))
        np.testing.assert_allclose(file.read(1) * size, expected, atol=2e-3)
    with rasterio.open(scene.folder / "initial_refined_provenance.tif") as file:
        assert file.units[0] is None
    evaluated = evaluate(output(scene), scene.path("reference.tif"))
    direct = evaluate(expected, scene.reference, gsd=GSD)
    assert evaluated.refined["overall"].mae == pytest.approx(direct.refined["overall"].mae, abs=2e-3)


def test_a_dsm_above_the_ellipsoid_lies_on_the_map_of_its_images(scene: MadeScene, model: Path) -> None:
    """GDAL turns a vertical datum of type 2002 into a 3D CRS."""
    utm = rasterio.CRS.from_epsg(32632).to_wkt()
    above = (
        f'COMPD_CS["x",{utm},VERT_CS["ellipsoid",VERT_DATUM["Ellipsoid",2002],UNIT["metre",1],AXIS["Up",UP]]]'
    )
    expected = refine(scene.path("initial.tif"), paths(scene), model)
    write_raster(scene.folder / "initial.tif", scene.initial, crs=above)
    assert command(scene, model).exit_code == 0
    with rasterio.open(output(scene)) as file:
        assert file.crs == rasterio.CRS.from_epsg(32632)
        assert file.units[0] == "metre"
        np.testing.assert_array_equal(file.read(1), expected)
    evaluated = evaluate(output(scene), scene.path("reference.tif"), initial=scene.path("initial.tif"))
    assert evaluated.refined["overall"].count > 0
    (scene.folder / "initial.tif.aux.xml").unlink()  # where GDAL puts such a CRS
    assert not list(scene.folder.glob("*.aux.xml"))
    assert not list(scene.folder.glob(".*.aux.xml"))


def test_a_unit_that_is_no_length_is_refused(scene: MadeScene, model: Path) -> None:
    with rasterio.open(scene.path("initial.tif"), "r+") as file:
        file.units = ("dB",)
    done = command(scene, model)
    assert done.exit_code == 2
    assert "the unit of its band is 'dB', which is no known unit of length" in done.stderr
    assert not output(scene).exists()


def test_images_with_units_of_their_own_are_no_heights(scene: MadeScene, model: Path) -> None:
    expected = refine(scene.path("initial.tif"), paths(scene), model)
    with rasterio.open(scene.path("ortho1.tif"), "r+") as file:
        file.units = ("W/m2",)
    assert command(scene, model, "--report").exit_code == 0
    np.testing.assert_array_equal(read_raster(output(scene)), expected)


def test_feet_on_the_map_leave_the_unit_of_heights_in_doubt(
    scene: MadeScene, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, values in (
        ("initial", scene.initial),
        ("ortho1", scene.images[0]),
        ("ortho2", scene.images[1]),
    ):
        write_raster(scene.folder / f"{name}.tif", values, crs="EPSG:2263", origin=(1e6, 2e5))
    assert command(scene, model).exit_code == 0
    assert "nothing states the unit of its heights" in caplog.text
    with rasterio.open(output(scene)) as file:
        assert file.units[0] is None  # never relabelled


def test_fp32_is_the_default_precision_and_the_tags_state_it(
    scene: MadeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.refinement.engine.computes_bfloat16", lambda _: True)
    dsm, images = scene.folder / "initial.tif", [scene.folder / f"ortho{number}.tif" for number in (1, 2)]
    (written,) = refine(dsm, images, make_model(), output=tmp_path / "refined.tif")
    with rasterio.open(written) as dataset:
        assert dataset.tags()["RESDEPTH_PRECISION"] == "float32"
    expected = refine(scene.initial, scene.images[:2], make_model(), precision="fp32")
    np.testing.assert_array_equal(read_raster(written), np.where(np.isnan(expected), -9999, expected))


@pytest.mark.parametrize("can", [True, False])
def test_bfloat16_is_reported_where_auto_takes_it(
    can: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resdepth.refinement.engine.computes_bfloat16", lambda _: can)
    caplog.set_level("INFO")
    device = torch.device("cpu")
    _refiner(make_model(), "auto", device, choose_precision("auto", device))
    assert ("precision='fp32' makes the same choices" in caplog.text) == can


def stopped_job(scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The block files of a job that was stopped after two of its three blocks."""
    interrupted(scene, model, monkeypatch, 2)
    return sorted(scene.folder.glob("*.unfinished/height_*.tif"))


@pytest.mark.parametrize("damage", ["swapped", "cut", "without statistics", "provenance lost"])
def test_a_damaged_block_is_computed_again(
    scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, damage: str
) -> None:
    assert command(scene, model, "-o", str(scene.folder / "right.tif")).exit_code == 0
    first, second = stopped_job(scene, model, monkeypatch)
    one, other = first.read_bytes(), second.read_bytes()
    if damage == "swapped":
        first.write_bytes(other)
        second.write_bytes(one)
    elif damage == "cut":
        first.write_bytes(one[:300])
    elif damage == "without statistics":
        with rasterio.open(first) as block:
            values, profile = block.read(), block.profile
        with rasterio.open(first, "w", **profile) as block:
            block.write(values)
    else:
        first.with_name(first.name.replace("height", "provenance")).unlink()
    done = command(scene, model)
    assert done.exit_code == 0, done.output
    assert "a block is damaged; it is computed again" in caplog.text
    np.testing.assert_array_equal(read_raster(output(scene)), read_raster(scene.folder / "right.tif"))


def test_files_of_others_beside_the_blocks_stay(scene: MadeScene, model: Path, caplog: Any) -> None:
    notes = scene.folder / "initial_refined.tif.unfinished" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    done = command(scene, model)
    assert done.exit_code == 0, done.output
    assert "stays, as it holds what resdepth has not made: notes.txt" in caplog.text
    assert [path.name for path in notes.parent.iterdir()] == ["notes.txt"]
    assert command(scene, model).exit_code == 0
    assert "is complete already" in caplog.text


def test_blocks_and_locks_are_not_written_through_links(scene: MadeScene, model: Path) -> None:
    documents = scene.folder / "documents"
    documents.mkdir()
    letter = documents / "letter.txt"
    letter.write_text("mine")
    unfinished = scene.folder / "initial_refined.tif.unfinished"
    unfinished.symlink_to(documents)
    refused = command(scene, model)
    assert (refused.exit_code, "is a link" in refused.stderr) == (2, True)
    unfinished.unlink()
    unfinished.mkdir()
    (unfinished / "lock").symlink_to(letter)
    assert command(scene, model).exit_code == 2
    assert [path.name for path in documents.iterdir()] == ["letter.txt"]
    assert letter.read_text() == "mine"


def test_blocks_from_other_pixels_behind_a_virtual_raster_are_not_used(
    scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = Path(scene.path("initial.tif")).rename(scene.folder / "sheet.tif")
    write_virtual(Path(scene.path("initial.tif")), sheet)  # GDAL looks at the content, not at the name
    interrupted(scene, model, monkeypatch, 1)
    with rasterio.open(sheet, "r+") as file:
        file.write(scene.initial + 100, 1)
    refused = command(scene, model)
    assert refused.exit_code == 2
    assert re.search(r"holds blocks of another job \(.*sheet.tif has changed", refused.stderr)
    assert command(scene, model, "--overwrite").exit_code == 0
    with rasterio.open(sheet, "r+") as file:
        file.write(scene.initial + 300, 1)
    assert command(scene, model, "--skip-existing").exit_code == 2
