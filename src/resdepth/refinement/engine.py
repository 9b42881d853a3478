"""How a network runs: on which device, in which precision, with which weights, how many tiles at once."""

import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from resdepth.data.normalization import normalize, normalize_patch
from resdepth.errors import ResDepthError
from resdepth.geo.windows import Window, row_bands
from resdepth.models.fusion_unet import DeployedFusion
from resdepth.models.inference import DeployedUNet, deployed
from resdepth.models.model import Model, check_weights
from resdepth.options import Device, Precision
from resdepth.runtime.surroundings import Footprint, return_unused_memory

Array = NDArray[np.float32]
Margin = tuple[tuple[int, int], tuple[int, int]]
"""Pixels above and below, to the left and to the right."""

logger = logging.getLogger(__name__)

# Pixels per step. A larger batch gains nothing on a CPU and costs memory.
_BATCH_PIXELS = {"cpu": 1 << 18, "mps": 1 << 20, "cuda": 1 << 21}
# What the network may take for a block of seamless refinement, and what it takes, in maps of its first level.
# Larger blocks waste less on their surroundings.
_BLOCK_BYTES = {"cpu": 1056 << 20, "mps": 1056 << 20, "cuda": 1 << 33}
_MAPS_AT_ONCE = {torch.float32: 2.6, torch.bfloat16: 3.4}
_LARGEST_BLOCK_PX = 1 << 22
# Side and number of the matrix products by which bfloat16 is compared with fp32, and the gain from which
# on the network gains, too: Winograd's way spares fp32 a part of the multiplications.
_COMPARED_SIDE, _COMPARED, _LEAST_GAIN = 768, 8, 1.3


def choose_device(name: Device) -> torch.device:
    """The device to compute on; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ResDepthError: if the device asked for is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise ResDepthError(f"device: {name!r} is not available here; available: {there}")
    return torch.device(name)


def choose_precision(name: Precision, device: torch.device) -> torch.dtype:
    """What to compute in; "auto" takes bfloat16 where that is faster."""
    if name == "auto":
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32
    if name == "bf16" and not computes_bfloat16(device):
        logger.warning("bfloat16 is not faster than fp32 on this machine (%s)", device)
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


@cache
def computes_bfloat16(device: torch.device) -> bool:
    """Whether this device, of this machine, is faster in bfloat16 than in fp32.

    Processors without AMX may have instructions for it, but some multiply at half the speed of fp32 with
    them: there it is measured.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # since 2.6
        if can.get("amx_bf16"):
            return True
        return bool(can.get("avx512_bf16") or can.get("bf16")) and bfloat16_gain() >= _LEAST_GAIN
    return False


def bfloat16_gain() -> float:
    """How many times as fast matrix products are in bfloat16 as in fp32, on the CPU; a tenth of a second."""
    seconds: dict[torch.dtype, float] = {}
    side, dtypes = _COMPARED_SIDE, (torch.float32, torch.bfloat16)
    factors = {dtype: torch.ones(side, side, dtype=dtype) for dtype in dtypes}
    for _ in range(_COMPARED):  # in turns, and the fastest of each: other processes disturb
        for dtype, factor in factors.items():
            began = time.perf_counter()
            factor @ factor
            seconds[dtype] = min(time.perf_counter() - began, seconds.get(dtype, math.inf))
    return seconds[torch.float32] / seconds[torch.bfloat16]


class Refiner:
    """A model that refines tiles on one device; its network is built when it is first asked."""

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device,
        batch_size: int | None = None,
        precision: torch.dtype = torch.float32,
        beyond: Model | None = None,
    ) -> None:
        """Choose how to run.

        Args:
            model: the trained model.
            device: where it runs.
            batch_size: tiles per step; by default what suits the device.
            precision: what the network computes in; heights stay float32.
            beyond: a model of the same halo and depth without images, for what no image shows in seamless
                refinement.

        Raises:
            ResDepthError: if the model's weights do not fit its architecture.
        """
        check_weights(model.architecture, model.weights)
        self.model, self.device, self.inputs = model, device, model.architecture.inputs
        self.precision = precision
        self.beyond = None if beyond is None else Refiner(beyond, device=device, precision=precision)
        self._asked_batch_size, self._footprint = batch_size, Footprint()

    @cached_property
    def _network(self) -> DeployedUNet | DeployedFusion:
        network = deployed(self.model.network(), self.precision, self.device)
        return_unused_memory()
        return network

    def batch_size(self, tile: int) -> int:
        """How many tiles of this size to give at once."""
        return self._asked_batch_size or max(1, _BATCH_PIXELS[self.device.type] // tile**2)

    def block_area(self) -> int:
        """Pixels of the largest block that seamless refinement should compute at once, halo included.

        A block of a single cell may be larger, if the network is very deep.
        """
        return int(min(_BLOCK_BYTES[self.device.type] / self.bytes_per_pixel, _LARGEST_BLOCK_PX))

    @property
    def bytes_per_pixel(self) -> float:
        """Memory that the network's maps take for each pixel of a block, halo included."""
        first_level = self.model.architecture.network.start_kernel
        return float(first_level * self.precision.itemsize * _MAPS_AT_ONCE[self.precision])

    def refine(self, dsm: Array, views: Array) -> Array:
        """Refined heights of several tiles, each with its own mean height as reference.

        Args:
            dsm: (B, T, T) float32, metres, NaN = void, seen as the tile's mean; T is a multiple of 2^depth.
            views: (B, V, T, T) float32 grey values, NaN = void.

        Returns:
            (B, T, T) float32, metres.
        """
        patches = [
            normalize_patch(heights, images, self.model.normalization, self.inputs)
            for heights, images in zip(dsm, views, strict=True)
        ]
        predicted = self.run(np.stack([patch.channels for patch in patches]))
        centres = np.array([patch.centre for patch in patches])[:, None, None]
        refined: Array = (predicted * np.float64(self.model.normalization.height_sigma) + centres).astype(
            np.float32
        )
        return refined

    def refine_above(
        self,
        reference: NDArray[np.float64],
        dsm: Array,
        views: Sequence[Array],
        inside: Window,
        margin: Margin,
    ) -> tuple[Array, Array | None]:
        """Refined heights of a part of an area, with a reference height for each pixel, and their errors.

        Args:
            reference: (H, W) metres; NaN where there is none.
            dsm: (H, W) float32, metres, NaN = void, seen as a height at the reference.
            views: (H, W) float32 grey values each, NaN = void.
            inside: the part, (h, w) pixels, with the model's halo around it within area and margin.
            margin: how far to continue the area by reflection, so that its sides become multiples of
                2^depth.

        Returns:
            (h, w) float32 each, metres; heights are NaN where there is no reference. The second is None if
            the network does not know it.
        """
        channels = normalize(dsm, reference, views, self.model.normalization, self.inputs)
        (above, _), (left, _) = margin
        if any(map(any, margin)):
            channels = np.pad(channels, ((0, 0), *margin), mode="symmetric")
        halo = self.model.architecture.halo_px
        predicted = self.run_inside(channels[None])[0]  # (K, H + margins - 2 halo, W + margins - 2 halo)
        part = inside.moved(above - halo, left - halo).slices
        normalized = predicted[0][part]
        sigma = np.float64(self.model.normalization.height_sigma)
        above_zero, refined = reference[inside.slices], np.empty(inside.shape, np.float32)
        for rows in row_bands(inside.shape):
            refined[rows] = normalized[rows] * sigma + above_zero[rows]
        if not self.model.architecture.knows_error:
            return refined, None
        return refined, predicted[1][part] * np.float32(sigma)

    def run(self, channels: Array) -> Array:
        """What the network says of tiles, normalised: (B, C, H, W) to (B, H, W)."""
        return self._said("forward", channels)[:, 0]

    def run_inside(self, channels: Array) -> Array:
        """What it says inside its halo, normalised: (B, C, H, W) to (B, K, H - 2 halo, W - 2 halo).

        K is 1: heights, or 2 for networks that know their error.
        """
        return self._said("inside", channels)

    def _said(self, way: Literal["forward", "inside"], channels: Array) -> Array:
        with _ONE_AT_A_TIME, torch.inference_mode(), _repeatable(self.device):
            given = torch.from_numpy(channels).to(self.device, memory_format=torch.channels_last)
            said: Array = getattr(self._network, way)(given).float().cpu().numpy()
        self._footprint.settle(channels.size)
        return said


# Threads that run networks side by side would share what one of them has, and take twice the memory; and how
# float32 is computed is one setting for all.
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Let float32 be float32, and the same numbers come out each time, whatever the program around chose."""
    cudnn: Any = torch.backends.cudnn
    wanted = {"enabled": True, "deterministic": True, "benchmark": False} if device.type == "cuda" else {}
    before = {name: getattr(cudnn, name) for name in wanted}
    with unrounded_float32():
        try:
            for name, value in wanted.items():
                setattr(cudnn, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(cudnn, name, value)


# torch lets settings of an operation follow those of its library, and these a common one. Reading gives what
# holds in the end, so that what was set itself shows only when its parent changes.
_COMMON = ("generic", "all")
_LIBRARIES = (("cuda", "all"), ("mkldnn", "all"))
_OPERATIONS = tuple((library, name) for library, _ in _LIBRARIES for name in ("conv", "rnn", "matmul"))
_PRODUCTS = (("cuda", "matmul"), ("mkldnn", "matmul"))  # which the older setting sets, too
_FOLLOWS, _EXACT, _ROUNDED = "none", "ieee", "tf32"
# What the older setting for matrix products stands for in the newer ones of CUDA and oneDNN.
_OLDER = {"highest": (_EXACT, _EXACT), "high": (_ROUNDED, _ROUNDED), "medium": (_ROUNDED, "bf16")}

Setting = tuple[str, str]
_torch: Any = torch._C


@contextmanager
def unrounded_float32() -> Iterator[None]:
    """Compute in float32 as it is; afterwards everything is set as the program around had it."""
    if not hasattr(_torch, "_get_fp32_precision_getter"):  # before torch 2.9
        with _unrounded_by_older_settings():
            yield
        return
    newer = _own_settings()
    older = "highest"
    try:
        older = _older_setting()
        torch.set_float32_matmul_precision("highest")
        _put(dict.fromkeys(newer, _EXACT))
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        _put(newer)


def _own_settings() -> dict[Setting, str]:
    """The settings that do not follow another, and what they are.

    Those that follow are not to be set: some are something else while nobody has ever set them (the
    convolutions of CUDA are rounded then), and there is no way back.
    """
    own = {_COMMON: _read(_COMMON)}
    try:
        own |= _not_following(_LIBRARIES)
        _put(dict.fromkeys(own, _FOLLOWS))
        return {**dict.fromkeys(_PRODUCTS, _FOLLOWS), **own, **_not_following(_OPERATIONS)}
    except BaseException:
        _put(own)
        raise


def _not_following(settings: Iterable[Setting]) -> dict[Setting, str]:
    seen = []
    for value in (_EXACT, _ROUNDED):
        _put({_COMMON: value})
        seen.append({setting: _read(setting) for setting in settings})
    return {setting: value for setting, value in seen[0].items() if seen[1][setting] == value}


def _older_setting() -> str:
    """The older setting, which torch gives only where the newer ones agree with it."""
    for name, (cuda, mkldnn) in _OLDER.items():
        _put(dict(zip(_PRODUCTS, (cuda, mkldnn), strict=True)))
        try:
            found = torch.get_float32_matmul_precision()
        except RuntimeError:
            continue
        if found == name:
            return name
    return "highest"


def _read(setting: Setting) -> str:
    found: str = _torch._get_fp32_precision_getter(*setting)
    return found


def _put(settings: dict[Setting, str]) -> None:
    for (library, operation), value in settings.items():
        _torch._set_fp32_precision_setter(library, operation, value)


@contextmanager
def _unrounded_by_older_settings() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(before)
