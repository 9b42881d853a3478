"""The fusion network: weighs an initial DSM against heights that images show, and knows its error.

It sees no grey values, which mislead where a scene looks unlike the training: only heights, and how well the
images agree about them (docs/models.md shows what led to it). Convolutions work at half resolution and below;
pixel shuffling brings the result back to full resolution, without transposed convolutions and their
checkerboards. For inference its BatchNorm is folded, and areas are computed with their halo.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resdepth.models.schema import FusionSettings

HALO_PX = 128
"""How far around an area of whole cells (16 pixels) the network looks, in whole cells: 111 pixels, 113 where
it sees medians, 114 where heights are averaged; one for all, as results of two networks are put together."""
SCALE_LIMITS = (-4.0, 4.0)
MADE = (1.5, 2.5)
"""Large corrections, which make or remove what people see, are not made below the first multiple of their
expected error, and as a whole above the second."""
SMALL_OF_QUIET, SMALL_OF_NOISY, SMALL_UNSEEN = (1.2, 2.2), (0.0, 0.05), (0.6, 1.1)
"""The same for small ones: of a DSM without noise; of a noisy one, where they take noise away, if images show
something; and if none does."""
LARGE, LARGE_UNSEEN = (0.5, 1.5), (1.0, 3.0)
"""Between these sizes corrections become large: pixels of disparity, and what stands for metres where no
image shows anything."""
ALONE_OF_QUIET, ALONE_OF_NOISY = (0.8, 1.5), (0.0, 0.05)
"""The same for networks that see the DSM alone, for corrections of any size: of a DSM without noise, and of a
noisy one."""
GATE_PX = 7
"""Side of the windows over which corrections and errors are averaged for that: pixel by pixel, roofs of which
some heights are kept would look rough."""
AVERAGED_PX, ALIKE = 3, 2.0
"""Heights of a noisy DSM are averaged with those so many pixels around that are alike: within so many times
the expected error. So steps stay: a bilateral filter (Tomasi & Manduchi 1998) with the error as its range."""
ERROR_FACTORS, ERROR_FACTOR_ALONE = (1.05, 1.15), 1.5
"""What makes a predicted scale the error that 68 % stay below, where a height was matched and elsewhere; and
of networks that see the DSM alone."""


class FusionUNet(nn.Module):
    """A U-Net at half resolution: refined = initial + gate (matched - initial) + rest; and its error."""

    def __init__(self, settings: FusionSettings) -> None:
        super().__init__()
        self.smoothing = settings.smoothing
        narrow, wide = settings.start_kernel, 2 * settings.start_kernel
        n_shown = 2 if settings.sees_dsm_alone else settings.n_input_channels
        self.first = _double(4 * n_shown, narrow)
        self.second = _double(narrow, wide)
        self.third = _double(wide, wide)
        self.bottleneck = _double(wide, wide)
        self.up_third = _double(wide, wide)
        self.up_second = _double(wide, narrow)
        self.up_first = _double(narrow, narrow)
        self.last = nn.Conv2d(narrow, 3 * 4, 3, padding=1)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type] # it has one

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Refined heights, and the logarithm of their expected absolute error.

        Args:
            x: (B, 7, H, W): initial and matched heights, normalised; 1 where a height was matched (elsewhere
                the initial stands in), 0 elsewhere; the correlation of the images projected onto the initial
                heights in windows of 5 and 11 pixels, and onto the matched heights likewise, 0 = unknown.
                Or (B, 1, H, W): initial heights, of a network for DSMs alone; their medians then stand in for
                matched ones. H and W are multiples of 16.

        Returns:
            (B, 1, H, W) each; the error, exp of the second, is the scale of a Laplace distribution.
        """
        if x.shape[1] == 1:
            x = torch.cat([x, _medians(x)], dim=1)
        first = self.first(functional.pixel_unshuffle(x, 2))
        second = self.second(functional.max_pool2d(first, 2))
        third = self.third(functional.max_pool2d(second, 2))
        y = self.bottleneck(functional.max_pool2d(third, 2))
        y = self.up_third(_twice(y) + third)
        y = self.up_second(_twice(y) + second)
        y = self.up_first(_twice(y) + first)
        gate, rest, scale = torch.split(functional.pixel_shuffle(self.last(y), 2), 1, dim=1)
        initial, matched = x[:, :1], x[:, 1:2]
        refined = initial + torch.sigmoid(gate) * (matched - initial) + rest
        return refined, scale.clamp(*SCALE_LIMITS)

    def forward(self, x: Tensor) -> Tensor:
        """Refined heights and their error, normalised; corrections small against their error are not made.

        Of a noisy DSM (`smoothing`) small ones are made where images show something; heights are averaged.

        Args:
            x: see `predict`.

        Returns:
            (B, 2, H, W): heights, and the standard error: 68 % of the errors are smaller, 90 % smaller than
            twice as much. What was not corrected adds to it.
        """
        return self.weighed(x, self.smoothing)

    def weighed(
        self, x: Tensor, smoothing: float | Tensor,
        to_average: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """The same of a DSM that is so noisy, a number or (1,); heights may be averaged in another way."""
        refined, scale = self.predict(x)
        initial, known = x[:, :1], x[:, 2:3]
        correction = refined - initial
        if x.shape[1] == 1:
            made = _share_made_alone(correction, scale, smoothing)
            error = torch.hypot(scale.exp(), (1 - made) * correction) * ERROR_FACTOR_ALONE
            return torch.cat([initial + made * correction, error], dim=1)
        unseen = (x[:, 2:] == 0).all(dim=1, keepdim=True)
        made = _share_made(correction, scale, unseen, smoothing)
        error = torch.hypot(scale.exp(), (1 - made) * correction) * torch.where(known > 0, *ERROR_FACTORS)
        heights = initial + made * correction
        if isinstance(smoothing, Tensor) or smoothing:
            heights = heights + smoothing * (to_average or _to_average)(heights, scale.exp())
        return torch.cat([heights, error], dim=1)


def _double(n_in: int, n_out: int) -> nn.Sequential:
    """Two convolutions, each with normalisation and activation."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True),
        nn.Conv2d(n_out, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True),
    )  # fmt: skip


def _share_made(correction: Tensor, scale: Tensor, unseen: Tensor, smoothing: float | Tensor) -> Tensor:
    """Which share of each correction is made; corrections and errors count as they are on average around."""
    size = _around(correction.abs())
    begins, ends = (torch.where(unseen, there, seen) for seen, there in zip(LARGE, LARGE_UNSEEN, strict=True))
    large = ((size - begins) / (ends - begins)).clamp(0, 1)
    ends_of_small = zip(SMALL_OF_QUIET, SMALL_OF_NOISY, SMALL_UNSEEN, strict=True)
    small = (
        quiet + smoothing * (torch.where(unseen, blind, noisy) - quiet)
        for quiet, noisy, blind in ends_of_small
    )
    below, above = (start + (far - start) * large for start, far in zip(small, MADE, strict=True))
    return ((size / _around(scale.exp()) - below) / (above - below)).clamp(0, 1)


def _share_made_alone(correction: Tensor, scale: Tensor, smoothing: float | Tensor) -> Tensor:
    """The same without images."""
    ends_of_all = zip(ALONE_OF_QUIET, ALONE_OF_NOISY, strict=True)
    begins, ends = (quiet + smoothing * (noisy - quiet) for quiet, noisy in ends_of_all)
    return ((_around(correction.abs()) / _around(scale.exp()) - begins) / (ends - begins)).clamp(0, 1)


def _to_average(heights: Tensor, scale: Tensor) -> Tensor:
    """What leads from each height to the average of those around that are alike, of all (B, 1, H, W)."""
    rows, cols = heights.shape[2:]
    padded = functional.pad(heights, (AVERAGED_PX,) * 4, mode="replicate")
    sharpness = -0.5 / (ALIKE * scale).square()
    total, weights = torch.zeros_like(heights), torch.ones_like(heights)  # its own weight is 1
    for row in range(2 * AVERAGED_PX + 1):
        for col in range(2 * AVERAGED_PX + 1):
            if (row, col) == (AVERAGED_PX, AVERAGED_PX):
                continue
            difference = padded[:, :, row : row + rows, col : col + cols] - heights
            weight = (difference.square() * sharpness).exp_()
            total.addcmul_(weight, difference)
            weights.add_(weight)
    return total / weights


def _around(values: Tensor) -> Tensor:
    """Means over windows."""
    return functional.avg_pool2d(values, GATE_PX, 1, GATE_PX // 2, count_include_pad=False)


def _medians(heights: Tensor) -> Tensor:
    """Of five pixels in a row, and of five such medians in a column: (B, 1, H, W).

    Noise of single pixels is gone in them, and the network, whose finest layers see cells of four pixels,
    need not learn how to take it away.
    """
    for axis in (2, 3):
        length, sides = heights.shape[axis], [0, 0, 0, 0]
        sides[2 * (3 - axis)] = sides[2 * (3 - axis) + 1] = 2
        padded = functional.pad(heights, sides, mode="replicate")
        a, b, c, d, e = (padded.narrow(axis, start, length) for start in range(5))
        low = torch.maximum(torch.minimum(a, b), torch.minimum(c, d))
        high = torch.minimum(torch.maximum(a, b), torch.maximum(c, d))
        heights = torch.maximum(torch.minimum(low, high), torch.minimum(torch.maximum(low, high), e))
    return heights


def _twice(x: Tensor) -> Tensor:
    # Not the nearest value: the borders of coarse cells would show as faint lines.
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class DeployedFusion(nn.Module):
    """A fusion network whose heights are float32, whatever it computes in."""

    def __init__(self, network: FusionUNet, dtype: torch.dtype) -> None:
        """Take a network in evaluation mode.

        Args:
            network: a trained one; it stays as it is.
            dtype: what convolutions compute in.
        """
        super().__init__()
        self._network, self._dtype = fold_batch_norm(network), dtype
        # Heights of many metres, rounded to bfloat16, would be centimetres off before anything is computed.
        self._network.first = nn.Sequential(_Float32(self._network.first))

    def forward(self, x: Tensor) -> Tensor:
        """Heights and errors, normalised: (B, 7, H, W) float32 to (B, 2, H, W); sides in 16 pixels."""
        with torch.autocast(x.device.type, self._dtype, enabled=self._dtype != torch.float32):
            refined: Tensor = self._network(x)
        return refined.float()

    def inside(self, x: Tensor) -> Tensor:
        """Heights and errors of an area amid others: (B, 7, H, W) to (B, 2, H - 2 halo, W - 2 halo)."""
        refined: Tensor = self(x)
        return refined[:, :, HALO_PX : x.shape[2] - HALO_PX, HALO_PX : x.shape[3] - HALO_PX]


class _Float32(nn.Module):
    """A block that computes in float32 whatever is computed around it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._block = block

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            computed: Tensor = self._block(x)
        return computed


def fold_batch_norm(network: FusionUNet) -> FusionUNet:
    """A copy in evaluation mode, each BatchNorm merged into the convolution before it."""
    folded = copy.deepcopy(network).eval()
    for block in folded.children():
        if not isinstance(block, nn.Sequential):
            continue
        for index in range(0, len(block), 3):
            convolution, norm = block[index], block[index + 1]
            assert isinstance(convolution, nn.Conv2d), "blocks begin with a convolution"
            assert isinstance(norm, nn.BatchNorm2d), "and its normalisation follows"
            block[index], block[index + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return folded
