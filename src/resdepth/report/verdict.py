"""Better or worse, in a sentence: a surface beside the initial DSM and its best median filter."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from resdepth.evaluation.metrics import Statistics
from resdepth.evaluation.result import OVERALL, EvaluationResult, SurfaceResult

Order = Literal["better", "equal", "worse"]
Rating = Literal[Order, "mixed", "unrated"]

ALIKE = 0.01
"""Of two MAEs that differ by less than this share of the second, none is the better."""
UNLIKE_COVERAGE = 0.01
"""From such a difference of the shares of pixels with a height it is said."""


@dataclass(frozen=True)
class Verdict:
    """What an evaluation shows about its best surface.

    Attributes:
        surface: the evaluated one with the lowest MAE, the initial DSM and the result over all of them aside.
        rating: better (than all that it is compared with), equal, worse, or mixed; unrated with nothing to
            compare.
        sentence: the same with figures.
        notes: what has to be known beside it, a sentence each.
        mae_m: of the surface; metres, as all that follows.
        initial_mae_m: of the initial DSM; None without one.
        median_mae_m: of the best of its median filters; None if they were not evaluated.
        median_px: the width of that filter's windows, pixels.
    """

    surface: str
    rating: Rating
    sentence: str
    notes: tuple[str, ...] = ()
    mae_m: float = field(default=float("nan"))
    initial_mae_m: float | None = None
    median_mae_m: float | None = None
    median_px: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything; None for what is not known."""
        return {
            "surface": self.surface, "rating": self.rating, "sentence": self.sentence,
            "notes": list(self.notes), "mae_m": self.mae_m if isfinite(self.mae_m) else None,
            "initial_mae_m": self.initial_mae_m, "median_mae_m": self.median_mae_m,
            "median_px": self.median_px,
        }  # fmt: skip


def verdict_of(outcome: EvaluationResult) -> Verdict | None:
    """What an evaluation shows; None if it has nothing but the initial DSM, or no pixel."""
    candidates = [
        one
        for name, one in outcome.surfaces.items()
        if name not in (outcome.initial, outcome.together) and isfinite(_overall(one).mae)
    ]
    if not candidates:
        return None
    best = min(candidates, key=lambda one: _overall(one).mae)
    mae = _overall(best).mae
    initial = None if outcome.initial is None else _overall(outcome.surfaces[outcome.initial])
    median = _best_median(outcome)
    known: dict[str, tuple[float, str]] = {}  # MAE, and what else to say of it
    if initial is not None and isfinite(initial.mae):
        known["the initial DSM"] = (initial.mae, "")
    if median is not None:
        whose = "its best median filter" if known else "the best median filter of the DSM"
        known[whose] = (median[1], f"; {median[0]} x {median[0]} px")
    orders = {name: _order(mae, other) for name, (other, _) in known.items()}
    among = f", the best of {len(candidates)} DSMs" if len(candidates) > 1 else ""
    return Verdict(
        surface=best.name,
        rating=_rating(orders),
        sentence=_sentence(best.name, among, mae, known),
        notes=tuple(_notes(outcome, best, initial, has_median=median is not None)),
        mae_m=mae,
        initial_mae_m=None if initial is None or not isfinite(initial.mae) else initial.mae,
        median_mae_m=None if median is None else median[1],
        median_px=None if median is None else median[0],
    )


def with_verdict(outcome: EvaluationResult) -> dict[str, Any]:
    """An evaluation as evaluation.json has it: the verdict (None for none), and all that it follows from."""
    verdict = verdict_of(outcome)
    return {**outcome.as_json(), "verdict": None if verdict is None else verdict.as_json()}


def _overall(surface: SurfaceResult) -> Statistics:
    return surface.classes[OVERALL].statistics


def _best_median(outcome: EvaluationResult) -> tuple[int, float] | None:
    """Width and MAE of the best median filter, chosen with the reference DSM at hand."""
    filters = [] if outcome.baselines is None else list(outcome.baselines.filters)
    known = [(one.width_px, one.statistics.mae) for one in filters if isfinite(one.statistics.mae)]
    return min(known, key=lambda one: one[1]) if known else None


def _order(mae: float, other: float) -> Order:
    if abs(mae - other) <= ALIKE * other:
        return "equal"
    return "better" if mae < other else "worse"


def _rating(orders: dict[str, Order]) -> Rating:
    if not orders:
        return "unrated"
    found = set(orders.values())
    if len(found) == 1:
        return found.pop()
    return "mixed" if "worse" in found else "better"


def _sentence(name: str, among: str, mae: float, known: dict[str, tuple[float, str]]) -> str:
    """What a surface is better than, and worse than, with its MAE and those of the others."""
    if not known:
        return f"the heights of {name}{among and among + ','} are {mae:.2f} m off on average (MAE)"
    words: dict[Order, str] = {"better": "better than", "equal": "as good as", "worse": "worse than"}
    groups = {
        word: [other for other, (value, _) in known.items() if _order(mae, value) == order]
        for order, word in words.items()
    }
    stated = ", but ".join(f"{word} {' and '.join(others)}" for word, others in groups.items() if others)
    figures = [f"{other:.2f} m ({_change(mae, other)}{more})" for other, more in known.values()]
    return (
        f"{name}{among and among + ','} is {stated}: its MAE is {mae:.2f} m against {' and '.join(figures)}"
    )


def _change(mae: float, other: float) -> str:
    if not other:
        return "without any error"
    percent = round(100 * (mae / other - 1))
    return f"{percent:+d} %" if percent else "±0 %"


def _notes(
    outcome: EvaluationResult, best: SurfaceResult, initial: Statistics | None, *, has_median: bool
) -> list[str]:
    """What the sentence leaves open."""
    result, notes = best.classes[OVERALL], list[str]()
    if result.better is not None and result.worse is not None:
        notes.append(
            f"{100 * result.better:.1f} % of the pixels became better by more than 10 cm, "
            f"{100 * result.worse:.1f} % worse."
        )
    if initial is not None and isfinite(initial.mae):
        found = result.statistics
        gain, shape = initial.mae - found.mae, initial.mae_centred - found.mae_centred
        if gain > ALIKE * initial.mae and shape < gain / 2:
            notes.append(
                "Most of it is a vertical offset: without the median difference, the MAE goes from "
                f"{initial.mae_centred:.2f} m to {found.mae_centred:.2f} m."
            )
    elif outcome.initial is None:
        notes.append("There is no initial DSM to compare with (--initial).")
    apart = _coverage_apart(outcome, best)
    if apart:
        notes.append(apart)
    if not has_median:
        notes.append("No median filters were evaluated beside it (--baselines; of test: output.baselines).")
    return notes


def _coverage_apart(outcome: EvaluationResult, best: SurfaceResult) -> str:
    """That metrics are of other pixels than those of the initial DSM; "" if they are nearly the same."""
    if outcome.initial is None:
        return ""
    ours, before = (one.classes[OVERALL].coverage for one in (best, outcome.surfaces[outcome.initial]))
    if not abs(ours - before) > UNLIKE_COVERAGE:
        return ""
    return (
        f"Not of the same pixels: it covers {100 * ours:.1f} % of the reference DSM, the initial DSM "
        f"{100 * before:.1f} %."
    )
