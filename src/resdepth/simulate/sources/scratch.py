"""Arrays in files, where they may be larger than the memory."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from resdepth.runtime.atomic import writing


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of zeros in a new file. Its room is taken at once: a disk that is full later ends the process.

    Raises:
        ResDepthError: if there is no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with writing(path), path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, dtype, "r+", shape=shape)
