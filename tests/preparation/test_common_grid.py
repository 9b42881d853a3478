"""The grid of a data set: metres, square pixels on whole multiples of their side, what all have in common."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.warp import transform_bounds

from conftest import write_raster
from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs
from resdepth.geo.reprojected import MapBand
from resdepth.preparation.grid import GridChoice, chosen_grid, lattice_grid, within

UTM = find_crs("EPSG:32632")


def surface(folder: Path, **options: object) -> MapBand:
    rows, cols = np.mgrid[0:60, 0:80]
    return MapBand(write_raster(folder / "dsm.tif", (0.1 * rows + cols).astype(np.float32), **options))  # type: ignore[arg-type]


def in_crs(folder: Path, crs: str, side: float) -> MapBand:
    """A plane over one place, in another CRS."""
    west, north = transform_bounds("EPSG:32632", crs, 465000, 5247000, 465100, 5247100)[:2]
    return surface(folder, crs=crs, gsd=side, origin=(west, north))


def test_a_grid_on_whole_multiples_stays_as_it_is(tmp_path: Path) -> None:
    band = surface(tmp_path)
    choice = chosen_grid(band)
    assert choice.grid == band.grid
    assert choice.changes == ()
    np.testing.assert_array_equal(band.on(choice.grid), band.on(band.grid))


def test_pixels_between_multiples_are_resampled_onto_them(tmp_path: Path) -> None:
    choice = chosen_grid(surface(tmp_path, origin=(465000.2, 5248000.1)))
    a, _, c, _, e, f = choice.grid.transform
    assert (a, e, c % 0.5, f % 0.5) == (0.5, -0.5, 0, 0)
    assert (choice.grid.height, choice.grid.width) == (59, 79)
    assert "whole multiples" in choice.changes[0]


@pytest.mark.parametrize(
    ("crs", "side", "reason"),
    [("EPSG:4326", 6e-6, "in degrees"), ("EPSG:2056", 0.5, ""), ("EPSG:3857", 0.7, "")],
)
def test_degrees_and_stretched_maps_become_utm(tmp_path: Path, crs: str, side: float, reason: str) -> None:
    choice = chosen_grid(in_crs(tmp_path, crs, side))
    if crs == "EPSG:2056":  # metres already
        assert choice.grid.crs_name == crs
        return
    assert choice.grid.crs_name == "EPSG:32632"
    assert reason in choice.changes[0]
    assert choice.grid.transform[0] == pytest.approx(0.5, abs=0.1)
    assert choice.grid.transform[0] * 20 == pytest.approx(round(choice.grid.transform[0] * 20))


def test_feet_become_metres(tmp_path: Path) -> None:
    band = surface(tmp_path, crs="EPSG:2263", gsd=1.5, origin=(980000.0, 200000.0))
    choice = chosen_grid(band)
    assert choice.grid.crs_name == "EPSG:32618"
    assert choice.grid.transform[0] == pytest.approx(0.45)
    heights = band.on(choice.grid)
    assert np.isfinite(heights).mean() > 0.9


def test_the_reference_lends_its_crs(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    reference = in_crs(tmp_path / "other", "EPSG:2056", 0.5)
    assert chosen_grid(in_crs(tmp_path, "EPSG:4326", 6e-6), reference=reference).grid.crs_name == "EPSG:2056"


def test_a_south_up_raster_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "south_up.tif"
    rows = np.arange(40, dtype=np.float32)[:, None] + np.zeros((1, 50), np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", height=40, width=50, count=1, dtype="float32", crs="EPSG:32632",
        transform=rasterio.Affine(0.5, 0, 465000, 0, 0.5, 5248000),
    ) as dataset:  # fmt: skip
        dataset.write(rows, 1)
    band = MapBand(path)
    choice = chosen_grid(band)
    assert choice.grid.transform == (0.5, 0, 465000, 0, -0.5, 5248020)
    np.testing.assert_allclose(band.on(choice.grid)[:, 7], rows[::-1, 0])


def test_a_turned_raster_is_resampled_upright(tmp_path: Path) -> None:
    cosine, sine, path = 0.5 * np.cos(0.35), 0.5 * np.sin(0.35), tmp_path / "turned.tif"
    place = rasterio.Affine(cosine, sine, 465000, sine, -cosine, 5248000)
    rows, cols = np.mgrid[0:100, 0:100] + 0.5
    x, y = place.a * cols + place.b * rows + place.c, place.d * cols + place.e * rows + place.f
    with rasterio.open(
        path, "w", driver="GTiff", height=100, width=100, count=1, dtype="float32", crs="EPSG:32632",
        transform=place,
    ) as dataset:  # fmt: skip
        dataset.write((0.1 * (x - 465000) + 0.05 * (y - 5248000)).astype(np.float32), 1)
    band = MapBand(path)
    grid = chosen_grid(band).grid
    a, b, c, d, e, f = grid.transform
    assert (a, b, d, e) == (0.5, 0, 0, -0.5)
    heights = band.on(grid)
    rows, cols = np.indices(heights.shape) + 0.5
    expected = 0.1 * (c + a * cols - 465000) + 0.05 * (f + e * rows - 5248000)
    assert np.isfinite(heights).mean() > 0.5
    assert np.nanmax(np.abs(heights - expected)) < 0.05


@given(west=st.floats(-1e4, 1e4), south=st.floats(-1e4, 1e4), side=st.floats(0.1, 3), size=st.floats(60, 300))
def test_a_lattice_grid_lies_within_and_misses_less_than_a_pixel(
    west: float, south: float, side: float, size: float
) -> None:
    bounds = west, south, west + size, south + 1.3 * size
    grid = lattice_grid(bounds, side, UTM)
    inner = grid.bounds
    for low, edge in zip(bounds[:2], inner[:2], strict=True):
        assert -0.002 * side <= edge - low < side
    for high, edge in zip(bounds[2:], inner[2:], strict=True):
        assert -0.002 * side <= high - edge < side
    assert abs(inner[0] / side - round(inner[0] / side)) < 1e-6


def test_a_grid_is_cut_to_what_two_images_show() -> None:
    whole = GridChoice(lattice_grid((0, 0, 100, 100), 1.0, UTM), ())
    cut = within(whole, {"a": (-10, 20, 60, 200), "b": (10, -5, 90, 80)})
    assert cut.grid.bounds == (10, 20, 60, 80)
    assert "cut to what images show" in cut.changes[-1]
    assert within(whole, {"a": (-10, -10, 120, 120)}) == whole
    with pytest.raises(ResDepthError, match="no two of them show the same part"):
        within(whole, {"a": (0, 0, 50, 50), "b": (60, 60, 90, 90)})


def test_an_extent_elsewhere_and_a_crs_in_degrees_are_refused(tmp_path: Path) -> None:
    band = surface(tmp_path)
    with pytest.raises(ResDepthError, match="lies outside of"):
        chosen_grid(band, extent=(0, 0, 10, 10))
    with pytest.raises(ResDepthError, match="not projected and in metres"):
        chosen_grid(band, crs="EPSG:4326")
    with pytest.raises(ResDepthError, match="pixels of 100 m lie in"):
        chosen_grid(band, gsd_m=100)


def test_what_a_mask_does_not_let_through_is_void(tmp_path: Path) -> None:
    heights = np.arange(4800, dtype=np.float32).reshape(60, 80)
    path = write_raster(tmp_path / "dsm.tif", heights, crs=None)
    mask = np.ones((60, 80), np.uint8)
    mask[5:9, 10:20] = 0
    valid = write_raster(tmp_path / "mask.tif", mask, crs=None)
    band = MapBand(path, crs="EPSG:32632", valid=valid)
    read = band.on(band.grid)
    np.testing.assert_array_equal(np.isnan(read), mask == 0)
    moved = band.on(chosen_grid(band, gsd_m=1.0).grid)
    assert moved.shape == (30, 40)
    assert np.isnan(moved[3, 6])
    assert moved[10, 3] == pytest.approx(heights[20:22, 6:8].mean(), abs=1e-3)
    other = write_raster(tmp_path / "other.tif", mask[:9], crs=None)
    with pytest.raises(ResDepthError, match="is no mask of"):
        MapBand(path, crs="EPSG:32632", valid=other)


def test_a_file_without_crs_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "bare.tif", np.ones((30, 30), np.float32), crs=None)
    with pytest.raises(ResDepthError, match="names no CRS"):
        MapBand(path)
    assert MapBand(path, crs="EPSG:32632").grid.crs_name == "EPSG:32632"
