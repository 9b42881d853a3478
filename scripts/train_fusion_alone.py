"""Train the fusion model on, for DSMs without images: what docs/models.md states of it.

python scripts/train_fusion_alone.py --work FOLDER [--steps 1800]

FOLDER receives a checkpoint every 200 steps, from which the same command resumes, and
fusion-alone.safetensors: weights between those of the bundled model and the trained ones (--share). Ten
minutes on one core.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).parent / "fusion"))
import alone
import train_fusion_model as fusion

from resdepth.models.model import clone_weights, save_model
from resdepth.models.pretrained import FUSION
from resdepth.models.published import load_model

BATCH, LEARNING_RATE = 4, 1e-3


def main() -> None:
    """Train, or resume, and write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoint and model")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--share", type=float, default=1.0, help="of the way from the bundled weights")
    parser.add_argument("--landscapes", type=int, default=20)
    parser.add_argument("--towns", type=int, default=3, help="towns of each style")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    bundled = load_model(FUSION)
    training = fusion.Training(given.steps, LEARNING_RATE)
    for network in (training.network, training.averaged):
        network.load_state_dict(bundled.weights)
    surfaces = alone.surfaces(given.landscapes, given.towns)
    fusion.train(
        training, lambda step: alone.batch(surfaces, BATCH, (fusion.SEED, step)), given.work / "alone.pt"
    )
    trained = clone_weights(training.averaged)
    between = {
        name: value.lerp(trained[name], given.share) if value.is_floating_point() else value
        for name, value in bundled.weights.items()
    }
    stated = {**bundled.provenance, "steps": training.step, "share": given.share}
    save_model(replace(bundled, weights=between, provenance=stated), given.work / "fusion-alone.safetensors")
    print(f"model: {given.work / 'fusion-alone.safetensors'}")


if __name__ == "__main__":
    main()
