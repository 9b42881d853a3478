"""Losses by name: what training makes small."""

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def mean_absolute_error(predicted: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute error over the pixels whose reference height is known (ResDepth, ISPRS 2022, eq. 2).

    Departs from the published code, which takes a true height of exactly 0 m for a void and gives NaN for a
    batch without reference heights (tests/training/test_losses.py).

    Args:
        predicted: heights in metres, any shape.
        reference: the same shape; NaN = unknown.

    Returns:
        A scalar in metres; 0, without gradient, if no reference height is known.
    """
    known = torch.isfinite(reference)
    # where() before abs(): multiplied by a mask instead, a NaN would stay a NaN.
    error = torch.where(known, predicted - reference, 0.0)
    return error.abs().sum() / known.sum().clamp(min=1)


LOSSES: dict[str, Loss] = {"L1": mean_absolute_error}
