"""A point cloud as a raster of heights."""

from pathlib import Path

from resdepth.geo.crs import METRE
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.windows import blocks
from resdepth.simulate.sources.pointcloud import PointSource

BLOCK_PX, TILE_PX = 1024, 256


def write_points(source: PointSource, path: Path) -> None:
    """Write the highest points of a cloud, metres, nodata where there are none.

    Raises:
        ResDepthError: if the file cannot be written.
    """
    with new_geotiff(path, source.grid, tile=TILE_PX, unit=METRE) as file:
        for part in blocks(source.grid.whole, BLOCK_PX):
            file.write(part.row, source.read(part).height, col=part.col)
