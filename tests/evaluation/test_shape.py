import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resdepth.evaluation.metrics import statistics
from resdepth.evaluation.shape import OutlineProfiles, outline_margin_px
from resdepth.geo.grid import Sides
from resdepth.geo.windows import Window, blocks

GSD = 0.5
SIDES = Sides(GSD, GSD)
SIDE = 160
WHOLE = (slice(0, SIDE), slice(0, SIDE))


def covered(low: float, high: float, width: float) -> np.ndarray:
    """How much of what 160 pixels see, each over a width of pixels, lies in an interval of pixels: 0 to 1."""
    places, half = np.arange(SIDE) + 0.5, width / 2
    return np.clip(np.minimum(places + half, high) - np.maximum(places - half, low), 0, width) / width


def box(
    top: float, left: float, bottom: float, right: float, *, height: float = 10.0, width: float = 2.0
) -> np.ndarray:
    """A house on flat ground 100 m up, whose walls are ramps of some pixels."""
    share = covered(top, bottom, width)[:, None] * covered(left, right, width)
    return (100 + height * share).astype(np.float32)


def turned(angle_deg: float, grown: float = 0.0, moved: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """A house of 60 x 44 pixels that is turned; its walls are ramps of three pixels."""
    angle = np.radians(angle_deg)
    row, col = np.indices((SIDE, SIDE)) + 0.5 - 80.3
    row, col = row - moved[0], col - moved[1]
    along, across = row * np.cos(angle) + col * np.sin(angle), col * np.cos(angle) - row * np.sin(angle)
    inside = np.minimum(30 + grown - np.abs(along), 22 + grown - np.abs(across))
    return (100 + 10 * np.clip(inside / 3 + 0.5, 0, 1)).astype(np.float32)


REFERENCE = box(50, 40, 100, 110)
BUILDING = REFERENCE > 105
EAST = (slice(60, 90), slice(100, 120))
NORTH = (slice(40, 60), slice(55, 95))


def profiles(inner: tuple[slice, slice] = WHOLE, reference: np.ndarray = REFERENCE) -> OutlineProfiles:
    return OutlineProfiles.of(reference > 105, reference, inner, SIDES)


def test_the_reference_itself_is_nowhere_displaced() -> None:
    found = profiles().displacements(REFERENCE)
    assert profiles().count == len(found) == pytest.approx((50 + 70 - 2), abs=2)
    assert (found == 0).all()


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_a_shifted_building_is_displaced_on_each_side_by_the_shift(down: float, right: float) -> None:
    surface = box(50 + down, 40 + right, 100 + down, 110 + right)
    np.testing.assert_allclose(profiles(EAST).displacements(surface), right * GSD, atol=1e-4)
    np.testing.assert_allclose(profiles(NORTH).displacements(surface), -down * GSD, atol=1e-4)
    assert profiles(EAST).count == 15
    assert profiles(NORTH).count == 20


@given(st.floats(-1, 1))
def test_an_edge_mixed_in_one_pixel_is_placed_to_a_twelfth_of_it(right: float) -> None:
    reference = box(50, 40, 100, 110, width=1)
    found = profiles(EAST, reference=reference).displacements(box(50, 40, 100, 110 + right, width=1))
    assert len(found) == 15
    np.testing.assert_allclose(found, right * GSD, atol=GSD / 11.6)


@given(st.floats(-4, 4))
def test_a_building_too_large_is_displaced_outwards_everywhere(grown: float) -> None:
    surface = box(50 - grown, 40 - grown, 100 + grown, 110 + grown)
    found = profiles().displacements(surface)
    assert len(found) == profiles().count
    assert np.median(found) == pytest.approx(grown * GSD, abs=1e-4)
    # Across a corner it is farther, and some profiles beside one bend with it.
    assert np.quantile(np.abs(found - grown * GSD), 0.85) < 0.05
    assert np.abs(found).max() <= abs(grown) * GSD * 1.8 + 0.02


@pytest.mark.parametrize("angle", [10, 30, 45, 63])
def test_turned_buildings_are_measured_across_their_walls(angle: float) -> None:
    reference = turned(angle)
    found = profiles(reference=reference)
    larger = found.displacements(turned(angle, grown=1.5))
    assert found.count > 40
    assert np.median(larger) == pytest.approx(1.5 * GSD, abs=0.02)
    assert np.quantile(np.abs(larger - 1.5 * GSD), 0.8) < 0.1
    shifted = found.displacements(turned(angle, moved=(0.8, -1.2)))
    assert shifted.mean() == pytest.approx(0, abs=0.03)
    assert np.quantile(np.abs(shifted), 0.95) < 0.76  # the length of the shift is 0.72


def test_what_a_surface_lacks_is_not_found() -> None:
    assert len(profiles().displacements(np.full_like(REFERENCE, 100))) == 0
    assert len(profiles().displacements(box(50, 40, 100, 110, height=0.4))) == 0
    half = box(50, 40, 100, 75)
    found = profiles().displacements(half)
    assert 0.3 < len(found) / profiles().count < 0.6


def test_a_building_that_is_too_low_by_less_than_half_is_found() -> None:
    found = profiles().displacements(box(50, 40, 100, 110, height=5.5))
    assert len(found) == profiles().count
    np.testing.assert_allclose(found, 0, atol=1e-4)


def test_edges_do_not_depend_on_heights() -> None:
    lifted = profiles().displacements(box(50, 41, 100, 111, height=14) + np.float32(30))
    np.testing.assert_allclose(lifted, profiles().displacements(box(50, 41, 100, 111)), atol=1e-3)


def test_low_walls_of_the_reference_count_for_nothing() -> None:
    assert OutlineProfiles.of(BUILDING, box(50, 40, 100, 110, height=1.9), WHOLE, SIDES).count == 0
    assert OutlineProfiles.of(BUILDING, box(50, 40, 100, 110, height=2.1), WHOLE, SIDES).count > 100


def test_of_several_edges_the_nearest_to_the_true_one_counts() -> None:
    # A lower terrace in front of the east wall makes a second fall through the middle.
    surface = box(50, 40, 100, 110.4)
    surface[:, 113:115] = np.maximum(surface[:, 113:115], 109)
    np.testing.assert_allclose(profiles(EAST).displacements(surface), 0.4 * GSD, atol=1e-4)


def test_profiles_through_voids_of_the_reference_are_left_out() -> None:
    reference = REFERENCE.copy()
    reference[70, 112] = np.nan
    left = profiles(EAST, reference=reference)
    # At the east wall profiles run along rows; a pixel is looked at from its own row, and from the one above.
    assert left.count == profiles(EAST).count - 1
    assert (left.displacements(REFERENCE) == 0).all()


def test_a_surface_has_no_edge_where_it_is_void() -> None:
    surface = REFERENCE.copy()
    surface[70:80, 108:114] = np.nan
    found = profiles(EAST).displacements(surface)
    # Of 15 profiles, those in rows 70 to 79, and one beside them.
    assert len(found) == 9
    assert (found == 0).all()
    assert len(profiles().displacements(np.full_like(REFERENCE, np.nan))) == 0


def test_nothing_is_found_without_buildings() -> None:
    nothing = OutlineProfiles.of(np.zeros_like(BUILDING), REFERENCE, WHOLE, SIDES)
    assert nothing.count == 0
    assert nothing.displacements(REFERENCE).shape == (0,)
    speck = np.zeros_like(BUILDING)
    speck[80, 80] = True
    assert OutlineProfiles.of(speck, REFERENCE, WHOLE, SIDES).count == 0


@pytest.mark.parametrize("side", [23, 64])
def test_blocks_add_up_to_the_whole(side: int) -> None:
    reference = np.maximum(turned(25), box(12, 8, 30, 150))
    noisy = reference + np.random.default_rng(0).normal(0, 0.5, reference.shape).astype(np.float32)
    whole, margin = profiles(reference=reference), outline_margin_px(SIDES)
    count, found = 0, []
    raster = Window(0, 0, SIDE, SIDE)
    for inner in blocks(raster, side):
        outer = inner.grown(margin, raster)
        part = OutlineProfiles.of(
            reference[outer.slices] > 105,
            reference[outer.slices],
            inner.relative_to(outer).slices,
            SIDES,
            (outer.row, outer.col),
        )
        count += part.count
        found.append(part.displacements(noisy[outer.slices]))
    assert count == whole.count > 100
    together = np.concatenate(found)
    np.testing.assert_array_equal(np.sort(together), np.sort(whole.displacements(noisy)))
    assert statistics(together).nmad < 0.3


@pytest.mark.parametrize("gsd", [0.1, 0.25, 1.0, 3.0])
def test_any_pixel_size_will_do(gsd: float) -> None:
    found = OutlineProfiles.of(BUILDING, REFERENCE, WHOLE, Sides(gsd, gsd))
    larger = found.displacements(box(49.2, 39.2, 100.8, 110.8))
    assert len(larger) == found.count > 80
    assert np.median(larger) == pytest.approx(0.8 * gsd, abs=0.3 * gsd if gsd < 0.25 else 0.01 * gsd)


@pytest.mark.parametrize("sides", [Sides(0.5, 0.25), Sides(0.25, 1.0)])
@given(st.floats(-1, 1), st.floats(-1, 1))
def test_edges_lie_as_far_off_on_pixels_that_are_not_square(
    sides: Sides, down_m: float, right_m: float
) -> None:
    surface = box(50 + down_m / sides.height, 40 + right_m / sides.width, 100, 110)
    reference, margin = REFERENCE, outline_margin_px(sides)
    assert margin <= 20
    west, north = (slice(60, 90), slice(30, 50)), (slice(40, 60), slice(55, 95))
    at_west = OutlineProfiles.of(BUILDING, reference, west, sides)
    at_north = OutlineProfiles.of(BUILDING, reference, north, sides)
    np.testing.assert_allclose(at_west.displacements(surface), -right_m, atol=1e-3)
    np.testing.assert_allclose(at_north.displacements(surface), -down_m, atol=1e-3)
