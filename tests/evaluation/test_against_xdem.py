"""Our figures beside those of xDEM and geoutils, which others know and trust."""

import numpy as np
import pytest
from rasterio import Affine

from resdepth.evaluation.coregistration import estimate_shift
from resdepth.evaluation.metrics import NMAD_FACTOR, statistics
from resdepth.evaluation.shape import shape_of
from resdepth.geo.grid import Grid, Sides

geoutils = pytest.importorskip("geoutils")
xdem = pytest.importorskip("xdem")

GSD = 0.5
PLACE = Affine(GSD, 0, 465000, 0, -GSD, 5248000)


def landscape(down: float = 0.0, right: float = 0.0) -> np.ndarray:
    """(200, 240) float32: hills, moved by some pixels and sampled anew."""
    row, col = np.arange(200)[:, None] - down, np.arange(240)[None, :] - right
    heights = 8 * np.sin(row / 23 + 0.4) * np.cos(col / 31) + 3 * np.sin(col / 11 + row / 17) + 0.02 * row
    return heights.astype(np.float32)


def noise(sigma: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sigma, (200, 240)).astype(np.float32)


@pytest.mark.parametrize(("down", "right", "up"), [(0.3, -0.7, 1.25), (-1.4, 2.2, -0.5)])
@pytest.mark.parametrize("sigma", [0, 0.3])
def test_the_shift_is_that_of_nuth_and_kaab_in_xdem(
    down: float, right: float, up: float, sigma: float
) -> None:
    reference = landscape()
    surface = landscape(down, right) + np.float32(up) + noise(sigma)
    grid = Grid(*reference.shape, tuple(PLACE)[:6])
    ours = estimate_shift(
        lambda window: surface[window.slices], lambda window: reference[window.slices], grid, name="initial"
    )
    theirs = xdem.coreg.NuthKaab(subsample=1, offset_threshold=0.0001, max_iterations=30)
    theirs.fit(
        reference, surface, transform=PLACE, crs=geoutils.Raster.from_array(reference, PLACE, 32632).crs
    )
    found = theirs.meta["outputs"]["affine"]
    tolerance = 0.02 if sigma else 0.01
    assert (ours.dx_m, ours.dy_m) == pytest.approx((found["shift_x"], found["shift_y"]), abs=tolerance)
    assert ours.dz_m == pytest.approx(found["shift_z"], abs=0.01)


@pytest.mark.parametrize("count", [9_973, 10_001])
@pytest.mark.parametrize("power", [1, 3])
def test_error_figures_are_those_of_geoutils(count: int, power: int) -> None:
    errors = np.random.default_rng(3).normal(0.3, 1.2, count).astype(np.float32) ** power
    # Each several times: so quantiles do not depend on how one interpolates between neighbours.
    errors = np.repeat(errors, 20)
    ours, exactly = statistics(errors), errors.astype(np.float64)
    stats = geoutils.stats
    assert ours.nmad == pytest.approx(stats.nmad(exactly, nfact=NMAD_FACTOR), abs=1e-6)
    assert ours.rmse == pytest.approx(stats.rmse(exactly), abs=1e-6)
    # Theirs is the width of the middle of signed errors; ours half of it, were both signs alike.
    both = np.concatenate([exactly, -exactly])
    for share, figure in ((68, ours.le68), (90, ours.le90), (95, ours.le95)):
        assert figure == pytest.approx(stats.linear_error(both, interval=share) / 2, abs=1e-6)


def test_figures_of_a_raster_with_voids_are_those_of_geoutils() -> None:
    errors = noise(1.0)
    errors[50:90, 20:40] = np.nan
    raster = geoutils.Raster.from_array(errors, PLACE, 32632, nodata=-9999)
    theirs = raster.get_stats(["mean", "median", "min", "max", "rmse", "nmad"])
    ours = statistics(errors)
    figures = (ours.bias, ours.median, ours.minimum, ours.maximum, ours.rmse, ours.nmad)
    np.testing.assert_allclose(list(theirs.values()), figures, atol=1e-6)


def test_slopes_are_those_of_xdem() -> None:
    heights = landscape().astype(np.float64)
    heights[60:70, 100:130] += 12
    heights[150, 33] = np.nan
    theirs = xdem.terrain.slope(heights, surface_fit="Horn", resolution=GSD, degrees=False)
    ours, expected = shape_of(heights, Sides(GSD, GSD)).slope, np.tan(theirs)[1:-1, 1:-1]
    known = ~np.isnan(expected)
    assert known.sum() == expected.size - 9
    np.testing.assert_allclose(ours[known], expected[known], atol=1e-6)
