"""Median filters beside evaluated surfaces: exact with voids, their width chosen by validation."""

import csv
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner, Result

import resdepth
from conftest import MadeScene, make_model, write_raster
from resdepth.cli import main
from resdepth.evaluation.baselines import WIDTHS_PX, median_baselines, median_filtered
from resdepth.evaluation.evaluate import Case
from resdepth.evaluation.inputs import Candidate
from resdepth.evaluation.metrics import Tally, statistics
from resdepth.evaluation.result import Baselines, read_result
from resdepth.geo.grid import Grid
from resdepth.geo.raster import ArrayBand

WIDTH = 9


def rough(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Noise with voids: single ones, and a wide one."""
    generator = np.random.default_rng(seed)
    heights = generator.normal(100, 3, shape).astype(np.float32)
    heights[generator.random(shape) < 0.1] = np.nan
    heights[5:20, 3:25] = np.nan
    return heights


def by_force(heights: np.ndarray, width: int) -> np.ndarray:
    """The median of all known heights around each known pixel, within the raster."""
    half, filtered = width // 2, np.full(heights.shape, np.nan)
    for row, col in np.argwhere(~np.isnan(heights)):
        around = heights[max(row - half, 0) : row + half + 1, max(col - half, 0) : col + half + 1]
        filtered[row, col] = np.nanmedian(around)
    return filtered


def case_of(reference: np.ndarray, surface: np.ndarray, **options) -> tuple[Case, Candidate]:
    grid = Grid(*reference.shape, (0.5, 0.0, 0.0, 0.0, -0.5, 0.0))
    one = Candidate("initial", ArrayBand(surface, grid))
    regions = options.pop("regions", (grid.whole,))
    return Case(ArrayBand(reference, grid), [one], regions, **options), one


def baselines_of(reference: np.ndarray, surface: np.ndarray, **options) -> Baselines:
    return median_baselines(*case_of(reference, surface), workers=0, **options)


def close(found, expected) -> bool:
    pairs = zip(found.as_json().values(), expected.as_json().values(), strict=True)
    return all(one == pytest.approx(other, rel=1e-6, nan_ok=True) for one, other in pairs)


@pytest.mark.parametrize("width", [5, 31])
def test_the_filter_is_the_median_of_known_heights_and_a_void_stays_void(width: int) -> None:
    heights = rough((40, 37))
    padded = np.pad(heights, width // 2, constant_values=np.nan)
    found = median_filtered(padded, width, np.ones(heights.shape, bool))
    np.testing.assert_allclose(found, by_force(heights, width), rtol=1e-6)


def test_the_figures_are_those_of_the_filtered_surface() -> None:
    reference, surface = rough((60, 50), seed=1), rough((60, 50), seed=2)
    found = baselines_of(reference, surface)
    assert [one.width_px for one in found.filters] == list(WIDTHS_PX) == [5, 7, 9, 11, 15, 21, 31]
    for one in found.filters:
        errors = (by_force(surface, one.width_px) - reference).astype(np.float32)
        assert close(one.statistics, statistics(errors))


def halves(size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Noise that wide filters remove in the black fields, and stripes that they spoil in the white ones."""
    rows, cols = np.mgrid[:size, :size]
    white = (rows * 8 // size + cols * 8 // size) % 2 == 1
    stripes = np.where(rows // 4 % 2, 10, 0)
    noise = np.random.default_rng(3).normal(0, 2, (size, size))
    reference = np.where(white, stripes, 0).astype(np.float32)
    surface = np.where(white, stripes, noise).astype(np.float32)
    return reference, surface


def test_each_half_of_the_checkerboard_uses_the_width_that_is_best_on_the_other_half() -> None:
    reference, surface = halves()
    rows, cols = np.mgrid[:96, :96]
    white = (rows // 12 + cols // 12) % 2 == 1
    errors = {width: (by_force(surface, width) - reference).astype(np.float32) for width in WIDTHS_PX}
    best = {
        half: min(WIDTHS_PX, key=lambda width: np.abs(errors[width][white == half], dtype=np.float64).mean())
        for half in (False, True)
    }
    assert best[False] != best[True]
    found = baselines_of(reference, surface)
    assert found.chosen_px == (best[True], best[False])
    crossed = np.where(white, errors[best[False]], errors[best[True]])
    assert close(found.validated, statistics(crossed))
    assert found.validated.mae > min(one.statistics.mae for one in found.filters)


def test_parts_threads_and_counting_do_not_change_the_figures() -> None:
    reference, surface = rough((90, 83), seed=1), rough((90, 83), seed=2)
    whole = baselines_of(reference, surface)
    parts = median_baselines(*case_of(reference, surface), workers=2, tile_px=17)
    counted = baselines_of(reference, surface, exact=100)
    assert parts.chosen_px == whole.chosen_px == counted.chosen_px
    for one, other, third in zip(whole.filters, parts.filters, counted.filters, strict=True):
        assert close(other.statistics, one.statistics)
        assert third.statistics.mae == pytest.approx(one.statistics.mae, rel=1e-9)
        assert third.statistics.nmad == pytest.approx(one.statistics.nmad, abs=2e-4)


def test_what_does_not_count_for_the_surfaces_does_not_count_for_the_filters() -> None:
    reference, surface = rough((40, 40), seed=1), rough((40, 40), seed=2)
    inside = np.zeros((40, 40), np.float32)
    inside[:, 10:] = 1
    grid = Grid(40, 40, (0.5, 0.0, 0.0, 0.0, -0.5, 0.0))
    masks = {"ground_truth": ArrayBand(inside, grid)}
    found = median_baselines(*case_of(reference, surface, masks=masks, threshold=2.0), workers=0)
    errors = (by_force(surface, 5) - reference).astype(np.float32)
    assert close(found.filters[0].statistics, statistics(errors[:, 10:], threshold=2.0))


def test_an_area_of_one_field_has_no_validated_width() -> None:
    found = baselines_of(np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32))
    assert found.chosen_px == ()
    assert math.isnan(found.validated.mae)
    assert found.filters[0].statistics.mae == 1


def test_joined_tallies_are_a_tally_of_all_errors() -> None:
    errors = np.random.default_rng(0).normal(0, 2, 1000).astype(np.float32)
    for exact in (2000, 700, 100):
        first, second, both = Tally(exact), Tally(exact), Tally(exact)
        first.add(errors[:400])
        second.add(errors[400:])
        both.add(errors)
        assert first.joined(second).is_exact == both.is_exact
        assert close(first.joined(second).statistics(), both.statistics())
    assert Tally().joined(Tally()).statistics().count == 0


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_evaluate_writes_the_filters_into_json_csv_tables_and_page(scene: MadeScene) -> None:
    folder = scene.folder / "evaluated"
    reference, initial = scene.path("reference.tif"), scene.path("initial.tif")
    done = run(
        "evaluate",
        f"ours={initial}",
        "--reference",
        reference,
        "--initial",
        initial,
        "--baselines",
        "-o",
        folder,
    )
    assert done.exit_code == 0, done.output
    stored = read_result(folder / "evaluation.json").baselines
    assert stored is not None
    assert stored.surface == "initial"
    expected = by_force(scene.initial, WIDTH) - scene.reference
    mae = np.nanmean(np.abs(expected))
    (nine,) = (one.statistics for one in stored.filters if one.width_px == WIDTH)
    assert nine.mae == pytest.approx(mae, rel=1e-5)
    rows = {
        row["surface"]: row for row in csv.DictReader((folder / "evaluation.csv").read_text().splitlines())
    }
    assert float(rows["median_9"]["mae"]) == pytest.approx(mae, rel=1e-5)
    assert float(rows["median_validated"]["mae"]) == pytest.approx(stored.validated.mae, rel=1e-5)
    for text in (
        done.stdout,
        *(folder.joinpath(f"evaluation.{kind}").read_text() for kind in ("md", "html")),
    ):
        assert "median 9 x 9 px" in text
        assert f"{mae:.3f}" in text
        assert "best by validation" in text


def test_without_baselines_nothing_is_filtered(scene: MadeScene) -> None:
    folder = scene.folder / "evaluated"
    done = run(
        "evaluate", scene.path("initial.tif"), "--reference", scene.path("reference.tif"), "-o", folder
    )
    assert done.exit_code == 0, done.output
    assert json.loads((folder / "evaluation.json").read_text())["baselines"] is None
    assert "median 9 x 9" not in done.stdout


def test_without_initial_dsm_the_only_dsm_is_filtered_and_several_are_refused(scene: MadeScene) -> None:
    initial, other = scene.path("initial.tif"), write_raster(scene.folder / "other.tif", scene.initial)
    options = ("--reference", scene.path("reference.tif"), "--baselines", "-o", scene.folder / "evaluated")
    refused = run("evaluate", initial, other, *options)
    assert refused.exit_code == 2
    assert "--initial" in refused.stderr
    assert not (scene.folder / "evaluated").exists() or not any((scene.folder / "evaluated").iterdir())
    done = run("evaluate", other, *options)
    assert done.exit_code == 0, done.output
    stored = read_result(scene.folder / "evaluated" / "evaluation.json").baselines
    assert stored is not None
    assert stored.surface == "other"


def test_python_gives_the_same_for_files_and_arrays(scene: MadeScene) -> None:
    files = resdepth.evaluate(
        scene.path("initial.tif"), scene.path("reference.tif"), baselines=True
    ).baselines
    arrays = resdepth.evaluate(scene.initial, scene.reference, baselines=True).baselines
    assert files is not None
    assert arrays is not None
    assert close(files.validated, arrays.validated)
    assert resdepth.evaluate(scene.initial, scene.reference).baselines is None


@pytest.mark.parametrize("requested", [True, False])
def test_test_compares_with_the_filters_unless_stated_not_to(scene: MadeScene, requested: bool) -> None:
    model = scene.folder / "model.safetensors"
    resdepth.save_model(make_model("geom-stereo", depth=2), model)
    output = {"report": True} if requested else {"report": True, "baselines": False}
    done = run("test", scene.write(scene.test_config({"path": str(model)}, output=output)))
    assert done.exit_code == 0, done.output
    (path,) = scene.folder.rglob("evaluation.json")
    assert (read_result(path).baselines is not None) == requested
    assert ("median 9 x 9 px" in done.stdout) == requested
    stated = json.loads(path.read_text())["verdict"]
    assert done.stdout.splitlines()[-1] == f"verdict: {stated['sentence']}"
    assert (stated["median_mae_m"] is not None) == requested
    assert any("output.baselines" in note for note in stated["notes"]) != requested
    assert ("median 9 x 9 px" in path.with_suffix(".html").read_text()) == requested
