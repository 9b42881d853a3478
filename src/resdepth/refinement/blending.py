"""Merging overlapping tiles into one surface with linear ramps, as the published ResDepth does."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import AxisTile, TileGrid

Array = NDArray[np.float32]


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


@dataclass(frozen=True)
class Strip:
    """Finished rows of a region.

    Attributes:
        row: the first row, counted from the region's upper edge.
        values: (rows, region width) float64: figures are computed before heights are rounded, as published.
    """

    row: int
    values: NDArray[np.float64]


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
