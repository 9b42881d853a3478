"""The published view of an evaluation: figures before and after refinement."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from resdepth.evaluation.metrics import Statistics
from resdepth.evaluation.result import OVERALL, Baselines, EvaluationResult, plain

M2_PER_KM2 = 1e6
# The classes of the published code; others are our own.
PUBLISHED_CLASSES = (
    OVERALL, "building", "terrain", "terrain_without_water", "terrain_without_forest",
    "terrain_without_water_forest",
)  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """Figures before and after refinement, per class of objects.

    Attributes:
        refined: class name to figures.
        initial: the same before refinement; None where only the results are evaluated.
        pixel_area_m2: area of one pixel.
        baselines: median filters of the initial DSM; None if nobody asked for them.
    """

    refined: Mapping[str, Statistics]
    initial: Mapping[str, Statistics] | None
    pixel_area_m2: float
    baselines: Baselines | None = None

    @property
    def pixels(self) -> int:
        """The number of pixels evaluated."""
        return self.refined[OVERALL].count

    @property
    def area_km2(self) -> float:
        """Their area."""
        return self.pixels * self.pixel_area_m2 / M2_PER_KM2

    def as_json(self) -> dict[str, Any]:
        """All figures; None where a class is empty."""
        content: dict[str, Any] = {"pixels": self.pixels, "area_km2": self.area_km2, "classes": {}}
        for name, refined in self.refined.items():
            content["classes"][name] = {"refined": refined.as_json()}
            if self.initial is not None:
                content["classes"][name]["initial"] = self.initial[name].as_json()
        if self.baselines is not None:
            content["baselines"] = plain(asdict(self.baselines))
        return content


def evaluation_of(outcome: EvaluationResult, refined: str, *, with_initial: bool = True) -> Evaluation:
    """The figures of one surface, and of the initial DSM, in the published classes."""

    def figures(name: str) -> dict[str, Statistics]:
        classes = outcome.surfaces[name].classes
        return {kind: classes[kind].statistics for kind in PUBLISHED_CLASSES if kind in classes}

    initial = outcome.initial if with_initial else None
    return Evaluation(
        refined=figures(refined),
        initial=None if initial is None else figures(initial),
        pixel_area_m2=outcome.pixel_area_m2,
        baselines=outcome.baselines,
    )
