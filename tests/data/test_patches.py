"""Training and validation samples."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resdepth.data.normalization import Inputs, Normalization
from resdepth.data.patches import (
    InitialSamples,
    Sample,
    ScenePatches,
    TrainingSamples,
    ValidationSamples,
    Variation,
    batches,
    draw_patches,
    validation_patches,
)
from resdepth.data.scene import Scene, ViewSet
from resdepth.geo.windows import Window

TILE = 16
SHAPE = (40, 60)
STEREO = Inputs(uses_dsm=True, n_views=2)
# With these constants every channel keeps its stored number, apart from the DSM's centre.
PLAIN = Normalization(1.0, 0.0, 1.0)
PAIRS: tuple[ViewSet, ...] = ((0, 1), (1, 2), (2, 0))
STILL = Variation(turn=False, permute=False)
TURNED = Variation(turn=True, permute=False)
MOVED = Variation(turn=True, permute=True, stretch=3.0)


def numbered_scene(n_views: int = 3) -> Scene:
    """A scene whose every pixel, in every raster, has a number of its own that float32 can hold."""
    number = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    views = [10_000 * (index + 1) + number for index in range(n_views)]
    reference = number + 0.5
    reference[3:5, 3:5] = np.nan
    return Scene.of_arrays(number, views, reference=reference)


def training_samples(
    variation: Variation = STILL, *, all_pairs: bool = True, seed: int = 0, n: int = 7
) -> TrainingSamples:
    regions = (Window(0, 0, 40, 24), Window(0, 36, 40, 24))
    part = draw_patches(numbered_scene(), regions, PAIRS, tile=TILE, n=n, all_pairs=all_pairs, seed=(seed, 0))
    return TrainingSamples([part], TILE, PLAIN, STEREO, variation, seed)


@pytest.mark.parametrize("kind", ["training", "validation"])
def test_heights_outside_of_mask_ground_truth_do_not_count(kind: str) -> None:
    counted = np.ones(SHAPE, np.uint8)
    counted[:, 10:20] = 0
    scene, region = numbered_scene(), Window(0, 0, 40, 32)
    mask = Scene.of_arrays(np.ones(SHAPE, np.float32), masks={"ground_truth": counted}).masks
    scene = replace(scene, masks=mask)
    if kind == "validation":
        part = validation_patches(scene, [region], PAIRS[:1], tile=TILE)
        samples: TrainingSamples | ValidationSamples = ValidationSamples([part], TILE, PLAIN, STEREO)
    else:
        part = draw_patches(scene, [region], PAIRS[:1], tile=TILE, n=9, all_pairs=True, seed=(0, 0))
        samples = TrainingSamples([part], TILE, PLAIN, STEREO, STILL, 0)
    for index in range(len(samples)):
        sample = samples.sample(index, 0)
        number = np.rint(heights(sample)).astype(int)
        row, col = np.divmod(number, SHAPE[1])
        known, inside = ~np.isnan(sample.reference), counted[row, col] == 1
        void = (row >= 3) & (row < 5) & (col >= 3) & (col < 5)
        assert not known[~inside].any()
        if kind == "training":
            assert known[inside & ~void].all()


def heights(sample: Sample) -> np.ndarray:
    return sample.channels[0] + np.float32(sample.centre)


def view_set_of(sample: Sample) -> tuple[int, ...]:
    return tuple(int(channel.max()) // 10_000 - 1 for channel in sample.channels[1:])


def all_samples(samples: TrainingSamples | ValidationSamples, epoch: int = 0) -> list[Sample]:
    return [samples.sample(index, epoch) for index in range(len(samples))]


# --- which patch with which views


def test_with_all_pairs_each_patch_is_seen_with_every_pair() -> None:
    samples = training_samples(n=7)
    assert len(samples) == 7 * 3
    seen = {(int(heights(sample)[0, 0]), view_set_of(sample)) for sample in all_samples(samples)}
    assert len(seen) == 21
    assert {pair for _, pair in seen} == set(PAIRS)


def test_otherwise_each_patch_is_seen_with_one_pair_that_stays() -> None:
    samples = training_samples(n=60, all_pairs=False)
    assert len(samples) == 60
    first, later = ([view_set_of(sample) for sample in all_samples(samples, epoch)] for epoch in (0, 9))
    assert first == later
    assert set(first) == set(PAIRS)


def test_training_patches_lie_inside_a_training_region() -> None:
    for sample in all_samples(training_samples(n=100)):
        corner = int(heights(sample).min())
        row, col = divmod(corner, SHAPE[1])
        assert row <= 40 - TILE
        assert col <= 24 - TILE or 36 <= col <= 60 - TILE


def test_every_channel_and_the_reference_show_the_same_pixels() -> None:
    for sample in all_samples(training_samples(Variation(), n=20), epoch=3):
        number = heights(sample)
        first, second = view_set_of(sample)
        np.testing.assert_array_equal(sample.channels[1], number + 10_000 * (first + 1))
        np.testing.assert_array_equal(sample.channels[2], number + 10_000 * (second + 1))
        known = np.isfinite(sample.reference)
        assert known.mean() > 0.9
        np.testing.assert_allclose((sample.reference + sample.centre - number)[known], 0.5, atol=1e-3)


def test_the_reference_is_relative_to_the_mean_of_the_initial_dsm() -> None:
    sample = training_samples().sample(0, 0)
    assert abs(sample.channels[0].mean()) < 1e-3
    assert np.nanmean(sample.reference) == pytest.approx(0.5, abs=1e-2)


def test_several_scenes_follow_each_other() -> None:
    number = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    low, high = (
        Scene.of_arrays(number + lift, reference=number + lift, name=str(lift)) for lift in (0, 500_000)
    )
    inputs, whole = Inputs(uses_dsm=True, n_views=0), [Window(0, 0, *SHAPE)]
    parts = [
        draw_patches(scene, whole, (), tile=TILE, n=n, all_pairs=True, seed=(0, index))
        for index, (scene, n) in enumerate([(low, 3), (high, 5)])
    ]
    samples = TrainingSamples(parts, TILE, Normalization(1.0), inputs, STILL, 0)
    assert [sample.centre > 400_000 for sample in all_samples(samples)] == [False] * 3 + [True] * 5
    corners = [part.corners.tolist() for part in parts]
    assert corners[0] != corners[1][:3]


def test_a_scene_without_reference_cannot_teach() -> None:
    scene = Scene.of_arrays(np.zeros(SHAPE, np.float32), name="bare")
    part = ScenePatches(scene, np.zeros((1, 2), np.int64), ((),))
    samples = TrainingSamples([part], TILE, Normalization(1.0), Inputs(True, 0), STILL, 0)
    with pytest.raises(ValueError, match="'bare' has no reference DSM"):
        samples.sample(0, 0)


# --- augmentation and permutation


def orientation(sample: Sample) -> tuple[int, ...]:
    """The numbers in the four corners, counted from the patch's lowest: eight possible orders."""
    number = heights(sample)
    corners = number[0, 0], number[0, -1], number[-1, 0], number[-1, -1]
    return tuple(int(value - number.min()) for value in corners)


def test_augmentation_turns_and_mirrors_in_all_eight_ways_equally_often() -> None:
    samples = training_samples(TURNED)
    seen = [orientation(samples.sample(0, epoch)) for epoch in range(800)]
    counts = [seen.count(kind) for kind in set(seen)]
    assert len(counts) == 8
    # Each 100 times, with a standard deviation of 9.
    assert min(counts) > 55
    assert max(counts) < 145


def test_the_samples_of_an_epoch_are_turned_each_in_its_own_way() -> None:
    seen = [orientation(sample) for sample in all_samples(training_samples(TURNED, n=100))]
    assert len(set(seen)) == 8


def test_without_augmentation_patches_stay_as_they_are() -> None:
    samples = training_samples()
    expected = orientation(samples.sample(0, 0))
    assert expected == (0, 15, 15 * 60, 15 * 60 + 15)
    assert {orientation(samples.sample(0, epoch)) for epoch in range(20)} == {expected}


def test_views_are_shuffled_anew_at_each_visit_if_wanted() -> None:
    shuffled, fixed = training_samples(replace(STILL, permute=True)), training_samples()
    assert {view_set_of(fixed.sample(0, epoch)) for epoch in range(20)} == {(0, 1)}
    seen = [view_set_of(shuffled.sample(0, epoch)) for epoch in range(200)]
    assert set(seen) == {(0, 1), (1, 0)}
    assert 60 < seen.count((0, 1)) < 140


def test_five_views_are_shuffled_as_well() -> None:
    scene = numbered_scene(5)
    part = draw_patches(
        scene, [Window(0, 0, *SHAPE)], [(0, 1, 2, 3, 4)], tile=TILE, n=1, all_pairs=True, seed=(0,)
    )
    inputs = Inputs(uses_dsm=True, n_views=5)
    samples = TrainingSamples([part], TILE, PLAIN, inputs, replace(STILL, permute=True), 0)
    seen = {view_set_of(samples.sample(0, epoch)) for epoch in range(60)}
    assert len(seen) > 20
    assert {tuple(sorted(views)) for views in seen} == {(0, 1, 2, 3, 4)}


def test_relief_is_stretched_about_the_centre_of_the_patch_and_images_stay() -> None:
    samples, plain = training_samples(replace(STILL, stretch=3.0)), training_samples().sample(0, 0)
    factors = []
    for epoch in range(400):
        stretched = samples.sample(0, epoch)
        factor = stretched.channels[0, 0, 0] / plain.channels[0, 0, 0]
        np.testing.assert_allclose(stretched.channels[0], plain.channels[0] * factor, rtol=1e-5)
        np.testing.assert_allclose(stretched.reference, plain.reference * factor, rtol=1e-5)
        np.testing.assert_array_equal(stretched.channels[1:], plain.channels[1:])
        assert stretched.centre == plain.centre
        factors.append(factor)
    assert 1 / 3 <= min(factors) < 0.36
    assert 2.8 < max(factors) <= 3
    # Half of them lower, half of them higher.
    assert np.median(factors) == pytest.approx(1, abs=0.15)


def test_stretching_moves_no_other_random_choice() -> None:
    """So trainings with and without it see the same patches, turned the same way."""
    moved, plain = (training_samples(Variation(stretch=stretch)) for stretch in (3.0, 1.0))
    for one, other in zip(all_samples(moved, 2), all_samples(plain, 2), strict=True):
        np.testing.assert_array_equal(one.channels[1:], other.channels[1:])


# --- randomness


def same(a: Sample, b: Sample) -> bool:
    return np.array_equal(a.channels, b.channels) and np.array_equal(a.reference, b.reference, equal_nan=True)


def test_a_sample_follows_from_seed_epoch_and_index_alone() -> None:
    samples, again = (training_samples(MOVED, all_pairs=False) for _ in range(2))
    forwards = all_samples(samples, 4)
    backwards = [again.sample(index, 4) for index in reversed(range(len(again)))]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_another_seed_draws_other_patches_and_another_order() -> None:
    one, two = training_samples(seed=1), training_samples(seed=2)
    assert not any(same(a, b) for a, b in zip(all_samples(one), all_samples(two), strict=True))
    assert one.order(0).tolist() != two.order(0).tolist()


@given(st.integers(0, 1000))
def test_the_order_of_an_epoch_visits_every_sample_once(epoch: int) -> None:
    samples = training_samples()
    order = samples.order(epoch)
    assert sorted(order) == list(range(len(samples)))
    assert order.tolist() == training_samples().order(epoch).tolist()
    assert order.tolist() != samples.order(epoch + 1).tolist()


# --- validation


def validation(view_sets: tuple[ViewSet, ...] = PAIRS[:2]) -> ValidationSamples:
    """Two regions that are no multiples of a tile."""
    regions = (Window(0, 2, 37, 20), Window(4, 30, 16, 30))
    part = validation_patches(numbered_scene(), regions, view_sets, tile=TILE)
    return ValidationSamples([part], TILE, PLAIN, STEREO)


def test_validation_counts_each_pixel_of_the_regions_once_per_pair() -> None:
    counts = np.zeros((len(PAIRS[:2]), *SHAPE), int)
    for sample in all_samples(validation()):
        counted = np.isfinite(sample.reference)
        rows, cols = np.divmod(heights(sample)[counted].astype(int), SHAPE[1])
        counts[PAIRS.index(view_set_of(sample)), rows, cols] += 1
    expected = np.zeros(SHAPE, int)
    expected[0:37, 2:22] = expected[4:20, 30:60] = 1
    expected[3:5, 3:5] = 0
    np.testing.assert_array_equal(counts, [expected, expected])


def test_validation_neither_turns_nor_shuffles_anything() -> None:
    samples = validation()
    assert {orientation(sample) for sample in all_samples(samples, 5)} == {(0, 15, 900, 915)}
    assert {view_set_of(sample) for sample in all_samples(samples, 5)} == {(0, 1), (1, 2)}
    assert samples.order(3).tolist() == list(range(len(samples)))


def test_the_initial_dsm_answers_for_the_same_pixels() -> None:
    samples = validation()
    initial = InitialSamples(samples)
    assert initial.order(0).tolist() == samples.order(0).tolist()
    for index in range(len(samples)):
        seen, answer = samples.sample(index, 0), initial.sample(index, 0)
        np.testing.assert_array_equal(answer.reference, seen.reference)
        np.testing.assert_allclose(answer.channels, seen.channels[:1] * PLAIN.height_sigma, rtol=1e-6)


# --- batches


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 21, 50])
def test_batches_hold_the_samples_in_order_whatever_the_number_of_threads(
    workers: int, batch_size: int
) -> None:
    samples = training_samples(MOVED)
    order = samples.order(2)
    found = list(batches(samples, order, batch_size=batch_size, epoch=2, workers=workers))
    sizes = [len(batch.channels) for batch in found]
    assert sum(sizes) == 21
    assert set(sizes[:-1]) <= {batch_size}
    channels = np.concatenate([batch.channels.numpy() for batch in found])
    reference = np.concatenate([batch.reference.numpy() for batch in found])
    assert reference.shape == (21, 1, TILE, TILE)
    for position, index in enumerate(order):
        expected = samples.sample(int(index), 2)
        np.testing.assert_array_equal(channels[position], expected.channels)
        np.testing.assert_array_equal(reference[position, 0], expected.reference)


@pytest.mark.parametrize("processes", [2, 3, 30])
def test_processes_share_each_batch_and_nobody_is_left_without_samples(processes: int) -> None:
    samples = training_samples(MOVED)
    order = samples.order(0)
    parts = [
        list(batches(samples, order, batch_size=2, epoch=0, workers=0, rank=rank, processes=processes))
        for rank in range(processes)
    ]
    whole = list(batches(samples, order, batch_size=2 * processes, epoch=0, workers=0))
    for shared, batch in zip(zip(*parts, strict=True), whole, strict=True):
        sizes = [len(part.channels) for part in shared]
        if len(batch.channels) < processes:
            assert all(torch.equal(part.channels, batch.channels) for part in shared)
            continue
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) <= 1
        assert torch.equal(torch.cat([part.channels for part in shared]), batch.channels)
        torch.testing.assert_close(
            torch.cat([part.reference for part in shared]), batch.reference, rtol=0, atol=0, equal_nan=True
        )


class FailingSamples:
    def __len__(self) -> int:
        return 12

    def sample(self, index: int, epoch: int) -> Sample:
        if index == 5:
            raise OSError("the disk is gone")
        return Sample(np.zeros((1, 2, 2), np.float32), np.zeros((2, 2), np.float32), 0.0)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_sample_reaches_the_caller(workers: int) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        list(batches(FailingSamples(), np.arange(12), batch_size=2, epoch=0, workers=workers))


class CountingSamples(FailingSamples):
    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 1000

    def sample(self, index: int, epoch: int) -> Sample:
        self.read.append(index)
        return Sample(np.zeros((1, 2, 2), np.float32), np.zeros((2, 2), np.float32), 0.0)


def test_only_a_few_batches_are_prepared_ahead() -> None:
    samples = CountingSamples()
    stream = batches(samples, np.arange(1000), batch_size=10, epoch=0, workers=2)
    list(itertools.islice(stream, 3))
    time.sleep(0.2)  # threads that wanted to go on would have done so
    assert 10 * 3 <= len(samples.read) <= 10 * (3 + 3)
