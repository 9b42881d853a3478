"""Rasters out: GeoTIFFs that appear complete or not at all, and never over what is read."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from resdepth.errors import ResDepthError
from resdepth.geo.crs import METRE, Unit, storable
from resdepth.geo.gdal import open_raster
from resdepth.geo.grid import Grid
from resdepth.geo.raster import files_behind
from resdepth.runtime.atomic import atomic_path
from resdepth.runtime.paths import is_there

NODATA = -9999.0
SMALLEST_OVERVIEW_PX = 256
NOT_KEPT = "the disk did not take all of it"
SIDECARS = (".aux.xml", ".ovr", ".msk")


class _CallersError(Exception):
    """What went wrong in something else that a caller does while a raster is being filled."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that cannot be written, but of no error that is not its own.

    Raises:
        ResDepthError: if it cannot be written (disk full, no permission).
    """
    try:
        yield
    except _CallersError as error:
        raise error.error from None
    except (RasterioError, OSError) as error:
        raise ResDepthError(f"{path}: cannot be written ({error}); is there space left?") from error


class CheckedBand:
    """The band of an open one-band raster that is being filled, which remembers what it was given."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._failure: Exception | None = None
        self._checksums: list[tuple[RasterioWindow, int]] = []

    def write(self, window: RasterioWindow, values: NDArray[Any]) -> None:
        """Write a window; none is written twice."""
        try:
            self._dataset.write(values, 1, window=window)
        except (RasterioError, OSError) as error:
            self._failure = error
            raise
        self._checksums.append((window, _checksum(values)))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While the caller fills it: what the caller reads meanwhile is not to be blamed on it."""
        try:
            yield
        except (RasterioError, OSError) as error:
            if error is self._failure:
                raise
            raise _CallersError(error) from error

    def demand_kept(self, path: Path) -> None:
        """Read the closed file again: GDAL reports no error of what it writes when it closes a file.

        Raises:
            OSError: if it does not hold what was written.
            RasterioError: if it cannot be read.
        """
        with open_raster(path) as dataset:
            for window, found in self._checksums:
                if _checksum(dataset.read(1, window=window)) != found:
                    raise OSError(NOT_KEPT)


def _checksum(values: NDArray[Any]) -> int:
    return crc32(values.tobytes())


class GeoTiffWriter:
    """An open GeoTIFF that is being filled; see `new_geotiff`."""

    def __init__(self, band: CheckedBand, dtype: str, unit: Unit = METRE) -> None:
        self._band, self._dtype, self._unit = band, np.dtype(dtype), unit

    def write(self, row: int, values: NDArray[Any], *, col: int = 0) -> None:
        """Write full rows from `row` on, in a tiled file a part of them from `col` on; NaN becomes nodata."""
        values = self._unit.of_metres(values)
        stored = np.where(np.isnan(values), NODATA, values) if self._dtype.kind == "f" else values
        height, width = values.shape
        window = RasterioWindow(col, row, width, height)
        self._band.write(window, stored.astype(self._dtype))


@contextmanager
def new_geotiff(
    path: Path,
    grid: Grid,
    *,
    dtype: str = "float32",
    tile: int | None = None,
    overviews: bool = False,
    compression: Literal["lzw", "zstd"] = "lzw",
    unit: Unit | None = None,
) -> Iterator[GeoTiffWriter]:
    """Write a one-band GeoTIFF (nodata -9999); it appears under its name only once it is complete.

    Args:
        path: the file; its folder exists.
        grid: size and georeference.
        dtype: float32 or float64; or an integer type, which has no nodata value.
        tile: side of the file's tiles in pixels, a multiple of 16; None: it is stored row by row.
        overviews: add averaged ones, so that large rasters open at once.
        compression: lzw as the published code has it; zstd is several times as fast.
        unit: the file has its values, which come in metres, in this unit and states it; None: it states none.

    Raises:
        ResDepthError: if it cannot be written (disk full, no permission).
    """
    floats = np.dtype(dtype).kind == "f"
    layout = {"tiled": True, "blockxsize": tile, "blockysize": tile} if tile else {}
    layout |= {"zstd_level": 1} if compression == "zstd" else {}
    with writing(path), atomic_path(path) as temporary:
        with open_raster(
            temporary,
            "w",
            driver="GTiff",
            height=grid.height,
            width=grid.width,
            count=1,
            dtype=dtype,
            crs=storable(grid.crs) or None,
            transform=rasterio.Affine(*grid.transform),
            nodata=NODATA if floats else None,
            compress=compression.upper(),
            predictor=3 if floats else 2,
            BIGTIFF="IF_SAFER",
            **layout,
        ) as dataset:
            if unit is not None and unit.name:
                dataset.units = (unit.name,)
            band = CheckedBand(dataset)
            with band.in_use():
                yield GeoTiffWriter(band, dtype, unit or METRE)
        if overviews:
            _add_overviews(temporary, grid)
        band.demand_kept(temporary)
        demand_complete(temporary)
        remove_sidecars(path)


def demand_complete(path: Path) -> None:
    """See whether all tiles, those of overviews too, lie within the file.

    Raises:
        OSError: if not.
        RasterioError: if it cannot be read.
    """
    size = path.stat().st_size
    with open_raster(path) as dataset:
        levels = max((len(dataset.overviews(band)) for band in dataset.indexes), default=0)
    for level in (None, *range(levels)):
        with open_raster(path, **({} if level is None else {"overview_level": level})) as dataset:
            for band in dataset.indexes:
                for (row, col), _ in dataset.block_windows(band):
                    start, length = (
                        int(dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band) or 0)
                        for what in ("OFFSET", "SIZE")
                    )
                    if start + length > size:
                        raise OSError(NOT_KEPT)


def ownerless_sidecars(path: Path) -> list[Path]:
    """What lies beside a raster that is not there; nobody knows whose it is."""
    if os.path.lexists(path):
        return []
    return [sidecar for sidecar in _sidecars(path) if os.path.lexists(sidecar)]


def _sidecars(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in SIDECARS]


def remove_sidecars(path: Path) -> None:
    """Remove what GDAL, QGIS and others keep beside a raster that is about to be replaced.

    Its statistics, overviews and masks would be taken for those of the new one.

    Raises:
        ResDepthError: if it cannot be removed.
    """
    for sidecar in _sidecars(path):
        if is_there(sidecar):
            try:
                sidecar.unlink()
            except OSError as error:
                raise ResDepthError(
                    f"{sidecar}: of an earlier raster, cannot be removed ({error})"
                ) from error


def _add_overviews(path: Path, grid: Grid) -> None:
    """Each half as large as the one before, down to the size of a picture."""
    factors = [
        2**power for power in range(1, 16) if max(grid.height, grid.width) >> power >= SMALLEST_OVERVIEW_PX
    ]
    if factors:
        with open_raster(path, "r+") as dataset:
            dataset.build_overviews(factors, Resampling.average)


SHOWN = 5


def refuse_inputs_as_outputs(inputs: Iterable[Path | None], outputs: Iterable[Path]) -> None:
    """Refuse to write what is read.

    Two names are one file if the file system states so: symbolic and hard links, other spellings, the sources
    of virtual rasters and the files beside a raster (masks, overviews, statistics) are all seen.

    Args:
        inputs: files that are read, rasters or not; None and what is not there do not count.
        outputs: what may be written.

    Raises:
        ResDepthError: which output is which input.
    """
    read: dict[tuple[int, int], Path] = {}
    for path in inputs:
        for file in () if path is None else files_behind(path):
            if (identity := _identity(file)) is not None:
                read.setdefault(identity, file)
    for output in outputs:
        identity = _identity(output)
        if identity is not None and identity in read:
            called = "" if read[identity] == output else f" ({read[identity]})"
            raise ResDepthError(
                f"{output}: is an input{called}, which is never overwritten; choose another name or folder "
                "for the output"
            )


def refuse_existing(
    paths: Iterable[Path],
    *,
    overwrite: bool,
    why: str = "",
    remedy: str = "add --overwrite, or choose another name",
) -> None:
    """Refuse to write what is there already, be it a link that leads nowhere.

    What is an input is refused first (`refuse_inputs_as_outputs`), as no --overwrite lets it be written.

    Args:
        paths: what is to be written.
        overwrite: let it be replaced.
        why: what else is known of what is there, for the message.
        remedy: what to do.

    Raises:
        ResDepthError: which of them are there.
    """
    taken = [] if overwrite else [f"{path}" for path in paths if os.path.lexists(path)]
    if taken:
        more = f" and {len(taken) - SHOWN} more" if len(taken) > SHOWN else ""
        exist = "exists" if len(taken) == 1 else "exist"
        raise ResDepthError(f"{', '.join(taken[:SHOWN])}{more}: {exist} already{why}; {remedy}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino
