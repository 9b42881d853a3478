"""Blocks computed by the workers of a Dask cluster that sees the same files."""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from typing import Any

import torch

from resdepth.config import Device, Precision
from resdepth.engine import choose_device, choose_precision
from resdepth.errors import ResDepthError
from resdepth.windows import Window
from resdepth.workflows.jobs import Job
from resdepth.workflows.making import Compute
from resdepth.workflows.worker import kept_warnings, refine_here, show_once

logger = logging.getLogger(__name__)

# Blocks that wait at each worker, so that none waits for the scheduler; its work does not grow with the area.
BLOCKS_AHEAD = 2
SECONDS_TO_CONNECT = 30

Chosen = tuple[str, str, list[str]]
"""A device's type, a precision's name, and warnings."""


def on_cluster(scheduler: str) -> Compute:
    """A way to compute blocks: by the workers of a Dask cluster.

    Args:
        scheduler: its address, "tls://host:8786".

    Raises:
        ResDepthError: if Dask is not installed.
    """
    _demand_dask()

    def compute(job: Job, todo: Sequence[Window]) -> Generator[Window]:
        if todo:
            with _client(scheduler) as client:
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
    with _client(scheduler) as client:
        try:
            answers: dict[str, Chosen] = client.run(_chosen_here, device, precision)
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
    show_once(chain.from_iterable(warnings for _, _, warnings in answers.values()), set())
    return torch.device(name), getattr(torch, dtype)


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
    """A connection to the cluster.

    Raises:
        ResDepthError: if the scheduler does not answer.
    """
    from distributed import Client

    with ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            client = stack.enter_context(Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=False))
        except (OSError, ValueError) as error:
            raise ResDepthError(f"{scheduler}: no Dask scheduler answers there ({error})") from error
        try:
            client.wait_for_workers(1, timeout=SECONDS_TO_CONNECT)
        except TimeoutError as error:
            raise ResDepthError(f"{scheduler}: no Dask worker is there to work") from error
        yield client


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


def _compute(client: Any, job: Job, todo: Sequence[Window]) -> Generator[Window]:
    """Hand out blocks, a few ahead for each worker, and tell of each that is done.

    Raises:
        ResDepthError: if a block cannot be read or written, or takes down every worker that tries it.
    """
    from distributed import KilledWorker, as_completed
    from distributed.scheduler import NoValidWorkerError

    folder, number = str(job.unfinished.resolve()), job.number
    waiting, shown = iter(todo), set[str]()

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
                show_once(future.result(), shown)
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


def _slots(client: Any) -> int:
    """How many blocks are worth having at work."""
    threads: int = sum(client.nthreads().values())
    return BLOCKS_AHEAD * max(threads, 1)
