"""A surface on one date: its cars, its shadows, and how bright each pixel of it looks from above."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.simulate.imaging import cars, materials
from resdepth.simulate.imaging.rays import inverted, profiles_around, shadow_heights, shifted, warped
from resdepth.simulate.surface import Codes, Objects, ReferenceSurface, Surface

Array = NDArray[np.float32]

# The sky is seen through this many slits, each at this elevation.
SKY_SLITS, SKY_ELEVATION_DEG, SKY_PIXEL_M = 8, 40.0, 1.0
# Blocks see no farther, or memory would grow with the relief.
LONGEST_SHADOW_M = 250.0
# The sun is a disk: an edge of a shadow is about this high.
PENUMBRA_M = 0.3


@dataclass(frozen=True)
class Sun:
    """Where the sun stands.

    Attributes:
        azimuth_deg: clockwise from north.
        elevation_deg: above the horizon.
    """

    azimuth_deg: float
    elevation_deg: float

    @property
    def vector(self) -> tuple[float, float, float]:
        """Unit vector (x, y, z) towards it."""
        azimuth, elevation = np.radians([self.azimuth_deg, self.elevation_deg])
        return (
            float(np.sin(azimuth) * np.cos(elevation)),
            float(np.cos(azimuth) * np.cos(elevation)),
            float(np.sin(elevation)),
        )

    @property
    def metres_per_metre(self) -> float:
        """Length of the shadow of a metre."""
        return float(1 / np.tan(np.radians(self.elevation_deg)))


@dataclass(frozen=True)
class Day:
    """What a date brings.

    Attributes:
        number: of the date in the scene; random things follow from it.
        sun: where it stands.
        winter: 0 in summer, 1 in winter: the darkness of vegetation.
        sky: light from the sky as a share of that of the sun.
        cars: share of the parking places taken.
    """

    number: int
    sun: Sun
    winter: float = 0.0
    sky: float = 0.22
    cars: float = 0.35


@dataclass(frozen=True)
class Look:
    """What a scene looks like, on any day.

    Attributes:
        seed: of its colours and textures.
        texture: real reflectances on the scene's grid instead of made ones; NaN = none there.
    """

    seed: int
    texture: Callable[[Window], Array] | None = None

    def shadow_reach_m(self, sun: Sun, relief_m: float) -> float:
        """How far shadows fall, and how far the sky is looked at; mountains beyond that throw none."""
        return min(relief_m * max(sun.metres_per_metre, 1.2), LONGEST_SHADOW_M)


@dataclass(frozen=True)
class Lit:
    """A window of the surface under the light of a day; all (H, W).

    Attributes:
        window: where in the scene; may reach beyond its edges, where the scene is mirrored.
        height: float32, metres, with cars.
        radiance: float32, of what is seen from above, without gloss.
        shadow: float32, metres: below this height a point is in the shadow.
        sky: float32, share of the sky that is seen from the ground.
        gloss: float32, share of mirrored sunlight where the sun reaches.
        objects: int32.
        classes: uint8.
    """

    window: Window
    height: Array
    radiance: Array
    shadow: Array
    sky: Array
    gloss: Array
    objects: Objects
    classes: Codes


def mirrored(truth: ReferenceSurface, window: Window) -> Surface:
    """The surface of any window; beyond the scene's edge the scene is mirrored."""
    rows = _mirror(np.arange(window.row, window.row_stop), truth.grid.height)
    cols = _mirror(np.arange(window.col, window.col_stop), truth.grid.width)
    row, col = int(rows.min()), int(cols.min())
    inside = Window(row, col, int(rows.max()) - row + 1, int(cols.max()) - col + 1)
    found = truth.surface(inside)
    if inside == window:
        return found
    at = np.ix_(rows - row, cols - col)
    return Surface(found.height[at], found.known[at], found.classes[at], found.objects[at])


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    folded = np.mod(index, 2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def lit_surface(truth: ReferenceSurface, window: Window, day: Day, look: Look, *, relief_m: float) -> Lit:
    """The surface of a window in the light of a day.

    Args:
        truth: the true surface.
        window: wanted; may reach beyond the scene.
        day: date, sun, cars.
        look: colours and textures.
        relief_m: highest minus lowest around: what throws the longest shadow.
    """
    gsd = truth.grid.gsd
    halo = int(np.ceil(look.shadow_reach_m(day.sun, relief_m) / gsd)) + cars.halo_px(gsd)
    outer = Window(window.row - halo, window.col - halo, window.height + 2 * halo, window.width + 2 * halo)
    inner = window.relative_to(outer)
    surface = mirrored(truth, outer)
    rise, paint = cars.draw_cars(
        surface.classes, outer, gsd, seed=look.seed, date=day.number, density=day.cars
    )
    height, grid = surface.height + rise, truth.grid.crop(outer)
    shadow, sky = _shadow(height, grid, day.sun, inner), _sky_seen(height, grid, inner)
    surface, height, rise, paint = (
        surface.crop(inner), height[inner.slices], rise[inner.slices], paint[inner.slices]
    )  # fmt: skip
    bright = materials.albedo(surface, window, gsd, seed=look.seed, date=day.number, winter=day.winter)
    if look.texture is not None:
        real = look.texture(window)
        bright = np.where(np.isnan(real), bright, real)
    bright = np.where(rise > 0, paint, bright)
    sunlit = np.clip((height - shadow) / PENUMBRA_M + 0.75, 0, 1)
    radiance = bright * (facing(height, gsd, day.sun) * sunlit + np.float32(day.sky) * sky)
    gloss = materials.gloss(surface.classes) * sunlit
    return Lit(
        window, height, radiance.astype(np.float32), shadow, sky, gloss, surface.objects, surface.classes
    )


def in_shadow(truth: ReferenceSurface, window: Window, day: Day, *, relief_m: float) -> NDArray[np.bool_]:
    """Where the surface of a window lies in the shadow on a day, cars aside; (H, W) bool."""
    reach = min(relief_m * day.sun.metres_per_metre, LONGEST_SHADOW_M)
    halo = int(np.ceil(reach / truth.grid.gsd)) + 2
    outer = Window(window.row - halo, window.col - halo, window.height + 2 * halo, window.width + 2 * halo)
    inner = window.relative_to(outer)
    height = mirrored(truth, outer).height
    shadow = _shadow(height, truth.grid.crop(outer), day.sun, inner)
    turned_away = facing(height, truth.grid.gsd, day.sun)[inner.slices] <= 0
    return np.asarray((height[inner.slices] < shadow) | turned_away)


def normal(height: Array, gsd_m: float) -> tuple[Array, Array, Array]:
    """Unit normal (x, y, z) of a north-up surface.

    The gentler of the two slopes to the neighbours counts: the foot and the edge of a wall belong to the
    ground and the roof, not to a ramp between them.
    """

    def slope(axis: int) -> Array:
        step = np.diff(height, axis=axis) / np.float32(gsd_m)
        ahead = np.concatenate([step, np.take(step, [-1], axis)], axis)
        behind = np.concatenate([np.take(step, [0], axis), step], axis)
        return np.asarray(np.where(np.abs(ahead) < np.abs(behind), ahead, behind), dtype=np.float32)

    d_row, d_col = slope(0), slope(1)
    length = np.sqrt(1 + d_row**2 + d_col**2)
    return -d_col / length, d_row / length, 1 / length


def facing(height: Array, gsd_m: float, sun: Sun) -> Array:
    """Lambert's cosine between the surface's normal and the sun, 0 where it looks away; (H, W) float32."""
    x, y, z = normal(height, gsd_m)
    towards = sun.vector
    cosine = x * np.float32(towards[0]) + y * np.float32(towards[1]) + z * np.float32(towards[2])
    return np.asarray(np.clip(cosine, 0, None), dtype=np.float32)


def _shadow(height: Array, grid: Grid, sun: Sun, inner: Window) -> Array:
    """Heights below which the points of a window are in the shadow.

    Args:
        height: (H, W) float32, of a window and around it.
        grid: of all that.
        sun: or another light.
        inner: the window, counted from the corner of `height`.
    """
    slope = sun.metres_per_metre / grid.gsd
    base = np.float32(height.min())
    azimuth = np.radians(sun.azimuth_deg)
    away = (-float(np.sin(azimuth)), -float(np.cos(azimuth)))
    ends = ([inner.row, inner.row_stop], [inner.col, inner.col_stop])
    x, y = np.array([grid.map_position(row, col) for row in ends[0] for col in ends[1]]).T
    frame = profiles_around(x, y, away, grid.gsd)
    before = min(float(height.max() - base) * slope, LONGEST_SHADOW_M / grid.gsd)
    frame = frame.with_rows_before(int(np.ceil(before)) + 2).with_rows_after(1)
    to_raster = frame.pixels_of(grid)
    shadows = shadow_heights(warped(height - base, to_raster, (frame.n_rows, frame.n_cols)), slope)
    # Behind the first row nothing is known to throw a shadow.
    shadows[0] = -1e3
    return warped(shadows, shifted(inverted(to_raster), inner.row, inner.col), inner.shape) + base


def _sky_seen(height: Array, grid: Grid, inner: Window) -> Array:
    """Share of the sky that each pixel of a window sees, (H, W) float32, 0 to 1.

    It changes slowly, and is computed in pixels of about a metre.
    """
    factor = max(1, round(SKY_PIXEL_M / grid.gsd))
    rows, cols = height.shape[0] // factor, height.shape[1] // factor
    cut = np.ascontiguousarray(height[: rows * factor, : cols * factor])
    coarse = np.asarray(cv2.resize(cut, (cols, rows), interpolation=cv2.INTER_AREA), dtype=np.float32)
    a, b, c, d, e, f = grid.transform
    coarse_grid = Grid(rows, cols, (a * factor, b, c, d, e * factor, f), grid.crs)
    row, col = inner.row // factor, inner.col // factor
    # Enough to interpolate at its edges.
    stop_row, stop_col = (
        min(-(-inner.row_stop // factor) + 1, rows),
        min(-(-inner.col_stop // factor) + 1, cols),
    )
    part = Window(row, col, stop_row - row, stop_col - col)
    seen = np.zeros(part.shape, dtype=np.float32)
    for number in range(SKY_SLITS):
        slit = Sun(360.0 * (number + 0.5) / SKY_SLITS, SKY_ELEVATION_DEG)
        above = coarse[part.slices] - _shadow(coarse, coarse_grid, slit, part)
        # Soft: a slit stands for all elevations around it.
        seen += np.clip(above / 8.0 + 0.85, 0.0, 1.0)
    scale, half = 1 / factor, 0.5 / factor - 0.5
    to_coarse = np.array([[scale, 0, half], [0, scale, half]])
    fine = shifted(to_coarse, inner.row - row * factor, inner.col - col * factor)
    return warped(seen / np.float32(SKY_SLITS), fine, inner.shape)
