"""Match real raw pairs with `resdepth match`, and compare with other DSMs of them.

    python benchmarks/matching.py ../shared/data

The folder holds stereo/reunion (a raw Pleiades pair), aligned/reunion (a plane-sweep DSM of it, and that of
s2p) and stereo/gizeh (a raw pair of the Great Pyramid). Writes docs/matching.md and its picture.
"""

import argparse
import logging
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import resdepth
from real_training import hillshade
from resdepth.errors import ResDepthError
from resdepth.geo.raster import FileBand
from resdepth.report.tables import baseline_tables
from resdepth.stereo.pairs import BASES, BLOCK_PX
from resdepth.workflows.match import MatchedDsm, match_images

Array = NDArray[np.float32]

SHOWN_PX = 400
ALONE = ("aligned/reunion/initial.tif", "aligned/reunion/truth.tif", "stereo/reunion", "stereo/gizeh")

PAGE = """# From raw images to a DSM

`resdepth match` makes a DSM of raw satellite images that bring nothing but their RPCs (in the tags, in the
`.RPB`, `_RPC.TXT` or `RPC_*.XML` that GDAL finds beside them, or in the `.geom` of Orfeo ToolBox):

```sh
resdepth match img_01.tif img_02.tif -o dsm.tif
```

Two images of one place suffice. It needs neither a first DSM nor a range of heights: coarse levels look
through all heights for which the RPCs were made, each finer one only around what the level before found.
Blocks bound the memory. Of more than two images every pair of suitable directions is tried (base to height
{low:g} to {high:g}), and those whose images agree best for their base are fused by the median: images of two
dates differ in shadows and plants, and fall behind. `--like RASTER` takes the grid of another raster;
`--heights LOW HIGH` narrows the search.

The heights are metres **above the WGS 84 ellipsoid**, as RPCs have them; most lidar DSMs count from a geoid.
Where nothing is matched, there is nodata: `resdepth refine` treats it as void. RPCs are taken as they are,
but for a shift across the epipolar lines, which is measured; an error along them shows as a bias of all
heights, which `resdepth evaluate --align` measures against a reference DSM.

## On real pairs

Reunion, a Pleiades pair, 0.5 m; compared with the DSM that s2p makes of the same pair (a pseudo-reference:
what both miss is not seen), beside the plane-sweep DSM (initial) that
[the experiments with ResDepth](real-training.md) start from, and median filters of it. {matched:.1f} % of the
pixels that the reference knows are matched; the row `matched` counts these.

{table}

![Hillshades of the plane-sweep DSM, the matched DSM, that of s2p, and the Great Pyramid](images/matching.png)

Right: the Great Pyramid, from a pair with a base to height of only {base:.2f}, where a pixel of disparity
stands for {pixel:.1f} m; {void:.0f} % of the grid is void, most of it beyond the images. Blocks of
{block} pixels are matched one by one, on one lattice, so that no steps show where they meet.

What it does not do: it knows occlusions only by matching back, so streets behind high houses are void or
take heights from the wrong side, and roofs grow by about half a matching window. On simulated scenes, whose
initial DSM comes from the same matcher, it does not improve that DSM: it gives `refine` a sound start, and
does not replace it.

## How it was made

`make matching DATA=folder` writes this page. resdepth {version}, Python {python}.
"""


@dataclass(frozen=True)
class Scene:
    """What was measured."""

    dsm: MatchedDsm
    heights: Array


def matched(images: list[Path], output: Path, like: Path | None = None) -> Scene:
    """The DSM of a pair."""
    dsm = match_images(images, output, like=like, overwrite=True)
    return Scene(dsm, FileBand(output).read(dsm.grid.whole))


def draw(path: Path, surfaces: dict[str, tuple[Array, float]]) -> None:
    """Hillshades side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(surfaces), figsize=(3.1 * len(surfaces), 3.4), layout="constrained")
    for axis, (name, (heights, gsd)) in zip(axes, surfaces.items(), strict=True):
        axis.set_facecolor("0.75")
        axis.imshow(hillshade(heights, gsd), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def measure(data: Path, work: Path, docs: Path) -> None:
    """Match the pairs, write the page and its picture."""
    initial, reference = (data / "aligned" / "reunion" / f"{name}.tif" for name in ("initial", "reference"))
    reunion = matched(sorted((data / "stereo" / "reunion").glob("img_*.tif")), work / "reunion.tif", initial)
    gizeh = matched(sorted((data / "stereo" / "gizeh").glob("img_*.tif")), work / "gizeh.tif")
    evaluation = resdepth.evaluate(reunion.dsm.path, reference, initial=initial, baselines=True)
    (table,) = baseline_tables({"matched": evaluation})
    others = [FileBand(path).read(reunion.dsm.grid.whole) for path in (initial, reference)]
    known = ~np.isnan(others[1])
    middle = (slice(150, 150 + SHOWN_PX),) * 2
    (docs / "images").mkdir(parents=True, exist_ok=True)
    draw(
        docs / "images" / "matching.png",
        {
            "plane sweep": (others[0][middle], reunion.dsm.grid.gsd_m),
            "resdepth match": (reunion.heights[middle], reunion.dsm.grid.gsd_m),
            "s2p": (others[1][middle], reunion.dsm.grid.gsd_m),
            "Great Pyramid": (gizeh.heights, gizeh.dsm.grid.gsd_m),
        },
    )
    base = gizeh.dsm.pairs[0].base_to_height
    page = PAGE.format(
        low=BASES[0],
        high=BASES[1],
        matched=100 * np.mean(~np.isnan(reunion.heights[known])),
        table=table,
        base=base,
        pixel=gizeh.dsm.grid.gsd_m / base,
        void=100 * gizeh.dsm.void_share,
        block=BLOCK_PX,
        version=resdepth.__version__,
        python=platform.python_version(),
    )
    (docs / "matching.md").write_text(page, encoding="utf-8")


def main() -> None:
    """Measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that holds aligned/ and stereo/")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if missing := [name for name in ALONE if not (arguments.data / name).exists()]:
        sys.exit(
            f"{arguments.data}: {', '.join(missing)} is not in this folder; give the folder of the real data"
        )
    with tempfile.TemporaryDirectory() as work:
        try:
            measure(arguments.data, Path(work), arguments.docs)
        except ResDepthError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
