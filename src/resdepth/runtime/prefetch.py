"""Work prepared ahead by threads, and handed out in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

Result = TypeVar("Result")


def in_order(jobs: Iterable[Callable[[], Result]], workers: int) -> Iterator[Result]:
    """The jobs' results, in the order of the jobs, done ahead by `workers` threads (0: when asked for).

    At most `workers` + 1 results wait, so memory does not grow with the number of jobs. A job's error is
    raised where its result would have come.
    """
    if not workers:
        for job in jobs:
            yield job()
        return
    given = iter(jobs)
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            waiting.extend(pool.submit(copy_context().run, job) for job in islice(given, workers + 1))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(copy_context().run, job) for job in islice(given, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
