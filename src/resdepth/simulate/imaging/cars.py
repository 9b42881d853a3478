"""Cars: on a road at one date, and gone at the next."""

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import Window
from resdepth.simulate.noise import uniform
from resdepth.simulate.surface import Codes, SurfaceClass

Array = NDArray[np.float32]

LENGTH_M, WIDTH_M, HEIGHT_M = 4.5, 1.8, 1.45
CELL_M = 7.0
# From how far around a car its road shows which way it runs.
ROAD_SIGHT_M = 6.0


def halo_px(gsd_m: float) -> int:
    """How much more than a window must be seen to draw the cars in it."""
    return int(np.ceil((CELL_M + LENGTH_M + 2 * ROAD_SIGHT_M) / gsd_m)) + 2


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
    for row, col, look in _places(window, gsd_m, seed, date, density):
        if 0 <= row < window.height and 0 <= col < window.width and asphalt[int(row), int(col)]:
            _draw(rise, paint, (row, col), float(heading[int(row), int(col)]), gsd_m, look)
    clear = ~asphalt
    rise[clear], paint[clear] = 0, 0
    return rise, paint


def _places(
    window: Window, gsd_m: float, seed: int, date: int, density: float
) -> list[tuple[float, float, float]]:
    """(row, col) in the window where a car may stand, and a number for its looks."""
    cell_px = CELL_M / gsd_m
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


def _draw(
    rise: Array, paint: Array, at: tuple[float, float], heading: float, gsd_m: float, look: float
) -> None:
    """Put one car: a rectangle with a cabin; `look` in [0, 1) chooses paint and size."""
    length, width = (LENGTH_M * (0.9 + 0.4 * (look * 7 % 1)) / gsd_m), WIDTH_M / gsd_m
    reach = int(np.ceil(length / 2)) + 1
    row0, row1 = max(int(at[0]) - reach, 0), min(int(at[0]) + reach + 1, rise.shape[0])
    col0, col1 = max(int(at[1]) - reach, 0), min(int(at[1]) + reach + 1, rise.shape[1])
    rows, cols = np.arange(row0, row1)[:, None] - at[0], np.arange(col0, col1)[None, :] - at[1]
    along = rows * np.cos(heading) + cols * np.sin(heading)
    aside = -rows * np.sin(heading) + cols * np.cos(heading)
    body = (np.abs(along) <= length / 2) & (np.abs(aside) <= width / 2)
    cabin = body & (np.abs(along + 0.05 * length) <= length * 0.3)
    part = (slice(row0, row1), slice(col0, col1))
    rise[part][body] = HEIGHT_M * 0.6
    rise[part][cabin] = HEIGHT_M
    paint[part][body] = 0.06 + 0.6 * (look * 13 % 1) ** 2
    paint[part][cabin & ~(np.abs(along + 0.05 * length) <= length * 0.2)] = 0.05  # the screens
