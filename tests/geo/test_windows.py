"""Windows, stripes, tiles, and random corners."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resdepth.geo.windows import (
    Regions,
    Strategy,
    TileGrid,
    Window,
    aligned,
    axis_tiles,
    block_counts,
    corner_count,
    even_blocks,
    random_corners,
    split_regions,
    tile_grid,
)

STRIPES: list[Strategy] = ["5-crossval_vertical", "5-crossval_horizontal"]

small = st.integers(0, 12)
windows = st.builds(Window, small, small, st.integers(1, 12), st.integers(1, 12))


@st.composite
def tile_grids(draw: st.DrawFn, *, overlapping: bool) -> TileGrid:
    tile = draw(st.sampled_from([2, 4, 8, 16]))
    region = Window(
        draw(st.integers(0, 30)),
        draw(st.integers(0, 30)),
        draw(st.integers(tile, 5 * tile)),
        draw(st.integers(tile, 5 * tile)),
    )
    return tile_grid(region, tile, tile // 2 if overlapping else tile)


def covered(parts: list[Window], canvas: Window) -> np.ndarray:
    """How often each pixel of the canvas is covered; parts outside it raise."""
    counts = np.zeros(canvas.shape, dtype=int)
    for part in parts:
        assert canvas.contains(part)
        counts[part.relative_to(canvas).slices] += 1
    return counts


def test_a_window_ends_before_its_stop() -> None:
    window = Window(2, 3, 4, 5)
    assert (window.row_stop, window.col_stop, window.shape, window.area) == (6, 8, (4, 5), 20)
    marked = np.zeros((10, 10), dtype=bool)
    marked[window.slices] = True
    assert marked.sum() == window.area
    assert marked[2, 3]
    assert marked[5, 7]


@given(windows, windows)
def test_a_window_contains_another_if_it_holds_all_its_pixels(outer: Window, inner: Window) -> None:
    pixels = [
        {(row, col) for row in range(w.row, w.row_stop) for col in range(w.col, w.col_stop)}
        for w in (outer, inner)
    ]
    assert outer.contains(inner) == (pixels[1] <= pixels[0])


@given(windows, windows)
def test_relative_to_only_moves_the_origin(window: Window, outer: Window) -> None:
    moved = window.relative_to(outer)
    assert moved.shape == window.shape
    assert (moved.row + outer.row, moved.col + outer.col) == (window.row, window.col)


@given(windows, st.integers(0, 5))
def test_a_grown_window_holds_the_pixels_around_it_that_there_are(window: Window, margin: int) -> None:
    whole = Window(0, 0, 24, 24)
    grown = window.grown(margin, whole)
    pixels = {
        (row, col)
        for row in range(window.row - margin, window.row_stop + margin)
        for col in range(window.col - margin, window.col_stop + margin)
        if whole.contains(Window(row, col, 1, 1))
    }
    found = {(r, c) for r in range(grown.row, grown.row_stop) for c in range(grown.col, grown.col_stop)}
    assert found == pixels


@given(
    st.integers(5, 300),
    st.integers(5, 300),
    st.sampled_from(STRIPES),
    st.integers(0, 4),
    st.booleans(),
)
def test_the_stripes_partition_the_area(
    height: int, width: int, strategy: Strategy, test_stripe: int, crossval: bool
) -> None:
    regions = split_regions(height, width, strategy, test_stripe=test_stripe, crossval=crossval)
    parts = [*regions.train, *regions.val, *regions.test]
    assert (covered(parts, Window(0, 0, height, width)) == 1).all()


@pytest.mark.parametrize("strategy", STRIPES)
@pytest.mark.parametrize("test_stripe", range(5))
def test_the_stripe_after_the_test_stripe_validates(strategy: Strategy, test_stripe: int) -> None:
    regions = split_regions(500, 500, strategy, test_stripe=test_stripe)
    start = {"5-crossval_vertical": "col", "5-crossval_horizontal": "row"}[strategy]
    assert [getattr(window, start) for window in regions.test] == [100 * test_stripe]
    assert [getattr(window, start) for window in regions.val] == [100 * ((test_stripe + 1) % 5)]


def test_neighbouring_training_stripes_are_merged() -> None:
    middle = split_regions(10, 50, "5-crossval_vertical", test_stripe=1)
    assert middle.train == (Window(0, 0, 10, 10), Window(0, 30, 10, 20))
    at_the_edge = split_regions(10, 50, "5-crossval_vertical", test_stripe=0)
    assert at_the_edge.train == (Window(0, 20, 10, 30),)


def test_the_last_stripe_takes_the_rest() -> None:
    regions = split_regions(7, 13, "5-crossval_vertical", test_stripe=4)
    assert regions.test == (Window(0, 12, 7, 1),)
    assert regions.val == (Window(0, 0, 7, 3),)
    assert regions.train == (Window(0, 3, 7, 9),)


def test_cross_validation_leaves_nothing_to_test() -> None:
    regions = split_regions(10, 50, "5-crossval_vertical", test_stripe=2, crossval=True)
    assert regions == Regions(
        train=(Window(0, 0, 10, 20), Window(0, 30, 10, 20)), val=(Window(0, 20, 10, 10),), test=()
    )


def test_entire_offers_the_whole_area_to_each_role() -> None:
    whole = (Window(0, 0, 30, 40),)
    assert split_regions(30, 40, "entire", test_stripe=3) == Regions(whole, whole, whole)


@given(tile_grids(overlapping=False))
def test_tiles_side_by_side_cover_every_pixel_and_their_fresh_parts_each_once(grid: TileGrid) -> None:
    assert (covered(list(grid.windows()), grid.region) >= 1).all()
    fresh = [
        Window(tile.row + part.row, tile.col + part.col, part.height, part.width)
        for tile, part in zip(grid.windows(), grid.fresh(), strict=True)
    ]
    assert (covered(fresh, grid.region) == 1).all()


@given(tile_grids(overlapping=True))
def test_overlapping_tiles_cover_every_pixel_and_stay_inside(grid: TileGrid) -> None:
    tiles = list(grid.windows())
    assert (covered(tiles, grid.region) >= 1).all()
    assert len(set(tiles)) == len(tiles) == len(grid)
    assert {tile.shape for tile in tiles} == {(grid.tile, grid.tile)}


@given(st.integers(1, 40), st.integers(0, 200), st.data())
def test_only_the_last_tile_breaks_the_stride_and_none_is_superfluous(
    tile: int, extra: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, tile))
    tiles = axis_tiles(tile + extra, tile, stride)
    starts = [part.start for part in tiles]
    steps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] == extra
    assert (steps[:-1] == stride).all()
    assert (steps[-1:] <= stride).all()
    assert (steps > 0).all()
    assert [part.shared for part in tiles] == [0, *(tile - steps)]


def test_a_region_smaller_than_a_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="15 pixels is smaller than a tile of 16"):
        tile_grid(Window(0, 0, 100, 15), 16, 8)


def brute_force_corners(regions: list[Window], tile: int) -> set[tuple[int, int]]:
    return {
        (row, col)
        for region in regions
        for row in range(region.row, region.row_stop)
        for col in range(region.col, region.col_stop)
        if region.contains(Window(row, col, tile, tile))
    }


@st.composite
def separate_regions(draw: st.DrawFn) -> list[Window]:
    """Regions side by side, some smaller than a tile of 4."""
    widths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    starts = np.cumsum([0, *widths])
    return [
        Window(draw(st.integers(0, 5)), int(start), draw(st.integers(1, 9)), width)
        for start, width in zip(starts, widths, strict=False)
    ]


@given(separate_regions(), st.integers(0, 2**32))
def test_drawing_as_many_corners_as_there_are_gives_every_corner_once(
    regions: list[Window], seed: int
) -> None:
    expected = brute_force_corners(regions, 4)
    assert corner_count(regions, 4) == len(expected)
    corners = random_corners(regions, 4, len(expected), np.random.default_rng(seed))
    assert len(corners) == len(expected)
    assert {(int(row), int(col)) for row, col in corners} == expected


@given(separate_regions(), st.integers(0, 2**32), st.data())
def test_random_corners_are_distinct_inside_and_reproducible(
    regions: list[Window], seed: int, data: st.DataObject
) -> None:
    possible = brute_force_corners(regions, 4)
    n = data.draw(st.integers(0, len(possible)))
    corners = random_corners(regions, 4, n, np.random.default_rng(seed))
    found = {(int(row), int(col)) for row, col in corners}
    assert corners.shape == (n, 2)
    assert len(found) == n
    assert found <= possible
    assert np.array_equal(corners, random_corners(regions, 4, n, np.random.default_rng(seed)))


def test_more_corners_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="5 patches of 8 x 8 pixels wanted, 4 are possible"):
        random_corners([Window(0, 0, 9, 9)], 8, 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="0 are possible"):
        random_corners([], 8, 1, np.random.default_rng(0))


def test_each_corner_is_as_likely_as_any_other() -> None:
    regions = [Window(0, 0, 6, 9), Window(3, 20, 5, 4)]  # 3 x 6 and 2 x 1 corners
    rng = np.random.default_rng(5)
    draws = np.concatenate([random_corners(regions, 4, 5, rng) for _ in range(4000)])
    _, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(counts) == 20
    # Each corner is in a quarter of the draws: 1000 times, with a standard deviation of 27.
    assert counts.min() > 1000 - 5 * 27
    assert counts.max() < 1000 + 5 * 27


def test_the_first_corners_are_as_likely_to_lie_below_as_above() -> None:
    """The order is random as well: a part of the corners is no worse a sample."""
    corners = random_corners([Window(0, 0, 1015, 1015)], 16, 4000, np.random.default_rng(1))
    assert abs(corners[:500].mean() - 499.5) < 5 * 289 / np.sqrt(1000)


def test_corners_cost_memory_by_their_number_not_by_the_area() -> None:
    rng = np.random.default_rng(0)
    tracemalloc.start()
    try:
        corners = random_corners([Window(0, 0, 20_000, 20_000)], 256, 20_000, rng)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6
    assert len(np.unique(corners, axis=0)) == 20_000
    assert corners.min() >= 0
    assert corners.max() <= 20_000 - 256


regions = st.builds(Window, st.integers(0, 30), st.integers(0, 30), st.integers(1, 90), st.integers(1, 90))


@given(
    region=regions,
    side=st.integers(1, 40),
    step=st.sampled_from([1, 4, 16]),
    row=st.integers(-50, 50),
    col=st.integers(-50, 50),
)
def test_even_blocks_cover_each_pixel_once_and_meet_on_the_lattice(
    region: Window, side: int, step: int, row: int, col: int
) -> None:
    counts = (-(-region.height // side), -(-region.width // side))
    blocks = list(even_blocks(region, counts, step, (row, col)))
    seen = np.zeros((region.row_stop, region.col_stop), int)
    for block in blocks:
        seen[block.slices] += 1
        assert max(block.shape) <= max(side, step) + step
        assert block.row == region.row or (block.row + row) % step == 0
        assert block.col == region.col or (block.col + col) % step == 0
    assert (seen[region.slices] == 1).all()
    assert seen.sum() == region.area


@given(
    shape=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    halo=st.integers(0, 200),
    area=st.integers(1, 4_000_000),
    side=st.integers(1, 4096),
)
def test_blocks_with_their_halos_fit_into_an_area_and_no_square_ones_waste_less(
    shape: tuple[int, int], halo: int, area: int, side: int
) -> None:
    def waste(rows: int, cols: int) -> int:
        return (shape[0] + 2 * halo * rows) * (shape[1] + 2 * halo * cols)

    area = max(area, (2 * halo + 1) ** 2)
    rows, cols = block_counts(shape, halo=halo, area=area, side=side)
    tall, wide = -(-shape[0] // rows), -(-shape[1] // cols)
    square = min(math.isqrt(area) - 2 * halo, side)
    assert max(tall, wide) <= side
    assert (tall + 2 * halo) * (wide + 2 * halo) <= area
    assert waste(rows, cols) <= waste(-(-shape[0] // square), -(-shape[1] // square))


@given(window=regions, step=st.integers(1, 20))
def test_an_aligned_window_contains_the_other_and_no_smaller_one_does(window: Window, step: int) -> None:
    found = aligned(window, step)
    assert found.contains(window)
    assert all(edge % step == 0 for edge in (found.row, found.col, found.row_stop, found.col_stop))
    assert found.height < window.height + 2 * step
    assert found.width < window.width + 2 * step


@given(tile_grids(overlapping=True), st.data())
def test_the_tiles_that_touch_a_block_cover_it(grid: TileGrid, data: st.DataObject) -> None:
    height, width = grid.region.shape
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    block = Window(
        grid.region.row + row,
        grid.region.col + col,
        data.draw(st.integers(1, height - row)),
        data.draw(st.integers(1, width - col)),
    )
    found = grid.touching(block)
    assert found.region.contains(block)
    everything = {window for window in grid.windows() if not _apart(window, block)}
    assert set(found.windows()) == everything


def _apart(one: Window, other: Window) -> bool:
    return (
        one.row_stop <= other.row
        or other.row_stop <= one.row
        or one.col_stop <= other.col
        or other.col_stop <= one.col
    )
