"""From which zero heights count: stated, named, changed by a geoid that PROJ has or lacks."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio

from conftest import write_raster
from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs, parsed
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand
from resdepth.preparation.datum import (
    ELLIPSOID,
    compound,
    constant_change,
    height_change,
    named_vertical,
    title_of,
    vertical_of,
)

GRID = Grid(100, 200, (1.0, 0.0, 465000.0, 0.0, -1.0, 5248000.0), *find_crs("EPSG:32632"))


def test_what_a_crs_states() -> None:
    assert vertical_of(find_crs("EPSG:32632")[0]) == ""
    assert vertical_of("") == ""
    assert vertical_of(parsed("EPSG:4979")) == ELLIPSOID
    assert title_of(vertical_of(parsed("EPSG:32632+5773"))) == "EPSG:5773 (EGM96 height)"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("ellipsoid", "ellipsoid"),
        ("EGM96", "EPSG:5773 (EGM96 height)"),
        ("egm 2008", "EPSG:3855 (EGM2008 height)"),
        ("EPSG:5709", "EPSG:5709 (NAP height)"),
        ("EPSG:7415", "EPSG:5709 (NAP height)"),
    ],
)
def test_zeros_by_name(text: str, title: str) -> None:
    assert title_of(named_vertical(text)) == title


@pytest.mark.parametrize("text", ["sea level", "EPSG:32632", "EPSG:999999"])
def test_what_names_no_heights_is_refused(text: str) -> None:
    with pytest.raises(ResDepthError, match="give ellipsoid, EGM96"):
        named_vertical(text)


def test_heights_in_feet_count_from_the_same_zero_in_metres() -> None:
    metres = vertical_of(parsed("EPSG:2263+6360"))
    assert title_of(metres) == "NAVD88 height (ftUS) in metres"
    assert '"metre",1' in metres
    assert '"metre",1' in pyproj.CRS(compound(GRID.crs, metres)).sub_crs_list[1].to_wkt()


@pytest.mark.usefixtures("geoid")
def test_a_geoid_is_added_where_it_lies() -> None:
    change = height_change(named_vertical("EGM96"), ELLIPSOID, GRID, 500.0)
    lon, _ = pyproj.Transformer.from_crs(32632, 4326, always_xy=True).transform(465100.0, 5247950.0)
    assert change.mean_m == pytest.approx(40 + 10 * (lon - 8), abs=0.02)
    over = change.over(GRID)
    assert over.shape == (100, 200)
    east, _ = pyproj.Transformer.from_crs(32632, 4326, always_xy=True).transform(465199.5, 5247999.5)
    assert over[0, -1] == pytest.approx(40 + 10 * (east - 8), abs=1e-3)
    back = height_change(ELLIPSOID, named_vertical("EGM96"), GRID, 500.0).over(GRID)
    np.testing.assert_allclose(over + back, 0, atol=1e-3)


def write_geoid(folder: Path) -> None:
    """EGM96 as PROJ asks for it: a geodetic TIFF grid, a plane that rises to the east."""
    folder.mkdir(parents=True)
    values = np.broadcast_to(40 + 10 * (np.linspace(-180, 180, 361) - 8), (181, 361)).astype(np.float32)
    place = rasterio.Affine(1, 0, -180.5, 0, -1, 90.5)
    with rasterio.open(
        folder / "us_nga_egm96_15.tif", "w", driver="GTiff", height=181, width=361, count=1, dtype="float32",
        crs="EPSG:4979", transform=place,
    ) as dataset:  # fmt: skip
        dataset.write(values, 1)
        dataset.update_tags(TYPE="VERTICAL_OFFSET_GEOGRAPHIC_TO_VERTICAL", AREA_OR_POINT="Point")
        dataset.set_band_description(1, "geoid_undulation")
        dataset.set_band_unit(1, "metre")


@pytest.mark.parametrize("variable", ["PROJ_DATA", "PROJ_USER_WRITABLE_DIRECTORY"])
def test_a_geoid_is_found_where_proj_is_told_to_look(variable: str, tmp_path: Path) -> None:
    folder = tmp_path / "proj"
    write_geoid(folder)
    theirs = Path(rasterio.__file__).parent / "proj_data"  # of a wheel
    database = theirs if theirs.is_dir() else Path(pyproj.datadir.get_data_dir())
    (folder / "proj.db").symlink_to(database / "proj.db")
    heights = np.full((60, 80), 500, np.float32)
    path = write_raster(tmp_path / "dsm.tif", heights, crs="EPSG:32632+5773", origin=(465000.0, 5248000.0))
    words = ["prepare", "--dsm", path, "--vertical", "ellipsoid", "-o", tmp_path / "scene", "--workers", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "resdepth", *map(str, words)], env={**os.environ, variable: str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lon, _ = pyproj.Transformer.from_crs(32632, 4326, always_xy=True).transform(465020.0, 5247985.0)
    found = FileBand(tmp_path / "scene" / "data" / "dsm" / "initial.tif")
    lifted = found.read(found.grid.whole) - 500
    assert np.abs(lifted - (40 + 10 * (lon - 8))).max() < 0.02


@pytest.mark.skipif(
    not (Path(rasterio.__file__).parent / "proj_data").is_dir(),
    reason="only rasterio's wheels look nowhere else than where PROJ_DATA leads",
)
def test_a_folder_without_the_database_of_proj_is_named(tmp_path: Path) -> None:
    code = "from resdepth.geo.crs import find_crs; find_crs('EPSG:32632')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PROJ_DATA": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, "PROJ needs its database, and there is none"
    assert "ResDepthError: 'EPSG:32632' is no coordinate system that GDAL knows" in done.stderr
    assert "PROJ_DATA must lead to one folder, with the proj.db of GDAL's PROJ in it" in done.stderr


def test_a_missing_geoid_is_named_with_its_package() -> None:
    with pytest.raises(ResDepthError, match=r"PROJ needs us_nga_egm96_15.tif.*pyproj sync.*proj-data"):
        height_change(named_vertical("EGM96"), ELLIPSOID, GRID, 500.0)


def test_a_zero_of_another_continent_is_refused() -> None:
    with pytest.raises(ResDepthError, match=r"PROJ (knows no way from|needs)"):
        height_change(named_vertical("NAVD88"), ELLIPSOID, GRID, 500.0)


def test_nothing_changes_between_equal_or_unknown_zeros() -> None:
    egm = named_vertical("EGM96")
    for source, target in ((egm, egm), ("", egm), (egm, "")):
        assert height_change(source, target, GRID, 0.0).is_none
    assert constant_change(GRID, 2.5).over(GRID)[3, 4] == 2.5
