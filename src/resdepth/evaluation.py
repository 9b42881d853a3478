"""How far a surface is from the truth: arrays in, figures out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

NMAD_FACTOR = 1.4826
BUILDING_DILATION_PX = 2
OVERALL = "overall"
M2_PER_KM2 = 1e6


@dataclass(frozen=True)
class Statistics:
    """Figures over residuals (height minus truth), metres; NaN where there is no residual.

    Attributes:
        count: number of residuals.
        maximum, minimum, median: of the residuals.
        mae: mean absolute error.
        rmse: root mean square error.
        absolute_median: median of the absolute residuals.
        nmad: normalised median absolute deviation, 1.4826 median(|r - median(r)|) (Hoehle & Hoehle 2009).
        nmad_resdepth_2022: what the published ResDepth prints as NMAD: centred on the median ABSOLUTE error.
    """

    count: int
    maximum: float
    minimum: float
    mae: float
    rmse: float
    absolute_median: float
    median: float
    nmad: float
    nmad_resdepth_2022: float

    def as_json(self) -> dict[str, float | int | None]:
        """The figures with None for NaN, which JSON lacks."""
        return {name: None if value != value else value for name, value in asdict(self).items()}  # noqa: PLR0124 - NaN


@dataclass(frozen=True)
class Evaluation:
    """Figures before and after refinement, per class of objects.

    Attributes:
        refined: class name to figures.
        initial: the same before refinement; None where only the results are judged.
        pixel_area_m2: area of one pixel.
    """

    refined: Mapping[str, Statistics]
    initial: Mapping[str, Statistics] | None
    pixel_area_m2: float

    @property
    def pixels(self) -> int:
        """The number of pixels judged."""
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
        return content


def statistics(residuals: Array, threshold: float | None = None) -> Statistics:
    """Figures over all finite residuals.

    Args:
        residuals: any shape, metres, NaN = invalid.
        threshold: residuals above it in absolute value are left out (truncation); metres.
    """
    r = residuals[np.isfinite(residuals)].astype(np.float64)
    if threshold is not None:
        r = r[np.abs(r) <= threshold]
    if not r.size:
        return Statistics(0, *[float("nan")] * 8)
    magnitude = np.abs(r)
    median, absolute_median = np.median(r), np.median(magnitude)
    return Statistics(
        count=int(r.size),
        maximum=float(r.max()),
        minimum=float(r.min()),
        mae=float(magnitude.mean()),
        rmse=float(np.sqrt(np.square(r).mean())),
        absolute_median=float(absolute_median),
        median=float(median),
        nmad=float(NMAD_FACTOR * np.median(np.abs(r - median))),
        nmad_resdepth_2022=float(NMAD_FACTOR * np.median(np.abs(r - absolute_median))),
    )


def object_classes(shape: tuple[int, int], masks: Mapping[str, tuple[Mask, Mask]]) -> dict[str, Mask]:
    """Which pixels belong to which class of objects.

    The building mask is dilated by two pixels (4-neighbours, so that walls do not count as terrain); terrain
    is what is no building. Water and forest count only beside a building mask. Nodata cells of the building
    mask are in neither class, unless the dilation reaches them.

    Args:
        shape: of the region.
        masks: name (building, water, forest) to (set, known), both (H, W) bool. Buildings beside a region
            grow into it: give it with a margin of BUILDING_DILATION_PX pixels, and cut that off.

    Returns:
        Class name to (H, W) bool; always `overall`, then what the masks allow.
    """
    classes = {OVERALL: np.ones(shape, dtype=bool)}
    if "building" not in masks:
        return classes
    building, known = masks["building"]
    building = ndimage.binary_dilation(building, iterations=BUILDING_DILATION_PX)
    terrain = known & ~building
    classes |= {"building": building, "terrain": terrain}
    excluded: list[str] = []
    for name in ("water", "forest"):
        if name in masks:
            excluded.append(name)
            terrain = terrain & ~masks[name][0]
            classes[f"terrain_without_{'_'.join(excluded)}"] = terrain
    return classes


def statistics_per_class(
    residuals: Array, classes: Mapping[str, Mask], threshold: float | None = None
) -> dict[str, Statistics]:
    """The figures of each class."""
    return {name: statistics(residuals[inside], threshold) for name, inside in classes.items()}
