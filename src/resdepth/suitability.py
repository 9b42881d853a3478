"""Whether a model suits the rasters that it is to refine."""

from collections.abc import Iterator
from statistics import median

import numpy as np

from resdepth.checkpoint import Model
from resdepth.crs import metres_per_unit
from resdepth.scene import Scene
from resdepth.undeclared import look_for_undeclared
from resdepth.windows import Window

GSD_TOLERANCE = 0.2
# Standardised by the training's constants, grey values should have a mean near 0 and a deviation near 1.
LARGEST_MEAN, LARGEST_RATIO = 2.0, 3.0
SAMPLE_PX, SAMPLES_A_SIDE = 256, 3


def trained_gsd(model: Model) -> float | None:
    """The pixel size of the training data in metres, their median; None if the model does not tell."""
    told = model.provenance.get("datasets")
    sizes = [
        one["gsd_m"]
        for one in (told if isinstance(told, list) else [])
        if isinstance(one, dict) and isinstance(one.get("gsd_m"), int | float)
    ]
    return float(median(sizes)) if sizes else None


def misfits(model: Model, scene: Scene) -> list[str]:
    """In words, what makes a good result unlikely; empty if nothing does."""
    found = []
    # Arrays tell no pixel size.
    metres, trained = metres_per_unit(scene.grid.crs) if scene.grid.crs else 1.0, trained_gsd(model)
    gsd = scene.grid.gsd_m
    if metres is None:
        found.append(f"{scene.grid.crs_name} counts in degrees: bring the rasters to a grid in metres first")
    elif trained and scene.dsm_path is not None and abs(gsd / trained - 1) > GSD_TOLERANCE:
        found.append(
            f"the DSM has pixels of {gsd:.3g} m, the model was trained with {trained:.3g} m: what it knows "
            "of roofs and edges does not fit; resample the rasters, or train a model"
        )
    if question := look_for_undeclared(scene.dsm).question:
        found.append(f"{scene.dsm_path or 'dsm'}: {question}")
    constants = model.normalization
    if constants.image_mean is None or not constants.image_std:
        return found
    for index, view in scene.views.items():
        values = np.concatenate([view.read(window).ravel() for window in _samples(scene.grid.whole)])
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        mean = (float(values.mean()) - constants.image_mean) / constants.image_std
        ratio = float(values.std()) / constants.image_std
        if abs(mean) > LARGEST_MEAN or not 1 / LARGEST_RATIO < ratio < LARGEST_RATIO:
            name = scene.image_paths[index].name if index < len(scene.image_paths) else f"image {index}"
            found.append(
                f"{name}: grey values of {values.mean():.4g} ± {values.std():.4g}; the model was trained "
                f"with {constants.image_mean:.4g} ± {constants.image_std:.4g}. Another sensor?"
            )
    return found


def _samples(whole: Window) -> Iterator[Window]:
    """A few windows all over a raster."""
    height, width = min(SAMPLE_PX, whole.height), min(SAMPLE_PX, whole.width)
    for row in np.unique(np.linspace(0, whole.height - height, SAMPLES_A_SIDE, dtype=int)):
        for col in np.unique(np.linspace(0, whole.width - width, SAMPLES_A_SIDE, dtype=int)):
            yield Window(int(row), int(col), height, width)
