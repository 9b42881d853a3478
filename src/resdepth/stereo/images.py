"""Raw satellite images on disk, whole and reduced, each with the RPC that says where its pixels lie."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand
from resdepth.geo.rpc import Rpc
from resdepth.geo.windows import Window
from resdepth.stereo.ortho import read_rpc

Array = NDArray[np.float32]


class Image(Protocol):
    """A raw image, read a window at a time."""

    rpc: Rpc
    grid: Grid

    def read(self, window: Window) -> Array:
        """(H, W) float32 grey values, NaN = nothing seen."""


class RawImage:
    """A raw satellite image with the RPC in its tags."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            ResDepthError: if it cannot be read, or has no RPC.
        """
        self.path, self._band = path, FileBand(path)
        self.rpc, self.grid = read_rpc(path), self._band.grid

    def read(self, window: Window) -> Array:
        """(H, W) float32 grey values, NaN = nothing seen."""
        return self._band.read(window)


class ReducedImage:
    """An image of larger pixels, each the mean of `factor` x `factor` pixels of another.

    Its grid has a size only: its RPC knows where its pixels lie. What is left of a last row is left out.
    """

    def __init__(self, image: Image, factor: int) -> None:
        self._image, self._factor = image, factor
        row, col, *_ = image.rpc.offsets
        rows, cols, *_ = image.rpc.scales
        half = (factor - 1) / 2  # its first centre lies so far from that of the image
        self.rpc = replace(
            image.rpc,
            offsets=((row - half) / factor, (col - half) / factor, *image.rpc.offsets[2:]),
            scales=(rows / factor, cols / factor, *image.rpc.scales[2:]),
        )
        whole = image.grid
        self.grid = replace(whole, height=whole.height // factor, width=whole.width // factor)

    def read(self, window: Window) -> Array:
        """(H, W) float32 means of grey values, NaN = one of the pixels shows nothing."""
        n = self._factor
        fine = self._image.read(Window(window.row * n, window.col * n, window.height * n, window.width * n))
        means: Array = fine.reshape(window.height, n, window.width, n).mean(axis=(1, 3), dtype=np.float32)
        return means


def reduced(image: Image, factor: int) -> Image:
    """The image in pixels `factor` times as large."""
    return image if factor == 1 else ReducedImage(image, factor)
