"""What the training of the fusion network makes small."""

import math

import pytest
import torch

from resdepth.models.fusion_unet import FusionUNet
from resdepth.models.schema import FusionSettings
from resdepth.training.fusion_loss import LAST_SHARE, fusion_loss, learning_rate_share


@pytest.fixture
def network() -> FusionUNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FusionUNet(FusionSettings(n_input_channels=1, start_kernel=8)).eval()


def heights(seed: int) -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_only_known_heights_count(network: FusionUNet) -> None:
    seen, reference = heights(0), heights(1)
    reference[:, :, 16:] = torch.nan
    found = fusion_loss(network, seen, reference)
    assert math.isclose(found.initial, float((seen - reference)[:, :, :16].abs().mean()), rel_tol=1e-5)
    elsewhere = reference.clone()
    elsewhere[:, :, 20:] = torch.inf
    assert torch.equal(fusion_loss(network, seen, elsewhere).loss, found.loss)
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(one.grad).all() for one in network.parameters() if one.grad is not None)


def test_a_sample_without_weight_counts_for_nothing(network: FusionUNet) -> None:
    seen, reference = heights(0), heights(1)
    one = fusion_loss(network, seen[:1], reference[:1])
    both = fusion_loss(network, seen, reference, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(one.loss, both.loss)
    assert math.isclose(one.error, both.error, rel_tol=1e-5)


def test_a_step_down_it_makes_the_error_smaller(network: FusionUNet) -> None:
    seen = heights(0)
    reference = seen + 0.5
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    before = fusion_loss(network, seen, reference).error
    for _ in range(20):
        optimizer.zero_grad()
        fusion_loss(network, seen, reference).loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert fusion_loss(network, seen, reference).error < 0.8 * before


def test_the_learning_rate_rises_and_falls() -> None:
    shares = [learning_rate_share(step, 100, 10) for step in range(101)]
    assert shares[0] == pytest.approx(0.1, rel=0.01)
    assert max(shares) == max(shares[8:12])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(LAST_SHARE)
