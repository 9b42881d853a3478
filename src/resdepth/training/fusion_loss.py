"""What the training of the fusion network makes small: errors of heights, of steps, of the expected error."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from resdepth.models.fusion_unet import FusionUNet

GRADIENT_WEIGHT, SCALE_WEIGHT, MOST_STEEP = 0.1, 0.2, 20.0
LAST_SHARE, LONGEST_GRADIENT = 0.02, 5.0
"""Of the learning rate at the end; of gradients, which are shortened to it."""


class FusionLoss(NamedTuple):
    """A batch's loss, and what people want to see of it; normalised units.

    Attributes:
        loss: what is made small.
        error, initial: mean absolute errors of the network, before any correction is held back, and of the
            initial DSM.
    """

    loss: Tensor
    error: float
    initial: float


def fusion_loss(
    network: FusionUNet, channels: Tensor, reference: Tensor, weights: Tensor | None = None
) -> FusionLoss:
    """The absolute error, with the Laplace likelihood of the expected error, and the error of steps.

    The likelihood (Kendall & Gal 2017, eq. 8, for a Laplace distribution) moves the expected error alone:
    else hard places would count less.

    Args:
        network: what predicts.
        channels: (B, C, H, W) float32, see `FusionUNet.predict`.
        reference: (B, 1, H, W) float32, normalised; NaN = unknown.
        weights: (B,) how much each sample counts; None: all alike.
    """
    known = torch.isfinite(reference).float()
    wanted = torch.where(known > 0, reference, channels[:, :1])
    if weights is not None:
        known = known * weights[:, None, None, None]
    predicted, scale = network.predict(channels)
    error = (predicted - wanted).abs()
    loss = _mean(error, known) + SCALE_WEIGHT * _mean(error.detach() * torch.exp(-scale) + scale, known)
    for step in (1, 2):
        for axis in (2, 3):
            loss = loss + GRADIENT_WEIGHT * _error_of_steps(predicted, wanted, known, step, axis)
    before = _mean((channels[:, :1] - wanted).abs(), known)
    return FusionLoss(loss, float(_mean(error.detach(), known)), float(before))


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Over what is known; or with weights, 0 where it is not."""
    return (values * known).sum() / known.sum()


def _error_of_steps(predicted: Tensor, wanted: Tensor, known: Tensor, step: int, axis: int) -> Tensor:
    """How much steps between pixels differ; cliffs beyond a limit count no more."""
    length = predicted.shape[axis] - step

    def steps(values: Tensor) -> Tensor:
        return values.narrow(axis, step, length) - values.narrow(axis, 0, length)

    both = torch.minimum(known.narrow(axis, step, length), known.narrow(axis, 0, length))
    return _mean((steps(predicted) - steps(wanted)).abs().clamp(max=MOST_STEEP), both)


def learning_rate_share(step: int, steps: int, warm_up: int) -> float:
    """Share of the highest learning rate at a step: warm-up, then a cosine down to a small share."""
    falling = 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
    return min(1.0, (step + 1) / warm_up) * (LAST_SHARE + (1 - LAST_SHARE) * falling)
