"""A raster in blocks, and one block refined: what is read for it, what the network makes of it, what is kept.

A block's result depends on nothing but the place: not on the other blocks, nor on their order. So blocks can
be computed by anybody at any time.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt

from resdepth.data.normalization import Inputs
from resdepth.data.scene import Scene, ViewSet
from resdepth.geo.gdal import decoded_at_most
from resdepth.geo.raster import Array, ArrayBand
from resdepth.geo.windows import TileGrid, Window, aligned, block_counts, even_blocks, tile_grid
from resdepth.options import Fuse, Mode
from resdepth.refinement.engine import Refiner
from resdepth.refinement.provenance import Moved, Provenance
from resdepth.refinement.reference_surface import Reference
from resdepth.refinement.tiles import Strip, refine_tiles
from resdepth.runtime.prefetch import in_order
from resdepth.stereo.ortho import fill_voids

FILL_REACH_PX = 100
"""How far a void looks for heights; wider voids are seen as lying at the reference height."""
DECODED_BYTES = 16 * 2**20
"""Bytes that GDAL keeps of what it has decoded for a block. The next one needs little of it, and what lies
between the network's maps for long takes more memory than its own."""
NORMAL_MAD = 1.4826
"""Makes the median absolute deviation of normally distributed heights their standard deviation."""


LEAST_ERROR_M = 0.01
"""Weights of results do not grow with smaller errors."""

HOLE_PX, PASSES_PX = 16, 32
"""What no image shows is refined without images from so many pixels inside on; over so many more, one result
passes into the other. Small holes, as wild heights leave them, stay with what lies around."""

_Result = tuple[Array, Array | None]
"""Heights, and their errors where a network knows them."""


@dataclass(frozen=True)
class Given:
    """What was read for a block.

    Attributes:
        block: the pixels to be refined.
        near: all of the raster that the network looks at.
        heights: (h, w) float32 over `near`, metres, NaN = void; voids are filled as far as heights are near.
        void: (H, W) over the block: where there was no height.
        views: (h, w) float32 each over `near`, by their index, NaN = void.
        reference: (h, w) float64 over `near`, metres; None in exact refinement.
    """

    block: Window
    near: Window
    heights: Array
    void: NDArray[np.bool_]
    views: Mapping[int, Array]
    reference: NDArray[np.float64] | None

    @property
    def inside(self) -> Window:
        """The block, counted from the corner of what is near."""
        return self.block.relative_to(self.near)


@dataclass(frozen=True)
class RefinedBlock:
    """A finished block.

    Attributes:
        block: its pixels.
        heights: (H, W) float32, metres, NaN = void.
        spread: of the results of several view sets, (H, W) float32, metres; None if there is one.
        error: expected standard error of the heights, (H, W) float32, metres; None if it is not wanted.
        provenance: (H, W) uint8, see `Provenance`.
        moved: how far the measured heights were moved.
    """

    block: Window
    heights: Array
    spread: Array | None
    error: Array | None
    provenance: NDArray[np.uint8]
    moved: Moved


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
        with_error: keep the expected error of each height; the network must know it, the mode be seamless.
    """

    scene: Scene
    region: Window
    view_sets: tuple[ViewSet, ...]
    mode: Mode
    tile: int
    fill: bool = False
    fuse: Fuse = "median"
    with_error: bool = False

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


def read_block(work: Work, block: Window, refiner: Refiner) -> Given:
    """Read what a block needs.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    whole = work.scene.grid.whole
    near = _MODES[work.mode].looks_at(work, block, refiner).grown(0, within=whole)
    heights, void = filled_heights(work.scene, near)
    reference = _reference(work, near, heights) if work.mode == "seamless" else None
    used = sorted({index for view_set in work.view_sets for index in view_set})
    views = {index: work.scene.views[index].read(near) for index in used}
    return Given(block, near, heights, void[block.relative_to(near).slices], views, reference)


def _reference(work: Work, near: Window, heights: Array) -> NDArray[np.float64]:
    reference = work.reference.over(near.moved(*work.scene.grid.lattice_origin))
    # In the midst of a wide void no mean is near: there the filled heights are their own reference.
    np.copyto(reference, heights, where=np.isnan(reference))
    return reference


def filled_heights(scene: Scene, near: Window) -> tuple[Array, NDArray[np.bool_]]:
    """The heights of a window, voids filled from its surroundings, and where there were voids."""
    heights = scene.dsm.read(near)
    void = np.isnan(heights)
    if void.any():
        around = near.grown(FILL_REACH_PX, within=scene.grid.whole)
        measured = scene.dsm.read(around)
        if not np.isnan(measured).all():
            heights = fill_voids(measured, FILL_REACH_PX)[near.relative_to(around).slices]
    return heights, void


def refine_block(work: Work, given: Given, refiner: Refiner) -> RefinedBlock:
    """Refine a block with each view set, and put the results together."""
    void = given.void
    initial, sigma_m = given.heights[given.inside.slices], refiner.model.normalization.height_sigma
    kept = ~np.isnan(initial) if work.fill else ~void
    if not kept.any():
        nothing = np.full(given.block.shape, np.nan, dtype=np.float32)
        spread = nothing.copy() if work.spreads else None
        error = nothing.copy() if work.with_error else None
        provenance = np.full(void.shape, Provenance.VOID, dtype=np.uint8)
        return RefinedBlock(given.block, nothing, spread, error, provenance, Moved(sigma_m))
    results = [_MODES[work.mode].refine(work, given, view_set, refiner) for view_set in work.view_sets]
    near = [_all_seen(given, view_set, refiner.inputs) for view_set in work.view_sets]
    seen = [one[given.inside.slices] for one in near]
    (heights, error), spread = results[0], None
    if len(results) > 1:
        heights, spread, error = _fused(results, seen, kept, work.fuse)
    if refiner.beyond is not None:
        heights, error = _with_beyond(
            work, given, refiner.beyond, np.logical_or.reduce(near), (heights, error)
        )
    kept &= np.isfinite(heights)
    provenance = np.full(void.shape, Provenance.REFINED, dtype=np.uint8)
    provenance[~np.logical_or.reduce(seen)] = Provenance.WITHOUT_IMAGE
    provenance[void] = Provenance.FILLED
    provenance[~kept] = Provenance.VOID
    for band in (heights, spread, error):
        if band is not None:
            band[~kept] = np.nan
    moved = Moved.between(initial[~void], heights[~void], sigma_m)
    return RefinedBlock(given.block, heights, spread, error if work.with_error else None, provenance, moved)


def _all_seen(given: Given, view_set: ViewSet, inputs: Inputs) -> NDArray[np.bool_]:
    """Where each view of a set shows something, in all that is near."""
    if inputs.matched:
        if not view_set:
            return np.zeros(given.near.shape, dtype=bool)
        view_set = view_set[1:]  # matched heights have voids where images show something
    seen = np.ones(given.near.shape, dtype=bool)
    for index in view_set:
        seen &= ~np.isnan(given.views[index])
    return seen


def _with_beyond(
    work: Work, given: Given, beyond: Refiner, seen: NDArray[np.bool_], result: _Result
) -> _Result:
    """A result with that of another model where no image shows anything, into which it passes smoothly."""
    inside = given.inside.slices
    if seen[inside].all():
        return result
    far = HOLE_PX + PASSES_PX
    away = distance_transform_cdt(~seen, "chessboard") if seen.any() else np.full(seen.shape, far)
    share = np.clip((away[inside] - np.float32(HOLE_PX)) / PASSES_PX, 0, 1)
    if not share.any():
        return result
    other = _refine_seamlessly(work, given, (), beyond)
    heights, error = (
        one if one is None or another is None else one + share * (another - one)
        for one, another in zip(result, other, strict=True)
    )
    assert heights is not None, "there are always heights"
    return heights, error


def _fused(
    results: list[_Result], seen: list[NDArray[np.bool_]], kept: NDArray[np.bool_], fuse: Fuse
) -> tuple[Array, Array, Array | None]:
    """One height from several, their spread, and the error; where some views see nothing, the others decide.

    The errors of all results have much in common, the initial DSM above all: the error of the fused height is
    their mean, weighted as the heights are, and no smaller for there being more of them.
    """
    stack, seeing = np.stack([heights for heights, _ in results])[:, kept], np.stack(seen)[:, kept]
    stack[~seeing & seeing.any(axis=0)] = np.nan  # (sets, pixels)
    errors = [error[kept] for _, error in results if error is not None]
    weights = np.isfinite(stack).astype(np.float64)
    if fuse == "uncertainty":
        weights /= np.maximum(np.stack(errors), LEAST_ERROR_M).astype(np.float64) ** 2
    with np.errstate(invalid="ignore"):  # a pixel without any height
        weights /= weights.sum(axis=0)
    if fuse == "median":
        middle = np.nanmedian(stack, axis=0)
        deviation = NORMAL_MAD * np.nanmedian(np.abs(stack - middle), axis=0)
    else:
        middle = np.nansum(weights * stack, axis=0)
        middle[~np.isfinite(stack).any(axis=0)] = np.nan
        deviation = np.sqrt(np.nansum(weights * (stack - middle) ** 2, axis=0))
    heights, spread, error = (np.full(kept.shape, np.nan, dtype=np.float32) for _ in range(3))
    heights[kept], spread[kept] = middle, deviation
    if not errors:
        return heights, spread, None
    error[kept] = (weights * np.stack(errors)).sum(axis=0)
    return heights, spread, error


def _tiles(work: Work, block: Window) -> TileGrid:
    return tile_grid(work.region, work.tile, work.tile // 2).touching(block)


def _tiles_area(work: Work, block: Window, refiner: Refiner) -> Window:  # noqa: ARG001 - as its sibling
    return _tiles(work, block).region


def _refine_exactly(work: Work, given: Given, view_set: ViewSet, refiner: Refiner) -> _Result:
    """As published: tiles with half their side as stride, each above its own mean, merged by ramps."""
    grid = _tiles(work, given.block)
    area = work.scene.grid.crop(grid.region)
    views = {index: ArrayBand(given.views[index], area) for index in view_set}
    scene = Scene(work.scene.name, area, ArrayBand(given.heights, area), views=views)
    here = TileGrid(area.whole, grid.tile, grid.rows, grid.cols)
    inside = given.block.relative_to(grid.region)
    refined = np.empty(here.region.shape, dtype=np.float32)
    for strip in refine_tiles(scene, view_set, here, refiner):
        refined[strip.row : strip.row + len(strip.values)] = strip.values
    return refined[inside.slices].copy(), None


def _seen_by_network(work: Work, block: Window, refiner: Refiner) -> Window:
    """The block and its halo in whole cells of the network; may reach beyond the raster."""
    architecture = refiner.model.architecture
    down, right = work.scene.grid.lattice_origin
    cells = aligned(block.moved(down, right), 2**architecture.depth)
    halo = architecture.halo_px
    return Window(
        cells.row - down - halo, cells.col - right - halo, cells.height + 2 * halo, cells.width + 2 * halo
    )


def _refine_seamlessly(work: Work, given: Given, view_set: ViewSet, refiner: Refiner) -> _Result:
    """The block at once, with all that the network looks at, above a reference that the place decides."""
    seen, near, reference = _seen_by_network(work, given.block, refiner), given.near, given.reference
    assert reference is not None, "blocks of seamless refinement come with it"
    margin = (
        (near.row - seen.row, seen.row_stop - near.row_stop),
        (near.col - seen.col, seen.col_stop - near.col_stop),
    )
    views = [given.views[index] for index in view_set]
    return refiner.refine_above(reference, given.heights, views, given.inside, margin)


@dataclass(frozen=True)
class _Way:
    """How one mode refines.

    Attributes:
        looks_at: the pixels that a block depends on.
        refine: the heights of a block with one view set, and their errors.
    """

    looks_at: Callable[[Work, Window, Refiner], Window]
    refine: Callable[[Work, Given, ViewSet, Refiner], _Result]


_MODES: dict[Mode, _Way] = {
    "exact": _Way(_tiles_area, _refine_exactly),
    "seamless": _Way(_seen_by_network, _refine_seamlessly),
}


def refined_blocks(
    work: Work, refiner: Refiner, windows: Iterable[Window], *, workers: int = 1
) -> Iterator[RefinedBlock]:
    """Refine blocks one after the other, in their order.

    Args:
        work: what to do.
        refiner: the model, and how it runs.
        windows: the blocks.
        workers: threads that read blocks ahead; 0 reads when the network waits.
    """
    with decoded_at_most(DECODED_BYTES):
        for given in in_order((partial(read_block, work, window, refiner) for window in windows), workers):
            yield refine_block(work, given, refiner)


def refined_strips(work: Work, refiner: Refiner, *, workers: int = 1) -> Iterator[Strip]:
    """The refined heights of the region, in strips from top to bottom, NaN = void.

    Args:
        work: what to do.
        refiner: the model, and how it runs.
        workers: threads that read blocks ahead.
    """
    row: list[RefinedBlock] = []
    for done in refined_blocks(work, refiner, blocks_of(work, refiner), workers=workers):
        row.append(done)
        if done.block.col_stop == work.region.col_stop:
            values = np.hstack([one.heights for one in row]).astype(np.float64)
            yield Strip(done.block.row - work.region.row, values)
            row = []


EXACT_BLOCK_PX = 1024
"""Tiles at the rims of blocks are computed twice; with such blocks few are."""
LARGEST_SIDE_PX = 2048
"""Of a block in seamless refinement, whose area is a matter of memory."""


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
