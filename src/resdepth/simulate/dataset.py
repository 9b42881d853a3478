"""The folder of a simulated scene: what lies where, the lists, and the configurations that fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resdepth.geo.grid import Grid
from resdepth.geo.windows import N_STRIPES
from resdepth.models.pretrained import SMALLEST_TILE_OF_MODEL, TOWN_STEREO
from resdepth.runtime.atomic import (
    copy_file,
    is_unfinished,
    remove_leftovers,
    write_json,
    write_text,
    writing,
)
from resdepth.simulate.plan import Pair
from resdepth.simulate.shots import Shot

Role = Literal["train", "val", "train+val", "test"]

# A training sample for so many pixels of the training stripes, and no fewer than this in all.
PIXELS_PER_SAMPLE, FEWEST_SAMPLES = 1500, 200
LARGEST_TILE, SMALLEST_TILE, DEEPEST = 256, 16, 5
PAIR_LIST_KEYS: dict[Role, tuple[str, ...]] = {
    "train": ("path_pairlist_training",),
    "val": ("path_pairlist_validation",),
    "train+val": ("path_pairlist_training", "path_pairlist_validation"),
    "test": ("path_pairlist",),
}
SCENE_MASKS = ("ground_truth", "building", "water", "forest")
# What the simulation's own folder holds.
WORK = ("truth", "cells.tif")
# Where the model that comes with the package lies in models/.
MODEL = "ResDepth-stereo/model.safetensors"


@dataclass(frozen=True)
class SceneFolder:
    """The layout of the authors' demonstration, with the raw images beside the ortho-images.

    Attributes:
        path: of the scene.
    """

    path: Path

    def create(self) -> None:
        """Make the folders; what killed processes have left unfinished in them goes."""
        for folder in (
            "data/dsm",
            "data/mask",
            "data/satellite_views/raw",
            "data/image_selection",
            "configs",
            # Relative outputs lead here only if the folders are there (see paths.resolve_path).
            "results",
            "logs/tensorboard",
        ):
            with writing(self.path / folder):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path / folder)
        remove_leftovers(self.path)

    @property
    def work(self) -> Path:
        """What only the simulation needs; gone at the end."""
        return self.path / "unfinished"

    def is_untidy(self) -> bool:
        """Whether the simulation's own folder is still there, and holds nothing that is somebody else's."""
        return (
            self.work.is_dir()
            and not self.work.is_symlink()
            and all(path.name in WORK or is_unfinished(path) for path in self.work.iterdir())
        )

    @property
    def initial(self) -> Path:
        """The initial DSM."""
        return self.path / "data" / "dsm" / "initial.tif"

    @property
    def truth(self) -> Path:
        """The true DSM."""
        return self.path / "data" / "dsm" / "truth.tif"

    def mask(self, name: str) -> Path:
        """A mask: building, water, forest, ground_truth, void."""
        return self.path / "data" / "mask" / f"{name}.tif"

    def raw(self, shot: Shot) -> Path:
        """A raw image, with its RPC."""
        return self.path / "data" / "satellite_views" / "raw" / f"{shot.name}.tif"

    def ortho(self, shot: Shot) -> Path:
        """An ortho-image on the grid of the scene."""
        return self.path / "data" / "satellite_views" / f"{shot.name}.tif"

    @property
    def lists(self) -> Path:
        """The image and pair lists."""
        return self.path / "data" / "image_selection"

    @property
    def configs(self) -> Path:
        """The configurations."""
        return self.path / "configs"

    @property
    def record(self) -> Path:
        """Parameters, cameras and error figures; written last."""
        return self.path / "scene.json"

    @property
    def requests(self) -> Path:
        """What the scene is made from; written first."""
        return self.path / "simulate.json"


def write_lists(folder: SceneFolder, shots: Sequence[Shot], pairs: Sequence[Pair]) -> None:
    """The image list; all pairs, the best first; the best one alone; and the best two."""
    names = [folder.ortho(shot).name for shot in shots]
    lines = [f"{names[pair.first]}, {names[pair.second]}\n" for pair in pairs]
    write_text(folder.lists / "imagelist.txt", "".join(f"../satellite_views/{name}\n" for name in names))
    write_text(folder.lists / "pairlist.txt", "".join(lines))
    write_text(folder.lists / "pairlist_simple.txt", lines[0])
    write_text(folder.lists / "pairlist_generalized.txt", "".join(lines[:2]))


def largest_tile(*sides: int) -> int:
    """The largest tile, a power of two, that fits into an area with such sides."""
    tile = LARGEST_TILE
    while tile > min(sides) and tile > SMALLEST_TILE:
        tile //= 2
    return tile


def as_dataset(data: str, name: str, role: Role, *, pairs: str = "pairlist.txt") -> dict[str, Any]:
    """A scene as a data set of a configuration; where its area is cut is left to say.

    Args:
        data: path of its folder data/.
        name: of the data set.
        role: what it serves for.
        pairs: the pair list to be used.
    """
    dataset: dict[str, Any] = {
        "name": name,
        "raster_in": f"{data}/dsm/initial.tif",
        "raster_gt": f"{data}/dsm/truth.tif",
        "path_image_list": f"{data}/image_selection/imagelist.txt",
    }
    for key in PAIR_LIST_KEYS[role]:
        dataset[key] = f"{data}/image_selection/{pairs}"
    if role == "test":
        dataset |= {f"mask_{kind}": f"{data}/mask/{kind}.tif" for kind in SCENE_MASKS}
    return dataset | {"area_type": role}


def write_configs(folder: SceneFolder, name: str, seed: int, grid: Grid) -> None:
    """Configurations: training on stripes of the scene, and refining another with the model at hand."""
    stripe = round(grid.width / N_STRIPES)
    tile = largest_tile(stripe, grid.height)
    samples = max(FEWEST_SAMPLES, int(grid.height * grid.width * 0.6 / PIXELS_PER_SAMPLE))
    stripes = {"allocation_strategy": "5-crossval_vertical", "test_stripe": 0}
    train = {
        "datasets": [as_dataset("../data", name, "train+val") | stripes],
        "model": {
            "input_channels": "geom-stereo",
            "depth": min(DEEPEST, tile.bit_length() - 3),
            "start_kernel": 16,
        },
        "training_settings": {
            "tile_size": tile,
            "batch_size": 8,
            "n_epochs": 30,
            "n_training_samples": samples,
        },
        "stereopair_settings": {"use_all_stereo_pairs": False, "permute_images_within_pair": True},
        "optimizer": {"learning_rate": 1e-3},
        "scheduler": {"name": "ExponentialLR", "settings": {"gamma": 0.9}},
        "general": {"random_seed": seed},
        "output": {"output_directory": "../logs", "tboard_log_dir": "../logs/tensorboard"},
    }
    tested = as_dataset("../data", name, "test", pairs="pairlist_simple.txt") | stripes
    if tile < SMALLEST_TILE_OF_MODEL:  # the stripes are too narrow for the bundled model
        tested = {key: value for key, value in tested.items() if key not in {*stripes, "area_type"}}
        tile = largest_tile(grid.height, grid.width)
    test = {
        "datasets": [tested],
        "model": {"path": f"../models/{MODEL}"},
        "general": {"tile_size": tile},
        "output": {"directory": "../results"},
    }
    model = folder.path / "models" / MODEL
    model.parent.mkdir(parents=True, exist_ok=True)
    copy_file(TOWN_STEREO, model)
    write_json(folder.configs / "config_train.json", train)
    write_json(folder.configs / "config_test.json", test)
