"""What is asked of `refine`: images to show, region, tiles; refused where it fits neither model nor DSM."""

import logging
import operator
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from resdepth.config.rules import smallest_tile
from resdepth.config.schema import DEFAULT_TILE_SIZE
from resdepth.data.scene import Scene, ViewSet, read_pair_list
from resdepth.errors import InputProblems, ResDepthError, has_errors
from resdepth.geo.grid import Bounds
from resdepth.geo.objects import path_of
from resdepth.geo.windows import Window
from resdepth.models.model import Model
from resdepth.options import Fuse, Mode, option
from resdepth.refinement.dask import SECONDS_TO_WAIT

logger = logging.getLogger(__name__)

Pairs = Sequence[Sequence[int]] | str | Path
Region = Bounds | Window

LARGEST_TILE, N_BOUNDS = 2048, 4


def refuse_unknown(**choices: tuple[object, Any]) -> None:
    """Refuse values that a parameter does not have; type checkers are not always asked."""
    for name, (value, kind) in choices.items():
        known = [one for part in get_args(kind) for one in (get_args(part) or (part,))]
        if value not in known and not (value is None and type(None) in known):
            stated = ", ".join(repr(one) for one in known if isinstance(one, str))
            raise ResDepthError(f"{name}: found {value!r}; known: {stated}")


def refuse_contradictions(
    output: str | Path | None, scheduler: str | None, workers: int, wait_for_workers: float, given: list[Any]
) -> None:
    """Refuse options that exclude each other."""
    if scheduler is not None and not all(path_of(one) for one in given):
        raise ResDepthError("scheduler: workers of a cluster see files alone; give paths")
    if scheduler is not None and workers > 1:
        raise ResDepthError("scheduler, workers: give one of them; workers of a cluster are started there")
    if scheduler is None and wait_for_workers != SECONDS_TO_WAIT:
        raise ResDepthError(
            f"{option('wait_for_workers')} is for a cluster; name it with {option('scheduler')}"
        )
    if output is None and (scheduler is not None or workers > 1):
        raise ResDepthError("scheduler, workers: need an output, which other processes can help to make")


def refuse_images(model: Model, count: int) -> None:
    """Refuse images for a model that sees none, before anything is asked of them."""
    inputs = model.architecture.inputs
    if count and not inputs.n_views:
        raise ResDepthError(f"images: found {count}; the model {name_of(model)} takes none")


def view_sets_of(model: Model, scene: Scene, pairs: Pairs | None) -> tuple[ViewSet, ...]:
    """What to show the model.

    Raises:
        ResDepthError: if the number of images does not fit the model, or a pair names what is not there.
    """
    n_views, n_images = model.architecture.inputs.n_views, len(scene.views)
    if pairs is None:
        if n_images != n_views:
            more = f"; name the sets to use with {option('pairs')}" if n_images > n_views > 0 else ""
            raise ResDepthError(f"images: found {n_images}; this model takes {n_views}{more}")
        return (tuple(range(n_images)),)
    if isinstance(pairs, str | Path):
        return listed_pairs(Path(pairs), scene.image_paths, n_views)
    if not all(isinstance(one, Sequence) for one in pairs):
        raise ResDepthError(f"pairs: found {pairs!r}; give sets of indices, [(0, 1), (1, 2)]")
    sets = tuple(tuple(int(view) if isinstance(view, np.integer) else view for view in one) for one in pairs)
    for one in sets:
        if len(one) != n_views or len(set(one)) < len(one) or not set(one) <= set(range(n_images)):
            raise ResDepthError(
                f"pairs: found {one}; this model takes {n_views} different indices below {n_images}"
            )
    if not sets:
        raise ResDepthError("pairs: there is none; name the images to use")
    return sets


def listed_pairs(pairs: Path, images: Sequence[Path], n_views: int = 2) -> tuple[ViewSet, ...]:
    """The sets of images that a pair list names, by their indices."""
    names = Counter(path.name for path in images)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ResDepthError(f"images: {', '.join(twice)} occurs twice; pair lists need unique file names")
    if not images:
        raise ResDepthError("pairs: a list names image files; give the images as paths, or indices here")
    found, problems = read_pair_list(pairs, images, n_views)
    if has_errors(problems):
        raise InputProblems(problems)
    for problem in problems:
        logger.warning("%s", problem)
    return found


def window_of(scene: Scene, region: Region | None) -> Window:
    """The pixels that are asked for; None: all.

    Raises:
        ResDepthError: if the region is none, or no part of the DSM.
    """
    if region is None:
        return scene.grid.whole
    if not isinstance(region, Window):
        if isinstance(region, str) or len(region) != N_BOUNDS:
            raise ResDepthError(f"region: found {region!r}; give xmin, ymin, xmax, ymax, or a Window")
        return scene.grid.window_of(region)
    if region.area <= 0 or not scene.grid.whole.contains(region):
        raise ResDepthError(f"region: {region} is no part of the DSM, {scene.grid.whole}")
    return region


def checked_tile(model: Model, tile_size: int | None, window: Window, mode: Mode) -> int:
    """The size of tiles that is asked for, or that of the training.

    Raises:
        ResDepthError: if it does not fit the model, or the DSM in mode exact.
    """
    tile = _tile_of(model) if tile_size is None else operator.index(tile_size)
    smallest = smallest_tile(model.architecture.depth)
    largest = max(LARGEST_TILE, smallest)
    if tile & (tile - 1) or not smallest <= tile <= largest:
        raise ResDepthError(f"tile_size: found {tile}; must be a power of two from {smallest} to {largest}")
    if mode == "exact" and min(window.shape) < tile:
        raise ResDepthError(
            f"dsm: {window.height} x {window.width} pixels are smaller than a tile; tile_size is {tile}. "
            "The mode seamless takes any size"
        )
    return tile


def _tile_of(model: Model) -> int:
    """The tile size that a model was trained with."""
    if "tile_size" not in model.provenance:
        logger.warning(
            "%s does not tell the tile size of its training; taking %d", model.source, DEFAULT_TILE_SIZE
        )
    tile = model.provenance.get("tile_size", DEFAULT_TILE_SIZE)
    if not isinstance(tile, int):
        raise ResDepthError(f"{model.source}: its tile_size is {tile!r}; give one with {option('tile_size')}")
    return tile


def error_kept(
    model: Model, mode: Mode, fuse: Fuse | None, *, uncertainty: bool | None, by_default: bool
) -> bool:
    """Whether the expected error of each height is kept.

    Raises:
        ResDepthError: if it is asked for where nobody knows it.
    """
    known = model.architecture.knows_error and mode == "seamless"
    if known:
        return by_default if uncertainty is None else uncertainty
    asked = "fuse: uncertainty" if fuse == "uncertainty" else "uncertainty" if uncertainty else None
    if asked is not None:
        raise ResDepthError(
            f"{asked}: the model {name_of(model)} in mode {mode} does not know the error of its heights; "
            "the bundled models fusion and dsm-alone do, in mode seamless"
        )
    return False


def name_of(model: Model) -> str:
    """What a model is called in messages: its file, or else its architecture."""
    return Path(model.source).stem or model.architecture.name
