"""The scripts that make the bundled models."""

import subprocess
import sys
from pathlib import Path

import torch

from resdepth.models.model import Model, load_safetensors

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_the_fusion_model_is_made_from_nothing_and_again_the_same(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "train_fusion_model.py"), "--work", str(tmp_path)]
    command += ["--towns", "0", "--landscapes", "1", "--side", "160", "--steps", "2"]

    def trained() -> Model:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return load_safetensors(tmp_path / "fusion.safetensors")

    model = trained()
    assert model.provenance["steps"] == 2
    assert model.architecture.name == "FusionUNet"
    (tmp_path / "checkpoint.pt").unlink()
    again = trained()
    assert all(torch.equal(value, again.weights[name]) for name, value in model.weights.items())
