"""A simulated scene, and the page that shows it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from resdepth.geo.raster import read_header
from resdepth.report.page import PageContent, reading, write_page
from resdepth.report.page_tables import Table
from resdepth.runtime.jsonfiles import demand, read_json
from resdepth.simulate.plan import SimulateConfig, requested
from resdepth.simulate.simulation import SimulatedScene, simulate

PAGE = "scene.html"
COLUMNS = ("MAE", "RMSE", "MedAE", "NMAD", "bias")
SHOWN_IMAGES = 3


def simulate_scene(
    source: str | Path,
    folder: str | Path,
    config: SimulateConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    workers: int = 2,
) -> SimulatedScene:
    """Photograph a reference surface, match the images, put a ResDepth data set together, show it on a page.

    Args:
        source: "town", or a file: GeoTIFF DSM, CityJSON, LAS, LAZ.
        folder: of the scene; an interrupted simulation in it resumes.
        config: everything else: the keys of a configuration file, the path of one, or a SimulateConfig.
        workers: threads; the result does not depend on them.

    Raises:
        ResDepthError: if the source cannot be read, the folder holds something else, or the disk is full.
    """
    if not isinstance(config, SimulateConfig):
        config = requested(Path(config) if isinstance(config, str) else config, {})
    return simulate(source, Path(folder), config, workers=workers, show=_write_scene_page)


def _write_scene_page(scene: SimulatedScene) -> None:
    write_page(scene.folder / PAGE, scene_content(scene.folder, scene.record))


def scene_content(folder: Path, record: Mapping[str, Any]) -> PageContent:
    """What there is to show of a simulated scene."""
    data = folder / "data"
    reference, initial = data / "dsm" / "reference.tif", data / "dsm" / "initial.tif"
    views = record["views"][:2] + record["views"][-1:]
    dates = {view["name"]: f"date {view['date'] + 1}" for view in views}
    images = {
        f"Ortho-image {name} ({dates[name]})": reading(
            data / "satellite_views" / f"{name}.tif", "average", "stored"
        )
        for name in dates
    }
    masks = {
        f"Shadows on date {number}": reading(data / "mask" / f"shadow_date{number}.tif", "nearest", "stored")
        for number in (date["number"] + 1 for date in record["dates"])
    }
    return PageContent(
        title=f"Simulated scene {folder.resolve().name}",
        lead="A reference surface, photographed from space, and what stereo matching makes of the images.",
        grid=read_header(reference).grid,
        surfaces={"Initial DSM": reading(initial, "average"), "Reference DSM": reading(reference, "average")},
        reference="Reference DSM",
        images=images,
        masks=masks,
        tables=[Table("Errors of the initial DSM", error_table(record["errors_of_the_initial_dsm"]))],
        facts=_facts(_Record.model_validate(record)),
    )


def error_table(figures: Mapping[str, Mapping[str, float]]) -> Sequence[Sequence[str]]:
    """Error metrics in rows of text, head first; metres."""
    rows = [["Initial DSM minus reference DSM", *(f"{column} [m]" for column in COLUMNS), "pixels"]]
    for name, row in figures.items():
        if row["n"]:
            rows.append([name, *(f"{row[column]:.2f}" for column in COLUMNS), f"{int(row['n']):,}"])
    return rows


def read_scene_facts(path: Path) -> dict[str, str]:
    """What a page states of how a scene was made, from its scene.json.

    Raises:
        ResDepthError: if the file cannot be read, or is none that `simulate` writes.
    """
    return _facts(demand(_Record, read_json(path), path))


class _Sun(BaseModel):
    azimuth_deg: float
    elevation_deg: float


class _Date(BaseModel):
    number: int
    sun: _Sun


class _View(BaseModel):
    name: str
    azimuth_deg: float
    incidence_deg: float


class _Pair(BaseModel):
    images: list[str]
    base_to_height: float
    fused: bool


class _Place(BaseModel):
    height: int
    width: int
    gsd_m: float
    crs: str


class _Source(BaseModel):
    kind: str
    name: str = ""
    style: str = ""


class _Record(BaseModel):
    """What a scene.json states of how the scene was made."""

    resdepth: str
    seed: int
    source: _Source
    grid: _Place
    dates: list[_Date]
    views: list[_View]
    pairs: list[_Pair]


def _facts(record: _Record) -> dict[str, str]:
    """What a page states of how a scene was made."""
    grid, source = record.grid, record.source
    facts = {
        "Reference DSM": (source.name or source.kind) + (f", {source.style}" if source.style else ""),
        "Seed": str(record.seed),
        "Grid": f"{grid.height} x {grid.width} pixels of {grid.gsd_m:g} m, {grid.crs}",
        "resdepth": record.resdepth,
    }
    for date in record.dates:
        azimuth, elevation = date.sun.azimuth_deg, date.sun.elevation_deg
        facts[f"Date {date.number + 1}"] = (
            f"sun at azimuth {azimuth:.0f} deg, {elevation:.0f} deg above the horizon"
        )
    for view in record.views:
        facts[f"View {view.name}"] = (
            f"azimuth {view.azimuth_deg:.0f} deg, incidence {view.incidence_deg:.0f} deg"
        )
    facts["Matched pairs"] = "; ".join(
        f"{' + '.join(pair.images)} (base to height {pair.base_to_height:.2f})"
        for pair in record.pairs
        if pair.fused
    )
    return facts
