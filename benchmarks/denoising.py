"""Real surfaces with errors put on them, refined without images: a table of docs/real-data.md.

python benchmarks/denoising.py ../shared/data

prints the table alone.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.fill import fillnodata
from scipy.ndimage import distance_transform_edt, median_filter

from resdepth import refine

Array = NDArray[np.float32]
Noise = Callable[[float], Array]

# The model has learned from what lies west of the second.
SURFACES = {
    "Delft (lidar)": ("delft_ahn3_0.5m_dsm.tif", 0, 0),
    "North Rhine-Westphalia (lidar)": ("nrw_dom1_1m.tif", 0, 552),
    "The Hague (city model)": ("denhaag_0.5m_dsm.tif", 300, 200),
}
"""Files, and the first row and column that are used."""
SIDE_PX, WIDTHS = 448, (3, 5, 7, 11, 15, 21)
HEAD = """\
| surface | errors put on it | initial [m] | best median [m] | dsm-alone [m] | better [%] | worse [%] |
|---|---|---:|---:|---:|---:|---:|"""
MOVED_M = 0.1
PICTURED, PICTURED_ERRORS, PICTURED_PX = "The Hague (city model)", "uneven, over 1 and 3 px", 400


def spoilt(heights: Array, seed: int) -> Iterator[tuple[str, Array]]:
    """A surface with errors of many kinds."""
    rng = np.random.default_rng(seed)

    def noise(scale_px: float) -> Array:
        field = rng.standard_normal(heights.shape).astype(np.float32)
        smooth = cv2.GaussianBlur(field, (0, 0), scale_px) if scale_px else field
        return np.asarray(smooth / smooth.std(), np.float32)

    yield "none", heights
    for size in (0.1, 0.3, 0.6):
        yield f"each pixel, {size} m", heights + size * noise(0)
    for size in (0.3, 0.6):
        yield f"over 2 px, {size} m", heights + size * noise(1)
    yield "over 1 and 8 px, 0.4 m each", heights + 0.4 * (noise(0.5) + noise(4))
    uneven = 0.3 * (noise(0) + noise(1.5)) * np.exp(0.8 * noise(16))
    yield "uneven, over 1 and 3 px", heights + uneven
    blundered = np.where(noise(3) > 2.3, heights + 4 * noise(6), heights) + 0.15 * noise(0.7)
    yield "blunders and filled voids", _with_filled_voids(blundered, noise(8) > 1.3)
    stepped = np.round((heights + 0.4 * noise(1) * np.exp(0.6 * noise(10))) / 0.5) * 0.5
    yield "steps of 0.5 m, noise, filled voids", _with_filled_voids(stepped, noise(8) > 1.3)


def _with_filled_voids(heights: Array, void: NDArray[np.bool_]) -> Array:
    """The nearest height in each void."""
    nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
    return np.asarray(heights[tuple(nearest)])


def table(truth: Path) -> str:
    """What is left of the errors; folder of the reference DSMs."""
    rows = [HEAD]
    for seed, (name, (file, row, col)) in enumerate(SURFACES.items()):
        reference, gsd_m = _surface(truth / file, row, col)
        plain = _filled(reference)
        for errors, initial in spoilt(plain, seed):
            medians = {width: _error(median_filter(initial, width), reference) for width in WIDTHS}
            best = min(medians, key=lambda width: medians[width])
            refined = np.asarray(refine(initial.astype(np.float32), gsd=gsd_m))
            before, after = (np.abs(one - reference) for one in (initial, refined))
            better, worse = (100 * np.nanmean(one > MOVED_M) for one in (before - after, after - before))
            figures = f"{_error(initial, reference):.3f} | {medians[best]:.3f} ({best} px)"
            moved = f"{_error(refined, reference):.3f} | {better:.0f} | {worse:.0f}"
            rows.append(f"| {name} | {errors} | {figures} | {moved} |")
    return "\n".join(rows)


def pictured(truth: Path) -> dict[str, Array]:
    """A part of a city model with uneven noise, what a filter and the model make of it, and as it is."""
    file, row, col = SURFACES[PICTURED]
    reference, gsd_m = _surface(truth / file, row, col)
    initial = dict(spoilt(_filled(reference), list(SURFACES).index(PICTURED)))[PICTURED_ERRORS]
    medians = [median_filter(initial, width) for width in WIDTHS]
    best = min(medians, key=lambda heights: _error(heights, reference))
    refined = np.asarray(refine(initial.astype(np.float32), gsd=gsd_m))
    shown = {"initial": initial, "best median": best, "refined": refined, "reference": reference}
    return {name: heights[:PICTURED_PX, :PICTURED_PX] for name, heights in shown.items()}


def _surface(path: Path, row: int, col: int) -> tuple[Array, float]:
    """(H, W) metres, NaN where unknown; metres a pixel."""
    with rasterio.open(path) as dataset:
        heights = dataset.read(1, masked=True).astype(np.float32).filled(np.nan)
        gsd_m = float(dataset.res[0])
    return heights[row : row + SIDE_PX, col : col + SIDE_PX], gsd_m


def _filled(heights: Array) -> Array:
    known = np.isfinite(heights)
    return np.asarray(fillnodata(np.where(known, heights, 0), mask=known.astype(np.uint8)), np.float32)


def _error(heights: Array, reference: Array) -> float:
    """MAE in metres."""
    return float(np.nanmean(np.abs(heights - reference)))


if __name__ == "__main__":
    print(table(Path(sys.argv[1]) / "truth"))
