"""Merging overlapping tiles."""

import itertools
import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from resdepth.geo.windows import TileGrid, Window, axis_tiles, tile_grid
from resdepth.refinement.tiles import axis_weights, blend_tiles


@st.composite
def overlapping_grids(draw: st.DrawFn) -> TileGrid:
    tile = draw(st.sampled_from([4, 8, 16, 32]))
    height, width = draw(st.integers(tile, 4 * tile)), draw(st.integers(tile, 4 * tile))
    return tile_grid(Window(draw(st.integers(0, 9)), draw(st.integers(0, 9)), height, width), tile, tile // 2)


def cut(surface: np.ndarray, grid: TileGrid) -> list[np.ndarray]:
    return [surface[tile.relative_to(grid.region).slices] for tile in grid.windows()]


@given(st.sampled_from([2, 4, 16, 64]), st.integers(0, 300))
def test_the_weights_of_all_tiles_sum_to_one_at_every_pixel(tile: int, extra: int) -> None:
    tiles = axis_tiles(tile + extra, tile, tile // 2)
    total = np.zeros(tile + extra)
    for part, weights in zip(tiles, axis_weights(tiles, tile), strict=True):
        assert (weights >= 0).all()
        assert (weights <= 1).all()
        total[part.start : part.start + tile] += weights
    np.testing.assert_allclose(total, 1, atol=1e-12)


def test_over_half_a_tile_the_weight_passes_linearly_to_the_later_tile() -> None:
    earlier, later = axis_weights(axis_tiles(12, 8, 4), 8)
    np.testing.assert_allclose(earlier, [1, 1, 1, 1, 1, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(later, [0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1])


def test_a_last_tile_that_was_shifted_back_counts_for_nothing_before_its_ramp() -> None:
    earlier, later = axis_weights(axis_tiles(10, 8, 4), 8)
    np.testing.assert_allclose(earlier, [1, 1, 1, 1, 1, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(later, [0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1])


@given(overlapping_grids(), st.integers(0, 2**32))
def test_blending_the_tiles_of_a_surface_gives_it_back(grid: TileGrid, seed: int) -> None:
    surface = np.random.default_rng(seed).uniform(-430, 8849, grid.region.shape).astype(np.float32)
    strips = list(blend_tiles(grid, cut(surface, grid)))
    blended = np.concatenate([strip.values for strip in strips])
    np.testing.assert_array_equal(blended.astype(np.float32), surface)


@given(overlapping_grids())
def test_the_strips_follow_each_other_from_top_to_bottom(grid: TileGrid) -> None:
    strips = list(blend_tiles(grid, cut(np.zeros(grid.region.shape, np.float32), grid)))
    ends = [strip.row + len(strip.values) for strip in strips]
    assert [strip.row for strip in strips] == [0, *ends[:-1]]
    assert ends[-1] == grid.region.height
    assert {strip.values.shape[1] for strip in strips} == {grid.region.width}


@given(overlapping_grids(), st.integers(0, 2**32))
def test_blending_is_the_weighted_sum_of_all_tiles(grid: TileGrid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tiles = [rng.normal(size=(grid.tile, grid.tile)).astype(np.float32) for _ in range(len(grid))]
    expected = np.zeros(grid.region.shape)
    weights = itertools.product(axis_weights(grid.rows, grid.tile), axis_weights(grid.cols, grid.tile))
    for window, values, (down, across) in zip(grid.windows(), tiles, weights, strict=True):
        expected[window.relative_to(grid.region).slices] += np.outer(down, across) * values
    blended = np.concatenate([strip.values for strip in blend_tiles(grid, tiles)])
    np.testing.assert_allclose(blended, expected, atol=1e-12)


def test_a_strip_is_handed_out_before_the_next_row_of_tiles_is_asked_for() -> None:
    grid = tile_grid(Window(0, 0, 64, 24), 16, 8)
    asked = []

    def tiles() -> object:
        for window in grid.windows():
            asked.append(window.row)
            yield np.ones((16, 16), np.float32)

    first = next(blend_tiles(grid, tiles()))
    assert first.values.shape == (8, 24)
    assert set(asked) == {0}


def test_memory_does_not_grow_with_the_height_of_the_region() -> None:
    def peak(rows: int) -> int:
        grid = tile_grid(Window(0, 0, rows, 64), 32, 16)
        tiles = (np.zeros((32, 32), np.float32) for _ in range(len(grid)))
        tracemalloc.start()
        for _ in blend_tiles(grid, tiles):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(64)
    # 4 bytes x 64 columns x 7936 more rows would be 2 MB.
    assert peak(8000) - peak(64) < 300_000
