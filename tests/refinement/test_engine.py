"""How a network runs."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from conftest import make_model
from resdepth.data.normalization import Normalization
from resdepth.errors import ResDepthError
from resdepth.models.model import Architecture, Model, new_network
from resdepth.refinement.engine import (
    Refiner,
    bfloat16_gain,
    choose_device,
    choose_precision,
    computes_bfloat16,
)

CPU = torch.device("cpu")


def slow_refine(model: Model, dsm: np.ndarray, views: np.ndarray) -> np.ndarray:
    """One tile, step by step."""
    constants, inputs = model.normalization, model.architecture.inputs
    centre = dsm.mean(dtype=float)
    channels = [(dsm - centre) / constants.height_sigma] if inputs.uses_dsm else []
    channels += [(view - constants.image_mean) / constants.image_std for view in views]
    with torch.inference_mode():
        result = model.network()(torch.from_numpy(np.stack(channels)[None].astype(np.float32)))
    return result.numpy()[0, 0] * constants.height_sigma + centre


@pytest.mark.parametrize(
    ("input_channels", "n_views"),
    [("geom", 0), ("geom-mono", 1), ("geom-stereo", 2), ("stereo", 2), ("geom-multiview", 4)],
)
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_tiles_are_refined_each_with_its_own_mean(
    input_channels: str, n_views: int, batch_size: int | None
) -> None:
    rng = np.random.default_rng(0)
    dsm = (rng.normal(0, 3, (3, 16, 16)) + np.array([0, 400, 8000])[:, None, None]).astype(np.float32)
    views = rng.uniform(0, 800, (3, n_views, 16, 16)).astype(np.float32)
    model = make_model(input_channels, n_views)
    refined = Refiner(model, device=CPU, batch_size=batch_size).refine(dsm, views)
    assert refined.dtype == np.float32
    assert refined.shape == dsm.shape
    expected = np.stack([slow_refine(model, *tile) for tile in zip(dsm, views, strict=True)])
    np.testing.assert_allclose(refined, expected, atol=1e-3)
    assert np.abs(expected - dsm).max() > 0.1, "a network that changes nothing shows nothing"


def test_the_neighbours_in_a_batch_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    dsm = rng.normal(400, 3, (4, 16, 16)).astype(np.float32)
    views = rng.uniform(0, 800, (4, 2, 16, 16)).astype(np.float32)
    refiner = Refiner(make_model(), device=CPU)
    together = refiner.refine(dsm, views)
    alone = np.concatenate([refiner.refine(dsm[i : i + 1], views[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_void_in_an_image_is_not_a_void_in_the_result() -> None:
    views = np.full((1, 2, 16, 16), 300, np.float32)
    views[0, 1, 3:6, 3:6] = np.nan
    refined = Refiner(make_model(), device=CPU).refine(np.zeros((1, 16, 16), np.float32), views)
    assert np.isfinite(refined).all()


def test_a_batch_holds_as_many_pixels_as_suit_the_device_and_at_least_one_tile() -> None:
    refiner = Refiner(make_model(), device=CPU)
    assert refiner.batch_size(256) == 4
    assert refiner.batch_size(128) == 16
    assert refiner.batch_size(2048) == 1
    assert Refiner(make_model(), device=CPU, batch_size=7).batch_size(2048) == 7


@pytest.mark.parametrize(
    ("there", "best"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_takes_cuda_before_mps_before_the_cpu(
    there: tuple[str, ...], best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert choose_device("auto").type == best
    assert choose_device("cpu") == CPU


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResDepthError, match=r"^device: 'cuda' is not available here; available: .*cpu"):
        choose_device("cuda")


def test_fp32_is_fp32_and_bf16_is_bf16_whatever_the_machine(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_precision("fp32", CPU) == torch.float32
    assert choose_precision("bf16", CPU) == torch.bfloat16


def test_apple_graphics_stay_in_fp32() -> None:
    assert choose_precision("auto", torch.device("mps")) == torch.float32


def test_wider_networks_take_smaller_blocks() -> None:
    areas = []
    for start_kernel in (16, 64, 128):
        settings = {"n_input_channels": 1, "depth": 2, "start_kernel": start_kernel}
        weights = new_network("UNet", settings).state_dict()
        model = Model(Architecture("UNet", "geom", settings), weights, Normalization(1.0))
        areas.append(Refiner(model, device=CPU).block_area())
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1] > 900**2


def test_float32_is_not_rounded_whatever_the_program_around_has_chosen() -> None:
    torch.manual_seed(0)
    settings = {"n_input_channels": 1, "depth": 2, "start_kernel": 64}
    weights = new_network("UNet", settings).state_dict()
    refiner = Refiner(Model(Architecture("UNet", "geom", settings), weights, Normalization(1.0)), device=CPU)
    channels = np.random.default_rng(0).normal(size=(1, 1, 64, 64)).astype(np.float32)
    expected, before = refiner.run(channels), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        np.testing.assert_array_equal(refiner.run(channels), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.fixture
def measured_anew() -> Iterator[None]:
    """The processor is asked again, and once more afterwards."""
    computes_bfloat16.cache_clear()
    yield
    computes_bfloat16.cache_clear()


@pytest.mark.usefixtures("measured_anew")
@pytest.mark.parametrize(
    ("can", "gain", "taken"),
    [
        ({"avx512_bf16": True}, 2.2, torch.bfloat16),
        ({"avx512_bf16": True}, 0.55, torch.float32),
        ({"avx512_bf16": True}, 1.1, torch.float32),
        ({"bf16": True}, 3.0, torch.bfloat16),
        ({"avx512_bf16": True, "amx_bf16": True}, None, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": False}, None, torch.float32),
        ({}, None, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_products_are_faster(
    can: dict[str, bool], gain: float | None, taken: torch.dtype,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def measured() -> float:
        assert gain is not None, "nothing needs to be measured"
        return gain

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    monkeypatch.setattr("resdepth.refinement.engine.bfloat16_gain", measured)
    assert choose_precision("auto", CPU) == taken
    assert not caplog.messages
    assert choose_precision("bf16", CPU) == torch.bfloat16, "who asks for it gets it"
    assert any("not faster than fp32" in one for one in caplog.messages) == (taken == torch.float32)


def test_the_gain_of_bfloat16_is_a_ratio_of_times() -> None:
    assert 1e-3 < bfloat16_gain() < 1e3
