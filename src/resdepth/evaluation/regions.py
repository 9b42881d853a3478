"""Where surfaces are evaluated: everywhere, in a stripe, a rectangle of the map, or polygons."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resdepth.errors import ResDepthError
from resdepth.geo.grid import Bounds, Grid
from resdepth.geo.raster import Band
from resdepth.geo.vectors import bounds_on, is_vector, open_vector_mask
from resdepth.geo.windows import N_STRIPES, Strategy, Window, split_regions

EVERYWHERE = "everywhere"
PIXELS = ", pixels: "
"""In the words about an area it stands before its pixels, which are the same whatever they are called by."""


@dataclass(frozen=True)
class Area:
    """The pixels that count.

    Attributes:
        windows: of the truth's grid; they do not overlap.
        inside: where it is 1 within them; None: everywhere.
        path: the file that `inside` comes from.
        stated: for people.
    """

    windows: tuple[Window, ...]
    inside: Band | None = None
    path: Path | None = None
    stated: str = EVERYWHERE


def find_area(region: str | Path | Bounds | None, grid: Grid) -> Area:
    """The pixels of a region.

    Args:
        region: None: all; "vertical:3" or "horizontal:0": one of five stripes, counted from 0, as the
            configurations cut them; four numbers or "xmin,ymin,xmax,ymax": a rectangle of the map; a vector
            file: its polygons.
        grid: of the truth.

    Raises:
        ResDepthError: if there is no such region, or no pixel of the grid lies in it.
    """
    if region is None:
        return Area((grid.whole,))
    if isinstance(region, tuple):
        return _named_area(" ".join(f"{value:.10g}" for value in region), grid.window_of(region), grid)
    text = str(region)
    kind, _, number = text.partition(":")
    if kind in ("vertical", "horizontal"):
        return _named_area(f"stripe {text} of {N_STRIPES}", _stripe(kind, number, grid), grid)
    if is_vector(Path(text)):
        window = grid.window_of(bounds_on(Path(text), grid))
        return Area((window,), open_vector_mask(Path(text), grid), Path(text), stated=f"polygons of {text}")
    try:
        xmin, ymin, xmax, ymax = (float(value) for value in text.replace(",", " ").split())
    except ValueError:
        raise ResDepthError(
            f"region: found {text!r}; give xmin,ymin,xmax,ymax, or vertical:0 to vertical:4 (or horizontal) "
            "for a stripe, or a file with polygons (GeoPackage, GeoJSON)"
        ) from None
    return find_area((xmin, ymin, xmax, ymax), grid)


def area_of(windows: Sequence[Window], grid: Grid) -> Area:
    """The pixels of windows.

    Args:
        windows: of the grid; they do not overlap.
        grid: of the truth.
    """
    return Area(tuple(windows), stated=_stated_pixels(windows, grid))


def _named_area(words: str, window: Window, grid: Grid) -> Area:
    return Area((window,), stated=f"{words}{PIXELS}{_stated_pixels([window], grid)}")


def _stated_pixels(windows: Sequence[Window], grid: Grid) -> str:
    """The same words for the same windows: "rows 0 to 63 and columns 32 to 63", counted from 0."""
    if list(windows) == [grid.whole]:
        return EVERYWHERE
    return "; ".join(
        f"rows {one.row} to {one.row_stop - 1} and columns {one.col} to {one.col_stop - 1}"
        for one in sorted(windows)
    )


def _stripe(kind: str, number: str, grid: Grid) -> Window:
    if number not in {str(one) for one in range(N_STRIPES)}:
        raise ResDepthError(
            f"region: found {kind}:{number}; the stripes are {kind}:0 to {kind}:{N_STRIPES - 1}"
        )
    strategy: Strategy = "5-crossval_vertical" if kind == "vertical" else "5-crossval_horizontal"
    regions = split_regions(grid.height, grid.width, strategy, test_stripe=int(number))
    (stripe,) = regions.test
    if stripe.height <= 0 or stripe.width <= 0 or not grid.whole.contains(stripe):
        raise ResDepthError(
            f"region: the truth, {grid.height} x {grid.width} pixels, is too small for a "
            f"stripe {kind}:{number}"
        )
    return stripe
