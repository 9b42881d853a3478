"""The fusion network: what it sees, what it leaves alone, how far it looks."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from torch import nn

from resdepth.data.normalization import Normalization, inputs_of_network, normalize
from resdepth.errors import InputProblems
from resdepth.models.fusion_unet import (
    AVERAGED_PX,
    ERROR_FACTOR_ALONE,
    ERROR_FACTORS,
    HALO_PX,
    DeployedFusion,
    FusionUNet,
)
from resdepth.models.inference import deployed
from resdepth.models.model import Architecture, Model, load_safetensors, new_network, save_model
from resdepth.models.schema import FusionSettings

SETTINGS = {"n_input_channels": 7, "start_kernel": 8, "depth": 4}


def trained(smoothing: float = 0.0, n_input_channels: Literal[1, 7] = 7) -> FusionUNet:
    """A network whose normalisations have seen something, and whose last layer says something."""
    torch.manual_seed(3)
    network = FusionUNet(
        FusionSettings(n_input_channels=n_input_channels, start_kernel=8, smoothing=smoothing)
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    nn.init.normal_(network.last.weight, 0, 0.2)
    return network.eval()


@pytest.mark.parametrize("n_input_channels", [1, 7])
def test_a_deployed_network_gives_what_the_network_gives(n_input_channels: Literal[1, 7]) -> None:
    network, x = trained(0.0, n_input_channels), torch.randn(2, n_input_channels, 64, 48)
    made = deployed(network)
    assert isinstance(made, DeployedFusion)
    with torch.inference_mode():
        torch.testing.assert_close(made(x), network(x), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in made.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(("smoothing", "n"), [(0.0, 7), (1.0, 7), (0.0, 1)])
def test_inside_its_halo_nothing_beyond_matters(smoothing: float, n: Literal[1, 7]) -> None:
    halo = HALO_PX
    network, x = deployed(trained(smoothing, n)), torch.randn(1, n, 2 * halo + 32, 2 * halo + 48)
    other = torch.randn(1, n, 2 * halo + 32 + 64, 2 * halo + 48 + 64)
    other[:, :, 32:-32, 32:-32] = x
    with torch.inference_mode():
        inner = other[:, :, 32:-32, 32:-32]
        assert network.inside(x).shape == (1, 2, 32, 48)
        whole = network(other)[:, :, 32 + halo : -32 - halo, 32 + halo : -32 - halo]
        torch.testing.assert_close(network.inside(inner), whole, atol=1e-5, rtol=0)


def test_the_halo_is_no_wider_than_needed() -> None:
    """It is of whole cells, and holds what averages of the heights look at."""
    predict = trained().predict
    x = torch.zeros(1, 7, 2 * HALO_PX + 16, 2 * HALO_PX + 16, requires_grad=True)
    refined, scale = predict(x + torch.randn_like(x))
    inside = slice(HALO_PX, HALO_PX + 16)
    (refined[..., inside, inside].sum() + scale[..., inside, inside].sum()).backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1)) > 0
    rows = torch.nonzero(seen.any(dim=1))
    reach = max(HALO_PX - int(rows[0]), int(rows[-1]) - (HALO_PX + 15))
    assert HALO_PX - 2 * 16 < reach <= HALO_PX - AVERAGED_PX


@pytest.mark.parametrize(
    ("correction", "error", "matched", "smoothing", "share"),
    [
        (0.2, 0.2, True, 0.0, 0.0),  # below 1.2 of its error
        (0.2, 0.08, True, 0.0, 1.0),  # above 2.2
        (0.2, 0.2 / 1.7, True, 0.0, 0.5),  # half-way between
        (1.6, 1.6, True, 0.0, 0.0),  # large: below 1.5 of its error
        (1.6, 0.6, True, 0.0, 1.0),  # ... above 2.5
        (1.6, 0.8, True, 0.0, 0.5),  # ... half-way between
        (1.0, 1.0 / 1.85, True, 0.0, 0.5),  # half-way to large: between 1.35 and 2.35
        (0.8, 0.8 / 1.7, False, 0.0, 0.5),  # where nothing is seen, small
        (3.2, 1.6, False, 0.0, 0.5),  # ... large
        (0.2, 1.0, True, 1.0, 1.0),  # of a noisy DSM: small ones, above 0.05 of their error
        (0.2, 0.2 / 0.8625, True, 0.5, 0.5),  # ... half as noisy: between 0.6 and 1.125
        (1.6, 0.8, True, 1.0, 0.5),  # ... large ones as of any other
        (0.8, 0.8 / 0.85, False, 1.0, 0.5),  # ... where nothing is seen: between 0.6 and 1.1
    ],
)
def test_corrections_are_made_as_far_as_they_exceed_their_expected_error(
    correction: float, error: float, matched: bool, smoothing: float, share: float
) -> None:
    network = trained(smoothing)
    x = torch.randn(1, 7, 64, 64)
    if smoothing:
        x[:, :1] = 0  # averages are those heights
    x[:, 1:2], x[:, 2:3] = x[:, :1], float(matched)
    if not matched:
        x[:, 3:] = 0
    with torch.no_grad():
        network.last.weight.zero_()
        network.last.bias[4:8], network.last.bias[8:] = correction, math.log(error)
    with torch.inference_mode():
        made = network(x)[:, :1] - x[:, :1]
    torch.testing.assert_close(made, torch.full_like(made, correction * share), atol=1e-4, rtol=0)


def show_everywhere(network: FusionUNet, gate: float, rest: float, error: float) -> None:
    """Let a network say the same of every pixel."""
    with torch.no_grad():
        network.last.weight.zero_()
        for part, value in enumerate((gate, rest, math.log(error))):
            network.last.bias[4 * part : 4 * part + 4] = value  # type: ignore[index]


@pytest.mark.parametrize(
    ("error", "noise", "share"),
    [
        (0.5 / 0.7, 0.0, 0.0),
        (0.5 / 1.15, 0.0, 0.5),
        (0.5 / 1.6, 0.0, 1.0),
        (0.5 / 0.5875, 0.5, 0.5),
        (5.0, 1.0, 1.0),
    ],
)
def test_without_images_more_corrections_are_made(error: float, noise: float, share: float) -> None:
    network, x = trained(noise, 1), torch.randn(1, 1, 64, 64)
    show_everywhere(network, gate=-30, rest=0.5, error=error)
    with torch.inference_mode():
        heights, expected = network(x).split(1, dim=1)
    torch.testing.assert_close(heights - x, torch.full_like(x, 0.5 * share), atol=1e-4, rtol=0)
    left = ERROR_FACTOR_ALONE * math.hypot(error, 0.5 * (1 - share))
    torch.testing.assert_close(expected, torch.full_like(x, left), atol=1e-4, rtol=0)


def test_without_images_medians_stand_in_for_what_is_matched() -> None:
    network, x = trained(0.0, 1), torch.randn(2, 1, 64, 48)
    show_everywhere(network, gate=30, rest=0, error=1)
    with torch.inference_mode():
        refined, _ = network.predict(x)
    rows = median_filter(x.numpy(), (1, 1, 5, 1), mode="nearest")
    np.testing.assert_allclose(refined, median_filter(rows, (1, 1, 1, 5), mode="nearest"), atol=1e-6)


def test_heights_of_a_noisy_dsm_are_averaged_and_steps_stay() -> None:
    network = trained(1.0)
    with torch.no_grad():
        network.last.weight.zero_()
        network.last.bias[:4], network.last.bias[4:8], network.last.bias[8:] = -30.0, 0.0, math.log(0.2)
    x = torch.zeros(1, 7, 64, 64)
    x[:, 0] = 0.1 * torch.randn(64, 64)
    x[:, 0, :, 32:] += 5
    x[:, 1:2], x[:, 2] = x[:, :1], 1.0
    with torch.inference_mode():
        heights = network(x)[0, 0]
    low, high = heights[:, :32], heights[:, 32:]
    assert max(low.std(), high.std()) < 0.03
    assert float(heights[:, 32].mean() - heights[:, 31].mean()) == pytest.approx(5, abs=0.05)


@pytest.mark.parametrize(("matched", "factor"), [(1.0, ERROR_FACTORS[0]), (0.0, ERROR_FACTORS[1])])
def test_what_was_not_corrected_adds_to_the_error(matched: float, factor: float) -> None:
    network, correction = trained(), 0.5
    x = torch.zeros(1, 7, 32, 32)
    x[:, 2] = matched
    for scale, left in ((0.1, 0.0), (2.0, correction)):
        with torch.no_grad():
            network.last.weight.zero_()
            network.last.bias[4:8], network.last.bias[8:] = correction, math.log(scale)
        with torch.inference_mode():
            error = network(x)[:, 1]
        expected = factor * math.hypot(scale, left)
        torch.testing.assert_close(error, torch.full_like(error, expected), atol=1e-5, rtol=0)


def test_bfloat16_does_not_round_the_heights() -> None:
    network = trained()
    with torch.no_grad():
        network.last.weight.zero_()
        network.last.bias.zero_()
        network.last.bias[:4] = -30.0  # the gate stays shut
    x = torch.randn(1, 7, 32, 32) + 1000
    with torch.inference_mode():
        given = deployed(network, torch.bfloat16)(x)
    assert given.dtype == torch.float32
    assert torch.equal(given[:, :1], x[:, :1])


def test_its_channels_are_heights_and_agreements() -> None:
    dsm = np.array([[10, 12], [np.nan, 16]], np.float32)
    matched = np.array([[11, np.nan], [15, np.nan]], np.float32)
    agreements = [np.full((2, 2), value, np.float32) for value in (0.1, 0.2, 0.3, np.nan)]
    inputs = inputs_of_network("geom-matched", 7)
    assert inputs.n_channels == 7
    channels = normalize(dsm, np.float64(10), [matched, *agreements], Normalization(2.0), inputs)
    np.testing.assert_array_equal(channels[0], [[0, 1], [0, 3]])
    np.testing.assert_array_equal(channels[1], [[0.5, 1], [2.5, 3]])
    np.testing.assert_array_equal(channels[2], [[1, 0], [1, 0]])
    np.testing.assert_array_equal(channels[3:, 0, 0], np.float32([0.1, 0.2, 0.3, 0]))
    alone = normalize(dsm, np.float64(10), [], Normalization(2.0), inputs)
    np.testing.assert_array_equal(alone[0], alone[1])
    assert not alone[2:].any()


def test_it_is_stored_and_read(tmp_path) -> None:
    weights = trained().state_dict()
    model = Model(Architecture("FusionUNet", "geom-matched", SETTINGS), weights, Normalization(1.0))
    save_model(model, tmp_path / "fusion.safetensors")
    read = load_safetensors(tmp_path / "fusion.safetensors")
    assert read.architecture == model.architecture
    x = torch.randn(1, 7, 32, 32)
    with torch.inference_mode():
        assert torch.equal(read.network()(x), trained()(x))


@pytest.mark.parametrize(("seen", "n"), [("geom", 7), ("geom-matched", 1), ("geom-stereo", 3)])
def test_what_it_sees_and_its_channels_agree(seen: str, n: int, tmp_path: Path) -> None:
    settings = {**SETTINGS, "n_input_channels": n}
    model = Model(Architecture("FusionUNet", seen, settings), trained().state_dict(), Normalization(1.0))
    save_model(model, tmp_path / "m.safetensors")
    with pytest.raises(InputProblems, match="input_channels"):
        load_safetensors(tmp_path / "m.safetensors")


@pytest.mark.parametrize("change", [{"n_input_channels": 3}, {"depth": 3}, {"up_mode": "bilinear"}])
def test_other_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="FusionUNet has"):
        new_network("FusionUNet", {**SETTINGS, **change})
