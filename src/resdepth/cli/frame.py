"""What all commands share: errors become messages and exit codes."""

import codecs
import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import rich_click as click

Params = ParamSpec("Params")

EXIT_INPUT, EXIT_INTERRUPTED = 2, 130
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

CONFIG = click.argument("config", type=click.Path(path_type=Path))
OVERWRITE = click.option(
    "--overwrite", is_flag=True, help="Replace outputs that exist already; without it, they are refused."
)


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


def guarded(command: Callable[Params, None]) -> Callable[Params, None]:
    """Turn the errors that users can mend into a message and an exit code."""

    @wraps(command)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> None:
        from resdepth.errors import InputProblems, Interrupted, ResDepthError
        from resdepth.geo.gdal import tune_process
        from resdepth.options import spelled

        tune_process()
        logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_ToStderr()])
        logging.getLogger("resdepth").setLevel(logging.INFO)
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

    return run


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
