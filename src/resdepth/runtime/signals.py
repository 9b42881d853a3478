"""Ctrl-C and SIGTERM as a request that long work grants at a good moment."""

import logging
import signal
import threading
from collections.abc import Iterator
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
    """Turn the first Ctrl-C or SIGTERM into a request that the loop grants between two batches or blocks."""
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

    for number in (signal.SIGINT, signal.SIGTERM):
        stop.previous[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        give_back()
