"""Where initial and reference DSM differ as construction, demolition or harvest does, not as noise does.

A change is wide, and the images confirm the initial DSM there: what matching got wrong is no change, and
stays for a network to learn from; unless quality layers of the DSM are to decide.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.raster import Band
from resdepth.geo.windows import Window, blocks
from resdepth.runtime.prefetch import in_order
from resdepth.runtime.progress import Progress

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

BLOCK_PX, HALO_PX, TILE_PX = 1024, 128, 256
LEAST_M, SPREADS = 4.0, 5.0
"""What differs by less, in metres or in spreads (NMAD) of all differences, is noise of matching."""
LEAST_M2, NECK_M = 80.0, 5.0
"""Changes are no smaller than this, and wider: walls that lie beside each other are thin."""
CONFIRMED = 0.35
"""The median correlation of two ortho-images from which they confirm the heights that they were made with."""


Range = tuple[float | None, float | None]


class Reads(Protocol):
    """What is read a window at a time: (H, W) float32."""

    def read(self, window: Window) -> Array:
        """(H, W) float32, NaN = unknown."""


@dataclass(frozen=True)
class Changes:
    """How much has changed.

    Attributes:
        threshold_m: from which differences count.
        share: of the pixels with a reference, 0 to 1.
        known: share of the pixels with a reference.
    """

    threshold_m: float
    share: float
    known: float


def write_changes(
    dsm: Band,
    reference: Band,
    spread_m: float,
    targets: tuple[Path, Path],
    *,
    agreement: Reads | None,
    threads: int,
    progress: Progress,
) -> Changes:
    """Write where the surface has changed between two DSMs, and where the reference DSM counts.

    Args:
        dsm: the initial DSM, co-registered, metres.
        reference: on the same grid, NaN = void.
        spread_m: NMAD of the differences.
        targets: of the mask of changes, and of the mask `ground_truth`: known, and not changed.
        agreement: of the best pair of ortho-images; None: nothing confirms changes, and none are marked.
        threads: that compute blocks.
        progress: advances by 1 in all.

    Raises:
        ResDepthError: if a file cannot be written.
    """
    grid, threshold = dsm.grid.flat, max(LEAST_M, SPREADS * spread_m)
    parts = list(blocks(grid.whole, BLOCK_PX))
    jobs = (partial(_block, dsm, reference, agreement, threshold, part) for part in parts)
    changed_px, known_px = 0, 0
    with (
        new_geotiff(targets[0], grid, dtype="uint8", tile=TILE_PX) as changes,
        new_geotiff(targets[1], grid, dtype="uint8", tile=TILE_PX) as counted,
    ):
        for part, (changed, known) in zip(parts, in_order(jobs, threads), strict=True):
            changes.write(part.row, changed.astype(np.uint8), col=part.col)
            counted.write(part.row, (known & ~changed).astype(np.uint8), col=part.col)
            changed_px, known_px = changed_px + int(changed.sum()), known_px + int(known.sum())
            progress.advance(1 / len(parts))
    return Changes(threshold, changed_px / max(known_px, 1), known_px / grid.whole.area)


@dataclass(frozen=True)
class Trust:
    """How much of the initial DSM is trusted.

    Attributes:
        ranges: of the values of each quality layer that asks for trust, lowest and highest; None: any.
        left_out: share of the pixels in which a layer lies outside of its range, 0 to 1.
    """

    ranges: dict[str, Range]
    left_out: float


def write_trusted(
    layers: Sequence[tuple[Band, Range]], counted: Band | None, targets: Sequence[Path], progress: Progress
) -> float:
    """Write where quality layers distrust heights, and where the reference DSM counts in training.

    Args:
        layers: on one grid, NaN = unknown, which is trusted; each with its lowest and highest trusted value.
        counted: the mask `ground_truth`; None without a reference DSM.
        targets: of the mask `low_quality`, and with a reference DSM of the mask `training`.
        progress: advances by 1 in all.

    Returns:
        The share of pixels that are not trusted, 0 to 1.

    Raises:
        ResDepthError: if a file cannot be read or written.
    """
    grid, count = layers[0][0].grid.flat, 0
    parts = list(blocks(grid.whole, BLOCK_PX))
    with ExitStack() as stack:
        files = [
            stack.enter_context(new_geotiff(path, grid, dtype="uint8", tile=TILE_PX)) for path in targets
        ]
        for part in parts:
            low = np.zeros(part.shape, np.bool_)
            for layer, (lowest, highest) in layers:
                values = layer.read(part)
                with np.errstate(invalid="ignore"):
                    low |= values < (-np.inf if lowest is None else np.float32(lowest))
                    low |= values > (np.inf if highest is None else np.float32(highest))
            files[0].write(part.row, low.astype(np.uint8), col=part.col)
            if counted is not None:
                files[1].write(part.row, ((counted.read(part) == 1) & ~low).astype(np.uint8), col=part.col)
            count += int(low.sum())
            progress.advance(1 / len(parts))
    return count / grid.whole.area


def changed_places(differences: Array, agreement: Array, threshold_m: float, gsd_m: float) -> Mask:
    """Where differences are large over an area that no wall and no noise fills, and images confirm them.

    Args:
        differences: (H, W) float32, metres, NaN = unknown.
        agreement: (H, W) float32, correlation of ortho-images, -1 to 1, NaN = unknown.
        threshold_m: from which they count.
        gsd_m: pixel size.
    """
    side = max(round(NECK_M / gsd_m), 1)
    brush = np.ones((side, side), np.uint8)
    result = np.zeros(differences.shape, np.bool_)
    for sign in (1, -1):
        with np.errstate(invalid="ignore"):
            large = (sign * differences > threshold_m).astype(np.uint8)
        wide = cv2.morphologyEx(large, cv2.MORPH_OPEN, brush)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(wide, connectivity=8)
        big = stats[:, cv2.CC_STAT_AREA] * gsd_m**2 >= LEAST_M2
        for number in range(1, count):
            if big[number]:
                seen = agreement[labels == number]
                seen = seen[~np.isnan(seen)]
                big[number] = bool(seen.size and np.median(seen) >= CONFIRMED)
        big[0] = False
        near = cv2.dilate(big[labels].astype(np.uint8), brush).astype(np.bool_)
        result |= near & large.astype(np.bool_)
    return result


def _block(
    dsm: Band, reference: Band, agreement: Reads | None, threshold: float, part: Window
) -> tuple[Mask, Mask]:
    outer = part.grown(HALO_PX, within=dsm.grid.whole)
    differences = dsm.read(outer) - reference.read(outer)
    inner = part.relative_to(outer).slices
    known = ~np.isnan(differences)[inner]
    if agreement is None:
        return np.zeros(part.shape, np.bool_), known
    changed = changed_places(differences, agreement.read(outer), threshold, dsm.grid.gsd_m)
    return changed[inner], known
