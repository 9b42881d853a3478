"""Draw what `resdepth demo` made: hillshades of the initial, refined and true DSM, and the two error maps.

python scripts/draw_demo.py [demo] [picture.png]
"""

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import from_bounds

from resdepth import evaluate

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LightSource
from matplotlib.figure import Figure

Array = NDArray[np.float32]

ERROR_RANGE_M = 4.0
SHOWN_ROWS = 256


def read_scene(folder: Path) -> tuple[dict[str, Array], Array, float]:
    """The three surfaces on the refined one's extent (metres), the first ortho-image, and the GSD."""
    results = sorted(folder.glob("results/*/Stereopair_0_1/initial_prediction.tif"))
    if not results:
        sys.exit(f"{folder}: no results of a demonstration; run `make demo` first")
    with rasterio.open(results[0]) as refined:
        surfaces = {"Refined": refined.read(1)}
        bounds, gsd = refined.bounds, refined.res[0]

    def read(name: str) -> Array:
        with rasterio.open(folder / "data" / name) as dataset:
            values: Array = dataset.read(1, window=from_bounds(*bounds, transform=dataset.transform))
            return values

    surfaces |= {"Initial": read("dsm/initial.tif"), "Truth": read("dsm/truth.tif")}
    return surfaces, read("satellite_views/image_1.tif"), gsd


def draw(folder: Path, picture: Path) -> None:
    """Draw the picture; the MAE above an error map is that of the whole test stripe."""
    surfaces, image, gsd = read_scene(folder)
    judged = evaluate(surfaces["Refined"], surfaces["Truth"], initial=surfaces["Initial"], gsd=gsd)
    assert judged.initial is not None, "given above"
    mae = {"Initial": judged.initial["overall"].mae, "Refined": judged.refined["overall"].mae}

    figure, axes = plt.subplots(2, 3, figsize=(9.2, 6.9), layout="constrained")
    sun = LightSource(azdeg=315, altdeg=45)
    for axis, (name, title) in zip(
        axes[0], [("Initial", "Initial DSM"), ("Refined", "Refined DSM"), ("Truth", "Truth")], strict=True
    ):
        shaded = sun.hillshade(surfaces[name], dx=gsd, dy=gsd, vert_exag=1)
        show(axis, shaded, title, cmap="gray", vmin=0, vmax=1)
    brightest = np.percentile(image, 99.5)
    show(axes[1, 2], image, "One of the two ortho-images", cmap="gray", vmin=0, vmax=brightest)
    for axis, name in zip(axes[1, :2], ("Initial", "Refined"), strict=True):
        error = surfaces[name] - surfaces["Truth"]
        title = f"Error of the {name.lower()} DSM: MAE {mae[name]:.2f} m"
        drawn = show(axis, error, title, cmap="RdBu_r", vmin=-ERROR_RANGE_M, vmax=ERROR_RANGE_M)
    below: dict[str, Any] = {"location": "bottom", "shrink": 0.7, "aspect": 45, "pad": 0.02}
    bar = figure.colorbar(drawn, ax=axes[1, :2], extend="both", **below)
    bar.set_label("surface minus truth [m]", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    save(figure, picture)
    print(picture)


def save(figure: Figure, picture: Path) -> None:
    """Write a PNG of 256 colours, a third of the bytes of one with all."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawing = io.BytesIO()
    figure.savefig(drawing, dpi=105)
    colours = Image.open(drawing).convert("RGB")
    colours.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)


def show(axis: Axes, values: Array, title: str, **options: object):  # noqa: ANN201 - matplotlib's own
    """One panel without ticks: the upper part of the stripe."""
    drawn = axis.imshow(values[:SHOWN_ROWS], interpolation="nearest", **options)
    axis.set_title(title, fontsize=11)
    axis.set_xticks([])
    axis.set_yticks([])
    return drawn


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    demo = given[0] if given else Path("demo")
    draw(demo, given[1] if len(given) > 1 else demo / "demo.png")
