"""How well it is found from where ortho-images were seen; prints a table.

python scripts/fusion/calibration.py FOLDER: that of scripts/train_fusion_model.py, which makes the scenes.
The direction that is true comes from the RPCs of the raw images.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from bank import displacement

from resdepth.geo.raster import FileBand
from resdepth.stereo.ortho import RawImage
from resdepth.stereo.self_calibration import NotFound, found_direction


def main() -> None:
    """Calibrate the first and the last image of each scene."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="that of scripts/train_fusion_model.py")
    folder = parser.parse_args().folder
    views = sorted(folder.glob("scenes/*/data/satellite_views/raw"))
    if not views:
        sys.exit(f"{folder}: holds no scenes; scripts/train_fusion_model.py makes them")
    shares, refused = [], 0
    print("| ortho-image | metres per metre of height, down and right | found | off |\n|---|---|---|---:|")
    for raw in views:
        dsm = FileBand(raw.parents[1] / "dsm" / "initial.tif")
        height = float(np.nanmedian(dsm.read(dsm.grid.whole)))
        images = sorted(raw.iterdir())
        for image in (images[0], images[-1]):
            true = displacement(RawImage(image), dsm.grid, height) * dsm.grid.gsd_m
            name = f"| {raw.parents[2].name}, {image.name} | {true[0]:.3f}, {true[1]:.3f}"
            try:
                found = found_direction(dsm, FileBand(raw.parent / image.name, "stored"))
            except NotFound:
                refused += 1
                print(f"{name} | not found | |", flush=True)
                continue
            off = float(np.hypot(found.rows - true[0], found.cols - true[1]) / np.hypot(*true))
            shares.append(off)
            print(f"{name} | {found.rows:.3f}, {found.cols:.3f} | {100 * off:.0f} % |", flush=True)
    middle, most = (100 * np.median(shares), 100 * max(shares)) if shares else (0, 0)
    count = len(shares) + refused
    print(f"\n{len(shares)} of {count} found; off {middle:.0f} % (median), {most:.0f} % at most")


if __name__ == "__main__":
    main()
