"""What a process has once, for all that runs in it: changed for a while, and afterwards as it was.

That holds also where threads are at it side by side, whoever comes or goes first. How memory is taken from
the system is changed for good, and only where a program asks for it: large blocks that are freed are kept for
the next of their kind.
"""

import ctypes
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from resdepth.errors import ResDepthError

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


_NOTED: ContextVar[tuple[tuple[list[str], Callable[[str], str]], ...]] = ContextVar("noted", default=())


class _Notes(logging.Handler):
    """Notes the warnings of each context, and passes them on where nobody else would show them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.users = 0

    def emit(self, record: logging.LogRecord) -> None:
        for notes, renamed in reversed(_NOTED.get()):
            record.msg, record.args = renamed(record.getMessage()), ()
            notes.append(record.msg)
        if not _PACKAGE.handlers[1:] and not logging.getLogger().handlers and logging.lastResort:
            logging.lastResort.handle(record)


_NOTES, _PACKAGE = _Notes(), logging.getLogger("resdepth")


@contextmanager
def noted_warnings(renamed: Callable[[str], str] = str) -> Iterator[list[str]]:
    """Collect what the package warns of in this context, as values; it is logged all the same.

    Args:
        renamed: what becomes of a message before others see it.
    """
    notes: list[str] = []
    with _CHANGING:
        _NOTES.users += 1
        if _NOTES not in _PACKAGE.handlers:
            _PACKAGE.handlers.insert(0, _NOTES)  # before those that show a message
    token = _NOTED.set((*_NOTED.get(), (notes, renamed)))
    try:
        yield notes
    finally:
        _NOTED.reset(token)
        with _CHANGING:
            _NOTES.users -= 1
            if not _NOTES.users:
                _PACKAGE.removeHandler(_NOTES)


def imported(module: str, extra: str) -> Any:
    """A module that an extra of the package brings.

    Raises:
        ResDepthError: if it is not installed, saying how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ResDepthError(
            f"this needs {name}, which is not installed: pip install 'resdepth[{extra}]'"
        ) from error


# mallopt parameters of glibc (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_KEEP_BYTES = (1 << 31) - 1
_MEMORY = Path("/proc/self/statm")
# Passes after which all is in use that will be, and by how much that may grow.
_FIRST_PASSES, _GROWTH = 2, 1.1


def tune_allocator() -> None:
    """Let glibc keep freed memory, in one place for all threads that are started from now on.

    Networks and renderers free and ask for the same large blocks again and again; by default glibc gives
    them back to the kernel, and each pass of a network touches a million fresh pages. Threads would have
    places of their own, which give back whatever is larger than 64 MB, and between them keep more than they
    need. It holds for the whole process, so it is for processes that are resdepth's own. Nothing happens on
    other C libraries.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
    if not mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES):
        mallopt(_M_MMAP_MAX, 0)  # older versions of glibc refuse thresholds above 32 MiB
    if "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, 1)


def return_unused_memory() -> None:
    """Give the kernel what glibc keeps of freed memory, for instance after a network was made ready."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


class Footprint:
    """Keeps a process's memory at its level while the same work is done again and again.

    Memory that is freed and kept comes to lie in pieces between what is still in use, more with every block
    of a large raster; large maps do not fit into them and take new memory. Once that shows, all pieces go
    back to the kernel. Doing so each time would take longer than the work.
    """

    def __init__(self) -> None:
        self._largest, self._passes, self._returned, self._level = 0, 0, 0, 0

    def settle(self, size: int) -> None:
        """To be called when a pass is over and little is in use. Nothing happens off Linux.

        Args:
            size: of the pass, in any unit; larger ones than before may need more.
        """
        if size > self._largest:
            self._largest, self._passes, self._returned = size, 0, 0
        resident = _resident_pages()
        self._passes += 1
        if self._passes <= _FIRST_PASSES:
            self._level = resident
        elif resident > _GROWTH * self._level:
            return_unused_memory()
            if self._passes - self._returned <= _FIRST_PASSES:
                self._level = resident  # so much is in use, or the next pass would return memory again
            self._returned = self._passes


def _resident_pages() -> int:
    """Memory that this process holds, in pages; 0 where nobody tells."""
    try:
        return int(_MEMORY.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
