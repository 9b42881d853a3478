"""What was found about surfaces: one value, to JSON and back, and the part of it that was published."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from resdepth.errors import ResDepthError
from resdepth.evaluation.metrics import Interval, Statistics
from resdepth.runtime.jsonfiles import Count, Number, demand, read_json
from resdepth.runtime.surroundings import imported

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERALL, REFERENCE_KEY = "overall", "reference"
FORMAT = "resdepth-evaluation 2"
EARLIER_FORMATS = ("resdepth-evaluation 1", "resdepth-judgement 1")
"""The same with other names for the reference DSM, and under the name that it had before."""
_RENAMED = {
    "truth_pixels": "reference_pixels", "truth_roughness_m": "reference_roughness_m", "Truth": "Reference",
}  # fmt: skip
ERRORS = "surface minus reference"
LARGEST_BYTES = 256 * 2**20
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ShapeErrors:
    """How far the shape of a surface is from that of the reference DSM; NaN where nothing was compared.

    Attributes:
        gradient: mean length of the difference of both gradients (Horn 1981), metres per metre.
        normal_deg: mean angle between both normals, degrees.
        roughness_m, reference_roughness_m: mean range of heights among 3 x 3 pixels (Wilson et al. 2007).
    """

    gradient: Number
    normal_deg: Number
    roughness_m: Number
    reference_roughness_m: Number


@dataclass(frozen=True)
class Histogram:
    """How often errors occur.

    Attributes:
        edges_m: of the bins, one more than counts. Errors beyond them are in no bin.
        counts: of errors.
        sizes_m, shares: the cumulative curve: share of absolute errors up to a size.
    """

    edges_m: tuple[Number, ...]
    counts: tuple[Count, ...]
    sizes_m: tuple[Number, ...]
    shares: tuple[Number, ...]


@dataclass(frozen=True)
class ClassResult:
    """A surface within one class of pixels.

    Attributes:
        statistics: of the errors.
        reference_pixels: pixels of the class where the reference DSM is known.
        coverage: share of them (0 to 1) where the surface has a height; NaN without any.
        intervals: by the name of a metric (a field of Statistics), where 95 % of the block bootstrap's
            metrics lie; empty where there are too few blocks for one.
        shape: errors of gradients, normals, roughness.
        better, worse: share of pixels whose absolute error is by more than 10 cm smaller, larger than that of
            the initial DSM; None without one.
        histogram: of the errors.
    """

    statistics: Statistics
    reference_pixels: Count
    coverage: Number
    intervals: Mapping[str, Interval]
    shape: ShapeErrors
    better: Share | None
    worse: Share | None
    histogram: Histogram


@dataclass(frozen=True)
class Shift:
    """What moves a surface onto the reference DSM (Nuth & Kaab 2011): add it to its coordinates and heights.

    Attributes:
        dx_m, dy_m, dz_m: to the east, to the north, up; NaN where it could not be found.
        pixels: how many it was estimated from.
        applied: whether the metrics are those of the moved surface.
    """

    dx_m: Number
    dy_m: Number
    dz_m: Number
    pixels: Count
    applied: bool


NO_SHIFT = Shift(float("nan"), float("nan"), float("nan"), pixels=0, applied=False)


@dataclass(frozen=True)
class OutlineErrors:
    """Where a surface has the edges of buildings, across the outlines of the building mask.

    Attributes:
        profiles: across outlines where the reference DSM has a clear edge.
        found: share of them (0 to 1) where the surface has one, too.
        statistics: of surface edge minus true edge, metres; positive: the building is too large.
    """

    profiles: Count
    found: Number
    statistics: Statistics


@dataclass(frozen=True)
class SurfaceResult:
    """One surface.

    Attributes:
        name: for people; unique.
        source: the file or files it comes from.
        sha256: of the file; "" where there is none or there are several.
        resampling: how it came onto the reference DSM's grid: "none", "average" or "bilinear".
        shift: against the reference DSM.
        outlines: None without a building mask.
        classes: by the name of a class; OVERALL first.
    """

    name: str
    source: str
    sha256: str
    resampling: str
    shift: Shift
    outlines: OutlineErrors | None
    classes: Mapping[str, ClassResult]


@dataclass(frozen=True)
class MedianFilter:
    """What a median filter reaches.

    Attributes:
        width_px: side of its square windows, pixels of the reference DSM.
        statistics: of the errors of the filtered surface.
    """

    width_px: Count
    statistics: Statistics


@dataclass(frozen=True)
class Baselines:
    """What median filters of a surface reach, without any training.

    Attributes:
        surface: the name of the one that is filtered.
        filters: from narrow to wide.
        chosen_px: the widths that validation chooses for both halves of a checkerboard of 8 x 8 fields, each
            the best (MAE) on the other half; empty where one half has no pixel.
        validated: the errors with them.
    """

    surface: str
    filters: tuple[MedianFilter, ...]
    chosen_px: tuple[Count, ...]
    validated: Statistics


@dataclass(frozen=True)
class EvaluationResult:
    """All that was found.

    Attributes:
        surfaces: by name; the initial DSM first, if there is one.
        initial: the name of the initial DSM; None without one.
        titles: of the classes, for people ("terrain without water").
        facts: what was evaluated by which rules, name to text, for the provenance.
        pixel_area_m2: area of one pixel of the reference DSM.
        block_m: side of the bootstrap's blocks.
        blocks: how many there are.
        exact: whether all quantiles are exact; if not, to half a tenth of a millimetre.
        baselines: median filters of the initial DSM, or of the only surface; None if nobody asked for them.
        conditions: what two evaluations need to have in common to be comparable, by names as in `facts`: the
            SHA-256 of a file, the pixels of a region, a rule in words.
        together: the name of the result over all surfaces but the initial DSM; None without such a one.
    """

    surfaces: Mapping[str, SurfaceResult]
    initial: str | None
    titles: Mapping[str, str]
    facts: Mapping[str, str]
    pixel_area_m2: Number
    block_m: Number
    blocks: Count
    exact: bool
    baselines: Baselines | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    together: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything, with None for NaN."""
        content: dict[str, Any] = plain(asdict(self))
        return {"format": FORMAT, **content}


def plain(value: Any) -> Any:
    """The same for JSON: no NaN, nothing infinite, no tuples."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


M2_PER_KM2 = 1e6
# The classes of the published code; others are our own.
PUBLISHED_CLASSES = (
    OVERALL, "building", "terrain", "terrain_without_water", "terrain_without_forest",
    "terrain_without_water_forest",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Metrics before and after refinement, per class of objects.

    Attributes:
        refined: class name to metrics.
        initial: the same before refinement; None where only the results are evaluated.
        pixel_area_m2: area of one pixel.
        baselines: median filters of the initial DSM; None if nobody asked for them.
        outcome: all that was found: intervals, shifts, shape, histograms; classes of one's own.
        name: of the surface in it.
        warnings: why metrics may mislead.
        folder: what was written, if a folder was asked for.

    Examples:
        >>> import resdepth
        >>> found = resdepth.evaluate("initial.tif", "reference.tif")
        >>> print(found.summary())
        | data set | pixels  | surface | ...
        >>> found.to_xarray()["mae"].dims
        ('surface', 'class_name')
    """

    refined: Mapping[str, Statistics]
    initial: Mapping[str, Statistics] | None
    pixel_area_m2: float
    baselines: Baselines | None = None
    outcome: EvaluationResult | None = field(default=None, compare=False)
    name: str = field(default="refined", compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    folder: Path | None = field(default=None, compare=False)

    @property
    def pixels(self) -> int:
        """The number of pixels evaluated."""
        return self.refined[OVERALL].count

    @property
    def area_km2(self) -> float:
        """Their area."""
        return self.pixels * self.pixel_area_m2 / M2_PER_KM2

    @property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """By class and name of a metric, where 95 % of the block bootstrap's metrics lie (`refined`)."""
        if self.outcome is None:
            return {}
        classes = self.outcome.surfaces[self.name].classes
        return {name: dict(one.intervals) for name, one in classes.items() if one.intervals}

    def summary(self) -> str:
        """The metrics as a table in Markdown, then what was warned of."""
        from resdepth.report.tables import baseline_tables, summary_table

        tables = [summary_table({self.name: self}), *baseline_tables({self.name: self})]
        return "\n\n".join([*tables, *(f"warning: {text}" for text in self.warnings)])

    def plot(self) -> "Figure":
        """How errors are distributed, and by class, as a figure of matplotlib (extra `report`).

        Raises:
            ResDepthError: if matplotlib is not installed.
        """
        imported("matplotlib", "report")
        from resdepth.report.plots import show_evaluated

        return show_evaluated(self._whole)

    def to_xarray(self) -> Any:
        """All metrics as a Dataset over `surface` and `class_name`; extra `xarray`.

        Raises:
            ResDepthError: if xarray is not installed.
        """
        xarray = imported("xarray", "xarray")
        surfaces, titles = self._whole.surfaces, list(self._whole.titles)
        metrics = {
            metric.name: (
                ("surface", "class_name"),
                [
                    [getattr(one.classes[name].statistics, metric.name) for name in titles]
                    for one in surfaces.values()
                ],
            )
            for metric in fields(Statistics)
        }
        return xarray.Dataset(metrics, coords={"surface": list(surfaces), "class_name": titles})

    @property
    def _whole(self) -> EvaluationResult:
        if self.outcome is None:
            raise ResDepthError("this evaluation holds its metrics alone; evaluate() gives all there is")
        return self.outcome

    def __repr__(self) -> str:
        """The mean absolute error, before and after, and how many pixels it is of."""
        before = "" if self.initial is None else f"{self.initial[OVERALL].mae:.3f} -> "
        classes = f"{len(self.refined)} classes, {len(self.warnings)} warnings"
        return f"Evaluation(MAE {before}{self.refined[OVERALL].mae:.3f} m, {self.pixels:,} pixels, {classes})"

    def as_json(self) -> dict[str, Any]:
        """All metrics; None where a class is empty."""
        content: dict[str, Any] = {"pixels": self.pixels, "area_km2": self.area_km2, "classes": {}}
        for name, refined in self.refined.items():
            content["classes"][name] = {"refined": refined.as_json()}
            if self.initial is not None:
                content["classes"][name]["initial"] = self.initial[name].as_json()
        if self.baselines is not None:
            content["baselines"] = plain(asdict(self.baselines))
        return content


def evaluation_of(
    outcome: EvaluationResult, refined: str, *, with_initial: bool = True, own: Iterable[str] = ()
) -> Evaluation:
    """The metrics of one surface, and of the initial DSM, in the published classes and in one's own."""

    def figures(name: str) -> dict[str, Statistics]:
        classes = outcome.surfaces[name].classes
        wanted = dict.fromkeys([*PUBLISHED_CLASSES, *own])
        return {kind: classes[kind].statistics for kind in wanted if kind in classes}

    initial = outcome.initial if with_initial else None
    return Evaluation(
        refined=figures(refined),
        initial=None if initial is None else figures(initial),
        pixel_area_m2=outcome.pixel_area_m2,
        baselines=outcome.baselines,
        outcome=outcome,
        name=refined,
    )


def read_result(path: Path) -> EvaluationResult:
    """An evaluation result from its JSON file.

    Raises:
        ResDepthError: if the file is none; the message says which value is not as it should be.
    """
    content = read_json(path, at_most=LARGEST_BYTES)
    if (found := content.pop("format", None)) in EARLIER_FORMATS:
        content = _with_names_of_today(content)
    elif found != FORMAT:
        raise ResDepthError(
            f"{path}: is no evaluation of this version ({FORMAT!r}); resdepth evaluate and test "
            "write evaluation.json"
        )
    outcome = demand(EvaluationResult, content, path)
    for surface in outcome.surfaces.values():
        if set(surface.classes) != set(outcome.titles):
            raise ResDepthError(f"{path}: the classes of {surface.name!r} are not those of the titles")
    if outcome.initial is not None and outcome.initial not in outcome.surfaces:
        raise ResDepthError(f"{path}: the initial surface {outcome.initial!r} is not there")
    return outcome if outcome.conditions else replace(outcome, conditions=_earlier_conditions(outcome.facts))


def _with_names_of_today(content: Any) -> Any:
    """Of an earlier format, with the names that its keys and conditions have now."""
    if isinstance(content, dict):
        return {_RENAMED.get(key, key): _with_names_of_today(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_names_of_today(value) for value in content]
    return content.replace("surface minus truth", ERRORS) if isinstance(content, str) else content


def _earlier_conditions(facts: Mapping[str, str]) -> dict[str, str]:
    """From files that have checksums and pixels in the words of the facts alone."""
    checksums = {name: re.search(r"SHA-256 ([0-9a-f]{64})", text) for name, text in facts.items()}
    return {
        name: text.rpartition(", pixels: ")[2] if (found := checksums[name]) is None else found[1]
        for name, text in facts.items()
    }
