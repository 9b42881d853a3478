"""Reading .pth files and pickles that are not trusted: sizes first, and nothing in them is executed."""

import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resdepth.errors import unusable
from resdepth.runtime.surroundings import without_warnings

# A file that was packed anew may unpack to more than it has; weights hardly shrink.
LARGEST_RATIO = 8
# What describes the arrays of a large network and of its optimizer has some hundred kilobytes.
LARGEST_PICKLE = 4 * 2**20
PICKLES_BEFORE_ARRAYS = 4  # of a file of torch before 1.6: magic number, version, system, content
MOST_VALUES, DEEPEST_NESTING = 1_000_000, 8
_ZIP_START = b"PK\x03\x04"


def load_pth(path: Path) -> Any:
    """What a .pth file holds, on the CPU: arrays, plain values, and dicts, lists and tuples of them.

    Raises:
        InputProblems: if it is damaged, tries to load anything else, or would take more memory than its size
            lets expect.
    """
    _refuse_oversized(path)
    try:
        # Torch warns of what it refuses anyway. Its list of what is safe is one for all threads, too.
        with without_warnings(Warning), torch.serialization.safe_globals(NUMBERS_OF_NUMPY):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        tried = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it tries to load {tried[1]}"
            if tried
            else "it is damaged, or holds more than arrays and plain values"
        )
        raise unusable(path, f"refused, nothing was run: {reason}") from error
    except Exception as error:
        raise unusable(path, f"not a readable checkpoint ({error!r:.200}); is it complete?") from error
    return _Plain(path).value(content)


def _refuse_oversized(path: Path) -> None:
    """Look at the sizes that a file declares before memory is taken for them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            file.seek(0)
            _refuse_long_pickles(path, file)
            return
    try:
        with zipfile.ZipFile(path) as packed:
            parts = packed.infolist()
    except Exception as error:
        raise unusable(path, f"not a readable checkpoint ({error!r:.200}); is it complete?") from error
    declared = sum(part.file_size for part in parts)
    if declared > LARGEST_RATIO * size:
        raise unusable(path, f"refused: its {size} bytes would unpack to {declared}")
    longest = max((part.file_size for part in parts if part.filename.endswith(".pkl")), default=0)
    if longest > LARGEST_PICKLE:
        raise unusable(path, f"refused: {longest} bytes describe its arrays; {LARGEST_PICKLE} are allowed")


def _refuse_long_pickles(path: Path, file: io.BufferedReader) -> None:
    beginning = io.BytesIO(file.read(LARGEST_PICKLE))
    try:
        for _ in range(PICKLES_BEFORE_ARRAYS):
            for _ in pickletools.genops(beginning):
                pass
    except Exception as error:  # it is no pickle, or a longer one
        if file.read(1):
            raise unusable(path, f"refused: more than {LARGEST_PICKLE} bytes describe its arrays") from error


class _Plain:
    """Looks at every value of a file; they may be nested in themselves, and arrays larger than they are."""

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, MOST_VALUES

    def value(self, found: Any, depth: int = 0) -> Any:
        """The same, of plain dicts, lists and tuples."""
        self._left -= 1
        if self._left < 0 or depth > DEEPEST_NESTING:
            raise unusable(self._path, "refused: its values are nested too deep, or are too many")
        if isinstance(found, Tensor):
            return self._array(found)
        if isinstance(found, Mapping):
            return {key: self.value(one, depth + 1) for key, one in found.items()}
        if isinstance(found, list | tuple):
            kind = list if isinstance(found, list) else tuple
            return kind(self.value(one, depth + 1) for one in found)
        return found

    def _array(self, found: Tensor) -> Tensor:
        if found.layout == torch.strided and found.device.type == "cpu":
            declared = found.numel() * found.element_size()
            if declared > found.untyped_storage().nbytes():
                shape = " x ".join(map(str, found.shape))
                raise unusable(self._path, f"refused: an array of {shape} numbers, which it does not hold")
        return found


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
