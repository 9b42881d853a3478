"""A walk through broken input: every kind is refused, the message says where, and nothing is written."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from conftest import MadeScene, make_model, make_scene, write_published_run, write_raster
from resdepth.cli import main
from resdepth.models.model import METADATA_KEY, save_model
from resdepth.workflows.check import check

Command = Literal["train", "test"]
ABSENT = object()


@dataclass(frozen=True)
class Ground:
    """A sound scene with sound models, to be spoilt.

    Attributes:
        scene: its rasters and lists.
        configs: a training and a test configuration that name them.
    """

    scene: MadeScene
    configs: dict[str, dict[str, Any]]

    @property
    def folder(self) -> Path:
        return self.scene.folder

    def write(self, command: Command) -> Path:
        return self.scene.write(self.configs[command])

    def set(self, command: Command, key: str, value: Any) -> None:
        """Give a key (`datasets.0.name`) another value, or take it out (ABSENT)."""
        holder: Any = self.configs[command]
        *parents, name = (int(part) if part.isdigit() else part for part in key.split("."))
        for part in parents:
            holder = holder[part] if isinstance(holder, list) else holder.setdefault(part, {})
        if value is ABSENT:
            del holder[name]
        else:
            holder[name] = value


@pytest.fixture(scope="session")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    make_scene(folder, 64, 160)
    model = make_model()
    write_published_run(folder / "run", model)
    save_model(model, folder / "model.safetensors")
    save_model(make_model(depth=3), folder / "deep.safetensors")
    write_raster(folder / "small.tif", np.zeros((8, 8), np.uint8))
    (folder / "gone.txt").write_text("ortho1.tif\ngone/ortho2.tif\northo3.tif\n")
    return folder


@pytest.fixture
def ground(tmp_path: Path, sound_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    folder = Path(shutil.copytree(sound_folder, tmp_path / "scene"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    nothing = np.empty(0)
    return Ground(MadeScene(folder, nothing, nothing, []), configs_for(folder))


def configs_for(folder: Path) -> dict[str, dict[str, Any]]:
    """A sound training and a sound test configuration."""
    nothing = np.empty(0)
    scene = MadeScene(folder, nothing, nothing, [])
    model = {
        "weights": "run/checkpoints/Model_best.pth",
        "architecture": "run/model_config.json",
        "normalization_geom": "run/DSM_normalization_parameters.p",
        "normalization_image": "run/Image_normalization_parameters.p",
    }
    return {"train": scene.train_config(), "test": scene.test_config(model)}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder: when it was changed, and what is in it."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@dataclass(frozen=True)
class Kind:
    """One kind of broken input.

    Attributes:
        command: which command is to refuse it, beside `check`.
        spoil: breaks the ground, and gives the configuration file.
        stated: words of the message: key, value, file, advice.
    """

    command: Command
    spoil: Callable[[Ground], Path]
    stated: tuple[str, ...]


def text(content: str | bytes, *stated: str) -> Kind:
    """A configuration file that holds this."""

    def spoil(ground: Ground) -> Path:
        path = ground.folder / "config.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return Kind("train", spoil, ("config.json", *stated))


def value(command: Command, key: str, new: Any, *stated: str) -> Kind:
    """A configuration with another value under one key."""

    def spoil(ground: Ground) -> Path:
        ground.set(command, key, new)
        return ground.write(command)

    return Kind(command, spoil, (f"config.json: {key.replace('.0', '[0]')}:", *stated))


def values(command: Command, changes: dict[str, Any], *stated: str) -> Kind:
    """A configuration with several changed values, which do not go together."""

    def spoil(ground: Ground) -> Path:
        for key, new in changes.items():
            ground.set(command, key, new)
        return ground.write(command)

    return Kind(command, spoil, stated)


def file(command: Command, key: str, name: str, spoil_file: Callable[[Path], object], *stated: str) -> Kind:
    """A file that is spoilt, and the key that leads to it."""

    def spoil(ground: Ground) -> Path:
        spoil_file(ground.folder / name)
        return ground.write(command)

    return Kind(command, spoil, (f"config.json: {key}: ", Path(name).name, *stated))


def contents(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def cut(keep: float) -> Callable[[Path], object]:
    """Only the first part of a file."""
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def raster(**changes: Any) -> Callable[[Path], object]:
    """Another raster: `crop` rows and columns of it, other georeference, other type."""

    def spoil(path: Path) -> None:
        with rasterio.open(path) as dataset:
            values = dataset.read(1)
        height, width = changes.get("crop", values.shape)
        dtype = changes.get("dtype", values.dtype)
        options = {name: value for name, value in changes.items() if name not in ("crop", "dtype")}
        write_raster(path, values[:height, :width].astype(dtype), **options)

    return spoil


def unit(name: str, crs: str = "EPSG:32632") -> Callable[[Path], object]:
    """The same raster with another unit of its band."""

    def spoil(path: Path) -> None:
        raster(crs=crs)(path)
        with rasterio.open(path, "r+") as dataset:
            dataset.units = (name,)

    return spoil


def hole(value: float) -> Callable[[Path], object]:
    """A void in the training region, marked by this value."""

    def spoil(path: Path) -> None:
        with rasterio.open(path, "r+") as dataset:
            values = dataset.read(1)
            values[20:23, 4:8] = value
            dataset.write(values, 1)

    return spoil


def hole_in_mask(path: Path) -> None:
    with rasterio.open(path) as dataset:
        values = dataset.read(1)
    valid = np.full(values.shape, 255, np.uint8)
    valid[20:23, 4:8] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_raster(path, values)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)


class Attack:
    """Pickled, it makes a file when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("attacked",))


def pickled(content: object) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(pickle.dumps(content))


def checkpoint(content: object) -> Callable[[Path], object]:
    return lambda path: torch.save(content, path)


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """A JSON file with a change."""

    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def weights_of(**settings: Any) -> Callable[[Path], object]:
    """A checkpoint of another network."""

    def spoil(path: Path) -> None:
        torch.save({"model_state_dict": dict(make_model(**settings).weights)}, path)

    return spoil


def stored(metadata: dict[str, Any] | None, **changes: Any) -> Callable[[Path], object]:
    """A .safetensors file with other metadata; `changes` go into sound ones."""

    def spoil(path: Path) -> None:
        described = {
            "format": 1,
            "architecture": {
                "name": "UNet",
                "input_channels": "geom-stereo",
                "settings": dict(make_model().architecture.settings),
            },
            "normalization": {"height_sigma": 2.5, "image_mean": 350.0, "image_std": 60.0},
            "provenance": {},
        }
        stated = {METADATA_KEY: json.dumps(described | changes)} if metadata is None else metadata
        save_file(dict(make_model().weights), path, metadata=stated)

    return spoil


SYNTAX = {
    "an empty file": text("", "line 1"),
    "a configuration that breaks off": text('{"datasets": [{"raster_in": "a', "line 1"),
    "a trailing comma": text('{"datasets": [],\n}', "line 2"),
    "a key twice": text('{"output": {}, "output": {}}', "'output' occurs twice"),
    "NaN": text('{"datasets": NaN}', "NaN is not a number"),
    "an infinite number": text('{"optimizer": {"learning_rate": 1e999}}', "1e999"),
    "a list instead of an object": text("[]", "expected an object"),
    "a number instead of an object": text("7", "expected an object"),
    "binary noise": text(bytes(range(256)), "UTF-8"),
    "Latin-1": text('{"output": {"output_directory": "Zürich"}}'.encode("latin-1"), "UTF-8"),
    "UTF-16": text('{"output": {}}'.encode("utf-16"), "UTF-8"),
    "half a character": text('{"output": {"output_directory": "\\ud800"}}', "half a character"),
    "too deep nesting": text('{"datasets":' * 60 + "1" + "}" * 60, "levels deep"),
    "a bomb of brackets": text("[" * 100_000, "levels deep"),
    "a raster instead of a configuration": text(b"II*\x00" + bytes(17_000_000), "MiB"),
    "an absent configuration": Kind(
        "train", lambda ground: ground.folder / "config.json", ("config.json", "no such file")
    ),
    "a folder instead of a configuration": Kind("test", lambda ground: ground.folder, ("scene", "directory")),
    "a configuration behind a circle of links": Kind(
        "train", lambda ground: _circle(ground.folder / "config.json"), ("config.json", "symbolic links")
    ),
    "no keys at all": text("{}", "config.json: datasets: missing", "config.json: output: missing"),
}


def _circle(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


KEYS = {
    "an unknown section": value("train", "requests", {}, "unknown key", "training_settings"),
    "a misspelt section": value("train", "optimiser", {"name": "SGD"}, "did you mean 'optimizer'?"),
    "a misspelt key": value("train", "training_settings.tilesize", 16, "did you mean 'tile_size'?"),
    "a misspelt key of a data set": value("train", "datasets.0.raster_inn", "x", "did you mean 'raster_in'?"),
    "a misspelt key of a test": value("test", "general.tile_sizes", 16, "did you mean 'tile_size'?"),
    "a key in the wrong section": value("train", "model.batch_size", 4, "belongs to 'training_settings'"),
    "a key of training in a test": value("test", "general.random_seed", 4, "unknown key"),
    "a wrong letter case": value("train", "model.DEPTH", 2, "did you mean 'depth'?"),
    "a missing section": value("train", "output", ABSENT, "missing"),
    "no data sets": value("train", "datasets", ABSENT, "missing"),
    "an empty list of data sets": value("train", "datasets", [], "should not be empty"),
    "null for the data sets": value("train", "datasets", None, "found null", "should be a list"),
    "an object for the data sets": value("test", "datasets", {}, "found {}", "should be a list"),
    "a number for a data set": value("train", "datasets.0", 3, "found 3", "should be an object"),
    "a missing raster": value("train", "datasets.0.raster_gt", ABSENT, "missing", "reference DSM"),
    "a missing area type": value("train", "datasets.0.area_type", ABSENT, "missing"),
    "a missing output": value("train", "output.tboard_log_dir", ABSENT, "missing"),
    "a missing model": value("test", "model", ABSENT, "missing"),
    "missing weights": value("test", "model.weights", ABSENT, "missing"),
    "missing image normalisation": value("test", "model.normalization_image", ABSENT, "missing"),
    "a text for a section": value("train", "model", "x", 'found "x"', "should be an object"),
    "a text for a number": value("train", "training_settings.batch_size", "4", 'found "4"', "whole number"),
    "true for a number": value("train", "training_settings.n_epochs", True, "found true", "whole number"),
    "a fraction for a number": value("train", "model.depth", 2.0, "found 2.0", "whole number"),
    "a number for true": value("train", "model.outer_skip", 1, "found 1", "true or false"),
    "a number for a path": value("train", "datasets.0.raster_in", 5, "found 5", "text"),
    "a list for a learning rate": value("train", "optimizer.learning_rate", [1], "found [1]", "number"),
    "a list for scheduler settings": value("train", "scheduler.settings", [], "should be an object"),
    "an empty path": value("train", "datasets.0.raster_in", "", 'found ""', "path"),
    "a control character in a path": value("test", "output.directory", "a\x00b", "control characters"),
    "zero samples": value("train", "datasets.0.n_training_samples", 0, "found 0", "greater than 0"),
    "a negative number of workers": value("train", "general.workers", -1, "found -1"),
    "an enormous number": value("train", "training_settings.n_epochs", 10**30, "less than or equal"),
    "an enormous seed": value("train", "general.random_seed", 2**64, "less than or equal"),
    "a learning rate of zero": value("train", "optimizer.learning_rate", 0, "greater than 0"),
    "a negative weight decay": value("train", "optimizer.weight_decay", -0.1, "found -0.1"),
    "a sixth stripe": value("train", "datasets.0.test_stripe", 5, "found 5", "less than or equal to 4"),
    "a depth of zero": value("train", "model.depth", 0, "found 0"),
    "a tile that is no power of two": value("train", "training_settings.tile_size", 48, "power of two"),
    "a tile that is too small": value("test", "general.tile_size", 8, "found 8", "16"),
    "a tile that is too large": value("train", "training_settings.tile_size", 4096, "2048"),
    "a tile too small for the depth": values(
        "train", {"model.depth": 5}, "config.json: training_settings.tile_size: found 16", "128"
    ),
    "a tile too small for the model": values(
        "test",
        {"model": {"path": "deep.safetensors"}},
        "config.json: general.tile_size: found 16",
        "depth 3 needs 32",
    ),
    "an unknown variant": value("train", "model.input_channels", "geom-sterio", "mean 'geom-stereo'?"),
    "an unknown activation": value("train", "model.act_fn_encoder", "elu", "relu, lrelu, prelu"),
    "an unknown strategy": value(
        "test", "datasets.0.allocation_strategy", "5-crosval_vertical", "mean '5-crossval_vertical'?"
    ),
    "an unknown optimizer": value("train", "optimizer.name", "adam", "did you mean 'Adam'?"),
    "an unknown device": value("train", "general.device", "gpu", 'found "gpu"', "cuda"),
    "a device that is not here": value("test", "general.device", "mps", "not available"),
    "a slash in a suffix": value("train", "output.suffix", "a/b", 'found "a/b"', "slash"),
    "a result folder that climbs": value("test", "datasets.0.name", "..", 'found ".."'),
    "an ending of another file": value("test", "model.weights", "run/model.h5", "should end in .pth"),
    "a list that does not end in .txt": value("train", "datasets.0.path_image_list", "imagelist.csv", ".txt"),
}

RULES = {
    "nobody validates": values(
        "train", {"datasets.0.area_type": "train"}, "config.json: datasets: no data set validates"
    ),
    "'entire' for both": value("train", "datasets.0.allocation_strategy", "entire", "cannot both"),
    "no list of images": value("train", "datasets.0.path_image_list", ABSENT, "missing"),
    "no pairs to validate": value("train", "datasets.0.path_pairlist_validation", ABSENT, "missing"),
    "no pairs to refine with": value("test", "datasets.0.path_pairlist", ABSENT, "missing"),
    "cross-validation of nothing": values(
        "test",
        {"datasets.0.crossval_training": True},
        "config.json: datasets[0].area_type: cross-validation",
    ),
    "cross-validation without validation": values(
        "train",
        {"datasets.0.crossval_training": True, "datasets.0.area_type": "train"},
        "config.json: datasets[0].area_type: cross-validation needs 'train+val'",
    ),
    "an outer skip without DSM": values(
        "train",
        {"model.input_channels": "stereo"},
        "config.json: model.outer_skip",
    ),
    "stripes without a stripe": value("test", "datasets.0.test_stripe", ABSENT, "mandatory"),
    "a model twice": values(
        "test", {"model.path": "model.safetensors"}, "config.json: model: found path and weights", "either"
    ),
    "relief to be stretched without a DSM": values(
        "train",
        {
            "model.input_channels": "stereo",
            "model.outer_skip": False,
            "training_settings.height_stretch": 2.0,
        },
        "config.json: training_settings.height_stretch: should be 1 for input_channels 'stereo'",
    ),
    "relief to be flattened": value("train", "training_settings.height_stretch", 0.5, "found 0.5"),
    "two data sets of one name": Kind(
        "test",
        lambda ground: with_two_datasets(ground),  # noqa: PLW0108 - defined below
        ("config.json: datasets[1].name: 'small' occurs twice",),
    ),
    "an unknown scheduler setting": value("train", "scheduler.settings.steps", 5, "unknown", "step_size"),
    "a step of the wrong type": value("train", "scheduler.settings.step_size", "5", "found '5'"),
    "a step of zero": value("train", "scheduler.settings.step_size", 0, "positive"),
    "a scheduler without its setting": values(
        "train",
        {"scheduler": {"name": "ExponentialLR"}},
        "config.json: scheduler.settings.gamma: missing",
    ),
    "settings of another scheduler": values(
        "train",
        {"scheduler.name": "ReduceLROnPlateau"},
        "config.json: scheduler.settings.step_size: unknown",
    ),
}


def with_two_datasets(ground: Ground) -> Path:
    datasets = ground.configs["test"]["datasets"]
    datasets.append(datasets[0])
    return ground.write("test")


IMAGES, PAIRS = "datasets[0].path_image_list", "datasets[0].path_pairlist_training"
LISTS = {
    "an absent image list": file("train", IMAGES, "imagelist.txt", Path.unlink, "no such file"),
    "an image list that is a folder": file("train", IMAGES, "imagelist.txt", folder_instead, "directory"),
    "an empty image list": file("train", IMAGES, "imagelist.txt", contents(" \n\n"), "empty"),
    "an image list in Latin-1": file("train", IMAGES, "imagelist.txt", contents(b"ortho\xfc.tif"), "UTF-8"),
    "a raster as image list": file("train", IMAGES, "imagelist.txt", contents(bytes(17_000_000)), "MiB"),
    "an image twice": file(
        "train",
        IMAGES,
        "imagelist.txt",
        contents("ortho1.tif\northo2.tif\northo3.tif\na/ortho1.tif"),
        "2 times",
    ),
    "an image that is not there": values(
        "train",
        {"datasets.0.path_image_list": "gone.txt"},
        f"config.json: {IMAGES}: ",
        "gone/ortho2.tif: no such file",
    ),
    "an absent pair list": file("train", PAIRS, "pairs.txt", Path.unlink, "no such file"),
    "an empty pair list": file("train", PAIRS, "pairs.txt", contents("\n"), "empty"),
    "commas only": file("train", PAIRS, "pairs.txt", contents(", ,\n"), "line 1", "names 0 images"),
    "an unknown image": file(
        "train", PAIRS, "pairs.txt", contents("ortho1.tif, ortho9.tif"), "line 1", "ortho9.tif", "ortho4.tif"
    ),
    "a part of an image's name": file(
        "train",
        PAIRS,
        "pairs.txt",
        contents("ortho1, ortho2.tif"),
        "line 1",
        "line 1: ortho1: not in the image list",
    ),
    "three images for a pair": file(
        "train",
        PAIRS,
        "pairs.txt",
        contents("ortho1.tif,ortho2.tif,ortho3.tif"),
        "line 1",
        "names 3 images",
        "takes 2",
    ),
    "one image for a pair": file(
        "train", PAIRS, "pairs.txt", contents("\northo1.tif,\n"), "line 2", "names 1 images", "takes 2"
    ),
    "a pair of one image": file(
        "test",
        "datasets[0].path_pairlist",
        "pairs.txt",
        contents("ortho1.tif, ortho1.tif"),
        "line 1",
        "twice",
    ),
}

DSM, REFERENCE = "datasets[0].raster_in", "datasets[0].raster_gt"
RASTERS = {
    "an absent DSM": file("train", DSM, "initial.tif", Path.unlink, "no such file"),
    "an absent reference": file("test", REFERENCE, "reference.tif", Path.unlink, "no such file"),
    "a text as DSM": file("train", DSM, "initial.tif", contents("400.0"), "raster"),
    "a folder as DSM": file("train", DSM, "initial.tif", folder_instead, "raster"),
    "an empty file as reference": file("train", REFERENCE, "reference.tif", contents(""), "raster"),
    "a DSM that breaks off": file("train", DSM, "initial.tif", cut(0.5), "complete"),
    "a reference that breaks off": file("train", REFERENCE, "reference.tif", cut(0.5), "complete"),
    "an image that breaks off": file("test", IMAGES, "ortho1.tif", cut(0.5), "complete"),
    "another CRS": file(
        "train", REFERENCE, "reference.tif", raster(crs="EPSG:32633"), "EPSG:32633", "EPSG:32632"
    ),
    "a unit that is no length": file("train", DSM, "initial.tif", unit("reflectance"), "no known unit"),
    "a unit against the CRS": file(
        "train",
        REFERENCE,
        "reference.tif",
        unit("metre", "EPSG:32632+6360"),
        "US survey foot",
        "gdal_edit.py",
    ),
    "depths": file("test", DSM, "initial.tif", raster(crs="EPSG:32632+5715"), "counts depths"),
    "another origin": file(
        "train", REFERENCE, "reference.tif", raster(origin=(465000.5, 5248000.0)), "465000.5"
    ),
    "another pixel size": file("train", IMAGES, "ortho2.tif", raster(gsd=0.25), "pixel size (0.25"),
    "another size": file("train", IMAGES, "ortho2.tif", raster(crop=(64, 159)), "64 x 159", "64 x 160"),
    "complex heights": file("train", DSM, "initial.tif", raster(dtype=np.complex64), "complex64"),
    "a void in the DSM, by nodata": file("train", DSM, "initial.tif", hole(-9999), "12 of", "void"),
    "a void in the DSM, as NaN": file("train", DSM, "initial.tif", hole(np.nan), "12 of", "fill"),
    "a void in the DSM, as infinity": file("train", DSM, "initial.tif", hole(np.inf), "12 of"),
    "a void in the DSM, by a mask": file("train", DSM, "initial.tif", hole_in_mask, "12 of"),
    "regions smaller than a tile": values(
        "train",
        {"training_settings.tile_size": 64},
        "config.json: datasets[0].raster_in: a region of 64 x 32 pixels",
        "training_settings.tile_size is 64",
    ),
    "a test region smaller than a tile": values(
        "test",
        {"general.tile_size": 64},
        "config.json: datasets[0].raster_in: a region of 64 x 32 pixels",
        "general.tile_size is 64",
    ),
    "more samples than places": value(
        "train", "datasets.0.n_training_samples", 10_000, "10000 patches", "only 3234 places"
    ),
    "a mask on another grid": values(
        "test",
        {"datasets.0.mask_building": "small.tif"},
        "config.json: datasets[0].mask_building: ",
        "small.tif: size 8 x 8 instead of 64 x 160",
    ),
    "an absent mask": value("test", "datasets.0.mask_ground_truth", "gone.tif", "gone.tif", "no such file"),
}

WEIGHTS, PTH = "model.weights", "run/checkpoints/Model_best.pth"
DESIGN, DESIGN_FILE = "model.architecture", "run/model_config.json"
HEIGHTS, HEIGHTS_FILE = "model.normalization_geom", "run/DSM_normalization_parameters.p"
GREYS, GREYS_FILE = "model.normalization_image", "run/Image_normalization_parameters.p"
MODELS = {
    "absent weights": file("test", WEIGHTS, PTH, Path.unlink, "no such file"),
    "weights that are a folder": file("test", WEIGHTS, PTH, folder_instead, "folder"),
    "weights that break off": file("test", WEIGHTS, PTH, cut(0.7), "checkpoint"),
    "empty weights": file("test", WEIGHTS, PTH, contents(""), "checkpoint"),
    "weights with an attack": file(
        "test", WEIGHTS, PTH, checkpoint({"epoch": Attack()}), "nothing was run", "mkdir"
    ),
    "a bare pickle with an attack": file("test", WEIGHTS, PTH, pickled(Attack()), "nothing was run"),
    "a checkpoint without weights": file("test", WEIGHTS, PTH, checkpoint({"epoch": 1}), "model_state_dict"),
    "a checkpoint of numbers": file(
        "test", WEIGHTS, PTH, checkpoint({"model_state_dict": {"a": 1}}), "'a' is no array"
    ),
    "a bare tensor": file("test", WEIGHTS, PTH, checkpoint(torch.zeros(3)), "model_state_dict"),
    "weights of a wider network": file(
        "test", WEIGHTS, PTH, weights_of(start_kernel=8), "do not fit", "shape"
    ),
    "weights of a deeper network": file("test", WEIGHTS, PTH, weights_of(depth=3), "not part of the network"),
    "weights that are not finite": file(
        "test",
        WEIGHTS,
        PTH,
        checkpoint(
            {
                "model_state_dict": {
                    name: value / 0 if value.is_floating_point() else value
                    for name, value in make_model().weights.items()
                }
            }
        ),
        "finite",
    ),
    "an absent architecture": file("test", DESIGN, DESIGN_FILE, Path.unlink, "no such file"),
    "an architecture that breaks off": file("test", DESIGN, DESIGN_FILE, cut(0.5), "line"),
    "an architecture that is a list": file("test", DESIGN, DESIGN_FILE, contents("[]"), "object"),
    "an architecture without settings": file(
        "test", DESIGN, DESIGN_FILE, edited(lambda design: design.pop("settings")), "settings: missing"
    ),
    "an unknown network": file(
        "test",
        DESIGN,
        DESIGN_FILE,
        edited(lambda design: design.update(name="VNet")),
        'name: found "VNet"',
        "UNet",
    ),
    "an unknown network setting": file(
        "test",
        DESIGN,
        DESIGN_FILE,
        edited(lambda design: design["settings"].update(kernel=3)),
        "settings.kernel: unknown key",
        "start_kernel",
    ),
    "a network of endless depth": file(
        "test",
        DESIGN,
        DESIGN_FILE,
        edited(lambda design: design["settings"].update(depth=10**9)),
        "settings.depth: found 1000000000",
    ),
    "a network of endless width": file(
        "test",
        WEIGHTS,
        DESIGN_FILE,
        edited(lambda design: design["settings"].update(start_kernel=10**6, max_filter_depth=10**6)),
        "do not fit",
    ),
    "a network with other channels": file(
        "test",
        DESIGN,
        DESIGN_FILE,
        edited(lambda design: design["settings"].update(n_input_channels=2)),
        "n_input_channels",
        "geom-stereo",
    ),
    "an absent height scale": file("test", HEIGHTS, HEIGHTS_FILE, Path.unlink, "no such file"),
    "a height scale with an attack": file(
        "test", HEIGHTS, HEIGHTS_FILE, pickled({"mean": None, "std": Attack()}), "nothing was run", "mkdir"
    ),
    "a height scale that is no pickle": file("test", HEIGHTS, HEIGHTS_FILE, contents("2.5"), "pickle"),
    "a height scale that breaks off": file("test", HEIGHTS, HEIGHTS_FILE, cut(0.5), "pickle"),
    "a height scale of zero": file(
        "test", HEIGHTS, HEIGHTS_FILE, pickled({"mean": None, "std": 0.0}), "std: found 0.0"
    ),
    "a height scale that is a text": file(
        "test", HEIGHTS, HEIGHTS_FILE, pickled({"mean": None, "std": "2.5"}), "std: found a str"
    ),
    "an endless height scale": file(
        "test", HEIGHTS, HEIGHTS_FILE, pickled({"mean": None, "std": 10**400}), "std: found a int"
    ),
    "other keys in a pickle": file("test", HEIGHTS, HEIGHTS_FILE, pickled({"sigma": 2.5}), "'std'"),
    "a list in a pickle": file("test", GREYS, GREYS_FILE, pickled([1.0, 2.0]), "holds a list"),
    "a pickle that is too large": file("test", GREYS, GREYS_FILE, contents(bytes(5000)), "right file"),
    "no mean grey value": file("test", GREYS, GREYS_FILE, pickled({"mean": None, "std": 2.0}), "mean"),
    "a mean that is not finite": file(
        "test", GREYS, GREYS_FILE, pickled({"mean": float("nan"), "std": 2.0}), "mean: found nan"
    ),
}


def with_model_file(kind: Kind) -> Kind:
    """The same for a test configuration that names model.safetensors."""

    def spoil(ground: Ground) -> Path:
        ground.configs["test"]["model"] = {"path": "model.safetensors"}
        return kind.spoil(ground)

    return replace(kind, spoil=spoil)


MODEL, MODEL_FILE = "model.path", "model.safetensors"
MODEL_FILES = {
    name: with_model_file(kind)
    for name, kind in {
        "an absent model file": file("test", MODEL, MODEL_FILE, Path.unlink, "no such file"),
        "a model file that is a folder": file("test", MODEL, MODEL_FILE, folder_instead, "folder"),
        "a model file that breaks off": file("test", MODEL, MODEL_FILE, cut(0.5), "readable"),
        "a text as model file": file("test", MODEL, MODEL_FILE, contents("hello"), "readable"),
        "a pickle as model file": file("test", MODEL, MODEL_FILE, pickled(Attack()), "readable"),
        "a model file without description": file("test", MODEL, MODEL_FILE, stored({}), "convert-model"),
        "a model file of a newer version": file("test", MODEL, MODEL_FILE, stored(None, format=2), "newer"),
        "a broken description": file("test", MODEL, MODEL_FILE, stored({METADATA_KEY: "{"}), "damaged"),
        "a description of nothing": file(
            "test", MODEL, MODEL_FILE, stored({METADATA_KEY: "{}"}), "resdepth.architecture: missing"
        ),
        "a model without height scale": file(
            "test",
            MODEL,
            MODEL_FILE,
            stored(None, normalization={"height_sigma": 0}),
            "height_sigma: found 0",
        ),
        "a model without grey values": file(
            "test", MODEL, MODEL_FILE, stored(None, normalization={"height_sigma": 1.0}), "image_mean"
        ),
        "a model of another network": file(
            "test",
            MODEL,
            MODEL_FILE,
            stored(
                None,
                architecture={
                    "name": "UNet",
                    "input_channels": "geom-stereo",
                    "settings": {"n_input_channels": 3, "depth": 4, "start_kernel": 4},
                },
            ),
            "do not fit",
        ),
    }.items()
}


def resumes_from(content: Callable[[Path], object], *stated: str) -> Kind:
    """A training that resumes from a checkpoint."""

    def spoil(ground: Ground) -> Path:
        content(ground.folder / PTH)
        ground.set("train", "model.pretrained_path", PTH)
        return ground.write("train")

    return Kind("train", spoil, ("config.json: model.pretrained_path: ", "Model_best.pth", *stated))


RESUMING = {
    "an absent checkpoint": resumes_from(Path.unlink, "no such file"),
    "a checkpoint that breaks off": resumes_from(cut(0.5), "checkpoint"),
    "a checkpoint with an attack": resumes_from(checkpoint(Attack()), "nothing was run"),
    "a checkpoint of another network": resumes_from(weights_of(start_kernel=8), "do not fit"),
}

PLACES = {
    "an output that is a file": value("train", "output.output_directory", "initial.tif", "initial.tif is no"),
    "an output below a file": value("train", "output.tboard_log_dir", "/dev/null/logs", "/dev/null is no"),
    "results that are a file": value("test", "output.directory", "initial.tif", "is no folder"),
    "an output with an endless name": value("train", "output.output_directory", "x" * 300, "longer than"),
    "a result folder that is a file": values(
        "test",
        {"output.directory": "run", "datasets.0.name": "model_config.json"},
        "config.json: datasets[0].name: ",
        "model_config.json is no folder",
    ),
    "a path with an endless name": value("train", "datasets.0.raster_in", "x" * 300, "no such file"),
    "a home of nobody": value("train", "datasets.0.raster_gt", "~nobody-here/x.tif", "no such file"),
}

KINDS = SYNTAX | KEYS | RULES | LISTS | RASTERS | MODELS | MODEL_FILES | RESUMING | PLACES


def errors_in(output: str) -> list[str]:
    """The problems that a command tells, without the file's name."""
    return [line.partition("config.json: ")[2] for line in output.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("name", KINDS)
def test_broken_input_is_refused_with_a_message_and_nothing_is_written(name: str, ground: Ground) -> None:
    kind = KINDS[name]
    config = kind.spoil(ground)
    before = snapshot(ground.folder.parent)
    for command in ("check", kind.command):
        result = run(command, config)
        assert result.exit_code == 2, result.output
        assert isinstance(result.exception, SystemExit)
        missing = [words for words in kind.stated if words not in result.output]
        assert not missing, result.output
        assert snapshot(ground.folder.parent) == before


@pytest.mark.parametrize("command", ["train", "test"])
@pytest.mark.parametrize("model", [None, {"path": "model.safetensors"}])
def test_the_ground_of_the_walk_is_sound(
    ground: Ground, command: Command, model: dict[str, str] | None
) -> None:
    if model and command == "test":
        ground.configs["test"]["model"] = model
    result = run("check", ground.write(command))
    assert result.exit_code == 0, result.output
    assert result.output.endswith("config.json: no problems found\n")


def test_problems_of_every_kind_are_stated_at_once_and_those_of_single_keys_first(ground: Ground) -> None:
    ground.set("train", "training_settings.batchsize", 4)
    ground.set("train", "optimizer", {"learning_rate": "fast"})
    ground.set("train", "output.tboard_log_dir", ABSENT)
    ground.set("train", "datasets.0.allocation_strategy", "entire")
    ground.set("train", "datasets.0.raster_gt", "gone.tif")
    ground.set("train", "model.pretrained_path", "gone.pth")
    hole(np.nan)(ground.folder / "initial.tif")
    raster(gsd=0.25)(ground.folder / "ortho2.tif")
    (ground.folder / "pairs.txt").write_text("ortho1.tif, ortho2.tif\northo1.tif, ortho7.tif\northo1.tif\n")
    (ground.folder / "pair.txt").unlink()
    result = run("check", ground.write("train"))
    assert result.exit_code == 2
    assert [error.split(": ")[0] for error in errors_in(result.output)] == [
        "training_settings.batchsize",
        "output.tboard_log_dir",
        "optimizer.learning_rate",
        "datasets[0].allocation_strategy",
        "datasets[0].path_pairlist_training",
        "datasets[0].path_pairlist_training",
        "datasets[0].path_pairlist_validation",
        "datasets[0].raster_gt",
        "datasets[0].path_image_list",
        "datasets[0].raster_in",
        "model.pretrained_path",
    ]
    assert result.output.splitlines()[-1] == "11 problems; nothing was written"


def test_every_file_of_a_test_is_looked_at_though_the_model_is_broken(ground: Ground) -> None:
    for name in (PTH, DESIGN_FILE, HEIGHTS_FILE, GREYS_FILE):
        (ground.folder / name).write_bytes(b"{")
    (ground.folder / "pairs.txt").write_text("ortho1.tif, ortho7.tif\n")
    (ground.folder / "reference.tif").unlink()
    hole(np.nan)(ground.folder / "initial.tif")
    ground.set("test", "datasets.0.area_type", "train")
    result = run("check", ground.write("test"))
    assert {error.split(": ")[0] for error in errors_in(result.output)} == {
        *("model.weights", "model.architecture", "model.normalization_geom", "model.normalization_image"),
        *("datasets[0].path_pairlist", "datasets[0].raster_gt", "datasets[0].raster_in"),
    }


def test_both_lists_are_stated_when_both_are_broken(ground: Ground) -> None:
    (ground.folder / "imagelist.txt").unlink()
    (ground.folder / "pairs.txt").write_text("ortho1.tif, ortho1.tif\northo1.tif\n")
    (ground.folder / "pair.txt").write_bytes(b"\xff")
    stated = errors_in(run("check", ground.write("train")).output)
    assert [error.split(": ")[0].rsplit("_", 1)[-1] for error in stated] == [
        "list",
        "training",
        "training",
        "validation",
    ]
    assert "names one image twice" in stated[1]
    assert "names 1 images" in stated[2]


def test_an_image_is_not_called_unused_while_a_pair_list_is_broken(ground: Ground) -> None:
    with (ground.folder / "imagelist.txt").open("a") as images:
        images.write("gone.tif\n")
    (ground.folder / "pairs.txt").write_text("ortho1.tif, gone.tiff\n")
    result = run("check", ground.write("train"))
    assert len(errors_in(result.output)) == 1
    assert "no pair uses it" not in result.output


CONSEQUENCES = {
    "datasets.0.raster_inn": ("initial.tif", {"datasets.0.raster_in": ABSENT}),
    "datasets.0.area_typ": ("train+val", {"datasets.0.area_type": ABSENT}),
    "datasets.0.area_type": ("both", {}),
    "datasets.0.allocation_strategy": ("none", {}),
    "datasets.0.raster_in": (7, {}),
    "datasets.0.path_image_list": (7, {}),
    "datasets.0": ("all", {}),
    "datasets": (None, {}),
    "model.input_channels": ("geom-steroe", {}),
    "model.input_channel": ("geom-stereo", {"model.input_channels": ABSENT}),
    "model.depth": ("2", {}),
    "model": ([], {"training_settings.tile_size": 16}),
    "multiview.config": ("2-view", {"model.input_channels": "geom-multiview"}),
    "training_settings.tile_size": ("16", {}),
    "scheduler.name": ("StepLr", {"scheduler.settings": {"gamma": 0.5}}),
    "outputs": (
        {"output_directory": "logs", "tboard_log_dir": "logs"},
        {"output": ABSENT},
    ),
}


@pytest.mark.parametrize("key", CONSEQUENCES)
def test_what_follows_from_a_wrong_key_is_not_stated_again(ground: Ground, key: str) -> None:
    new, others = CONSEQUENCES[key]
    for other, other_value in others.items():
        ground.set("train", other, other_value)
    ground.set("train", key, new)
    (stated,) = errors_in(run("check", "--kind", "train", ground.write("train")).output)
    assert stated.startswith(key.replace(".0", "[0]") + ": ")


@pytest.mark.parametrize(
    ("key", "new"),
    [
        ("model", ABSENT),
        ("model", {"path": 3}),
        ("datasets.0.area_type", "tests"),
        ("datasets.0.raster_gt", 3),
        ("general.tile_size", 24),
        ("output", {"directry": "results"}),
    ],
)
def test_what_follows_from_a_wrong_key_of_a_test_is_not_stated_again(
    ground: Ground, key: str, new: object
) -> None:
    ground.set("test", "datasets.0.mask_building", "mask_building.tif")
    ground.set("test", key, new)
    (stated,) = errors_in(run("check", ground.write("test")).output)
    assert stated.startswith(key.replace(".0", "[0]"))


def test_problems_are_stated_at_the_right_data_set(ground: Ground) -> None:
    sound = ground.configs["train"]["datasets"][0]
    broken = [sound | {"raster_in": 7}, sound | {"raster_gt": "gone.tif"}, {"name": "x"}]
    ground.configs["train"]["datasets"] = [sound, *broken]
    stated = errors_in(run("check", ground.write("train")).output)
    assert [error.split(": ")[0] for error in stated] == [
        "datasets[1].raster_in",
        "datasets[3].raster_in",
        "datasets[3].raster_gt",
        "datasets[3].area_type",
        "datasets[3].path_image_list",
        "datasets[2].raster_gt",
    ]


def test_warnings_alone_do_not_stop_the_work(ground: Ground) -> None:
    ground.set("train", "scheduler.settings", {})
    ground.set("train", "model.input_channels", "geom")
    (ground.folder / "pair.txt").write_text("ortho9.tif\n")  # not looked at: the network sees no images
    config = ground.write("train")
    result = run("check", config)
    assert result.exit_code == 0
    warnings = [line for line in result.output.splitlines() if line.startswith("warning: ")]
    assert [line.split(": ")[2] for line in warnings] == [
        "datasets[0].path_image_list",
        "datasets[0].path_pairlist_training",
        "datasets[0].path_pairlist_validation",
        "scheduler.settings",
    ]
    assert result.output.splitlines()[-1] == f"{config}: can run"


def test_warnings_of_a_test_do_not_stop_the_work(ground: Ground) -> None:
    ground.set("test", "datasets.0.raster_gt", ABSENT)
    ground.set("test", "datasets.0.mask_water", "mask_water.tif")
    with (ground.folder / "imagelist.txt").open("a") as images:
        images.write("gone.tif\n")
    (ground.folder / "pairs.txt").write_text("ortho1.tif,ortho2.tif\northo1.tif,ortho2.tif\n")
    write_raster(ground.folder / "ortho1.tif", np.ones((2, 64, 160), np.uint8))
    result = run("check", ground.write("test"))
    assert result.exit_code == 0
    for words in (
        "raster_gt nothing is evaluated",
        "only with a mask_building",
        "gone.tif: no such file; no pair uses it",
        "repeats line 1",
        "has 2 bands",
    ):
        assert words in result.output


@pytest.mark.parametrize("command", ["train", "test"])
def test_a_configuration_for_the_other_command_is_stated_as_such(ground: Ground, command: Command) -> None:
    other: Command = "test" if command == "train" else "train"
    result = run(command, ground.write(other))
    assert result.exit_code == 2
    (stated,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert stated.endswith(
        f"config.json: is a configuration for `resdepth {other}`, not for `resdepth {command}`"
    )


def test_an_output_folder_without_permission_is_stated(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests may run as a user who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != ground.folder)
    (stated,) = errors_in(run("check", ground.write("test")).output)
    assert stated.startswith(f"output.directory: {ground.folder}/results: no permission to write in ")


def test_a_disk_that_fails_is_stated_without_traceback(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device", "results/config.json")

    monkeypatch.setattr("resdepth.workflows.test.test", fails)
    result = run("test", ground.write("test"))
    assert result.exit_code == 2
    assert result.output == "error: results/config.json: No space left on device\n"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), command=st.sampled_from(["train", "test"]))
def test_any_value_in_any_place_is_stated_without_failing(
    sound_folder: Path, data: st.DataObject, command: Command
) -> None:
    config = configs_for(sound_folder)[command]
    for _ in range(data.draw(st.integers(1, 3))):
        holder: Any = config
        while True:
            place = data.draw(
                st.sampled_from(range(len(holder)) if isinstance(holder, list) else list(holder))
            )
            if not holder[place] or not isinstance(holder[place], dict | list) or data.draw(st.booleans()):
                break
            holder = holder[place]
        holder[place] = data.draw(JSON_VALUES)
    path = sound_folder / "any.json"
    path.write_text(json.dumps(config))
    for kind in (None, command):
        assert all(problem.message for problem in check(path, kind))


@pytest.mark.parametrize("name", ["train", "test"])
def test_degrees_are_refused_with_a_remedy(ground: Ground, name: Command) -> None:
    for path in ground.folder.glob("*.tif"):
        raster(crs="EPSG:4326", gsd=1e-5, origin=(7.0, 50.0))(path)
    done = run(name, ground.write(name))
    assert done.exit_code == 2
    assert "its CRS EPSG:4326 is in degrees; bring all rasters to a projected CRS" in done.stderr
