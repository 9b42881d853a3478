"""Draw a part of what `resdepth demo` made: initial, refined and reference DSM, errors, an ortho-image.

python scripts/draw_demo.py [demo] [picture.png]
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resdepth.geo.raster import FileBand
from resdepth.geo.windows import Window
from resdepth.report.pictures import error_colours, grey, hillshade

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

Array = NDArray[np.float32]

ERROR_LIMIT_M = 4.0
SHOWN_PX = 480


def read_part(path: Path) -> Array:
    """The middle of a raster."""
    band = FileBand(path)
    height, width = min(SHOWN_PX, band.grid.height), min(SHOWN_PX, band.grid.width)
    return band.read(Window((band.grid.height - height) // 2, (band.grid.width - width) // 2, height, width))


def draw(folder: Path, picture: Path) -> None:
    """Draw the picture; the MAE above an error map is that of the part shown."""
    predictions = sorted(folder.glob("results/*/*/*_prediction.tif"))
    if not predictions:
        sys.exit(f"{folder}: no results of a demonstration; run `make demo` first")
    data = folder / "data"
    reference, image = (
        read_part(data / name) for name in ("dsm/reference.tif", "satellite_views/date1a.tif")
    )
    surfaces = {
        "Initial DSM": read_part(data / "dsm" / "initial.tif"), "Refined DSM": read_part(predictions[0])
    }  # fmt: skip
    sides = FileBand(data / "dsm" / "reference.tif").grid.sides_m
    figure, axes = plt.subplots(2, 3, figsize=(9.2, 6.9), layout="constrained")
    panels = {name: hillshade(surface, sides) for name, surface in surfaces.items()}
    panels["Reference DSM"] = hillshade(reference, sides)
    for name, surface in surfaces.items():
        mae = float(np.nanmean(np.abs(surface - reference)))
        title = f"Error of the {name.split()[0].lower()} DSM: MAE {mae:.2f} m"
        panels[title] = error_colours(surface - reference, ERROR_LIMIT_M)
    panels["One of the ortho-images"] = grey(image)
    for axis, (title, colours) in zip(axes.ravel(), panels.items(), strict=True):
        axis.imshow(colours, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
    scale = ScalarMappable(Normalize(-ERROR_LIMIT_M, ERROR_LIMIT_M), "RdBu_r")
    bar = figure.colorbar(
        scale, ax=axes[1, :2], extend="both", location="bottom", shrink=0.7, aspect=45, pad=0.02
    )
    bar.set_label("DSM minus reference DSM [m]", fontsize=9)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=105)
    # 256 colours: a third of the bytes of one with all.
    quantized = Image.open(picture).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    quantized.save(picture, optimize=True)
    print(picture)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    demo = given[0] if given else Path("demo")
    draw(demo, given[1] if len(given) > 1 else demo / "demo.png")
