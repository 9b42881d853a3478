"""Keeping what a run produces: checkpoints, the training log, TensorBoard, pictures of patches."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from resdepth.data.normalization import Array, Normalization
from resdepth.data.patches import ValidationSamples
from resdepth.geo.grid import Sides
from resdepth.models.model import Architecture, Model
from resdepth.models.published import write_checkpoint
from resdepth.report.pictures import patch_picture
from resdepth.training.loop import Standing
from resdepth.training.run_folder import TRAINING_LOG, RunFolder, log_epoch, write_best

logger = logging.getLogger(__name__)


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


class RunRecorder:
    """Writes into a run folder; see training.Recorder."""

    def __init__(
        self,
        run: RunFolder,
        architecture: Architecture,
        normalization: Normalization,
        provenance: Mapping[str, Any],
        first_step: int,
    ) -> None:
        """Open the TensorBoard events; those from `first_step` on are void: they will come again."""
        self._run, self._architecture, self._normalization = run, architecture, normalization
        self._provenance = dict(provenance)
        _outlast_the_second_of_earlier_events(run.events)
        self._events: SummaryWriter | None = SummaryWriter(
            str(run.events), purge_step=first_step if any(run.events.glob("events*")) else None
        )

    def __enter__(self) -> "RunRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._to_events(SummaryWriter.close)

    def _to_events(self, write: Callable[[SummaryWriter], None]) -> None:
        """TensorBoard is for looking at: where it cannot be written, training goes on without it."""
        if self._events is None:
            return
        try:
            write(self._events)
        except OSError as error:
            self._events = None
            logger.warning(
                "%s: TensorBoard's events cannot be written (%s); training goes on without them",
                self._run.events,
                error,
            )

    def scalar(self, name: str, value: float, step: int) -> None:
        """A figure for TensorBoard."""
        self._to_events(lambda events: events.add_scalar(name, value, step))

    def patches(self, shown: Sequence[Patch], step: int) -> None:
        """Pictures of patches: initial, refined, truth; and the errors before and after."""
        pictures = {
            f"val/patch_{number}": patch_picture(patch.initial, patch.refined, patch.truth, patch.sides)
            for number, patch in enumerate(shown, 1)
        }

        def write(events: SummaryWriter) -> None:
            for name, picture in pictures.items():
                events.add_image(name, picture, step, dataformats="HWC")

        self._to_events(write)

    def hyper_parameters(self, values: Mapping[str, bool | int | float | str], best_loss: float) -> None:
        """The run's settings and result, once, in the run's own folder."""
        metric = {"hparam/MAE_metric": best_loss}

        def write(events: SummaryWriter) -> None:
            # add_hparams() would make a nested folder for them.
            for summary in hparams(dict(values), metric):  # type: ignore[no-untyped-call] # of torch
                events._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
            events.add_scalar("hparam/MAE_metric", best_loss)

        self._to_events(write)

    def epoch_done(self, standing: Standing, *, improved: bool, learning_rate: float) -> None:
        """A line in the training log."""
        text = f"epoch {standing.epoch}: train {standing.loss_train:.4f} m  val {standing.loss_val:.4f} m"
        text += f"  learning rate {learning_rate:.3g}" + ("  best" if improved else "")
        log_epoch(self._run.path / TRAINING_LOG, text)
        self._to_events(SummaryWriter.flush)

    def save(self, name: str, checkpoint: Mapping[str, Any]) -> None:
        """Keep a checkpoint: "last", "best" (also as a self-contained model), or "after"."""
        if name == "best":
            reached = {"epoch": checkpoint["epoch"] + 1, "loss_val": checkpoint["loss_val"]}
            model = Model(
                self._architecture,
                checkpoint["model_state_dict"],
                self._normalization,
                {**self._provenance, **reached},
            )
            write_best(self._run, checkpoint, model)
        elif name == "after":
            write_checkpoint(self._run.after(checkpoint["epoch"] + 1), checkpoint)
        else:
            write_checkpoint(self._run.last, checkpoint)


def _outlast_the_second_of_earlier_events(folder: Path) -> None:
    """Readers take event files in the order of the second in their names; ours must come last."""
    now = int(time.time())
    if any(folder.glob(f"events.out.tfevents.{now}.*")):
        time.sleep(max(now + 1 - time.time(), 0))


SHOWN = 4
CANDIDATES = 32
# Each epoch up to this one, then every tenth: pictures take space, and later ones change little.
EACH_UP_TO, THEN_EVERY = 10, 10


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
