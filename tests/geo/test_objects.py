"""Rasters of other libraries: read as they are, and given back as the kind that they were."""

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import rasterio
import rioxarray
import torch
import xarray
import xdem
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from conftest import GSD, ORIGIN, write_raster
from resdepth.errors import InputProblems, Problem, ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.objects import Placement, data_array, kind_of, like, path_of, placed
from resdepth.geo.raster import FileBand
from resdepth.geo.windows import Window

TRANSFORM = rasterio.Affine(GSD, 0, ORIGIN[0], 0, -GSD, ORIGIN[1])
PART = Window(1, 2, 3, 4)


@pytest.fixture
def heights() -> np.ndarray:
    values = np.arange(42, dtype=np.float32).reshape(6, 7) + 400
    values[0, 0] = np.nan
    return values


@pytest.fixture
def path(tmp_path: Path, heights: np.ndarray) -> Path:
    stored = np.where(np.isnan(heights), np.float32(-9999), heights)
    return write_raster(tmp_path / "dsm.tif", stored, nodata=-9999)


def objects(path: Path, heights: np.ndarray) -> dict[str, Any]:
    """The same raster in all kinds that lie on a map."""
    memory = MemoryFile()
    memory.write(path.read_bytes())  # bytes that it is made of would be gone with it
    vrt = WarpedVRT(rasterio.open(path))
    coords = {
        "northing": ORIGIN[1] - GSD * (np.arange(6) + 0.5),
        "easting": ORIGIN[0] + GSD * (np.arange(7) + 0.5),
    }
    plain = xarray.DataArray(
        heights, coords=coords, dims=("northing", "easting"), attrs={"crs": "EPSG:32632"}
    )
    opened: xarray.DataArray = rioxarray.open_rasterio(path)
    return {
        "rasterio": rasterio.open(path),
        "memory": memory.open(),
        "warped": vrt,
        "rioxarray": opened,
        "masked": rioxarray.open_rasterio(path, masked=True),
        "chunked": rioxarray.open_rasterio(path, chunks={"x": 3, "y": 3}),
        "flat": opened.isel(band=0),
        "plain": plain,
        "xdem": xdem.DEM(path),
    }


KINDS = ("rasterio", "memory", "warped", "rioxarray", "masked", "chunked", "flat", "plain", "xdem")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_on_a_map_is_the_same_raster(kind: str, path: Path, heights: np.ndarray) -> None:
    given = objects(path, heights)[kind]
    with placed({"dsm": given}, Placement(), heights={"dsm"}) as rasters:
        band = FileBand(Path(rasters.rasters["dsm"]))
        np.testing.assert_array_equal(band.read(band.grid.whole), heights)
        assert not FileBand(path).grid.differences(band.grid)
        assert band.grid.crs_name == "EPSG:32632"
    assert path.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_comes_back_as_the_kind_and_lies_where_it_was(
    kind: str, path: Path, heights: np.ndarray
) -> None:
    given = objects(path, heights)[kind]
    values = heights[PART.slices] + 1
    values[0, 0] = np.nan
    made = like(given, values, PART)
    assert kind_of(made) == kind_of(given)
    with placed({"made": made}, Placement(), heights={"made"}) as rasters:
        band = FileBand(Path(rasters.rasters["made"]))
        np.testing.assert_array_equal(band.read(band.grid.whole), values)
        assert not FileBand(path).grid.crop(PART).differences(band.grid)


def test_dataarrays_keep_their_names_and_lose_what_spoke_of_stored_numbers(path: Path) -> None:
    given = (
        rioxarray.open_rasterio(path).rename("surface").assign_attrs(long_name="heights", scale_factor=1.0)
    )
    made = like(given, np.ones((3, 4), np.float32), PART)
    assert (made.name, made.dims, made.attrs["long_name"]) == ("surface", given.dims, "heights")
    assert not {"_FillValue", "scale_factor"} & made.attrs.keys()
    assert made.rio.crs == given.rio.crs
    assert made.rio.transform() == given.rio.transform() @ rasterio.Affine.translation(2, 1)
    assert made.dtype == np.float32


def test_chunks_and_classes_stay(path: Path, heights: np.ndarray) -> None:
    given = objects(path, heights)
    whole = Window(0, 0, *heights.shape)
    assert like(given["chunked"], heights, whole).chunks == given["chunked"].chunks
    dem = xdem.DEM(path, vcrs="Ellipsoid")
    made = like(dem, heights, whole)
    assert type(made) is xdem.DEM
    assert made.vcrs == dem.vcrs
    assert made.data.mask[0, 0]
    tensor = like(torch.from_numpy(heights), heights, whole)
    assert isinstance(tensor, torch.Tensor)
    assert isinstance(like(dask.array.from_array(heights), heights, whole), dask.array.Array)


@pytest.mark.parametrize(
    "make",
    [torch.from_numpy, dask.array.from_array, np.asarray, list],
    ids=["torch", "dask", "numpy", "list"],
)
def test_arrays_without_a_place_stay_arrays(make: Any, heights: np.ndarray) -> None:
    with placed({"dsm": make(heights)}, Placement(gsd=2.0), heights={"dsm"}) as rasters:
        np.testing.assert_array_equal(rasters.rasters["dsm"], heights)
        assert rasters.placement.gsd == 2.0


@pytest.mark.parametrize("crs", ["EPSG:32632", 32632, rasterio.CRS.from_epsg(32632)], ids=str)
def test_arrays_lie_where_is_stated(crs: Any, path: Path, heights: np.ndarray) -> None:
    place = Placement(transform=TRANSFORM, crs=crs)
    with placed({"dsm": heights}, place, heights={"dsm"}) as rasters:
        assert not FileBand(path).grid.differences(FileBand(Path(rasters.rasters["dsm"])).grid)
    with placed({"dsm": heights}, Placement(gsd=2.0, crs=crs), heights={"dsm"}) as rasters:
        assert FileBand(Path(rasters.rasters["dsm"])).grid.gsd_m == 2.0


def test_arrays_lie_as_the_raster_of_their_shape(path: Path, heights: np.ndarray) -> None:
    given = {"dsm": rioxarray.open_rasterio(path), "masks['water']": heights > 410}
    with placed(given, Placement(), heights={"dsm"}) as rasters:
        mask = FileBand(Path(rasters.rasters["masks['water']"]), "mask")
        assert not FileBand(path).grid.differences(mask.grid)
        np.testing.assert_array_equal(mask.read(mask.grid.whole) == 1, heights > 410)
    with (
        pytest.raises(InputProblems, match=r"^images\[0\]: an array has no georeference, and no other"),
        placed({**given, "images[0]": heights[1:]}, Placement(), heights={"dsm"}),
    ):
        pass


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64, np.int32])
def test_a_number_for_voids_counts_for_heights_alone(dtype: Any, path: Path) -> None:
    values = np.full((6, 7), 7, dtype)
    values[0, 0] = 99
    place = Placement(transform=TRANSFORM, crs="EPSG:32632", nodata=99)
    with placed({"dsm": values, "images[0]": values}, place, heights={"dsm"}) as rasters:
        files = {name: FileBand(Path(file)) for name, file in rasters.rasters.items()}
        assert np.isnan(files["dsm"].read(Window(0, 0, 1, 1)))
        assert files["images[0]"].read(Window(0, 0, 1, 1)) == 99
    with (
        rasterio.open(path) as opened,
        placed({"dsm": opened}, Placement(nodata=401), heights={"dsm"}) as one,
    ):
        assert np.isnan(FileBand(Path(one.rasters["dsm"])).read(Window(0, 0, 1, 2))).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float16])
def test_masked_arrays_are_void_where_they_are_masked(dtype: Any) -> None:
    values = np.ma.masked_equal(np.arange(6, dtype=dtype).reshape(2, 3), 4)
    with placed({"dsm": values}, Placement(transform=TRANSFORM), heights={"dsm"}) as rasters:
        read = FileBand(Path(rasters.rasters["dsm"])).read(Window(0, 0, 2, 3))
    np.testing.assert_array_equal(read, [[0, 1, 2], [3, np.nan, 5]])


def test_scales_and_units_are_those_of_files(tmp_path: Path) -> None:
    stored = write_raster(tmp_path / "feet.tif", np.full((6, 7), 100, np.int16))
    with rasterio.open(stored, "r+") as file:
        file.scales, file.offsets, file.units = (0.5,), (10.0,), ("foot",)
    for given in (rasterio.open(stored), rioxarray.open_rasterio(stored)):
        with placed({"dsm": given}, Placement(), heights={"dsm"}) as rasters:
            read = FileBand(Path(rasters.rasters["dsm"])).read(Window(0, 0, 1, 1))
        assert read == pytest.approx(60 * 0.3048)


def tilted(values: np.ndarray) -> xarray.DataArray:
    array = xarray.DataArray(values, dims=("y", "x")).rio.write_crs("EPSG:32632")
    return array.rio.write_transform(TRANSFORM @ rasterio.Affine.rotation(30))


def test_turned_and_south_up_rasters_lie_where_they_do(heights: np.ndarray) -> None:
    with placed({"dsm": tilted(heights)}, Placement(), heights={"dsm"}) as rasters:
        grid = FileBand(Path(rasters.rasters["dsm"])).grid
        assert grid.transform == pytest.approx(tuple(TRANSFORM @ rasterio.Affine.rotation(30))[:6])
    coords = {"y": [0.5, 1.5, 2.5], "x": [0.5, 1.5]}
    up = xarray.DataArray(np.zeros((3, 2), np.float32), coords=coords, dims=("y", "x"))
    with placed({"dsm": up}, Placement(crs="EPSG:32632"), heights={"dsm"}) as rasters:
        assert FileBand(Path(rasters.rasters["dsm"])).grid.transform == (1, 0, 0, 0, 1, 0)


def degrees() -> xarray.DataArray:
    coords = {"lat": [47.0, 46.9], "lon": [8.0, 8.1]}
    return xarray.DataArray(np.zeros((2, 2)), coords=coords, dims=("lat", "lon"))


def test_longitudes_are_degrees() -> None:
    with placed({"dsm": degrees()}, Placement(), heights={"dsm"}) as rasters:
        assert FileBand(Path(rasters.rasters["dsm"])).grid.crs_name == "EPSG:4326"


def test_what_is_no_raster_is_named_with_the_remedy(path: Path, heights: np.ndarray) -> None:
    array = xarray.DataArray(heights, dims=("y", "x"))
    uneven = array.assign_coords(y=[0, 1, 2, 3, 4, 9], x=np.arange(7))
    closed = MemoryFile(path.read_bytes()).open()
    closed.close()
    colours = MemoryFile()
    with colours.open(driver="GTiff", height=2, width=2, count=3, dtype="uint8", transform=TRANSFORM) as file:
        file.write(np.zeros((3, 2, 2), np.uint8))
    wrong = {
        "bands": (array.expand_dims(band=3), r"dimensions \(band: 3, y: 6, x: 7\); choose one band"),
        "turned": (array.transpose("x", "y"), r"rows come first: array.transpose\('y', 'x'\)"),
        "uneven": (uneven, "coordinates y are not evenly spaced"),
        "dataset": (array.to_dataset(name="dsm"), r"is a Dataset; give one of its variables"),
        "closed": (closed, "is closed; use it within its `with` block"),
        "colours": (colours.open(), "is no file, and has 3 bands"),
        "crs": (array.assign_attrs(crs="nonsense").assign_coords(x=range(7), y=range(6)), "no CRS that GDAL"),
    }
    with (
        pytest.raises(InputProblems) as caught,
        placed({name: given for name, (given, _) in wrong.items()}, Placement(), heights=()),
    ):
        pass
    assert [problem.where for problem in caught.value.problems] == list(wrong)
    for problem, (_, stated) in zip(caught.value.problems, wrong.values(), strict=True):
        assert re.search(stated, problem.message), problem


@pytest.mark.parametrize(
    ("place", "stated"),
    [
        (Placement(transform=(1, 2, 3)), "give six numbers"),
        (Placement(transform=(0, 0, 0, 0, 0, 0)), "gives pixels no area"),
        (Placement(transform=TRANSFORM, gsd=1), "gsd, transform: give one of them"),
        (Placement(transform=TRANSFORM, crs="nowhere"), "^crs: found 'nowhere'"),
    ],
    ids=str,
)
def test_a_place_that_is_none_is_refused(place: Placement, stated: str, heights: np.ndarray) -> None:
    with pytest.raises(ResDepthError, match=stated), placed({"dsm": heights}, place, heights={"dsm"}):
        pass


def test_files_state_their_own_place(path: Path) -> None:
    with (
        pytest.raises(ResDepthError, match="transform, crs: are for arrays"),
        placed({"dsm": path}, Placement(crs=32632), heights={"dsm"}),
    ):
        pass


def test_errors_and_warnings_name_what_was_given(
    path: Path, heights: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    given = objects(path, heights)["flat"]

    def fail(error: Any) -> None:
        with placed({"dsm": given}, Placement(), heights=()) as rasters:
            file = rasters.rasters["dsm"]
            logging.getLogger("resdepth.test").warning("%s: looks odd", file)
            assert rasters.warnings == ["dsm: looks odd"]
            raise error(file)

    with pytest.raises(InputProblems, match=r"^dsm: is odd$"):
        fail(lambda file: InputProblems([Problem("dsm", f"{file}: is odd")]))
    with pytest.raises(ResDepthError, match=r"^dsm: no$"):
        fail(lambda file: ResDepthError(f"{file}: no"))
    assert caplog.messages == ["dsm: looks odd"] * 2


def test_files_of_rasterio_are_known_as_files(path: Path) -> None:
    with rasterio.open(path) as opened, WarpedVRT(opened) as warped:
        assert path_of(opened) == path
        assert path_of(warped) is None
    assert path_of(np.zeros((2, 2))) is None


def test_arrays_of_a_grid_are_as_rioxarray_has_them(heights: np.ndarray) -> None:
    grid = Grid(6, 7, tuple(TRANSFORM)[:6], rasterio.CRS.from_epsg(32632).to_wkt())
    made = data_array(heights, grid, "dsm", units="m")
    assert made.rio.crs.to_epsg() == 32632
    assert made.rio.transform() == TRANSFORM
    turned = data_array(heights, Grid(6, 7, tuple(TRANSFORM @ rasterio.Affine.rotation(9))[:6]), "dsm")
    assert not {"x", "y"} & set(turned.coords)


def test_none_of_the_libraries_is_needed_to_know_them() -> None:
    code = (
        "import sys, numpy as np\n"
        "from resdepth.geo.objects import Placement, placed\n"
        "with placed({'dsm': np.zeros((2, 2))}, Placement(transform=(1, 0, 0, 0, -1, 0)), heights=()): pass\n"
        "assert not {'xarray', 'geoutils', 'torch', 'dask'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
