"""Overviews of large rasters, from a coarse copy: a raster without overviews is read in full for each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from resdepth.evaluation.inputs import Read
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Array
from resdepth.geo.resampling import Method, read_resampled
from resdepth.report.page import PageContent
from resdepth.runtime.atomic import temporary_folder
from resdepth.runtime.prefetch import in_order

# Twice as fine as what pages and figures show, so that a copy's own pixels are not seen.
COPY_PX = 2800
THREADS = 2


@dataclass(frozen=True)
class _Look:
    """A raster, and its coarse copy.

    Attributes:
        read: its pixels on any grid.
        copy: the file of the copy.
        grid: of the copy.
        method: how the copy becomes coarser.
    """

    read: Read
    copy: Path
    grid: Grid
    method: Method

    def prepare(self) -> None:
        """Make the copy."""
        with new_geotiff(self.copy, self.grid, compression="zstd") as written:
            written.write(0, self.read(self.grid))

    def on(self, grid: Grid) -> Array:
        """The pixels on a grid: from the copy if it is fine enough."""
        if grid.gsd < 2 * self.grid.gsd:
            return self.read(grid)
        return read_resampled(self.copy, grid, self.method)


@contextmanager
def quick_looks(content: PageContent) -> Iterator[PageContent]:
    """The same content, whose overviews are read quickly while this lasts."""
    whole = content.grid
    if whole is None or max(whole.height, whole.width) <= 2 * COPY_PX:
        yield content
        return
    grid = whole.flat.coarser(COPY_PX)  # copies are in metres
    with temporary_folder(Path(gettempdir()), "looks") as folder:
        looks: list[_Look] = []

        def quick(reads: Mapping[str, Read], method: Method) -> dict[str, Read]:
            found: dict[str, Read] = {}
            for name, read in reads.items():
                look = _Look(read, folder / f"{len(looks)}.tif", grid, method)
                looks.append(look)
                found[name] = look.on
            return found

        quickened = replace(
            content,
            surfaces=quick(content.surfaces, "average"),
            images=quick(content.images, "average"),
            masks=quick(content.masks, "nearest"),
        )
        for _ in in_order((partial(_Look.prepare, look) for look in looks), THREADS):
            pass
        yield quickened
