"""Which images are taken: a camera for each, pointed at the scene, and the RPC that describes it."""

from dataclasses import dataclass

import numpy as np

from resdepth.geo.grid import Grid
from resdepth.geo.rpc import AffineView, Direction, Rpc, affine_view, fit_rpc, placed
from resdepth.geo.windows import Window
from resdepth.simulate.imaging.light import Day
from resdepth.stereo.ortho import to_geographic

# An image shows this much more than the scene.
MARGIN_M = 20.0
# The RPC is fitted to a lattice of so many points (x, y, height), reaching this far beyond the scene.
LATTICE = (9, 9, 5)
LATTICE_MARGIN_M = 60.0


@dataclass(frozen=True)
class Camera:
    """A camera that holds a scene.

    Attributes:
        direction: from where it looks.
        view: what it truly does.
        rpc: what the image's tags tell of it, pointing error included.
        height, width: of the image in pixels.
    """

    direction: Direction
    view: AffineView
    rpc: Rpc
    height: int
    width: int

    @property
    def whole(self) -> Window:
        """All pixels of the image."""
        return Window(0, 0, self.height, self.width)


@dataclass(frozen=True)
class Shot:
    """One image to be taken.

    Attributes:
        name: of the image.
        number: in the scene; its noise follows from it.
        day: the date.
        camera: from where, and how it is described.
    """

    name: str
    number: int
    day: Day
    camera: Camera


def aim(
    direction: Direction,
    *,
    grid: Grid,
    heights: tuple[float, float],
    gsd_m: float,
    pointing_px: tuple[float, float] = (0.0, 0.0),
) -> Camera:
    """Point a camera at a scene so that the image holds all of it.

    Args:
        direction: from where.
        grid: of the scene.
        heights: lowest and highest, metres.
        gsd_m: of the sensor, at the nadir.
        pointing_px: (row, col), where the RPC says that a point is, minus where it is.
    """
    x0, y1 = grid.map_position(0, 0)
    x1, y0 = grid.map_position(grid.height, grid.width)
    x, y, z = (v.ravel() for v in np.meshgrid([x0, x1], [y0, y1], list(heights), indexing="ij"))
    view = placed(affine_view(direction, gsd_m), x0, y0, heights[0], at=(0.0, 0.0))
    rows, cols = view.project(x, y, z)
    margin = MARGIN_M / gsd_m
    first = (float(margin - np.floor(rows.min())), float(margin - np.floor(cols.min())))
    view = placed(view, x0, y0, heights[0], at=first)
    height, width = (int(np.ceil(np.ptp(v) + 2 * margin)) + 1 for v in (rows, cols))
    return Camera(direction, view, describing(view, grid, heights, pointing_px), height, width)


def describing(
    view: AffineView, grid: Grid, heights: tuple[float, float], pointing_px: tuple[float, float]
) -> Rpc:
    """The RPC of a view of a scene, off by a pointing error (row, col)."""
    x0, y1 = grid.map_position(0, 0)
    x1, y0 = grid.map_position(grid.height, grid.width)
    margin = LATTICE_MARGIN_M
    axes = [
        np.linspace(x0 - margin, x1 + margin, LATTICE[0]),
        np.linspace(y0 - margin, y1 + margin, LATTICE[1]),
        np.linspace(heights[0] - margin, heights[1] + margin, LATTICE[2]),
    ]
    x, y, z = (v.ravel() for v in np.meshgrid(*axes, indexing="ij"))
    rows, cols = view.project(x, y, z)
    lon, lat = to_geographic(grid.crs, x, y)
    return fit_rpc(lon, lat, z, rows + pointing_px[0], cols + pointing_px[1])
