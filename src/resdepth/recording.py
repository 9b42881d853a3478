"""Keeping what a run produces: checkpoints, the training log, TensorBoard."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from resdepth.checkpoint import Architecture, Model
from resdepth.normalization import Normalization
from resdepth.published import write_checkpoint
from resdepth.runs import TRAINING_LOG, RunFolder, log_epoch, write_best
from resdepth.training import Standing


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
        """Open the TensorBoard events; those from `first_step` on, of a run that was killed, are void."""
        self._run, self._architecture, self._normalization = run, architecture, normalization
        self._provenance = dict(provenance)
        self._events = SummaryWriter(str(run.events), purge_step=first_step or None)

    def __enter__(self) -> "RunRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()

    def scalar(self, name: str, value: float, step: int) -> None:
        """A figure for TensorBoard."""
        self._events.add_scalar(name, value, step)

    def hyper_parameters(self, values: Mapping[str, bool | int | float | str], best_loss: float) -> None:
        """The run's settings and result, once, in the run's own folder."""
        metric = {"hparam/MAE_metric": best_loss}
        for summary in hparams(dict(values), metric):  # type: ignore[no-untyped-call] # of torch
            self._events._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        self._events.add_scalar("hparam/MAE_metric", best_loss)

    def epoch_done(self, standing: Standing, *, improved: bool, learning_rate: float) -> None:
        """A line in the training log."""
        text = f"epoch {standing.epoch}: train {standing.loss_train:.4f} m  val {standing.loss_val:.4f} m"
        text += f"  learning rate {learning_rate:.3g}" + ("  best" if improved else "")
        log_epoch(self._run.path / TRAINING_LOG, text)
        self._events.flush()

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
