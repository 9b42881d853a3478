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
from refining import made_network
from resdepth.geo.windows import Window, random_corners
from setting import FULL, QUICK, VIEWS, Sizes, write_empty_scene, write_scene

Figures = dict[str, float]

HERE = Path(__file__).resolve().parent
PAGE_PATH = HERE.parent / "docs" / "performance.md"

PUBLISHED = "published"
WAYS = {
    "refining": {
        PUBLISHED: "published way",
        "exact_fp32": "exact, fp32",
        "exact_bf16": "exact, bf16",
        "seamless_fp32": "seamless, fp32",
        "seamless_bf16": "seamless, bf16",
    },
    "training": {PUBLISHED: "published way", "ours": "ours", "ours_bf16": "ours, bf16"},
}
FIGURES = {"refining": "mpx_per_second", "training": "samples_per_second"}
UNITS = {"refining": "Mpx/s", "training": "samples/s"}
LARGE_TASKS = (
    "peak",
    "network_alone",
    "file_medium_fp32",
    "file_medium",
    "file_huge",
    "null_huge",
    "start_up",
)
WORKERS_TASKS = ("workers_1", "workers_2")
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

PAGE = HERE / "speed_page.md"


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
        ways = [f"{work}_{way}" for work, ways in WAYS.items() for way in ways]
        speeds = measure_in_turns(ways, folder, rounds, quick=arguments.quick)
        workers = measure_in_turns(WORKERS_TASKS, folder, rounds, quick=arguments.quick)
        large = measure_large(folder, quick=arguments.quick)
        difference = largest_difference(folder)
        areas = {f"corners_{side}": corner_cost(side, sizes) for side in sizes.sides}
        areas |= measure_memory(folder, quick=arguments.quick)
    tables = {
        "refining_table": speed_table(speeds, "refining"),
        "large_table": large_table(large, sizes),
        "limit_table": limit_table(large),
        "workers_table": workers_table(workers),
        "training_table": speed_table(speeds, "training"),
        "area_table": area_table(areas, sizes),
        "height_table": height_table(areas, sizes),
    }
    print("\n\n".join(tables.values()))
    if output is not None:
        minutes = (time.perf_counter() - start) / 60
        gflop = large["network_alone"]["gflop_per_mpx"]
        page = format_page(tables, sizes, rounds=rounds, difference=difference, minutes=minutes, gflop=gflop)
        output.write_text(page, encoding="utf-8")


def write_rasters(folder: Path, sizes: Sizes) -> None:
    """All rasters that the tasks read."""
    write_scene(folder / "scene", sizes.height, sizes.width)
    for name, height in zip(("short", "tall"), sizes.heights, strict=True):
        write_scene(folder / name, height, sizes.narrow)
    for name, side in zip(("small", "large"), sizes.sides, strict=True):
        write_empty_scene(folder / name, side)
    for name, (height, width) in {
        "tiny": (sizes.tile, sizes.tile),
        "medium": (sizes.medium, sizes.medium),
        "huge": (sizes.huge, sizes.huge),
        "wide": sizes.wide,
    }.items():
        write_scene(folder / name, height, width, with_reference=False)


def measure_in_turns(
    tasks: Sequence[str], folder: Path, rounds: int, *, quick: bool
) -> dict[str, list[Figures]]:
    """The figures of each round by task, the tasks taking turns."""
    in_turns = [task for _ in range(rounds) for task in tasks]
    measured: dict[str, list[Figures]] = {task: [] for task in tasks}
    for task, figures in zip(in_turns, run_tasks(in_turns, folder, quick=quick), strict=True):
        measured[task].append(figures)
    return measured


def measure_memory(folder: Path, *, quick: bool) -> dict[str, Figures]:
    """The figures of each task that is about memory."""
    results = run_tasks(MEMORY_TASKS, folder, quick=quick)
    return dict(zip(MEMORY_TASKS, results, strict=True))


def measure_large(folder: Path, *, quick: bool) -> dict[str, Figures]:
    """The figures of the tasks that are measured once: large rasters, limits, start-up."""
    return dict(zip(LARGE_TASKS, run_tasks(LARGE_TASKS, folder, quick=quick), strict=True))


def run_tasks(tasks: Sequence[str], folder: Path, *, quick: bool) -> list[Figures]:
    """Run each task in a process of its own, one after the other (quick: two at once)."""
    # Settings of the allocator from outside would make the two ways alike.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    if quick:  # threads that wait for each other beside other processes take longer than the work
        inherited["OMP_NUM_THREADS"] = "1"

    def run(task: str) -> Figures:
        command = [sys.executable, str(HERE / "tasks.py"), task, str(folder), *(["--quick"] if quick else [])]
        output = subprocess.run(command, env=inherited, check=True, stdout=subprocess.PIPE)
        figures: Figures = json.loads(output.stdout)
        shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        print(f"{task}: {shown}", file=sys.stderr, flush=True)
        return figures

    with ThreadPoolExecutor(2 if quick else 1) as pool:
        return list(pool.map(run, tasks))


def largest_difference(folder: Path) -> float:
    """How far the surfaces of the two ways are apart, metres."""
    ours, published = (np.load(folder / f"refined_{way}.npy") for way in ("exact_fp32", "published"))
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


def speed_table(measured: dict[str, list[Figures]], work: str) -> str:
    """All ways of doing a thing, and their ratio to the published one."""
    figure = FIGURES[work]
    published = measured[f"{work}_{PUBLISHED}"]
    rows = [
        [title, *speed_cells(published, measured[f"{work}_{way}"], figure)]
        for way, title in WAYS[work].items()
    ]
    return markdown_table([work, UNITS[work], "ratio"], rows)


def speed_cells(before: Sequence[Figures], after: Sequence[Figures], figure: str) -> tuple[str, str]:
    """The median of a figure, and that of the ratios of each round with their range."""
    found = [one[figure] for one in after]
    ratios = [one / other[figure] for one, other in zip(found, before, strict=True)]
    spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"{median(found):.3g}", "1" if after is before else spread


def large_table(measured: dict[str, Figures], sizes: Sizes) -> str:
    """Speed and memory from file to file."""
    rows = [
        [
            title,
            f"{measured[task]['mpx_per_second']:.3g}",
            f"{measured[task]['blocks_per_second']:.3g}",
            f"{putting_together(measured[task]):.3g}",
            f"{measured[task]['peak_mb']:,.0f}",
        ]
        for task, title in {
            "file_medium_fp32": f"{sizes.medium:,} x {sizes.medium:,} pixels, fp32",
            "file_medium": f"{sizes.medium:,} x {sizes.medium:,} pixels, bf16",
            "file_huge": f"{sizes.huge:,} x {sizes.huge:,} pixels, bf16",
            "null_huge": f"{sizes.huge:,} x {sizes.huge:,} pixels, null network",
        }.items()
    ]
    table = markdown_table(["file to file", "Mpx/s", "blocks alone", "putting together", "memory, MB"], rows)
    start = measured["start_up"]["seconds"]
    return f"{table}\n\nOn a raster of one tile the command takes {start:.1f} s from the prompt to the file."


def putting_together(figures: Figures) -> float:
    """Mpx/s of what comes after the blocks."""
    return 1 / (1 / figures["mpx_per_second"] - 1 / figures["blocks_per_second"])


def limit_table(measured: dict[str, Figures]) -> str:
    """The machine's limit, and the shares of it."""
    network, peak = measured["network_alone"], measured["peak"]
    commands = {"fp32": measured["file_medium_fp32"], "bf16": measured["file_huge"]}
    shares = {
        name: one["mpx_per_second"] * network["gflop_per_mpx"] / peak[name] for name, one in commands.items()
    }
    rows = [
        ["matrix products, GFLOP/s", *(f"{peak[name]:.0f}" for name in ("fp32", "bf16"))],
        ["the network on one image, GFLOP/s", *(f"{network[name]:.0f}" for name in ("fp32", "bf16"))],
        ["share", *(f"{100 * network[name] / peak[name]:.0f} %" for name in ("fp32", "bf16"))],
        ["the whole command, share", *(f"{100 * share:.0f} %" for share in shares.values())],
    ]
    return markdown_table(["", "fp32", "bf16"], rows)


def workers_table(measured: dict[str, list[Figures]]) -> str:
    """One process and two."""
    one = measured["workers_1"]
    rows = [
        [
            str(count),
            *speed_cells(one, measured[f"workers_{count}"], "mpx_per_second"),
            *speed_cells(one, measured[f"workers_{count}"], "blocks_per_second"),
        ]
        for count in (1, 2)
    ]
    return markdown_table(["processes", "Mpx/s", "ratio", "Mpx/s, blocks alone", "ratio"], rows)


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
    tables: dict[str, str], sizes: Sizes, *, rounds: int, difference: float, minutes: float, gflop: float
) -> str:
    """The whole of docs/performance.md."""
    parameters = sum(
        weights.numel() for weights in made_network(sizes.start_kernel, sizes.depth).parameters()
    )
    return PAGE.read_text(encoding="utf-8").format(
        **tables, **vars(sizes) | {"rounds": rounds}, views=VIEWS, half_tile=sizes.tile // 2,
        gflop=gflop, gemm=sizes.matrix, wide_height=sizes.wide[0], wide_width=sizes.wide[1],
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
