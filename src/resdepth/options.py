"""What can be chosen by name: the lists that functions, configuration files and the command line share.

Messages name an option as its user gives it: `option("overwrite", value=True)` is overwrite=True for whoever
calls a function, and --overwrite for whoever gives a command (cli/frame.py).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Kind = Literal["train", "test"]
"""Of a configuration that trains or tests."""
AnyKind = Literal[Kind, "simulate", "prepare"]
"""Of a configuration."""
Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where a network runs; `auto` takes CUDA, then MPS, then the CPU."""
Precision = Literal["fp32", "bf16", "auto"]
"""What a network computes in; `auto` takes bf16 where it is faster."""
Mode = Literal["exact", "seamless"]
"""How a DSM is refined: in tiles as published, or so that heights do not depend on tiles."""
Fuse = Literal["median", "mean", "uncertainty"]
"""How the results of several pairs become one; `uncertainty` weighs them by their expected errors."""
Compression = Literal["zstd", "deflate", "lzw", "none"]
"""Of a Cloud-Optimised GeoTIFF."""
Style = Literal["old-town", "suburb", "high-rise", "industrial"]
"""Of a simulated town."""
AnyStyle = Literal["any", Style]
"""Of a simulated town; `any` lets the seed choose."""
Motions = Literal["shift", "tilt", "none"]
Moves = Literal["dsm", "reference"]
RpcBiases = Literal["auto", "shift", "affine"]
"""What is taken out of the RPC of each image; `auto`: what tie points that were left out say."""

Spelling = Callable[[str, object], str]
"""How an option is given: its name in Python, and its value or None, to text."""


def _as_argument(name: str, value: object) -> str:
    return f"{name}=" if value is None else f"{name}={value!r}"


_SPELLING: ContextVar[Spelling] = ContextVar("spelling", default=_as_argument)


def option(name: str, *, value: object = None) -> str:
    """How the user gives an option, for messages.

    Args:
        name: of the argument of a function.
        value: to give; None: any.
    """
    return _SPELLING.get()(name, value)


@contextmanager
def spelled(spelling: Spelling) -> Iterator[None]:
    """Let `option` spell otherwise in this context."""
    token = _SPELLING.set(spelling)
    try:
        yield
    finally:
        _SPELLING.reset(token)
