"""Memory that is kept, and given back."""

import pytest

from resdepth.runtime import malloc
from resdepth.runtime.malloc import Footprint


def test_memory_goes_back_once_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    resident, returned = [1000.0], []

    def give_back() -> None:
        returned.append(resident[0])
        resident[0] = 500

    monkeypatch.setattr(malloc, "_resident_pages", lambda: int(resident[0]))
    monkeypatch.setattr(malloc, "return_unused_memory", give_back)
    footprint = Footprint()
    for now in (700, 1000, 1050, 1090, 1099):  # the second pass tells the level
        resident[0] = now
        footprint.settle(1)
    assert not returned, "a little more each time is no reason"
    resident[0] = 1200
    footprint.settle(1)
    assert returned == [1200]
    for now in (600, 1100, 1200):  # and again, once memory has gone back
        resident[0] = now
        footprint.settle(1)
    assert returned == [1200]
    resident[0] = 1300
    footprint.settle(1)
    assert returned == [1200, 1300]


def test_larger_passes_may_need_more(monkeypatch: pytest.MonkeyPatch) -> None:
    resident, returned = [0], []
    monkeypatch.setattr(malloc, "_resident_pages", lambda: resident[0])
    monkeypatch.setattr(malloc, "return_unused_memory", lambda: returned.append(resident[0]))
    footprint = Footprint()
    for size, now in ((1, 1000), (1, 1000), (2, 1500), (1, 1400), (2, 1500), (1, 1530)):
        resident[0] = now
        footprint.settle(size)
    assert not returned
    resident[0] = 1700
    footprint.settle(2)
    assert returned == [1700]


def test_where_nobody_tells_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc, "_resident_pages", lambda: 0)
    monkeypatch.setattr(malloc, "return_unused_memory", lambda: pytest.fail("there is no need"))
    footprint = Footprint()
    for _ in range(3):
        footprint.settle(1)
