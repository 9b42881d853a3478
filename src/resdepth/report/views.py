"""Which pixels of a scene a page holds: an overview of all, and some places in full resolution."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.report.packing import (
    GREY_BYTES,
    HEIGHT_BYTES,
    MASK_BYTES,
    inside,
    packed_bytes,
    packed_heights,
    stretched,
)
from resdepth.report.pictures import BRIGHTENING, STRETCH_PERCENT
from resdepth.report.places import Place, find_places

Array = NDArray[np.float32]
Read = Callable[[Grid], Array]
Kind = Literal["height", "image", "mask"]

# At most so many pixels on a side, and fewer where there are many surfaces.
OVERVIEW_PX, TILE_PX = 880, 320
WHOLE_PX = 1400  # unless nothing need be left out
LEAST_OVERVIEW_PX, LEAST_TILE_PX = 48, 24
# Grids with shorter sides have no places: all can be seen at once.
SMALL_PX = 96
PLACES = 5
LIMITS_M = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
LIMIT_PERCENT = 95


@dataclass(frozen=True)
class Layer:
    """Something that can be shown.

    Attributes:
        name: for people.
        kind: what its pixels are.
        read: gives them on any grid.
    """

    name: str
    kind: Kind
    read: Read


@dataclass(frozen=True)
class Sides:
    """How many pixels a page can hold on the side of its overview, and of each tile."""

    overview: int
    tile: int


@dataclass(frozen=True)
class Embedded:
    """What of a scene goes into a page.

    Attributes:
        views: what each area is, for JSON; the overview first. `blobs` has an identifier for each layer.
        blobs: packed pixels by identifier.
        limit_m: a sensible end of the colour scale of differences.
    """

    views: list[dict[str, Any]]
    blobs: dict[str, str]
    limit_m: float


def sides_within(size: float, shape: tuple[int, int], layers: Sequence[Layer], tiles: int) -> Sides:
    """The largest overview and tiles that fit into a number of bytes; all pixels, if these do."""
    per_pixel = sum(
        {"height": HEIGHT_BYTES, "image": GREY_BYTES, "mask": MASK_BYTES}[layer.kind] for layer in layers
    )
    longer, shorter = max(shape), min(shape)
    if longer <= WHOLE_PX and per_pixel * longer * shorter <= size:
        return Sides(longer, TILE_PX)  # tiles are parts of it, and cost nothing
    whole = min(OVERVIEW_PX, longer) ** 2 * shorter / longer
    needed = per_pixel * (whole + (tiles or PLACES) * TILE_PX**2)
    factor = min(1.0, math.sqrt(max(size, 1.0) / max(needed, 1.0)))
    return Sides(max(int(OVERVIEW_PX * factor), LEAST_OVERVIEW_PX), max(int(TILE_PX * factor), LEAST_TILE_PX))


def embed(
    grid: Grid,
    layers: Sequence[Layer],
    reference: int | None,
    tiles: Sequence[Window],
    sides: Sides,
    *,
    changes: bool,
) -> Embedded:
    """Read and pack the overview and the places.

    Args:
        grid: of the scene, in full resolution.
        layers: surfaces first.
        reference: index of the layer that surfaces are compared with.
        tiles: places to show; none lets the differences choose.
        sides: how large pictures may be.
        changes: whether differences are changes, not errors.
    """
    overview = grid.coarser(sides.overview)
    pixels = [layer.read(overview) for layer in layers]
    differences = _differences(layers, pixels, reference)
    ranges = [_grey_range(layer, found) for layer, found in zip(layers, pixels, strict=True)]
    blobs: dict[str, str] = {}

    def pack(number: int, index: int, found: Array) -> str:
        name = f"pixels-{number}-{index}"
        blobs[name] = _packed(layers[index].kind, found, ranges[index])
        return name

    whole = _view(Place("Whole area", "", grid.whole), grid, overview)
    whole["blobs"] = [pack(0, index, found) for index, found in enumerate(pixels)]
    views = [whole]
    del pixels
    for number, place in enumerate(_places(grid, tiles, differences, sides.tile, changes=changes), 1):
        part = grid.crop(place.window)
        if overview == grid:
            views.append(_view(place, part, part) | {"part_of_whole": True})
            continue
        shown = part.coarser(sides.tile)
        view = _view(place, part, shown)
        view["blobs"] = [pack(number, index, layer.read(shown)) for index, layer in enumerate(layers)]
        views.append(view)
    return Embedded(views, blobs, _limit(differences))


def _view(place: Place, full: Grid, shown: Grid) -> dict[str, Any]:
    """An area of the page, for JSON.

    Args:
        place: the area.
        full: its grid in full resolution.
        shown: the grid of the pixels that the page holds.
    """
    factor = max(full.height / shown.height, full.width / shown.width)
    about = f"{factor:.2g}" if factor < 10 else f"{factor:.0f}"
    detail = "full resolution" if factor == 1 else f"means of {about} x {about} pixels"
    window, sides = place.window, shown.sides_m
    return {
        "name": place.name,
        "why": place.why,
        "detail": detail,
        "window": [window.row, window.col, window.height, window.width],
        "height": shown.height,
        "width": shown.width,
        "pixel_m": [sides.width, sides.height],
        "transform": list(shown.transform),
    }


def _places(
    grid: Grid, tiles: Sequence[Window], differences: Mapping[int, Array], side: int, *, changes: bool
) -> list[Place]:
    if tiles:
        return [Place(f"Tile {number}", "", window) for number, window in enumerate(tiles, 1)]
    if max(grid.height, grid.width) < SMALL_PX:
        return []
    side = min(side, max(grid.height, grid.width) // 3)
    found = list(differences.values())
    # The initial DSM comes first, what was made of it second, and then what else there is to compare.
    first, main = (found[0] if len(found) > 1 else None), (found[:2][-1] if found else None)
    return find_places((grid.height, grid.width), side, first, main, changes=changes)


def _differences(layers: Sequence[Layer], pixels: Sequence[Array], reference: int | None) -> dict[int, Array]:
    """By index of the surface: its heights minus those of the reference."""
    if reference is None:
        return {}
    return {
        index: pixels[index] - pixels[reference]
        for index, layer in enumerate(layers)
        if layer.kind == "height" and index != reference
    }


def _limit(differences: Mapping[int, Array]) -> float:
    """The end of a colour scale that a few pixels exceed."""
    sizes = [np.abs(one[np.isfinite(one)]) for one in differences.values()]
    reached = [float(np.percentile(one, LIMIT_PERCENT)) for one in sizes if one.size]
    requested = max(reached, default=1.0)
    return next((limit for limit in LIMITS_M if limit >= requested), LIMITS_M[-1])


def _grey_range(layer: Layer, image: Array) -> tuple[float, float]:
    """What becomes black and white, in all views of an image."""
    known = image[np.isfinite(image)]
    if layer.kind != "image" or not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, STRETCH_PERCENT)
    return float(low), float(high)


def _packed(kind: Kind, pixels: Array, grey_range: tuple[float, float]) -> str:
    if kind == "height":
        return packed_heights(pixels)
    if kind == "mask":
        return packed_bytes(inside(pixels))
    return packed_bytes(stretched(pixels, *grey_range, BRIGHTENING))
