"""What is evaluated, on the grid of the reference DSM: surfaces, masks, a model of the ground."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from resdepth.errors import ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Array, Band, FileBand, Method, Numbers, read_resampled
from resdepth.geo.windows import Window

Resampling = Literal["none", "average", "bilinear", "nearest"]
Read = Callable[[Grid], Array]
"""The pixels of a raster on any grid of its CRS: (height, width) float32, NaN = void."""

# A raster whose pixels are smaller than this share of the reference DSM's is averaged over the reference
# DSM's pixels.
FINER = 0.75
# Larger numbers are no heights but nodata values that a file does not declare, as -3.4e38.
ABSURD_M = 1e5


@dataclass(frozen=True)
class Move:
    """A move of a surface: map units to the east and to the north, metres up."""

    dx: float = 0.0
    dy: float = 0.0
    dz_m: float = 0.0


class OnGrid:
    """A raster, or several that lie side by side, on another grid of the same CRS.

    Pixels that coincide with those of the grid are taken as they are. Otherwise finer rasters are averaged
    over the pixels of the grid, others interpolated bilinearly between their pixel centres, masks taken from
    the nearest pixel. Void, outside the raster, or beyond ABSURD_M is NaN; beside voids an interpolation uses
    the heights that there are. Heights are in metres, whatever the files' units.

    Law: where several rasters have a value, that of the last counts, as in gdalbuildvrt; voids hide nothing.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        grid: Grid,
        *,
        move: Move | None = None,
        is_mask: bool = False,
        is_image: bool = False,
    ) -> None:
        self.grid, self.paths, self.move = grid, tuple(paths), move or Move()
        self._numbers: Numbers = "mask" if is_mask else "stored" if is_image else "scaled"
        self._bands = [FileBand(path, self._numbers) for path in paths]
        for band in self._bands:
            if not grid.may_share_crs(band.grid):
                raise ResDepthError(
                    f"{band.header.path}: its CRS is {band.grid.crs_name}, that of the reference DSM "
                    f"{grid.crs_name}; reproject one of them (gdalwarp -t_srs)"
                )
        self._is_mask = is_mask
        self.has_absurd = False
        self._offsets = [None if move else grid.pixel_offset_of(band.grid) for band in self._bands]
        self.resampling: Resampling = "none"
        if not all(self._offsets):
            self.resampling = self._method(self._bands[0], grid)

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void."""
        if self.resampling != "none":
            return self.on(self.grid.crop(window))
        values = np.full(window.shape, np.nan, np.float32)
        for band, offset in zip(self._bands, self._offsets, strict=True):
            assert offset is not None, "nothing is resampled"
            self._lay_over(values, *_common(band, offset, window))
        return self._moved_up(values)

    def on(self, grid: Grid) -> Array:
        """The same on any other grid, a coarser one say, for looking at."""
        a, b, c, d, e, f = grid.transform
        # A surface that is moved to the east shows at a place what it had further to the west.
        moved = replace(grid, transform=(a, b, c - self.move.dx, d, e, f - self.move.dy))
        values = np.full((grid.height, grid.width), np.nan, np.float32)
        for path, band in zip(self.paths, self._bands, strict=True):
            method = self._method(band, grid)
            self._lay_over(values, grid.whole, read_resampled(path, moved, method, self._numbers))
        return self._moved_up(values)

    def _method(self, band: FileBand, grid: Grid) -> Method:
        finer = band.grid.gsd < FINER * grid.gsd
        return "nearest" if self._is_mask else "average" if finer else "bilinear"

    def _lay_over(self, values: Array, part: Window, more: Array) -> None:
        """Put the values of one more raster into a part of those before it; its voids hide nothing."""
        more = self._without_absurd(more)
        np.copyto(values[part.slices], more, where=~np.isnan(more))

    def _without_absurd(self, values: Array) -> Array:
        """Void where a number is no height."""
        absurd = np.abs(values) > ABSURD_M
        if absurd.any():
            self.has_absurd = True
            values[absurd] = np.nan
        return values

    def _moved_up(self, values: Array) -> Array:
        return values + np.float32(self.move.dz_m) if self.move.dz_m else values


def _common(band: FileBand, offset: tuple[int, int], window: Window) -> tuple[Window, Array]:
    """Where a band overlaps with a window, counted in that, and what it has there.

    Args:
        band: to be read.
        offset: of its first pixel in the grid.
        window: of the grid.
    """
    there = Window(*offset, *band.grid.whole.shape)
    row, col = max(window.row, there.row), max(window.col, there.col)
    row_stop, col_stop = min(window.row_stop, there.row_stop), min(window.col_stop, there.col_stop)
    if row >= row_stop or col >= col_stop:
        return Window(0, 0, 0, 0), np.zeros((0, 0), np.float32)
    common = Window(row, col, row_stop - row, col_stop - col)
    return common.relative_to(window), band.read(common.relative_to(there))


@dataclass(frozen=True)
class Candidate:
    """A surface to be evaluated.

    Attributes:
        name: for people; unique.
        band: its heights on the reference DSM's grid.
        source: the file or files it comes from; "" for an array.
        sha256: of the file; "" where there is none or there are several.
        resampling: how it comes onto the reference DSM's grid.
    """

    name: str
    band: Band
    source: str = ""
    sha256: str = ""
    resampling: Resampling = "none"


def open_candidate(name: str, paths: Sequence[Path], grid: Grid, move: Move | None = None) -> Candidate:
    """A surface from a file, or from files that lie side by side.

    Raises:
        ResDepthError: if it cannot be read, or its CRS is not that of the reference DSM.
    """
    band = OnGrid(paths, grid, move=move)
    source = ", ".join(str(path) for path in paths)
    return Candidate(name, band, source, sha256_of(paths[0]) if len(paths) == 1 else "", band.resampling)


def sha256_of(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_padded(band: Band, window: Window, margin: int) -> Array:
    """A window with a margin on all sides, NaN where that lies outside the raster."""
    around = window.grown(margin, band.grid.whole)
    values = band.read(around)
    if around.shape == (window.height + 2 * margin, window.width + 2 * margin):
        return values
    above, left = margin - (window.row - around.row), margin - (window.col - around.col)
    padded = np.full((window.height + 2 * margin, window.width + 2 * margin), np.nan, np.float32)
    padded[above : above + around.height, left : left + around.width] = values
    return padded
