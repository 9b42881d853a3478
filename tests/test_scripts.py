"""The scripts that make the bundled models."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from resdepth import refine
from resdepth.models.model import load_safetensors

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_the_fusion_model_is_made_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(script: str, *arguments: str) -> None:
        monkeypatch.syspath_prepend(str((SCRIPTS / script).parent))
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")

    few = ["--towns", "0", "--landscapes", "1", "--side", "160", "--steps", "2"]
    run("train_fusion_model.py", "--work", str(tmp_path), *few)
    model = load_safetensors(tmp_path / "fusion.safetensors")
    assert model.provenance["steps"] == 2
    assert model.architecture.name == "FusionUNet"
    run("fusion/calibration.py", str(tmp_path))
    assert " of 2 found; off " in capsys.readouterr().out
    run("fusion/coverage.py", str(tmp_path), *few[:-2], "--batches", "1")
    assert "| all | 100 % |" in capsys.readouterr().out
    refine(np.zeros((64, 64), np.float32), [], model, gsd=0.5)
