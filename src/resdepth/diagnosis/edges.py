"""How far one raster lies beside another: by the edges of both, or by how slopes are lit."""

import numpy as np

from resdepth.data.scene import Scene
from resdepth.evaluation.phase_correlation import (
    EDGE_PERCENT,
    Correlations,
    added_up,
    edges_apart,
    phase_correlation,
    place_of,
)
from resdepth.geo.raster import Array, Band

# How far the peak of all blocks must stand out from the others, in their standard deviations.
LEAST_SHADED_PEAK = 18.0
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
    return edges_apart(first.read, second.read, scene.grid.whole)


def shading_beside(scene: Scene, surface: Band, image: Band) -> tuple[float, float] | None:
    """How far an image lies down and to the right of a surface, by how slopes are lit; in pixels.

    Where slopes face the sun, an image is bright: it goes with the gradients of the heights, in a proportion
    that is one for the whole area, and is not known. Serves where there are no edges, as in mountains.

    Returns:
        None if nothing stands out.
    """
    found = added_up(surface.read, image.read, scene.grid.whole, SHADED_PX, SHADED_A_SIDE, _shading)
    return place_of(found, LEAST_SHADED_PEAK)


def _shading(heights: Array, image: Array) -> Correlations:
    """(2, H, W) of the image and the gradient along rows, and along columns."""
    down, right = np.gradient(np.nan_to_num(heights, nan=float(np.nanmean(heights))))
    limit = float(np.percentile(np.hypot(down, right), EDGE_PERCENT))
    return np.stack([phase_correlation(one.clip(-limit, limit), image) for one in (down, right)])


def on_the_map(scene: Scene, down: float, right: float) -> tuple[float, float]:
    """Metres east and north of so many pixels down and to the right."""
    a, b, _, d, e, _ = scene.grid.transform
    return scene.grid.metres_of(a * right + b * down, d * right + e * down)


def compass(east: float, north: float) -> str:
    """The direction of a vector, one of eight."""
    names = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
    return names[round(np.degrees(np.arctan2(north, east)) / 45) % 8]
