"""Train the model that the package ships for DSMs without images, on from the fusion model.

python scripts/train_dsm_alone_model.py --work FOLDER --lidar DSM.tif [--steps 6000]

FOLDER receives a checkpoint every 200 steps, from which the same command resumes. A quarter of an hour on two
cores. Copy FOLDER/dsm-alone.safetensors to src/resdepth/models/pretrained if it is better (`make bench-real`
shows it).
"""

import argparse
import sys
from pathlib import Path

import cv2
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "fusion"))
import alone
import train_fusion_model as fusion

from resdepth.data.normalization import Normalization
from resdepth.models.model import Architecture, Model, clone_weights, save_model
from resdepth.models.pretrained import FUSION
from resdepth.models.published import load_model
from resdepth.models.schema import FusionSettings
from resdepth.version import __version__

BATCH, LEARNING_RATE = 4, 1e-3
GSD_RANGE_M = (0.25, 1.0)
TILE_PX = 64
"""Heights count from their mean over twice as much; patches are larger, and of any level."""


def main() -> None:
    """Train, or resume, and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoint and model")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--lidar", type=Path, nargs="*", default=[], help="DSMs without voids to learn from")
    parser.add_argument("--landscapes", type=int, default=20)
    parser.add_argument("--towns", type=int, default=3, help="towns of each style")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    settings = FusionSettings(n_input_channels=1)
    training = fusion.Training(given.steps, LEARNING_RATE, settings)
    for network in (training.network, training.averaged):
        network.load_state_dict(of_heights(load_model(FUSION).weights))
    simulated = alone.surfaces(given.landscapes, given.towns)
    measured = [alone.lidar(path) for path in given.lidar]
    fusion.train(
        training,
        lambda step: alone.batch(simulated, measured, BATCH, (fusion.SEED, step)),
        given.work / "checkpoint.pt",
    )
    stated = {
        "resdepth": __version__,
        "tile_size": TILE_PX,
        "steps": training.step,
        "scenes": len(simulated) + len(measured),
        "gsd_range_m": list(GSD_RANGE_M),
    }
    architecture = Architecture("FusionUNet", "geom", settings.model_dump())
    model = Model(architecture, clone_weights(training.averaged), Normalization(1.0), stated)
    save_model(model, given.work / "dsm-alone.safetensors")
    print(f"model: {given.work / 'dsm-alone.safetensors'}")


def of_heights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a network without images starts from: it sees medians as the fusion network matched heights."""
    return {**weights, "first.0.weight": weights["first.0.weight"][:, : 2 * 4].clone()}


if __name__ == "__main__":
    main()
