"""From a file to a complete reference surface: four rasters in a folder, made once and used again.

The raw surface is read in windows; its voids are filled from the mean heights of ever larger cells around
them, its unknown pixels are classified, and its objects numbered.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.errors import InputProblems, ResDepthError
from resdepth.geo.geotiff import GeoTiffWriter, new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand
from resdepth.geo.windows import Window
from resdepth.runtime.atomic import temporary_folder, write_json
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.paths import why_special
from resdepth.runtime.progress import Progress
from resdepth.simulate.sources.citymodel import CitySource
from resdepth.simulate.sources.classification import (
    Masks,
    Parts,
    classification_reach_px,
    classified,
    crown_numbers,
    crown_reach_px,
    with_yes,
    without_no,
)
from resdepth.simulate.sources.pointcloud import PointSource
from resdepth.simulate.sources.raw_surface import ElevationSource, Source, SourceOptions, new_array
from resdepth.simulate.surface import BUILDING_CLASSES, VEGETATION_CLASSES, Heights, Surface, is_any

# Side in pixels of the cells of the coarse level, which covers the whole scene; windows start at multiples.
CELL = 64
LEVELS = 6
# How far, in pixels, a void's height may depend on what lies around it in the window.
REACH = 2 * CELL
SMOOTHING_STEPS = 12
# Heights count less by a factor e for every so many metres above the lowest beside them: what is void is
# rather the water, or the ground behind a building, than the tree beside it.
LOW_SCALE_M = 2.0
TYPES = {"surface": "float32", "known": "uint8", "classes": "uint8", "objects": "int32"}
STAMP = "reference.json"
# Raised when the same file would become other rasters.
VERSION = 1
TILE = 256
SAMPLE_BYTES = 2**16
# Side of the windows that are worked on at once, and how much more is seen around them; multiples of CELL.
CORE = 1024
MAX_MARGIN = 1024


def coarse_heights(
    grid: Grid, windows: Iterable[Window], read: Callable[[Window], Heights]
) -> tuple[Heights, int]:
    """Mean heights of cells of CELL x CELL pixels; cells without any height are filled from their neighbours.

    Args:
        grid: the scene.
        windows: cover it; they start at multiples of CELL.
        read: (H, W) float32 heights of a window, NaN = void.

    Returns:
        (ceil(height / CELL), ceil(width / CELL)) float32, all NaN if the scene is; and the number of pixels
        that are not void.
    """
    coarse = np.full((-(-grid.height // CELL), -(-grid.width // CELL)), np.nan, np.float32)
    found = 0
    for window in windows:
        height, count = _levels(read(window))[-1]
        found += int(count.sum())
        row, col = window.row // CELL, window.col // CELL
        coarse[row : row + height.shape[0], col : col + height.shape[1]] = np.where(count > 0, height, np.nan)
    return _completed(coarse), found


def fill(height: Heights, window: Window, coarse: Heights) -> Heights:
    """The heights without voids.

    Law: heights that are there stay as they are, to the bit. A filled height does not depend on the window
    if that reaches REACH pixels further in every direction, or to the edge of the scene.

    Args:
        height: (H, W) float32, NaN = void; (H, W) is the shape of the window.
        window: where they are in the scene; starts at multiples of CELL.
        coarse: `coarse_heights` of the scene.
    """
    void = np.isnan(height)
    if not void.any():
        return height
    levels = _levels(height)
    rows, cols = levels[-1][0].shape
    row, col = window.row // CELL, window.col // CELL
    result = coarse[row : row + rows, col : col + cols]
    for mean, count in reversed(levels[:-1]):
        above = cv2.resize(result, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        result = np.where(count > 0, mean, above).astype(np.float32)
    result = result[: height.shape[0], : height.shape[1]]
    for _ in range(SMOOTHING_STEPS):
        result = np.where(void, cv2.blur(result, (3, 3), borderType=cv2.BORDER_REPLICATE), height)
    return result


def _levels(height: Heights) -> list[tuple[Heights, NDArray[np.float32]]]:
    """Heights of cells of 1, 2, 4 ... CELL pixels, and the number of heights in them.

    The height is a mean that leans to the lowest, 0 where there is none.
    """
    rows, cols = (-(-side // CELL) * CELL for side in height.shape)
    padded = np.full((rows, cols), np.nan, np.float32)
    padded[: height.shape[0], : height.shape[1]] = height
    count = np.isfinite(padded).astype(np.float32)
    levels = [(np.nan_to_num(padded), count)]
    for _ in range(LEVELS):
        levels.append(_halved(*levels[-1]))
    return levels


def _halved(mean: Heights, count: NDArray[np.float32]) -> tuple[Heights, NDArray[np.float32]]:
    means, counts = _four(np.where(count > 0, mean, np.inf)), _four(count)
    lowest = means.min(axis=0)
    lowest[np.isinf(lowest)] = 0
    weights = counts * np.exp(-np.minimum((means - lowest) / LOW_SCALE_M, 50))
    means[np.isinf(means)] = 0
    total, weight = (weights * means).sum(axis=0), weights.sum(axis=0)
    halved = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return halved.astype(np.float32), counts.sum(axis=0).astype(np.float32)


def _four(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The four quarters of each cell of 2 x 2, along a first axis."""
    quarters = [values[row::2, col::2] for row in (0, 1) for col in (0, 1)]
    return np.stack(quarters).astype(np.float64)


def _completed(coarse: Heights) -> Heights:
    """The coarse level without voids, from its own coarser levels up to a single cell."""
    if not np.isnan(coarse).any() or np.isnan(coarse).all():
        return coarse
    side = 1 << int(max(coarse.shape) - 1).bit_length()
    padded = np.full((side, side), np.nan, np.float32)
    padded[: coarse.shape[0], : coarse.shape[1]] = coarse
    levels = [(np.nan_to_num(padded), np.isfinite(padded).astype(np.float32))]
    while levels[-1][0].size > 1:
        levels.append(_halved(*levels[-1]))
    result = levels[-1][0]
    for mean, count in reversed(levels[:-1]):
        above = cv2.resize(result, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        result = np.where(count > 0, mean, above).astype(np.float32)
    return result[: coarse.shape[0], : coarse.shape[1]]


class StoredSurface:
    """A reference surface that lies in rasters.

    Attributes:
        grid: its pixels.
        folder: holds surface.tif, known.tif, classes.tif and objects.tif.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bands = {name: FileBand(_raster(folder, name)) for name in TYPES}
        self.grid: Grid = self._bands["surface"].grid
        for name, band in self._bands.items():
            if differences := self.grid.differences(band.grid):
                raise ResDepthError(
                    f"{_raster(folder, name)}: {', '.join(differences)}; remove the folder {folder}"
                )

    def surface(self, window: Window) -> Surface:
        """The surface in a window of the grid."""
        return Surface(
            self._bands["surface"].read_raw(window)[0].astype(np.float32, copy=False),
            self._bands["known"].read_raw(window)[0] > 0,
            self._bands["classes"].read_raw(window)[0].astype(np.uint8, copy=False),
            self._bands["objects"].read_raw(window)[0].astype(np.int32, copy=False),
        )


def _raster(folder: Path, name: str) -> Path:
    return folder / f"{name}.tif"


@contextmanager
def new_layers(folder: Path, grid: Grid, *names: str) -> Iterator[dict[str, GeoTiffWriter]]:
    """Write some of the four rasters of a surface; they appear once they are complete."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(new_geotiff(_raster(folder, name), grid, dtype=TYPES[name], tile=TILE))
            for name in names
        }


def made_from(path: Path, options: SourceOptions) -> dict[str, object]:
    """What the rasters depend on: the options, and size, time and a sample of each file.

    Raises:
        ResDepthError: if one of the files is not there.
    """
    values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    files = [_fingerprint(one) for one in (path, *options.masks.values())]
    stamp: dict[str, object] = json.loads(json.dumps({"version": VERSION, "options": values, "files": files}))
    return stamp


def _fingerprint(path: Path) -> dict[str, object]:
    if reason := why_special(path):
        raise ResDepthError(f"{path}: {reason}")
    try:
        with path.open("rb") as file:
            sample = file.read(SAMPLE_BYTES)
            size = file.seek(0, 2)
            file.seek(max(0, size - SAMPLE_BYTES))
            sample += file.read(SAMPLE_BYTES)
    except OSError as error:
        raise ResDepthError(f"{path}: this file cannot be read ({error.strerror}); check the path") from error
    stat = path.stat()
    return {
        "path": str(path.resolve()), "size": size, "mtime_ns": stat.st_mtime_ns, "crc32": crc32(sample)
    }  # fmt: skip


def is_current(folder: Path, stamp: dict[str, object]) -> bool:
    """Whether the folder holds complete rasters that were made from just this."""
    try:
        stated = read_json(folder / STAMP)
    except InputProblems:
        return False
    return bool(stated == stamp) and all(_raster(folder, name).is_file() for name in TYPES)


def forget_stamp(folder: Path) -> None:
    """Mark what the folder holds as not to be used any more."""
    (folder / STAMP).unlink(missing_ok=True)


def write_stamp(folder: Path, stamp: dict[str, object]) -> None:
    """State beside the rasters what they were made from."""
    write_json(folder / STAMP, stamp)


def build_surface(path: Path, source: Source, options: SourceOptions, work: Path, progress: Progress) -> None:
    """Fill the voids of a raw surface, classify what the file does not, and number objects.

    Memory depends on the size of the windows only. Classes and crowns are found with a margin around each
    window; only a lake, a forest or a hall that reaches beyond it may look different in two windows.

    Args:
        path: the file, for messages.
        source: reads it.
        options: name the masks.
        work: where the four rasters are written.
        progress: advances by 1 in all.

    Raises:
        ResDepthError: if the file has no heights in the scene, a mask does not fit, or the disk is full.
    """
    grid = source.grid
    masks = Masks(options.masks, grid)
    windows = list(_windows(grid))

    def heights(window: Window) -> Heights:
        progress.advance(0.2 * window.area / grid.whole.area, note="heights")
        return source.read(window).height

    coarse, found = coarse_heights(grid, windows, heights)
    if found == 0:
        raise ResDepthError(
            f"{path}: there are no heights in the scene, only voids; choose another extent or file"
        )
    builder = _Builder(source, masks, coarse)
    with temporary_folder(work, "building") as folder:
        shape = (grid.height, grid.width)
        numbers = new_array(folder / "numbers", np.int32, shape)
        parts = Parts(new_array(folder / "parts", np.int32, shape))
        with new_layers(work, grid, "surface", "known", "classes") as files:
            for window in windows:
                surface = builder.surface(window)
                numbers[window.slices] = surface.objects
                parts.add(window, is_any(surface.classes, BUILDING_CLASSES) & (surface.objects == 0))
                files["surface"].write(window.row, surface.height, col=window.col)
                files["known"].write(window.row, surface.known, col=window.col)
                files["classes"].write(window.row, surface.classes, col=window.col)
                progress.advance(0.7 * window.area / grid.whole.area, note="classes")
        with new_layers(work, grid, "objects") as files:
            for window in windows:
                part = parts.final(window)
                objects = np.where(part > 0, part + source.n_objects, numbers[window.slices])
                files["objects"].write(window.row, objects, col=window.col)
                progress.advance(0.1 * window.area / grid.whole.area, note="objects")
        del numbers, parts


def _windows(grid: Grid) -> Iterator[Window]:
    for row in range(0, grid.height, CORE):
        for col in range(0, grid.width, CORE):
            yield Window(row, col, min(CORE, grid.height - row), min(CORE, grid.width - col))


def _margin(source: Source) -> int:
    reach = REACH
    if source.classifiable != "nothing":
        reach = max(reach, classification_reach_px(source.grid.gsd), crown_reach_px(source.grid.gsd))
    return min(-(-reach // CELL) * CELL, MAX_MARGIN)


@dataclass(frozen=True)
class _Builder:
    source: Source
    masks: Masks
    coarse: Heights

    def surface(self, window: Window) -> Surface:
        """The complete surface of a window; only buildings that the file does not number have no number."""
        grid = self.source.grid
        outer = window.grown(_margin(self.source), grid.whole)
        raw = self.source.read(outer)
        height = fill(raw.height, outer, self.coarse)
        masks = self.masks.read(outer)
        stated = with_yes(raw.classes, masks)
        found = classified(height, raw.known, stated, self.source)
        classes = without_no(found, stated, masks)
        plants = is_any(classes, VEGETATION_CLASSES)
        crowns = crown_numbers(height, plants, grid.gsd, outer, grid.width)
        objects = np.where(plants, crowns, raw.objects)
        whole = Surface(height, raw.known, classes, objects.astype(np.int32))
        return whole.crop(window.relative_to(outer))


@dataclass(frozen=True)
class Share:
    """A part of the work, counted from 0 to 1, that is a share of the whole."""

    whole: Progress
    share: float

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """Count `amount` more of the part as done."""
        self.whole.advance(amount * self.share, note=note)


Builder = Callable[[Path, SourceOptions, Path, Progress], None]


def open_source(path: Path, options: SourceOptions, work: Path, progress: Progress) -> StoredSurface:
    """The reference surface that a file describes: an elevation raster, a CityJSON model, or a point cloud.

    The first time the file is turned into rasters in the folder `work` (made if need be); they are used
    again as long as the file, the masks and the options stay the same.

    Args:
        path: a GeoTIFF or other raster, CityJSON (.json), LAS or LAZ; recognised by its first bytes.
        options: how to read it.
        work: where the rasters are kept; one folder for one surface.
        progress: advances by 1 in all.

    Raises:
        ResDepthError: if the file cannot be read or does not fit the options, or the disk is full.
    """
    stamp = made_from(path, options)
    if is_current(work, stamp):
        progress.advance(1)
        return StoredSurface(work)
    work.mkdir(parents=True, exist_ok=True)
    forget_stamp(work)
    BUILDERS[_kind(path)](path, options, work, progress)
    write_stamp(work, stamp)
    return StoredSurface(work)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"LASF") or path.suffix.lower() in (".las", ".laz", ".ply"):
        return "points"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") or path.suffix.lower() == ".json":
        return "city model"
    return "raster"


def _from_raster(path: Path, options: SourceOptions, work: Path, progress: Progress) -> None:
    build_surface(path, ElevationSource(path, options), options, work, progress)


def _from_city_model(path: Path, options: SourceOptions, work: Path, progress: Progress) -> None:
    build_surface(path, CitySource(path, options), options, work, progress)


def _from_points(path: Path, options: SourceOptions, work: Path, progress: Progress) -> None:
    with temporary_folder(work, "points") as folder:
        source = PointSource(path, options, folder, Share(progress, 0.5))
        build_surface(path, source, options, work, Share(progress, 0.5))


BUILDERS: dict[str, Builder] = {
    "raster": _from_raster,
    "city model": _from_city_model,
    "points": _from_points,
}
