"""Places of a scene that are worth a look: where errors are large, typical, or gone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import Window

Array = NDArray[np.float32]

# A place counts if so much of it is known.
KNOWN_SHARE = 0.5
MOST_CELLS = 64  # on a side; an overview tells no more


@dataclass(frozen=True)
class Place:
    """A part of the scene.

    Attributes:
        name: for people, unique among the places of a page.
        why: what is to be seen there.
        window: of the full grid.
    """

    name: str
    why: str
    window: Window


@dataclass(frozen=True)
class _Cells:
    """The lattice of places, and what is known of each: means of absolute differences, metres."""

    main: NDArray[np.float64]
    first: NDArray[np.float64] | None
    changes: bool


def find_places(
    shape: tuple[int, int], side: int, first: Array | None, main: Array | None, *, changes: bool
) -> list[Place]:
    """Choose up to five different places.

    Args:
        shape: of the full grid.
        side: of a place, in pixels of the full grid; smaller than the grid.
        first: differences of the first surface from the reference, on an overview of any size; metres.
        main: those of the surface in question; None if there is nothing but the reference.
        changes: whether differences are changes, not errors.
    """
    rows, cols = (min(max(length // side, 1), MOST_CELLS) for length in shape)
    if main is not None:
        means = _cell_means(main, rows, cols)
        before = None if first is None else _cell_means(first, rows, cols)
        if np.isfinite(means).any():
            return _distinct(_Cells(means, before, changes), shape, side)
    middle = (rows // 2, cols // 2)
    return [Place("The middle", "", _window(middle, (rows, cols), shape, side))]


def _distinct(cells: _Cells, shape: tuple[int, int], side: int) -> list[Place]:
    taken = np.zeros(cells.main.shape, dtype=bool)
    places = []
    for name, score, stated in _requests(cells):
        free = np.where(taken | ~np.isfinite(score), -np.inf, score)
        cell = np.unravel_index(int(np.argmax(free)), free.shape)
        if free[cell] == -np.inf:
            continue
        taken[cell] = True
        why = stated.format(main=cells.main[cell], first=cells.first[cell] if cells.first is not None else 0)
        where = (int(cell[0]), int(cell[1]))
        places.append(Place(name, why, _window(where, cells.main.shape, shape, side)))
    return places


def _requests(cells: _Cells) -> Iterator[tuple[str, NDArray[np.float64], str]]:
    """What to look for: its name, a score that is highest where it is found (NaN: not there), what to say."""
    main = cells.main
    typical = -np.abs(main - np.nanmedian(main))
    if cells.changes:
        yield "Changed most", main, "mean change {main:.2f}\u00a0m"
        yield "Changed typically", typical, "mean change {main:.2f}\u00a0m"
        yield "Changed least", -main, "mean change {main:.2f}\u00a0m"
        return
    yield "Largest errors", main, "mean absolute error {main:.2f}\u00a0m"
    if cells.first is not None:
        gain = cells.first - main
        stated = "mean absolute error from {first:.2f}\u00a0m to {main:.2f}\u00a0m"
        yield "Most improved", np.where(gain > 0, gain, np.nan), stated
        yield "Got worse", np.where(gain < 0, -gain, np.nan), stated
    yield "Typical", typical, "mean absolute error {main:.2f}\u00a0m"
    yield "Smallest errors", -main, "mean absolute error {main:.2f}\u00a0m"


def _cell_means(differences: Array, rows: int, cols: int) -> NDArray[np.float64]:
    """Means of absolute differences over a lattice of cells; NaN where too little is known."""
    means = np.full((rows, cols), np.nan)
    row_edges, col_edges = (
        np.linspace(0, length, count + 1).astype(int)
        for length, count in zip(differences.shape, (rows, cols), strict=True)
    )
    sizes = np.abs(differences.astype(np.float64))
    for row in range(rows):
        for col in range(cols):
            part = sizes[row_edges[row] : row_edges[row + 1], col_edges[col] : col_edges[col + 1]]
            known = part[np.isfinite(part)]
            if known.size and known.size >= KNOWN_SHARE * part.size:
                means[row, col] = known.mean()
    return means


def _window(cell: tuple[int, int], cells: tuple[int, ...], shape: tuple[int, int], side: int) -> Window:
    """The place in the middle of a cell, moved inside the grid."""
    height, width = min(side, shape[0]), min(side, shape[1])
    row, col = (
        min(max(round((one + 0.5) * length / count - size / 2), 0), length - size)
        for one, count, length, size in zip(cell, cells, shape, (height, width), strict=True)
    )
    return Window(row, col, height, width)
