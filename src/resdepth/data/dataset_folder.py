"""The folder of a data set, as `simulate` and `prepare` write it: rasters, lists and configurations in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resdepth.errors import ResDepthError
from resdepth.geo.windows import N_STRIPES
from resdepth.runtime.atomic import copy_file, remove_leftovers, write_json, write_text, writing
from resdepth.runtime.paths import read_text

Role = Literal["train", "val", "train+val", "test"]

# A training sample for so many pixels of the training stripes, and no fewer than this in all.
PIXELS_PER_SAMPLE, FEWEST_SAMPLES = 1500, 200
EPOCHS = 30
LARGEST_TILE, SMALLEST_TILE, DEEPEST = 256, 16, 5
PAIR_LIST_KEYS: dict[Role, tuple[str, ...]] = {
    "train": ("path_pairlist_training",),
    "val": ("path_pairlist_validation",),
    "train+val": ("path_pairlist_training", "path_pairlist_validation"),
    "test": ("path_pairlist",),
}
SCENE_MASKS = ("ground_truth", "building", "water", "forest")
# Where the model lies in models/.
MODEL = "ResDepth-stereo/model.safetensors"
CHANNELS = ("geom", "geom-mono", "geom-stereo")
"""What a network sees of none, one, and two images."""


@dataclass(frozen=True)
class DatasetFolder:
    """The layout of the authors' demonstration, with the raw images beside the ortho-images.

    Attributes:
        path: of the data set.
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
        """What only the making of it needs; gone at the end."""
        return self.path / "unfinished"

    @property
    def initial(self) -> Path:
        """The initial DSM."""
        return self.path / "data" / "dsm" / "initial.tif"

    @property
    def reference(self) -> Path:
        """The reference DSM."""
        return self.path / "data" / "dsm" / "reference.tif"

    def mask(self, name: str) -> Path:
        """A mask: building, water, forest, ground_truth, void."""
        return self.path / "data" / "mask" / f"{name}.tif"

    def quality(self, name: str) -> Path:
        """A quality layer of the initial DSM: correlation, triangulation_error."""
        return self.path / "data" / "quality" / f"{name}.tif"

    def raw_image(self, name: str) -> Path:
        """A raw image, with its RPC."""
        return self.path / "data" / "satellite_views" / "raw" / f"{name}.tif"

    def ortho_image(self, name: str) -> Path:
        """An ortho-image on the grid of the data set."""
        return self.path / "data" / "satellite_views" / f"{name}.tif"

    @property
    def images(self) -> list[Path]:
        """What the initial DSM is refined with: the raw images, or else the ortho-images, as listed."""
        try:
            listed = read_text(self.lists / "imagelist.txt").splitlines()
        except ResDepthError:
            return []
        names = [Path(line).stem for line in listed if line.strip()]
        raw = [self.raw_image(name) for name in names]
        there = all(path.is_file() for path in raw)
        return raw if there else [self.ortho_image(name) for name in names]

    @property
    def refined(self) -> dict[str, Path]:
        """The refined DSMs in its results, by name: of `refine` and of `test`.

        Raises:
            ResDepthError: if there is none.
        """
        results = self.path / "results"
        found = [results / "refined.tif", *sorted(results.glob("**/*_prediction.tif"))]
        there = {
            "refined" if path.parent == results else f"test_{path.parent.name}": path
            for path in found
            if path.is_file()
        }
        if not there:
            raise ResDepthError(
                f"{results}: holds no refined DSM; first refine the data set (resdepth refine)"
            )
        return there

    @property
    def evaluation(self) -> Path:
        """The folder of their evaluation."""
        return self.path / "evaluation"

    @property
    def lists(self) -> Path:
        """The image and pair lists."""
        return self.path / "data" / "image_selection"

    @property
    def configs(self) -> Path:
        """The configurations."""
        return self.path / "configs"


def dataset_in(path: Path) -> DatasetFolder | None:
    """The data set that `simulate` or `prepare` has made in a folder; None if the path is no such folder."""
    folder = DatasetFolder(path)
    return folder if folder.initial.is_file() and folder.configs.is_dir() else None


def config_in(path: Path, kind: Literal["train", "test"]) -> Path:
    """The configuration in the folder of a data set; any other path as it is.

    Raises:
        ResDepthError: if the data set has none of this kind.
    """
    if dataset_in(path) is None:
        return path
    config = path / "configs" / f"config_{kind}.json"
    if not config.is_file():
        needs = {"train": "a reference DSM", "test": "two images, and enough pixels for the bundled model"}
        raise ResDepthError(f"{path}: has no configs/config_{kind}.json; the data set lacks {needs[kind]}")
    return config


def write_lists(folder: DatasetFolder, images: Sequence[str], pairs: Sequence[tuple[int, int]]) -> None:
    """The image list; all pairs, the best first; the best one alone; and the best two.

    Args:
        folder: of the data set.
        images: names of the ortho-images, without suffix.
        pairs: of them, by their indices, best first; of one image there is none, and it stands alone.
    """
    names = [folder.ortho_image(image).name for image in images]
    lines = [f"{names[first]}, {names[second]}\n" for first, second in pairs]
    if len(names) == 1:
        lines = [f"{names[0]},\n"]
    write_text(folder.lists / "imagelist.txt", "".join(f"../satellite_views/{name}\n" for name in names))
    write_text(folder.lists / "pairlist.txt", "".join(lines))
    write_text(folder.lists / "pairlist_simple.txt", "".join(lines[:1]))
    write_text(folder.lists / "pairlist_generalized.txt", "".join(lines[:2]))


def largest_tile(*sides: int) -> int:
    """The largest tile, a power of two, that fits into an area with such sides."""
    tile = LARGEST_TILE
    while tile > min(sides) and tile > SMALLEST_TILE:
        tile //= 2
    return tile


def as_dataset(
    data: str, name: str, role: Role, *, pairs: str = "pairlist.txt", masks: Sequence[str] = SCENE_MASKS
) -> dict[str, Any]:
    """A scene as a data set of a configuration; where its area is cut is left to say.

    Args:
        data: path of its folder data/.
        name: of the data set.
        role: what it serves for.
        pairs: the pair list to be used.
        masks: those that it has, of SCENE_MASKS.
    """
    dataset: dict[str, Any] = {
        "name": name,
        "raster_in": f"{data}/dsm/initial.tif",
        "raster_gt": f"{data}/dsm/reference.tif",
        "path_image_list": f"{data}/image_selection/imagelist.txt",
    }
    for key in PAIR_LIST_KEYS[role]:
        dataset[key] = f"{data}/image_selection/{pairs}"
    if role == "test":
        dataset |= {f"mask_{kind}": f"{data}/mask/{kind}.tif" for kind in masks}
    return dataset | {"area_type": role}


def training_config(
    name: str, seed: int, shape: tuple[int, int], *, images: int = 2
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A configuration that trains on stripes of the data set, the stripes, and the side of its tiles.

    Args:
        name: of the data set.
        seed: of everything random.
        shape: rows and columns of its rasters.
        images: how many a network is to see, 0 to 2.
    """
    height, width = shape
    tile = largest_tile(round(width / N_STRIPES), height)
    stripes = {"allocation_strategy": "5-crossval_vertical", "test_stripe": 0}
    train = {
        "datasets": [_seen(as_dataset("../data", name, "train+val"), images) | stripes],
        "model": {
            "input_channels": CHANNELS[images],
            "depth": min(DEEPEST, tile.bit_length() - 3),
            "start_kernel": 16,
        },
        "training_settings": {
            "tile_size": tile,
            "batch_size": 8,
            "n_epochs": EPOCHS,
            "remove_bias": True,
            "n_training_samples": max(FEWEST_SAMPLES, int(height * width * 0.6 / PIXELS_PER_SAMPLE)),
        },
        "stereopair_settings": {"use_all_stereo_pairs": False, "permute_images_within_pair": True},
        "optimizer": {"learning_rate": 1e-3},
        "scheduler": {"name": "ExponentialLR", "settings": {"gamma": 0.9}},
        "general": {"random_seed": seed},
        "output": {"output_directory": "../logs", "tboard_log_dir": "../logs/tensorboard"},
    }
    return train, stripes, tile


def _seen(dataset: dict[str, Any], images: int) -> dict[str, Any]:
    """The data set without image and pair lists, if no image is seen."""
    return dataset if images else {key: value for key, value in dataset.items() if "list" not in key}


def write_configs(
    folder: DatasetFolder,
    name: str,
    seed: int,
    shape: tuple[int, int],
    model: Path,
    smallest_tile: int,
) -> None:
    """Configurations: training on stripes of the scene, and refining another with the model at hand.

    Args:
        folder: of the data set.
        name: of the data set.
        seed: of everything random.
        shape: rows and columns of its rasters.
        model: what refines pairs of ortho-images; it is copied into the folder.
        smallest_tile: that the model takes.
    """
    train, stripes, tile = training_config(name, seed, shape)
    tested = as_dataset("../data", name, "test", pairs="pairlist_simple.txt") | stripes
    if tile < smallest_tile:  # the stripes are too narrow for the model
        tested = {key: value for key, value in tested.items() if key not in {*stripes, "area_type"}}
        tile = largest_tile(*shape)
    copied = folder.path / "models" / MODEL
    copied.parent.mkdir(parents=True, exist_ok=True)
    copy_file(model, copied)
    write_json(folder.configs / "config_train.json", train)
    write_json(folder.configs / "config_test.json", testing_config(tested, tile))


def testing_config(tested: dict[str, Any], tile: int) -> dict[str, Any]:
    """A configuration that refines a data set with the model in the folder, in tiles of such a side."""
    return {
        "datasets": [tested],
        "model": {"path": f"../models/{MODEL}"},
        "general": {"tile_size": tile},
        "output": {"directory": "../results"},
    }
