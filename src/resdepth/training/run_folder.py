"""The run folder: what a training run leaves behind, file by file as the published ResDepth does."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from torch import nn

from resdepth.data.normalization import Normalization
from resdepth.errors import ResDepthError
from resdepth.models.model import Architecture, Model, save_model
from resdepth.models.published import (
    ARCHITECTURE_FILE,
    BEST_CHECKPOINT,
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    HEIGHT_FILE,
    IMAGE_FILE,
    MODEL_FILE,
    load_run_folder,
    read_moments,
    write_architecture,
    write_checkpoint,
    write_moments,
)
from resdepth.runtime.atomic import (
    copy_file,
    named,
    remove_leftovers,
    temporary_folder,
    write_bytes,
    write_json,
    write_text,
    writing,
)

LAST_CHECKPOINT = "Model_last.pth"
TRAINING_LOG = "training.log"
RUN_LOG = "run.log"
ORIGINAL_CONFIG_FILE = "config.json.orig"
LAYERS_FILE = "model_parameters.txt"


@dataclass(frozen=True)
class RunFolder:
    """Where a run writes.

    Attributes:
        path: the run folder.
        events: its folder of TensorBoard events.
    """

    path: Path
    events: Path

    @property
    def last(self) -> Path:
        """The checkpoint from which the run resumes; rewritten after each epoch."""
        return self.path / CHECKPOINT_FOLDER / LAST_CHECKPOINT

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch with the lowest validation loss."""
        return self.path / CHECKPOINT_FOLDER / BEST_CHECKPOINT

    def after(self, epochs: int) -> Path:
        """The checkpoint kept after so many epochs."""
        return self.path / CHECKPOINT_FOLDER / f"Model_after_{epochs}_epochs.pth"


@contextmanager
def draft_run(output_directory: Path, events_directory: Path) -> Iterator[RunFolder]:
    """A hidden run folder beside others; gone in the end, unless `appear` gave it a name.

    Raises:
        ResDepthError: if it cannot be made.
    """
    with ExitStack() as stack:
        with writing(output_directory):
            output_directory.mkdir(parents=True, exist_ok=True)
            events_directory.mkdir(parents=True, exist_ok=True)
            one_folder = output_directory.samefile(events_directory)  # however its paths are spelled
            path = stack.enter_context(temporary_folder(output_directory, "run"))
            (path / CHECKPOINT_FOLDER).mkdir()
        events = path if one_folder else stack.enter_context(temporary_folder(events_directory, "events"))
        yield RunFolder(path, events)


def appear(draft: RunFolder, suffix: str, now: datetime) -> RunFolder:
    """Name a complete draft by date and time; a second run within the same minute gets a number.

    Raises:
        ResDepthError: if it cannot be renamed.
    """
    stem = now.strftime("%Y-%m-%d_%H-%M") + (f"_{suffix}" if suffix else "")
    for number in count(1):
        name = stem if number == 1 else f"{stem}_{number}"
        run = RunFolder(draft.path.with_name(name), draft.events.with_name(name))
        # Another run may write its events here, though its folder lies elsewhere.
        if not run.events.exists() and named(draft.path, run.path):
            if draft.events == draft.path or named(draft.events, run.events):
                return run
            run.path.rename(draft.path)
    raise AssertionError("count() never ends")


def write_description(
    run: RunFolder,
    config: Mapping[str, Any],
    original: bytes,
    architecture: Architecture,
    network: nn.Module,
    *,
    with_layers: bool,
) -> None:
    """Write everything about a run that is known before its first epoch, but for the normalisation."""
    write_json(run.path / CONFIG_FILE, config)
    write_bytes(run.path / ORIGINAL_CONFIG_FILE, original)
    write_architecture(run.path / ARCHITECTURE_FILE, architecture)
    if with_layers:
        count = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        text = f"{network}\n\n{count} trainable parameters\n"
        write_text(run.path / LAYERS_FILE, text)


def write_normalization(run: Path, normalization: Normalization) -> None:
    """Write the two .p files (the second only for networks that see images)."""
    write_moments(run / HEIGHT_FILE, None, normalization.height_sigma)
    if normalization.image_std is not None:
        write_moments(run / IMAGE_FILE, normalization.image_mean, normalization.image_std)


def read_normalization(run: Path, *, with_images: bool) -> Normalization | None:
    """The normalisation of an earlier run; None if its files are not there."""
    files = [run / HEIGHT_FILE, *([run / IMAGE_FILE] if with_images else [])]
    if not all(file.exists() for file in files):
        return None
    _, sigma = read_moments(files[0])
    return Normalization(sigma, *(read_moments(files[1]) if with_images else ()))


def write_best(run: RunFolder, checkpoint: Mapping[str, Any], model: Model) -> None:
    """Write Model_best.pth and, beside the checkpoints, the same model as one self-contained file."""
    write_checkpoint(run.best, checkpoint)
    save_model(model, run.path / MODEL_FILE)


def carry_over(earlier: Path, run: RunFolder, earlier_events: Path, *, with_best: bool) -> None:
    """Take training log and TensorBoard events of an earlier run along and, if wanted, its best model."""
    best = (f"{CHECKPOINT_FOLDER}/{BEST_CHECKPOINT}", MODEL_FILE) if with_best else ()
    for name in (TRAINING_LOG, *best):
        if (earlier / name).is_file():
            copy_file(earlier / name, run.path / name)
    if run.best.exists() and not (run.path / MODEL_FILE).exists():
        save_model(load_run_folder(run.path), run.path / MODEL_FILE)
    if earlier_events.is_dir():
        for events in earlier_events.glob("events.out.tfevents.*"):
            shutil.copyfile(events, run.events / events.name)


def remove_unfinished(run: RunFolder) -> None:
    """Remove what processes that ended have left unfinished in a run folder, and beside it."""
    beside = (run.path.parent, run.events.parent)
    for folder in (*beside, run.path, run.path / CHECKPOINT_FOLDER, run.events):
        remove_leftovers(folder)


def truncate_log(log: Path, epochs: int) -> None:
    """Drop the lines of epochs that were not saved any more: they will be run again."""
    if not log.exists():
        return
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _epoch_of(line) <= epochs]
    write_text(log, "".join(kept))


def _epoch_of(line: str) -> int:
    """The epoch that a line of the training log tells of; 0 for lines of another kind."""
    found = re.match(r"epoch (\d+):", line)
    return int(found[1]) if found else 0


def log_epoch(log: Path, text: str) -> None:
    """Append a line to the training log.

    Raises:
        ResDepthError: if it cannot be written.
    """
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise ResDepthError(f"{log}: cannot be written ({error.strerror}); is there space left?") from error
