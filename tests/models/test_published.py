"""The files of the published code: they load, and nothing in them is executed."""

import json
import math
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import make_model, write_published_run
from resdepth.errors import InputProblems, ResDepthError
from resdepth.models.model import Model, save_model
from resdepth.models.published import (
    PublishedFiles,
    load_model,
    load_published,
    load_run_folder,
    read_architecture,
    read_checkpoint,
    read_moments,
    write_architecture,
    write_checkpoint,
    write_moments,
)


def same_bits(one: Model, other: Model) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(value, other.weights[name]) for name, value in one.weights.items()
    )


# Normalisation


@pytest.mark.parametrize("mean", [None, 0.0, 436.95925903320312])
def test_moments_are_read_as_they_were_written(tmp_path: Path, mean: float | None) -> None:
    write_moments(tmp_path / "x.p", mean, 4.762112701229912)
    assert read_moments(tmp_path / "x.p") == (mean, 4.762112701229912)
    with (tmp_path / "x.p").open("rb") as file:  # as the published code does
        assert pickle.load(file) == {"mean": mean, "std": 4.762112701229912}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("kind", [np.float64, np.float32, float, int])
def test_numbers_of_numpy_are_read(tmp_path: Path, protocol: int, kind: Callable[[float], Any]) -> None:
    content = pickle.dumps({"mean": kind(350.25), "std": kind(2.5)}, protocol=protocol)
    (tmp_path / "x.p").write_bytes(content)
    assert read_moments(tmp_path / "x.p") == (float(kind(350.25)), float(kind(2.5)))


def test_numbers_written_with_the_other_numpy_are_read(tmp_path: Path) -> None:
    content = pickle.dumps({"mean": np.float64(1.5), "std": np.float32(2.5)}, protocol=3)
    old, new = b"numpy._core.multiarray", b"numpy.core.multiarray"
    (tmp_path / "x.p").write_bytes(content.replace(*((old, new) if old in content else (new, old))))
    assert read_moments(tmp_path / "x.p") == (1.5, 2.5)


class Calls:
    """Pickled, it calls a function when it is loaded."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    "a call": lambda folder: pickle.dumps(Calls(os.mkdir, folder / "attacked")),
    "a call in an old protocol": lambda folder: pickle.dumps(
        Calls(os.mkdir, folder / "attacked"), protocol=0
    ),
    "a call beside sound numbers": lambda folder: pickle.dumps(
        {"mean": 1.0, "std": 2.0, "x": Calls(os.mkdir, folder / "attacked")}
    ),
    "an evaluation": lambda folder: pickle.dumps(
        Calls(eval, f"__import__('os').mkdir({str(folder / 'attacked')!r})")
    ),
    "an import": lambda folder: pickle.dumps(Calls(__import__, "antigravity")),
    "a class of numpy": lambda folder: pickle.dumps({"mean": None, "std": np.zeros(3)}),
    "an ordered dictionary": lambda folder: pickle.dumps(OrderedDict(mean=None, std=2.0)),
    "a persistent reference": lambda folder: b"\x80\x04Pattacked\n.",
    "a large memo": lambda folder: b"\x80\x04}r\xff\xff\xff\x7f.",
    "a value nested in itself": lambda folder: b"\x80\x04]" + b"2\x86" * 60 + b".",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_pickle_of_anything_but_numbers_is_refused_and_nothing_runs(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.p"
    path.write_bytes(ATTACKS[name](tmp_path))
    with pytest.raises(InputProblems, match=r"x\.p: refused, nothing was run: "):
        read_moments(path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_attacks_would_run_elsewhere(tmp_path: Path) -> None:
    pickle.loads(ATTACKS["a call"](tmp_path))
    assert (tmp_path / "attacked").is_dir()


@pytest.mark.parametrize(
    ("part", "other"),
    [(b"f8", b"O8"), (b"f8", b"i8"), (b"C\x08", b"C\x07"), (b"\x00\x00\x00<", b"\x00\x00\x00>")],
)
def test_a_number_is_made_from_the_bytes_of_a_float_only(tmp_path: Path, part: bytes, other: bytes) -> None:
    content = pickle.dumps({"mean": None, "std": np.float64(2.5)}, protocol=3)
    assert part in content
    (tmp_path / "x.p").write_bytes(content.replace(part, other))
    with pytest.raises(InputProblems, match=r"x\.p: "):
        read_moments(tmp_path / "x.p")


# Architecture


def test_an_architecture_is_read_as_it_was_written(tmp_path: Path) -> None:
    architecture = make_model("geom-multiview", 4, up_mode="bilinear").architecture
    write_architecture(tmp_path / "model_config.json", architecture)
    assert read_architecture(tmp_path / "model_config.json") == architecture


def test_keys_that_an_architecture_lacks_have_the_published_defaults(tmp_path: Path) -> None:
    content = {"name": "UNet", "input_channels": "geom", "settings": {}}
    (tmp_path / "model_config.json").write_text(json.dumps(content))
    architecture = read_architecture(tmp_path / "model_config.json")
    assert architecture.depth == 8
    assert architecture.inputs.n_channels == 1


def test_everything_wrong_with_an_architecture_is_stated_at_once(tmp_path: Path) -> None:
    settings = {"depth": "5", "do_BN": 1, "act_fn_encoder": "rule", "startkernel": 8, "n_input_channels": 9}
    content = {"name": "UNet", "input_channels": "geomstereo", "settings": settings}
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputProblems) as raised:
        read_architecture(path)
    stated = {problem.where: problem.message for problem in raised.value.problems}
    assert stated.keys() == {
        f"{path}: {key}"
        for key in (
            *("input_channels", "settings.startkernel", "settings.n_input_channels", "settings.depth"),
            *("settings.act_fn_encoder", "settings.do_BN"),
        )
    }
    assert stated[f"{path}: input_channels"].endswith("did you mean 'geom-stereo'?")


# Checkpoints


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    weights = dict(make_model().weights)
    content = {
        "epoch": 3,
        "model_state_dict": weights,
        "loss_val": 1.25,
        "optimizer_state_dict": {"state": {}},
    }
    write_checkpoint(tmp_path / "x.pth", content)
    read = read_checkpoint(tmp_path / "x.pth")
    assert read.keys() == content.keys()
    assert (read["epoch"], read["loss_val"]) == (3, 1.25)
    assert all(torch.equal(value, read["model_state_dict"][name]) for name, value in weights.items())


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("loss", [np.float64(1.25), np.float32(1.25), 1.25])
def test_checkpoints_with_numbers_of_numpy_and_of_old_versions_are_read(
    tmp_path: Path, loss: float, old_format: bool
) -> None:
    content = {"model_state_dict": OrderedDict(make_model().weights), "loss_val": loss}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not old_format)
    assert read_checkpoint(tmp_path / "x.pth")["loss_val"] == 1.25


@pytest.mark.parametrize("old_format", [False, True])
def test_a_checkpoint_that_calls_something_is_refused_and_nothing_runs(
    tmp_path: Path, old_format: bool
) -> None:
    content = {
        "model_state_dict": dict(make_model().weights),
        "loss_val": Calls(os.mkdir, str(tmp_path / "attacked")),
    }
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not old_format)
    with pytest.raises(
        InputProblems, match=r"x\.pth: refused, nothing was run: it tries to load posix\.mkdir"
    ):
        read_checkpoint(tmp_path / "x.pth")
    assert list(tmp_path.iterdir()) == [tmp_path / "x.pth"]


def test_only_arrays_in_memory_are_weights(tmp_path: Path) -> None:
    for value in (
        3,
        torch.zeros(3).to_sparse(),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, device="meta"),
    ):
        torch.save({"model_state_dict": {"last_layer.bias": value}}, tmp_path / "x.pth")
        with pytest.raises(InputProblems, match=r"'last_layer\.bias' is no array of numbers"):
            read_checkpoint(tmp_path / "x.pth")


# Models


@pytest.mark.parametrize(("input_channels", "n_views"), [("geom", 0), ("geom-stereo", 2), ("stereo", 2)])
def test_a_run_folder_is_a_model(tmp_path: Path, input_channels: str, n_views: int) -> None:
    model = make_model(input_channels, n_views)
    write_published_run(tmp_path, model)
    loaded = load_model(tmp_path)
    assert same_bits(model, loaded)
    assert loaded.architecture == model.architecture
    assert loaded.normalization == model.normalization
    assert loaded.provenance == {"epoch": 5, "loss_val": 1.5}  # counted from one, as everywhere else
    assert loaded.source == str(tmp_path / "checkpoints" / "Model_best.pth")


def test_another_checkpoint_of_a_run_can_be_chosen(tmp_path: Path) -> None:
    write_published_run(tmp_path, make_model())
    other = make_model(seed=1)
    write_checkpoint(tmp_path / "checkpoints" / "Model_last.pth", {"model_state_dict": dict(other.weights)})
    assert same_bits(load_run_folder(tmp_path, "Model_last.pth"), other)


def test_files_of_another_run_are_stated_beside_absent_ones(tmp_path: Path) -> None:
    write_published_run(tmp_path, make_model())
    write_architecture(tmp_path / "model_config.json", make_model(depth=3).architecture)
    (tmp_path / "DSM_normalization_parameters.p").unlink()
    (tmp_path / "Image_normalization_parameters.p").unlink()
    with pytest.raises(InputProblems) as raised:
        load_run_folder(tmp_path)
    assert {problem.where for problem in raised.value.problems} == {
        f"{tmp_path}: {name}" for name in ("weights", "normalization_geom", "normalization_image")
    }


def test_images_that_a_network_does_not_see_need_no_normalisation(tmp_path: Path) -> None:
    write_published_run(tmp_path, make_model("geom", 0))
    (tmp_path / "Image_normalization_parameters.p").write_text("damaged")
    assert load_run_folder(tmp_path).normalization.image_std is None


def test_a_loss_that_is_no_number_is_not_handed_on(tmp_path: Path) -> None:
    write_published_run(tmp_path, make_model())
    content = {"model_state_dict": dict(make_model().weights), "loss_val": math.nan, "epoch": "three"}
    write_checkpoint(tmp_path / "checkpoints" / "Model_best.pth", content)
    assert load_run_folder(tmp_path).provenance == {}


def test_a_model_is_loaded_from_whatever_holds_one(tmp_path: Path) -> None:
    model = make_model()
    write_published_run(tmp_path / "run", model)
    save_model(model, tmp_path / "model.safetensors")
    for path in (tmp_path / "run", tmp_path / "model.safetensors", str(tmp_path / "model.safetensors")):
        assert same_bits(load_model(path), model)
    with pytest.raises(ResDepthError, match=r"Model_best\.pth: .*give the run folder"):
        load_model(tmp_path / "run" / "checkpoints" / "Model_best.pth")
    with pytest.raises(ResDepthError, match="gone: no such file"):
        load_model(tmp_path / "gone")


def test_a_model_needs_all_its_files(tmp_path: Path) -> None:
    with pytest.raises(InputProblems) as raised:
        load_published(PublishedFiles(), "c.json: model.")
    assert [problem.where for problem in raised.value.problems] == [
        "c.json: model.weights",
        "c.json: model.architecture",
        "c.json: model.normalization_geom",
    ]
