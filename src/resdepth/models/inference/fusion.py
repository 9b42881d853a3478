"""The fusion network for inference: its BatchNorm folded, areas computed with their halo."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resdepth.models.fusion_unet import HALO_PX, FusionUNet


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
        """Refined heights, normalised: (B, 7, H, W) float32 to (B, 1, H, W) float32; sides in 16 pixels."""
        with torch.autocast(x.device.type, self._dtype, enabled=self._dtype != torch.float32):
            refined: Tensor = self._network(x)
        return refined.float()

    def inside(self, x: Tensor) -> Tensor:
        """Refined heights of an area in the midst of others: (B, 7, H, W) to (B, 1, H - 192, W - 192)."""
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
