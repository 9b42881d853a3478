"""From raw images with RPCs to the DSM that our own matcher makes of them: files in, a GeoTIFF out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdepth.errors import ResDepthError
from resdepth.geo.crs import metres_per_unit
from resdepth.geo.geotiff import ownerless_sidecars, refuse_existing, refuse_inputs_as_outputs
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand, count_voids, read_header
from resdepth.geo.windows import blocks
from resdepth.runtime.atomic import temporary_folder
from resdepth.runtime.progress import progress_bar
from resdepth.stereo.ortho import RawImage
from resdepth.stereo.pairs import Stereo, StereoPair, demand_overlap, ground_grid, heights_of, write_surface

logger = logging.getLogger(__name__)

N_HEIGHTS, LEAST_IMAGES = 2, 2
COUNT_BLOCK_PX = 1024


@dataclass(frozen=True)
class MatchedDsm:
    """A DSM that was matched from images.

    Attributes:
        path: the GeoTIFF: metres above the WGS 84 ellipsoid, nodata where nothing is matched.
        grid: of it.
        pairs: of images that were used, by their indices.
        void_share: share of its pixels without a height, 0 to 1.
    """

    path: Path
    grid: Grid
    pairs: tuple[StereoPair, ...]
    void_share: float


def match_images(
    images: Sequence[str | Path],
    output: str | Path,
    *,
    like: str | Path | None = None,
    gsd: float | None = None,
    heights: Sequence[float] | None = None,
    threads: int = 2,
    overwrite: bool = False,
) -> MatchedDsm:
    """Make a DSM of raw satellite images, which need nothing but their RPCs.

    All pairs of suitable directions are matched semi-globally (Hirschmueller 2008), from coarse to fine; the
    pairs whose images agree best are fused by the median.

    Args:
        images: two or more raw images with RPCs (in the tags, or in the files that GDAL finds beside them).
        output: the GeoTIFF to write.
        like: a raster whose grid the DSM gets; without it, UTM over what two images show.
        gsd: pixel size in metres, without `like`; by default about that of the images.
        heights: lowest and highest to look for, metres above the ellipsoid; by default all that the RPCs
            allow.
        threads: that match blocks.
        overwrite: replace an output that is there.

    Raises:
        ResDepthError: if images do not fit together, or something cannot be read or written.
    """
    paths, target = [Path(image) for image in images], Path(output)
    if len(paths) < LEAST_IMAGES:
        raise ResDepthError(f"images: found {len(paths)}; heights need at least two, of one place")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ResDepthError("images: one is given twice; heights need views from different directions")
    refuse_inputs_as_outputs([*paths, Path(like) if like else None], [target])
    if target.suffix.lower() not in {".tif", ".tiff"}:
        raise ResDepthError(f"{target}: should end in .tif; the DSM is a GeoTIFF")
    refuse_existing([target, *ownerless_sidecars(target)], overwrite=overwrite)
    if not target.parent.is_dir():
        raise ResDepthError(f"{target}: there is no folder {target.parent}")
    opened = [RawImage(path) for path in paths]
    rpcs = [image.rpc for image in opened]
    grid = grid_to_match(opened, Path(like) if like else None, gsd)
    stereo = Stereo(opened, grid, heights_to_match(heights) or heights_of(rpcs), threads=threads)
    with temporary_folder(target.parent, target.name) as work, progress_bar("matching", 1) as progress:
        pairs = write_surface(stereo, target, work, progress)
    for pair in pairs:
        logger.info(
            "pair %s, %s: base to height %.2f, correlation at the matches %.2f",
            paths[pair.first].name, paths[pair.second].name, pair.base_to_height, pair.agreement,
        )  # fmt: skip
    void = count_voids(FileBand(target), blocks(grid.whole, COUNT_BLOCK_PX)) / grid.whole.area
    return MatchedDsm(target, grid, pairs, void)


def heights_to_match(given: Sequence[float] | None) -> tuple[float, float] | None:
    """The lowest and the highest height that are asked for, metres; None: all that RPCs allow.

    Raises:
        ResDepthError: if they are no range.
    """
    if given is None:
        return None
    if len(given) != N_HEIGHTS or not np.isfinite(given).all() or not given[0] < given[1]:
        raise ResDepthError(f"heights: found {given!r}; give the lowest and the highest, in metres")
    return float(given[0]), float(given[1])


def grid_to_match(images: Sequence[RawImage], like: Path | None, gsd: float | None) -> Grid:
    """The grid of the DSM: that of `like`, or UTM over what two images show.

    Raises:
        ResDepthError: if it cannot be taken, or the images do not overlap there.
    """
    if like is None:
        if gsd is not None and not 0 < gsd < np.inf:
            raise ResDepthError(f"gsd: found {gsd}; must be a positive number of metres")
        return ground_grid([image.rpc for image in images], [image.grid.whole.shape for image in images], gsd)
    if gsd is not None:
        raise ResDepthError("gsd: the grid of `like` has its own pixel size; give one of the two")
    grid = read_header(like).grid.flat
    if not grid.crs or metres_per_unit(grid.crs) != 1 or grid.is_slanted:
        raise ResDepthError(
            f"{like}: its grid ({grid.crs_name}) cannot be taken; a projected CRS in metres and rectangular "
            "pixels are needed"
        )
    demand_overlap(grid, [image.rpc for image in images], [image.grid.whole.shape for image in images])
    return grid
