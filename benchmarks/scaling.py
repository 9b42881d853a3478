"""What many blocks cost besides computing: 10^5 blocks with a null network; writes docs/scaling.md.

    python benchmarks/scaling.py          (half an hour; --blocks 400: a smoke test, nothing is written)

Two worker processes of a Dask cluster on this machine work as in any large job: each block is read with its
surroundings, written to its own file, and all are put together. Only the network does nothing, and blocks are
small, so that what is left is what 10^5 blocks of any size cost the scheduler, the file system and GDAL.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path

import torch
from distributed import Client

from refining import CPU, VIEW_SET, NullRefiner, Timed, bytes_so_far, made_model, opened, workers_here
from resdepth.data.scene import Scene
from resdepth.refinement import job
from resdepth.refinement.blocks import Work
from resdepth.refinement.dask import on_cluster
from resdepth.refinement.engine import Refiner, choose_precision
from resdepth.refinement.job import Job
from resdepth.refinement.run_job import compute_here, run_jobs
from setting import FULL, peak_resident_mb, write_empty_scene, write_scene
from speed import describe_machine, describe_versions, markdown_table

Figures = dict[str, float]

HERE = Path(__file__).resolve().parent
PAGE = HERE / "scaling_page.md"
OUTPUT = HERE.parent / "docs" / "scaling.md"
BLOCK_PX = 64
BLOCKS = 100_489  # 317 rows of 317
WORKERS = 2
TINY_DEPTH, TINY_TILE = 2, 16
# A country, and who works on it.
AREA_KM2, GSD_M, GPUS = 40_000, 0.5, 64


class SmallBlocks(NullRefiner):
    """No network, and many blocks."""

    def block_area(self) -> int:
        """Pixels of a block with what lies around it."""
        around = self.model.architecture.halo_px + 2**TINY_DEPTH
        side: int = BLOCK_PX + 2 * around
        return side**2


def without_network() -> None:
    """What each worker does first."""
    job.Refiner = SmallBlocks  # type: ignore[attr-defined]


def _work(scene: Scene, tile: int) -> Work:
    return Work(scene, scene.grid.whole, (VIEW_SET,), "seamless", tile)


def many_blocks(folder: Path, blocks: int) -> Figures:
    """Seconds for all blocks and for putting them together, and what the scheduler's process took."""
    scene = opened(write_empty_scene(folder / "many", math.isqrt(blocks) * BLOCK_PX))
    refiner = SmallBlocks(made_model(4, TINY_DEPTH, TINY_TILE), device=CPU, precision=torch.float32)
    job = Job(_work(scene, TINY_TILE), refiner, folder / "refined.tif")
    before = peak_resident_mb()
    with workers_here(WORKERS) as address, Client(address) as client:
        client.run(without_network)
        timed = Timed(on_cluster(address))
        start = time.perf_counter()
        run_jobs([job], compute=timed)
        total = time.perf_counter() - start
    count = len(job.blocks)
    return {
        "blocks": count,
        "block_ms": 1e3 * timed.seconds / count,
        "scheduler_ms": 1e3 * timed.cpu_seconds / count,
        "assembling_ms": 1e3 * (total - timed.seconds) / count,
        "scheduler_mb": peak_resident_mb() - before,
        "minutes": total / 60,
    }


def real_blocks(folder: Path, side: int) -> Figures:
    """Speed of the full-size network from file to file, and bytes read and written for a million pixels."""
    scene = opened(write_scene(folder / "real", side, side, with_reference=False))
    model = made_model(FULL.start_kernel, FULL.depth, FULL.tile)
    refiner = Refiner(model, device=CPU, precision=choose_precision("auto", CPU))
    job = Job(_work(scene, FULL.tile), refiner, folder / "real.tif")
    timed = Timed(compute_here)
    before, start = bytes_so_far()[0], time.perf_counter()
    run_jobs([job], compute=timed)
    total = time.perf_counter() - start
    read = bytes_so_far()[0] - before
    mpx = scene.grid.whole.area / 1e6
    inputs = sum(path.stat().st_size for path in (folder / "real").iterdir())
    return {
        "real_mpx": mpx,
        "mpx_per_second": mpx / timed.seconds,
        "assembling_mpx_per_second": mpx / (total - timed.seconds),
        "block_mpx": mpx / len(job.blocks),
        "input_mb": inputs / 1e6 / mpx,
        "read_mb": timed.read / 1e6 / mpx,
        "written_mb": timed.written / 1e6 / mpx,
        "assembling_read_mb": (read - timed.read) / 1e6 / mpx,
        "output_mb": (job.output.stat().st_size + job.named.provenance.stat().st_size) / 1e6 / mpx,
    }


def country_table(figures: Figures) -> str:
    """What a country takes, by the speed of one worker."""
    mpx = AREA_KM2 / GSD_M**2
    blocks = mpx / figures["block_mpx"]
    rates = {"as fast as this machine": figures["mpx_per_second"]} | {
        f"{n} Mpx/s each": n for n in (20, 50, 100)
    }
    scheduler = blocks * figures["scheduler_ms"] / 1e3
    rows = []
    for name, rate in rates.items():
        seconds = mpx / rate / GPUS
        disk = GPUS * rate * (figures["read_mb"] + figures["written_mb"])
        rows.append(
            [f"{GPUS} workers, {name}", f"{seconds / 60:.0f}", f"{scheduler / 60:.0f}", f"{disk:,.0f}"]
        )
    together = blocks * figures["assembling_ms"] / 1e3 + mpx / figures["assembling_mpx_per_second"]
    stated = (
        f"{mpx / 1e3:,.0f} Gpx in {blocks:,.0f} blocks of {figures['block_mpx']:.2f} Mpx; in the end "
        f"{together / 3600:.1f} hours of one process for putting them together."
    )
    head = ["", "minutes of computing", "minutes of the scheduler", "MB/s from and to the disks"]
    return f"{stated}\n\n{markdown_table(head, rows)}"


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument(
        "--output", type=Path, help=f"the page (default docs/{OUTPUT.name}; fewer blocks: none)"
    )
    given = parser.parse_args()
    smoke = given.blocks < BLOCKS
    with tempfile.TemporaryDirectory() as folder:
        figures = many_blocks(
            Path(folder), given.blocks
        )  # first: memory that was held once is not seen again
        figures |= real_blocks(Path(folder), 512 if smoke else FULL.medium)
    print(json.dumps(figures, indent=2))
    output = given.output or (None if smoke else OUTPUT)
    if output is not None:
        text = PAGE.read_text(encoding="utf-8").format(
            **figures, country=country_table(figures), workers=WORKERS, block=BLOCK_PX, area=AREA_KM2,
            gsd=GSD_M, scheduler_minutes=figures["scheduler_ms"] * 1e6 / 1e3 / 60, machine=describe_machine(),
            versions=describe_versions(),
        )  # fmt: skip
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
