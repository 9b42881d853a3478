"""Surfaces that were moved onto the reference DSM, as rasters."""

from collections.abc import Mapping
from pathlib import Path

from resdepth.evaluation.evaluate import Case
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.units import METRE
from resdepth.geo.windows import blocks, bounding

BLOCK_PX, TILE_PX = 1024, 256


def write_aligned(case: Case, paths: Mapping[str, Path]) -> list[str]:
    """Write each surface that was moved, on the grid of the reference DSM, as it is compared there.

    Heights are those of the moved surface, resampled as the evaluation does it, with its vertical shift;
    voids, and what the surface does not cover, are nodata (-9999). The raster covers the evaluated regions.

    Args:
        case: what was evaluated, aligned.
        paths: by the name of a surface, the file to write.

    Returns:
        The names of the surfaces that were moved, and so written.

    Raises:
        ResDepthError: if a surface cannot be read, or a file not be written.
    """
    region = bounding(case.regions)
    grid = case.truth.grid.crop(region).flat
    moved = [one for one in case.surfaces if one.name in paths and case.shifts[one.name].applied]
    for surface in moved:
        with new_geotiff(
            paths[surface.name], grid, tile=TILE_PX, overviews=True, compression="zstd", unit=METRE
        ) as file:
            for block in blocks(region, BLOCK_PX):
                file.write(block.row - region.row, surface.band.read(block), col=block.col - region.col)
    return [one.name for one in moved]
