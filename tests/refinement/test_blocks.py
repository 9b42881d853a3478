"""Refining block by block."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import make_heights, make_model
from resdepth.data.scene import Scene, ViewSet
from resdepth.geo.grid import Grid
from resdepth.geo.raster import ArrayBand
from resdepth.geo.windows import Window, aligned, even_blocks
from resdepth.models.model import new_network
from resdepth.models.published import load_model
from resdepth.refinement.blocks import (
    FILL_REACH_PX,
    HOLE_PX,
    PASSES_PX,
    Provenance,
    RefinedBlock,
    Work,
    blocks_of,
    read_block,
    refine_block,
)
from resdepth.refinement.engine import Refiner
from resdepth.refinement.provenance import Moved
from resdepth.refinement.tiles import refine_region

TILE = 32
HEIGHT, WIDTH = 150, 230
PAIR: ViewSet = (0, 1)
CENTIMETRE = 0.01
SETS = ((0, 1), (1, 2), (0, 2))


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return Refiner(make_model(), device=torch.device("cpu"))


def scene_at(row: int, col: int, height: int = HEIGHT, width: int = WIDTH, n_views: int = 3) -> Scene:
    """A part of one large scene, as a raster of its own."""
    _, initial = make_heights(0, HEIGHT, WIDTH)
    initial = initial + np.linspace(
        0, 60, WIDTH, dtype=np.float32
    )  # a slope: means differ from place to place
    rng = np.random.default_rng(1)
    views = [rng.uniform(0, 700, initial.shape).astype(np.float32) for _ in range(n_views)]
    grid = Grid(HEIGHT, WIDTH, (0.5, 0, 350000.25, 0, -0.5, 5200000.25)).crop(Window(row, col, height, width))
    part = Window(row, col, height, width).slices
    bands = {index: ArrayBand(view[part], grid) for index, view in enumerate(views)}
    return Scene("part", grid, ArrayBand(initial[part], grid), views=bands)


def with_dsm(scene: Scene, dsm: np.ndarray) -> Scene:
    return replace(scene, dsm=ArrayBand(dsm, scene.grid))


def work_on(scene: Scene, **settings: object) -> Work:
    given = {"region": scene.grid.whole, "view_sets": (PAIR,), "mode": "seamless", "tile": TILE}
    return Work(scene, **{**given, **settings})  # type: ignore[arg-type]


def all_blocks(work: Work, refiner: Refiner, side: int) -> RefinedBlock:
    heights = np.full(work.scene.grid.whole.shape, np.nan, np.float32)
    spread, error, provenance = heights.copy(), heights.copy(), np.full(heights.shape, 255, np.uint8)
    moved = Moved(refiner.model.normalization.height_sigma)
    counts = (-(-work.region.height // side), -(-work.region.width // side))
    for block in even_blocks(work.region, counts, 4, work.scene.grid.lattice_origin):
        done = refine_block(work, read_block(work, block, refiner), refiner)
        heights[block.slices], provenance[block.slices] = done.heights, done.provenance
        moved += done.moved
        if done.spread is not None:
            spread[block.slices] = done.spread
        if done.error is not None:
            error[block.slices] = done.error
    return RefinedBlock(work.region, heights, spread, error, provenance, moved)


def test_exact_blocks_are_the_published_result(refiner: Refiner) -> None:
    scene = scene_at(0, 0)
    expected = np.empty(scene.grid.whole.shape)
    for strip in refine_region(scene, PAIR, scene.grid.whole, refiner, TILE):
        expected[strip.row : strip.row + len(strip.values)] = strip.values
    for side in (48, 64, 512):
        found = all_blocks(work_on(scene, mode="exact"), refiner, side)
        np.testing.assert_allclose(found.heights, expected, atol=1e-4)
        assert (found.provenance == Provenance.REFINED).all()


def test_seamless_heights_do_not_depend_on_the_blocks(refiner: Refiner) -> None:
    scene = scene_at(0, 0)
    whole = all_blocks(work_on(scene), refiner, 512).heights
    assert np.abs(whole - scene.dsm.read(scene.grid.whole)).max() > 0.1, "the network changes something"
    for side in (16, 52, 64):
        np.testing.assert_allclose(all_blocks(work_on(scene), refiner, side).heights, whole, atol=1e-4)


@pytest.mark.parametrize("region", [Window(0, 0, 40, 60), Window(33, 47, 71, 90), Window(100, 3, 1, 1)])
def test_a_sub_window_is_refined_as_within_the_whole(refiner: Refiner, region: Window) -> None:
    scene = scene_at(0, 0)
    whole = all_blocks(work_on(scene), refiner, 512).heights
    part = all_blocks(work_on(scene, region=region), refiner, 48).heights
    np.testing.assert_allclose(part[region.slices], whole[region.slices], atol=1e-4)
    assert np.isfinite(part).sum() == region.area


def test_overlapping_rasters_meet_within_a_centimetre(refiner: Refiner) -> None:
    """Each knows what the network and the reference look at beyond the common border."""
    context = refiner.model.architecture.halo_px + 5 * TILE // 2
    border = 115
    left = scene_at(0, 0, width=border + context)
    right = scene_at(0, border - context, width=WIDTH - border + context)
    whole = all_blocks(work_on(scene_at(0, 0)), refiner, 64).heights
    from_left = all_blocks(work_on(left), refiner, 64).heights[:, :border]
    from_right = all_blocks(work_on(right), refiner, 64).heights[:, context:]
    np.testing.assert_allclose(np.hstack([from_left, from_right]), whole, atol=CENTIMETRE)


def test_a_raster_cut_at_any_pixel_has_the_same_heights_inside(refiner: Refiner) -> None:
    whole = all_blocks(work_on(scene_at(0, 0)), refiner, 64).heights
    inner = refiner.model.architecture.halo_px + 5 * TILE // 2
    for row, col in ((1, 0), (3, 5), (7, 2)):
        part = all_blocks(work_on(scene_at(row, col, HEIGHT - row, WIDTH - col)), refiner, 64).heights
        np.testing.assert_allclose(part[inner:, inner:], whole[row + inner :, col + inner :], atol=CENTIMETRE)


def test_seamless_heights_follow_a_lift_of_the_whole(refiner: Refiner) -> None:
    scene = scene_at(0, 0)
    low = all_blocks(work_on(scene), refiner, 64).heights
    lifted = with_dsm(scene, scene.dsm.read(scene.grid.whole) + 1000)
    np.testing.assert_allclose(all_blocks(work_on(lifted), refiner, 64).heights, low + 1000, atol=2e-3)


@pytest.mark.parametrize("mode", ["exact", "seamless"])
def test_voids_stay_or_are_filled(refiner: Refiner, mode: str) -> None:
    scene = scene_at(0, 0)
    dsm = scene.dsm.read(scene.grid.whole)
    hole = (slice(60, 75), slice(20, 31))
    dsm[hole] = np.nan
    stay = all_blocks(work_on(with_dsm(scene, dsm), mode=mode), refiner, 64)
    assert np.isnan(stay.heights[hole]).all()
    assert np.isnan(stay.heights).sum() == 15 * 11
    assert (stay.provenance[hole] == Provenance.VOID).all()
    filled = all_blocks(work_on(with_dsm(scene, dsm), mode=mode, fill=True), refiner, 64)
    assert np.isfinite(filled.heights).all()
    assert (filled.provenance[hole] == Provenance.FILLED).all()
    assert (filled.provenance == Provenance.FILLED).sum() == 15 * 11
    kept = np.isfinite(stay.heights)
    np.testing.assert_array_equal(stay.heights[kept], filled.heights[kept])


@pytest.mark.parametrize("mode", ["exact", "seamless"])
def test_voids_wider_than_the_reach_stay_even_if_asked_to_be_filled(
    refiner: Refiner, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr("resdepth.refinement.blocks.FILL_REACH_PX", 10)
    scene = scene_at(0, 0)
    dsm = scene.dsm.read(scene.grid.whole)
    dsm[:, 60:] = np.nan
    done = all_blocks(work_on(with_dsm(scene, dsm), mode=mode, fill=True), refiner, 64)
    assert np.isfinite(done.heights[:, :68]).all()
    assert np.isnan(done.heights[:, 75:]).all()
    assert (done.provenance[:, 75:] == Provenance.VOID).all()


@pytest.mark.parametrize("mode", ["exact", "seamless"])
def test_heights_beside_wide_voids_do_not_depend_on_the_blocks(
    refiner: Refiner, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr("resdepth.refinement.blocks.FILL_REACH_PX", 5)
    scene = scene_at(0, 0)
    dsm = scene.dsm.read(scene.grid.whole) + np.linspace(0, 100, WIDTH, dtype=np.float32)  # a steep slope
    dsm[:, 60:130] = np.nan
    work = work_on(with_dsm(scene, dsm), mode=mode)
    whole, parts = (all_blocks(work, refiner, side).heights for side in (512, 64))
    np.testing.assert_allclose(parts, whole, atol=1e-3)


def test_filling_does_not_depend_on_the_blocks(refiner: Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resdepth.refinement.blocks.FILL_REACH_PX", 12)
    scene = scene_at(0, 0)
    dsm = scene.dsm.read(scene.grid.whole)
    rng = np.random.default_rng(3)
    dsm[rng.random(dsm.shape) < 0.3] = np.nan
    dsm[40:80, 90:130] = np.nan
    work = work_on(with_dsm(scene, dsm), fill=True)
    np.testing.assert_allclose(
        all_blocks(work, refiner, 32).heights, all_blocks(work, refiner, 512).heights, atol=1e-4
    )


@pytest.mark.parametrize("mode", ["exact", "seamless"])
def test_a_void_deeper_than_the_reference_is_filled_as_far_as_heights_reach(
    refiner: Refiner, mode: str
) -> None:
    scene = scene_at(0, 0)
    dsm = scene.dsm.read(scene.grid.whole)
    dsm[:, 30:130] = np.nan  # the middle is 50 pixels from any height, beyond all windows of 64 pixels
    done = all_blocks(work_on(with_dsm(scene, dsm), mode=mode, fill=True), refiner, 64)
    assert FILL_REACH_PX >= 50
    assert np.isfinite(done.heights).all()
    assert (done.provenance[:, 30:130] == Provenance.FILLED).all()


def test_fusing_is_silent_where_there_is_nothing_to_fuse(refiner: Refiner) -> None:
    scene = scene_at(0, 0)
    dsm = scene.dsm.read(scene.grid.whole)
    dsm[:, 60:] = np.nan
    for fuse in ("median", "mean"):
        done = all_blocks(work_on(with_dsm(scene, dsm), view_sets=SETS, fuse=fuse), refiner, 64)
        assert np.isfinite(done.heights[:, :60]).all()
        assert np.isnan(done.heights[:, 60:]).all()


def test_blocks_do_not_matter_in_bfloat16_either() -> None:
    refiner = Refiner(make_model(), device=torch.device("cpu"), precision=torch.bfloat16)
    whole, parts = (all_blocks(work_on(scene_at(0, 0)), refiner, side).heights for side in (512, 52))
    np.testing.assert_allclose(parts, whole, atol=CENTIMETRE)


def test_a_raster_without_any_height_gives_none(refiner: Refiner) -> None:
    scene = scene_at(0, 0)
    empty = with_dsm(scene, np.full(scene.grid.whole.shape, np.nan, np.float32))
    for fill in (False, True):
        done = all_blocks(work_on(empty, fill=fill, view_sets=(PAIR, (1, 2))), refiner, 64)
        assert np.isnan(done.heights).all()
        assert np.isnan(done.spread).all()
        assert not done.provenance.any()


def test_where_an_image_shows_nothing_heights_are_refined_and_marked(refiner: Refiner) -> None:
    scene = scene_at(0, 0)
    view = scene.views[1].read(scene.grid.whole)
    view[:, 100:] = np.nan
    blind = replace(scene, views={**scene.views, 1: ArrayBand(view, scene.grid)})
    done = all_blocks(work_on(blind), refiner, 64)
    assert np.isfinite(done.heights).all()
    assert (done.provenance[:, 100:] == Provenance.WITHOUT_IMAGE).all()
    assert (done.provenance[:, :100] == Provenance.REFINED).all()


def test_several_pairs_are_fused_by_median_or_mean_with_their_spread(refiner: Refiner) -> None:
    scene = scene_at(0, 0)
    each = np.stack([all_blocks(work_on(scene, view_sets=(pair,)), refiner, 64).heights for pair in SETS])
    median = all_blocks(work_on(scene, view_sets=SETS), refiner, 64)
    np.testing.assert_allclose(median.heights, np.median(each, axis=0), atol=1e-5)
    deviation = np.median(np.abs(each - np.median(each, axis=0)), axis=0)
    np.testing.assert_allclose(median.spread, 1.4826 * deviation, atol=1e-4)
    mean = all_blocks(work_on(scene, view_sets=SETS, fuse="mean"), refiner, 64)
    np.testing.assert_allclose(mean.heights, each.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(mean.spread, each.std(axis=0), atol=1e-4)


def test_pairs_are_weighted_by_their_expected_errors() -> None:
    fusion = Refiner(load_model("fusion"), device=torch.device("cpu"))
    scene = scene_at(0, 0, n_views=10)
    for index in (0, 5):  # heights that were matched
        noise = np.random.default_rng(index).normal(0, 1, scene.grid.whole.shape)
        heights = (scene.dsm.read(scene.grid.whole) + noise).astype(np.float32)
        scene = replace(scene, views={**scene.views, index: ArrayBand(heights, scene.grid)})
    sets = (tuple(range(5)), tuple(range(5, 10)))
    alone = [all_blocks(work_on(scene, view_sets=(one,), with_error=True), fusion, 512) for one in sets]
    fused = all_blocks(work_on(scene, view_sets=sets, with_error=True, fuse="uncertainty"), fusion, 512)
    errors = np.stack([one.error for one in alone])
    assert (errors > 0).all()
    heights = np.stack([one.heights for one in alone])
    np.testing.assert_allclose(fused.heights, np.average(heights, 0, errors**-2.0), atol=1e-4)
    np.testing.assert_allclose(fused.error, np.average(errors, 0, errors**-2.0), atol=1e-4)
    assert not np.isfinite(all_blocks(work_on(scene, view_sets=sets), fusion, 512).error).any()


def test_what_no_image_shows_is_refined_without_images() -> None:
    cpu, alone, sees = torch.device("cpu"), load_model("dsm-alone"), tuple(range(5))
    scene = scene_at(0, 0, n_views=5)
    for index in sees:
        view = scene.views[index].read(scene.grid.whole) / 700
        view[:, 100:] = np.nan
        scene = replace(scene, views={**scene.views, index: ArrayBand(view, scene.grid)})
    work = work_on(scene, view_sets=(sees,), with_error=True)
    both = Refiner(load_model("fusion"), device=cpu, beyond=alone)
    done = all_blocks(work, both, 64)
    fused = all_blocks(work, Refiner(load_model("fusion"), device=cpu), 512)
    shape_alone = all_blocks(
        work_on(scene, view_sets=((),), with_error=True), Refiner(alone, device=cpu), 512
    )
    for found, seen, unseen in (
        (done.heights, fused.heights, shape_alone.heights),
        (done.error, fused.error, shape_alone.error),
    ):
        np.testing.assert_allclose(found[:, : 100 + HOLE_PX], seen[:, : 100 + HOLE_PX], atol=1e-4)
        far = 100 + HOLE_PX + PASSES_PX
        np.testing.assert_allclose(found[:, far:], unseen[:, far:], atol=1e-4)
        middle = 100 + HOLE_PX + PASSES_PX // 2 - 1
        half = (seen[:, middle] + unseen[:, middle]) / 2
        np.testing.assert_allclose(found[:, middle], half, atol=1e-3)
    assert np.abs(fused.heights - shape_alone.heights)[:, 100:].max() > CENTIMETRE
    assert (done.provenance[:, 100:] == Provenance.WITHOUT_IMAGE).all()


def test_images_of_which_no_pair_is_left_count_for_nothing() -> None:
    alone, scene = load_model("dsm-alone"), scene_at(0, 0)
    both = Refiner(load_model("fusion"), device=torch.device("cpu"), beyond=alone)
    done = all_blocks(work_on(scene, view_sets=((),)), both, 64)
    wanted = all_blocks(work_on(scene, view_sets=((),)), Refiner(alone, device=torch.device("cpu")), 512)
    np.testing.assert_allclose(done.heights, wanted.heights, atol=1e-4)
    assert (done.provenance == Provenance.WITHOUT_IMAGE).all()


def test_pairs_that_see_nothing_leave_the_word_to_those_that_do(refiner: Refiner) -> None:
    scene = scene_at(0, 0)
    view = scene.views[2].read(scene.grid.whole)
    view[:50] = np.nan
    blind = replace(scene, views={**scene.views, 2: ArrayBand(view, scene.grid)})
    alone = all_blocks(work_on(blind, view_sets=((0, 1),)), refiner, 64)
    fused = all_blocks(work_on(blind, view_sets=SETS), refiner, 64)
    np.testing.assert_array_equal(fused.heights[:50], alone.heights[:50])
    assert (fused.spread[:50] == 0).all()
    assert (fused.provenance == Provenance.REFINED).all()


@pytest.mark.parametrize("depth", [1, 5, 8])
@pytest.mark.parametrize("shift", [0, 13])
def test_blocks_and_what_they_see_fit_into_memory(depth: int, shift: int) -> None:
    model = make_model("geom", 0)
    settings = {**model.architecture.settings, "depth": depth, "start_kernel": 4}
    architecture = replace(model.architecture, settings=settings)
    weights = new_network("UNet", settings).state_dict()
    refiner = Refiner(replace(model, architecture=architecture, weights=weights), device=torch.device("cpu"))
    grid = Grid(5000, 7001, (0.5, 0, 0.5 * shift, 0, -0.5, 0))
    scene = Scene("large", grid, ArrayBand(np.zeros((1, 1), np.float32), grid))
    work = Work(scene, grid.whole, ((),), "seamless", 256)
    halo, cell = architecture.halo_px, 2**depth
    largest = max(refiner.block_area(), (3 * cell + 2 * halo) ** 2)
    blocks = list(blocks_of(work, refiner))
    assert sum(block.area for block in blocks) == grid.whole.area
    for block in blocks:
        seen = aligned(block.moved(*grid.lattice_origin), cell)
        assert (seen.height + 2 * halo) * (seen.width + 2 * halo) <= largest
