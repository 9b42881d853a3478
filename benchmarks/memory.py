"""The most memory that `resdepth refine` ever holds, by the size of the raster; prints a table.

With a bundled model: `dsm-alone`, the default of `refine` without images, or `town-stereo`, shown two
views. The rasters are made: 1.2 GB for 12,000 x 12,000 pixels; the result lies beside them.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from setting import peak_resident_mb, write_scene
from speed import describe_machine, describe_versions, markdown_table

SIDES = (2_000, 6_000, 12_000, 24_000)
VIEWS = {"dsm-alone": 0, "town-stereo": 2}


def main() -> None:
    """Refine squares of each side, each by a command of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sides", type=int, nargs="*", default=SIDES, help="pixels")
    parser.add_argument("--model", choices=VIEWS, default="dsm-alone")
    parser.add_argument("--to", type=Path, help="a folder for the rasters, which are removed in the end")
    arguments = parser.parse_args()
    rows = []
    for side in arguments.sides:
        with TemporaryDirectory(dir=arguments.to) as folder:
            megabytes, seconds = refined(Path(folder) / "scene", side, arguments.model)
        if megabytes <= peak_resident_mb():
            sys.exit("the command took no more memory than this process, whose peak it inherits")
        rows.append([f"{side:,} x {side:,} pixels", f"{side * side / 1e6:,.0f}", f"{megabytes:,.0f}"])
        print(f"{rows[-1]}, {seconds / 60:.1f} minutes", file=sys.stderr, flush=True)
    shown = f"{arguments.model}, {VIEWS[arguments.model]} images"
    print(markdown_table([f"`resdepth refine`, {shown}", "Mpx", "peak memory, MB"], rows))
    print(f"\n{describe_machine()}.\n{describe_versions()}.")


def refined(folder: Path, side: int, model: str) -> tuple[float, float]:
    """Peak resident memory in MB, and seconds, of a command that refines a made scene."""
    files = write_scene(folder, side, side, with_reference=False)
    rasters = [str(path) for path in (files.dsm, *files.views[: VIEWS[model]])]
    command = [sys.executable, "-m", "resdepth", "refine", *rasters, "--model", model]
    start = time.monotonic()
    # Made images show nothing real, so nothing fits: hence --force.
    process = os.posix_spawn(sys.executable, [*command, "--force"], os.environ)
    _, status, usage = os.wait4(process, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"refine ended with {code}")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e6, time.monotonic() - start


if __name__ == "__main__":
    main()
