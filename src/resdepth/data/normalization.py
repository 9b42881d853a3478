"""What a network sees: metres and grey values made that, and back (ResDepth, ISPRS 2022, section 3.4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.raster import Band
from resdepth.geo.windows import Window, row_bands

InputChannels = Literal["geom", "geom-mono", "geom-stereo", "geom-multiview", "stereo"]
ModelInputs = Literal["geom", "geom-mono", "geom-stereo", "geom-multiview", "stereo", "geom-matched"]
"""What stored models see: also heights matched in raw images, and how the images agree about them."""
MultiviewConfig = Literal["3-view", "4-view", "5-view"]

_VIEWS: dict[str, int] = {"geom": 0, "geom-mono": 1, "geom-stereo": 2, "stereo": 2}
_MULTIVIEW_FOLDER = "Imagepair"
_VIEW_SET_FOLDERS = {1: "Image", 2: "Stereopair"}
_MATCHED = "geom-matched"
N_MATCHED_LAYERS = 5
"""Rasters that a pair of images gives (stereo/remeasure.py)."""


@dataclass(frozen=True)
class Inputs:
    """The channels of a network's input: the DSM first, if it is used, then the views.

    Attributes:
        uses_dsm: whether the initial DSM is a channel.
        n_views: the number of ortho-images; or of the rasters that a pair of images gives.
        matched: whether these are heights and agreements, not grey values (`normalize_matched`).
    """

    uses_dsm: bool
    n_views: int
    matched: bool = False

    @property
    def n_channels(self) -> int:
        """The number of channels; where heights are matched is one more."""
        return int(self.uses_dsm) + self.n_views + int(self.matched)

    def folder_name(self, view_set: tuple[int, ...]) -> str:
        """The published name of the result folder of one view set, "Stereopair_0_1"; "" without views."""
        if not view_set:
            return ""
        stem = _VIEW_SET_FOLDERS.get(self.n_views, _MULTIVIEW_FOLDER)
        return "_".join([stem, *(str(index) for index in view_set)])


def inputs_for_training(input_channels: InputChannels, multiview: MultiviewConfig) -> Inputs:
    """The inputs that a training configuration asks for."""
    n_views = _VIEWS.get(input_channels, int(multiview[0]))
    return Inputs(uses_dsm=input_channels != "stereo", n_views=n_views)


def inputs_of_network(input_channels: InputChannels, n_input_channels: int) -> Inputs:
    """The inputs of a trained network, which states its number of channels.

    Raises:
        ValueError: for an unknown name, or if the two contradict each other.
    """
    if input_channels == _MATCHED:
        inputs = Inputs(uses_dsm=True, n_views=N_MATCHED_LAYERS, matched=True)
        if n_input_channels != inputs.n_channels:
            raise ValueError(f"input_channels is {_MATCHED!r} but n_input_channels is {n_input_channels}")
        return inputs
    known = get_args(InputChannels)
    if input_channels not in known:
        raise ValueError(f"input_channels is {input_channels!r}; known: {', '.join(known)}")
    uses_dsm = input_channels != "stereo"
    inputs = Inputs(uses_dsm, n_input_channels - int(uses_dsm))
    expected = _VIEWS.get(input_channels)
    if inputs.n_views != expected and not (expected is None and inputs.n_views in (3, 4, 5)):
        raise ValueError(f"input_channels is {input_channels!r} but n_input_channels is {n_input_channels}")
    return inputs


Array = NDArray[np.float32]

ROWS_AT_ONCE = 512
TRIMMED_PERCENT = 5
NOISE = (0.020, 0.028)
"""Shares of a pixel's side: between both a DSM becomes noisy (docs/real-data.md has examples)."""


@dataclass(frozen=True)
class Normalization:
    """The constants of one training run.

    Attributes:
        height_sigma: metres per normalised unit of height.
        image_mean, image_std: of the grey values; None for networks without images.
    """

    height_sigma: float
    image_mean: float | None = None
    image_std: float | None = None


@dataclass(frozen=True)
class NormalizedPatch:
    """One network input.

    Attributes:
        channels: (C, H, W) float32, without voids.
        centre: mean height of the initial DSM in the patch, metres; what was subtracted.
    """

    channels: Array
    centre: float


def normalize_patch(
    dsm: Array, views: Array, normalization: Normalization, inputs: Inputs
) -> NormalizedPatch:
    """The channels of one patch: the DSM minus its own mean, over sigma; the views standardised.

    Args:
        dsm: (H, W) float32, metres; voids count as the patch's mean height.
        views: (V, H, W) float32 grey values, NaN = void; voids become the mean grey value.
        normalization: the run's constants.
        inputs: what the network sees.
    """
    centre = patch_centre(dsm)
    return NormalizedPatch(normalize(dsm, np.float64(centre), views, normalization, inputs), centre)


def normalize(
    dsm: Array,
    reference: NDArray[np.float64] | np.float64,
    views: Sequence[Array] | Array,
    normalization: Normalization,
    inputs: Inputs,
) -> Array:
    """The channels that a network sees: the DSM above a reference, over sigma; the views standardised.

    Args:
        dsm: (H, W) float32, metres; voids count as heights at the reference.
        reference: metres, one for all or (H, W); where it is NaN the DSM counts as void.
        views: V of (H, W) float32 grey values, NaN = void; voids become the mean grey value.
        normalization: the run's constants.
        inputs: what the network sees.

    Returns:
        (C, H, W) float32, without voids.
    """
    if inputs.matched:
        return normalize_matched(dsm, reference, views, normalization.height_sigma)
    channels = np.empty((inputs.n_channels, *dsm.shape), dtype=np.float32)
    seen: list[tuple[Array, NDArray[Any], float]] = []
    if inputs.uses_dsm:
        seen.append((dsm, np.broadcast_to(reference, dsm.shape), normalization.height_sigma))
    if inputs.n_views:
        if normalization.image_mean is None or normalization.image_std is None:
            raise ValueError("a network with images needs image_mean and image_std")
        mean = np.broadcast_to(np.float32(normalization.image_mean), dsm.shape)
        seen.extend((view, mean, normalization.image_std) for view in views)
    for channel, (values, zero, unit) in zip(channels, seen, strict=True):
        for rows in row_bands(dsm.shape):
            some = channel[rows]
            np.subtract(values[rows], zero[rows], out=some)
            some /= np.float32(unit)
            np.copyto(some, 0, where=np.isnan(some))
    return channels


def normalize_matched(
    dsm: Array, reference: NDArray[np.float64] | np.float64, layers: Sequence[Array] | Array, unit_m: float
) -> Array:
    """The channels of the fusion network, see `FusionUNet.predict`.

    Args:
        dsm: (H, W) float32, metres; voids count as heights at the reference.
        reference: metres, one for all or (H, W).
        layers: none, or five of (H, W) float32: matched heights in metres, four correlations; NaN = unknown.
        unit_m: metres per normalised unit of height.

    Returns:
        (7, H, W) float32, without voids.
    """
    channels = np.zeros((7, *dsm.shape), dtype=np.float32)
    zero, unit = np.broadcast_to(reference, dsm.shape), np.float32(unit_m)
    for rows in row_bands(dsm.shape):
        initial, matched, known, *agreements = channels[:, rows]
        np.subtract(dsm[rows], zero[rows], out=initial)
        initial /= unit
        np.copyto(initial, 0, where=np.isnan(initial))
        matched[...] = initial
        if not len(layers):
            continue
        found = ~np.isnan(layers[0][rows])
        known[...] = found
        np.copyto(matched, (layers[0][rows] - zero[rows]) / unit, where=found)
        for channel, layer in zip(agreements, layers[1:], strict=True):
            np.copyto(channel, layer[rows], where=~np.isnan(layer[rows]))
    return channels


def patch_centre(dsm: Array) -> float:
    """Mean height of a patch in metres, voids left out; 0 if all is void."""
    total = float(np.sum(dsm, dtype=np.float64))
    if np.isfinite(total):
        return total / dsm.size
    valid = dsm[np.isfinite(dsm)]
    return float(valid.mean(dtype=np.float64)) if valid.size else 0.0


def noise_share(patches: Iterable[Array], side_m: float) -> float:
    """How noisy a DSM is: 0 where neighbours agree, 1 where they do not, between the limits of NOISE.

    Roofs, rocks and trees make heights differ from the mean of their four neighbours as noise does, but not
    on the smoothest ground: of all that differ at all, the lowest decile counts. Filled voids are flat and
    count for nothing; where most is flat, that is how the DSM is.

    Args:
        patches: (H, W) float32 each, metres, NaN = void.
        side_m: side of a pixel, metres.
    """
    found = [_unlike_neighbours(patch) for patch in patches]
    differences = np.concatenate([np.empty(0, np.float32), *found])
    unlike = differences[differences > 0]
    if unlike.size <= differences.size / 2:
        return 0.0
    quietest, noisiest = NOISE
    noise = np.quantile(unlike, 0.1) / side_m
    return float(np.clip((noise - quietest) / (noisiest - quietest), 0, 1))


def _unlike_neighbours(patch: Array) -> NDArray[np.float32]:
    """How far heights are from the mean of their four neighbours, metres; those that are known."""
    around = (patch[:-2, 1:-1] + patch[2:, 1:-1] + patch[1:-1, :-2] + patch[1:-1, 2:]) / 4
    found = np.abs(patch[1:-1, 1:-1] - around)
    return found[np.isfinite(found)]


def height_sigma(patches: Iterable[Array]) -> float:
    """One scale for all heights: the trimmed mean of the patches' standard deviations.

    Of each patch the sample standard deviation (n - 1) is taken, voids left out; the lowest and highest
    5 % are dropped (the bounds stay in); the rest is averaged.

    Args:
        patches: (H, W) float32 each, metres, NaN = void.

    Raises:
        ValueError: if no patch has two valid heights, or all are flat.
    """
    spreads = np.array([_sample_std(patch) for patch in patches])
    spreads = spreads[np.isfinite(spreads)]
    if not spreads.size:
        raise ValueError("no patch holds two valid heights")
    low, high = np.percentile(spreads, [TRIMMED_PERCENT, 100 - TRIMMED_PERCENT])
    sigma = float(spreads[(spreads >= low) & (spreads <= high)].mean())
    if sigma <= 0:
        raise ValueError("the heights of all patches are constant")
    return sigma


def _sample_std(patch: Array) -> float:
    valid = patch[np.isfinite(patch)]
    return float(valid.std(dtype=np.float64, ddof=1)) if valid.size > 1 else np.nan


def image_statistics(images: Iterable[tuple[Band, tuple[Window, ...]]]) -> tuple[float, float]:
    """Mean and population standard deviation of grey values, voids left out.

    Each image is read in strips over its windows; the strips' moments are merged (Chan et al. 1983).

    Raises:
        ValueError: if there is no valid pixel, or all have one value.
    """
    count, mean, squares = 0, 0.0, 0.0
    for band, windows in images:
        for window in windows:
            for row in range(window.row, window.row_stop, ROWS_AT_ONCE):
                height = min(ROWS_AT_ONCE, window.row_stop - row)
                values = band.read(Window(row, window.col, height, window.width))
                values = values[np.isfinite(values)]
                if not values.size:
                    continue
                strip_mean = float(values.mean(dtype=np.float64))
                squares += float(np.square(values - strip_mean, dtype=np.float64).sum())
                shift = strip_mean - mean
                squares += shift**2 * count * values.size / (count + values.size)
                count += values.size
                mean += shift * values.size / count
    std = float(np.sqrt(squares / count)) if count else 0.0
    if std == 0:
        raise ValueError("the images hold no valid pixel or a single grey value")
    return mean, std
