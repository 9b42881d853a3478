"""How a network runs: on which device, with which weights, how many tiles at once."""

import copy
import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resdepth.allocator import tune_allocator
from resdepth.checkpoint import Model
from resdepth.config import Device
from resdepth.errors import ResDepthError
from resdepth.normalization import normalize_patch

Array = NDArray[np.float32]

logger = logging.getLogger(__name__)

# Pixels per step. A larger batch gains nothing on a CPU and costs memory.
_BATCH_PIXELS = {"cpu": 1 << 18, "mps": 1 << 20, "cuda": 1 << 21}


def choose_device(name: Device) -> torch.device:
    """The device to compute on; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ResDepthError: if the device asked for is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise ResDepthError(f"general.device: {name!r} is not available here; available: {there}")
    return torch.device(name)


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


class Refiner:
    """A model made ready to refine tiles on one device."""

    def __init__(self, model: Model, *, device: torch.device, batch_size: int | None = None) -> None:
        """Prepare the network.

        Args:
            model: the trained model.
            device: where it runs.
            batch_size: tiles per step; by default what suits the device.
        """
        self.model, self.device, self.inputs = model, device, model.architecture.inputs
        self._asked_batch_size = batch_size
        tune_allocator()
        network = fold_batch_norm(model.network())
        self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch types no memory format

    def batch_size(self, tile: int) -> int:
        """How many tiles of this size to give at once."""
        return self._asked_batch_size or max(1, _BATCH_PIXELS[self.device.type] // tile**2)

    def refine(self, dsm: Array, views: Array) -> Array:
        """Refined heights of several tiles, each with its own mean height as reference.

        Args:
            dsm: (B, T, T) float32, metres, without voids; T is a multiple of 2^depth.
            views: (B, V, T, T) float32 grey values, NaN = void.

        Returns:
            (B, T, T) float32, metres.
        """
        patches = [
            normalize_patch(heights, images, self.model.normalization, self.inputs)
            for heights, images in zip(dsm, views, strict=True)
        ]
        channels = torch.from_numpy(np.stack([patch.channels for patch in patches]))
        predicted = self._run(channels).numpy()[:, 0]  # (B, T, T)
        centres = np.array([patch.centre for patch in patches])[:, None, None]
        refined: Array = (predicted * np.float64(self.model.normalization.height_sigma) + centres).astype(
            np.float32
        )
        return refined

    @torch.inference_mode()
    def _run(self, channels: Tensor) -> Tensor:
        on_device = channels.to(self.device, memory_format=torch.channels_last)
        result: Tensor = self._network(on_device)
        return result.float().cpu()
