"""The data set of a simulated scene: what lies where in its folder, and the steps that write it.

The steps work block by block: memory does not grow with the area. A file that is there is complete, for it
appears under its name at the end; and a step that finds its files has nothing to do. So an interrupted
simulation resumes where it stopped.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resdepth.data.dataset_folder import DatasetFolder
from resdepth.geo.crs import METRE
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand
from resdepth.geo.rpc import ViewGeometry
from resdepth.geo.windows import Window, blocks
from resdepth.runtime.atomic import is_unfinished
from resdepth.runtime.prefetch import in_order
from resdepth.runtime.progress import Progress
from resdepth.simulate.plan import Day, Pair, Shot
from resdepth.simulate.render import Sensor, expose, in_shadow, shadow_reach_m
from resdepth.simulate.surface import (
    BUILDING_CLASSES,
    Look,
    ReferenceSurface,
    Relief,
    SurfaceClass,
    is_any,
    window_on,
)
from resdepth.stereo.matching import (
    MatcherSettings,
    filled,
    fused,
    matched,
    rasterized,
    refined_to,
    view_geometry,
)
from resdepth.stereo.ortho import RawImage, new_image, orthorectified

# What the simulation's own folder holds.
WORK = ("reference", "cells.tif")
IMAGE_BLOCK, MATCH_BLOCK, FILL_BLOCK, ORTHO_BLOCK, COPY_BLOCK = 640, 512, 1024, 2048, 1024
# How much of their surroundings blocks see, in cells: matching needs context, and voids their rims.
MATCH_HALO, FILL_HALO = 64, 192
TILE = 256
MASKS = {"building": BUILDING_CLASSES, "water": (SurfaceClass.WATER,), "forest": (SurfaceClass.FOREST,)}


@dataclass(frozen=True)
class SceneFolder(DatasetFolder):
    """The data set of a simulated scene, and what only the simulation writes."""

    def is_untidy(self) -> bool:
        """Whether the simulation's own folder is still there, and holds nothing that is somebody else's."""
        return (
            self.work.is_dir()
            and not self.work.is_symlink()
            and all(path.name in WORK or is_unfinished(path) for path in self.work.iterdir())
        )

    def raw(self, shot: Shot) -> Path:
        """A raw image, with its RPC."""
        return self.raw_image(shot.name)

    def ortho(self, shot: Shot) -> Path:
        """An ortho-image on the grid of the scene."""
        return self.ortho_image(shot.name)

    @property
    def record(self) -> Path:
        """Parameters, cameras and error metrics; written last."""
        return self.path / "scene.json"

    @property
    def requests(self) -> Path:
        """What the scene is made from; written first."""
        return self.path / "simulate.json"


Array = NDArray[np.float32]


@dataclass(frozen=True)
class Simulation:
    """Everything that the steps need to know.

    Attributes:
        reference: the surface that the scene shows.
        relief: how high it is where.
        look: its colours and textures.
        shots: the images to be taken.
        sensor: their camera.
        pairs: which of them are matched.
        matcher: how.
        margin_m: how far above and below the relief heights are looked for.
        folder: of the scene.
        workers: threads.
    """

    reference: ReferenceSurface
    relief: Relief
    look: Look
    shots: tuple[Shot, ...]
    sensor: Sensor
    pairs: tuple[Pair, ...]
    matcher: MatcherSettings
    margin_m: float
    folder: SceneFolder
    workers: int

    @property
    def factor(self) -> int:
        """Side in pixels of the cells that matching gives: about as large as the pixels of the images."""
        return max(1, round(self.matcher.step_m / self.reference.grid.gsd))

    @property
    def cells(self) -> Grid:
        """The grid of these cells; covers the scene, and perhaps a little more."""
        grid, n = self.reference.grid, self.factor
        a, b, c, d, e, f = grid.transform
        transform = (a * n, b * n, c, d * n, e * n, f)
        return Grid(-(-grid.height // n), -(-grid.width // n), transform, grid.crs, grid.crs_name)

    @property
    def matched(self) -> Path:
        """The raster of matched cells, voids left open."""
        return self.folder.work / "cells.tif"


def take_images(simulation: Simulation, progress: Progress) -> None:
    """Write the raw images that are not there yet; progress advances by 1 for each image."""
    wanted = [shot for shot in simulation.shots if not simulation.folder.raw(shot).exists()]
    progress.advance(len(simulation.shots) - len(wanted))
    tiles = {shot.name: list(blocks(shot.camera.whole, IMAGE_BLOCK)) for shot in wanted}
    jobs = [partial(_exposed, simulation, shot, block) for shot in wanted for block in tiles[shot.name]]
    exposed = in_order(jobs, simulation.workers)
    for shot in wanted:
        camera = shot.camera
        with new_image(simulation.folder.raw(shot), camera.height, camera.width, camera.rpc) as file:
            for block in tiles[shot.name]:
                file.write(block, next(exposed))
                progress.advance(1 / len(tiles[shot.name]))


def _exposed(simulation: Simulation, shot: Shot, block: Window) -> NDArray[np.uint16]:
    """A block of an image; no more relief is reckoned with than there is around it."""
    low, high = simulation.relief.whole
    rows = np.array([block.row, block.row, block.row_stop, block.row_stop], dtype=np.float64)
    cols = np.array([block.col, block.col_stop, block.col, block.col_stop], dtype=np.float64)
    ends = [shot.camera.view.on_plane(rows, cols, z) for z in (low, high)]
    x, y = (np.concatenate(values) for values in zip(*ends, strict=True))
    reach = shadow_reach_m(shot.day.sun, high - low)
    around = window_on(simulation.reference.grid, x, y, reach)
    heights = simulation.relief.within(around)
    return expose(simulation.reference, shot, simulation.sensor, block, heights=heights, look=simulation.look)


def match_pairs(simulation: Simulation, progress: Progress) -> None:
    """Match the pairs and fuse them by the median into the raster of cells; advances by 1 for each pair."""
    if simulation.matched.exists():
        progress.advance(len(simulation.pairs))
        return
    images = [RawImage(simulation.folder.raw(shot)) for shot in simulation.shots]
    parts = list(blocks(simulation.cells.whole, MATCH_BLOCK))
    jobs = [
        partial(_surface_of_pair, simulation, images[pair.first], images[pair.second], block)
        for block in parts
        for pair in simulation.pairs
    ]
    surfaces = in_order(jobs, simulation.workers)
    with new_geotiff(simulation.matched, simulation.cells, tile=TILE) as file:
        for block in parts:
            found = []
            for _ in simulation.pairs:
                found.append(next(surfaces))
                progress.advance(1 / len(parts))
            file.write(block.row, fused(found), col=block.col)


def _surface_of_pair(simulation: Simulation, first: RawImage, second: RawImage, block: Window) -> Array:
    """The heights of a block of cells that a pair shows, (H, W) float32, NaN = void."""
    cells, factor = simulation.cells, simulation.factor
    outer = block.grown(MATCH_HALO, cells.whole)
    pixels = Window(outer.row * factor, outer.col * factor, outer.height * factor, outer.width * factor)
    low, high = simulation.relief.within(pixels)
    limits = (low - simulation.margin_m, high + simulation.margin_m)
    part = cells.crop(outer)
    points = matched(first, second, part, limits, simulation.matcher)
    return rasterized(points, part)[block.relative_to(outer).slices]


def fill_initial(simulation: Simulation, progress: Progress) -> None:
    """Fill voids and cut cells into pixels: the initial DSM, the mask of its voids; advances by 1 in all."""
    initial, void = simulation.folder.initial, simulation.folder.mask("void")
    if initial.exists() and void.exists():
        progress.advance(1)
        return
    grid, factor = simulation.reference.grid, simulation.factor
    band = FileBand(simulation.matched)
    parts = list(blocks(band.grid.whole, FILL_BLOCK))
    fallback = _typical_height(band, parts)
    with (
        new_geotiff(void, grid, dtype="uint8", tile=TILE) as void_file,
        new_geotiff(initial, grid, tile=TILE, unit=METRE) as file,
    ):
        for block in parts:
            outer = block.grown(FILL_HALO, band.grid.whole)
            heights = band.read(outer)
            fine = refined_to(filled(heights, fallback), factor)
            empty = np.repeat(np.repeat(np.isnan(heights), factor, axis=0), factor, axis=1)
            row, col = block.row * factor, block.col * factor
            n_rows = min(block.row_stop * factor, grid.height) - row
            n_cols = min(block.col_stop * factor, grid.width) - col
            inner = block.relative_to(outer)
            part = Window(inner.row * factor, inner.col * factor, n_rows, n_cols).slices
            file.write(row, fine[part], col=col)
            void_file.write(row, empty[part].astype(np.uint8), col=col)
            progress.advance(1 / len(parts))


def write_shadows(simulation: Simulation, progress: Progress) -> None:
    """Write for each date a mask of the pixels in the shadow; progress advances by 1 for each date."""
    reference = simulation.reference
    dates = {shot.day.number: shot.day for shot in simulation.shots}
    parts = list(blocks(reference.grid.whole, COPY_BLOCK))
    for number, day in sorted(dates.items()):
        path = simulation.folder.mask(f"shadow_date{number + 1}")
        if path.exists():
            progress.advance()
            continue
        jobs = [partial(_shaded, simulation, day, block) for block in parts]
        with new_geotiff(path, reference.grid, dtype="uint8", tile=TILE) as file:
            for block, shaded in zip(parts, in_order(jobs, simulation.workers), strict=True):
                file.write(block.row, shaded.astype(np.uint8), col=block.col)
                progress.advance(1 / len(parts))


def _shaded(simulation: Simulation, day: Day, block: Window) -> NDArray[np.bool_]:
    low, high = simulation.relief.whole
    reach = round(shadow_reach_m(day.sun, high - low) / simulation.reference.grid.gsd)
    around = Window(block.row - reach, block.col - reach, block.height + 2 * reach, block.width + 2 * reach)
    low, high = simulation.relief.within(around)
    return in_shadow(simulation.reference, block, day, relief_m=high - low)


def _typical_height(band: FileBand, parts: Sequence[Window]) -> float:
    """The median of the blocks' medians: for blocks in which nothing was matched."""
    heights = [band.read(block) for block in parts]
    medians = [float(np.nanmedian(part)) for part in heights if not np.isnan(part).all()]
    return float(np.median(medians)) if medians else 0.0


def rectify_images(simulation: Simulation, progress: Progress) -> None:
    """Ortho-rectify the raw images with the initial DSM; advances by 1 for each image."""
    folder, grid = simulation.folder, simulation.reference.grid
    wanted = [shot for shot in simulation.shots if not folder.ortho(shot).exists()]
    progress.advance(len(simulation.shots) - len(wanted))
    parts = list(blocks(grid.whole, ORTHO_BLOCK))
    threads = max(1, simulation.workers)
    for shot in wanted:
        tags = geometry_of(shot, simulation).as_tags()
        with new_geotiff(folder.ortho(shot), grid, dtype="uint16", tile=TILE, tags=tags) as file:
            for block in parts:
                part = grid.crop(block)
                seen = orthorectified(folder.raw(shot), folder.initial, part, threads=threads)
                grey = np.clip(np.rint(np.nan_to_num(seen)), 0, np.iinfo(np.uint16).max)
                file.write(block.row, grey, col=block.col)
                progress.advance(1 / len(parts))


def geometry_of(shot: Shot, simulation: Simulation) -> ViewGeometry:
    """How heights displace what an image shows, as its RPC has it."""
    return view_geometry(shot.camera.rpc, simulation.reference.grid, sum(simulation.relief.whole) / 2)


def write_reference(simulation: Simulation, progress: Progress) -> None:
    """Write the reference DSM (void where unknown) and the masks; advances by 1 in all."""
    folder, reference = simulation.folder, simulation.reference
    masks = {name: folder.mask(name) for name in (*MASKS, "ground_truth")}
    if folder.reference.exists() and all(path.exists() for path in masks.values()):
        progress.advance(1)
        return
    parts = list(blocks(reference.grid.whole, COPY_BLOCK))
    with ExitStack() as stack:
        file = stack.enter_context(new_geotiff(folder.reference, reference.grid, tile=TILE, unit=METRE))
        mask_files = {
            name: stack.enter_context(new_geotiff(path, reference.grid, dtype="uint8", tile=TILE))
            for name, path in masks.items()
        }
        for block in parts:
            surface = reference.surface(block)
            file.write(block.row, np.where(surface.known, surface.height, np.nan), col=block.col)
            for name, mask in mask_files.items():
                inside = surface.known if name == "ground_truth" else is_any(surface.classes, MASKS[name])
                mask.write(block.row, inside.astype(np.uint8), col=block.col)
            progress.advance(1 / len(parts))
