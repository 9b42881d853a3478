"""Shift, vertical bias and tilt are found again, through buildings, change and noise."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from conftest import write_raster
from resdepth.errors import ResDepthError
from resdepth.geo.reprojected import MapBand
from resdepth.preparation.coregister import Motion, SurfaceFile, coregistration

SIDE, GSD = 180, 0.5
SHIFT = (3.12, 2.41, -3.27)
NEW_BUILDING = (slice(40, 60), slice(30, 60))
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def town(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Hills and houses with pitched roofs, as a function of the place."""
    hills = 12 * np.sin(x / 37) * np.cos(y / 29) + 0.04 * x
    u, v = np.mod(x, 26.0), np.mod(y, 31.0)
    roofs = 9 - 0.8 * np.abs(u - 10)
    return np.where((u > 3) & (u < 17) & (v > 5) & (v < 22), hills + roofs, hills)


def heights(east: float = 0.0, north: float = 0.0) -> np.ndarray:
    """Means over pixels of the town, moved; rows run south."""
    fine = 4
    at = (np.arange(SIDE * fine) + 0.5) * GSD / fine
    x, y = np.meshgrid(at - east, -at - north)
    return town(x, y).reshape(SIDE, fine, SIDE, fine).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What matching makes of the town: smeared, noisy, with a new building."""
    rng = np.random.default_rng(0)
    values = ndimage.gaussian_filter(heights(), 1.0) + ndimage.gaussian_filter(
        rng.normal(0, 1.5, (SIDE,) * 2), 1
    )
    values[NEW_BUILDING] += 15
    path = tmp_path_factory.mktemp("initial") / "initial.tif"
    return write_raster(path, values.astype(np.float32), gsd=GSD)


def found(initial: Path, folder: Path, motion: Motion, *, tilt: bool = False) -> tuple[Motion, float]:
    """What moves the initial DSM onto a moved town."""
    rows, cols = np.mgrid[0:SIDE, 0:SIDE]
    x, y = (cols + 0.5 - SIDE / 2) * GSD, -(rows + 0.5 - SIDE / 2) * GSD
    values = heights(motion.east_m, motion.north_m) + motion.rise(x, y)
    reference = write_raster(folder / "reference.tif", values.astype(np.float32), gsd=GSD)
    surfaces = [SurfaceFile(MapBand(path)) for path in (initial, reference)]
    made = coregistration(*surfaces, surfaces[0].band.grid, tilt=tilt)
    assert made.before.nmad_m is not None
    assert made.after.nmad_m is not None
    assert made.after.nmad_m <= made.before.nmad_m + 1e-6
    return made.motion, made.after.nmad_m


@pytest.fixture(scope="module")
def own(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> Motion:
    """What moves the initial DSM onto the town itself: little, due to its errors."""
    motion, _ = found(initial, tmp_path_factory.mktemp("own"), Motion())
    assert np.hypot(motion.east_m, motion.north_m) < 0.1 * GSD
    return motion


@pytest.mark.parametrize("shift", [SHIFT, (-0.2, 0.1, 45.0)])
def test_a_shift_is_found_to_a_tenth_of_a_pixel_and_five_centimetres(
    shift: tuple[float, float, float], initial: Path, own: Motion, tmp_path: Path
) -> None:
    motion, _ = found(initial, tmp_path, Motion(*shift))
    assert motion.east_m - own.east_m == pytest.approx(shift[0], abs=0.1 * GSD)
    assert motion.north_m - own.north_m == pytest.approx(shift[1], abs=0.1 * GSD)
    assert motion.up_m - own.up_m == pytest.approx(shift[2], abs=0.05)
    assert not motion.is_tilted


def test_a_tilt_is_found_with_it(initial: Path, own: Motion, tmp_path: Path) -> None:
    asked = Motion(*SHIFT, tilt_east=1e-3, tilt_north=-5e-4)
    motion, _ = found(initial, tmp_path, asked, tilt=True)
    assert motion.east_m - own.east_m == pytest.approx(SHIFT[0], abs=0.1 * GSD)
    assert motion.north_m - own.north_m == pytest.approx(SHIFT[1], abs=0.1 * GSD)
    half = SIDE * GSD / 2
    assert motion.tilt_east * half == pytest.approx(1e-3 * half, abs=0.05)
    assert motion.tilt_north * half == pytest.approx(-5e-4 * half, abs=0.05)
    assert motion.up_m - own.up_m == pytest.approx(SHIFT[2], abs=0.05)


def test_a_tilt_is_taken_out_as_well_as_xdem_does_it(
    initial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    xdem = pytest.importorskip("xdem")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from preparing import plane_left

    asked = Motion(0.6, -0.4, 1.25, tilt_east=1e-3)
    motion, _ = found(initial, tmp_path, asked, tilt=True)
    surface, reference = (SurfaceFile(MapBand(path)) for path in (initial, tmp_path / "reference.tif"))
    grid = surface.band.grid
    before, target = surface.on(grid), reference.on(grid)
    ours = plane_left(surface.moved(motion).on(grid) - target)
    place = {"transform": rasterio.Affine(*grid.transform), "crs": rasterio.CRS.from_wkt(grid.crs)}
    theirs = xdem.coreg.NuthKaab() + xdem.coreg.Deramp(poly_order=1)
    unchanged = np.ones(before.shape, bool)
    unchanged[NEW_BUILDING] = False  # theirs has to be given the new building, ours has not
    theirs.fit(target, before, inlier_mask=unchanged, **place, random_state=0)
    after, _ = theirs.apply(before, **place, resample=True)
    tilted, beside = plane_left(before - target), plane_left(np.asarray(after) - target)
    assert ours[0] < 0.6 * tilted[0]
    assert ours[0] < beside[0] + 0.01
    assert ours[1] < 1.02 * beside[1]


def test_flat_land_moves_up_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    first, second = (
        write_raster(tmp_path / f"{up}.tif", (up + rng.normal(0, 0.1, (80, 80))).astype(np.float32))
        for up in (100.0, 102.0)
    )
    made = coregistration(SurfaceFile(MapBand(first)), SurfaceFile(MapBand(second)), MapBand(first).grid)
    assert made.motion.up_m == pytest.approx(2.0, abs=0.02)
    assert (made.motion.east_m, made.motion.north_m, made.is_horizontal) == (0, 0, False)


def test_another_place_and_another_unit_are_refused(tmp_path: Path) -> None:
    values = np.full((40, 40), 100, np.float32)
    here = SurfaceFile(MapBand(write_raster(tmp_path / "here.tif", values)))
    there = SurfaceFile(MapBand(write_raster(tmp_path / "there.tif", values, origin=(0.0, 0.0))))
    with pytest.raises(ResDepthError, match="fewer than 100 pixels in common"):
        coregistration(here, there, here.band.grid)
    centimetres = SurfaceFile(MapBand(write_raster(tmp_path / "centimetres.tif", 100 * values)))
    with pytest.raises(ResDepthError, match="is the unit of both right"):
        coregistration(here, centimetres, here.band.grid)


def test_a_motion_and_its_inverse_cancel(initial: Path) -> None:
    surface = SurfaceFile(MapBand(initial))
    grid = surface.band.grid
    motion = Motion(2.0, -1.5, 4.0, 1e-3, 0.0, grid.map_position(90, 90))
    moved = surface.moved(motion).on(grid)
    rise = motion.rise(*(np.array(at) for at in grid.map_position(100.5, 104.5)))
    assert moved[100, 104] == pytest.approx(surface.on(grid)[97, 100] + rise, abs=1e-4)
    back = motion.inverse()
    assert (back.east_m, back.up_m, back.tilt_east) == (-2.0, -4.0, -1e-3)
