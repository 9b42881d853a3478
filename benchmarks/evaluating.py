"""How long evaluating 400 million pixels takes, and how much memory; writes docs/evaluation-speed.md.

    python benchmarks/evaluating.py          (ten minutes, 6 GB of disk; --side 600: a smoke test)

Reference, initial and refined DSM and four masks are made, stored by rows as `test` writes them, and
evaluated by the command as people give it, in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window as RasterioWindow

from setting import GSD_M
from speed import describe_machine, describe_versions

SIDE = 20_000
ROWS_AT_ONCE = 500
HERE = Path(__file__).resolve().parent
PAGE, OUTPUT = HERE / "evaluating_page.md", HERE.parent / "docs" / "evaluation-speed.md"
MASKS = ("building", "water", "forest", "ground_truth")


def write_rasters(folder: Path, side: int) -> None:
    """Houses on a slope, two noisy surfaces of them, and masks."""
    profile = {
        "driver": "GTiff", "height": side, "width": side, "count": 1, "crs": "EPSG:32632", "compress": "LZW",
        "transform": rasterio.Affine(GSD_M, 0, 465000, 0, -GSD_M, 5248000), "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    surfaces = {
        name: rasterio.open(
            folder / f"{name}.tif", "w", dtype="float32", nodata=-9999, predictor=3, **profile
        )
        for name in ("reference", "initial", "refined")
    }
    masks = {name: rasterio.open(folder / f"{name}.tif", "w", dtype="uint8", **profile) for name in MASKS}
    rng = np.random.default_rng(0)
    cols = np.arange(side)
    for row in range(0, side, ROWS_AT_ONCE):
        rows = np.arange(row, min(row + ROWS_AT_ONCE, side))[:, None]
        where = RasterioWindow(0, row, side, len(rows))
        building = (rows % 60 < 25) & (cols % 80 < 35)
        reference = (400 + 0.02 * rows + 3 * np.sin(cols / 300) + 8 * building).astype(np.float32)
        noise = rng.normal(0, 1, reference.shape).astype(np.float32)
        void = noise > 2.5
        for name, height in (
            ("reference", reference),
            ("initial", reference + noise),
            ("refined", reference + 0.5 * noise),
        ):
            values = np.where(void, -9999, height) if name == "initial" else height
            surfaces[name].write(values.astype(np.float32), 1, window=where)
        of_masks = {
            "building": building,
            "water": np.broadcast_to((cols // 900) % 7 == 0, reference.shape),
            "forest": (rows // 700 + cols // 500) % 5 == 0,
            "ground_truth": np.broadcast_to(rows % 2000 > 20, reference.shape),
        }
        for name, mask in of_masks.items():
            masks[name].write(mask.astype(np.uint8), 1, window=where)
    for dataset in (*surfaces.values(), *masks.values()):
        dataset.close()


def measured(folder: Path) -> dict[str, float]:
    """Seconds and memory of the command."""
    command = [sys.executable, "-m", "resdepth", "evaluate", "refined.tif", "--reference", "reference.tif"]
    command += [
        "--initial",
        "initial.tif",
        "-o",
        "evaluated",
        *(f"--mask={name}={name}.tif" for name in MASKS),
    ]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("the command failed")
    seconds = time.perf_counter() - start
    found = json.loads((folder / "evaluated" / "evaluation.json").read_text())
    overall = found["surfaces"]["refined"]["classes"]["overall"]
    return {
        "mpx": overall["reference_pixels"] / 1e6,
        "minutes": seconds / 60,
        "memory_mb": usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2),
        "classes": len(found["titles"]),
        "page_mb": (folder / "evaluated" / "evaluation.html").stat().st_size / 1e6,
        "nmad": overall["statistics"]["nmad"],
        "gb": sum(path.stat().st_size for path in folder.glob("*.tif")) / 1e9,
    }


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--output", type=Path, help=f"the page (default docs/{OUTPUT.name}; smaller: none)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_rasters(Path(folder), given.side)
        figures = measured(Path(folder)) | {"side": given.side}
    print(json.dumps(figures, indent=2))
    output = given.output or (OUTPUT if given.side >= SIDE else None)
    if output is not None:
        page = PAGE.read_text(encoding="utf-8")
        text = page.format(machine=describe_machine(), versions=describe_versions(), **figures)
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
