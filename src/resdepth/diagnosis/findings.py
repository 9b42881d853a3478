"""What was found wrong with rasters: values, their small pictures, as text, JSON and a page."""

import shlex
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from math import isfinite
from pathlib import Path
from textwrap import fill
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from resdepth import report
from resdepth.errors import Problem
from resdepth.geo.grid import Sides
from resdepth.geo.raster import Array
from resdepth.geo.windows import Window
from resdepth.report.pictures import error_colours, grey, hillshade, png
from resdepth.runtime.atomic import write_text

Severity = Literal["fault", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The worst first. Faults ruin the result or stop the work; warnings make it worse; notes are to be known."""

TITLES: Mapping[str, str] = {
    "configuration": "Configuration",
    "pipeline": "Stereo pipeline",
    "raster": "Raster",
    "degrees": "Degrees instead of metres",
    "reference_system": "Another reference system",
    "no_overlap": "No overlap",
    "half_pixel_grid": "Half a pixel between grids",
    "grid": "Another grid",
    "size": "Small area",
    "pixel_size": "Pixel size",
    "relief": "Relief",
    "voids": "Voids",
    "undeclared_voids": "Undeclared voids",
    "implausible_heights": "Implausible heights",
    "units": "Units of heights",
    "no_reference_system": "No reference system",
    "no_common_heights": "No common heights",
    "unlike_surfaces": "Surfaces unlike each other",
    "same_surface": "One surface twice",
    "vertical_datum": "Vertical datum",
    "vertical_offset": "Vertical offset",
    "shift": "Horizontal shift",
    "half_pixel_shift": "Half a pixel",
    "tilt": "Tilt",
    "changes": "Changes",
    "dates": "Dates",
    "empty_image": "Image shows nothing",
    "part_of_area": "Image of a part of the area",
    "flat_image": "Flat image",
    "noise_image": "Noise instead of an image",
    "saturated_image": "Saturated image",
    "black_image": "Undeclared voids of an image",
    "few_grey_levels": "Few grey levels",
    "grey_values": "Grey values",
    "duplicated_image": "The same image twice",
    "surface_as_image": "A surface among the images",
    "images_do_not_match": "Images do not match",
    "image_shift": "Images beside each other",
    "image_beside_surface": "Image beside the surface",
    "raw_elsewhere": "Raw image of another place",
    "raw_image": "Raw image",
}
"""All kinds of findings, by the names that stay the same for programs, and what people read."""

LINE = 100


@dataclass(frozen=True)
class Finding:
    """One thing that will hurt, or is to be known.

    Attributes:
        kind: one of `TITLES`.
        severity: how bad it is.
        about: the rasters, by name.
        text: what it is, with its figures, in a sentence or two.
        remedy: what to do, in words.
        command: what mends it, as typed; "" if no command does.
        figures: numbers by name; the unit ends the name: "east_m".
        picture: a PNG file; empty without one.
        caption: what the picture shows.
    """

    kind: str
    severity: Severity
    about: str
    text: str
    remedy: str = ""
    command: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    picture: bytes = field(default=b"", repr=False)
    caption: str = ""

    def __post_init__(self) -> None:
        assert self.kind in TITLES, self.kind

    @property
    def title(self) -> str:
        """What people read."""
        return TITLES[self.kind]

    @property
    def stated(self) -> str:
        """What it is and what to do, in one line, for those who only warn."""
        return f"{self.text} {self.remedy} (resdepth doctor says more)"

    def as_json(self) -> dict[str, Any]:
        """Everything but the picture, for a JSON file; null for figures that are not known."""
        figures = {name: value if isfinite(value) else None for name, value in self.figures.items()}
        return {
            "kind": self.kind, "severity": self.severity, "about": self.about, "text": self.text,
            "remedy": self.remedy, "command": self.command, "figures": figures,
        }  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """What a look at one or several data sets gave.

    Attributes:
        subject: what was looked at, as it was named.
        findings: the worst first.
        looked_at: what was compared, in words.
        left_out: what could not be compared, and why.
    """

    subject: str
    findings: tuple[Finding, ...] = ()
    looked_at: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding; None without any."""
        return self.findings[0].severity if self.findings else None

    @property
    def summary(self) -> str:
        """How many findings of each severity there are, in words."""
        counts = {name: sum(one.severity == name for one in self.findings) for name in SEVERITIES}
        stated = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count]
        return ", ".join(stated) or "nothing found that will hurt"

    def of(self, kind: str) -> tuple[Finding, ...]:
        """The findings of a kind."""
        return tuple(one for one in self.findings if one.kind == kind)

    def as_json(self) -> dict[str, Any]:
        """Everything but the pictures, for a JSON file."""
        return {
            "subject": self.subject,
            "worst": self.worst,
            "findings": [one.as_json() for one in self.findings],
            "looked_at": list(self.looked_at),
            "left_out": list(self.left_out),
        }

    def as_text(self) -> str:
        """For a terminal."""
        parts = [f"{self.subject}: {self.summary}"]
        parts += [_described(one) for one in self.findings]
        if self.looked_at:
            parts.append("looked at\n" + "\n".join(_indented(text) for text in self.looked_at))
        if self.left_out:
            parts.append("not looked at\n" + "\n".join(_indented(text) for text in self.left_out))
        return "\n\n".join(parts)


def _described(finding: Finding) -> str:
    lines = [f"{finding.severity}: {finding.title} - {finding.about}", _indented(finding.text)]
    if finding.remedy:
        lines.append(_indented(finding.remedy))
    if finding.command:
        lines.append(f"    $ {finding.command}")
    return "\n".join(lines)


def _indented(text: str) -> str:
    return fill(text, LINE, initial_indent="  ", subsequent_indent="  ", break_long_words=False,
                break_on_hyphens=False)  # fmt: skip


def percent(share: float) -> str:
    """A share as people write it: "0.02 %", "12 %"."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def typed(*words: object) -> str:
    """A command as it is typed: names with blanks in quotes."""
    return shlex.join(map(str, words))


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, else as they came; what was found twice stands once."""
    unique = {(one.kind, one.about, one.text): one for one in findings}
    return tuple(sorted(unique.values(), key=lambda one: SEVERITIES.index(one.severity)))


def of_problems(problems: Iterable[Problem], kind: str, about: str = "") -> list[Finding]:
    """Problems that other checks have found, as findings; `about` is where they are, unless it is given."""
    return [
        Finding(
            kind, "fault" if one.severity == "error" else "warning", about or one.where, _ended(one.message)
        )
        for one in problems
    ]


def _ended(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


ASSETS = "assets"


def write_findings_page(path: Path, diagnosis: Diagnosis) -> None:
    """Write a page that needs nothing beside it."""
    import jinja2  # of an extra

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["base64"] = lambda picture: b64encode(picture).decode("ascii")
    html = environment.from_string(_asset("findings.html")).render(
        diagnosis=diagnosis,
        severities=SEVERITIES,
        style=_asset("page.css"),
        more_style=_asset("findings.css"),
    )
    write_text(path, html)


def _asset(name: str) -> str:
    return resources.files(report).joinpath(ASSETS, name).read_text(encoding="utf-8")


SIDE_PX, GAP_PX, MOST_PERCENT = 240, 4, 90
VOID_COLOUR = (214, 39, 40)


def error_picture(differences: Array, limit_m: float) -> bytes:
    """Differences of heights, (H, W) float32, metres: a PNG, blue below, red above, grey void."""
    return png(_sized(error_colours(differences, limit_m)))


def medians_picture(medians: NDArray[np.float64]) -> bytes:
    """A few differences all over an area, (R, C), metres: a PNG."""
    known = np.abs(medians[np.isfinite(medians)])
    limit = float(np.percentile(known, MOST_PERCENT)) if known.size else 0.0
    return error_picture(medians.astype(np.float32), max(limit, 0.1))


def shown_around(window: Window, whole: Window) -> Window:
    """A window that is large enough for a picture."""
    return window.grown(max(0, -(-(SIDE_PX - min(window.shape)) // 2)), within=whole)


def relief_picture(heights: Array, sides: Sides) -> bytes:
    """Heights in relief, their voids in red; a PNG."""
    colours = np.repeat(hillshade(heights, sides)[..., None], 3, axis=2)
    colours[np.isnan(heights)] = VOID_COLOUR
    return png(_sized(colours))


def image_picture(*images: Array) -> bytes:
    """Windows of images side by side, each (H, W) grey values; a PNG."""
    parts = [_sized(grey(image), SIDE_PX // len(images) if len(images) > 2 else SIDE_PX) for image in images]
    gap = np.full((parts[0].shape[0], GAP_PX), 255, np.uint8)
    joined = [part for image in parts for part in (image, gap)][:-1]
    return png(np.concatenate(joined, axis=1))


def _sized(colours: NDArray[np.uint8], side: int = SIDE_PX) -> NDArray[np.uint8]:
    """About as large as asked for: pixels repeated, or every so many left out."""
    factor = side / max(colours.shape[:2])
    rows, cols = (np.minimum((np.arange(max(1, round(length * factor))) / factor).astype(int), length - 1)
                  for length in colours.shape[:2])  # fmt: skip
    return np.asarray(colours[rows][:, cols])
