"""Progress of long work: a bar on a terminal, plain lines elsewhere. Always on stderr, if there is one.

There is none, or one that cannot do all, in QGIS, in services, under pythonw and behind `2>&-`. Nothing is
shown where the logger "resdepth", or this module's, has a level above INFO.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Protocol, TextIO

PROGRESS = __name__
"""The logger whose level decides whether progress is shown."""
SECONDS_BETWEEN_LINES = 10.0
VARIABLE = "RESDEPTH_PROGRESS_SECONDS"
"""Programs that read the lines (the plugin for QGIS) have them as often as this variable of theirs says."""


class Progress(Protocol):
    """What long work reports to."""

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """Count `amount` more units as done; `note` is shown beside the bar."""


Watcher = Callable[[str, float, float | None], None]
"""Takes what is being done, how many units of it are, and how many there are (None: that is not known)."""
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def reported_to(watcher: Watcher | None) -> Iterator[None]:
    """Report progress in this context to a function, instead of showing it; None: as before.

    What the function raises ends the work.
    """
    if watcher is None:
        yield
        return
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


class _Watched:
    """Progress that a program watches."""

    def __init__(self, watcher: Watcher, title: str, total: float | None, done: float) -> None:
        self._watcher, self._title, self._total, self._done = watcher, title, total, done
        watcher(title, done, total)

    def advance(self, amount: float = 1, *, note: str = "") -> None:  # noqa: ARG002 - for people
        self._done += amount
        self._watcher(self._title, self._done, self._total)


class Silent:
    """Progress that nobody watches (library use)."""

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """Do nothing."""


class _Bar:
    def __init__(self, title: str, total: float | None, unit: str, done: float) -> None:
        from rich import progress as bars
        from rich.console import Console

        columns = [
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[rate]}{task.fields[note]}"),
            bars.TimeRemainingColumn(),
        ]
        self._bars = bars.Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bars.add_task(title, total=total, completed=int(done), note="", rate="")
        self._unit = unit
        self._done = 0.0
        self._start = time.monotonic()
        self._bars.start()

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        self._done += amount
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        self._bars.update(
            self._task,
            advance=amount,
            note=f"  {note}" if note else "",
            rate=f"{rate:.3g} {self._unit}/s" if self._unit else "",
        )

    def close(self) -> None:
        self._bars.stop()


class _Lines:
    """A line at most every ten seconds, so that a log file stays readable; more for programs that want it."""

    def __init__(self, title: str, total: float | None, unit: str, done: float) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._before = done, done
        self._start = self._last = time.monotonic()
        requested = _requested_seconds()
        self._pause = SECONDS_BETWEEN_LINES if requested is None else requested
        if requested is not None:
            self._show(self._start, "")

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last < self._pause:
            return
        self._last = now
        self._show(now, note)

    def _show(self, now: float, note: str) -> None:
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        parts = [self._title]
        if self._total:
            parts.append(f"{100 * self._done / self._total:.0f} %")
            parts += [f"{(self._total - self._done) / rate:.0f} s left"] if rate > 0 else []
        if self._unit and rate > 0:
            parts.append(f"{rate:.3g} {self._unit}/s")
        if note:
            parts.append(note)
        _say("  ".join(parts))

    def close(self) -> None:
        pass


def _requested_seconds() -> float | None:
    """How often the program around wants lines; None if it does not say so in seconds."""
    try:
        seconds = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        return None
    return seconds if seconds >= 0 else None


def _is_quiet() -> bool:
    """Whether the package is asked for warnings alone; a level that nobody has set is none."""
    return any(logging.getLogger(name).level > logging.INFO for name in ("resdepth", PROGRESS))


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # not complete, or closed
        return False


def _say(text: str) -> None:
    """A line on stderr; nobody's work fails because it cannot be written."""
    if sys.stderr is None:
        return
    with suppress(AttributeError, ValueError, OSError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(
    title: str, total: float | None, *, unit: str = "", done: float = 0, only_watched: bool = False
) -> Iterator[Progress]:
    """Show progress on stderr until the block ends, or report it (see `reported_to`).

    Args:
        title: what is being done.
        total: how many units there are; None if that is not known.
        unit: the unit's name, for the rate ("samples" gives "120 samples/s").
        done: how many units an earlier try had done already; they do not count for the rate.
        only_watched: report it to a program, but do not show it.
    """
    if (watcher := _WATCHER.get()) is not None:
        yield _Watched(watcher, title, total, done)
        return
    if only_watched or _is_quiet():
        yield Silent()
        return
    kind = _Bar if _is_terminal(sys.stderr) else _Lines
    shown = kind(title, total, unit, done)
    try:
        yield shown
    finally:
        shown.close()
