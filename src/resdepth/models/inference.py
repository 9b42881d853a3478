"""The U-Net, cheaper to run: what training needs is folded away, what is large is never kept.

Exact rewritings, up to rounding:

- Each BatchNorm is a fixed affine map once training is over, and goes into the convolution before it.
- The last block of the U-Net (up-convolution, plus skip, 3x3 convolution to one channel) is linear.
  It becomes two convolutions that give the pixels of a whole cell at once: one of the map at half the
  resolution, one of the skip.
- The maps of the first level are as large as all others together, and cheap to compute. They are computed in
  bands of a few rows, pooled, thrown away, and computed again for the last block.
- Convolutions of 3x3 with many channels take Winograd's F(4x4, 3x3) in float32 (Lavin & Gray, CVPR 2016),
  with a quarter of the multiplications: each 6x6 patch of the input gives 4x4 pixels of the result.
  Transformed, a patch is 36 numbers per channel, and the convolution a product of matrices for each of them.
  The result is right to five digits instead of six.
- Of a halo that is only looked at, each convolution computes no more than the next one needs.
- On a CPU, a ReLU comes with its convolution, and the largest of 2 x 2 pixels is found without its place.
"""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resdepth.models.fusion_unet import DeployedFusion, FusionUNet
from resdepth.models.unet import UNet

CPU = torch.device("cpu")

# What torch.compile makes of both in networks for inference (oneDNN); not all builds of PyTorch have it.
_FUSED: Any = None
if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
    _FUSED = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)

# A band of the first level: on a CPU, about what its caches hold.
_BAND_BYTES = {"cpu": 1 << 24, "mps": 1 << 26, "cuda": 1 << 29}


def deployed(
    network: nn.Module, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> "DeployedUNet | DeployedFusion":
    """A copy of a network for inference.

    Args:
        network: a trained network.
        dtype: what it computes in; what it takes and gives stays float32, and so do its first level, its last
            block (of a network with up-convolutions) and its outer skip.
        device: where it runs.
    """
    made: DeployedUNet | DeployedFusion
    if isinstance(network, FusionUNet):
        made = DeployedFusion(network, dtype)
    else:
        assert isinstance(network, UNet), "there is no other network"
        made = DeployedUNet(fold_batch_norm(network), dtype, on_cpu=device.type == "cpu")
    return made.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return] # torch types no memory format


def fold_batch_norm(network: UNet) -> UNet:
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


class DeployedUNet(nn.Module):
    """A U-Net with its BatchNorm folded, its last block rewritten, and float32 at both ends."""

    def __init__(self, unet: UNet, dtype: torch.dtype, *, on_cpu: bool) -> None:
        """Take a network apart.

        Args:
            unet: its BatchNorms folded.
            dtype: what to compute in.
            on_cpu: whether to rewrite what GPUs do well as it is.
        """
        super().__init__()
        first, *encoder = unet.encoder
        *decoder, last_up = unet.decoder
        # Heights of many metres, rounded to bfloat16, would be centimetres off before anything is computed.
        self._first = _Step(first, torch.float32, on_cpu=on_cpu)
        self._encoder = nn.ModuleList(_Step(block, dtype, on_cpu=on_cpu) for block in encoder)
        self._bottleneck = _Step(unet.bottleneck, dtype, on_cpu=on_cpu)
        levels = [tuple(level.children()) for level in decoder]
        self._ups = nn.ModuleList(up for up, _ in levels).to(dtype)
        self._decoder = nn.ModuleList(_Step(block, dtype, on_cpu=on_cpu) for _, block in levels)
        self._last: LinearEnd | _PlainEnd
        if isinstance(last_up, nn.ConvTranspose2d):
            self._last = LinearEnd(last_up, unet.last_layer, cell=2 ** min(len(unet.encoder), 2))
        else:
            self._last = _PlainEnd(last_up, unet.last_layer, dtype)
        # How many pixels around its area each level of the decoder must know, for the next to know as many:
        # its convolution takes one, and the interpolation between two levels another one.
        self._rim = 1 if isinstance(last_up, nn.ConvTranspose2d) or not decoder else 2
        self._outer_skip = unet.outer_skip
        self._outer_norm = unet.layer_outer_skip
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Refined heights, normalised; beyond the edges the network sees zeros, as published.

        Args:
            x: (B, C, H, W) float32 normalised channels; H and W are multiples of 2^depth.

        Returns:
            (B, 1, H, W) float32.
        """
        skips: list[Tensor] = []
        coarse = self._first_pooled(functional.pad(x, (1, 1, 1, 1)))
        for step in self._encoder:
            coarse = step(coarse, 1)  # (B, width, H / 2^level, W / 2^level)
            skips.append(coarse)
            coarse = _halved(coarse)
        coarse = self._bottleneck(coarse, 1)
        for up, step in zip(self._ups, self._decoder, strict=True):
            coarse = step(_sum(up(coarse), skips.pop()), 1)
        images = zip(torch.split(coarse, 1), torch.split(x, 1), strict=True)
        refined = torch.cat([self._last(below, self._first(image, 1), 1) for below, image in images])
        return self._with_outer_skip(refined, x[:, :1])

    def inside(self, x: Tensor) -> Tensor:
        """Refined heights, normalised, of an area in the midst of others: what lies beyond x does not matter.

        Args:
            x: (B, C, H, W) float32 normalised channels: the area and its halo (`halo_px`) on each side; H and
                W are multiples of 2^depth.

        Returns:
            (B, 1, H - 2 halo, W - 2 halo) float32.
        """
        depth, rim = len(self._encoder) + 1, self._rim
        # Without zeros at its edges, each convolution takes a pixel from each side: in all, the halo but one.
        # Wherever the resolution is halved, the number of pixels left is even.
        halo = (rim + 2) << depth
        skips: list[Tensor] = []
        coarse = self._first_pooled(_without(x, 1))
        for level, step in enumerate(self._encoder, 1):
            coarse = step(coarse, 0)
            skips.append(_without(coarse, (halo >> level) - 2 - rim - 1))
            coarse = _halved(coarse)
        coarse = self._bottleneck(coarse, 0)
        for up, step in zip(self._ups, self._decoder, strict=True):
            # Without what was interpolated beyond its edges.
            coarse = step(_sum(_without(up(coarse), rim - 1), skips.pop()), 0)
        refined = self._last_in_bands(_without(coarse, rim - 1), _without(x, halo - 2))
        return self._with_outer_skip(refined, _without(x[:, :1], halo))

    def _with_outer_skip(self, refined: Tensor, skip: Tensor) -> Tensor:
        if not self._outer_skip:
            return refined
        for layer in self._outer_norm:
            skip = layer(skip)
        return refined.add_(skip)

    def _first_pooled(self, x: Tensor) -> Tensor:
        """The first level at half its resolution, (B, C, H + 2, W + 2) to (B, width, H / 2, W / 2)."""
        batch, _, height, width = x.shape
        pooled = torch.empty(
            (batch, self._first.width, height // 2 - 1, width // 2 - 1), dtype=self._dtype, device=x.device,
            memory_format=torch.channels_last,
        )  # fmt: skip
        for item, start, stop in self._bands(x[:, :, 2:]):
            band = self._first(x[item, :, start : stop + 2], padding=0)
            pooled[item, :, start // 2 : stop // 2] = _halved(band)
        return pooled

    def _last_in_bands(self, coarse: Tensor, x: Tensor) -> Tensor:
        """The last block: (B, width, H / 2 + 2, W / 2 + 2) and (B, C, H + 4, W + 4) to (B, 1, H, W)."""
        batch, _, height, width = x.shape
        refined = torch.empty((batch, 1, height - 4, width - 4), device=x.device)
        for item, start, stop in self._bands(x[:, :, 4:]):
            skip = self._first(x[item, :, start : stop + 4], padding=0)
            below = coarse[item, :, start // 2 : stop // 2 + 2]
            refined[item, :, start:stop] = self._last(below, skip, padding=0)
        return refined

    def _bands(self, x: Tensor) -> Iterator[tuple[slice, int, int]]:
        """Image, first row and row behind the last of bands; heights are multiples of four if they can be."""
        batch, _, height, width = x.shape
        most = max(_BAND_BYTES[x.device.type] // (4 * self._first.width * width) // 4 * 4, 4)
        rows = -(-height // -(-height // most) // 4) * 4  # of about the same size
        for item in range(batch):
            for start in range(0, height, rows):
                yield slice(item, item + 1), start, min(start + rows, height)


def _without(x: Tensor, frame: int) -> Tensor:
    """An image without so many rows and columns on each side."""
    return x[:, :, frame : x.shape[2] - frame, frame : x.shape[3] - frame]


def _halved(x: Tensor) -> Tensor:
    """The largest of each 2 x 2 pixels."""
    if x.device.type != "cpu":
        return functional.max_pool2d(x, 2)  # on a CPU it also notes where they are, which takes longer
    larger = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(larger[:, :, :, ::2], larger[:, :, :, 1::2])


def _sum(rise: Tensor, skip: Tensor) -> Tensor:
    # PyTorch adds bfloat16 slowly in place.
    return rise.add_(skip) if rise.dtype == torch.float32 else rise + skip


class _Step(nn.Module):
    """A convolution and its activation."""

    def __init__(self, block: nn.Module, dtype: torch.dtype, *, on_cpu: bool) -> None:
        super().__init__()
        convolution, *_, activation = _layers(block)
        assert isinstance(convolution, nn.Conv2d), "each block begins with its convolution"
        self.width = convolution.out_channels
        convolution, self._activation = rounded_kernels(convolution, dtype), activation.to(dtype)
        self._convolve: nn.Module
        if on_cpu and pays(convolution):
            self._convolve = WinogradConvolution(convolution)
        elif on_cpu and isinstance(activation, nn.ReLU) and _can_fuse(dtype):
            self._convolve, self._activation = _ConvolutionReLU(convolution), nn.Identity()
        else:
            self._convolve = _Convolution(convolution)

    def forward(self, x: Tensor, padding: int) -> Tensor:
        activated: Tensor = self._activation(self._convolve(x, padding))
        return activated


def rounded_kernels(convolution: nn.Conv2d, dtype: torch.dtype) -> nn.Conv2d:
    """A convolution whose kernels, rounded, still have the same sums.

    Far above or below the reference height, all pixels around are large alike: there it is the error of the
    sum that counts. The smallest weight of a kernel has room for what rounding took from the others.
    """
    if dtype == torch.float32:
        return convolution
    exact = convolution.weight.detach().flatten(2)  # (out, in, 9)
    rounded = convolution.to(dtype)
    nearest = rounded.weight.detach().flatten(2)
    smallest = exact.abs().argmin(dim=2, keepdim=True)
    left = (exact - nearest.to(exact.dtype)).scatter(2, smallest, 0).sum(dim=2, keepdim=True)
    adjusted = exact.gather(2, smallest) + left
    weight = nearest.scatter(2, smallest, adjusted.to(dtype)).reshape(convolution.weight.shape)
    rounded.weight = nn.Parameter(weight, requires_grad=False)
    return rounded


def _can_fuse(dtype: torch.dtype) -> bool:
    """Whether this torch, on this processor, computes a convolution and its ReLU at once."""
    if _FUSED is None:
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Convolution(nn.Module):
    """A convolution whose padding is chosen when it runs."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._weight, self._bias = convolution.weight, convolution.bias

    def forward(self, x: Tensor, padding: int) -> Tensor:
        return functional.conv2d(x, self._weight, self._bias, padding=padding)


class _ConvolutionReLU(_Convolution):
    """... and a ReLU, while the result is still in the processor's caches."""

    def forward(self, x: Tensor, padding: int) -> Tensor:
        both: Tensor = _FUSED(
            x, self._weight, self._bias, [padding, padding], [1, 1], [1, 1], 1, "relu", [], ""
        )
        return both


def _layers(block: nn.Module) -> list[nn.Module]:
    return [layer for layer in block.modules() if not isinstance(layer, nn.Sequential)]


class _PlainEnd(nn.Module):
    """The last block as it is: convolution(up(x) + skip) to one channel."""

    def __init__(self, up: nn.Module, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self._up, self._convolution = up.to(dtype), convolution.to(dtype)

    def forward(self, x: Tensor, skip: Tensor, padding: int) -> Tensor:
        rise = self._up(x)
        rise = _without(rise, (rise.shape[2] - skip.shape[2]) // 2)
        weight, bias = self._convolution.weight, self._convolution.bias
        return functional.conv2d(rise.add_(skip), weight, bias, padding=padding).float()


class LinearEnd(nn.Module):
    """The last block with an up-convolution, as two convolutions to all pixels of a cell, in float32.

    A correction of some metres, rounded to bfloat16, would be a centimetre off.
    """

    _up_bias: Tensor

    def __init__(self, up: nn.ConvTranspose2d, convolution: nn.Conv2d, *, cell: int) -> None:
        """Compose the kernels.

        Args:
            up: doubles the resolution.
            convolution: 3x3, to one channel.
            cell: side of a cell in pixels, a power of two. Vector units are better used by the 16 pixels of
                a cell than by one.
        """
        super().__init__()
        assert up.bias is not None, "the network builds it with a bias"
        kernel = convolution.weight.detach().double()[0]  # (width, 3, 3)
        rise = up.weight.detach().double()  # (in, width, 2, 2)
        self._of_skip = _spread(kernel, cell, convolution.bias)
        self._of_rise = _composed(rise, kernel, cell)
        self.register_buffer("_up_bias", up.bias.detach().clone().reshape(1, -1, 1, 1))
        self._cell = cell

    def forward(self, x: Tensor, skip: Tensor, padding: int) -> Tensor:
        """Run both.

        Args:
            x: (B, C, H / 2 + 2 r, W / 2 + 2 r) of any type, r = 1 - padding pixels around the area.
            skip: (B, C', H + 2 r, W + 2 r) float32, which this changes.
            padding: 1 where both end with the image, 0 where they are given beyond the area.

        Returns:
            (B, 1, H, W) float32.
        """
        # The bias of the up-convolution counts as far as the skip does: not beyond the edges.
        skip, of_skip, of_rise = skip.add_(self._up_bias), self._of_skip, self._of_rise
        cells = functional.conv2d(skip, of_skip.weight, of_skip.bias, stride=self._cell, padding=padding)
        cells += functional.conv2d(x.float(), of_rise.weight, stride=self._cell // 2, padding=padding)
        return functional.pixel_shuffle(cells, self._cell)


def _spread(kernel: Tensor, cell: int, bias: Tensor | None) -> nn.Conv2d:
    """A 3x3 kernel (width, 3, 3) as a convolution that gives, for each cell, its pixels (row by row)."""
    # On "meta": fresh weights would take random numbers from the program's generator.
    spread = nn.Conv2d(len(kernel), cell**2, cell + 2, stride=cell, bias=bias is not None, device="meta")
    weight = torch.zeros(cell**2, len(kernel), cell + 2, cell + 2, dtype=torch.float64)
    for pixel in range(cell**2):
        p, q = divmod(pixel, cell)
        weight[pixel, :, p : p + 3, q : q + 3] = kernel
    spread.weight = nn.Parameter(weight.float(), requires_grad=False)
    if bias is not None:
        spread.bias = nn.Parameter(bias.detach().repeat(cell**2), requires_grad=False)
    return spread


def _composed(rise: Tensor, kernel: Tensor, cell: int) -> nn.Conv2d:
    """The convolution at half resolution that gives, for each cell, its pixels (row by row).

    The pixel (p, q) of a cell sees, through the 3x3 kernel, the pixels (p + i - 1, q + j - 1), which the
    up-convolution makes from the pixel (floor((p + i - 1) / 2), floor((q + j - 1) / 2)) below it.

    Args:
        rise: (in, width, 2, 2), the weights of the up-convolution.
        kernel: (width, 3, 3), those of the convolution.
        cell: side of a cell in pixels.
    """
    size = cell // 2 + 2
    composed = nn.Conv2d(len(rise), cell**2, size, stride=cell // 2, bias=False, device="meta")
    weight = torch.zeros(cell**2, len(rise), size, size, dtype=torch.float64)
    for pixel in range(cell**2):
        p, q = divmod(pixel, cell)
        for i in range(3):
            for j in range(3):
                row, col = p + i - 1, q + j - 1
                weight[pixel, :, row // 2 + 1, col // 2 + 1] += rise[:, :, row % 2, col % 2] @ kernel[:, i, j]
    composed.weight = nn.Parameter(weight.float(), requires_grad=False)
    return composed


# Of Lavin & Gray, section 4.3: the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_RESULT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
_PATCH, _CELL = 6, 4
# Transformed patches at a time: about what the processor's caches hold.
_CHUNK_BYTES = 1 << 23
_FEWEST_CHANNELS = 64


def pays(convolution: nn.Conv2d) -> bool:
    """Whether a convolution has so many channels that transforming them costs less than it saves."""
    return (
        convolution.kernel_size == (3, 3)
        and convolution.weight.dtype == torch.float32
        and min(convolution.in_channels, convolution.out_channels) >= _FEWEST_CHANNELS
    )


class WinogradConvolution(nn.Module):
    """A 3x3 convolution with stride 1 in float32."""

    _kernel: Tensor
    _bias: Tensor
    _to_input: Tensor
    _to_result: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Transform the weights; they take four times the memory."""
        super().__init__()
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        weight = convolution.weight.detach().double()
        transformed = torch.einsum("ai,ocij,bj->abco", kernel, weight, kernel)
        bias = convolution.bias
        self.register_buffer("_kernel", transformed.flatten(0, 1).float().contiguous())  # (36, in, out)
        self.register_buffer("_bias", torch.zeros(len(weight)) if bias is None else bias.detach().clone())
        for name, matrix in {"_to_input": _INPUT, "_to_result": _RESULT}.items():
            one = torch.tensor(matrix, dtype=torch.float32)
            self.register_buffer(name, torch.kron(one, one))  # (36, 36) and (16, 36): rows, then columns

    def forward(self, x: Tensor, padding: int) -> Tensor:
        """The convolution.

        Args:
            x: (B, C, H, W) float32, best in channels-last order.
            padding: zeros around it.

        Returns:
            (B, O, H + 2 padding - 2, W + 2 padding - 2), in channels-last order, part of a larger tensor.
        """
        batch, channels, _, _ = x.shape
        height, width = (length + 2 * padding - 2 for length in x.shape[2:])
        rows, cols = -(-height // _CELL), -(-width // _CELL)
        result = x.new_empty((batch, rows, _CELL, cols, _CELL, len(self._bias)))
        row_bytes = 4 * _PATCH**2 * cols * max(channels, len(self._bias))
        together = max(_CHUNK_BYTES // row_bytes, 1)  # rows of cells: of small images, or a part of one
        for some in _even_parts(batch, max(together // rows, 1)):
            images, refined = x.permute(0, 2, 3, 1)[some], result[some]
            for part in _even_parts(rows, together):
                here = refined[:, part]  # (n, rows, 4, cols, 4, O)
                patches = _patches(images, part.start, here.shape[1], cols, padding)  # (36, patches, C)
                given = torch.mm(self._to_input, patches.flatten(1)).view_as(patches)
                made = torch.bmm(given, self._kernel).flatten(1)
                cells = torch.mm(self._to_result, made).view(_CELL, _CELL, *here.shape[:2], cols, -1)
                torch.add(cells, self._bias, out=here.permute(2, 4, 0, 1, 3, 5))
        whole = result.view(batch, rows * _CELL, cols * _CELL, -1).permute(0, 3, 1, 2)
        return whole[:, :, :height, :width]


def _even_parts(length: int, most: int) -> list[slice]:
    """A length in as few parts as possible, all of about the same size."""
    count = -(-length // most)
    edges = [length * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _patches(images: Tensor, row: int, rows: int, cols: int, padding: int) -> Tensor:
    """(36, B x rows x cols, C): the patches that some rows of cells need; zeros beyond the edges.

    Args:
        images: (B, H, W, C).
        row: the first row of cells.
        rows: of cells.
        cols: of cells.
        padding: zeros that belong to the images on each side.
    """
    batch, height, width, channels = images.shape
    first, stop = row * _CELL - padding, (row + rows) * _CELL + _PATCH - _CELL - padding
    right = cols * _CELL + _PATCH - _CELL - padding - width
    beyond = (0, 0, padding, right, max(-first, 0), max(stop - height, 0))
    seen = images[:, max(first, 0) : min(stop, height)]
    if any(beyond):
        seen = functional.pad(seen, beyond)
    each, down, along, deep = seen.stride()
    overlapping = seen.as_strided(
        (_PATCH, _PATCH, batch, rows, cols, channels), (down, along, each, _CELL * down, _CELL * along, deep)
    )
    return overlapping.reshape(_PATCH**2, batch * rows * cols, channels)
