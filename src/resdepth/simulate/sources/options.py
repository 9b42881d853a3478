"""What can be chosen about a true surface that is read from a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TruthOptions:
    """How a file becomes a true surface.

    Attributes:
        gsd_m: side of a pixel of the result; None: the file's own for rasters, 0.5 m for the others.
        building_mask, water_mask, forest_mask: rasters in the CRS of the truth, on any grid, nonzero = yes.
            A yes outranks what the file says, a no outranks what is guessed; buildings outrank water, and
            water forest. Where a mask is void or ends, it says nothing.
        ground: what city models stand on: "tin" is the file's own terrain; "flat" a plane at the height of
            the lowest vertex of a building; "sloped" a plane through that height in the middle of the scene,
            each building being lifted or lowered with the plane as a whole. The planes replace any terrain
            of the file.
        ground_slope_deg: steepness of the sloped plane.
        ground_aspect_deg: where the sloped plane descends to, clockwise from north.
        extent: xmin, ymin, xmax, ymax in map units: only this part, grown to whole pixels.
        crs: the CRS of a file that does not name its own ("EPSG:28992").
    """

    gsd_m: float | None = None
    building_mask: Path | None = None
    water_mask: Path | None = None
    forest_mask: Path | None = None
    ground: Literal["tin", "flat", "sloped"] = "tin"
    ground_slope_deg: float = 0.0
    ground_aspect_deg: float = 0.0
    extent: tuple[float, float, float, float] | None = None
    crs: str | None = None

    @property
    def masks(self) -> dict[str, Path]:
        """The masks that were given: "building", "water", "forest"."""
        masks = {"building": self.building_mask, "water": self.water_mask, "forest": self.forest_mask}
        return {name: path for name, path in masks.items() if path is not None}
