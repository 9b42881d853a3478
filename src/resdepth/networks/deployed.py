"""The same network, cheaper to run: what training needs is folded away.

Two exact rewritings (up to rounding). Each BatchNorm is a fixed affine map once training is over, and goes
into the convolution before it. And the last block of the U-Net (up-convolution, plus skip, 3x3 convolution to
one channel) is linear: its path through the up-convolution becomes one 3x3 convolution at half the resolution
to four channels, one for each pixel of a 2x2 cell.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resdepth.networks.unet import UNet


def deployed(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of a network for inference: maps (B, C, H, W) float32 to (B, 1, H, W) float32.

    Args:
        network: a trained network.
        dtype: what it computes in; what it takes and gives stays float32, and so does its outer skip.
    """
    folded = fold_batch_norm(network)
    if not isinstance(folded, UNet):
        return folded.to(dtype=dtype)
    return _DeployedUNet(folded, dtype).eval()


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode, each BatchNorm merged into the convolution before it."""
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            conv, norm = module[index], module[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index] = fuse_conv_bn_eval(conv, norm)
                module[index + 1] = nn.Identity()
    return folded


class _DeployedUNet(nn.Module):
    """A U-Net with its BatchNorm folded, its last block rewritten, and float32 at both ends."""

    def __init__(self, unet: UNet, dtype: torch.dtype) -> None:
        super().__init__()
        *levels, last_up = unet.decoder
        self._encoder = unet.encoder.to(dtype)
        # Heights of many metres, rounded to bfloat16, would be centimetres off before anything is computed.
        self._encoder[0].float()
        self._pool = unet.pool
        self._bottleneck = unet.bottleneck.to(dtype)
        self._levels = nn.ModuleList(levels).to(dtype)
        self._last: nn.Module
        if isinstance(last_up, nn.ConvTranspose2d):
            self._last = _LinearEnd(last_up, unet.last_layer, dtype)
        else:
            self._last = _PlainEnd(last_up, unet.last_layer, dtype)
        self._outer_skip = unet.outer_skip
        self._outer_norm = unet.layer_outer_skip
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        skip = x[:, :1]
        skips: list[Tensor] = []
        for block in self._encoder:
            x = block(x).to(self._dtype)
            skips.append(x)
            x = self._pool(x)
        x = self._bottleneck(x)
        for level in self._levels:
            up, convs = level.children()
            x = convs(up(x).add_(skips.pop()))
        x = self._last(x, skips.pop())
        if not self._outer_skip:
            return x
        for layer in self._outer_norm:
            skip = layer(skip)
        return x + skip


class _PlainEnd(nn.Module):
    """The last block as it is: convolution(up(x) + skip) to one channel."""

    def __init__(self, up: nn.Module, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self._up, self._convolution = up.to(dtype), convolution.to(dtype)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        last: Tensor = self._convolution(self._up(x).add_(skip))
        return last.float()


class _LinearEnd(nn.Module):
    """The last block with an up-convolution: convolution(skip) + shuffled(convolution at half resolution)."""

    _up_bias: Tensor
    _kernel: Tensor

    def __init__(self, up: nn.ConvTranspose2d, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        assert up.bias is not None, "the network builds it with a bias"
        self._at_half = _composed(up, convolution).to(dtype)
        # The up-convolution's bias, seen through the convolution: less of it where that looks over the edge.
        self.register_buffer("_up_bias", up.bias.detach().clone().reshape(1, -1, 1, 1))
        self.register_buffer("_kernel", convolution.weight.detach().clone())
        self._convolution = copy.deepcopy(convolution).to(dtype)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        through_skip: Tensor = self._convolution(skip)
        through_up: Tensor = self._at_half(x)
        shuffled = functional.pixel_shuffle(through_up.float(), 2)
        return shuffled.add_(through_skip).add_(self._bias(skip.shape[-2], skip.shape[-1]))

    def _bias(self, height: int, width: int) -> Tensor:
        plane = self._up_bias.expand(1, -1, min(height, 3), min(width, 3))
        small = functional.conv2d(plane, self._kernel, padding=1)  # corners, edges and the middle
        rows, cols = (_thirds(length, small.device) for length in (height, width))
        return small[:, :, rows][:, :, :, cols]


def _thirds(length: int, device: torch.device) -> Tensor:
    """For each pixel along an axis, which of (first, middle, last) it is."""
    index = torch.ones(length, dtype=torch.long, device=device)
    index[0], index[-1] = 0, min(length, 3) - 1
    return index


def _composed(up: nn.ConvTranspose2d, convolution: nn.Conv2d) -> nn.Conv2d:
    """The 3x3 convolution at half resolution that gives, for each cell, its four pixels (row by row).

    The pixel (p, q) of a cell sees, through the 3x3 kernel, the pixels (p + i - 1, q + j - 1), which the
    up-convolution makes from the cell (floor((p + i - 1) / 2), floor((q + j - 1) / 2)) beside it.
    """
    width = convolution.in_channels
    composed = nn.Conv2d(up.in_channels, 4, 3, padding=1, bias=False)
    kernel = convolution.weight.detach().double()[0]  # (width, 3, 3)
    rise = up.weight.detach().double()  # (in, width, 2, 2)
    assert rise.shape[1] == width, "the up-convolution keeps the width"
    weight = torch.zeros(4, up.in_channels, 3, 3, dtype=torch.float64)
    for pixel in range(4):
        p, q = divmod(pixel, 2)
        for i in range(3):
            for j in range(3):
                row, col = p + i - 1, q + j - 1
                weight[pixel, :, row // 2 + 1, col // 2 + 1] += rise[:, :, row % 2, col % 2] @ kernel[:, i, j]
    composed.weight = nn.Parameter(weight.float(), requires_grad=False)
    return composed
