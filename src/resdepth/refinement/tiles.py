"""Refining a region the published way: which tiles, in what order, merged with linear ramps."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resdepth.data.scene import Scene, ViewSet
from resdepth.errors import ResDepthError
from resdepth.geo.windows import AxisTile, TileGrid, Window, tile_grid
from resdepth.refinement.engine import Refiner
from resdepth.runtime.prefetch import in_order

Array = NDArray[np.float32]


Read = Callable[[Scene, ViewSet, list[Window]], tuple[Array, Array]]


@dataclass(frozen=True)
class Strip:
    """Finished rows of a region.

    Attributes:
        row: the first row, counted from the region's upper edge.
        values: (rows, region width) float64: figures are computed before heights are rounded, as published.
    """

    row: int
    values: NDArray[np.float64]


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


def axis_weights(tiles: tuple[AxisTile, ...], tile: int) -> list[NDArray[np.float64]]:
    """The weight of each tile along one axis, (tile,) float64 each.

    Over the last tile / 2 pixels that two neighbours share, the weight of the earlier falls from 1 to 0 and
    that of the later rises from 0 to 1 (both ends included); where they share more (a last tile that was
    shifted back), the later one has weight 0 before its ramp. The weights sum to 1 at every pixel.
    """
    ramp = np.linspace(0, 1, tile // 2)
    weights = [np.ones(tile) for _ in tiles]
    for before, after, axis_tile in zip(weights, weights[1:], tiles[1:], strict=False):
        before[tile - len(ramp) :] = 1 - ramp
        after[: axis_tile.shared] = 0
        after[axis_tile.shared - len(ramp) : axis_tile.shared] = ramp
    return weights


def blend_tiles(grid: TileGrid, tiles: Iterable[Array]) -> Iterator[Strip]:
    """Merge tiles, given in the order of `grid.windows()`, into strips from top to bottom.

    Each strip is handed out as soon as no later tile can change it, so memory grows with the width of the
    region and the tile, not with its height. The strips cover each pixel of the region exactly once.

    Args:
        grid: the tiles' lattice; neighbours share at least tile / 2 pixels.
        tiles: (tile, tile) float32 each, without voids.
    """
    row_weights, col_weights = axis_weights(grid.rows, grid.tile), axis_weights(grid.cols, grid.tile)
    # float64: four weighted heights summed in float32 are 1 mm off at 8000 m.
    waiting = np.zeros((grid.tile, grid.region.width), dtype=np.float64)
    given = iter(tiles)
    for index, row in enumerate(grid.rows):
        for col, across in zip(grid.cols, col_weights, strict=True):
            weight = np.outer(row_weights[index], across)
            waiting[:, col.start : col.start + grid.tile] += weight * next(given)
        is_last = index + 1 == len(grid.rows)
        done = grid.tile if is_last else grid.rows[index + 1].start - row.start
        yield Strip(row.start, waiting[:done])
        waiting = np.concatenate([waiting[done:], np.zeros_like(waiting[:done])])
