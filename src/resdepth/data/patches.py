"""Training and validation samples: which patch, seen with which views, turned which way.

Everything random about sample i in epoch e follows from (seed, e, i) alone: a resumed run sees what an
undisturbed one sees, whatever the number of threads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resdepth.data.normalization import Array, Inputs, Normalization, normalize_patch, patch_centre
from resdepth.data.scene import Scene, ViewSet
from resdepth.geo.grid import Sides
from resdepth.geo.windows import Window, random_corners, tile_grid
from resdepth.runtime.prefetch import in_order

# Streams of random numbers that must not coincide.
_CORNERS, _PAIRS, _ORDER, _SAMPLE = range(4)


class Sample(NamedTuple):
    """What the network sees and what it should say.

    Attributes:
        channels: (C, T, T) float32, normalised.
        reference: (T, T) float32, metres above `centre`; NaN where unknown or not to be counted.
        centre: mean height of the initial DSM in the patch, metres.
    """

    channels: Array
    reference: Array
    centre: float


@dataclass(frozen=True)
class ScenePatches:
    """The patches of one scene, each with the view sets that it is seen with.

    Attributes:
        scene: where they lie; it has a reference DSM.
        corners: (N, 2) int64, row and column.
        view_sets: the scene's view sets; one empty set for a network without images.
        drawn: (N,) index of the one view set of each patch; None if each patch is seen with all.
        fresh: (N,) for validation, the part of each patch that counts.
    """

    scene: Scene
    corners: NDArray[np.int64]
    view_sets: tuple[ViewSet, ...]
    drawn: NDArray[np.int64] | None = None
    fresh: tuple[Window, ...] | None = None

    def __len__(self) -> int:
        return len(self.corners) * (len(self.view_sets) if self.drawn is None else 1)

    def locate(self, index: int) -> tuple[int, ViewSet]:
        """The patch and the view set of sample `index`."""
        if self.drawn is not None:
            return index, self.view_sets[self.drawn[index]]
        patch, pair = divmod(index, len(self.view_sets))
        return patch, self.view_sets[pair]


def draw_patches(
    scene: Scene,
    regions: Sequence[Window],
    view_sets: Sequence[ViewSet],
    *,
    tile: int,
    n: int,
    all_pairs: bool,
    seed: Sequence[int],
) -> ScenePatches:
    """Random training patches; with `all_pairs` each is seen with every view set, else with a random one."""
    corners = random_corners(regions, tile, n, np.random.default_rng([*seed, _CORNERS]))
    sets = tuple(view_sets) or ((),)
    drawn = None
    if not all_pairs and len(sets) > 1:
        drawn = np.random.default_rng([*seed, _PAIRS]).integers(len(sets), size=n)
    return ScenePatches(scene, corners, sets, drawn)


def validation_patches(
    scene: Scene, regions: Sequence[Window], view_sets: Sequence[ViewSet], *, tile: int
) -> ScenePatches:
    """All tiles of the regions side by side, each pixel counted once, each seen with every view set."""
    grids = [tile_grid(region, tile, tile) for region in regions]
    corners = [(window.row, window.col) for grid in grids for window in grid.windows()]
    fresh = tuple(part for grid in grids for part in grid.fresh())
    return ScenePatches(
        scene, np.array(corners, dtype=np.int64).reshape(-1, 2), tuple(view_sets) or ((),), None, fresh
    )


class SampleSet(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def sample(self, index: int, epoch: int) -> Sample:
        """Sample `index` as it looks in `epoch`."""


class _Patches:
    def __init__(
        self, parts: Sequence[ScenePatches], tile: int, normalization: Normalization, inputs: Inputs
    ) -> None:
        self._parts, self._tile = tuple(parts), tile
        self._ends = np.cumsum([len(part) for part in parts])
        self._normalization, self._inputs = normalization, inputs

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _locate(self, index: int) -> tuple[ScenePatches, int, ViewSet]:
        which = int(np.searchsorted(self._ends, index, side="right"))
        part = self._parts[which]
        return part, *part.locate(index - int(self._ends[which]) + len(part))

    def _read(self, part: ScenePatches, patch: int, view_set: ViewSet) -> Sample:
        row, col = part.corners[patch]
        window = Window(int(row), int(col), self._tile, self._tile)
        scene = part.scene
        if scene.reference is None:
            raise ValueError(f"scene {scene.name!r} has no reference DSM")
        dsm, reference = scene.dsm.read(window), scene.counted_reference(window)
        seen = normalize_patch(dsm, scene.read_views(view_set, window), self._normalization, self._inputs)
        return Sample(seen.channels, (reference - np.float64(seen.centre)).astype(np.float32), seen.centre)


@dataclass(frozen=True)
class Variation:
    """What differs from visit to visit of a training sample.

    Attributes:
        turn: quarter turns and flips.
        permute: the order of the views.
        stretch: the relief is multiplied by a factor between 1/stretch and stretch, log-uniform.
    """

    turn: bool = True
    permute: bool = True
    stretch: float = 1.0


class TrainingSamples(_Patches):
    """Random patches, varied at each visit."""

    def __init__(
        self,
        parts: Sequence[ScenePatches],
        tile: int,
        normalization: Normalization,
        inputs: Inputs,
        variation: Variation,
        seed: int,
    ) -> None:
        super().__init__(parts, tile, normalization, inputs)
        self._variation, self._seed = variation, seed

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The order of the samples in an epoch."""
        return np.random.default_rng([self._seed, _ORDER, epoch]).permutation(len(self))

    def sample(self, index: int, epoch: int) -> Sample:
        """Sample `index` as it looks in `epoch`."""
        rng = np.random.default_rng([self._seed, _SAMPLE, epoch, index])
        part, patch, view_set = self._locate(index)
        if self._variation.permute and len(view_set) > 1:
            view_set = tuple(view_set[i] for i in rng.permutation(len(view_set)))
        sample = self._read(part, patch, view_set)
        if self._variation.turn:
            sample = _turned(sample, rng)
        if self._variation.stretch > 1:
            sample = self._stretched(sample, rng)
        return sample

    def _stretched(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The same place with higher or lower relief: all heights above the centre, multiplied."""
        limit = np.log(self._variation.stretch)
        factor = np.float32(np.exp(rng.uniform(-limit, limit)))
        channels = sample.channels.copy()
        channels[: int(self._inputs.uses_dsm)] *= factor
        return Sample(channels, sample.reference * factor, sample.centre)


def _turned(sample: Sample, rng: np.random.Generator) -> Sample:
    quarter_turns, upside_down, mirrored = int(rng.integers(4)), rng.random() < 0.5, rng.random() < 0.5

    def turned(values: Array) -> Array:
        values = np.rot90(values, quarter_turns, axes=(-2, -1))
        values = values[..., ::-1, :] if upside_down else values
        return values[..., ::-1] if mirrored else values

    return Sample(turned(sample.channels), turned(sample.reference), sample.centre)


class ValidationSamples(_Patches):
    """Every tile as it is; pixels that an earlier tile counted have no reference height."""

    def order(self, epoch: int) -> NDArray[np.int64]:  # noqa: ARG002 - the same in each epoch
        """The samples one after the other."""
        return np.arange(len(self))

    def sample(self, index: int, epoch: int) -> Sample:  # noqa: ARG002 - as in order
        """Sample `index`; the epoch does not matter."""
        part, patch, view_set = self._locate(index)
        read = self._read(part, patch, view_set)
        if part.fresh is None:
            return read
        counted = np.full_like(read.reference, np.nan)
        fresh = part.fresh[patch].slices
        counted[fresh] = read.reference[fresh]
        return read._replace(reference=counted)

    def initial(self, index: int) -> Array:
        """The initial heights of sample `index`, (T, T) float32, metres above its centre."""
        part, patch, _ = self._locate(index)
        row, col = part.corners[patch]
        dsm = part.scene.dsm.read(Window(int(row), int(col), self._tile, self._tile))
        return (dsm - np.float64(patch_centre(dsm))).astype(np.float32)

    def sides(self, index: int) -> Sides:
        """Sides of a pixel of sample `index`."""
        return self._locate(index)[0].scene.grid.sides_m


class InitialSamples:
    """Validation samples whose one channel is the initial DSM, metres above the centre: its own answer."""

    def __init__(self, samples: ValidationSamples) -> None:
        self._samples, self.order = samples, samples.order

    def __len__(self) -> int:
        return len(self._samples)

    def sample(self, index: int, epoch: int) -> Sample:
        """Sample `index`; the epoch does not matter."""
        return self._samples.sample(index, epoch)._replace(channels=self._samples.initial(index)[None])


class Batch(NamedTuple):
    """Samples side by side.

    Attributes:
        channels: (B, C, T, T) float32.
        reference: (B, 1, T, T) float32, metres above the patch's centre; NaN = not counted.
    """

    channels: Tensor
    reference: Tensor


def _collate(samples: SampleSet, indices: NDArray[np.int64], epoch: int) -> Batch:
    read = [samples.sample(int(index), epoch) for index in indices]
    channels = torch.from_numpy(np.stack([sample.channels for sample in read]))
    reference = torch.from_numpy(np.stack([sample.reference for sample in read])[:, None])
    return Batch(channels, reference)


def batches(
    samples: SampleSet,
    order: NDArray[np.int64],
    *,
    batch_size: int,
    epoch: int,
    workers: int,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """The samples in the given order, prepared ahead by `workers` threads (0: when asked for).

    Processes that train together share each batch of `batch_size` samples apiece; this gives the part of
    one of them.
    """
    whole = batch_size * processes
    groups = (_part(order[start : start + whole], rank, processes) for start in range(0, len(order), whole))
    yield from in_order((partial(_collate, samples, group, epoch) for group in groups), workers)


def _part(batch: NDArray[np.int64], rank: int, processes: int) -> NDArray[np.int64]:
    """What one of some processes computes of a batch; nobody's part is empty."""
    if len(batch) < processes:
        return batch  # all of it, by each of them: means over the processes stay what they are
    return np.array_split(batch, processes)[rank]
