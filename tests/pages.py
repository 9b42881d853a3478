"""A small scene and an evaluation of it, as pages show them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from conftest import GSD, ORIGIN, make_heights
from resdepth.evaluation.inputs import Read
from resdepth.evaluation.metrics import statistics
from resdepth.evaluation.result import (
    OVERALL,
    ClassResult,
    EvaluationResult,
    Histogram,
    ShapeErrors,
    Shift,
    SurfaceResult,
)
from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Array
from resdepth.report.page import PageContent, write_page
from resdepth.report.page_tables import Table, class_table
from resdepth.report.tables import csv_text
from resdepth.report.verdict import verdict_of

HEIGHT, WIDTH = 200, 240
WKT, CRS_NAME = find_crs("EPSG:32632")
TITLES = {OVERALL: "all pixels", "building": "buildings", "terrain": "terrain without water and forest"}
EDGES = np.linspace(-5, 5, 101)
SIZES = np.linspace(0, 5, 101)


def grid_of(height: int, width: int, gsd: float = GSD) -> Grid:
    return Grid(height, width, (gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1]), WKT, CRS_NAME)


def reader(values: Array, grid: Grid) -> Read:
    """The nearest pixels of an array, whatever grid is asked for."""

    def read(there: Grid) -> Array:
        a, _, x, _, e, y = there.transform
        cols = (x + a * (np.arange(there.width) + 0.5) - grid.transform[2]) / grid.transform[0]
        rows = (y + e * (np.arange(there.height) + 0.5) - grid.transform[5]) / grid.transform[4]
        return values[np.ix_(rows.astype(int), cols.astype(int))]

    return read


def evaluated_class(errors: Array) -> ClassResult:
    found = statistics(errors)
    known = np.abs(errors[np.isfinite(errors)])
    shares = tuple(float((known <= size).mean()) if known.size else float("nan") for size in SIZES)
    counts, _ = np.histogram(errors[np.isfinite(errors)], EDGES)
    return ClassResult(
        statistics=found,
        reference_pixels=errors.size,
        coverage=1.0,
        intervals={
            name: (0.9 * getattr(found, name), 1.1 * getattr(found, name)) for name in ("mae", "rmse")
        },
        shape=ShapeErrors(*[float("nan")] * 4),
        better=None,
        worse=None,
        histogram=Histogram(tuple(EDGES), tuple(int(n) for n in counts), tuple(SIZES), shares),
    )


def result_of(surfaces: Mapping[str, Array], reference: Array) -> EvaluationResult:
    building = reference > np.nanmedian(reference) + 3
    inside = {OVERALL: np.isfinite(reference), "building": building, "terrain": ~building}
    results = {
        name: SurfaceResult(
            name, f"{name}.tif", "", "none", Shift(0, 0, 0, 0, applied=False), None,
            {kind: evaluated_class((heights - reference)[where]) for kind, where in inside.items()},
        )
        for name, heights in surfaces.items()
    }  # fmt: skip
    return EvaluationResult(results, next(iter(surfaces)), TITLES, {}, GSD**2, 25.0, 40, exact=True)


def made_surfaces() -> dict[str, Array]:
    """Before, after, reference; the reference DSM has a void."""
    reference, initial = make_heights(3, HEIGHT, WIDTH)
    rng = np.random.default_rng(4)
    refined = (reference + rng.normal(0, 0.1, reference.shape)).astype(np.float32)
    reference[:20, :30] = np.nan
    return {"Initial DSM": initial, "Refined DSM": refined, "Reference DSM": reference}


def made_content(**changes: object) -> PageContent:
    """A page of everything."""
    surfaces, grid = made_surfaces(), grid_of(HEIGHT, WIDTH)
    image = np.hypot(*np.indices((HEIGHT, WIDTH))).astype(np.float32)
    reference = surfaces["Reference DSM"]
    outcome = result_of({name: surfaces[name] for name in ("Initial DSM", "Refined DSM")}, reference)
    content = {
        "title": "Surfaces & a reference",
        "lead": "What there is to be seen.",
        "grid": grid,
        "surfaces": {name: reader(heights, grid) for name, heights in surfaces.items()},
        "reference": "Reference DSM",
        "images": {"Ortho-image 1": reader(image, grid)},
        "masks": {"Buildings": reader((reference > 404).astype(np.float32), grid)},
        "tables": [
            Table("All pixels", [["surface", "MAE [m]"], ["Initial DSM", "0.48"]], "In metres."),
            class_table(outcome),
        ],
        "verdict": verdict_of(outcome),
        "day": "2026-03-01",
        "csv": csv_text(outcome),
        "outcome": outcome,
        "facts": {"Model": "town-stereo"},
    }
    return PageContent(**(content | changes))


def written(folder: Path, content: PageContent, name: str = "page.html") -> Path:
    write_page(folder / name, content)
    return folder / name
