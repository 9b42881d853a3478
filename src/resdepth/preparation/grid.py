"""The one grid of a data set: a projected CRS in metres, square pixels on whole multiples of their side."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Bounds, Grid
from resdepth.geo.reprojected import MapBand
from resdepth.options import option
from resdepth.stereo.ortho import to_geographic
from resdepth.stereo.pairs import overlap

SNAP_PX = 1e-3
"""Edges within this share of a pixel of the lattice lie on it."""
STEP_M = 0.05
"""Pixel sizes that follow from degrees or feet are rounded to such steps."""
LEAST_SIDE_PX, MAX_PIXELS = 16, 10**10
SAME_SIZE = 1e-6


@dataclass(frozen=True)
class GridChoice:
    """The grid of a data set.

    Attributes:
        grid: north up.
        changes: in words, what differs from the grid of the surface.
    """

    grid: Grid
    changes: tuple[str, ...]


def chosen_grid(
    surface: MapBand,
    *,
    reference: MapBand | None = None,
    crs: str | None = None,
    gsd_m: float | None = None,
    extent: Bounds | None = None,
) -> GridChoice:
    """The grid for a surface.

    Its CRS is the one asked for, or that of the surface if it is projected and in metres, or else that of the
    reference, or else UTM. Its pixels are as large as those of the surface, and lie on whole multiples of
    their side; so the grids of all data sets of one pixel size are pixel-aligned.

    Args:
        surface: the initial DSM.
        reference: the reference DSM, whose CRS will do.
        crs: of the grid.
        gsd_m: side of its pixels, metres.
        extent: xmin, ymin, xmax, ymax in that CRS: no more than this.

    Raises:
        ResDepthError: if there is no such grid, and why.
    """
    given = surface.grid
    changes = []
    wkt, name = find_crs(crs) if crs else _own_crs(surface, reference)
    if crs and not _is_metric(wkt, surface.bounds_on(wkt)):
        raise ResDepthError(f"crs: {name} is not projected and in metres; name another, as the UTM zone")
    stays = given.may_share_crs(Grid(1, 1, (1, 0, 0, 0, -1, 0), wkt, name))
    if not stays:
        why = "in degrees" if given.is_in_degrees else "not in metres" if not crs else "another one"
        changes.append(f"{given.crs_name}, {why}, becomes {name}")
    side = _side(given, stays=stays, asked=gsd_m)
    if not stays or abs(side / given.gsd_m - 1) > SAME_SIZE:
        changes.append(f"pixels of {given.sides_m} m become {side:.4g} m")
    bounds = surface.bounds_on(wkt)
    if extent is not None:
        inside = overlap(bounds, extent)
        if inside is None:
            raise ResDepthError(
                f"extent: {_text(extent)} lies outside of {surface.path}, which covers {_text(bounds)} in "
                f"{name}"
            )
        bounds = inside
    grid = lattice_grid(bounds, side, (wkt, name))
    if stays and given.pixel_offset_of(grid) is None:
        changes.append("pixels come to lie on whole multiples of their side")
    return GridChoice(grid, tuple(changes))


def lattice_grid(bounds: Bounds, side: float, crs: tuple[str, str]) -> Grid:
    """The largest grid within a rectangle whose pixels lie on whole multiples of their side.

    Args:
        bounds: xmin, ymin, xmax, ymax.
        side: of the pixels, map units.
        crs: WKT and name.

    Raises:
        ResDepthError: if hardly a pixel, or more than can be worked with, lie in it.
    """
    left, bottom = (math.ceil(edge / side - SNAP_PX) for edge in bounds[:2])
    right, top = (math.floor(edge / side + SNAP_PX) for edge in bounds[2:])
    height, width = top - bottom, right - left
    if min(height, width) < LEAST_SIDE_PX or height * width > MAX_PIXELS:
        raise ResDepthError(
            f"grid: {max(height, 0)} x {max(width, 0)} pixels of {side:.4g} m lie in {_text(bounds)}, the "
            f"area that all have in common; choose another pixel size ({option('gsd_m')}), or look at the "
            "extents of the files"
        )
    return Grid(height, width, (side, 0.0, left * side, 0.0, -side, top * side), *crs)


def within(choice: GridChoice, shown_by: Mapping[str, Bounds]) -> GridChoice:
    """The grid cut to what images show: a rectangle around what at least two of them do, or the only one.

    Args:
        choice: the grid.
        shown_by: what each image shows, by its name, rectangles of its map.

    Raises:
        ResDepthError: if no two of them show any of its area.
    """
    areas = list(shown_by.values())
    outside = [name for name, area in shown_by.items() if overlap(area, choice.grid.bounds) is None]
    pairs = [overlap(first, second) for i, first in enumerate(areas) for second in areas[i + 1 :]]
    shown = [one for one in (pairs or [areas[0]]) if one is not None]
    inside = [part for one in shown if (part := overlap(one, choice.grid.bounds)) is not None]
    if not inside:
        if outside:
            raise ResDepthError(
                f"images: by RPC, the initial DSM is not seen in {', '.join(outside)}; is each RPC that of "
                "its image, and the CRS of the DSM right?"
            )
        raise ResDepthError(
            "images: no two of them show the same part of the initial DSM; give images that overlap"
        )
    xmin, ymin = (min(one[i] for one in inside) for i in (0, 1))
    xmax, ymax = (max(one[i] for one in inside) for i in (2, 3))
    grid = lattice_grid(
        (xmin, ymin, xmax, ymax), choice.grid.transform[0], (choice.grid.crs, choice.grid.crs_name)
    )
    if grid.whole.shape == choice.grid.whole.shape:
        return choice
    cut = f"cut to what images show: {grid.height} x {grid.width} pixels"
    return GridChoice(grid, (*choice.changes, cut))


def utm_of(x: float, y: float, crs: str) -> tuple[str, str]:
    """WKT and name of the UTM zone of a place on a map."""
    lon, lat = (float(one) for one in to_geographic(crs, np.array(x), np.array(y)))
    zone = int((lon + 180) // 6) % 60 + 1
    return find_crs(f"EPSG:{(32600 if lat >= 0 else 32700) + zone}")


def _own_crs(surface: MapBand, reference: MapBand | None) -> tuple[str, str]:
    for band in (surface, reference):
        if band is not None:
            grid = band.grid.flat
            if _is_metric(grid.crs, grid.bounds):
                return grid.crs, grid.crs_name
    grid = surface.grid
    return utm_of(*grid.map_position(grid.height / 2, grid.width / 2), grid.crs)


def _is_metric(crs: str, bounds: Bounds) -> bool:
    """Whether a map is in metres, and true to scale at a place."""
    x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    there = Grid(1, 1, (1.0, 0.0, x, 0.0, -1.0, y), crs)
    return not there.is_in_degrees and not there.stretched and abs(there.gsd_m - 1) < SAME_SIZE


def _side(grid: Grid, *, stays: bool, asked: float | None) -> float:
    if asked is not None:
        return asked
    if stays:
        return grid.gsd
    return max(round(grid.gsd_m / STEP_M), 1) * STEP_M


def _text(bounds: Bounds) -> str:
    return " ".join(f"{edge:.10g}" for edge in bounds)
