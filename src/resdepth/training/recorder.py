"""Keeping what a run produces: checkpoints, the training log, TensorBoard."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from resdepth.data.normalization import Normalization
from resdepth.models.model import Architecture, Model
from resdepth.models.published import write_checkpoint
from resdepth.report.pictures import patch_picture
from resdepth.training.loop import Patch, Standing
from resdepth.training.run_folder import TRAINING_LOG, RunFolder, log_epoch, write_best

logger = logging.getLogger(__name__)


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
        """TensorBoard is for looking at: where it cannot be written, training continues without it."""
        if self._events is None:
            return
        try:
            write(self._events)
        except OSError as error:
            self._events = None
            logger.warning(
                "%s: TensorBoard's events cannot be written (%s); training continues without them",
                self._run.events,
                error,
            )

    def scalar(self, name: str, value: float, step: int) -> None:
        """A figure for TensorBoard."""
        self._to_events(lambda events: events.add_scalar(name, value, step))

    def patches(self, shown: Sequence[Patch], step: int) -> None:
        """Pictures of patches: initial, refined, reference DSM; and the errors before and after."""
        pictures = {
            f"val/patch_{number}": patch_picture(patch.initial, patch.refined, patch.reference, patch.sides)
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


class NoRecorder:
    """Keeps nothing: of the processes that train together, the first one records."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Do nothing."""

    def patches(self, shown: Sequence[Patch], step: int) -> None:
        """Do nothing."""

    def epoch_done(self, standing: Standing, *, improved: bool, learning_rate: float) -> None:
        """Do nothing."""

    def save(self, name: str, checkpoint: Mapping[str, Any]) -> None:
        """Do nothing."""


def _outlast_the_second_of_earlier_events(folder: Path) -> None:
    """Readers take event files in the order of the second in their names; ours must come last."""
    now = int(time.time())
    if any(folder.glob(f"events.out.tfevents.{now}.*")):
        time.sleep(max(now + 1 - time.time(), 0))
