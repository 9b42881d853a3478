"""A surface that lies far beside the reference DSM is found, and one that lies near is found as before."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import ndimage

from conftest import make_heights, write_raster
from resdepth.cli import main
from resdepth.evaluation.coregistration import estimate_shift, find_shift
from resdepth.evaluation.result import Shift
from resdepth.geo.grid import Grid

HEIGHT, WIDTH, GSD = 320, 400, 0.5
GRID = Grid(HEIGHT, WIDTH, (GSD, 0.0, 0.0, 0.0, -GSD, 0.0))


def town(seed: int = 3) -> np.ndarray:
    """Streets, courts and houses: nothing that repeats itself."""
    rng = np.random.default_rng(seed)
    heights = 30 + np.zeros((HEIGHT + 160, WIDTH + 160), np.float32)
    for _ in range(420):
        row, col, high = rng.integers(0, HEIGHT + 130), rng.integers(0, WIDTH + 130), rng.uniform(4, 15)
        heights[row : row + rng.integers(10, 30), col : col + rng.integers(10, 30)] = 30 + high
    return heights


def both(down: int, right: int, up: float = -3.27) -> tuple[np.ndarray, np.ndarray]:
    """A blurred, noisy surface that lies so many pixels beside, and the reference DSM."""
    whole = town()
    reference = whole[80 : 80 + HEIGHT, 80 : 80 + WIDTH]
    moved = whole[80 - down : 80 - down + HEIGHT, 80 - right : 80 - right + WIDTH]
    noise = np.random.default_rng(1).normal(0, 0.3, moved.shape)
    surface = ndimage.gaussian_filter(ndimage.median_filter(moved, 5), 1.0) + noise + up
    return surface.astype(np.float32), reference


def found(surface: np.ndarray, reference: np.ndarray) -> Shift:
    return find_shift(
        lambda window: surface[window.slices], lambda window: reference[window.slices], GRID, name="initial"
    )


@pytest.mark.parametrize(("down", "right"), [(6, -5), (24, 10), (-30, -28), (0, 60), (55, 0)])
def test_far_shifts_are_found(down: int, right: int) -> None:
    shift = found(*both(down, right))
    assert shift.dx_m == pytest.approx(-right * GSD, abs=0.1 * GSD)
    assert shift.dy_m == pytest.approx(down * GSD, abs=0.1 * GSD)
    assert shift.dz_m == pytest.approx(3.27, abs=0.05)


def test_from_far_away_the_search_alone_does_not_arrive() -> None:
    surface, reference = both(-30, -28)
    alone = estimate_shift(
        lambda window: surface[window.slices], lambda window: reference[window.slices], GRID, name=None
    )
    assert not np.hypot(alone.dx_m - 14, alone.dy_m + 15) < 1


def test_near_shifts_are_those_of_the_search_alone() -> None:
    surface, reference = both(2, -3)
    alone = estimate_shift(
        lambda window: surface[window.slices], lambda window: reference[window.slices], GRID, name=None
    )
    assert found(surface, reference) == alone


def test_what_has_nothing_in_common_is_not_moved_and_a_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, reference = both(0, 0)
    other = np.flip(town(9)[:HEIGHT, :WIDTH]).copy()
    with caplog.at_level(logging.WARNING):
        shift = found(other, reference)
    assert np.isnan(shift.dx_m) or np.hypot(shift.dx_m, shift.dy_m) < 10
    assert ("does not converge" in caplog.text) == (shift.pixels == 0)


def test_evaluate_aligns_from_far_away(tmp_path: Path) -> None:
    surface, reference = both(24, -20)
    paths = [write_raster(tmp_path / f"{name}.tif", values) for name, values in
             (("initial", surface), ("reference", reference))]  # fmt: skip
    arguments = [f"{paths[0]}", "--reference", f"{paths[1]}", "--align", "-o", f"{tmp_path / 'out'}"]
    done = CliRunner().invoke(main, ["evaluate", *arguments])
    assert done.exit_code == 0, done.output
    (one,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["surfaces"].values()
    assert one["shift"]["applied"]
    assert one["shift"]["dx_m"] == pytest.approx(10, abs=0.05)
    assert one["classes"]["overall"]["statistics"]["median"] == pytest.approx(0, abs=0.05)
    assert one["classes"]["overall"]["statistics"]["nmad"] < 0.6


def test_tiny_rasters_are_no_reason_to_fail() -> None:
    reference, initial = make_heights(0, 20, 30)
    grid = Grid(20, 30, GRID.transform)
    shift = find_shift(
        lambda window: initial[window.slices], lambda window: reference[window.slices], grid, name="initial"
    )
    assert shift.pixels >= 0
