"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin & Gray, CVPR 2016).

Each 6x6 patch of the input gives 4x4 pixels of the result. Transformed, a patch is 36 numbers per channel,
and the convolution a product of matrices for each of the 36. In float32 the result is right to five digits
instead of six.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

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
