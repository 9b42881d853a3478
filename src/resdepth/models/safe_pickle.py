"""Reading pickles that are not trusted: numbers, texts and dicts only; nothing in them is executed."""

import io
import pickle
import pickletools
import struct
from collections.abc import Mapping
from typing import Any

MOST_REUSES = 16
_FLOATS = {"f8": "<d", "f4": "<f"}  # what a normalisation can hold
_NUMBERS = {
    **_FLOATS, "f2": "<e", "b1": "<?", "i1": "<b", "i2": "<h", "i4": "<i", "i8": "<q", "u1": "<B", "u2": "<H",
    "u4": "<I", "u8": "<Q",
}  # fmt: skip


class RefusedError(Exception):
    """The pickle tries something else than to hold plain numbers."""


class _PlainDtype:
    """Stands for numpy.dtype in a pickle."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            raise RefusedError("a number of an unknown type")


def _plain_float(dtype: _PlainDtype, raw: bytes) -> float:
    return float(_unpacked(_FLOATS, dtype, raw))


def _plain_number(dtype: _PlainDtype, raw: bytes) -> float:
    return _unpacked(_NUMBERS, dtype, raw)


def _unpacked(formats: Mapping[str, str], dtype: _PlainDtype, raw: bytes) -> float:
    if not isinstance(dtype, _PlainDtype) or dtype.code not in formats:
        raise RefusedError("a number of an unknown type")
    number: float = struct.unpack(formats[dtype.code], raw)[0]
    return number


# What rebuilding a number of numpy, of any version, takes in a pickle; as torch's safe_globals want it.
NUMBERS_OF_NUMPY: list[Any] = [
    (_PlainDtype, "numpy.dtype"),
    (_plain_number, "numpy.core.multiarray.scalar"),
    (_plain_number, "numpy._core.multiarray.scalar"),
]


class _NumbersOnly(pickle.Unpickler):
    """Builds dicts, strings, None and numbers; numpy's scalars are rebuilt by our own two functions."""

    _allowed: Mapping[tuple[str, str], object] = {
        ("numpy", "dtype"): _PlainDtype,
        ("numpy.core.multiarray", "scalar"): _plain_float,
        ("numpy._core.multiarray", "scalar"): _plain_float,
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
