"""How far a surface is from the reference DSM."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from resdepth.evaluation.classes import object_classes
from resdepth.evaluation.metrics import statistics
from resdepth.evaluation.result import Evaluation

residuals = arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(-50, 50, width=32))


def mask(*rows: str) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask is set and where it says anything: # set, . not set, ? nodata."""
    letters = np.array([list(row) for row in rows])
    return letters == "#", letters != "?"


def drawn(inside: np.ndarray) -> list[str]:
    return ["".join("#" if value else "." for value in row) for row in inside]


def test_the_figures_of_a_few_residuals() -> None:
    found = statistics(np.array([[-4, 1, np.nan], [2, 3, np.inf]], np.float32))
    assert (found.count, found.minimum, found.maximum) == (4, -4, 3)
    assert (found.mae, found.absolute_median, found.median) == (2.5, 2.5, 1.5)
    assert found.rmse == pytest.approx(np.sqrt(30 / 4))
    assert found.nmad == pytest.approx(1.4826 * 1)  # |r - 1.5| is 5.5, 0.5, 0.5, 1.5
    assert found.nmad_resdepth_2022 == pytest.approx(1.4826 * 1)  # |r - 2.5| is 6.5, 1.5, 0.5, 0.5


def test_nmad_is_the_standard_deviation_of_a_normal_distribution_wherever_it_lies() -> None:
    errors = np.random.default_rng(0).normal(5, 2, 200_000).astype(np.float32)
    assert statistics(errors).nmad == pytest.approx(2, rel=0.01)
    # Centred on the median of |r|, as the published code does, it is so only for a shift to one side.
    shifted_down = statistics(errors - 10)
    assert shifted_down.nmad == pytest.approx(2, rel=0.01)
    assert shifted_down.nmad_resdepth_2022 == pytest.approx(1.4826 * 10, rel=0.01)


def test_nmad_of_a_uniform_distribution() -> None:
    errors = np.random.default_rng(0).uniform(-1, 3, 200_000).astype(np.float32)
    assert statistics(errors).nmad == pytest.approx(1.4826 * 1, rel=0.01)


@given(residuals, st.integers(-100, 100))
def test_a_shift_moves_the_median_and_leaves_nmad_alone(errors: np.ndarray, shift: int) -> None:
    before, after = statistics(errors), statistics(errors.astype(float) + shift)
    assert after.median == pytest.approx(before.median + shift, abs=1e-6)
    assert after.nmad == pytest.approx(before.nmad, abs=1e-6)


@given(residuals)
def test_mirrored_residuals_have_mirrored_figures(errors: np.ndarray) -> None:
    before, after = statistics(errors), statistics(-errors)
    assert (after.maximum, after.minimum) == (-before.minimum, -before.maximum)
    assert after.median == -before.median
    for name in ("mae", "rmse", "absolute_median"):
        assert getattr(after, name) == getattr(before, name)
    assert after.nmad == pytest.approx(before.nmad)


@given(residuals)
def test_the_rmse_is_no_less_than_the_mae(errors: np.ndarray) -> None:
    found = statistics(errors)
    assert found.rmse >= found.mae - 1e-12
    assert found.mae <= max(found.maximum, -found.minimum)


@given(residuals, st.floats(0, 50))
def test_a_threshold_leaves_out_what_is_larger(errors: np.ndarray, threshold: float) -> None:
    kept = errors[np.abs(errors.astype(float)) <= threshold]
    assert statistics(errors, threshold).count == len(kept)
    if len(kept):
        assert statistics(errors, threshold) == statistics(kept)


def test_sums_are_exact_over_many_residuals() -> None:
    """In float32 the mean of 20 million equal residuals is off."""
    found = statistics(np.full(3_000_000, 0.1, np.float32))
    assert found.mae == pytest.approx(float(np.float32(0.1)), rel=1e-9)
    assert found.rmse == pytest.approx(float(np.float32(0.1)), rel=1e-9)


def test_without_residuals_every_figure_is_nan() -> None:
    found = statistics(np.full((3, 3), np.nan, np.float32))
    assert found.count == 0
    assert np.isnan([found.maximum, found.mae, found.rmse, found.nmad, found.nmad_resdepth_2022]).all()
    assert set(found.as_json().values()) == {0, None}


# --- classes of objects


def test_without_a_building_mask_there_is_one_class() -> None:
    water = {"water": mask("##", "..")}
    assert list(object_classes((2, 2), {})) == ["overall"]
    assert list(object_classes((2, 2), water)) == ["overall"]
    assert object_classes((2, 2), water)["overall"].all()


def test_buildings_grow_by_two_steps_of_a_cross() -> None:
    classes = object_classes((7, 7), {"building": mask(*["......."] * 3, "...#...", *["......."] * 3)})
    assert list(classes) == ["overall", "building", "terrain"]
    assert drawn(classes["building"]) == [
        ".......",
        "...#...",
        "..###..",
        ".#####.",
        "..###..",
        "...#...",
        ".......",
    ]
    np.testing.assert_array_equal(classes["terrain"], ~classes["building"])
    assert classes["overall"].all()


def test_nodata_of_the_building_mask_is_in_neither_class_unless_a_building_grows_into_it() -> None:
    classes = object_classes((1, 9), {"building": mask("#????..??")})
    assert drawn(classes["building"]) == ["###......"]
    assert drawn(classes["terrain"]) == [".....##.."]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], {"terrain": "...#####"}),
        (["water"], {"terrain": "...#####", "terrain_without_water": "...##.##"}),
        (["forest"], {"terrain": "...#####", "terrain_without_forest": "....####"}),
        (
            ["water", "forest"],
            {
                "terrain": "...#####",
                "terrain_without_water": "...##.##",
                "terrain_without_water_forest": "....#.##",
            },
        ),
    ],
)
def test_terrain_is_stated_apart_from_water_and_forest(names: list[str], expected: dict[str, str]) -> None:
    masks = {
        "building": mask("#......."),
        "water": mask(".....#.?"),
        "forest": mask("...#...."),
    }
    chosen = {name: masks[name] for name in ("building", *names)}
    classes = object_classes((1, 8), chosen)
    assert {name: drawn(inside)[0] for name, inside in classes.items()} == {
        "overall": "########",
        "building": "###.....",
        **expected,
    }


def test_each_class_has_its_own_figures() -> None:
    errors = np.array([[1, 1, 1, 5, 5, np.nan]], np.float32)
    classes = object_classes((1, 6), {"building": mask("#.....")})
    found = {name: statistics(errors[inside]) for name, inside in classes.items()}
    assert {name: figures.mae for name, figures in found.items()} == {
        "overall": 2.6,
        "building": 1,
        "terrain": 5,
    }
    assert [figures.count for figures in found.values()] == [5, 3, 2]
    assert statistics(errors[classes["terrain"]], threshold=2).count == 0


def test_an_evaluation_knows_its_area() -> None:
    figures = {"overall": statistics(np.ones(500_000, np.float32))}
    evaluation = Evaluation(figures, None, pixel_area_m2=0.25)
    assert evaluation.pixels == 500_000
    assert evaluation.area_km2 == 0.125


def test_an_evaluation_as_json_has_every_figure_and_none_for_an_empty_class() -> None:
    figures = {"overall": statistics(np.ones(4, np.float32)), "building": statistics(np.empty(0, np.float32))}
    before = {name: statistics(np.full(4, 2, np.float32)) for name in figures}
    content = json.loads(json.dumps(Evaluation(figures, before, 0.25).as_json(), allow_nan=False))
    assert (content["pixels"], content["area_km2"]) == (4, 1e-6)
    assert content["classes"]["overall"]["refined"]["mae"] == 1
    assert content["classes"]["overall"]["initial"]["mae"] == 2
    assert content["classes"]["building"]["refined"]["mae"] is None
    assert content["classes"]["building"]["refined"]["count"] == 0
    assert "initial" not in Evaluation(figures, None, 0.25).as_json()["classes"]["overall"]
