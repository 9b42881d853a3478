"""Tuning a bundled model to one's own area, from a part of it whose surface is known."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from resdepth.data.scene import Scene
from resdepth.diagnosis.quick import BIASES, quick_surfaces
from resdepth.errors import ResDepthError
from resdepth.geo.geotiff import refuse_existing, refuse_inputs_as_outputs
from resdepth.geo.objects import Placement, placed
from resdepth.geo.windows import Window
from resdepth.models.model import Model, save_model
from resdepth.models.pretrained import default_model
from resdepth.models.published import load_model
from resdepth.options import Device
from resdepth.refinement.engine import choose_device
from resdepth.runtime.progress import Watcher, reported_to
from resdepth.training.finetune import Ground, Tuned, Tuning, tune
from resdepth.version import __version__
from resdepth.workflows._refine_request import Pairs, Region, name_of, refuse_unknown, window_of
from resdepth.workflows._shown import shown_to, warn_of

logger = logging.getLogger(__name__)

STEPS = 100


def finetune(  # noqa: PLR0913 - each is a choice of its own, with a default
    dsm: str | Path, images: Sequence[str | Path] = (), model: Model | str | Path | None = None, *,
    reference: str | Path, output: str | Path, mask: str | Path | None = None, pairs: Pairs | None = None,
    region: Region | None = None, steps: int = STEPS, seed: int = 0, device: Device = "auto",
    overwrite: bool = False, force: bool = False, progress: Watcher | None = None,
) -> Path:  # fmt: skip
    """Tune a bundled model to an area, from a part of it whose surface is known, and write the new model.

    A fifth of the cells of 64 x 64 pixels is held out: their errors decide how far to go from the old weights
    to the new ones. Where that brings less than one percent, no model is written.

    Args:
        dsm: the initial DSM.
        images: raw images with RPCs, or ortho-images, as `refine` takes them.
        model: "fusion", "dsm-alone", or a model that was made of them; by default as of `refine`.
        reference: the reference DSM, on the grid of the DSM. A constant between them is not learned.
        output: the new model, a .safetensors file, for `refine`.
        mask: a raster: 1 where the reference counts.
        pairs: sets of images; see `refine`.
        region: the part to learn from; by default all of it.
        steps: of the optimizer; more take longer, and follow the area more closely.
        seed: decides which cells and patches are drawn.
        device: "auto", "cpu", "cuda" or "mps".
        overwrite: replace an output that is there.
        force: tune although rasters do not fit; what is wrong is then a warning.
        progress: see `refine`.

    Returns:
        The path of the new model.

    Raises:
        InputProblems: if rasters cannot be used.
        Unsuitable: if model and rasters do not fit, unless forced.
        Interrupted: on Ctrl-C or SIGTERM.
        ResDepthError: if too little is known, nothing is gained, or something cannot be read or written.

    Examples:
        >>> import resdepth
        >>> surface = {"reference": "area/reference.tif", "steps": 10}
        >>> resdepth.finetune("area/initial.tif", output="mine.safetensors", **surface)
        PosixPath('mine.safetensors')
        >>> resdepth.refine("area/initial.tif", model="mine.safetensors").shape
        (256, 256)
    """
    refuse_unknown(device=(device, Device))
    output = Path(output)
    if output.suffix != ".safetensors":
        raise ResDepthError(f"{output}: should end in .safetensors")
    if steps < 1:
        raise ResDepthError(f"steps: found {steps}; give 1 or more")
    inputs = [Path(one) for one in (dsm, reference, *images, *([] if mask is None else [mask]))]
    refuse_inputs_as_outputs(inputs, [output])
    refuse_existing([output], overwrite=overwrite)
    chosen = default_model(with_images=bool(images)) if model is None else model
    trained = chosen if isinstance(chosen, Model) else load_model(chosen)
    if not trained.architecture.suits_any_sensor:
        raise ResDepthError(
            f"{name_of(trained)}: only fusion, dsm-alone and models made of them are tuned; others learn on "
            "by `resdepth train` with model.pretrained_path"
        )
    known = Scene.open(dsm, reference=reference, masks={} if mask is None else {"ground_truth": mask})
    tuning = Tuning(steps, seed=seed, device=choose_device(device))
    rasters = {"dsm": dsm, **{f"images[{index}]": image for index, image in enumerate(images)}}
    with (
        reported_to(progress),
        placed(rasters, Placement(), heights={"dsm"}) as given,
        shown_to(trained, given, pairs, region, output=output, force=force) as shown,
    ):
        scene = replace(shown.scene, reference=known.reference, masks=known.masks)
        window = window_of(scene, region)
        _look_at(known, window, force=force)
        ground = Ground(scene, shown.view_sets, window)
        tuned = tune(shown.model, ground, tuning, shown.beyond)
        save_model(_described(trained, tuned, tuning, Path(dsm)), output)
    return output


def _look_at(known: Scene, window: Window, *, force: bool) -> None:
    """Warn of what is wrong between the DSM and its reference, but for a constant.

    Raises:
        ResDepthError: if they do not lie upon each other, unless forced.
    """
    found = [one for one in quick_surfaces(known, [window]) if one.kind not in BIASES]
    faults = [one.stated for one in found if one.severity == "fault"]
    if faults and not force:
        raise ResDepthError(f"the DSM does not fit its reference: {'; '.join(faults)}")
    warn_of(found)


def _described(trained: Model, tuned: Tuned, tuning: Tuning, dsm: Path) -> Model:
    """The new model, for DSMs of any noise and images of any geometry as before, and where it comes from."""
    errors: dict[str, Any] = {
        name: asdict(one)
        for name, one in {"initial": tuned.initial, "before": tuned.before, "after": tuned.after}.items()
    }
    logger.info(
        "in the cells held out: initial DSM %.3f m, %s %.3f m, tuned %.3f m (MAE); %.0f %% of the way",
        tuned.initial.mae_m, name_of(trained), tuned.before.mae_m, tuned.after.mae_m, 100 * tuned.share,
    )  # fmt: skip
    stated = {
        "from": name_of(trained),
        "dsm": dsm.name,
        "resdepth": __version__,
        "cells": len(tuned.cells.learned),
        "cells_held_out": len(tuned.cells.held_out),
        "steps": tuning.steps,
        "seed": tuning.seed,
        "share": tuned.share,
        "errors_held_out": errors,
    }
    provenance = {**trained.provenance, "finetuned": stated}
    return replace(trained, weights=tuned.model.weights, provenance=provenance)
