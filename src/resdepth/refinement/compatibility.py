"""Whether a model and rasters fit together, seen from samples: memory and time do not grow with the area.

Whether two images show the same things is seen by phase correlation of blocks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resdepth.data.normalization import height_sigma, noise_share
from resdepth.data.scene import Scene, ViewSet, used_views
from resdepth.errors import ResDepthError
from resdepth.evaluation.coregistration import sample_windows
from resdepth.evaluation.phase_correlation import LEAST_BLOCK_PX, Move, displacement, sample_places
from resdepth.geo.grid import UNREFERENCED
from resdepth.geo.raster import Array
from resdepth.geo.windows import Window
from resdepth.models.model import Model
from resdepth.options import option

# docs/refine.md shows the measurements that these limits rest on.
GSD_TOLERANCE = 0.2
LARGEST_MEAN, LARGEST_RATIO = 2.0, 3.0
"""Of grey values, standardised by the training's constants: mean and standard deviation (or its inverse)."""
RELIEF_RATIOS = 0.02, 5.0
"""Of the height sigma to that of the training. Flat land does no harm; kilometres or centimetres do."""
LARGEST_SHIFT_PX = 8.0
"""Median distance between the same details of two ortho-images."""
NEAR_PX, NEAR_SHARE = 4.0, 1 / 3
"""Or so many of the blocks lie so near: long shadows of two dates may move the others anywhere."""
SAME_CORRELATION = 0.999
SMOOTHEST_NOISE = 0.2
"""Correlation of neighbouring pixels that a block needs: nothing can be matched in noise."""
TEXTURED = 0.25
"""Share of the contrast of the richest blocks that a block needs to be compared."""
BLOCK_PX, FEW_BLOCKS = 256, 4
USUAL_GSD_M = 0.5
"""Of rasters that do not state theirs."""
LEAST_AREA_PX = 256
"""Around a region so much is looked at as well."""
PLACES_A_SIDE = (5, 12)
"""Samples on a side of the area; more are taken where an image shows nothing at the first ones."""


def remedy(model: Model) -> str:
    """What to do where model and rasters do not fit."""
    forced = (
        f"take {option('force', value=True)}: the mismatches are then warnings, and the result may be worse "
        "than the initial DSM"
    )
    if model.architecture.suits_any_sensor:  # what does not fit are these rasters
        return f"mend the rasters, or {forced}"
    return f"train a model on data like these (docs/train.md), or {forced}"


class Unsuitable(ResDepthError):
    """Model and rasters do not fit together; the message lists all mismatches."""


@dataclass(frozen=True)
class Findings:
    """What a look at model and rasters gave.

    Attributes:
        misfits: in words, with figures and remedy, what makes a good result unlikely.
        left_out: what could not be compared, and why.
    """

    misfits: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def and_also(self, other: "Findings") -> "Findings":
        """Those of both."""
        return Findings(self.misfits + other.misfits, self.left_out + other.left_out)

    def refuse_misfits(self, model: Model) -> None:
        """Refuse to refine if anything does not fit.

        Raises:
            Unsuitable: with all mismatches, and how to refine all the same.
        """
        if self.misfits:
            listed = "\n".join(f"  - {misfit}" for misfit in self.misfits)
            name = model.source or "the model"
            raise Unsuitable(
                f"{name} does not fit these rasters; nothing was written\n{listed}\n{remedy(model)}"
            )


def trained_gsd(model: Model) -> float | None:
    """The pixel size of the training data in metres, their median; None if the model does not tell."""
    stated = model.provenance.get("datasets")
    sizes = [
        one["gsd_m"]
        for one in (stated if isinstance(stated, list) else [])
        if isinstance(one, dict) and isinstance(one.get("gsd_m"), int | float)
    ]
    return float(median(sizes)) if sizes else None


def trained_gsd_range(model: Model) -> tuple[float, float] | None:
    """The smallest and the largest pixel size of the training in metres, if the model states them."""
    stated = model.provenance.get("gsd_range_m")
    if not isinstance(stated, list):
        return None
    low, high = stated
    return float(low), float(high)


def noise_of(scene: Scene, gsd_m: float | None) -> float:
    """How noisy a DSM is as a whole, 0 to 1.

    Args:
        scene: with the DSM.
        gsd_m: the pixel size, if the scene does not state it.
    """
    side_m = gsd_m or stated_gsd(scene) or USUAL_GSD_M
    return noise_share((scene.dsm.read(window) for window in sample_windows(scene.dsm.grid)), side_m)


def stated_gsd(scene: Scene) -> float | None:
    """The pixel size of a scene's files in metres; None for arrays and for files without a georeference."""
    georeferenced = scene.grid.crs or scene.grid.transform != UNREFERENCED
    return scene.grid.gsd_m if georeferenced and scene.dsm_path is not None else None


def examine(
    model: Model, scene: Scene, view_sets: Sequence[ViewSet], region: Window, gsd_m: float | None
) -> Findings:
    """Compare rasters with a model's training, and ortho-images with each other.

    Args:
        model: the model.
        scene: DSM and views.
        view_sets: the views that the model is shown together.
        region: what is to be refined.
        gsd_m: the pixel size; None if nobody knows it.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    if model.architecture.suits_any_sensor:
        return _pixel_size_of_range(model, scene, gsd_m)
    area = region.grown(LEAST_AREA_PX, within=scene.grid.whole)
    surface = _pixel_size(model, scene, gsd_m).and_also(_relief(model, scene, area))
    return surface.and_also(examine_images(model, scene, view_sets, area))


def _pixel_size(model: Model, scene: Scene, gsd_m: float | None) -> Findings:
    trained = trained_gsd(model)
    if scene.grid.is_in_degrees:
        remedy = "bring the rasters to a grid in metres first (gdalwarp -t_srs EPSG:32632, say)"
        return Findings((f"pixel size: {scene.grid.crs_name} counts in degrees; {remedy}",))
    if trained is None or gsd_m is None:
        why = (
            "the model states none" if trained is None else "the rasters state none; gsd= gives it for arrays"
        )
        return Findings(left_out=(f"pixel size: {why}",))
    if abs(gsd_m / trained - 1) <= GSD_TOLERANCE:
        return Findings()
    return Findings((
        f"pixel size: the DSM has pixels of {gsd_m:.3g} m, the model was trained with {trained:.3g} m "
        f"({100 * (gsd_m / trained - 1):+.0f} %; at most {100 * GSD_TOLERANCE:.0f} %): what it knows of "
        f"roofs and edges does not fit; resample all rasters to {trained:.3g} m, or train a model",
    ))  # fmt: skip


def _pixel_size_of_range(model: Model, scene: Scene, gsd_m: float | None) -> Findings:
    """The pixel size against the range that a model states: `gsd_range_m`."""
    stated = trained_gsd_range(model)
    if scene.grid.is_in_degrees or gsd_m is None or stated is None:
        return _pixel_size(model, scene, gsd_m)
    low, high = stated
    if low * (1 - GSD_TOLERANCE) <= gsd_m <= high * (1 + GSD_TOLERANCE):
        return Findings()
    return Findings((
        f"pixel size: the DSM has pixels of {gsd_m:.3g} m, the model was trained with {low:g} to {high:g} m; "
        "resample the DSM, or train a model",
    ))  # fmt: skip


def _relief(model: Model, scene: Scene, area: Window) -> Findings:
    tile = model.provenance.get("tile_size")
    side = tile if isinstance(tile, int) and tile > 1 else BLOCK_PX
    try:
        sigma = height_sigma(scene.dsm.read(place) for place in sample_places(area, side, PLACES_A_SIDE[0]))
    except ValueError as error:
        return Findings(left_out=(f"relief: {error}",))
    trained = model.normalization.height_sigma
    lowest, highest = RELIEF_RATIOS
    if trained * lowest <= sigma <= trained * highest:
        return Findings()
    return Findings((
        f"relief: within {side} x {side} pixels heights vary by {sigma:.3g} m (standard deviation), in the "
        f"training by {trained:.3g} m (a factor of {sigma / trained:.2g}; {lowest:g} to "
        f"{highest:g} fit): are the heights in metres and free of blunders? If so, train a model",
    ))  # fmt: skip


Figure = TypeVar("Figure", float, Move)


@dataclass
class Seen:
    """What the samples of one image hold."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    informative: int = 0

    def add(self, block: Array) -> None:
        """Count a block in."""
        values = block[np.isfinite(block)].astype(np.float64)
        self.count += values.size
        self.total += float(values.sum())
        self.squares += float(np.square(values).sum())
        self.informative += bool(values.size and np.ptp(values) > 0)

    @property
    def mean(self) -> float:
        """Of the grey values."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Their standard deviation."""
        return float(np.sqrt(max(self.squares / self.count - self.mean**2, 0.0)))


@dataclass
class Compared:
    """What samples of two images hold: contrasts, displacement (NaN: noise), correlation of each block."""

    contrasts: list[tuple[float, float]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    correlations: list[float] = field(default_factory=list)

    def add(self, first: Array, second: Array) -> None:
        """Compare a block of both, unless half of it is void."""
        if min(np.isfinite(first).mean(), np.isfinite(second).mean()) <= 1 / 2:
            return
        contrasts = float(np.nanstd(first)), float(np.nanstd(second))
        if min(contrasts) > 0:
            shows = min(smoothness(first), smoothness(second)) >= SMOOTHEST_NOISE
            self.contrasts.append(contrasts)
            self.moves.append(displacement(first, second) if shows else (np.nan, np.nan))
            self.correlations.append(correlation(first, second))

    @property
    def known_moves(self) -> list[Move]:
        """The displacements of the blocks in which both images show enough that is no noise."""
        return [move for move in self.textured(self.moves) if np.isfinite(move[0])]

    @property
    def are_the_same(self) -> bool:
        """Whether both are one image."""
        correlations = self.textured(self.correlations)
        return bool(correlations) and median(correlations) >= SAME_CORRELATION

    def textured(self, figures: list[Figure]) -> list[Figure]:
        """The figures of the blocks in which both images show enough."""
        if not figures:
            return []
        contrasts = np.array(self.contrasts)
        enough = (contrasts >= TEXTURED * np.percentile(contrasts, 90, axis=0)).all(axis=1)
        return [one for one, kept in zip(figures, enough, strict=True) if kept]


@dataclass(frozen=True)
class Shown:
    """What samples of images hold where the DSM has heights.

    Attributes:
        seen: of each image.
        compared: of each pair of images.
        has_heights: whether there are such places.
    """

    seen: Mapping[int, Seen]
    compared: Mapping[tuple[int, int], Compared]
    has_heights: bool

    @property
    def suffices(self) -> bool:
        """Whether all images show something, and all pairs share enough."""
        return all(one.informative for one in self.seen.values()) and all(
            len(both.moves) >= FEW_BLOCKS for both in self.compared.values()
        )


def look_at_images(
    scene: Scene,
    views: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    area: Window,
    block_px: int = BLOCK_PX,
) -> Shown:
    """Look at samples of images all over an area, and compare pairs of them block by block.

    Args:
        scene: DSM and views.
        views: the images.
        pairs: of them.
        area: of the scene.
        block_px: the side of a block.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    shown = Shown({}, {}, has_heights=False)
    for places_a_side in PLACES_A_SIDE:
        shown = _sampled(scene, views, pairs, sample_places(area, block_px, places_a_side))
        if shown.suffices:
            break
    return shown


def _sampled(
    scene: Scene, views: Sequence[int], pairs: Sequence[tuple[int, int]], places: Iterable[Window]
) -> Shown:
    has_heights = False
    seen: dict[int, Seen] = {view: Seen() for view in views}
    compared: dict[tuple[int, int], Compared] = {pair: Compared() for pair in pairs}
    for place in places:
        if np.isnan(scene.dsm.read(place)).all():
            continue
        has_heights = True
        blocks = {view: scene.views[view].read(place) for view in views}
        for view, one in seen.items():
            one.add(blocks[view])
        for (first, second), both in compared.items():
            both.add(blocks[first], blocks[second])
    return Shown(seen, compared, has_heights)


def examine_images(model: Model, scene: Scene, view_sets: Sequence[ViewSet], area: Window) -> Findings:
    """Compare ortho-images with each other, and their grey values with a model's training.

    Args:
        model: the model.
        scene: DSM and ortho-images.
        view_sets: the images that are used together.
        area: of the scene, that is looked at.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    views = used_views(view_sets)
    pairs = sorted({pair for view_set in view_sets for pair in combinations(sorted(view_set), 2)})
    if not views:
        return Findings()
    shown = look_at_images(scene, views, pairs, area)
    if not shown.has_heights:
        return Findings(left_out=("images: nowhere does the DSM have heights",))
    name = _namer(scene)
    found = [_empty_or_grey(model, name(view), one) for view, one in shown.seen.items()]
    found += [
        agreement(f"{name(first)} and {name(second)}", both, min(BLOCK_PX, *area.shape))
        for (first, second), both in shown.compared.items()
        if shown.seen[first].informative and shown.seen[second].informative
    ]
    return Findings(
        tuple(text for one in found for text in one.misfits),
        tuple(text for one in found for text in one.left_out),
    )


def _namer(scene: Scene) -> Callable[[int], str]:
    return lambda view: scene.image_paths[view].name if view < len(scene.image_paths) else f"image {view}"


def _empty_or_grey(model: Model, name: str, seen: Seen) -> Findings:
    if not seen.informative:
        return Findings((
            f"images: {name} shows nothing where the DSM has heights (looked at {PLACES_A_SIDE[-1]} x "
            f"{PLACES_A_SIDE[-1]} places); give an image of this area, or a region that it covers",
        ))  # fmt: skip
    return grey_values(model, name, seen)


def grey_values(model: Model, name: str, seen: Seen) -> Findings:
    """Whether the grey values of an image are like those of a model's training."""
    constants = model.normalization
    if constants.image_mean is None or not constants.image_std:
        return Findings()
    mean, ratio = (seen.mean - constants.image_mean) / constants.image_std, seen.std / constants.image_std
    if abs(mean) <= LARGEST_MEAN and 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO:
        return Findings()
    return Findings((
        f"grey values: {name} has {seen.mean:.4g} ± {seen.std:.4g}, the training had "
        f"{constants.image_mean:.4g} ± {constants.image_std:.4g} (normalised {mean:+.2g} ± {ratio:.2g}; a "
        f"mean within ±{LARGEST_MEAN:g} and a deviation from {1 / LARGEST_RATIO:.2g} to {LARGEST_RATIO:g}): "
        "another sensor or scale? Bring the grey values to that range, or train a model",
    ))  # fmt: skip


def agreement(names: str, compared: Compared, side: int) -> Findings:
    """Whether two images match.

    Args:
        names: of both.
        compared: blocks of them.
        side: of the blocks, pixels.
    """
    if compared.are_the_same:
        return Findings((f"images: {names} are the same image; give two views of the place",))
    shifts = [float(np.hypot(*move)) for move in compared.known_moves]
    if not shifts:
        return Findings(left_out=(f"match of {names}: no place where both show enough",))
    if side < LEAST_BLOCK_PX:
        return Findings(left_out=(f"match of {names}: the area is too small",))
    near = float(np.mean(np.array(shifts) <= NEAR_PX))
    if median(shifts) <= LARGEST_SHIFT_PX or near >= NEAR_SHARE:
        return Findings()
    return Findings((
        f"images: {names} do not match: their details lie {median(shifts):.0f} pixels apart (median of "
        f"{len(shifts)} blocks; at most {LARGEST_SHIFT_PX:g}), {100 * near:.0f} % within {NEAR_PX:g}. "
        "Is one a raw image, or of another place? Ortho-rectify both with this DSM and their RPCs",
    ))  # fmt: skip


def correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Correlation coefficient of two blocks where both show something; 0 if one shows a single grey value."""
    both = np.isfinite(first) & np.isfinite(second)
    one, other = (block[both].astype(np.float64) for block in (first, second))
    if not one.size or one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def smoothness(block: NDArray[np.float32]) -> float:
    """Correlation coefficient of pixels with their neighbours to the right: near 1 in images, 0 in noise."""
    return correlation(block[:, :-1], block[:, 1:])
