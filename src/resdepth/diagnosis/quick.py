"""The quick part of the doctor: what check, train, test and refine look at before they begin."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from resdepth.data.scene import Scene
from resdepth.diagnosis.alignment import placement
from resdepth.diagnosis.findings import Finding, ordered
from resdepth.diagnosis.ortho_images import image_findings
from resdepth.diagnosis.subject import Opened, Subject, open_subject
from resdepth.geo.raster import Array, Band, FileBand, read_header
from resdepth.geo.windows import Window, bounding
from resdepth.stereo.ortho import has_rpc

# Of more images than this the first are looked at.
MOST_IMAGES = 6
BIASES = ("vertical_offset", "vertical_datum")
# What good data have as well: a fraction of a pixel between ortho-images, shadows beside walls.
TOLERATED = ("image_beside_surface", "image_shift")


def quick_surfaces(scene: Scene, windows: Sequence[Window]) -> tuple[Finding, ...]:
    """How the initial DSM lies to the reference DSM: faults and warnings, the worst first.

    It takes a second or two, whatever the size of the rasters.

    Args:
        scene: of files; nothing is found in degrees, without a reference DSM, or where that has another size,
            which whoever opened the scene states.
        windows: the parts of it in use; nothing else is looked at.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    if scene.reference is None or scene.reference.grid.whole != scene.grid.whole or not windows:
        return ()
    found, _ = placement(Opened(_subject(scene), _part(scene, windows)))
    return _harmful(found)


def quick_images(scene: Scene, windows: Sequence[Window], raw: Sequence[Path] = ()) -> tuple[Finding, ...]:
    """What is wrong with images: faults and warnings, the worst first.

    It takes a second or two, whatever their size. Of many images the first are looked at.

    Args:
        scene: of files, its views ortho-images.
        windows: the parts of it in use; nothing else is looked at.
        raw: raw images with RPCs.

    Raises:
        ResDepthError: if pixels cannot be read.
    """
    if scene.grid.is_in_degrees or not windows:
        return ()
    found, _ = image_findings(Opened(_subject(scene, raw[:MOST_IMAGES]), _part(scene, windows)))
    return _harmful(found)


def quick_files(dsm: Path, images: Sequence[Path], window: Window | None = None) -> tuple[Finding, ...]:
    """The same of the files of an initial DSM and of images, raw or ortho.

    Args:
        dsm: the initial DSM.
        images: raw images with RPCs, or ortho-images.
        window: the part of the DSM in use; None: all of it.

    Raises:
        ResDepthError: if a file cannot be read.
    """
    grid = read_header(dsm).grid
    raw = tuple(one for one in images if grid.differences(read_header(one).grid) and has_rpc(one))
    ortho = tuple(one for one in images if one not in raw)
    opened, _ = open_subject(Subject(dsm.stem, dsm, None, ortho, raw))
    return () if opened is None else quick_images(opened.scene, [window or grid.whole], raw)


def bias_in(findings: Iterable[Finding]) -> float:
    """How far the initial DSM lies above the reference DSM, metres, where that is more than noise; else 0."""
    return next((one.figures["bias_m"] for one in findings if one.kind in BIASES), 0.0)


def _harmful(found: Sequence[Finding]) -> tuple[Finding, ...]:
    least = dict.fromkeys(TOLERATED, ("fault",))
    return ordered(one for one in found if one.severity in least.get(one.kind, ("fault", "warning")))


def _subject(scene: Scene, raw: Sequence[Path] = ()) -> Subject:
    assert scene.dsm_path is not None, "of files"
    reference = scene.reference.header.path if isinstance(scene.reference, FileBand) else None
    return Subject(scene.name, scene.dsm_path, reference, scene.image_paths, tuple(raw))


def _part(scene: Scene, windows: Sequence[Window]) -> Scene:
    """The smallest scene about some windows, void beside them."""
    around = bounding(windows)
    inside = [window.relative_to(around) for window in windows]

    def cut(band: Band) -> Band:
        return _Part(band, around, inside)

    views = [view for view in sorted(scene.views) if scene.views[view].grid.whole == scene.grid.whole]
    return replace(
        scene,
        grid=scene.grid.crop(around),
        dsm=cut(scene.dsm),
        reference=None if scene.reference is None else cut(scene.reference),
        views={view: cut(scene.views[view]) for view in views[:MOST_IMAGES]},
        masks={name: cut(mask) for name, mask in scene.masks.items()},
    )


class _Part:
    """A part of a band, void where none of some windows in it is."""

    def __init__(self, band: Band, around: Window, inside: Sequence[Window]) -> None:
        self.grid, self._band, self._around, self._inside = band.grid.crop(around), band, around, inside

    def read(self, window: Window) -> Array:
        """(height, width) float32, NaN = void, or beside the windows."""
        values = self._band.read(window.moved(self._around.row, self._around.col))
        if any(one.contains(window) for one in self._inside):
            return values
        result = np.full_like(values, np.nan)
        for one in self._inside:
            common = one.grown(0, within=window)
            if min(common.shape) > 0:
                part = common.relative_to(window).slices
                result[part] = values[part]
        return result
