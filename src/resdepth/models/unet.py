"""The U-Net of ResDepth (Stucker & Schindler, ISPRS J. 2022, section 3.2), parameter names included.

The names of the modules are those of the published checkpoints; renaming one breaks their loading.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from resdepth.models.schema import UNetSettings

NEGATIVE_SLOPE = 0.01

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "lrelu": lambda: nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
    "prelu": nn.PReLU,
}


def halo_px(depth: int, up_mode: str) -> int:
    """How many pixels on each side of an area the network looks at; what lies beyond changes nothing inside.

    The area and the halo consist of whole cells of the coarsest level, 2^depth pixels a side.

    Args:
        depth: the network's setting: how often it halves the resolution.
        up_mode: the network's setting: how it doubles it again.
    """
    interpolated = int(up_mode == "bilinear")  # from the cells beside it, too
    first = 0  # the area's first pixel, and from there the first that it sees
    for _ in range(depth):  # back through the decoder, the last layer first
        first = (first - 1 - interpolated) // 2
    first -= 1  # the bottleneck
    for _ in range(depth):  # and through the encoder
        first = 2 * first - 1
    cell: int = 2**depth
    return -(first // cell) * cell


def _conv_block(n_in: int, n_out: int, activation: str, *, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(n_in, n_out, 3, padding=1, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(n_out))
    return nn.Sequential(*layers, ACTIVATIONS[activation]())


def _transpose(width: int) -> nn.Module:
    return nn.ConvTranspose2d(width, width, 2, stride=2)


def _bilinear(width: int) -> nn.Module:
    upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(upsample, nn.Conv2d(width, width, 1))


UPSAMPLINGS: dict[str, Callable[[int], nn.Module]] = {"transpose": _transpose, "bilinear": _bilinear}


class UNet(nn.Module):
    """A U-Net with additive skips and, around it all, a skip of the first channel."""

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        n_levels, widest = settings.depth, settings.max_filter_depth
        widths = [min(settings.start_kernel * 2**level, widest) for level in range(n_levels)]
        upsampling = UPSAMPLINGS[settings.up_mode]
        block = partial(_conv_block, batch_norm=settings.do_BN)

        self.encoder = nn.ModuleList()
        self.pool = nn.MaxPool2d(2)
        for n_in, n_out in zip([settings.n_input_channels, *widths], widths, strict=False):
            self.encoder.append(nn.Sequential(block(n_in, n_out, settings.act_fn_encoder)))

        self.bottleneck = block(widths[-1], widths[-1], settings.act_fn_bottleneck)

        self.decoder = nn.ModuleList()
        for width, narrower in zip(widths[:0:-1], widths[-2::-1], strict=True):
            convs = block(width, narrower, settings.act_fn_decoder)
            self.decoder.append(nn.Sequential(upsampling(width), convs))
        self.decoder.append(upsampling(widths[0]))

        self.last_layer = nn.Conv2d(widths[0], 1, 3, padding=1, bias=settings.bias_conv_layer)
        self.outer_skip = settings.outer_skip
        with_norm = settings.outer_skip and settings.outer_skip_BN
        self.layer_outer_skip = nn.ModuleList([nn.BatchNorm2d(1)] if with_norm else [])

    def forward(self, x: Tensor) -> Tensor:
        """Refined heights, normalised.

        Args:
            x: (B, C, H, W) normalised channels; H and W are multiples of 2^depth.

        Returns:
            (B, 1, H, W).
        """
        skip = x[:, :1]  # (B, 1, H, W)
        skips: list[Tensor] = []
        for block in self.encoder:
            x = block(x)  # (B, width, H / 2^level, W / 2^level)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        *levels, last_up = self.decoder
        for level in levels:
            up, convs = level.children()
            x = convs(up(x) + skips.pop())
        x = self.last_layer(last_up(x) + skips.pop())  # (B, 1, H, W)
        if not self.outer_skip:
            return x
        for layer in self.layer_outer_skip:
            skip = layer(skip)
        return torch.add(x, skip)
