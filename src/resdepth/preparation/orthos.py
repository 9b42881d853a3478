"""From a raw image to an ortho-image: its RPC moved with the DSM, the part it needs, what is hidden."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band
from resdepth.geo.reprojected import MapBand
from resdepth.geo.rpc import Rpc, ViewGeometry, fit_rpc, shifted_in_image
from resdepth.geo.windows import Window, blocks
from resdepth.preparation.coregister import Motion
from resdepth.runtime.prefetch import in_order
from resdepth.runtime.progress import Progress
from resdepth.stereo.ortho import (
    IMAGE_NODATA,
    Image,
    PanchromaticImage,
    new_image,
    reduced,
    to_geographic,
)
from resdepth.stereo.pairs import pixel_size_m
from resdepth.stereo.remeasure import Placement, projected

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Heights = tuple[float, float]

BLOCK_PX, TILE_PX, COPY_PX = 2048, 256, 1024
MARGIN_PX, MARGIN_M = 64, 60.0
"""Of the part of a raw image that is kept: around what the area needs, and above and below its heights."""
LATTICE, RPC_LATTICE = 9, (11, 11, 7)
MISFIT_PX = 0.02
"""So well an RPC that is fitted anew must keep its places."""
LARGEST_STEPS = 256
"""So many pixels towards the sensor things that hide a pixel are looked for."""
LEAST_SATURATED = 10
KINDS = {"uint8": "uint8", "uint16": "uint16", "int16": "uint16", "float32": "float32", "float64": "float32"}
"""In what grey values are kept, by what they are stored in; everything else as uint16."""


@dataclass(frozen=True)
class RawCopy:
    """The part of a raw image that shows the area, as it was written.

    Attributes:
        row, col: of its first pixel in the image.
        height, width: in pixels.
        bands: of the image, whose mean the grey values are.
        dtype: of the grey values.
        highest: grey value.
        saturated_from: grey values from here on are saturated; None: none are.
    """

    row: int
    col: int
    height: int
    width: int
    bands: int
    dtype: str
    highest: float
    saturated_from: float | None


def moved_rpc(rpc: Rpc, motion: Motion, grid: Grid, heights: Heights) -> Rpc:
    """The RPC that shows a surface that was moved where it showed it before.

    Args:
        rpc: of an image.
        motion: of the surface.
        grid: of the data set.
        heights: lowest and highest, metres, as the RPC counts them.

    Raises:
        ResDepthError: if an RPC cannot describe the tilt.
    """
    if motion.is_tilted:
        return _tilted_rpc(rpc, motion, grid, heights)
    x, y = grid.map_position(grid.height / 2, grid.width / 2)
    lon, lat = to_geographic(grid.crs, np.array([x, x + motion.east_m]), np.array([y, y + motion.north_m]))
    row, col, lat_off, lon_off, height_off = rpc.offsets
    offsets = (
        row, col, lat_off + float(lat[1] - lat[0]), lon_off + float(lon[1] - lon[0]), height_off + motion.up_m
    )  # fmt: skip
    return replace(rpc, offsets=offsets)


def _tilted_rpc(rpc: Rpc, motion: Motion, grid: Grid, heights: Heights) -> Rpc:
    xmin, ymin, xmax, ymax = grid.bounds
    ends = (xmin, xmax), (ymin, ymax), (heights[0] - 2 * MARGIN_M, heights[1] + 2 * MARGIN_M)
    axes = (np.linspace(*pair, count) for pair, count in zip(ends, RPC_LATTICE, strict=True))
    x, y, z = (one.ravel() for one in np.meshgrid(*axes, indexing="ij"))
    before_x, before_y = x - motion.east_m, y - motion.north_m
    row, col = rpc.project(*to_geographic(grid.crs, before_x, before_y), z - motion.rise(x, y))
    lon, lat = to_geographic(grid.crs, x, y)
    found = fit_rpc(lon, lat, z, row, col)
    misfit = np.abs(np.stack(found.project(lon, lat, z)) - np.stack([row, col])).max()
    if misfit > MISFIT_PX:
        raise ResDepthError(
            f"images: an RPC cannot follow the tilt of the DSM ({misfit:.3f} pixels are left); co-register "
            "without tilt"
        )
    return found


def part_of(image: Image, name: str, grid: Grid, heights: Heights) -> Window:
    """The part of a raw image that shows the area of a grid.

    Args:
        image: raw, its RPC as it will be written.
        name: of the image, for messages.
        grid: of the data set.
        heights: lowest and highest, metres, as the RPC counts them.

    Raises:
        ResDepthError: if it shows nothing of it.
    """
    at = np.linspace(0, 1, LATTICE)
    r, c = np.meshgrid(at * grid.height, at * grid.width, indexing="ij")
    x, y = grid.map_position(r, c)  # type: ignore[arg-type] # arrays as well
    lon, lat = to_geographic(grid.crs, np.asarray(x), np.asarray(y))
    ends = heights[0] - MARGIN_M, heights[1] + MARGIN_M
    places = [np.stack(image.rpc.project(lon, lat, np.full(lon.shape, z))) for z in ends]
    rows, cols = np.concatenate(places, axis=1)
    whole = image.grid.whole
    row, col = max(int(rows.min()) - MARGIN_PX, 0), max(int(cols.min()) - MARGIN_PX, 0)
    below = min(int(rows.max()) + MARGIN_PX, whole.height)
    right = min(int(cols.max()) + MARGIN_PX, whole.width)
    if below <= row or right <= col:
        raise ResDepthError(
            f"{name}: shows nothing of the area of the DSM (it would lie at rows {rows.min():.0f} to "
            f"{rows.max():.0f} and columns {cols.min():.0f} to {cols.max():.0f} of its {whole.height} x "
            f"{whole.width} pixels); is its RPC its own, and the DSM's CRS right?"
        )
    return Window(row, col, below - row, right - col)


def write_raw(image: PanchromaticImage, rpc: Rpc, part: Window, path: Path, progress: Progress) -> RawCopy:
    """Write a part of a raw image with an RPC of its own, in the sensor's bits.

    Args:
        image: of one band, or of several that are averaged.
        rpc: that the whole image would have.
        part: of the image.
        path: the GeoTIFF.
        progress: advances by 1 in all.

    Raises:
        ResDepthError: if it cannot be read or written.
    """
    dtype = KINDS.get(image.dtype, "uint16")
    here = shifted_in_image(rpc, -part.row, -part.col)
    highest, count = 0.0, 0
    parts = list(blocks(Window(0, 0, part.height, part.width), COPY_PX))
    with new_image(path, part.height, part.width, here, dtype=dtype) as file:
        for block in parts:
            values = np.nan_to_num(image.read(block.moved(part.row, part.col)), nan=IMAGE_NODATA)
            most = max(float(values.max()), highest)
            count = (count if most == highest else 0) + int((values == most).sum())
            highest = most
            file.write(block, _in_bits(values, dtype))
            progress.advance(1 / len(parts))
    is_full = dtype != "float32" and highest >= 255 and (int(highest) + 1) & int(highest) == 0
    saturated = highest if is_full and count >= LEAST_SATURATED else None
    return RawCopy(part.row, part.col, part.height, part.width, image.bands, dtype, highest, saturated)


def _in_bits(values: Array, dtype: str) -> NDArray[np.generic]:
    if dtype == "float32":
        return values
    return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)


def write_ortho(
    raw: Image, dsm: Band, path: Path, *, dtype: str, geometry: ViewGeometry, threads: int, progress: Progress
) -> float:
    """Ortho-rectify a raw image with a DSM, cubic; 0 is nodata, where it shows nothing.

    Nothing is looked at but the DSM: what it hides or misplaces shows up as ghosts, as in the published data.

    Args:
        raw: with its RPC.
        dsm: heights as the RPC counts them, without voids, on the grid of the ortho-image.
        path: the GeoTIFF.
        dtype: of its grey values.
        geometry: written into its tags.
        threads: that rectify blocks.
        progress: advances by 1 in all.

    Returns:
        The share of its pixels that show something, 0 to 1.

    Raises:
        ResDepthError: if a file cannot be read or written.
    """
    grid = dsm.grid.flat
    larger = max(int(grid.gsd_m / pixel_size_m(raw.rpc, raw.grid.whole.shape, grid.crs)), 1)
    image, seen_px = reduced(raw, larger), 0  # or fine pixels would be skipped
    parts = list(blocks(grid.whole, COPY_PX))
    jobs = (partial(_rectified, image, dsm, part) for part in parts)
    tags = geometry.as_tags()
    with new_geotiff(path, grid, dtype=dtype, tile=TILE_PX, nodata=IMAGE_NODATA, tags=tags) as file:
        for part, seen in zip(parts, in_order(jobs, threads), strict=True):
            seen_px += int((~np.isnan(seen)).sum())
            file.write(part.row, _grey(seen, dtype), col=part.col)
            progress.advance(1 / len(parts))
    return seen_px / grid.whole.area


def _rectified(image: Image, dsm: Band, part: Window) -> Array:
    grid = dsm.grid.flat.crop(part)
    return projected(image, grid, dsm.read(part), Placement(), kernel="cubic")


def _grey(seen: Array, dtype: str) -> NDArray[np.generic]:
    """Grey values as an ortho-image has them: what is seen is never 0 by rounding."""
    if dtype == "float32":
        return seen
    grey = np.clip(np.rint(np.nan_to_num(seen, nan=0)), 1, np.iinfo(dtype).max)
    return np.where(np.isnan(seen), 0, grey).astype(dtype)


def write_given_ortho(source: MapBand, grid: Grid, path: Path, progress: Progress) -> float:
    """Put an ortho-image of any grid onto that of the data set; returns the share that shows something.

    Raises:
        ResDepthError: if it shows nothing of the area, or a file cannot be read or written.
    """
    dtype, parts, seen_px = KINDS.get(source.header.dtype, "uint16"), list(blocks(grid.whole, BLOCK_PX)), 0
    geometry = source.geometry
    tags = None if geometry is None else geometry.as_tags()
    with new_geotiff(path, grid, dtype=dtype, tile=TILE_PX, nodata=IMAGE_NODATA, tags=tags) as file:
        for block in parts:
            seen = source.on(grid.crop(block))
            seen_px += int((~np.isnan(seen)).sum())
            file.write(block.row, _grey(seen, dtype), col=block.col)
            progress.advance(1 / len(parts))
        if not seen_px:
            raise ResDepthError(f"{source.path}: shows nothing of the area of the DSM; is its CRS right?")
    return seen_px / grid.whole.area


def write_hidden(dsm: Band, geometry: ViewGeometry, path: Path, *, threads: int, progress: Progress) -> float:
    """Write a mask of what a view does not see, because something higher stands in between.

    Args:
        dsm: without voids, metres.
        geometry: of the view.
        path: the mask; 1 where hidden.
        threads: that compute blocks.
        progress: advances by 1 in all.

    Returns:
        The share of hidden pixels, 0 to 1.

    Raises:
        ResDepthError: if it cannot be written.
    """
    grid = dsm.grid.flat
    parts, count = list(blocks(grid.whole, COPY_PX)), 0
    jobs = (partial(_hidden_block, dsm, geometry, part) for part in parts)
    with new_geotiff(path, grid, dtype="uint8", tile=TILE_PX) as file:
        for part, mask in zip(parts, in_order(jobs, threads), strict=True):
            count += int(mask.sum())
            file.write(part.row, mask.astype(np.uint8), col=part.col)
            progress.advance(1 / len(parts))
    return count / grid.whole.area


def _hidden_block(dsm: Band, geometry: ViewGeometry, part: Window) -> Mask:
    outer = part.grown(LARGEST_STEPS, within=dsm.grid.whole)
    grid = dsm.grid
    x, y = grid.map_position(part.row + part.height / 2, part.col + part.width / 2)
    east, north = (float(one) for one in geometry.at(x, y))
    inner = part.relative_to(outer)
    return hidden(dsm.read(outer), inner, (-east / grid.gsd, -north / grid.gsd))


def hidden(heights: Array, inner: Window, towards_px: tuple[float, float]) -> Mask:
    """Where a ray to the sensor meets something higher.

    Args:
        heights: (H, W) float32, metres, without voids.
        inner: the part of it that is asked for.
        towards_px: pixels to the right and up by which the ray moves towards the sensor as it rises a metre.
    """
    result = np.zeros(inner.shape, np.bool_)
    right, up = towards_px
    steepness = float(np.hypot(right, up))  # pixels for each metre
    here = heights[inner.slices]
    if steepness < 1e-6:
        return result
    steps = min(int((float(heights.max()) - float(here.min())) * steepness) + 1, LARGEST_STEPS)
    whole = Window(0, 0, *heights.shape)
    for step in range(1, steps + 1):
        rise = np.float32(step / steepness)
        moved = inner.moved(-round(up / steepness * step), round(right / steepness * step))
        there = moved.grown(0, within=whole)
        if there.height <= 0 or there.width <= 0:
            break
        part = there.relative_to(moved).slices
        result[part] |= heights[there.slices] > here[part] + rise
    return result


def write_saturated(ortho: Band, level: float, path: Path, progress: Progress) -> None:
    """Write a mask of the saturated pixels of an ortho-image; progress advances by 1 in all."""
    parts = list(blocks(ortho.grid.whole, COPY_PX))
    with new_geotiff(path, ortho.grid, dtype="uint8", tile=TILE_PX) as file:
        for part in parts:
            with np.errstate(invalid="ignore"):
                full = ortho.read(part) >= level - 0.5
            file.write(part.row, full.astype(np.uint8), col=part.col)
            progress.advance(1 / len(parts))
