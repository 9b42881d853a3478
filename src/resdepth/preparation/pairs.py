"""Pairs of views, ranked: angle between the rays, overlap, what is hidden, how alike the images look."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.raster import Band
from resdepth.geo.rpc import ViewGeometry
from resdepth.geo.windows import Window, blocks
from resdepth.stereo.pairs import BASES
from resdepth.stereo.remeasure import Contrast, local_correlation

Array = NDArray[np.float32]
Sun = tuple[float, float]
"""Azimuth and elevation, degrees."""

SIDE_PX, WINDOWS, CORRELATED_PX, GOLDEN = 512, 6, 11, 0.6180339887
BEST_BASE, BASE_SPREAD = 0.4, 0.35
"""The base to height at which matching and precision are balanced best, and how fast others fall behind."""
LITTLE_OVERLAP, LITTLE_AGREEMENT, MUCH_HIDDEN, DAYS_APART, SUN_APART_DEG = 0.5, 0.3, 0.1, 30, 20
COLUMNS = (
    "rank", "first", "second", "score", "intersection_deg", "base_to_height", "incidence_first_deg",
    "incidence_second_deg", "days_apart", "overlap", "hidden", "agreement", "sun_azimuth_first_deg",
    "sun_elevation_first_deg", "sun_azimuth_second_deg", "sun_elevation_second_deg", "sun_apart_deg",
    "reasons",
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """An ortho-image, and what is known of how it was seen.

    Attributes:
        name: of the image.
        band: its grey values, NaN where it shows nothing.
        geometry: None if it is not known.
        hidden: share of the pixels that it does not see.
        day: when it was taken, days; None if it is not known.
        sun: where it stood; None if that is not known.
    """

    name: str
    band: Band
    geometry: ViewGeometry | None = None
    hidden: float | None = None
    day: float | None = None
    sun: Sun | None = None


@dataclass(frozen=True)
class RankedPair:
    """A pair.

    Attributes:
        first, second: the views.
        score: 0 to 1, the more the better.
        intersection_deg: angle between both rays; None if it is not known.
        base_to_height: metres of displacement for each metre of height.
        days_apart: between both dates.
        overlap: share of the area that both show.
        hidden: share of it that one of them does not see.
        agreement: median local correlation of the grey values, -1 to 1.
        reasons: what speaks for and against it.
        sun_apart_deg: angle between both directions to the sun: so differently shadows fall.
    """

    first: int
    second: int
    score: float
    intersection_deg: float | None
    base_to_height: float | None
    days_apart: float | None
    overlap: float
    hidden: float | None
    agreement: float
    reasons: str
    sun_apart_deg: float | None = None


def ranked(views: Sequence[View]) -> list[RankedPair]:
    """All pairs of views, the best first; those that are of no use have the score 0."""
    if len(views) < 2:
        return []
    windows = _spread(views[0].band.grid.whole)
    seen = [[view.band.read(window) for window in windows] for view in views]
    found = [
        _ranked(views, pair, seen[pair[0]], seen[pair[1]]) for pair in combinations(range(len(views)), 2)
    ]
    return sorted(found, key=lambda pair: -pair.score)


def useful(pairs: Sequence[RankedPair]) -> list[tuple[int, int]]:
    """The pairs to be used, the best first; if none has a score, the best of them all the same."""
    good = [pair for pair in pairs if pair.score > 0] or list(pairs[:1])
    return [(pair.first, pair.second) for pair in good]


def as_csv(pairs: Sequence[RankedPair], views: Sequence[View]) -> str:
    """A table of the pairs, the best first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, pair in enumerate(pairs, 1):
        first, second = views[pair.first], views[pair.second]
        angles = [one.geometry.incidence_deg if one.geometry else None for one in (first, second)]
        writer.writerow([
            rank, first.name, second.name, *map(_number, (
                pair.score, pair.intersection_deg, pair.base_to_height, *angles, pair.days_apart,
                pair.overlap, pair.hidden, pair.agreement, *(first.sun or (None, None)),
                *(second.sun or (None, None)), pair.sun_apart_deg,
            )), pair.reasons,
        ])  # fmt: skip
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _ranked(
    views: Sequence[View], pair: tuple[int, int], first: Sequence[Array], second: Sequence[Array]
) -> RankedPair:
    one, other = (views[number] for number in pair)
    both = [~np.isnan(a) & ~np.isnan(b) for a, b in zip(first, second, strict=True)]
    overlap = float(np.mean([part.mean() for part in both]))
    agreement = _agreement(first, second)
    angle, base = _angle(one.geometry, other.geometry)
    days = None if one.day is None or other.day is None else abs(one.day - other.day)
    hidden = None if one.hidden is None or other.hidden is None else min(one.hidden + other.hidden, 1.0)
    fits = 1.0 if base is None else float(np.exp(-(((base - BEST_BASE) / BASE_SPREAD) ** 2)))
    usable = base is None or BASES[0] <= base <= BASES[1]
    score = max(agreement, 0.01) * overlap * fits * (1 - (hidden or 0.0)) if usable and overlap else 0.0
    apart = None if one.sun is None or other.sun is None else _between(one.sun, other.sun)
    reasons = _reasons(base, overlap, agreement, hidden, days)
    if apart is not None and apart > SUN_APART_DEG:
        reasons += "; shadows fall differently"
    return RankedPair(*pair, score, angle, base, days, overlap, hidden, agreement, reasons, apart)


def _between(first: Sun, second: Sun) -> float:
    """The angle between two directions to the sun, degrees."""
    (a, up), (b, other_up) = np.radians(first), np.radians(second)
    cosine = np.sin(up) * np.sin(other_up) + np.cos(up) * np.cos(other_up) * np.cos(a - b)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _angle(first: ViewGeometry | None, second: ViewGeometry | None) -> tuple[float | None, float | None]:
    """The angle between two rays, degrees, and their base to height."""
    if first is None or second is None:
        return None, None
    rays = [np.array([-one.east[0], -one.north[0], 1.0]) for one in (first, second)]
    cosine = rays[0] @ rays[1] / np.linalg.norm(rays[0]) / np.linalg.norm(rays[1])
    base = float(np.hypot(*(rays[0] - rays[1])[:2]))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), base


class Agreement:
    """How well two views agree, window by window: correlations, -1 to 1, NaN where one shows nothing."""

    def __init__(self, first: View, second: View) -> None:
        self._bands = first.band, second.band
        windows = _spread(first.band.grid.whole)
        self._contrasts = tuple(_contrast([band.read(window) for window in windows]) for band in self._bands)

    def read(self, window: Window) -> Array:
        """(H, W) float32."""
        first, second = (band.read(window) for band in self._bands)
        return local_correlation(first, second, CORRELATED_PX, (self._contrasts[0], self._contrasts[1]))


def _agreement(first: Sequence[Array], second: Sequence[Array]) -> float:
    contrasts = _contrast(first), _contrast(second)
    found = [
        local_correlation(one, other, CORRELATED_PX, contrasts).ravel()
        for one, other in zip(first, second, strict=True)
    ]
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    return float(np.median(values)) if values.size else 0.0


def _contrast(parts: Sequence[Array]) -> Contrast:
    values = np.concatenate([part[~np.isnan(part)] for part in parts])
    if not values.size:
        return Contrast(0.0, 1.0)
    return Contrast(float(values.mean(dtype=np.float64)), max(float(values.std(dtype=np.float64)), 1e-6))


def _reasons(
    base: float | None, overlap: float, agreement: float, hidden: float | None, days: float | None
) -> str:
    """What speaks for and against a pair, in words."""
    angle = (
        "angle not known" if base is None
        else "rays almost parallel: heights are vague" if base < 2 * BASES[0]
        else "rays meet steeply: each image shows other walls" if base > 2 * BEST_BASE
        else "good angle"
    )  # fmt: skip
    found = [angle]
    if overlap < LITTLE_OVERLAP:
        found.append("little overlap")
    if agreement < LITTLE_AGREEMENT:
        found.append("images look different")
    if hidden is not None and hidden > MUCH_HIDDEN:
        found.append("much is hidden")
    if days is not None and days > DAYS_APART:
        found.append(f"{days:.0f} days apart")
    return "; ".join(found)


def _spread(whole: Window) -> list[Window]:
    """Some windows all over a raster."""
    parts = list(blocks(whole, SIDE_PX))
    order = sorted(range(len(parts)), key=lambda number: (number * GOLDEN) % 1)
    return [parts[number] for number in order[:WINDOWS]]
