"""What was found about surfaces: values that reports turn into files and pages."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from resdepth.evaluation.metrics import Statistics

OVERALL, TRUTH = "overall", "truth"
FORMAT = "resdepth-evaluation 1"
Interval = tuple[float, float]


@dataclass(frozen=True)
class ShapeErrors:
    """How far the shape of a surface is from that of the truth; NaN where nothing was compared.

    Attributes:
        gradient: mean length of the difference of both gradients (Horn 1981), metres per metre.
        normal_deg: mean angle between both normals, degrees.
        roughness_m, truth_roughness_m: mean range of heights among 3 x 3 pixels (Wilson et al. 2007).
    """

    gradient: float
    normal_deg: float
    roughness_m: float
    truth_roughness_m: float


@dataclass(frozen=True)
class Histogram:
    """How often errors occur.

    Attributes:
        edges_m: of the bins, one more than counts. Errors beyond them are in no bin.
        counts: of errors.
        sizes_m, shares: the cumulative curve: share of absolute errors up to a size.
    """

    edges_m: tuple[float, ...]
    counts: tuple[int, ...]
    sizes_m: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class ClassResult:
    """A surface within one class of pixels.

    Attributes:
        statistics: of the errors.
        truth_pixels: pixels of the class where the truth is known.
        coverage: share of them (0 to 1) where the surface has a height; NaN without any.
        intervals: by the name of a figure (a field of Statistics), where 95 % of the block bootstrap's
            figures lie; empty where there are too few blocks for one.
        shape: errors of gradients, normals, roughness.
        better, worse: share of pixels whose absolute error is by more than 10 cm smaller, larger than that of
            the initial DSM; None without one.
        histogram: of the errors.
    """

    statistics: Statistics
    truth_pixels: int
    coverage: float
    intervals: Mapping[str, Interval]
    shape: ShapeErrors
    better: float | None
    worse: float | None
    histogram: Histogram


@dataclass(frozen=True)
class Shift:
    """What moves a surface onto the truth (Nuth & Kaab 2011): add it to its coordinates and heights.

    Attributes:
        dx_m, dy_m, dz_m: to the east, to the north, up; NaN where it could not be found.
        pixels: how many it was estimated from.
        applied: whether the figures are those of the moved surface.
    """

    dx_m: float
    dy_m: float
    dz_m: float
    pixels: int
    applied: bool


NO_SHIFT = Shift(float("nan"), float("nan"), float("nan"), pixels=0, applied=False)


@dataclass(frozen=True)
class OutlineErrors:
    """Where a surface has the edges of buildings, across the outlines of the building mask.

    Attributes:
        profiles: across outlines where the truth has a clear edge.
        found: share of them (0 to 1) where the surface has one, too.
        statistics: of surface edge minus true edge, metres; positive: the building is too large.
    """

    profiles: int
    found: float
    statistics: Statistics


@dataclass(frozen=True)
class SurfaceResult:
    """One surface.

    Attributes:
        name: for people; unique.
        source: the file or files it comes from.
        sha256: of the file; "" where there is none or there are several.
        resampling: how it came onto the truth's grid: "none", "average" or "bilinear".
        shift: against the truth.
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

    width_px: int
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
    chosen_px: tuple[int, ...]
    validated: Statistics


@dataclass(frozen=True)
class EvaluationResult:
    """All that was found.

    Attributes:
        surfaces: by name; the initial DSM first, if there is one.
        initial: the name of the initial DSM; None without one.
        titles: of the classes, for people ("terrain without water").
        facts: what was evaluated by which rules, name to text, for the provenance.
        pixel_area_m2: area of one pixel of the truth.
        block_m: side of the bootstrap's blocks.
        blocks: how many there are.
        exact: whether all quantiles are exact; if not, to half a tenth of a millimetre.
        baselines: median filters of the initial DSM, or of the only surface; None if nobody asked for them.
    """

    surfaces: Mapping[str, SurfaceResult]
    initial: str | None
    titles: Mapping[str, str]
    facts: Mapping[str, str]
    pixel_area_m2: float
    block_m: float
    blocks: int
    exact: bool
    baselines: Baselines | None = None

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
