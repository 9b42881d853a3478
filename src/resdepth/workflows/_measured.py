"""What the fusion network sees, from what users have: raw images with RPCs, ortho-images, or a DSM alone."""

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from resdepth.data.normalization import N_MATCHED_LAYERS
from resdepth.data.scene import Scene, Surface, ViewSet, scene_of
from resdepth.errors import InputProblems, Problem, ResDepthError
from resdepth.evaluation.coregistration import estimate_shift, sample_windows
from resdepth.geo.crs import metres_per_unit
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Array, Band, FileBand, read_header
from resdepth.geo.windows import Window, blocks
from resdepth.refinement.job import described_file
from resdepth.runtime.atomic import temporary_folder, write_json
from resdepth.runtime.jsonfiles import demand, read_json
from resdepth.runtime.prefetch import in_order
from resdepth.runtime.progress import progress_bar
from resdepth.stereo.ortho import RawImage, has_rpc, reduced
from resdepth.stereo.pairs import NoUsefulPair, StereoPair, demand_overlap, pixel_size_m
from resdepth.stereo.remeasure import (
    LAYERS,
    MARGIN_PX,
    TILE_PX,
    WINDOWS_PX,
    Around,
    Contrast,
    Pair,
    Placement,
    chosen_pairs,
    height_offset,
    local_correlation,
    write_agreement,
    write_matched,
)
from resdepth.stereo.self_calibration import (
    Direction,
    LocalBand,
    NotFound,
    UnrectifiedImage,
    confirmed_direction,
    found_direction,
    found_shift,
)
from resdepth.version import __version__

logger = logging.getLogger(__name__)

UNIT_M = 1.0
"""Metres of height per normalised unit where no images show it: 0.5 m pixels and a base to height of 0.5."""
LEAST_SHIFT_PX, LEAST_RISE, MOST_ROUNDS = 0.5, 0.25, 3
"""From such a shift in pixels, or rise in units of height, the DSM lies elsewhere in the images."""
BLOCK_PX = 1024
FINER = 1.3
"""A DSM with pixels smaller than those of the images by more is matched in pixels of the images."""
SURROUNDINGS_PX = 256
"""Of a region, which are measured as well: what the network sees of them."""
LINUX = hasattr(os, "sched_getaffinity")
LEAST_IMAGES = 2
RECORD, PLACEMENT = "measured.json", "placement"
Numbers = tuple[int, int]


class _PairRecord(BaseModel):
    """A pair that is measured; see `Pair`."""

    first: int
    second: int
    base_to_height: float
    row_shift: float
    unit_m: float


class _ViewRecord(BaseModel):
    """An ortho-image of which it is known from where it was seen.

    Attributes:
        number: of the image.
        direction: rows and columns, metres, by which a metre of height displaces it.
        shift: rows and columns, pixels, by which it lies beside the first of them.
    """

    number: int
    direction: tuple[float, float]
    shift: tuple[float, float]


class _Record(BaseModel):
    """What a folder of measurements belongs to, and what was found so far.

    Attributes:
        inputs: all that the rasters depend on.
        views: ortho-images whose directions are found; None: they have not been looked for.
        pairs: that are measured, numbered as the images or the views; None until they are chosen.
        placement: of the DSM in raw images: metres east, north and up.
        unit_m: metres of height per normalised unit.
    """

    inputs: dict[str, Any]
    views: list[_ViewRecord] | None = None
    pairs: list[_PairRecord] | None = None
    placement: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unit_m: float = 1.0


@dataclass(frozen=True)
class Measured:
    """What the fusion network is shown.

    Attributes:
        scene: the DSM, and five rasters for each pair of images.
        view_sets: the rasters of each pair; ((),) without any.
        unit_m: metres of height per normalised unit.
    """

    scene: Scene
    view_sets: tuple[ViewSet, ...]
    unit_m: float


@contextmanager
def shown_to_fusion(
    dsm: Surface,
    images: Sequence[Surface],
    *,
    pairs: Sequence[Sequence[int]] | None = None,
    gsd: float | None = None,
    nodata: float | None = None,
    region: Window | None = None,
    folder: Path | None = None,
) -> Iterator[Measured]:
    """What the fusion network is shown of a DSM and images of any kind.

    Args:
        dsm: array or path.
        images: arrays or paths; raw images with RPCs, or ortho-images on the DSM's grid.
        pairs: of images, by their indices; None: those that suit best.
        gsd: pixel size of arrays, metres.
        nodata: of the DSM, for arrays.
        region: the pixels to refine; beyond their surroundings nothing is measured. None: all.
        folder: where to keep rasters, which a second try uses again; None: a temporary one.

    Raises:
        ResDepthError: if they do not fit together, or something cannot be read or written.
    """
    sets = None if pairs is None else [_pair(one, len(images)) for one in pairs]
    if not images or not isinstance(dsm, str | Path):
        scene = scene_of(dsm, images, gsd=gsd, nodata=nodata)
        if not images:
            yield Measured(scene, _groups(0), UNIT_M)
            return
        with temporary_folder(Path(tempfile.gettempdir()), "measured") as temporary:
            yield _in_memory(scene, sets, temporary / "rasters")
        return
    if gsd is not None or nodata is not None:
        scene_of(dsm, [], gsd=gsd, nodata=nodata)  # they are for arrays, and refused
    request = _Request(Path(dsm), tuple(Path(str(image)) for image in images), sets, region)
    if folder is not None:
        yield _in_folder(folder, request)
        return
    with temporary_folder(Path(tempfile.gettempdir()), "measured") as temporary:
        yield _in_folder(temporary, request)


@dataclass(frozen=True)
class _Request:
    """What is measured: a DSM, images, pairs of them (None: the best), a region (None: all)."""

    dsm: Path
    images: tuple[Path, ...]
    pairs: Sequence[Numbers] | None
    region: Window | None

    def described(self) -> dict[str, Any]:
        """All that the rasters depend on, as JSON has it."""
        region = self.region
        return {
            "resdepth": __version__,
            "dsm": described_file(self.dsm),
            "images": [described_file(image) for image in self.images],
            "pairs": None if self.pairs is None else [list(pair) for pair in self.pairs],
            "region": region and [region.row, region.col, region.height, region.width],
        }


def _pair(given: Sequence[int], count: int) -> Numbers:
    first, second = given if len(given) == 2 else (0, 0)
    if first == second or not {first, second} <= set(range(count)):
        raise ResDepthError(f"pairs: found {tuple(given)}; give two different indices below {count}")
    return int(first), int(second)


def _in_memory(scene: Scene, pairs: Sequence[Numbers] | None, folder: Path) -> Measured:
    """Arrays; the rasters are written to a folder as those of files are, and need a place on the map."""
    dsm = LocalBand(scene.dsm)
    views = {number: LocalBand(view) for number, view in scene.views.items()}
    placed = replace(scene, grid=dsm.grid, dsm=dsm, views=views)
    record = _measure_views(folder, placed, pairs, None, _begin(folder, {}))
    numbers = [(pair.first, pair.second) for pair in record.pairs or []]
    layers = [FileBand(path, "stored") for pair in numbers for path in _layer_paths(folder, pair)]
    shown = replace(scene, views=dict(enumerate(layers)), image_paths=())
    return Measured(shown, _groups(len(numbers)), record.unit_m)


def _ortho_pairs(scene: Scene, pairs: Sequence[Numbers] | None) -> list[Numbers]:
    """The pairs to compare: those asked for, or each image with the next."""
    return list(pairwise(sorted(scene.views))) if pairs is None else list(pairs)


def _groups(count: int) -> tuple[ViewSet, ...]:
    n = N_MATCHED_LAYERS
    return tuple(tuple(range(n * i, n * i + n)) for i in range(count)) or ((),)


def _ortho_layers(
    scene: Scene, pair: Numbers, window: Window, contrasts: tuple[Contrast, Contrast]
) -> list[Array]:
    """What two ortho-images show, as LAYERS names it: no heights, and twice how they agree on the DSM."""
    outer = window.grown(MARGIN_PX, within=scene.grid.whole)
    first, second = (scene.views[index].read(outer) for index in pair)
    inner = window.relative_to(outer).slices
    agreements = [local_correlation(first, second, side, contrasts)[inner] for side in WINDOWS_PX]
    return [np.full(window.shape, np.nan, np.float32), *agreements, *agreements]


def _contrasts(scene: Scene, pair: Numbers) -> tuple[Contrast, Contrast]:
    return _contrast(scene, pair[0]), _contrast(scene, pair[1])


def _contrast(scene: Scene, index: int) -> Contrast:
    values = [scene.views[index].read(window).ravel() for window in sample_windows(scene.grid)]
    seen = np.concatenate(values)
    seen = seen[np.isfinite(seen)]
    if not seen.size or not seen.std():
        return Contrast(0.0, 1.0)
    return Contrast(float(seen.mean(dtype=np.float64)), float(seen.std(dtype=np.float64)))


def _in_folder(folder: Path, request: _Request) -> Measured:
    """Rasters for each pair of images, those made anew that the folder does not hold."""
    inputs = request.described()
    record = _record_of(folder, inputs)
    if record is None:
        record = _begin(folder, inputs)
    try:
        if are_raw(request.dsm, request.images):
            record = _measure_raw(folder, request, record)
        else:
            scene = Scene.open(request.dsm, request.images)
            record = _measure_views(folder, scene, request.pairs, request.region, record)
    except ResDepthError:
        if record.pairs is None:  # nothing worth keeping
            remove_measured(folder)
        raise
    pairs = [(pair.first, pair.second) for pair in record.pairs or []]
    scene = Scene.open(request.dsm, [path for pair in pairs for path in _layer_paths(folder, pair)])
    return Measured(scene, _groups(len(pairs)), record.unit_m)


def are_raw(dsm: Path, images: Sequence[Path]) -> bool:
    """Whether images are raw ones with RPCs, not ortho-images on the grid of the DSM."""
    grid = read_header(dsm).grid
    elsewhere = [bool(grid.differences(read_header(image).grid)) for image in images]
    raw = [other and has_rpc(image) for image, other in zip(images, elsewhere, strict=True)]
    missing = [
        one for one, other, has_one in zip(images, elsewhere, raw, strict=True) if other and not has_one
    ]
    if missing:
        raise InputProblems([
            Problem(
                "images",
                f"{image}: {'; '.join(grid.differences(read_header(image).grid))}; there is no RPC in or "
                "beside it: give raw images with their RPCs (in tags, .RPB, _RPC.TXT, RPC_*.XML or .geom), "
                "or ortho-images on the DSM's grid",
            )
            for image in missing
        ])  # fmt: skip
    if len({image.resolve() for image in images}) < len(images):
        raise ResDepthError("images: one is given twice; heights need views from different directions")
    if any(raw) and not all(raw):
        ortho = images[raw.index(False)]
        raise ResDepthError(f"images: {ortho} is no raw image with an RPC, as others are; give one kind")
    return all(raw)


def _layer_paths(folder: Path, pair: Numbers) -> list[Path]:
    return [folder / f"{layer}_{pair[0]}_{pair[1]}.tif" for layer in LAYERS]


def _record_of(folder: Path, inputs: dict[str, Any]) -> _Record | None:
    """What was found from these inputs before, if the folder holds it."""
    try:
        found = demand(_Record, read_json(folder / RECORD), folder / RECORD)
    except ResDepthError:
        return None
    return found if found.inputs == inputs else None


def _begin(folder: Path, inputs: dict[str, Any]) -> _Record:
    """An empty folder of our own.

    Raises:
        ResDepthError: if it is a link, or holds what resdepth has not made.
    """
    remove_measured(folder)
    if folder.is_symlink() or (folder.exists() and any(folder.iterdir())):
        raise ResDepthError(f"{folder}: holds other files, or is a link; move it, or name another output")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ResDepthError(f"{folder}: cannot be made ({error})") from error
    return _kept(folder, _Record(inputs=inputs))


def _kept(folder: Path, record: _Record) -> _Record:
    write_json(folder / RECORD, record.model_dump())
    return record


def remove_measured(folder: Path) -> None:
    """Remove a folder of measurements, which its record shows to be one; what others put there stays."""
    if folder.is_symlink() or not (folder / RECORD).is_file():
        return
    own = tuple(f"{name}_" for name in (*LAYERS, PLACEMENT))
    try:
        for path in folder.iterdir():
            if path.name.startswith(own) and path.suffix == ".tif":
                path.unlink()
        (folder / RECORD).unlink()
        folder.rmdir()
    except OSError as error:
        logger.warning("%s: cannot be removed (%s)", folder, error)


def _measure_views(
    folder: Path, scene: Scene, asked: Sequence[Numbers] | None, region: Window | None, record: _Record
) -> _Record:
    """Measure heights in ortho-images of which it is known from where they were seen.

    Where that is not found, they are compared on the DSM alone.
    """
    if record.views is None:
        record = _kept(folder, record.model_copy(update={"views": _seen_from(scene)}))
    views = record.views or []
    numbers = [view.number for view in views]
    among = None if asked is None else [pair for pair in asked if set(pair) <= set(numbers)]
    if len(views) >= LEAST_IMAGES and among != []:
        if among is not None:
            among = [(numbers.index(first), numbers.index(second)) for first, second in among]
        try:
            return _measure(
                folder, record, _around_views(scene, views, region), _names(scene, numbers), among
            )
        except NoUsefulPair as error:
            logger.info("%s", error)
    logger.warning(
        "images: no heights are measured in these ortho-images, which only show where the DSM is right; "
        "to measure heights, give the raw images with their RPCs"
    )
    return _compare(folder, scene, asked, record)


def _names(scene: Scene, numbers: Sequence[int]) -> list[str]:
    paths = scene.image_paths
    return [paths[number].name if paths else f"image {number}" for number in numbers]


def _seen_from(scene: Scene) -> list[_ViewRecord]:
    """The ortho-images whose tags or ghosts show from where they were seen."""
    if not scene.grid.sides_m.are_equal:
        return []
    found: list[_ViewRecord] = []
    numbers = sorted(scene.views)
    jobs = (partial(_direction, scene, number) for number in numbers)
    with progress_bar("calibrating", len(numbers)) as progress:
        for number, direction in zip(numbers, in_order(jobs, _threads()), strict=True):
            progress.advance(1)
            if direction is None:
                continue
            first, here = scene.views[found[0].number if found else number], scene.views[number]
            shift = found_shift(first, here) if found else (0.0, 0.0)
            found.append(_ViewRecord(number=number, direction=(direction.rows, direction.cols), shift=shift))
    return found


def _direction(scene: Scene, number: int) -> Direction | None:
    """As the tags of an ortho-image state it, if that can be; or else as its ghosts show it."""
    dsm, view, (name,) = scene.dsm, scene.views[number], _names(scene, [number])
    stated = view.geometry if isinstance(view, FileBand) else None
    try:
        if stated is not None:
            with suppress(NotFound):
                return _reported(
                    name, confirmed_direction(dsm, view, stated), "tags state and its ghosts confirm"
                )
        return _reported(name, found_direction(dsm, view), "ghosts show")
    except NotFound as error:
        logger.info("%s: %s", name, error)
        return None


def _reported(name: str, direction: Direction, by: str) -> Direction:
    logger.info("%s: seen %.0f degrees off nadir, as its %s", name, direction.off_nadir_deg, by)
    return direction


def _around_views(scene: Scene, views: Sequence[_ViewRecord], region: Window | None) -> Around:
    """Ortho-images as their cameras saw them, on a local grid."""
    local, grid = LocalBand(scene.dsm), scene.grid
    low, high = _lowest_and_highest(scene.dsm)
    images = [
        UnrectifiedImage(
            scene.views[view.number], local,
            (view.direction[0] / grid.gsd_m, view.direction[1] / grid.gsd_m), view.shift, (low, high),
        )
        for view in views
    ]  # fmt: skip
    return Around(
        images, local, step_m=grid.gsd_m, region=_with_surroundings(region, grid), threads=_threads(),
        written_on=grid.flat,
    )  # fmt: skip


def _lowest_and_highest(dsm: Band) -> tuple[float, float]:
    known = [
        (float(heights.min()), float(heights.max()))
        for part in blocks(dsm.grid.whole, BLOCK_PX)
        if (heights := (values := dsm.read(part))[np.isfinite(values)]).size
    ]
    lows, highs = zip(*known, strict=True)
    return min(lows), max(highs)


def _compare(folder: Path, scene: Scene, asked: Sequence[Numbers] | None, record: _Record) -> _Record:
    """How ortho-images agree on the DSM, for each pair; heights are not measured in them."""
    grid, sets = scene.grid.flat, _ortho_pairs(scene, asked)
    for pair in sets:
        contrasts = _contrasts(scene, pair)
        with ExitStack() as stack:
            files = [
                stack.enter_context(new_geotiff(path, grid, tile=TILE_PX, compression="zstd"))
                for path in _layer_paths(folder, pair)
            ]
            for part in blocks(grid.whole, BLOCK_PX):
                for file, layer in zip(files, _ortho_layers(scene, pair, part, contrasts), strict=True):
                    file.write(part.row, layer, col=part.col)
    pairs = [
        _PairRecord(first=first, second=second, base_to_height=0, row_shift=0, unit_m=UNIT_M)
        for first, second in sets
    ]
    return _kept(folder, record.model_copy(update={"pairs": pairs, "unit_m": UNIT_M}))


def _measure_raw(folder: Path, request: _Request, record: _Record) -> _Record:
    """Match raw images around the DSM, and compare them on both."""
    if len(request.images) < LEAST_IMAGES:
        raise ResDepthError("images: found one; heights need at least two, from different directions")
    around, names = _around(request), [image.name for image in request.images]
    if record.pairs is None and (up := height_offset(around)):
        logger.info("the images see the DSM %.1f m higher than it is (another datum?): allowed for", up)
        around = replace(around, placement=Placement(up_m=up))
    return _measure(folder, record, around, names, request.pairs)


def _measure(
    folder: Path, record: _Record, around: Around, names: Sequence[str], asked: Sequence[Numbers] | None
) -> _Record:
    """The rasters of all pairs that are useful, or were asked for.

    Raises:
        NoUsefulPair: if none is.
        ResDepthError: if rasters cannot be read or written.
    """
    if record.pairs is None:
        record = _placed(around, names, asked, folder, record)
    around = replace(around, placement=Placement(*record.placement))
    assert record.pairs is not None, "they are chosen"
    with progress_bar("measuring", 2 * len(record.pairs)) as progress:
        for one in record.pairs:
            stereo = StereoPair(one.first, one.second, one.base_to_height)
            pair = Pair(stereo, one.row_shift, one.unit_m)
            matched, *others = _layer_paths(folder, pair.numbers)
            if matched.exists():
                progress.advance(1)
            else:
                write_matched(around, pair, matched, progress)
            if all(path.exists() for path in others):
                progress.advance(1)
            else:
                write_agreement(around, pair, FileBand(matched, "stored"), others, progress)
    return record


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if LINUX else os.cpu_count() or 1


def _with_surroundings(region: Window | None, grid: Grid) -> Window | None:
    return region and region.grown(SURROUNDINGS_PX, within=grid.whole)


def _around(request: _Request) -> Around:
    dsm = FileBand(request.dsm)
    grid = dsm.grid
    in_metres = grid.crs and not grid.is_in_degrees and metres_per_unit(grid.flat.crs) == 1
    if not in_metres or grid.is_slanted or not grid.sides_m.are_equal:
        raise ResDepthError(
            f"{request.dsm}: raw images are matched on square pixels of a projected CRS in metres, north up "
            f"(found {grid.crs_name or 'no CRS'}); resample it (gdalwarp -t_srs EPSG:... -tr ...)"
        )
    opened = [RawImage(image) for image in request.images]
    demand_overlap(grid.flat, [one.rpc for one in opened], [one.grid.whole.shape for one in opened])
    sizes = [pixel_size_m(image.rpc, image.grid.whole.shape, grid.flat.crs) for image in opened]
    factors = [max(1, round(grid.gsd_m / size)) for size in sizes]
    fitting = [reduced(image, factor) for image, factor in zip(opened, factors, strict=True)]
    # Finer than the images are, nothing can be measured.
    coarsest = max(size * factor for size, factor in zip(sizes, factors, strict=True))
    step_m = coarsest if coarsest > FINER * grid.gsd_m else grid.gsd_m
    region = _with_surroundings(request.region, grid)
    return Around(fitting, dsm, step_m=step_m, region=region, threads=_threads())


def _placed(
    around: Around, names: Sequence[str], asked: Sequence[Numbers] | None, folder: Path, record: _Record
) -> _Record:
    """Where the DSM lies in the images, and the pairs to measure; the heights of the first are written."""
    pairs = chosen_pairs(around, asked)
    for pair in pairs:
        logger.info(
            "pair %s, %s: base to height %.2f, correlation at the matches %.2f",
            names[pair.stereo.first], names[pair.stereo.second], pair.stereo.base_to_height,
            pair.stereo.agreement,
        )  # fmt: skip
    path = folder / f"{PLACEMENT}_.tif"
    for number in range(MOST_ROUNDS):
        with progress_bar("matching", 1) as progress:
            write_matched(around, pairs[0], path, progress)
        moved = _moved(around, FileBand(path, "stored"), pairs[0].unit_m)
        if moved is None or number == MOST_ROUNDS - 1:
            break
        around = replace(around, placement=moved)
        logger.info(
            "the images see the DSM %+.2f m east, %+.2f m north and %+.2f m up of its place: allowed for",
            moved.east_m, moved.north_m, moved.up_m,
        )  # fmt: skip
    now = around.placement
    found = [
        _PairRecord(
            first=pair.stereo.first, second=pair.stereo.second, base_to_height=pair.stereo.base_to_height,
            row_shift=pair.row_shift, unit_m=pair.unit_m,
        )
        for pair in pairs
    ]  # fmt: skip
    unit_m = float(np.median([pair.unit_m for pair in pairs]))
    placement = (now.east_m, now.north_m, now.up_m)
    record = _kept(
        folder, record.model_copy(update={"pairs": found, "placement": placement, "unit_m": unit_m})
    )
    path.replace(_layer_paths(folder, pairs[0].numbers)[0])
    return record


def _moved(around: Around, matched: Band, unit_m: float) -> Placement | None:
    """A better placement of the DSM in the images; None if it need not change."""
    dsm, grid, now = around.dsm, around.grid, around.placement
    shift = estimate_shift(matched.read, dsm.read, grid, name="the DSM")
    differences = np.concatenate(
        [(matched.read(window) - dsm.read(window)).ravel() for window in sample_windows(grid)]
    )
    up = float(np.nanmedian(differences)) if np.isfinite(differences).any() else 0.0
    east, north = (0.0 if np.isnan(one) else one for one in (shift.dx_m, shift.dy_m))
    far = np.hypot(east, north) > LEAST_SHIFT_PX * grid.gsd_m
    logger.debug("matched heights against the DSM: %.2f m east, %.2f m north, %.2f m up", east, north, up)
    if not far and abs(up) <= LEAST_RISE * unit_m:
        return None
    east, north = (east, north) if far else (0.0, 0.0)
    return Placement(now.east_m - east, now.north_m - north, now.up_m + up)
