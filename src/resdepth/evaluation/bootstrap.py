"""How sure error figures are: intervals by a block bootstrap (Kuensch 1989; Lahiri 2003, section 2).

Errors of neighbouring pixels are alike, so millions of them tell less than millions of independent ones.
Whole blocks of the map are drawn instead of pixels, with replacement, and the figures computed anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.evaluation.metrics import NMAD_FACTOR, Counts, Portion, Statistics, bins_of
from resdepth.evaluation.result import Interval

# The figures that get intervals; names of fields of Statistics.
FIGURES = ("bias", "median", "mae", "rmse", "absolute_median", "nmad", "le68", "le90", "le95")
DRAWS = 500
LEVEL = 0.95
FEWEST_BLOCKS = 10
SEED = 0

# Quantiles of a draw come from coarse bins: what matters is how they vary, the figures themselves are exact.
FINE_M, FINE_UP_TO_M, GROWTH, UP_TO_M = 0.02, 2.0, 1.08, 2000.0


def _coarse_edges() -> NDArray[np.float64]:
    """Where coarse bins of the sizes of errors begin; the first is half as wide, for it lies around zero."""
    fine = np.arange(FINE_M / 2, FINE_UP_TO_M, FINE_M)
    steps = int(np.ceil(np.log(UP_TO_M / fine[-1]) / np.log(GROWTH)))
    return np.concatenate([fine, fine[-1] * GROWTH ** np.arange(1, steps + 1)])


_EDGES = _coarse_edges()
_SIGNED_EDGES = np.concatenate([-_EDGES[::-1], _EDGES])
_STARTS = np.concatenate([[np.iinfo(np.int32).min], bins_of(_SIGNED_EDGES.astype(np.float32))]).astype(
    np.int64
)
_CENTRES = np.concatenate(
    [[_SIGNED_EDGES[0]], (_SIGNED_EDGES[1:] + _SIGNED_EDGES[:-1]) / 2, [_SIGNED_EDGES[-1]]]
)
COARSE = len(_CENTRES)


@dataclass
class BlockErrors:
    """The errors of a class within one block of the map.

    Attributes:
        n: how many.
        sums: of errors, of their sizes, of their squares.
        counts: (COARSE,) of errors by size.
    """

    n: int
    sums: NDArray[np.float64]
    counts: Counts

    @classmethod
    def of(cls, portion: Portion) -> "BlockErrors":
        """What a portion says of its block."""
        return cls(portion.n, portion.sums.copy(), portion.regrouped(_STARTS))

    def add(self, other: "BlockErrors") -> None:
        """Add errors of the same block."""
        self.n += other.n
        self.sums += other.sums
        self.counts += other.counts


def intervals(blocks: Sequence[BlockErrors], found: Statistics) -> dict[str, Interval]:
    """Within which limits figures lie in 95 % of the draws.

    Args:
        blocks: those that hold errors.
        found: the figures of all errors, around which intervals of quantiles are laid.

    Returns:
        By the name of a figure; empty for fewer than FEWEST_BLOCKS blocks, of which nothing can be said.
    """
    if len(blocks) < FEWEST_BLOCKS:
        return {}
    weights = _weights(len(blocks))
    n = weights @ np.array([block.n for block in blocks], dtype=np.float64)
    sums = weights @ np.stack([block.sums for block in blocks]) / n[:, None]
    drawn = {"bias": sums[:, 0], "mae": sums[:, 1], "rmse": np.sqrt(sums[:, 2])}
    counts = np.stack([block.counts for block in blocks]).astype(np.float64)
    whole = _quantiles(counts.sum(axis=0, keepdims=True))
    for name, values in _quantiles(weights @ counts).items():
        # Laid around the exact figure: a coarse quantile is right in how it varies, not in where it lies.
        drawn[name] = values - whole[name] + getattr(found, name)
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    limits = {name: np.quantile(drawn[name], tails) for name in FIGURES}
    sizes = set(FIGURES) - {"bias", "median"}
    return {
        name: (max(float(low), 0.0) if name in sizes else float(low), float(high))
        for name, (low, high) in limits.items()
    }


def _weights(blocks: int) -> NDArray[np.float64]:
    """How often each draw takes each block, (DRAWS, blocks)."""
    generator = np.random.default_rng(SEED)
    return generator.multinomial(blocks, np.full(blocks, 1 / blocks), size=DRAWS).astype(np.float64)


def _quantiles(counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Quantiles of counted errors, (draws, COARSE) -> (draws,) each."""
    median = _quantile(_CENTRES, counts, 0.5)
    sizes = np.abs(_CENTRES)
    order = np.argsort(sizes, kind="stable")
    sized = counts[:, order]
    found = {
        name: _quantile(sizes[order], sized, share)
        for name, share in (("absolute_median", 0.5), ("le68", 0.68), ("le90", 0.9), ("le95", 0.95))
    }
    spread = []
    for one, centre in zip(counts, median, strict=True):
        distances = np.abs(_CENTRES - centre)
        nearest = np.argsort(distances, kind="stable")
        spread.append(_quantile(distances[nearest], one[None, nearest], 0.5)[0])
    return {"median": median, "nmad": NMAD_FACTOR * np.array(spread)} | found


def _quantile(
    ascending: NDArray[np.float64], counts: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Below what value a share of the counts lies, between the middles of bins; one for each row."""
    reached = np.cumsum(counts, axis=1) - counts / 2  # at the middle of each bin
    totals = counts.sum(axis=1)
    return np.array(
        [np.interp(share * total, row, ascending) for row, total in zip(reached, totals, strict=True)]
    )
