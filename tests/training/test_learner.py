"""A step of training, and what it does beyond the published one."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from resdepth.data.patches import Batch
from resdepth.training.learner import Learner, Recipe
from resdepth.training.losses import mean_absolute_error

CPU = torch.device("cpu")


def batch() -> Batch:
    draw = torch.Generator().manual_seed(0)
    heights = torch.randn(4, 1, 16, 16, generator=draw)
    return Batch(heights, heights * 0.5)


def learner(recipe: Recipe = Recipe(), rate: float = 0.1) -> Learner:  # noqa: B008 - it is frozen
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)
        )
    optimizer = torch.optim.SGD(network.parameters(), rate)
    return Learner(network, optimizer, None, 2.0, mean_absolute_error, CPU, recipe)


def weights(network: nn.Module) -> dict[str, Any]:
    return copy.deepcopy(dict(network.state_dict()))


def moved(one: Learner) -> float:
    """How far a step leads, over all weights."""
    before = [parameter.detach().clone() for parameter in one.network.parameters()]
    one.learn(one.loss_of(batch()), 0)
    after = [parameter.detach() for parameter in one.network.parameters()]
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True)))


def test_without_a_recipe_a_step_is_pytorchs_own() -> None:
    ours, plain = learner(), learner()
    ours.learn(ours.loss_of(batch()), 0)
    refined = plain.network(batch().channels.to(memory_format=torch.channels_last))
    mean_absolute_error(refined * 2.0, batch().reference).backward()
    plain.optimizer.step()
    for name, value in weights(plain.network).items():
        assert torch.equal(ours.network.state_dict()[name], value), name


def test_a_gradient_is_no_longer_than_allowed() -> None:
    free = moved(learner())
    assert moved(learner(Recipe(longest_gradient=1e6))) == pytest.approx(free, rel=1e-5)
    assert moved(learner(Recipe(longest_gradient=0.2))) == pytest.approx(0.1 * 0.2, rel=1e-3)
    assert free > 0.1 * 0.2


def test_the_learning_rate_warms_up_and_the_optimizer_keeps_its_own() -> None:
    one = learner(Recipe(warm_up=4))
    assert [one.learning_rate(step) for step in range(6)] == pytest.approx(
        [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]
    )
    assert moved(one) == pytest.approx(moved(learner()) / 4, rel=1e-3)
    assert one.optimizer.param_groups[0]["lr"] == 0.1


def test_the_average_follows_the_weights_and_is_what_is_evaluated() -> None:
    one = learner(Recipe(average=0.9))
    assert one.averaged is not None
    assert one.evaluated is one.averaged
    expected = weights(one.network)
    for step in range(30):
        one.learn(one.loss_of(batch()), step)
        share = min(0.9, (step + 1) / (step + 10))
        for name, value in one.network.state_dict().items():
            if value.is_floating_point():
                expected[name] = expected[name] * share + value * (1 - share)
    for name, value in one.averaged.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, expected[name], atol=1e-6), name
    assert one.averaged.state_dict()["1.num_batches_tracked"] == 30
    assert not torch.equal(one.averaged.state_dict()["0.weight"], one.network.state_dict()["0.weight"])


def test_in_bfloat16_weights_loss_and_validation_stay_float32() -> None:
    one, exact = learner(Recipe(precision=torch.bfloat16)), learner()
    loss, true = one.loss_of(batch()), exact.loss_of(batch())
    assert loss.dtype == torch.float32
    assert loss.item() != true.item()
    assert loss.item() == pytest.approx(true.item(), rel=0.02)
    one.learn(loss, 0)
    assert {value.dtype for value in one.network.parameters()} == {torch.float32}
    for each in (one, exact):
        each.network.load_state_dict(weights(exact.network))
        each.network.eval()
    assert one.validation_loss_of(batch()).item() == exact.validation_loss_of(batch()).item()
