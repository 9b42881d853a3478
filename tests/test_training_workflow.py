"""Training from a configuration file to a run folder."""

import json

import pytest
import torch

from conftest import MadeScene
from resdepth.workflows import resume, train


def test_a_run_leaves_the_published_files(scene: MadeScene) -> None:
    run = train(scene.write(scene.train_config(output={"suffix": "x", "plot_model_txt": True})))
    assert run.name.endswith("_x")
    assert json.loads((run / "config.json").read_text())["training_settings"]["batch_size"] == 4
