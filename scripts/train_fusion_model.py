"""Train the fusion model that the package ships, on simulated scenes.

python scripts/train_fusion_model.py --work FOLDER [--towns 4] [--landscapes 8] [--steps 4500]

FOLDER receives the scenes, what is measured in them, and a checkpoint every 200 steps: the same command
resumes where it was stopped, and ends with the same weights. Scenes and measurements take half an hour on two
cores, the training about as long. Copy FOLDER/fusion.safetensors to src/resdepth/models/pretrained if it is
better (`make bench-real` shows it).
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "fusion"))
import bank
import scenes
from samples import PATCH_PX, Batch, batch

from resdepth.data.normalization import Normalization
from resdepth.models.fusion_unet import FusionUNet
from resdepth.models.model import Architecture, Model, clone_weights, save_model
from resdepth.models.schema import FusionSettings
from resdepth.training.fusion_loss import LONGEST_GRADIENT, fusion_loss, learning_rate_share
from resdepth.training.learner import move_average
from resdepth.version import __version__

SEED, BATCH, LEARNING_RATE, WARM_UP = 0, 8, 2e-3, 40
AVERAGED = 0.998
KEPT_EVERY, SHOWN_EVERY = 200, 50


class Training:
    """Network, its average over the last steps, optimiser, and how far they have come."""

    def __init__(
        self, steps: int, learning_rate: float = LEARNING_RATE, settings: FusionSettings | None = None
    ) -> None:
        self.steps = steps
        torch.manual_seed(SEED)
        network = FusionUNet(settings or FusionSettings())
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), learning_rate, weight_decay=1e-4)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_share(step, steps, WARM_UP)
        )
        self.step = 0

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        parts = (self.network, self.averaged, self.optimizer, self.schedule)
        return {"step": self.step, "parts": [part.state_dict() for part in parts]}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.step = state["step"]
        for part, stored in zip(
            (self.network, self.averaged, self.optimizer, self.schedule), state["parts"], strict=True
        ):
            part.load_state_dict(stored)

    def learn(self, drawn: Batch) -> tuple[float, float]:
        """One step; the error of the network and of the initial DSMs, in pixels of disparity."""
        self.network.train()
        x = torch.from_numpy(drawn.channels).to(memory_format=torch.channels_last)
        weights = None if drawn.weights is None else torch.from_numpy(drawn.weights)
        loss = fusion_loss(self.network, x, torch.from_numpy(drawn.wanted), weights)
        self.optimizer.zero_grad()
        loss.loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        move_average(self.averaged, self.network, min(AVERAGED, self.step / (self.step + 10)))
        return loss.error, loss.initial


def train(training: Training, draw: Callable[[int], Batch], checkpoint: Path) -> None:
    """Train, or resume from the checkpoint, with what is drawn for each step."""
    if checkpoint.exists():
        training.restore(torch.load(checkpoint, weights_only=True))
    began, seen = time.monotonic(), []
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(draw, training.step)
        while training.step < training.steps:
            drawn = following.result()
            following = ahead.submit(draw, training.step + 1)
            seen.append(training.learn(drawn))
            if training.step % SHOWN_EVERY == 0:
                error, initial = np.mean(seen[-2 * SHOWN_EVERY :], axis=0)
                spent = time.monotonic() - began
                print(
                    f"{training.step} error {error:.3f} initial {initial:.3f} after {spent:.0f} s", flush=True
                )
            if training.step % KEPT_EVERY == 0 or training.step == training.steps:
                temporary = checkpoint.with_suffix(".part")
                torch.save(training.state(), temporary)
                temporary.rename(checkpoint)


def as_model(training: Training, banks: list[bank.Bank]) -> Model:
    """The average of the network's weights, as a model file has them."""
    architecture = Architecture("FusionUNet", "geom-matched", FusionSettings().model_dump())
    sizes = sorted({round(float(one.plane[2]), 3) for one in banks})
    stated = {
        "resdepth": __version__,
        "tile_size": PATCH_PX // 2,  # the reference surface is taken over twice as much: over a patch
        "steps": training.step,
        "scenes": len(banks),
        "gsd_range_m": [min(sizes[0], 0.25), max(sizes[-1], 1.0)],
    }
    return Model(architecture, clone_weights(training.averaged), Normalization(1.0), stated)


def main() -> None:
    """Make what is missing, train, and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for scenes, measurements and checkpoint"
    )
    parser.add_argument("--towns", type=int, default=4, help="towns of each style")
    parser.add_argument("--landscapes", type=int, default=8)
    parser.add_argument("--side", type=int, default=scenes.SIZE_PX, help="of the scenes, pixels")
    parser.add_argument("--steps", type=int, default=4500)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    folders = scenes.make(given.work / "scenes", given.towns, given.landscapes, given.side)
    banks = given.work / "banks"
    banks.mkdir(exist_ok=True)
    paths = [banks / f"{folder.name}.npz" for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        bank.make(folder, path)
    loaded = [bank.load(path) for path in paths]
    training = Training(given.steps)
    train(training, lambda step: batch(loaded, BATCH, (SEED, step)), given.work / "checkpoint.pt")
    save_model(as_model(training, loaded), given.work / "fusion.safetensors")
    print(f"model: {given.work / 'fusion.safetensors'}")


if __name__ == "__main__":
    main()
