"""From the sketches of a file to a complete true surface in rasters."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdepth.errors import ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.runtime.atomic import temporary_folder
from resdepth.runtime.progress import Progress
from resdepth.simulate.sources.crowns import crown_numbers, crown_reach_px
from resdepth.simulate.sources.filling import CELL, REACH, coarse_heights, fill
from resdepth.simulate.sources.guess import guess_classes, guess_reach_px
from resdepth.simulate.sources.masking import Masks, with_yes, without_no
from resdepth.simulate.sources.options import TruthOptions
from resdepth.simulate.sources.parts import Parts
from resdepth.simulate.sources.scratch import new_array
from resdepth.simulate.sources.sketch import SketchSource
from resdepth.simulate.sources.stored import new_layers
from resdepth.simulate.surface import BUILDING_CLASSES, VEGETATION_CLASSES, Heights, Surface, is_any

# Side of the windows that are worked on at once, and how much more is seen around them; multiples of CELL.
CORE = 1024
MAX_MARGIN = 1024


def make_truth(
    path: Path, source: SketchSource, options: TruthOptions, work: Path, progress: Progress
) -> None:
    """Fill the voids of a file's sketches, guess the classes that it does not tell, and number objects.

    Memory depends on the size of the windows only. Classes and crowns are found with a margin around each
    window; only a lake, a forest or a hall that reaches beyond it may look different in two windows.

    Args:
        path: the file, for messages.
        source: reads it.
        options: name the masks.
        work: where the four rasters are written.
        progress: advances by 1 in all.

    Raises:
        ResDepthError: if the file has no heights in the scene, a mask does not fit, or the disk is full.
    """
    grid = source.grid
    masks = Masks(options.masks, grid)
    windows = list(_windows(grid))

    def heights(window: Window) -> Heights:
        progress.advance(0.2 * window.area / grid.whole.area, note="heights")
        return source.read(window).height

    coarse, found = coarse_heights(grid, windows, heights)
    if found == 0:
        raise ResDepthError(
            f"{path}: there are no heights in the scene, only voids; choose another extent or file"
        )
    maker = _Maker(source, masks, coarse)
    with temporary_folder(work, "making") as folder:
        shape = (grid.height, grid.width)
        numbers = new_array(folder / "numbers", np.int32, shape)
        parts = Parts(new_array(folder / "parts", np.int32, shape))
        with new_layers(work, grid, "surface", "known", "classes") as files:
            for window in windows:
                surface = maker.surface(window)
                numbers[window.slices] = surface.objects
                parts.add(window, is_any(surface.classes, BUILDING_CLASSES) & (surface.objects == 0))
                files["surface"].write(window.row, surface.height, col=window.col)
                files["known"].write(window.row, surface.known, col=window.col)
                files["classes"].write(window.row, surface.classes, col=window.col)
                progress.advance(0.7 * window.area / grid.whole.area, note="classes")
        with new_layers(work, grid, "objects") as files:
            for window in windows:
                part = parts.final(window)
                objects = np.where(part > 0, part + source.n_objects, numbers[window.slices])
                files["objects"].write(window.row, objects, col=window.col)
                progress.advance(0.1 * window.area / grid.whole.area, note="objects")
        del numbers, parts


def _windows(grid: Grid) -> Iterator[Window]:
    for row in range(0, grid.height, CORE):
        for col in range(0, grid.width, CORE):
            yield Window(row, col, min(CORE, grid.height - row), min(CORE, grid.width - col))


def _margin(source: SketchSource) -> int:
    reach = REACH
    if source.guessing != "nothing":
        reach = max(reach, guess_reach_px(source.grid.gsd), crown_reach_px(source.grid.gsd))
    return min(-(-reach // CELL) * CELL, MAX_MARGIN)


@dataclass(frozen=True)
class _Maker:
    source: SketchSource
    masks: Masks
    coarse: Heights

    def surface(self, window: Window) -> Surface:
        """The complete surface of a window; only buildings that the file does not number have no number."""
        grid = self.source.grid
        outer = window.grown(_margin(self.source), grid.whole)
        sketch = self.source.read(outer)
        height = fill(sketch.height, outer, self.coarse)
        masks = self.masks.read(outer)
        stated = with_yes(sketch.classes, masks)
        guessed = guess_classes(height, sketch.known, stated, self.source)
        classes = without_no(guessed, stated, masks)
        plants = is_any(classes, VEGETATION_CLASSES)
        crowns = crown_numbers(height, plants, grid.gsd, outer, grid.width)
        objects = np.where(plants, crowns, sketch.objects)
        whole = Surface(height, sketch.known, classes, objects.astype(np.int32))
        return whole.crop(window.relative_to(outer))
