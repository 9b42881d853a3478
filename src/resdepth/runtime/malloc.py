"""How memory is taken from the system: large blocks that are freed are kept for the next of their kind."""

import ctypes
import os
import sys
from pathlib import Path

# mallopt parameters of glibc (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_KEEP_BYTES = (1 << 31) - 1
_MEMORY = Path("/proc/self/statm")
# Passes after which all is in use that will be, and by how much that may grow.
_FIRST_PASSES, _GROWTH = 2, 1.1


def tune_allocator() -> None:
    """Let glibc keep freed memory, in one place for all threads that are started from now on.

    Networks and renderers free and ask for the same large blocks again and again; by default glibc gives
    them back to the kernel, and each pass of a network touches a million fresh pages. Threads would have
    places of their own, which give back whatever is larger than 64 MB, and between them keep more than they
    need. It holds for the whole process, so it is for processes that are resdepth's own. Nothing happens on
    other C libraries.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
    if not mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES):
        mallopt(_M_MMAP_MAX, 0)  # older versions of glibc refuse thresholds above 32 MiB
    if "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, 1)


def return_unused_memory() -> None:
    """Give the kernel what glibc keeps of freed memory, for instance after a network was made ready."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


class Footprint:
    """Keeps a process's memory at its level while the same work is done again and again.

    Memory that is freed and kept comes to lie in pieces between what is still in use, more with every block
    of a large raster; large maps do not fit into them and take new memory. Once that shows, all pieces go
    back to the kernel. Doing so each time would take longer than the work.
    """

    def __init__(self) -> None:
        self._largest, self._passes, self._returned, self._level = 0, 0, 0, 0

    def settle(self, size: int) -> None:
        """To be called when a pass is over and little is in use. Nothing happens off Linux.

        Args:
            size: of the pass, in any unit; larger ones than before may need more.
        """
        if size > self._largest:
            self._largest, self._passes, self._returned = size, 0, 0
        resident = _resident_pages()
        self._passes += 1
        if self._passes <= _FIRST_PASSES:
            self._level = resident
        elif resident > _GROWTH * self._level:
            return_unused_memory()
            if self._passes - self._returned <= _FIRST_PASSES:
                self._level = resident  # so much is in use, or the next pass would return memory again
            self._returned = self._passes


def _resident_pages() -> int:
    """Memory that this process holds, in pages; 0 where nobody tells."""
    try:
        return int(_MEMORY.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
