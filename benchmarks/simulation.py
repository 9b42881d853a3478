"""How much simulated scenes are like real ones: error statistics and pictures, side by side.

    python benchmarks/simulation.py ../shared/data

The folder holds real data: aligned/reunion (an initial DSM and a better one), stereo/reunion and stereo/gizeh
(raw Pleiades pairs with RPCs), dsm/montpellier_0.5m.tif (a stereo DSM), truth/ (lidar and city models).
Writes docs/simulation.md and its pictures.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from resdepth.errors import ResDepthError
from resdepth.evaluation.metrics import Tally
from resdepth.geo.grid import Grid, Sides
from resdepth.geo.raster import FileBand
from resdepth.options import Style
from resdepth.report.pictures import error_colours, grey, hillshade
from resdepth.simulate.plan import SimulateConfig, SurfaceSettings, TownSettings
from resdepth.simulate.simulation import metrics_of
from resdepth.stereo.matching import MatcherSettings, filled, matched, rasterized
from resdepth.stereo.ortho import RawImage
from resdepth.workflows.simulate import simulate_scene

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

GSD_M = 0.5
SEED = 11
TOWNS: tuple[Style, ...] = ("old-town", "suburb", "high-rise", "industrial")
REAL_SURFACES = {
    "lidar, Germany": "truth/nrw_dom1_1m.tif",
    "lidar, Delft": "truth/delft_ahn3_0.5m_dsm.tif",
    "points, Delft": "truth/delft_ahn3.laz",
    "city model, The Hague": "truth/DenHaag_01.json",
    "raster of it": "truth/denhaag_0.5m_dsm.tif",
}
# Heights within this distance of what the real matcher could have found.
SEARCH_M = {"reunion": (30.0, 30.0), "gizeh": (40.0, 40.0)}
SHOWN_PX = 420
ERROR_LIMIT_M = 4.0


@dataclass(frozen=True)
class Case:
    """A surface from stereo matching, and what is known about it.

    Attributes:
        name: in tables and pictures.
        real: whether its images are real.
        surface: (H, W) float32, metres, voids filled.
        void: (H, W) bool, before filling; None if that is not known.
        reference: (H, W) float32, NaN = unknown; None if there is none.
        image: an ortho-image; None if there is none.
    """

    name: str
    real: bool
    surface: Array
    void: Mask | None
    reference: Array | None
    image: Array | None = None


def read(path: Path) -> Array:
    """A whole raster, NaN = void."""
    band = FileBand(path)
    return band.read(band.grid.whole)


def real_cases(data: Path) -> list[Case]:
    """Real surfaces of other matchers, and what our matcher makes of real images."""
    aligned = data / "aligned" / "reunion"
    others = Case(
        "Reunion, plane sweep",
        real=True,
        surface=read(aligned / "initial.tif"),
        void=np.isnan(read(aligned / "initial_voids.tif")),
        reference=read(aligned / "truth.tif"),
        image=read(aligned / "ortho1.tif"),
    )
    montpellier = read(data / "dsm" / "montpellier_0.5m.tif")
    city = Case(
        "Montpellier, a pipeline's DSM",
        real=True,
        surface=filled(montpellier, 0.0),
        void=np.isnan(montpellier),
        reference=None,
    )
    reunion = rematched(data, "reunion", aligned / "truth.tif", read(aligned / "ortho1.tif"))
    gizeh = rematched(data, "gizeh", data / "stereo" / "gizeh" / "dsm_wta.tif", None)
    return [others, reunion, city, gizeh]


def rematched(data: Path, name: str, reference: Path, image: Array | None) -> Case:
    """Our matcher on a raw pair, on the grid of another DSM, which is the reference DSM if it is good."""
    band = FileBand(reference)
    known = band.read(band.grid.whole)
    below, above = SEARCH_M[name]
    low, high = np.nanpercentile(known, [1, 99])
    first, second = (RawImage(data / "stereo" / name / f"img_0{number}.tif") for number in (1, 2))
    grid = Grid(band.grid.height, band.grid.width, band.grid.transform, band.grid.crs, band.grid.crs_name)
    points = matched(first, second, grid, (low - below, high + above), MatcherSettings(step_m=GSD_M))
    cells = rasterized(points, grid)
    good = name == "reunion"
    title = {"reunion": "Reunion", "gizeh": "Gizeh"}[name]
    return Case(
        f"{title}, our matcher",
        real=True,
        surface=filled(cells, float(np.nanmedian(known))),
        void=np.isnan(cells),
        reference=known if good else None,
        image=image,
    )


def simulated_cases(data: Path, work: Path) -> tuple[list[Case], dict[str, float]]:
    """Scenes of towns and of real surfaces, and how many seconds each took."""
    wanted: dict[str, tuple[str | Path, SimulateConfig]] = {}
    for style in TOWNS:
        settings = TownSettings(style=style, size_px=1024)
        wanted[f"town, {style}"] = (
            "town",
            SimulateConfig(seed=SEED, town=settings, reference=SurfaceSettings(gsd_m=GSD_M)),
        )
    for name, path in REAL_SURFACES.items():
        # The Delft points do not name their CRS; it is the Dutch one. A file that names its own keeps it.
        read_as = SurfaceSettings(gsd_m=GSD_M, crs="EPSG:28992")
        wanted[name] = (data / path, SimulateConfig(seed=SEED, reference=read_as))
    cases, seconds = [], {}
    for name, (source, config) in wanted.items():
        folder = work / name.replace(", ", "_").replace(" ", "-")
        if not (folder / "scene.json").exists():
            start = time.perf_counter()
            simulate_scene(source, folder, config)
            seconds[name] = time.perf_counter() - start
        scene = folder / "data"
        cases.append(
            Case(
                name,
                real=False,
                surface=read(scene / "dsm" / "initial.tif"),
                void=read(scene / "mask" / "void.tif") == 1,
                reference=read(scene / "dsm" / "reference.tif"),
                image=read(scene / "satellite_views" / "date1a.tif"),
            )
        )
    return cases, seconds


def correlation_length_m(errors: Array) -> float:
    """The distance at which errors have lost all but 1/e of their correlation; void counts as no error."""
    clipped = np.clip(np.nan_to_num(errors - np.nanmedian(errors)), -5, 5)
    spectrum = np.abs(np.fft.rfft2(clipped)) ** 2
    correlation = np.fft.irfft2(spectrum, clipped.shape)
    along = (correlation[0, :60] + correlation[:60, 0]) / (2 * correlation[0, 0])
    below = np.nonzero(along < 1 / np.e)[0]
    return float(below[0] * GSD_M) if len(below) else float("inf")


def roughness_m(surface: Array) -> float:
    """Median distance of a height from the mean of the 5 x 5 pixels around it: noise and blobs."""
    return float(np.nanmedian(np.abs(surface - ndimage.uniform_filter(surface, 5))))


def steepness(surface: Array) -> float:
    """The slope that one pixel in twenty exceeds, metres per metre: how sharp walls are."""
    rows, cols = np.gradient(surface, GSD_M)
    return float(np.nanpercentile(np.hypot(rows, cols), 95))


def error_rows(cases: list[Case]) -> list[list[str]]:
    """Error metrics of the cases with a reference, head first."""
    rows = [["surface", "images", "MAE", "RMSE", "MedAE", "NMAD", "LE90", "above 3 m", "correlated over"]]
    for case in cases:
        if case.reference is None:
            continue
        errors = case.surface - case.reference
        tally = Tally()
        tally.add(errors[~np.isnan(errors)])
        figures = metrics_of(tally)
        rows.append(
            [
                case.name,
                "real" if case.real else "simulated",
                *(f"{figures[name]:.2f}" for name in ("MAE", "RMSE", "MedAE", "NMAD", "LE90")),
                f"{100 * figures['gross']:.1f} %",
                f"{correlation_length_m(errors):.1f} m",
            ]
        )
    return rows


def shape_rows(cases: list[Case]) -> list[list[str]]:
    """What can be said without a reference DSM, head first."""
    rows = [["surface", "images", "void", "roughness", "95 % of slopes below", "the reference DSM's"]]
    for case in cases:
        void = "not known" if case.void is None else f"{100 * case.void.mean():.1f} %"
        true_slope = "" if case.reference is None else f"{steepness(case.reference):.2f}"
        rows.append(
            [
                case.name,
                "real" if case.real else "simulated",
                void,
                f"{roughness_m(case.surface):.2f} m",
                f"{steepness(case.surface):.2f}",
                true_slope,
            ]
        )
    return rows


def markdown(rows: list[list[str]]) -> str:
    """A table, head first."""
    rule = ["---", "---", *["---:"] * (len(rows[0]) - 2)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def draw(cases: list[Case], path: Path) -> None:
    """A row for each case: image, surface, reference, errors; what there is not stays white."""
    strips = []
    for case in cases:
        height, width = case.surface.shape
        row, col = max((height - SHOWN_PX) // 2, 0), max((width - SHOWN_PX) // 2, 0)
        part = (slice(row, row + SHOWN_PX), slice(col, col + SHOWN_PX))
        panels = [np.full((SHOWN_PX, SHOWN_PX, 3), 255, np.uint8) for _ in range(4)]
        pictures = {1: hillshade(case.surface[part], Sides(GSD_M, GSD_M))}
        if case.image is not None:
            pictures[0] = grey(case.image[part])
        if case.reference is not None:
            pictures[2] = hillshade(case.reference[part], Sides(GSD_M, GSD_M))
            pictures[3] = error_colours((case.surface - case.reference)[part], ERROR_LIMIT_M)
        for place, picture in pictures.items():
            colours = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
            panels[place][: colours.shape[0], : colours.shape[1]] = colours
        strips.append(
            np.concatenate([np.pad(p, ((6, 0), (6, 0), (0, 0)), constant_values=255) for p in panels], 1)
        )
    whole = Image.fromarray(np.concatenate(strips, axis=0))
    whole.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


PAGE = """# Simulated scenes beside real ones

`resdepth simulate` ([how to use it](simulate.md)) photographs a reference surface and matches the
photographs. Its initial DSMs should have the errors of real pipelines: blobby roofs, walls that bulge over
the street, wrong heights in shadows, in narrow courtyards and on water. This page compares them with real
stereo DSMs.

All surfaces lie on grids of {gsd} m. Heights are in metres.

## Errors

{errors}

"Correlated over" is the distance at which the errors have lost all but 1/e of their correlation: the size of
blobs. The reference DSM of the Reunion surfaces is that of a better matcher, s2p, of the same images: what
both miss is not seen. The reference DSM of the simulated scenes is exact, and knows every wall.

## Shapes

{shapes}

Roughness is the median distance of a height from the mean of the 5 x 5 pixels around it.

## Pictures

Real, from above: {real_names}. From the left: an ortho-image, the stereo DSM, the reference DSM, and the
errors (blue below it, red above, full colour at {limit} m); what there is not is white.

![Real stereo DSMs](images/simulation-real.png)

Simulated, from above: {simulated_names}.

![Simulated scenes](images/simulation-simulated.png)

## What agrees, and what differs

{verdict}

## How it was made

`make simulation DATA=folder` writes this page and its pictures (seed {seed}). The towns have 1024 x 1024
pixels; one of them took {seconds:.0f} s on two CPU cores. "Our matcher" is the one with which scenes are
simulated, given raw Pleiades pairs: one pair, no fusion.
"""

VERDICT = Path(__file__).with_name("simulation_verdict.md")
DRAWN_SIMULATED = ("town, old-town", "town, high-rise", "lidar, Germany", "city model, The Hague")


def measure(data: Path, work: Path, docs: Path) -> None:
    """Simulate, compare, write."""
    real = real_cases(data)
    simulated, seconds = simulated_cases(data, work)
    cases = [*real, *simulated]
    (docs / "images").mkdir(parents=True, exist_ok=True)
    drawn = [case for case in simulated if case.name in DRAWN_SIMULATED]
    draw(real, docs / "images" / "simulation-real.png")
    draw(drawn, docs / "images" / "simulation-simulated.png")
    towns = [value for name, value in seconds.items() if name.startswith("town")]
    page = PAGE.format(
        gsd=GSD_M,
        errors=markdown(error_rows(cases)),
        shapes=markdown(shape_rows(cases)),
        limit=ERROR_LIMIT_M,
        real_names="; ".join(case.name for case in real),
        simulated_names="; ".join(case.name for case in drawn),
        verdict=VERDICT.read_text(encoding="utf-8").strip(),
        seconds=float(np.mean(towns)) if towns else float("nan"),
        seed=SEED,
    )
    (docs / "simulation.md").write_text(page, encoding="utf-8")
    print(markdown(error_rows(cases)), markdown(shape_rows(cases)), sep="\n\n")


def missing(data: Path) -> Mapping[str, Path]:
    """What the folder of real data lacks."""
    wanted = ["aligned/reunion", "stereo/reunion", "stereo/gizeh", "dsm/montpellier_0.5m.tif"]
    wanted += REAL_SURFACES.values()
    return {name: data / name for name in wanted if not (data / name).exists()}


def main() -> None:
    """Compare and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="the folder of real data")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--work", type=Path, help="keep the simulated scenes here")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if absent := missing(given.data):
        sys.exit(f"{given.data}: {', '.join(absent)} is not in this folder; give the folder of the real data")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            measure(given.data, given.work or Path(temporary), given.docs)
        except ResDepthError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
