"""What median filters of a surface reach: the least that a refinement has to beat."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from resdepth.evaluation.evaluate import Case
from resdepth.evaluation.inputs import Candidate, read_padded
from resdepth.evaluation.metrics import EXACT, NO_STATISTICS, Tally
from resdepth.evaluation.result import Baselines, MedianFilter
from resdepth.geo.raster import Array
from resdepth.geo.windows import Window, blocks, bounding
from resdepth.runtime.prefetch import in_order

WIDTHS_PX = (5, 7, 9, 11, 15, 21, 31)
FIELDS = 8  # of the checkerboard, along each side of the area
TILE_PX = 256
SORTED_AT_ONCE = 2**22  # heights: 16 MB

Tallies = Mapping[int, tuple[Tally, Tally]]
"""By the width of a filter: its errors in the black and in the white fields."""


def median_baselines(
    case: Case,
    surface: Candidate,
    *,
    workers: int = 2,
    exact: int = EXACT,
    tile_px: int = TILE_PX,
    progress: Callable[[int], None] | None = None,
) -> Baselines:
    """The errors of median filters of a surface, where the case's surfaces are evaluated.

    One width is chosen as a user could choose it, without the pixels that it is evaluated on: the area is a
    checkerboard of 8 x 8 fields, and each half of them uses the width with the lowest MAE on the other half.

    Args:
        case: what is evaluated.
        surface: to be filtered, on the grid of the reference DSM.
        workers: threads.
        exact: up to so many errors the quantiles are exact.
        tile_px: side of the parts that are filtered at once; the metrics do not depend on it.
        progress: receives the number of pixels that were done.

    Raises:
        ResDepthError: if something cannot be read.
    """
    around = bounding(case.regions)
    tallies: Tallies = {width: (Tally(exact), Tally(exact)) for width in WIDTHS_PX}
    tiles = [tile for region in case.regions for tile in blocks(region, tile_px)]
    jobs = (partial(_errors, case, surface, tile) for tile in tiles)
    for tile, errors in zip(tiles, in_order(jobs, workers), strict=True):
        white = _is_white(tile, around)
        for width, found in errors:
            known = ~np.isnan(found)
            for tally, field in zip(tallies[width], (~white, white), strict=True):
                tally.add(found[known & field])
        if progress:
            progress(tile.area)
    return _summary(tallies, surface.name)


def median_filtered(heights: Array, width: int, wanted: NDArray[np.bool_]) -> Array:
    """The median of the heights around each pixel.

    Args:
        heights: (H + width - 1, W + width - 1) float32, metres, NaN = void: with a margin of half the width.
            Voids in the windows are ignored.
        width: of the square windows, pixels; odd.
        wanted: (H, W) where the median is computed.

    Returns:
        (H, W) float32; NaN where it is not wanted, and where the height itself is void.
    """
    half = width // 2
    rows, cols = wanted.shape
    wanted = wanted & ~np.isnan(heights[half : half + rows, half : half + cols])
    windows = sliding_window_view(heights, (width, width))
    result = np.full(wanted.shape, np.nan, np.float32)
    at = np.argwhere(wanted)
    step = max(1, SORTED_AT_ONCE // width**2)
    for start in range(0, len(at), step):
        row, col = at[start : start + step].T
        result[row, col] = _medians(windows[row, col].reshape(len(row), -1))
    return result


def _medians(values: Array) -> Array:
    """(N,) medians of the rows of (N, odd) values, NaN ignored; each row has one that is not NaN."""
    voids = np.isnan(values).sum(axis=1)
    middle = values.shape[1] // 2
    medians = np.empty(len(values), np.float32)
    full = voids == 0
    medians[full] = np.partition(values[full], middle, axis=1)[:, middle]
    ordered, known = (
        np.sort(values[~full], axis=1),
        values.shape[1] - voids[~full],
    )  # NaN is sorted to the end
    number = np.arange(len(ordered))
    low, high = ordered[number, (known - 1) // 2], ordered[number, known // 2]
    medians[~full] = low + (high - low) / 2
    return medians


def _errors(case: Case, surface: Candidate, tile: Window) -> list[tuple[int, Array]]:
    """By width, the errors of the filtered surface within a tile, NaN where none counts."""
    margin = max(WIDTHS_PX) // 2
    heights, reference = read_padded(surface.band, tile, margin), case.counted_reference(tile)
    found = []
    for width in WIDTHS_PX:
        cut = margin - width // 2
        inner = slice(cut, -cut or None)
        errors = median_filtered(heights[inner, inner], width, ~np.isnan(reference)) - reference
        if case.threshold is not None:
            errors[np.abs(errors) > np.float64(case.threshold)] = np.nan
        found.append((width, errors))
    return found


def _is_white(tile: Window, around: Window) -> NDArray[np.bool_]:
    """(H, W) which pixels lie in the white fields of the checkerboard over an area."""
    here = tile.relative_to(around)
    rows = np.arange(here.row, here.row_stop) * FIELDS // around.height
    cols = np.arange(here.col, here.col_stop) * FIELDS // around.width
    return np.asarray((rows[:, None] + cols) % 2 == 1)


def _summary(tallies: Tallies, name: str) -> Baselines:
    filters = tuple(
        MedianFilter(width, black.joined(white).statistics()) for width, (black, white) in tallies.items()
    )
    chosen = tuple(_chosen(tallies))
    if len(chosen) < 2:  # an area of one colour: nothing to choose by
        return Baselines(name, filters, (), NO_STATISTICS)
    black, white = (tallies[width][half] for half, width in enumerate(chosen))
    return Baselines(name, filters, chosen, black.joined(white).statistics())


def _chosen(tallies: Tallies) -> Iterator[int]:
    """For the black and for the white fields, the width that is best on the others, if those have pixels."""
    for other in (1, 0):
        mae = {width: both[other].statistics().mae for width, both in tallies.items()}
        if not any(np.isnan(one) for one in mae.values()):
            yield min(mae, key=lambda width: mae[width])
