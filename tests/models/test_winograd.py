"""Convolutions with fewer multiplications."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from resdepth.models.inference import WinogradConvolution, deployed, pays
from resdepth.models.model import new_network
from resdepth.models.unet import halo_px

WIDE = {"n_input_channels": 3, "start_kernel": 64, "depth": 3}


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("shape", [(6, 6), (7, 9), (3, 4), (34, 66), (20, 301)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_result_is_that_of_a_convolution(
    padding: int, shape: tuple[int, int], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 7, 3, bias=bias)
    fast = WinogradConvolution(convolution)
    x = torch.randn(2, 5, *shape).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        parameters = (one if one is None else one.double() for one in (convolution.weight, convolution.bias))
        expected = functional.conv2d(x.double(), *parameters, padding=padding).float()
        torch.testing.assert_close(fast(x, padding), expected, atol=1e-5, rtol=1e-5)
        monkeypatch.setattr("resdepth.models.inference._CHUNK_BYTES", 1)
        torch.testing.assert_close(fast(x, padding), expected, atol=1e-5, rtol=1e-5)


def test_a_part_of_an_image_and_any_order_of_its_numbers_will_do() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, 3)
    image = torch.randn(1, 4, 20, 30)
    for given in (image, image.contiguous(memory_format=torch.channels_last)):
        part = given[:, :, 3:17, 5:25]
        with torch.inference_mode():
            found = WinogradConvolution(convolution)(part, 0)
            torch.testing.assert_close(found, convolution(part), atol=1e-5, rtol=1e-5)


def test_it_is_taken_where_there_are_many_channels_in_float32() -> None:
    assert pays(nn.Conv2d(64, 128, 3))
    assert not pays(nn.Conv2d(32, 128, 3))
    assert not pays(nn.Conv2d(64, 64, 1))
    assert not pays(nn.Conv2d(64, 64, 3).bfloat16())


@pytest.mark.parametrize("up_mode", ["transpose", "bilinear"])
def test_a_wide_network_gives_what_it_gave(up_mode: str) -> None:
    torch.manual_seed(0)
    network = new_network("UNet", {**WIDE, "up_mode": up_mode}).eval()
    halo = halo_px(3, up_mode)
    x = torch.randn(1, 3, 4 * halo + 24, 4 * halo + 16)
    fast = deployed(network)
    assert any(isinstance(module, WinogradConvolution) for module in fast.modules())
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(fast(x), expected, atol=1e-4, rtol=0)
        inside = fast.inside(x[:, :, halo:-halo, halo:-halo])
        torch.testing.assert_close(
            inside, expected[:, :, 2 * halo : -2 * halo, 2 * halo : -2 * halo], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    fast = deployed(new_network("UNet", WIDE).eval(), dtype)
    x = torch.randn(1, 3, 200, 168)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with torch.inference_mode():
                results.append(fast.inside(x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
