"""What a satellite sees: light and shadow on the surface, what each ray meets of it first, optics and noise.

Areas are computed with what throws shadows into them; rays.py has the frames in which rays are profiles.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.rpc import AffineView
from resdepth.geo.windows import Window
from resdepth.simulate.plan import MARGIN_M, Day, Shot, Sun
from resdepth.simulate.rays import (
    Hits,
    Profiles,
    first_hits,
    inverted,
    profiles_around,
    sample,
    sample_nearest,
    shadow_heights,
    shifted,
    warped,
)
from resdepth.simulate.surface import (
    BUILDING_CLASSES,
    Codes,
    Look,
    Objects,
    ReferenceSurface,
    SurfaceClass,
    albedo,
    car_halo_px,
    draw_cars,
    gloss,
    is_any,
    mirrored,
    normal,
    smooth_noise,
    wall_albedo,
)

Array = NDArray[np.float32]
# The sky is seen through this many slits, each at this elevation.
SKY_SLITS, SKY_ELEVATION_DEG, SKY_PIXEL_M = 8, 40.0, 1.0
# Blocks see no farther, or memory would grow with the relief.
LONGEST_SHADOW_M = 250.0
# The sun is a disk: an edge of a shadow is about this high.
PENUMBRA_M = 0.3
Values = NDArray[np.float64]
Places = NDArray[np.signedinteger]

# Each pixel gathers the light of so many rays along each axis.
OVERSAMPLING = 2
# A rise is a wall, and no steep roof, from so many metres and this slope on.
WALL_RISE_M, WALL_SLOPE = 1.2, 2.0
# How sharply a surface mirrors the sun, and how strongly.
GLOSS_POWER, GLOSS_STRENGTH = 40.0, 6.0
# Water mirrors the sky too, and its ripples are never twice the same.
RIPPLE_M, RIPPLE = 1.5, 0.25
# A wall sees less than half of the sky that lies over its foot's surroundings.
WALL_SKY = 0.6


def shadow_reach_m(sun: Sun, relief_m: float) -> float:
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


def lit_surface(reference: ReferenceSurface, window: Window, day: Day, look: Look, *, relief_m: float) -> Lit:
    """The surface of a window in the light of a day.

    Args:
        reference: the surface.
        window: wanted; may reach beyond the scene.
        day: date, sun, cars.
        look: colours and textures.
        relief_m: highest minus lowest around: what throws the longest shadow.
    """
    gsd = reference.grid.gsd
    halo = int(np.ceil(shadow_reach_m(day.sun, relief_m) / gsd)) + car_halo_px(gsd)
    outer = Window(window.row - halo, window.col - halo, window.height + 2 * halo, window.width + 2 * halo)
    inner = window.relative_to(outer)
    surface = mirrored(reference, outer)
    rise, paint = draw_cars(surface.classes, outer, gsd, seed=look.seed, date=day.number, density=day.cars)
    height, grid = surface.height + rise, reference.grid.crop(outer)
    shadow, sky = _shadow(height, grid, day.sun, inner), _sky_seen(height, grid, inner)
    surface, height, rise, paint = (
        surface.crop(inner), height[inner.slices], rise[inner.slices], paint[inner.slices]
    )  # fmt: skip
    bright = albedo(surface, window, gsd, seed=look.seed, date=day.number, winter=day.winter)
    if look.texture is not None:
        real = look.texture(window)
        bright = np.where(np.isnan(real), bright, real)
    bright = np.where(rise > 0, paint, bright)
    sunlit = np.clip((height - shadow) / PENUMBRA_M + 0.75, 0, 1)
    radiance = bright * (facing(height, gsd, day.sun) * sunlit + np.float32(day.sky) * sky)
    shine = gloss(surface.classes) * sunlit
    return Lit(
        window, height, radiance.astype(np.float32), shadow, sky, shine, surface.objects, surface.classes
    )


def in_shadow(reference: ReferenceSurface, window: Window, day: Day, *, relief_m: float) -> NDArray[np.bool_]:
    """Where the surface of a window lies in the shadow on a day, cars aside; (H, W) bool."""
    reach = min(relief_m * day.sun.metres_per_metre, LONGEST_SHADOW_M)
    halo = int(np.ceil(reach / reference.grid.gsd)) + 2
    outer = Window(window.row - halo, window.col - halo, window.height + 2 * halo, window.width + 2 * halo)
    inner = window.relative_to(outer)
    height = mirrored(reference, outer).height
    shadow = _shadow(height, reference.grid.crop(outer), day.sun, inner)
    turned_away = facing(height, reference.grid.gsd, day.sun)[inner.slices] <= 0
    return np.asarray((height[inner.slices] < shadow) | turned_away)


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


@dataclass(frozen=True)
class Sensor:
    """What turns light into numbers.

    Attributes:
        gsd_m: size of a pixel at the nadir.
        blur_px: spread (sigma) of the optics, beyond the pixel's own size.
        gain: numbers per unit of radiance (a white surface that faces the sun has 1).
        haze: numbers that the air adds.
        electrons: per number; they make the shot noise.
        read_noise: spread of the electronics' noise, in numbers.
        top: the highest number (11 bit).
    """

    gsd_m: float = 0.5
    blur_px: float = 0.45
    gain: float = 2600.0
    haze: float = 90.0
    electrons: float = 6.0
    read_noise: float = 3.0
    top: int = 2047


def expose(
    reference: ReferenceSurface,
    shot: Shot,
    sensor: Sensor,
    block: Window,
    *,
    heights: tuple[float, float],
    look: Look,
) -> NDArray[np.uint16]:
    """The pixels of a block of an image.

    Args:
        reference: the surface.
        shot: camera and date.
        sensor: optics and noise.
        block: of the image.
        heights: lowest and highest of what the block may show, metres.
        look: colours and textures of the scene.

    Returns:
        (H, W) uint16; 0 where the ray ends far beyond the scene.
    """
    blur = sensor.blur_px * OVERSAMPLING
    halo = int(np.ceil(3 * blur / OVERSAMPLING)) + 1
    radiance, inside = _along_rays(reference, shot, _ray_positions(block, halo), heights, look)
    radiance = np.asarray(cv2.GaussianBlur(radiance, (0, 0), blur), dtype=np.float32)
    cells = (block.height + 2 * halo, OVERSAMPLING, block.width + 2 * halo, OVERSAMPLING)
    inner = (slice(halo, halo + block.height), slice(halo, halo + block.width))
    light = radiance.reshape(cells).mean(axis=(1, 3))[inner]
    covered = np.asarray(inside.reshape(cells).all(axis=(1, 3)))[inner]
    rng = np.random.default_rng([look.seed, shot.number, block.row, block.col])
    clean = sensor.gain * light + sensor.haze
    spread = np.sqrt(clean / sensor.electrons + sensor.read_noise**2)
    noisy = clean + spread * rng.standard_normal(clean.shape, dtype=np.float32)
    return np.where(covered, np.clip(np.rint(noisy), 1, sensor.top), 0).astype(np.uint16)


def _ray_positions(block: Window, halo: int) -> tuple[Values, Values]:
    """Image row and column of each ray of a block and a halo around it."""

    def axis(start: int, length: int) -> Values:
        n = (length + 2 * halo) * OVERSAMPLING
        return start - halo - 0.5 + (np.arange(n) + 0.5) / OVERSAMPLING

    rows, cols = np.broadcast_arrays(
        axis(block.row, block.height)[:, None], axis(block.col, block.width)[None, :]
    )
    return rows, cols


@dataclass(frozen=True)
class _Sight:
    """The profiles along which a part of an image looks.

    Attributes:
        plane: frame on the horizontal plane at `plane_z` that holds where the rays meet it.
        frame: the same, longer at both ends by what relief can shift.
        skipped: how many rows longer at the front.
        rows_per_metre: how far a ray runs along the profiles while it falls a metre.
    """

    plane: Profiles
    frame: Profiles
    plane_z: float
    skipped: int
    rows_per_metre: float


def _sight(
    view: AffineView, rays: tuple[Values, Values], heights: tuple[float, float], step_m: float
) -> _Sight:
    plane_z = sum(heights) / 2
    x, y = view.on_plane(*rays, plane_z)
    shift = view.shift_per_metre
    slant = float(np.hypot(*shift))
    away = (shift[0] / slant, shift[1] / slant) if slant > 1e-6 else (0.0, -1.0)
    plane = profiles_around(x, y, away, step_m)
    beyond = int(np.ceil((heights[1] - plane_z) * slant / step_m)) + 2
    frame = plane.with_rows_before(beyond).with_rows_after(beyond)
    return _Sight(plane, frame, plane_z, beyond, slant / step_m)


def _along_rays(
    reference: ReferenceSurface,
    shot: Shot,
    rays: tuple[Values, Values],
    heights: tuple[float, float],
    look: Look,
) -> tuple[Array, NDArray[np.bool_]]:
    """The radiance that arrives along rays, and whether they end in the scene or next to it."""
    gsd = reference.grid.gsd
    sight = _sight(shot.camera.view, rays, heights, gsd)
    window = _window_around(reference.grid, *sight.frame.corners())
    lit = lit_surface(reference, window, shot.day, look, relief_m=heights[1] - heights[0])
    to_raster = sight.frame.pixels_of(reference.grid.crop(window))
    shape = (sight.frame.n_rows, sight.frame.n_cols)
    profiles = warped(lit.height - np.float32(sight.plane_z), to_raster, shape)
    hits = first_hits(profiles, sight.rows_per_metre, skipped=sight.skipped, n_rows=sight.plane.n_rows)
    glossy = lit.radiance + _gloss(lit, shot, gsd, look.seed)
    seen = _Seen(lit, profiles, to_raster, hits, sight)
    bright = _with_walls(hits.of(warped(glossy, to_raster, shape)), seen, shot.day, look.seed)
    inside = hits.of(_near_scene(reference.grid, sight.frame))
    at_rays = sight.plane.positions(*shot.camera.view.on_plane(*rays, sight.plane_z))
    return sample(bright, *at_rays), sample(inside, *at_rays) > 0.5


def _window_around(grid: Grid, x: Values, y: Values) -> Window:
    """The pixels of a grid, or beyond it, that surround map positions."""
    rows, cols = grid.pixel_position(x, y)
    row, col = int(np.floor(rows.min())) - 1, int(np.floor(cols.min())) - 1
    return Window(row, col, int(np.ceil(rows.max())) + 2 - row, int(np.ceil(cols.max())) + 2 - col)


def _near_scene(grid: Grid, frame: Profiles) -> Array:
    """1 where a frame lies over the scene or next to it, else 0."""
    x0, y1 = grid.map_position(0, 0)
    x1, y0 = grid.map_position(grid.height, grid.width)
    x, y = frame.on_map(np.arange(frame.n_rows)[:, None], np.arange(frame.n_cols)[None, :])
    near = (x > x0 - MARGIN_M) & (x < x1 + MARGIN_M) & (y > y0 - MARGIN_M) & (y < y1 + MARGIN_M)
    return near.astype(np.float32)


def _towards(shot: Shot) -> tuple[float, float, float]:
    """Unit vector (x, y, z) to the satellite."""
    return Sun(shot.camera.direction.azimuth_deg, 90 - shot.camera.direction.incidence_deg).vector


def _gloss(lit: Lit, shot: Shot, gsd_m: float, seed: int) -> Array:
    """What surfaces mirror towards the satellite (Blinn and Phong's half-way vector), (H, W) float32."""
    half = np.add(shot.day.sun.vector, _towards(shot))
    half /= np.linalg.norm(half)
    x, y, z = normal(lit.height, gsd_m)
    cosine = np.clip(x * np.float32(half[0]) + y * np.float32(half[1]) + z * np.float32(half[2]), 0, 1)
    mirrored = lit.gloss * (GLOSS_STRENGTH * cosine**GLOSS_POWER + shot.day.sky)
    water = lit.classes == SurfaceClass.WATER
    if water.any():
        ripples = smooth_noise(lit.window, RIPPLE_M / gsd_m, seed + 611953 * (shot.number + 1))
        mirrored = np.where(water, mirrored * (1 + RIPPLE * ripples), mirrored)
    result: Array = mirrored.astype(np.float32)
    return result


@dataclass(frozen=True)
class _Seen:
    """Profiles over a lit surface: heights above the plane, where they lie in it, and what rays hit first."""

    lit: Lit
    profiles: Array
    to_raster: Values
    hits: Hits
    sight: _Sight

    def pixels(self, where: tuple[Places, Places]) -> tuple[Array, Array]:
        """Row and column in the lit surface of (row, column) in the profiles."""
        col, row = self.to_raster @ np.stack([where[1], where[0], np.ones_like(where[0])])
        return row.astype(np.float32), col.astype(np.float32)


def _with_walls(bright: Array, seen: _Seen, day: Day, seed: int) -> Array:
    """The radiance of hits, with those on walls painted: no pixel seen from above shows a wall."""
    lit, hits, frame = seen.lit, seen.hits, seen.sight.frame
    steep = np.nonzero((hits.rise > WALL_RISE_M) & (hits.rise > WALL_SLOPE * frame.step_m))
    building = is_any(lit.classes, BUILDING_CLASSES)
    behind = seen.pixels((hits.row[steep] + 1, steep[1]))
    walls = np.asarray(sample_nearest(building, *behind), dtype=np.bool_)
    if not walls.any():
        return bright
    where = (steep[0][walls], steep[1][walls])
    foot = (hits.row[where], where[1])
    height = seen.profiles[foot] + hits.share[where] * hits.rise[where] + np.float32(seen.sight.plane_z)
    rows, cols = seen.pixels(foot)
    normal_x, normal_y = _wall_normals(seen.profiles, frame, foot)
    sun_x, sun_y, _ = day.sun.vector
    sunlit = np.clip(height - _at(lit.shadow, rows, cols), 0, 1)
    light = np.clip(normal_x * sun_x + normal_y * sun_y, 0, 1) * sunlit
    light += day.sky * WALL_SKY * _at(lit.sky, rows, cols)
    along_m = ((cols * normal_y + rows * normal_x) * frame.step_m).astype(np.float32)
    objects = np.asarray(sample_nearest(lit.objects, behind[0][walls], behind[1][walls]), dtype=np.int32)
    result = bright.copy()
    result[where] = wall_albedo(objects, height, along_m, seed) * light
    return result


def _wall_normals(profiles: Array, frame: Profiles, where: tuple[Any, Any]) -> tuple[Array, Array]:
    """Which way walls look, (x, y): down the slope of a softened surface."""
    soft = cv2.blur(profiles, (5, 5))
    down_row = -cv2.Sobel(soft, cv2.CV_32F, 0, 1)[where]
    down_col = -cv2.Sobel(soft, cv2.CV_32F, 1, 0)[where]
    length = np.maximum(np.hypot(down_row, down_col), 1e-6)
    (ax, ay), (bx, by) = frame.along, frame.across
    x, y = (down_row * ax + down_col * bx) / length, (down_row * ay + down_col * by) / length
    return np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32)


def _at(values: Array, rows: Array, cols: Array) -> Array:
    return np.asarray(sample_nearest(values, rows, cols), dtype=np.float32)
