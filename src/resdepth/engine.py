"""How a network runs: on which device, with which weights, how many tiles at once."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdepth.allocator import tune_allocator
from resdepth.checkpoint import Model
from resdepth.config import Device, Precision
from resdepth.errors import ResDepthError
from resdepth.networks.deployed import deployed
from resdepth.normalization import normalize, normalize_patch

Array = NDArray[np.float32]
Margin = tuple[tuple[int, int], tuple[int, int]]
"""Pixels above and below, to the left and to the right."""

logger = logging.getLogger(__name__)

# Pixels per step. A larger batch gains nothing on a CPU and costs memory.
_BATCH_PIXELS = {"cpu": 1 << 18, "mps": 1 << 20, "cuda": 1 << 21}
# What the network's maps may take in seamless refinement, and how many of the first level are there at once.
_BLOCK_BYTES = {"cpu": 1 << 30, "mps": 1 << 30, "cuda": 1 << 33}
_MAPS_AT_ONCE = 2.5
_BLOCK_UNIT_PX, _LARGEST_BLOCK_PX = 64, 2048


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


def choose_precision(name: Precision, device: torch.device) -> torch.dtype:
    """What to compute in; "auto" takes bfloat16 where the device has instructions for it."""
    if name == "fp32":
        return torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # since 2.6
        native = bool(can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"))
    else:
        native = False
    if name == "bf16":
        if not native:
            logger.warning("%s has no instructions for bfloat16; fp32 may be faster", device)
        return torch.bfloat16
    return torch.bfloat16 if native else torch.float32


class Refiner:
    """A model made ready to refine tiles on one device."""

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device,
        batch_size: int | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """Prepare the network.

        Args:
            model: the trained model.
            device: where it runs.
            batch_size: tiles per step; by default what suits the device.
            precision: what the network computes in; heights stay float32.
        """
        self.model, self.device, self.inputs = model, device, model.architecture.inputs
        self.precision = precision
        self._asked_batch_size = batch_size
        tune_allocator()
        network = deployed(model.network(), precision)
        self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch types no memory format

    def batch_size(self, tile: int) -> int:
        """How many tiles of this size to give at once."""
        return self._asked_batch_size or max(1, _BATCH_PIXELS[self.device.type] // tile**2)

    def block_side(self) -> int:
        """Side in pixels of the blocks that seamless refinement computes at once, as memory allows.

        Larger blocks waste less on their surroundings. It is a multiple of 64, and of the network's cells.
        """
        architecture = self.model.architecture
        unit = max(_BLOCK_UNIT_PX, 2**architecture.depth)
        first_level = int(architecture.settings.get("start_kernel", 64))
        bytes_per_pixel = first_level * self.precision.itemsize * _MAPS_AT_ONCE
        side = int((_BLOCK_BYTES[self.device.type] / bytes_per_pixel) ** 0.5) - 2 * architecture.halo_px
        largest = max(_LARGEST_BLOCK_PX // unit, 1)
        return int(unit * min(max(side // unit, 1), largest))

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
        predicted = self.run(np.stack([patch.channels for patch in patches]))
        centres = np.array([patch.centre for patch in patches])[:, None, None]
        refined: Array = (predicted * np.float64(self.model.normalization.height_sigma) + centres).astype(
            np.float32
        )
        return refined

    def refine_above(self, reference: NDArray[np.float64], dsm: Array, views: Array, margin: Margin) -> Array:
        """Refined heights of an area with a reference height for each pixel.

        Args:
            reference: (H, W) metres; NaN where there is none.
            dsm: (H, W) float32, metres, NaN = void, seen as a height at the reference.
            views: (V, H, W) float32 grey values, NaN = void.
            margin: how far to continue the area by reflection, so that its sides become multiples of
                2^depth.

        Returns:
            (H, W) float32, metres; NaN where there is no reference.
        """
        channels = normalize(dsm, reference, views, self.model.normalization, self.inputs)
        (above, below), (left, right) = margin
        channels = np.pad(channels, ((0, 0), *margin), mode="symmetric")
        predicted = self.run(channels[None])[0]  # (H + margins, W + margins)
        inside = predicted[above : predicted.shape[0] - below, left : predicted.shape[1] - right]
        refined: Array = (inside * np.float64(self.model.normalization.height_sigma) + reference).astype(
            np.float32
        )
        return refined

    @torch.inference_mode()
    def run(self, channels: Array) -> Array:
        """What the network says, normalised: (B, C, H, W) to (B, H, W)."""
        given = torch.from_numpy(channels).to(self.device, memory_format=torch.channels_last)
        result: Tensor = self._network(given)
        said: Array = result.float().cpu().numpy()[:, 0]
        return said
