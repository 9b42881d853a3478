"""Blocks computed by the workers of a Dask cluster that sees the same files."""

import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import torch

from resdepth.errors import ResDepthError
from resdepth.geo.windows import Window
from resdepth.options import Device, Precision, option
from resdepth.refinement.engine import choose_device, choose_precision
from resdepth.refinement.job import Job
from resdepth.refinement.processes import kept_warnings, refine_here, show_once
from resdepth.refinement.run_job import Compute
from resdepth.runtime.surroundings import logged_from
from resdepth.version import __version__

logger = logging.getLogger(__name__)

# Blocks that wait at each worker, so that none waits for the scheduler; its work does not grow with the area.
BLOCKS_AHEAD = 2
SECONDS_TO_CONNECT = 30
SECONDS_TO_WAIT = 600.0
"""For the first worker, by default: a cluster's queue takes its time."""
SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_LINES = 2.0, 30.0
TRIES = 3
"""Of a block that Dask gives up: four workers that had it were lost, though not all were at work on it."""
ENCRYPTED = {"tls", "wss"}

Chosen = tuple[str, str, list[str]]
"""A device's type, a precision's name, and warnings."""


def on_cluster(scheduler: str, patience: float = SECONDS_TO_WAIT) -> Compute:
    """A way to compute blocks: by the workers of a Dask cluster.

    Args:
        scheduler: its address, "tls://host:8786".
        patience: seconds to wait for workers, in the beginning and when all are lost.

    Raises:
        ResDepthError: if Dask is not installed.
    """
    _demand_dask()

    def compute(job: Job, todo: Sequence[Window]) -> Generator[Window]:
        if todo:
            with _client(scheduler) as client:
                yield from _Cluster(client, scheduler, patience).compute(job, todo)

    return compute


def chosen_by_workers(
    scheduler: str, device: Device, precision: Precision, patience: float = SECONDS_TO_WAIT
) -> tuple[torch.device, torch.dtype]:
    """On what a cluster's workers compute, and in which precision: all the same, or blocks would differ.

    Raises:
        ResDepthError: if Dask is not installed, the scheduler does not answer, no worker comes, the device is
            not there, or the workers have another resdepth or not all the same device.
    """
    _demand_dask()
    _warn_of_open_port(scheduler)
    with _client(scheduler) as client:
        _Cluster(client, scheduler, patience).wait_for_worker()
        try:
            _refuse_other_versions(scheduler, client.run(_asking_for_version()))
            answers: dict[str, Chosen] = client.run(_chosen_here, device, precision)
        except ResDepthError:
            raise
        except Exception as error:
            raise ResDepthError(f"{scheduler}: its workers cannot compute ({error!r})") from error
    chosen = {worker: (name, dtype) for worker, (name, dtype, _) in sorted(answers.items())}
    if len(set(chosen.values())) > 1:
        found = "; ".join(f"{worker}: {name}, {dtype}" for worker, (name, dtype) in chosen.items())
        raise ResDepthError(
            f"{scheduler}: its workers would compute differently ({found}); choose device and precision "
            f"({option('device')}, {option('precision')}), or leave some of them out"
        )
    name, dtype = next(iter(chosen.values()))
    show_once(chain.from_iterable(warnings for _, _, warnings in answers.values()), set())
    return torch.device(name), getattr(torch, dtype)


def _warn_of_open_port(scheduler: str) -> None:
    """Dask runs what it is sent; without TLS nobody is asked who they are."""
    address = urlsplit(scheduler if "://" in scheduler else f"tcp://{scheduler}")
    host = address.hostname or ""
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if address.scheme not in ENCRYPTED and host != "localhost":
        logger.warning(
            "%s: without TLS, anybody who reaches this port can run code on the workers; use a closed "
            "network, or tls:// with Dask's certificates", scheduler,
        )  # fmt: skip


def _asking_for_version() -> Callable[[], str]:
    """A function that a worker can run whatever resdepth it has: it travels as code, not by its name."""

    def version() -> str:
        try:
            from resdepth.version import __version__ as found
        except ImportError:
            return "none"
        return found

    return version


def _refuse_other_versions(scheduler: str, versions: dict[str, str]) -> None:
    if other := {worker: found for worker, found in sorted(versions.items()) if found != __version__}:
        stated = "; ".join(f"{worker} has {found}" for worker, found in other.items())
        raise ResDepthError(
            f"{scheduler}: this is resdepth {__version__}, but {stated}; install the same version there"
        )


def _chosen_here(device: Device, precision: Precision) -> Chosen:
    """What a worker computes on and in, and what it warns of."""
    with kept_warnings() as warnings:
        chosen = choose_device(device)
        dtype = str(choose_precision(precision, chosen)).removeprefix("torch.")
    return chosen.type, dtype, warnings


def _demand_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ResDepthError(
            "a cluster needs Dask, which is not installed: pip install 'resdepth[cluster]'"
        ) from error


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    """A connection to the cluster, with the certificates that Dask's configuration names.

    Raises:
        ResDepthError: if the scheduler does not answer.
    """
    from distributed import Client

    with ExitStack() as stack:
        # It logs every process that comes and goes, and a traceback where a connection is lost.
        stack.enter_context(logged_from(logging.CRITICAL, ["distributed", "distributed.client"]))
        try:
            client = stack.enter_context(Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=False))
        except (OSError, ValueError, TypeError, RuntimeError) as error:  # all but the first: of an address
            tls = "; are the certificates those of distributed.comm.tls?" if "tls" in scheduler else ""
            raise ResDepthError(f"{scheduler}: no Dask scheduler answers there ({error}){tls}") from error
        yield client


class _Cluster:
    """A cluster at work; blocks that a lost worker had are given to others."""

    def __init__(self, client: Any, scheduler: str, patience: float) -> None:
        self._client, self._scheduler, self._patience = client, scheduler, patience
        self._at_work: dict[Any, Window] = {}
        self._finished: SimpleQueue[Any] = SimpleQueue()
        self._given_up: Counter[Window] = Counter()

    def compute(self, job: Job, todo: Sequence[Window]) -> Generator[Window]:
        """Hand out blocks, a few ahead for each worker, and tell of each that is done.

        Raises:
            ResDepthError: if a block cannot be read or written, or takes down the workers that try it; or the
                scheduler or all workers are lost.
        """
        task = str(job.unfinished.resolve()), job.number
        waiting, shown = iter(todo), set[str]()
        self._submit(task, islice(waiting, self._slots()))
        try:
            while self._at_work:
                future = self._next()
                block = self._at_work.pop(future)
                warnings = self._warnings_of(future, block)
                if warnings is None:
                    self._submit(task, [block])
                    continue
                future.release()
                show_once(warnings, shown)
                # Workers may have come or gone.
                self._submit(task, islice(waiting, max(self._slots() - len(self._at_work), 1)))
                yield block
        finally:
            if self._client.status == "running":
                with suppress(OSError):
                    self._client.cancel(list(self._at_work))

    def wait_for_worker(self) -> None:
        """Wait until there is a worker, if there is none.

        Raises:
            ResDepthError: if none comes in time, or the scheduler is lost.
        """
        start = time.monotonic()
        next_line = start
        while not self._threads():
            now = time.monotonic()
            if now - start >= self._patience:
                raise ResDepthError(
                    f"{self._scheduler}: no worker is there after {self._patience:.0f} s of waiting; start "
                    f"workers, or wait longer ({option('wait_for_workers')})"
                )
            if now >= next_line:
                logger.info("waiting for workers (for %.0f of %.0f s)", now - start, self._patience)
                next_line = now + SECONDS_BETWEEN_LINES
            time.sleep(min(0.5, self._patience))

    def _submit(self, task: tuple[str, str], blocks: Iterable[Window]) -> None:
        for block in blocks:
            with self._kept():
                future = self._client.submit(refine_here, *task, block, pure=False)
                self._at_work[future] = block
                future.add_done_callback(self._finished.put)

    def _next(self) -> Any:
        """The next future that is finished; meanwhile workers may all go, and others come."""
        while True:
            try:
                return self._finished.get(timeout=SECONDS_BETWEEN_LOOKS)
            except Empty:
                self.wait_for_worker()

    def _warnings_of(self, future: Any, block: Window) -> list[str] | None:
        """What a finished block's worker warned of; None if the block is to be tried again."""
        from distributed import KilledWorker
        from distributed.scheduler import NoValidWorkerError

        try:
            with self._kept():
                warnings: list[str] = future.result()
                return warnings
        except ResDepthError:
            raise
        except (KilledWorker, NoValidWorkerError) as error:
            self._given_up[block] += 1
            if self._given_up[block] < TRIES:
                logger.info("%s: several workers that had this block were lost; it is tried again", block)
                return None
            raise ResDepthError(
                f"{block}: all workers that tried this block were lost; is there memory enough? Their logs "
                "show why; the same command resumes with the other blocks"
            ) from error
        except Exception as error:
            raise ResDepthError(f"{block}: a worker failed ({error!r})") from error

    def _slots(self) -> int:
        """How many blocks are worth having at work."""
        return BLOCKS_AHEAD * max(self._threads(), 1)

    def _threads(self) -> int:
        with self._kept():
            threads: int = sum(self._client.nthreads().values())
            return threads

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """What needs the scheduler.

        Raises:
            ResDepthError: if it is lost, even if another one answers at its address by now.
        """
        from distributed.comm import CommClosedError

        lost = ResDepthError(
            f"{self._scheduler}: the scheduler was lost; finished blocks stay, and the same command resumes "
            "when it is there again"
        )
        if self._client.status != "running":
            raise lost
        try:
            yield
        except Exception as error:
            if self._client.status == "running" and not isinstance(error, CancelledError | CommClosedError):
                raise
            raise lost from error
