"""How problems are stated."""

import pytest

from resdepth.errors import InputProblems, Problem, location, within


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


def test_problems_of_a_part_lie_in_the_whole() -> None:
    (problem,) = within("a.json: ", within("datasets[0].", [Problem("name", "odd", "warning")]))
    assert problem == Problem("a.json: datasets[0].name", "odd", "warning")
