"""The common ground of all measurements: sizes, a made scene, constants, memory figures."""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

GSD_M = 0.5
VIEWS = 2
HEIGHT_SIGMA, IMAGE_MEAN, IMAGE_STD = 3.0, 400.0, 90.0
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: how often the two ways take turns.
        start_kernel, depth: of the network whose speed is measured.
        tile: side of its tiles and patches in pixels.
        height, width: of the scene that it refines and learns from, in pixels.
        batch: training samples per step.
        steps: training steps per round.
        n_corners: random patches of `patch` pixels that are drawn from areas of the two `sides`.
        n_drawn: training samples that are read from files of those sides.
        narrow: width of the rasters that a small network refines, which have the two `heights`.
        image: side of the image that the network alone runs on.
        matrix: side of the matrices whose products show what the processor can do.
        medium, huge: sides of the rasters that are refined from file to file.
        wide: height and width of the raster that several workers refine.
    """

    rounds: int = 3
    start_kernel: int = 64
    depth: int = 5
    tile: int = 256
    height: int = 2048
    width: int = 2560
    batch: int = 8
    steps: int = 3
    n_corners: int = 20_000
    patch: int = 256
    sides: tuple[int, int] = (2_000, 20_000)
    n_drawn: int = 1_000
    narrow: int = 512
    heights: tuple[int, int] = (4_096, 16_384)
    image: int = 1_024
    matrix: int = 3_072
    medium: int = 4_000
    huge: int = 20_000
    wide: tuple[int, int] = (8_192, 8_192)


FULL = Sizes()
QUICK = Sizes(
    rounds=1,
    start_kernel=4,
    depth=2,
    tile=32,
    height=96,
    width=160,
    batch=2,
    steps=2,
    n_drawn=20,
    narrow=256,
    heights=(256, 1024),
    image=64,
    matrix=128,
    medium=256,
    huge=512,
    wide=(64, 128),
)


@dataclass(frozen=True)
class SceneFiles:
    """The rasters of one made scene."""

    folder: Path

    @property
    def dsm(self) -> Path:
        """The initial DSM."""
        return self.folder / "initial.tif"

    @property
    def reference(self) -> Path:
        """The reference DSM."""
        return self.folder / "reference.tif"

    @property
    def views(self) -> list[Path]:
        """The ortho-images."""
        return [self.folder / f"ortho{index}.tif" for index in range(VIEWS)]


def write_scene(
    folder: Path, height: int, width: int, seed: int = 0, *, with_reference: bool = True
) -> SceneFiles:
    """A scene of noisy steps on a slope: what is in it does not matter to the speed, only that it varies."""
    files = _new_files(folder, height, width)
    rng = np.random.default_rng(seed)
    for row in range(0, height, ROWS_AT_ONCE):
        rows = np.arange(row, min(row + ROWS_AT_ONCE, height))[:, None]
        reference = 400 + 0.02 * rows + 5.0 * ((rows // 24 + np.arange(width) // 24) % 3 == 0)
        if with_reference:
            _write_rows(files.reference, row, reference.astype(np.float32))
        _write_rows(files.dsm, row, (reference + rng.normal(0, 1, reference.shape)).astype(np.float32))
        for view in files.views:
            grey = (IMAGE_MEAN + 20 * (reference - 400) + rng.normal(0, 30, reference.shape)).clip(1, 2047)
            _write_rows(view, row, grey.astype(np.uint16))
    return files


def write_empty_scene(folder: Path, side: int) -> SceneFiles:
    """A scene of zeros whose files take no space: their blocks do not exist."""
    return _new_files(folder, side, side)


def _new_files(folder: Path, height: int, width: int) -> SceneFiles:
    folder.mkdir(parents=True)
    files = SceneFiles(folder)
    types = {files.dsm: "float32", files.reference: "float32", **dict.fromkeys(files.views, "uint16")}
    for path, dtype in types.items():
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=1, dtype=dtype, crs="EPSG:32632",
            transform=rasterio.Affine(GSD_M, 0, 465000, 0, -GSD_M, 5248000), tiled=True, SPARSE_OK=True,
        ):  # fmt: skip
            pass
    return files


def _write_rows(path: Path, row: int, values: NDArray[Any]) -> None:
    height, width = values.shape
    with rasterio.open(path, "r+") as dataset:
        dataset.write(values, 1, window=RasterioWindow(0, row, width, height))


def resident_mb() -> float:
    """Memory that this process holds at present, MB; off Linux the most it ever held."""
    return _status_mb("VmRSS")


def peak_resident_mb() -> float:
    """The most memory that this process ever held, MB."""
    return _status_mb("VmHWM")


def _status_mb(name: str) -> float:
    # Not ru_maxrss where there is a choice: a child inherits its parent's.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
