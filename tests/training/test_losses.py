"""What training makes small."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from resdepth.training.losses import LOSSES, mean_absolute_error

heights = st.floats(-430, 8849, width=32)
NAN = float("nan")


@given(
    arrays.arrays(np.float32, (2, 1, 4, 4), elements=heights),
    arrays.arrays(np.float32, (2, 1, 4, 4), elements=heights | st.just(NAN)),
)
def test_the_loss_is_the_mean_absolute_error_over_the_known_reference(
    predicted: np.ndarray, reference: np.ndarray
) -> None:
    loss = mean_absolute_error(torch.from_numpy(predicted), torch.from_numpy(reference))
    known = np.isfinite(reference)
    expected = np.abs(predicted.astype(float) - reference)[known].mean() if known.any() else 0
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_a_reference_of_zero_metres_counts() -> None:
    """The published code takes a height of 0 m for a void."""
    loss = mean_absolute_error(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert float(loss) == 1.5


def test_a_batch_without_reference_has_the_loss_zero() -> None:
    """The published code gives NaN, and one such batch spoils a whole validation."""
    predicted = torch.ones(4, requires_grad=True)
    loss = mean_absolute_error(predicted, torch.full((4,), NAN))
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert (predicted.grad == 0).all()


def test_where_the_reference_is_unknown_nothing_is_learned() -> None:
    predicted = torch.tensor([5.0, 5.0, 5.0], requires_grad=True)
    mean_absolute_error(predicted, torch.tensor([4.0, NAN, 7.0])).backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [0.5, 0, -0.5]


def test_a_wild_prediction_where_the_reference_is_unknown_does_no_harm() -> None:
    predicted = torch.tensor([5.0, NAN, float("inf")], requires_grad=True)
    loss = mean_absolute_error(predicted, torch.tensor([4.0, NAN, NAN]))
    loss.backward()
    assert loss.item() == 1
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [1, 0, 0]


def test_l1_is_the_mean_absolute_error() -> None:
    assert float(LOSSES["L1"](torch.tensor([5.0, 1.0]), torch.tensor([4.0, 4.0]))) == 2
