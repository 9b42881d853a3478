"""Networks rewritten for inference."""

import itertools

import pytest
import torch
from torch import nn

from resdepth.models.inference import deployed, fold_batch_norm, rounded_kernels
from resdepth.models.model import new_network
from resdepth.models.unet import halo_px

SWITCHES = ("do_BN", "outer_skip_BN", "outer_skip", "bias_conv_layer")
OPTIONS = [
    {"up_mode": up_mode, **dict(zip(SWITCHES, chosen, strict=True))}
    for up_mode in ("transpose", "bilinear")
    for chosen in itertools.product([True, False], repeat=len(SWITCHES))
]
ACTIVATIONS = [
    {f"act_fn_{place}": name}
    for place in ("encoder", "decoder", "bottleneck")
    for name in ("relu", "lrelu", "prelu")
]


def trained(**settings: object) -> nn.Module:
    """A network whose BatchNorms have seen something."""
    torch.manual_seed(1)
    network = new_network("UNet", {"n_input_channels": 3, "start_kernel": 4, "depth": 2, **settings})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.5)
            nn.init.uniform_(module.running_var, 0.3, 3)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("settings", [*OPTIONS, *ACTIVATIONS], ids=str)
def test_a_folded_network_gives_what_the_network_gives(settings: dict[str, object]) -> None:
    network = trained(**settings).eval()
    folded = fold_batch_norm(network)
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), network(x), atol=1e-5, rtol=0)
    # Only the one in the outer skip has no convolution before it.
    assert norms(folded) == int(bool(settings.get("outer_skip", True) and settings.get("outer_skip_BN")))


def test_folding_leaves_the_network_itself_alone() -> None:
    network = trained().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fold_batch_norm(network)
    assert network.training
    assert norms(network) == 4
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("settings", [*OPTIONS, *ACTIVATIONS], ids=str)
@pytest.mark.parametrize("shape", [(16, 24), (4, 4), (4, 8)])
def test_a_deployed_network_gives_what_the_network_gives_up_to_its_edges(
    settings: dict[str, object], shape: tuple[int, int]
) -> None:
    network = trained(**settings).eval()
    x = torch.randn(2, 3, *shape)
    with torch.inference_mode():
        torch.testing.assert_close(deployed(network)(x), network(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", [*OPTIONS, *ACTIVATIONS], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_inside_its_halo_a_network_gives_what_it_gives_in_the_midst_of_a_larger_image(
    settings: dict[str, object], depth: int
) -> None:
    network = trained(**settings, depth=depth).eval()
    cell, halo = 2**depth, halo_px(depth, str(settings.get("up_mode", "transpose")))
    far, around = halo + 2 * cell, 2 * cell
    image = torch.randn(2, 3, 2 * far + 3 * cell, 2 * far + cell)
    seen = image[:, :, around:-around, around:-around]
    with torch.inference_mode():
        expected = network(image)[:, :, far:-far, far:-far]
        torch.testing.assert_close(deployed(network).inside(seen), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("up_mode", ["transpose", "bilinear"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("height", [1, 5])
def test_bands_do_not_show(up_mode: str, depth: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = deployed(trained(up_mode=up_mode, depth=depth).eval())
    around = 2 * halo_px(depth, up_mode)
    x = torch.randn(2, 3, around + height * 2**depth, around + 2**depth)
    with torch.inference_mode():
        expected = network(x), network.inside(x)
        monkeypatch.setattr("resdepth.models.inference._BAND_BYTES", {"cpu": 1})
        torch.testing.assert_close((network(x), network.inside(x)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_does_not_matter_whether_this_torch_can_fuse(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = trained(start_kernel=16).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        fused = deployed(network, dtype)(x)
        monkeypatch.setattr("resdepth.models.inference._FUSED", None)
        torch.testing.assert_close(deployed(network, dtype)(x), fused, atol=1e-5, rtol=0)


def test_in_bfloat16_the_outer_skip_stays_exact() -> None:
    network = trained().eval()
    nn.init.zeros_(network.last_layer.weight)
    nn.init.zeros_(network.decoder[-1].bias)
    x = 1000 + torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        found = deployed(network, torch.bfloat16)(x)
        torch.testing.assert_close(found, network(x), atol=0, rtol=0)


@pytest.mark.parametrize("up_mode", ["transpose", "bilinear"])
def test_in_bfloat16_a_correction_is_right_to_a_percent(up_mode: str) -> None:
    network = trained(start_kernel=16, up_mode=up_mode).eval()
    halo = halo_px(2, up_mode)
    x = torch.randn(1, 3, 64 + 2 * halo, 64 + 2 * halo)
    middle = (..., slice(halo, -halo), slice(halo, -halo))
    with torch.inference_mode():
        correction = network(x) - x[:, :1]
        fast = deployed(network, torch.bfloat16)
        found, inside = fast(x) - x[:, :1], fast.inside(x) - x[:, :1][middle]
    assert found.dtype == inside.dtype == torch.float32
    limit = 0.01 * correction.square().mean().sqrt()
    assert (found - correction).square().mean().sqrt() < limit
    # At the very edge the network sees other pixels beyond it.
    within = (..., slice(halo, -halo), slice(halo, -halo))
    assert (inside - correction[middle])[within].square().mean().sqrt() < limit


@pytest.mark.parametrize("up_mode", ["transpose", "bilinear"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_nothing_beyond_the_halo_counts_and_something_within_does(up_mode: str, depth: int) -> None:
    torch.manual_seed(0)
    cell, halo = 2**depth, halo_px(depth, up_mode)
    settings = {"start_kernel": 2, "depth": depth, "up_mode": up_mode, "act_fn_encoder": "lrelu",
                "act_fn_decoder": "lrelu", "act_fn_bottleneck": "lrelu", "do_BN": False}  # fmt: skip
    network = new_network("UNet", settings).double().eval()
    for value in network.parameters():
        value.data = value.data.abs() + 0.05  # nothing cancels out
    network.pool = nn.AvgPool2d(2)  # nothing is chosen: each pixel counts
    x = torch.rand(1, 1, cell, 2 * halo + 3 * cell, dtype=torch.float64, requires_grad=True)
    start = halo + cell
    (slope,) = torch.autograd.grad(network(x)[..., start : start + cell].sum(), x)
    counts = (slope != 0).any(dim=-2).flatten()
    assert not counts[: start - halo].any()
    assert not counts[start + cell + halo :].any()
    assert counts[start - halo : start - halo + cell].any()
    assert counts[start + halo : start + cell + halo].any()


def test_rounded_kernels_keep_their_sums() -> None:
    convolution = nn.Conv2d(16, 16, 3)
    exact = convolution.weight.detach().clone()
    found = rounded_kernels(convolution, torch.bfloat16).weight
    assert found.dtype == torch.bfloat16
    largest_step = exact.abs().amax(dim=(2, 3)) / 2**7
    assert ((found.float() - exact).abs().amax(dim=(2, 3)) < 2 * largest_step).all()
    sums_off, nearest_off = (
        (kernels.float() - exact).sum(dim=(2, 3)).square().mean().sqrt()
        for kernels in (found, exact.bfloat16())
    )
    assert sums_off < nearest_off / 5
