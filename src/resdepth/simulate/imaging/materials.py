"""How bright surfaces are in panchromatic light: by class, by object, and texture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import Window
from resdepth.simulate.noise import pixel_noise, smooth_noise, uniform
from resdepth.simulate.surface import Codes, Objects, Surface, SurfaceClass

Array = NDArray[np.float32]


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
