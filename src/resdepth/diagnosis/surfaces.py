"""What single surfaces are: voids, declared and not; sizes; what a model makes of them; dates."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from resdepth.data.arrays import look_for_undeclared
from resdepth.data.scene import Scene
from resdepth.diagnosis.findings import Finding, Severity, percent, relief_picture, typed
from resdepth.diagnosis.subject import INITIAL, REFERENCE, Declared, Opened
from resdepth.errors import ResDepthError
from resdepth.evaluation.coregistration import sample_windows
from resdepth.geo.raster import Array, ArrayBand, Band, FileBand, read_tags
from resdepth.geo.windows import N_STRIPES, Window, blocks
from resdepth.models.model import Model
from resdepth.models.pretrained import default_model
from resdepth.models.published import load_model
from resdepth.refinement.compatibility import examine, stated_gsd
from resdepth.runtime.progress import Silent

WHOLE_PX = 2**22
"""Rasters up to this size are looked at as a whole, of larger ones a sample."""
BLOCK_PX = 512
MANY_VOIDS, FEW_KNOWN, NEARLY_ALL = 0.2, 0.5, 0.99
MANY_BLUNDERS = 1e-3
SMALL_PX = 256
"""What a network sees at once, as published."""
DAYS_OLDER = 365


def surface_findings(opened: Opened) -> list[Finding]:
    """What is wrong with the initial DSM and the reference DSM, each by itself.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    scene, subject = opened.scene, opened.subject
    found = [*_placed(opened), *_size(opened)]
    for name, band, path in (
        (INITIAL, scene.dsm, subject.dsm),
        (REFERENCE, scene.reference, subject.reference),
    ):
        if band is not None and path is not None:
            found += _voids(opened, name, band, path)
    return [*found, *_implausible(opened), *_of_model(opened), *_dates(opened)]


def _placed(opened: Opened) -> list[Finding]:
    """Whether it is known how large pixels are."""
    grid, dsm = opened.scene.grid, opened.subject.dsm
    if not grid.crs:
        text = f"{dsm.name} states no CRS: its coordinates are taken as metres."
        remedy, command = "State it, if it is known.", typed("gdal_edit.py", "-a_srs", "EPSG:CODE", dsm)
        return [Finding("no_reference_system", "note", dsm.name, text, remedy, command)]
    if not grid.is_in_degrees:
        return []
    text = (
        f"The CRS of {dsm.name}, {grid.crs_name}, counts in degrees: no network knows what a pixel is in "
        "metres."
    )
    command = opened.subject.prepared()
    return [Finding("degrees", "fault", dsm.name, text, "Bring all to a projected CRS in metres.", command)]


def _size(opened: Opened) -> list[Finding]:
    """Areas in which the tiles of a configuration, or those of a model, do not fit."""
    subject, grid = opened.subject, opened.scene.grid
    stated = subject.model.provenance.get("tile_size") if subject.model else None
    tile = subject.tile or (stated if isinstance(stated, int) else SMALL_PX)
    height, width = grid.height, grid.width
    cut = {"vertical": (height, width // N_STRIPES), "horizontal": (height // N_STRIPES, width)}
    height, width = cut.get(subject.stripes, (height, width))
    if min(height, width) >= tile:
        return []
    what = f"A fifth of it, a stripe ({subject.stripes})," if subject.stripes else "The whole area"
    text = f"{what} has {height} x {width} pixels; tiles have {tile} x {tile}."
    if subject.tile:
        remedy = "Choose smaller tiles (tile_size), another allocation_strategy, or a larger area."
        return [
            Finding("size", "fault", subject.dsm.name, text, remedy, figures={"side_px": min(height, width)})
        ]
    remedy = "A network sees little around each pixel then, and a few buildings decide about all figures."
    return [Finding("size", "note", subject.dsm.name, text, remedy, figures={"side_px": min(height, width)})]


def without_undeclared(opened: Opened) -> tuple[Opened, list[Finding]]:
    """The data set with the voids that nobody declared as voids, or nothing else would be seen; and which.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    scene, subject = opened.scene, opened.subject
    found: list[Finding] = []
    dsm, more = _declared(INITIAL, scene.dsm, subject.dsm)
    found += more
    reference = scene.reference
    if reference is not None and subject.reference is not None:
        reference, more = _declared(REFERENCE, reference, subject.reference)
        found += more
    return replace(opened, scene=replace(scene, dsm=dsm, reference=reference)), found


def _declared(name: str, band: Band, path: Path) -> tuple[Band, list[Finding]]:
    in_file = FileBand(path)
    look = look_for_undeclared(in_file)
    if not look.suspects:
        return band, []
    worst = look.suspects[0]
    shares = ", ".join(f"{percent(one.share)} are {one.stored:.9g}" for one in look.suspects)
    text = (
        f"Of the heights of the {name}, {shares}, all others from {look.lowest:.6g} to {look.highest:.6g} m: "
        "voids whose number the file does not declare."
    )
    figures = {"number": worst.stored, "share_percent": 100 * worst.share}
    command = typed("gdal_edit.py", "-a_nodata", f"{worst.stored:.9g}", path)
    scale, offset = in_file.scaling
    numbers = tuple(one.stored * scale + offset for one in look.suspects)
    return Declared(band, numbers), [
        Finding("undeclared_voids", "fault", path.name, text, "Declare it.", command, figures)
    ]


def _looked_at(whole: Window, scene: Scene) -> Iterator[Window]:
    yield from blocks(whole, BLOCK_PX) if whole.area <= WHOLE_PX else sample_windows(scene.grid)


def _voids(opened: Opened, name: str, band: Band, path: Path) -> list[Finding]:
    if isinstance(band, FileBand) and not band.header.may_have_voids:
        return []
    void = pixels = 0
    worst: tuple[float, Array] | None = None
    for window in _looked_at(band.grid.whole, opened.scene):
        heights = band.read(window)
        count = int(np.isnan(heights).sum())
        void, pixels = void + count, pixels + heights.size
        share = min(count, heights.size - count) / heights.size
        if count and (worst is None or share > worst[0]):
            worst = share, heights
    if worst is None:
        return []
    share = void / pixels
    found = "" if pixels == band.grid.whole.area else " (of a sample)"
    text = f"{percent(share)} of the {name}{found} are void."
    figures = {"share_percent": 100 * share}
    picture = relief_picture(worst[1], band.grid.sides_m)
    caption = "a part with voids, in red"
    if name == REFERENCE:
        if share <= FEW_KNOWN:
            return []
        remedy = "Voids of the reference DSM do not count: little is left to learn from, or to evaluate with."
        return [Finding("voids", "warning", path.name, text, remedy, "", figures, picture, caption)]
    remedy = "resdepth refine fills them for the network, and leaves them void in the result."
    severity: Severity = "warning" if share > MANY_VOIDS else "note"
    if share > NEARLY_ALL:
        return [Finding("voids", "fault", path.name, text, "Is it the right file?", "", figures)]
    if opened.subject.is_trained_on:
        severity, remedy = "fault", "Training and testing take no voids: fill them first."
    elif share > MANY_VOIDS:
        remedy += " What is guessed is a large part here."
    command = opened.subject.prepared()
    return [Finding("voids", severity, path.name, text, remedy, command, figures, picture, caption)]


def _implausible(opened: Opened) -> list[Finding]:
    """Heights of the initial DSM that stand out so far, on so small an area, that they are blunders."""
    from resdepth.preparation.voids import STANDS_OUT_M, coarse_surface, without_outliers

    scene, path = opened.scene, opened.subject.dsm
    out = known = 0
    worst: tuple[int, Array] | None = None
    for window in _looked_at(scene.grid.whole, scene):
        heights, grid = scene.dsm.read(window), scene.grid.crop(window)
        if np.isnan(heights).all():
            continue
        level = coarse_surface(ArrayBand(heights, grid), 0, Silent()).over(grid.whole)
        sound, groups = without_outliers(heights, level, grid.pixel_area_m2)
        count = sum(pixels for *_, pixels in groups)
        out, known = out + count, known + int(np.isfinite(heights).sum())
        if count and (worst is None or count > worst[0]):
            worst = count, sound
    if worst is None:
        return []
    text = (
        f"{percent(out / known)} of the heights of {path.name} stand out by more than {STANDS_OUT_M:.0f} m "
        "from those around them, on areas too small for a tower: blunders of the matching."
    )
    severity: Severity = "warning" if out > MANY_BLUNDERS * known else "note"
    remedy = "prepare takes them out, and fills what they leave."
    picture = relief_picture(worst[1], scene.grid.sides_m)
    figures, caption = {"share_percent": 100 * out / known}, "where most of them are, in red with the voids"
    command = opened.subject.prepared()
    return [Finding("implausible_heights", severity, path.name, text, remedy, command, figures, picture,
                    caption)]  # fmt: skip


def _of_model(opened: Opened) -> list[Finding]:
    """Pixel size and relief against the training of the model: the given one, or the bundled default."""
    scene, subject = opened.scene, opened.subject
    if scene.grid.is_in_degrees:
        return []
    default = default_model(with_images=bool(subject.images or subject.raw))
    model: Model = subject.model or load_model(default)
    found = examine(model, scene, [], scene.grid.whole, stated_gsd(scene))
    name = "the model" if subject.model else f"the bundled model {default.stem}"
    severity: Severity = "warning" if subject.model else "note"
    return [_misfit(misfit, severity, subject.dsm.name, name) for misfit in found.misfits]


def _misfit(misfit: str, severity: Severity, about: str, model: str) -> Finding:
    """What `examine` says, as a finding."""
    kind, _, text = misfit.partition(": ")
    what, _, remedy = text.partition("; resample")
    remedy = f"Resample{remedy}." if remedy else "Train a model on data like these, if the heights are right."
    return Finding(
        "pixel_size" if kind == "pixel size" else "relief", severity, about, f"For {model}: {what}.", remedy
    )


_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-:/.]?(0[1-9]|1[0-2])[-:/.]?(0[1-9]|[12]\d|3[01])(?!\d)")
_OF_TAKING = re.compile(r"acqui|captur|imaging|taken|survey|flight", re.IGNORECASE)


def taken_on(path: Path) -> date | None:
    """When what a raster shows was seen, if a tag says so; the date of the file itself does not count."""
    try:
        tags = read_tags(path)
    except ResDepthError:
        return None
    for name, value in tags.items():
        if _OF_TAKING.search(name) and (found := _DATE.search(value)):
            try:
                return date(int(found[1]), int(found[2]), int(found[3]))
            except ValueError:
                continue
    return None


def _dates(opened: Opened) -> list[Finding]:
    subject = opened.subject
    seen = [(taken, path) for path in (*subject.images, *subject.raw) if (taken := taken_on(path))]
    reference = taken_on(subject.reference) if subject.reference else None
    if not seen or reference is None or subject.reference is None:
        return []
    last, image = max(seen)
    days = (last - reference).days
    if days < DAYS_OLDER:
        return []
    text = (
        f"By its tags, the reference DSM is from {reference}, {days / 365.25:.1f} years before {image.name} "
        f"({last}): what was built in between counts as an error of the initial DSM."
    )
    remedy = "Leave changed places out with mask_ground_truth."
    return [Finding("dates", "warning", subject.reference.name, text, remedy, figures={"days": float(days)})]
