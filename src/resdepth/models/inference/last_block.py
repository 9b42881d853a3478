"""The last block of the U-Net, cheaper: up-convolution, plus skip, 3x3 convolution to one channel.

All of it is linear. So it becomes two convolutions that give the pixels of a whole cell at once: one of the
map at half the resolution, one of the skip.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


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
    spread = nn.Conv2d(len(kernel), cell**2, cell + 2, stride=cell, bias=bias is not None)
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
    composed = nn.Conv2d(len(rise), cell**2, size, stride=cell // 2, bias=False)
    weight = torch.zeros(cell**2, len(rise), size, size, dtype=torch.float64)
    for pixel in range(cell**2):
        p, q = divmod(pixel, cell)
        for i in range(3):
            for j in range(3):
                row, col = p + i - 1, q + j - 1
                weight[pixel, :, row // 2 + 1, col // 2 + 1] += rise[:, :, row % 2, col % 2] @ kernel[:, i, j]
    composed.weight = nn.Parameter(weight.float(), requires_grad=False)
    return composed
