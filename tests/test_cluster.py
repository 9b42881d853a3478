"""Blocks computed by several processes."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from distributed import LocalCluster

from conftest import read_raster, refined_alone
from resdepth import refine
from resdepth.config import Device
from resdepth.errors import ResDepthError
from resdepth.workflows.cluster import chosen_by_workers

pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask and its web server; ours are seen elsewhere


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
    long_dsm: tuple[Path, Path], cluster: LocalCluster
) -> None:
    dsm, model = long_dsm
    expected = refined_alone(dsm, model)
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


def chosen_by_chance(_device: str, _precision: str) -> tuple[str, str, list[str]]:
    return str(os.getpid()), "float32", []


def test_what_workers_warn_of_is_shown_once(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resdepth.workflows.cluster._chosen_here", warning)
    chosen_by_workers(cluster.scheduler_address, "auto", "bf16")
    assert caplog.messages.count("as expected") == 1


def warning(_device: str, _precision: str) -> tuple[str, str, list[str]]:
    return "cpu", "bfloat16", ["as expected"]


def failing(_device: str, _precision: str) -> tuple[str, str, bool]:
    raise ValueError("as expected")


def test_a_scheduler_that_does_not_answer_is_told(
    long_dsm: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = long_dsm
    monkeypatch.setattr("resdepth.workflows.cluster.SECONDS_TO_CONNECT", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense"):
        with pytest.raises(ResDepthError, match="no Dask scheduler answers there"):
            refine(dsm, [], model, output=dsm.with_name("x.tif"), scheduler=address, existing="replace")


def test_without_dask_the_way_to_install_it_is_told(
    long_dsm: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = long_dsm
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ResDepthError, match=r"pip install 'resdepth\[cluster\]'"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), scheduler="tcp://127.0.0.1:1")
    assert read_raster(dsm).shape == (100, 12288)
