"""How the initial DSM lies to the reference DSM: above, beside, tilted, in another unit, of another date."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resdepth.data.scene import Scene
from resdepth.diagnosis.findings import Finding, Severity, error_picture, medians_picture, shown_around, typed
from resdepth.diagnosis.subject import Opened
from resdepth.errors import ResDepthError
from resdepth.evaluation.coregistration import (
    MIN_PIXELS,
    Alignment,
    align,
    estimate_tilt,
    sample_windows,
)
from resdepth.evaluation.metrics import NMAD_FACTOR
from resdepth.evaluation.phase_correlation import (
    EDGE_PERCENT,
    Correlations,
    added_up,
    edges_apart,
    phase_correlation,
    place_of,
)
from resdepth.geo.crs import FOOT
from resdepth.geo.raster import Array, Band
from resdepth.geo.windows import Window
from resdepth.preparation.datum import ELLIPSOID, height_change, named_vertical

# A bias or a shift from this makes training and evaluation useless; smaller ones make them worse.
RUINOUS_BIAS_M, RUINOUS_SHIFT_PX = 5.0, 3.0
LEAST_FAR_PX = 8.0
HALF_PX = 0.1
"""How near half a pixel both parts of a shift are if a mix-up of centres and corners made it."""
# A bias that vertical datums may make: no geoid lies further from the ellipsoid, and maps of EGM96 are within
# a metre or two of national geoids.
LEAST_DATUM_M, LARGEST_UNDULATION_M, NEAR_UNDULATION_M = 2.0, 110.0, 1.5
DATUM_SPREADS = 3.0
# Heights of one as a multiple of the other's: what units make of them, and how near.
UNITS = {"foot": ("feet", FOOT), "centimetre": ("centimetres", 0.01)}
RATIO_TOLERANCE, LEAST_CORRELATION = 0.04, 0.9
# By this share of the relief, if there is some, differences of surfaces vary that have nothing in common.
UNLIKE, LEAST_RELIEF_M = 0.9, 2.0
# Changes: differences so large, over so much ground, of one sign and nearly one size.
LEAST_CHANGE_M, CHANGE_SPREADS, LEAST_CHANGE_M2, EVENNESS = 3.0, 5.0, 60.0, 0.2
SMOOTHED_PX = 5
MANY_CHANGES = 0.02
# How far the peak of all blocks must stand out from the others, in their standard deviations.
LEAST_SHADED_PEAK = 18.0
SHADED_PX, SHADED_A_SIDE = 256, 5


def alignment_findings(opened: Opened) -> list[Finding]:
    """What the initial DSM is to the reference DSM; none without a reference DSM.

    Up to 64 windows of both are read, so neither time nor memory grow with the area.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    found, aligned = placement(opened)
    return found if aligned is None else [*found, *_changes(opened, aligned)]


def placement(opened: Opened) -> tuple[list[Finding], Alignment | None]:
    """What is wrong with where the initial DSM lies; and how it lies, None where that cannot be compared.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    scene = opened.scene
    if scene.reference is None or scene.grid.is_in_degrees:
        return [], None
    windows = list(sample_windows(scene.grid))
    common = sum(int(np.isfinite(_difference(scene, window)).sum()) for window in windows)
    if common < MIN_PIXELS:
        name = opened.subject.reference.name if opened.subject.reference else "the reference DSM"
        text = f"Nowhere do both {opened.subject.dsm.name} and {name} have heights."
        remedy = "Is it of another place, or all void?"
        return [Finding("no_common_heights", "fault", name, text, remedy)], None
    if all(not np.nan_to_num(_difference(scene, window)).any() for window in windows):
        about, remedy = _about(opened), "Name the reference DSM that was meant."
        text = f"{about} have the same heights: nothing is to be learned or evaluated with them."
        return [Finding("same_surface", "fault", about, text, remedy)], None
    if found := _units(opened) or _far_shift(opened) or _unlike(opened):
        return found, None  # all else follows from it
    aligned = align(scene.dsm.read, scene.counted_reference, scene.grid, name=str(opened.subject.dsm))
    return [*_bias(opened, aligned), *_shift(opened, aligned), *_tilt(opened, aligned)], aligned


def _difference(scene: Scene, window: Window) -> Array:
    return scene.dsm.read(window) - scene.counted_reference(window)


def _is_known(values: Array) -> bool:
    return int(np.isfinite(values).sum()) >= MIN_PIXELS


def _about(opened: Opened) -> str:
    assert opened.subject.reference is not None, "it was compared"
    return f"{opened.subject.dsm.name} and {opened.subject.reference.name}"


def _bias(opened: Opened, found: Alignment) -> list[Finding]:
    if not found.is_biased:
        return []
    bias, geoid = found.bias_m, _geoid_height(opened.scene)
    side = "above" if bias > 0 else "below"
    text = (
        f"The initial DSM lies {abs(bias):.2f} m {side} the reference DSM (median of the differences; they "
        f"scatter by {found.spread_m:.2f} m, NMAD)."
    )
    figures = {"bias_m": bias, "spread_m": found.spread_m}
    severity: Severity = "fault" if abs(bias) > RUINOUS_BIAS_M else "warning"
    stated = _as_datum(bias, found.spread_m, geoid)
    if stated:
        remedy = (
            "Look up from what each counts its heights, and state it: --dsm-vertical and "
            "--reference-vertical take ellipsoid, EGM96, EGM2008 or a code. Without them, the constant is "
            "removed as it is."
        )
        figures |= {"geoid_m": geoid} if geoid is not None else {}
        about, command = _about(opened), opened.subject.prepared()
        text = f"{text} {stated}"
        return [Finding("vertical_datum", "fault", about, text, remedy, command, figures)]
    remedy = (
        "A network learns a constant bias: the error falls by as much, which looks like success, and no "
        "shape is better. Remove it before training (resdepth prepare, or remove_bias in the configuration); "
        "resdepth evaluate shows metrics without the median."
    )
    about, command = _about(opened), opened.subject.prepared()
    return [Finding("vertical_offset", severity, about, text, remedy, command, figures)]


def _geoid_height(scene: Scene) -> float | None:
    """How high the geoid EGM96 lies above the ellipsoid, metres; None where PROJ has no grid of it."""
    if not scene.grid.crs:
        return None
    try:
        found = height_change(ELLIPSOID, named_vertical("EGM96"), scene.grid.flat, 0.0)
    except ResDepthError:  # no grid, or no pyproj
        return None
    return -found.mean_m


def _as_datum(bias: float, spread: float, geoid: float | None) -> str:
    """In words, why two vertical datums may have made a bias; "" if they have not."""
    size = abs(bias)
    if size < max(LEAST_DATUM_M, DATUM_SPREADS * spread) or size > LARGEST_UNDULATION_M:
        return ""
    if geoid is None:
        return (
            "It is a constant of the kind that two vertical datums make: one counts from the ellipsoid, the "
            "other from a geoid, which are up to 107 m apart (PROJ has no grid of EGM96 here to compare "
            "with)."
            if size > RUINOUS_BIAS_M
            else ""
        )
    if abs(size - abs(geoid)) > NEAR_UNDULATION_M:
        return ""
    first, second = ("ellipsoid", "a geoid") if bias * geoid > 0 else ("a geoid", "the ellipsoid")
    return (
        f"The geoid (EGM96) lies {geoid:+.1f} m from the ellipsoid here: the initial DSM seems to count from "
        f"{'the ' + first if first == 'ellipsoid' else first}, the reference DSM from {second}."
    )


def _shift(opened: Opened, found: Alignment) -> list[Finding]:
    if not found.is_shifted:
        return []
    shift, side = found.shift, opened.scene.grid.sides_m.mean
    east, north = -shift.dx_m, -shift.dy_m
    text = (
        f"The initial DSM lies {np.hypot(east, north):.2f} m ({found.shift_px:.1f} pixels) to the "
        f"{compass(east, north)} of the reference DSM: {east:+.2f} m east, {north:+.2f} m north (Nuth and "
        "Kääb)."
    )
    figures = {"east_m": east, "north_m": north, "pixels": found.shift_px}
    remedy = "Each wall is an error then, and a network learns to move walls. Co-register both (prepare)."
    kind = "shift"
    if all(abs(abs(one) / side - 0.5) < HALF_PX for one in (east, north)):
        kind = "half_pixel_shift"
        text += " It is half a pixel both ways: one of them seems to take pixel centres for pixel corners."
        remedy = "Correct the origin of the one that is wrong by half a pixel, or co-register both."
    severity: Severity = "fault" if found.shift_px > RUINOUS_SHIFT_PX else "warning"
    picture, caption = _roughest_window(opened)
    return [Finding(kind, severity, _about(opened), text, remedy, opened.subject.prepared(), figures, picture,
                    caption)]  # fmt: skip


def _far_shift(opened: Opened) -> list[Finding]:
    """A shift that is too far for least squares, by the edges of both."""
    scene = opened.scene
    assert scene.reference is not None, "it was looked for"
    found = edges_beside(scene, scene.reference, scene.dsm)
    if found is None or np.hypot(*found) <= LEAST_FAR_PX:
        return []
    (east, north), pixels = on_the_map(scene, *found), float(np.hypot(*found))
    text = (
        f"The initial DSM lies {np.hypot(east, north):.1f} m ({pixels:.0f} pixels) to the "
        f"{compass(east, north)} of the reference DSM: {east:+.1f} m east, {north:+.1f} m north (by the "
        "edges of both)."
    )
    remedy = (
        "Nothing else can be compared before. Is the georeference of one of them wrong? Move it by as much."
    )
    figures = {"east_m": east, "north_m": north, "pixels": pixels}
    command = opened.subject.prepared()
    return [Finding("shift", "fault", _about(opened), text, remedy, command, figures)]


def _moved_back(scene: Scene, found: Alignment) -> Callable[[Window], Array]:
    """Reads the initial DSM without its horizontal shift, to whole pixels: shifted slopes are no tilt."""
    if not found.is_shifted:
        return scene.dsm.read
    a, b, _, d, e, _ = scene.grid.transform
    x, y = scene.grid.map_units_of(-found.shift.dx_m, -found.shift.dy_m)
    right, down = np.rint(np.linalg.solve([[a, b], [d, e]], [x, y])).astype(int).tolist()

    def read(window: Window) -> Array:
        there = window.moved(down, right)
        if scene.grid.whole.contains(there):
            return scene.dsm.read(there)
        return np.full(window.shape, np.nan, np.float32)

    return read


def _tilt(opened: Opened, aligned: Alignment) -> list[Finding]:
    scene = opened.scene
    found = estimate_tilt(_moved_back(scene, aligned), scene.counted_reference, scene.grid)
    if found is None or not found.matters:
        return []
    per_km = 1000 * float(np.hypot(found.east, found.north))
    text = (
        f"The initial DSM is tilted against the reference DSM: it rises by {per_km:.2f} m per kilometre "
        f"towards the {compass(found.east, found.north)}, {found.rise_m:.2f} m across the area "
        f"(±{found.noise_m:.2f} m)."
    )
    remedy = "A constant shift does not mend it: the plane must go. Corrected RPCs would prevent it."
    command = opened.subject.prepared("--coregister", "tilt")
    figures = {
        "east_m_per_km": 1000 * found.east,
        "north_m_per_km": 1000 * found.north,
        "rise_m": found.rise_m,
    }
    picture = medians_picture(found.medians - np.nanmedian(found.medians))
    return [Finding("tilt", "warning", _about(opened), text, remedy, command, figures, picture,
                    "medians of the differences over the area, blue below, red above")]  # fmt: skip


def _units(opened: Opened) -> list[Finding]:
    """Whether the heights of one are a multiple of the other's that a wrong unit makes."""
    dsm, reference = _both(opened)
    if dsm.std() == 0 or reference.std() == 0 or np.corrcoef(dsm, reference)[0, 1] < LEAST_CORRELATION:
        return []
    ratio = float(
        np.median(np.abs(reference - np.median(reference))) / np.median(np.abs(dsm - np.median(dsm)))
    )
    for unit, (plural, size) in UNITS.items():
        for wrong, expected in ((opened.subject.dsm, size), (opened.subject.reference, 1 / size)):
            if abs(ratio / expected - 1) < RATIO_TOLERANCE and wrong is not None:
                text = (
                    f"Heights of the reference DSM vary by {ratio:.4g} times as much as those of the initial "
                    f"DSM: those of {wrong.name} seem to be in {plural}, which the file does not state."
                )
                command = typed("gdal_edit.py", "-units", unit, wrong)
                remedy = "State the unit in the file; heights are then read in metres."
                return [Finding("units", "fault", _about(opened), text, remedy, command, {"ratio": ratio})]
    return []


def _both(opened: Opened) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) heights of the sample that both know."""
    scene = opened.scene
    pairs = [
        (scene.dsm.read(window), scene.counted_reference(window)) for window in sample_windows(scene.grid)
    ]
    dsm, reference = (
        np.concatenate([pair[end].ravel() for pair in pairs]).astype(np.float64) for end in (0, 1)
    )
    known = np.isfinite(dsm) & np.isfinite(reference)
    return dsm[known], reference[known]


def _unlike(opened: Opened) -> list[Finding]:
    """Whether both show something else: the differences vary as much as the heights themselves."""
    dsm, reference = _both(opened)
    relief, apart = (float(np.median(np.abs(one - np.median(one)))) for one in (reference, dsm - reference))
    if relief < LEAST_RELIEF_M or apart < UNLIKE * relief:
        return []
    about = _about(opened)
    text = (
        f"{about} do not show the same surface: their differences vary by {NMAD_FACTOR * apart:.1f} m, the "
        f"heights of the reference DSM by {NMAD_FACTOR * relief:.1f} m (NMAD)."
    )
    remedy = (
        "Is one of another place, upside down, or no DSM? What follows from such differences means nothing."
    )
    return [Finding("unlike_surfaces", "fault", about, text, remedy)]


def _changes(opened: Opened, aligned: Alignment) -> list[Finding]:
    """Whether parts of the area seem to have been built on or cleared between both."""
    if not np.isfinite(aligned.bias_m):
        return []
    scene = opened.scene
    changed_px = known_px = count = 0
    worst: tuple[int, Window] | None = None
    for window in sample_windows(scene.grid):
        difference = _difference(scene, window) - aligned.bias_m
        known_px += int(np.isfinite(difference).sum())
        sizes = list(_changed(difference, aligned, scene.grid.pixel_area_m2))
        changed_px, count = changed_px + sum(sizes), count + len(sizes)
        if sizes and (worst is None or sum(sizes) > worst[0]):
            worst = sum(sizes), window
    share = changed_px / max(known_px, 1)
    if worst is None or share < MANY_CHANGES:
        return []
    text = (
        f"{count} places, {100 * share:.1f} % of what was looked at, differ evenly by more than "
        f"{_change_limit(aligned):.1f} m over {LEAST_CHANGE_M2:.0f} m² or more, as construction, demolition "
        "or felling make it; or as blunders of the matching do."
    )
    remedy = "If they are changes, leave them out with mask_ground_truth: they are no errors to learn."
    figures = {"share_percent": 100 * share, "places": float(count)}
    shown = _difference(scene, shown_around(worst[1], scene.grid.whole)) - aligned.bias_m
    return [Finding("changes", "note", _about(opened), text, remedy, "", figures,
                    error_picture(shown, 2 * _change_limit(aligned)),
                    "initial minus reference DSM where most has changed, blue below, red above")]  # fmt: skip


def _change_limit(aligned: Alignment) -> float:
    return max(LEAST_CHANGE_M, CHANGE_SPREADS * aligned.spread_m)


def _changed(difference: Array, aligned: Alignment, pixel_m2: float) -> Iterator[int]:
    """The sizes in pixels of even, large differences of one sign."""
    smooth = ndimage.median_filter(np.nan_to_num(difference), SMOOTHED_PX)
    for sign in (1, -1):
        labels, count = ndimage.label(sign * smooth > _change_limit(aligned))
        for place in range(1, count + 1):
            values = smooth[labels == place]
            if values.size * pixel_m2 >= LEAST_CHANGE_M2 and values.std() < EVENNESS * abs(values.mean()):
                yield int(values.size)


def _roughest_window(opened: Opened) -> tuple[bytes, str]:
    """A picture of the differences, without their median, where they vary most; and what it shows."""
    scene = opened.scene
    around = [shown_around(window, scene.grid.whole) for window in sample_windows(scene.grid)]
    differences = [one for window in dict.fromkeys(around) if _is_known(one := _difference(scene, window))]
    roughest = max(differences, key=lambda one: float(np.isfinite(one).mean()) * float(np.nanstd(one)))
    values = roughest - np.nanmedian(roughest)
    limit = float(max(1.0, np.nanpercentile(np.abs(values), 90)))
    caption = (
        f"initial minus reference DSM in a window, without its median; {limit:.1f} m below blue, above red"
    )
    return error_picture(values, limit), caption


def edges_beside(scene: Scene, first: Band, second: Band) -> tuple[float, float] | None:
    """How far the edges of the second raster lie down and to the right of those of the first, in pixels.

    The correlations of blocks all over the area are added up, so that what they have in common stands out;
    up to 64 pixels are found.

    Args:
        scene: its grid is that of both.
        first: heights or grey values.
        second: likewise.

    Returns:
        None if nothing stands out, as in fields and mountains.
    """
    return edges_apart(first.read, second.read, scene.grid.whole)


def shading_beside(scene: Scene, surface: Band, image: Band) -> tuple[float, float] | None:
    """How far an image lies down and to the right of a surface, by how slopes are lit; in pixels.

    Where slopes face the sun, an image is bright: it goes with the gradients of the heights, in a proportion
    that is one for the whole area, and is not known. Serves where there are no edges, as in mountains.

    Returns:
        None if nothing stands out.
    """
    found = added_up(surface.read, image.read, scene.grid.whole, SHADED_PX, SHADED_A_SIDE, _shading)
    return place_of(found, LEAST_SHADED_PEAK)


def _shading(heights: Array, image: Array) -> Correlations:
    """(2, H, W) of the image and the gradient along rows, and along columns."""
    down, right = np.gradient(np.nan_to_num(heights, nan=float(np.nanmean(heights))))
    limit = float(np.percentile(np.hypot(down, right), EDGE_PERCENT))
    return np.stack([phase_correlation(one.clip(-limit, limit), image) for one in (down, right)])


def on_the_map(scene: Scene, down: float, right: float) -> tuple[float, float]:
    """Metres east and north of so many pixels down and to the right."""
    a, b, _, d, e, _ = scene.grid.transform
    return scene.grid.metres_of(a * right + b * down, d * right + e * down)


def compass(east: float, north: float) -> str:
    """The direction of a vector, one of eight."""
    names = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
    return names[round(np.degrees(np.arctan2(north, east)) / 45) % 8]
