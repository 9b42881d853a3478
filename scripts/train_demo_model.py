"""Train the model that the package ships, on simulated towns that nobody else can get by a seed of their own.

python scripts/train_demo_model.py --work FOLDER [--towns 11] [--epochs 24]

FOLDER receives the towns (they are used again), the runs, and what the model reaches on towns of other seeds.
About an hour on two cores. Copy the model into src/resdepth/pretrained/ if it is better.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from resdepth.data.dataset_folder import Role, as_dataset
from resdepth.geo.gdal import tune_process
from resdepth.simulate.plan import SensorSettings, SimulateConfig, TownSettings
from resdepth.simulate.simulation import simulate
from resdepth.simulate.town.layout import STYLES
from resdepth.workflows.train import train

# People choose small seeds: those of the training towns lie above, so that every town of theirs is new.
FIRST_SEED = 2**40
SIZE_PX = 1024
VALIDATION_TOWNS = 1
SAMPLES_PER_TOWN = 80
TILE_PX = 256
# A little more than users will have, so that the model does not rely on heights being right on the whole.
POINTING_PX = 0.08


def towns(work: Path, first: int, count: int) -> list[Path]:
    """Simulated towns, `count` of each style; those that are there are used again."""
    found = []
    for number in range(first, first + count):
        for index, style in enumerate(sorted(STYLES)):
            folder = work / f"{style}_{number}"
            if not (folder / "scene.json").exists():
                config = SimulateConfig(
                    seed=FIRST_SEED + 10 * number + index,
                    town=TownSettings(style=style, size_px=SIZE_PX),
                    sensor=SensorSettings(pointing_px=POINTING_PX),
                )
                simulate("town", folder, config)
                print(f"{folder}", flush=True)
            found.append(folder)
    return found


def dataset(folder: Path, role: Role) -> dict[str, Any]:
    """A town as a data set that trains or validates as a whole."""
    return {**as_dataset(str(folder.resolve() / "data"), folder.name, role), "allocation_strategy": "entire"}


def configuration(work: Path, training: list[Path], validation: list[Path], epochs: int) -> dict[str, Any]:
    """The training: a small ResDepth-stereo, generalised over pairs, dates and styles."""
    return {
        "datasets": [dataset(one, "train") for one in training] + [dataset(one, "val") for one in validation],
        "model": {"input_channels": "geom-stereo", "depth": 4, "start_kernel": 32},
        "stereopair_settings": {"use_all_stereo_pairs": False, "permute_images_within_pair": True},
        "training_settings": {
            "tile_size": TILE_PX,
            "batch_size": 8,
            "n_epochs": epochs,
            "n_training_samples": SAMPLES_PER_TOWN,
        },
        "optimizer": {"learning_rate": 1e-3},
        "scheduler": {"name": "ExponentialLR", "settings": {"gamma": round(0.02 ** (1 / epochs), 5)}},
        "general": {"random_seed": 0, "workers": 1, "evaluate_rate": 2},
        "output": {"output_directory": str(work / "runs"), "tboard_log_dir": str(work / "tensorboard")},
    }


def main() -> None:
    """Simulate what is missing, train, and say where the model lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for towns and runs")
    parser.add_argument("--towns", type=int, default=11, help="training towns of each style")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--only-simulate", action="store_true", help="stop before the training")
    parser.add_argument(
        "--bf16", action="store_true", help="train in bfloat16, where the processor is fast at it"
    )
    given = parser.parse_args()
    tune_process()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    work = given.work.resolve()
    validation = towns(work / "towns", 0, VALIDATION_TOWNS)
    training = towns(work / "towns", VALIDATION_TOWNS, given.towns)
    if given.only_simulate:
        return
    path = work / "config_train.json"
    path.write_text(json.dumps(configuration(work, training, validation, given.epochs), indent=2))
    # Without the cache: within one context it would keep the weights of the first step for ever.
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=given.bf16, cache_enabled=False):
        run = train(path)
    print(f"model: {run / 'model.safetensors'}")


if __name__ == "__main__":
    main()
