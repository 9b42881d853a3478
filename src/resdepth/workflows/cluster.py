"""Blocks computed by many processes: on this machine, or on any Dask cluster that sees the same files."""

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from resdepth.blockwise import refined_blocks
from resdepth.config import Device, Precision
from resdepth.engine import choose_device, choose_precision, computes_bfloat16, warn_of_slow_bfloat16
from resdepth.errors import InputProblems, ResDepthError
from resdepth.windows import Window
from resdepth.workflows.jobs import Job, load_job, write_finished
from resdepth.workflows.making import Compute

logger = logging.getLogger(__name__)

# Blocks that wait at each worker, so that none waits for the scheduler; its work does not grow with the area.
BLOCKS_AHEAD = 2
SECONDS_TO_CONNECT = 30
THREADS = "OMP_NUM_THREADS"
CALM_WORKERS = {
    # Dask computes in a thread; glibc would give it an arena of its own, which keeps no large blocks.
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
    # By default each process wakes a hundred times a second to see what it does, beside those that compute.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
}
"""Settings of Dask for processes that share the cores of this machine."""
# A terminal sends Ctrl-C to all its processes; this one alone decides what it means.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def on_cluster(scheduler: str | None = None, workers: int = 1) -> Compute:
    """A way to compute blocks.

    Args:
        scheduler: address of a Dask scheduler, "tcp://host:8786"; None starts workers on this machine.
        workers: how many to start.

    Raises:
        ResDepthError: if Dask is not installed.
    """
    _demand_dask()

    def compute(job: Job, todo: Sequence[Window]) -> Generator[Window]:
        if todo:
            with _client(scheduler, workers) as client:
                yield from _compute(client, job, todo)

    return compute


def chosen_by_workers(
    scheduler: str, device: Device, precision: Precision
) -> tuple[torch.device, torch.dtype]:
    """On what a cluster's workers compute, and in which precision: all the same, or blocks would differ.

    Raises:
        ResDepthError: if Dask is not installed, the scheduler does not answer, the device is not there, or
            the workers do not have the same.
    """
    _demand_dask()
    with _client(scheduler, 1) as client:
        try:
            answers: dict[str, tuple[str, str, bool]] = client.run(_chosen_here, device, precision)
        except ResDepthError:
            raise
        except Exception as error:
            raise ResDepthError(
                f"{scheduler}: its workers cannot compute ({error!r}); have they the same resdepth?"
            ) from error
    chosen = {worker: (name, dtype) for worker, (name, dtype, _) in sorted(answers.items())}
    if len(set(chosen.values())) > 1:
        found = "; ".join(f"{worker}: {name}, {dtype}" for worker, (name, dtype) in chosen.items())
        raise ResDepthError(
            f"{scheduler}: its workers would compute differently ({found}); choose device and precision "
            "(--device, --precision), or leave some of them out"
        )
    name, dtype = next(iter(chosen.values()))
    there, in_what = torch.device(name), getattr(torch, dtype)
    if in_what == torch.bfloat16 and not all(native for _, _, native in answers.values()):
        warn_of_slow_bfloat16(there)  # what workers log is seen beside them alone
    return there, in_what


def _chosen_here(device: Device, precision: Precision) -> tuple[str, str, bool]:
    """What a worker computes on and in, and whether it has instructions for bfloat16."""
    chosen = choose_device(device)
    dtype = str(choose_precision(precision, chosen)).removeprefix("torch.")
    return chosen.type, dtype, computes_bfloat16(chosen)


def _demand_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ResDepthError(
            "several workers need Dask, which is not installed: pip install 'resdepth[cluster]'"
        ) from error


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A connection to the cluster.

    Raises:
        ResDepthError: if the scheduler does not answer.
    """
    from distributed import Client

    with ExitStack() as stack:
        stack.enter_context(_quiet())
        address = scheduler
        if address is None:
            address = stack.enter_context(workers_here(workers))
        try:
            client = stack.enter_context(Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False))
        except (OSError, ValueError) as error:
            raise ResDepthError(f"{scheduler}: no Dask scheduler answers there ({error})") from error
        try:
            client.wait_for_workers(1, timeout=SECONDS_TO_CONNECT)
        except TimeoutError as error:
            raise ResDepthError(f"{scheduler or 'this machine'}: no Dask worker is there to work") from error
        yield client


@contextmanager
def workers_here(count: int, *, threads: int | None = None) -> Iterator[str]:
    """A scheduler and `count` workers on this machine; gives its address. Only this machine reaches them.

    Each computes with so many `threads`; by default OMP_NUM_THREADS, or its share of the cores. Needs Dask.
    """
    import dask
    from distributed import LocalCluster

    each = str(threads or os.environ.get(THREADS) or max(1, _cores() // count))
    with ExitStack() as stack:
        stack.callback(_restore, os.environ.get(THREADS))  # Dask leaves it changed
        folder = stack.enter_context(TemporaryDirectory(prefix="resdepth-"))
        stack.enter_context(dask.config.set({"temporary-directory": folder, **CALM_WORKERS}))
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, memory_limit=0,
                # Without an address it takes port 8787 of all networks, and warns where that is taken.
                dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},
                # What goes wrong comes back with a block; logs of workers also tell of hanging up in the end.
                env={THREADS: each}, silence_logs=logging.CRITICAL, preload=[IGNORE_CTRL_C],
            )
        )  # fmt: skip
        yield cluster.scheduler_address


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask tells of every process that comes and goes."""
    dask_logger = logging.getLogger("distributed")
    before = dask_logger.level
    dask_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        dask_logger.setLevel(before)


def _restore(threads: str | None) -> None:
    os.environ.pop(THREADS, None)
    if threads is not None:
        os.environ[THREADS] = threads


def _compute(client: Any, job: Job, todo: Sequence[Window]) -> Generator[Window]:
    """Hand out blocks, a few ahead for each worker, and tell of each that is done.

    Raises:
        ResDepthError: if a block cannot be read or written, or takes down every worker that tries it.
    """
    from distributed import KilledWorker, as_completed
    from distributed.scheduler import NoValidWorkerError

    folder, number = str(job.unfinished.resolve()), job.number
    waiting = iter(todo)

    def submitted(count: int) -> dict[Any, Window]:
        return {
            client.submit(refine_here, folder, number, block, pure=False): block
            for block in islice(waiting, count)
        }

    at_work = submitted(_slots(client))
    finished = as_completed(list(at_work), loop=client.loop)
    try:
        for future in finished:
            block = at_work.pop(future)
            try:
                future.result()
            except ResDepthError:
                raise
            except (KilledWorker, NoValidWorkerError) as error:
                raise ResDepthError(
                    f"{block}: each worker that tried this block was lost; is there memory enough? ({error})"
                ) from error
            except Exception as error:
                raise ResDepthError(f"{block}: a worker failed ({error!r})") from error
            future.release()
            # Workers may have come or gone.
            more = submitted(max(_slots(client) - len(at_work), 1))
            at_work |= more
            finished.update(list(more))
            yield block
    finally:
        client.cancel(list(at_work))


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _slots(client: Any) -> int:
    """How many blocks are worth having at work."""
    threads: int = sum(client.nthreads().values())
    return BLOCKS_AHEAD * max(threads, 1)


def refine_here(folder: str, number: str, block: Window) -> None:
    """What a worker does: refine one block and write it where all blocks of the job lie.

    Raises:
        ResDepthError: if the job cannot be loaded here, or the block cannot be read or written.
    """
    try:
        job = _job_of(folder, number)
        for done in refined_blocks(job.work, job.refiner, [block], workers=0):
            write_finished(job, done)
    except InputProblems as error:  # whose list does not travel
        raise ResDepthError(str(error)) from error


@lru_cache(maxsize=1)
def _job_of(folder: str, number: str) -> Job:
    """The job, once in each worker."""
    job = load_job(Path(folder))
    if job.number != number:
        raise ResDepthError(f"{folder}: holds another job by now")
    return job
