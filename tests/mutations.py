"""Damage of all kinds for the readers of files, the same in every run; see test_hostile_files.py."""

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resdepth.errors import ResDepthError

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**63, 2**64, 10**400, -(10**400), 1e308, float("nan"),
    float("inf"), "", "x", "\ud800", "\0", "9" * 5000, "a" * 100_000, [], {}, [[]], [None], ["x"], [1.5],
    [[["x"]]], {"type": 1}, {"a": {"b": []}}, [10**400] * 3, [True] * 3,
)  # fmt: skip


def damaged_bytes(raw: bytes, count: int, *, seed: int = 0, focus: int | None = None) -> Iterator[bytes]:
    """Copies of a file with bytes changed, cut off, repeated, taken out or put in.

    Args:
        raw: the sound file.
        count: how many copies.
        seed: of the choice.
        focus: so many bytes at the beginning are hit by half of the changes; a header is small.
    """
    rng = random.Random(seed)
    edges = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0" * 8)
    for number in range(count):
        at = rng.randrange(min(focus, len(raw)) if focus and number % 2 else len(raw))
        length = rng.choice((1, 1, 2, 4, 8, 64))
        changed = {
            0: raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :],
            1: raw[:at] + rng.choice(edges) + raw[at + length :],
            2: raw[:at],
            3: raw[:at] + raw[at + length :],
            4: raw[:at] + raw[at : at + length] * 2 + raw[at + length :],
            5: raw[:at] + rng.randbytes(length) + raw[at + length :],
        }
        yield changed[rng.randrange(len(changed))]


def damaged_values(content: Any, count: int, *, seed: int = 0) -> Iterator[Any]:
    """Copies of a JSON value with one or two values inside replaced, removed, or put under another key."""
    rng = random.Random(seed)
    for _ in range(count):
        changed = copy.deepcopy(content)
        for _ in range(rng.choice((1, 1, 1, 2))):
            _damage(changed, rng)
        yield changed


def _damage(content: Any, rng: random.Random) -> None:
    holder, key = rng.choice(list(_places(content)))
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 1:
        holder[f"{key}_"] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list) and value[key]:
            yield from _places(value[key])


def survive(read: Callable[[], object], path: Path) -> bool:
    """Whether a file is read; where it is refused, the message has to name it."""
    message = _message_of(read)
    if message is None:
        return True
    assert path.name in message, f"the message does not name the file: {message}"
    assert len(message) < 20_000, "the message is far too long"
    return False


def _message_of(read: Callable[[], object]) -> str | None:
    try:
        read()
    except ResDepthError as error:
        return str(error)
    return None
