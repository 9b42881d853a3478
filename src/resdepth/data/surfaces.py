"""Surfaces as Python users have them: arrays, or files."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from resdepth.data.scene import Scene
from resdepth.errors import ResDepthError
from resdepth.geo.raster import Array

Surface = Array | str | Path


def scene_of(
    dsm: Surface,
    images: Sequence[Surface],
    *,
    truth: Surface | None = None,
    masks: Mapping[str, Surface] | None = None,
    gsd: float | None = None,
    nodata: float | None = None,
) -> Scene:
    """A scene from arrays, or from files.

    Raises:
        ResDepthError: if both are mixed, a file cannot be read, shapes or grids differ, or `nodata` is given
            for files.
    """
    surfaces = [dsm, *images, *([] if truth is None else [truth]), *(masks or {}).values()]
    are_paths = {isinstance(surface, str | Path) for surface in surfaces}
    if len(are_paths) > 1:
        raise ResDepthError("give either arrays or paths, not a mixture: arrays have no georeference")
    refuse_nodata_of_files(nodata, are_paths)
    if gsd is not None and not (np.isfinite(gsd) and gsd > 0):
        raise ResDepthError(f"gsd: found {gsd}; the side of a pixel in metres must be positive")
    if gsd is not None and are_paths == {True}:
        raise ResDepthError(f"gsd: found {gsd}; it is for arrays; files state their own")
    if are_paths == {True}:
        return Scene.open(dsm, images, truth=truth, masks=masks)  # type: ignore[arg-type] # all are paths
    side = 1.0 if gsd is None else gsd
    return Scene.of_arrays(dsm, images, truth=truth, masks=masks, gsd=side, nodata=nodata)  # type: ignore[arg-type]


def refuse_nodata_of_files(nodata: float | None, are_paths: Collection[bool]) -> None:
    """Refuse a nodata value that is given beside files.

    Raises:
        ResDepthError: saying where files declare it.
    """
    if nodata is not None and True in are_paths:
        raise ResDepthError(
            f"nodata: found {nodata}; it is for arrays; files declare it (gdal_edit.py -a_nodata {nodata:g})"
        )
