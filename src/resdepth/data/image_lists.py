"""The text files that say which ortho-images there are and which of them go together."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

from resdepth.data.scene import ViewSet
from resdepth.errors import InputProblems, Problem
from resdepth.runtime.paths import read_text, resolve_path

SHOWN_NAMES, SHOWN_CHARACTERS = 5, 200


def _lines(path: Path) -> list[tuple[int, str]]:
    """Non-blank lines with their numbers, stripped."""
    numbered = [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1)]
    return [(number, line) for number, line in numbered if line]


def read_image_list(path: Path) -> tuple[tuple[Path, ...] | None, list[Problem]]:
    """The images that a list names, one path per line (None if it cannot be read), and what is wrong.

    Their file names must be unique, because pair lists name images by them.
    """
    try:
        images = tuple(resolve_path(line, path) for _, line in _lines(path))
    except InputProblems as error:
        return None, list(error.problems)
    problems = [
        Problem(
            str(path),
            f"the file name {_shortened(name)!r} occurs {count} times; pair lists need unique names",
        )
        for name, count in Counter(image.name for image in images).items()
        if count > 1
    ]
    if not images:
        problems.append(Problem(str(path), "the list is empty; name one ortho-image per line"))
    return images, problems


def read_pair_list(
    path: Path, images: Sequence[Path] | None, n_views: int | None
) -> tuple[tuple[ViewSet, ...], list[Problem]]:
    """The view sets that a list names, as indices into the image list, and what is wrong.

    A line holds `n_views` image names between commas; spaces, a trailing comma and blank lines do not matter.
    Names match whole file names, unlike in the published code, which matches parts of paths
    (tests/data/test_image_lists.py).

    Args:
        path: the list.
        images: the images that can be named; without them no view set is given.
        n_views: how many images the network takes; None if it is unknown.
    """
    try:
        lines = _lines(path)
    except InputProblems as error:
        return (), list(error.problems)
    if not lines:
        return (), [Problem(str(path), "the list is empty; name the images of one pair per line")]
    index_of = {image.name: index for index, image in enumerate(images)} if images else None
    line_of: dict[ViewSet, int] = {}
    problems: list[Problem] = []
    for number, line in lines:
        where = f"{path}: line {number}"
        names = [name.strip() for name in line.split(",") if name.strip()]
        if found := _misfits(line, names, index_of, n_views):
            problems.append(Problem(where, "; ".join(found)))
        elif index_of is not None:
            view_set = tuple(index_of[name] for name in names)
            if line_of.setdefault(view_set, number) != number:
                text = f"repeats line {line_of[view_set]} ({_shortened(line)}); ignored"
                problems.append(Problem(where, text, "warning"))
    return tuple(line_of), problems


def _misfits(line: str, names: list[str], index_of: dict[str, int] | None, n_views: int | None) -> list[str]:
    """What is wrong with the images that one line names."""
    found = []
    unknown = [] if index_of is None else [name for name in names if name not in index_of]
    if index_of is not None and unknown:
        found.append(f"{_first_of(unknown)}: not in the image list, which has {_first_of(index_of)}")
    if len(set(names)) < len(names):
        found.append(f"names one image twice ({_shortened(line)}); its views must differ")
    if not names or n_views not in (None, len(names)):
        found.append(
            f"names {len(names)} images ({_shortened(line)}); the network takes {n_views or 'some'} "
            "(input_channels)"
        )
    return found


def _first_of(names: Collection[str]) -> str:
    shown = ", ".join(_shortened(name) for name in islice(names, SHOWN_NAMES))
    return shown + (", ..." if len(names) > SHOWN_NAMES else "")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
