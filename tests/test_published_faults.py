"""Faults of the published code that this package does not have: those of REFERENCE section 7, by number."""

import json
import pickle
import re
import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from conftest import GSD, MadeScene, make_model, make_scene, read_raster, write_published_run, write_raster
from resdepth.config.parse import load_train_config
from resdepth.errors import InputProblems
from resdepth.evaluation.metrics import statistics
from resdepth.geo.windows import Window, random_corners
from resdepth.models.published import (
    load_run_folder,
    read_checkpoint,
    read_moments,
    write_checkpoint,
    write_moments,
)
from resdepth.training.run_folder import appear, draft_run
from resdepth.workflows.test import test
from resdepth.workflows.train import train

# The lists that a network with images needs.
LISTS = ("path_image_list", "path_pairlist_training", "path_pairlist_validation")


def trained(scene: MadeScene, **sections: Any) -> Path:
    return train(scene.write(scene.train_config(**sections)))


def without_images(scene: MadeScene, **sections: Any) -> dict[str, Any]:
    config = scene.train_config(**{"model": {"input_channels": "geom"}, **sections})
    for key in LISTS:
        del config["datasets"][0][key]
    return config


def refined(scene: MadeScene, **sections: Any) -> Path:
    """The result folder of the made scene, refined with a random stereo network."""
    model = write_published_run(scene.folder / "model", make_model())
    test(scene.write(scene.test_config(model, **sections)))
    return scene.folder / "results" / "small"


def last_of(run: Path) -> dict[str, Any]:
    return read_checkpoint(run / "checkpoints" / "Model_last.pth")


def outputs_of(scene: MadeScene) -> list[str]:
    """What training and testing may have left behind."""
    return [name for name in ("logs", "tensorboard", "results") if (scene.folder / name).exists()]


# --- 1


def test_01_nmad_is_centred_on_the_median_of_the_residuals() -> None:
    residuals = np.array([-12, -11, -10, -9, -8], np.float32)
    found = statistics(residuals)
    assert found.nmad == pytest.approx(1.4826 * 1)
    assert found.nmad_resdepth_2022 == pytest.approx(1.4826 * 20)


def test_01_both_are_printed_under_their_own_names(scene: MadeScene) -> None:
    text = (refined(scene) / "Stereopair_0_1" / "initial_prediction_statistics.txt").read_text()
    found = re.findall(r"^(.*NMAD.*):\s+([\d.]+) m$", text, re.MULTILINE)
    names = ["Normalized median absolute deviation (NMAD) [m]", "NMAD (ResDepth 2022) [m]"]
    assert [name for name, _ in found] == names * 2
    assert found[0][1] != found[1][1]


# --- 2


def test_02_reference_at_sea_level_is_learned_from(scene: MadeScene) -> None:
    """All of the reference DSM is exactly 0 m."""
    noise = np.random.default_rng(0).normal(0, 1, (64, 160)).astype(np.float32)
    write_raster(scene.folder / "initial.tif", noise)
    write_raster(scene.folder / "reference.tif", np.zeros((64, 160), np.float32), nodata=-9999)
    checkpoint = last_of(train(scene.write(without_images(scene))))
    assert 0.1 < checkpoint["loss_train"] < 10
    assert 0.1 < checkpoint["loss_val"] < 10


def test_02_a_validation_batch_without_reference_leaves_the_validation_alone(scene: MadeScene) -> None:
    reference = scene.reference.copy()
    reference[:32] = np.nan  # batches of one tile each: four of eight have no reference height
    write_raster(scene.folder / "reference.tif", reference)
    checkpoint = last_of(trained(scene, training_settings={"batch_size": 1, "n_epochs": 1}))
    # The initial DSM is 0.5 m off; void batches, taken for perfect ones, would halve that.
    assert 0.4 < checkpoint["loss_val"] < 1
    assert 0.4 < checkpoint["loss_train"] < 1


# --- 3


def test_03_an_image_mean_of_zero_is_a_mean(scene: MadeScene) -> None:
    chequered = np.where(np.indices((64, 160)).sum(axis=0) % 2, 100, -100).astype(np.int16)
    for name in ("ortho1", "ortho2", "ortho3"):
        write_raster(scene.folder / f"{name}.tif", chequered)
    run = trained(scene)
    assert read_moments(run / "Image_normalization_parameters.p") == (0.0, 100.0)
    model = scene.test_config({"path": str(run / "model.safetensors")})
    assert len(test(scene.write(model))) == 3
    assert load_run_folder(run).normalization.image_mean == 0.0


# --- 4


def test_04_nodata_in_the_initial_dsm_is_found_before_anything_is_written(scene: MadeScene) -> None:
    dsm = scene.initial.copy()
    dsm[40:42, 33] = -9999  # in the test stripe
    dsm[7, 70] = -9999  # in the validation stripe
    write_raster(scene.folder / "initial.tif", dsm, nodata=-9999)
    for run, count in ((trained, 1), (refined, 2)):
        with pytest.raises(InputProblems, match=f"initial.tif: {count} of .* void .*fill them") as caught:
            run(scene)
        assert "datasets[0].raster_in" in caught.value.problems[0].where
    assert outputs_of(scene) == []


# --- 5


def test_05_without_dsm_channel_sigma_is_still_that_of_the_heights(scene: MadeScene) -> None:
    with_dsm = trained(scene)
    without = trained(scene, model={"input_channels": "stereo", "outer_skip": False})
    name = "DSM_normalization_parameters.p"
    assert read_moments(without / name) == read_moments(with_dsm / name)
    assert read_moments(without / name)[1] < 10, "grey values spread by some 100"


# --- 6


def rename_images(scene: MadeScene, *names: str) -> None:
    for index, name in enumerate(names):
        write_raster(scene.folder / name, scene.images[index])
    (scene.folder / "imagelist.txt").write_text("\n".join(names))


def pairs_in(run: Path) -> list[list[int]]:
    found: list[list[int]] = json.loads((run / "config.json").read_text())["datasets"][0]["image_pairs"]
    return found


def test_06_an_image_name_that_is_part_of_another_names_one_image(scene: MadeScene) -> None:
    rename_images(scene, "left.tif.d/a.tif", "la.tif", "a1.tif")
    (scene.folder / "pair.txt").write_text("la.tif, a.tif\n")
    run = trained(scene, datasets={"path_pairlist_training": scene.path("pair.txt")})
    assert pairs_in(run) == [[1, 0]]
    (scene.folder / "pair.txt").write_text("left, la.tif\n")
    with pytest.raises(InputProblems, match="line 1: left: not in the image list"):
        trained(scene, datasets={"path_pairlist_training": scene.path("pair.txt")})


@pytest.mark.parametrize(
    "text", ["ortho1.tif,ortho2.tif", "ortho1.tif ,  ortho2.tif,\r\n\n", "\n\tortho1.tif,ortho2.tif , \n \n"]
)
def test_06_separators_may_be_written_as_people_write_them(scene: MadeScene, text: str) -> None:
    (scene.folder / "pair.txt").write_text(text)
    assert pairs_in(trained(scene, datasets={"path_pairlist_training": scene.path("pair.txt")})) == [[0, 1]]


def test_06_the_example_of_the_manual_for_single_images_runs(scene: MadeScene) -> None:
    assert (scene.folder / "mono.txt").read_text() == "ortho1.tif,\northo2.tif,\n"
    lists = {key: scene.path("mono.txt") for key in LISTS[1:]}
    assert pairs_in(trained(scene, datasets=lists, model={"input_channels": "geom-mono"})) == [[0], [1]]


def test_06_a_pair_of_an_image_with_itself_is_refused(scene: MadeScene) -> None:
    (scene.folder / "pair.txt").write_text("ortho1.tif, ortho1.tif\n")
    with pytest.raises(InputProblems, match=r"pair\.txt: line 1: names one image twice"):
        trained(scene)


# --- 7


def test_07_an_entire_area_can_train_and_another_validate(scene: MadeScene) -> None:
    config = scene.train_config()
    first = config["datasets"][0] | {"allocation_strategy": "entire", "n_training_samples": 30}
    config["datasets"] = [{**first, "area_type": "train"}, {**first, "name": "other", "area_type": "val"}]
    run = train(scene.write(config))
    assert np.isfinite(last_of(run)["loss_val"])
    areas = json.loads((run / "config.json").read_text())["datasets"]
    whole = {"x_extent": [[0, 159]], "y_extent": [[0, 63]]}
    assert [area["area_defn"] for area in areas] == [{"train": whole}, {"val": whole}]


def test_07_a_region_smaller_than_a_tile_is_refused_before_anything_is_written(scene: MadeScene) -> None:
    stated = "a region of 64 x 32 pixels is smaller than a tile; {} is 64"
    with pytest.raises(InputProblems, match=stated.format("training_settings.tile_size")):
        trained(scene, training_settings={"tile_size": 64})
    with pytest.raises(InputProblems, match=stated.format("general.tile_size")):
        refined(scene, general={"tile_size": 64})
    assert outputs_of(scene) == []


def test_07_regions_of_different_size_are_evaluated_over_all_pairs(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 64, 170)  # regions of 34 and 68 columns
    folder = refined(scene, datasets={"area_type": "train"})
    name = "initial_prediction_performance_statistics_mean_over_all_stereopairs.json"
    known = np.isfinite(scene.reference[:, [*range(34), *range(102, 170)]]).sum()
    assert json.loads((folder / name).read_text())["pixels"] == 2 * known


# --- 8


def test_08_drawing_patches_costs_by_their_number_not_by_the_area() -> None:
    tracemalloc.start()
    try:
        random_corners([Window(0, 0, 4000, 4000)], 256, 2000, np.random.default_rng(0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5e6, "the published code takes 1.43 GB"


def test_08_images_that_no_pair_names_are_not_read(scene: MadeScene) -> None:
    """They need not even be there."""
    (scene.folder / "ortho4.tif").unlink()
    (scene.folder / "ortho3.tif").write_text("not an image")
    pair = {"path_pairlist_training": scene.path("pair.txt")}
    assert pairs_in(trained(scene, datasets=pair)) == [[0, 1]]


# --- 9


def test_09_the_learning_rate_falls_in_every_epoch_whether_validated_or_not(scene: MadeScene) -> None:
    settings = {"name": "StepLR", "settings": {"step_size": 1, "gamma": 0.5}}
    run = trained(
        scene,
        scheduler=settings,
        training_settings={"n_epochs": 5},
        general={"evaluate_rate": 3},
        optimizer={"learning_rate": 0.016},
    )
    rates = re.findall(r"learning rate (\S+)", (run / "training.log").read_text())
    assert [float(rate) for rate in rates] == [0.016, 0.008, 0.004, 0.002, 0.001]


def test_09_checkpoints_are_kept_however_rarely_the_run_validates(scene: MadeScene) -> None:
    run = trained(
        scene, training_settings={"n_epochs": 3}, general={"evaluate_rate": 3, "save_model_rate": 1}
    )
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == [*(f"Model_after_{n}_epochs.pth" for n in (1, 2, 3)), "Model_best.pth", "Model_last.pth"]


def test_09_a_run_shorter_than_the_time_between_validations_has_a_best_model(scene: MadeScene) -> None:
    run = trained(scene, training_settings={"n_epochs": 1}, general={"evaluate_rate": 50})
    assert np.isfinite(read_checkpoint(run / "checkpoints" / "Model_best.pth")["loss_val"])


def test_09_a_section_need_not_repeat_the_defaults(scene: MadeScene) -> None:
    config = scene.train_config(optimizer={"learning_rate": 0.01}, scheduler={"settings": {"step_size": 9}})
    del config["scheduler"]["name"]
    checkpoint = last_of(train(scene.write(config)))
    assert checkpoint["scheduler_state_dict"]["step_size"] == 9
    assert "betas" in checkpoint["optimizer_state_dict"]["param_groups"][0], "Adam"


def test_09_no_weight_decay_is_a_weight_decay(scene: MadeScene) -> None:
    group = last_of(trained(scene, optimizer={"weight_decay": 0}))["optimizer_state_dict"]["param_groups"][0]
    assert group["weight_decay"] == 0


def test_09_there_may_be_more_workers_than_cores(scene: MadeScene) -> None:
    one, many = (last_of(trained(scene, general={"workers": workers})) for workers in (0, 64))
    assert one["loss_val"] == many["loss_val"]
    assert (refined(scene, general={"workers": 64}) / "Stereopair_0_1" / "initial_prediction.tif").exists()


# --- 10


class Trap:
    """What a poisoned pickle does when it is loaded without restriction."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("key", ["weights", "normalization_geom", "normalization_image"])
def test_10_nothing_in_a_pickle_is_run(scene: MadeScene, key: str) -> None:
    section = write_published_run(scene.folder / "model", make_model())
    trap = Trap(scene.folder / "sprung")
    if key == "weights":
        torch.save({"model_state_dict": {}, "epoch": trap}, section[key])
    else:
        Path(section[key]).write_bytes(pickle.dumps({"mean": None, "std": trap}))
    with pytest.raises(InputProblems, match="refused, nothing was run"):
        test(scene.write(scene.test_config(section)))
    assert not (scene.folder / "sprung").exists()
    assert outputs_of(scene) == []


def pretend_written_on_gpu(checkpoint: Path) -> None:
    """Name cuda:0 as the place of every tensor, as in a checkpoint saved there."""
    with zipfile.ZipFile(checkpoint) as file:
        parts = {info: file.read(info) for info in file.infolist()}
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_STORED) as file:
        for info, content in parts.items():
            if info.filename.endswith("data.pkl"):
                assert b"X\x03\x00\x00\x00cpu" in content
                content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")  # noqa: PLW2901
            file.writestr(info.filename, content)


def test_10_a_checkpoint_written_on_a_gpu_is_read_without_one(scene: MadeScene) -> None:
    section = write_published_run(scene.folder / "model", make_model())
    test(scene.write(scene.test_config(section)))
    path = scene.folder / "results" / "small" / "Stereopair_0_1" / "initial_prediction.tif"
    before = read_raster(path)
    pretend_written_on_gpu(Path(section["weights"]))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(section["weights"], weights_only=True)
    test(scene.write(scene.test_config(section)))
    np.testing.assert_array_equal(read_raster(path), before)


def test_10_the_best_model_of_a_resumed_run_is_the_best_of_both(scene: MadeScene) -> None:
    write_raster(
        scene.folder / "reference.tif", scene.initial + 3
    )  # easily learned: the loss goes on falling
    config = scene.train_config(optimizer={"learning_rate": 0.01}, scheduler={"enabled": False})
    earlier = train(scene.write(config))
    best = earlier / "checkpoints" / "Model_best.pth"
    unbeatable = {**read_checkpoint(best), "loss_val": 1e-9}
    write_checkpoint(best, unbeatable)
    config["model"]["pretrained_path"] = str(earlier / "checkpoints" / "Model_last.pth")
    run = train(scene.write(config))
    assert last_of(run)["epoch"] == 3
    assert 1e-9 < last_of(run)["loss_val"] < last_of(earlier)["loss_val"]
    kept = read_checkpoint(run / "checkpoints" / "Model_best.pth")
    assert kept["loss_val"] == 1e-9
    assert all(torch.equal(kept["model_state_dict"][n], v) for n, v in unbeatable["model_state_dict"].items())


def test_10_a_resumed_run_keeps_the_normalisation_that_its_weights_were_trained_with(
    scene: MadeScene,
) -> None:
    earlier = trained(scene)
    names = ("DSM_normalization_parameters.p", "Image_normalization_parameters.p")
    constants = {names[0]: (None, 3.25), names[1]: (311.0, 47.5)}
    for name, moments in constants.items():
        write_moments(earlier / name, *moments)
    config = scene.train_config(datasets={"n_training_samples": 9})
    config["model"]["pretrained_path"] = str(earlier / "checkpoints" / "Model_last.pth")
    run = train(scene.write(config))
    assert {name: read_moments(run / name) for name in names} == constants


# --- 11


def test_11_a_refused_configuration_leaves_nothing_behind(scene: MadeScene) -> None:
    with pytest.raises(InputProblems):
        trained(scene, scheduler={"settings": {"step_size": 0}})
    with pytest.raises(InputProblems):
        refined(scene, datasets={"raster_gt": scene.path("absent.tif")})
    assert outputs_of(scene) == []


def test_11_two_runs_within_a_minute_have_two_folders(scene: MadeScene) -> None:
    first, second = trained(scene), trained(scene)
    assert first != second
    for run in (first, second):
        assert (run / "run.log").read_text().count("run folder:") == 1
        assert len((run / "training.log").read_text().splitlines()) == 2
        assert len(list((scene.folder / "tensorboard" / run.name).iterdir())) == 1
    now = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    names = []
    for _ in range(3):
        with draft_run(scene.folder / "runs", scene.folder / "events") as draft:
            names.append(appear(draft, "x", now).path.name)
    assert sorted(path.name for path in (scene.folder / "runs").iterdir()) == names
    assert names == ["2026-03-01_09-30_x", "2026-03-01_09-30_x_2", "2026-03-01_09-30_x_3"]


def test_11_statistics_of_a_second_run_replace_those_of_the_first(scene: MadeScene) -> None:
    before, after = (
        {path.name: path.read_text() for path in refined(scene).rglob("*.txt")} for _ in range(2)
    )
    assert before == after
    assert len(before) == 2


def test_11_the_statistics_of_a_data_set_hold_nothing_of_a_later_one(scene: MadeScene) -> None:
    name = "initial_prediction_performance_statistics_mean_over_all_stereopairs.txt"
    alone = (refined(scene) / name).read_text()
    model = write_published_run(scene.folder / "model", make_model())
    config = scene.test_config(model)
    first = config["datasets"][0]
    config["datasets"] = [first, {**first, "name": "later", "test_stripe": 3}]
    test(scene.write(config))
    results = scene.folder / "results"
    assert (results / "small" / name).read_text() == alone
    assert (results / "later" / name).read_text().count("Model name") == 1
    assert (results / "later" / name).read_text() != alone


# --- 12


@pytest.mark.parametrize(
    ("changes", "stated"),
    [
        ({"origin": (465000.0 + GSD, 5248000.0)}, "origin"),
        ({"crs": "EPSG:32633"}, "CRS EPSG:32633 instead of EPSG:32632"),
        ({"gsd": 0.6}, "pixel size"),
        ({"cut": 1}, "size 64 x 159 instead of 64 x 160"),
    ],
)
@pytest.mark.parametrize("name", ["reference.tif", "ortho2.tif", "mask_water.tif"])
def test_12_rasters_on_another_grid_are_refused(
    scene: MadeScene, name: str, changes: dict[str, Any], stated: str
) -> None:
    options = dict(changes)
    values = read_raster(scene.folder / name)[:, : 160 - options.pop("cut", 0)]
    write_raster(scene.folder / name, values, **options)
    masks = {f"mask_{mask}": scene.path(f"mask_{mask}.tif") for mask in ("building", "water")}
    with pytest.raises(InputProblems, match=f"{name}: .*{stated}"):
        refined(scene, datasets=masks)
    if name != "mask_water.tif":
        with pytest.raises(InputProblems, match=f"{name}: .*{stated}"):
            trained(scene)
    assert outputs_of(scene) == []


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_12_an_integer_dsm_gives_heights_that_are_neither_rounded_nor_clamped(
    scene: MadeScene, dtype: str
) -> None:
    low = np.round(scene.initial - 395).clip(0, 255)
    write_raster(scene.folder / "initial.tif", low.astype(dtype))
    write_raster(scene.folder / "reference.tif", (scene.reference - 395).astype(np.float32))
    folder = refined(scene) / "Stereopair_0_1"
    prediction, residuals = (
        read_raster(folder / f"initial_{name}.tif") for name in ("prediction", "residuals")
    )
    assert prediction.dtype == residuals.dtype == np.float32
    assert np.abs(prediction - np.round(prediction)).max() > 0.1
    assert residuals[residuals != -9999].min() < -0.1


# --- 13


def oddly_written(config: dict[str, Any]) -> bytes:
    text = json.dumps(config, indent=7, sort_keys=True).replace("\n", "\r\n")
    return b"\xef\xbb\xbf" + text.encode() + b"\n\n\t"


def test_13_the_original_configuration_is_kept_byte_by_byte(scene: MadeScene) -> None:
    path = scene.folder / "odd.json"
    path.write_bytes(oddly_written(scene.train_config()))
    assert (train(path) / "config.json.orig").read_bytes() == oddly_written(scene.train_config())
    config = scene.test_config(write_published_run(scene.folder / "model", make_model()))
    path.write_bytes(oddly_written(config))
    test(path)
    kept = scene.folder / "results" / "small" / "config.json.orig"
    assert kept.read_bytes() == oddly_written(config)


def test_13_the_original_configuration_lacks_the_defaults_and_the_complete_one_has_them(
    scene: MadeScene,
) -> None:
    run = trained(scene)
    original, complete = (
        json.loads((run / name).read_text()) for name in ("config.json.orig", "config.json")
    )
    assert "optimizer" not in original
    assert complete["optimizer"] == {"name": "Adam", "learning_rate": 2e-4, "weight_decay": 1e-5}
    config, problems = load_train_config(run / "config.json")
    assert config is not None
    assert problems == []


def test_13_hyper_parameters_are_written_once_into_the_folder_of_the_run(scene: MadeScene) -> None:
    write_raster(scene.folder / "reference.tif", scene.initial + 3)  # easily learned
    run = trained(
        scene,
        training_settings={"n_epochs": 4},
        optimizer={"learning_rate": 0.01},
        scheduler={"enabled": False},
    )
    assert (run / "training.log").read_text().count("best") > 1, "the loss must fall more than once to tell"
    folder = scene.folder / "tensorboard" / run.name
    assert [path.is_dir() for path in folder.iterdir()] == [False]
    tags = [
        value.tag
        for path in folder.iterdir()
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    assert tags.count("_hparams_/session_start_info") == 1
    assert tags.count("hparam/MAE_metric") == 1
