"""The scripts that make the bundled models."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import write_raster
from resdepth import refine
from resdepth.models.model import load_safetensors
from resdepth.models.pretrained import FUSION
from resdepth.models.published import load_model

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a script with arguments, in this process."""

    def started(script: str, *arguments: str) -> None:
        monkeypatch.syspath_prepend(str((SCRIPTS / script).parent))
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")

    return started


def test_the_fusion_model_is_made_from_nothing(
    tmp_path: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_the_model_for_dsms_alone_starts_from_the_fusion_model(
    tmp_path: Path, run: Callable[..., None]
) -> None:
    few = ["--landscapes", "1", "--towns", "0"]
    lidar = write_raster(tmp_path / "lidar.tif", np.random.default_rng(0).normal(9, 1, (200, 400)))
    run("train_dsm_alone_model.py", "--work", str(tmp_path), *few, "--steps", "2", "--lidar", str(lidar))
    trained, bundled = load_safetensors(tmp_path / "dsm-alone.safetensors"), load_model(FUSION)
    assert trained.provenance["steps"] == 2
    assert trained.provenance["scenes"] == 2
    assert set(trained.weights) == set(bundled.weights)
    changed = [
        name for name, value in trained.weights.items() if not torch.equal(value, bundled.weights[name])
    ]
    assert len(changed) > len(bundled.weights) / 2
    refine(np.zeros((64, 64), np.float32), [], trained, gsd=0.5)
    resumed = ["--work", str(tmp_path), *few, "--steps", "2", "--lidar", str(lidar)]
    run("train_dsm_alone_model.py", *resumed)
    again = load_safetensors(tmp_path / "dsm-alone.safetensors")
    assert all(torch.equal(value, again.weights[name]) for name, value in trained.weights.items())
