"""A few validation patches, the same in every epoch, so that people see a network learn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from resdepth.data.normalization import Array
from resdepth.data.patches import ValidationSamples
from resdepth.geo.grid import Sides

SHOWN = 4
CANDIDATES = 32
# Each epoch up to this one, then every tenth: pictures take space, and later ones change little.
EACH_UP_TO, THEN_EVERY = 10, 10


@dataclass(frozen=True)
class Patch:
    """Heights above the patch's centre, (T, T) float32, metres.

    Attributes:
        initial: NaN = void.
        truth: NaN = unknown.
        refined: what the network makes of it; None before it was asked.
        sides: of a pixel.
    """

    initial: Array
    truth: Array
    sides: Sides
    refined: Array | None = None


class Showcase:
    """The patches, chosen once: spread over the validation area, with as much truth as can be had."""

    def __init__(self, samples: ValidationSamples) -> None:
        read = {index: samples.sample(index, 0) for index in _spread(len(samples), CANDIDATES)}
        known = {index: float(np.isfinite(sample.truth).mean()) for index, sample in read.items()}
        good = [index for index, share in known.items() if share > 0 and share >= 0.5 * max(known.values())]
        chosen = [good[place] for place in _spread(len(good), SHOWN)]
        self._channels = [read[index].channels for index in chosen]
        self._patches = [
            Patch(samples.initial(index), read[index].truth, samples.sides(index)) for index in chosen
        ]

    @staticmethod
    def is_due(epoch: int, end: int) -> bool:
        """Whether to show the patches after an epoch, counted from 1."""
        return epoch <= EACH_UP_TO or epoch % THEN_EVERY == 0 or epoch == end

    @torch.no_grad()
    def refined_by(self, network: nn.Module, height_sigma: float, device: torch.device) -> Sequence[Patch]:
        """The patches as a network refines them; it stays as it is."""
        training = network.training
        network.eval()
        try:
            return [
                Patch(
                    patch.initial, patch.truth, patch.sides, _heights(network, channels, height_sigma, device)
                )
                for patch, channels in zip(self._patches, self._channels, strict=True)
            ]
        finally:
            network.train(training)


def _spread(length: int, count: int) -> list[int]:
    """Up to so many different numbers below a length, evenly spread."""
    places: list[int] = np.unique(np.linspace(0, length - 1, count).astype(int)).tolist() if length else []
    return places


def _heights(network: nn.Module, channels: Array, height_sigma: float, device: torch.device) -> Array:
    seen = torch.from_numpy(channels)[None].to(device, memory_format=torch.channels_last)  # (1, C, T, T)
    output: Tensor = network(seen) * height_sigma  # (1, 1, T, T)
    return output[0, 0].float().cpu().numpy()
