"""Refine real DSMs with the bundled models, which have seen none of them, and compare with filters.

    python benchmarks/real_data.py ../shared/data

The folder holds stereo/reunion and stereo/gizeh (raw Pleiades pairs), aligned/reunion (a plane-sweep DSM of
the first, and that of s2p) and, for simulated images, truth/delft_ahn3_0.5m_dsm.tif (a lidar DSM). Writes
docs/real-data.md and its pictures.
"""

import argparse
import logging
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import median_filter

import resdepth
from denoising import SURFACES, pictured, table
from matching import draw
from resdepth.errors import ResDepthError
from resdepth.evaluation.metrics import Statistics, statistics
from resdepth.geo.gdal import tune_process
from resdepth.geo.raster import FileBand
from resdepth.stereo.matching import filled
from resdepth.stereo.ortho import orthorectified
from resdepth.workflows.match import match_images
from resdepth.workflows.refine import refine
from resdepth.workflows.simulate import simulate_scene

Array = NDArray[np.float32]

WIDTHS = (5, 7, 9, 11, 15, 21, 31)
MEDIANS = 8
MOVED_M = 0.1
"""A height is better or worse if its error falls or grows by more."""
SHOWN_PX, GSD_M = 400, 0.5
NEEDED = ("aligned/reunion/initial.tif", "aligned/reunion/truth.tif", "stereo/reunion", "stereo/gizeh",
          "stereo/kahramanmaras", *(f"truth/{file}" for file, *_ in SURFACES.values()))  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """An initial DSM, the raw images of the place, and a reference if there is one.

    Attributes:
        name: of the row.
        initial: the DSM.
        raw: raw images.
        ortho: ortho-images made with the initial DSM; none if there are none.
        reference: (H, W) metres, NaN = unknown.
    """

    name: str
    initial: Path
    raw: tuple[Path, ...]
    ortho: tuple[Path, ...]
    reference: Array


def read(path: Path) -> Array:
    """A whole raster, NaN = void."""
    band = FileBand(path)
    return band.read(band.grid.whole)


def write_like(path: Path, like: Path, heights: Array) -> Path:
    """Heights on the grid of another raster."""
    with rasterio.open(like) as source:
        profile = {**source.profile, "dtype": "float32", "count": 1, "nodata": np.nan}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(heights.astype(np.float32), 1)
    return path


def rough(heights: Array, seed: int) -> Array:
    """With errors as dense matching has them: noise over some pixels, blunders, voids filled from the rim."""
    rng = np.random.default_rng(seed)

    def noise(scale_px: float) -> Array:
        field = cv2.GaussianBlur(rng.standard_normal(heights.shape).astype(np.float32), (0, 0), scale_px)
        return np.asarray(field / field.std())

    spoilt = heights + 0.4 * noise(1.0) + 0.3 * noise(4.0)
    spoilt = np.where(noise(3.0) > 2.3, spoilt + 4 * noise(6.0), spoilt)
    void = noise(8.0) > 1.3
    known = np.where(void, np.nan, spoilt).astype(np.float32)
    return filled(known, float(np.nanmedian(heights)))


def rectified(raw: tuple[Path, ...], initial: Path, work: Path) -> tuple[Path, ...]:
    """Ortho-images made with an initial DSM."""
    grid = FileBand(initial).grid.flat
    return tuple(
        write_like(work / f"{initial.stem}_{image.name}", initial, orthorectified(image, initial, grid))
        for image in raw
    )


def scenes(data: Path, work: Path) -> list[Scene]:
    """What is refined."""
    aligned = data / "aligned" / "reunion"
    raw = tuple(sorted((data / "stereo" / "reunion").glob("img_*.tif")))
    reference = read(aligned / "truth.tif")
    plane_sweep = aligned / "initial.tif"
    fill = read(plane_sweep)
    matched = work / "matched.tif"
    match_images(raw, matched, like=plane_sweep, overwrite=True)
    own = filled(read(matched), float(np.nanmedian(fill)))
    known = np.where(np.isnan(reference), fill, reference)
    orthos = tuple(aligned / f"ortho{number}.tif" for number in (1, 2))

    def made(name: str, heights: Array) -> Scene:
        initial = write_like(work / f"{heights.mean():.6f}.tif", plane_sweep, heights)
        return Scene(f"Réunion, {name}", initial, raw, rectified(raw, initial, work), reference)

    found = [
        Scene("Réunion, plane sweep", plane_sweep, raw, orthos, reference),
        made("own matcher", own),
        made("s2p made rough", rough(known, 1)),
        made("the reference itself", known),
    ]
    delft = data / "truth" / "delft_ahn3_0.5m_dsm.tif"
    if delft.is_file():
        simulate_scene(delft, work / "delft", {"seed": 1})
        simulated = work / "delft" / "data"
        views = simulated / "satellite_views"
        found.append(
            Scene(
                "Delft (lidar), simulated images", simulated / "dsm" / "initial.tif",
                tuple(sorted((views / "raw").glob("*.tif"))), tuple(sorted(views.glob("date1[ab].tif"))),
                read(simulated / "dsm" / "reference.tif"),
            )
        )  # fmt: skip
    return found


def means_and_medians(heights: Array) -> Array:
    """2 x 2 means, medians of 5 x 5 of them again and again, and back; no voids."""
    size = heights.shape[1] // 2, heights.shape[0] // 2
    smooth = cv2.resize(heights.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    for _ in range(MEDIANS):
        smooth = cv2.medianBlur(smooth, 5)
    return np.asarray(cv2.resize(smooth, heights.shape[::-1], interpolation=cv2.INTER_LINEAR))


def surfaces_of(scene: Scene) -> tuple[dict[str, Array], dict[str, Array]]:
    """The initial DSM, the filtered and the refined ones; and the errors that the model expects."""
    initial = read(scene.initial)
    plain = np.where(np.isnan(initial), np.nanmedian(initial), initial)
    medians = {width: median_filter(plain, width) for width in WIDTHS}
    best = min(medians, key=lambda width: float(np.nanmean(np.abs(medians[width] - scene.reference))))
    shown = {
        "fusion, raw images": scene.raw,
        "dsm-alone, no images": (),
        **({"fusion, ortho-images": scene.ortho} if scene.ortho else {}),
    }
    fused = {
        name: refine(scene.initial, images, uncertainty=True, force=True, fill=True)
        for name, images in shown.items()
    }
    found = {
        "initial": initial,
        f"best median ({best} px)": medians[best],
        "means and medians": means_and_medians(plain),
        "bilateral filter": cv2.bilateralFilter(plain.astype(np.float32), 9, 1.0, 3.0),
        **{name: heights for name, (heights, _) in fused.items()},
    }
    if scene.ortho:
        found["town-stereo, ortho-images"] = refine(
            scene.initial, scene.ortho, "town-stereo", force=True, fill=True
        )
    return found, {name: errors for name, (_, errors) in fused.items()}


def coverage(scene: Scene, name: str, heights: Array, expected: Array) -> str:
    """A line of the table of expected errors."""
    ratios = np.abs(heights - scene.reference) / expected
    ratios = ratios[np.isfinite(ratios)]
    shares = " | ".join(f"{100 * float((ratios < times).mean()):.0f}" for times in (1, 2))
    return f"| {scene.name} | {name} | {float(np.nanmedian(expected)):.2f} | {shares} |"


def row(scene: Scene, name: str, heights: Array, initial: Array) -> str:
    """A line of the table."""
    found: Statistics = statistics(heights - scene.reference)
    before, after = np.abs(initial - scene.reference), np.abs(heights - scene.reference)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(before) & np.isfinite(after)
        gain = (before - after)[known]
        better, worse = (100 * float((sign * gain > MOVED_M).mean()) for sign in (1, -1))
    centred = f"{found.mae_centred:.3f}"
    return (
        f"| {scene.name} | {name} | {found.mae:.3f} | {found.rmse:.3f} | {found.absolute_median:.3f} | "
        f"{found.nmad:.3f} | {centred} | {better:.0f} | {worse:.0f} |"
    )


HEAD = (
    "| scene | surface | MAE [m] | RMSE [m] | MedAE [m] | NMAD [m] | MAE, median removed [m] | better [%] | "
    "worse [%] |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|"
)

COVERAGE_HEAD = (
    "| scene | surface | expected error, median [m] | smaller errors [%] | smaller than twice as much [%] |\n"
    "|---|---|---:|---:|---:|"
)

PAGE = """# Real satellite data

What the bundled models do to real DSMs that no training has seen, beside the initial DSM, the median filter
that is best for each scene (chosen with the reference, which favours it), a bilateral filter, and "means and
medians": 2 x 2 means, then eight medians of 5 x 5. The default of `resdepth refine` is the model `fusion`,
and without images `dsm-alone`. `fusion` has learned from simulated scenes alone, `dsm-alone` from simulated
surfaces and from lidar of another place.

{table}

Réunion: a Pleiades pair, 0.5 m, 739 x 721 px. The reference is s2p's DSM of the same pair: a
pseudo-reference, dotted with noise of its own; what both matchers miss is not seen. The plane sweep's DSM has
27 % of its heights filled from the next ones. "made rough": s2p's DSM with noise, blunders and filled voids.
"the reference itself": what refining does to a DSM that is right already. Delft: a lidar DSM, seen by
simulated images; its initial DSM is the simulator's. "better" and "worse" count heights whose error fell or
grew by more than {moved:g} m.

![Hillshades of the initial, the refined and the reference DSM of Réunion](images/real-data.png)

## A DSM without images

Real surfaces with errors put on them, MAE. The model `dsm-alone` has learned from another part of the same
lidar of North Rhine-Westphalia, and from nothing of the other two. The best median filter is chosen for each
row with the reference:

{alone}

Lidar of trees is rough itself: there noise below 0.3 m cannot be told from leaves, and a median filter does
harm. `python benchmarks/denoising.py DATA` prints this table.

![Hillshades: a city model with noise, its best median filter, refined, as it is](images/real-data-alone.png)

## How well it knows its errors

Of each height `fusion` and `dsm-alone` expect an error, the last band of the output: 68 % of errors should be
smaller, 90 % smaller than twice as much. Errors against the reference, whose own are among them:

{coverage}

## Without a reference

The Great Pyramid (Pleiades, base to height 0.09, where a pixel of disparity stands for 5.9 m): two initial
DSMs of one pair, one from a matcher without any smoothing, one from `resdepth match`. What refining makes of
both should differ less than they do: the median difference between them goes from {before:.2f} to
{after:.2f} m.

![Hillshades: raw matching result, refined; own matcher's DSM, refined](images/real-data-gizeh.png)

Kahramanmaras, before the earthquake (Pleiades, base to height 0.31; RPCs in .geom files): apartment houses.
The DSM is that of `resdepth match`, so the images have little to add.

![Hillshades of the matched DSM of the city, and of the refined one](images/real-data-city.png)

## What it cannot do

- From a DSM alone nothing can be measured: those rows show what a filter that has learned can do. It does not
  follow a DSM whose errors are as wide as houses.
- In ortho-images it measures where their ghosts show from where they were seen ([refine](refine.md)).
- A height that both the DSM and the matches miss stays wrong: narrow streets, still water, moving cars.
- Beside voids it lowers some rims of roofs: in Kahramanmaras one in fifty of the heights next to a void by
  more than 1 m, of those farther away one in five hundred. Without a reference it is not known whether that
  is right.
- It keeps the datum of the initial DSM, and so its bias.

From raw images alone, with three commands: [what preparing gives](preparing.md) (`make real`).
[What a model reaches that is trained on such data](real-training.md).

## How it was made

`make bench-real DATA=folder` writes this page. resdepth {version}, Python {python}.
"""


def gizeh(data: Path, work: Path, picture: Path) -> tuple[float, float]:
    """How far two initial DSMs of one pair differ, before and after; draws them."""
    folder = data / "stereo" / "gizeh"
    raw, raw_dsm = tuple(sorted(folder.glob("img_*.tif"))), folder / "dsm_wta.tif"
    own = work / "gizeh.tif"
    match_images(raw, own, like=raw_dsm, overwrite=True)
    surfaces = {
        name: (read(path), refine(path, raw, force=True))
        for name, path in (("raw matching", raw_dsm), ("own matcher", own))
    }
    part = (slice(250, 250 + SHOWN_PX), slice(250, 250 + SHOWN_PX))
    shown: dict[str, Array] = {}
    for name, (before, after) in surfaces.items():
        shown |= {name: before[part], f"{name}, refined": after[part]}
    draw(picture, {name: (heights, GSD_M) for name, heights in shown.items()})
    differences = (first - second for first, second in zip(*surfaces.values(), strict=True))
    apart, left = (float(np.nanmedian(np.abs(one))) for one in differences)
    return apart, left


def kahramanmaras(data: Path, work: Path, picture: Path) -> None:
    """A city of apartment houses: the DSM that we match, and what refining makes of it."""
    folder = data / "stereo" / "kahramanmaras"
    raw, own = tuple(sorted(folder.glob("*.tif"))), work / "kahramanmaras.tif"
    match_images(raw, own, overwrite=True)
    before, after = read(own), refine(own, raw, force=True)
    part = (slice(300, 300 + SHOWN_PX), slice(300, 300 + SHOWN_PX))
    draw(picture, {"own matcher": (before[part], GSD_M), "own matcher, refined": (after[part], GSD_M)})


def measure(data: Path, work: Path, docs: Path) -> None:
    """Refine all, and write the page."""
    rows, covered, pictures = [], [], docs / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    for scene in scenes(data, work):
        found, expected = surfaces_of(scene)
        covered += [coverage(scene, name, found[name], errors) for name, errors in expected.items()]
        for name, heights in found.items():
            rows.append(row(scene, name, heights, found["initial"]))
            print(rows[-1], flush=True)
        if scene.name.endswith("plane sweep"):
            part = (slice(100, 100 + SHOWN_PX), slice(100, 100 + SHOWN_PX))
            shown = {
                "initial": found["initial"],
                "refined, raw images": found["fusion, raw images"],
                "refined, ortho-images": found["fusion, ortho-images"],
                "reference (s2p)": scene.reference,
            }
            draw(pictures / "real-data.png", {name: (one[part], GSD_M) for name, one in shown.items()})
    draw(
        pictures / "real-data-alone.png",
        {name: (one, GSD_M) for name, one in pictured(data / "truth").items()},
    )
    before, after = gizeh(data, work, pictures / "real-data-gizeh.png")
    kahramanmaras(data, work, pictures / "real-data-city.png")
    page = PAGE.format(
        table="\n".join([HEAD, *rows]), coverage="\n".join([COVERAGE_HEAD, *covered]), moved=MOVED_M,
        alone=table(data / "truth"), before=before, after=after,
        version=resdepth.__version__, python=platform.python_version(),
    )  # fmt: skip
    (docs / "real-data.md").write_text(page, encoding="utf-8")


def main() -> None:
    """Measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="the folder of the real data")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    tune_process()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if missing := [name for name in NEEDED if not (arguments.data / name).exists()]:
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
