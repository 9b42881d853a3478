"""Speed and memory against the published way of doing it, in one run; writes docs/performance.md.

    python benchmarks/speed.py            (minutes; --quick: a smoke test of seconds, nothing is written)

The two ways take turns, each in a process of its own; what counts are the ratios.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import rasterio
import torch

import resdepth
from resdepth.windows import Window, random_corners
from setting import FULL, QUICK, VIEWS, Sizes, write_empty_scene, write_scene

Figures = dict[str, float]

HERE = Path(__file__).resolve().parent
PAGE_PATH = HERE.parent / "docs" / "performance.md"

WAYS = ("published", "ours")
SPEEDS = {
    "refining": ("mpx_per_second", "refining, Mpx/s"),
    "training": ("samples_per_second", "training, samples/s"),
}
MEMORY_TASKS = (
    "drawing_small", "drawing_large", "memory_published_short", "memory_published_tall",
    "memory_ours_short", "memory_ours_tall",
)  # fmt: skip
# Both ways must give the same surface, or the comparison is void.
LARGEST_DIFFERENCE_M = 1e-3
BUSY_LOAD = 0.5
PROCESSOR_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 bf16",
    "amx_bf16": "AMX bf16",
}

PAGE = """# Speed and memory

Measured by `make bench` in one run, each way of doing it in a process of its own, the two taking turns.
Seconds depend on the machine; the ratios are what counts.

## Against the published way

{speed_table}

Medians of {rounds} rounds after a warm-up; the ratio is that of each round's pair, in brackets its range.

- **Refining**: {height} x {width} pixels with {views} views, from files to a surface in memory, stride
  {half_tile}, so that most pixels are computed four times in both ways. Published: whole rasters, one tile
  at a time, the network as PyTorch builds it. Ours: windowed reads, batches, BatchNorm folded into the
  convolutions, channels last, an allocator that keeps freed memory. The two surfaces differ by at most
  {difference:.0e} m.
- **Training**: batches of {batch}, everything from cutting out the samples to the optimizer's step.
  Published: samples prepared when asked for. Ours: prepared ahead, channels last, the same allocator.

The network has depth {depth} and {start_kernel} filters on its first level ({parameters:,} parameters), tiles
are {tile} x {tile} pixels, everything is computed in fp32.

## Cost does not follow the area

{area_table}

The samples come from files of that size through windowed reads. The files' blocks do not exist on the disk,
so this is the cost of our side alone. Memory is what the work adds to the process at its peak; up to 128 MB
of it are blocks that GDAL keeps decoded, a limit that resdepth sets and that no area exceeds.

{height_table}

A small network (depth 2, 4 filters) refines rasters of {narrow} columns, from file to file.

## How it was measured

{machine}.
{versions}.
To repeat: `make bench` (some {minutes:.0f} minutes here). `benchmarks/published_way.py` is the published way,
written anew from its description; `benchmarks/tasks.py` says what is timed.
"""


def main() -> None:
    """Measure, print the tables, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, in seconds; the figures say nothing"
    )
    parser.add_argument("--rounds", type=int, help=f"turns of each way (default {FULL.rounds})")
    parser.add_argument("--output", type=Path, help=f"the page (default docs/{PAGE_PATH.name}; quick: none)")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    rounds = arguments.rounds or sizes.rounds
    output = arguments.output or (None if arguments.quick else PAGE_PATH)
    if os.getloadavg()[0] > BUSY_LOAD:
        print("other processes keep this machine busy: the ratios will be disturbed", file=sys.stderr)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_rasters(folder, sizes)
        speeds = measure_speeds(folder, rounds, quick=arguments.quick)
        difference = largest_difference(folder)
        areas = {f"corners_{side}": corner_cost(side, sizes) for side in sizes.sides}
        areas |= measure_memory(folder, quick=arguments.quick)
    tables = {
        "speed_table": speed_table(speeds),
        "area_table": area_table(areas, sizes),
        "height_table": height_table(areas, sizes),
    }
    print("\n\n".join(tables.values()))
    if output is not None:
        minutes = (time.perf_counter() - start) / 60
        page = format_page(tables, sizes, rounds=rounds, difference=difference, minutes=minutes)
        output.write_text(page, encoding="utf-8")


def write_rasters(folder: Path, sizes: Sizes) -> None:
    """All rasters that the tasks read."""
    write_scene(folder / "scene", sizes.height, sizes.width)
    for name, height in zip(("short", "tall"), sizes.heights, strict=True):
        write_scene(folder / name, height, sizes.narrow)
    for name, side in zip(("small", "large"), sizes.sides, strict=True):
        write_empty_scene(folder / name, side)


def measure_speeds(folder: Path, rounds: int, *, quick: bool) -> dict[str, list[Figures]]:
    """The figures of each round by task, the two ways taking turns."""
    tasks = [f"{work}_{way}" for work in SPEEDS for _ in range(rounds) for way in WAYS]
    measured: dict[str, list[Figures]] = {task: [] for task in tasks}
    for task, figures in zip(tasks, run_tasks(tasks, folder, quick=quick), strict=True):
        measured[task].append(figures)
    return measured


def measure_memory(folder: Path, *, quick: bool) -> dict[str, Figures]:
    """The figures of each task that is about memory."""
    results = run_tasks(MEMORY_TASKS, folder, quick=quick)
    return dict(zip(MEMORY_TASKS, results, strict=True))


def run_tasks(tasks: Sequence[str], folder: Path, *, quick: bool, **environment: str) -> list[Figures]:
    """Run each task in a process of its own, one after the other (quick: two at once)."""
    # Settings of the allocator from outside would make the two ways alike.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    if quick:  # threads that wait for each other beside other processes take longer than the work
        inherited["OMP_NUM_THREADS"] = "1"

    def run(task: str) -> Figures:
        command = [sys.executable, str(HERE / "tasks.py"), task, str(folder), *(["--quick"] if quick else [])]
        output = subprocess.run(command, env=inherited | environment, check=True, stdout=subprocess.PIPE)
        figures: Figures = json.loads(output.stdout)
        shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        print(f"{task}: {shown}", file=sys.stderr, flush=True)
        return figures

    with ThreadPoolExecutor(2 if quick else 1) as pool:
        return list(pool.map(run, tasks))


def largest_difference(folder: Path) -> float:
    """How far the surfaces of the two ways are apart, metres."""
    ours, published = (np.load(folder / f"refined_{way}.npy") for way in ("ours", "published"))
    difference = float(np.abs(ours - published).max())
    if not difference <= LARGEST_DIFFERENCE_M:
        sys.exit(f"the two ways differ by {difference} m: one of them is wrong, and so is the comparison")
    return difference


def corner_cost(side: int, sizes: Sizes) -> Figures:
    """Time and peak memory of drawing random patches from a square area."""

    def draw() -> None:
        region = Window(0, 0, side, side)
        random_corners([region], sizes.patch, sizes.n_corners, np.random.default_rng(0))

    tracemalloc.start()
    draw()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    start = time.perf_counter()  # counting memory takes time
    draw()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": peak / 1e6}


def speed_table(measured: dict[str, list[Figures]]) -> str:
    """Both ways and their ratio."""
    rows = []
    for work, (figure, title) in SPEEDS.items():
        published, ours = ([one[figure] for one in measured[f"{work}_{way}"]] for way in WAYS)
        ratios = [after / before for before, after in zip(published, ours, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append([title, f"{median(published):.3g}", f"{median(ours):.3g}", spread])
    return markdown_table(["", "published way", "ours", "ratio"], rows)


def area_table(measured: dict[str, Figures], sizes: Sizes) -> str:
    """Random patches from a small and from a large area."""
    corners = [measured[f"corners_{side}"] for side in sizes.sides]
    drawn = [measured["drawing_small"], measured["drawing_large"]]
    patches, samples = f"{sizes.n_corners:,} random patches", f"drawing {sizes.n_drawn:,} samples"
    rows = [
        [f"{patches}: seconds", *(f"{one['seconds']:.2g}" for one in corners)],
        [f"{patches}: peak memory, MB", *(f"{one['peak_mb']:.2g}" for one in corners)],
        [f"{samples} from files: samples/s", *(f"{one['samples_per_second']:.3g}" for one in drawn)],
        [f"{samples} from files: memory, MB", *(f"{one['growth_mb']:.0f}" for one in drawn)],
    ]
    return markdown_table(["", *(f"{side:,} x {side:,} pixels" for side in sizes.sides)], rows)


def height_table(measured: dict[str, Figures], sizes: Sizes) -> str:
    """Memory of refining a short and a tall raster."""
    rows = [
        [title, *(f"{measured[f'memory_{way}_{name}']['growth_mb']:.0f}" for name in ("short", "tall"))]
        for way, title in {"published": "published way: memory, MB", "ours": "ours: memory, MB"}.items()
    ]
    return markdown_table(["", *(f"{height:,} x {sizes.narrow} pixels" for height in sizes.heights)], rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def format_page(
    tables: dict[str, str], sizes: Sizes, *, rounds: int, difference: float, minutes: float
) -> str:
    """The whole of docs/performance.md."""
    from tasks import made_network

    parameters = sum(
        weights.numel() for weights in made_network(sizes.start_kernel, sizes.depth).parameters()
    )
    return PAGE.format(
        **tables, **vars(sizes) | {"rounds": rounds}, views=VIEWS, half_tile=sizes.tile // 2,
        difference=difference, parameters=parameters, minutes=max(minutes, 1),
        machine=describe_machine(), versions=describe_versions(),
    )  # fmt: skip


def describe_machine() -> str:
    """The class of the machine, in general words."""
    words = [f"{torch.get_num_threads()} cores of {platform.machine()}"]
    processor = Path("/proc/cpuinfo")
    if processor.is_file():
        flags = set(processor.read_text(encoding="utf-8").split())
        known = [name for flag, name in PROCESSOR_FLAGS.items() if flag in flags]
        words += [f"instruction sets {', '.join(known)}"] if known else []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        words.append(f"{memory / 1e9:.0f} GB of memory")
    return f"{platform.system()}, {'; '.join(words)}"


def describe_versions() -> str:
    """The versions of what computes."""
    versions = {
        "resdepth": resdepth.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "GDAL": rasterio.__gdal_version__,
        "Python": platform.python_version(),
        (platform.libc_ver()[0] or "C library"): platform.libc_ver()[1] or "unknown",
    }
    return ", ".join(f"{name} {version}" for name, version in versions.items())


if __name__ == "__main__":
    main()
