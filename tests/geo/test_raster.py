"""Rasters in and out: georeference, voids of every kind, files that appear whole or not at all."""

import os
import re
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from conftest import write_raster
from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs, metres_per_unit
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import ArrayBand, FileBand, Method, count_voids, hold, read_header, read_resampled
from resdepth.geo.windows import Window
from resdepth.runtime.atomic import atomic_path

UTM32 = rasterio.CRS.from_epsg(32632).to_wkt()
UTM33 = rasterio.CRS.from_epsg(32633).to_wkt()
GRID = Grid(6, 8, (0.5, 0, 465000, 0, -0.5, 5248000), UTM32, "EPSG:32632")

steps = st.floats(0.01, 100)


def read_both_ways(path: Path, window: Window | None = None) -> np.ndarray:
    """The pixels as FileBand gives them, which must be what a band held in memory gives."""
    band = FileBand(path)
    window = window or band.grid.whole
    from_file, held = band.read(window), hold(band).read(window)
    np.testing.assert_array_equal(from_file, held)
    assert from_file.dtype == held.dtype == np.float32
    return from_file


# --- grids


@given(st.integers(0, 5), st.integers(0, 7), st.integers(1, 9), st.integers(1, 9), steps, steps)
def test_a_crop_keeps_every_pixel_where_it_was(
    row: int, col: int, height: int, width: int, across: float, down: float
) -> None:
    grid = Grid(20, 20, (across, 0.1, 465000, -0.2, -down, 5248000), UTM32)
    crop = grid.crop(Window(row, col, height, width))
    assert (crop.height, crop.width, crop.crs) == (height, width, UTM32)
    assert crop.pixel_area == grid.pixel_area
    for inner_row, inner_col in [(0, 0), (height, width)]:
        np.testing.assert_allclose(
            crop.map_position(inner_row, inner_col),
            grid.map_position(row + inner_row, col + inner_col),
            rtol=1e-12,
        )


def test_a_crop_of_a_crop_is_the_crop_of_both() -> None:
    assert GRID.crop(Window(1, 2, 5, 6)).crop(Window(1, 1, 2, 3)) == GRID.crop(Window(2, 3, 2, 3))


def test_the_area_of_a_pixel_does_not_depend_on_how_the_raster_is_turned() -> None:
    turned = Grid(5, 5, (0.3, 0.4, 0, 0.4, -0.3, 0))
    assert turned.pixel_area == pytest.approx(0.25)
    assert turned.gsd == pytest.approx(0.5)


def test_equal_grids_have_no_differences() -> None:
    assert GRID.differences(GRID) == []
    nearly = Grid(6, 8, (0.5, 0, 465000.004, 0, -0.5, 5248000), UTM32, "EPSG:32632")
    assert GRID.differences(nearly) == []


@pytest.mark.parametrize(
    ("other", "stated"),
    [
        (Grid(6, 9, GRID.transform, UTM32), "size 6 x 9 instead of 6 x 8 pixels"),
        (Grid(6, 8, GRID.transform, UTM33, "EPSG:32633"), "CRS EPSG:32633 instead of EPSG:32632"),
        (Grid(6, 8, (0.5, 0, 465000.5, 0, -0.5, 5248000), UTM32), r"origin \(465000.5, 5248000\)"),
        (Grid(6, 8, (0.5, 0, 465000, 0, -0.5, 5247999.9), UTM32), "origin .* instead of origin"),
        (Grid(6, 8, (0.52, 0, 465000, 0, -0.5, 5248000), UTM32), r"pixel size \(0.52, -0.5\)"),
        (Grid(6, 8, (0.5, 0, 465000, 0, 0.5, 5248000), UTM32), r"pixel size \(0.5, 0.5\)"),
    ],
)
def test_a_difference_of_grids_is_stated_in_words(other: Grid, stated: str) -> None:
    (difference,) = GRID.differences(other)
    assert re.search(stated, difference), difference


def test_all_differences_are_stated_at_once() -> None:
    other = Grid(7, 8, (1.0, 0, 0, 0, -1.0, 0), UTM33, "EPSG:32633")
    assert len(GRID.differences(other)) == 3


def test_an_unknown_crs_differs_from_none() -> None:
    assert GRID.differences(Grid(6, 8, GRID.transform)) == []
    assert Grid(6, 8, GRID.transform).differences(GRID) == []


# --- headers


def test_a_header_says_what_the_file_holds(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dsm.tif", np.zeros((3, 6, 8), np.int16), nodata=-32768)
    header = read_header(path)
    assert (header.grid.height, header.grid.width) == (6, 8)
    assert header.grid.transform == (0.5, 0, 465000, 0, -0.5, 5248000)
    assert header.grid.crs_name == "EPSG:32632"
    assert (header.bands, header.dtype, header.nodata, header.has_mask) == (3, "int16", -32768, False)
    assert header.may_have_voids


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [("uint8", None, False), ("uint8", 0, True), ("int16", None, False), ("float32", None, True)],
)
def test_only_integers_without_nodata_cannot_have_voids(
    tmp_path: Path, dtype: str, nodata: float | None, expected: bool
) -> None:
    path = write_raster(tmp_path / "x.tif", np.ones((2, 2), dtype), nodata=nodata)
    assert read_header(path).may_have_voids is expected


def test_a_file_without_crs_is_readable(tmp_path: Path) -> None:
    header = read_header(write_raster(tmp_path / "x.tif", np.zeros((2, 2), np.float32), crs=None))
    assert (header.grid.crs, header.grid.crs_name) == ("", "unknown")


def test_coordinates_from_the_centre_of_the_earth_are_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", np.zeros((2, 2), np.float32), crs="EPSG:4978")
    with pytest.raises(ResDepthError, match=r"x\.tif: .*WGS.84 is geocentric.*gdalwarp -t_srs"):
        read_header(path)


def test_what_is_no_raster_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "list.tif"
    path.write_text("ortho1.tif")
    with pytest.raises(ResDepthError, match=r"list\.tif: this file cannot be read as a raster"):
        read_header(path)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "sar.tif", np.zeros((2, 2), np.complex64))
    with pytest.raises(ResDepthError, match=r"sar\.tif: holds complex64 values"):
        read_header(path)


def test_a_truncated_file_is_refused_when_its_pixels_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    path = write_raster(tmp_path / "cut.tif", values)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    band = FileBand(path)
    with pytest.raises(ResDepthError, match=r"cut\.tif: the pixels .* cannot be read .* complete"):
        band.read(band.grid.whole)


# --- voids

FLOAT32_LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize(
    ("dtype", "nodata", "stored"),
    [
        ("float32", -9999.0, -9999.0),
        ("float32", FLOAT32_LOWEST, FLOAT32_LOWEST),
        ("float32", -3.4e38, -3.4e38),
        ("float32", 0.1, 0.1),
        ("float32", 0.0, 0.0),
        ("float32", np.nan, np.nan),
        ("float32", None, np.nan),
        ("float32", -9999.0, np.nan),
        ("float32", -9999.0, np.inf),
        ("float32", None, -np.inf),
        ("float64", -9999.0, -9999.0),
        ("float64", -1.7976931348623157e308, -1.7976931348623157e308),
        ("float64", 0.1, 0.1),
        ("uint8", 255, 255),
        ("uint16", 0, 0),
        ("int16", -32768, -32768),
        ("int32", -9999, -9999),
    ],
)
def test_a_void_of_any_kind_is_read_as_nan(
    tmp_path: Path, dtype: str, nodata: float | None, stored: float
) -> None:
    values = np.array([[7, 8, 9], [10, 11, 12]], dtype=dtype)
    values[1, 2] = stored
    found = read_both_ways(write_raster(tmp_path / "x.tif", values, nodata=nodata))
    np.testing.assert_array_equal(found, [[7, 8, 9], [10, 11, np.nan]])


def test_without_nodata_no_number_is_a_void(tmp_path: Path) -> None:
    values = np.array([[-9999, 0, -32768]], np.float32)
    np.testing.assert_array_equal(read_both_ways(write_raster(tmp_path / "x.tif", values)), values)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("dtype", "nodata", "stored", "is_void"),
    [
        ("Float32", "-3.40282347e+38", FLOAT32_LOWEST, True),  # as many digits as C's FLT_MAX
        ("Float32", "-3.4e+38", FLOAT32_LOWEST, True),  # their sum is infinite in float32, as GDAL has it
        ("Float32", "-9999", -9998.9, False),
        ("UInt16", "0.5", 0, False),
        ("UInt16", "nan", 0, False),
        ("UInt16", "-9999", 65536 - 9999, False),
        ("UInt16", "70000", 70000 - 65536, False),
        ("Byte", "255.0", 255, True),
    ],
)
def test_a_nodata_value_is_compared_in_the_type_of_the_raster(
    tmp_path: Path, dtype: str, nodata: str, stored: float, is_void: bool
) -> None:
    numpy_type = {"Byte": "uint8"}.get(dtype, dtype.lower())
    source = write_raster(tmp_path / "x.tif", np.array([[7, stored]], numpy_type))
    path = tmp_path / "x.vrt"  # a GeoTIFF would be written with a tidied nodata value
    path.write_text(
        f'<VRTDataset rasterXSize="2" rasterYSize="1"><VRTRasterBand dataType="{dtype}" band="1">'
        f"<NoDataValue>{nodata}</NoDataValue><SimpleSource><SourceFilename>{source}</SourceFilename>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    np.testing.assert_array_equal(np.isnan(read_both_ways(path)), [[False, is_void]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nodata", [-9999.0, -32768.0, 0.1, 0.0, -3.4e38, 1e20, FLOAT32_LOWEST])
def test_nodata_values_are_compared_as_gdal_compares_them(
    tmp_path: Path, dtype: type[np.floating], nodata: float
) -> None:
    near = [np.array(nodata, np.float32)]
    with np.errstate(over="ignore"):
        for _ in range(9):
            lower, upper = (
                np.nextafter(near[end], np.float32(far)) for end, far in ((0, -np.inf), (-1, np.inf))
            )
            near = [lower, *near, upper]
    shares = 1 + np.array([-1e-5, -5.1e-7, -4.6e-7, -1e-9, 1e-9, 4.6e-7, 5.1e-7, 1e-5])
    values = np.array([*near, *(nodata * shares), 0, 400, -1e30], np.float64)
    values = values[np.abs(values) <= -FLOAT32_LOWEST].astype(dtype)[None]
    path = write_raster(tmp_path / "x.tif", values, nodata=nodata)
    with rasterio.open(path) as dataset:
        void = dataset.read_masks(1) == 0
    assert void.any()
    np.testing.assert_array_equal(np.isnan(read_both_ways(path)), void)
    same = read_header(path).grid
    np.testing.assert_array_equal(np.isnan(read_resampled(path, same, "nearest")), void)


def test_a_nodata_value_beyond_the_type_is_its_largest_number() -> None:
    grid = Grid(1, 2, (1, 0, 0, 0, -1, 0))
    band = ArrayBand(np.array([[7, FLOAT32_LOWEST]], np.float32), grid, nodata=-1.797e308)
    np.testing.assert_array_equal(band.read(grid.whole), [[7, np.nan]])


@pytest.mark.parametrize("nodata", [None, -9999.0])
@pytest.mark.parametrize("void", [np.inf, -np.inf, np.nan, -9999.0004])
@pytest.mark.parametrize("method", ["average", "bilinear", "nearest"])
def test_voids_of_any_kind_are_left_out_before_pixels_are_resampled(
    tmp_path: Path, nodata: float | None, void: float, method: Method
) -> None:
    if nodata is None and np.isfinite(void):
        return
    values = np.full((40, 60), 400, np.float32)
    values[10:13, 20:25] = void
    path = write_raster(tmp_path / "x.tif", values, nodata=nodata)
    for gsd in (1.0, 0.4):
        grid = Grid(int(20 / gsd), int(30 / gsd), (gsd, 0, 465000, 0, -gsd, 5248000), UTM32)
        found = read_resampled(path, grid, method)
        assert set(np.unique(found[~np.isnan(found)])) == {400}
        assert 0 < np.isnan(found).sum() < 30 / gsd**2


@pytest.mark.parametrize("method", ["average", "bilinear", "nearest"])
def test_a_raster_too_large_for_memory_is_resampled_in_parts(
    tmp_path: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).normal(400, 9, (96, 128)).astype(np.float32)
    values[40:44] = np.inf
    path = write_raster(tmp_path / "x.tif", values)
    grid = Grid(31, 47, (1.5, 0, 464995.3, 0, -1.5, 5248003.3), UTM32)
    at_once = read_resampled(path, grid, method)
    monkeypatch.setattr("resdepth.geo.raster.PART_PX", 50)
    np.testing.assert_allclose(read_resampled(path, grid, method), at_once, rtol=1e-6)


@pytest.mark.parametrize("nodata", [0.5, np.nan, -9999.0, 256.0, 1e40])
def test_the_nodata_value_of_an_array_need_not_fit_its_type(nodata: float) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grid = Grid(16, 16, (1, 0, 0, 0, -1, 0))
    band = ArrayBand(values, grid, nodata=nodata)
    np.testing.assert_array_equal(band.read(grid.whole), values)


def test_heights_beyond_float32_are_void() -> None:
    grid = Grid(1, 2, (1, 0, 0, 0, -1, 0))
    band = ArrayBand(np.array([[7, 1e300]]), grid)
    np.testing.assert_array_equal(band.read(grid.whole), [[7, np.nan]])


def test_what_the_mask_of_a_file_hides_is_void(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", np.arange(6, dtype=np.uint8).reshape(2, 3))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.array([[255, 255, 0], [255, 255, 255]], np.uint8))
    assert read_header(path).has_mask
    assert read_header(path).may_have_voids
    np.testing.assert_array_equal(read_both_ways(path), [[0, 1, np.nan], [3, 4, 5]])
    np.testing.assert_array_equal(read_both_ways(path, Window(0, 1, 2, 2)), [[1, np.nan], [4, 5]])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("nodata", [None, 9])
def test_transparent_pixels_are_void_whatever_the_type_of_the_band(
    tmp_path: Path, dtype: str, nodata: float | None
) -> None:
    """GDAL itself takes alpha for a mask only in uint8 and uint16, and not beside a nodata value."""
    values, alpha = np.arange(6).reshape(2, 3), np.array([[255, 1, 0], [0, 255, 128]])
    path = write_raster(tmp_path / "x.tif", np.stack([values, alpha]).astype(dtype), nodata=nodata)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    header = read_header(path)
    assert (header.bands, header.has_mask, header.may_have_voids) == (1, True, True)
    expected = [[0, 1, np.nan], [np.nan, 4, 5]]
    np.testing.assert_array_equal(read_both_ways(path), expected)
    np.testing.assert_array_equal(read_both_ways(path, Window(0, 1, 2, 2)), np.array(expected)[:, 1:])
    same = Grid(2, 3, (0.5, 0, 465000, 0, -0.5, 5248000))
    np.testing.assert_array_equal(read_resampled(path, same, "nearest"), expected)


def test_a_mask_and_an_alpha_band_count_both(tmp_path: Path) -> None:
    values = np.array([[1, 2, 3], [255, 0, 255]], np.uint8)[:, None]
    path = write_raster(tmp_path / "x.tif", values)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
        dataset.write_mask(np.array([[255, 255, 0]], np.uint8))
    np.testing.assert_array_equal(read_both_ways(path), [[1, np.nan, np.nan]])
    same = Grid(1, 3, (0.5, 0, 465000, 0, -0.5, 5248000))
    np.testing.assert_array_equal(read_resampled(path, same, "nearest"), [[1, np.nan, np.nan]])


# --- scale and offset


def write_scaled(path: Path, values: np.ndarray, scale: float, offset: float, **options: float) -> Path:
    with rasterio.open(write_raster(path, values, **options), "r+") as dataset:
        dataset.scales, dataset.offsets = (scale,) * dataset.count, (offset,) * dataset.count
    return path


def test_scale_and_offset_make_heights_of_stored_numbers_but_not_of_voids(tmp_path: Path) -> None:
    values = np.array([[41234, -9999, 41236], [2**31 - 1, 0, -1]], np.int32)
    path = write_scaled(tmp_path / "x.tif", values, 0.01, 100.0, nodata=-9999)
    expected = (values * 0.01 + 100).astype(np.float32)
    expected[0, 1] = np.nan
    np.testing.assert_array_equal(read_both_ways(path), expected)
    np.testing.assert_array_equal(FileBand(path).read_raw(Window(0, 0, 2, 3))[0], values)
    same = Grid(2, 3, (0.5, 0, 465000, 0, -0.5, 5248000))
    np.testing.assert_array_equal(read_resampled(path, same, "nearest"), expected)


def test_numbers_are_read_as_stored_where_that_is_asked_for(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255]], np.uint8)
    path = write_scaled(tmp_path / "x.tif", values, 0.5, 3.0, nodata=255)
    band, expected = FileBand(path, "stored"), [[0, 1, np.nan]]
    np.testing.assert_array_equal(band.read(band.grid.whole), expected)
    np.testing.assert_array_equal(hold(band).read(band.grid.whole), expected)
    same = Grid(1, 3, (0.5, 0, 465000, 0, -0.5, 5248000))
    np.testing.assert_array_equal(read_resampled(path, same, "nearest", "stored"), expected)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "average"])
@pytest.mark.parametrize("nodata", [None, -9999])
def test_scaled_floats_are_scaled_on_another_grid_too(
    tmp_path: Path, method: Method, nodata: float | None
) -> None:
    values = np.random.default_rng(0).uniform(0, 100, (20, 20)).astype(np.float32)
    plain = write_raster(tmp_path / "plain.tif", values, nodata=nodata)
    scaled = write_scaled(tmp_path / "scaled.tif", values, 0.3048, -7.0, nodata=nodata)
    grid = Grid(9, 9, (1, 0, 465000.3, 0, -1, 5247999.6))
    np.testing.assert_allclose(
        read_resampled(scaled, grid, method), read_resampled(plain, grid, method) * 0.3048 - 7, atol=1e-5
    )


@pytest.mark.parametrize(("scale", "offset"), [(0.0, 1.0), (np.nan, 0.0), (1.0, np.inf)])
def test_a_scale_that_makes_no_heights_is_refused(tmp_path: Path, scale: float, offset: float) -> None:
    path = write_scaled(tmp_path / "x.tif", np.ones((2, 2), np.int16), scale, offset)
    with pytest.raises(ResDepthError, match=r"x\.tif: its scale .*gdal_edit\.py"):
        FileBand(path)
    assert (FileBand(path, "stored").read(Window(0, 0, 2, 2)) == 1).all()


def test_voids_are_counted_in_the_windows_only(tmp_path: Path) -> None:
    values = np.zeros((9, 9), np.float32)
    values[2:5, 3] = -9999
    band = FileBand(write_raster(tmp_path / "x.tif", values, nodata=-9999))
    assert count_voids(band, [band.grid.whole], rows_at_once=4) == 3
    assert count_voids(band, [Window(3, 0, 6, 9), Window(0, 4, 9, 5)]) == 2
    assert count_voids(band, [Window(0, 0, 3, 9)], rows_at_once=2) == 1


def test_a_window_of_a_band_is_that_part_of_the_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2000, (9, 11)).astype(np.uint16)
    window = Window(2, 3, 5, 7)
    found = read_both_ways(write_raster(tmp_path / "x.tif", values), window)
    np.testing.assert_array_equal(found, values[window.slices])


def test_only_the_first_band_is_read(tmp_path: Path) -> None:
    values = np.stack([np.full((2, 2), 1, np.uint8), np.full((2, 2), 2, np.uint8)])
    assert (read_both_ways(write_raster(tmp_path / "x.tif", values)) == 1).all()


def test_what_was_read_can_be_changed_without_changing_the_band() -> None:
    band = ArrayBand(np.zeros((4, 4), np.float32), Grid(4, 4, (1, 0, 0, 0, -1, 0)))
    band.read(band.grid.whole)[:] = 5
    assert (band.read(band.grid.whole) == 0).all()


def test_a_band_is_held_in_the_type_in_which_it_is_stored(tmp_path: Path) -> None:
    """Memory in proportion to the file: a uint16 image does not become float32 twice its size."""
    band = hold(FileBand(write_raster(tmp_path / "x.tif", np.zeros((4, 4), np.uint16))))
    assert band._values.nbytes == 32


def test_threads_read_one_band_at_the_same_time(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    tiles = {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}
    band = FileBand(write_raster(tmp_path / "x.tif", values, **tiles))
    wrong = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            window = Window(int(rng.integers(32)), int(rng.integers(32)), 32, 32)
            if not np.array_equal(band.read(window), values[window.slices]):
                wrong.append(window)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- writing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_written_surface_is_read_back_with_its_georeference(tmp_path: Path, dtype: str) -> None:
    values = np.arange(48, dtype=np.float32).reshape(6, 8)
    values[2, 3] = np.nan
    with new_geotiff(tmp_path / "out.tif", GRID, dtype=dtype) as file:
        file.write(0, values[:4])
        file.write(4, values[4:])
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.dtypes == (dtype,)
        assert dataset.nodata == -9999
        assert dataset.compression.name == "lzw"
        assert dataset.crs.to_epsg() == 32632
        assert tuple(dataset.transform)[:6] == GRID.transform
        stored = dataset.read(1)
    assert stored[2, 3] == -9999
    np.testing.assert_array_equal(np.where(stored == -9999, np.nan, stored), values)
    assert FileBand(tmp_path / "out.tif").grid == GRID


def test_a_file_without_crs_can_be_written(tmp_path: Path) -> None:
    grid = Grid(2, 2, (1, 0, 5, 0, -1, 5))
    with new_geotiff(tmp_path / "out.tif", grid) as file:
        file.write(0, np.zeros((2, 2), np.float32))
    assert FileBand(tmp_path / "out.tif").grid == grid


def fail_half_way(path: Path, error: BaseException) -> None:
    with new_geotiff(path, GRID) as file:
        file.write(0, np.zeros((3, 8), np.float32))
        raise error


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), ResDepthError("mine")])
def test_a_surface_that_fails_half_way_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail_half_way(tmp_path / "out.tif", error)
    assert list(tmp_path.iterdir()) == []


def test_a_surface_that_fails_leaves_the_earlier_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    with new_geotiff(path, GRID) as file:
        file.write(0, np.ones((6, 8), np.float32))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="mine"):
        fail_half_way(path, ValueError("mine"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_while_a_surface_is_being_written_it_is_not_there(tmp_path: Path) -> None:
    with new_geotiff(tmp_path / "out.tif", GRID) as file:
        file.write(0, np.zeros((6, 8), np.float32))
        assert not (tmp_path / "out.tif").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.tif"]


def test_a_surface_that_cannot_be_written_is_stated_by_name(tmp_path: Path) -> None:
    with (
        pytest.raises(ResDepthError, match=r"out\.tif: cannot be written"),
        new_geotiff(tmp_path / "absent" / "out.tif", GRID),
    ):
        pass
    (tmp_path / "folder.tif").mkdir()
    with (
        pytest.raises(ResDepthError, match=r"folder\.tif: cannot be written"),
        new_geotiff(tmp_path / "folder.tif", GRID) as file,
    ):
        file.write(0, np.zeros((6, 8), np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.tif"]


def test_a_full_disk_leaves_nothing_and_is_stated(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    grid = Grid(256, 256, GRID.transform, UTM32)
    noise = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with (
            pytest.raises(ResDepthError, match=r"out\.tif: cannot be written .*space"),
            new_geotiff(tmp_path / "out.tif", grid) as file,
        ):
            file.write(0, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_an_atomic_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.write_text("x")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )
    current = os.umask(0)
    os.umask(current)
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o666 & ~current


def test_an_atomic_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def stopped() -> None:
        with atomic_path(tmp_path / "x.json") as temporary:
            temporary.write_text("{")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ("EPSG:32632", True),
        ("EPSG:32632+5773", True),  # the same with heights above the geoid
        ("+proj=utm +zone=32 +datum=WGS84 +units=m +no_defs", True),
        ("EPSG:32633", False),
        ("EPSG:25832", False),
    ],
)
def test_crss_are_compared_by_what_they_mean_not_by_their_text(
    other: str, is_same: bool, tmp_path: Path
) -> None:
    values = np.zeros((4, 4), dtype=np.float32)
    grids = [
        read_header(write_raster(tmp_path / f"{index}.tif", values, crs=crs)).grid
        for index, crs in enumerate(["EPSG:32632", other])
    ]
    assert (grids[0].differences(grids[1]) == []) == is_same


# --- other grids, other types


def test_a_raster_is_read_on_another_grid_with_voids_inside_and_outside(tmp_path: Path) -> None:
    rows, cols = np.mgrid[0:20, 0:30] + 0.5
    values = (rows + 2 * cols).astype(np.float32)
    values[5, 5] = -9999
    path = write_raster(tmp_path / "a.tif", values, nodata=-9999.0)
    x, y = 465000.0, 5248000.0
    nearest = read_resampled(path, Grid(20, 40, (0.5, 0, x - 2.5, 0, -0.5, y)), "nearest")
    assert np.isnan(nearest[:, :5]).all()
    assert np.isnan(nearest[:, 35:]).all()
    assert np.isnan(nearest[5, 10])
    np.testing.assert_array_equal(nearest[6:, 5:35], values[6:])
    coarse = read_resampled(path, Grid(10, 15, (1, 0, x, 0, -1, y), UTM32), "average")
    np.testing.assert_allclose(coarse[4:], (values[8::2, ::2] + values[9::2, 1::2]) / 2)
    fine = read_resampled(path, Grid(40, 60, (0.25, 0, x, 0, -0.25, y)), "bilinear")
    fine_rows, fine_cols = (np.mgrid[20:36, 20:56] + 0.5) / 2
    np.testing.assert_allclose(fine[20:36, 20:56], fine_rows + 2 * fine_cols, atol=1e-3)


def test_the_mask_of_a_raster_counts_when_it_is_resampled(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.full((20, 20), 7, np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(400).reshape(20, 20) >= 200)
    read = read_resampled(path, Grid(20, 20, (0.5, 0, 465000, 0, -0.5, 5248000)), "nearest")
    assert np.isnan(read[:10]).all()
    assert (read[10:] == 7).all()


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_whole_numbers_are_written_in_tiles_in_any_order(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (50, 70)).astype(dtype)
    grid = Grid(50, 70, (0.5, 0, 465000, 0, -0.5, 5248000), UTM32, "EPSG:32632")
    with new_geotiff(tmp_path / "a.tif", grid, dtype=dtype, tile=32) as file:
        for row, col in [(32, 32), (0, 0), (0, 32), (32, 0), (0, 64), (32, 64)]:
            file.write(row, values[row : row + 32, col : col + 32], col=col)
    header = read_header(tmp_path / "a.tif")
    assert (header.dtype, header.nodata, header.grid) == (dtype, None, grid)
    np.testing.assert_array_equal(FileBand(tmp_path / "a.tif").read_raw(grid.whole)[0], values)


def test_reference_systems_are_found_and_measured() -> None:
    wkt, name = find_crs("urn:ogc:def:crs:EPSG::7415")
    assert (name, metres_per_unit(wkt)) == ("EPSG:28992", 1.0)
    assert metres_per_unit(find_crs("EPSG:2263")[0]) == pytest.approx(0.3048, rel=1e-4)
    assert metres_per_unit(find_crs("EPSG:4326")[0]) is None
    with pytest.raises(ResDepthError, match=r"'nowhere' is no coordinate system"):
        find_crs("nowhere")


def test_what_is_read_while_a_raster_is_written_is_not_blamed_on_it(tmp_path: Path) -> None:
    def fill(error: Exception) -> None:
        with new_geotiff(tmp_path / "out.tif", GRID) as file:
            file.write(0, np.zeros((2, 8), np.float32))
            raise error

    with pytest.raises(FileNotFoundError, match="input"):
        fill(FileNotFoundError(2, "gone", "input.tif"))
    with pytest.raises(rasterio.errors.RasterioIOError, match="input"):
        fill(rasterio.errors.RasterioIOError("input.tif: read failed"))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise rasterio.errors.RasterioIOError("no space")

    monkeypatch.setattr(rasterio.io.DatasetWriter, "write", full, raising=False)
    with (
        pytest.raises(ResDepthError, match=r"out\.tif: cannot be written \(no space\)"),
        new_geotiff(tmp_path / "out.tif", GRID) as file,
    ):
        file.write(0, np.zeros((2, 8), np.float32))
    with (
        pytest.raises(ResDepthError, match=r"out\.tif: cannot be written"),
        new_geotiff(tmp_path / "gone" / "out.tif", GRID),
    ):
        pass
