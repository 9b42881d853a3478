"""How problems are stated, and which of them are left out."""

import time

import pytest

from resdepth.errors import InputProblems, Problem, location, without_consequences


def test_problems_are_stated_line_by_line() -> None:
    problems = [Problem("a.json: x", "wrong"), Problem("a.json: y", "odd", "warning")]
    error = InputProblems(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "a.json: x: wrong\na.json: y: odd"


@pytest.mark.parametrize(
    ("loc", "text"),
    [((), "(top level)"), (("datasets", 0, "name"), "datasets[0].name"), (("model", "depth"), "model.depth")],
)
def test_places_are_written_as_people_write_them(loc: tuple[int | str, ...], text: str) -> None:
    assert location(loc) == text


@pytest.mark.parametrize(
    ("where", "rests_on", "stays"),
    [
        ("c: model.depth", (), False),
        ("c: model.depth.x", (), False),
        ("c: model.depth[0]", (), False),
        ("c: model.depths", (), True),
        ("c: model", (), True),
        ("c: tile", ("c: model.depth",), False),
        ("c: tile", ("c: model",), False),
        ("c: tile", ("c: model.depth.x",), False),
        ("c: tile", ("c: model.name",), True),
        ("d: model.depth", (), True),
    ],
)
def test_only_what_follows_from_a_wrong_key_is_left_out(
    where: str, rests_on: tuple[str, ...], stays: bool
) -> None:
    problem = Problem(where, "too small", rests_on=rests_on)
    assert without_consequences([problem], [Problem("c: model.depth", "wrong")]) == [problem] * stays


def test_what_follows_from_thousands_of_wrong_keys_is_found_at_once() -> None:
    wrong = [Problem(f"c: datasets[{number}].name", "wrong") for number in range(20_000)]
    found = [Problem(f"c: datasets[{number}].name.x", "wrong") for number in range(20_000)]
    start = time.process_time()
    assert without_consequences([*found, Problem("c: other", "wrong")], wrong) == [
        Problem("c: other", "wrong")
    ]
    assert time.process_time() - start < 5  # each with each would take minutes
