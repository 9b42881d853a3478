"""Tuning a bundled model to an area."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from conftest import MadeScene, make_model, make_scene, raw_images_of, read_raster, write_raster
from resdepth import finetune, refine
from resdepth.cli import main
from resdepth.data.scene import Scene
from resdepth.errors import InputProblems, Interrupted, ResDepthError
from resdepth.models.model import Model, load_safetensors, save_model
from resdepth.models.pretrained import DSM_ALONE, FUSION
from resdepth.models.published import load_model
from resdepth.training import finetune as tuning
from resdepth.training.finetune import CELL_PX, Ground, _Samples, between, cells_of

STEPS = "12"


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> MadeScene:
    return make_scene(tmp_path_factory.mktemp("area"), 256, 256)


@pytest.fixture(scope="module")
def tuned(area: MadeScene) -> Path:
    """A tuned model."""
    output = area.folder / "mine.safetensors"
    done = CliRunner().invoke(
        main,
        ["finetune", area.path("initial.tif"), "--reference", area.path("reference.tif"), "--steps", STEPS,
         "--mask", area.path("mask_ground_truth.tif"), "-o", str(output)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{output}\n"
    return output


def error(heights: np.ndarray[Any, Any], area: MadeScene) -> float:
    return float(np.nanmean(np.abs(heights - area.reference)))


def test_a_tuned_model_refines_its_area_better(area: MadeScene, tuned: Path) -> None:
    before, after = (refine(area.path("initial.tif"), model=model) for model in (DSM_ALONE, tuned))
    assert error(after, area) < 0.97 * error(before, area) < 0.97 * error(area.initial, area)


def test_a_tuned_model_knows_where_it_comes_from(area: MadeScene, tuned: Path) -> None:
    model, old = load_safetensors(tuned), load_model(DSM_ALONE)
    assert (model.architecture, model.normalization) == (old.architecture, old.normalization)
    stated = model.provenance["finetuned"]
    assert (stated["from"], stated["dsm"], stated["steps"]) == ("dsm-alone", "initial.tif", int(STEPS))
    assert (stated["cells"], stated["cells_held_out"]) == (12, 4)
    errors = {name: one["mae_m"] for name, one in stated["errors_held_out"].items()}
    assert errors["after"] < errors["before"] < errors["initial"]
    about = CliRunner().invoke(main, ["info", str(tuned)])
    change = f"{errors['before']:.3f} to {errors['after']:.3f} m"
    assert f"from dsm-alone on initial.tif: MAE {change}" in about.output


def ground_of(area: MadeScene, **changes: Any) -> Ground:
    scene = Scene.open(area.path("initial.tif"), reference=area.path("reference.tif"))
    return replace(Ground(scene, ((),), scene.grid.whole), **changes)


def test_of_cells_held_out_the_network_learns_nothing(area: MadeScene) -> None:
    ground = ground_of(area)
    cells = cells_of(ground, 3)
    assert cells == cells_of(ground, 3)
    assert cells != cells_of(ground, 4)
    held_out = np.zeros((256, 256), bool)
    for cell in cells.held_out:
        held_out[cell.slices] = True
    assert held_out.sum() == 4 * CELL_PX**2
    assert not any(held_out[cell.slices].any() for cell in cells.learned)
    samples = _Samples(load_model(DSM_ALONE), ground, cells, 0)
    rng, learned = np.random.default_rng(0), np.zeros((256, 256), bool)
    for _ in range(60):
        window = samples._place(rng)
        known = np.isfinite(samples._known(window))
        assert known.any()
        learned[window.slices] |= known
    assert not (learned & held_out).any()
    assert learned.sum() > 0.9 * (~held_out).sum()


def test_samples_show_what_refinement_shows_and_leave_a_constant_out(area: MadeScene) -> None:
    ground = ground_of(area, bias_m=2.0)
    model, cells = load_model(DSM_ALONE), cells_of(ground_of(area), 0)
    channels, reference = _Samples(model, ground, cells, 0).batch(0, 4)
    assert channels.shape == reference.shape == (4, 1, 128, 128)
    assert np.isfinite(channels).all()
    assert abs(np.nanmedian(reference - channels) - 2.0) < 0.2
    again = _Samples(model, ground, cells, 0).batch(0, 4)
    np.testing.assert_array_equal(again[0], channels)


def test_raw_images_are_measured_and_their_heights_learned_from(
    raw_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tuning, "FEWEST_CELLS", 2)
    monkeypatch.setattr(tuning, "FEWEST_HELD_OUT", 1)
    monkeypatch.setattr(tuning, "LEAST_GAIN", -1.0)
    caplog.set_level("INFO", "resdepth")
    dsm = Path(shutil.copy(raw_scene / "dsm" / "initial.tif", tmp_path / "dsm.tif"))
    images = raw_images_of(raw_scene)[:2]
    output = tmp_path / "mine.safetensors"
    reference = raw_scene / "dsm" / "reference.tif"
    assert finetune(dsm, images, reference=reference, output=output, steps=1) == output
    assert load_safetensors(output).architecture == load_model(FUSION).architecture
    assert "base to height" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {"dsm.tif", "mine.safetensors"}
    assert np.isfinite(refine(dsm, images, output)).any()


def test_where_nothing_is_gained_nothing_is_written(
    area: MadeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_learn", lambda model, *_: dict(model.weights))
    with pytest.raises(ResDepthError, match=r"tuning brings nothing here: .* no model was written"):
        finetune(
            area.path("initial.tif"), reference=area.path("reference.tif"), output=tmp_path / "m.safetensors"
        )
    assert not list(tmp_path.iterdir())


def test_the_way_between_weights(area: MadeScene) -> None:
    old = {"weight": torch.tensor([0.0, 4.0]), "count": torch.tensor(3)}
    new = {"weight": torch.tensor([2.0, 8.0]), "count": torch.tensor(9)}
    halfway = between(old, new, 0.5)
    assert halfway["weight"].tolist() == [1.0, 6.0]
    assert halfway["count"].item() == 3


def test_ctrl_c_ends_it_and_nothing_is_written(area: MadeScene, tmp_path: Path) -> None:
    def stop(title: str, done: float, _total: float | None) -> None:
        if title == "tuning" and done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"stopped by Ctrl-C after 1 of 100 steps; no model was written"):
        finetune(
            area.path("initial.tif"), reference=area.path("reference.tif"),
            output=tmp_path / "m.safetensors", progress=stop,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "mine.tif"}, r"mine\.tif: should end in \.safetensors"),
        ({"steps": 0}, "steps: found 0; give 1 or more"),
        ({"region": (0, 0, 128, 128)}, r"known in 4 cells of 64 x 64 pixels; tuning needs 16"),
        ({"reference": "initial.tif", "output": "initial.safetensors"}, "initial.safetensors"),
        ({"device": "gpu"}, "device: found 'gpu'"),
        ({"model": "town-stereo"}, "town-stereo: only fusion, dsm-alone and models made of them are tuned"),
        ({"reference": "beside.tif"}, "reference: .*beside.tif"),
        ({"reference": "moved.tif"}, "does not fit its reference"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    area: MadeScene, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_raster(area.folder / "beside.tif", area.reference[:-2], nodata=-9999.0)
    write_raster(area.folder / "moved.tif", np.roll(area.reference, (9, 9), (0, 1)), nodata=-9999.0)
    write_raster(area.folder / "initial.safetensors", area.initial)
    given: dict[str, Any] = {"reference": "reference.tif", "output": "m.safetensors", **changes}
    given["reference"] = area.folder / given["reference"]
    given["output"] = (area.folder if "initial" in given["output"] else tmp_path) / given["output"]
    if "region" in given:
        from resdepth.geo.windows import Window

        given["region"] = Window(*given["region"])
    with pytest.raises((ResDepthError, InputProblems), match=message):
        finetune(area.path("initial.tif"), **given)
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_kind_is_refused(area: MadeScene, tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "unet.safetensors")
    other: Model = load_safetensors(tmp_path / "unet.safetensors")
    with pytest.raises(ResDepthError, match="only fusion, dsm-alone"):
        finetune(
            area.path("initial.tif"), (), other, reference=area.path("reference.tif"),
            output=tmp_path / "m.safetensors",
        )  # fmt: skip


def test_the_command_wants_a_reference(area: MadeScene, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["finetune", area.path("initial.tif")])
    assert done.exit_code == 2
    assert "give the reference DSM with --reference" in done.output
    missing = CliRunner().invoke(main, ["finetune", area.path("initial.tif"), "-r", str(tmp_path / "no.tif")])
    assert missing.exit_code == 2
    assert "no.tif: no such file" in missing.output


def test_a_folder_of_prepare_or_simulate_is_taken_as_it_is(
    raw_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def noted(dsm: Path, images: tuple[Path, ...], **given: Any) -> Path:
        seen.update(given, dsm=dsm, images=images)
        return Path(given["output"])

    monkeypatch.setattr("resdepth.workflows.finetune.finetune", noted)
    done = CliRunner().invoke(main, ["finetune", str(raw_scene.parent)])
    assert done.exit_code == 0, done.output
    assert seen["dsm"] == raw_scene / "dsm" / "initial.tif"
    assert seen["reference"] == raw_scene / "dsm" / "reference.tif"
    assert seen["images"] == tuple(raw_images_of(raw_scene))
    assert seen["output"] == raw_scene.parent / "models" / "finetuned.safetensors"


def test_inputs_stay_as_they_are(area: MadeScene, tuned: Path) -> None:
    np.testing.assert_array_equal(read_raster(area.folder / "initial.tif"), area.initial)
