"""A true surface as its file tells it: with voids, and with classes that are still to be guessed."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.simulate.surface import Codes, Heights, Mask, Objects

# Beside the classes of SurfaceClass, codes for what is known in part.
UNKNOWN = 254  # anything
ROOF = 253  # some roof
PLANTS = 252  # a tree or a forest

# What may be guessed where the class is unknown: "no buildings" where the file marks buildings itself.
Guessing = Literal["everything", "no buildings", "nothing"]


@dataclass(frozen=True)
class Sketch:
    """What a file tells of a window.

    Attributes:
        height: (H, W) float32, metres, NaN = void.
        known: (H, W) bool, where the height is true; a subset of the places that are not void.
        classes: (H, W) uint8, a SurfaceClass, UNKNOWN, ROOF or PLANTS.
        objects: (H, W) int32, positive where the file tells which object a pixel belongs to, else 0.
    """

    height: Heights
    known: Mask
    classes: Codes
    objects: Objects


class SketchSource(Protocol):
    """A file that is read as sketches, a window at a time.

    Attributes:
        grid: the pixels of the scene.
        guessing: what may be guessed.
        n_objects: the greatest number of an object that the file itself tells.
        detail_m: side of the smallest thing that the file shows, in metres; no less than a pixel.
    """

    grid: Grid
    detail_m: float
    guessing: Guessing
    n_objects: int

    def read(self, window: Window) -> Sketch:
        """What the file tells of a window of the grid; the same for a pixel in any window."""


def unclassified(height: Heights) -> Sketch:
    """A sketch of heights alone: all that is not void is known, and of unknown class."""
    return Sketch(
        height,
        np.isfinite(height),
        np.full(height.shape, UNKNOWN, np.uint8),
        np.zeros(height.shape, np.int32),
    )
