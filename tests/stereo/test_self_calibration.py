"""From where an ortho-image was seen, and the raw image that it came from."""

import cv2
import numpy as np
import pytest

from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Array, ArrayBand
from resdepth.geo.rpc import ViewGeometry
from resdepth.geo.windows import Window
from resdepth.stereo.ortho import to_geographic
from resdepth.stereo.self_calibration import (
    LocalBand,
    NotFound,
    UnrectifiedImage,
    confirmed_direction,
    found_direction,
    found_shift,
)

SIDE, GSD = 400, 0.5


def band(values: Array) -> ArrayBand:
    x, y = 400_000.0, 5_500_000.0
    grid = Grid(*values.shape, (GSD, 0.0, x, 0.0, -GSD, y), *find_crs("EPSG:32632"))
    return ArrayBand(values, grid)


def texture(seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE)).astype(np.float32)
    return np.asarray(400 + 900 * cv2.GaussianBlur(noise, (0, 0), 1.2))


def rough_dsm(seed: int = 1, strength: float = 4.0) -> Array:
    """Ground with the noise of matching: blobs with steps around them."""
    rng = np.random.default_rng(seed)
    heights = np.full((SIDE, SIDE), 100.0, np.float32)
    for _ in range(1500):
        row, col, size = rng.integers(SIDE), rng.integers(SIDE), rng.integers(3, 12)
        heights[row : row + size, col : col + size] += np.float32(rng.normal() * strength)
    return heights


def ortho_of(raw: Array, dsm: Array, per_metre: tuple[float, float]) -> Array:
    """What an ortho-image made with a DSM shows of a raw image of parallel rays."""
    row, col = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    above = dsm - np.float32(100)
    at = col + np.float32(per_metre[1]) * above, row + np.float32(per_metre[0]) * above
    return np.asarray(cv2.remap(raw, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


@pytest.mark.parametrize("direction", [(0.3, 0.1), (-0.1, 0.25), (0.0, -0.5)])
def test_ghosts_show_from_where_an_image_was_seen(direction: tuple[float, float]) -> None:
    dsm = rough_dsm()
    ortho = ortho_of(texture(), dsm, (direction[0] / GSD, direction[1] / GSD))
    found = found_direction(band(dsm), band(ortho))
    assert (found.rows, found.cols) == pytest.approx(direction, abs=0.02)
    assert found.off_nadir_deg == pytest.approx(np.degrees(np.arctan(np.hypot(*direction))), abs=1)


def test_a_stated_direction_is_confirmed_by_ghosts_of_this_dsm_alone() -> None:
    dsm, direction = rough_dsm(), (-0.1, 0.25)
    ortho = band(ortho_of(texture(), dsm, (direction[0] / GSD, direction[1] / GSD)))

    def stated(rows: float, cols: float) -> ViewGeometry:
        x, y = ortho.grid.map_position(SIDE / 2, SIDE / 2)
        return ViewGeometry((x, y), 100.0, (cols, 0.001, 0, 0, 0, 0), (-rows, 0, 0.002, 0, 0, 0))

    found = confirmed_direction(band(dsm), ortho, stated(*direction))
    assert (found.rows, found.cols) == pytest.approx(direction)
    blurred = cv2.GaussianBlur(dsm, (0, 0), 3)
    for other in (rough_dsm(seed=7), np.roll(dsm, 3, 0), blurred, np.full_like(dsm, 100)):
        with pytest.raises(NotFound, match="do not confirm"):
            confirmed_direction(band(other), ortho, stated(*direction))
    with pytest.raises(NotFound, match="do not confirm"):
        confirmed_direction(band(dsm), ortho, stated(0.1, -0.25))


def test_void_heights_and_grey_values_are_left_out() -> None:
    dsm = rough_dsm()
    ortho = ortho_of(texture(), dsm, (0.6, 0.2))
    dsm[50:120, 60:150], ortho[200:260, :90] = np.nan, np.nan
    found = found_direction(band(dsm), band(ortho))
    assert (found.rows, found.cols) == pytest.approx((0.3, 0.1), abs=0.02)


def test_no_direction_is_found_where_ghosts_do_not_agree() -> None:
    dsm = rough_dsm()
    with pytest.raises(NotFound):  # made with another DSM
        found_direction(band(rough_dsm(seed=7)), band(ortho_of(texture(), dsm, (0.6, 0.2))))
    with pytest.raises(NotFound):  # from the nadir
        found_direction(band(dsm), band(texture()))
    flat = np.full_like(dsm, 100)
    with pytest.raises(NotFound):  # no ghosts
        found_direction(band(flat), band(texture()))
    with pytest.raises(NotFound):  # nothing to see
        found_direction(band(dsm), band(np.full_like(dsm, 7)))
    with pytest.raises(NotFound):
        found_direction(band(dsm), band(np.full_like(dsm, np.nan)))


def test_the_shift_between_two_images_is_found() -> None:
    image = texture()
    assert found_shift(band(image), band(np.roll(image, (3, -5), (0, 1)))) == pytest.approx((3, -5), abs=0.1)
    assert found_shift(band(image), band(texture(seed=9))) == (0.0, 0.0)


def unrectified(dsm: Array, ortho: Array, per_metre: tuple[float, float]) -> UnrectifiedImage:
    limits = float(np.nanmin(dsm)), float(np.nanmax(dsm))
    return UnrectifiedImage(band(ortho), LocalBand(band(dsm)), per_metre, (0.0, 0.0), limits)


def test_an_ortho_image_is_put_back_to_where_it_came_from() -> None:
    raw, dsm, per_metre = texture(), rough_dsm(), (0.6, 0.2)
    image = unrectified(dsm, ortho_of(raw, dsm, per_metre), per_metre)
    shown = image.read(image.grid.whole)
    # A point of the plane z = 100 lies where its RPC puts it.
    local = LocalBand(band(dsm)).grid
    x, y = local.map_position(150.5, 250.5)
    place = to_geographic(local.crs, np.array([x]), np.array([y]))
    row, col = (float(one[0]) for one in image.rpc.project(*place, np.array([100.0])))
    assert (row, col) == pytest.approx((round(row), round(col)), abs=0.5)
    top, left = round(row) - 150, round(col) - 250
    back = shown[top : top + SIDE, left : left + SIDE][40:-40, 40:-40]
    there = cv2.warpAffine(
        raw, np.array([[1, 0, col - 250 - left], [0, 1, row - 150 - top]], np.float64), (SIDE, SIDE)
    )[40:-40, 40:-40]
    seen = np.isfinite(back)
    assert seen.mean() > 0.98
    assert np.corrcoef(back[seen], there[seen])[0, 1] > 0.97
    ortho = ortho_of(raw, dsm, per_metre)[40:-40, 40:-40]
    assert np.corrcoef(ortho.ravel(), there.ravel())[0, 1] < 0.9


def test_windows_show_what_the_whole_shows() -> None:
    dsm = rough_dsm()
    image = unrectified(dsm, ortho_of(texture(), dsm, (0.6, 0.2)), (0.6, 0.2))
    whole, window = image.read(image.grid.whole), Window(100, 130, 90, 80)
    inner = slice(16, -16), slice(16, -16)  # gaps are filled from around
    np.testing.assert_allclose(image.read(window)[inner], whole[window.slices][inner], rtol=1e-3)
    assert np.isnan(image.read(Window(-300, -300, 50, 50))).all()
