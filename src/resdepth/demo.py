"""The demonstration: a made town, an initial DSM with the faults of stereo matching, training, refinement.

Everything runs through the same configuration files and workflows that users have.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resdepth.errors import ResDepthError
from resdepth.raster import Grid, new_geotiff
from resdepth.workflows import PairResult, test, train

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]

HEIGHT_PX, WIDTH_PX, GSD_M = 512, 1280, 0.5
BLOCK_PX = 48
SUNS = ((135.0, 45.0), (210.0, 55.0))  # azimuth, elevation in degrees: two dates


@dataclass(frozen=True)
class MadeTown:
    """A town that never was.

    Attributes:
        truth, initial: heights, (H, W) float32, metres.
        images: ortho-images, (H, W) float32 grey values.
        building: (H, W) float32, 1 = building.
    """

    truth: Array
    initial: Array
    images: tuple[Array, ...]
    building: Array


def make_town(seed: int) -> MadeTown:
    """A town of flat and gable roofs on rolling ground, seen from above under two suns.

    The initial DSM is smeared across walls, noisy, and holds gross blobs, as matching leaves it.
    """
    rng = np.random.default_rng(seed)
    ground = _smooth_noise(rng, sigma_px=120) * 6 + 400
    truth, albedo, building = (
        ground.copy(),
        0.35 + 0.03 * _smooth_noise(rng, sigma_px=2),
        np.zeros_like(ground),
    )
    for row in range(8, HEIGHT_PX - BLOCK_PX, BLOCK_PX):
        for col in range(8, WIDTH_PX - BLOCK_PX, BLOCK_PX):
            if rng.random() < 0.8:
                _build_house(rng, row, col, ground, truth, albedo, building)
    images = tuple(_photograph(rng, truth, albedo, sun) for sun in SUNS)
    return MadeTown(truth, _match(rng, truth), images, building)


def _smooth_noise(rng: np.random.Generator, sigma_px: float) -> Array:
    """Noise of unit spread, correlated over `sigma_px`."""
    noise = ndimage.gaussian_filter(rng.standard_normal((HEIGHT_PX, WIDTH_PX)), sigma_px, mode="wrap")
    unit: Array = (noise / noise.std()).astype(np.float32)
    return unit


def _build_house(
    rng: np.random.Generator, row: int, col: int, ground: Array, truth: Array, albedo: Array, building: Array
) -> None:
    height, width = rng.integers(16, BLOCK_PX - 10, size=2)
    top, left = row + rng.integers(0, 8), col + rng.integers(0, 8)
    where = (slice(top, top + height), slice(left, left + width))
    eaves = ground[where].mean() + rng.uniform(4, 14)
    roof = np.full((height, width), eaves, dtype=np.float32)
    if rng.random() < 0.6:  # a gable along the longer side
        across = np.arange(min(height, width)) - (min(height, width) - 1) / 2
        ridge = (min(height, width) / 2 - np.abs(across)) * GSD_M * rng.uniform(0.4, 0.9)
        roof += ridge[:, None] if height < width else ridge[None, :]
    truth[where], building[where] = roof, 1
    albedo[where] = rng.uniform(0.25, 0.7) + 0.02 * rng.standard_normal((height, width))


def _photograph(rng: np.random.Generator, surface: Array, albedo: Array, sun: tuple[float, float]) -> Array:
    azimuth, elevation = np.radians(sun)
    slope_row, slope_col = np.gradient(surface, GSD_M)
    towards = np.array([-np.cos(azimuth), np.sin(azimuth)]) * np.cos(elevation)  # rows grow southwards
    lit = np.sin(elevation) - slope_row * towards[0] - slope_col * towards[1]
    shade = np.clip(lit / np.sqrt(1 + slope_row**2 + slope_col**2), 0, None)
    grey = 1200 * albedo * (0.25 + 0.75 * shade) + 8 * rng.standard_normal(surface.shape)
    return np.clip(ndimage.gaussian_filter(grey, 0.6), 0, 2047).astype(np.float32)


def _match(rng: np.random.Generator, truth: Array) -> Array:
    smeared = ndimage.gaussian_filter(ndimage.grey_dilation(truth, size=(3, 3)), 2.5)
    blobs = _smooth_noise(rng, sigma_px=5)
    gross = np.where(np.abs(blobs) > 2.2, 3 * blobs, 0)
    noisy = smeared + 0.35 * _smooth_noise(rng, sigma_px=1.5) + ndimage.gaussian_filter(gross, 1.5)
    return noisy.astype(np.float32)


def run_demo(folder: Path, seed: int) -> list[PairResult]:
    """Make a town, train on three of its five stripes, refine one that was not trained on.

    Args:
        folder: receives data/, configs/, logs/ and results/; must not hold anything else.
        seed: of the town and the training.

    Returns:
        The results on the test stripe.

    Raises:
        ResDepthError: if the folder holds something else than an earlier demonstration.
    """
    marker = folder / "configs" / "config_train.json"
    if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
        raise ResDepthError(f"{folder}: is not empty; choose another folder with --to")
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(_train_config(folder.resolve(), seed), indent=2), encoding="utf-8")
    _write_data(folder / "data", make_town(seed))
    run = train(marker)
    test_config = folder / "configs" / "config_test.json"
    content = _test_config(folder.resolve(), run.resolve() / "model.safetensors")
    test_config.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return test(test_config)


def _write_data(folder: Path, town: MadeTown) -> None:
    """The layout of the authors' demonstration."""
    grid = Grid(HEIGHT_PX, WIDTH_PX, (GSD_M, 0.0, 500000.0, 0.0, -GSD_M, 5200000.0), "EPSG:32632")
    rasters = {
        "dsm/initial.tif": town.initial,
        "dsm/truth.tif": town.truth,
        "mask/building.tif": town.building,
    }
    names = [f"image_{number}.tif" for number in range(1, len(town.images) + 1)]
    rasters |= {f"satellite_views/{name}": image for name, image in zip(names, town.images, strict=True)}
    for name, values in rasters.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_geotiff(path, grid) as file:
            file.write(0, values)
    lists = folder / "image_selection"
    lists.mkdir(exist_ok=True)
    (lists / "imagelist.txt").write_text("".join(f"../satellite_views/{name}\n" for name in names))
    (lists / "pairlist.txt").write_text(", ".join(names) + "\n")


def _dataset(folder: Path) -> dict[str, Any]:
    data = folder / "data"
    return {
        "name": "made_town",
        "raster_in": str(data / "dsm" / "initial.tif"),
        "raster_gt": str(data / "dsm" / "truth.tif"),
        "path_image_list": str(data / "image_selection" / "imagelist.txt"),
        "allocation_strategy": "5-crossval_vertical",
        "test_stripe": 2,
    }


def _train_config(folder: Path, seed: int) -> dict[str, Any]:
    pairs = str(folder / "data" / "image_selection" / "pairlist.txt")
    lists = {"path_pairlist_training": pairs, "path_pairlist_validation": pairs}
    return {
        "datasets": [{**_dataset(folder), **lists, "area_type": "train+val", "n_training_samples": 400}],
        "model": {"input_channels": "geom-stereo", "depth": 3, "start_kernel": 16},
        "stereopair_settings": {"permute_images_within_pair": False},
        "training_settings": {"tile_size": 64, "batch_size": 8, "n_epochs": 10},
        "optimizer": {"learning_rate": 2e-3},
        "scheduler": {"name": "ExponentialLR", "settings": {"gamma": 0.75}},
        "general": {"random_seed": seed, "workers": 1, "device": "cpu"},
        "output": {
            "output_directory": str(folder / "logs"),
            "tboard_log_dir": str(folder / "logs" / "tensorboard"),
        },
    }


def _test_config(folder: Path, model: Path) -> dict[str, Any]:
    pairs = str(folder / "data" / "image_selection" / "pairlist.txt")
    mask = str(folder / "data" / "mask" / "building.tif")
    dataset = {**_dataset(folder), "path_pairlist": pairs, "mask_building": mask, "area_type": "test"}
    return {
        "datasets": [dataset],
        "model": {"path": str(model)},
        "general": {"tile_size": 64},
        "output": {"directory": str(folder / "results")},
    }
