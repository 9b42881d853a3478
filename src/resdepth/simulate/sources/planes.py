"""How planar a surface is: at each pixel the best plane through a square of pixels that contains it."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.simulate.surface import Heights


@dataclass(frozen=True)
class Planes:
    """Least-squares planes through the square around each pixel.

    Attributes:
        roughness: (H, W) float32, metres: root mean square distance of the square's heights from the plane.
        slope: (H, W) float32: tangent of the plane's inclination.
    """

    roughness: NDArray[np.float32]
    slope: NDArray[np.float32]


def fitted_planes(height: Heights, gsd: float, side: int) -> Planes:
    """The plane through the square of side x side pixels (odd) around each pixel.

    Args:
        height: (H, W) float32, metres, without voids.
        gsd: side of a pixel in metres.
        side: of the squares, in pixels.
    """
    offsets = np.arange(side) - (side - 1) / 2
    spread = float((offsets**2).mean())
    flat, ramp = np.full(side, 1 / side), offsets / (side * spread)

    def weighted(of: NDArray[Any], across: NDArray[Any], down: NDArray[Any]) -> NDArray[np.float64]:
        result = cv2.sepFilter2D(of, cv2.CV_64F, across, down, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(result, np.float64)

    values = height.astype(np.float64)
    values -= values.mean()
    mean = weighted(values, flat, flat)
    by_col, by_row = weighted(values, ramp, flat), weighted(values, flat, ramp)
    variance = weighted(values**2, flat, flat) - mean**2 - (by_col**2 + by_row**2) * spread
    roughness, slope = np.sqrt(np.maximum(variance, 0)), np.hypot(by_col, by_row) / gsd
    return Planes(roughness.astype(np.float32), slope.astype(np.float32))


def best_roughness(planes: Planes, side: int) -> NDArray[np.float32]:
    """(H, W) float32, metres: at each pixel the least roughness of all squares that contain it.

    A roof's edge lies in some square that is wholly on the roof; a crown's pixel lies in none that is planar.
    """
    return np.asarray(cv2.erode(planes.roughness, np.ones((side, side), np.uint8)), np.float32)
