"""The published way of doing it, written anew from its description, for comparison only.

Whole rasters are held as float32; the network runs as PyTorch builds it (eager, fp32, contiguous, BatchNorm
on its own), one tile at a time in refinement; the allocator is left as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resdepth.geo.windows import axis_tiles
from resdepth.refinement.tiles import axis_weights
from setting import HEIGHT_SIGMA, IMAGE_MEAN, IMAGE_STD, SceneFiles

Array = NDArray[np.float32]

NODATA = -9999.0


@dataclass(frozen=True)
class Rasters:
    """A scene, read whole.

    Attributes:
        dsm, reference: (H, W) float32, metres, NODATA = void.
        views: (V, H, W) float32 grey values.
    """

    dsm: Array
    reference: Array
    views: Array


def read_rasters(files: SceneFiles) -> Rasters:
    """All pixels of all rasters."""
    return Rasters(_read(files.dsm), _read(files.reference), np.stack([_read(path) for path in files.views]))


def _read(path: Path) -> Array:
    with rasterio.open(path) as dataset:
        values: Array = dataset.read(1).astype(np.float32)
    return values


def normalized(dsm: Array, views: Array) -> tuple[Tensor, float]:
    """(1 + V, T, T) channels of one patch, and the mean height that was subtracted."""
    centre = float(dsm.mean(dtype=np.float64))
    heights = (dsm - centre) / HEIGHT_SIGMA
    grey = (views - IMAGE_MEAN) / IMAGE_STD
    return torch.from_numpy(np.concatenate([heights[None], grey]).astype(np.float32)), centre


@torch.no_grad()
def refine(dsm: Array, views: Array, network: nn.Module, tile: int) -> Array:
    """Refined heights, tile by tile with stride tile / 2, merged with linear ramps in one raster.

    Args:
        dsm: (H, W) float32, metres.
        views: (V, H, W) float32 grey values.
        network: in evaluation mode.
        tile: side of a tile in pixels.
    """
    rows, cols = (axis_tiles(length, tile, tile // 2) for length in dsm.shape)
    row_weights, col_weights = axis_weights(rows, tile), axis_weights(cols, tile)
    refined = np.zeros(dsm.shape, dtype=np.float32)
    for row, down in zip(rows, row_weights, strict=True):
        for col, across in zip(cols, col_weights, strict=True):
            part = (slice(row.start, row.start + tile), slice(col.start, col.start + tile))
            channels, centre = normalized(dsm[part], views[(slice(None), *part)])
            predicted = network(channels[None])[0, 0].numpy() * HEIGHT_SIGMA + centre
            refined[part] += (np.outer(down, across) * predicted).astype(np.float32)
    return refined


def training_batches(
    rasters: Rasters, tile: int, batch: int, steps: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Channels (B, 1 + V, T, T), reference (B, 1, T, T) and mean heights (B,), prepared when asked for."""
    for _ in range(steps):
        samples = [_sample(rasters, tile, rng) for _ in range(batch)]
        channels, truths, centres = zip(*samples, strict=True)
        yield torch.stack(channels), torch.stack(truths), torch.tensor(centres)


def _sample(rasters: Rasters, tile: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    row, col = (int(rng.integers(length - tile + 1)) for length in rasters.dsm.shape)
    part = (slice(row, row + tile), slice(col, col + tile))
    order = rng.permutation(len(rasters.views))
    channels, centre = normalized(rasters.dsm[part], rasters.views[(order, *part)])
    reference = torch.from_numpy(rasters.reference[part].copy())[None]
    turns = int(rng.integers(4))
    flipped = [axis for axis in (-2, -1) if rng.random() < 0.5]

    def turned(values: Tensor) -> Tensor:
        return torch.flip(torch.rot90(values, turns, (-2, -1)), flipped)

    return turned(channels), turned(reference), centre


def train(
    network: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[Sequence[Tensor]]
) -> list[float]:
    """Take one step per batch; returns their losses in metres."""
    losses = []
    for channels, reference, centres in batches:
        refined = network(channels) * HEIGHT_SIGMA + centres.view(-1, 1, 1, 1)
        known = reference != NODATA
        loss = (refined[known] - reference[known]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
