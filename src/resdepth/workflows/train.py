"""From a training configuration to a run folder: patches, what normalises them, and the run itself."""

import logging
import math
import shlex
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import resdepth
from resdepth.config.rules import patches_wanted
from resdepth.config.schema import Section
from resdepth.data.normalization import Array, Normalization, height_sigma, image_statistics
from resdepth.data.patches import (
    ScenePatches,
    TrainingSamples,
    ValidationSamples,
    Variation,
    draw_patches,
    validation_patches,
)
from resdepth.data.scene import Scene, hold_in_memory, used_views
from resdepth.diagnosis.quick import bias_in, quick_surfaces
from resdepth.errors import InputProblems, Interrupted, ResDepthError
from resdepth.geo.raster import Band
from resdepth.geo.windows import Window
from resdepth.models.model import build_network, torch_version
from resdepth.models.published import (
    CONFIG_FILE,
    reached,
    read_checkpoint,
    read_training_state,
    write_checkpoint,
)
from resdepth.refinement.engine import choose_device, choose_precision
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.placing import held
from resdepth.runtime.progress import Watcher, reported_to
from resdepth.training.learner import Learner, Recipe
from resdepth.training.loop import Schedule, Standing, checkpoint_of, fit, restore
from resdepth.training.losses import LOSSES
from resdepth.training.optim import new_optimizer, new_scheduler
from resdepth.training.parallel import Group, joined, speaks
from resdepth.training.recorder import NoRecorder, RunRecorder
from resdepth.training.run_folder import (
    RUN_LOG,
    TRAINING_LOG,
    RunFolder,
    appear,
    carry_over,
    draft_run,
    read_normalization,
    remove_unfinished,
    truncate_log,
    write_description,
    write_normalization,
)
from resdepth.workflows.check import Area, TrainPlan, plan_training
from resdepth.workflows.descriptions import complete_config, describe_training_area, log_file, warn

logger = logging.getLogger(__name__)


def train(config: str | Path | Mapping[str, Any], *, progress: Watcher | None = None) -> Path:
    """Train a network as a configuration says: the path of a file, or a mapping of its keys.

    Args:
        config: the configuration.
        progress: see `refine`.

    Returns:
        The run folder.

    Raises:
        InputProblems: everything that is wrong with the configuration or its data; nothing is written then.
        Interrupted: on Ctrl-C or SIGTERM; the message states how to resume.
        ResDepthError: if training cannot continue (loss not finite, disk full).

    Examples:
        >>> import resdepth
        >>> run = resdepth.train("my_train.json")
        >>> resdepth.load_model(run)
        Model(Model_best: UNet of geom-stereo, 1,729 weights)
    """
    with reported_to(progress):
        plan = plan_training(config)
        with joined(choose_device(plan.config.general.device)) as group:
            return _trained(plan, group)


def _trained(plan: TrainPlan, group: Group) -> Path:
    """The run folder of a new run."""
    warn(plan.warnings)
    learner = _new_learner(plan, group)
    pretrained = _restore_pretrained(plan, learner)
    earlier = plan.config.model.pretrained_path
    earlier_run = None if earlier is None else Path(earlier).parent.parent
    material = gather(plan)
    normalization = _normalization(plan, material, earlier_run)
    complete = complete_config(plan.config, [describe_training_area(area) for area in plan.areas])
    keeps_best = earlier_run is not None and _is_evaluated_alike(earlier_run, complete)
    standing = Standing(epoch=0, end=plan.config.training_settings.n_epochs, processes=group.size)
    if pretrained is not None and earlier_run is not None:
        standing = _standing_after(pretrained, plan, material, group)
        if keeps_best:
            _keep_best(standing, earlier_run)
    if not group.is_first:
        return _run(plan, material, learner, normalization, standing, None)

    output = plan.config.output
    events = Path(output.tboard_log_dir)
    now = datetime.now().astimezone()
    with draft_run(Path(output.output_directory), events) as draft:
        write_description(
            draft,
            complete,
            plan.source.text,
            plan.network,
            learner.network,
            with_layers=output.plot_model_txt,
        )
        write_normalization(draft.path, normalization)
        if earlier_run is not None:
            carry_over(earlier_run, draft, events / earlier_run.name, with_best=keeps_best)
            truncate_log(draft.path / TRAINING_LOG, standing.epoch)
        write_checkpoint(draft.last, checkpoint_of(learner, standing))
        with held(draft.path / CONFIG_FILE, purpose=f"{output.output_directory}: the new run"):
            run = appear(draft, output.suffix, now)  # from now on it can be resumed
            return _run(plan, material, learner, normalization, standing, run)


def resume(run_folder: str | Path) -> Path:
    """Resume a run that was interrupted or killed, in its own folder.

    On the CPU the result is bitwise equal to that of a run that was never stopped.

    Returns:
        The run folder.

    Raises:
        InputProblems: if its data are gone or do not fit any more.
        ResDepthError: if the folder is no run folder, or another process is at work on it.
        Interrupted: as `train`.
    """
    folder = Path(run_folder).resolve()
    if not (folder / CONFIG_FILE).is_file():
        raise ResDepthError(f"{folder}: no run folder: {CONFIG_FILE} is missing")
    # With several processes, the first one holds the folder for all.
    with held(folder / CONFIG_FILE, purpose=str(folder)) if speaks() else nullcontext():
        last = RunFolder(folder, folder).last
        if not last.is_file():
            raise ResDepthError(f"{last}: missing; the run had not begun, train anew with {CONFIG_FILE}")
        plan = plan_training(folder / CONFIG_FILE, resumed=True)
        with joined(choose_device(plan.config.general.device)) as group:
            return _resumed(folder, plan, last, group)


def _resumed(folder: Path, plan: TrainPlan, last: Path, group: Group) -> Path:
    warn(plan.warnings)
    learner = _new_learner(plan, group)
    checkpoint = read_training_state(last)
    if checkpoint.get("resdepth") is None:
        raise ResDepthError(f"{last}: does not say how far the run had come; use model.pretrained_path")
    standing = Standing(**checkpoint["resdepth"])
    if standing.iteration and standing.processes != group.size:
        raise ResDepthError(
            f"{last}: was stopped within an epoch, which {standing.processes} processes shared; "
            f"resume it with as many (there are {group.size} now), or at the end of an epoch"
        )
    standing.processes = group.size
    try:
        restore(learner, checkpoint)
    except ResDepthError as error:
        raise ResDepthError(f"{last}: {error}") from error
    run = None
    if group.is_first:
        run = RunFolder(folder, Path(plan.config.output.tboard_log_dir) / folder.name)
        remove_unfinished(run)
    if standing.epoch >= standing.end:
        logger.info("%s: all %d epochs are complete already", folder, standing.end)
        return folder
    normalization = read_normalization(folder, with_images=plan.network.inputs.n_views > 0)
    if normalization is None:
        raise ResDepthError(f"{folder}: the normalisation files (*.p) are missing")
    if group.is_first:
        truncate_log(folder / TRAINING_LOG, standing.epoch)
    logger.info("resuming after epoch %d of %d", standing.epoch, standing.end)
    return _run(plan, gather(plan), learner, normalization, standing, run)


def _new_learner(plan: TrainPlan, group: Group) -> Learner:
    """A learner with seeded weights."""
    config = plan.config
    device = group.device
    with _seeded(config.general.random_seed):
        network = build_network(plan.network)
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload] # as in engine.py
    optimizer = new_optimizer(config.optimizer, network.parameters(), device)
    return Learner(
        network=network,
        optimizer=optimizer,
        scheduler=new_scheduler(config.scheduler, optimizer, config.training_settings.n_epochs),
        height_sigma=math.nan,  # known once the patches are drawn
        loss=LOSSES[config.training_settings.loss],
        device=device,
        recipe=Recipe(
            precision=choose_precision(config.training_settings.precision, device),
            longest_gradient=config.training_settings.clip_gradients,
            average=config.training_settings.average_weights,
            warm_up=config.scheduler.warm_up,
        ),
        group=group,
    )


def _restore_pretrained(plan: TrainPlan, learner: Learner) -> dict[str, Any] | None:
    """Put the checkpoint that the configuration names, if it does, into the learner; return it."""
    if plan.config.model.pretrained_path is None:
        return None
    checkpoint = read_training_state(Path(plan.config.model.pretrained_path))
    try:
        restore(learner, checkpoint)
    except ResDepthError as error:
        raise ResDepthError(f"{plan.source.name}: model.pretrained_path: {error}") from error
    return checkpoint


_SEEDING = threading.Lock()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let torch's own generator, which is one for all threads, start from a seed for a moment.

    Fresh weights come from it; everything else draws from generators that are passed on.
    """
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Material:
    """What a network learns from, before it is normalised.

    Attributes:
        scenes: as in the plan, held in memory as far as the budget reaches.
        train, val: the patches of each.
    """

    scenes: tuple[Scene, ...]
    train: tuple[ScenePatches, ...]
    val: tuple[ScenePatches, ...]


def _standing_after(
    checkpoint: dict[str, Any], plan: TrainPlan, material: Material, group: Group
) -> Standing:
    """Where a run that continues an earlier one begins: its epochs count on."""
    epoch = checkpoint.get("epoch")
    done = 0 if epoch is None else int(epoch) + 1
    settings = plan.config.training_settings
    samples = sum(len(part) for part in material.train)
    steps_per_epoch = math.ceil(samples / (settings.batch_size * group.size))
    exact = checkpoint.get("resdepth") or {"step": done * steps_per_epoch}
    return Standing(epoch=done, end=done + settings.n_epochs, step=int(exact["step"]), processes=group.size)


def _keep_best(standing: Standing, earlier_run: Path) -> None:
    """The loss that a model must beat is that of the earlier run's best one, which is carried over."""
    path = RunFolder(earlier_run, earlier_run).best
    if not path.is_file():
        return
    stated = reached(read_checkpoint(path))
    if stated.get("loss_val", 0) > 0:
        standing.best_loss, standing.best_epoch = stated["loss_val"], stated.get("epoch", 0)


def _is_evaluated_alike(earlier_run: Path, config: Mapping[str, Any]) -> bool:
    """Whether losses of an earlier run are those of the same pixels; if nobody can tell, they count."""
    try:
        before = _validation_data(read_json(earlier_run / CONFIG_FILE))
    except (InputProblems, LookupError, TypeError, AttributeError):  # none, or not as ours
        return True
    if before == _validation_data(config):
        return True
    logger.warning(
        "%s: validated on other data, so its best model does not count here; the best one of this run will",
        earlier_run,
    )
    return False


def _validation_data(config: Mapping[str, Any]) -> list[tuple[Path, Path, Any]]:
    """Initial DSM, reference and pixels of each data set that validates."""
    return [
        (Path(one["raster_in"]).resolve(), Path(one["raster_gt"]).resolve(), one["area_defn"]["val"])
        for one in config["datasets"]
        if "val" in one["area_defn"]
    ]


def _normalization(plan: TrainPlan, material: Material, earlier_run: Path | None) -> Normalization:
    """The constants of this run; a run that continues another keeps those of the other."""
    if earlier_run is not None:
        kept = read_normalization(earlier_run, with_images=plan.network.inputs.n_views > 0)
        if kept is not None:
            return kept
        logger.warning("%s: no normalisation files; the constants are computed anew", earlier_run)
    return measured_normalization(plan, material)


def _run(
    plan: TrainPlan, material: Material, learner: Learner, normalization: Normalization, standing: Standing,
    run: RunFolder | None,
) -> Path:  # fmt: skip
    """Train to the end. Only the first process of a group has a run folder; all learn its path."""
    config = plan.config
    learner.height_sigma = normalization.height_sigma
    tile, inputs = config.training_settings.tile_size, plan.network.inputs
    samples = TrainingSamples(
        material.train,
        tile,
        normalization,
        inputs,
        Variation(
            turn=config.training_settings.augment,
            permute=config.stereopair_settings.permute_images_within_pair,
            stretch=config.training_settings.height_stretch,
        ),
        config.general.random_seed,
    )
    validation = ValidationSamples(material.val, tile, normalization, inputs)
    schedule = Schedule(
        batch_size=config.training_settings.batch_size,
        workers=config.general.workers,
        evaluate_rate=config.general.evaluate_rate,
        save_rate=config.general.save_model_rate,
        n_epochs=config.training_settings.n_epochs,
        patience=config.training_settings.early_stopping,
    )
    if run is None:
        fit(learner, samples, validation, standing, schedule, NoRecorder())
        return cast("Path", learner.group.from_first(None))
    provenance = _provenance(plan)
    with (
        log_file(run.path / RUN_LOG) as note,
        RunRecorder(run, plan.network, normalization, provenance, standing.step) as recorder,
    ):
        logger.info("run folder: %s", run.path)
        logger.info(
            "%d training samples, %d validation samples, %d epochs, on %s%s",
            len(samples), len(validation), standing.end - standing.epoch, learner.device,
            f", by {learner.group.size} processes" * (learner.group.size > 1),
        )  # fmt: skip
        try:
            fit(learner, samples, validation, standing, schedule, recorder)
        except Interrupted as stopped:
            message = (
                f"{stopped}. Resume with: {_command(learner.group)} --resume {shlex.quote(str(run.path))}"
            )
            note(message)
            raise Interrupted(message) from stopped
        except ResDepthError as error:
            note(str(error))
            raise
        recorder.hyper_parameters(_hyper_parameters(plan), standing.best_loss)
        logger.info("best validation loss %.4f m, after epoch %d", standing.best_loss, standing.best_epoch)
    return cast("Path", learner.group.from_first(run.path))


def _command(group: Group) -> str:
    alone = "resdepth train"
    return alone if group.size == 1 else f"torchrun --nproc-per-node {group.size} -m {alone}"


def _provenance(plan: TrainPlan) -> dict[str, Any]:
    return {
        "resdepth": resdepth.__version__,
        "torch": torch_version(),
        "tile_size": plan.config.training_settings.tile_size,
        "datasets": [
            {"name": area.scene.name, "gsd_m": area.scene.grid.gsd_m, "crs": area.scene.grid.crs_name}
            for area in plan.areas
        ],
    }


def _hyper_parameters(plan: TrainPlan) -> dict[str, bool | int | float | str]:
    sections: tuple[Section, ...] = (
        plan.config.model, plan.config.training_settings, plan.config.optimizer, plan.config.scheduler,
    )  # fmt: skip
    values: dict[str, bool | int | float | str] = {}
    for section, prefix in zip(sections, ("model", "training", "optimizer", "scheduler"), strict=True):
        for name, value in section.model_dump().items():
            if isinstance(value, bool | int | float | str):
                values[f"{prefix}.{name}"] = value
    return values


BYTES_PER_GB = 1e9


def gather(plan: TrainPlan) -> Material:
    """Draw the patches of a plan, and hold its rasters in memory as far as the budget reaches."""
    config = plan.config
    scenes = hold_in_memory([area.scene for area in plan.areas], config.general.memory_gb * BYTES_PER_GB)
    if config.training_settings.remove_bias:
        scenes = [_without_bias(scene, area) for scene, area in zip(scenes, plan.areas, strict=True)]
    tile = config.training_settings.tile_size
    train_parts, val_parts = [], []
    for index, (scene, area) in enumerate(zip(scenes, plan.areas, strict=True)):
        if area.train:
            train_parts.append(
                draw_patches(
                    scene,
                    area.train,
                    area.train_sets,
                    tile=tile,
                    n=patches_wanted(config, index),
                    all_pairs=config.stereopair_settings.use_all_stereo_pairs,
                    seed=(config.general.random_seed, index),
                )
            )
        if area.val:
            val_parts.append(validation_patches(scene, area.val, area.val_sets, tile=tile))
    return Material(tuple(scenes), tuple(train_parts), tuple(val_parts))


def _without_bias(scene: Scene, area: Area) -> Scene:
    """The scene with a reference DSM that is raised or lowered to the initial DSM, where that is biased.

    The same files give the same figure, so a run that resumes sees what it saw before.
    """
    bias_m = bias_in(quick_surfaces(area.scene, area.windows))
    if not bias_m or scene.reference is None:
        return scene
    logger.info(
        "%s: the initial DSM lies %.2f m %s the reference DSM; this constant is taken out for training "
        "(remove_bias), so that the network does not learn it",
        scene.name, abs(bias_m), "above" if bias_m > 0 else "below",
    )  # fmt: skip
    return replace(scene, reference=_Raised(scene.reference, bias_m))


class _Raised:
    """A band of heights with a constant added."""

    def __init__(self, band: Band, by_m: float) -> None:
        self.grid, self._band, self._by_m = band.grid, band, np.float32(by_m)

    def read(self, window: Window) -> Array:
        """(height, width) float32, metres, NaN = void."""
        return self._band.read(window) + self._by_m


def measured_normalization(plan: TrainPlan, material: Material) -> Normalization:
    """The constants of this material.

    Raises:
        ResDepthError: if there are none, as in a DSM that is flat everywhere.
    """
    tile = plan.config.training_settings.tile_size
    logger.info(
        "computing the normalisation from %d patches", sum(len(part.corners) for part in material.train)
    )
    try:
        sigma = height_sigma(_heights(material.train, tile))
        if not plan.network.inputs.n_views:
            return Normalization(sigma)
        images = [
            (scene.views[view], area.train)
            for scene, area in zip(material.scenes, plan.areas, strict=True)
            for view in used_views(area.train_sets)
        ]
        return Normalization(sigma, *image_statistics(images))
    except ValueError as error:
        raise ResDepthError(f"{plan.source.name}: no normalisation can be computed: {error}") from error


def _heights(parts: Iterable[ScenePatches], tile: int) -> Iterator[Array]:
    for part in parts:
        for row, col in part.corners:
            yield part.scene.dsm.read(Window(int(row), int(col), tile, tile))
