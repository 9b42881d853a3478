"""Small made scenes, configurations and models that the tests share."""

import copy
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.shutil
import torch
from hypothesis import HealthCheck, settings

from resdepth import refine
from resdepth.data.normalization import Normalization
from resdepth.models.model import Architecture, Model, new_network, save_model
from resdepth.models.published import write_architecture, write_checkpoint, write_moments
from resdepth.simulate.plan import (
    DateSettings,
    MatchingSettings,
    SensorSettings,
    SimulateConfig,
    SurfaceSettings,
    TownSettings,
    ViewSettings,
)
from resdepth.simulate.simulation import simulate

# Tests run side by side; the threads of one process would wait for those of the others. The variable is for
# the processes that tests start: another number of threads may give other last bits.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# No limit of time for an example: this computer may be busy. The same examples in every run.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

# What takes seconds to make, the longest first. Tests that share it run in one process (`--dist loadgroup`),
# which makes it once, and they come first: a long one in the end would leave the other process idle.
COSTLY = (
    "raw_scene",
    "prepared",
    "killed",
    "simulated",
    "steady",
    "demonstration",
    "stereo",
    "browser",
    "cluster",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests by what they share."""

    def group(item: pytest.Item) -> str | None:
        return next((name for name in COSTLY if name in getattr(item, "fixturenames", ())), None)

    for item in items:
        if name := group(item):
            item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: COSTLY.index(name) if (name := group(item)) else len(COSTLY))


GSD = 0.5
ORIGIN = (465000.0, 5248000.0)


def write_raster(
    path: Path,
    values: np.ndarray,
    *,
    nodata: float | None = None,
    crs: str | None = "EPSG:32632",
    gsd: float = GSD,
    origin: tuple[float, float] = ORIGIN,
    **options: Any,
) -> Path:
    """A one-band GeoTIFF (or several bands, for a 3-D array)."""
    bands = values if values.ndim == 3 else values[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2], count=bands.shape[0],
        dtype=bands.dtype, crs=crs, transform=rasterio.Affine(gsd, 0, origin[0], 0, -gsd, origin[1]),
        nodata=nodata, **options,
    ) as dataset:  # fmt: skip
        dataset.write(bands)
    return path


def write_virtual(path: Path, source: Path) -> Path:
    """A virtual raster with the pixels of another file."""
    rasterio.shutil.copy(str(source), str(path), driver="VRT")
    return path


def read_raster(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@dataclass
class MadeScene:
    """Rasters and lists of one small scene on disk, with ready configurations.

    Attributes:
        folder: holds initial.tif, reference.tif, ortho1..4.tif, the masks, imagelist.txt, pairs.txt (1-2 and
            2-3), pair.txt (1-2), mono.txt (1; 2), triples.txt (1-2-3).
        initial, reference: heights; the reference DSM has voids (NaN).
        images: grey values.
    """

    folder: Path
    initial: np.ndarray
    reference: np.ndarray
    images: list[np.ndarray]

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def train_config(self, **sections: Any) -> dict[str, Any]:
        """A complete training configuration that runs in seconds; `sections` are merged into it."""
        config = {
            "datasets": [
                {
                    "name": "small",
                    "raster_in": self.path("initial.tif"),
                    "raster_gt": self.path("reference.tif"),
                    "path_image_list": self.path("imagelist.txt"),
                    "path_pairlist_training": self.path("pairs.txt"),
                    "path_pairlist_validation": self.path("pair.txt"),
                    "area_type": "train+val",
                    "allocation_strategy": "5-crossval_vertical",
                    "test_stripe": 1,
                    "n_training_samples": 6,
                }
            ],
            "model": {"input_channels": "geom-stereo", "depth": 2, "start_kernel": 4},
            "training_settings": {"tile_size": 16, "batch_size": 4, "n_epochs": 2},
            "scheduler": {"name": "StepLR", "settings": {"step_size": 1}},
            "general": {"workers": 0, "device": "cpu"},
            "output": {
                "output_directory": str(self.folder / "logs"),
                "tboard_log_dir": str(self.folder / "tensorboard"),
            },
        }
        return merged(config, sections)

    def test_config(self, model: dict[str, str], **sections: Any) -> dict[str, Any]:
        """A complete test configuration; `model` is its model section."""
        config = {
            "datasets": [
                {
                    "name": "small",
                    "raster_in": self.path("initial.tif"),
                    "raster_gt": self.path("reference.tif"),
                    "path_image_list": self.path("imagelist.txt"),
                    "path_pairlist": self.path("pairs.txt"),
                    "area_type": "test",
                    "allocation_strategy": "5-crossval_vertical",
                    "test_stripe": 1,
                }
            ],
            "model": model,
            "general": {"tile_size": 16, "device": "cpu"},
            "output": {"directory": str(self.folder / "results"), "report": False},
        }
        return merged(config, sections)

    def write(self, config: Any, name: str = "config.json") -> Path:
        path = self.folder / name
        path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
        return path


def merged(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the changes put in; a dict for `datasets` changes the first data set."""
    result = copy.deepcopy(config)
    for section, values in changes.items():
        target = result["datasets"][0] if section == "datasets" and isinstance(values, dict) else None
        if target is not None:
            target.update(values)
        elif isinstance(values, dict):
            result[section] = {**result.get(section, {}), **values}
        else:
            result[section] = values
    return result


def make_heights(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """True heights with boxes on a slope, and a smeared, noisy version of them."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:height, 0:width]
    reference = 400 + 0.02 * rows + 0.01 * cols
    for _ in range(height * width // 600):
        row, col = rng.integers(0, height - 8), rng.integers(0, width - 8)
        reference[row : row + rng.integers(4, 9), col : col + rng.integers(4, 9)] += rng.uniform(3, 9)
    initial = reference + rng.normal(0, 0.6, reference.shape)
    return reference.astype(np.float32), initial.astype(np.float32)


@pytest.fixture
def scene(tmp_path: Path) -> MadeScene:
    """64 x 160 pixels: five vertical stripes of 32."""
    return make_scene(tmp_path, 64, 160)


def make_scene(folder: Path, height: int, width: int, seed: int = 0) -> MadeScene:
    folder.mkdir(exist_ok=True)
    reference, initial = make_heights(seed, height, width)
    rng = np.random.default_rng(seed + 1)
    images = [
        (300 + 20 * index + 10 * (reference - 400) + rng.normal(0, 15, reference.shape))
        .clip(1, 2047)
        .astype(np.uint16)
        for index in range(4)
    ]
    reference[5:9, 10:30] = np.nan
    write_raster(folder / "initial.tif", initial, nodata=-9999.0)
    write_raster(
        folder / "reference.tif",
        np.where(np.isnan(reference), -9999, reference).astype(np.float32),
        nodata=-9999.0,
    )
    (folder / "truth.tif").symlink_to("reference.tif")  # its earlier name, which people's scripts use
    for index, image in enumerate(images, 1):
        write_raster(folder / f"ortho{index}.tif", image)
    masks = {
        "building": reference > 404,
        "water": np.zeros(reference.shape, bool),
        "forest": np.zeros(reference.shape, bool),
    }
    masks["water"][-8:], masks["forest"][:, ::7] = True, True
    masks["ground_truth"] = np.ones(reference.shape, bool)
    masks["ground_truth"][30:34, 40:60] = False
    for name, mask in masks.items():
        write_raster(folder / f"mask_{name}.tif", mask.astype(np.uint8), nodata=255)
    lists = {
        "imagelist.txt": "ortho1.tif\northo2.tif\northo3.tif\northo4.tif\n",
        "pair.txt": "ortho1.tif, ortho2.tif\n",
        "pairs.txt": "ortho1.tif, ortho2.tif\northo2.tif, ortho3.tif\n",
        "mono.txt": "ortho1.tif,\northo2.tif,\n",
        "triples.txt": "ortho1.tif, ortho2.tif, ortho3.tif\n",
    }
    for name, text in lists.items():
        (folder / name).write_text(text, encoding="utf-8")
    return MadeScene(folder, initial, reference, images)


def make_model(
    input_channels: str = "geom-stereo", n_views: int = 2, *, seed: int = 0, **settings: Any
) -> Model:
    """A small network with random weights."""
    uses_dsm = input_channels != "stereo"
    chosen = {"n_input_channels": n_views + uses_dsm, "start_kernel": 4, "depth": 2, "bias_conv_layer": True}
    chosen |= {"outer_skip": uses_dsm, **settings}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = new_network("UNet", chosen)
    normalization = Normalization(2.5, *((350.0, 60.0) if n_views else ()))
    architecture = Architecture("UNet", input_channels, chosen)
    return Model(architecture, network.state_dict(), normalization, {"tile_size": 16})


def write_published_run(folder: Path, model: Model) -> dict[str, str]:
    """The files of a published run; returns the `model` section of a test configuration that names them."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    checkpoint = {"epoch": 4, "model_state_dict": dict(model.weights), "loss_train": 1.0, "loss_val": 1.5}
    write_checkpoint(folder / "checkpoints" / "Model_best.pth", checkpoint)
    write_architecture(folder / "model_config.json", model.architecture)
    constants = model.normalization
    write_moments(folder / "DSM_normalization_parameters.p", None, constants.height_sigma)
    section = {
        "weights": str(folder / "checkpoints" / "Model_best.pth"),
        "architecture": str(folder / "model_config.json"),
        "normalization_geom": str(folder / "DSM_normalization_parameters.p"),
    }
    if constants.image_std is not None:
        write_moments(folder / "Image_normalization_parameters.p", constants.image_mean, constants.image_std)
        section["normalization_image"] = str(folder / "Image_normalization_parameters.p")
    return section


@pytest.fixture(scope="session")
def reference() -> Path:
    """Numbers of the published code; see README.md there."""
    return Path(__file__).parent / "published"


@pytest.fixture
def long_dsm(tmp_path: Path) -> tuple[Path, Path]:
    """A DSM of 1 x 6 blocks, and a model that sees nothing else."""
    return _blocks_in_a_row(tmp_path, 100)


@pytest.fixture
def longer_dsm(tmp_path: Path) -> tuple[Path, Path]:
    """The same of larger blocks: two workers have a second's work with them."""
    return _blocks_in_a_row(tmp_path, 1000)


def _blocks_in_a_row(folder: Path, rows: int) -> tuple[Path, Path]:
    heights = np.random.default_rng(0).normal(300, 3, (rows, 2048 * 6)).astype(np.float32)
    save_model(make_model("geom", 0), folder / "m.safetensors")
    return write_raster(folder / "long.tif", heights), folder / "m.safetensors"


def refined_alone(dsm: Path, model: Path) -> bytes:
    """The file that one process makes."""
    (path,) = refine(dsm, [], model, output=dsm.with_name("alone.tif"))
    return path.read_bytes()


SECONDS = 120  # until the slowest machine has done anything
SERIES = int(os.environ.get("RESDEPTH_SERIES", "1"))  # how often workers are killed (`make lost`: ten times)


def wait_until(there: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not there():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def geoid(tmp_path: Path) -> Iterator[None]:
    """EGM96 as a plane that rises to the east, 40 m above the ellipsoid at 8 degrees, for PROJ to find."""
    rows, cols = 181, 361
    values = np.broadcast_to(40 + 10 * (np.linspace(-180, 180, cols) - 8), (rows, cols))
    head = struct.pack(">ddddii", -90.0, -180.0, 1.0, 1.0, rows, cols)
    folder = tmp_path / "proj"
    folder.mkdir()
    (folder / "egm96_15.gtx").write_bytes(head + values.astype(">f4").tobytes())
    before = pyproj.datadir.get_data_dir()
    pyproj.datadir.append_data_dir(str(folder))
    yield
    pyproj.datadir.set_data_dir(before)


RAW_SCENE = SimulateConfig(
    seed=3,
    town=TownSettings(style="suburb", size_px=256),
    reference=SurfaceSettings(gsd_m=0.5),
    dates=(
        DateSettings(sun_azimuth_deg=150, sun_elevation_deg=50),
        DateSettings(sun_azimuth_deg=210, sun_elevation_deg=25, winter=1.0),
    ),
    views=(
        ViewSettings(name="ahead", date=0, azimuth_deg=10, incidence_deg=14),
        ViewSettings(name="back", date=0, azimuth_deg=190, incidence_deg=10),
        ViewSettings(name="later", date=1, azimuth_deg=100, incidence_deg=8),
    ),
    sensor=SensorSettings(pointing_px=0.5),
    matching=MatchingSettings(pairs=1),
)


@pytest.fixture(scope="session")
def raw_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated suburb with raw images whose RPCs are half a pixel off: the folder of its data."""
    folder = tmp_path_factory.mktemp("raw") / "scene"
    simulate("town", folder, RAW_SCENE, workers=0)
    return folder / "data"


def raw_images_of(scene: Path) -> list[Path]:
    """Two of one date, and one of another."""
    return [scene / "satellite_views" / "raw" / f"{name}.tif" for name in ("ahead", "back", "later")]
