"""Refining a region."""

import tracemalloc

import numpy as np
import pytest
import torch

from conftest import make_heights, make_model
from resdepth.data.scene import Scene
from resdepth.errors import ResDepthError
from resdepth.geo.windows import Window
from resdepth.refinement.engine import Refiner
from resdepth.refinement.tiles import refine_region

TILE = 16


class Echo(Refiner):
    """Gives each tile back, lifted by the number of its views; remembers how it was asked."""

    def __init__(self, batch_size: int = 3) -> None:
        self.asked: list[int] = []
        self._size = batch_size

    def batch_size(self, tile: int) -> int:
        return self._size

    def refine(self, dsm: np.ndarray, views: np.ndarray) -> np.ndarray:
        self.asked.append(len(dsm))
        return dsm + views.shape[1]


def refined(scene: Scene, view_set: tuple[int, ...], region: Window, refiner: Refiner) -> np.ndarray:
    result = np.full(region.shape, np.nan, np.float32)
    for strip in refine_region(scene, view_set, region, refiner, TILE):
        result[strip.row : strip.row + len(strip.values)] = strip.values
    return result


def made_scene(height: int, width: int, n_views: int = 2) -> Scene:
    _, initial = make_heights(0, height, width)
    rng = np.random.default_rng(1)
    views = [rng.uniform(0, 700, initial.shape).astype(np.float32) for _ in range(n_views)]
    return Scene.of_arrays(initial, views)


@pytest.mark.parametrize("region", [Window(0, 0, 50, 40), Window(7, 9, 31, 16), Window(3, 1, 16, 16)])
@pytest.mark.parametrize("view_set", [(), (0,), (1, 0)])
def test_every_pixel_of_a_region_is_refined_once_at_its_place(
    region: Window, view_set: tuple[int, ...]
) -> None:
    scene = made_scene(50, 40)
    found = refined(scene, view_set, region, Echo())
    np.testing.assert_allclose(found, scene.dsm.read(region) + len(view_set), atol=1e-4)


def test_tiles_are_given_in_batches_across_rows_of_tiles() -> None:
    echo = Echo(batch_size=4)
    refined(made_scene(40, 32), (0, 1), Window(0, 0, 40, 32), echo)
    assert echo.asked == [4, 4, 4]  # 4 x 3 tiles


def test_what_lies_outside_the_region_does_not_matter() -> None:
    scene, region = made_scene(64, 64), Window(10, 20, 33, 40)
    changed = scene.dsm.read(scene.grid.whole)
    changed[:10], changed[43:], changed[:, :20], changed[:, 60:] = 0, 0, np.nan, 0
    views = [scene.views[index].read(scene.grid.whole) for index in range(2)]
    refiner = Refiner(make_model(), device=torch.device("cpu"))
    other = Scene.of_arrays(changed, views)
    np.testing.assert_array_equal(
        refined(scene, (0, 1), region, refiner), refined(other, (0, 1), region, refiner)
    )


def test_the_batch_size_does_not_matter() -> None:
    scene, model = made_scene(48, 48), make_model()
    one, many = (
        refined(scene, (0, 1), scene.grid.whole, Refiner(model, device=torch.device("cpu"), batch_size=size))
        for size in (1, 7)
    )
    np.testing.assert_allclose(one, many, atol=1e-4)


def test_the_order_of_the_views_matters() -> None:
    scene = made_scene(32, 32)
    refiner = Refiner(make_model(), device=torch.device("cpu"))
    forwards, backwards = (refined(scene, pair, scene.grid.whole, refiner) for pair in ((0, 1), (1, 0)))
    assert np.abs(forwards - backwards).max() > 0.01


def test_a_void_in_the_dsm_is_refused_with_its_place() -> None:
    dsm = np.zeros((32, 32), np.float32)
    dsm[20, 20] = np.nan
    scene = Scene.of_arrays(dsm, name="alps")
    with pytest.raises(ResDepthError, match=r"alps: the initial DSM has voids near .*fill"):
        refined(scene, (), scene.grid.whole, Echo())


def test_memory_does_not_grow_with_the_height_of_the_region() -> None:
    def peak(rows: int) -> int:
        scene = Scene.of_arrays(np.zeros((rows, 128), np.float32))
        tracemalloc.start()
        try:
            for _ in refine_region(scene, (), scene.grid.whole, Echo(), TILE):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(64)
    # The refined heights, or a list of all tiles, would be 2 MB; a few numbers per row of tiles are kept.
    assert peak(4000) - peak(64) < 500_000
