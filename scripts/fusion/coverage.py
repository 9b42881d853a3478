"""How often errors are as large as the fusion model expects, on simulated scenes that it has not seen.

python scripts/fusion/coverage.py FOLDER [--towns 1] [--landscapes 2] [--batches 100]

FOLDER receives the scenes and what is measured in them, a quarter of an hour on two cores. Prints a table.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import bank
import cv2
import numpy as np
import scenes
import torch
from numpy.typing import NDArray
from samples import batch

from resdepth.models.pretrained import FUSION
from resdepth.models.published import load_model

FIRST_SEED, SEED, BATCH = 2 * scenes.FIRST_SEED, 1, 8
MATCHED, CORRELATIONS = 2, slice(3, None)
"""Channels."""


def main() -> None:
    """Draw samples as the training does, and compare errors with what the model expects."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="for scenes and measurements")
    parser.add_argument("--towns", type=int, default=1, help="towns of each style")
    parser.add_argument("--landscapes", type=int, default=2)
    parser.add_argument("--side", type=int, default=scenes.SIZE_PX, help="of the scenes, pixels")
    parser.add_argument("--batches", type=int, default=100)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    folders = scenes.make(
        given.folder / "scenes", given.towns, given.landscapes, given.side, first_seed=FIRST_SEED
    )
    (given.folder / "banks").mkdir(exist_ok=True)
    paths = [given.folder / "banks" / f"{folder.name}.npz" for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        bank.make(folder, path)
    shares = np.concatenate(list(_errors([bank.load(path) for path in paths], given.batches)))
    print("| | share | error below the expected one | below twice as much |\n|---|---:|---:|---:|")
    for name, kind in (("all", None), ("a height is matched", 0), ("none", 1), ("no images at all", 2)):
        ratios = shares[shares[:, 1] == kind, 0] if kind is not None else shares[:, 0]
        part, one, two = len(ratios) / len(shares), (ratios < 1).mean(), (ratios < 2).mean()
        print(f"| {name} | {100 * part:.0f} % | {100 * one:.1f} % | {100 * two:.1f} % |")


def _errors(banks: list[bank.Bank], batches: int) -> Iterator[NDArray[np.float32]]:
    """(N, 2): errors by what was expected; 0 where a height is matched, 1 where not, 2 without images."""
    network = load_model(FUSION).network()
    for number in range(batches):
        drawn = batch(banks, BATCH, (SEED, number))
        with torch.inference_mode():
            refined, expected = network(torch.from_numpy(drawn.channels)).numpy().swapaxes(0, 1)
        wanted = drawn.wanted[:, 0]
        blind = (drawn.channels[:, CORRELATIONS] == 0).all(axis=(1, 2, 3))
        kind = np.where(drawn.channels[:, MATCHED] > 0, 0, np.where(blind[:, None, None], 2, 1))
        known = np.isfinite(wanted)
        yield np.stack([np.abs(refined - wanted)[known] / expected[known], kind[known]], 1).astype(np.float32)


if __name__ == "__main__":
    main()
