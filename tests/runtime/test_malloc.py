"""Memory that is kept, and given back."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing happens on other systems")

PASSES = """
import os, sys
from pathlib import Path
from resdepth.runtime.surroundings import Footprint, tune_allocator

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20

tune_allocator()
footprint = Footprint()
for megabytes, size in zip(*[iter(map(int, sys.argv[1:]))] * 2):
    blocks = [b"x" * 2**20 for _ in range(megabytes)]
    del blocks
    kept = resident_mib()
    footprint.settle(size)
    print(kept, resident_mib())
"""


def passes(*of: tuple[int, int]) -> list[tuple[int, int]]:
    """Passes that take (MiB, size) in a process of its own: MiB that it holds before and after settling."""
    words = [str(number) for one in of for number in one]
    done = subprocess.run([sys.executable, "-c", PASSES, *words], capture_output=True, text=True, check=True)
    return [(int(before), int(after)) for before, after in map(str.split, done.stdout.splitlines())]


def test_freed_memory_is_kept_and_goes_back_once_it_has_grown() -> None:
    *level, grown = passes((100, 1), (100, 1), (100, 1), (200, 1))
    assert all(100 < before == after for before, after in level), "freed memory is kept for the next pass"
    assert grown[0] > 200
    assert grown[1] < 100


def test_larger_passes_may_need_more() -> None:
    larger, again, grown = passes((100, 1), (100, 1), (200, 2), (200, 2), (400, 2))[2:]
    assert larger[1] > 200
    assert again[1] > 200
    assert grown[0] > 400
    assert grown[1] < 200


def test_the_level_does_not_creep_up() -> None:
    """After memory went back, passes that hold a little more are no new level."""
    *_, crept = passes((100, 1), (100, 1), (200, 1), (109, 1), (109, 1), (119, 1))
    assert crept[0] > 119
    assert crept[1] < 100


def test_what_is_needed_again_at_once_becomes_the_level() -> None:
    """Else memory would go back after every pass."""
    *_, first, second, third = passes((100, 1), (100, 1), (200, 1), (200, 1), (200, 1))
    assert first[1] < 100
    assert second[1] < 100
    assert third[1] > 200
