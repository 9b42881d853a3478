"""The sentence of an evaluation: right about better and worse, and silent about what nobody knows."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import GSD
from pages import TITLES, evaluated_class
from resdepth.evaluation.result import (
    NO_SHIFT,
    OVERALL,
    Baselines,
    EvaluationResult,
    MedianFilter,
    SurfaceResult,
)
from resdepth.report.verdict import Verdict, verdict_of

SIGNS = np.where(np.arange(100) % 2, 1.0, -1.0).astype(np.float32)


def outcome_of(
    *, initial: float | None = None, medians: dict[int, float] | None = None, bias: float = 0, **maes: float
) -> EvaluationResult:
    """Surfaces of given MAE in metres; the initial DSM lies too high by `bias` besides."""
    errors = {name: SIGNS * mae for name, mae in maes.items()}
    if initial is not None:
        errors = {"initial": SIGNS * initial + np.float32(bias)} | errors
    surfaces = {
        name: SurfaceResult(name, "", "", "none", NO_SHIFT, None, {OVERALL: evaluated_class(found)})
        for name, found in errors.items()
    }
    baselines = None
    if medians is not None:
        filters = [
            MedianFilter(width, evaluated_class(SIGNS * mae).statistics) for width, mae in medians.items()
        ]
        baselines = Baselines("initial", tuple(filters), (), filters[0].statistics)
    first = "initial" if initial is not None else None
    return EvaluationResult(surfaces, first, TITLES, {}, GSD**2, 25.0, 40, exact=True, baselines=baselines)


def verdict(**given: object) -> Verdict:
    found = verdict_of(outcome_of(**given))  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "rating", "sentence"),
    [
        (
            {"initial": 1.0, "refined": 0.5, "medians": {5: 0.9, 9: 0.8, 21: 0.85}},
            "better",
            "refined is better than the initial DSM and its best median filter: its MAE is 0.50 m against "
            "1.00 m (-50 %) and 0.80 m (-38 %; 9 x 9 px)",
        ),
        (
            {"initial": 1.0, "refined": 0.9, "medians": {5: 0.6}},
            "mixed",
            "refined is better than the initial DSM, but worse than its best median filter: its MAE is "
            "0.90 m against 1.00 m (-10 %) and 0.60 m (+50 %; 5 x 5 px)",
        ),
        (
            {"initial": 1.0, "refined": 2.0, "medians": {5: 0.6}},
            "worse",
            "refined is worse than the initial DSM and its best median filter: its MAE is 2.00 m against "
            "1.00 m (+100 %) and 0.60 m (+233 %; 5 x 5 px)",
        ),
        (
            {"initial": 1.0, "refined": 0.998},
            "equal",
            "refined is as good as the initial DSM: its MAE is 1.00 m against 1.00 m (±0 %)",
        ),
        ({"refined": 0.5}, "unrated", "the heights of refined are 0.50 m off on average (MAE)"),
        (
            {"a": 0.5, "b": 0.4},
            "unrated",
            "the heights of b, the best of 2 DSMs, are 0.40 m off on average (MAE)",
        ),
        (
            {"a": 0.5, "medians": {7: 0.25}},
            "worse",
            "a is worse than the best median filter of the DSM: its MAE is 0.50 m against 0.25 m "
            "(+100 %; 7 x 7 px)",
        ),
    ],
)
def test_a_surface_is_compared_with_what_was_evaluated(
    given: dict[str, object], rating: str, sentence: str
) -> None:
    found = verdict(**given)
    assert (found.rating, found.sentence) == (rating, sentence)


def test_what_was_not_evaluated_is_named() -> None:
    assert "--baselines" in " ".join(verdict(initial=1.0, refined=0.5).notes)
    assert "--initial" in " ".join(verdict(refined=0.5).notes)
    assert "--" not in " ".join(verdict(initial=1.0, refined=0.5, medians={5: 0.9}).notes)


def test_a_gain_that_is_a_vertical_offset_is_named_as_one() -> None:
    assert "vertical offset" in " ".join(verdict(initial=0.5, bias=2, refined=0.5).notes)
    assert "vertical offset" not in " ".join(verdict(initial=1.0, bias=0.1, refined=0.5).notes)


def test_metrics_of_other_pixels_are_named_as_such() -> None:
    outcome = outcome_of(initial=1.0, refined=0.5)
    part = outcome.surfaces["refined"].classes[OVERALL]
    half = replace(outcome.surfaces["refined"], classes={OVERALL: replace(part, coverage=0.5)})
    found = verdict_of(replace(outcome, surfaces={**outcome.surfaces, "refined": half}))
    assert found is not None
    assert "50.0 %" in " ".join(found.notes)


def test_the_result_over_all_pairs_is_no_surface_of_its_own() -> None:
    outcome = replace(outcome_of(initial=1.0, a=0.5, b=0.8, all=0.4), together="all")
    found = verdict_of(outcome)
    assert found is not None
    assert found.sentence.startswith("a, the best of 2 DSMs, is better")


def test_without_a_surface_or_a_pixel_there_is_no_verdict() -> None:
    assert verdict_of(outcome_of(initial=1.0)) is None
    assert verdict_of(outcome_of(refined=float("nan"))) is None


def test_programs_read_the_numbers() -> None:
    stated = verdict(initial=1.0, refined=0.5, medians={5: 0.75}).as_json()
    assert (stated["rating"], stated["median_px"]) == ("better", 5)
    assert [stated[name] for name in ("mae_m", "initial_mae_m", "median_mae_m")] == pytest.approx(
        [0.5, 1, 0.75]
    )
