"""Blocks computed by several processes on this machine."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import SECONDS, SERIES, refined_alone, wait_until
from resdepth import refine
from resdepth.errors import ResDepthError
from resdepth.refinement import processes, run_job


def command_of(dsm: Path, model: Path, output: Path) -> list[str]:
    words = ["refine", str(dsm), "--model", str(model), "-o", str(output), "--workers", "2"]
    return [sys.executable, "-m", "resdepth", *words]


@contextmanager
def at_work(command: list[str], unfinished: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in a group of its own, as a terminal starts it, with its first block done."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            wait_until(lambda: any(unfinished.glob("provenance_*.tif")) or process.poll() is not None)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def workers_of(command: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(command.pid).children(recursive=True)


def alive(workers: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    found = []
    for one in workers:
        with suppress(psutil.NoSuchProcess):
            if one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def test_nobody_else_can_speak_to_processes_and_they_end_with_their_command_even_if_it_is_killed(
    long_dsm: tuple[Path, Path],
) -> None:
    """They have no socket, and neither has the command: there is nothing to connect to."""
    dsm, model = long_dsm
    output = dsm.with_name("killed.tif")
    with at_work(command_of(dsm, model, output), dsm.with_name("killed.tif.unfinished")) as process:
        workers = workers_of(process)
        assert len(workers) == 2
        assert not any(one.net_connections("all") for one in (psutil.Process(process.pid), *workers))
        process.kill()
        wait_until(lambda: not alive(workers))
    assert not output.exists()


def test_two_processes_asked_for_by_a_script_write_what_one_writes(long_dsm: tuple[Path, Path]) -> None:
    """Without a main guard: processes that multiprocessing spawns would run the script again."""
    dsm, model = long_dsm
    output = dsm.with_name("two.tif")
    script = dsm.with_name("script.py")
    wanted = f"{str(dsm)!r}, [], {str(model)!r}, output={str(output)!r}, workers=2"
    script.write_text(f"import resdepth\nresdepth.refine({wanted})\n")
    subprocess.run([sys.executable, script], check=True, timeout=SECONDS)
    assert output.read_bytes() == refined_alone(dsm, model)
    one, two = (dsm.with_name(f"{name}_provenance.tif").read_bytes() for name in ("alone", "two"))
    assert one == two


@pytest.mark.parametrize("seed", range(SERIES))
def test_processes_that_are_killed_at_random_moments_do_not_matter(
    seed: int, long_dsm: tuple[Path, Path]
) -> None:
    dsm, model = long_dsm
    output = dsm.with_name("two.tif")
    chance, killed = random.Random(seed), 0
    command = command_of(dsm, model, output)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: workers_of(process) or process.poll() is not None)
        for _ in range(processes.MOST_LOST - 1):  # more could be the same block's bad luck
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, 1))
            with suppress(psutil.Error, IndexError):  # over, or in between
                chance.choice(workers_of(process)).kill()
                killed += 1
        stated = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 0, stated
    assert killed
    assert output.read_bytes() == refined_alone(dsm, model)


def test_ctrl_c_stops_two_processes_and_their_blocks_are_not_lost(long_dsm: tuple[Path, Path]) -> None:
    """A terminal sends Ctrl-C to the command and to all processes that it has started."""
    dsm, model = long_dsm
    output = dsm.with_name("stopped.tif")
    command = command_of(dsm, model, output)
    with at_work(command, dsm.with_name("stopped.tif.unfinished")) as process:
        workers = workers_of(process)
        os.killpg(process.pid, signal.SIGINT)
        stated = process.communicate(timeout=SECONDS)[1]
        assert process.returncode == 130, stated
        assert "blocks are finished; the same command resumes" in stated
        assert "Traceback" not in stated
        assert not alive(workers), "a worker continues without its command"
    assert not output.exists()
    refine(dsm, [], model, output=output)
    assert output.read_bytes() == refined_alone(dsm, model)


def test_what_a_process_cannot_read_is_reported(
    long_dsm: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = long_dsm
    after_begin(monkeypatch, dsm.unlink)
    with pytest.raises(ResDepthError, match=r"long\.tif"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2)
    assert not dsm.with_name("x.tif").exists()


def test_inputs_that_change_while_processes_work_are_refused(
    long_dsm: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = long_dsm
    after_begin(monkeypatch, lambda: os.utime(dsm, ns=(1, 1)))
    with pytest.raises(ResDepthError, match="inputs of this job have changed"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2)


def after_begin(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    begin = run_job._begin

    def begin_and_change(job: Any, *, anew: bool) -> None:
        begin(job, anew=anew)
        change()

    monkeypatch.setattr(run_job, "_begin", begin_and_change)


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let each worker process run this."""
    monkeypatch.setattr(processes, "WORKER", ["-c", program])


def test_a_block_that_takes_down_each_process_is_an_error(
    long_dsm: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dsm, model = long_dsm
    run_instead(monkeypatch, "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)")
    with pytest.raises(ResDepthError, match=r"5 worker processes that tried .*SIGKILL.*memory enough"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2)


def test_a_process_that_answers_nonsense_is_an_error(
    long_dsm: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm, model = long_dsm
    run_instead(monkeypatch, "input(); print('[1')")
    with pytest.raises(ResDepthError, match=r"a worker process answered '\[1'"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2)


WARNING_AND_PRINTING = """
import logging
from resdepth.refinement import processes as worker
load_job = worker.load_job
def load_and_warn(folder):
    logging.getLogger("resdepth.data.scene").warning("as expected")
    print("a library prints")
    return load_job(folder)
worker.load_job = load_and_warn
worker.serve()
"""


def test_what_processes_warn_of_is_shown_once(
    long_dsm: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nor does what they print lie between their answers."""
    dsm, model = long_dsm
    run_instead(monkeypatch, WARNING_AND_PRINTING)
    refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2)
    assert caplog.messages.count("as expected") == 1
    assert "expected" not in capfd.readouterr().err


def test_processes_or_a_cluster_are_asked_for_but_not_both(long_dsm: tuple[Path, Path]) -> None:
    dsm, model = long_dsm
    with pytest.raises(ResDepthError, match="give one of them"):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), workers=2, scheduler="tcp://127.0.0.1:1")


def test_workers_of_a_cluster_are_waited_for_where_there_is_one(long_dsm: tuple[Path, Path]) -> None:
    dsm, model = long_dsm
    with pytest.raises(ResDepthError, match="wait_for_workers= is for a cluster; name it with scheduler="):
        refine(dsm, [], model, output=dsm.with_name("x.tif"), wait_for_workers=5)
