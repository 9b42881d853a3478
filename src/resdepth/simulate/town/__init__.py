"""A procedural town: an endless true surface that follows from a style and a seed."""

from resdepth.geo.grid import Grid
from resdepth.simulate.town.styles import STYLES, TownStyle
from resdepth.simulate.town.town import Town

__all__ = ["STYLES", "Town", "TownStyle", "town_grid"]

_ORIGIN_M = (465_000.0, 5_247_000.0)


def town_grid(size_px: int | tuple[int, int], gsd_m: float) -> Grid:
    """A north-up grid in UTM zone 32 north.

    Args:
        size_px: height and width, or one number for both.
        gsd_m: side of a pixel.
    """
    height, width = (size_px, size_px) if isinstance(size_px, int) else size_px
    x, y = _ORIGIN_M
    return Grid(height, width, (gsd_m, 0.0, x, 0.0, -gsd_m, y), "EPSG:32632", "EPSG:32632")
