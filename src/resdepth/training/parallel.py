"""Several processes that train one network together, each on its part of every batch (started by torchrun).

They take the same steps as one process whose batch is as large as theirs together: losses are means over the
pixels of all, BatchNorm sees the batches of all, and what one decides (to stop, to end) all do. The first one
alone writes and reports.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from resdepth.errors import ResDepthError
from resdepth.runtime.surroundings import logged_from

# The first process may measure the normalisation of many scenes, or write a checkpoint, while others wait.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Group:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: which of them this one is; the first one, 0, writes and reports.
        size: how many there are.
        device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def totals(self, *values: float) -> list[float]:
        """Each value, summed over all processes; in float64."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(sums)
        return cast("list[float]", sums.tolist())

    def any(self, holds: bool) -> bool:  # noqa: FBT001 - as of the builtin
        """Whether it holds in one process at least."""
        return self.totals(holds)[0] > 0

    def from_first(self, value: Any) -> Any:
        """What the first process gave; the others' values do not matter."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def parallel(self, network: nn.Module) -> nn.Module:
        """A network whose gradients are means over all processes; BatchNorm must be `synchronised`."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, [self.device] if self.device.type == "cuda" else None)


ALONE = Group()


def speaks() -> bool:
    """Whether this process reports results: it is the only one, or the first that torchrun started."""
    return not distributed.is_torchelastic_launched() or os.environ.get("RANK") == "0"


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group of the processes that torchrun started together with this one, as long as the block runs.

    Outside torchrun, and where it started one process only, a process is alone. Of several graphics cards in
    a machine each process takes its own. All but the first process report errors only.

    Raises:
        ResDepthError: if the device is one that processes cannot share their gradients on.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if distributed.is_torchelastic_launched() else 1
    if size == 1:
        yield Group(device=device)
        return
    if device.type not in ("cuda", "cpu"):
        raise ResDepthError(f"device: {device.type!r} trains with one process; {size} need cuda or cpu")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        group = Group(distributed.get_rank(), size, device)
        with logged_from(logging.ERROR, () if group.is_first else ("resdepth",)):
            yield group
    finally:
        distributed.destroy_process_group()


def synchronised(network: nn.Module, group: Group) -> nn.Module:
    """The network, its BatchNorm made to see what the processes of a group see together."""
    if group.size == 1:
        return network
    if group.device.type == "cuda":
        return cast("nn.Module", nn.SyncBatchNorm.convert_sync_batchnorm(network))  # type: ignore[no-untyped-call]
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SyncedBatchNorm
    return network


class _SyncedBatchNorm(nn.BatchNorm2d):
    """What nn.SyncBatchNorm is on CUDA, for the CPU."""

    def forward(self, seen: Tensor) -> Tensor:
        """Normalise (B, C, H, W) by the mean and the variance over the batches of all processes."""
        if not self.training:
            return super().forward(seen)
        values = seen.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = _summed(torch.cat([values.sum((0, 2, 3)), count]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        centred = values - mean[:, None, None]
        # From the mean of all on, in a second step: a difference of squares would lose digits.
        variance = _summed(centred.square().sum((0, 2, 3))) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(seen.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.momentum is not None, "of our networks"
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None, "of our networks"
            running.lerp_(new, self.momentum)
        assert self.num_batches_tracked is not None, "beside the two"
        self.num_batches_tracked += 1


class _Summed(torch.autograd.Function):
    """A sum over all processes. Each one's result depends on it, hence so does its gradient."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    total: Tensor = _Summed.apply(values)  # type: ignore[no-untyped-call]
    return total
