"""How far edges in one raster lie beside those in another, whatever each of them holds."""

import numpy as np
from numpy.typing import NDArray

from resdepth.data.scene import Scene
from resdepth.geo.raster import Array, Band
from resdepth.refinement.compatibility import LEAST_BLOCK_PX, peak_of, phase_correlation, sample_places

# How far the peak of all blocks must stand out from the others, in their standard deviations.
LEAST_PEAK = 10.0
EDGE_PERCENT, BLOCK_PX, BLOCKS_A_SIDE, MOSTLY = 95, 128, 6, 0.8


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
    side = min(BLOCK_PX, *scene.grid.whole.shape)
    if side < LEAST_BLOCK_PX:
        return None
    total: NDArray[np.float64] | None = None
    for place in sample_places(scene.grid.whole, side, BLOCKS_A_SIDE):
        one, other = first.read(place), second.read(place)
        if min(np.isfinite(one).mean(), np.isfinite(other).mean()) >= MOSTLY:
            found = phase_correlation(_edges(one), _edges(other))
            total = found if total is None else total + found
    if total is None or (total.max() - total.mean()) < LEAST_PEAK * total.std():
        return None
    down, right = peak_of(total)
    return -down, -right


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
