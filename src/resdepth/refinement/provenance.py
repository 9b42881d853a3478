"""Where refined heights come from, and how far they are moved: what cannot be right is not trusted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from resdepth.errors import ResDepthError
from resdepth.options import option
from resdepth.runtime.jsonfiles import Count, Number, parse_json

# docs/refine.md shows the measurements that the shares rest on.
NEAR_M, FAR_M, SIGMAS = 3.0, 10.0, 5.0
LARGEST_SHARES = 0.35, 0.20, 0.10
"""Of heights that are moved by more than NEAR_M, FAR_M, and SIGMAS height sigmas of the training."""
LEAST_HEIGHTS = 256**2
"""Of fewer heights such a share is a warning alone: a single roof may be most of them."""
TAG = "RESDEPTH_MOVED"
REMEDY = "the model does not fit these data: train one on data like them (docs/train.md)"


class Provenance(IntEnum):
    """What the provenance raster says of each pixel."""

    VOID = 0
    REFINED = 1
    FILLED = 2
    WITHOUT_IMAGE = 3


PROVENANCE_TITLES = {
    Provenance.VOID: "void",
    Provenance.REFINED: "refined",
    Provenance.FILLED: "refined from a filled height",
    Provenance.WITHOUT_IMAGE: "refined where an image shows nothing",
}


class NotTrusted(ResDepthError):
    """So many heights were moved so far that the result cannot be right; the message gives the figures."""


@dataclass(frozen=True)
class Moved:
    """Counts of heights before and after refinement; those of several blocks add up.

    Attributes:
        sigma_m: the height sigma of the training.
        heights: how many there are both before and after.
        beyond: how many of them are moved by more than NEAR_M, FAR_M, and SIGMAS sigmas.
        total_mm: how far all of them are moved together, up or down, millimetres (whole numbers of blocks
            add up alike in any order); None if that is not known.
    """

    sigma_m: Number
    heights: Count = 0
    beyond: tuple[Count, Count, Count] = (0, 0, 0)
    total_mm: Count | None = 0

    @classmethod
    def between(cls, before: NDArray[np.float32], after: NDArray[np.float32], sigma_m: float) -> "Moved":
        """Compare heights in metres, NaN = void."""
        distance = np.abs(after - before)
        near, far, sigmas = (int((distance > limit).sum()) for limit in (NEAR_M, FAR_M, SIGMAS * sigma_m))
        total = round(1000 * float(np.nansum(distance, dtype=np.float64)))
        return cls(sigma_m, int(np.isfinite(distance).sum()), (near, far, sigmas), total)

    def __add__(self, other: "Moved") -> "Moved":
        near, far, sigmas = (one + more for one, more in zip(self.beyond, other.beyond, strict=True))
        totals = (self.total_mm, other.total_mm)
        total = None if None in totals else sum(filter(None, totals))
        return Moved(self.sigma_m, self.heights + other.heights, (near, far, sigmas), total)

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "Moved | None":
        """What the tags of a raster state; None if they state nothing."""
        try:
            return _STORED.validate_python({"total_mm": None, **parse_json(tags[TAG])})
        except (KeyError, TypeError, ValueError):
            return None

    def as_tags(self) -> dict[str, str]:
        """The same as tags of a raster."""
        return {TAG: json.dumps(asdict(self))}

    @property
    def mean_m(self) -> float | None:
        """How far heights are moved on average, up or down; None if that is not known."""
        return None if self.total_mm is None or not self.heights else self.total_mm / 1000 / self.heights

    @property
    def shares(self) -> dict[str, float]:
        """Percent of the heights that are moved by more than each of the limits."""
        names = (f"{NEAR_M:g} m", f"{FAR_M:g} m", f"{SIGMAS * self.sigma_m:.3g} m ({SIGMAS:g} height sigmas)")
        return {
            name: 100 * count / max(self.heights, 1) for name, count in zip(names, self.beyond, strict=True)
        }

    @property
    def warning(self) -> str | None:
        """What cannot be right, with figures; None if that is not known of anything."""
        found = [
            f"{share:.1f} % of the heights are moved by more than {name} (at most {100 * largest:.0f} %)"
            for (name, share), largest in zip(self.shares.items(), LARGEST_SHARES, strict=True)
            if share > 100 * largest
        ]
        return f"{'; '.join(found)}: such a correction cannot be right" if found else None

    @property
    def is_nonsense(self) -> bool:
        """Whether there is a warning, of so many heights that they are not to have the output's name."""
        return self.warning is not None and self.heights >= LEAST_HEIGHTS


_STORED = TypeAdapter(Moved)


def in_words(moved: Moved) -> str:
    """What has changed, for whoever knows DSMs and no networks: a sentence without its full stop."""
    if not moved.heights:
        return "nothing, as there is no height to refine"
    average = "" if moved.mean_m is None else f" by {moved.mean_m:.2f} m on average, up or down"
    if not moved.beyond[0]:
        return f"heights change{average}; none by more than {NEAR_M:g} m"
    shares = [
        f"{_share(count, moved.heights)}{of} by more than {name}"
        for count, name, of in zip(moved.beyond, moved.shares, (" of them", "", ""), strict=True)
    ]
    return f"heights change{average}; {', '.join(shares)}"


def _share(count: int, of: int) -> str:
    percent = 100 * count / of
    return "none" if not count else "less than 0.1 %" if percent < 0.1 else f"{percent:.1f} %"


def refuse_untrusted(reasons: Sequence[str]) -> None:
    """Refuse to let results stand as if they were right.

    Raises:
        NotTrusted: if there are reasons, with all of them, and what to do.
    """
    if reasons:
        raise NotTrusted("\n".join((*reasons, f"{REMEDY}; or keep it with {option('force', value=True)}")))
