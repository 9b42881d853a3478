"""Image positions are computed through the RPC on a coarse lattice, and interpolated between its points."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LATTICE_PX = 32


def between(lattice: Values, height: int, width: int) -> Values:
    """Bilinear values between lattice points, exactly (OpenCV's resizing rounds to 1/2048).

    Args:
        lattice: (height // LATTICE_PX + 2, width // LATTICE_PX + 2) values.
        height: of the result.
        width: of the result.
    """
    row, row_share = np.divmod(np.arange(height) / LATTICE_PX, 1)
    col, col_share = np.divmod(np.arange(width) / LATTICE_PX, 1)
    i, j = row.astype(int), col.astype(int)
    across = lattice[i] + row_share[:, None] * (lattice[i + 1] - lattice[i])
    blended: Values = across[:, j] + col_share * (across[:, j + 1] - across[:, j])
    return blended
