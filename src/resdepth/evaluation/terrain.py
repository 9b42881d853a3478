"""The shape of surfaces: gradients, normals, roughness."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Sides

Array = NDArray[np.float32]

MARGIN_PX = 1


@dataclass(frozen=True)
class Shape:
    """What a surface looks like around each pixel; NaN where one of the 3 x 3 pixels is void.

    Attributes:
        along_row, along_col: (H, W) float32, change of the height per metre along rows (to the right) and
            along columns (down).
        roughness: (H, W) float32, metres, range of the heights among 3 x 3 pixels (Wilson et al. 2007).
    """

    along_row: Array
    along_col: Array
    roughness: Array

    @property
    def slope(self) -> Array:
        """(H, W) float32, metres per metre: the tangent of the slope."""
        return np.hypot(self.along_row, self.along_col)


def shape_of(height: Array, sides: Sides) -> Shape:
    """Gradient (Horn 1981) and roughness.

    Args:
        height: (H + 2, W + 2) float32, metres, NaN = void: with a margin of MARGIN_PX.
        sides: of a pixel.
    """
    down: Array = height[:-2] + 2 * height[1:-1] + height[2:]
    across: Array = height[:, :-2] + 2 * height[:, 1:-1] + height[:, 2:]
    highest = np.maximum(np.maximum(height[:-2], height[1:-1]), height[2:])
    lowest = np.minimum(np.minimum(height[:-2], height[1:-1]), height[2:])
    highest = np.maximum(np.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:])
    lowest = np.minimum(np.minimum(lowest[:, :-2], lowest[:, 1:-1]), lowest[:, 2:])
    roughness = highest - lowest  # NaN in any pixel goes through maximum and minimum
    # No numpy numbers: float32 stays float32.
    along_row: Array = (down[:, 2:] - down[:, :-2]) / float(8 * sides.width)
    along_col: Array = (across[2:] - across[:-2]) / float(8 * sides.height)
    void = np.isnan(roughness)  # the gradients themselves do not look at the pixel in the middle
    along_row[void] = along_col[void] = np.nan
    return Shape(along_row, along_col, roughness)


def gradient_errors(one: Shape, other: Shape) -> Array:
    """(H, W) float32, metres per metre: length of the difference of both gradients."""
    errors: Array = np.hypot(one.along_row - other.along_row, one.along_col - other.along_col)
    return errors


def normal_angles(one: Shape, other: Shape) -> Array:
    """(H, W) float32, degrees between both normals; exactly 0 for equal shapes.

    The normals are (-dz/dx, -dz/dy, 1); the angle comes from their cross and dot products, since an arc
    cosine loses small angles.
    """
    a, b, c, d = one.along_row, one.along_col, other.along_row, other.along_col
    cross = np.sqrt((b - d) ** 2 + (a - c) ** 2 + (a * d - b * c) ** 2)
    angles: Array = np.degrees(np.arctan2(cross, 1 + a * c + b * d))
    return angles
