"""The scenes that the fusion model learns from: simulated towns and landscapes, each with its own sensor."""

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from resdepth.simulate.plan import SensorSettings, SimulateConfig, SurfaceSettings, TownSettings
from resdepth.simulate.simulation import simulate
from resdepth.simulate.town.layout import STYLES

Heights = NDArray[np.float64]

# People choose small seeds: those of the training lie above, so that every scene of theirs is new.
FIRST_SEED = 2**41
SIZE_PX = 640
GSDS_M = (0.3, 0.4, 0.5, 0.7)


def make(
    work: Path, towns: int, landscapes: int, side_px: int = SIZE_PX, first_seed: int = FIRST_SEED
) -> list[Path]:
    """Simulate what is missing: `towns` of each style, and landscapes.

    Args:
        work: the folder of the scenes.
        towns: number of towns of each style.
        landscapes: number of landscapes.
        side_px: of each scene.
        first_seed: of the towns; others make other scenes.

    Returns:
        The folders of all scenes.
    """
    found = []
    for number in range(towns):
        for index, style in enumerate(sorted(STYLES)):
            seed = first_seed + 10 * number + index
            found.append(
                _simulated(
                    work / f"{style}_{number}", "town", seed, TownSettings(style=style, size_px=side_px)
                )
            )
    for number in range(landscapes):
        seed = first_seed + 1000 + number
        surface = work / f"landscape_{number}.tif"
        folder = work / f"landscape_{number}"
        if not (folder / "scene.json").exists():
            _write(surface, landscape(seed, side_px), 0.5)
        found.append(_simulated(folder, surface, seed, TownSettings()))
    return found


def _simulated(folder: Path, source: str | Path, seed: int, town: TownSettings) -> Path:
    if (folder / "scene.json").exists():
        return folder
    rng = np.random.default_rng(seed)
    gsd = float(rng.choice(GSDS_M)) if source == "town" else 0.5
    sensor = SensorSettings(
        gsd_m=round(gsd * float(rng.uniform(0.85, 1.05)), 3),
        pointing_px=round(float(rng.uniform(0.02, 0.3)), 3),
        blur_px=round(float(rng.uniform(0.35, 0.75)), 2),
        electrons=round(float(rng.uniform(2.0, 8.0)), 1),
    )
    config = SimulateConfig(seed=seed, town=town, reference=SurfaceSettings(gsd_m=gsd), sensor=sensor)
    simulate(source, folder, config)
    print(folder, flush=True)
    return folder


def landscape(seed: int, side_px: int = SIZE_PX) -> Heights:
    """(side, side) heights in metres: fractal relief, terraces on some, trees, a few houses."""
    rng = np.random.default_rng(seed)
    n = side_px
    relief, roughness, trees = rng.uniform(5, 70), rng.uniform(3.1, 3.6), rng.uniform(0, 0.5)
    heights = fractal(rng, 2 * n, roughness)[:n, :n] * relief / 2
    if rng.random() < 0.5:
        above = heights - np.median(heights)
        step = rng.uniform(2, 6)
        heights = np.where(above > 0, np.round(above / step) * step * 0.75 + 0.25 * above, above)
    heights += _crowns(rng, fractal(rng, n, 2.0), trees)
    heights += gaussian_filter(rng.standard_normal((n, n)), 1) * 0.15 * np.abs(fractal(rng, n, 2.0))
    for _ in range(int(rng.integers(0, 25))):
        row, col = rng.integers(20, n - 60, size=2)
        rows, cols = rng.integers(12, 40, size=2)
        house = heights[row : row + rows, col : col + cols]
        house[...] = house.mean() + rng.uniform(3, 12)
    return heights + 500


def _crowns(rng: np.random.Generator, field: Heights, share: float) -> Heights:
    """Trees on a share of the area."""
    n = len(field)
    crowns = np.zeros((n, n))
    wooded = field > np.quantile(field, 1 - share)
    for _ in range(int(n * n * share / 60)):
        row, col = rng.integers(n, size=2)
        if not wooded[row, col]:
            continue
        radius, height = rng.uniform(2.5, 8), rng.uniform(2, 14)
        top, left = max(0, int(row - radius)), max(0, int(col - radius))
        y, x = np.mgrid[top : min(n, int(row + radius) + 1), left : min(n, int(col + radius) + 1)]
        far = ((y - row) ** 2 + (x - col) ** 2) / radius**2
        part = crowns[y[0, 0] : y[-1, 0] + 1, x[0, 0] : x[0, -1] + 1]
        np.maximum(
            part, np.where(far < 1, height * (0.4 + 0.6 * np.sqrt(np.maximum(1 - far, 0))), 0), out=part
        )
    return crowns


def fractal(rng: np.random.Generator, side: int, roughness: float) -> Heights:
    """(side, side) standardised noise whose power falls with the frequency to the power of `roughness`."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    noise = np.fft.fft2(rng.standard_normal((side, side))) * frequency ** (-roughness / 2)
    field = np.fft.ifft2(noise).real
    return np.asarray((field - field.mean()) / field.std())


def _write(path: Path, heights: Heights, gsd_m: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(gsd_m, 0, 340000, 0, -gsd_m, 7650000)
    profile = {
        "driver": "GTiff",
        "height": len(heights),
        "width": len(heights),
        "count": 1,
        "dtype": "float32",
    }
    with rasterio.open(path, "w", **profile, crs="EPSG:32740", transform=transform) as dataset:
        dataset.write(heights.astype(np.float32), 1)
