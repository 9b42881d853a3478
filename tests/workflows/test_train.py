"""Training from a configuration file to a run folder, stopped and resumed in every way."""

import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import MadeScene, make_scene, read_raster, write_raster
from resdepth import check
from resdepth.errors import Interrupted, ResDepthError
from resdepth.models.published import CONFIG_FILE, load_model, read_checkpoint, read_moments
from resdepth.runtime.atomic import MARK, this_process
from resdepth.runtime.placing import held
from resdepth.training import loop
from resdepth.training.run_folder import RunFolder
from resdepth.workflows.test import test as run_test
from resdepth.workflows.train import resume, train


def weights_of(run: Path, name: str = "Model_last.pth") -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoints" / name)["model_state_dict"]


def same_bits(first: Any, second: Any) -> bool:
    """Whether two checkpoints, or parts of them, are equal to the last bit."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_bits(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same_bits, first, second))
    are_nan = [isinstance(value, float) and math.isnan(value) for value in (first, second)]
    return all(are_nan) or bool(first == second)


def epoch_lines(run: Path) -> list[str]:
    return (run / "training.log").read_text().splitlines()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_run_leaves_the_published_files_and_one_self_contained_model(scene: MadeScene) -> None:
    config = scene.train_config(
        output={"suffix": "stereo", "plot_model_txt": True},
        training_settings={"n_epochs": 4},
        general={"save_model_rate": 2},
    )
    source = scene.write(config)
    run = train(source)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d_stereo", run.name)
    assert {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} == {
        "checkpoints/Model_after_2_epochs.pth",
        "checkpoints/Model_after_4_epochs.pth",
        "checkpoints/Model_best.pth",
        "checkpoints/Model_last.pth",
        "config.json",
        "config.json.orig",
        "model_config.json",
        "DSM_normalization_parameters.p",
        "Image_normalization_parameters.p",
        "run.log",
        "training.log",
        "model_parameters.txt",
        "model.safetensors",
    }
    assert (run / "config.json.orig").read_bytes() == source.read_bytes()
    complete = json.loads((run / "config.json").read_text())
    assert complete["optimizer"] == {"name": "Adam", "learning_rate": 2e-4, "weight_decay": 1e-5}
    assert complete["datasets"][0]["area_defn"]["train"]["x_extent"] == [[0, 31], [96, 159]]
    assert complete["datasets"][0]["image_pairs"] == [[0, 1], [1, 2]]
    checkpoint = read_checkpoint(run / "checkpoints" / "Model_last.pth")
    assert {
        "epoch",
        "model_state_dict",
        "optimizer_state_dict",
        "scheduler_state_dict",
        "loss_train",
        "loss_val",
    } <= set(checkpoint)
    assert checkpoint["epoch"] == 3
    assert [line.split(":")[0] for line in epoch_lines(run)] == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    assert "12 training samples" in (run / "run.log").read_text()
    assert same_bits(dict(load_model(run).weights), dict(load_model(run / "model.safetensors").weights))
    assert not list(run.rglob(".*")), "temporary files are gone"


def test_tensorboard_shows_loss_and_learning_rate_and_the_hyper_parameters_once(scene: MadeScene) -> None:
    run = train(scene.write(scene.train_config(training_settings={"n_epochs": 3})))
    folder = scene.folder / "tensorboard" / run.name
    shown = scalars(folder)
    assert {
        "train/MAE_metric",
        "train/learning_rate",
        "val/MAE_metric",
        "val/learning_rate",
        "hparam/MAE_metric",
    } <= set(shown)
    assert [value for _, value in shown["val/learning_rate"]] == pytest.approx([2e-4, 2e-5, 2e-6])
    best = min(value for _, value in shown["val/MAE_metric"])
    assert shown["hparam/MAE_metric"][0][1] == pytest.approx(best)
    assert [path for path in folder.iterdir() if path.is_dir()] == [], "no nested folders"


def test_the_error_of_the_initial_dsm_is_shown_beside_that_of_the_network(scene: MadeScene) -> None:
    """Eight tiles in the third stripe, in two batches; the mean of the batches, as for the network."""
    reference = scene.reference.copy()
    reference[4:25, 70:90] = np.nan
    write_raster(scene.folder / "reference.tif", reference)
    run = train(scene.write(scene.train_config(training_settings={"n_epochs": 3})))
    error = np.abs(scene.initial.astype(np.float64) - reference)[:, 64:96]
    expected = (np.nanmean(error[:32]) + np.nanmean(error[32:])) / 2
    shown = scalars(scene.folder / "tensorboard" / run.name)
    assert [value for _, value in shown["val/MAE_initial"]] == pytest.approx([expected] * 3, rel=1e-5)
    assert [step for step, _ in shown["val/MAE_initial"]] == [step for step, _ in shown["val/MAE_metric"]]
    log = (run / "run.log").read_text()
    for epoch, (_, value) in enumerate(shown["val/MAE_metric"], 1):
        assert f"epoch {epoch}: validation MAE {value:.3f} m (initial DSM {expected:.3f} m)" in log


def test_training_makes_a_biased_surface_better(scene: MadeScene) -> None:
    """An initial DSM whose buildings are 3 m too low: visible in the DSM, so learnable."""
    reference = np.where(np.isnan(scene.reference), 400, scene.reference)
    initial = np.where(reference > 403.5, reference - 3, reference).astype(np.float32)
    write_raster(scene.folder / "initial.tif", initial)
    config = scene.train_config(
        datasets={"n_training_samples": 200},
        model={"input_channels": "geom", "depth": 2, "start_kernel": 8},
        training_settings={"n_epochs": 25, "batch_size": 16},
        optimizer={"learning_rate": 5e-3},
        scheduler={"name": "ExponentialLR", "settings": {"gamma": 0.9}},
    )
    for key in ("path_image_list", "path_pairlist_training", "path_pairlist_validation"):
        del config["datasets"][0][key]
    run = train(scene.write(config))
    section = {"path": str(run / "model.safetensors")}
    tests = scene.test_config(section)
    for key in ("path_image_list", "path_pairlist"):
        del tests["datasets"][0][key]
    (result,) = run_test(scene.write(tests, "test.json"))
    assert result.evaluation is not None
    assert result.evaluation.initial is not None
    before, after = result.evaluation.initial["overall"].mae, result.evaluation.refined["overall"].mae
    assert after < 0.6 * before


@pytest.mark.parametrize(
    ("input_channels", "pairs", "extra"),
    [
        ("geom", None, {}),
        ("geom-mono", "mono.txt", {}),
        ("geom-stereo", "pairs.txt", {"stereopair_settings": {"use_all_stereo_pairs": False}}),
        ("geom-multiview", "triples.txt", {"multiview": {"config": "3-view"}}),
        ("stereo", "pair.txt", {"model": {"outer_skip": False}}),
    ],
)
def test_every_variant_trains_and_its_model_refines(
    input_channels: str, pairs: str | None, extra: dict[str, Any], scene: MadeScene
) -> None:
    config = scene.train_config()
    config["model"] |= {"input_channels": input_channels, **extra.pop("model", {})}
    config |= extra
    lists = ("path_image_list", "path_pairlist_training", "path_pairlist_validation")
    for key in lists[1:]:
        config["datasets"][0][key] = scene.path(pairs or "")
    if pairs is None:
        for key in lists:
            del config["datasets"][0][key]
    run = train(scene.write(config))
    assert (run / "Image_normalization_parameters.p").exists() == (pairs is not None)
    tests = scene.test_config({"path": str(run / "model.safetensors")})
    tests["datasets"][0]["path_pairlist"] = scene.path(pairs or "")
    if pairs is None:
        del tests["datasets"][0]["path_pairlist"], tests["datasets"][0]["path_image_list"]
    results = run_test(scene.write(tests, "test.json"))
    assert all(result.evaluation is not None for result in results)


@pytest.mark.parametrize(
    "model",
    [
        {"act_fn_encoder": "prelu", "act_fn_decoder": "lrelu", "act_fn_bottleneck": "prelu"},
        {"up_mode": "bilinear", "do_BN": False},
        {"outer_skip_BN": True, "bias_conv_layer": False},
    ],
)
def test_every_option_of_the_network_trains(model: dict[str, Any], scene: MadeScene) -> None:
    run = train(scene.write(scene.train_config(model=model)))
    assert math.isfinite(read_checkpoint(run / "checkpoints" / "Model_best.pth")["loss_val"])


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ({"name": "StepLR", "settings": {"step_size": 2, "gamma": 0.5}}, [1, 1, 0.5]),
        ({"name": "ExponentialLR", "settings": {"gamma": 0.5}}, [1, 0.5, 0.25]),
        (
            {
                "name": "ReduceLROnPlateau",
                "settings": {"patience": 0, "threshold": 1e6, "threshold_mode": "abs", "factor": 0.1},
            },
            [1, 1, 0.1],
        ),
        ({"name": "StepLR", "settings": {}}, [1, 1, 1]),
        ({"name": "CosineAnnealingLR"}, [1, 0.75, 0.25]),
        ({"name": "CosineAnnealingLR", "settings": {"T_max": 2}}, [1, 0.5, 0]),
        ({"enabled": False, "warm_up": 6}, [0.5, 1, 1]),
        ({"enabled": False, "name": "StepLR", "settings": {"step_size": 1}}, [1, 1, 1]),
    ],
)
def test_every_scheduler_moves_the_learning_rate_each_epoch(
    scheduler: dict[str, Any], rates: list[float], scene: MadeScene
) -> None:
    config = scene.train_config(
        training_settings={"n_epochs": 3}, optimizer={"name": "SGD", "learning_rate": 0.01}
    )
    config["scheduler"] = scheduler
    run = train(scene.write(config))
    found = [float(re.search(r"learning rate (\S+)", line)[1]) for line in epoch_lines(run)]  # type: ignore[index]
    assert found == pytest.approx([0.01 * rate for rate in rates])


def test_one_seed_gives_the_same_bits_whatever_the_number_of_threads(scene: MadeScene) -> None:
    runs = [train(scene.write(scene.train_config(general={"workers": workers}))) for workers in (0, 3)]
    first, second = (read_checkpoint(run / "checkpoints" / "Model_last.pth") for run in runs)
    assert same_bits(first, second)
    other = train(scene.write(scene.train_config(general={"random_seed": 1})))
    assert not same_bits(weights_of(other), weights_of(runs[0]))


def test_rasters_beyond_the_memory_budget_are_read_by_window_with_the_same_result(scene: MadeScene) -> None:
    held = train(scene.write(scene.train_config()))
    windowed = train(scene.write(scene.train_config(general={"memory_gb": 1e-9, "workers": 2})))
    assert same_bits(weights_of(held), weights_of(windowed))


def test_two_runs_within_a_minute_have_folders_of_their_own(scene: MadeScene) -> None:
    config = scene.write(scene.train_config(training_settings={"n_epochs": 1}))
    assert train(config) != train(config)


def test_one_folder_for_runs_and_events_may_be_spelled_in_two_ways(scene: MadeScene) -> None:
    (scene.folder / "logs").mkdir()
    (scene.folder / "link").symlink_to(scene.folder / "logs")
    output = {"output_directory": str(scene.folder / "logs"), "tboard_log_dir": str(scene.folder / "link")}
    run = train(scene.write(scene.train_config(training_settings={"n_epochs": 1}, output=output)))
    assert list((scene.folder / "logs").iterdir()) == [run]
    assert list(run.glob("events.out.tfevents.*"))


def test_a_run_folder_tells_as_much_of_its_model_as_the_model_file(scene: MadeScene) -> None:
    run = train(scene.write(scene.train_config()))
    of_folder, of_file = load_model(run).provenance, load_model(run / "model.safetensors").provenance
    assert of_folder == of_file
    assert of_folder["datasets"][0]["gsd_m"] > 0


def undisturbed(scene: MadeScene, **sections: Any) -> Path:
    return train(scene.write(scene.train_config(**sections), "undisturbed.json"))


def assert_same_run(first: Path, second: Path) -> None:
    """Equal checkpoints, logs and normalisation."""
    for name in ("Model_last.pth", "Model_best.pth"):
        one, other = first / "checkpoints" / name, second / "checkpoints" / name
        assert same_bits(read_checkpoint(one), read_checkpoint(other)), name
        assert one.read_bytes() == other.read_bytes(), name
    assert epoch_lines(first) == epoch_lines(second)
    assert (first / "DSM_normalization_parameters.p").read_bytes() == (
        second / "DSM_normalization_parameters.p"
    ).read_bytes()
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


STEADY: dict[str, Any] = {"training_settings": {"n_epochs": 4}, "general": {"save_model_rate": 1}}


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeScene, Path]:
    """A scene, and a run on it of four epochs, three batches each, that nothing disturbs."""
    made = make_scene(tmp_path_factory.mktemp("steady"), 64, 160)
    return made, undisturbed(made, **STEADY)


def to_be_disturbed(scene: MadeScene, folder: Path) -> Path:
    """The configuration of that run, with results in another folder."""
    output = {"output_directory": str(folder / "logs"), "tboard_log_dir": str(folder / "tensorboard")}
    config = folder / "config.json"
    config.write_text(json.dumps(scene.train_config(**STEADY, output=output)))
    return config


STOPPED = """
import os, sys
from resdepth.cli import main
from resdepth.training import loop

def after_each_batch(standing, loss, batches=[]):
    batches.append(loss)
    if len(batches) == 8:
        os.kill(os.getpid(), int(sys.argv[2]))
    return ""

loop._note = after_each_batch
main(["train", sys.argv[1]])
"""  # in the third epoch


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_killed_or_stopped_is_resumed_and_ends_bitwise_equal(
    number: signal.Signals, steady: tuple[MadeScene, Path], tmp_path: Path
) -> None:
    scene, whole = steady
    command = [sys.executable, "-c", STOPPED, str(to_be_disturbed(scene, tmp_path)), str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (run,) = (tmp_path / "logs").iterdir()
    if number == signal.SIGINT:
        assert done.returncode == 130
        assert f"resdepth train --resume {run}" in done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert done.returncode == -number
    assert read_checkpoint(run / "checkpoints" / "Model_last.pth")["epoch"] == 1
    assert resume(run) == run
    assert_same_run(run, whole)
    events = scalars(tmp_path / "tensorboard" / run.name)["val/MAE_metric"]
    assert len({step for step, _ in events}) == len(events) == 4


class _StopAfter:
    """Ends a run after some batches, as a signal would."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __call__(self, *_: object) -> str:
        self.batches -= 1
        if self.batches == 0:
            signal.raise_signal(signal.SIGTERM)
        return ""


@pytest.mark.parametrize("batches", [1, 2, 3, 5])
def test_a_stop_after_any_batch_changes_nothing(
    batches: int, steady: tuple[MadeScene, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, whole = steady
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_note", _StopAfter(batches))
        with pytest.raises(Interrupted, match="resdepth train --resume"):
            train(to_be_disturbed(scene, tmp_path))
    (run,) = (tmp_path / "logs").iterdir()
    resume(run)
    assert_same_run(run, whole)


OURS: dict[str, Any] = {
    "training_settings": {
        "n_epochs": 4, "precision": "bf16", "clip_gradients": 1.0, "average_weights": 0.9,
    },
    "optimizer": {"name": "AdamW", "learning_rate": 0.003},
}  # fmt: skip


def of_ours(scene: MadeScene, **sections: Any) -> dict[str, Any]:
    """A configuration that departs from the published recipe wherever it can."""
    config = scene.train_config(**OURS, **sections)
    return config | {"scheduler": {"name": "CosineAnnealingLR", "warm_up": 5}}


@pytest.mark.parametrize("batches", [2, 3, 8])
def test_a_recipe_of_ours_that_is_stopped_ends_bitwise_equal_too(
    batches: int, scene: MadeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(scene.write(of_ours(scene), "undisturbed.json"))
    output = {"output_directory": str(tmp_path / "stopped"), "tboard_log_dir": str(tmp_path / "events")}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(of_ours(scene, output=output)))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_note", _StopAfter(batches))
        with pytest.raises(Interrupted):
            train(config)
    (run,) = (tmp_path / "stopped").iterdir()
    resume(run)
    assert_same_run(run, whole)


def test_the_best_model_of_a_run_with_averaged_weights_is_their_average(scene: MadeScene) -> None:
    run = train(scene.write(of_ours(scene, general={"save_model_rate": 4})))
    last = read_checkpoint(run / "checkpoints" / "Model_last.pth")
    after = read_checkpoint(run / "checkpoints" / "Model_after_4_epochs.pth")
    assert same_bits(after["model_state_dict"], last["averaged_state_dict"])
    assert not same_bits(last["model_state_dict"], last["averaged_state_dict"])
    assert "averaged_state_dict" not in after
    best = read_checkpoint(run / "checkpoints" / "Model_best.pth")
    assert same_bits(dict(load_model(run).weights), best["model_state_dict"])
    continued = {"pretrained_path": str(run / "checkpoints" / "Model_best.pth")}
    more = train(scene.write(of_ours(scene, model=continued)))
    assert read_checkpoint(more / "checkpoints" / "Model_last.pth")["epoch"] == best["epoch"] + 4


def test_a_run_without_progress_ends_early_and_is_complete(scene: MadeScene) -> None:
    """Of a learning rate that moves nothing, the first validation stays the best."""
    settings = {"n_epochs": 9, "early_stopping": 3}
    slow = {"name": "SGD", "learning_rate": 1e-30, "weight_decay": 0.0}
    config = scene.train_config(training_settings=settings, optimizer=slow, model={"do_BN": False})
    run = train(scene.write(config))
    assert len(epoch_lines(run)) == 4
    standing = read_checkpoint(run / "checkpoints" / "Model_last.pth")["resdepth"]
    assert (standing["epoch"], standing["end"], standing["best_epoch"]) == (4, 4, 1)
    assert "early_stopping ends the run" in (run / "run.log").read_text()
    resume(run)
    assert len(epoch_lines(run)) == 4
    more = scene.train_config(
        training_settings=settings, optimizer=slow,
        model={"do_BN": False, "pretrained_path": str(run / "checkpoints" / "Model_last.pth")},
    )  # fmt: skip
    assert len(epoch_lines(train(scene.write(more)))) == 7  # patience counts from the new run's beginning


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training_settings", "precision", "fp16"), ("training_settings", "clip_gradients", 0),
        ("training_settings", "average_weights", 1.0), ("training_settings", "early_stopping", 0),
        ("scheduler", "warm_up", -1), ("optimizer", "name", "Lion"),
    ],
)  # fmt: skip
def test_a_recipe_that_makes_no_sense_is_refused_by_key_and_value(
    section: str, key: str, value: Any, scene: MadeScene
) -> None:
    with pytest.raises(ResDepthError, match=rf"{section}\.{key}: found {json.dumps(value)}"):
        train(scene.write(scene.train_config(**{section: {key: value}})))


@pytest.mark.parametrize("dies_at", ["best", "after", "log", "last"])
def test_a_death_between_any_two_files_of_an_epoch_changes_nothing(
    dies_at: str, steady: tuple[MadeScene, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill may come before, between or after the files of an epoch; each is whole or absent."""
    from resdepth.training.recorder import RunRecorder

    scene, whole = steady

    class Death(BaseException):
        pass

    save, epoch_done = RunRecorder.save, RunRecorder.epoch_done

    def dying_save(self: RunRecorder, name: str, checkpoint: dict[str, Any]) -> None:
        if name == dies_at and checkpoint["epoch"] == (name != "best"):  # the first epoch is the best
            raise Death
        save(self, name, checkpoint)

    def dying_log(self: RunRecorder, standing: Any, **figures: Any) -> None:
        epoch_done(self, standing, **figures)
        if dies_at == "log" and standing.epoch == 2:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr(RunRecorder, "save", dying_save)
        patch.setattr(RunRecorder, "epoch_done", dying_log)
        with pytest.raises(Death):
            train(to_be_disturbed(scene, tmp_path))
    (run,) = (tmp_path / "logs").iterdir()
    resume(run)
    assert_same_run(run, whole)


def test_a_run_resumed_within_the_second_of_its_start_is_read_after_it(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard takes files by name; the later one says which events of the earlier are void."""
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_note", _StopAfter(4))
        with pytest.raises(Interrupted):
            train(scene.write(scene.train_config()))
    (run,) = (scene.folder / "logs").iterdir()
    (folder,) = (scene.folder / "tensorboard").iterdir()
    (events,) = folder.iterdir()
    moment = 2_000_000_000.5
    events.rename(folder / f"events.out.tfevents.{int(moment)}.zzz.1.0")
    waited: list[float] = []
    # A clock of the recorder's own: the writers' threads read the true one meanwhile.
    clock = SimpleNamespace(time=lambda: moment + sum(waited), sleep=waited.append)
    monkeypatch.setattr("resdepth.training.recorder.time", clock)
    resume(run)
    assert waited == [0.5]


def test_resuming_a_finished_run_does_nothing(scene: MadeScene) -> None:
    run = train(scene.write(scene.train_config()))
    before = (run / "checkpoints" / "Model_last.pth").read_bytes()
    assert resume(run) == run
    assert (run / "checkpoints" / "Model_last.pth").read_bytes() == before


def test_what_is_no_run_folder_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ResDepthError, match="no run folder"):
        resume(tmp_path)


def test_pretrained_path_trains_so_many_epochs_more_and_carries_everything_over(scene: MadeScene) -> None:
    """Two runs of two epochs end where one of four does, bit for bit."""
    whole = undisturbed(
        scene, training_settings={"n_epochs": 4}, output={"output_directory": str(scene.folder / "whole")}
    )
    first = train(scene.write(scene.train_config()))
    checkpoint = str(first / "checkpoints" / "Model_last.pth")
    second = train(
        scene.write(scene.train_config(model={"pretrained_path": checkpoint}, output={"suffix": "on"}))
    )
    last, expected = (read_checkpoint(run / "checkpoints" / "Model_last.pth") for run in (second, whole))
    assert last["epoch"] == 3
    assert same_bits(last, expected)
    assert epoch_lines(second) == epoch_lines(whole)
    shown = scalars(scene.folder / "tensorboard" / second.name)
    assert len({step for step, _ in shown["val/MAE_metric"]}) == 4


def test_a_continued_run_keeps_the_best_model_if_it_finds_no_better_one(scene: MadeScene) -> None:
    first = train(scene.write(scene.train_config(training_settings={"n_epochs": 3})))
    best = read_checkpoint(first / "checkpoints" / "Model_best.pth")
    config = scene.train_config(
        model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")},
        optimizer={"learning_rate": 1e-12},
        scheduler={"enabled": False},
        output={"suffix": "on"},
    )
    # A much lower loss than can be reached: the earlier model must stand.
    torch.save({**best, "loss_val": 1e-6}, first / "checkpoints" / "Model_best.pth")
    second = train(scene.write(config))
    kept = read_checkpoint(second / "checkpoints" / "Model_best.pth")
    assert kept["loss_val"] == 1e-6
    assert same_bits(kept["model_state_dict"], best["model_state_dict"])
    assert (second / "model.safetensors").exists()


def on_other_stripes(scene: MadeScene, first: Path) -> dict[str, Any]:
    """A configuration that continues a run, validating elsewhere."""
    return scene.train_config(
        model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")},
        datasets={"test_stripe": 2},
        output={"suffix": "on"},
    )


def test_a_loss_on_other_validation_data_does_not_count(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    first = train(scene.write(scene.train_config()))
    best = read_checkpoint(first / "checkpoints" / "Model_best.pth")
    torch.save({**best, "loss_val": 1e-6}, first / "checkpoints" / "Model_best.pth")
    second = train(scene.write(on_other_stripes(scene, first)))
    assert "validated on other data" in caplog.text
    kept = read_checkpoint(second / "checkpoints" / "Model_best.pth")
    assert kept["loss_val"] > 1e-6
    assert load_model(second / "model.safetensors").provenance["epoch"] == kept["epoch"] + 1 > 2


def test_a_checkpoint_beside_no_run_leads_to_a_model_all_the_same(scene: MadeScene) -> None:
    first = train(scene.write(scene.train_config()))
    weights = scene.folder / "weights"
    weights.mkdir()
    for name in ("Model_last.pth", "Model_best.pth"):
        torch.save({**read_checkpoint(first / "checkpoints" / name), "loss_val": 1e-6}, weights / name)
    config = scene.train_config(
        model={"pretrained_path": str(weights / "Model_last.pth")}, output={"suffix": "on"}
    )
    assert load_model(train(scene.write(config)) / "model.safetensors").provenance["epoch"] > 2


def test_settings_that_a_checkpoint_replaces_are_stated(scene: MadeScene) -> None:
    first = train(scene.write(scene.train_config()))
    config = scene.train_config(
        model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")},
        optimizer={"learning_rate": 0.05, "weight_decay": 0.5},
    )
    config["scheduler"]["settings"]["step_size"] = 77
    stated = {problem.where.partition(": ")[2]: problem for problem in check(scene.write(config))}
    assert set(stated) == {
        "optimizer.learning_rate", "optimizer.weight_decay", "scheduler.settings.step_size",
    }  # fmt: skip
    assert {problem.severity for problem in stated.values()} == {"warning"}
    assert "found 0.5; training continues with 1e-05" in stated["optimizer.weight_decay"].message


def test_a_continued_run_keeps_the_normalisation_of_the_earlier_one(scene: MadeScene) -> None:
    first = train(scene.write(scene.train_config()))
    config = scene.train_config(
        model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")},
        general={"random_seed": 5},
        output={"suffix": "on"},
    )
    second = train(scene.write(config))
    for name in ("DSM_normalization_parameters.p", "Image_normalization_parameters.p"):
        assert read_moments(first / name) == read_moments(second / name)


def test_a_continued_run_that_was_killed_resumes_without_the_earlier_one(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(scene.write(scene.train_config()))
    config = scene.train_config(
        model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")}, output={"suffix": "on"}
    )
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_note", _StopAfter(4))
        with pytest.raises(Interrupted):
            train(scene.write(config))
    (second,) = (scene.folder / "logs").glob("*_on")
    first.rename(scene.folder / "moved away")
    resume(second)
    assert read_checkpoint(RunFolder(second, second).last)["epoch"] == 3


def test_another_optimizer_than_that_of_the_checkpoint_is_refused_before_anything_is_written(
    scene: MadeScene,
) -> None:
    first = train(scene.write(scene.train_config()))
    config = scene.train_config(
        model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")}, optimizer={"name": "SGD"}
    )
    with pytest.raises(ResDepthError, match=r"optimizer\.name: .*written with Adam: set that"):
        train(scene.write(config))
    assert list((scene.folder / "logs").iterdir()) == [first]


def test_another_scheduler_than_that_of_the_checkpoint_is_refused(scene: MadeScene) -> None:
    """Its state would silently take the place of the settings asked for."""
    first = train(scene.write(scene.train_config()))
    config = scene.train_config(model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")})
    config["scheduler"] = {"name": "ExponentialLR", "settings": {"gamma": 0.99}}
    with pytest.raises(ResDepthError, match=r"scheduler\.name: .*written with StepLR"):
        train(scene.write(config))


def without_our_extras(run: Path) -> None:
    """Make a run folder look as the published code leaves it."""
    for path in (run / "checkpoints").iterdir():
        checkpoint = read_checkpoint(path)
        del checkpoint["resdepth"]
        torch.save(checkpoint, path)
    (run / "model.safetensors").unlink()
    (run / "training.log").write_bytes(b"epoch 1/2000 loss 3.0 \xff\n")


def test_a_published_run_continues_and_keeps_its_best_model_in_one_file_as_well(scene: MadeScene) -> None:
    first = train(scene.write(scene.train_config()))
    without_our_extras(first)
    config = scene.train_config(
        model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")},
        optimizer={"learning_rate": 1e-12},
        output={"suffix": "on"},
    )
    best = read_checkpoint(first / "checkpoints" / "Model_best.pth")
    torch.save({**best, "loss_val": 1e-6}, first / "checkpoints" / "Model_best.pth")
    second = train(scene.write(config))
    assert same_bits(dict(load_model(second / "model.safetensors").weights), best["model_state_dict"])
    steps = [step for step, _ in scalars(scene.folder / "tensorboard" / second.name)["val/MAE_metric"]]
    assert steps == [2, 5, 8, 11]


def test_a_run_that_continues_without_an_earlier_best_model_finds_its_own(scene: MadeScene) -> None:
    first = train(scene.write(scene.train_config()))
    (first / "checkpoints" / "Model_best.pth").unlink()
    config = scene.train_config(
        model={"pretrained_path": str(first / "checkpoints" / "Model_last.pth")}, output={"suffix": "on"}
    )
    second = train(scene.write(config))
    assert (second / "checkpoints" / "Model_best.pth").is_file()
    assert (second / "model.safetensors").is_file()


def test_weights_that_break_in_the_last_step_are_not_saved(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss before the step was finite, and no validation looks at the weights."""
    step = torch.optim.Adam.step
    count = 0

    def breaking(self: torch.optim.Adam, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        result = step(self, *arguments)
        if count == 6:  # the last of the second epoch
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(math.nan)
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", breaking)
    config = scene.train_config(training_settings={"n_epochs": 4}, general={"evaluate_rate": 4})
    with pytest.raises(ResDepthError, match="no longer finite"):
        train(scene.write(config))
    (run,) = (scene.folder / "logs").iterdir()
    last = read_checkpoint(run / "checkpoints" / "Model_last.pth")
    assert last["epoch"] == 0
    assert all(torch.isfinite(value).all() for value in last["model_state_dict"].values())


def test_training_continues_where_tensorboard_cannot_be_written(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "flush", full)
    run = train(scene.write(scene.train_config()))
    assert len(epoch_lines(run)) == 2
    assert sum("continues without" in record.message for record in caplog.records) == 1


def test_a_run_can_be_resumed_from_within_its_folder(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_note", _StopAfter(4))
        with pytest.raises(Interrupted):
            train(scene.write(scene.train_config()))
    (run,) = (scene.folder / "logs").iterdir()
    monkeypatch.chdir(run)
    assert resume(".") == run
    assert [path.name for path in (scene.folder / "tensorboard").iterdir()] == [run.name]


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_checkpoint(
    scene: MadeScene,
) -> None:
    config = scene.train_config(
        training_settings={"n_epochs": 50},
        optimizer={"name": "SGD", "learning_rate": 1e30},
        model={"do_BN": False},
    )
    with pytest.raises(ResDepthError, match=r"loss became .*learning_rate"):
        train(scene.write(config))
    (run,) = (scene.folder / "logs").iterdir()
    kept = read_checkpoint(run / "checkpoints" / "Model_last.pth")
    assert all(torch.isfinite(value).all() for value in kept["model_state_dict"].values())
    assert "loss became" in (run / "run.log").read_text()


def test_a_full_disk_is_stated_and_leaves_no_half_written_file(scene: MadeScene) -> None:
    """A limit on the size of files stands for the disk that fills."""
    config = scene.write(scene.train_config())
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from resdepth.cli import main; main(['train', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert re.search(r"Model_\w+\.pth: cannot be written .*; is there space left\?", done.stderr)
    assert "Traceback" not in done.stderr
    (run,) = (scene.folder / "logs").iterdir()
    assert not list(run.rglob(".*")), "nothing half-written is left"
    resume(run)  # once there is space
    other = scene.train_config(output={"output_directory": str(scene.folder / "other")})
    assert_same_run(run, train(scene.write(other)))


def test_what_a_kill_left_half_written_is_gone_after_resuming(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_note", _StopAfter(4))
        with pytest.raises(Interrupted):
            train(scene.write(scene.train_config()))
    (run,) = (scene.folder / "logs").iterdir()
    gone = replace(this_process(), pid=2**22 + 1)
    (run / "checkpoints" / f".Model_last.pth{MARK}{gone}-abcdefgh.pth").write_bytes(b"half")
    (run / f".model.safetensors{MARK}{gone}-abcdefgh.safetensors").write_bytes(b"half")
    (scene.folder / "tensorboard" / f".events{MARK}{gone}-abcdefgh").mkdir()  # killed before it had its name
    resume(run)
    assert not list(run.rglob(".*"))
    assert not list((scene.folder / "tensorboard").rglob(".*"))


def test_reference_without_a_single_height_is_stated(scene: MadeScene) -> None:
    reference = read_raster(scene.folder / "reference.tif")
    reference[:, 64:96] = -9999  # the validation stripe
    write_raster(scene.folder / "reference.tif", reference, nodata=-9999.0)
    with pytest.raises(ResDepthError, match="the reference DSM is void at every validation pixel"):
        train(scene.write(scene.train_config()))


def test_cross_validation_trains_on_four_stripes(scene: MadeScene) -> None:
    run = train(scene.write(scene.train_config(datasets={"crossval_training": True})))
    areas = json.loads((run / "config.json").read_text())["datasets"][0]["area_defn"]
    assert areas["train"]["x_extent"] == [[0, 31], [64, 159]]
    assert areas["val"]["x_extent"] == [[32, 63]]


def test_several_data_sets_train_together(scene: MadeScene, tmp_path: Path) -> None:
    from conftest import make_scene

    second = make_scene(tmp_path / "second", 64, 120, seed=3)
    config = scene.train_config(datasets={"area_type": "train", "allocation_strategy": "entire"})
    other = second.train_config(datasets={"area_type": "val", "allocation_strategy": "entire"})
    config["datasets"] += other["datasets"]
    run = train(scene.write(config))
    assert "12 training samples, 32 validation samples" in (run / "run.log").read_text()


def test_a_complete_configuration_of_a_run_trains_again(scene: MadeScene) -> None:
    first = train(scene.write(scene.train_config()))
    assert same_bits(weights_of(train(first / "config.json")), weights_of(first))


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeScene, Path]:
    made = make_scene(tmp_path_factory.mktemp("once"), 64, 160)
    return made, train(made.write(made.train_config()))


def edited(run: Path, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Change the last checkpoint; returns what it was."""
    path = run / "checkpoints" / "Model_last.pth"
    before, content = path.read_bytes(), torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return before


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("resdepth.epoch", lambda content: content["resdepth"].update(epoch="x")),
        ("resdepth.epoch", lambda content: content["resdepth"].update(epoch=-5)),
        ("resdepth.step", lambda content: content["resdepth"].update(step=10**400)),
        ("resdepth.step", lambda content: content["resdepth"].pop("step")),
        ("resdepth.best_loss", lambda content: content["resdepth"].update(best_loss=math.nan)),
        ("epoch", lambda content: content.update(epoch="x")),
        (
            "optimizer_state_dict.param_groups",
            lambda content: content.update(optimizer_state_dict={"state": {}}),
        ),
        ("optimizer", lambda content: content["optimizer_state_dict"]["param_groups"][0].update(lr="x")),
    ],
)
def test_a_checkpoint_of_other_types_is_refused_by_name_and_key(
    run_once: tuple[MadeScene, Path], key: str, change: Callable[[dict[str, Any]], object]
) -> None:
    scene, run = run_once
    before = edited(run, change)
    pretrained = scene.train_config(model={"pretrained_path": str(run / "checkpoints" / "Model_last.pth")})
    with pytest.raises(ResDepthError, match=rf"Model_last\.pth.*{key}"):
        resume(run)
    with pytest.raises(ResDepthError, match=key):
        train(scene.write(pretrained, "pretrained.json"))
    (run / "checkpoints" / "Model_last.pth").write_bytes(before)


def test_a_second_process_on_one_run_is_refused_and_the_run_ends_as_if_alone(scene: MadeScene) -> None:
    run = train(scene.write(scene.train_config()))
    before = {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with held(run / CONFIG_FILE, purpose="the first"):
        done = subprocess.run(
            [sys.executable, "-m", "resdepth", "train", "--resume", str(run)],
            check=False,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2
    assert f"{run}: another process is at work on it" in done.stderr
    assert {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_where_files_cannot_be_locked_a_run_is_resumed_with_a_warning(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = train(scene.write(scene.train_config()))

    def fails(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("resdepth.runtime.placing.fcntl.flock", fails)
    assert resume(run) == run
    assert f"{run}: files cannot be locked here" in caplog.text


def test_a_run_folder_appears_with_its_first_checkpoint_or_not_at_all(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resdepth.workflows.train.write_checkpoint", fails)
    with pytest.raises(KeyboardInterrupt):
        train(scene.write(scene.train_config()))
    assert list((scene.folder / "logs").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr("resdepth.workflows.train._run", fails)
    with pytest.raises(KeyboardInterrupt):
        train(scene.write(scene.train_config()))
    monkeypatch.undo()
    (run,) = (scene.folder / "logs").iterdir()
    resume(run)
    resumed = (run / "checkpoints" / "Model_last.pth").read_bytes()
    assert (
        resumed == (train(scene.write(scene.train_config())) / "checkpoints" / "Model_last.pth").read_bytes()
    )
