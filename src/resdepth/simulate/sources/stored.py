"""The four rasters that every true surface becomes, and reading windows of them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from zlib import crc32

import numpy as np

from resdepth.errors import InputProblems, ResDepthError
from resdepth.geo.geotiff import GeoTiffWriter, new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand
from resdepth.geo.windows import Window
from resdepth.runtime.atomic import write_json
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.paths import why_special
from resdepth.simulate.sources.options import TruthOptions
from resdepth.simulate.surface import Surface

TYPES = {"surface": "float32", "known": "uint8", "classes": "uint8", "objects": "int32"}
STAMP = "truth.json"
# Raised when the same file would become other rasters.
VERSION = 1
TILE = 256
SAMPLE_BYTES = 2**16


class FileTruth:
    """A true surface that was read from a file and lies in rasters.

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
    """Write some of the four rasters of a truth; they appear once they are complete."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(new_geotiff(_raster(folder, name), grid, dtype=TYPES[name], tile=TILE))
            for name in names
        }


def made_from(path: Path, options: TruthOptions) -> dict[str, object]:
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
    """Say that what the folder holds is not to be used any more."""
    (folder / STAMP).unlink(missing_ok=True)


def write_stamp(folder: Path, stamp: dict[str, object]) -> None:
    """Say beside the rasters what they were made from."""
    write_json(folder / STAMP, stamp)
