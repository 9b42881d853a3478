"""Dry runs: what long jobs would do, truly, and nothing written."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conftest import MadeScene, make_model
from resdepth.cli import main
from resdepth.models.model import save_model
from resdepth.workflows.dry_run import size_text


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def state_of(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def stated(result: Result) -> str:
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("dry run: nothing is written\n")
    return result.stdout


@pytest.fixture
def model(scene: MadeScene) -> Path:
    save_model(make_model(), scene.folder / "model.safetensors")
    return scene.folder / "model.safetensors"


def test_every_long_job_can_be_tried_without_writing(
    scene: MadeScene, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scene.folder)
    initial, reference = scene.path("initial.tif"), scene.path("reference.tif")
    train = scene.write(scene.train_config(), "train.json")
    test = scene.write(scene.test_config({"path": str(model)}), "test.json")
    before = state_of(scene.folder)
    commands: dict[str, list[object]] = {
        "would refine": ["refine", initial, "--report"],
        "would train": ["train", train],
        "would refine with": ["test", test],
        "would simulate": ["simulate", "town", "-o", scene.folder / "town"],
        "would prepare": [
            "prepare",
            "--dsm",
            initial,
            "--reference",
            reference,
            "-o",
            scene.folder / "prepared",
        ],
    }
    for begins, command in commands.items():
        text = stated(run(*command, "--dry-run"))
        assert re.search(rf"^  {begins}  ", text, re.MULTILINE), text
        assert re.search(r"^  (writes|disk) ", text, re.MULTILINE), text
    assert state_of(scene.folder) == before


def test_refine_states_blocks_files_and_what_is_there(scene: MadeScene, model: Path) -> None:
    images = [scene.path("ortho1.tif"), scene.path("ortho2.tif")]
    command = ["refine", scene.path("initial.tif"), *images, "--model", model, "--tile-size", 16, "--force"]
    output = scene.folder / "initial_refined.tif"
    text = stated(run(*command, "--dry-run"))
    assert "64 x 160 px of 0.5 m, EPSG:32632" in text
    assert re.search(r"blocks +1 \(1 x 1\), of 64 x 160 px", text)
    assert f"{output}\n" in text
    done = run(*command)
    assert done.stdout == f"{output}\n", done.output
    largest = re.search(r"disk +about ([\d.]+) (kB|MB)", text)
    assert largest is not None
    limit = float(largest[1]) * {"kB": 1e3, "MB": 1e6}[largest[2]]
    rasters = [output, output.with_name("initial_refined_provenance.tif")]
    assert sum(path.stat().st_size for path in rasters) < 2 * limit + 50_000, "headers aside"
    assert f"{output}; exists already" in stated(run(*command, "--dry-run"))


def test_train_states_the_samples_and_the_weights_of_the_run(scene: MadeScene) -> None:
    config = scene.write(scene.train_config())
    text = stated(run("train", config, "--dry-run"))
    numbers = re.search(r"would train +UNet \(geom-stereo\), ([\d,]+) numbers", text)
    samples = re.search(r"([\d,]+) samples to train with", text)
    assert numbers is not None
    assert samples is not None
    trained = run("train", config)
    folder = Path(trained.stdout.strip())
    facts = json.loads(run("info", folder / "model.safetensors", "--json").stdout)
    in_file = facts[str(folder / "model.safetensors")]["parameters"]
    assert int(numbers[1].replace(",", "")) <= in_file, "the file also holds statistics of layers"
    log = (folder / "run.log").read_text()
    assert f"{samples[1].replace(',', '')} training samples" in log
    again = stated(run("train", "--resume", folder, "--dry-run"))
    assert numbers[0] in again


def test_test_states_its_regions(scene: MadeScene, model: Path) -> None:
    config = scene.write(scene.test_config({"path": str(model)}))
    text = stated(run("test", config, "--dry-run"))
    assert re.search(r"\d+ regions, [\d.]+ Mpx, 2 sets of images; evaluated", text), text


def test_what_the_job_would_refuse_is_refused(scene: MadeScene) -> None:
    initial = scene.path("initial.tif")
    for command, reason in {
        ("refine", initial, "-o", scene.folder / "gone" / "a.tif"): "there is no such folder",
        ("refine", initial, "-o", initial, "--overwrite"): "is an input",
        ("train", scene.write(scene.train_config(model={"depth": 0}))): "model.depth: found 0",
        ("prepare", "--dsm", scene.folder / "gone.tif", "-o", scene.folder / "p"): "no such file",
        ("match", initial, "-o", scene.folder / "m.tif"): "at least two",
    }.items():
        refused = run(*command, "--dry-run")
        assert refused.exit_code == 2, refused.output
        assert reason in refused.stderr
        assert refused.stdout == ""


def test_a_folder_that_is_not_empty_is_named(scene: MadeScene) -> None:
    text = stated(run("simulate", "town", "-o", scene.folder, "--size", 256, "--dry-run"))
    assert "256 x 256 px" in text
    assert "is not empty" in text


def test_sizes_are_rounded() -> None:
    assert [size_text(one) for one in (12, 2e3, 2.345e6, 2e10)] == [
        "about 12 bytes", "about 2 kB", "about 2.35 MB", "about 20 GB",
    ]  # fmt: skip
