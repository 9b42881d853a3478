"""What GDAL has once for a whole process: left as it is, except in processes that are resdepth's own."""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import NotGeoreferencedWarning

from resdepth.runtime.surroundings import tune_allocator, without_warnings

# GDAL lists the folder of each file that it opens, which takes long beside 100,000 blocks; TRUE makes it ask
# for the few names that matter (masks, overviews, statistics) instead.
_LISTING, _NONE_IS_LISTED = "GDAL_DISABLE_READDIR_ON_OPEN", "TRUE"
_CACHE = "GDAL_CACHEMAX"
_CACHE_BYTES = 128 * 2**20


def open_raster(path: Path, mode: str = "r", **options: Any) -> Any:
    """As `rasterio.open`, but quick in large folders, and without a warning that there is no georeference."""
    with unreferenced_allowed(), ExitStack() as stack:
        if get_gdal_config(_LISTING) is None:
            stack.enter_context(rasterio.Env(**{_LISTING: _NONE_IS_LISTED}))
        return rasterio.open(path, mode, **options)


def unreferenced_allowed() -> AbstractContextManager[None]:
    """A raster without georeference is no reason to warn: an unknown CRS is reported, where it matters.

    To be held while a raster is opened, or an array handed to rasterio, which then changes the filters of
    warnings itself; not for longer, as all others who open one wait.
    """
    return without_warnings(NotGeoreferencedWarning)


class _Cache:
    """Decoded blocks that GDAL keeps, for all threads of a process together."""

    def __init__(self) -> None:
        self.is_ours = False
        self._users, self._changing = 0, threading.Lock()

    @contextmanager
    def at_most(self, size: int) -> Iterator[None]:
        self._count(1, size)
        try:
            yield
        finally:
            self._count(-1, size)

    def _count(self, more: int, size: int) -> None:
        with self._changing:
            self._users += more
            if self.is_ours:
                set_gdal_config(_CACHE, size if self._users else _CACHE_BYTES)


_cache = _Cache()


def tune_process() -> None:
    """Let this process use memory as the command line does; for processes that do nothing else.

    The C library keeps freed memory for the next block. GDAL keeps no more than 128 MB of what it has decoded
    (by default it is 5 % of the machine's memory, whatever we promise of ours), and less while blocks are
    refined, unless the environment variable GDAL_CACHEMAX says how much; and it lists no folders.

    Examples:
        >>> import resdepth
        >>> resdepth.tune_process()
    """
    tune_allocator()
    if _CACHE not in os.environ:
        _cache.is_ours = True
        set_gdal_config(_CACHE, _CACHE_BYTES)
    if get_gdal_config(_LISTING) is None:
        set_gdal_config(_LISTING, _NONE_IS_LISTED)


def decoded_at_most(size: int) -> AbstractContextManager[None]:
    """Let GDAL keep no more bytes of decoded blocks for a while, in a process that is ours."""
    return _cache.at_most(size)
