"""Processes that train one network together, as torchrun starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import MadeScene, make_scene, merged
from resdepth.errors import ResDepthError
from resdepth.models.published import read_checkpoint
from resdepth.training.parallel import ALONE, joined, speaks
from resdepth.workflows.train import resume, train

TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What two processes make of it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*TOGETHER, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=300
    )


def config_of(scene: MadeScene, folder: Path, batch_size: int, **sections: Any) -> Path:
    """Nine samples an epoch: the last batch of eight has a single one, fewer than there are processes."""
    base = {
        "training_settings": {"batch_size": batch_size, "n_epochs": 3},
        "stereopair_settings": {"use_all_stereo_pairs": False},
        "output": {"output_directory": str(folder / "logs"), "tboard_log_dir": str(folder / "events")},
    }
    config = scene.train_config(**merged(base, sections))
    config["datasets"][0]["n_training_samples"] = 9
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def curve(run: Path) -> np.ndarray[Any, Any]:
    """The training and validation loss of each epoch."""
    lines = [line.split() for line in (run / "training.log").read_text().splitlines()]
    return np.array([[float(words[3]), float(words[6])] for words in lines])


def the_run(folder: Path) -> Path:
    [run] = (folder / "logs").iterdir()
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeScene:
    return make_scene(tmp_path_factory.mktemp("parallel"), 64, 160)


@pytest.fixture(scope="module")
def together(made: MadeScene, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of two processes, and what they printed."""
    folder = tmp_path_factory.mktemp("together")
    done = torchrun("-m", "resdepth", "train", str(config_of(made, folder, 4)))
    assert done.returncode == 0, done.stderr
    return the_run(folder), done.stdout


def test_two_processes_learn_as_one_with_twice_the_batch(
    made: MadeScene, together: tuple[Path, str], tmp_path: Path
) -> None:
    alone = train(config_of(made, tmp_path, 8))
    run, printed = together
    assert printed.count(f"{run}\n") == 1  # among what older ones of torch say of gloo
    assert curve(alone).shape == (3, 2)
    np.testing.assert_allclose(curve(run), curve(alone), rtol=1e-3)
    weights, expected = (
        read_checkpoint(folder / "checkpoints" / "Model_last.pth")["model_state_dict"]
        for folder in (run, alone)
    )
    assert weights.keys() == expected.keys()
    for name, values in weights.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-2, atol=1e-3, msg=name)


STOPPED = """
import os, signal, sys
from resdepth.cli import main
from resdepth.training.learner import Learner

learn = Learner.learn

def learn_and_stop(self, loss, step):
    learn(self, loss, step)
    if step == 2 and self.group.rank == 1:  # the first of two batches of the second epoch
        os.kill(os.getpid(), signal.SIGTERM)

Learner.learn = learn_and_stop
main(["train", sys.argv[1]])
"""


def test_one_that_is_stopped_stops_all_and_all_resume(
    made: MadeScene, together: tuple[Path, str], tmp_path: Path
) -> None:
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    stopped = torchrun(str(script), str(config_of(made, tmp_path, 4)))
    run = the_run(tmp_path)
    assert stopped.returncode != 0
    assert f"torchrun --nproc-per-node 2 -m resdepth train --resume {run}" in stopped.stderr
    assert "1 of 3 epochs are complete, and 1 batches of the next" in stopped.stderr
    with pytest.raises(
        ResDepthError, match=r"which 2 processes shared; resume it with as many \(there are 1 now"
    ):
        resume(run)
    resumed = torchrun("-m", "resdepth", "train", "--resume", str(run))
    assert resumed.returncode == 0, resumed.stderr
    assert (run / "training.log").read_text() == (together[0] / "training.log").read_text()


def test_a_device_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = pytest.raises(ResDepthError, match="'mps' trains with one process; 2 need cuda or cpu")
    with refused, joined(torch.device("mps")):
        pytest.fail("joined")


def test_a_process_alone_is_a_group_of_its_own() -> None:
    network = torch.nn.Linear(1, 1)
    assert speaks()
    assert ALONE.totals(1.5, True) == [1.5, True]
    assert not ALONE.any(False)
    assert ALONE.from_first("run") == "run"
    assert ALONE.parallel(network) is network
