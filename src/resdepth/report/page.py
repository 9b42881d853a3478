"""One page about surfaces that people look at: self-contained, from a file, offline.

What it shows of evaluated surfaces, and of a refined DSM, is read quickly where rasters are large.
"""

import json
import math
import os
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib import resources
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Literal

import jinja2
import numpy as np

from resdepth.evaluation.evaluate import Case
from resdepth.evaluation.inputs import OnGrid, Read
from resdepth.evaluation.request import REFERENCE
from resdepth.evaluation.result import M2_PER_KM2, ClassResult, EvaluationResult
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Array, FileBand, Method, Numbers, read_header, read_resampled, read_tags
from resdepth.geo.vectors import is_vector, open_vector_mask
from resdepth.geo.windows import Window, blocks, bounding
from resdepth.refinement.provenance import PROVENANCE_TITLES, Moved, Provenance, in_words
from resdepth.report.page_pixels import (
    HEIGHT_STEP_M,
    LIMITS_M,
    Embedded,
    Layer,
    deflated,
    embed,
    sides_within,
)
from resdepth.report.page_tables import ClassTable, Table, tables_of
from resdepth.report.tables import csv_text, stated_facts
from resdepth.report.verdict import Verdict, verdict_of
from resdepth.runtime.atomic import temporary_folder, write_text
from resdepth.runtime.prefetch import in_order

LARGEST_BYTES = 15_000_000
# Real surfaces need less than is reckoned with. Where noise needs more, pictures become smaller.
PIXEL_SHARE, MOST_SHRINKS = 0.96, 8
ASSETS = "assets"
SCRIPTS = ("pixels", "maps", "charts", "profile", "relief", "start")
# The metrics to choose from: the field of Statistics, its name, what it stands for, what it shows.
FIGURES = (
    ("mae", "MAE", "mean absolute error", "how far heights are off on average"),
    ("rmse", "RMSE", "root mean square error", "as the MAE, but large errors count more"),
    ("absolute_median", "MedAE", "median absolute error", "half of the pixels are better, half are worse"),
    ("nmad", "NMAD", "normalised median absolute deviation", "how far errors scatter, outliers aside"),
    ("le90", "LE90", "linear error 90 %", "90 % of the pixels are better"),
    ("bias", "bias", "mean error", "above zero the surface is too high, below zero too low"),
)


@dataclass(frozen=True)
class PageContent:
    """What a page shows. Sections without content are left out.

    Attributes:
        title: of the page.
        lead: a sentence or two below it.
        grid: the area shown, in full resolution; None without surfaces.
        surfaces: heights by name, in the order in which they are shown: the initial DSM, what was made of it,
            others, the reference DSM.
        reference: name of the surface that the others are compared with; None if there is nothing to compare.
        images: ortho-images, grey, by name.
        masks: 1 = inside, by name.
        tables: the summary, first on the page.
        verdict: better or worse, at the top; None where nothing is compared.
        day: when it was made; "" where a page must not depend on it.
        csv: all metrics as a table that can be saved; "" for none.
        outcome: where the charts of errors come from.
        facts: the provenance, name and text.
        tiles: places worth a look, windows of the grid; without any, the differences choose.
        warnings: why the surfaces should not be trusted.
        difference: what a surface minus the reference is: an error if the reference is true.
    """

    title: str
    lead: str
    grid: Grid | None = None
    surfaces: Mapping[str, Read] = field(default_factory=dict)
    reference: str | None = None
    images: Mapping[str, Read] = field(default_factory=dict)
    masks: Mapping[str, Read] = field(default_factory=dict)
    tables: Sequence[Table | ClassTable] = ()
    verdict: Verdict | None = None
    day: str = ""
    csv: str = ""
    outcome: EvaluationResult | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    tiles: Sequence[Window] = ()
    warnings: Sequence[str] = ()
    difference: Literal["error", "change"] = "error"


def reading(path: Path, method: Method, numbers: Numbers = "scaled") -> Read:
    """The pixels of a file, for `PageContent`; images and masks as they are stored."""

    def read(grid: Grid) -> Array:
        return read_resampled(path, grid, method, numbers)

    return read


def write_page(path: Path, content: PageContent) -> None:
    """Write a page that needs nothing beside it and is smaller than 15 MB.

    Raises:
        ResDepthError: if a raster cannot be read.
        ValueError: if the reference is no surface, or pixels are to be shown without surfaces or a grid.
    """
    _refuse_incomplete(content)
    frame = len(_rendered(content, Embedded([], {}, LIMITS_M[0])).encode())
    budget = PIXEL_SHARE * (LARGEST_BYTES - frame)
    html = _rendered(content, _embedded(content, budget))
    for _ in range(MOST_SHRINKS):
        size = len(html.encode())
        if size <= LARGEST_BYTES:
            break
        budget *= PIXEL_SHARE * max(LARGEST_BYTES - frame, 1) / (size - frame)
        html = _rendered(content, _embedded(content, budget))
    write_text(path, html)


def _refuse_incomplete(content: PageContent) -> None:
    if content.reference is not None and content.reference not in content.surfaces:
        raise ValueError(f"the reference {content.reference!r} is none of {list(content.surfaces)}")
    if bool(content.surfaces) != (content.grid is not None) or (_layers(content) and not content.surfaces):
        raise ValueError("a page shows surfaces on a grid, or neither surfaces nor images nor masks")


def _embedded(content: PageContent, budget: float) -> Embedded:
    """The pixels, in no more than so many bytes."""
    if content.grid is None:
        return Embedded([], {}, LIMITS_M[0])
    layers = _layers(content)
    sides = sides_within(budget, (content.grid.height, content.grid.width), layers, len(content.tiles))
    changes = content.difference == "change"
    return embed(content.grid, layers, _reference(content), content.tiles, sides, changes=changes)


def _reference(content: PageContent) -> int | None:
    return None if content.reference is None else list(content.surfaces).index(content.reference)


def _layers(content: PageContent) -> list[Layer]:
    return [
        *(Layer(name, "height", read) for name, read in content.surfaces.items()),
        *(Layer(name, "image", read) for name, read in content.images.items()),
        *(Layer(name, "mask", read) for name, read in content.masks.items()),
    ]


def _rendered(content: PageContent, embedded: Embedded) -> str:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "in_a_sentence": within_a_sentence, "text_columns": text_columns, "unbroken": unbroken,
    }  # fmt: skip
    return environment.from_string(_asset("page.html")).render(
        content=content,
        stated=[*([content.day] if content.day else []), *_place(content.grid)],
        csv=_data_url(content.csv) if content.csv else "",
        compared=[name for name in content.surfaces if content.reference not in {None, name}],
        views=embedded.views,
        blobs=embedded.blobs,
        limits=LIMITS_M,
        limit=embedded.limit_m,
        style=_asset("page.css"),
        script="\n".join(_asset(f"{name}.js") for name in SCRIPTS),
        plotly=_plotly() if content.surfaces or content.outcome else "",
        described=safe_json(_described(content, embedded)),
    )


@cache
def _plotly() -> str:
    import plotly.offline

    return deflated(plotly.offline.get_plotlyjs().encode())


def _described(content: PageContent, embedded: Embedded) -> dict[str, Any]:
    """What the scripts of the page know."""
    return {
        "layers": [{"name": layer.name, "kind": layer.kind} for layer in _layers(content)],
        "reference": _reference(content),
        "difference": content.difference,
        "height_step_m": HEIGHT_STEP_M,
        "views": embedded.views,
        "evaluated": None if content.outcome is None else chart_data(content.outcome),
    }


def chart_data(outcome: EvaluationResult) -> dict[str, Any]:
    """Metrics, intervals, histograms and curves by surface and class; without classes that have no errors."""
    names = {name: None for surface in outcome.surfaces.values() for name in surface.classes}
    filled = [
        name
        for name in names
        if any(name in of.classes and of.classes[name].statistics.count for of in outcome.surfaces.values())
    ]
    return {
        "figures": [
            {"key": key, "name": name, "title": f"{name}: {title}", "stated": stated}
            for key, name, title, stated in FIGURES
        ],
        "classes": [{"key": name, "title": outcome.titles.get(name, name)} for name in filled],
        "surfaces": [
            {
                "name": surface.name,
                "classes": {key: _class(surface.classes[key]) for key in filled if key in surface.classes},
            }
            for surface in outcome.surfaces.values()
        ],
    }


def _class(result: ClassResult) -> dict[str, Any]:
    histogram = result.histogram
    return {
        "count": result.statistics.count,
        "figures": {key: _rounded(getattr(result.statistics, key)) for key, *_ in FIGURES},
        "intervals": {
            key: [_rounded(end) for end in result.intervals[key]]
            for key, *_ in FIGURES
            if key in result.intervals
        },
        "edges": [_rounded(edge) for edge in histogram.edges_m],
        "counts": list(histogram.counts),
        "sizes": [_rounded(size) for size in histogram.sizes_m],
        "shares": [_rounded(share) for share in histogram.shares],
    }


def _rounded(value: float) -> float | None:
    """Six digits, which no chart shows; None for NaN, which JSON lacks."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def safe_json(value: Any) -> str:
    """JSON that can stand within a script element: no text in it can end the element or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def within_a_sentence(name: str) -> str:
    """A usual name as it stands in the middle of a sentence; names of people's own stay as they are."""
    return name[0].lower() + name[1:] if re.match(r"(Reference|Initial|Refined)\b", name) else name


def unbroken(text: str) -> str:
    """The same, with numbers that keep their units beside them, and minus signs that keep their numbers."""
    beside = re.sub(r"(?<=\d) (?=(?:%|m|cm|px|x)\b|%)", "\u00a0", text)
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", re.sub(r"(?<= x) (?=\d)", "\u00a0", beside))


def text_columns(rows: Sequence[Sequence[str]]) -> set[int]:
    """Which columns of a table hold text, not metrics."""
    return {
        column for row in rows[1:] for column, cell in enumerate(row) if not re.match(r"[-+±]?\d|--|$", cell)
    }


def today() -> str:
    """The day, as pages state it; SOURCE_DATE_EPOCH has another, where files are to be made alike again."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now().astimezone()
    return now.date().isoformat()


def _place(grid: Grid | None) -> list[str]:
    """Where a page is, and how fine: CRS, pixel size, area."""
    if grid is None:
        return []
    area = grid.pixel_area_m2 * grid.height * grid.width / M2_PER_KM2
    return [
        grid.crs_name or "no CRS",
        f"pixels of {grid.sides_m} m",
        f"{grid.height} x {grid.width} px, {area:.3g} km²",
    ]


def _data_url(text: str) -> str:
    return f"data:text/csv;charset=utf-8;base64,{b64encode(text.encode()).decode()}"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(ASSETS, name).read_text(encoding="utf-8")


LEAD = (
    "Errors are heights minus the reference DSM. Look first at the table, then drag the divider to see what "
    "the heights look like, then at where the errors are."
)

SHOWN_IMAGES = 2
BLOCK_PX = 4096
WARNING = "RESDEPTH_WARNING"
# In the order of the table: what there is, then what there is not.
KINDS = (Provenance.REFINED, Provenance.FILLED, Provenance.WITHOUT_IMAGE, Provenance.VOID)

# Twice as fine as what pages and figures show, so that a copy's own pixels are not seen.
COPY_PX = 2800
THREADS = 2


def evaluation_content(
    case: Case,
    outcome: EvaluationResult,
    *,
    title: str,
    reference: Path,
    masks: Mapping[str, Path],
    images: Mapping[str, Path] | None = None,
) -> PageContent:
    """Tables, charts, the surfaces and the reference DSM, masks and images.

    Args:
        case: what was evaluated.
        outcome: what was found.
        title: of the page.
        reference: its file.
        masks: their files by name, rasters or vectors.
        images: ortho-images by name.
    """
    grid = case.reference.grid.crop(bounding(case.regions))
    surfaces: dict[str, Read] = {
        one.name: one.band.on for one in case.surfaces if isinstance(one.band, OnGrid)
    }
    surfaces[REFERENCE] = _evaluated_reference(case, reference, masks)
    return PageContent(
        title=title,
        lead=LEAD,
        grid=grid,
        surfaces=surfaces,
        reference=REFERENCE,
        images={name: OnGrid([path], grid, is_image=True).on for name, path in (images or {}).items()},
        masks={name: mask_reader(path, grid) for name, path in masks.items() if name != "ground_truth"},
        tables=tables_of(outcome),
        verdict=verdict_of(outcome),
        day=today(),
        csv=csv_text(outcome),
        outcome=outcome,
        facts=stated_facts(outcome),
    )


def mask_reader(path: Path, grid: Grid) -> Read:
    """A mask from a raster or vector file, on any grid of the CRS."""
    if is_vector(path):
        return lambda there: open_vector_mask(path, there, may_be_empty=True).read(there.whole)
    return OnGrid([path], grid, is_mask=True).on


def _evaluated_reference(case: Case, reference: Path, masks: Mapping[str, Path]) -> Read:
    """The reference DSM where it counts, on any grid."""
    heights = OnGrid([reference], case.reference.grid)
    counting = [masks["ground_truth"]] if "ground_truth" in masks else []
    if case.inside is not None and case.inside_path is not None:
        counting.append(case.inside_path)
    readers = [mask_reader(path, case.reference.grid) for path in counting]

    def read(there: Grid) -> Array:
        values = heights.on(there)
        for inside in readers:
            values = np.where(inside(there) == 1, values, np.float32(np.nan))
        return values

    return read


def refined_content(initial: Path, refined: Path, provenance: Path, images: Sequence[Path]) -> PageContent:
    """Before and after, what changed, what the network saw, and where the heights come from.

    Raises:
        ResDepthError: if a raster cannot be read.
    """
    counts = _counts(provenance)
    pixels = max(sum(counts.values()), 1)
    rows = [["Heights", "pixels", "share"]]
    rows += [
        [PROVENANCE_TITLES[kind], f"{counts[kind]:,}", f"{100 * counts[kind] / pixels:.2f} %"]
        for kind in KINDS
        if counts[kind]
    ]
    tags = read_tags(refined)
    moved = Moved.from_tags(tags)
    shares = [[name, f"{share:.2f} %"] for name, share in moved.shares.items()] if moved else []
    return PageContent(
        title=f"Refined: {initial.name}",
        lead="Before and after refinement, and what has changed. Without a reference DSM nobody can say "
        "what is better: look at the edges of roofs, and at the ground between them.",
        grid=read_header(refined).grid,
        surfaces={"Initial DSM": reading(initial, "average"), "Refined DSM": reading(refined, "average")},
        reference="Initial DSM",
        images={
            f"Ortho-image {path.name}": reading(path, "average", "stored") for path in images[:SHOWN_IMAGES]
        },
        tables=[
            Table("Where heights come from", rows),
            Table("How far they are moved", [["Moved by more than", "share"], *shares]),
        ],
        verdict=Verdict("Refined DSM", "unrated", in_words(moved)) if moved else None,
        day=today(),
        warnings=[text for name, text in sorted(tags.items()) if name.startswith(WARNING)],
        facts=_refined_facts(initial, refined, tags),
        difference="change",
    )


def _refined_facts(initial: Path, refined: Path, tags: Mapping[str, str]) -> dict[str, str]:
    """How the refined DSM was made, as its tags state it."""
    stated = {
        "Initial DSM": str(initial),
        "Refined DSM": str(refined),
        "Images": tags.get("RESDEPTH_IMAGES", ""),
        "Model": f"{tags.get('RESDEPTH_MODEL')} (SHA-256 {tags.get('RESDEPTH_MODEL_SHA256', '')[:16]}...)",
        "Where no image shows anything": tags.get("RESDEPTH_MODEL_WITHOUT_IMAGES", ""),
        "Mode": f"{tags.get('RESDEPTH_MODE')}, {tags.get('RESDEPTH_PRECISION')}",
        "Fused": tags.get("RESDEPTH_FUSED", ""),
        "Job": tags.get("RESDEPTH_JOB", ""),
        "Software": tags.get("TIFFTAG_SOFTWARE", ""),
    }
    return {name: value for name, value in stated.items() if value}


def _counts(provenance: Path) -> dict[Provenance, int]:
    """How many pixels there are of each kind."""
    band = FileBand(provenance, "stored")
    found = np.zeros(len(Provenance), dtype=np.int64)
    for window in blocks(band.grid.whole, BLOCK_PX):
        codes = np.nan_to_num(band.read(window)).astype(np.uint8)
        found += np.bincount(codes.ravel(), minlength=len(Provenance))
    return {kind: int(found[kind]) for kind in Provenance}


@dataclass(frozen=True)
class _Look:
    """A raster, and its coarse copy.

    Attributes:
        read: its pixels on any grid.
        copy: the file of the copy.
        grid: of the copy.
        method: how the copy becomes coarser.
    """

    read: Read
    copy: Path
    grid: Grid
    method: Method

    def prepare(self) -> None:
        """Make the copy."""
        with new_geotiff(self.copy, self.grid, compression="zstd") as written:
            written.write(0, self.read(self.grid))

    def on(self, grid: Grid) -> Array:
        """The pixels on a grid: from the copy if it is fine enough."""
        if grid.gsd < 2 * self.grid.gsd:
            return self.read(grid)
        return read_resampled(self.copy, grid, self.method)


@contextmanager
def quick_looks(content: PageContent) -> Iterator[PageContent]:
    """The same content, whose overviews are read quickly while this lasts."""
    whole = content.grid
    if whole is None or max(whole.height, whole.width) <= 2 * COPY_PX:
        yield content
        return
    grid = whole.flat.coarser(COPY_PX)  # copies are in metres
    with temporary_folder(Path(gettempdir()), "looks") as folder:
        looks: list[_Look] = []

        def quick(reads: Mapping[str, Read], method: Method) -> dict[str, Read]:
            found: dict[str, Read] = {}
            for name, read in reads.items():
                look = _Look(read, folder / f"{len(looks)}.tif", grid, method)
                looks.append(look)
                found[name] = look.on
            return found

        quickened = replace(
            content,
            surfaces=quick(content.surfaces, "average"),
            images=quick(content.images, "average"),
            masks=quick(content.masks, "nearest"),
        )
        for _ in in_order((partial(_Look.prepare, look) for look in looks), THREADS):
            pass
        yield quickened
