"""Reading pickles that are not trusted: numbers, texts and dicts only; nothing in them is executed."""

import io
import pickle
import pickletools
import struct
from collections.abc import Mapping
from typing import Any

MOST_REUSES = 16


class RefusedError(Exception):
    """The pickle tries something else than to hold plain numbers."""


class _PlainDtype:
    """Stands for numpy.dtype in a pickle; knows the two floats that a normalisation can hold."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            raise RefusedError("a number of an unknown type")


def _plain_scalar(dtype: _PlainDtype, raw: bytes) -> float:
    formats = {"f8": "<d", "f4": "<f"}
    if not isinstance(dtype, _PlainDtype) or dtype.code not in formats:
        raise RefusedError("a number of an unknown type")
    return float(struct.unpack(formats[dtype.code], raw)[0])


class _NumbersOnly(pickle.Unpickler):
    """Builds dicts, strings, None and numbers; numpy's scalars are rebuilt by our own two functions."""

    _allowed: Mapping[tuple[str, str], object] = {
        ("numpy", "dtype"): _PlainDtype,
        ("numpy.core.multiarray", "scalar"): _plain_scalar,
        ("numpy._core.multiarray", "scalar"): _plain_scalar,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Refuse everything that is not a plain number."""
        if (module, name) in self._allowed:
            return self._allowed[(module, name)]
        raise RefusedError(f"it tries to load {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to outside."""
        raise RefusedError(f"it refers to {pid!r}")


def load_numbers(raw: bytes) -> object:
    """What a pickle of plain numbers holds.

    Raises:
        RefusedError: if it tries to load anything else.
        Exception: any other, if it is damaged.
    """
    _refuse_bombs(raw)
    return _NumbersOnly(io.BytesIO(raw)).load()


def _refuse_bombs(raw: bytes) -> None:
    """Python's unpickler takes memory for any memo number, and time for values nested in themselves."""
    reuses = 0
    for opcode, argument, _ in pickletools.genops(raw):
        reuses += "GET" in opcode.name or opcode.name == "DUP"
        if reuses > MOST_REUSES or ("PUT" in opcode.name and int(argument or 0) > len(raw)):
            raise RefusedError("it is made to take much memory or time")
