"""What a process does that computes blocks for another one; `python -m resdepth.refinement.worker` is one."""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from resdepth.errors import InputProblems, ResDepthError
from resdepth.geo.gdal import tune_process
from resdepth.geo.windows import Window
from resdepth.refinement.blocks import refined_blocks
from resdepth.refinement.job import Job, load_job, write_finished

logger = logging.getLogger(__name__)


def refine_here(folder: str, number: str, block: Window) -> list[str]:
    """Refine one block and write it where all blocks of the job lie; gives the warnings logged meanwhile.

    Raises:
        ResDepthError: if the job cannot be loaded here, or the block cannot be read or written.
    """
    with kept_warnings() as warnings:
        try:
            job = _job_of(folder, number)
            for done in refined_blocks(job.work, job.refiner, [block], workers=0):
                write_finished(job, done)
        except InputProblems as error:  # whose list does not travel
            raise ResDepthError(str(error)) from error
    return warnings


@lru_cache(maxsize=1)
def _job_of(folder: str, number: str) -> Job:
    """The job, once in each worker: a process for jobs, which uses memory as the command does."""
    tune_process()
    job = load_job(Path(folder))
    if job.number != number:
        raise ResDepthError(f"{folder}: holds another job by now")
    return job


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """The warnings that the package logs meanwhile; who gave the work shows them to the user."""
    kept: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    package = logging.getLogger("resdepth")
    package.addHandler(handler)
    try:
        yield kept
    finally:
        package.removeHandler(handler)


def show_once(warnings: Iterable[str], shown: set[str]) -> None:
    """Log what workers warn of; all of them load the same job, so the same text comes from each."""
    for text in warnings:
        if text not in shown:
            shown.add(text)
            logger.warning("%s", text)


def serve() -> None:
    """Refine the blocks that lines of the standard input name; answer each by a line. Ends with the input."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all of a job; who gave the work decides
        signal.signal(number, signal.SIG_IGN)
    answers = _take_stdout()
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        print(json.dumps(_answer(json.loads(requests.get()))), file=answers, flush=True)


def _take_stdout() -> TextIO:
    """The standard output, for answers alone: what libraries print must not lie between them."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answers


def _listen(requests: SimpleQueue[str]) -> None:
    """Hand on each request; without who gives them, even the block in hand is of no use."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        block = Window(*request["block"])
        return {"warnings": refine_here(request["folder"], request["number"], block)}
    except ResDepthError as error:
        return {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever it is, who gave the work is to know
        return {"failure": repr(error)}


if __name__ == "__main__":
    serve()
