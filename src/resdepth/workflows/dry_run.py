"""What a long job would do, before it is started: sizes, blocks, files, disk and memory. Nothing is written.

Inputs are opened as the job opens them, so most of what it would refuse at its start is refused here. What
only the work itself shows (which pairs are useful, how well images agree) stays open.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import torch

from resdepth.config.rules import patches_wanted
from resdepth.data.dataset_folder import DatasetFolder
from resdepth.data.scene import Scene
from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs
from resdepth.geo.geotiff import refuse_inputs_as_outputs
from resdepth.geo.grid import Grid
from resdepth.geo.raster import read_header
from resdepth.geo.reprojected import MapBand
from resdepth.geo.windows import Window
from resdepth.models.model import build_network
from resdepth.models.pretrained import default_model
from resdepth.models.published import load_model
from resdepth.preparation import request as preparation
from resdepth.preparation.grid import chosen_grid
from resdepth.refinement.blocks import Work, block_counts_of, blocks_of
from resdepth.refinement.engine import Refiner, choose_device, choose_precision
from resdepth.refinement.job import Results
from resdepth.simulate.plan import SimulateConfig, days, directions
from resdepth.stereo.ortho import RawImage, has_rpc
from resdepth.stereo.pairs import heights_of
from resdepth.workflows._measured import are_raw
from resdepth.workflows._refine_request import (
    checked_tile,
    error_kept,
    listed_pairs,
    refuse_images,
    view_sets_of,
    window_of,
)
from resdepth.workflows.check import plan_test, plan_training
from resdepth.workflows.match import LEAST_IMAGES, grid_to_match, heights_to_match
from resdepth.workflows.prepare import POINT_CLOUDS, run_request

Facts = list[tuple[str, str]]
"""What would be done, name and text, in the order of reading."""

OVERVIEWS = 4 / 3
NO_IMAGES = "none: the DSM alone"
"""Of a raster with all its overviews: how much larger it is."""
MEASURED_LAYERS, SURROUNDINGS_PX = 5, 256
OPTIMIZER_COPIES = {"Adam": 3, "SGD": 1}
"""Numbers of a checkpoint for each of the network."""
HEIGHT_BYTES, GREY_BYTES, MASK_BYTES = 4, 2, 1


def size_text(count: float) -> str:
    """Bytes as people write them: "about 12 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"about {count / factor:.3g} {unit}"
    return f"about {count:.0f} bytes"


def _pixels(grid: Grid) -> str:
    return f"{grid.height} x {grid.width} px of {grid.sides_m} m, {grid.crs_name or 'no CRS'}"


def _written(paths: Iterable[Path]) -> Facts:
    """The outputs, and which of them are there already."""
    facts: Facts = []
    for path in paths:
        there = "; exists already" if os.path.lexists(path) else ""
        facts.append(("writes", f"{path}{there}"))
    return facts


def refine_facts(
    dsm: Path, images: Sequence[Path], output: Path, *, report: bool, options: Mapping[str, Any]
) -> Facts:
    """What `refine` would do.

    Args:
        dsm: the initial DSM.
        images: raw or ortho-images.
        output: the refined DSM.
        report: whether a page is asked for.
        options: of the command, by the names of its parameters.

    Raises:
        ResDepthError: what the job would refuse at its start.
    """
    model = load_model(options["model"] or default_model(with_images=bool(images)))
    refuse_images(model, len(images))
    matched, fuse = model.architecture.inputs.matched, options["fuse"]
    scene = Scene.open(dsm, [] if matched else images)
    window = window_of(scene, options["region"] or None)
    tile = checked_tile(model, options["tile_size"], window, options["mode"])
    device = choose_device(options["device"])
    refiner = Refiner(model, device=device, precision=choose_precision(options["precision"], device))
    pairs = options["pairs"]
    if matched:
        kind = "raw images" if images and are_raw(dsm, images) else "ortho-images"
        seen = f"{len(images)} {kind}" if images else NO_IMAGES
        sets = len(listed_pairs(pairs, images)) if pairs else None
    else:
        seen, sets = f"{len(images)} ortho-images", len(view_sets_of(model, scene, pairs))
        if not images:
            seen, sets = NO_IMAGES, None
    with_error = error_kept(model, options["mode"], fuse, uncertainty=options["uncertainty"], by_default=True)
    work = Work(scene, window, ((),), options["mode"], tile)
    down, right = block_counts_of(work, refiner)
    block = next(iter(blocks_of(work, refiner)))
    outputs = (sets or 1) if fuse is None else 1
    spreads = fuse is not None and (sets is None or sets > 1) and len(images) > LEAST_IMAGES
    bands = 1 + with_error + spreads
    results = Results(output)
    refuse_inputs_as_outputs([dsm, *images], results.files)
    _demand_folder(output.parent)
    stated = window.area * (HEIGHT_BYTES * bands + MASK_BYTES) * OVERVIEWS * outputs
    facts: Facts = [
        ("would refine", f"{dsm}: {_pixels(scene.grid)}"),
        *([] if window == scene.grid.whole else [("region", f"{window.height} x {window.width} px of it")]),
        ("model", model.source),
        ("images", seen),
        ("pairs", str(sets) if sets is not None else "chosen from the images" if images else "none"),
        ("mode", f"{options['mode']}, on {device}"),
        ("blocks", f"{down * right} ({down} x {right}), of {block.height} x {block.width} px"),
        ("memory", f"{size_text(_near(work, block, refiner).area * refiner.bytes_per_pixel)} for the network"
                   + (f", in each of {options['workers']} processes" if options["workers"] > 1 else "")),
        ("disk", f"{size_text(stated)} before compression ({bands} bands, overviews)"),
    ]  # fmt: skip
    if matched and images:
        near = window.grown(SURROUNDINGS_PX, within=scene.grid.whole)
        each = size_text(near.area * HEIGHT_BYTES * MEASURED_LAYERS)
        facts.append(("disk meanwhile", f"{each} for each pair in {output}.measured"))
    if outputs > 1:
        return [*facts, ("writes", f"{outputs} rasters beside {output}, one for each set of images")]
    return facts + _written([*results.rasters, *([results.report] if report else [])])


def _near(work: Work, block: Window, refiner: Refiner) -> Window:
    """What the network looks at for a block."""
    return block.grown(refiner.model.architecture.halo_px, within=work.scene.grid.whole)


def _demand_folder(folder: Path) -> None:
    if not folder.resolve().is_dir():
        raise ResDepthError(f"{folder}: there is no such folder")


def train_facts(config: Path, *, resumed: bool = False) -> Facts:
    """What `train` would do.

    Args:
        config: the configuration; that of the run folder if `resumed`.
        resumed: whether a run continues.

    Raises:
        InputProblems: everything that is wrong.
    """
    plan = plan_training(config, resumed=resumed)
    settings, general, output = plan.config.training_settings, plan.config.general, plan.config.output
    with torch.device("meta"):
        parameters = sum(one.numel() for one in build_network(plan.network).parameters())
    facts: Facts = [
        ("would train", f"{plan.network.name} ({plan.network.input_channels}), {parameters:,} numbers"),
        ("on", str(choose_device(general.device))),
    ]
    training = held = 0
    for index, area in enumerate(plan.areas):
        sets = len(area.train_sets) if plan.config.stereopair_settings.use_all_stereo_pairs else 1
        drawn = patches_wanted(plan.config, index) * max(sets, 1) if area.train else 0
        training += drawn
        held += scene_bytes(area.scene)
        facts.append(
            (
                "data set",
                f"{area.scene.name}: {_pixels(area.scene.grid)}; {drawn:,} samples to train with"
                f"{', validates' if area.val else ''}",
            )
        )
    steps = ceil(training / settings.batch_size)
    memory = general.memory_gb * 1e9
    checkpoint = parameters * HEIGHT_BYTES * OPTIMIZER_COPIES[plan.config.optimizer.name]
    kept = settings.n_epochs // general.save_model_rate + 2
    return [
        *facts,
        ("epochs", f"{settings.n_epochs:,} of {steps:,} steps with {settings.batch_size} tiles of "
                   f"{settings.tile_size} px"),
        ("memory", f"{size_text(min(held, memory))} for rasters, of {size_text(held)} in all"),
        ("disk", f"up to {kept} checkpoints of {size_text(checkpoint)}"),
        ("writes", f"a run folder in {output.output_directory}"),
        ("writes", f"TensorBoard events in {output.tboard_log_dir}"),
    ]  # fmt: skip


def scene_bytes(scene: Scene) -> int:
    """What the rasters of a scene take in memory."""
    rasters = 1 + (scene.reference is not None)
    return scene.grid.whole.area * HEIGHT_BYTES * (rasters + len(scene.views))


def test_facts(config: Path) -> Facts:
    """What `test` would do.

    Raises:
        InputProblems: everything that is wrong.
    """
    plan = plan_test(config)
    general = plan.config.general
    facts: Facts = [
        ("would refine with", plan.network.source),
        ("mode", f"{general.mode}, on {choose_device(general.device)}, tiles of {general.tile_size} px"),
    ]
    disk = 0
    for area in plan.areas:
        folder = Path(plan.config.output.directory) / area.scene.name
        pixels, sets = sum(one.area for one in area.test), len(area.test_sets)
        disk += pixels * sets * HEIGHT_BYTES * (1 + (area.scene.reference is not None))
        evaluated = "; evaluated" if area.scene.reference is not None else ""
        facts.append(("data set", f"{area.scene.name}: {_pixels(area.scene.grid)}"))
        facts.append(
            ("", f"{len(area.test)} regions, {pixels / 1e6:.3g} Mpx, {sets} sets of images{evaluated}")
        )
        facts += _written([folder])
    return [*facts, ("disk", size_text(disk))]


test_facts.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def simulate_facts(source: str, folder: Path, config: SimulateConfig) -> Facts:
    """What `simulate` would do.

    Raises:
        ResDepthError: if a source that is a raster cannot be read, or the folder holds something else.
    """
    views, dates, sensor = directions(config), days(config), config.sensor
    facts: Facts = [("seed", str(config.seed))]
    grid = None
    if source == "town":
        gsd, side = config.reference.gsd_m or 0.25, config.town.size_px
        facts.insert(0, ("would simulate", f"a town ({config.town.style}): {side} x {side} px of {gsd:g} m"))
        shape = (side, side)
    else:
        facts.insert(0, ("would simulate", source))
        shape, gsd = None, config.reference.gsd_m or 0.0
        if Path(source).suffix.lower() in {".tif", ".tiff"}:
            grid = read_header(Path(source)).grid
            gsd = config.reference.gsd_m or grid.gsd_m
            scale = grid.gsd_m / gsd
            shape = (round(grid.height * scale), round(grid.width * scale))
            facts.append(("reference DSM", f"{_pixels(grid)}; the scene has {gsd:g} m"))
    facts.append(("images", f"{len(views)} on {len(dates)} dates, of {sensor.gsd_m:g} m at the nadir"))
    facts.append(("matched", f"the best {config.matching.pairs} pairs"))
    if shape is None:
        facts.append(("disk", "known once the file is read"))
    else:
        raw = GREY_BYTES * (gsd / sensor.gsd_m) ** 2
        each = 2 * HEIGHT_BYTES + 5 * MASK_BYTES + len(views) * (GREY_BYTES + raw)
        facts.append(("disk", f"{size_text(shape[0] * shape[1] * each)} before compression"))
    return facts + _folder_facts(folder)


def _folder_facts(folder: Path) -> Facts:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        what = "is not empty: only the same job resumes in it" if folder.is_dir() else "is a file"
        return [("writes", f"{folder}; {what}")]
    return [("writes", f"{folder}, a new folder")]


def prepare_facts(source: Path | None, folder: Path, options: Mapping[str, Any]) -> Facts:
    """What `prepare` would do.

    Args:
        source: the folder of a pipeline run, a request, or None.
        folder: of the data set.
        options: keys that win.

    Raises:
        ResDepthError: what the job would refuse at its start.
    """
    given = run_request(source, options) if source is not None and source.is_dir() else source
    config = preparation.requested(given, options)
    raw = [has_rpc(Path(image)) for image in config.images]
    kind = "raw images" if all(raw) else "ortho-images"
    count = len(config.images)
    facts: Facts = [
        ("would prepare", config.dsm or f"a DSM that is matched from {count} images"),
        ("reference DSM", config.reference or "none"),
        ("images", f"{count} {kind}" if count else "none"),
    ]
    grid = None
    if config.dsm is not None and Path(config.dsm).suffix.lower() not in POINT_CLOUDS:
        band = MapBand(Path(config.dsm), crs=config.dsm_crs)
        crs = None if config.crs is None else find_crs(config.crs)[1]
        grid = chosen_grid(band, crs=crs, gsd_m=config.gsd_m, extent=config.extent).grid
        facts.append(("grid", f"at most {_pixels(grid)}"))
    steps = [("co-registration", config.reference is not None and config.coregister != "none"),
             ("tie points", all(raw) and count > 1 and config.correct_rpcs),
             ("ortho-rectification", all(raw) and count > 0),
             ("changes", config.reference is not None and config.mark_changes)]  # fmt: skip
    facts.append(("steps", ", ".join(["one grid", "voids", *(name for name, wanted in steps if wanted)])))
    if grid is None:
        facts.append(("disk", "known once the DSM is there"))
    else:
        heights = 1 + (config.reference is not None) + len(config.layers)
        each = HEIGHT_BYTES * heights + GREY_BYTES * count + MASK_BYTES * (2 + len(config.masks))
        facts.append(("disk", f"{size_text(grid.whole.area * each)} before compression"))
    return facts + _folder_facts(DatasetFolder(folder).path)


def match_facts(
    images: Sequence[Path],
    output: Path,
    *,
    like: Path | None,
    gsd: float | None,
    heights: tuple[float, float] | None,
) -> Facts:
    """What `match` would do; parameters as of `match_images`.

    Raises:
        ResDepthError: what the job would refuse at its start.
    """
    if len(images) < LEAST_IMAGES:
        raise ResDepthError(f"images: found {len(images)}; heights need at least two, of one place")
    refuse_inputs_as_outputs([*images, *([like] if like else [])], [output])
    _demand_folder(output.parent)
    opened = [RawImage(path) for path in images]
    grid = grid_to_match(opened, like, gsd)
    low, high = heights_to_match(heights) or heights_of([one.rpc for one in opened])
    possible = len(images) * (len(images) - 1) // 2
    return [
        ("would match", f"{len(images)} images, up to {possible} pair{'s' if possible > 1 else ''}"),
        ("DSM", _pixels(grid)),
        ("heights", f"{low:.0f} to {high:.0f} m above the ellipsoid are looked for"),
        ("disk", f"{size_text(grid.whole.area * HEIGHT_BYTES)} before compression"),
        *_written([output]),
    ]
