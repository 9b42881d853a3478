"""Reading .pth files that nobody vouches for: their sizes first, and nothing in them is executed."""

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resdepth.errors import unusable
from resdepth.models.safe_pickle import NUMBERS_OF_NUMPY

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
    _refuse_bombs(path)
    try:
        with torch.serialization.safe_globals(NUMBERS_OF_NUMPY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about pickles that it refuses anyway
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


def _refuse_bombs(path: Path) -> None:
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
