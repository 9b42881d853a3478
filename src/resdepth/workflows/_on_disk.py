"""Looking at what a configuration names on disk: lists, models, regions, voids, folders.

Each function gives the value, if there is one, and the problems; none writes anything.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from resdepth.config.schema import TestModel, TrainConfig
from resdepth.data.image_lists import read_image_list, read_pair_list
from resdepth.data.scene import Scene, ViewSet, used_views
from resdepth.data.undeclared import look_for_undeclared
from resdepth.errors import InputProblems, Problem, ResDepthError, has_errors, resting_on
from resdepth.evaluation.coregistration import Alignment, align
from resdepth.geo.raster import Band, FileBand, count_voids
from resdepth.geo.windows import Window, bounding
from resdepth.models.model import Architecture, Model, check_weights, load_safetensors
from resdepth.models.published import PublishedFiles, load_published, read_training_state
from resdepth.options import Device
from resdepth.refinement.engine import choose_device
from resdepth.runtime.paths import is_there
from resdepth.training.optim import ignored_options, state_misfits


def read_lists(
    image_list: str | None, pair_lists: Mapping[str, str | None], n_views: int | None, key: str
) -> tuple[tuple[Path, ...], list[tuple[ViewSet, ...]], list[Problem]]:
    """The images, the view sets of each pair list (none where it is absent), and what is wrong with them.

    Args:
        image_list: its path.
        pair_lists: their paths, by their keys.
        n_views: how many images the network takes; None if it is unknown.
        key: where the data set stands.
    """
    nothing: list[tuple[ViewSet, ...]] = [() for _ in pair_lists]
    if n_views == 0:
        return (), nothing, []
    images: tuple[Path, ...] | None = None
    problems: list[Problem] = []
    if image_list is not None:
        images, found = read_image_list(Path(image_list))
        problems += _stated_at(f"{key}.path_image_list", found)
    view_sets: list[tuple[ViewSet, ...]] = []
    for pair_key, pair_list in pair_lists.items():
        sets: tuple[ViewSet, ...] = ()
        if pair_list is not None:
            sets, found = read_pair_list(Path(pair_list), images, n_views)
            problems += _stated_at(pair_key, found)
        view_sets.append(sets)
    if has_errors(problems) or images is None:
        return images or (), view_sets, problems
    used = used_views(view for sets in view_sets for view in sets)
    unused = [image for index, image in enumerate(images) if index not in used and not is_there(image)]
    problems += [
        Problem(f"{key}.path_image_list", f"{image}: no such file; no pair uses it", "warning")
        for image in unused
    ]
    return images, view_sets, problems


def _stated_at(key: str, problems: Iterable[Problem]) -> list[Problem]:
    """What is wrong within a file, stated where the configuration names it."""
    return [Problem(key, str(problem), problem.severity) for problem in problems]


def tile_problems(regions: tuple[Window, ...], tile: int, key: str, tile_key: str) -> list[Problem]:
    """Regions that no tile fits into."""
    small = dict.fromkeys(f"{area.height} x {area.width}" for area in regions if min(area.shape) < tile)
    return [
        Problem(key, f"a region of {size} pixels is smaller than a tile; {tile_key} is {tile}")
        for size in small
    ]


def degree_problems(scene: Scene, key: str) -> list[Problem]:
    """A grid in degrees: no network knows what its pixels are in metres."""
    if not scene.grid.is_in_degrees:
        return []
    text = (
        f"{scene.dsm_path}: its CRS {scene.grid.crs_name} is in degrees; bring all rasters to a projected "
        "CRS in metres, for example UTM zone 32N (gdalwarp -t_srs EPSG:32632)"
    )
    return [Problem(key, text)]


def void_problems(scene: Scene, regions: tuple[Window, ...], key: str) -> list[Problem]:
    """Voids of the initial DSM in the regions; all of their pixels are read, a strip at a time."""
    if not isinstance(scene.dsm, FileBand) or not scene.dsm.header.may_have_voids:
        return []
    try:
        voids = count_voids(scene.dsm, list(regions))
    except ResDepthError as error:
        return [Problem(key, str(error))]
    if not voids:
        return []
    total = sum(region.area for region in regions)
    text = (
        f"{scene.dsm_path}: {voids} of {total} pixels in use are void (nodata {scene.dsm.header.nodata}); "
        "the network needs a height everywhere: fill them, for example with gdal_fillnodata.py"
    )
    return [Problem(key, text)]


def undeclared_problems(bands: Mapping[str, Band | None]) -> list[Problem]:
    """Warnings of heights, by the keys that name them, which may be voids that a file does not declare."""
    problems = []
    for key, band in bands.items():
        if not isinstance(band, FileBand):
            continue
        try:
            question = look_for_undeclared(band).question
        except ResDepthError as error:
            problems.append(Problem(key, str(error)))
            continue
        if question:
            problems.append(Problem(key, f"{band.header.path}: {question}", "warning"))
    return problems


def alignment_problems(scene: Scene, regions: tuple[Window, ...], key: str) -> list[Problem]:
    """Warnings of an initial DSM that lies above, below or beside the reference DSM; a sample is read."""
    if scene.truth is None or not regions or scene.grid.is_in_degrees:
        return []
    if scene.truth.grid.whole != scene.grid.whole:
        return []  # a problem of its own, which the scene has reported
    around, name = bounding(regions), str(scene.dsm_path)
    try:
        found = align(
            lambda window: scene.dsm.read(window.moved(around.row, around.col)),
            lambda window: scene.counted_truth(window.moved(around.row, around.col)),
            scene.grid.crop(around),
            name=name,
        )
    except ResDepthError as error:
        return [Problem(key, str(error))]
    texts = [_bias_text(found)] if found.is_biased else []
    texts += [_shift_text(found)] if found.is_shifted else []
    return [Problem(key, f"{name}: {text}", "warning") for text in texts]


def _bias_text(found: Alignment) -> str:
    side = "above" if found.bias_m > 0 else "below"
    return (
        f"lies {abs(found.bias_m):.2f} m {side} the reference DSM (median difference; NMAD "
        f"{found.spread_m:.2f} m). A network learns a constant bias: the error falls by as much, which looks "
        "like success, and no shape is better. Before training, bring both to one vertical datum, or move "
        f"the initial DSM by {-found.bias_m:+.2f} m; resdepth evaluate shows figures without the median"
    )


def _shift_text(found: Alignment) -> str:
    shift = found.shift
    return (
        f"lies {found.shift_px:.1f} pixels beside the reference DSM; what moves it there is "
        f"{shift.dx_m:+.2f} m to the east and {shift.dy_m:+.2f} m to the north (Nuth and Kääb). Each wall is "
        "an error then, and a network learns to move walls. Before training, co-register both: resdepth "
        "evaluate --align --write-aligned, or xDEM"
    )


def checkpoint_problems(
    pretrained: str, config: TrainConfig, architecture: Architecture, path: Path
) -> list[Problem]:
    """Whether training can go on from a checkpoint with this configuration."""
    where = f"{path}: model.pretrained_path"
    try:
        checkpoint = read_training_state(Path(pretrained))
    except InputProblems as error:
        return _stated_at(where, error.problems)
    try:
        check_weights(architecture, checkpoint["model_state_dict"])
    except ResDepthError as error:
        return [Problem(where, f"{pretrained}: {error}", rests_on=(f"{path}: model", f"{path}: multiview"))]
    if misfits := state_misfits(config.optimizer, config.scheduler, checkpoint):
        return [
            Problem(f"{path}: {key}", f"{message} ({pretrained})", rests_on=(where,))
            for key, message in misfits
        ]
    return [
        Problem(f"{path}: {key}", f"{message} ({pretrained})", "warning", (where,))
        for key, message in ignored_options(config.optimizer, config.scheduler, checkpoint)
    ]


def folder_problems(folder: Path, key: str) -> list[Problem]:
    """Whether a folder can be made, without making it."""
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not os.path.isdir(nearest):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        return [Problem(key, f"{folder}: {nearest} is no folder; choose another")]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [Problem(key, f"{folder}: no permission to write in {nearest}; choose another")]
    longest = os.pathconf(nearest, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if any(len(os.fsencode(part)) > longest for part in folder.relative_to(nearest).parts):
        return [Problem(key, f"{folder}: a name is longer than {longest} bytes; choose another")]
    return []


def device_problems(device: Device, key: str) -> list[Problem]:
    """Whether there is such a device here."""
    try:
        choose_device(device)
    except ResDepthError as error:
        return [Problem(key, str(error).removeprefix("general.device: "))]
    return []


def read_model(config: TestModel, path: Path) -> tuple[Model | None, list[Problem]]:
    """The model of a test configuration, None if it is unusable."""
    key = f"{path}: model"
    if config.path is not None:
        try:
            return load_safetensors(Path(config.path)), []
        except InputProblems as error:
            return None, _stated_at(f"{key}.path", error.problems)
    given = config.model_dump(exclude={"path"}, exclude_none=True)
    files = PublishedFiles(**{name: Path(file) for name, file in given.items()})
    try:
        return load_published(files, f"{key}."), []
    except InputProblems as error:
        return None, resting_on([f"{key}.path"], error.problems)
