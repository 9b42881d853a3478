"""One page that shows a scene: its surfaces, their errors, its images."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from resdepth.atomic import write_text
from resdepth.grid import Grid
from resdepth.raster import read_header, read_resampled
from resdepth.report.pictures import black_where, error_colours, grey, hillshade, png
from resdepth.windows import Window

Array = NDArray[np.float32]

# Overviews have at most so many pixels on a side; details show as many pixels as they are.
OVERVIEW_PX, DETAIL_PX = 640, 420
ERROR_LIMIT_M = 4.0


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        title: of the page.
        lead: a sentence or two below it.
        surfaces: rasters of heights by name: "Truth", "Initial DSM", "Refined DSM".
        images: grey rasters by name.
        masks: rasters of 1 and 0 by name.
        table: rows of text, the first being the head.
        facts: name and value of what else is to be said.
    """

    title: str
    lead: str
    surfaces: Mapping[str, Path]
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    table: Sequence[Sequence[str]]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class _Figure:
    caption: str
    source: str


def write_scene_page(path: Path, content: PageContent) -> None:
    """Write a page that needs nothing beside it: pictures are inside.

    The other surfaces are compared with "Truth", or if there is none, with the first. All rasters lie on the
    grid of that one, or cover a part of it.

    Raises:
        ResDepthError: if a raster cannot be read.
    """
    base = "Truth" if "Truth" in content.surfaces else next(iter(content.surfaces))
    grid = read_header(content.surfaces[base]).grid
    whole, detail = _overview(grid), _detail(grid)
    sections = [("Overview", _figures(content, base, whole))]
    if max(grid.height, grid.width) > 1.5 * DETAIL_PX:
        sections.append(
            (f"Detail: {detail.width * grid.gsd:.0f} m wide, every pixel", _figures(content, base, detail))
        )
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(_TEMPLATE).render(
        content=content,
        sections=sections,
        limit=f"{ERROR_LIMIT_M:.0f}",
        base=_within_a_sentence(base) if len(content.surfaces) > 1 else "",
    )
    write_text(path, html)


def _overview(grid: Grid) -> Grid:
    """The whole scene, in no more pixels than a page can show."""
    factor = max(1.0, max(grid.height, grid.width) / OVERVIEW_PX)
    height, width = max(1, round(grid.height / factor)), max(1, round(grid.width / factor))
    a, b, c, d, e, f = grid.transform
    along, down = grid.width / width, grid.height / height
    return Grid(height, width, (a * along, b, c, d, e * down, f), grid.crs, grid.crs_name)


def _detail(grid: Grid) -> Grid:
    """The middle of the scene."""
    height, width = min(grid.height, DETAIL_PX), min(grid.width, DETAIL_PX)
    return grid.crop(Window((grid.height - height) // 2, (grid.width - width) // 2, height, width))


def _within_a_sentence(name: str) -> str:
    return name[0].lower() + name[1:]


def _figures(content: PageContent, base: str, grid: Grid) -> list[_Figure]:
    heights = {name: read_resampled(path, grid, "average") for name, path in content.surfaces.items()}
    figures = [_Figure(name, _embedded(png(hillshade(z, grid.gsd)))) for name, z in heights.items()]
    for name, height in heights.items():
        if name != base:
            colours = error_colours(height - heights[base], ERROR_LIMIT_M)
            caption = f"{name} minus {_within_a_sentence(base)}"
            figures.append(_Figure(caption, _embedded(png(colours))))
    for name, path in content.images.items():
        figures.append(_Figure(name, _embedded(png(grey(read_resampled(path, grid, "average"))))))
    for name, path in content.masks.items():
        figures.append(_Figure(name, _embedded(png(black_where(read_resampled(path, grid, "nearest"))))))
    return figures


def _embedded(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ content.title }}</title>
<style>
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #5d6670; --line: #d9dee3; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e6e9ec; --soft: #a0a8b0; --line: #343a40; }
}
body { margin: 0 auto; max-width: 1320px; padding: 1.5rem 1rem 3rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
p { margin: 0 0 1rem; max-width: 75ch; color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.figures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
figure { margin: 0; } img { width: 100%; height: auto; display: block; border-radius: 3px; }
figcaption { font-size: .9rem; color: var(--soft); padding-top: .25rem; }
.legend { display: flex; gap: .6rem; align-items: center; font-size: .9rem; color: var(--soft);
  margin-top: 1rem; }
.legend i { width: 12rem; height: .8rem; border-radius: 3px;
  background: linear-gradient(90deg, #053061, #4393c3, #f7f7f7, #d6604d, #67001f); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 500px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
</style>
</head>
<body>
<h1>{{ content.title }}</h1>
<p>{{ content.lead }}</p>
{% if content.table %}
<div class="scroll"><table>
<thead><tr>{% for cell in content.table[0] %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in content.table[1:] %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% for heading, figures in sections %}
<h2>{{ heading }}</h2>
<div class="figures">
{% for figure in figures %}
<figure><img src="{{ figure.source }}" alt="{{ figure.caption }}">
<figcaption>{{ figure.caption }}</figcaption></figure>
{% endfor %}
</div>
{% endfor %}
{% if base %}
<div class="legend"><span>&minus;{{ limit }} m, below the {{ base }}</span><i></i>
<span>+{{ limit }} m, above</span></div>
{% endif %}
<h2>How it was made</h2>
<dl>
{% for name, value in content.facts.items() %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
</body>
</html>
"""
