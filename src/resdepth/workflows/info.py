"""What a model expects, and what a raster is: in words for people, in numbers for programs."""

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from resdepth.data.arrays import look_for_undeclared
from resdepth.errors import ResDepthError
from resdepth.evaluation.result import plain
from resdepth.geo.raster import FileBand, Header, read_header, read_tags
from resdepth.models.model import Model
from resdepth.models.pretrained import BUNDLED
from resdepth.models.published import load_model, looks_like_a_name
from resdepth.refinement.compatibility import trained_gsd, trained_gsd_range
from resdepth.refinement.provenance import TAG, Moved
from resdepth.runtime.paths import why_no_file

Facts = dict[str, Any]

OUR_TAG = "RESDEPTH_"


def about(path: Path) -> Facts:
    """The facts of a raster or a model: a file, a run folder, or the name of a bundled one.

    Raises:
        ResDepthError: if it is neither.
    """
    return about_model(load_model(path)) if _is_model(path) else about_raster(path)


def values_of(path: Path) -> Facts:
    """The same for programs: numbers as numbers, None for what is not known; names end in their units.

    Raises:
        ResDepthError: as `about`.
    """
    values = _values_of_model(load_model(path)) if _is_model(path) else _values_of_raster(path)
    stated: Facts = plain(values)
    return stated


def _is_model(path: Path) -> bool:
    """Whether a path names a model; else it is that of a raster.

    Raises:
        ResDepthError: if it is neither.
    """
    named = (f"{path}" in BUNDLED and not path.exists()) or looks_like_a_name(path)
    if path.suffix == ".safetensors" or path.is_dir() or named:
        return True
    if reason := why_no_file(path):
        raise ResDepthError(f"{path}: {reason}")
    return False


def _values_of_model(model: Model) -> Facts:
    architecture, constants, known = model.architecture, model.normalization, model.provenance
    gsd = trained_gsd(model)
    datasets = known.get("datasets")
    return {
        "kind": "model",
        "network": architecture.name,
        "input_channels": architecture.input_channels,
        "depth": architecture.depth,
        "start_kernel": architecture.network.start_kernel,
        "parameters": sum(value.numel() for value in model.weights.values()),
        "uses_dsm": architecture.inputs.uses_dsm,
        "raw_images": architecture.inputs.matched,
        "views": None if architecture.inputs.matched else architecture.inputs.n_views,
        "knows_error": architecture.knows_error,
        "gsd_range_m": [gsd, gsd] if gsd else trained_gsd_range(model),
        "tile_px": known.get("tile_size"),
        "halo_px": architecture.halo_px,
        "height_sigma_m": constants.height_sigma,
        "image_mean": constants.image_mean,
        "image_std": constants.image_std,
        "datasets": datasets if isinstance(datasets, list) else [],
        "epoch": known.get("epoch"),
        "validation_loss_m": known.get("loss_val"),
        "resdepth": known.get("resdepth"),
    }


def _values_of_raster(path: Path) -> Facts:
    header = read_header(path)
    grid, tags = header.grid, read_tags(path)
    moved, facts = Moved.from_tags(tags), about_raster(path)
    doubts = [facts[name] for name in ("map", "suspicious") if name in facts]
    unit = None
    try:
        unit = header.unit if "unit of heights" in facts else None
    except ResDepthError as error:
        doubts.append(str(error))
    is_nan = header.nodata is not None and isnan(header.nodata)
    return {
        "kind": "raster",
        "height": grid.height,
        "width": grid.width,
        "pixel_height_m": grid.sides_m.height,
        "pixel_width_m": grid.sides_m.width,
        "transform": grid.transform,
        "crs": grid.crs_name,
        "bounds": grid.bounds,
        "dtype": header.dtype,
        "bands": header.bands,
        "nodata": "nan" if is_nan else header.nodata,
        "unit_of_heights": None if unit is None else unit.name,
        "doubts": doubts,
        "moved": None if moved is None else {"heights": moved.heights, "percent": moved.shares},
        "tags": {name: value for name, value in tags.items() if name.startswith(OUR_TAG)},
    }


def _pixel_size(model: Model) -> str:
    """Of the training, one or a range."""
    if gsd := trained_gsd(model):
        return f"{gsd:.3g} m"
    if sizes := trained_gsd_range(model):
        return f"{sizes[0]:g} to {sizes[1]:g} m"
    return "unknown"


def about_model(model: Model) -> Facts:
    """What a model is, and which rasters it wants."""
    architecture, constants = model.architecture, model.normalization
    inputs = architecture.inputs
    tile = model.provenance.get("tile_size")
    images = "what raw images show, if there are any" if inputs.matched else f"{inputs.n_views} images"
    seen = (["the DSM"] if inputs.uses_dsm else []) + ([images] if inputs.n_views else [])
    parameters = sum(value.numel() for value in model.weights.values())
    facts: Facts = {
        "what": "model",
        "network": f"{architecture.name} ({architecture.input_channels}), depth {architecture.depth}, "
        f"{architecture.network.start_kernel} filters, {parameters:,} numbers",
        "sees": " and ".join(seen),
        "pixel size": _pixel_size(model),
        "tile of its training": f"{tile} px" if tile else "unknown",
        "looks": f"up to {architecture.halo_px} px beyond an area",
        "height sigma": f"{constants.height_sigma:.3f} m",
    }
    if inputs.n_views and constants.image_mean is not None and constants.image_std is not None:
        facts["grey values"] = f"{constants.image_mean:.1f} ± {constants.image_std:.1f}"
    datasets = model.provenance.get("datasets")
    if isinstance(datasets, list) and datasets:
        names = [str(one.get("name")) for one in datasets if isinstance(one, dict)]
        facts["trained on"] = f"{', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
    for key, label in (("epoch", "epoch"), ("loss_val", "validation loss"), ("resdepth", "made by resdepth")):
        if key in model.provenance:
            facts[label] = model.provenance[key]
    if tuned := _tuned(model.provenance.get("finetuned")):
        facts["tuned"] = tuned
    return facts


def _tuned(stated: Any) -> str | None:
    """From what and on what a model was tuned, if it was."""
    try:
        before, after = (float(stated["errors_held_out"][name]["mae_m"]) for name in ("before", "after"))
        return (
            f"from {stated['from']} on {stated['dsm']}: MAE {before:.3f} to {after:.3f} m in cells held out"
        )
    except (KeyError, TypeError, ValueError):
        return None


def about_raster(path: Path) -> Facts:
    """What a raster is: its header, and whether a sample of its pixels looks like undeclared voids."""
    header = read_header(path)
    grid = header.grid
    west, south, east, north = grid.bounds
    facts: Facts = {
        "what": "raster",
        "size": f"{grid.height} x {grid.width} px, {grid.height * grid.width / 1e6:.4g} Mpx",
        "pixel size": f"{grid.sides_m} m",
        "CRS": grid.crs_name,
        "covers": f"{west:.10g} {south:.10g} {east:.10g} {north:.10g} (xmin ymin xmax ymax)",
        "values": f"{header.dtype}, {header.bands} band{'s' if header.bands > 1 else ''}",
        "nodata": "none" if header.nodata is None else f"{header.nodata:.10g}",
    }
    if grid.stretched:
        facts["map"] = grid.stretched
    is_grey = not header.is_of_heights_first or np.dtype(header.dtype).kind == "u"
    if not is_grey:
        facts |= _about_heights(header)
    ours = {name: value for name, value in read_tags(path).items() if name.startswith(OUR_TAG)}
    if moved := Moved.from_tags(ours):
        del ours[TAG]
        shares = moved.shares.items()
        facts |= {f"heights moved by more than {name}": f"{share:.2f} %" for name, share in shares}
    for name, value in ours.items():
        facts[name.removeprefix(OUR_TAG).lower().replace("_", " ")] = value
    return facts


def _about_heights(header: Header) -> Facts:
    """The unit of heights, and whether some of them look like undeclared voids."""
    try:
        unit = header.unit
    except ResDepthError as error:
        return {"unit of heights": str(error).removeprefix(f"{header.path}: ")}
    look = look_for_undeclared(FileBand(header.path))
    facts: Facts = {"unit of heights": "not stated; metres are taken" if unit is None else unit.name}
    return facts | {"suspicious": look.question} if look.question else facts
