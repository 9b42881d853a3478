"""Looking at what a configuration names on disk: lists, models, regions, voids, folders.

Each function gives the value, if there is one, and the problems; none writes anything.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from resdepth.checkpoint import Architecture, Model, build_network, load_safetensors, load_weights
from resdepth.config import TestModel
from resdepth.errors import Problem, ResDepthError
from resdepth.inputs import Inputs
from resdepth.published import load_published, read_checkpoint
from resdepth.raster import FileBand, count_voids
from resdepth.scene import Scene, ViewSet, read_image_list, read_pair_list
from resdepth.windows import Window


def read_lists(
    image_list: str | None, pair_lists: Mapping[str, str | None], inputs: Inputs, key: str
) -> tuple[tuple[Path, ...], list[tuple[ViewSet, ...]], list[Problem]]:
    """The images, the view sets of each pair list (none where it is absent), and what is wrong with them."""
    nothing: list[tuple[ViewSet, ...]] = [() for _ in pair_lists]
    problems: list[Problem] = []
    if not inputs.n_views or image_list is None:
        return (), nothing, problems
    try:
        images, found = read_image_list(Path(image_list))
    except ResDepthError as error:
        problems.append(Problem(f"{key}.path_image_list", str(error)))
        problems += [
            Problem(pair_key, f"{pair_list}: no such file; check the path")
            for pair_key, pair_list in pair_lists.items()
            if pair_list is not None and not Path(pair_list).exists()
        ]
        return (), nothing, problems
    problems += found
    view_sets: list[tuple[ViewSet, ...]] = []
    for pair_key, pair_list in pair_lists.items():
        sets: tuple[ViewSet, ...] = ()
        if pair_list is not None:
            try:
                sets, found = read_pair_list(Path(pair_list), images, inputs.n_views)
                problems += [item for item in found if item not in problems]
            except ResDepthError as error:
                problems.append(Problem(pair_key, str(error)))
        view_sets.append(sets)
    return images, view_sets, problems


def tile_problems(regions: tuple[Window, ...], tile: int, key: str, tile_key: str) -> list[Problem]:
    """Regions that no tile fits into."""
    small = [region for region in regions if min(region.shape) < tile]
    return [
        Problem(
            key, f"a region of {r.height} x {r.width} pixels is smaller than a tile; {tile_key} is {tile}"
        )
        for r in small
    ]


def void_problems(scene: Scene, regions: tuple[Window, ...], key: str) -> list[Problem]:
    """Voids of the initial DSM in the regions; the only look at pixels, a strip at a time."""
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


def checkpoint_problems(pretrained: str, architecture: Architecture, path: Path) -> list[Problem]:
    """Whether training can go on from a checkpoint with this architecture."""
    where = f"{path}: model.pretrained_path"
    try:
        load_weights(build_network(architecture), read_checkpoint(Path(pretrained))["model_state_dict"])
    except ResDepthError as error:
        text = str(error)
        return [Problem(where, text if text.startswith(pretrained) else f"{pretrained}: {text}")]
    return []


def folder_problems(folder: str, key: str) -> list[Problem]:
    """Whether a folder can be made, without making it."""
    nearest = Path(folder)
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return [Problem(key, f"{folder}: {nearest} is a file; choose another folder")]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [Problem(key, f"{folder}: no permission to write in {nearest}")]
    return []


def read_model(config: TestModel, path: Path) -> tuple[Model | None, list[Problem]]:
    """The model of a test configuration, None if it is unusable."""
    try:
        if config.path is not None:
            model = load_safetensors(Path(config.path))
            model.network()
            return model, []
        if config.weights is None or config.architecture is None or config.normalization_geom is None:
            return None, []  # told by the rules between fields
        image_file = config.normalization_image
        return load_published(
            Path(config.weights),
            Path(config.architecture),
            Path(config.normalization_geom),
            None if image_file is None else Path(image_file),
        ), []
    except ResDepthError as error:
        message = str(error)
        named = {value: name for name, value in config.model_dump().items() if value is not None}
        key = next((name for value, name in named.items() if message.startswith(value)), None)
        if "normalization_image is needed" in message:
            key = "normalization_image"
        return None, [Problem(f"{path}: model.{key}" if key else f"{path}: model", message)]
