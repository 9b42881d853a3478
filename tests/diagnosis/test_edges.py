"""How far one raster lies beside another, by edges and by lit slopes."""

import numpy as np
import pytest
from scipy import ndimage

from resdepth.data.scene import Scene
from resdepth.diagnosis.alignment import compass, edges_beside, on_the_map, shading_beside

SIDE = 320


def town(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    heights = np.zeros((SIDE, SIDE), np.float32)
    for row, col, height in zip(*rng.integers(0, SIDE - 20, (2, 150)), rng.uniform(3, 12, 150), strict=True):
        heights[row : row + 14, col : col + 18] = height
    return heights


def mountains(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE))
    result: np.ndarray = (300 * ndimage.gaussian_filter(noise, 6)).astype(np.float32)
    return result


def of(surface: np.ndarray, image: np.ndarray) -> Scene:
    return Scene.of_arrays(surface, [image.astype(np.float32)], gsd=0.5)


def lit(heights: np.ndarray) -> np.ndarray:
    """As a sun in the south-west shows slopes."""
    down, right = np.gradient(heights)
    noise: np.ndarray = np.random.default_rng(9).normal(0, 2, heights.shape)
    return 300 + 20 * right - 30 * down + noise


def test_edges_of_a_moved_town_are_found() -> None:
    surface = town(0)
    image = 200 + np.random.default_rng(1).normal(0, 1, surface.shape) - 9 * (surface > 5)
    scene = of(surface, np.roll(image, (12, -7), (0, 1)))
    found = edges_beside(scene, scene.dsm, scene.views[0])
    assert found == pytest.approx((12, -7), abs=0.5)
    assert on_the_map(scene, *found) == pytest.approx((-3.5, -6), abs=0.25)


def test_lit_slopes_of_moved_mountains_are_found() -> None:
    heights = mountains(0)
    scene = of(heights, np.roll(lit(heights), (-15, 4), (0, 1)))
    assert shading_beside(scene, scene.dsm, scene.views[0]) == pytest.approx((-15, 4), abs=1)


def test_nothing_stands_out_of_what_has_nothing_in_common() -> None:
    scene = of(mountains(0), lit(mountains(1)))
    assert edges_beside(scene, scene.dsm, scene.views[0]) is None
    assert shading_beside(scene, scene.dsm, scene.views[0]) is None
    small = of(town(0)[:20, :20], town(0)[:20, :20])
    assert edges_beside(small, small.dsm, small.views[0]) is None


def test_directions_have_names() -> None:
    assert [compass(*one) for one in ((1, 0.1), (1, 1), (0, -2), (-3, 2.5))] == [
        "east", "north-east", "south", "north-west",
    ]  # fmt: skip
