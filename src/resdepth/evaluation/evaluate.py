"""Evaluating surfaces of any size: one pass over the reference DSM, band by band, in constant memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from resdepth.errors import ResDepthError
from resdepth.evaluation.block_stats import Block, Counted, Scenery, SurfaceTotal, count, histogram_reach
from resdepth.evaluation.classes import dilation_px, edge_px, titles_of
from resdepth.evaluation.inputs import Candidate, read_padded
from resdepth.evaluation.metrics import EXACT
from resdepth.evaluation.result import NO_SHIFT, OVERALL, EvaluationResult, Shift, SurfaceResult
from resdepth.evaluation.shape import SHAPE_MARGIN_PX, outline_margin_px
from resdepth.geo.raster import Array, Band
from resdepth.geo.windows import Window
from resdepth.runtime.prefetch import in_order

# The area is cut into about so many square blocks, which the bootstrap draws from; none is smaller than this.
BLOCKS_WANTED, SMALLEST_BLOCK_PX = 400, 64
# At once, bands of so many rows and columns are read: wide ones, since many files are stored by rows.
BAND_ROWS, BAND_COLS = 256, 16384

Sink = Callable[[str, Window, Array], None]
"""Takes the errors of a surface, by its name, within a window."""


@dataclass(frozen=True)
class Case:
    """What is to be evaluated, on one grid: that of the reference DSM.

    Attributes:
        reference: heights, metres, NaN where unknown.
        surfaces: to be evaluated; names are unique.
        regions: windows, which do not overlap.
        initial: the name of the initial DSM among the surfaces; None without one.
        masks: by name, 1 = inside. `ground_truth` tells where the reference DSM counts; building, water and
            forest make classes of objects; others are classes as they are.
        ground: heights of the bare ground; None without.
        inside: where it is 1 within the regions, pixels count; None: everywhere.
        inside_path: the file that it comes from.
        threshold: errors above it in absolute value are left out; metres.
        shifts: of the surfaces, by name.
        together: name of one more result, over all surfaces but the initial one; "" for none.
    """

    reference: Band
    surfaces: Sequence[Candidate]
    regions: Sequence[Window]
    initial: str | None = None
    masks: Mapping[str, Band] = field(default_factory=dict)
    ground: Band | None = None
    inside: Band | None = None
    inside_path: Path | None = None
    threshold: float | None = None
    shifts: Mapping[str, Shift] = field(default_factory=dict)
    together: str = ""

    @property
    def results(self) -> list[tuple[str, Candidate | None]]:
        """The names of all results, with their surfaces."""
        several: list[tuple[str, Candidate | None]] = [(one.name, one) for one in self.surfaces]
        return [*several, (self.together, None)] if self.together else several

    def counted_reference(self, window: Window) -> Array:
        """The reference DSM within a window, NaN where it does not count."""
        heights = self.reference.read(window)
        for mask in filter(None, (self.inside, self.masks.get("ground_truth"))):
            heights[mask.read(window) != 1] = np.nan
        return heights


def evaluate_case(
    case: Case,
    *,
    facts: Mapping[str, str] | None = None,
    workers: int = 2,
    exact: int = EXACT,
    sink: Sink | None = None,
    progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Evaluate surfaces against the reference DSM.

    Args:
        case: what is evaluated.
        facts: for the provenance.
        workers: threads.
        exact: up to so many errors of a class its quantiles are exact.
        sink: receives the errors, window by window from the top; NaN where nothing is evaluated.
        progress: learns how many pixels were done.

    Raises:
        ResDepthError: if something cannot be read.
    """
    titles = titles_of(
        [name for name in case.masks if name != "ground_truth"], with_ground=case.ground is not None
    )
    totals = {name: SurfaceTotal(titles, exact) for name, _ in case.results}
    side = block_side(sum(region.area for region in case.regions))
    bands = (
        partial(_count_band, case, totals, number, window, side)
        for number, window in _bands(case.regions, side)
    )
    for band in in_order(bands, workers):
        for block, counted in band.blocks:
            _add(case, totals, block, counted)
        if sink:
            for name, errors in band.errors.items():
                sink(name, band.window, errors)
        if progress:
            progress(band.window.area)
    return _outcome(case, totals, titles, facts or {}, side)


def _add(
    case: Case, totals: Mapping[str, SurfaceTotal], block: Block, counted: Mapping[str, Counted]
) -> None:
    """Add what was counted within a block to its surfaces, and to all of them together."""
    for name, one in counted.items():
        totals[name].add(block, one)
        if case.together and name != case.initial:
            totals[case.together].add(block, one)


def _outcome(
    case: Case,
    totals: Mapping[str, SurfaceTotal],
    titles: Mapping[str, str],
    facts: Mapping[str, str],
    side: int,
) -> EvaluationResult:
    """The result, when all blocks are added; `side` is theirs."""
    reach = histogram_reach(totals)
    everywhere = [total.classes[OVERALL] for total in totals.values()]
    return EvaluationResult(
        surfaces={
            name: _result(surface or Candidate(name, case.reference), totals[name], case, reach)
            for name, surface in case.results
        },
        initial=case.initial,
        together=case.together or None,
        titles=titles,
        facts=dict(facts),
        pixel_area_m2=case.reference.grid.pixel_area_m2,
        block_m=side * case.reference.grid.gsd_m,
        blocks=max(len(one.blocks) for one in everywhere),
        exact=all(one.tally.is_exact for one in everywhere),
    )


def _result(surface: Candidate, total: SurfaceTotal, case: Case, reach_m: float) -> SurfaceResult:
    return SurfaceResult(
        name=surface.name,
        source=surface.source,
        sha256=surface.sha256,
        resampling=surface.resampling,
        shift=case.shifts.get(surface.name, NO_SHIFT),
        outlines=total.outlines() if "building" in case.masks else None,
        classes=total.results(has_initial=case.initial is not None, reach_m=reach_m),
    )


def block_side(area_px: int) -> int:
    """Side in pixels of the bootstrap's blocks."""
    side = max(SMALLEST_BLOCK_PX, int(np.ceil(np.sqrt(area_px / BLOCKS_WANTED))))
    return side if side <= BAND_ROWS else -(-side // BAND_ROWS) * BAND_ROWS


def _bands(regions: Sequence[Window], side: int) -> Iterator[tuple[int, Window]]:
    """Windows that cover the regions, with the number of each one's region; seams are those of blocks."""
    rows = min(side, BAND_ROWS)
    cols = max(BAND_COLS // side, 1) * side
    for number, region in enumerate(regions):
        for row in range(region.row, region.row_stop, rows):
            for col in range(region.col, region.col_stop, cols):
                height, width = min(rows, region.row_stop - row), min(cols, region.col_stop - col)
                yield number, Window(row, col, height, width)


@dataclass(frozen=True)
class _Band:
    """What was counted within a band, block by block, and the errors of each surface."""

    window: Window
    blocks: list[tuple[Block, dict[str, Counted]]]
    errors: dict[str, Array]


def _count_band(
    case: Case, totals: Mapping[str, SurfaceTotal], number: int, window: Window, side: int
) -> _Band:
    region = case.regions[number]
    # Another thread adds to the totals; what is no longer kept never is again.
    kept = {one.name: totals[one.name].kept for one in case.surfaces}
    scenery = _scenery(case, window)
    heights = {one.name: read_padded(one.band, window, scenery.margin) for one in case.surfaces}
    blocks = []
    errors = {name: np.empty(window.shape, np.float32) for name in heights}
    for col in range(window.col, window.col_stop, side):
        part = Window(window.row, col, window.height, min(side, window.col_stop - col))
        here = scenery.padded(part)
        counted = count(scenery.cut(part), {name: height[here] for name, height in heights.items()}, kept)
        blocks.append(((number, (window.row - region.row) // side, (col - region.col) // side), counted))
        for name, one in counted.items():
            errors[name][part.relative_to(window).slices] = one.errors
    return _Band(window, blocks, errors)


def _scenery(case: Case, window: Window) -> Scenery:
    sides = case.reference.grid.sides_m
    margin = max(*dilation_px(sides), SHAPE_MARGIN_PX, *edge_px(sides), outline_margin_px(sides))
    reference = read_padded(case.reference, window, margin)
    evaluated = ~np.isnan(reference)
    masks = {}
    for name, band in case.masks.items():
        values = read_padded(band, window, margin)
        masks[name] = (values == 1, ~np.isnan(values))
    if "ground_truth" in masks:
        evaluated &= masks.pop("ground_truth")[0]
    if case.inside is not None:
        evaluated &= read_padded(case.inside, window, margin) == 1
    ground = None if case.ground is None else read_padded(case.ground, window, margin)
    return Scenery(
        window, reference, evaluated, masks, ground, margin, sides, case.threshold, case.initial
    )  # fmt: skip


def demand_pixels(outcome: EvaluationResult, threshold: float | None) -> None:
    """Refuse to report on nothing.

    Raises:
        ResDepthError: which surface has no pixel in common with the reference DSM, and why.
    """
    for name, surface in outcome.surfaces.items():
        found = surface.classes[OVERALL]
        if found.statistics.count:
            continue
        if not found.reference_pixels:
            raise ResDepthError(
                "the reference DSM is void, or masked, everywhere in the region; is it the right one, and is "
                "1 what marks the pixels that count?"
            )
        if not found.coverage:
            raise ResDepthError(
                f"{name}: has no height where the reference DSM is known: it is void there, or lies elsewhere"
            )
        raise ResDepthError(
            f"{name}: all errors are above the threshold of {threshold:g} m; are both heights in metres, "
            "above the same zero?"
        )
