"""What a prepared data set holds beside its rasters: lists, configurations, its record, and a page."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resdepth.data.dataset_folder import (
    MODEL,
    SCENE_MASKS,
    DatasetFolder,
    as_dataset,
    largest_tile,
    testing_config,
    training_config,
    write_lists,
)
from resdepth.geo.raster import FileBand, read_header
from resdepth.geo.rpc import TAG, from_tags
from resdepth.models.pretrained import SMALLEST_TILE_OF_MODEL, TOWN_STEREO
from resdepth.preparation.datum import title_of
from resdepth.preparation.pairs import View, as_csv, useful
from resdepth.preparation.request import PrepareConfig
from resdepth.preparation.results import Inputs, OrthoFile, RawFile, Result
from resdepth.preparation.voids import LEGEND
from resdepth.runtime.atomic import copy_file, write_json, write_text
from resdepth.version import __version__

if TYPE_CHECKING:
    from resdepth.report.page import PageContent

PAIRS, PAGE, SKY, SHOWN_IMAGES, SHOWN_PAIRS = "pairs.csv", "prepare.html", "sky.png", 4, 10


def write_texts(folder: DatasetFolder, result: Result, inputs: Inputs) -> list[Path]:
    """Lists, configurations and the table of pairs; returns their paths."""
    written = []
    names = [view.name for view in result.views]
    if names:
        write_lists(folder, names, useful(result.pairs))
        stems = ("imagelist", "pairlist", "pairlist_simple", "pairlist_generalized")
        written += [folder.lists / f"{stem}.txt" for stem in stems]
    if result.pairs:
        views = [_view_of(folder, one) for one in inputs.images]
        write_text(folder.path / PAIRS, as_csv(result.pairs, views))
        written.append(folder.path / PAIRS)
    return written + _write_configs(folder, result)


def _view_of(folder: DatasetFolder, image: RawFile | OrthoFile) -> View:
    band = FileBand(folder.ortho_image(image.name), "stored")
    return View(image.name, band, band.geometry, None, image.day, image.sun)


def _write_configs(folder: DatasetFolder, result: Result) -> list[Path]:
    """Configurations: to train, where there is a reference DSM; to refine, where there is a pair."""
    shape, count = result.grid.whole.shape, min(len(result.views), 2)
    name, written = folder.path.resolve().name, []
    train, stripes, tile = training_config(name, 0, shape, images=count)
    has_reference = result.difference is not None
    if has_reference:
        counted = "training" if "training" in result.masks else "ground_truth"
        train["datasets"][0]["mask_ground_truth"] = f"../data/mask/{counted}.tif"
        written.append(folder.configs / "config_train.json")
        write_json(written[-1], train)
    if count < 2:
        return written
    masks = [mask for mask in SCENE_MASKS if mask in result.masks]
    if "building" not in masks:  # the others serve beside it
        masks = [mask for mask in masks if mask == "ground_truth"]
    tested = as_dataset("../data", name, "test", pairs="pairlist_simple.txt", masks=masks) | stripes
    if not has_reference or tile < SMALLEST_TILE_OF_MODEL:
        tested = {key: value for key, value in tested.items() if key not in {*stripes, "area_type"}}
        tile = largest_tile(*shape)
    if not has_reference:
        tested = {key: value for key, value in tested.items() if key != "raster_gt" and "mask" not in key}
    if tile < SMALLEST_TILE_OF_MODEL:
        return written
    config = testing_config(tested, tile)
    model = folder.path / "models" / MODEL
    model.parent.mkdir(parents=True, exist_ok=True)
    copy_file(TOWN_STEREO, model)
    write_json(folder.configs / "config_test.json", config)
    return [*written, model, folder.configs / "config_test.json"]


def described(config: PrepareConfig, inputs: Inputs, result: Result) -> dict[str, Any]:
    """What prepare.json holds: each step and its figures."""
    grid, datums = result.grid, result.datums
    found = result.coregistered.found
    views = []
    for number, view in enumerate(result.views):
        one = inputs.images[number]
        source = one.image.path if isinstance(one, RawFile) else one.band.path
        offset = result.biases.offsets_px[number] if result.biases else None
        affine = result.biases.affine[number] if result.biases and result.biases.affine else None
        views.append(
            asdict(view)
            | {"source": str(source), "rpc_offset_px": offset, "rpc_affine": affine, "sun": one.sun}
        )
    return {
        "resdepth": __version__,
        "request": config.model_dump(mode="json", exclude={"schema_"}),
        "grid": {
            "height": grid.height, "width": grid.width, "gsd_m": grid.gsd, "crs": grid.crs_name,
            "bounds": list(grid.bounds), "changes": list(result.choice.changes),
        },
        "datum": {
            "dsm": title_of(datums.dsm), "reference": title_of(datums.reference),
            "data_set": title_of(datums.after(result.coregistered)),
            "dsm_up_m": datums.dsm_up_m, "reference_up_m": datums.reference_up_m,
        },
        "coregistration": None if found is None else {"moved": result.coregistered.moved} | asdict(found),
        "voids": asdict(result.filling) | {"provenance_codes": LEGEND},
        "heights_of_rpcs": None if result.lift is None else asdict(result.lift),
        "tie_points": None if result.biases is None else {
            "before": [asdict(tie) for tie in result.biases.before],
            "after": [asdict(tie) for tie in result.biases.after],
            "term": result.biases.term,
            "left_out_m": None if result.biases.left_m is None else dict(
                zip(("shift", "affine"), result.biases.left_m, strict=True)
            ),
        },
        "views": views,
        "pairs": [_described_pair(pair, result) for pair in result.pairs],
        "changes": None if result.changes is None else asdict(result.changes),
        "trusted": None if result.trust is None else asdict(result.trust),
        "initial_minus_reference": None if result.difference is None else asdict(result.difference),
        "masks": list(result.masks),
    }  # fmt: skip


def _described_pair(pair: Any, result: Result) -> dict[str, Any]:
    names = [result.views[number].name for number in (pair.first, pair.second)]
    return asdict(pair) | {"first": names[0], "second": names[1]}


def summary(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """What was prepared, in lines for people."""
    grid, voids = record["grid"], record["voids"]
    lines = [f"{folder}: {grid['height']} x {grid['width']} px of {grid['gsd_m']:.3g} m, {grid['crs']}"]
    lines += [f"  grid: {change}" for change in grid["changes"]]
    if record["coregistration"] is not None:
        lines.append(f"  co-registration: {_moved(record['coregistration'])}")
    filled = f"{100 * voids['void_share']:.1f} % filled"
    lines.append(f"  voids: {filled}; {voids['implausible']} implausible heights taken out")
    lines += [f"  RPCs: {line}" for line in _ties(record)]
    if (trust := record.get("trusted")) is not None:
        share = f"{100 * trust['left_out']:.1f} % of the heights are left out of training"
        lines.append(f"  quality layers ({', '.join(trust['ranges'])}): {share}")
    apart = record["initial_minus_reference"]
    if apart is not None and apart["median_m"] is not None:
        figures = f"median {apart['median_m']:+.2f} m, MAE {apart['mae_m']:.2f} m"
        lines.append(f"  initial minus reference DSM: {figures}")
    return [*lines, f"to refine: resdepth refine {folder}"]


def _moved(found: Mapping[str, Any]) -> str:
    motion, before, after = found["motion"], found["before"], found["after"]
    return (
        f"the {found['moved']} moves {motion['east_m']:+.2f} m east, {motion['north_m']:+.2f} m north and "
        f"{motion['up_m']:+.2f} m up; median difference {before['median_m']:+.2f} m before and "
        f"{after['median_m']:+.2f} m after, NMAD {before['nmad_m']:.2f} and {after['nmad_m']:.2f} m"
    )


def _ties(record: Mapping[str, Any]) -> list[str]:
    if record["tie_points"] is None:
        return []
    lines = []
    names = [view["name"] for view in record["views"]]
    for before, after in zip(record["tie_points"]["before"], record["tie_points"]["after"], strict=False):
        apart, left = (hypot(one["east_m"], one["north_m"]) for one in (before, after))
        pair = f"{names[before['first']]} and {names[before['second']]}"
        lines.append(f"{pair} lie {apart:.2f} m apart, {left:.2f} m after ({after['count']} tie points)")
    if record["tie_points"].get("term") == "affine":
        lines.append(f"an affine term was taken out of each{_left(record['tie_points']['left_out_m'])}")
    return lines


def _left(left: Mapping[str, float] | None) -> str:
    """What shifts and affine terms leave at tie points that they were not fitted to."""
    if left is None:
        return ""
    return f"; at other tie points it leaves {left['affine']:.2f} m, a shift {left['shift']:.2f} m"


def write_prepared_page(folder: DatasetFolder, record: Mapping[str, Any]) -> list[Path]:
    """A page to look at; none where what draws it is not installed."""
    if find_spec("jinja2") is None or find_spec("plotly") is None or find_spec("matplotlib") is None:
        return []
    from resdepth.report.page import quick_looks, write_page
    from resdepth.report.plots import write_sky_plot

    with quick_looks(prepared_content(folder.path, record)) as content:
        write_page(folder.path / PAGE, content)
    directions = _directions(record)
    if not directions:
        return [folder.path / PAGE]
    pairs = [(pair["first"], pair["second"]) for pair in record["pairs"]]
    known = [pair for pair in pairs if {*pair} <= directions.keys()][:SHOWN_PAIRS]
    return [folder.path / PAGE, write_sky_plot(folder.path / SKY, directions, known, _suns(record))]


def _directions(record: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Azimuth and incidence, degrees, of the views whose geometry is known."""
    found = {view["name"]: from_tags({TAG: json.dumps(view["geometry"])}) for view in record["views"]}
    return {name: (one.azimuth_deg, one.incidence_deg) for name, one in found.items() if one is not None}


def _suns(record: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Azimuth and elevation of the sun, degrees, of the views of which they are known."""
    return {view["name"]: tuple(view["sun"]) for view in record["views"] if view.get("sun")}


def prepared_content(folder: Path, record: Mapping[str, Any]) -> "PageContent":
    """What there is to show of a data set that was prepared.

    Args:
        folder: of it.
        record: what its prepare.json holds.

    Raises:
        ResDepthError: if a raster cannot be read.
    """
    from resdepth.report.page import PageContent, reading
    from resdepth.report.page_tables import Table

    place = DatasetFolder(folder)
    surfaces = {"Initial DSM": reading(place.initial, "average")}
    if place.reference.is_file():
        surfaces["Reference DSM"] = reading(place.reference, "average")
    images = [view["name"] for view in record["views"]][:SHOWN_IMAGES]
    masks = {name: reading(place.mask(name), "nearest", "mask") for name in record["masks"]}
    return PageContent(
        title=f"Prepared data set {folder.resolve().name}",
        lead="What came onto one grid. Compare the ortho-images: they show the same at the same pixel where "
        "the heights are right.",
        grid=read_header(place.initial).grid,
        surfaces=surfaces,
        reference="Reference DSM" if len(surfaces) > 1 else None,
        images={name: reading(place.ortho_image(name), "average", "stored") for name in images},
        masks=masks,
        tables=[Table(caption, rows) for caption, rows in _tables(record).items()],
        facts=_facts(record),
    )


def _tables(record: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Co-registration, views and pairs as rows of text, head first."""
    tables: dict[str, list[list[str]]] = {}
    if (found := record["coregistration"]) is not None:
        motion = found["motion"]
        rows = [["Moved by", "east [m]", "north [m]", "up [m]"]]
        rows.append([found["moved"], *(f"{motion[key]:+.2f}" for key in ("east_m", "north_m", "up_m"))])
        tables["Co-registration"] = rows
        rows = [["Initial minus reference DSM", "median [m]", "NMAD [m]", "MAE [m]"]]
        for name in ("before", "after"):
            figures = (found[name][key] for key in ("median_m", "nmad_m", "mae_m"))
            rows.append([name, *(_figure(one) for one in figures)])
        tables["Before and after"] = rows
    if record["views"]:
        rows = [["View", "azimuth [deg]", "incidence [deg]", "shows [%]", "hidden [%]"]]
        for view in record["views"]:
            angles = _directions(record).get(view["name"], (None, None))
            shares = (None if share is None else 100 * share for share in (view["seen"], view["hidden"]))
            rows.append([view["name"], *(_figure(one) for one in (*angles, *shares))])
        tables["Views"] = rows
    if record["pairs"]:
        rows = [["Pair", "score", "intersection [deg]", "base to height", "agreement", "why"]]
        keys = ("score", "intersection_deg", "base_to_height", "agreement")
        rows += [
            [f"{pair['first']} + {pair['second']}", *(_figure(pair[key]) for key in keys), pair["reasons"]]
            for pair in record["pairs"][:SHOWN_PAIRS]
        ]
        tables["Pairs, the best first"] = rows
    return tables


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    grid, datum, voids = record["grid"], record["datum"], record["voids"]
    asked = record["request"]
    facts = {
        "Initial DSM": asked["dsm"] or "matched from the images",
        "Reference DSM": asked["reference"] or "none",
        "Grid": f"{grid['height']} x {grid['width']} pixels of {grid['gsd_m']:g} m, {grid['crs']}",
        "Heights count from": datum["data_set"],
        "Voids": f"{100 * voids['void_share']:.1f} % filled, {voids['implausible']} implausible heights",
        "resdepth": record["resdepth"],
    }
    facts |= {f"Grid, change {number}": change for number, change in enumerate(grid["changes"], 1)}
    return facts | {f"RPCs {number}": line for number, line in enumerate(_ties(record), 1)}
