"""Voids that nobody declared are asked about; heights as they occur are not."""

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio

from conftest import MadeScene, write_raster
from resdepth import evaluate
from resdepth.data.arrays import look_for_undeclared
from resdepth.geo.grid import Grid
from resdepth.geo.raster import ArrayBand, FileBand
from resdepth.simulate.sources.raw_surface import ElevationSource, SourceOptions
from resdepth.workflows.check import check
from resdepth.workflows.info import about_raster

HEIGHTS = np.random.default_rng(0).normal(400, 5, (90, 120)).astype(np.float32)


def with_voids(value: float, *, pixels: int = 50) -> np.ndarray:
    holes = HEIGHTS.copy()
    holes.ravel()[1000 : 1000 + pixels] = value
    return holes


def look(values: np.ndarray) -> list[float]:
    grid = Grid(*values.shape, (0.5, 0, 0, 0, -0.5, 0))
    return [one.stored for one in look_for_undeclared(ArrayBand(values, grid)).suspects]


@pytest.mark.parametrize(
    "value", [-999, -9999, -32767, -32768, 9999, 32767, 65535, 1e20, -1e10, np.finfo(np.float32).min, 0, -50]
)
def test_a_number_far_from_all_heights_is_asked_about(value: float) -> None:
    assert look(with_voids(value)) == [np.float32(value)]


@pytest.mark.parametrize("value", [-9999, -32768, -12345, 30000])
def test_a_single_pixel_that_is_no_height_on_earth_is_asked_about(value: float) -> None:
    assert look(with_voids(value, pixels=1)) == [value]


def test_two_numbers_for_voids_are_both_named() -> None:
    holes = with_voids(-9999)
    holes[3, 4:8] = 32767
    assert look(holes) == [-9999, 32767]


def test_a_raster_of_nothing_but_such_a_number_is_asked_about() -> None:
    assert look(np.full((9, 9), -9999, np.float32)) == [-9999]
    assert look(np.full((9, 9), 400, np.float32)) == []


@pytest.mark.parametrize(
    "heights",
    [
        HEIGHTS,
        with_voids(330, pixels=1),  # a blunder of matching
        with_voids(700),  # a tower with a flat roof
        np.linspace(-1200, 300, 9000, dtype=np.float32).reshape(90, 100),  # a sea bed
        np.linspace(0, 4800, 9000, dtype=np.int16).reshape(90, 100),
        HEIGHTS - 4400,  # another planet
        np.full((9, 9), np.nan, np.float32),
    ],
)
def test_heights_as_they_occur_are_not_asked_about(heights: np.ndarray) -> None:
    assert look(heights) == []


def test_large_rasters_are_looked_at_by_sample(tmp_path: Path) -> None:
    heights = np.tile(HEIGHTS, (13, 10)).astype(np.int16)
    heights[:, -3:] = -32768
    found = look_for_undeclared(FileBand(write_raster(tmp_path / "dsm.tif", heights)))
    assert found.sampled
    assert [one.stored for one in found.suspects] == [-32768]
    assert found.question.startswith("of the known pixels in a sample, 0.29 % are -32768; all others")
    assert found.question.endswith("gdal_edit.py -a_nodata -32768 dsm.tif")


def test_of_scaled_heights_the_stored_number_is_named(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dsm.tif", np.rint((with_voids(-27.68) - 300) * 100).astype(np.int16))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = [0.01], [300]
    assert "-a_nodata -32768 dsm.tif" in look_for_undeclared(FileBand(path)).question


def test_declared_voids_are_not_asked_about(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dsm.tif", with_voids(-9999), nodata=-9999)
    assert not look_for_undeclared(FileBand(path)).suspects


# --- who asks


def test_evaluating_asks_of_files_and_of_arrays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dsm = write_raster(tmp_path / "dsm.tif", with_voids(-999))
    reference = write_raster(tmp_path / "reference.tif", HEIGHTS)
    evaluate(dsm, reference)
    assert "dsm.tif: of the known pixels, 0.46 % are -999; all others" in caplog.text
    assert "reference.tif: of" not in caplog.text
    caplog.clear()
    evaluate(with_voids(-999), HEIGHTS, gsd=0.5)
    assert "refined: of the known pixels, 0.46 % are -999; all others" in caplog.text
    assert "give nodata=-999" in caplog.text
    caplog.clear()
    found = evaluate(with_voids(-999).astype(np.int16), HEIGHTS, gsd=0.5, nodata=-999)
    assert "-999" not in caplog.text
    assert found.refined["overall"].count == HEIGHTS.size - 50


def test_checking_a_configuration_asks(scene: MadeScene) -> None:
    reference = np.where(np.isnan(scene.reference), -9999, scene.reference).astype(np.float32)
    write_raster(scene.folder / "reference.tif", reference)
    config = scene.write(scene.train_config())
    (asked,) = [problem for problem in check(config) if "% are" in problem.message]
    assert asked.severity == "warning"
    assert asked.where.endswith("datasets[0].raster_gt")
    assert "-a_nodata -9999 reference.tif" in asked.message


def test_info_and_simulate_ask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_raster(tmp_path / "dsm.tif", with_voids(-9999))
    assert "0.46 % are -9999" in about_raster(path)["suspicious"]
    with caplog.at_level(logging.WARNING):
        ElevationSource(path, SourceOptions())
    assert "dsm.tif: of the known pixels, 0.46 % are -9999" in caplog.text
