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
from torch import nn

import published_way
from resdepth.allocator import tune_allocator
from resdepth.checkpoint import Architecture, Model
from resdepth.config import OptimizerConfig, TrainGeneral
from resdepth.engine import Refiner
from resdepth.geotiff import new_geotiff
from resdepth.inputs import Inputs
from resdepth.losses import LOSSES
from resdepth.networks import new_network
from resdepth.normalization import Normalization
from resdepth.optimization import new_optimizer
from resdepth.patches import TrainingSamples, batches, draw_patches
from resdepth.raster import Array
from resdepth.refinement import refine_region
from resdepth.scene import Scene, hold_in_memory
from resdepth.training import Learner
from resdepth.windows import Window
from setting import (
    FULL,
    HEIGHT_SIGMA,
    IMAGE_MEAN,
    IMAGE_STD,
    QUICK,
    VIEWS,
    SceneFiles,
    Sizes,
    peak_resident_mb,
    resident_mb,
)

Figures = dict[str, float]

NORMALIZATION = Normalization(HEIGHT_SIGMA, IMAGE_MEAN, IMAGE_STD)
INPUTS = Inputs(uses_dsm=True, n_views=VIEWS)
VIEW_SET = tuple(range(VIEWS))
CPU = torch.device("cpu")
SMALL_NETWORK = {"start_kernel": 4, "depth": 2}
SMALL_TILE = 128


def _settings(start_kernel: int, depth: int) -> dict[str, object]:
    return {
        "n_input_channels": INPUTS.n_channels,
        "start_kernel": start_kernel,
        "depth": depth,
        "bias_conv_layer": True,
    }


def made_network(start_kernel: int, depth: int) -> nn.Module:
    """The same network at each call."""
    torch.manual_seed(0)
    return new_network("UNet", _settings(start_kernel, depth))


def _refiner(start_kernel: int, depth: int) -> Refiner:
    architecture = Architecture("UNet", "geom-stereo", _settings(start_kernel, depth))
    weights = made_network(start_kernel, depth).state_dict()
    return Refiner(Model(architecture, weights, NORMALIZATION), device=CPU)


def _open(files: SceneFiles) -> Scene:
    return Scene.open(files.dsm, files.views, truth=files.truth)


def _refined(scene: Scene, region: Window, refiner: Refiner, tile: int) -> Array:
    refined: Array = np.empty(region.shape, dtype=np.float32)
    for strip in refine_region(scene, VIEW_SET, region, refiner, tile):
        refined[strip.row : strip.row + len(strip.values)] = strip.values
    return refined


def refining_ours(folder: Path, sizes: Sizes) -> Figures:
    """Refine a scene from its files."""
    refiner = _refiner(sizes.start_kernel, sizes.depth)
    files = SceneFiles(folder / "scene")
    one_batch = sizes.tile // 2 * (refiner.batch_size(sizes.tile) + 1)
    warm_up = Window(0, 0, sizes.tile, min(one_batch, sizes.width))
    _refined(_open(files), warm_up, refiner, sizes.tile)
    start = time.perf_counter()
    scene = _open(files)
    refined = _refined(scene, scene.grid.whole, refiner, sizes.tile)
    seconds = time.perf_counter() - start
    np.save(folder / "refined_ours.npy", refined)
    return {"mpx_per_second": refined.size / 1e6 / seconds}


def refining_published(folder: Path, sizes: Sizes) -> Figures:
    """The same in the published way."""
    network = made_network(sizes.start_kernel, sizes.depth).eval()
    files = SceneFiles(folder / "scene")
    rasters = published_way.read_rasters(files)
    warm_up = (slice(0, sizes.tile), slice(0, sizes.tile * 3 // 2))
    published_way.refine(rasters.dsm[warm_up], rasters.views[(slice(None), *warm_up)], network, sizes.tile)
    start = time.perf_counter()
    rasters = published_way.read_rasters(files)
    refined = published_way.refine(rasters.dsm, rasters.views, network, sizes.tile)
    seconds = time.perf_counter() - start
    np.save(folder / "refined_published.npy", refined)
    return {"mpx_per_second": refined.size / 1e6 / seconds}


def _samples(scene: Scene, tile: int, n: int) -> TrainingSamples:
    patches = draw_patches(scene, [scene.grid.whole], [VIEW_SET], tile=tile, n=n, all_pairs=True, seed=(0,))
    return TrainingSamples([patches], tile, NORMALIZATION, INPUTS, augment=True, permute=True, seed=0)


def training_ours(folder: Path, sizes: Sizes) -> Figures:
    """Training steps as `resdepth.training.fit` takes them."""
    tune_allocator()
    network = made_network(sizes.start_kernel, sizes.depth).train()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = new_optimizer(OptimizerConfig(), network.parameters(), CPU)
    learner = Learner(network, optimizer, None, HEIGHT_SIGMA, LOSSES["L1"], CPU)
    (scene,) = hold_in_memory([_open(SceneFiles(folder / "scene"))], TrainGeneral().memory_gb * 1e9)
    samples = _samples(scene, sizes.tile, sizes.batch * sizes.steps)

    def train(steps: int, epoch: int) -> None:
        order = samples.order(epoch)[: steps * sizes.batch]
        workers = TrainGeneral().workers
        for batch in batches(samples, order, batch_size=sizes.batch, epoch=epoch, workers=workers):
            loss = learner.loss_of(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

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
    samples = _samples(_open(SceneFiles(folder)), sizes.patch, sizes.n_corners)
    start = time.perf_counter()
    for index in samples.order(0)[: sizes.n_drawn]:
        samples.sample(int(index), 0)
    seconds = time.perf_counter() - start
    return {"samples_per_second": sizes.n_drawn / seconds, "growth_mb": peak_resident_mb() - before}


def memory_ours(folder: Path, _sizes: Sizes) -> Figures:
    """What refining a raster with a small network adds to the process, from file to file."""
    refiner = _refiner(**SMALL_NETWORK)
    before = resident_mb()
    scene = _open(SceneFiles(folder))
    with new_geotiff(folder / "refined.tif", scene.grid) as output:
        for strip in refine_region(scene, VIEW_SET, scene.grid.whole, refiner, SMALL_TILE):
            output.write(strip.row, strip.values)
    return {"growth_mb": peak_resident_mb() - before}


def memory_published(folder: Path, _sizes: Sizes) -> Figures:
    """The same in the published way."""
    network = made_network(**SMALL_NETWORK).eval()
    before = resident_mb()
    rasters = published_way.read_rasters(SceneFiles(folder))
    refined = published_way.refine(rasters.dsm, rasters.views, network, SMALL_TILE)
    with new_geotiff(folder / "refined.tif", _open(SceneFiles(folder)).grid) as output:
        output.write(0, refined)
    return {"growth_mb": peak_resident_mb() - before}


TASKS: dict[str, Callable[[Path, Sizes], Figures]] = {
    "refining_ours": refining_ours,
    "refining_published": refining_published,
    "training_ours": training_ours,
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
