"""A DSM in a file, as it will lie: on any grid, in metres, from another zero, moved and tilted."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.reprojected import MapBand
from resdepth.geo.windows import Window
from resdepth.preparation.datum import HeightChange

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Motion:
    """What moves a surface onto another: it is added to its coordinates and heights.

    Heights change by up_m + tilt_east (x - x0) + tilt_north (y - y0).

    Attributes:
        east_m, north_m: along the axes of the map.
        up_m: in the middle of the area.
        tilt_east, tilt_north: metres for each metre.
        middle: x0 and y0, map coordinates in metres.
    """

    east_m: float = 0.0
    north_m: float = 0.0
    up_m: float = 0.0
    tilt_east: float = 0.0
    tilt_north: float = 0.0
    middle: tuple[float, float] = (0.0, 0.0)

    @property
    def is_tilted(self) -> bool:
        """Whether it tilts."""
        return bool(self.tilt_east or self.tilt_north)

    def rise(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        """By how many metres heights change at places."""
        east, north = x - self.middle[0], y - self.middle[1]
        return np.asarray(self.up_m + self.tilt_east * east + self.tilt_north * north)

    def inverse(self) -> "Motion":
        """What moves the other surface onto this one instead; a tilt is the same at both places."""
        return Motion(-self.east_m, -self.north_m, -self.up_m, -self.tilt_east, -self.tilt_north, self.middle)


class SurfaceFile:
    """The heights of a raster on grids of a map: (H, W) float32, metres, NaN = void.

    Args:
        band: the raster.
        change: from its zero of heights to the one that is wanted.
        motion: of the surface.
    """

    def __init__(
        self, band: MapBand, change: HeightChange | None = None, motion: Motion | None = None
    ) -> None:
        self.band, self.change, self.motion = band, change, motion or Motion()

    @property
    def path(self) -> Path:
        """Of the raster."""
        return self.band.path

    def moved(self, motion: Motion) -> "SurfaceFile":
        """The same surface, moved from where its file has it."""
        return SurfaceFile(self.band, self.change, motion)

    def on(self, grid: Grid) -> Array:
        """Its heights on a north-up grid in metres."""
        motion = self.motion
        a, b, c, d, e, f = grid.transform
        # A surface that is moved to the east shows at a place what it had further to the west.
        origin = replace(grid, transform=(a, b, c - motion.east_m, d, e, f - motion.north_m))
        heights = self.band.on(origin)
        if self.change is not None and not self.change.is_none:
            heights = heights + self.change.over(origin)
        if motion.up_m or motion.is_tilted:
            x = c + a * (np.arange(grid.width) + 0.5)
            y = f + e * (np.arange(grid.height) + 0.5)
            heights = heights + motion.rise(np.asarray(x)[None, :], np.asarray(y)[:, None]).astype(np.float32)
        return heights

    def reader(self, grid: Grid) -> "OnOneGrid":
        """The surface on one grid, read a window at a time."""
        return OnOneGrid(self, grid)


class OnOneGrid:
    """A surface as a band: windows of a grid."""

    def __init__(self, surface: SurfaceFile, grid: Grid) -> None:
        self.surface, self.grid = surface, grid

    def read(self, window: Window) -> Array:
        """(height, width) float32, metres, NaN = void."""
        return self.surface.on(self.grid.crop(window))
