"""A trained model as one value and one file."""

import json
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from conftest import make_model
from resdepth.data.normalization import Inputs
from resdepth.errors import InputProblems, ResDepthError
from resdepth.models.model import (
    METADATA_KEY,
    Architecture,
    Model,
    build_network,
    check_weights,
    load_safetensors,
    load_weights,
    plain_weights,
    save_model,
)


def assert_same(one: Model, other: Model) -> None:
    assert one.architecture == other.architecture
    assert one.normalization == other.normalization
    assert one.provenance == other.provenance
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert value.dtype == other.weights[name].dtype
        assert torch.equal(value, other.weights[name])


@pytest.mark.parametrize(
    ("input_channels", "n_views", "settings"),
    [
        ("geom", 0, {}),
        ("geom-mono", 1, {"act_fn_encoder": "prelu", "outer_skip_BN": True}),
        ("geom-stereo", 2, {"up_mode": "bilinear", "do_BN": False}),
        ("geom-multiview", 5, {"depth": 1}),
        ("stereo", 2, {}),
    ],
)
def test_a_saved_model_is_the_same_when_it_is_loaded(
    tmp_path: Path, input_channels: str, n_views: int, settings: dict[str, object]
) -> None:
    model = make_model(input_channels, n_views, **settings)
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    loaded = load_safetensors(path)
    assert_same(model, loaded)
    assert loaded.source == str(path)
    assert loaded.architecture.inputs == Inputs(input_channels != "stereo", n_views)
    x = torch.rand(1, loaded.architecture.inputs.n_channels, 16, 16)
    with torch.inference_mode():
        assert torch.equal(model.network()(x), loaded.network()(x))


def test_a_model_file_says_everything_in_plain_json(tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as stored:
        described = json.loads(stored.metadata()[METADATA_KEY])
    assert described["format"] == 1
    assert described["architecture"]["settings"]["depth"] == 2
    assert described["normalization"] == {"height_sigma": 2.5, "image_mean": 350.0, "image_std": 60.0}
    assert described["provenance"] == {"tile_size": 16}


def test_the_network_of_a_model_is_ready_for_inference_and_a_copy() -> None:
    model = make_model()
    network = model.network()
    assert not network.training
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert model.weights["last_layer.weight"].any()


def test_a_model_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_model(make_model(), path)
    before = path.read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resdepth.models.model.save_file", fails)
    with pytest.raises(ResDepthError, match=r"model\.safetensors: cannot be written .*No space left"):
        save_model(make_model(seed=1), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_model_cannot_be_written_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResDepthError, match=r"gone/model\.safetensors: cannot be written"):
        save_model(make_model(), tmp_path / "gone" / "model.safetensors")


def test_weights_that_do_not_fit_are_stated_by_name() -> None:
    weights = dict(make_model().weights)
    weights["head.weight"] = weights.pop("last_layer.weight")
    weights["last_layer.bias"] = torch.zeros(2)
    with pytest.raises(ResDepthError) as raised:
        load_weights(build_network(make_model().architecture), weights)
    assert "last_layer.weight is missing" in str(raised.value)
    assert "head.weight is not part of the network" in str(raised.value)
    assert "last_layer.bias has shape (2,) instead of (1,)" in str(raised.value)


def test_a_network_is_not_built_before_the_weights_fit_it() -> None:
    settings = {"n_input_channels": 3, "start_kernel": 10**6, "max_filter_depth": 10**6, "depth": 2}
    vast = Architecture("UNet", "geom-stereo", settings)  # some 10 TB
    with pytest.raises(ResDepthError, match="do not fit"):
        check_weights(vast, make_model().weights)
    with pytest.raises(ResDepthError, match="do not fit"):
        replace(make_model(), architecture=vast).network()


def test_weights_that_are_not_finite_are_refused() -> None:
    weights = dict(make_model().weights)
    weights["last_layer.bias"] = torch.tensor([float("nan")])
    with pytest.raises(ResDepthError, match=r"last_layer\.bias: not finite"):
        check_weights(make_model().architecture, weights)


def test_an_unknown_network_or_setting_is_refused() -> None:
    with pytest.raises(ResDepthError, match="no network 'VNet'"):
        build_network(Architecture("VNet", "geom", {}))
    with pytest.raises(ResDepthError, match="no setting kernel"):
        build_network(Architecture("UNet", "geom", {"kernel": 3}))


def test_channels_that_contradict_the_variant_are_refused() -> None:
    with pytest.raises(ResDepthError, match="'geom-mono' but n_input_channels is 3"):
        Architecture("UNet", "geom-mono", {"n_input_channels": 3}).inputs  # noqa: B018


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputProblems, match="not a readable"):
        load_safetensors(path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_wrapped_networks_are_those_of_the_network(tmp_path: Path, prefix: str) -> None:
    model = make_model()
    wrapped = {prefix + name: value for name, value in model.weights.items()}
    assert plain_weights(wrapped, tmp_path).keys() == model.weights.keys()
    assert plain_weights({}, tmp_path) == {}


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn, torch.bool])
def test_weights_that_are_no_plain_numbers_are_refused_by_name(tmp_path: Path, kind: torch.dtype) -> None:
    model = make_model()
    weights = {name: value.to(kind) for name, value in model.weights.items()}
    save_model(replace(model, weights=weights), tmp_path / "m.safetensors")
    with pytest.raises(InputProblems, match=r"m\.safetensors: .* holds \w+ instead of float32"):
        load_safetensors(tmp_path / "m.safetensors")


def test_variances_below_zero_are_refused() -> None:
    model = make_model()
    name = next(name for name in model.weights if name.endswith("running_var"))
    with pytest.raises(ResDepthError, match=f"{name}: variances below zero"):
        check_weights(model.architecture, {**model.weights, name: -model.weights[name]})


@pytest.mark.parametrize(
    ("provenance", "key"),
    [
        ({"tile_size": "large"}, "tile_size"),
        ({"tile_size": 10**30}, "tile_size"),
        ({"datasets": [{"gsd_m": -1.0}]}, "datasets[0].gsd_m"),
        ({"datasets": [{"gsd_m": 10**400}]}, "datasets[0].gsd_m"),
        ({"epoch": [1]}, "epoch"),
    ],
)
def test_what_a_file_states_of_its_training_has_to_make_sense(
    tmp_path: Path, provenance: dict[str, Any], key: str
) -> None:
    save_model(replace(make_model(), provenance=provenance), tmp_path / "m.safetensors")
    with pytest.raises(InputProblems, match=rf"m\.safetensors: {re.escape(key)}: found"):
        load_safetensors(tmp_path / "m.safetensors")
