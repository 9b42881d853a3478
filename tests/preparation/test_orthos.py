"""RPCs that follow the DSM, what is hidden, what has changed; tie points between images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from conftest import raw_images_of, read_raster, write_raster
from resdepth.errors import ResDepthError
from resdepth.geo.raster import FileBand
from resdepth.geo.rpc import Rpc, fit_rpc, shifted_in_image
from resdepth.geo.windows import Window
from resdepth.preparation.change import changed_places
from resdepth.preparation.coregister import Motion
from resdepth.preparation.orthos import hidden, moved_rpc, part_of, write_raw
from resdepth.preparation.tie_points import without_bias
from resdepth.runtime.progress import Silent
from resdepth.stereo.ortho import DescribedImage, PanchromaticImage, RawImage, read_rpc, to_geographic

HEIGHTS = (200.0, 280.0)


@pytest.mark.parametrize(
    "motion", [Motion(3.0, -2.0, 45.0), Motion(3.0, -2.0, 4.0, 1e-3, -2e-3, (465064.0, 5247936.0))]
)
def test_an_rpc_shows_a_moved_surface_where_it_showed_it_before(motion: Motion, raw_scene: Path) -> None:
    grid = FileBand(raw_scene / "dsm" / "initial.tif").grid
    rpc = RawImage(raw_images_of(raw_scene)[0]).rpc
    moved = moved_rpc(rpc, motion, grid, HEIGHTS)
    rng = np.random.default_rng(0)
    (xmin, ymin, xmax, ymax), z = grid.bounds, rng.uniform(*HEIGHTS, 50)
    x, y = rng.uniform(xmin, xmax, 50), rng.uniform(ymin, ymax, 50)
    before = rpc.project(*to_geographic(grid.crs, x, y), z)
    there = x + motion.east_m, y + motion.north_m
    after = moved.project(*to_geographic(grid.crs, *there), z + motion.rise(*there))
    np.testing.assert_allclose(after, before, atol=0.03)


def test_the_part_of_a_raw_image_shows_the_same_and_keeps_its_bits(raw_scene: Path, tmp_path: Path) -> None:
    grid = FileBand(raw_scene / "dsm" / "initial.tif").grid
    image = PanchromaticImage(raw_images_of(raw_scene)[1])
    small = grid.crop(Window(100, 100, 32, 40))
    part = part_of(image, "image", small, (220.0, 240.0))
    assert part.area < image.grid.whole.area
    kept = write_raw(image, image.rpc, part, tmp_path / "part.tif", Silent())
    written = read_raster(tmp_path / "part.tif")
    assert written.dtype == np.uint16
    np.testing.assert_array_equal(written, image.read(part))
    assert (kept.row, kept.col, kept.highest) == (part.row, part.col, written.max())
    expected = shifted_in_image(image.rpc, -part.row, -part.col)
    np.testing.assert_allclose(read_rpc(tmp_path / "part.tif").offsets, expected.offsets)


def test_an_image_of_another_place_is_refused(raw_scene: Path) -> None:
    image = PanchromaticImage(raw_images_of(raw_scene)[1])
    grid = FileBand(raw_scene / "dsm" / "initial.tif").grid
    a, b, c, d, e, f = grid.transform
    elsewhere = replace(grid, transform=(a, b, c + 5000, d, e, f))
    with pytest.raises(ResDepthError, match=r"image.tif: shows nothing of the area.*is its RPC its own"):
        part_of(image, "image.tif", elsewhere, HEIGHTS)


def test_several_bands_become_their_mean_and_saturation_is_seen(raw_scene: Path, tmp_path: Path) -> None:
    source = raw_images_of(raw_scene)[0]
    bands = np.stack([np.full((40, 50), 100, np.uint8), np.full((40, 50), 200, np.uint8)])
    bands[:, :5, :5] = 255
    path = write_raster(tmp_path / "colour.tif", bands, crs=None)
    with rasterio.open(path, "r+") as dataset, rasterio.open(source) as other:
        dataset.rpcs = other.rpcs
    image = PanchromaticImage(path)
    assert image.bands == 2
    kept = write_raw(image, image.rpc, image.grid.whole, tmp_path / "grey.tif", Silent())
    grey = read_raster(tmp_path / "grey.tif")
    assert (grey.dtype, grey[20, 20], grey[0, 0]) == (np.uint8, 150, 255)
    assert kept.saturated_from == 255


def test_tie_points_take_out_what_rpcs_contradict_each_other(raw_scene: Path) -> None:
    images = [RawImage(path) for path in raw_images_of(raw_scene)[:2]]
    wrong = DescribedImage(images[1], shifted_in_image(images[1].rpc, 6.0, -9.0))
    dsm = FileBand(raw_scene / "dsm" / "initial.tif")
    found = without_bias([images[0], wrong], dsm)
    assert np.hypot(found.before[0].east_m, found.before[0].north_m) > 3
    assert np.hypot(found.after[0].east_m, found.after[0].north_m) < 0.05
    assert found.unconnected == ()
    offsets = np.array(found.offsets_px)
    moved = offsets[1] - offsets[0]  # between both: 6 and -9, and what was wrong before
    np.testing.assert_allclose(moved, (-6.0, 9.0), atol=2.0)


def at_corners(rpc: Rpc, dsm: FileBand) -> np.ndarray:
    """(4, 2) rows and columns at which the corners of a DSM appear."""
    grid = dsm.grid
    rows, cols = np.array([0, 0, 1, 1]) * grid.height, np.array([0, 1, 0, 1]) * grid.width
    x, y = grid.map_position(rows, cols)  # type: ignore[arg-type] # arrays as well
    lon, lat = to_geographic(grid.crs, np.asarray(x), np.asarray(y))
    z = np.full(4, float(np.nanmedian(dsm.read(grid.whole))))
    return np.stack(rpc.project(lon, lat, z), axis=1)


def affinely_wrong(rpc: Rpc, dsm: FileBand, corner_px: float) -> Rpc:
    """An RPC whose rows grow too large to the right, and columns too small further down."""
    places = at_corners(rpc, dsm)
    middle, half = places.mean(axis=0), np.ptp(places, axis=0) / 2
    lattice = np.meshgrid(*[np.linspace(-1.2, 1.2, 9)] * 2, [180.0, 230, 280, 330])
    down, right, z = (one.ravel() for one in lattice)
    row, col = middle[0] + down * half[0], middle[1] + right * half[1]
    lon, lat = rpc.locate(row, col, z)
    return fit_rpc(lon, lat, z, row + corner_px * right, col - corner_px * down)


def test_affine_terms_are_taken_out_where_tie_points_show_them(raw_scene: Path) -> None:
    images = [RawImage(path) for path in raw_images_of(raw_scene)[:2]]
    dsm = FileBand(raw_scene / "dsm" / "initial.tif")
    right = without_bias(images, dsm, term="shift").rpcs  # they are half a pixel off
    rpcs = right[0], affinely_wrong(right[1], dsm, 1.5)
    wrong = [DescribedImage(image, rpc) for image, rpc in zip(images, rpcs, strict=True)]

    def apart(rpcs: Sequence[Rpc]) -> np.ndarray:
        """Pixels by which the corners of the area lie apart in both, beside what is right."""
        first, second = (at_corners(a, dsm) - at_corners(b, dsm) for a, b in zip(rpcs, right, strict=True))
        return np.hypot(*(second - first).T)

    assert apart(rpcs).max() > 1.5
    shifted, found = (without_bias(wrong, dsm, term=term) for term in ("shift", "auto"))
    assert (shifted.term, found.term) == ("shift", "affine")
    assert apart(shifted.rpcs).mean() > 1.2
    assert apart(found.rpcs).max() < 0.4
    assert found.left_m is not None
    assert found.left_m[1] < 0.8 * found.left_m[0]
    assert found.after[0].nmad_m < 0.8 * shifted.after[0].nmad_m


def test_shifts_stay_shifts_where_rpcs_differ_by_nothing_else(raw_scene: Path) -> None:
    images = [RawImage(path) for path in raw_images_of(raw_scene)[:2]]
    wrong = DescribedImage(images[1], shifted_in_image(images[1].rpc, 3.0, 2.0))
    dsm = FileBand(raw_scene / "dsm" / "initial.tif")
    found = without_bias([images[0], wrong], dsm)
    assert (found.term, found.affine) == ("shift", ())
    assert found.left_m is not None
    forced = without_bias([images[0], wrong], dsm, term="affine")
    assert forced.term == "affine"
    for one in (found, forced):
        assert np.hypot(one.after[0].east_m, one.after[0].north_m) < 0.05


def test_images_without_common_points_stay_as_they_are(raw_scene: Path, tmp_path: Path) -> None:
    first = RawImage(raw_images_of(raw_scene)[0])
    noise = np.random.default_rng(0).integers(1, 4000, first.grid.whole.shape).astype(np.uint16)
    path = write_raster(tmp_path / "noise.tif", noise, crs=None)
    with rasterio.open(path, "r+") as dataset, rasterio.open(first.path) as other:
        dataset.rpcs = other.rpcs
    found = without_bias([first, RawImage(path)], FileBand(raw_scene / "dsm" / "initial.tif"))
    assert found.unconnected == (0, 1)
    assert found.offsets_px == ((0.0, 0.0), (0.0, 0.0))
    assert (found.term, found.left_m) == ("shift", None)


def test_a_wall_hides_what_lies_behind_it() -> None:
    heights = np.zeros((20, 40), np.float32)
    heights[:, 20] = 10
    # The sensor stands in the east, 45 degrees above the horizon: a metre of height is a pixel.
    mask = hidden(heights, Window(0, 0, 20, 40), (1.0, 0.0))
    assert mask[:, 11:20].all()
    assert not mask[:, :10].any()
    assert not mask[:, 20:].any()
    assert not hidden(heights, Window(0, 0, 20, 40), (0.0, 0.0)).any()


def test_changes_are_wide_and_confirmed_by_the_images() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0, 0.5, (200, 200)).astype(np.float32)
    differences[20:60, 20:60] += 9  # a new house
    differences[100:140, 20:60] -= 9  # one that matching got wrong
    differences[:, 150:153] += 9  # a wall beside its place
    agreement = np.full((200, 200), 0.8, np.float32)
    agreement[100:140, 20:60] = 0.1
    mask = changed_places(differences, agreement, 4.0, 0.5)
    assert mask[22:58, 22:58].all()
    assert mask.sum() == pytest.approx(1600, abs=120)
