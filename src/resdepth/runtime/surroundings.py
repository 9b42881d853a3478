"""What a process has once, for all that runs in it: changed for a while, and afterwards as it was.

That holds also where threads are at it side by side, whoever comes or goes first.
"""

import logging
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


@dataclass
class Stop:
    """Set by the first Ctrl-C or SIGTERM; the second one ends the process at once."""

    asked: bool = False
    name: str = ""
    previous: dict[int, Any] = field(default_factory=dict)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request that the loop grants between two batches or blocks.

    Only in the main thread. A signal that another program around Python handles stays with it.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.asked, stop.name = True, {signal.SIGINT: "Ctrl-C"}.get(signal.Signals(number), "SIGTERM")
        logger.info("stopping as soon as the work in hand is done (once more to stop at once)")
        give_back()

    def give_back() -> None:
        while stop.previous:
            number, handler = stop.previous.popitem()
            signal.signal(number, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not None:  # else Python could not put it back
                stop.previous[number] = signal.signal(number, ask)
        yield stop
    finally:
        give_back()


_FILTERS = threading.RLock()


@contextmanager
def without_warnings(category: type[Warning], message: str = "") -> Iterator[None]:
    """Let Python show no such warnings for a moment; others who want the same wait meanwhile.

    The filters are one list for all threads. Two that change it side by side would leave it changed.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, category)
        yield


@dataclass
class _Level:
    """The level of a logger while some need another one.

    Attributes:
        before: what it was, and is to be again.
        users: how many need it.
    """

    before: int
    users: int = 0


_LEVELS: dict[str, _Level] = {}
_CHANGING = threading.Lock()


@contextmanager
def logged_from(level: int, names: Iterable[str]) -> Iterator[None]:
    """Let loggers pass on what has this level or a higher one, as long as the block runs."""
    loggers = [logging.getLogger(name) for name in names]
    with _CHANGING:
        for one in loggers:
            _LEVELS.setdefault(one.name, _Level(one.level)).users += 1
            one.setLevel(level)
    try:
        yield
    finally:
        with _CHANGING:
            for one in loggers:
                _LEVELS[one.name].users -= 1
                if not _LEVELS[one.name].users:  # the last one
                    one.setLevel(_LEVELS.pop(one.name).before)
