"""Error metrics of any number of pixels, and how sure they are.

They are exact for a million pixels, and come from a fine histogram for more. Intervals come from a block
bootstrap (Kuensch 1989; Lahiri 2003, section 2): errors of neighbouring pixels are alike, so millions of them
tell less than millions of independent ones. Whole blocks of the map are drawn instead of pixels, with
replacement, and the metrics computed anew.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from resdepth.runtime.jsonfiles import Count, Number

Array = NDArray[np.float32]
Counts = NDArray[np.int64]
Interval = tuple[Number, Number]

# What makes the median absolute deviation the spread of a normal distribution.
NMAD_FACTOR = 1.4826
# So many errors are kept as they are. More are counted in bins of a tenth of a millimetre up to KNEE_M;
# beyond that, bins grow. So quantiles are off by BIN_M / 2 at most, beyond KNEE_M by 8e-6 of themselves.
EXACT = 2**20
BIN_M = 1e-4
KNEE_M = 6.5536
KNEE = round(KNEE_M / BIN_M)
LARGEST_M = 1e7  # larger errors count as this one; no height on Earth is so wrong
WITHIN_M = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Statistics:
    """Metrics over residuals (height minus reference), metres; NaN where there is no residual.

    Attributes:
        count: number of residuals.
        maximum, minimum, median: of the residuals.
        mae: mean absolute error.
        rmse: root mean square error.
        absolute_median: median of the absolute residuals (MedAE).
        nmad: normalised median absolute deviation, 1.4826 median(|r - median(r)|) (Hoehle & Hoehle 2009).
        nmad_resdepth_2022: what the published ResDepth prints as NMAD: centred on the median ABSOLUTE error.
        bias: mean of the residuals.
        le68, le90, le95: linear error: below it lies that percentage of the absolute residuals.
        within_05, within_1, within_2: share (0 to 1) of the absolute residuals up to 0.5, 1 and 2 m.
        mae_centred, rmse_centred, absolute_median_centred: MAE, RMSE and MedAE without the median difference:
            of the residuals minus the median over all pixels of the surface (of a class, too). They are the
            error of the shape, whatever the vertical datum.
    """

    count: Count
    maximum: Number
    minimum: Number
    mae: Number
    rmse: Number
    absolute_median: Number
    median: Number
    nmad: Number
    nmad_resdepth_2022: Number
    bias: Number
    le68: Number
    le90: Number
    le95: Number
    within_05: Number
    within_1: Number
    within_2: Number
    mae_centred: Number = math.nan
    rmse_centred: Number = math.nan
    absolute_median_centred: Number = math.nan

    def as_json(self) -> dict[str, float | int | None]:
        """The metrics with None for NaN, which JSON lacks."""
        return {name: None if value != value else value for name, value in asdict(self).items()}  # noqa: PLR0124 - NaN


NO_STATISTICS = Statistics(0, *[float("nan")] * (len(fields(Statistics)) - 1))


def bins_of(errors: Array) -> NDArray[np.int32]:
    """The signed number of each error's bin; none of them NaN.

    Up to KNEE_M it is the error in tenths of millimetres; beyond, a logarithm goes on with the same slope.
    """
    scaled = np.clip(errors, -LARGEST_M, LARGEST_M).astype(np.float32) * np.float32(1 / BIN_M)
    far = np.abs(scaled) > KNEE
    if far.any():
        beyond = np.minimum(np.abs(scaled[far].astype(np.float64)), LARGEST_M / BIN_M)
        scaled[far] = np.sign(scaled[far]) * (KNEE + KNEE * np.log(beyond / KNEE))
    bins: NDArray[np.int32] = np.rint(scaled, out=scaled).astype(np.int32)
    return bins


def centres_of(bins: NDArray[np.integer]) -> NDArray[np.float64]:
    """The error in the middle of each bin, metres; the inverse of `bins_of`."""
    size = np.abs(bins).astype(np.float64)
    beyond = np.maximum(size - KNEE, 0) / KNEE
    centres: NDArray[np.float64] = np.sign(bins) * np.minimum(size, KNEE) * np.exp(beyond) * BIN_M
    return centres


LAST_BIN = int(bins_of(np.array([LARGEST_M], np.float32))[0]) + 1


@dataclass(frozen=True)
class Portion:
    """Errors that were counted together, to be added to a tally.

    Attributes:
        n: how many.
        least, most: of them, metres.
        first: number of the first bin.
        counts: of the bins from there on.
        sums: of the errors, of their sizes, of their squares; float64.
        within: how many are no larger than each of WITHIN_M.
        values: (n,) float32, metres; None where nobody needs them any more.
    """

    n: int
    least: float
    most: float
    first: int
    counts: Counts
    sums: NDArray[np.float64]
    within: Counts
    values: Array | None

    @classmethod
    def of(cls, values: Array, bins: NDArray[np.int32], *, keep: bool = True) -> "Portion":
        """Count errors, none of them NaN, of known bins."""
        if not values.size:
            nothing = np.zeros(0, np.int64), np.zeros(3), np.zeros(len(WITHIN_M), np.int64)
            return cls(0, np.inf, -np.inf, 0, *nothing, values)
        first = int(bins.min())
        exact = values.astype(np.float64)
        sizes = np.abs(exact)
        within = np.array([np.count_nonzero(sizes <= limit) for limit in WITHIN_M])
        sums = np.array([exact.sum(), sizes.sum(), np.dot(exact, exact)])
        counts = np.bincount(bins - first)
        least, most = float(exact.min()), float(exact.max())
        return cls(values.size, least, most, first, counts, sums, within, values if keep else None)

    def regrouped(self, starts: NDArray[np.int64]) -> Counts:
        """How many errors lie in wider bins, each beginning at a bin; the last one ends with all bins."""
        reached = np.concatenate([[0], np.cumsum(self.counts)])
        before = reached[np.clip(starts - self.first, 0, len(self.counts))]
        return np.diff(before, append=reached[-1])


class Tally:
    """Counts errors; asks for no more memory than a million of them and one histogram."""

    def __init__(self, exact: int = EXACT) -> None:
        self._exact = exact
        self._kept: list[Array] | None = []
        self._counts: Counts | None = None
        self._n = 0
        self._sums = np.zeros(3)
        self._least, self._most = np.inf, -np.inf
        self._within = np.zeros(len(WITHIN_M), np.int64)

    def add(self, errors: Array) -> None:
        """Count errors, (N,) metres, none of them NaN."""
        self.add_portion(Portion.of(errors, bins_of(errors)))

    def add_portion(self, portion: Portion) -> None:
        """Count errors that were counted together."""
        if not portion.n:
            return
        self._n += portion.n
        self._sums += portion.sums
        self._within += portion.within
        self._least, self._most = min(self._least, portion.least), max(self._most, portion.most)
        if self._counts is None:
            self._counts = np.zeros(2 * LAST_BIN + 1, np.int64)  # untouched pages of it take no memory
        start = LAST_BIN + portion.first
        self._counts[start : start + len(portion.counts)] += portion.counts
        if self._kept is not None:
            if self._n > self._exact:
                self._kept = None
            else:
                assert portion.values is not None, "they are left away only after a tally has lost its own"
                self._kept.append(portion.values)

    def joined(self, other: "Tally") -> "Tally":
        """The errors of both."""
        both = Tally(self._exact)
        for one in (self, other):
            both.add_portion(one._as_portion())
        return both

    def _as_portion(self) -> Portion:
        if self._counts is None:
            return Portion.of(np.zeros(0, np.float32), np.zeros(0, np.int32))
        values = None if self._kept is None else np.concatenate(self._kept)
        ends = self._least, self._most
        return Portion(self._n, *ends, -LAST_BIN, self._counts, self._sums, self._within, values)

    @property
    def is_exact(self) -> bool:
        """Whether quantiles are exact."""
        return self._kept is not None

    def statistics(self, centre: float | None = None) -> Statistics:
        """The metrics of all errors so far.

        Args:
            centre: the centred metrics are of the errors minus it, metres; by default the errors' own median.
        """
        if not self._n:
            return NO_STATISTICS
        quantiles = self._exact_quantiles() if self._kept is not None else self._counted_quantiles()
        centre = quantiles["median"] if centre is None else centre
        return Statistics(
            count=self._n,
            maximum=self._most,
            minimum=self._least,
            bias=float(self._sums[0] / self._n),
            mae=float(self._sums[1] / self._n),
            rmse=float(np.sqrt(self._sums[2] / self._n)),
            **quantiles,
            **self._centred(centre),
            **dict(
                zip(("within_05", "within_1", "within_2"), (self._within / self._n).tolist(), strict=True)
            ),
        )

    def histogram(self, edges: Sequence[float] | NDArray[np.float64]) -> list[int]:
        """How many errors lie between successive edges (metres, ascending), by the middles of their bins."""
        if self._counts is None:
            return [0] * (len(edges) - 1)
        bins, counts = self._used()
        found, _ = np.histogram(centres_of(bins), bins=np.asarray(edges), weights=counts)
        return [int(count) for count in found]

    def shares_within(self, sizes: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of absolute errors up to each size (metres), by the middles of their bins."""
        bins, counts = self._used()
        found = np.abs(centres_of(bins))
        order = np.argsort(found, kind="stable")
        reached = np.concatenate([[0], np.cumsum(counts[order])])
        return np.asarray(reached[np.searchsorted(found[order], sizes, side="right")] / reached[-1])

    def _used(self) -> tuple[NDArray[np.int64], Counts]:
        assert self._counts is not None, "something was counted"
        used = np.flatnonzero(self._counts)
        return used - LAST_BIN, self._counts[used]

    def _exact_quantiles(self) -> dict[str, float]:
        assert self._kept is not None, "asked for while values are kept"
        self._kept = [np.concatenate(self._kept)]
        values = self._kept[0].astype(np.float64)
        sizes = np.abs(values)
        median, le68, medae, le90, le95 = (
            float(np.median(values)),
            *(float(one) for one in np.quantile(sizes, (0.68, 0.5, 0.9, 0.95))),
        )
        return {
            "median": median,
            "absolute_median": medae,
            "nmad": float(NMAD_FACTOR * np.median(np.abs(values - median))),
            "nmad_resdepth_2022": float(NMAD_FACTOR * np.median(np.abs(values - medae))),
            "le68": le68,
            "le90": le90,
            "le95": le95,
        }

    def _centred(self, centre: float) -> dict[str, float]:
        """Metrics of the errors minus a centre; of counted ones by the middles of their bins."""
        if self._kept is not None:
            sizes = np.abs(np.concatenate(self._kept).astype(np.float64) - centre)
            mae, square, medae = sizes.mean(), np.mean(sizes**2), np.median(sizes)
        else:
            bins, counts = self._used()
            centres = centres_of(bins)
            mae = np.abs(centres - centre) @ counts / self._n
            square = max((self._sums[2] - 2 * centre * self._sums[0]) / self._n + centre**2, 0.0)
            medae = _median_distance(centres, counts, centre)
        figures = {"mae": mae, "rmse": math.sqrt(square), "absolute_median": medae}
        return {f"{name}_centred": float(value) for name, value in figures.items()}

    def _counted_quantiles(self) -> dict[str, float]:
        bins, counts = self._used()
        centres = centres_of(bins)
        median = counted_quantile(centres, counts, 0.5)
        sizes = np.abs(centres)
        order = np.argsort(sizes, kind="stable")
        sizes, sized = sizes[order], counts[order]
        medae = counted_quantile(sizes, sized, 0.5)
        return {
            "median": median,
            "absolute_median": medae,
            "nmad": NMAD_FACTOR * _median_distance(centres, counts, median),
            "nmad_resdepth_2022": NMAD_FACTOR * _median_distance(centres, counts, medae),
            "le68": counted_quantile(sizes, sized, 0.68),
            "le90": counted_quantile(sizes, sized, 0.9),
            "le95": counted_quantile(sizes, sized, 0.95),
        }


def counted_quantile(ascending: NDArray[np.float64], counts: Counts, share: float) -> float:
    """The value below which a share of counted values lies."""
    reached = np.cumsum(counts)
    return float(ascending[np.searchsorted(reached, share * reached[-1])])


def _median_distance(centres: NDArray[np.float64], counts: Counts, centre: float) -> float:
    distances = np.abs(centres - centre)
    order = np.argsort(distances, kind="stable")
    return counted_quantile(distances[order], counts[order], 0.5)


def statistics(residuals: Array, threshold: float | None = None) -> Statistics:
    """Metrics over all finite residuals, exact however many there are.

    Args:
        residuals: any shape, metres, NaN = invalid.
        threshold: residuals above it in absolute value are left out (truncation); metres.
    """
    kept = residuals[np.isfinite(residuals)]
    if threshold is not None:
        kept = kept[np.abs(kept) <= np.float64(threshold)]
    tally = Tally(exact=kept.size)
    tally.add(kept)
    return tally.statistics()


# The metrics that get intervals; names of fields of Statistics.
FIGURES = ("bias", "median", "mae", "rmse", "absolute_median", "nmad", "le68", "le90", "le95")
DRAWS = 500
LEVEL = 0.95
FEWEST_BLOCKS = 10
SEED = 0

# Quantiles of a draw come from coarse bins: what matters is how they vary, the metrics themselves are exact.
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
    """Within which limits metrics lie in 95 % of the draws.

    Args:
        blocks: those that hold errors.
        found: the metrics of all errors, around which intervals of quantiles are laid.

    Returns:
        By the name of a metric; empty for fewer than FEWEST_BLOCKS blocks, of which nothing can be said.
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
