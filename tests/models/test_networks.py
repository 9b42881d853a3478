"""The published U-Net."""

import pytest
import torch
from torch import nn

from resdepth.models.model import NETWORKS, new_network

# The defaults of the training configuration; those of the class differ.
STEREO = {
    "n_input_channels": 3,
    "start_kernel": 64,
    "depth": 5,
    "act_fn_encoder": "relu",
    "act_fn_decoder": "relu",
    "act_fn_bottleneck": "relu",
    "up_mode": "transpose",
    "do_BN": True,
    "outer_skip": True,
    "outer_skip_BN": False,
    "bias_conv_layer": True,
}
SMALL = {"n_input_channels": 2, "start_kernel": 2, "depth": 3}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_default_stereo_network_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = new_network("UNet", STEREO)
    assert count(network) == 12_625_345


def test_missing_settings_are_those_of_the_published_class() -> None:
    """A model_config.json may lack keys; the class's defaults differ from the configuration's."""
    explicit = {
        "n_input_channels": 1,
        "start_kernel": 64,
        "max_filter_depth": 512,
        "depth": 8,
        "act_fn_encoder": "relu",
        "act_fn_decoder": "relu",
        "act_fn_bottleneck": "relu",
        "up_mode": "transpose",
        "do_BN": True,
        "bias_conv_layer": False,
        "outer_skip": True,
        "outer_skip_BN": False,
    }
    with torch.device("meta"):
        default, named = new_network("UNet", {}), new_network("UNet", explicit)
    assert str(default) == str(named)
    assert "last_layer.bias" not in default.state_dict()


def test_filters_double_per_level_up_to_the_cap() -> None:
    with torch.device("meta"):
        state = new_network("UNet", {**STEREO, "depth": 6, "start_kernel": 48}).state_dict()
    widths = [len(state[f"encoder.{level}.0.0.weight"]) for level in range(6)]
    assert widths == [48, 96, 192, 384, 512, 512]


@pytest.mark.parametrize("do_bn", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_only_convolutions_without_batch_norm_have_a_bias_and_the_last_as_stated(
    do_bn: bool, bias: bool
) -> None:
    network = new_network("UNet", {**SMALL, "do_BN": do_bn, "bias_conv_layer": bias})
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    *others, last = convs
    assert last is network.last_layer
    assert len(others) == 6
    assert {conv.bias is None for conv in others} == {do_bn}
    assert (last.bias is not None) is bias


@pytest.mark.parametrize("up_mode", ["transpose", "bilinear"])
def test_upsampling_always_has_a_bias(up_mode: str) -> None:
    network = new_network("UNet", {**SMALL, "up_mode": up_mode})
    kinds = (nn.ConvTranspose2d, nn.Conv2d)
    ups = [module for name, module in network.decoder.named_modules() if isinstance(module, kinds)]
    ups = [module for module in ups if module.kernel_size != (3, 3)]
    assert len(ups) == 3
    assert all(module.bias is not None for module in ups)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("up_mode", ["transpose", "bilinear"])
def test_the_output_has_one_channel_and_the_size_of_the_input(depth: int, up_mode: str) -> None:
    network = new_network("UNet", {**SMALL, "depth": depth, "up_mode": up_mode}).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 2, 32, 48)).shape == (2, 1, 32, 48)


def test_the_outer_skip_adds_the_first_channel() -> None:
    torch.manual_seed(0)
    with_skip = new_network("UNet", SMALL).eval()
    without = new_network("UNet", {**SMALL, "outer_skip": False}).eval()
    without.load_state_dict(with_skip.state_dict())
    x = torch.randn(1, 2, 16, 16)
    with torch.inference_mode():
        difference = with_skip(x) - without(x)
    torch.testing.assert_close(difference, x[:, :1])


def test_the_outer_skip_may_pass_a_batch_norm() -> None:
    network = new_network("UNet", {**SMALL, "outer_skip_BN": True}).eval()
    plain = new_network("UNet", SMALL).eval()
    missing = network.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert [name for name in missing if "num_batches" not in name] == [
        f"layer_outer_skip.0.{name}" for name in ("weight", "bias", "running_mean", "running_var")
    ]
    network.layer_outer_skip[0].running_mean.fill_(3.0)
    network.layer_outer_skip[0].running_var.fill_(4.0)
    x = torch.randn(1, 2, 16, 16)
    with torch.inference_mode():
        difference = network(x) - plain(x)
    torch.testing.assert_close(difference, (x[:, :1] - 3) / 2 - x[:, :1], atol=1e-4, rtol=1e-4)


def test_the_outer_skip_may_be_given_up_batch_norm_or_not() -> None:
    network = new_network("UNet", {**SMALL, "outer_skip": False, "outer_skip_BN": True})
    assert not [name for name in network.state_dict() if "outer_skip" in name]


@pytest.mark.parametrize("name", ["relu", "lrelu", "prelu"])
@pytest.mark.parametrize("place", ["encoder", "decoder", "bottleneck"])
def test_each_activation_can_be_chosen_at_each_place(name: str, place: str) -> None:
    network = new_network("UNet", {**SMALL, f"act_fn_{place}": name})
    kinds = {"relu": nn.ReLU, "lrelu": nn.LeakyReLU, "prelu": nn.PReLU}
    for part in ("encoder", "decoder", "bottleneck"):
        found = {type(module) for module in getattr(network, part).modules()} & set(kinds.values())
        assert found == {kinds[name] if part == place else nn.ReLU}
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            assert module.weight.tolist() == [0.25]
        if isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.01


def test_a_training_step_reaches_every_weight() -> None:
    torch.manual_seed(0)
    network = new_network("UNet", {**SMALL, "outer_skip_BN": True, "act_fn_decoder": "prelu"})
    network(torch.randn(2, 2, 16, 16)).square().mean().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


def test_unknown_names_and_settings_are_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="no network 'ResNet'; known: UNet"):
        new_network("ResNet", {})
    with pytest.raises(ValueError, match=r"no setting kernel; known: .*start_kernel"):
        new_network("UNet", {"kernel": 3})
    assert set(NETWORKS) == {"FusionUNet", "UNet"}
