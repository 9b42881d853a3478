"""How far one raster lies beside another: by the edges of both, or by how slopes are lit."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from resdepth.data.scene import Scene
from resdepth.geo.raster import Array, Band
from resdepth.refinement.compatibility import LEAST_BLOCK_PX, peak_of, phase_correlation, sample_places

# How far the peak of all blocks must stand out from the others, in their standard deviations.
LEAST_PEAK = 10.0
LEAST_SHADED_PEAK = 18.0
EDGE_PERCENT, MOSTLY = 95, 0.8
BLOCK_PX, BLOCKS_A_SIDE = 128, 6
SHADED_PX, SHADED_A_SIDE = 256, 5


def edges_beside(scene: Scene, first: Band, second: Band) -> tuple[float, float] | None:
    """How far the edges of the second raster lie down and to the right of those of the first, in pixels.

    The correlations of blocks all over the area are added up, so that what they have in common stands out;
    up to 64 pixels are found.

    Args:
        scene: its grid is that of both.
        first: heights or grey values.
        second: likewise.

    Returns:
        None if nothing stands out, as in fields and mountains.
    """
    found = _added_up(scene, first, second, BLOCK_PX, BLOCKS_A_SIDE, _edges_of_both)
    return _place_of(found, LEAST_PEAK)


def shading_beside(scene: Scene, surface: Band, image: Band) -> tuple[float, float] | None:
    """How far an image lies down and to the right of a surface, by how slopes are lit; in pixels.

    Where slopes face the sun, an image is bright: it goes with the gradients of the heights, in a proportion
    that is one for the whole area, and is not known. Serves where there are no edges, as in mountains.

    Returns:
        None if nothing stands out.
    """
    found = _added_up(scene, surface, image, SHADED_PX, SHADED_A_SIDE, _shading)
    return _place_of(found, LEAST_SHADED_PEAK)


Correlations = NDArray[np.float64]


def _added_up(
    scene: Scene,
    first: Band,
    second: Band,
    side: int,
    a_side: int,
    compared: Callable[[Array, Array], Correlations],
) -> Correlations | None:
    """(N, side, side) the correlations of blocks all over the area, added up; None without any.

    Blocks of which one raster has a part only are left out: that it lies on another grid is stated elsewhere.
    """
    side = min(side, *scene.grid.whole.shape)
    total: Correlations | None = None
    for place in sample_places(scene.grid.whole, side, a_side) if side >= LEAST_BLOCK_PX else ():
        one, other = first.read(place), second.read(place)
        if one.shape == other.shape and min(np.isfinite(one).mean(), np.isfinite(other).mean()) >= MOSTLY:
            found = compared(one, other)
            total = found if total is None else total + found
    return total


def _place_of(correlations: Correlations | None, least: float) -> tuple[float, float] | None:
    """Where the second lies; None if the peak does not stand out."""
    if correlations is None:
        return None
    surface = np.sqrt(np.square(correlations).sum(axis=0)) if len(correlations) > 1 else correlations[0]
    if surface.max() - surface.mean() < least * surface.std():
        return None
    down, right = peak_of(surface)
    return -down, -right


def _shading(heights: Array, image: Array) -> Correlations:
    """(2, H, W) of the image and the gradient along rows, and along columns."""
    down, right = np.gradient(np.nan_to_num(heights, nan=float(np.nanmean(heights))))
    limit = float(np.percentile(np.hypot(down, right), EDGE_PERCENT))
    return np.stack([phase_correlation(one.clip(-limit, limit), image) for one in (down, right)])


def _edges_of_both(one: Array, other: Array) -> Correlations:
    """(1, H, W)."""
    return phase_correlation(_edges(one), _edges(other))[None]


def _edges(values: Array) -> Array:
    """How steep values are, without the steepest few percent; the mean where it is not known."""
    rows, cols = np.gradient(values)
    steep = np.hypot(rows, cols)
    known = np.isfinite(steep)
    if not known.any():
        return np.zeros_like(steep)
    steep = np.where(known, steep, steep[known].mean())
    return np.asarray(np.minimum(steep, np.percentile(steep, EDGE_PERCENT)), np.float32)


def on_the_map(scene: Scene, down: float, right: float) -> tuple[float, float]:
    """Metres east and north of so many pixels down and to the right."""
    a, b, _, d, e, _ = scene.grid.transform
    return scene.grid.metres_of(a * right + b * down, d * right + e * down)


def compass(east: float, north: float) -> str:
    """The direction of a vector, one of eight."""
    names = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
    return names[round(np.degrees(np.arctan2(north, east)) / 45) % 8]
