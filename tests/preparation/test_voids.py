"""Voids filled, implausible heights taken out, and where each height comes from."""

from pathlib import Path

import numpy as np
import pytest

from conftest import read_raster
from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Grid
from resdepth.geo.raster import ArrayBand
from resdepth.preparation import voids
from resdepth.preparation.voids import Filling, coarse_surface, write_filled
from resdepth.runtime.progress import Silent

CRS = find_crs("EPSG:32632")


def grid(height: int, width: int) -> Grid:
    return Grid(height, width, (0.5, 0.0, 465000.0, 0.0, -0.5, 5248000.0), *CRS)


def plane(height: int, width: int) -> np.ndarray:
    rows, cols = np.mgrid[0:height, 0:width]
    return (400 + 0.05 * rows + 0.02 * cols).astype(np.float32)


def filled(folder: Path, heights: np.ndarray) -> tuple[Filling, np.ndarray, np.ndarray, np.ndarray]:
    place = grid(*heights.shape)
    paths = folder / "dsm.tif", folder / "void.tif", folder / "provenance.tif"
    made = write_filled(ArrayBand(heights, place), place, paths, threads=0, progress=Silent())
    return made, *(read_raster(path) for path in paths)  # type: ignore[return-value]


def test_small_voids_are_filled_from_near_and_large_ones_smoothly(tmp_path: Path) -> None:
    reference = plane(300, 400)
    given = reference.copy()
    given[20:30, 40:50] = np.nan
    given[100:280, 100:300] = np.nan
    made, dsm, void, provenance = filled(tmp_path, given)
    known = ~np.isnan(given)
    np.testing.assert_array_equal(dsm[known], given[known])
    np.testing.assert_array_equal(void == 0, known)
    assert set(np.unique(provenance)) == {0, 1, 2}
    assert (provenance[20:30, 40:50] == 1).all()
    assert provenance[190, 200] == 2
    assert np.abs(dsm - reference).max() < 6
    assert np.abs(np.diff(dsm[190])).max() < 1.5
    assert made.void_share == pytest.approx(1 - known.mean())
    assert made.near + made.smoothly == int((~known).sum())
    assert (made.lowest_m, made.highest_m) == (dsm.min(), dsm.max())


def test_spikes_go_and_towers_stay(tmp_path: Path) -> None:
    given = plane(200, 200)
    given[50:52, 60:63] += 300  # 1.5 m2
    given[150, 20] -= 90
    given[90:130, 90:130] += 150  # a tower of 20 m
    made, dsm, void, provenance = filled(tmp_path, given)
    assert made.implausible == 7
    assert (provenance[50:52, 60:63] == 3).all()
    assert void[150, 20] == 1
    assert np.abs(dsm[50:52, 60:63] - plane(200, 200)[50:52, 60:63]).max() < 0.5
    np.testing.assert_array_equal(dsm[90:130, 90:130], given[90:130, 90:130])
    first = made.outliers[0]
    assert (first.pixels, first.x, first.y) == (6, 465030.25, 5247974.75)
    assert first.height_m - first.level_m == pytest.approx(300, abs=2)


def test_what_is_absurd_goes_whatever_its_area(tmp_path: Path) -> None:
    given = plane(200, 200)
    given[40:90, 40:60] = -5000
    made, dsm, _, _ = filled(tmp_path, given)
    assert made.implausible == 1000
    assert dsm.min() > 390


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    given = plane(400, 300) + rng.normal(0, 1, (400, 300)).astype(np.float32)
    given[rng.random(given.shape) < 0.3] = np.nan
    given[50:330, 60:250] = np.nan
    _, whole, _, codes = filled(tmp_path, given)
    monkeypatch.setattr(voids, "BLOCK_PX", 128)
    _, parts, _, other = filled(tmp_path, given)
    np.testing.assert_array_equal(codes, other)
    np.testing.assert_allclose(whole, parts, atol=1e-3)


def test_nothing_but_voids_is_refused() -> None:
    band = ArrayBand(np.full((64, 64), np.nan, np.float32), grid(64, 64))
    with pytest.raises(ResDepthError, match="holds no heights in the area"):
        coarse_surface(band, 0, Silent())
