"""Masks of buildings, water and forest that outrank what a file tells or what is guessed."""

from pathlib import Path

import numpy as np

from resdepth.errors import InputProblems, Problem
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand, read_header
from resdepth.geo.resampling import read_resampled
from resdepth.geo.windows import Window
from resdepth.simulate.sources.sketch import ROOF, UNKNOWN
from resdepth.simulate.surface import BUILDING_CLASSES, Codes, Heights, Mask, SurfaceClass, is_any

PLACELESS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# The least important first: the code of a yes, the classes that a no forbids, and what they become.
MEANINGS = {
    "forest": (SurfaceClass.FOREST, (SurfaceClass.FOREST,), SurfaceClass.TREE),
    "water": (SurfaceClass.WATER, (SurfaceClass.WATER,), SurfaceClass.GROUND),
    "building": (ROOF, BUILDING_CLASSES, SurfaceClass.TREE),
}


class Masks:
    """The masks of a scene, read on its grid.

    Raises:
        InputProblems: naming each mask that has another CRS, or no place.
    """

    def __init__(self, paths: dict[str, Path], grid: Grid) -> None:
        self._paths, self._grid = paths, grid
        if problems := [text for path in paths.values() for text in _misfits(path, grid)]:
            raise InputProblems(problems)

    def read(self, window: Window) -> dict[str, Heights]:
        """For each mask that was given (H, W) float32: 0 no, else yes, NaN where it says nothing."""
        found = {}
        for name in MEANINGS:
            if path := self._paths.get(name):
                placeless = read_header(path).grid.transform == PLACELESS
                found[name] = (
                    FileBand(path, "mask").read(window)
                    if placeless
                    else read_resampled(path, self._grid.crop(window), "nearest", "mask")
                )
        return found


def with_yes(codes: Codes, masks: dict[str, Heights]) -> Codes:
    """The codes of a sketch, where no mask says yes; else the mask's code."""
    result = codes.copy()
    for name, values in masks.items():
        result[_yes(values)] = MEANINGS[name][0]
    return result


def without_no(classes: Codes, stated: Codes, masks: dict[str, Heights]) -> Codes:
    """The classes without those that were guessed where a mask says no.

    Args:
        classes: (H, W) uint8, a SurfaceClass everywhere.
        stated: (H, W) uint8, the codes from which they were guessed.
        masks: of `Masks.read`.
    """
    result = classes.copy()
    for name, values in masks.items():
        _, forbidden, instead = MEANINGS[name]
        result[(stated == UNKNOWN) & (values == 0) & is_any(classes, forbidden)] = instead
    return result


def _yes(values: Heights) -> Mask:
    yes: Mask = np.isfinite(values) & (values != 0)
    return yes


def _misfits(path: Path, grid: Grid) -> list[Problem]:
    found = read_header(path).grid
    if found.transform == PLACELESS:
        if (found.height, found.width) == (grid.height, grid.width):
            return []
        size = f"{found.height} x {found.width} instead of {grid.height} x {grid.width} pixels"
        return [Problem(str(path), f"has no georeference and {size}; add one (gdal_edit.py -a_srs -a_ullr)")]
    alike = Grid(grid.height, grid.width, grid.transform, found.crs, found.crs_name)
    return [
        Problem(str(path), f"has {difference}, that of the truth; reproject the mask (gdalwarp -t_srs)")
        for difference in grid.differences(alike)
    ]
