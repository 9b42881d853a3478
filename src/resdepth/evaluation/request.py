"""What is to be evaluated, and where: files and regions as people name them become a case."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from resdepth.errors import ResDepthError
from resdepth.evaluation.classes import check_mask_values
from resdepth.evaluation.coregistration import find_shift
from resdepth.evaluation.evaluate import Case
from resdepth.evaluation.inputs import Candidate, Move, OnGrid, open_candidate, sha256_of
from resdepth.evaluation.result import ERRORS, OVERALL, REFERENCE_KEY, Shift
from resdepth.geo.grid import Bounds, Grid
from resdepth.geo.raster import Band, read_header, read_tags
from resdepth.geo.vectors import bounds_on, is_vector, open_vector_mask
from resdepth.geo.windows import N_STRIPES, Strategy, Window, bounding, split_regions
from resdepth.options import option
from resdepth.runtime.paths import why_no_file
from resdepth.version import __version__

logger = logging.getLogger(__name__)

INITIAL, REFINED, REFERENCE = "initial", "refined", "reference DSM"
"""Names of surfaces; that of the reference DSM on pages and in figures."""
RESERVED, RESERVED_BEGINNINGS = (OVERALL, "edge"), ("terrain", "slope_", "above_ground_")
PARTS = Path | Sequence[Path]
RESAMPLED = {
    "none": "on the reference DSM's pixels",
    "average": "finer than the reference DSM: averaged over its pixels",
    "bilinear": "interpolated bilinearly at the reference DSM's pixels",
}
# What refine and test write into their rasters.
ORIGINS = {
    "RESDEPTH_MODEL": "Model", "RESDEPTH_MODEL_SHA256": "Model's SHA-256",
    "RESDEPTH_MODEL_WITHOUT_IMAGES": "Model without images", "RESDEPTH_JOB": "Job",
}  # fmt: skip
EVERYWHERE = "everywhere"


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, as files.

    Attributes:
        surfaces: by name: a file, or files that lie side by side.
        reference: heights; its grid is the one of all metrics.
        initial: the DSM before refinement; evaluated as well.
        masks: rasters, 1 = inside, or vector files: ground_truth (where the reference DSM counts), building,
            water, forest, or any other name.
        ground: a model of the bare ground (DTM).
        region: see `find_area`.
        windows: of the reference DSM's grid, instead of a region.
        threshold: errors above it in absolute value are left out; metres.
        align: move the surfaces onto the reference DSM first (Nuth & Kaab 2011).
        together: name of one more result, over all surfaces but the initial one; "" for none.
        facts: of one's own for the provenance, name to text.
        baselines: also evaluate median filters of the initial DSM; without one, of the only surface.
        lenient: masks may mark by other numbers than 1, and there may be nothing to evaluate.
    """

    surfaces: Mapping[str, PARTS]
    reference: Path
    initial: Path | None = None
    masks: Mapping[str, Path] = field(default_factory=dict)
    ground: Path | None = None
    region: str | Path | Bounds | None = None
    windows: tuple[Window, ...] = ()
    threshold: float | None = None
    align: bool = False
    together: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    baselines: bool = False
    lenient: bool = False

    @property
    def files(self) -> list[Path | None]:
        """All that is read; None for what is not given."""
        surfaces = [part for parts in self.surfaces.values() for part in _parts(parts)]
        region = Path(self.region) if isinstance(self.region, str | Path) else None
        return [self.reference, self.initial, *surfaces, *self.masks.values(), self.ground, region]


def open_case(request: Request) -> tuple[Case, "Area"]:
    """The files of a request, opened and looked at, and where they are evaluated.

    Raises:
        ResDepthError: if a file cannot be read, names are not unique, CRSs differ, or masks mark by other
            numbers than 1.
    """
    named: dict[str, PARTS] = {} if request.initial is None else {INITIAL: request.initial}
    _demand_sense(request)
    named |= request.surfaces
    for path in (request.reference, *(part for parts in named.values() for part in _parts(parts))):
        if not path.is_file():
            raise ResDepthError(f"{path}: {why_no_file(path)}")
    grid = read_header(request.reference).grid
    reference = OnGrid([request.reference], grid)
    _demand_right_angles(request.reference, grid)
    area = area_of(request.windows, grid) if request.windows else find_area(request.region, grid)
    masks = {name: _open_mask(path, grid) for name, path in request.masks.items()}
    for warning in [] if request.lenient else check_mask_values(masks):
        logger.warning("%s", warning)
    ground = None if request.ground is None else OnGrid([request.ground], grid)
    surfaces = [open_candidate(name, _parts(parts), grid) for name, parts in named.items()]
    heights = [request.reference, *(part for parts in named.values() for part in _parts(parts))]
    _warn_of_units([*heights, *([] if request.ground is None else [request.ground])])
    case = Case(
        reference=reference,
        surfaces=surfaces,
        regions=area.windows,
        initial=None if request.initial is None else INITIAL,
        masks=masks,
        ground=ground,
        inside=area.inside,
        inside_path=area.path,
        threshold=request.threshold,
        together=request.together,
    )
    shifts = {one.name: _shift_of(one, case) for one in surfaces}
    if request.align:
        moved = [_moved(one, _parts(named[one.name]), case, shifts[one.name]) for one in surfaces]
        shifts = {name: replace(shift, applied=shift.pixels > 0) for name, shift in shifts.items()}
        case = replace(case, surfaces=moved)
    return replace(case, shifts=shifts), area


def _demand_right_angles(path: Path, grid: Grid) -> None:
    """Refuse pixels that are no rectangles, and warn of a map that stretches lengths.

    Raises:
        ResDepthError: if rows and columns are not at right angles on the ground.
    """
    if grid.is_slanted:
        raise ResDepthError(
            f"{path}: its rows and columns are not at right angles, so no figure of shape would be right; "
            "bring it to a grid along the axes of a projected CRS (gdalwarp -t_srs)"
        )
    if grid.stretched:
        logger.warning("%s: %s; a projected CRS in metres is safer (gdalwarp -t_srs)", path, grid.stretched)


def _warn_of_units(paths: Sequence[Path]) -> None:
    """Warn of heights whose unit nobody states, and of surfaces of another zero than the reference DSM's."""
    headers = [read_header(path) for path in paths]
    for header in headers:
        for doubt in filter(None, (header.doubt_about_unit, header.other_zero(headers[0]))):
            logger.warning("%s", doubt)


def _demand_sense(request: Request) -> None:
    """Refuse names that mean something else already, an impossible threshold, and baselines of no DSM.

    Raises:
        ResDepthError: which one.
    """
    if request.threshold is not None and not request.threshold > 0:
        raise ResDepthError(f"threshold: found {request.threshold}; must be a number above 0")
    if request.baselines and request.initial is None and len(request.surfaces) > 1:
        raise ResDepthError(
            f"baselines: found {len(request.surfaces)} DSMs ({', '.join(request.surfaces)}) and no initial "
            f"DSM to filter; name it ({option('initial')}), or evaluate a single DSM"
        )
    if request.initial is not None and INITIAL in request.surfaces:
        raise ResDepthError(f"a surface is called {INITIAL!r}, as the initial DSM; give it another name")
    for name in (REFERENCE_KEY, REFERENCE):
        if name in request.surfaces:
            raise ResDepthError(
                f"a surface is called {name!r}, as the reference DSM; give it another name: NAME=FILE"
            )
    for name in request.masks:
        if name in RESERVED or name.startswith(RESERVED_BEGINNINGS):
            raise ResDepthError(f"masks: {name!r} is a class already; give the mask another name")


def _parts(parts: PARTS) -> list[Path]:
    return [parts] if isinstance(parts, Path) else list(parts)


def _open_mask(path: Path, grid: Grid) -> Band:
    if is_vector(path):
        return open_vector_mask(path, grid)
    if not path.is_file():
        raise ResDepthError(f"{path}: {why_no_file(path)}")
    return OnGrid([path], grid, is_mask=True)


def _shift_of(surface: Candidate, case: Case) -> Shift:
    """How far a surface lies beside the reference DSM, within the regions."""
    around = bounding(case.regions)
    row, col = around.row, around.col

    return find_shift(
        lambda window: surface.band.read(window.moved(row, col)),
        lambda window: case.counted_reference(window.moved(row, col)),
        case.reference.grid.crop(around),
        name=surface.name,
    )


def _moved(surface: Candidate, paths: Sequence[Path], case: Case, shift: Shift) -> Candidate:
    """The surface where the reference DSM is; left where it is if nobody knows."""
    if not shift.pixels:
        logger.warning("%s: is not aligned: no shift was found; it stays where it is", surface.name)
        return surface
    dx_m, dy_m, dz_m = (0.0 if np.isnan(one) else one for one in (shift.dx_m, shift.dy_m, shift.dz_m))
    grid = case.reference.grid
    around = grid.crop(bounding(case.regions))  # in which the shift was found
    band = OnGrid(paths, grid, move=Move(*around.map_units_of(dx_m, dy_m), dz_m))
    return replace(surface, band=band, resampling=band.resampling)


def conditions_of(request: Request, case: Case, area: "Area") -> dict[str, str]:
    """What another evaluation needs to have in common with this one; see EvaluationResult."""
    files = {"Reference": request.reference, **{f"Mask {name}": path for name, path in request.masks.items()}}
    if request.ground is not None:
        files["Ground model"] = request.ground
    return {
        # Of a layer in a file there is only the name.
        **{name: sha256_of(path) if path.is_file() else str(path) for name, path in files.items()},
        "Region": area.pixels,
        "Errors": f"{ERRORS}, in metres, where both are known"
        + ("" if request.threshold is None else f"; those above {request.threshold:g} m are left out"),
        "Alignment": _alignment(request, case),
    }


def facts_of(request: Request, case: Case, area: "Area", conditions: Mapping[str, str]) -> dict[str, str]:
    """What was evaluated by which rules, for people."""
    grid = case.reference.grid
    facts = {
        "Reference": f"{request.reference}, {grid.height} x {grid.width} px of {grid.sides_m} m, "
        f"{grid.crs_name}, "
        f"SHA-256 {conditions['Reference']}{_unit_stated(request.reference)}",
        "Region": area.stated,
    }
    named = {**request.surfaces, **({} if request.initial is None else {INITIAL: request.initial})}
    for surface in case.surfaces:
        facts[f"Surface {surface.name}"] = (
            f"{surface.source}{_checksum(surface)}; {RESAMPLED[surface.resampling]}"
            + _unit_stated(_parts(named[surface.name])[0])
        )
        facts |= {f"{label} of {surface.name}": value for label, value in _origin(request, surface).items()}
    for name, path in request.masks.items():
        facts[f"Mask {name}"] = _with_checksum(path, conditions[f"Mask {name}"])
    if request.ground is not None:
        stated = _with_checksum(request.ground, conditions["Ground model"])
        facts["Ground model"] = stated + _unit_stated(request.ground)
    facts |= {name: conditions[name] for name in ("Errors", "Alignment")}
    facts["Software"] = f"resdepth {__version__}"
    return {**facts, **request.facts}


def _unit_stated(path: Path) -> str:
    """In words, that heights were converted; "" for metres."""
    unit = read_header(path).unit
    return "" if unit is None or unit.is_metre else f"; heights converted from {unit.name} to metres"


def _alignment(request: Request, case: Case) -> str:
    """Which surfaces were moved."""
    if not request.align:
        return "as they are"
    left = [one.name for one in case.surfaces if not case.shifts[one.name].applied]
    if len(left) == len(case.surfaces):
        return "as they are: no shift was found"
    stated = "moved onto the reference DSM (Nuth & Kääb 2011)"
    return f"{stated}, but not {', '.join(left)}, of which no shift was found" if left else stated


def _with_checksum(path: Path, condition: str) -> str:
    """A file's name and checksum; of a layer in a file only the name."""
    return f"{path}, SHA-256 {condition}" if path.is_file() else str(path)


def _checksum(surface: Candidate) -> str:
    return f", SHA-256 {surface.sha256}" if surface.sha256 else ""


def _origin(request: Request, surface: Candidate) -> dict[str, str]:
    """What a refined DSM says of its model."""
    parts = _parts(request.surfaces[surface.name]) if surface.name in request.surfaces else []
    tags = read_tags(parts[0]) if parts else {}
    return {label: tags[tag] for tag, label in ORIGINS.items() if tag in tags}


@dataclass(frozen=True)
class Area:
    """The pixels that count.

    Attributes:
        windows: of the reference DSM's grid; they do not overlap.
        inside: where it is 1 within them; None: everywhere.
        path: the file that `inside` comes from.
        pixels: in words that are the same whatever the area is called by.
        called: how the request names it; "" for the pixels alone.
    """

    windows: tuple[Window, ...]
    inside: Band | None = None
    path: Path | None = None
    pixels: str = EVERYWHERE
    called: str = ""

    @property
    def stated(self) -> str:
        """For people."""
        return f"{self.called}, pixels: {self.pixels}" if self.called else self.pixels


def find_area(region: str | Path | Bounds | None, grid: Grid) -> Area:
    """The pixels of a region.

    Args:
        region: None: all; "vertical:3" or "horizontal:0": one of five stripes, counted from 0, as the
            configurations cut them; four numbers or "xmin,ymin,xmax,ymax": a rectangle of the map; a vector
            file: its polygons.
        grid: of the reference DSM.

    Raises:
        ResDepthError: if there is no such region, or no pixel of the grid lies in it.
    """
    if region is None:
        return Area((grid.whole,))
    if isinstance(region, tuple):
        return _named_area(" ".join(f"{value:.10g}" for value in region), grid.window_of(region), grid)
    text = str(region)
    kind, _, number = text.partition(":")
    if kind in ("vertical", "horizontal"):
        return _named_area(f"stripe {text} of {N_STRIPES}", _stripe(kind, number, grid), grid)
    if is_vector(Path(text)):
        window = grid.window_of(bounds_on(Path(text), grid))
        return Area((window,), open_vector_mask(Path(text), grid), Path(text), pixels=f"polygons of {text}")
    try:
        xmin, ymin, xmax, ymax = (float(value) for value in text.replace(",", " ").split())
    except ValueError:
        raise ResDepthError(
            f"region: found {text!r}; give xmin,ymin,xmax,ymax, or vertical:0 to vertical:4 (or horizontal) "
            "for a stripe, or a file with polygons (GeoPackage, GeoJSON)"
        ) from None
    return find_area((xmin, ymin, xmax, ymax), grid)


def area_of(windows: Sequence[Window], grid: Grid) -> Area:
    """The pixels of windows.

    Args:
        windows: of the grid; they do not overlap.
        grid: of the reference DSM.
    """
    return Area(tuple(windows), pixels=_stated_pixels(windows, grid))


def _named_area(words: str, window: Window, grid: Grid) -> Area:
    return Area((window,), pixels=_stated_pixels([window], grid), called=words)


def _stated_pixels(windows: Sequence[Window], grid: Grid) -> str:
    """The same words for the same windows: "rows 0 to 63 and columns 32 to 63", counted from 0."""
    if list(windows) == [grid.whole]:
        return EVERYWHERE
    return "; ".join(
        f"rows {one.row} to {one.row_stop - 1} and columns {one.col} to {one.col_stop - 1}"
        for one in sorted(windows)
    )


def _stripe(kind: str, number: str, grid: Grid) -> Window:
    if number not in {str(one) for one in range(N_STRIPES)}:
        raise ResDepthError(
            f"region: found {kind}:{number}; the stripes are {kind}:0 to {kind}:{N_STRIPES - 1}"
        )
    strategy: Strategy = "5-crossval_vertical" if kind == "vertical" else "5-crossval_horizontal"
    regions = split_regions(grid.height, grid.width, strategy, test_stripe=int(number))
    (stripe,) = regions.test
    if stripe.height <= 0 or stripe.width <= 0 or not grid.whole.contains(stripe):
        raise ResDepthError(
            f"region: the reference DSM, {grid.height} x {grid.width} pixels, is too small for a "
            f"stripe {kind}:{number}"
        )
    return stripe
