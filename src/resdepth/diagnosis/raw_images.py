"""What is wrong with raw images: where they look by their RPCs, one image twice; and grey values of any."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resdepth.data.scene import Scene
from resdepth.diagnosis.findings import Finding, Severity, image_picture, percent, shown_around
from resdepth.diagnosis.subject import Opened
from resdepth.errors import ResDepthError
from resdepth.evaluation.coregistration import sample_windows
from resdepth.geo.raster import Band, FileBand
from resdepth.geo.rpc import Rpc
from resdepth.geo.windows import Window
from resdepth.stereo.ortho import read_rpc, to_geographic

SATURATED, MANY = 0.01, 5.0
"""Share of pixels of the highest value; and how many times as many as have the next value."""
MOST_SEEN, NEARLY_ALL_SEEN = 0.5, 0.99
LATTICE = np.linspace(0, 1, 9)


@dataclass(frozen=True)
class GreyLevels:
    """The grey values of a sample: of how many pixels, how many are known, which occur, how often.

    Attributes:
        pixels, known: of the sample.
        values: (N,) that occur, rising.
        counts: (N,) of each.
        brightest: the window with most of the highest value.
    """

    pixels: int
    known: int
    values: NDArray[np.float32]
    counts: NDArray[np.int64]
    brightest: Window

    def share(self, place: int) -> float:
        """How many pixels have the value at a place of the order."""
        return float(self.counts[place] / self.known)

    def percentile(self, percentage: float) -> float:
        """The value below which so many pixels are."""
        reached = np.searchsorted(np.cumsum(self.counts), percentage / 100 * self.known)
        return float(self.values[min(int(reached), len(self.values) - 1)])


def grey_levels(band: Band) -> GreyLevels:
    """The grey values of a sample of an image.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    windows = {window: band.read(window) for window in sample_windows(band.grid)}
    values = np.concatenate([one[np.isfinite(one)] for one in windows.values()])
    levels, counts = np.unique(values, return_counts=True)
    top = levels[-1] if levels.size else np.nan
    brightest = max(windows, key=lambda window: int((windows[window] == top).sum()))
    pixels = sum(one.size for one in windows.values())
    return GreyLevels(pixels, values.size, levels, counts, brightest)


def saturation(name: str, levels: GreyLevels, band: Band) -> list[Finding]:
    """Whether many pixels of an image have its highest value."""
    if len(levels.values) <= 2 or levels.share(-1) <= max(SATURATED, MANY * levels.share(-2)):
        return []
    top, share = float(levels.values[-1]), 100 * levels.share(-1)
    text = f"{share:.1f} % of the pixels of {name} have its highest value, {top:g}: they are saturated."
    remedy = "Write it again without cutting bright values off: 16 bits, or a range that holds them."
    picture = image_picture(band.read(shown_around(levels.brightest, band.grid.whole)))
    figures = {"share_percent": share, "value": top}
    return [Finding("saturated_image", "warning", name, text, remedy, "", figures, picture,
                    "where most is saturated")]  # fmt: skip


def raw_findings(opened: Opened) -> list[Finding]:
    """What is wrong with the raw images of a data set, each by itself and two beside each other.

    Samples are read, so neither time nor memory grow with the images.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    found: list[Finding] = []
    usable: dict[Path, tuple[FileBand, Rpc]] = {}
    for path in opened.subject.raw:
        try:
            usable[path] = FileBand(path, "stored"), read_rpc(path)
            found += _placed(opened, path, *usable[path])
        except ResDepthError as error:
            found.append(Finding("raw_image", "fault", path.name, f"{error}."))
            usable.pop(path, None)
    for path, (band, _) in usable.items():
        levels = grey_levels(band)
        if levels.known:
            found += saturation(path.name, levels, band)
    for first, second in combinations(usable, 2):
        found += _twice((first, second), usable[first], usable[second])
    return found


def _placed(opened: Opened, path: Path, band: Band, rpc: Rpc) -> list[Finding]:
    """Raw images that show another place, or a part of the area."""
    share, dsm = _share_seen(opened.scene, rpc, band.grid.whole), opened.subject.dsm.name
    figures = {"seen_percent": 100 * share}
    if not share:
        text = f"By its RPC, {path.name} shows nothing of the area of {dsm}."
        remedy = "Is it of another scene, is the RPC that of another image, or the CRS of the DSM wrong?"
        return [Finding("raw_elsewhere", "fault", path.name, text, remedy, "", figures)]
    if share >= NEARLY_ALL_SEEN:
        return []
    severity: Severity = "note" if share >= MOST_SEEN else "warning"
    text = f"By its RPC, {path.name} shows {percent(share)} of the area of {dsm}."
    remedy = "" if severity == "note" else "Heights are measured where two images or more show the ground."
    return [Finding("raw_image", severity, path.name, text, remedy, figures=figures)]


def _share_seen(scene: Scene, rpc: Rpc, image: Window) -> float:
    """The share of the area that a raw image shows."""
    grid = scene.grid
    rows, cols = (
        one.ravel() for one in np.meshgrid(LATTICE * grid.height, LATTICE * grid.width, indexing="ij")
    )
    a, b, c, d, e, f = grid.transform
    lon, lat = to_geographic(grid.crs, a * cols + b * rows + c, d * cols + e * rows + f)
    row, col = rpc.project(lon, lat, np.full(lon.shape, _middle_height(scene)))
    return float(np.mean((row >= 0) & (row < image.height) & (col >= 0) & (col < image.width)))


def _middle_height(scene: Scene) -> float:
    heights = np.concatenate([scene.dsm.read(window).ravel() for window in sample_windows(scene.grid)])
    known = heights[np.isfinite(heights)]
    return float(np.median(known)) if known.size else 0.0


def _twice(paths: Sequence[Path], one: tuple[FileBand, Rpc], other: tuple[FileBand, Rpc]) -> list[Finding]:
    """Two files that hold one image, or two images with one RPC: nothing can be measured in them."""
    names = " and ".join(path.name if paths[0].name != paths[1].name else str(path) for path in paths)
    (first, rpc), (second, other_rpc) = one, other
    if first.grid.whole == second.grid.whole and all(
        np.array_equal(first.read(window), second.read(window), equal_nan=True)
        for window in sample_windows(first.grid)
    ):
        remedy = "Heights need views from different directions: give the image that was meant."
        return [Finding("duplicated_image", "fault", names, f"{names} show the same image.", remedy)]
    if rpc != other_rpc:
        return []
    text, remedy = f"{names} have the same RPC.", "Put beside each image the RPC that was delivered with it."
    return [Finding("raw_image", "fault", names, text, remedy)]
