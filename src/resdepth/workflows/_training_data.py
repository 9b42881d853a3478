"""What a network learns from: patches of the scenes of a plan, and the constants that normalise them."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from resdepth.data.normalization import Array, Normalization, height_sigma, image_statistics
from resdepth.data.patches import ScenePatches, draw_patches, validation_patches
from resdepth.data.scene import Scene, hold_in_memory, used_views
from resdepth.errors import ResDepthError
from resdepth.geo.windows import Window
from resdepth.workflows.check import TrainPlan

logger = logging.getLogger(__name__)

BYTES_PER_GB = 1e9


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


def gather(plan: TrainPlan) -> Material:
    """Draw the patches of a plan, and hold its rasters in memory as far as the budget reaches."""
    config = plan.config
    scenes = hold_in_memory([area.scene for area in plan.areas], config.general.memory_gb * BYTES_PER_GB)
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
                    n=area.n_samples,
                    all_pairs=config.stereopair_settings.use_all_stereo_pairs,
                    seed=(config.general.random_seed, index),
                )
            )
        if area.val:
            val_parts.append(validation_patches(scene, area.val, area.val_sets, tile=tile))
    return Material(tuple(scenes), tuple(train_parts), tuple(val_parts))


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
        if not plan.architecture.inputs.n_views:
            return Normalization(sigma)
        images = [
            (scene.views[view], area.train)
            for scene, area in zip(material.scenes, plan.areas, strict=True)
            for view in used_views(area.train_sets)
        ]
        return Normalization(sigma, *image_statistics(images))
    except ValueError as error:
        raise ResDepthError(f"{plan.source}: no normalisation can be computed: {error}") from error


def _heights(parts: Iterable[ScenePatches], tile: int) -> Iterator[Array]:
    for part in parts:
        for row, col in part.corners:
            yield part.scene.dsm.read(Window(int(row), int(col), tile, tile))
