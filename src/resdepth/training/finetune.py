"""Tuning the fusion network to one place, whose surface is known in a part: a few steps from its weights on.

The place is cut into cells. Of most cells the network learns; of some, spread over it, nobody shows it the
reference, and they decide how far to go from the old weights to the new ones (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models", section 3: weights in between do better, and harm less elsewhere).
Where no way brings anything, the model stays as it is.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resdepth.data.normalization import Array, normalize
from resdepth.data.scene import Scene, ViewSet
from resdepth.errors import Interrupted, ResDepthError
from resdepth.geo.windows import Window
from resdepth.models.fusion_unet import FusionUNet
from resdepth.models.model import Model, clone_weights
from resdepth.refinement.blocks import Work, filled_heights, refined_blocks
from resdepth.refinement.engine import Refiner
from resdepth.runtime.prefetch import in_order
from resdepth.runtime.progress import progress_bar
from resdepth.runtime.surroundings import stoppable
from resdepth.training.fusion_loss import LONGEST_GRADIENT, fusion_loss, learning_rate_share
from resdepth.training.learner import move_average

logger = logging.getLogger(__name__)

CELL_PX, BORDER_PX = 64, 8
"""Sides of cells; and how much of a cell that is held out does not count, as it resembles its neighbours."""
LEAST_KNOWN, FEWEST_CELLS = 0.5, 16
HELD_OUT, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.2, 4, 100
PATCH_PX = 128
BIAS_CELLS = 40
"""Of those to learn from, in which the level of refined heights is measured."""
WITHOUT_IMAGES = 0.15
"""Share of the samples that show the DSM alone, so that the network does not forget to refine it."""
LEVEL = 3.0
"""Standard deviation of the level of a patch, normalised: the network must not depend on it."""
WARM_UP, AVERAGED = 20, 0.98
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the way from the old weights to the new ones, which are tried."""
LEAST_GAIN = 0.01
"""Share of the error that must go; less may be chance."""


@dataclass(frozen=True)
class Ground:
    """What the network learns from.

    Attributes:
        scene: DSM, reference DSM, and what is shown beside the DSM.
        view_sets: what is shown together; ((),) without images.
        region: the pixels to learn from.
        bias_m: how far refined heights lie above the reference as a whole, which is not to be learned.
    """

    scene: Scene
    view_sets: tuple[ViewSet, ...]
    region: Window
    bias_m: float = 0.0

    def reference(self, window: Window) -> Array:
        """The reference heights of a window that count, (H, W) float32 metres, raised by the bias."""
        heights = self.scene.counted_reference(window) + np.float32(self.bias_m)
        heights[np.isnan(self.scene.dsm.read(window))] = np.nan  # voids stay voids when it is refined
        return heights


@dataclass(frozen=True)
class Tuning:
    """How the network learns.

    Attributes:
        steps: of the optimizer.
        batch_size: patches of 128 x 128 pixels in a step.
        learning_rate: the highest, after a warm-up; it falls as a cosine.
        seed: decides which cells and patches are drawn.
        device: where it is computed.
    """

    steps: int
    batch_size: int = 8
    learning_rate: float = 3e-4
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Cells:
    """The cells of a place of which enough is known."""

    learned: tuple[Window, ...]
    held_out: tuple[Window, ...]


@dataclass(frozen=True)
class Errors:
    """Of the cells held out, metres."""

    mae_m: float
    medae_m: float


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    Attributes:
        model: the tuned model.
        cells: it has learned from, and decided by.
        share: of the way from the old weights to the new ones.
        initial, before, after: errors of the initial DSM, of the model as it was, and as it is now.
    """

    model: Model
    cells: Cells
    share: float
    initial: Errors
    before: Errors
    after: Errors


def cells_of(ground: Ground, seed: int) -> Cells:
    """The cells to learn from, and those to decide by.

    Raises:
        ResDepthError: if too little is known.
    """
    region = ground.region
    corners = [
        Window(row, col, CELL_PX, CELL_PX)
        for row in range(region.row, region.row_stop - CELL_PX + 1, CELL_PX)
        for col in range(region.col, region.col_stop - CELL_PX + 1, CELL_PX)
    ]
    if min(ground.scene.grid.whole.shape) < PATCH_PX:
        raise ResDepthError(f"the DSM is too small: tuning needs {PATCH_PX} x {PATCH_PX} pixels at least")
    known = [cell for cell in corners if np.isfinite(ground.reference(cell)).mean() >= LEAST_KNOWN]
    if len(known) < FEWEST_CELLS:
        raise ResDepthError(
            f"the reference DSM is known in {len(known)} cells of {CELL_PX} x {CELL_PX} pixels; "
            f"tuning needs {FEWEST_CELLS} of them at least"
        )
    held_out = int(np.clip(HELD_OUT * len(known), FEWEST_HELD_OUT, MOST_HELD_OUT))
    order = np.random.default_rng([seed, 0]).permutation(len(known))
    # One of each stretch of the list: they are spread over the place.
    chosen = {int(stretch[order[index] % len(stretch)]) for index, stretch in enumerate(
        np.array_split(np.arange(len(known)), held_out))}  # fmt: skip
    return Cells(
        tuple(cell for index, cell in enumerate(known) if index not in chosen),
        tuple(known[index] for index in sorted(chosen)),
    )


def tune(model: Model, ground: Ground, tuning: Tuning, beyond: Model | None = None) -> Tuned:
    """Tune a fusion model to a place.

    Args:
        model: with its unit of height, and how noisy the DSM is.
        ground: what to learn from.
        tuning: how.
        beyond: the model without images that refines where no image shows anything.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM.
        ResDepthError: if too little is known, or nothing is gained.
    """
    cells = cells_of(ground, tuning.seed)
    logger.info(
        "learning from %d cells of %d x %d pixels, and deciding by %d",
        len(cells.learned), CELL_PX, CELL_PX, len(cells.held_out),
    )  # fmt: skip

    ground = replace(ground, bias_m=_bias(Refiner(model, device=tuning.device, beyond=beyond), ground, cells))

    def errors_of(weights: Mapping[str, Tensor]) -> Errors:
        tried = replace(model, weights=weights)
        return errors_in(Refiner(tried, device=tuning.device, beyond=beyond), ground, cells)

    initial, before = initial_errors(ground, cells), errors_of(model.weights)
    learned = _learn(model, ground, cells, tuning)
    tried = {share: errors_of(between(model.weights, learned, share)) for share in SHARES}
    for share, errors in tried.items():
        logger.info("%.0f %% of the way: MAE %.3f m, MedAE %.3f m", 100 * share, errors.mae_m, errors.medae_m)
    share = min(tried, key=lambda one: tried[one].mae_m)
    after = tried[share]
    if not after.mae_m <= (1 - LEAST_GAIN) * before.mae_m:
        raise ResDepthError(
            "tuning brings nothing here: in the cells that were held out, the mean absolute error is "
            f"{after.mae_m:.3f} m, with the model as it is {before.mae_m:.3f} m (initial DSM "
            f"{initial.mae_m:.3f} m); no model was written"
        )
    tuned = replace(model, weights=between(model.weights, learned, share))
    return Tuned(tuned, cells, share, initial, before, after)


def between(old: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights a share of the way from old ones to new ones."""
    return {
        name: values.lerp(new[name], share) if values.is_floating_point() else values.clone()
        for name, values in old.items()
    }


def errors_in(refiner: Refiner, ground: Ground, cells: Cells) -> Errors:
    """How far a model's heights are from the reference in the cells held out."""
    return _errors(_above_reference(refiner, ground, cells.held_out))


def _above_reference(refiner: Refiner, ground: Ground, cells: Sequence[Window]) -> Iterator[Array]:
    """How far a model's heights lie above the reference, for each cell; NaN = unknown."""
    tile = int(refiner.model.provenance.get("tile_size") or PATCH_PX // 2)
    work = Work(ground.scene, ground.region, ground.view_sets, "seamless", tile)
    for done in refined_blocks(work, refiner, cells):
        yield done.heights - ground.reference(done.block)


def _bias(refiner: Refiner, ground: Ground, cells: Cells) -> float:
    """The median of that in a sample of the cells to learn from.

    Images may see another level than the DSM, and the network would learn the difference by heart.
    """
    step = -(-len(cells.learned) // BIAS_CELLS)
    differences = [one.ravel() for one in _above_reference(refiner, ground, cells.learned[::step])]
    return float(np.nanmedian(np.concatenate(differences)))


def initial_errors(ground: Ground, cells: Cells) -> Errors:
    """The same of the initial DSM."""
    return _errors(ground.scene.dsm.read(cell) - ground.reference(cell) for cell in cells.held_out)


def _errors(differences: Iterator[Array]) -> Errors:
    inner = slice(BORDER_PX, -BORDER_PX)
    errors = np.abs(np.concatenate([one[inner, inner].ravel() for one in differences]))
    errors = errors[np.isfinite(errors)]
    return Errors(float(errors.mean(dtype=np.float64)), float(np.median(errors)))


def _learn(model: Model, ground: Ground, cells: Cells, tuning: Tuning) -> dict[str, Tensor]:
    """The average of the weights over the last steps."""
    steps, device = tuning.steps, tuning.device
    network = model.network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(network, FusionUNet), "only they are tuned"
    # BatchNorm keeps what it has seen in its training: the few patches of a place would be a poor sample.
    averaged = model.network().to(device)
    optimizer = torch.optim.AdamW(network.parameters(), tuning.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_share(step, steps, WARM_UP)
    )
    samples = _Samples(model, ground, cells, tuning.seed)
    jobs = (partial(samples.batch, step, tuning.batch_size) for step in range(steps))
    seen: list[float] = []
    with stoppable() as stop, progress_bar("tuning", steps, unit="steps") as progress:
        for step, (channels, reference) in enumerate(in_order(jobs, 1)):
            given = torch.from_numpy(channels).to(device, memory_format=torch.channels_last)
            loss = fusion_loss(network, given, torch.from_numpy(reference).to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), LONGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            move_average(averaged, network, min(AVERAGED, (step + 1) / (step + 10)))
            seen = [*seen[-49:], loss.error * model.normalization.height_sigma]
            progress.advance(note=f"error {np.mean(seen):.3f} m")
            if stop.asked:
                done = f"{step + 1} of {steps} steps"
                raise Interrupted(f"stopped by {stop.name} after {done}; no model was written")
    weights = {name: values.cpu() for name, values in clone_weights(averaged).items()}
    if not all(torch.isfinite(values).all() for values in weights.values()):
        raise ResDepthError("the weights are no longer finite; look for outliers in the DSMs")
    return weights


class _Samples:
    """Patches of a place, as the network sees them; a step's are always the same."""

    def __init__(self, model: Model, ground: Ground, cells: Cells, seed: int) -> None:
        self._model, self._ground, self._cells, self._seed = model, ground, cells, seed

    def batch(self, step: int, size: int) -> tuple[Array, Array]:
        """(B, C, T, T) channels, and (B, 1, T, T) reference heights, normalised, NaN = unknown."""
        rng = np.random.default_rng([self._seed, 1, step])
        drawn = [self._sample(rng) for _ in range(size)]
        return np.stack([one for one, _ in drawn]), np.stack([one for _, one in drawn])

    def _sample(self, rng: np.random.Generator) -> tuple[Array, Array]:
        window, inputs = self._place(rng), self._model.architecture.inputs
        heights, _ = filled_heights(self._ground.scene, window)
        views = self._ground.view_sets[int(rng.integers(len(self._ground.view_sets)))]
        if inputs.matched and rng.random() < WITHOUT_IMAGES:
            views = ()
        unit = self._model.normalization.height_sigma
        layers = [self._ground.scene.views[index].read(window) for index in views]
        middle = np.nanmedian(heights) if np.isfinite(heights).any() else 0.0
        zero = np.float64(middle + rng.normal() * LEVEL * unit)
        channels = normalize(heights, zero, layers, self._model.normalization, inputs)
        reference = ((self._known(window) - zero) / unit).astype(np.float32)[None]
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5

        def turned(values: Array) -> Array:
            values = np.rot90(values, turns, (1, 2))
            return np.ascontiguousarray(values[..., ::-1] if mirrored else values)

        return turned(channels), turned(reference)

    def _place(self, rng: np.random.Generator) -> Window:
        """A patch within the raster that holds a cell to learn from."""
        whole = self._ground.scene.grid.whole
        cell = self._cells.learned[int(rng.integers(len(self._cells.learned)))]
        row, col = (int(corner - rng.integers(PATCH_PX - CELL_PX + 1)) for corner in (cell.row, cell.col))
        row, col = np.clip((row, col), 0, np.subtract(whole.shape, PATCH_PX)).tolist()
        return Window(row, col, PATCH_PX, PATCH_PX)

    def _known(self, window: Window) -> NDArray[np.float64]:
        """The reference heights of a patch that may be learned: those of its cells that are not held out."""
        reference = self._ground.reference(window).astype(np.float64)
        may = np.zeros(reference.shape, bool)
        for cell in self._cells.learned:
            part = cell.grown(0, within=window)
            if part.height > 0 and part.width > 0:
                may[part.relative_to(window).slices] = True
        reference[~may] = np.nan
        return reference
