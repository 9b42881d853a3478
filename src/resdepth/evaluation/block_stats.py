"""What is counted within one block of the map: arrays in, sums and counted errors out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from resdepth.evaluation.building_edges import OutlineProfiles
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
from resdepth.evaluation.metrics import Portion, bins_of
from resdepth.evaluation.terrain import MARGIN_PX, Shape, gradient_errors, normal_angles, shape_of
from resdepth.geo.grid import Sides
from resdepth.geo.raster import Array
from resdepth.geo.windows import Window

# What is summed up over the pixels of a class, in this order.
COLUMNS = (
    "truth_pixels", "covered", "shaped", "gradient", "normal_deg", "roughness_m", "truth_roughness_m",
    "compared", "better", "worse",
)  # fmt: skip
BETTER_M = 0.1


@dataclass(frozen=True)
class Scenery:
    """What surfaces are compared with, within a window and `margin` pixels around it.

    Attributes:
        window: in the raster.
        truth: (H + 2 margin, W + 2 margin) float32, metres, NaN where unknown.
        evaluated: the same shape, bool: where the truth counts.
        masks: by name, where it is set and where it is known; the same shape.
        ground: heights of the bare ground, the same shape; None without.
        margin: pixels on each side.
        sides: of a pixel.
        threshold: errors above it in absolute value are left out; metres.
        initial: the name of the initial DSM; None without one.
    """

    window: Window
    truth: Array
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
        row, col, more = self.window.row, self.window.col, 2 * MARGIN_PX
        return self.around(
            Window(row - MARGIN_PX, col - MARGIN_PX, self.window.height + more, self.window.width + more)
        )

    def padded(self, window: Window) -> tuple[slice, slice]:
        """Index of a window of the raster with the margin."""
        row, col, more = window.row - self.margin, window.col - self.margin, 2 * self.margin
        return self.around(Window(row, col, window.height + more, window.width + more))

    def cut(self, window: Window) -> "Scenery":
        """A part, with its margin."""
        where = self.padded(window)
        return replace(
            self,
            window=window,
            truth=self.truth[where],
            evaluated=self.evaluated[where],
            masks={name: (inside[where], known[where]) for name, (inside, known) in self.masks.items()},
            ground=None if self.ground is None else self.ground[where],
        )

    def classes(self, slope: Array) -> dict[str, Mask]:
        """Which pixels of the window belong to which class, by the names of `classes.titles_of`."""
        inner = self.inner
        objects = object_classes(self.truth.shape, self.masks, dilation_px(self.sides))
        classes = {name: pixels[inner] for name, pixels in objects.items()}
        if "building" in self.masks:
            classes["edge"] = edge_band(*self.masks["building"], edge_px(self.sides))[inner]
        for name, (inside, _) in self.masks.items():
            if name != "building":
                classes[name] = inside[inner]
        classes |= slope_classes(slope)
        if self.ground is not None:
            classes |= above_ground_classes((self.truth - self.ground)[inner])
        return classes


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
    true_shape = shape_of(scenery.truth[shaping], scenery.sides)
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
    known = np.where(scenery.evaluated, scenery.truth, np.float32(np.nan))
    origin = (scenery.window.row - scenery.margin, scenery.window.col - scenery.margin)
    return OutlineProfiles.of(building, known, scenery.inner, scenery.sides, origin)


def _errors(height: Array, scenery: Scenery) -> Array:
    """Surface minus truth where it is evaluated, else NaN."""
    inner = scenery.inner
    errors = height[inner] - scenery.truth[inner]
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
