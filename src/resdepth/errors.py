"""The errors that users meet. Everything the package raises on purpose derives from ResDepthError."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal


class ResDepthError(Exception):
    """What the user can mend: a bad file, key or value. The message says what, where and what to do.

    Examples:
        >>> import resdepth
        >>> try:
        ...     resdepth.refine("initial.tif", [], "model.safetensors")
        ... except resdepth.ResDepthError as error:
        ...     print(error)
        images: found 0; this model takes 2
    """


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    Attributes:
        where: the file and, behind a colon, the key or line: "config.json: datasets[0].raster_in".
        message: the value found, what is wrong with it, and what to do.
        severity: errors stop the work; warnings say that the result may differ from the request.
    """

    where: str
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class InputProblems(ResDepthError):
    """All problems of one input, reported at once.

    Attributes:
        problems: each with `where`, `message` and `severity`.

    Examples:
        >>> import resdepth
        >>> try:
        ...     resdepth.Scene.open("missing.tif", ["ortho1.tif", "lost.tif"])
        ... except resdepth.InputProblems as error:
        ...     [problem.where for problem in error.problems]
        ['dsm', 'images']
    """

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


def within(outer: str, problems: Iterable[Problem]) -> list[Problem]:
    """Problems of a part, each at its place in the whole: "config.json: ", "datasets[0].", and so on."""
    return [replace(problem, where=f"{outer}{problem.where}") for problem in problems]


def location(loc: Sequence[int | str]) -> str:
    """The place of a field, as people write it: datasets[0].raster_in."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "(top level)"
