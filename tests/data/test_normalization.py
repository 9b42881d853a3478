"""From metres and grey values to what a network sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from resdepth.data.normalization import (
    Inputs,
    Normalization,
    height_sigma,
    image_statistics,
    noise_share,
    normalize_patch,
    patch_centre,
)
from resdepth.geo.grid import Grid
from resdepth.geo.raster import ArrayBand
from resdepth.geo.windows import Window

STEREO = Inputs(uses_dsm=True, n_views=2)

heights = st.floats(-430, 8849, width=32)
greys = st.floats(0, 4095, width=32)


def band(values: np.ndarray) -> ArrayBand:
    return ArrayBand(values, Grid(*values.shape, (1, 0, 0, 0, -1, 0)))


@given(
    arrays.arrays(np.float32, (8, 8), elements=heights),
    arrays.arrays(np.float32, (2, 8, 8), elements=greys),
    st.floats(0.1, 50),
    st.floats(-100, 2000),
    st.floats(1, 500),
)
def test_undoing_the_normalisation_gives_heights_and_grey_values_back(
    dsm: np.ndarray, views: np.ndarray, sigma: float, mean: float, std: float
) -> None:
    patch = normalize_patch(dsm, views, Normalization(sigma, mean, std), STEREO)
    assert patch.channels.dtype == np.float32
    np.testing.assert_allclose(patch.channels[0].astype(float) * sigma + patch.centre, dsm, atol=1e-3)
    np.testing.assert_allclose(patch.channels[1:].astype(float) * std + mean, views, atol=1e-2)


@given(arrays.arrays(np.float32, (8, 8), elements=heights), st.integers(-4000, 4000))
def test_raising_a_patch_changes_nothing_but_its_centre(dsm: np.ndarray, lift: int) -> None:
    dsm = np.round(dsm)  # whole metres, so that the sum is exact
    nothing = np.empty((0, 8, 8), np.float32)
    alone = Inputs(uses_dsm=True, n_views=0)
    low = normalize_patch(dsm, nothing, Normalization(2.0), alone)
    high = normalize_patch(dsm + np.float32(lift), nothing, Normalization(2.0), alone)
    np.testing.assert_allclose(high.channels, low.channels, atol=1e-4)
    assert high.centre - low.centre == pytest.approx(lift, abs=1e-6)


def test_the_channels_are_the_dsm_and_then_the_views_in_order() -> None:
    dsm = np.array([[1, 3]], np.float32)
    views = np.array([[[10, 20]], [[30, 40]]], np.float32)
    patch = normalize_patch(dsm, views, Normalization(4.0, 10.0, 5.0), STEREO)
    np.testing.assert_allclose(patch.channels, [[[-0.25, 0.25]], [[0, 2]], [[4, 6]]])
    assert patch.centre == 2


def test_a_network_without_dsm_sees_the_views_but_keeps_the_centre() -> None:
    views = np.array([[[10, 20]], [[30, 40]]], np.float32)
    inputs = Inputs(uses_dsm=False, n_views=2)
    patch = normalize_patch(np.array([[1, 3]], np.float32), views, Normalization(4.0, 10.0, 5.0), inputs)
    np.testing.assert_allclose(patch.channels, [[[0, 2]], [[4, 6]]])
    assert patch.centre == 2


def test_a_void_grey_value_becomes_the_mean_grey_value() -> None:
    views = np.full((2, 2, 2), 30, np.float32)
    views[0, 1, 1] = np.nan
    patch = normalize_patch(np.zeros((2, 2), np.float32), views, Normalization(1.0, 20.0, 10.0), STEREO)
    np.testing.assert_array_equal(patch.channels[1], [[1, 1], [1, 0]])


def test_a_network_with_images_needs_their_constants() -> None:
    with pytest.raises(ValueError, match="image_mean"):
        normalize_patch(
            np.zeros((2, 2), np.float32), np.zeros((2, 2, 2), np.float32), Normalization(1.0), STEREO
        )


def test_the_centre_is_the_mean_of_the_known_heights() -> None:
    assert patch_centre(np.array([[1, 2], [np.nan, 6]], np.float32)) == 3
    assert patch_centre(np.full((2, 2), np.nan, np.float32)) == 0


def test_the_centre_is_exact_on_high_mountains() -> None:
    """A sum in float32 would be a millimetre off."""
    dsm = np.random.default_rng(0).uniform(6000, 8849, (501, 333)).astype(np.float32)
    assert patch_centre(dsm) == pytest.approx(dsm.astype(float).mean(), abs=1e-6)


def test_sigma_is_the_trimmed_mean_of_the_patches_deviations() -> None:
    deviations = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 1000.0])
    # Two heights d apart have the sample standard deviation d / sqrt(2).
    patches = [np.array([[500, 500 + d * np.sqrt(2)]], np.float32) for d in deviations]
    # The percentiles of 21 values are the second and the second last: they stay in.
    assert height_sigma(patches) == pytest.approx(np.mean(deviations[1:-1]), rel=1e-5)


def test_sigma_of_one_patch_is_its_sample_deviation() -> None:
    values = np.random.default_rng(0).normal(400, 3, (16, 16)).astype(np.float32)
    assert height_sigma([values]) == pytest.approx(values.std(ddof=1, dtype=float))


def test_voids_do_not_count_for_sigma() -> None:
    patch = np.array([[400, 402, np.nan]], np.float32)
    only_one = np.array([[400, np.nan, np.nan]], np.float32)
    assert height_sigma([patch, only_one]) == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize(
    ("patch", "stated"), [([[np.nan, 400]], "two valid heights"), ([[400, 400]], "constant")]
)
def test_sigma_of_nothing_is_refused(patch: list[list[float]], stated: str) -> None:
    with pytest.raises(ValueError, match=stated):
        height_sigma([np.array(patch, np.float32)])
    with pytest.raises(ValueError, match="two valid heights"):
        height_sigma([])


@given(st.integers(1, 1300), st.integers(1, 5), st.integers(0, 2**32))
def test_image_statistics_are_those_of_all_pixels_at_once(rows: int, cols: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [rng.normal(1000 * (index + 1), 50, (rows + 3, cols)) for index in range(2)]
    images[0][rng.random(images[0].shape) < 0.1] = np.nan
    images[1][:2] = [[3000], [3001]][: rows + 3]
    regions = (Window(0, 0, 2, cols), Window(3, 0, rows, cols))
    seen = np.concatenate(
        [image.astype(np.float32)[region.slices].ravel() for image in images for region in regions]
    )
    seen = seen[np.isfinite(seen)].astype(float)
    mean, std = image_statistics((band(image), regions) for image in images)
    assert mean == pytest.approx(seen.mean(), rel=1e-9)
    assert std == pytest.approx(seen.std(), rel=1e-7)


def test_image_statistics_are_exact_far_from_zero() -> None:
    """Sums of squares in float32, or without a shift, would lose a deviation of 1 at 60,000."""
    values = 60_000 + np.random.default_rng(0).choice([-1, 1], (600, 500))
    _, std = image_statistics([(band(values.astype(np.uint16)), (Window(0, 0, 600, 500),))])
    assert std == pytest.approx(values.std(), rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_images_without_contrast_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no valid pixel or a single grey value"):
        image_statistics([(band(np.full((4, 4), value, np.float32)), (Window(0, 0, 4, 4),))])


def relief(noise_m: float, step_m: float = 0.0) -> list[np.ndarray]:
    """Smooth ground, a half of it under trees, with noise, in steps as coarse matching has them."""
    rng = np.random.default_rng(4)
    rows, cols = np.mgrid[:96, :96]
    ground = 0.2 * rows + 2 * np.sin(cols / 25) + rng.normal(0, noise_m, (96, 96))
    trees = np.where(cols < 48, rng.uniform(0, 12, (96, 96)), 0)
    heights = ground + trees
    if step_m:
        heights = np.round(heights / step_m) * step_m
    return [heights.astype(np.float32)]


@pytest.mark.parametrize(
    ("noise_m", "step_m", "share"),
    [(0.0, 0.0, 0.0), (0.02, 0.0, 0.0), (0.3, 0.0, 1.0), (0.02, 0.5, 1.0), (0.02, 0.0001, 0.0)],
)
def test_noise_is_seen_on_the_smoothest_ground(noise_m: float, step_m: float, share: float) -> None:
    """Trees are no noise; steps are."""
    assert noise_share(relief(noise_m, step_m), 0.5) == share


def test_noise_counts_in_pixels_without_voids() -> None:
    (heights,) = relief(0.12)
    fine, coarse = noise_share([heights], 0.5), noise_share([2 * heights], 1.0)
    assert 0 < fine == pytest.approx(coarse)
    heights[20:40, 20:70] = np.nan
    heights[60:80, 20:90] = 7.0  # filled
    assert noise_share([heights], 0.5) == pytest.approx(fine, abs=0.2)
    flat = np.where(np.arange(96) < 60, np.float32(7), heights)
    assert noise_share([flat.astype(np.float32)], 0.5) == 0
    assert noise_share([], 0.5) == noise_share([np.full((8, 8), np.nan, np.float32)], 0.5) == 0
