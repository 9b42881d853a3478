"""Surfaces as Python users have them: arrays, or files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from resdepth.errors import ResDepthError
from resdepth.raster import Array
from resdepth.scene import Scene

Surface = Array | str | Path


def scene_of(
    dsm: Surface,
    images: Sequence[Surface],
    *,
    truth: Surface | None = None,
    masks: Mapping[str, Surface] | None = None,
    gsd: float = 1.0,
) -> Scene:
    """A scene from arrays, or from files.

    Raises:
        ResDepthError: if both are mixed, a file cannot be read, or shapes or grids differ.
    """
    surfaces = [dsm, *images, *([] if truth is None else [truth]), *(masks or {}).values()]
    are_paths = {isinstance(surface, str | Path) for surface in surfaces}
    if len(are_paths) > 1:
        raise ResDepthError("give either arrays or paths, not a mixture: arrays have no georeference")
    if are_paths == {True}:
        return Scene.open(dsm, images, truth=truth, masks=masks)  # type: ignore[arg-type] # all are paths
    return Scene.of_arrays(dsm, images, truth=truth, masks=masks, gsd=gsd)  # type: ignore[arg-type]
