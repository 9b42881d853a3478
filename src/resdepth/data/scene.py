"""One data set: initial DSM, reference DSM, views and masks on ONE grid; text files that list its views."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resdepth.data.arrays import bands_of
from resdepth.errors import InputProblems, Problem, ResDepthError, has_errors
from resdepth.geo.crs import METRE, Unit
from resdepth.geo.grid import UNREFERENCED, Grid
from resdepth.geo.raster import Array, Band, FileBand, Header, Numbers, hold
from resdepth.geo.windows import Window
from resdepth.runtime.paths import read_text, resolve_path, why_no_file

SHOWN_NAMES, SHOWN_CHARACTERS = 5, 200


logger = logging.getLogger(__name__)

ViewSet = tuple[int, ...]

MASKS = ("ground_truth", "building", "water", "forest")


@dataclass(frozen=True)
class Scene:
    """One area, all rasters pixel-aligned.

    Attributes:
        name: for logs and result folders.
        grid: the one grid.
        dsm: the initial DSM, metres.
        reference: the reference DSM, metres, NaN = unknown; None if there is none.
        views: the ortho-images in use, by their index in the image list.
        masks: building, water, forest, ground_truth (those given); the value 1 sets a mask.
        image_paths: all images of the list.
        dsm_path: where the initial DSM lies, if it is a file.

    Examples:
        >>> import resdepth
        >>> scene = resdepth.Scene.open("initial.tif", ["ortho1.tif"], reference="reference.tif")
        >>> scene.grid.gsd_m, scene.grid.crs_name
        (0.5, 'EPSG:32632')
        >>> scene.dsm.read(scene.grid.whole).shape
        (64, 160)
    """

    name: str
    grid: Grid
    dsm: Band
    reference: Band | None = None
    views: Mapping[int, Band] = field(default_factory=dict)
    masks: Mapping[str, Band] = field(default_factory=dict)
    image_paths: tuple[Path, ...] = ()
    dsm_path: Path | None = None

    @classmethod
    def open(
        cls,
        dsm: str | Path,
        images: Sequence[str | Path] = (),
        *,
        reference: str | Path | None = None,
        masks: Mapping[str, str | Path] | None = None,
        name: str = "scene",
    ) -> "Scene":
        """A scene from raster files; only their headers are read.

        Args:
            dsm: the initial DSM, metres.
            images: ortho-images; the first is view 0.
            reference: the reference DSM, metres.
            masks: paths by name: ground_truth, building, water, forest.
            name: what to call the scene.

        Raises:
            InputProblems: all files that are unusable or lie on another grid than the DSM.
        """
        files = SceneFiles(
            name=name,
            dsm=("dsm", Path(dsm)),
            reference=None if reference is None else ("reference", Path(reference)),
            images=tuple(Path(image) for image in images),
            image_list_key="images",
            used_views=tuple(range(len(images))),
            masks={mask: (f"masks[{mask!r}]", Path(path)) for mask, path in (masks or {}).items()},
        )
        scene, problems = open_scene(files)
        if scene is None or has_errors(problems):
            raise InputProblems(problems)
        for problem in problems:
            logger.warning("%s", problem)
        return scene

    @classmethod
    def of_arrays(
        cls,
        dsm: Array,
        images: Sequence[Array] = (),
        *,
        reference: Array | None = None,
        masks: Mapping[str, Array] | None = None,
        gsd: float = 1.0,
        nodata: float | None = None,
        name: str = "scene",
    ) -> "Scene":
        """A scene from arrays of one shape (H, W); see `arrays.bands_of`.

        Raises:
            InputProblems: all arrays that cannot be used, and why.
        """
        heights = {"dsm": dsm} if reference is None else {"dsm": dsm, "reference": reference}
        bands = bands_of(heights, images, masks, gsd=gsd, nodata=nodata)
        return cls(
            name=name,
            grid=bands.grid,
            dsm=bands.heights["dsm"],
            reference=bands.heights.get("reference"),
            views=dict(enumerate(bands.images)),
            masks=bands.masks,
        )

    @property
    def unit(self) -> Unit:
        """The unit of the initial DSM's file, in which results are written; named "" where in doubt."""
        if not isinstance(self.dsm, FileBand):
            return METRE
        return Unit("", 1.0) if self.dsm.header.doubt_about_unit else self.dsm.unit

    def read_views(self, view_set: ViewSet, window: Window) -> Array:
        """(V, height, width) float32 grey values, NaN = void; V is 0 for an empty view set."""
        shape = (len(view_set), *window.shape)
        result: Array = np.empty(shape, dtype=np.float32)
        for channel, index in enumerate(view_set):
            result[channel] = self.views[index].read(window)
        return result

    def counted_reference(self, window: Window) -> Array:
        """The reference DSM where it counts, (height, width) float32, metres, else NaN."""
        assert self.reference is not None, "only scenes with a reference DSM are evaluated"
        heights = self.reference.read(window)
        if "ground_truth" in self.masks:
            heights[~self.read_mask("ground_truth", window)[0]] = np.nan
        return heights

    def read_mask(self, name: str, window: Window) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Where the mask is set (value 1), and where it says anything (not nodata); (H, W) bool each."""
        values = self.masks[name].read(window)
        return values == 1, ~np.isnan(values)


def used_views(view_sets: Iterable[ViewSet]) -> tuple[int, ...]:
    """The distinct images of several view sets, sorted."""
    return tuple(sorted({index for view_set in view_sets for index in view_set}))


@dataclass(frozen=True)
class SceneFiles:
    """The paths that make up a scene, each with the configuration key that names it.

    Where the initial DSM is unknown, the other rasters are looked at by themselves.
    """

    name: str
    dsm: tuple[str, Path] | None
    reference: tuple[str, Path] | None
    images: tuple[Path, ...]
    image_list_key: str
    used_views: tuple[int, ...]
    masks: Mapping[str, tuple[str, Path]]


def open_scene(files: SceneFiles, *, any_grid: bool = False) -> tuple[Scene | None, list[Problem]]:
    """Read all headers and compare them with the initial DSM's.

    Args:
        files: paths, and the keys that name them.
        any_grid: whether it is no problem if they lie on other grids.

    Returns:
        The scene without its unusable rasters (None if the initial DSM is unusable), and all problems found.
    """
    problems: list[Problem] = []
    dsm = _open_band(*files.dsm, problems) if files.dsm else None
    reference = _open_band(*files.reference, problems) if files.reference else None
    masks = {name: _open_band(*named, problems, "mask") for name, named in files.masks.items()}
    views = {
        index: _open_band(files.image_list_key, files.images[index], problems, "stored")
        for index in files.used_views
    }
    if dsm is None or files.dsm is None:
        return None, problems
    problems += _map_problems(files.dsm[0], dsm)
    others = [(files.reference[0], reference)] if files.reference else []
    others += [(files.masks[name][0], band) for name, band in masks.items()]
    others += [(files.image_list_key, band) for band in views.values()]
    if not any_grid:
        problems += [one for key, band in others for one in _misalignments(key, band, dsm)]
    if files.reference and reference is not None and (other := reference.header.other_zero(dsm.header)):
        problems.append(Problem(files.reference[0], other, "warning"))
    scene = Scene(
        name=files.name,
        grid=dsm.grid,
        dsm=dsm,
        reference=reference,
        views={index: band for index, band in views.items() if band is not None},
        masks={name: band for name, band in masks.items() if band is not None},
        image_paths=files.images,
        dsm_path=files.dsm[1],
    )
    return scene, problems


def _open_band(key: str, path: Path, problems: list[Problem], numbers: Numbers = "scaled") -> FileBand | None:
    """A band whose header and last pixel can be read: files that break off lack their end."""
    if reason := why_no_file(path):
        problems.append(Problem(key, f"{path}: {reason}"))
        return None
    try:
        band = FileBand(path, numbers)
        last = Window(band.grid.height - 1, band.grid.width - 1, 1, 1)
        FileBand(path, numbers).read(last)  # closed at once
    except ResDepthError as error:
        problems.append(Problem(key, str(error)))
        return None
    if numbers == "scaled" and band.header.doubt_about_unit:
        problems.append(Problem(key, band.header.doubt_about_unit, "warning"))
    if not band.header.is_of_heights_first:
        problems.append(Problem(key, _bands_left_out(band.header), "warning"))
    return band


def _map_problems(key: str, dsm: FileBand) -> list[Problem]:
    """Warnings of pixels that mislead a network; whoever trains or refines refuses degrees."""
    grid = dsm.grid
    if grid.is_in_degrees:
        return []
    if grid.stretched:
        found = f"{grid.stretched}; a projected CRS in metres is expected (gdalwarp -t_srs)"
    elif not grid.sides_m.are_equal or grid.is_slanted:
        found = f"its pixels are not square ({grid.sides_m} m); resample it (gdalwarp -tr)"
    else:
        return []
    return [Problem(key, f"{dsm.header.path}: {found}", "warning")]


def _bands_left_out(header: Header) -> str:
    if not header.has_alpha:
        return f"{header.path}: has {header.bands} bands; only the first is used"
    stated = f"{header.path}: has {header.bands} bands and an alpha band"
    return f"{stated}; only the first is used, where alpha is not 0"


def _misalignments(key: str, band: FileBand | None, dsm: FileBand) -> list[Problem]:
    if band is None:
        return []
    if band.grid.transform == UNREFERENCED != dsm.grid.transform:
        text = (
            f"{band.header.path}: lies on no map; a raw image becomes an ortho-image with the DSM and its "
            "RPC (resdepth prepare)"
        )
        return [Problem(key, text)]
    corners = [dsm.grid.map_position(dsm.grid.height, 0), dsm.grid.map_position(0, dsm.grid.width)]
    extent = " ".join(f"{value:.10g}" for corner in corners for value in corner)
    name = dsm.grid.flat.crs_name
    target = f"-t_srs {name} " if name.startswith("EPSG:") else ""
    advice = (
        f"all rasters of a data set must be pixel-aligned with {dsm.header.path.name}: resample with "
        f"gdalwarp {target}-te {extent} -ts {dsm.grid.width} {dsm.grid.height}"
    )
    return [
        Problem(key, f"{band.header.path}: {difference}; {advice}")
        for difference in dsm.grid.differences(band.grid)
    ]


def hold_in_memory(scenes: Sequence[Scene], budget_bytes: float) -> list[Scene]:
    """The scenes with their rasters held in memory, as far as the budget reaches.

    Rasters are taken in order (DSM, reference DSM, views in use); those that do not fit stay in their files
    and are read by window. Masks are not needed in training and stay where they are.
    """
    left = budget_bytes
    in_memory: dict[tuple[Path, Numbers], Band] = {}  # data sets may share files

    def held(band: Band) -> Band:
        nonlocal left
        if not isinstance(band, FileBand):
            return band
        key = band.header.path, band.numbers
        bytes_per_pixel = np.dtype(band.header.dtype).itemsize + band.header.has_mask
        size = band.grid.whole.area * bytes_per_pixel
        if key not in in_memory and size <= left:
            left -= size
            in_memory[key] = hold(band)
        return in_memory.get(key, band)

    return [
        replace(
            scene,
            dsm=held(scene.dsm),
            reference=None if scene.reference is None else held(scene.reference),
            views={index: held(band) for index, band in scene.views.items()},
            masks={name: held(band) for name, band in scene.masks.items()},
        )
        for scene in scenes
    ]


Surface = Array | str | Path


def scene_of(
    dsm: Surface,
    images: Sequence[Surface],
    *,
    reference: Surface | None = None,
    masks: Mapping[str, Surface] | None = None,
    gsd: float | None = None,
    nodata: float | None = None,
) -> Scene:
    """A scene from arrays, or from files.

    Raises:
        ResDepthError: if both are mixed, a file cannot be read, shapes or grids differ, or `nodata` is given
            for files.
    """
    surfaces = [dsm, *images, *([] if reference is None else [reference]), *(masks or {}).values()]
    are_paths = {isinstance(surface, str | Path) for surface in surfaces}
    if len(are_paths) > 1:
        raise ResDepthError("give either arrays or paths, not a mixture: arrays have no georeference")
    refuse_nodata_of_files(nodata, are_paths)
    if gsd is not None and not (np.isfinite(gsd) and gsd > 0):
        raise ResDepthError(f"gsd: found {gsd}; the side of a pixel in metres must be positive")
    if gsd is not None and are_paths == {True}:
        raise ResDepthError(f"gsd: found {gsd}; it is for arrays; files state their own")
    if are_paths == {True}:
        return Scene.open(dsm, images, reference=reference, masks=masks)  # type: ignore[arg-type] # all are paths
    side = 1.0 if gsd is None else gsd
    return Scene.of_arrays(
        dsm, images, reference=reference, masks=masks, gsd=side, nodata=nodata  # type: ignore[arg-type] # all are arrays
    )  # fmt: skip


def refuse_nodata_of_files(nodata: float | None, are_paths: Collection[bool]) -> None:
    """Refuse a nodata value that is given beside files.

    Raises:
        ResDepthError: saying where files declare it.
    """
    if nodata is not None and True in are_paths:
        raise ResDepthError(
            f"nodata: found {nodata}; it is for arrays; files declare it (gdal_edit.py -a_nodata {nodata:g})"
        )


def _lines(path: Path) -> list[tuple[int, str]]:
    """Non-blank lines with their numbers, stripped."""
    numbered = [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1)]
    return [(number, line) for number, line in numbered if line]


def read_image_list(path: Path) -> tuple[tuple[Path, ...] | None, list[Problem]]:
    """The images that a list names, one path per line (None if it cannot be read), and what is wrong.

    Their file names must be unique, because pair lists name images by them.
    """
    try:
        images = tuple(resolve_path(line, path) for _, line in _lines(path))
    except InputProblems as error:
        return None, list(error.problems)
    problems = [
        Problem(
            str(path),
            f"the file name {_shortened(name)!r} occurs {count} times; pair lists need unique names",
        )
        for name, count in Counter(image.name for image in images).items()
        if count > 1
    ]
    if not images:
        problems.append(Problem(str(path), "the list is empty; name one ortho-image per line"))
    return images, problems


def read_pair_list(
    path: Path, images: Sequence[Path] | None, n_views: int | None
) -> tuple[tuple[ViewSet, ...], list[Problem]]:
    """The view sets that a list names, as indices into the image list, and what is wrong.

    A line holds `n_views` image names between commas; spaces, a trailing comma and blank lines do not matter.
    Names match whole file names, unlike in the published code, which matches parts of paths
    (tests/data/test_image_lists.py).

    Args:
        path: the list.
        images: the images that can be named; without them no view set is given.
        n_views: how many images the network takes; None if it is unknown.
    """
    try:
        lines = _lines(path)
    except InputProblems as error:
        return (), list(error.problems)
    if not lines:
        return (), [Problem(str(path), "the list is empty; name the images of one pair per line")]
    index_of = {image.name: index for index, image in enumerate(images)} if images else None
    line_of: dict[ViewSet, int] = {}
    problems: list[Problem] = []
    for number, line in lines:
        where = f"{path}: line {number}"
        names = [name.strip() for name in line.split(",") if name.strip()]
        if found := _misfits(line, names, index_of, n_views):
            problems.append(Problem(where, "; ".join(found)))
        elif index_of is not None:
            view_set = tuple(index_of[name] for name in names)
            if line_of.setdefault(view_set, number) != number:
                text = f"repeats line {line_of[view_set]} ({_shortened(line)}); ignored"
                problems.append(Problem(where, text, "warning"))
    return tuple(line_of), problems


def _misfits(line: str, names: list[str], index_of: dict[str, int] | None, n_views: int | None) -> list[str]:
    """What is wrong with the images that one line names."""
    found = []
    unknown = [] if index_of is None else [name for name in names if name not in index_of]
    if index_of is not None and unknown:
        found.append(f"{_first_of(unknown)}: not in the image list, which has {_first_of(index_of)}")
    if len(set(names)) < len(names):
        found.append(f"names one image twice ({_shortened(line)}); its views must differ")
    if not names or n_views not in (None, len(names)):
        found.append(
            f"names {len(names)} images ({_shortened(line)}); the network takes {n_views or 'some'} "
            "(input_channels)"
        )
    return found


def _first_of(names: Collection[str]) -> str:
    shown = ", ".join(_shortened(name) for name in islice(names, SHOWN_NAMES))
    return shown + (", ..." if len(names) > SHOWN_NAMES else "")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
