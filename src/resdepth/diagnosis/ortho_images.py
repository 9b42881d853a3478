"""What is wrong with images: each by itself, beside each other, beside the surfaces."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from resdepth.diagnosis.alignment import RUINOUS_SHIFT_PX, compass, edges_beside, on_the_map, shading_beside
from resdepth.diagnosis.findings import Finding, Severity, image_picture, typed
from resdepth.diagnosis.raw_images import MANY, MOST_SEEN, GreyLevels, grey_levels, raw_findings, saturation
from resdepth.diagnosis.subject import Opened
from resdepth.evaluation.coregistration import sample_windows
from resdepth.evaluation.phase_correlation import BLOCK_PX as EDGE_BLOCK_PX
from resdepth.evaluation.phase_correlation import BLOCKS_A_SIDE, LEAST_BLOCK_PX, MOSTLY, sample_places
from resdepth.geo.windows import Window
from resdepth.refinement.compatibility import (
    BLOCK_PX,
    FEW_BLOCKS,
    SMOOTHEST_NOISE,
    Compared,
    Shown,
    agreement,
    correlation,
    grey_values,
    look_at_images,
    smoothness,
)

WIDE_BLOCKS = 4
"""So many blocks lie side by side in an area before they are as large as a network's tiles."""
# More pairs of images than this are not compared: those that follow each other are.
MOST_PAIRS = 28
SEVERAL, BLACK = 2, 0.01
FEWEST_LEVELS, LEAST_CONTRAST = 32, 0.01
LEAST_SHIFT_PX, LEAST_ERRORS = 0.5, 4.0
"""A displacement between images counts from this, and from so many of its standard errors."""
# Values that go with the heights of the initial DSM, vary about as much, and are about as large.
SURFACE_CORRELATION, SURFACE_RATIO, SURFACE_APART_M = 0.9, 0.4, 150.0
# Edges of an image count as shifted from here.
# An initial DSM has its edges up to some pixels beside where they are.
LEAST_BESIDE_REFERENCE_PX, LEAST_BESIDE_DSM_PX = 4.0, 10.0


def image_findings(opened: Opened) -> tuple[list[Finding], list[str]]:
    """What is wrong with the images of a data set, and what could not be compared.

    Samples of all images are read, so neither time nor memory grow with the area.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    found = raw_findings(opened)
    views = sorted(opened.scene.views)
    if not views:
        return found, []
    levels = {view: grey_levels(opened.scene.views[view]) for view in views}
    for view in views:
        found += [*_by_itself(opened, view, levels[view]), *_noise(opened, view)]
    sound = [view for view in views if levels[view].known and not _is_surface(opened, view)]
    found += _surfaces(opened, [view for view in views if levels[view].known and view not in sound])
    whole = opened.scene.grid.whole
    side = BLOCK_PX if min(whole.shape) >= WIDE_BLOCKS * BLOCK_PX else BLOCK_PX // 2
    shown = look_at_images(opened.scene, sound, _pairs(sound), whole, side)
    more, left_out = _beside_each_other(opened, shown, min(side, *whole.shape))
    found += more
    if opened.subject.model is not None:
        for view, seen in shown.seen.items():
            if seen.count and seen.informative:
                name = opened.image_name(view)
                for text in grey_values(opened.subject.model, name, seen).misfits:
                    found.append(Finding("grey_values", "warning", name, f"{text.partition(': ')[2]}."))
    return [*found, *_beside_surface(opened, sound)], left_out


def _pairs(views: list[int]) -> list[tuple[int, int]]:
    every = list(combinations(views, 2))
    return every if len(every) <= MOST_PAIRS else list(pairwise(views))


def _by_itself(opened: Opened, view: int, levels: GreyLevels) -> list[Finding]:
    name, path = opened.image_name(view), opened.subject.images[view]
    if not levels.known:
        text = f"{name} shows nothing in the area of the initial DSM."
        return [Finding("empty_image", "fault", name, text, "Give an image of this area, or leave it out.")]
    low, high = levels.percentile(1), levels.percentile(99)
    if high - low <= LEAST_CONTRAST * max(abs(high), 1e-6):
        text = (
            f"{name} has one grey value nearly everywhere: 98 % of its pixels are from {low:g} to {high:g}."
        )
        remedy = "Leave it out, or write it again from the raw image."
        return [Finding("flat_image", "fault", name, text, remedy, figures={"low": low, "high": high})]
    found = _part(name, levels)
    count = len(levels.values)
    found += saturation(name, levels, opened.scene.views[view])
    if levels.values[0] == 0 and levels.share(0) > max(BLACK, MANY * levels.share(1)) and count > 2:
        zeros = 100 * levels.share(0)
        text = f"{zeros:.1f} % of the pixels of {name} are 0, which no nodata value declares void."
        remedy, command = "If they show nothing, declare it.", typed("gdal_edit.py", "-a_nodata", 0, path)
        figures = {"share_percent": zeros}
        found.append(Finding("black_image", "warning", name, text, remedy, command, figures))
    if count < FEWEST_LEVELS:
        text = f"{name} has only {count} grey values: what it shows is cut into steps."
        remedy = "Write it again from the raw image, with the sensor's own values."
        found.append(
            Finding("few_grey_levels", "warning", name, text, remedy, figures={"levels": float(count)})
        )
    return found


def _part(name: str, levels: GreyLevels) -> list[Finding]:
    share = levels.known / levels.pixels
    if share >= MOST_SEEN:
        return []
    text = f"{name} shows {100 * share:.0f} % of the area of the initial DSM; the rest is void."
    remedy = "What it does not show is refined as grey: give images that show the area, or a smaller region."
    return [Finding("part_of_area", "warning", name, text, remedy, figures={"seen_percent": 100 * share})]


def _noise(opened: Opened, view: int) -> list[Finding]:
    """Whether pixels have nothing to do with their neighbours."""
    band, whole = opened.scene.views[view], opened.scene.grid.whole
    blocks = [band.read(place) for place in sample_places(whole, EDGE_BLOCK_PX, BLOCKS_A_SIDE)]
    known = [smoothness(block) for block in blocks if np.isfinite(block).mean() >= MOSTLY]
    if min(whole.shape) < LEAST_BLOCK_PX or not known or median(known) >= SMOOTHEST_NOISE:
        return []
    name = opened.image_name(view)
    text = (
        f"Neighbouring pixels of {name} have nothing to do with each other (correlation "
        f"{median(known):.2f}): it is noise."
    )
    remedy = "Is it the right file and band? Nothing can be matched in it."
    return [Finding("noise_image", "fault", name, text, remedy, figures={"correlation": median(known)})]


def _is_surface(opened: Opened, view: int) -> bool:
    """Whether an image is a surface of heights: it goes with the initial DSM all over."""
    scene = opened.scene
    windows = list(sample_windows(scene.grid))
    dsm, image = (
        np.concatenate([band.read(window).ravel() for window in windows])
        for band in (scene.dsm, scene.views[view])
    )
    known = np.isfinite(dsm) & np.isfinite(image)
    if not known.any() or correlation(dsm, image) <= SURFACE_CORRELATION:
        return False
    ratio, apart = float(np.std(image[known]) / np.std(dsm[known])), float(np.median((dsm - image)[known]))
    return abs(np.log(ratio)) < SURFACE_RATIO and abs(apart) < SURFACE_APART_M


def _surfaces(opened: Opened, views: list[int]) -> list[Finding]:
    return [
        Finding(
            "surface_as_image", "fault", opened.image_name(view),
            f"{opened.image_name(view)} is no image: its values are nearly the heights of the initial DSM.",
            "If it is the reference DSM, say so.",
            typed("resdepth", "doctor", opened.subject.dsm, "--reference", opened.subject.images[view]),
        )
        for view in views
    ]  # fmt: skip


def _beside_each_other(opened: Opened, shown: Shown, side: int) -> tuple[list[Finding], list[str]]:
    found: list[Finding] = []
    left_out: list[str] = []
    moves: dict[tuple[int, int], _Typical] = {}
    misfits: dict[tuple[int, int], str] = {}
    for pair, compared in shown.compared.items():
        if compared.are_the_same:
            found.append(_the_same(opened, *pair))
            continue
        agreed = agreement(" and ".join(map(opened.image_name, pair)), compared, side)
        left_out += agreed.left_out
        if agreed.misfits:
            misfits[pair] = agreed.misfits[0].partition(": ")[2]
        elif side >= LEAST_BLOCK_PX and len(compared.known_moves) >= FEW_BLOCKS:
            moves[pair] = _typical(compared)
    return [*found, *_mismatches(opened, shown, misfits), *_shifts(opened, moves)], left_out


def _mismatches(opened: Opened, shown: Shown, misfits: Mapping[tuple[int, int], str]) -> list[Finding]:
    """Images that do not match: one that goes with none of several others stands for all its pairs."""
    found = []
    left = dict(misfits)
    for view in shown.seen:
        pairs = [pair for pair in shown.compared if view in pair]
        if len(pairs) >= SEVERAL and all(pair in left for pair in pairs):
            name, pair = opened.image_name(view), pairs[0]
            stated = f"{name} does not match any of the other {len(pairs)} images"
            text = f"{stated}: in {_other(opened, pair, view)}, {misfits[pair].partition(': ')[2]}"
            found.append(_mismatch(opened, shown, pair, name, text))
            left = {one: text for one, text in left.items() if view not in one}
    for pair, text in left.items():
        found.append(_mismatch(opened, shown, pair, " and ".join(map(opened.image_name, pair)), text))
    return found


def _other(opened: Opened, pair: tuple[int, int], view: int) -> str:
    return opened.image_name(pair[0] if pair[1] == view else pair[1])


def _mismatch(opened: Opened, shown: Shown, pair: tuple[int, int], names: str, text: str) -> Finding:
    what, _, remedy = text.partition(". ")
    shifts = [float(np.hypot(*move)) for move in shown.compared[pair].known_moves]
    figures, sketch, command = (
        {"median_px": median(shifts)},
        _blocks_of(opened, *pair),
        opened.subject.rectified,
    )
    return Finding("images_do_not_match", "fault", names, f"{what}.", f"{remedy}.", command, figures, *sketch)


def _the_same(opened: Opened, first: int, second: int) -> Finding:
    one, other = opened.subject.images[first], opened.subject.images[second]
    is_one_file = one.resolve() == other.resolve()
    names = f"{one.name} and {other.name}" if one.name != other.name else str(other)
    text = (
        f"{names} are one file." if is_one_file else f"{names} show the same image (correlation above 0.999)."
    )
    remedy = (
        "A pair of them shows nothing of heights. Take one out of the list, or give the image that was meant."
    )
    return Finding("duplicated_image", "fault", names, text, remedy)


def _blocks_of(opened: Opened, first: int, second: int) -> tuple[bytes, str]:
    """A picture of one place in two images."""
    grid, views = opened.scene.grid, opened.scene.views
    middle = Window(grid.height // 4, grid.width // 4, -(-grid.height // 2), -(-grid.width // 2))
    place = next(sample_places(middle, BLOCK_PX, 1))
    return image_picture(views[first].read(place), views[second].read(place)), "the same place in both"


@dataclass(frozen=True)
class _Typical:
    """The median displacement of the second image from the first, and its standard error; pixels."""

    down: float
    right: float
    error: float


def _typical(compared: Compared) -> _Typical:
    moves = np.array(compared.known_moves)
    middle = np.median(moves, axis=0)
    spread = 1.4826 * float(np.hypot(*np.median(np.abs(moves - middle), axis=0)))
    # `displacement` states how the second must move; it lies the other way.
    return _Typical(-float(middle[0]), -float(middle[1]), spread / np.sqrt(len(moves)))


def _shifts(opened: Opened, moves: Mapping[tuple[int, int], _Typical]) -> list[Finding]:
    """Images that lie beside the others: of two, the second; of more, those far from the middle of all."""
    views = sorted({view for pair in moves for view in pair})
    if not views:
        return []
    places = _places_of(views, moves)
    error = max(one.error for one in moves.values())
    if len(views) == 2:
        places = {views[1]: places[views[1]] - places[views[0]]}
        of = opened.image_name(views[0])
    else:
        middle = np.median(list(places.values()), axis=0)
        places = {view: place - middle for view, place in places.items()}
        of = "the other images"
    found = []
    for view, (down, right) in places.items():
        size = float(np.hypot(down, right))
        if size <= max(LEAST_SHIFT_PX, LEAST_ERRORS * error):
            continue
        east, north = on_the_map(opened.scene, down, right)
        name = opened.image_name(view)
        about = f"{of} and {name}" if len(views) == 2 else name
        text = (
            f"{name} lies {size:.1f} pixels beside {of}: {east:+.2f} m east, {north:+.2f} m north (phase "
            "correlation of blocks, median)."
        )
        remedy = (
            "An offset of its RPC, or of the height that it was rectified with: rectify the raw images anew, "
            "with this DSM and tie points between them."
        )
        figures = {"east_m": east, "north_m": north, "pixels": size}
        other = next(one for pair in moves if view in pair for one in pair if one != view)
        severity: Severity = "fault" if size > RUINOUS_SHIFT_PX else "warning"
        found.append(Finding("image_shift", severity, about, text, remedy, opened.subject.rectified, figures,
                             *_blocks_of(opened, other, view)))  # fmt: skip
    return found


def _places_of(views: list[int], moves: Mapping[tuple[int, int], _Typical]) -> dict[int, NDArray[np.float64]]:
    """Where each image lies, so that the displacements of all pairs follow as well as they can."""
    rows = np.zeros((len(moves), len(views)))
    for row, (first, second) in enumerate(moves):
        rows[row, views.index(first)], rows[row, views.index(second)] = -1, 1
    shifts = np.array([(one.down, one.right) for one in moves.values()])
    found = np.linalg.lstsq(rows, shifts, rcond=None)[0]
    return dict(zip(views, found, strict=True))


def _beside_surface(opened: Opened, views: list[int]) -> list[Finding]:
    """Images whose edges lie beside those of the reference DSM, or of the initial DSM without one."""
    scene = opened.scene
    surface, limit, name = scene.reference, LEAST_BESIDE_REFERENCE_PX, "reference DSM"
    if surface is None:
        surface, limit, name = scene.dsm, LEAST_BESIDE_DSM_PX, "initial DSM"
    found = []
    for view in views:
        image_band, seen = scene.views[view], "Edges in"
        apart = edges_beside(scene, surface, image_band)
        if apart is None:
            apart, seen = shading_beside(scene, surface, image_band), "Lit slopes in"
        if apart is None or np.hypot(*apart) <= limit:
            continue
        east, north = on_the_map(scene, *apart)
        image = opened.image_name(view)
        text = (
            f"{seen} {image} lie {np.hypot(*apart):.1f} pixels to the {compass(east, north)} of those of "
            f"the {name}: {east:+.1f} m east, {north:+.1f} m north."
        )
        remedy = (
            "Was it rectified with another DSM, at height 0, or before the DSM was moved? Rectify it again."
        )
        figures = {"east_m": east, "north_m": north, "pixels": float(np.hypot(*apart))}
        command = opened.subject.rectified
        found.append(Finding("image_beside_surface", "warning", image, text, remedy, command, figures))
    return found
