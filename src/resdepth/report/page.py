"""One page about surfaces that people look at: self-contained, from a file, offline."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jinja2

from resdepth.evaluation.inputs import Read
from resdepth.evaluation.result import ClassResult, EvaluationResult
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Method, Numbers, read_resampled
from resdepth.geo.windows import Window
from resdepth.report.page_pixels import (
    HEIGHT_STEP_M,
    LIMITS_M,
    Array,
    Embedded,
    Layer,
    deflated,
    embed,
    sides_within,
)
from resdepth.runtime.atomic import write_text

LARGEST_BYTES = 15_000_000
# Real surfaces need less than is reckoned with. Where noise needs more, pictures become smaller.
PIXEL_SHARE, MOST_SHRINKS = 0.96, 8
ASSETS = "assets"
SCRIPTS = ("pixels", "maps", "charts", "profile", "relief", "start")
# The figures to choose from: the field of Statistics, its name, what it stands for, what it shows.
FIGURES = (
    ("mae", "MAE", "mean absolute error", "how far heights are off on average"),
    ("rmse", "RMSE", "root mean square error", "as the MAE, but large errors count more"),
    ("absolute_median", "MedAE", "median absolute error", "half of the pixels are better, half are worse"),
    ("nmad", "NMAD", "normalised median absolute deviation", "how far errors scatter, outliers aside"),
    ("le90", "LE90", "linear error 90 %", "90 % of the pixels are better"),
    ("bias", "bias", "mean error", "above zero the surface is too high, below zero too low"),
)


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: what it shows.
        rows: the first is the head; the first column names the row.
        note: a sentence below it.
    """

    caption: str
    rows: Sequence[Sequence[str]]
    note: str = ""


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
    tables: Sequence[Table] = ()
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
    environment.filters |= {"in_a_sentence": within_a_sentence, "text_columns": text_columns}
    return environment.from_string(_asset("page.html")).render(
        content=content,
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
    """Figures, intervals, histograms and curves by surface and class; without classes that have no errors."""
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


def text_columns(rows: Sequence[Sequence[str]]) -> set[int]:
    """Which columns of a table hold text, not figures."""
    return {
        column for row in rows[1:] for column, cell in enumerate(row) if not re.match(r"[-+±]?\d|--|$", cell)
    }


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(ASSETS, name).read_text(encoding="utf-8")
