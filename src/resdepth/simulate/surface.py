"""A reference surface: heights, what they are made of, which object each pixel belongs to, how bright it is.

Its relief is how high and low a scene is, place by place: what rays, shadows and matching must reckon with.
Brightness is that in panchromatic light: by class and by object, with texture. Textures are random, and
belong to a place: a pixel has the same whichever window is asked for. Cars stand on a road at one date, and
are gone at the next.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window, blocks

Heights = NDArray[np.float32]
Codes = NDArray[np.uint8]
Objects = NDArray[np.int32]
Mask = NDArray[np.bool_]
CELL_PX = 128
# Cars and what the pixel grid cuts off stand higher than the surface itself.
HEADROOM_M = 4.0


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
        known: (H, W) bool, True where the height is measured or built, and not filled.
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
    """The surface that a scene shows, wherever it comes from; read a window at a time."""

    grid: Grid

    def surface(self, window: Window) -> Surface:
        """The surface in a window of the grid.

        Law: the surface of a window is the crop of the surface of any window around it.
        """


@dataclass(frozen=True)
class HeldSurface:
    """A reference surface held in memory."""

    grid: Grid
    whole: Surface

    def surface(self, window: Window) -> Surface:
        """The surface in a window of the grid."""
        return self.whole.crop(window)


def is_any(classes: Codes, wanted: Iterable[SurfaceClass]) -> Mask:
    """(H, W) bool: where the class is one of those wanted."""
    return np.isin(classes, [int(one) for one in wanted])


def mirrored(reference: ReferenceSurface, window: Window) -> Surface:
    """The surface of any window; beyond the scene's edge the scene is mirrored."""
    rows = _mirror(np.arange(window.row, window.row_stop), reference.grid.height)
    cols = _mirror(np.arange(window.col, window.col_stop), reference.grid.width)
    row, col = int(rows.min()), int(cols.min())
    inside = Window(row, col, int(rows.max()) - row + 1, int(cols.max()) - col + 1)
    found = reference.surface(inside)
    if inside == window:
        return found
    at = np.ix_(rows - row, cols - col)
    return Surface(found.height[at], found.known[at], found.classes[at], found.objects[at])


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    folded = np.mod(index, 2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


@dataclass(frozen=True)
class Relief:
    """Lowest and highest height of each cell of 128 x 128 pixels.

    Attributes:
        low, high: (n, m) float32, metres.
    """

    low: Heights
    high: Heights

    @property
    def whole(self) -> tuple[float, float]:
        """Lowest and highest of the scene."""
        return float(self.low.min()), float(self.high.max()) + HEADROOM_M

    def within(self, window: Window) -> tuple[float, float]:
        """Lowest and highest in a window; beyond the scene's edge the scene is mirrored."""
        rows = _cells(window.row, window.row_stop, len(self.low))
        cols = _cells(window.col, window.col_stop, self.low.shape[1])
        return float(self.low[rows, cols].min()), float(self.high[rows, cols].max()) + HEADROOM_M


def _cells(start: int, stop: int, count: int) -> slice:
    # What lies beyond the edge mirrors as much before it.
    last = count * CELL_PX
    first = min(max(start, 0), last - 1) if start >= 0 else 0
    end = stop if start >= 0 else max(stop, -start)
    if end > last:
        first = min(first, 2 * last - end)
    return slice(max(first, 0) // CELL_PX, min(-(-min(end, last) // CELL_PX), count))


def relief_of(reference: ReferenceSurface) -> Relief:
    """Read a surface once, block by block."""
    n_rows, n_cols = -(-reference.grid.height // CELL_PX), -(-reference.grid.width // CELL_PX)
    low, high = (np.full((n_rows, n_cols), value, dtype=np.float32) for value in (np.inf, -np.inf))
    for window in blocks(reference.grid.whole, 8 * CELL_PX):
        _note(reference.surface(window).height, window, low, high)
    return Relief(low, high)


def _note(height: Heights, window: Window, low: Heights, high: Heights) -> None:
    for row in range(0, window.height, CELL_PX):
        for col in range(0, window.width, CELL_PX):
            cell = height[row : row + CELL_PX, col : col + CELL_PX]
            at = ((window.row + row) // CELL_PX, (window.col + col) // CELL_PX)
            low[at], high[at] = cell.min(), cell.max()


def window_on(grid: Grid, x: NDArray[np.float64], y: NDArray[np.float64], margin_m: float) -> Window:
    """The pixels of a north-up grid, or beyond it, around map positions and a margin."""
    a, _, c, _, e, f = grid.transform
    cols = (np.array([x.min() - margin_m, x.max() + margin_m]) - c) / a
    rows = (np.array([y.max() + margin_m, y.min() - margin_m]) - f) / e
    row, col = int(np.floor(rows[0])), int(np.floor(cols[0]))
    return Window(row, col, int(np.ceil(rows[1])) - row, int(np.ceil(cols[1])) - col)


def normal(height: Heights, gsd_m: float) -> tuple[Heights, Heights, Heights]:
    """Unit normal (x, y, z) of a north-up surface.

    The gentler of the two slopes to the neighbours counts: the foot and the edge of a wall belong to the
    ground and the roof, not to a ramp between them.
    """

    def slope(axis: int) -> Heights:
        step = np.diff(height, axis=axis) / np.float32(gsd_m)
        ahead = np.concatenate([step, np.take(step, [-1], axis)], axis)
        behind = np.concatenate([np.take(step, [0], axis), step], axis)
        return np.asarray(np.where(np.abs(ahead) < np.abs(behind), ahead, behind), dtype=np.float32)

    d_row, d_col = slope(0), slope(1)
    length = np.sqrt(1 + d_row**2 + d_col**2)
    return -d_col / length, d_row / length, 1 / length


Array = NDArray[np.float32]

_MASK = (1 << 32) - 1
CAR_LENGTH_M, CAR_WIDTH_M, CAR_HEIGHT_M = 4.5, 1.8, 1.45
CAR_CELL_M = 7.0
# From how far around a car its road shows which way it runs.
ROAD_SIGHT_M = 6.0


@dataclass(frozen=True)
class Look:
    """What a scene looks like, on any day.

    Attributes:
        seed: of its colours and textures.
        texture: real reflectances on the scene's grid instead of made ones; NaN = none there.
    """

    seed: int
    texture: Callable[[Window], Array] | None = None


@dataclass(frozen=True)
class Material:
    """How a class of surface looks.

    Attributes:
        albedo: mean reflectance.
        variety: spread of the objects of the class about it, relative.
        grain: texture from pixel to pixel, relative.
        patches: texture over metres, relative.
        patch_m: size of these patches, one of PATCHES_M.
        gloss: share of mirrored sunlight.
        seasonal: factor of the albedo in winter.
        change: texture that another date does not share, relative.
    """

    albedo: float
    variety: float
    grain: float
    patches: float
    patch_m: float
    gloss: float = 0.0
    seasonal: float = 1.0
    change: float = 0.02


# Few sizes serve all materials: noise of each is made once.
PATCHES_M = (1.0, 4.0, 16.0)
# Their larger companions: clouds of patches.
COARSER = 4

MATERIALS: dict[SurfaceClass, Material] = {
    SurfaceClass.GROUND: Material(0.20, 0.0, 0.05, 0.26, 16.0, seasonal=0.9, change=0.05),
    SurfaceClass.GRASS: Material(0.17, 0.0, 0.05, 0.16, 4.0, seasonal=0.75, change=0.06),
    SurfaceClass.SOIL: Material(0.24, 0.0, 0.05, 0.18, 4.0, seasonal=0.85, change=0.05),
    SurfaceClass.ASPHALT: Material(0.12, 0.0, 0.025, 0.09, 16.0, gloss=0.02),
    SurfaceClass.PAVING: Material(0.26, 0.0, 0.04, 0.11, 4.0, gloss=0.02),
    SurfaceClass.WATER: Material(0.05, 0.0, 0.01, 0.05, 16.0, gloss=0.25, change=0.10),
    SurfaceClass.ROOF_TILES: Material(0.22, 0.30, 0.035, 0.08, 1.0, gloss=0.02),
    SurfaceClass.ROOF_FLAT: Material(0.28, 0.45, 0.025, 0.08, 4.0, gloss=0.02),
    SurfaceClass.ROOF_METAL: Material(0.38, 0.35, 0.015, 0.04, 4.0, gloss=0.12),
    SurfaceClass.TREE: Material(0.13, 0.20, 0.11, 0.22, 1.0, seasonal=0.8, change=0.10),
    SurfaceClass.FOREST: Material(0.11, 0.15, 0.11, 0.22, 1.0, seasonal=0.8, change=0.10),
}
WALL_ALBEDO, WALL_VARIETY = 0.30, 0.45
STOREY_M, BAY_M = 3.0, 2.4


def hashed(*keys: NDArray[np.integer] | int) -> NDArray[np.uint32]:
    """32 well-mixed bits of integer keys (arrays that broadcast): any bit of a key changes half of them."""
    state: NDArray[np.uint32] = np.asarray(0x9E3779B9, dtype=np.uint32)
    with np.errstate(over="ignore"):
        for word in _words(keys):
            state = (state ^ word) * np.uint32(0x85EBCA6B)
            state = (state ^ (state >> np.uint32(15))) * np.uint32(0xC2B2AE35)
            state = state ^ (state >> np.uint32(13))
    return np.asarray(state, dtype=np.uint32)


def _words(keys: tuple[NDArray[np.integer] | int, ...]) -> Iterator[NDArray[np.uint32]]:
    """Keys in words of 32 bits: numbers of any size in as many as they need, arrays in their lowest."""
    for key in keys:
        if isinstance(key, int):
            rest = key & _MASK, key >> 32
            yield np.asarray(rest[0], dtype=np.uint32)
            while rest[1] not in (0, -1):
                rest = rest[1] & _MASK, rest[1] >> 32
                yield np.asarray(rest[0], dtype=np.uint32)
        else:
            yield (key & _MASK).astype(np.uint32)


def uniform(*keys: NDArray[np.integer] | int) -> Array:
    """float32 in [0, 1) from integer keys."""
    return (hashed(*keys) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def pixel_noise(window: Window, seed: int) -> Array:
    """Independent values in [-1, 1), one per pixel of the scene."""
    rows = np.arange(window.row, window.row_stop)[:, None]
    cols = np.arange(window.col, window.col_stop)[None, :]
    return uniform(seed, rows, cols) * 2 - 1


def smooth_noise(window: Window, spacing_px: float, seed: int) -> Array:
    """Values in [-1, 1), smoothly interpolated between lattice points `spacing_px` apart."""
    if spacing_px <= 1:
        return pixel_noise(window, seed)
    first_row, row, row_share = _lattice(window.row, window.height, spacing_px)
    first_col, col, col_share = _lattice(window.col, window.width, spacing_px)
    rows = np.arange(first_row, first_row + int(row[-1]) + 2)[:, None]
    cols = np.arange(first_col, first_col + int(col[-1]) + 2)[None, :]
    lattice = uniform(seed, rows, cols) * 2 - 1
    across = lattice[row] + row_share[:, None] * (lattice[row + 1] - lattice[row])
    left, right = across[:, col], across[:, col + 1]
    blended: Array = left + col_share[None, :] * (right - left)
    return blended


def _lattice(start: int, length: int, spacing: float) -> tuple[int, NDArray[np.int64], Array]:
    """The first lattice number, and for each pixel its cell (counted from there) and its share in it."""
    position = np.arange(start, start + length) / spacing
    cell = np.floor(position).astype(np.int64)
    share = (position - cell).astype(np.float32)
    return int(cell[0]), cell - cell[0], share * share * (3 - 2 * share)


def albedo(surface: Surface, window: Window, gsd_m: float, *, seed: int, date: int, winter: float) -> Array:
    """Reflectance of each pixel, seen from above.

    Args:
        surface: of the window.
        window: where in the scene; texture belongs to the place.
        gsd_m: size of a pixel.
        seed: of the scene: texture and colours that stay.
        date: number of the date: what differs from one date to another.
        winter: 0 (summer) to 1.

    Returns:
        (H, W) float32.
    """
    mean, variety, grain, patches, change = (
        _by_class(surface.classes, name) for name in ("albedo", "variety", "grain", "patches", "change")
    )
    season = 1 + winter * (_by_class(surface.classes, "seasonal") - 1)
    texture = grain * pixel_noise(window, seed) * 1.7
    texture += patches * _patches(surface.classes, window, gsd_m, seed)
    texture += change * (pixel_noise(window, seed + 7919 * (date + 1)) * 1.7)
    texture += change * smooth_noise(window, 4.0 / gsd_m, seed + 104729 * (date + 1)) * 2
    colour = np.exp(variety * _of_object(surface.objects, seed))
    result: Array = (mean * season * colour * np.clip(1 + texture, 0.2, 2.5)).astype(np.float32)
    return result


def gloss(classes: Codes) -> Array:
    """Share of sunlight that a pixel mirrors, (H, W) float32."""
    return _by_class(classes, "gloss")


def wall_albedo(objects: Objects, height: Array, along_m: Array, seed: int) -> Array:
    """Reflectance of walls, with rows of darker windows.

    Args:
        objects: (N, M) the building behind each point.
        height: (N, M) metres.
        along_m: (N, M) metres along the wall.
        seed: of the scene.
    """
    colour = WALL_ALBEDO * np.exp(WALL_VARIETY * _of_object(objects, seed + 1))
    storey, bay = np.mod(height, STOREY_M) / STOREY_M, np.mod(along_m, BAY_M) / BAY_M
    pane = (storey > 0.35) & (storey < 0.8) & (bay > 0.25) & (bay < 0.75)
    result: Array = (colour * np.where(pane, 0.35, 1.0)).astype(np.float32)
    return result


def _patches(classes: Codes, window: Window, gsd_m: float, seed: int) -> Array:
    """Texture over metres: two scales, for each class those of its material."""
    used = {MATERIALS[SurfaceClass(kind)].patch_m for kind in np.unique(classes)}
    sizes = sorted(used | {size * COARSER for size in used})
    noise = {
        size: smooth_noise(window, max(size / gsd_m, 1.0), seed + 31 * number + 1)
        for number, size in enumerate(sorted({*PATCHES_M, *(size * COARSER for size in PATCHES_M)}))
        if size in sizes
    }
    patch_m = _by_class(classes, "patch_m")
    found = np.zeros(window.shape, dtype=np.float32)
    for size in used:
        np.copyto(found, noise[size] + noise[size * COARSER], where=patch_m == np.float32(size))
    return found


def _by_class(classes: Codes, attribute: str) -> Array:
    table = np.array([getattr(MATERIALS[one], attribute) for one in SurfaceClass], dtype=np.float32)
    return np.asarray(table[classes], dtype=np.float32)


def _of_object(objects: Objects, seed: int) -> Array:
    """A standard deviate for each object, 0 where there is none."""
    # The sum of three uniforms is normal enough for colours, and bounded.
    keys = objects.astype(np.int64)
    total = uniform(seed, keys, 1) + uniform(seed, keys, 2) + uniform(seed, keys, 3)
    return np.where(objects > 0, (total - 1.5) * 2, 0).astype(np.float32)


def car_halo_px(gsd_m: float) -> int:
    """How much more than a window must be seen to draw the cars in it."""
    return int(np.ceil((CAR_CELL_M + CAR_LENGTH_M + 2 * ROAD_SIGHT_M) / gsd_m)) + 2


def draw_cars(
    classes: Codes, window: Window, gsd_m: float, *, seed: int, date: int, density: float
) -> tuple[Array, Array]:
    """Cars on the asphalt of a window at a date.

    Args:
        classes: (H, W) uint8, SurfaceClass.
        window: where in the scene.
        gsd_m: size of a pixel.
        seed: of the scene.
        date: number of the date.
        density: share of the places (one in 7 x 7 m of asphalt) that are taken, 0 to 1.

    Returns:
        Their height above the road (0 where there is none) and their reflectance, (H, W) float32 each.
    """
    rise = np.zeros(window.shape, dtype=np.float32)
    paint = np.zeros(window.shape, dtype=np.float32)
    asphalt = classes == SurfaceClass.ASPHALT
    if density <= 0 or not asphalt.any():
        return rise, paint
    heading = _road_heading(asphalt, gsd_m)
    for row, col, look in _car_places(window, gsd_m, seed, date, density):
        if 0 <= row < window.height and 0 <= col < window.width and asphalt[int(row), int(col)]:
            _draw_car(rise, paint, (row, col), float(heading[int(row), int(col)]), gsd_m, look)
    clear = ~asphalt
    rise[clear], paint[clear] = 0, 0
    return rise, paint


def _car_places(
    window: Window, gsd_m: float, seed: int, date: int, density: float
) -> list[tuple[float, float, float]]:
    """(row, col) in the window where a car may stand, and a number for its looks."""
    cell_px = CAR_CELL_M / gsd_m
    rows = np.arange(np.floor(window.row / cell_px) - 1, np.ceil(window.row_stop / cell_px) + 1).astype(int)
    cols = np.arange(np.floor(window.col / cell_px) - 1, np.ceil(window.col_stop / cell_px) + 1).astype(int)
    key, i, j = seed + 15485863 * (date + 1), rows[:, None], cols[None, :]
    taken = uniform(key, i, j, 0) < density
    at_row = (i + uniform(key, i, j, 1).astype(np.float64)) * cell_px - window.row
    at_col = (j + uniform(key, i, j, 2).astype(np.float64)) * cell_px - window.col
    look = uniform(key, i, j, 3)
    return list(zip(at_row[taken].tolist(), at_col[taken].tolist(), look[taken].tolist(), strict=True))


def _road_heading(asphalt: NDArray[np.bool_], gsd_m: float) -> Array:
    """The direction of the road at each pixel, radians, from the structure tensor of its outline."""
    # Pixels of a metre are fine enough to see which way a road runs.
    factor = max(1, round(1.0 / gsd_m))
    size = (max(asphalt.shape[1] // factor, 1), max(asphalt.shape[0] // factor, 1))
    coarse = cv2.resize(asphalt.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    sigma = ROAD_SIGHT_M / 3 / (gsd_m * factor)
    soft = cv2.GaussianBlur(coarse, (0, 0), max(sigma / 2, 0.6))
    d_row, d_col = cv2.Sobel(soft, cv2.CV_32F, 0, 1), cv2.Sobel(soft, cv2.CV_32F, 1, 0)
    side = 2 * int(1.5 * sigma) + 1
    rr, cc, rc = (cv2.blur(p, (side, side)) for p in (d_row * d_row, d_col * d_col, d_row * d_col))
    # The outline's normal is the stronger axis; the road runs across it.
    normal = 0.5 * np.arctan2(2 * rc, rr - cc)  # angle from the row axis towards the columns
    fine = cv2.resize(normal + np.float32(np.pi / 2), asphalt.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(fine, dtype=np.float32)


def _draw_car(
    rise: Array, paint: Array, at: tuple[float, float], heading: float, gsd_m: float, look: float
) -> None:
    """Put one car: a rectangle with a cabin; `look` in [0, 1) chooses paint and size."""
    length, width = (CAR_LENGTH_M * (0.9 + 0.4 * (look * 7 % 1)) / gsd_m), CAR_WIDTH_M / gsd_m
    reach = int(np.ceil(length / 2)) + 1
    row0, row1 = max(int(at[0]) - reach, 0), min(int(at[0]) + reach + 1, rise.shape[0])
    col0, col1 = max(int(at[1]) - reach, 0), min(int(at[1]) + reach + 1, rise.shape[1])
    rows, cols = np.arange(row0, row1)[:, None] - at[0], np.arange(col0, col1)[None, :] - at[1]
    along = rows * np.cos(heading) + cols * np.sin(heading)
    aside = -rows * np.sin(heading) + cols * np.cos(heading)
    body = (np.abs(along) <= length / 2) & (np.abs(aside) <= width / 2)
    cabin = body & (np.abs(along + 0.05 * length) <= length * 0.3)
    part = (slice(row0, row1), slice(col0, col1))
    rise[part][body] = CAR_HEIGHT_M * 0.6
    rise[part][cabin] = CAR_HEIGHT_M
    paint[part][body] = 0.06 + 0.6 * (look * 13 % 1) ** 2
    paint[part][cabin & ~(np.abs(along + 0.05 * length) <= length * 0.2)] = 0.05  # the screens
