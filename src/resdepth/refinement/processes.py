"""Blocks computed by several processes on this machine.

Each is given its blocks through a pipe, which nobody else reaches: no port is open, so no other user of the
machine can hand them anything. `python -m resdepth.refinement.processes` is one of them; what it does for
each block, the workers of a Dask cluster do as well.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from multiprocessing.spawn import get_executable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from resdepth.errors import InputProblems, ResDepthError
from resdepth.geo.gdal import tune_process
from resdepth.geo.windows import Window
from resdepth.refinement.blocks import refined_blocks
from resdepth.refinement.job import Job, load_job, write_finished
from resdepth.refinement.run_job import Compute

logger = logging.getLogger(__name__)

MOST_LOST = 5
"""Processes that a block may take down; fewer may be bad luck, as when memory was short for a while."""
# -P: modules are not looked for in the working directory, which may be anybody's.
WORKER = ["-P", "-m", "resdepth.refinement.processes"]
THREADS = "OMP_NUM_THREADS"

Result = tuple[Window, list[str]]
"""A finished block, and the warnings that came with it."""


def on_processes(count: int, *, threads: int | None = None) -> Compute:
    """A way to compute blocks: by so many processes on this machine.

    Args:
        count: how many; there are never more than blocks.
        threads: of each; by default OMP_NUM_THREADS, or its share of the cores.
    """

    def compute(job: Job, todo: Sequence[Window]) -> Generator[Window]:
        blocks: SimpleQueue[tuple[Window, int] | None] = SimpleQueue()
        results: SimpleQueue[Result | Exception] = SimpleQueue()
        for block in todo:
            blocks.put((block, 0))
        shown: set[str] = set()
        hands = [_Hand(job, blocks, results, threads or _share(count)) for _ in range(min(count, len(todo)))]
        for hand in hands:
            hand.start()
        try:
            for _ in todo:
                result = results.get()
                if isinstance(result, Exception):
                    raise result
                show_once(result[1], shown)
                yield result[0]
        finally:
            for hand in hands:
                hand.stop()
            for hand in hands:  # only now: any of them may take the None that one of them waits for
                hand.join()

    return compute


def _share(count: int) -> int:
    """Threads for each of so many processes."""
    asked = os.environ.get(THREADS, "")
    return int(asked) if asked.isdecimal() and int(asked) else max(1, _cores() // count)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _LostError(Exception):
    """A process ended before it answered."""


class _Hand(threading.Thread):
    """Speaks to a process that computes blocks, one at a time; a lost one is replaced."""

    def __init__(
        self,
        job: Job,
        blocks: SimpleQueue[tuple[Window, int] | None],
        results: SimpleQueue[Result | Exception],
        threads: int,
    ) -> None:
        super().__init__(daemon=True)
        self._job, self._blocks, self._results, self._threads = job, blocks, results, threads
        self._process: subprocess.Popen[str] | None = None
        self._stopped, self._changing = False, threading.Lock()

    def run(self) -> None:
        """Have block after block computed, until it is stopped."""
        try:
            while (entry := self._blocks.get()) is not None and not self._stopped:
                self._try(*entry)
        except Exception as error:  # noqa: BLE001 - raised where results are waited for
            self._results.put(error)
        finally:
            self._end_process()

    def stop(self) -> None:
        """End the process, whatever it is at; the thread ends soon after."""
        with self._changing:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
        self._blocks.put(None)

    def _try(self, block: Window, lost: int) -> None:
        """Have a block computed; if the process is lost, the block waits for another try, by anybody."""
        try:
            self._results.put((block, self._warnings_of(block)))
        except _LostError as error:
            self._end_process()
            if lost + 1 == MOST_LOST:
                raise ResDepthError(
                    f"{block}: {MOST_LOST} worker processes that tried this block were lost (the last one: "
                    f"{error}); is there memory enough?"
                ) from error
            if not self._stopped:
                logger.info("a worker process was lost (%s); its block is computed again", error)
            self._blocks.put((block, lost + 1))

    def _warnings_of(self, block: Window) -> list[str]:
        """Have a block computed; gives the warnings that came with it."""
        answer = self._answer_to({
            "folder": str(self._job.unfinished.resolve()), "number": self._job.number,
            "block": [block.row, block.col, block.height, block.width],
        })  # fmt: skip
        if "problem" in answer:
            raise ResDepthError(answer["problem"])
        if "failure" in answer:
            raise ResDepthError(f"{block}: a worker process failed ({answer['failure']})")
        warnings: list[str] = answer["warnings"]
        return warnings

    def _answer_to(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except OSError:  # it hung up
            line = ""
        if not line.endswith("\n"):
            process.kill()  # alive or not, it cannot be spoken to
            raise _LostError(_end_of(process.wait()))
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise ResDepthError(f"a worker process answered {line.strip()!r}") from error
        return answer

    def _running(self) -> subprocess.Popen[str]:
        with self._changing:
            if self._stopped:
                raise _LostError("stopped")
            if self._process is None:
                self._process = _started(self._threads)
            return self._process

    def _end_process(self) -> None:
        with self._changing:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # of what could not be sent any more
                    pipe.close()


def _started(threads: int) -> subprocess.Popen[str]:
    """A process that waits for blocks; it knows the same modules as this one.

    Raises:
        ResDepthError: if the system starts no more processes.
    """
    known = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100 - "" is here
    try:
        return subprocess.Popen(  # noqa: S603 - the interpreter that runs this
            [os.fsdecode(get_executable()), *WORKER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii",
            env=os.environ | {THREADS: str(threads), "PYTHONPATH": known},
            process_group=0,  # a terminal's Ctrl-C is for the command alone
        )  # fmt: skip
    except OSError as error:
        raise ResDepthError(f"a worker process cannot be started ({error})") from error


def _end_of(code: int) -> str:
    """How a process ended, by its exit code."""
    try:
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    except ValueError:
        return f"killed by signal {-code}"


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
