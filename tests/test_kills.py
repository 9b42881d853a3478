"""Commands killed, or out of space, at a few of their file-system events. `make kills` tries all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLING = Path(__file__).with_name("killing.py")
SAMPLE = ("refine", "train", "evaluate", "simulate", "prepare", "download", "convert-model")


@pytest.fixture(scope="module")
def killed() -> "subprocess.CompletedProcess[str]":
    """What was tried of each command, as a table."""
    return subprocess.run(
        [sys.executable, str(KILLING), *SAMPLE, "--kills=1", "--full=1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, and killed")
def test_the_same_command_after_a_kill_or_a_full_disk_ends_as_if_nothing_had_happened(
    killed: "subprocess.CompletedProcess[str]",
) -> None:
    assert killed.returncode == 0, killed.stderr
    rows = [line.strip("| ").split(" | ") for line in killed.stdout.splitlines()[2:]]
    assert [(kills, full) for _, _, kills, _, full, _ in rows] == [("1", "1")] * len(SAMPLE)
    assert all(int(events) >= 5 for _, events, *_ in rows)
