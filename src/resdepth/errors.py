"""The errors that users meet. Everything the package raises on purpose derives from ResDepthError."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal


class ResDepthError(Exception):
    """What the user can mend: a bad file, key or value. The message says what, where and what to do."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    Attributes:
        where: the file and, behind a colon, the key or line: "config.json: datasets[0].raster_in".
        message: the value found, what is wrong with it, and what to do.
        severity: errors stop the work; warnings say that the result may differ from the request.
        rests_on: other keys, written like `where`, from whose values this was concluded.
    """

    where: str
    message: str
    severity: Literal["error", "warning"] = "error"
    rests_on: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class InputProblems(ResDepthError):
    """All problems of one input, reported at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Interrupted(ResDepthError):
    """Long work was stopped by the user; the message states how far it is and how to resume."""


def unusable(path: Path, message: str) -> InputProblems:
    """The error of a file that is unusable as a whole."""
    return InputProblems([Problem(str(path), message)])


def has_errors(problems: Iterable[Problem]) -> bool:
    """Whether any of the problems stops the work."""
    return any(problem.severity == "error" for problem in problems)


def resting_on(causes: Iterable[str], problems: Iterable[Problem]) -> list[Problem]:
    """Problems that were concluded from the values of these keys as well."""
    return [replace(problem, rests_on=(*problem.rests_on, *causes)) for problem in problems]


def in_file(path: Path, problems: Iterable[Problem]) -> list[Problem]:
    """Problems that are at keys, and rest on keys, of this file."""
    return [
        replace(one, where=f"{path}: {one.where}", rests_on=tuple(f"{path}: {key}" for key in one.rests_on))
        for one in problems
    ]


def without_consequences(problems: Iterable[Problem], wrong: Collection[Problem]) -> list[Problem]:
    """The problems that stay once the keys that are `wrong` by themselves are mended."""
    places = {other.where for other in wrong}
    around = {outer for place in places for outer in _around(place)}
    return [
        problem
        for problem in problems
        if places.isdisjoint(_around(problem.where))
        and not any(key in around or not places.isdisjoint(_around(key)) for key in problem.rests_on)
    ]


def doubtful(keys: Iterable[str], wrong: Collection[Problem]) -> bool:
    """Whether any of these keys, or what it lies in or holds, is wrong."""
    concluded = Problem("", "", rests_on=tuple(keys))
    return not without_consequences([concluded], wrong)


def _around(place: str) -> list[str]:
    """A place and all that it lies in: "datasets[0].name", "datasets[0]", "datasets"."""
    return [place, *(place[: cut.start()] for cut in re.finditer(r"[.\[]", place))]


def location(loc: Sequence[int | str]) -> str:
    """The place of a field, as people write it: datasets[0].raster_in."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "(top level)"
