"""Blocks computed by the workers of a Dask cluster."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from distributed import LocalCluster

from conftest import SECONDS, SERIES, read_raster, refined_alone, wait_until
from resdepth import refine
from resdepth.errors import ResDepthError
from resdepth.geo.windows import Window
from resdepth.options import Device
from resdepth.refinement import dask as clusters
from resdepth.refinement.dask import chosen_by_workers
from resdepth.version import __version__

pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask and its web server; ours are seen elsewhere


@contextmanager
def local_cluster(folder: Path, workers: int) -> Iterator[LocalCluster]:
    """Processes of this machine; that one worker is lost is enough for Dask to give up the blocks it had."""
    import dask

    with (
        dask.config.set({"temporary-directory": str(folder), "distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0,
            silence_logs=50,
        ) as made,
    ):  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two workers that no test kills."""
    with local_cluster(tmp_path_factory.mktemp("cluster"), 2) as made:
        yield made


@pytest.mark.parametrize("seed", range(SERIES))
def test_workers_that_are_killed_at_random_moments_do_not_matter(
    seed: int, longer_dsm: tuple[Path, Path], tmp_path: Path
) -> None:
    dsm, model = longer_dsm
    output = dsm.with_name("two.tif")
    chance, killed, over = random.Random(seed), [], threading.Event()

    def kill(cluster: LocalCluster) -> None:
        wait_until(lambda: output.with_name("two.tif.unfinished").is_dir())
        for _ in range(clusters.TRIES - 1):  # more could be the same block's bad luck
            over.wait(chance.uniform(0, 1))
            pids = [worker.pid for worker in cluster.workers.values() if worker.pid]
            if pids and not over.is_set():
                killed.append(chance.choice(pids))
                os.kill(killed[-1], signal.SIGKILL)

    with local_cluster(tmp_path, 2) as cluster:
        killer = threading.Thread(target=kill, args=(cluster,))
        killer.start()
        try:
            refine(dsm, [], model, output=output, scheduler=cluster.scheduler_address)
        finally:
            over.set()
            killer.join()
    assert killed
    assert output.read_bytes() == refined_alone(dsm, model)


def test_a_block_that_takes_down_all_workers_is_an_error_with_its_remedy(
    long_dsm: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = long_dsm
    monkeypatch.setattr(clusters, "refine_here", killing)
    monkeypatch.setattr(clusters, "TRIES", 1)
    with (
        local_cluster(tmp_path, 1) as cluster,
        pytest.raises(ResDepthError, match=r"all workers that tried .* memory enough"),
    ):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), scheduler=cluster.scheduler_address)


def killing(_folder: str, _number: str, _block: Window) -> list[str]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


@contextmanager
def scheduler_running(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler and a worker, each a process of its own; gives the address."""
    known = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    begin = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", known]
    with ExitStack() as stack:
        scheduler = stack.enter_context(subprocess.Popen([*dask, *begin, *options], **quiet))
        stack.callback(scheduler.kill)
        wait_until(lambda: known.is_file() and known.read_text().rstrip().endswith("}"))  # written whole
        address = str(json.loads(known.read_text())["address"])
        join = ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        worker = stack.enter_context(subprocess.Popen([*dask, *join, *options], **quiet))
        stack.callback(worker.kill)
        yield address, scheduler


def test_if_the_scheduler_is_lost_blocks_stay_and_are_not_computed_again(
    long_dsm: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    dsm, model = long_dsm
    output = dsm.with_name("lost.tif")
    unfinished = dsm.with_name("lost.tif.unfinished")
    with scheduler_running(tmp_path) as (address, scheduler):
        words = ["refine", str(dsm), "--model", str(model), "-o", str(output), "--scheduler", address]
        command = [sys.executable, "-m", "resdepth", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_until(lambda: any(unfinished.glob("height_*.tif")) or process.poll() is not None)
            scheduler.kill()
            stated = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 2, stated
    assert f"error: {address}: the scheduler was lost; finished blocks stay" in stated
    assert "Traceback" not in stated
    assert any(unfinished.glob("height_*.tif"))
    refine(dsm, [], model, output=output)
    assert re.search(r"resuming: \d of 6 blocks are finished", caplog.text)
    assert output.read_bytes() == refined_alone(dsm, model)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_a_scheduler_behind_tls_is_spoken_to_with_the_certificates_of_dasks_configuration(
    long_dsm: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import dask

    dsm, model = long_dsm
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key, "--protocol", "tls"]
    with scheduler_running(tmp_path, *tls) as (address, _):
        assert address.startswith("tls://")
        with pytest.raises(ResDepthError, match=r"no Dask scheduler .*distributed\.comm\.tls"):
            refine(dsm, [], model, output=dsm.with_name("tls.tif"), scheduler=address)
        client = {"ca-file": certificate, "client.cert": certificate, "client.key": key}
        with dask.config.set({f"distributed.comm.tls.{name}": value for name, value in client.items()}):
            (output,) = refine(dsm, [], model, output=dsm.with_name("tls.tif"), scheduler=address)
    assert output.read_bytes() == refined_alone(dsm, model)
    assert "anybody" not in caplog.text


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("tcp://head-node:8786", True),
        ("192.0.2.1:8786", True),
        ("tcp://127.0.0.1:8786", False),
        ("tcp://[::1]:8786", False),
        ("localhost:8786", False),
        ("tls://head-node:8786", False),
    ],
)
def test_a_port_that_lets_anybody_run_code_is_warned_of(
    address: str, is_open: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clusters._warn_of_open_port(address)
    assert len(caplog.messages) == is_open
    assert ("anybody who reaches this port can run code" in caplog.text) == is_open


def test_workers_that_a_queue_gives_late_are_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with local_cluster(tmp_path, 0) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(ResDepthError, match=r"no worker is there after 1 s .*wait_for_workers="):
            chosen_by_workers(address, "cpu", "fp32", 1)
        caplog.clear()

        def come() -> None:
            wait_until(lambda: "waiting for workers" in caplog.text)
            cluster.scale(1)

        queue = threading.Thread(target=come)
        queue.start()
        assert chosen_by_workers(address, "cpu", "fp32")[1] == torch.float32
        queue.join()


def test_workers_with_another_version_are_refused(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "__version__", "9.9")
    with pytest.raises(ResDepthError, match=rf"this is resdepth 9\.9, but .* has {re.escape(__version__)}"):
        chosen_by_workers(cluster.scheduler_address, "cpu", "fp32")


def test_workers_tell_what_they_compute_on(cluster: LocalCluster) -> None:
    device, precision = chosen_by_workers(cluster.scheduler_address, "cpu", "bf16")
    assert (device.type, precision) == ("cpu", torch.bfloat16)
    missing: Device = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ResDepthError, match="is not available here; available: cpu"):
        chosen_by_workers(cluster.scheduler_address, missing, "auto")


def test_workers_that_would_compute_differently_are_refused(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.refinement.dask._chosen_here", chosen_by_chance)
    with pytest.raises(ResDepthError, match="would compute differently"):
        chosen_by_workers(cluster.scheduler_address, "auto", "auto")
    monkeypatch.setattr("resdepth.refinement.dask._chosen_here", failing)
    with pytest.raises(ResDepthError, match=r"its workers cannot compute.*as expected"):
        chosen_by_workers(cluster.scheduler_address, "auto", "auto")


def chosen_by_chance(_device: str, _precision: str) -> tuple[str, str, list[str]]:
    return str(os.getpid()), "float32", []


def test_what_workers_warn_of_is_shown_once(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resdepth.refinement.dask._chosen_here", warning)
    chosen_by_workers(cluster.scheduler_address, "auto", "bf16")
    assert caplog.messages.count("as expected") == 1


def warning(_device: str, _precision: str) -> tuple[str, str, list[str]]:
    return "cpu", "bfloat16", ["as expected"]


def failing(_device: str, _precision: str) -> tuple[str, str, bool]:
    raise ValueError("as expected")


def test_a_scheduler_that_does_not_answer_is_stated(
    long_dsm: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = long_dsm
    monkeypatch.setattr("resdepth.refinement.dask.SECONDS_TO_CONNECT", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense"):
        with pytest.raises(ResDepthError, match="no Dask scheduler answers there"):
            refine(dsm, [], model, output=dsm.with_name("x.tif"), scheduler=address, existing="replace")


def test_without_dask_the_way_to_install_it_is_stated(
    long_dsm: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = long_dsm
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ResDepthError, match=r"pip install 'resdepth\[cluster\]'"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), scheduler="tcp://127.0.0.1:1")
    assert read_raster(dsm).shape == (100, 12288)
