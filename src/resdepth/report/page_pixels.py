"""The pixels that a page holds, and how they are packed into it.

An overview of all, and some places in full resolution: where errors are large, typical, or gone. Packed, they
are differences of neighbours, deflated, in base64; assets/pixels.js unpacks them.
"""

import base64
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resdepth.evaluation.inputs import Read
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.report.pictures import BRIGHTENING, STRETCH_PERCENT

Array = NDArray[np.float32]
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
HEIGHT_STEP_M = 0.01
LARGEST_M = 40_000.0  # differences of heights up to it fit into three bytes
DEFLATE_LEVEL = 9
# Bytes of text per pixel that are reckoned with: real surfaces take two thirds of it, noise twice as many.
HEIGHT_BYTES, GREY_BYTES, MASK_BYTES = 1.8, 1.2, 0.2
# A place counts if so much of it is known.
KNOWN_SHARE = 0.5
MOST_CELLS = 64  # on a side; an overview tells no more


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
class PictureSides:
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


def sides_within(size: float, shape: tuple[int, int], layers: Sequence[Layer], tiles: int) -> PictureSides:
    """The largest overview and tiles that fit into a number of bytes; all pixels, if these do."""
    per_pixel = sum(
        {"height": HEIGHT_BYTES, "image": GREY_BYTES, "mask": MASK_BYTES}[layer.kind] for layer in layers
    )
    longer, shorter = max(shape), min(shape)
    if longer <= WHOLE_PX and per_pixel * longer * shorter <= size:
        return PictureSides(longer, TILE_PX)  # tiles are parts of it, and cost nothing
    whole = min(OVERVIEW_PX, longer) ** 2 * shorter / longer
    needed = per_pixel * (whole + (tiles or PLACES) * TILE_PX**2)
    factor = min(1.0, math.sqrt(max(size, 1.0) / max(needed, 1.0)))
    return PictureSides(
        max(int(OVERVIEW_PX * factor), LEAST_OVERVIEW_PX), max(int(TILE_PX * factor), LEAST_TILE_PX)
    )


def embed(
    grid: Grid,
    layers: Sequence[Layer],
    reference: int | None,
    tiles: Sequence[Window],
    sides: PictureSides,
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


@dataclass(frozen=True)
class Place:
    """A part of the scene.

    Attributes:
        name: for people, unique among the places of a page.
        why: what is to be seen there.
        window: of the full grid.
    """

    name: str
    why: str
    window: Window


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


@dataclass(frozen=True)
class _Cells:
    """The lattice of places, and what is known of each: means of absolute differences, metres."""

    main: NDArray[np.float64]
    first: NDArray[np.float64] | None
    changes: bool


def find_places(
    shape: tuple[int, int], side: int, first: Array | None, main: Array | None, *, changes: bool
) -> list[Place]:
    """Choose up to five different places.

    Args:
        shape: of the full grid.
        side: of a place, in pixels of the full grid; smaller than the grid.
        first: differences of the first surface from the reference, on an overview of any size; metres.
        main: those of the surface in question; None if there is nothing but the reference.
        changes: whether differences are changes, not errors.
    """
    rows, cols = (min(max(length // side, 1), MOST_CELLS) for length in shape)
    if main is not None:
        means = _cell_means(main, rows, cols)
        before = None if first is None else _cell_means(first, rows, cols)
        if np.isfinite(means).any():
            return _distinct(_Cells(means, before, changes), shape, side)
    middle = (rows // 2, cols // 2)
    return [Place("The middle", "", _window(middle, (rows, cols), shape, side))]


def _distinct(cells: _Cells, shape: tuple[int, int], side: int) -> list[Place]:
    taken = np.zeros(cells.main.shape, dtype=bool)
    places = []
    for name, score, stated in _requests(cells):
        free = np.where(taken | ~np.isfinite(score), -np.inf, score)
        cell = np.unravel_index(int(np.argmax(free)), free.shape)
        if free[cell] == -np.inf:
            continue
        taken[cell] = True
        why = stated.format(main=cells.main[cell], first=cells.first[cell] if cells.first is not None else 0)
        where = (int(cell[0]), int(cell[1]))
        places.append(Place(name, why, _window(where, cells.main.shape, shape, side)))
    return places


def _requests(cells: _Cells) -> Iterator[tuple[str, NDArray[np.float64], str]]:
    """What to look for: its name, a score that is highest where it is found (NaN: not there), what to say."""
    main = cells.main
    typical = -np.abs(main - np.nanmedian(main))
    if cells.changes:
        yield "Changed most", main, "mean change {main:.2f}\u00a0m"
        yield "Changed typically", typical, "mean change {main:.2f}\u00a0m"
        yield "Changed least", -main, "mean change {main:.2f}\u00a0m"
        return
    yield "Largest errors", main, "mean absolute error {main:.2f}\u00a0m"
    if cells.first is not None:
        gain = cells.first - main
        stated = "mean absolute error from {first:.2f}\u00a0m to {main:.2f}\u00a0m"
        yield "Most improved", np.where(gain > 0, gain, np.nan), stated
        yield "Got worse", np.where(gain < 0, -gain, np.nan), stated
    yield "Typical", typical, "mean absolute error {main:.2f}\u00a0m"
    yield "Smallest errors", -main, "mean absolute error {main:.2f}\u00a0m"


def _cell_means(differences: Array, rows: int, cols: int) -> NDArray[np.float64]:
    """Means of absolute differences over a lattice of cells; NaN where too little is known."""
    means = np.full((rows, cols), np.nan)
    row_edges, col_edges = (
        np.linspace(0, length, count + 1).astype(int)
        for length, count in zip(differences.shape, (rows, cols), strict=True)
    )
    sizes = np.abs(differences.astype(np.float64))
    for row in range(rows):
        for col in range(cols):
            part = sizes[row_edges[row] : row_edges[row + 1], col_edges[col] : col_edges[col + 1]]
            known = part[np.isfinite(part)]
            if known.size and known.size >= KNOWN_SHARE * part.size:
                means[row, col] = known.mean()
    return means


def _window(cell: tuple[int, int], cells: tuple[int, ...], shape: tuple[int, int], side: int) -> Window:
    """The place in the middle of a cell, moved inside the grid."""
    height, width = min(side, shape[0]), min(side, shape[1])
    row, col = (
        min(max(round((one + 0.5) * length / count - size / 2), 0), length - size)
        for one, count, length, size in zip(cell, cells, shape, (height, width), strict=True)
    )
    return Window(row, col, height, width)


def packed_heights(heights: Array) -> str:
    """Heights to the centimetre; equal heights stay equal.

    Successive pixels, row by row, differ little: their differences are written with the sign in the lowest
    bit, lowest bytes first, then the middle ones, then the highest. A bit for each void follows.

    Args:
        heights: (H, W) float32, metres, NaN = void; beyond 40 km they are cut off.
    """
    flat = heights.astype(np.float64).ravel()
    void = ~np.isfinite(flat)
    codes = np.rint(np.clip(np.where(void, 0, flat), -LARGEST_M, LARGEST_M) / HEIGHT_STEP_M).astype(np.int32)
    # A void repeats the pixel before it, which costs nothing.
    last = np.maximum.accumulate(np.where(void, 0, np.arange(flat.size)))
    steps = np.diff(codes[last], prepend=0)
    folded = ((steps << 1) ^ (steps >> 31)).astype("<u4")
    planes = folded.view(np.uint8).reshape(-1, 4)[:, :3].T
    return deflated(planes.tobytes() + np.packbits(void).tobytes())


def packed_bytes(values: NDArray[np.uint8]) -> str:
    """(H, W) uint8, as differences of successive pixels, modulo 256."""
    return deflated(np.diff(values.ravel(), prepend=np.uint8(0)).tobytes())


def stretched(image: Array, low: float, high: float, brightening: float) -> NDArray[np.uint8]:
    """Grey values from 1 (low) to 255 (high); 0 = void.

    Args:
        image: (H, W) float32, NaN = void.
        low: what becomes black.
        high: what becomes white.
        brightening: exponent of the share of the range; below 1 it brings out what is dark.
    """
    share = np.clip((np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-6), 0, 1)
    return np.where(np.isfinite(image), 1 + np.rint(254 * share**brightening), 0).astype(np.uint8)


def inside(mask: Array) -> NDArray[np.uint8]:
    """2 where a mask is set (1), 1 where it is not, 0 where it is void."""
    return np.where(np.isfinite(mask), 1 + (mask == 1), 0).astype(np.uint8)


def deflated(content: bytes) -> str:
    """Bytes as a page can hold them."""
    return base64.b64encode(zlib.compress(content, DEFLATE_LEVEL)).decode()
