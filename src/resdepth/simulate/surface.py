"""What stands on the ground: heights, what they are made of, and which object each pixel belongs to."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window

Heights = NDArray[np.float32]
Codes = NDArray[np.uint8]
Objects = NDArray[np.int32]
Mask = NDArray[np.bool_]


class SurfaceClass(IntEnum):
    """What a pixel is made of, seen from straight above."""

    GROUND = 0  # of unknown cover
    GRASS = 1
    SOIL = 2
    ASPHALT = 3  # roads and parking
    PAVING = 4  # pavements, squares, courtyards
    WATER = 5
    ROOF_TILES = 6
    ROOF_FLAT = 7  # gravel, concrete, bitumen
    ROOF_METAL = 8
    TREE = 9  # a single crown
    FOREST = 10


BUILDING_CLASSES = (SurfaceClass.ROOF_TILES, SurfaceClass.ROOF_FLAT, SurfaceClass.ROOF_METAL)
VEGETATION_CLASSES = (SurfaceClass.TREE, SurfaceClass.FOREST)


@dataclass(frozen=True)
class Surface:
    """A part of the world on a grid.

    Attributes:
        height: (H, W) float32, metres; complete: places of unknown height are filled plausibly.
        known: (H, W) bool, True where the height is true and not filled.
        classes: (H, W) uint8, a SurfaceClass per pixel.
        objects: (H, W) int32, the same positive number on all pixels of one object (a building, a roof
            part, a crown) that has a colour of its own; 0 on open ground. The same in any window.
    """

    height: Heights
    known: Mask
    classes: Codes
    objects: Objects

    def crop(self, window: Window) -> "Surface":
        """The part inside a window that is counted from this surface's own corner."""
        where = window.slices
        return Surface(self.height[where], self.known[where], self.classes[where], self.objects[where])


class ReferenceSurface(Protocol):
    """A true surface, wherever it comes from; read a window at a time."""

    grid: Grid

    def surface(self, window: Window) -> Surface:
        """The surface in a window of the grid.

        Law: the surface of a window is the crop of the surface of any window around it.
        """


@dataclass(frozen=True)
class HeldSurface:
    """A true surface held in memory."""

    grid: Grid
    whole: Surface

    def surface(self, window: Window) -> Surface:
        """The surface in a window of the grid."""
        return self.whole.crop(window)


def is_any(classes: Codes, wanted: Iterable[SurfaceClass]) -> Mask:
    """(H, W) bool: where the class is one of those wanted."""
    return np.isin(classes, [int(one) for one in wanted])
