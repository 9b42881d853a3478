"""Time and memory of `resdepth prepare` on a large area with a reference DSM and four raw images.

    python benchmarks/preparing_size.py                # 10,000 x 10,000 pixels of 0.1 m, images of 0.5 m
    python benchmarks/preparing_size.py --gsd 0.5      # of 0.5 m, as the images have: simulated for long

A town is simulated first, which is not measured. Whatever else the machine does then makes it slower.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from resdepth.geo.raster import read_header
from resdepth.simulate.plan import (
    DateSettings,
    MatchingSettings,
    SimulateConfig,
    SurfaceSettings,
    TownSettings,
    ViewSettings,
)
from setting import peak_resident_mb

IMAGE_GSD_M, IMAGES = 0.5, 4


def main() -> None:
    """Simulate a town, prepare what it shows, and print seconds and megabytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000, help="pixels of the data set")
    parser.add_argument("--gsd", type=float, default=0.1, help="metres")
    parser.add_argument("--to", type=Path, help="a folder for the rasters, which are removed in the end")
    arguments = parser.parse_args()
    with TemporaryDirectory(dir=arguments.to) as folder:
        work = Path(folder)
        simulated(work / "config.json", work / "town", round(arguments.side * arguments.gsd / IMAGE_GSD_M))
        seconds, processor, megabytes = prepared(work / "town" / "data", work / "scene", arguments.gsd)
        grid = read_header(work / "scene" / "data" / "dsm" / "initial.tif").grid
    if megabytes <= peak_resident_mb():
        sys.exit("the command took no more memory than this process, whose peak it inherits")
    print(
        f"{grid.height:,} x {grid.width:,} pixels of {grid.gsd:g} m, {IMAGES} raw images of {IMAGE_GSD_M} m:"
    )
    print(f"{seconds:.0f} s, {processor:.0f} s of processors, {megabytes / 1000:.2f} GB at most")


def simulated(path: Path, folder: Path, side: int) -> None:
    """A town with four raw images of one date, simulated by a command of its own."""
    views = ((10, 14), (190, 10), (100, 8), (280, 16))
    config = SimulateConfig(
        seed=1,
        town=TownSettings(style="suburb", size_px=side),
        reference=SurfaceSettings(gsd_m=IMAGE_GSD_M),
        dates=(DateSettings(sun_azimuth_deg=150, sun_elevation_deg=50),),
        views=tuple(
            ViewSettings(name=f"img_{number}", date=0, azimuth_deg=azimuth, incidence_deg=incidence)
            for number, (azimuth, incidence) in enumerate(views)
        ),
        matching=MatchingSettings(pairs=1),
    )
    path.write_text(config.model_dump_json(exclude_none=True, by_alias=True), encoding="utf-8")
    run(["simulate", "town", "--config", str(path), "-o", str(folder)])


def prepared(data: Path, folder: Path, gsd_m: float) -> tuple[float, float, float]:
    """Seconds, seconds of processors, and peak resident memory in MB of a command that prepares a scene."""
    images = sorted((data / "satellite_views" / "raw").glob("*.tif"))
    words = ["prepare", "--dsm", str(data / "dsm" / "initial.tif")]
    words += ["--reference", str(data / "dsm" / "reference.tif"), "--gsd", f"{gsd_m}", "-o", str(folder)]
    return run([*words, *(word for image in images for word in ("--image", str(image)))])


def run(words: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of processors and MB of a command."""
    start = time.monotonic()
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "resdepth", *words], os.environ)
    _, status, usage = os.wait4(process, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{words[0]} ended with {code}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
