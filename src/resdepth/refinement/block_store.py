"""What is to be refined, and how it is cut into blocks, which fit into memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from resdepth.data.scene import Scene, ViewSet
from resdepth.geo.raster import Array
from resdepth.geo.windows import Window, block_counts, even_blocks
from resdepth.options import Fuse, Mode
from resdepth.refinement.engine import Refiner
from resdepth.refinement.reference_surface import Reference

EXACT_BLOCK_PX = 1024
"""Tiles at the rims of blocks are computed twice; with such blocks few are."""
LARGEST_SIDE_PX = 2048
"""Of a block in seamless refinement, whose area is a matter of memory."""


@dataclass(frozen=True)
class Work:
    """What is done with each block of a raster.

    Attributes:
        scene: DSM and views.
        region: what is refined.
        view_sets: the views to show the network, one set after the other; ((),) without views.
        mode: "exact" as published, or "seamless".
        tile: side in pixels of the tiles of the model's training.
        fill: keep the heights of voids that could be filled.
        fuse: how the results of several view sets become one.
    """

    scene: Scene
    region: Window
    view_sets: tuple[ViewSet, ...]
    mode: Mode
    tile: int
    fill: bool = False
    fuse: Fuse = "median"

    @cached_property
    def reference(self) -> Reference:
        """What seamless heights are measured from; docs/refine.md tells why twice the tile."""
        down, right = self.scene.grid.lattice_origin

        def read(window: Window) -> Array:
            return self.scene.dsm.read(window.moved(-down, -right))

        return Reference(read, self.scene.grid.whole.moved(down, right), 2 * self.tile)

    @property
    def spreads(self) -> bool:
        """Whether there are several results for each pixel."""
        return len(self.view_sets) > 1


def blocks_of(work: Work, refiner: Refiner) -> Iterator[Window]:
    """The blocks of a region, row by row; where they meet, the network's cells meet."""
    step = 1 if work.mode == "exact" else 2**refiner.model.architecture.depth
    counts = block_counts_of(work, refiner)
    return even_blocks(work.region, counts, step, work.scene.grid.lattice_origin)


def block_counts_of(work: Work, refiner: Refiner) -> tuple[int, int]:
    """Into how many rows and columns of blocks a region is cut."""
    if work.mode == "exact":
        side = max(EXACT_BLOCK_PX, 4 * work.tile)
        return -(-work.region.height // side), -(-work.region.width // side)
    # Edges lie on the network's cells, so blocks may become larger by a cell, and see one more.
    halo = refiner.model.architecture.halo_px + 2**refiner.model.architecture.depth
    return block_counts(work.region.shape, halo=halo, area=_block_area(refiner), side=LARGEST_SIDE_PX)


def _block_area(refiner: Refiner) -> int:
    """Pixels of the largest blocks, with what lies around them: at least one of the network's cells."""
    cell: int = 2**refiner.model.architecture.depth
    return max(refiner.block_area(), (3 * cell + 2 * refiner.model.architecture.halo_px) ** 2)


def computed_times(refiner: Refiner) -> float:
    """How often seamless refinement computes a pixel of a large raster, for its block and for others."""
    cell, halo = 2**refiner.model.architecture.depth, refiner.model.architecture.halo_px
    side = math.sqrt(_block_area(refiner)) - 2 * (halo + cell)
    return float((side + 2 * halo) / side) ** 2
