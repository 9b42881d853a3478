"""What changes while a network learns, and a step of it."""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resdepth.data.patches import Batch
from resdepth.training.losses import Loss
from resdepth.training.parallel import ALONE, Group, synchronised


@dataclass(frozen=True)
class Recipe:
    """What a step does beyond the published one, which the defaults leave as it is.

    Attributes:
        precision: what the network computes in while it learns.
        longest_gradient: longer ones are shortened to it (L2 norm over all weights).
        average: share of the weights' moving average that stays at each step; None: no average.
        warm_up: steps over which the learning rate rises.
    """

    precision: torch.dtype = torch.float32
    longest_gradient: float | None = None
    average: float | None = None
    warm_up: int = 0


@dataclass
class Learner:
    """What changes while a network learns.

    Attributes:
        network, optimizer, scheduler: as PyTorch has them; no scheduler if the learning rate stays.
        height_sigma: metres per normalised unit.
        loss: of heights in metres.
        device: where it all is.
        recipe: how a step is made.
        group: the processes that learn together.
        averaged: the network with the moving average of the weights, if the recipe has one.
    """

    network: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    height_sigma: float
    loss: Loss
    device: torch.device
    recipe: Recipe = Recipe()
    group: Group = ALONE
    averaged: nn.Module | None = field(init=False, default=None)
    _parallel: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.network = synchronised(self.network, self.group)
        if self.recipe.average is not None:
            self.averaged = copy.deepcopy(self.network)
        self._parallel = self.group.parallel(self.network)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept as the best one."""
        return self.network if self.averaged is None else self.averaged

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over all epochs."""
        return float(self.optimizer.param_groups[0]["lr"]) * self._warmth(step)

    def _warmth(self, step: int) -> float:
        return min(1.0, (step + 1) / self.recipe.warm_up) if self.recipe.warm_up else 1.0

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of a training batch in metres: the network's output is denormalised first."""
        precision = self.recipe.precision
        with torch.autocast(self.device.type, precision, enabled=precision != torch.float32):
            refined = self._parallel(self._seen(batch))
        return self._loss(refined, batch)

    def validation_loss_of(self, batch: Batch) -> Tensor:
        """The same of the evaluated network, in fp32, as it will refine."""
        return self._loss(self.evaluated(self._seen(batch)), batch)

    def _seen(self, batch: Batch) -> Tensor:
        return batch.channels.to(self.device, memory_format=torch.channels_last)  # (B, C, T, T)

    def _loss(self, refined: Tensor, batch: Batch) -> Tensor:
        return self.loss(refined.float() * self.height_sigma, batch.reference.to(self.device))  # (B, 1, T, T)

    def learn(self, loss: Tensor, step: int) -> None:
        """One step down the gradient of a loss; the step is counted as in `learning_rate`."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.longest_gradient is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.longest_gradient)
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] *= self._warmth(step)
        self.optimizer.step()
        # The scheduler, and a checkpoint, know the rate without warm-up.
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        if self.averaged is not None and self.recipe.average is not None:
            # The first weights, which are random, are soon forgotten.
            move_average(self.averaged, self.network, min(self.recipe.average, (step + 1) / (step + 10)))


@torch.no_grad()
def move_average(averaged: nn.Module, network: nn.Module, share: float) -> None:
    """Let a share of the average stay, of the weights as of what BatchNorm has seen."""
    for mean, value in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - share)
        else:
            mean.copy_(value)
