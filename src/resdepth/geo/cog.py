"""Blocks, each in a file of its own, become one Cloud-Optimised GeoTIFF."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from resdepth.errors import ResDepthError
from resdepth.geo.crs import storable
from resdepth.geo.gdal import open_raster
from resdepth.geo.geotiff import NODATA, NOT_KEPT, demand_complete
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window, row_bands
from resdepth.options import Compression
from resdepth.runtime.atomic import atomic_path, seal, write_text

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
