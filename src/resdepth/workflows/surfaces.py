"""Refining and judging single surfaces from Python: arrays or files in, arrays and figures out."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from resdepth.checkpoint import Model
from resdepth.config import DEFAULT_TILE_SIZE, Device
from resdepth.engine import Refiner, choose_device
from resdepth.errors import ResDepthError
from resdepth.evaluation import Evaluation, object_classes, statistics_per_class
from resdepth.published import load_model
from resdepth.raster import Array, new_geotiff
from resdepth.refinement import refine_region
from resdepth.rules import smallest_tile
from resdepth.scene import MASKS, Scene

logger = logging.getLogger(__name__)

Surface = Array | str | Path


def refine(
    dsm: Surface,
    images: Sequence[Surface] = (),
    model: Model | str | Path | None = None,
    *,
    tile_size: int | None = None,
    device: Device = "auto",
    output: str | Path | None = None,
) -> Array:
    """Refine a DSM with a trained model.

    Args:
        dsm: the initial DSM: (H, W) array in metres or a path; without voids.
        images: ortho-images on the DSM's grid, as many as the model takes: (H, W) arrays of grey values
            (NaN = void), or paths.
        model: a model, or the path of one: a .safetensors file or a run folder.
        tile_size: side of the tiles; by default that of the model's training.
        device: "auto", "cpu", "cuda" or "mps".
        output: also write the result to this GeoTIFF (needs a `dsm` path, for its georeference).

    Returns:
        (H, W) float32, metres.

    Raises:
        ResDepthError: if the images do not fit the model or the DSM, or the DSM has voids or is too small.
    """
    if model is None:
        raise ResDepthError("model: give a trained model, or its path")
    trained = model if isinstance(model, Model) else load_model(model)
    inputs = trained.architecture.inputs
    if len(images) != inputs.n_views:
        raise ResDepthError(f"images: found {len(images)}; this model takes {inputs.n_views}")
    scene = _scene(dsm, images)
    if output is not None and scene.dsm_path is None:
        raise ResDepthError("output: needs a path as dsm, from which the georeference is taken")
    tile = _tile_of(trained) if tile_size is None else tile_size
    smallest = smallest_tile(trained.architecture.depth)
    if tile & (tile - 1) or tile < smallest:
        raise ResDepthError(f"tile_size: found {tile}; must be a power of two and at least {smallest}")
    if min(scene.grid.whole.shape) < tile:
        height, width = scene.grid.whole.shape
        raise ResDepthError(f"dsm: {height} x {width} pixels are smaller than a tile; tile_size is {tile}")
    refiner = Refiner(trained, device=choose_device(device))
    refined = np.empty(scene.grid.whole.shape, dtype=np.float32)
    strips = refine_region(scene, tuple(range(len(images))), scene.grid.whole, refiner, tile)
    with nullcontext() if output is None else new_geotiff(Path(output), scene.grid) as file:
        for strip in strips:
            refined[strip.row : strip.row + len(strip.values)] = strip.values
            if file is not None:
                file.write(strip.row, strip.values)
    return refined


def _tile_of(model: Model) -> int:
    """The tile size that a model was trained with."""
    if "tile_size" not in model.provenance:
        logger.warning(
            "%s does not tell the tile size of its training; taking %d", model.source, DEFAULT_TILE_SIZE
        )
    return int(model.provenance.get("tile_size", DEFAULT_TILE_SIZE))


def evaluate(
    refined: Surface,
    truth: Surface,
    *,
    initial: Surface | None = None,
    masks: Mapping[str, Surface] | None = None,
    gsd: float = 1.0,
    threshold: float | None = None,
) -> Evaluation:
    """Judge a surface against the truth.

    Args:
        refined: the surface: (H, W) array in metres, NaN = void, or a path.
        truth: the true surface on the same grid.
        initial: the surface before refinement, judged as well.
        masks: by name (ground_truth, building, water, forest); the value 1 sets a mask.
        gsd: side of a pixel in metres, for arrays; files know it.
        threshold: leave out residuals above this many metres.

    Returns:
        Figures per class of objects.

    Raises:
        ResDepthError: if the surfaces lie on different grids.
    """
    given = dict(masks or {})
    unknown = sorted(set(given) - set(MASKS))
    if unknown:
        raise ResDepthError(f"masks: unknown name {', '.join(unknown)}; known: {', '.join(MASKS)}")
    scene = _scene(refined, [] if initial is None else [initial], truth=truth, masks=given, gsd=gsd)
    window = scene.grid.whole
    assert scene.truth is not None, "given above"
    known = scene.truth.read(window)
    read = {name: scene.read_mask(name, window) for name in given}
    if "ground_truth" in read:
        known[~read.pop("ground_truth")[0]] = np.nan
    classes = object_classes(window.shape, read)
    before = None
    if initial is not None:
        before = statistics_per_class(scene.views[0].read(window) - known, classes, threshold)
    after = statistics_per_class(scene.dsm.read(window) - known, classes, threshold)
    return Evaluation(after, before, scene.grid.pixel_area)


def _scene(
    dsm: Surface,
    images: Sequence[Surface],
    *,
    truth: Surface | None = None,
    masks: Mapping[str, Surface] | None = None,
    gsd: float = 1.0,
) -> Scene:
    surfaces = [dsm, *images, *([] if truth is None else [truth]), *(masks or {}).values()]
    are_paths = {isinstance(surface, str | Path) for surface in surfaces}
    if len(are_paths) > 1:
        raise ResDepthError("give either arrays or paths, not a mixture: arrays have no georeference")
    if are_paths == {True}:
        return Scene.open(dsm, images, truth=truth, masks=masks)  # type: ignore[arg-type] # all are paths
    return Scene.of_arrays(dsm, images, truth=truth, masks=masks, gsd=gsd)  # type: ignore[arg-type]
