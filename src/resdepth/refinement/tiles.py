"""Refining a region: which tiles, in what order, how they are merged."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np

from resdepth.data.scene import Scene, ViewSet
from resdepth.errors import ResDepthError
from resdepth.geo.raster import Array
from resdepth.geo.windows import TileGrid, Window, tile_grid
from resdepth.refinement.blending import Strip, blend_tiles
from resdepth.refinement.engine import Refiner
from resdepth.runtime.prefetch import in_order

Read = Callable[[Scene, ViewSet, list[Window]], tuple[Array, Array]]


def refine_region(
    scene: Scene,
    view_set: ViewSet,
    region: Window,
    refiner: Refiner,
    tile: int,
    *,
    workers: int = 1,
) -> Iterator[Strip]:
    """The refined heights of a region, in strips from top to bottom, as the published ResDepth computes them.

    Tiles with stride tile / 2 are refined each on its own and merged with linear ramps (ResDepth, ISPRS
    2022, section 3.5). Memory grows with the region's width, not with its height.

    Args:
        scene: DSM and views; the DSM has no voids in the region.
        view_set: the views to show the network.
        region: at least tile x tile pixels.
        refiner: the model, and how it runs.
        tile: side of a tile in pixels.
        workers: threads that read tiles ahead; 0 reads when the network waits.

    Raises:
        ResDepthError: if the DSM has a void in the region.
    """
    grid = tile_grid(region, tile, tile // 2)
    return blend_tiles(grid, _refined_tiles(scene, view_set, grid, refiner, workers, _read_without_voids))


def refine_tiles(
    scene: Scene,
    view_set: ViewSet,
    grid: TileGrid,
    refiner: Refiner,
    *,
    workers: int = 1,
) -> Iterator[Strip]:
    """The same for tiles that are chosen already, in which voids count as the mean height of their tile."""
    return blend_tiles(grid, _refined_tiles(scene, view_set, grid, refiner, workers, _read))


def _refined_tiles(
    scene: Scene, view_set: ViewSet, grid: TileGrid, refiner: Refiner, workers: int, read: Read
) -> Iterator[Array]:
    windows, size = grid.windows(), refiner.batch_size(grid.tile)
    batches = iter(lambda: list(islice(windows, size)), [])
    for dsm, views in in_order((partial(read, scene, view_set, batch) for batch in batches), workers):
        yield from refiner.refine(dsm, views)


def _read(scene: Scene, view_set: ViewSet, windows: list[Window]) -> tuple[Array, Array]:
    """Heights (B, T, T) and views (B, V, T, T) of several tiles."""
    dsm = np.stack([scene.dsm.read(window) for window in windows])
    return dsm, np.stack([scene.read_views(view_set, window) for window in windows])


def _read_without_voids(scene: Scene, view_set: ViewSet, windows: list[Window]) -> tuple[Array, Array]:
    dsm, views = _read(scene, view_set, windows)
    if np.isnan(dsm).any():
        raise ResDepthError(
            f"{scene.name}: the initial DSM has voids near {windows[0]}; fill them first, for example "
            "with gdal_fillnodata.py"
        )
    return dsm, views
