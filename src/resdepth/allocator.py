"""How memory is taken from the system: large blocks that are freed are kept for the next of their kind."""

import ctypes
import os
import sys

# mallopt parameters of glibc (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_KEEP_BYTES = 1 << 30


def tune_allocator() -> None:
    """Let glibc keep freed memory, once per process.

    Networks and renderers free and ask for the same large blocks again and again; by default glibc gives
    them back to the kernel, and each pass of a network touches a million fresh pages. Nothing happens on
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


def return_unused_memory() -> None:
    """Give the kernel what glibc keeps of freed memory, for instance after a network was made ready."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
