"""Statistics of surfaces by blocks of the map: counted within a block, then added up to metrics by class.

Blocks are counted in parallel; their sums may be added in any order.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from resdepth.evaluation.classes import (
    Mask,
    MaskPixels,
    above_ground_classes,
    dilation_px,
    edge_band,
    edge_px,
    object_classes,
    slope_classes,
)
from resdepth.evaluation.metrics import BlockErrors, Portion, Statistics, Tally, bins_of, intervals
from resdepth.evaluation.result import OVERALL, ClassResult, Histogram, OutlineErrors, ShapeErrors
from resdepth.evaluation.shape import (
    SHAPE_MARGIN_PX,
    OutlineProfiles,
    Shape,
    gradient_errors,
    normal_angles,
    shape_of,
)
from resdepth.geo.grid import Sides
from resdepth.geo.raster import Array
from resdepth.geo.windows import Window

# What is summed up over the pixels of a class, in this order.
COLUMNS = (
    "reference_pixels", "covered", "shaped", "gradient", "normal_deg", "roughness_m", "reference_roughness_m",
    "compared", "better", "worse",
)  # fmt: skip
BETTER_M = 0.1
Block = tuple[int, int, int]
"""Number of the region, row and column of the block in it."""

HISTOGRAM_BINS, SIZES = 160, 200
# The histogram reaches to this multiple of LE95, so that a few gross errors do not flatten it.
REACH = 1.5
SHAPE_COLUMNS = ("gradient", "normal_deg", "roughness_m", "reference_roughness_m")


@dataclass(frozen=True)
class Scenery:
    """What surfaces are compared with, within a window and `margin` pixels around it.

    Attributes:
        window: in the raster.
        reference: (H + 2 margin, W + 2 margin) float32, metres, NaN where unknown.
        evaluated: the same shape, bool: where the reference DSM counts.
        masks: by name, where it is set and where it is known; the same shape.
        ground: heights of the bare ground, the same shape; None without.
        margin: pixels on each side.
        sides: of a pixel.
        threshold: errors above it in absolute value are left out; metres.
        initial: the name of the initial DSM; None without one.
    """

    window: Window
    reference: Array
    evaluated: Mask
    masks: Mapping[str, MaskPixels]
    ground: Array | None
    margin: int
    sides: Sides
    threshold: float | None
    initial: str | None

    @property
    def inner(self) -> tuple[slice, slice]:
        """The window without its margin."""
        return self.around(self.window)

    def around(self, window: Window) -> tuple[slice, slice]:
        """Index of a window of the raster."""
        return window.moved(self.margin - self.window.row, self.margin - self.window.col).slices

    @property
    def shaping(self) -> tuple[slice, slice]:
        """The window with the margin that shapes need."""
        return self.around(_grown(self.window, SHAPE_MARGIN_PX))

    def padded(self, window: Window) -> tuple[slice, slice]:
        """Index of a window of the raster with the margin."""
        return self.around(_grown(window, self.margin))

    def cut(self, window: Window) -> "Scenery":
        """A part, with its margin."""
        where = self.padded(window)
        return replace(
            self,
            window=window,
            reference=self.reference[where],
            evaluated=self.evaluated[where],
            masks={name: (inside[where], known[where]) for name, (inside, known) in self.masks.items()},
            ground=None if self.ground is None else self.ground[where],
        )

    def classes(self, slope: Array) -> dict[str, Mask]:
        """Which pixels of the window belong to which class, by the names of `classes.titles_of`."""
        inner = self.inner
        objects = object_classes(self.reference.shape, self.masks, dilation_px(self.sides))
        classes = {name: pixels[inner] for name, pixels in objects.items()}
        if "building" in self.masks:
            classes["edge"] = edge_band(*self.masks["building"], edge_px(self.sides))[inner]
        for name, (inside, _) in self.masks.items():
            if name != "building":
                classes[name] = inside[inner]
        classes |= slope_classes(slope)
        if self.ground is not None:
            classes |= above_ground_classes((self.reference - self.ground)[inner])
        return classes


def _grown(window: Window, margin: int) -> Window:
    """With a margin on all sides, also beyond the raster."""
    return Window(
        window.row - margin, window.col - margin, window.height + 2 * margin, window.width + 2 * margin
    )


@dataclass(frozen=True)
class Counted:
    """What one surface is like within a window.

    Attributes:
        errors: (H, W) float32, metres, NaN where nothing is evaluated.
        portions: of the errors, by class.
        sums: by class, (COLUMNS,) float64.
        profiles: across outlines of buildings; 0 without a building mask.
        displacements: of its edges there, metres; None without a building mask.
    """

    errors: Array
    portions: Mapping[str, Portion]
    sums: Mapping[str, NDArray[np.float64]]
    profiles: int
    displacements: Array | None


def count(
    scenery: Scenery, surfaces: Mapping[str, Array], kept: Mapping[str, Collection[str]]
) -> dict[str, Counted]:
    """Count the errors of surfaces.

    Args:
        scenery: what they are compared with.
        surfaces: by name, heights with the scenery's margin; metres, NaN = void.
        kept: by name of a surface, the classes whose errors are asked for one by one.
    """
    inner, shaping = scenery.inner, scenery.shaping
    evaluated = scenery.evaluated[inner]
    true_shape = shape_of(scenery.reference[shaping], scenery.sides)
    classes = scenery.classes(true_shape.slope)
    members = np.stack([pixels.ravel() for pixels in classes.values()]).astype(np.float32)
    outlines = _outlines(scenery) if "building" in scenery.masks else None
    errors = {name: _errors(height, scenery) for name, height in surfaces.items()}
    before = None if scenery.initial is None else errors[scenery.initial]
    counted = {}
    for name, height in surfaces.items():
        shape = shape_of(height[shaping], scenery.sides)
        columns = _columns(errors[name], before, evaluated, shape, true_shape, ~np.isnan(height[inner]))
        sums = (members @ columns).astype(np.float64)
        counted[name] = Counted(
            errors[name],
            _portions(errors[name], classes, kept[name]),
            dict(zip(classes, sums, strict=True)),
            0 if outlines is None else outlines.count,
            None if outlines is None else outlines.displacements(height),
        )
    return counted


def _outlines(scenery: Scenery) -> OutlineProfiles:
    building, _ = scenery.masks["building"]
    known = np.where(scenery.evaluated, scenery.reference, np.float32(np.nan))
    origin = (scenery.window.row - scenery.margin, scenery.window.col - scenery.margin)
    return OutlineProfiles.of(building, known, scenery.inner, scenery.sides, origin)


def _errors(height: Array, scenery: Scenery) -> Array:
    """Surface minus reference DSM where it is evaluated, else NaN."""
    inner = scenery.inner
    errors = height[inner] - scenery.reference[inner]
    errors[~scenery.evaluated[inner]] = np.nan
    if scenery.threshold is not None:
        errors[np.abs(errors) > np.float64(scenery.threshold)] = np.nan
    return errors


def _portions(errors: Array, classes: Mapping[str, Mask], kept: Collection[str]) -> dict[str, Portion]:
    valid = ~np.isnan(errors)
    bins = bins_of(np.nan_to_num(errors))
    portions = {}
    for name, pixels in classes.items():
        chosen = pixels & valid
        portions[name] = Portion.of(errors[chosen], bins[chosen], keep=name in kept)
    return portions


def _columns(
    errors: Array, before: Array | None, evaluated: Mask, shape: Shape, true_shape: Shape, known: Mask
) -> Array:
    """(H * W, COLUMNS) float32: what is summed up over each class."""
    gradient = gradient_errors(shape, true_shape)
    shaped = evaluated & np.isfinite(gradient) & np.isfinite(shape.roughness)
    zero = np.float32(0)
    columns = [
        evaluated,
        evaluated & known,
        shaped,
        np.where(shaped, gradient, zero),
        np.where(shaped, normal_angles(shape, true_shape), zero),
        np.where(shaped, shape.roughness, zero),
        np.where(shaped, true_shape.roughness, zero),
    ]
    if before is None:
        columns += [np.zeros_like(evaluated)] * 3
    else:
        gain = np.abs(before) - np.abs(errors)  # NaN where one of them is void: neither better nor worse
        columns += [~np.isnan(gain), gain > BETTER_M, gain < -BETTER_M]
    return np.stack([np.asarray(column, np.float32).ravel() for column in columns], axis=1)


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
        """The metrics, with a histogram over these bins; the centred ones of errors minus a centre."""
        summed, found = self.summed(), self.tally.statistics(centre)

        def mean(name: str, over: str) -> float:
            return summed[name] / summed[over] if summed[over] else float("nan")

        return ClassResult(
            statistics=found,
            reference_pixels=int(summed["reference_pixels"]),
            coverage=mean("covered", "reference_pixels"),
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
        """The metrics of all classes."""
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
