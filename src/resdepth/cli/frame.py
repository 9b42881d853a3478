"""What all commands share: how much they say, and errors that become messages and exit codes."""

import codecs
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import rich_click as click

from resdepth.runtime.progress import PROGRESS

EXIT_INPUT, EXIT_INTERRUPTED = 2, 130
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOG_LEVELS = ("debug", "info", "warning", "error")
_PLAIN, _DETAILED = "%(message)s", "%(asctime)s %(levelname)s %(name)s: %(message)s"

CONFIG = click.argument("config", type=click.Path(path_type=Path))
OVERWRITE = click.option(
    "--overwrite", is_flag=True, help="Replace outputs that exist already; without it, they are refused."
)
AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document for programs, and nothing else."
)
DRY_RUN = click.option(
    "--dry-run", is_flag=True,
    help="State what would be done, with blocks, disk and memory as far as they are known; write nothing.",
)  # fmt: skip


def fail(message: str, code: int = EXIT_INPUT) -> None:
    """State what is wrong, and exit."""
    click.echo(message, err=True)
    sys.exit(code)


def make_streams_sound() -> None:
    """Let stdout and stderr take whatever is written.

    Where one is not open (services, pythonw, `2>&-`), nothing must take its place among the files that are
    opened later. Letters that an encoding lacks become their numbers; names that are not UTF-8 stay as they
    are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - until the end
        elif isinstance(stream, io.TextIOWrapper):
            is_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


_SPELLED = {
    "compression": "--compress", "correct_rpcs": "--keep-rpcs", "gsd_m": "--gsd", "images": "--image"
}  # fmt: skip
"""Options that are called otherwise than the arguments of functions."""


def as_option(name: str, value: object) -> str:
    """How an argument of a function is given on the command line: tile_size is --tile-size."""
    spelled = _SPELLED.get(name, f"--{name.replace('_', '-')}")
    return spelled if value is None or isinstance(value, bool) else f"{spelled} {value}"


def _refuse_foreign_paths(arguments: Mapping[str, Any]) -> None:
    """Refuse paths of GDAL's virtual files, URLs, and names that are not UTF-8.

    Raises:
        ResDepthError: the first of them.
    """
    from resdepth.errors import ResDepthError
    from resdepth.runtime.paths import why_foreign

    for value in arguments.values():
        for one in value if isinstance(value, tuple) else (value,):
            path = str(one).rpartition("=")[2] if isinstance(one, str) else one
            if isinstance(path, str | Path) and (reason := why_foreign(path)):
                raise ResDepthError(f"{path}: {reason}")


class _ToStderr(logging.Handler):
    """Messages to what stderr is at the time: a progress bar takes its place, and puts them above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(AttributeError, ValueError, OSError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


def echo_json(content: Any) -> None:
    """Print the one JSON document of a command; null stands for what is not known."""
    click.echo(json.dumps(content, indent=2, allow_nan=False))


def echo_facts(name: str, facts: Sequence[tuple[str, object]]) -> None:
    """Print facts below a name, in two columns; a key that is that of the line before stands once."""
    click.echo(name)
    width, before = max(len(key) for key, _ in facts), ""
    for key, value in facts:
        click.echo(f"  {'' if key == before else key:<{width}}  {value}")
        before = key


def echo_dry_run(facts: Sequence[tuple[str, object]]) -> None:
    """Print what a job would do."""
    echo_facts("dry run: nothing is written", facts)


def _with_loudness(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that say how much it reports on stderr."""
    for option in (
        click.option(
            "--log-level", type=click.Choice(LOG_LEVELS, case_sensitive=False),
            help="Report from this level on; like -q (warning) and -v (debug), one of the three.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="Also report details, with times."),
        click.option("-q", "--quiet", is_flag=True, help="Report warnings and errors alone; no progress."),
    ):  # fmt: skip
        command = option(command)
    return command


def _configure_logging(*, quiet: bool, verbose: bool, log_level: str | None) -> None:
    """Let messages of a level reach stderr; progress shows with those of the level info.

    Raises:
        UsageError: if more than one option asks for a level.
    """
    asked = {"-q": quiet, "-v": verbose, "--log-level": log_level}
    given = [name for name, value in asked.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"give one of {', '.join(given)}")
    level = log_level or ("warning" if quiet else "debug" if verbose else "info")
    handler = _ToStderr(level.upper())  # of its own, as files may keep more
    handler.setFormatter(logging.Formatter(_DETAILED if level == "debug" else _PLAIN))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("resdepth", PROGRESS):
        logging.getLogger(name).setLevel(level.upper())


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors that users can mend into a message and an exit code; add the options on loudness."""

    @wraps(command)
    def run(
        *args: Any, quiet: bool = False, verbose: bool = False, log_level: str | None = None, **kwargs: Any
    ) -> None:
        from resdepth.errors import InputProblems, Interrupted, ResDepthError
        from resdepth.geo.gdal import tune_process
        from resdepth.options import spelled

        tune_process()
        _configure_logging(quiet=quiet, verbose=verbose, log_level=log_level)
        try:
            _refuse_foreign_paths(kwargs)
            with spelled(as_option):
                command(*args, **kwargs)
        except InputProblems as error:
            count = sum(problem.severity == "error" for problem in error.problems)
            for problem in error.problems:
                click.echo(f"{problem.severity}: {problem}", err=True)
            fail(f"{count} problem{'s' if count != 1 else ''}; nothing was written")
        except Interrupted as error:
            fail(str(error), EXIT_INTERRUPTED)
        except ResDepthError as error:
            fail(f"error: {error}")
        except KeyboardInterrupt:
            fail("stopped by Ctrl-C", EXIT_INTERRUPTED)
        except OSError as error:
            if error.filename is None and error.errno not in _DISK_FULL:
                raise
            fail(f"error: {error.filename or 'a file cannot be written'}: {error.strerror}")

    return _with_loudness(run)


def needs(module: str, extra: str) -> None:
    """Refuse to run without a module that an extra of the package brings."""
    from importlib.util import find_spec

    from resdepth.errors import ResDepthError

    if find_spec(module) is None:
        raise ResDepthError(f"this needs {module}, which is not installed: pip install 'resdepth[{extra}]'")


def use_one_opencv_thread() -> None:
    """Leave the processors to our own threads, in whose way those of OpenCV would only get."""
    import cv2

    cv2.setNumThreads(1)
