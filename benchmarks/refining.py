"""Measurements of refinement: see tasks.py, which runs each in a process of its own."""

import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import dask
import numpy as np
import torch
from distributed import LocalCluster
from torch import nn

import published_way
from resdepth.data.normalization import Inputs, Normalization
from resdepth.data.scene import Scene
from resdepth.geo.gdal import tune_process
from resdepth.geo.raster import Array
from resdepth.geo.windows import Window
from resdepth.models.model import Architecture, Model, new_network, save_model
from resdepth.options import Mode
from resdepth.refinement.blocks import Work, refined_strips
from resdepth.refinement.dask import on_cluster
from resdepth.refinement.engine import Refiner
from resdepth.refinement.job import Job
from resdepth.refinement.run_job import Compute, compute_here, run_jobs
from resdepth.refinement.tiles import refine_region
from setting import HEIGHT_SIGMA, IMAGE_MEAN, IMAGE_STD, VIEWS, SceneFiles, Sizes, peak_resident_mb

Figures = dict[str, float]

NORMALIZATION = Normalization(HEIGHT_SIGMA, IMAGE_MEAN, IMAGE_STD)
INPUTS = Inputs(uses_dsm=True, n_views=VIEWS)
VIEW_SET = tuple(range(VIEWS))
CPU = torch.device("cpu")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
PROCESS_IO = Path("/proc/self/io")
# By default each process of Dask wakes a hundred times a second, beside those that compute.
CALM_DASK = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """A folder for what a task makes and nobody needs: tasks may run side by side (`speed.py --quick`)."""
    with TemporaryDirectory(dir=folder, prefix="task-") as own:
        yield Path(own)


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


def made_model(start_kernel: int, depth: int, tile: int = 256) -> Model:
    """The same model at each call."""
    architecture = Architecture("UNet", "geom-stereo", _settings(start_kernel, depth))
    weights = made_network(start_kernel, depth).state_dict()
    return Model(architecture, weights, NORMALIZATION, {"tile_size": tile})


def made_refiner(start_kernel: int, depth: int, precision: str = "fp32") -> Refiner:
    """The same model, ready to run in a process that uses memory as the command does."""
    tune_process()
    return Refiner(made_model(start_kernel, depth), device=CPU, precision=PRECISIONS[precision])


def opened(files: SceneFiles) -> Scene:
    """The scene of these files."""
    return Scene.open(files.dsm, files.views, reference=files.reference)


def _refined(scene: Scene, region: Window, refiner: Refiner, tile: int, mode: Mode) -> Array:
    refined: Array = np.empty(region.shape, dtype=np.float32)
    if mode == "exact":
        strips = refine_region(scene, VIEW_SET, region, refiner, tile)
    else:
        strips = refined_strips(Work(scene, region, (VIEW_SET,), mode, tile), refiner)
    for strip in strips:
        refined[strip.row : strip.row + len(strip.values)] = strip.values
    return refined


def refining_ours(folder: Path, sizes: Sizes, *, mode: Mode, precision: str) -> Figures:
    """Refine a scene from its files."""
    refiner = made_refiner(sizes.start_kernel, sizes.depth, precision)
    files = SceneFiles(folder / "scene")
    # Large enough for all memory to be taken.
    warm_up = Window(0, 0, sizes.height // 2, sizes.width // 2)
    _refined(opened(files), warm_up, refiner, sizes.tile, mode)
    start = time.perf_counter()
    scene = opened(files)
    refined = _refined(scene, scene.grid.whole, refiner, sizes.tile, mode)
    seconds = time.perf_counter() - start
    np.save(folder / f"refined_{mode}_{precision}.npy", refined)
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


def peak(_folder: Path, sizes: Sizes) -> Figures:
    """What the processor can do at most, in matrix products, GFLOP/s."""
    figures = {}
    for name, dtype in PRECISIONS.items():
        one, other = (torch.randn(sizes.matrix, sizes.matrix).to(dtype) for _ in range(2))
        seconds = min(_timed(partial(torch.mm, one, other)) for _ in range(7))
        figures[name] = 2 * sizes.matrix**3 / 1e9 / seconds
    return figures


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def network_alone(_folder: Path, sizes: Sizes) -> Figures:
    """The network on one image: GFLOP/s, and GFLOP for a million pixels."""
    operations = gflop_per_mpx(made_network(sizes.start_kernel, sizes.depth))
    figures = {"gflop_per_mpx": operations}
    shape = (1, INPUTS.n_channels, sizes.image, sizes.image)
    channels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for precision in PRECISIONS:
        refiner = made_refiner(sizes.start_kernel, sizes.depth, precision)
        seconds = min(_timed(partial(refiner.run, channels)) for _ in range(5))
        figures[precision] = operations * sizes.image**2 / 1e6 / seconds
    return figures


def gflop_per_mpx(network: nn.Module) -> float:
    """Multiplications and additions of the network's convolutions, as published, in 10^9 for 10^6 pixels."""
    done = 0.0

    def count(module: nn.Module, _given: object, result: torch.Tensor) -> None:
        nonlocal done
        if isinstance(module, nn.Conv2d):
            done += 2 * result.numel() * module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        elif isinstance(module, nn.ConvTranspose2d):
            done += 2 * result.numel() * module.in_channels

    for module in network.modules():
        module.register_forward_hook(count)
    side = 256
    with torch.inference_mode():
        network.eval()(torch.zeros(1, INPUTS.n_channels, side, side))
    return done / side**2 / 1e3


class NullRefiner(Refiner):
    """Gives the DSM back: what is left is reading, preparing and writing."""

    def run_inside(self, channels: Array) -> Array:
        """The first channel, without the halo."""
        halo = self.model.architecture.halo_px
        return channels[:, :1, halo:-halo, halo:-halo]


@dataclass
class Timed:
    """A way to compute blocks that notes when it has finished, and how much it has read and written."""

    compute: Compute
    seconds: float = math.nan
    cpu_seconds: float = math.nan
    read: float = math.nan
    written: float = math.nan

    def __call__(self, job: Job, todo: Sequence[Window]) -> Generator[Window]:
        """Compute."""
        start, cpu, (read, written) = time.perf_counter(), time.process_time(), bytes_so_far()
        yield from self.compute(job, todo)
        self.seconds, self.cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        self.read, self.written = (
            after - before for after, before in zip(bytes_so_far(), (read, written), strict=True)
        )


def bytes_so_far() -> tuple[float, float]:
    """Bytes that this process has read from files and written to them so far."""
    if not PROCESS_IO.is_file():
        return math.nan, math.nan
    stated = dict(line.split(": ") for line in PROCESS_IO.read_text(encoding="ascii").splitlines())
    return float(stated["rchar"]), float(stated["wchar"])


def from_file_to_file(
    folder: Path, sizes: Sizes, *, name: str, precision: str = "bf16", null: bool = False
) -> Figures:
    """`resdepth refine` on a large raster: speed of the whole, and all memory that the process ever held."""
    scene = opened(SceneFiles(folder / name))
    model = made_model(sizes.start_kernel, sizes.depth, sizes.tile)
    refiner = (NullRefiner if null else Refiner)(model, device=CPU, precision=PRECISIONS[precision])
    work = Work(scene, scene.grid.whole, (VIEW_SET,), "seamless", sizes.tile)
    with own_folder(folder) as own:
        compute, start = Timed(compute_here), time.perf_counter()
        run_jobs([Job(work, refiner, own / "refined.tif")], compute=compute)
        speeds = _speeds(scene, compute, time.perf_counter() - start)
    return speeds | {"peak_mb": peak_resident_mb()}


def _speeds(scene: Scene, compute: Timed, seconds: float) -> Figures:
    """Mpx/s of the whole, and of the blocks alone."""
    mpx = scene.grid.whole.area / 1e6
    return {"mpx_per_second": mpx / seconds, "blocks_per_second": mpx / compute.seconds}


def start_up(folder: Path, sizes: Sizes) -> Figures:
    """`resdepth refine` on a raster that is nothing to compute, from the shell's prompt to the file."""
    files = SceneFiles(folder / "tiny")
    with own_folder(folder) as own:
        model = own / "model.safetensors"
        save_model(made_model(sizes.start_kernel, sizes.depth, sizes.tile), model)
        command = [sys.executable, "-m", "resdepth", "refine", files.dsm, *files.views, "--model", model]
        command += ["-o", own / "tiny.tif", "--overwrite", "--force"]  # made images show nothing real

        def run() -> None:
            subprocess.run([str(word) for word in command], check=True, capture_output=True)

        return {"seconds": min(_timed(run) for _ in range(3))}


@contextmanager
def workers_here(count: int) -> Iterator[str]:
    """A Dask scheduler on this machine, with so many workers of one thread; gives its address."""
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1, **CALM_DASK}),
        LocalCluster(
            n_workers=count, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=None,
            env={"OMP_NUM_THREADS": "1"}, silence_logs=logging.CRITICAL,
        ) as cluster,
    ):  # fmt: skip
        yield cluster.scheduler_address


def workers(folder: Path, sizes: Sizes, *, count: int) -> Figures:
    """A Dask cluster on this machine, one thread for each worker, on a raster of many blocks."""
    model = made_model(sizes.start_kernel, sizes.depth, sizes.tile)
    refiner = Refiner(model, device=CPU, precision=torch.bfloat16)
    figures: Figures = {}
    with workers_here(count) as address, own_folder(folder) as own:
        for name in ("medium", "wide"):  # the first loads the model
            scene = opened(SceneFiles(folder / name))
            work = Work(scene, scene.grid.whole, (VIEW_SET,), "seamless", sizes.tile)
            compute, start = Timed(on_cluster(address)), time.perf_counter()
            run_jobs([Job(work, refiner, own / f"{name}.tif")], compute=compute)
            figures = _speeds(scene, compute, time.perf_counter() - start)
    return figures


REFINING_TASKS: dict[str, Callable[[Path, Sizes], Figures]] = {
    "refining_published": refining_published,
    **{
        f"refining_{mode}_{precision}": partial(refining_ours, mode=mode, precision=precision)
        for mode in ("exact", "seamless")
        for precision in PRECISIONS
    },
    "peak": peak,
    "network_alone": network_alone,
    "file_medium_fp32": partial(from_file_to_file, name="medium", precision="fp32"),
    "file_medium": partial(from_file_to_file, name="medium"),
    "file_huge": partial(from_file_to_file, name="huge"),
    "null_huge": partial(from_file_to_file, name="huge", null=True),
    "start_up": start_up,
    "workers_1": partial(workers, count=1),
    "workers_2": partial(workers, count=2),
}
