"""Judging single surfaces from Python: arrays or files in, figures out."""

from collections.abc import Mapping

import numpy as np

from resdepth.errors import ResDepthError
from resdepth.evaluation import Evaluation, object_classes, statistics_per_class
from resdepth.scene import MASKS
from resdepth.workflows.surfaces import Surface, scene_of


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
    scene = scene_of(refined, [] if initial is None else [initial], truth=truth, masks=given, gsd=gsd)
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
