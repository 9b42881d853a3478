"""The training loop: epochs, validation, checkpoints; interrupted at any moment, it resumes bit for bit.

A few validation patches, the same in every epoch, are kept for pictures, so that people see a network learn.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from resdepth.data.normalization import Array
from resdepth.data.patches import Batch, InitialSamples, TrainingSamples, ValidationSamples, batches
from resdepth.errors import Interrupted, ResDepthError
from resdepth.geo.grid import Sides
from resdepth.models.model import clone_weights, load_weights
from resdepth.runtime.progress import Progress, progress_bar
from resdepth.runtime.surroundings import Stop, stoppable, without_warnings
from resdepth.training.learner import Learner
from resdepth.training.losses import Loss
from resdepth.training.optim import restore_optimizer, restore_scheduler
from resdepth.training.parallel import ALONE, Group

SHOWN = 4
CANDIDATES = 32
# Each epoch up to this one, then every tenth: pictures take space, and later ones change little.
EACH_UP_TO, THEN_EVERY = 10, 10


@dataclass(frozen=True)
class Patch:
    """Heights above the patch's centre, (T, T) float32, metres.

    Attributes:
        initial: NaN = void.
        reference: NaN = unknown.
        refined: what the network makes of it; None before it was asked.
        sides: of a pixel.
    """

    initial: Array
    reference: Array
    sides: Sides
    refined: Array | None = None


class Showcase:
    """The patches, chosen once: spread over the validation area, where reference heights are known."""

    def __init__(self, samples: ValidationSamples) -> None:
        read = {index: samples.sample(index, 0) for index in _spread(len(samples), CANDIDATES)}
        known = {index: float(np.isfinite(sample.reference).mean()) for index, sample in read.items()}
        good = [index for index, share in known.items() if share > 0 and share >= 0.5 * max(known.values())]
        chosen = [good[place] for place in _spread(len(good), SHOWN)]
        self._channels = [read[index].channels for index in chosen]
        self._patches = [
            Patch(samples.initial(index), read[index].reference, samples.sides(index)) for index in chosen
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
                    patch.initial,
                    patch.reference,
                    patch.sides,
                    _heights(network, channels, height_sigma, device),
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


logger = logging.getLogger(__name__)

SCALARS_EVERY = 20  # iterations, as published


@dataclass
class Standing:
    """How far a run has come.

    Attributes:
        epoch: epochs completed.
        end: epochs to complete.
        iteration: batches of the current epoch that are done (after an interruption).
        step: batches in all.
        loss_sum, loss_count: over the done batches of the current epoch.
        best_loss: lowest validation loss.
        best_epoch: the epoch that reached it.
        processes: how many trained, each with batches of its own (see `Group`).
        loss_train, loss_val: of the last epoch that has one.
    """

    epoch: int
    end: int
    iteration: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    processes: int = 1
    loss_train: float = math.nan
    loss_val: float = math.nan


class Recorder(Protocol):
    """Where a run's figures and checkpoints go."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """A figure for TensorBoard."""

    def patches(self, shown: Sequence[Patch], step: int) -> None:
        """Validation patches for TensorBoard."""

    def epoch_done(self, standing: Standing, *, improved: bool, learning_rate: float) -> None:
        """An epoch is over; called before its checkpoint is written."""

    def save(self, name: str, checkpoint: Mapping[str, Any]) -> None:
        """Keep a checkpoint: "last", "best", or "after"."""


@dataclass(frozen=True)
class Schedule:
    """How a run proceeds; see the configuration's sections training_settings and general."""

    batch_size: int  # of each process
    workers: int
    evaluate_rate: int
    save_rate: int
    n_epochs: int = 0
    patience: int | None = None
    """Epochs without a lower validation loss after which a run ends."""


def checkpoint_of(learner: Learner, standing: Standing) -> dict[str, Any]:
    """A checkpoint with the published keys, and under "resdepth" what exact resuming needs.

    Raises:
        ResDepthError: if the weights are not finite: the last step can break them after a finite loss.
    """
    weights = clone_weights(learner.network)
    for name, values in weights.items():
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise ResDepthError(
                f"the weights {name} are no longer finite; the last good state is the last checkpoint. "
                "Lower optimizer.learning_rate, and look for outliers in the DSMs"
            )
    content: dict[str, Any] = {
        "epoch": standing.epoch - 1,
        "model_state_dict": weights,
        "optimizer_state_dict": learner.optimizer.state_dict(),
        "loss_train": standing.loss_train,
        "loss_val": standing.loss_val,
        "resdepth": dict(vars(standing)),
    }
    if learner.averaged is not None:
        content["averaged_state_dict"] = clone_weights(learner.averaged)
    if learner.scheduler is not None:
        content["scheduler_state_dict"] = learner.scheduler.state_dict()
    return content


def _to_be_used(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The same for whoever refines: the weights are the averaged ones, if there are any."""
    used = {key: value for key, value in checkpoint.items() if key != "averaged_state_dict"}
    return used | {"model_state_dict": checkpoint.get("averaged_state_dict", checkpoint["model_state_dict"])}


def restore(learner: Learner, checkpoint: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights, their average, optimizer and scheduler into a learner.

    Raises:
        ResDepthError: if they do not fit the configuration.
    """
    load_weights(learner.network, checkpoint["model_state_dict"])
    if learner.averaged is not None:
        load_weights(learner.averaged, checkpoint.get("averaged_state_dict", checkpoint["model_state_dict"]))
    try:
        restore_optimizer(learner.optimizer, checkpoint["optimizer_state_dict"])
        if learner.scheduler is not None and checkpoint.get("scheduler_state_dict") is not None:
            restore_scheduler(learner.scheduler, checkpoint["scheduler_state_dict"])
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise ResDepthError(f"the checkpoint's optimizer or scheduler does not fit: {error}") from error


def fit(
    learner: Learner,
    train: TrainingSamples,
    val: ValidationSamples,
    standing: Standing,
    schedule: Schedule,
    recorder: Recorder,
) -> Standing:
    """Train until `standing.end` epochs are complete.

    After each epoch: validation (every `evaluate_rate` epochs and after the last), the scheduler's step, the
    checkpoints. "last" is written at the very end of it, so that a run killed at any moment resumes from it.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM, after the state was saved.
        ResDepthError: if the loss is not finite, or no validation pixel has a reference DSM.
    """
    total = (standing.end - standing.epoch) * len(train)
    group = learner.group
    done = standing.iteration * schedule.batch_size * group.size
    showcase = Showcase(val)
    with stoppable() as stop, progress_bar("training", total, unit="samples", done=done) as progress:
        initial = initial_error(learner.loss, val, schedule, stop, group)
        if initial is None:
            _save_and_stop(learner, standing, recorder, stop)
        while standing.epoch < standing.end:
            _train_epoch(learner, train, standing, schedule, recorder, progress, stop)
            _finish_epoch(learner, val, initial, standing, schedule, recorder, stop)
            if group.is_first and showcase.is_due(standing.epoch, standing.end):
                shown = showcase.refined_by(learner.evaluated, learner.height_sigma, learner.device)
                recorder.patches(shown, standing.step - 1)
    return standing


def _train_epoch(
    learner: Learner, samples: TrainingSamples, standing: Standing, schedule: Schedule, recorder: Recorder,
    progress: Progress, stop: Stop,
) -> None:  # fmt: skip
    learner.network.train()
    group = learner.group
    whole = schedule.batch_size * group.size
    order = samples.order(standing.epoch)[standing.iteration * whole :]
    # This process's part of it; of what is done already, the first one has all.
    loss_sum = torch.tensor(
        standing.loss_sum if group.is_first else 0.0,
        dtype=torch.float64,
        device=_float64_device(learner.device),
    )
    running = 0.0
    for batch in _shared_batches(samples, order, standing.epoch, schedule, group):
        # A batch without reference heights teaches nothing; a step would still move the weights by their
        # momentum.
        share = _known_share(batch, group)
        if share is not None:
            loss = learner.loss_of(batch) * share
            learner.learn(loss * group.size, standing.step)  # gradients are means over the processes
            loss_sum += loss.detach().to(loss_sum.device).double()
            standing.loss_count += 1
            if standing.step % SCALARS_EVERY == 0:
                [value] = group.totals(float(loss.detach()))
                _demand_finite(value, standing)
                recorder.scalar("train/MAE_metric", value, standing.step)
                recorder.scalar("train/learning_rate", learner.learning_rate(standing.step), standing.step)
        standing.iteration += 1
        standing.step += 1
        # On other devices than the CPU, asking for the loss waits for the whole queue; others wait for all.
        is_cheap = learner.device.type == "cpu" and group.size == 1
        if standing.loss_count and (is_cheap or standing.step % SCALARS_EVERY == 1):
            running = group.totals(float(loss_sum))[0] / standing.loss_count
        done = min(whole, len(samples) - (standing.iteration - 1) * whole)
        progress.advance(done, note=_note(standing, running))
        if group.any(stop.asked):
            [standing.loss_sum] = group.totals(float(loss_sum))
            _demand_finite(standing.loss_sum, standing)
            _save_and_stop(learner, standing, recorder, stop)
    [standing.loss_sum] = group.totals(float(loss_sum))
    _demand_finite(standing.loss_sum, standing)
    if not standing.loss_count:
        raise ResDepthError("no training patch holds a single pixel of the reference DSM; check raster_gt")
    standing.loss_train = standing.loss_sum / standing.loss_count


def _shared_batches(
    samples: TrainingSamples | ValidationSamples | InitialSamples,
    order: NDArray[np.int64],
    epoch: int,
    schedule: Schedule,
    group: Group,
) -> Iterator[Batch]:
    return batches(
        samples,
        order,
        batch_size=schedule.batch_size,
        epoch=epoch,
        workers=schedule.workers,
        rank=group.rank,
        processes=group.size,
    )


def _known_share(batch: Batch, group: Group) -> float | None:
    """This process's share of the known reference heights of a batch; None if nobody has any."""
    known = float(torch.isfinite(batch.reference).sum())
    [of_all] = group.totals(known)
    return known / of_all if of_all else None


def _float64_device(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device  # MPS has no float64


def _note(standing: Standing, loss: float) -> str:
    return f"epoch {standing.epoch + 1}/{standing.end}" + (f"  loss {loss:.3f} m" if loss else "")


def _demand_finite(loss: float, standing: Standing) -> None:
    if not math.isfinite(loss):
        raise ResDepthError(
            f"the loss became {loss} in epoch {standing.epoch + 1}; the last good state is the checkpoint "
            f"after epoch {standing.epoch}. Lower optimizer.learning_rate, and look for outliers in the DSMs"
        )


def _finish_epoch(
    learner: Learner, val: ValidationSamples, initial: float, standing: Standing, schedule: Schedule,
    recorder: Recorder, stop: Stop,
) -> None:  # fmt: skip
    epoch = standing.epoch + 1
    validated = epoch % schedule.evaluate_rate == 0 or epoch == standing.end
    learning_rate = learner.learning_rate(standing.step - 1)
    if validated:
        loss = validate(learner, val, schedule, stop)
        if loss is None:
            _save_and_stop(learner, standing, recorder, stop)
        standing.loss_val = loss
        logger.info("epoch %d: validation MAE %.3f m (initial DSM %.3f m)", epoch, loss, initial)
        recorder.scalar("val/MAE_metric", loss, standing.step - 1)
        recorder.scalar("val/MAE_initial", initial, standing.step - 1)
        recorder.scalar("val/learning_rate", learning_rate, standing.step - 1)
    _step_scheduler(learner, standing.loss_val if validated else None)
    improved = validated and standing.loss_val < standing.best_loss
    if improved:
        standing.best_loss, standing.best_epoch = standing.loss_val, epoch
    if validated and _is_hopeless(standing, epoch, schedule):
        logger.info("no lower validation loss for %d epochs: early_stopping ends the run", schedule.patience)
        standing.end = epoch
    standing.epoch, standing.iteration = epoch, 0
    standing.loss_sum, standing.loss_count = 0.0, 0
    checkpoint = checkpoint_of(learner, standing)
    if improved:
        recorder.save("best", _to_be_used(checkpoint))
    if epoch % schedule.save_rate == 0:
        recorder.save("after", _to_be_used(checkpoint))
    recorder.epoch_done(standing, improved=improved, learning_rate=learning_rate)
    recorder.save("last", checkpoint)
    if standing.epoch < standing.end and learner.group.any(stop.asked):
        _save_and_stop(learner, standing, recorder, stop)


def _is_hopeless(standing: Standing, epoch: int, schedule: Schedule) -> bool:
    """Whether so many epochs, of this run, have brought no lower validation loss."""
    if schedule.patience is None or epoch == standing.end:
        return False
    first = standing.end - schedule.n_epochs
    return epoch - max(standing.best_epoch, first) >= schedule.patience


def _step_scheduler(learner: Learner, loss_val: float | None) -> None:
    """One step per epoch; a plateau is looked for where the epoch was validated."""
    if isinstance(learner.scheduler, ReduceLROnPlateau):
        if loss_val is not None:
            learner.scheduler.step(loss_val)
    elif learner.scheduler is not None:
        # A run that was stopped in its validation resumes here, before any step of the optimizer.
        with without_warnings(UserWarning, r"Detected call of `lr_scheduler.step\(\)` before"):
            learner.scheduler.step()


@torch.no_grad()
def validate(
    learner: Learner, samples: ValidationSamples, schedule: Schedule, stop: Stop | None = None
) -> float | None:
    """The mean of the batches' losses, metres; batches without a known reference height are left out.

    Returns:
        None if the user stopped it.

    Raises:
        ResDepthError: if no pixel has a known reference height, or the loss is not finite.
    """
    learner.evaluated.eval()
    mean = _mean_loss(learner.validation_loss_of, samples, schedule, stop, learner.group)
    if mean is not None and not math.isfinite(mean):
        raise ResDepthError(f"the validation loss became {mean}; lower optimizer.learning_rate")
    return mean


def initial_error(
    loss: Loss,
    samples: ValidationSamples,
    schedule: Schedule,
    stop: Stop | None = None,
    group: Group = ALONE,
) -> float | None:
    """What `validate` gives for a network that leaves the initial DSM as it is: same pixels, same batches.

    Returns:
        None if the user stopped it.

    Raises:
        ResDepthError: if no pixel has a known reference height.
    """
    return _mean_loss(
        lambda batch: loss(batch.channels, batch.reference), InitialSamples(samples), schedule, stop, group
    )


def _mean_loss(
    loss_of: Callable[[Batch], Tensor],
    samples: ValidationSamples | InitialSamples,
    schedule: Schedule,
    stop: Stop | None,
    group: Group,
) -> float | None:
    losses = []
    for batch in _shared_batches(samples, samples.order(0), 0, schedule, group):
        if stop is not None and group.any(stop.asked):
            return None
        share = _known_share(batch, group)
        if share is not None:
            losses += group.totals(float(loss_of(batch)) * share)
    if not losses:
        raise ResDepthError(
            "the reference DSM is void at every validation pixel; check raster_gt and the validation stripe"
        )
    return sum(losses) / len(losses)


def _save_and_stop(learner: Learner, standing: Standing, recorder: Recorder, stop: Stop) -> NoReturn:
    recorder.save("last", checkpoint_of(learner, standing))
    where = f"{standing.epoch} of {standing.end} epochs are complete"
    if standing.iteration:
        where += f", and {standing.iteration} batches of the next"
    raise Interrupted(f"stopped by {stop.name or 'another process'}: {where}")
