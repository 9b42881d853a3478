"""Blocks computed by several processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from distributed import LocalCluster

from conftest import MadeScene, make_model, read_raster, write_raster
from resdepth import refine, save_model
from resdepth.cli import main
from resdepth.config import Device
from resdepth.errors import ResDepthError
from resdepth.workflows import making
from resdepth.workflows.cluster import chosen_by_workers

pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask and its web server; ours are seen elsewhere


@pytest.fixture
def made(scene: MadeScene) -> tuple[Path, Path]:
    """A DSM of 1 x 6 blocks, and a model that sees nothing else."""
    rng = np.random.default_rng(0)
    heights = rng.normal(300, 3, (100, 2048 * 6)).astype(np.float32)
    save_model(make_model("geom", 0), scene.folder / "m.safetensors")
    return write_raster(scene.folder / "wide.tif", heights), scene.folder / "m.safetensors"


def alone(dsm: Path, model: Path) -> bytes:
    (path,) = refine(dsm, [], model, output=dsm.with_name("alone.tif"))
    return path.read_bytes()


def test_two_workers_write_what_one_process_writes(made: tuple[Path, Path]) -> None:
    """Beside another program that holds the port of Dask's dashboard, which must not matter."""
    dsm, model = made
    expected = alone(dsm, model)
    taken = socket.socket()
    with suppress(OSError):  # perhaps others hold it already
        taken.bind(("", 8787))
        taken.listen()
    with taken:
        done = CliRunner().invoke(
            main,
            [
                "refine",
                str(dsm),
                "--model",
                str(model),
                "-o",
                str(dsm.with_name("two.tif")),
                "--workers",
                "2",
            ],
        )
    assert done.exit_code == 0, done.output
    assert dsm.with_name("two.tif").read_bytes() == expected
    one, two = (dsm.with_name(f"{name}_provenance.tif").read_bytes() for name in ("alone", "two"))
    assert one == two


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    import dask

    with (
        dask.config.set({"temporary-directory": str(tmp_path)}),
        LocalCluster(
            n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0,
            silence_logs=50,
        ) as made,
    ):  # fmt: skip
        yield made


def test_a_worker_that_is_killed_in_the_midst_of_the_work_does_not_matter(
    made: tuple[Path, Path], cluster: LocalCluster
) -> None:
    dsm, model = made
    expected = alone(dsm, model)
    output = dsm.with_name("three.tif")
    killed: list[int] = []

    def kill() -> None:
        unfinished = output.with_name("three.tif.unfinished")
        until = time.monotonic() + 60
        while not list(unfinished.glob("provenance_*.tif")) and time.monotonic() < until:
            time.sleep(0.001)
        worker = next(iter(cluster.workers.values()))
        killed.append(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    refine(dsm, [], model, output=output, scheduler=cluster.scheduler_address)
    killer.join()
    assert killed
    assert output.read_bytes() == expected


def test_ctrl_c_stops_two_workers_and_the_same_command_goes_on(scene: MadeScene) -> None:
    """A terminal sends Ctrl-C to the command and to all processes that it has started."""
    # 12 blocks: the first one is there long before the last.
    heights = np.random.default_rng(0).normal(300, 3, (100, 2048 * 12)).astype(np.float32)
    dsm, model = write_raster(scene.folder / "long.tif", heights), scene.folder / "m.safetensors"
    save_model(make_model("geom", 0), model)

    output = dsm.with_name("stopped.tif")
    command = [sys.executable, "-m", "resdepth", "refine", str(dsm), "--model", str(model), "-o", str(output)]
    command += ["--workers", "2"]
    unfinished = dsm.with_name("stopped.tif.unfinished")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        until = time.monotonic() + 60
        while not list(unfinished.glob("provenance_*.tif")) and time.monotonic() < until:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "blocks are finished; the same command goes on" in told
    assert "Traceback" not in told
    until = time.monotonic() + 10
    while at_work(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not at_work(process.pid), "a worker goes on without its command"
    assert not output.exists()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert output.read_bytes() == alone(dsm, model)


def at_work(group: int) -> list[str]:
    """The processes of a group that have not ended."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def test_what_a_worker_cannot_read_is_told(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    dsm, model = made
    begin = making._begin

    def begin_and_spoil(job: Any, *, anew: bool) -> None:
        begin(job, anew=anew)
        dsm.unlink()

    monkeypatch.setattr(making, "_begin", begin_and_spoil)
    with pytest.raises(ResDepthError, match=r"wide\.tif"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2)
    assert not dsm.with_name("x.tif").exists()


def test_inputs_that_change_while_workers_work_are_refused(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = made
    begin = making._begin

    def begin_and_touch(job: Any, *, anew: bool) -> None:
        begin(job, anew=anew)
        os.utime(dsm, ns=(1, 1))

    monkeypatch.setattr(making, "_begin", begin_and_touch)
    with pytest.raises(ResDepthError, match="inputs of this job have changed"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2)


def test_workers_tell_what_they_compute_on(cluster: LocalCluster) -> None:
    device, precision = chosen_by_workers(cluster.scheduler_address, "cpu", "bf16")
    assert (device.type, precision) == ("cpu", torch.bfloat16)
    missing: Device = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ResDepthError, match="is not available here; available: cpu"):
        chosen_by_workers(cluster.scheduler_address, missing, "auto")


def test_workers_that_would_compute_differently_are_refused(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.workflows.cluster._chosen_here", chosen_by_chance)
    with pytest.raises(ResDepthError, match="would compute differently"):
        chosen_by_workers(cluster.scheduler_address, "auto", "auto")
    monkeypatch.setattr("resdepth.workflows.cluster._chosen_here", failing)
    with pytest.raises(ResDepthError, match=r"its workers cannot compute.*as expected"):
        chosen_by_workers(cluster.scheduler_address, "auto", "auto")


def chosen_by_chance(_device: str, _precision: str) -> tuple[str, str, bool]:
    return str(os.getpid()), "float32", True


def test_workers_without_instructions_for_bfloat16_are_told_of(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resdepth.workflows.cluster._chosen_here", in_emulated_bfloat16)
    chosen_by_workers(cluster.scheduler_address, "auto", "bf16")
    assert "cpu has no instructions for bfloat16; fp32 may be faster" in caplog.text


def in_emulated_bfloat16(_device: str, _precision: str) -> tuple[str, str, bool]:
    return "cpu", "bfloat16", False


def failing(_device: str, _precision: str) -> tuple[str, str, bool]:
    raise ValueError("as expected")


def test_a_scheduler_that_does_not_answer_is_told(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = made
    monkeypatch.setattr("resdepth.workflows.cluster.SECONDS_TO_CONNECT", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense"):
        with pytest.raises(ResDepthError, match="no Dask scheduler answers there"):
            refine(dsm, [], model, output=dsm.with_name("x.tif"), scheduler=address, existing="replace")


def test_without_dask_the_way_to_install_it_is_told(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = made
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ResDepthError, match=r"pip install 'resdepth\[cluster\]'"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2)
    assert read_raster(dsm).shape == (100, 12288)
