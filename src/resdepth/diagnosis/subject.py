"""What is looked at: the rasters of a data set on the grid of its initial DSM, whatever grids they are on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from resdepth.data.scene import Scene, SceneFiles, open_scene
from resdepth.diagnosis.findings import Finding, of_problems, typed
from resdepth.errors import ResDepthError
from resdepth.geo.grid import Bounds, Grid
from resdepth.geo.raster import Array, Band, FileBand, read_resampled
from resdepth.geo.windows import Window
from resdepth.models.model import Model
from resdepth.stereo.ortho import to_geographic

INITIAL, REFERENCE, IMAGE = "initial DSM", "reference DSM", "image"
RAW = ("RAW_IMAGE_1", "RAW_IMAGE_2")
"""Stands for names that are not known."""
HALF_PX_TOLERANCE = 0.05
SAME_NUMBER = 1e-6


@dataclass(frozen=True)
class Subject:
    """The files of a data set.

    Attributes:
        name: of the data set.
        dsm: the initial DSM.
        reference: the reference DSM.
        images: ortho-images.
        raw: raw images with RPCs.
        masks: by name.
        model: what the data are for, if that is known.
        tile: the side of the tiles that a configuration asks for, pixels.
        stripes: how a configuration cuts the area, "vertical" or "horizontal"; "" if it does not.
        is_trained_on: whether training or testing takes it as it is, so that no void may be left.
    """

    name: str
    dsm: Path
    reference: Path | None = None
    images: tuple[Path, ...] = ()
    raw: tuple[Path, ...] = ()
    masks: Mapping[str, Path] = field(default_factory=dict)
    model: Model | None = None
    tile: int | None = None
    stripes: str = ""
    is_trained_on: bool = False

    def prepared(self, *options: str) -> str:
        """The command that makes a data set of these files in which most of what is found is mended."""
        images = [word for image in self.raw or self.images for word in ("--image", image)]
        reference = ["--reference", self.reference] if self.reference else []
        return typed(
            "resdepth", "prepare", "--dsm", self.dsm, *images, *reference, *options, "-o", "prepared"
        )

    @property
    def rectified(self) -> str:
        """The command that makes ortho-images of the raw ones with the initial DSM."""
        images = [word for image in self.raw or RAW for word in ("--image", image)]
        return typed("resdepth", "prepare", "--dsm", self.dsm, *images, "-o", "prepared")


@dataclass(frozen=True)
class Opened:
    """A data set that is open.

    Attributes:
        subject: its files.
        scene: their bands, all on the grid of the initial DSM; without those that cannot be put there.
    """

    subject: Subject
    scene: Scene

    def image_name(self, view: int) -> str:
        """How a view is called."""
        return self.subject.images[view].name


class OnGrid:
    """A band of a file on another grid of the same CRS."""

    def __init__(self, band: FileBand, grid: Grid) -> None:
        self.header, self.grid, self._numbers = band.header, grid, band.numbers

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void, or outside of the file."""
        return read_resampled(self.header.path, self.grid.crop(window), "bilinear", self._numbers)


class Declared:
    """A band in which some numbers stand for voids that its file does not declare."""

    def __init__(self, band: Band, numbers: tuple[float, ...]) -> None:
        self.grid, self._band, self._numbers = band.grid, band, np.array(numbers, np.float32)

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void."""
        values = self._band.read(window)
        for number in self._numbers:
            values[np.abs(values - number) <= SAME_NUMBER * np.abs(number)] = np.nan
        return values


def open_subject(subject: Subject) -> tuple[Opened | None, list[Finding]]:
    """Open the files of a data set, and say what is wrong with their headers and grids.

    Returns:
        None if the initial DSM is unusable.
    """
    files = SceneFiles(
        name=subject.name,
        dsm=(INITIAL, subject.dsm),
        reference=(REFERENCE, subject.reference) if subject.reference else None,
        images=subject.images,
        image_list_key=IMAGE,
        used_views=tuple(range(len(subject.images))),
        masks={name: (f"mask {name}", path) for name, path in subject.masks.items()},
    )
    scene, problems = open_scene(files, any_grid=True)
    findings = of_problems(problems, "raster")
    if scene is None:
        return None, findings
    on_grid: dict[str, Band | None] = {}
    for name, band in _others(scene):
        on_grid[name], found = _put_on(scene, band)
        findings += found
    usable = {name: band for name, band in on_grid.items() if band is not None}
    scene = replace(
        scene,
        reference=usable.get(REFERENCE),
        views={view: usable[f"{IMAGE} {view}"] for view in scene.views if f"{IMAGE} {view}" in usable},
        masks={name: usable[f"mask {name}"] for name in scene.masks if f"mask {name}" in usable},
    )
    return Opened(subject, scene), findings


def _others(scene: Scene) -> Iterator[tuple[str, FileBand]]:
    """All bands but the initial DSM's, with their names in the data set."""
    named: dict[str, Band | None] = {REFERENCE: scene.reference}
    named |= {f"{IMAGE} {view}": band for view, band in scene.views.items()}
    named |= {f"mask {name}": band for name, band in scene.masks.items()}
    for name, band in named.items():
        if isinstance(band, FileBand):
            yield name, band


def _put_on(scene: Scene, band: FileBand) -> tuple[Band | None, list[Finding]]:
    """A band on the grid of the initial DSM, None if it cannot be; and what is wrong with its own grid."""
    grid, other = scene.grid, band.grid
    differences = grid.differences(other)
    if not differences:
        return band, []
    dsm, path = scene.dsm_path, band.header.path
    assert dsm is not None, "all are files"
    stated = f"{path.name} differs from {dsm.name}: {'; '.join(differences)}."
    method = "nearest" if band.numbers == "mask" else "bilinear"
    on_grid = f"{path.stem}_on_grid.tif"
    command = typed("rio", "warp", path, on_grid, "--like", dsm, "--resampling", method)
    overlap = _overlap(grid, other)
    if not overlap:
        text = f"{path.name} and {dsm.name} do not overlap: {'; '.join(differences)}."
        remedy = "Is it of another place, or is the CRS or the georeference of one of them wrong?"
        figures = {"overlap_percent": 0.0}
        return None, [
            Finding("no_overlap", "fault", path.name, text, remedy, typed("rio", "info", path), figures)
        ]
    if not grid.may_share_crs(other) or bool(grid.crs) != bool(other.crs):
        remedy = "Bring it onto the grid of the DSM." if other.crs else "State the CRS (gdal_edit.py -a_srs)."
        return None, [Finding("reference_system", "fault", path.name, stated, remedy, command)]
    moved = OnGrid(band, grid)
    if half := _half_pixels(grid, other):
        text = (
            f"{path.name} lies {half[0]:+.1f} pixels down and {half[1]:+.1f} to the right of {dsm.name}, "
            "which is what comes of a mix-up of pixel centres and corners in one of the headers."
        )
        remedy = (
            "Find out which header is right. If both are, resample; else correct the origin of the other."
        )
        figures = {"down_px": half[0], "right_px": half[1]}
        return moved, [Finding("half_pixel_grid", "fault", path.name, text, remedy, command, figures)]
    figures = {"overlap_percent": 100 * overlap}
    covers = f" It covers {100 * overlap:.0f} % of the DSM." if overlap < 0.995 else ""
    return moved, [
        Finding(
            "grid",
            "fault",
            path.name,
            stated + covers,
            "Bring it onto the grid of the DSM.",
            command,
            figures,
        )
    ]


def _overlap(grid: Grid, other: Grid) -> float:
    """The share of a grid that another one covers, by their rectangles; 1 where nobody knows."""
    first, second = grid.bounds, other.bounds
    if not grid.may_share_crs(other):
        try:
            first, second = _on_earth(grid), _on_earth(other)
        except ResDepthError:
            return 1.0
    elif bool(grid.crs) != bool(other.crs):
        return 1.0
    (west, south, east, north), (left, low, right, high) = first, second
    width, height = min(east, right) - max(west, left), min(north, high) - max(south, low)
    return max(width, 0.0) * max(height, 0.0) / ((east - west) * (north - south))


def _on_earth(grid: Grid) -> Bounds:
    """The rectangle of longitudes and latitudes about the corners of a grid."""
    west, south, east, north = grid.bounds
    lon, lat = to_geographic(grid.crs, np.array([west, west, east, east]), np.array([south, north] * 2))
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())


def _half_pixels(grid: Grid, other: Grid) -> tuple[float, float] | None:
    """How far the other grid lies down and to the right, in pixels, if it is half a pixel both ways."""
    a, b, c, d, e, f = grid.transform
    if not np.allclose((a, b, d, e), np.take(other.transform, (0, 1, 3, 4)), rtol=1e-6):
        return None
    x, y = other.transform[2] - c, other.transform[5] - f
    determinant = a * e - b * d
    right, down = (e * x - b * y) / determinant, (a * y - d * x) / determinant
    is_half = all(abs(abs(one) - 0.5) < HALF_PX_TOLERANCE for one in (down, right))
    return (down, right) if is_half else None
