"""What is known of a surface so far; blocks are added to it in any order of the map."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resdepth.evaluation.block_stats import COLUMNS, Counted
from resdepth.evaluation.bootstrap import BlockErrors, intervals
from resdepth.evaluation.metrics import Statistics, Tally
from resdepth.evaluation.result import OVERALL, ClassResult, Histogram, OutlineErrors, ShapeErrors

Block = tuple[int, int, int]
"""Number of the region, row and column of the block in it."""

HISTOGRAM_BINS, SIZES = 160, 200
# The histogram reaches to this multiple of LE95, so that a few gross errors do not flatten it.
REACH = 1.5
SHAPE_COLUMNS = ("gradient", "normal_deg", "roughness_m", "truth_roughness_m")


@dataclass
class ClassTotal:
    """One class of pixels."""

    tally: Tally
    columns: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(COLUMNS)))
    blocks: dict[Block, BlockErrors] = field(default_factory=dict)

    def summed(self) -> dict[str, float]:
        """The sums by name."""
        return dict(zip(COLUMNS, self.columns.tolist(), strict=True))

    def result(self, edges_m: NDArray[np.float64], centre: float, *, has_initial: bool) -> ClassResult:
        """The figures, with a histogram over these bins; the centred ones of errors minus a centre."""
        summed, found = self.summed(), self.tally.statistics(centre)

        def mean(name: str, over: str) -> float:
            return summed[name] / summed[over] if summed[over] else float("nan")

        return ClassResult(
            statistics=found,
            truth_pixels=int(summed["truth_pixels"]),
            coverage=mean("covered", "truth_pixels"),
            intervals=intervals(list(self.blocks.values()), found),
            shape=ShapeErrors(*(mean(name, "shaped") for name in SHAPE_COLUMNS)),
            better=mean("better", "compared") if has_initial else None,
            worse=mean("worse", "compared") if has_initial else None,
            histogram=_histogram(self.tally, edges_m, found.count),
        )


class SurfaceTotal:
    """One surface.

    Attributes:
        classes: by name.
    """

    def __init__(self, classes: Mapping[str, str], exact: int) -> None:
        self.classes = {name: ClassTotal(Tally(exact)) for name in classes}
        self._edges = Tally()
        self._profiles = 0

    def add(self, block: Block, counted: Counted) -> None:
        """Add what was counted within a block, or a part of it."""
        for name, portion in counted.portions.items():
            total = self.classes[name]
            total.columns += counted.sums[name]
            if not portion.n:
                continue
            total.tally.add_portion(portion)
            found = BlockErrors.of(portion)
            if block in total.blocks:
                total.blocks[block].add(found)
            else:
                total.blocks[block] = found
        if counted.displacements is not None:
            self._edges.add(counted.displacements)
            self._profiles += counted.profiles

    @property
    def kept(self) -> frozenset[str]:
        """The classes whose errors are still kept one by one."""
        return frozenset(name for name, total in self.classes.items() if total.tally.is_exact)

    def outlines(self) -> OutlineErrors:
        """Where the edges of buildings are."""
        found = self._edges.statistics()
        share = found.count / self._profiles if self._profiles else float("nan")
        return OutlineErrors(self._profiles, share, found)

    def results(self, *, has_initial: bool, reach_m: float) -> dict[str, ClassResult]:
        """The figures of all classes."""
        edges = np.linspace(-reach_m, reach_m, HISTOGRAM_BINS + 1)
        centre = self.classes[OVERALL].tally.statistics().median
        return {
            name: total.result(edges, centre, has_initial=has_initial) for name, total in self.classes.items()
        }


def histogram_reach(totals: Mapping[str, SurfaceTotal]) -> float:
    """Up to what error histograms show all these surfaces, metres."""
    widest = max(_le95(total.classes[OVERALL].tally.statistics()) for total in totals.values())
    return max(0.1, float(f"{REACH * widest:.1g}"))


def _le95(found: Statistics) -> float:
    return found.le95 if found.count else 0.0


def _histogram(tally: Tally, edges_m: NDArray[np.float64], count: int) -> Histogram:
    counts = tally.histogram(edges_m)
    sizes = np.linspace(0, edges_m[-1], SIZES + 1)
    shares = tally.shares_within(sizes) if count else np.full(len(sizes), np.nan)
    return Histogram(
        tuple(edges_m.tolist()), tuple(counts), tuple(sizes.tolist()), tuple(np.round(shares, 6).tolist())
    )
