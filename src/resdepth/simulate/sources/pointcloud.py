"""True surfaces from point clouds: the highest point of each pixel."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.windows import Window
from resdepth.runtime.progress import Progress
from resdepth.simulate.sources.gaps import GAP_PX, close_gaps, spikes
from resdepth.simulate.sources.lascrs import demand_unit, stated_crs
from resdepth.simulate.sources.lasfile import Points, open_points
from resdepth.simulate.sources.options import TruthOptions
from resdepth.simulate.sources.placing import (
    DEFAULT_GSD_M,
    Bounds,
    chosen_crs,
    chosen_gsd,
    cropped_bounds,
    lattice_grid,
)
from resdepth.simulate.sources.scratch import new_array
from resdepth.simulate.sources.sketch import PLANTS, ROOF, UNKNOWN, Guessing, Sketch
from resdepth.simulate.surface import Codes, SurfaceClass

NOISE = (7, 18)
# So many pixels, and so many for each point, are given room before the points have been looked at.
FREE_PIXELS, SPARSEST = 10**7, 10
BUILDING = 6
# ASPRS codes (LAS 1.4 R15, table 17); 26 is what the Dutch AHN calls structures: bridges, quays, locks.
CODES = {
    2: SurfaceClass.GROUND,
    3: SurfaceClass.GRASS,
    4: PLANTS,
    5: PLANTS,
    BUILDING: ROOF,
    9: SurfaceClass.WATER,
    10: SurfaceClass.SOIL,  # railways
    11: SurfaceClass.ASPHALT,
    17: SurfaceClass.ASPHALT,  # bridges
    26: SurfaceClass.PAVING,
}


class PointSource:
    """A point cloud as a raster of its highest points, and what the highest one is.

    A pixel without a point takes its height from those within two pixels; it is void if there are none.
    Points of the noise classes 7 and 18, withheld ones, and single ones high in the air are left out. Where
    the file marks buildings, what it does not mark is none.
    """

    n_objects = 0

    def __init__(self, path: Path, options: TruthOptions, folder: Path, progress: Progress) -> None:
        """Read the points into two files of the size of the scene.

        Args:
            path: the point cloud.
            options: how to read it.
            folder: where the files are put; they are needed as long as this object.
            progress: advances by 1 in all.

        Raises:
            ResDepthError: if the file cannot be read, has no points, or laspy is not installed.
        """
        buildings = False
        with open_points(path) as file:
            stated = stated_crs(path, file.records, options.crs)
            wkt, name, self._unit = chosen_crs(path, stated.crs, options, stated.height_unit)
            demand_unit(path, wkt, stated.unit)
            self.detail_m = chosen_gsd(path, DEFAULT_GSD_M, options)
            bounds: Bounds = (*file.low.tolist(), *file.high.tolist())
            self.grid = lattice_grid(path, cropped_bounds(path, bounds, options), self.detail_m, (wkt, name))
            shape = (self.grid.height, self.grid.width)
            if self.grid.height * self.grid.width > FREE_PIXELS + SPARSEST * file.count:
                file.demand_filled_bounds()
            self._height = new_array(folder / "highest", np.float32, shape)
            # One more than the code of the highest point; 0 without a point, as in a new file.
            self._mark = new_array(folder / "codes", np.uint8, shape)
            for points in file.portions():
                buildings |= bool((points.codes == BUILDING).any())
                self._take(points)
                progress.advance(len(points) / file.count, note="points")
        self.guessing: Guessing = "no buildings" if buildings else "everything"

    def _take(self, points: Points) -> None:
        gsd, _, left, _, _, top = self.grid.transform
        col = _cell((points.x - left) / gsd, self.grid.width)
        row = _cell((top - points.y) / gsd, self.grid.height)
        used = ~np.isin(points.codes, NOISE) & ~points.withheld & (col >= 0) & (row >= 0)
        cell = row[used] * self.grid.width + col[used]
        z, mark = self._unit.to_metres(points.z[used]).astype(np.float32), MARKS[points.codes[used]]
        # Of equally high points the one with the greatest mark, for the result not to depend on their order.
        order = np.lexsort((mark, z, cell))
        cell, z, mark = cell[order], z[order], mark[order]
        last = np.ones(len(cell), bool)
        last[:-1] = cell[1:] != cell[:-1]
        cell, z, mark = cell[last], z[last], mark[last]
        heights, marks = self._height.reshape(-1), self._mark.reshape(-1)
        before, height = marks[cell], heights[cell]
        higher = (before == 0) | (z > height) | ((z == height) & (mark > before))
        heights[cell[higher]], marks[cell[higher]] = z[higher], mark[higher]

    def read(self, window: Window) -> Sketch:
        """The highest points of a window, its small gaps closed."""
        outer = window.grown(2 * GAP_PX, self.grid.whole)
        height, mark = np.array(self._height[outer.slices]), np.array(self._mark[outer.slices])
        there = (mark > 0) & ~spikes(height, mark > 0)
        height, mark = close_gaps(height, mark, there)
        known = np.isfinite(height)
        codes = np.where(known, mark - np.uint8(1), np.uint8(UNKNOWN)).astype(np.uint8)
        part = window.relative_to(outer).slices
        return Sketch(height[part], known[part], codes[part], np.zeros(window.shape, np.int32))


def _marks() -> Codes:
    marks = np.full(256, UNKNOWN + 1, np.uint8)
    for code, meaning in CODES.items():
        marks[code] = meaning + 1
    return marks


MARKS = _marks()


def _cell(place: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """The cell of each place along one axis, -1 outside; a place on the last edge is in the last cell."""
    cell = np.floor(place).astype(np.int64)
    cell[(cell == n) & (place < n + 1e-3)] = n - 1
    cell[(cell == -1) & (place > -1e-3)] = 0
    cell[(cell < 0) | (cell >= n)] = -1
    return cell
