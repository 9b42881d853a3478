"""Rasters out: GeoTIFFs that appear complete or not at all, and never over what is read.

Blocks, each in a file of its own, become one Cloud-Optimised GeoTIFF.
"""

import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from resdepth.errors import ResDepthError
from resdepth.geo.crs import METRE, Unit, storable
from resdepth.geo.gdal import open_raster
from resdepth.geo.grid import Grid
from resdepth.geo.raster import files_behind
from resdepth.geo.windows import Window, row_bands
from resdepth.options import Compression, option
from resdepth.runtime.atomic import atomic_path, seal, write_text
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
def new_geotiff(  # noqa: PLR0913 - options of a file
    path: Path,
    grid: Grid,
    *,
    dtype: str = "float32",
    tile: int | None = None,
    overviews: bool = False,
    compression: Literal["lzw", "zstd"] = "lzw",
    unit: Unit | None = None,
    nodata: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[GeoTiffWriter]:
    """Write a one-band GeoTIFF (nodata -9999); it appears under its name only once it is complete.

    Args:
        path: the file; its folder exists.
        grid: size and georeference.
        dtype: float32 or float64; or an integer type, which has `nodata` alone.
        tile: side of the file's tiles in pixels, a multiple of 16; None: it is stored row by row.
        overviews: add averaged ones, so that large rasters open at once.
        compression: lzw as the published code has it; zstd is several times as fast.
        unit: the file has its values, which come in metres, in this unit and states it; None: it states none.
        nodata: the number that stands for a void in a file of integers; None: no number does.
        tags: text to keep in the file.

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
            nodata=NODATA if floats else nodata,
            compress=compression.upper(),
            predictor=3 if floats else 2,
            BIGTIFF="IF_SAFER",
            **layout,
        ) as dataset:
            if unit is not None and unit.name:
                dataset.units = (unit.name,)
            if tags:
                dataset.update_tags(**tags)
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
    remedy: str = "",
) -> None:
    """Refuse to write what is there already, be it a link that leads nowhere.

    What is an input is refused first (`refuse_inputs_as_outputs`), as nothing lets it be written.

    Args:
        paths: what is to be written.
        overwrite: let it be replaced.
        why: what else is known of what is there, for the message.
        remedy: what to do; "": overwrite, or choose another name.

    Raises:
        ResDepthError: which of them are there.
    """
    taken = [] if overwrite else [f"{path}" for path in paths if os.path.lexists(path)]
    if taken:
        more = f" and {len(taken) - SHOWN} more" if len(taken) > SHOWN else ""
        exist = "exists" if len(taken) == 1 else "exist"
        remedy = remedy or f"add {option('overwrite', value=True)}, or choose another name"
        raise ResDepthError(f"{', '.join(taken[:SHOWN])}{more}: {exist} already{why}; {remedy}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


TILE_PX = 512
# Higher levels of zstd take twice the time for a percent of the size.
_LEVELS = {"zstd": "1", "deflate": "6"}
_GDAL_TYPES = {"float32": "Float32", "uint8": "Byte"}


@dataclass(frozen=True)
class Layer:
    """What the bands of a mosaic are.

    Attributes:
        names: of the bands.
        dtype: float32 or uint8.
        unit: of the values; "" for none.
        nodata: the number that stands for a void.
        overviews: how pixels become coarser ones.
    """

    names: tuple[str, ...]
    dtype: Literal["float32", "uint8"] = "float32"
    unit: str = ""
    nodata: float = NODATA
    overviews: Literal["average", "nearest"] = "average"


def write_block(
    path: Path, grid: Grid, layer: Layer, bands: Sequence[NDArray[Any]], tags: Mapping[str, str] | None = None
) -> None:
    """Write the bands of one block, quick to write and to read, and sealed; NaN becomes nodata.

    Raises:
        ResDepthError: if it cannot be written.
    """
    stored = np.array(bands, dtype=layer.dtype)
    np.copyto(stored, layer.nodata, where=np.isnan(stored))
    moments = [_moments_of(values, layer.nodata) for values in stored]
    try:
        with atomic_path(path, sweep=False) as temporary:
            with open_raster(
                temporary, "w", driver="GTiff", height=grid.height, width=grid.width, count=len(bands),
                dtype=layer.dtype, nodata=layer.nodata, tiled=True, sparse_ok=True,
                blockxsize=_tile_side(grid.width), blockysize=_tile_side(grid.height),
                crs=storable(grid.crs) or None, transform=rasterio.Affine(*grid.transform),
            ) as dataset:  # fmt: skip
                if any(one.count for one in moments):
                    dataset.write(stored)
                dataset.update_tags(**(tags or {}))
                for number, one in enumerate(moments, 1):
                    dataset.update_tags(number, **one.as_tags())
            _demand_kept(temporary, stored)
            seal(temporary, path.name)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise ResDepthError(f"{path}: cannot be written ({error}); is there space left?") from error


def _demand_kept(path: Path, stored: NDArray[Any]) -> None:
    with open_raster(path) as written:
        if not np.array_equal(written.read(), stored):
            raise OSError(NOT_KEPT)


def _tile_side(length: int) -> int:
    """Of tiles of at most TILE_PX that cover a length with little beyond its end: those are stored whole."""
    count = -(-length // TILE_PX)
    return -(-length // (16 * count)) * 16


def write_cog(
    path: Path,
    grid: Grid,
    layer: Layer,
    parts: Mapping[Window, Path],
    *,
    compression: Compression,
    tags: Mapping[str, str],
) -> None:
    """Put blocks together; the file appears under its name only once it is complete.

    It is tiled and compressed, and has overviews, statistics, units and tags. Memory does not grow with it.

    Args:
        path: the file; its folder exists.
        grid: of the whole.
        layer: what the bands are.
        parts: the blocks' files by their place in the grid.
        compression: of the tiles.
        tags: text to keep in the file.

    Raises:
        ResDepthError: if a block cannot be read, or the file cannot be written.
    """
    options: dict[str, str] = {
        "compress": compression.upper(),
        "blocksize": str(TILE_PX),
        "bigtiff": "IF_SAFER",
        "num_threads": "ALL_CPUS",
        "overview_resampling": layer.overviews.upper(),
    }
    if compression != "none":
        options["predictor"] = "YES"
    if compression in _LEVELS:
        options["level"] = _LEVELS[compression]
    try:
        with atomic_path(path) as temporary:
            in_order = dict(sorted(parts.items()))
            statistics = _statistics(layer, in_order, grid.height * grid.width)
            rows = _write_rows(grid, layer, in_order)
            source = _virtual(grid, layer, rows, tags, statistics)
            # What a thread sets for GDAL holds for itself alone, if it is not the main one.
            with ThreadPoolExecutor(1, thread_name_prefix="cog") as thread:
                thread.submit(_copy, source, temporary, options).result()
            demand_complete(temporary)
    # A copy that breaks off raises GDAL's own errors, which rasterio names nowhere else.
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise ResDepthError(f"{path}: cannot be written ({error}); is there space left?") from error


def _copy(source: str, path: Path, options: Mapping[str, str]) -> None:
    # Overviews wait in a file of their own until their turn; to pack that, too, doubles the time.
    with rasterio.Env(COG_TMP_COMPRESSION="NONE"):
        rasterio.shutil.copy(source, path, driver="COG", **options)


@dataclass(frozen=True)
class _Moments:
    """What statistics are made of, block by block.

    Attributes:
        count: of the pixels that are no voids.
        mean: of their values.
        squares: sum of the squared deviations from the mean.
        low, high: the smallest and the largest.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def __add__(self, other: "_Moments") -> "_Moments":
        """Those of both together (Chan et al. 1983)."""
        count = self.count + other.count
        if not other.count:
            return self
        shift = other.mean - self.mean
        mean = self.mean + shift * other.count / count
        squares = self.squares + other.squares + shift**2 * self.count * other.count / count
        return _Moments(count, mean, squares, min(self.low, other.low), max(self.high, other.high))

    def as_tags(self) -> dict[str, str]:
        return {name: repr(value) for name, value in asdict(self).items()}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "_Moments":
        return cls(int(tags["count"]), *(float(tags[name]) for name in ("mean", "squares", "low", "high")))


def _moments_of(values: NDArray[Any], nodata: float) -> _Moments:
    total = _Moments()
    for rows in row_bands(values.shape):
        some = values[rows]
        some = some[some != nodata].astype(np.float64)
        if some.size:
            mean, low, high = float(some.mean()), float(some.min()), float(some.max())
            some -= mean
            total += _Moments(some.size, mean, float(np.square(some, out=some).sum()), low, high)
    return total


def _statistics(layer: Layer, parts: Mapping[Window, Path], pixels: int) -> list[dict[str, str]]:
    """GDAL's statistics of each band, from those of the blocks: nobody has to read the whole for them."""
    totals = [_Moments() for _ in layer.names]
    for path in parts.values():
        with open_raster(path) as dataset:
            totals = [
                total + _Moments.from_tags(dataset.tags(number)) for number, total in enumerate(totals, 1)
            ]
    return [
        {
            "STATISTICS_MINIMUM": repr(total.low),
            "STATISTICS_MAXIMUM": repr(total.high),
            "STATISTICS_MEAN": repr(total.mean),
            "STATISTICS_STDDEV": repr(math.sqrt(total.squares / total.count)),
            "STATISTICS_VALID_PERCENT": f"{100 * total.count / pixels:.4g}",
        }
        if total.count
        else {}
        for total in totals
    ]


def _write_rows(grid: Grid, layer: Layer, parts: Mapping[Window, Path]) -> dict[Window, Path]:
    """A virtual raster for each row of blocks, beside them: GDAL looks through all sources for each tile."""
    rows: dict[Window, dict[Window, Path]] = {}
    for window, path in parts.items():
        row = Window(window.row, 0, window.height, grid.width)
        rows.setdefault(row, {})[window.relative_to(row)] = path
    written = {}
    for row, blocks in rows.items():
        path = next(iter(blocks.values())).parent / f"{layer.names[0]}_row_{row.row}.vrt"
        write_text(path, _virtual(grid.crop(row), layer, blocks), sweep=False)
        written[row] = path
    return written


def _virtual(
    grid: Grid, layer: Layer, parts: Mapping[Window, Path], tags: Mapping[str, str] | None = None,
    statistics: Sequence[Mapping[str, str]] = (),
) -> str:  # fmt: skip
    """GDAL's description of a raster that consists of others."""
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    if grid.crs:
        ET.SubElement(root, "SRS").text = storable(grid.crs)
    a, b, c, d, e, f = grid.transform
    ET.SubElement(root, "GeoTransform").text = ", ".join(repr(float(value)) for value in (c, a, b, f, d, e))
    _add_metadata(root, tags or {})
    for number, name in enumerate(layer.names, 1):
        band = ET.SubElement(root, "VRTRasterBand", dataType=_GDAL_TYPES[layer.dtype], band=str(number))
        _add_metadata(band, statistics[number - 1] if statistics else {})
        ET.SubElement(band, "Description").text = name
        ET.SubElement(band, "NoDataValue").text = repr(layer.nodata)
        if layer.unit:
            ET.SubElement(band, "UnitType").text = layer.unit
        for window, path in parts.items():
            _add_source(band, number, layer, window, path)
    return ET.tostring(root, encoding="unicode")


def _add_metadata(element: ET.Element, items: Mapping[str, str]) -> None:
    metadata = ET.SubElement(element, "Metadata")
    for name, value in items.items():
        ET.SubElement(metadata, "MDI", key=name).text = value


def _add_source(band: ET.Element, number: int, layer: Layer, window: Window, path: Path) -> None:
    source = ET.SubElement(band, "SimpleSource")
    ET.SubElement(source, "SourceFilename", relativeToVRT="0").text = str(path.resolve())
    ET.SubElement(source, "SourceBand").text = str(number)
    width, height = str(window.width), str(window.height)
    # Stated, so that GDAL need not open every block to find out.
    ET.SubElement(
        source, "SourceProperties", RasterXSize=width, RasterYSize=height, DataType=_GDAL_TYPES[layer.dtype],
        BlockXSize=str(TILE_PX), BlockYSize=str(TILE_PX),
    )  # fmt: skip
    ET.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
    ET.SubElement(source, "DstRect", xOff=str(window.col), yOff=str(window.row), xSize=width, ySize=height)
