"""One measurement in a process of its own: `python tasks.py TASK FOLDER [--quick]` prints JSON.

The allocator is tuned for a whole process and cannot be put back, and memory is counted by process; so each
way of doing a thing gets its own.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import published_way
from refining import (
    INPUTS,
    NORMALIZATION,
    REFINING_TASKS,
    VIEW_SET,
    made_network,
    made_refiner,
    opened,
    own_folder,
)
from resdepth.config.schema import OptimizerConfig, TrainGeneral
from resdepth.data.patches import TrainingSamples, Variation, batches, draw_patches
from resdepth.data.scene import Scene, hold_in_memory
from resdepth.geo.geotiff import new_geotiff
from resdepth.refinement.tiles import refine_region
from resdepth.runtime.surroundings import tune_allocator
from resdepth.training.learner import Learner, Recipe
from resdepth.training.losses import LOSSES
from resdepth.training.optim import new_optimizer
from setting import (
    FULL,
    HEIGHT_SIGMA,
    QUICK,
    SceneFiles,
    Sizes,
    peak_resident_mb,
    resident_mb,
)

Figures = dict[str, float]

CPU = torch.device("cpu")
SMALL_KERNEL, SMALL_DEPTH = 4, 2
SMALL_TILE = 128


def _samples(scene: Scene, tile: int, n: int) -> TrainingSamples:
    patches = draw_patches(scene, [scene.grid.whole], [VIEW_SET], tile=tile, n=n, all_pairs=True, seed=(0,))
    return TrainingSamples([patches], tile, NORMALIZATION, INPUTS, Variation(), 0)


def training_ours_bf16(folder: Path, sizes: Sizes) -> Figures:
    """Training steps with `training_settings.precision` bf16."""
    return _training(folder, sizes, Recipe(precision=torch.bfloat16))


def training_ours(folder: Path, sizes: Sizes) -> Figures:
    """Training steps as `resdepth.training.loop.fit` takes them."""
    return _training(folder, sizes, Recipe())


def _training(folder: Path, sizes: Sizes, recipe: Recipe) -> Figures:
    tune_allocator()
    network = made_network(sizes.start_kernel, sizes.depth).train()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = new_optimizer(OptimizerConfig(), network.parameters(), CPU)
    learner = Learner(network, optimizer, None, HEIGHT_SIGMA, LOSSES["L1"], CPU, recipe)
    (scene,) = hold_in_memory([opened(SceneFiles(folder / "scene"))], TrainGeneral().memory_gb * 1e9)
    samples = _samples(scene, sizes.tile, sizes.batch * sizes.steps)

    def train(steps: int, epoch: int) -> None:
        order = samples.order(epoch)[: steps * sizes.batch]
        workers = TrainGeneral().workers
        drawn = batches(samples, order, batch_size=sizes.batch, epoch=epoch, workers=workers)
        for step, batch in enumerate(drawn):
            learner.learn(learner.loss_of(batch), step)

    train(1, 0)
    start = time.perf_counter()
    train(sizes.steps, 1)
    return {"samples_per_second": sizes.steps * sizes.batch / (time.perf_counter() - start)}


def training_published(folder: Path, sizes: Sizes) -> Figures:
    """The same in the published way."""
    network = made_network(sizes.start_kernel, sizes.depth).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, weight_decay=1e-5)
    rasters = published_way.read_rasters(SceneFiles(folder / "scene"))
    rng = np.random.default_rng(0)

    def train(steps: int) -> None:
        prepared = published_way.training_batches(rasters, sizes.tile, sizes.batch, steps, rng)
        published_way.train(network, optimizer, prepared)

    train(1)
    start = time.perf_counter()
    train(sizes.steps)
    return {"samples_per_second": sizes.steps * sizes.batch / (time.perf_counter() - start)}


def drawing(folder: Path, sizes: Sizes) -> Figures:
    """Training samples from files too large to be held, read by window."""
    before = resident_mb()
    samples = _samples(opened(SceneFiles(folder)), sizes.patch, sizes.n_corners)
    start = time.perf_counter()
    for index in samples.order(0)[: sizes.n_drawn]:
        samples.sample(int(index), 0)
    seconds = time.perf_counter() - start
    return {"samples_per_second": sizes.n_drawn / seconds, "growth_mb": peak_resident_mb() - before}


def memory_ours(folder: Path, _sizes: Sizes) -> Figures:
    """What refining a raster with a small network adds to the process, from file to file."""
    refiner = made_refiner(SMALL_KERNEL, SMALL_DEPTH)
    before = resident_mb()
    scene = opened(SceneFiles(folder))
    with own_folder(folder) as own, new_geotiff(own / "refined.tif", scene.grid) as output:
        for strip in refine_region(scene, VIEW_SET, scene.grid.whole, refiner, SMALL_TILE):
            output.write(strip.row, strip.values)
    return {"growth_mb": peak_resident_mb() - before}


def memory_published(folder: Path, _sizes: Sizes) -> Figures:
    """The same in the published way."""
    network = made_network(SMALL_KERNEL, SMALL_DEPTH).eval()
    before = resident_mb()
    rasters = published_way.read_rasters(SceneFiles(folder))
    refined = published_way.refine(rasters.dsm, rasters.views, network, SMALL_TILE)
    grid = opened(SceneFiles(folder)).grid
    with own_folder(folder) as own, new_geotiff(own / "refined.tif", grid) as output:
        output.write(0, refined)
    return {"growth_mb": peak_resident_mb() - before}


TASKS: dict[str, Callable[[Path, Sizes], Figures]] = {
    **REFINING_TASKS,
    "training_ours": training_ours,
    "training_ours_bf16": training_ours_bf16,
    "training_published": training_published,
    "drawing_small": lambda folder, sizes: drawing(folder / "small", sizes),
    "drawing_large": lambda folder, sizes: drawing(folder / "large", sizes),
    "memory_ours_short": lambda folder, sizes: memory_ours(folder / "short", sizes),
    "memory_ours_tall": lambda folder, sizes: memory_ours(folder / "tall", sizes),
    "memory_published_short": lambda folder, sizes: memory_published(folder / "short", sizes),
    "memory_published_tall": lambda folder, sizes: memory_published(folder / "tall", sizes),
}


def main() -> None:
    """Run one task and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("folder", type=Path, help="where speed.py has put the rasters")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    print(json.dumps(TASKS[arguments.task](arguments.folder, QUICK if arguments.quick else FULL)))


if __name__ == "__main__":
    main()
