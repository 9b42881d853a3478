"""What a model is shown of a DSM and images, once both are examined: images, or what is measured in them."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

from resdepth.data.scene import Scene, ViewSet, scene_of
from resdepth.diagnosis.findings import Finding
from resdepth.diagnosis.quick import quick_files
from resdepth.errors import Interrupted, ResDepthError
from resdepth.geo.geotiff import refuse_inputs_as_outputs
from resdepth.geo.objects import HOW_TO_PLACE, UNPLACED, Placed
from resdepth.geo.windows import Window
from resdepth.models.model import Model
from resdepth.models.pretrained import DSM_ALONE
from resdepth.models.published import load_model
from resdepth.refinement.compatibility import Findings, examine, examine_images, noise_of, stated_gsd
from resdepth.workflows._measured import are_raw, remove_measured, shown_to_fusion
from resdepth.workflows._refine_request import (
    Pairs,
    Region,
    listed_pairs,
    refuse_images,
    view_sets_of,
    window_of,
)

logger = logging.getLogger(__name__)

MEASURED = ".measured"
"""Added to the name of an output: the folder of what is measured in images for it."""
EXAMINED = ("duplicated_image", "images_do_not_match", "empty_image")
"""What `examine_images` refuses in its own words."""
MANY_IMAGES = 6
"""Of more, only those that follow each other are compared."""


@dataclass(frozen=True)
class Shown:
    """What a model is shown.

    Attributes:
        model: with its unit of height, where rasters decide it.
        scene: DSM and what is shown beside it.
        view_sets: what is shown together.
        made_from: raw or ortho-images, where the model is shown what was made from them.
        findings: of a look at model and rasters before anything was measured; None: still to be looked at.
        beyond: a model for what no image shows.
    """

    model: Model
    scene: Scene
    view_sets: tuple[ViewSet, ...]
    made_from: tuple[Path, ...] = ()
    findings: Findings | None = None
    beyond: Model | None = None


@contextmanager
def shown_to(
    model: Model, rasters: Placed, pairs: Pairs | None, region: Region | None, *,
    output: str | Path | None, force: bool,
) -> Iterator[Shown]:  # fmt: skip
    """What a model is shown: images as they are, or what is measured in them.

    Raises:
        Unsuitable: if images that are to be measured are no use, unless forced.
    """
    dsm, *images = rasters.rasters.values()
    if output is not None and not isinstance(dsm, str | Path):
        raise ResDepthError(f"output: {UNPLACED}; {HOW_TO_PLACE}, or a path as dsm")
    gsd, nodata = rasters.placement.gsd, rasters.placement.nodata
    if not model.architecture.inputs.matched:
        refuse_images(model, len(images))
        scene = scene_of(dsm, images, gsd=gsd, nodata=nodata)
        if model.architecture.suits_any_sensor:
            model = model.for_noise(noise_of(scene, gsd))
        yield Shown(model, scene, view_sets_of(model, scene, pairs))
        return
    folder = None if output is None else Path(f"{output}{MEASURED}")
    made_from = tuple(Path(image) for image in images if isinstance(image, str | Path))
    if output is not None:
        refuse_inputs_as_outputs([Path(str(dsm)), *made_from], [Path(output)])
    numbers = listed_pairs(Path(pairs), made_from) if isinstance(pairs, str | Path) else pairs
    surface = scene_of(dsm, [], gsd=gsd, nodata=nodata)
    part = None if region is None else window_of(surface, region)
    fits = examine(model, surface, ((),), part or surface.grid.whole, gsd or stated_gsd(surface))
    findings = stated(model, fits.and_also(_looked_at(model, rasters, numbers, part)), force=force)
    try:
        seen = shown_to_fusion(dsm, images, pairs=numbers, gsd=gsd, nodata=nodata, region=part, folder=folder)
        with seen as found:
            noise = noise_of(found.scene, gsd)
            constants = replace(model.normalization, height_sigma=found.unit_m)
            fitted = replace(model.for_noise(noise), normalization=constants)
            beyond = load_model(DSM_ALONE).for_noise(noise) if images else None
            yield Shown(fitted, found.scene, found.view_sets, made_from, findings, beyond)
    except KeyboardInterrupt as stopped:
        resumes = "" if folder is None else "; give the same command again to resume"
        raise Interrupted(f"stopped by Ctrl-C{resumes}") from stopped
    if folder is not None:
        remove_measured(folder)


def _looked_at(
    model: Model, rasters: Placed, pairs: Sequence[Sequence[int]] | None, part: Window | None
) -> Findings:
    """What makes images useless that are to be measured; what else is wrong with them is logged.

    What cannot be read is stated by whoever measures.
    """
    dsm, *images = rasters.rasters.values()
    if not images:
        return Findings()
    if isinstance(dsm, str | Path):
        paths = [Path(image) for image in images]
        with suppress(ResDepthError):
            found = quick_files(Path(dsm), paths, part)
            warn_of(one for one in found if one.kind not in EXAMINED)
            if are_raw(Path(dsm), paths):
                return Findings(tuple(f"images: {one.stated}" for one in found if one.kind in EXAMINED))
            return _of_ortho_images(model, Scene.open(dsm, paths), pairs, part)
        return Findings()
    scene = scene_of(dsm, images, gsd=rasters.placement.gsd, nodata=rasters.placement.nodata)
    return _of_ortho_images(model, scene, pairs, part)


def _of_ortho_images(
    model: Model, scene: Scene, pairs: Sequence[Sequence[int]] | None, part: Window | None
) -> Findings:
    views = sorted(scene.views)
    among = pairwise(views) if len(views) > MANY_IMAGES else combinations(views, 2)
    sets = [tuple(pair) for pair in pairs or among] or [tuple(views)]
    return examine_images(model, scene, sets, part or scene.grid.whole)


def stated(model: Model, findings: Findings, *, force: bool) -> Findings:
    """The same, logged.

    Raises:
        Unsuitable: if anything does not fit, unless forced.
    """
    for left_out in findings.left_out:
        logger.info("not compared: %s", left_out)
    if not force:
        findings.refuse_misfits(model)
    for misfit in findings.misfits:
        logger.warning("%s", misfit)
    return findings


def warn_of(findings: Iterable[Finding]) -> None:
    """Log what the quick part of the doctor has found in the images."""
    for one in findings:
        logger.warning("%s", one.stated)
