"""The scripts that make the bundled models."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from resdepth import refine
from resdepth.models.model import load_safetensors

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_the_fusion_model_is_made_from_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "train_fusion_model.py"), "--work", str(tmp_path)]
    command += ["--towns", "0", "--landscapes", "1", "--side", "160", "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    model = load_safetensors(tmp_path / "fusion.safetensors")
    assert model.provenance["steps"] == 2
    assert model.architecture.name == "FusionUNet"
    command = [sys.executable, str(SCRIPTS / "fusion" / "calibration.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert " of 2 found; off " in done.stdout, done.stderr
    refine(np.zeros((64, 64), np.float32), [], model, gsd=0.5)
