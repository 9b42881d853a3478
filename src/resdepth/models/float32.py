"""Float32 that is float32, whatever the program around has chosen to have faster."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# torch lets settings of an operation follow those of its library, and these a common one. Reading gives what
# holds in the end, so that what was set itself shows only when its parent changes.
_COMMON = ("generic", "all")
_LIBRARIES = (("cuda", "all"), ("mkldnn", "all"))
_OPERATIONS = tuple((library, name) for library, _ in _LIBRARIES for name in ("conv", "rnn", "matmul"))
_PRODUCTS = (("cuda", "matmul"), ("mkldnn", "matmul"))  # which the older setting sets, too
_FOLLOWS, _EXACT, _ROUNDED = "none", "ieee", "tf32"
# What the older setting for matrix products stands for in the newer ones of CUDA and oneDNN.
_OLDER = {"highest": (_EXACT, _EXACT), "high": (_ROUNDED, _ROUNDED), "medium": (_ROUNDED, "bf16")}

Setting = tuple[str, str]
_torch: Any = torch._C


@contextmanager
def unrounded_float32() -> Iterator[None]:
    """Compute in float32 as it is; afterwards everything is set as the program around had it."""
    if not hasattr(_torch, "_get_fp32_precision_getter"):  # before torch 2.9
        with _unrounded_by_older_settings():
            yield
        return
    newer = _own_settings()
    older = _older_setting()
    try:
        torch.set_float32_matmul_precision("highest")
        _put(dict.fromkeys(newer, _EXACT))
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        _put(newer)


def _own_settings() -> dict[Setting, str]:
    """The settings that do not follow another, and what they are.

    Those that follow are not to be set: some are something else while nobody has ever set them (the
    convolutions of CUDA are rounded then), and there is no way back.
    """
    own = {_COMMON: _read(_COMMON)}
    own |= _not_following(_LIBRARIES)
    _put(dict.fromkeys(own, _FOLLOWS))
    return {**dict.fromkeys(_PRODUCTS, _FOLLOWS), **own, **_not_following(_OPERATIONS)}


def _not_following(settings: Iterable[Setting]) -> dict[Setting, str]:
    seen = []
    for value in (_EXACT, _ROUNDED):
        _put({_COMMON: value})
        seen.append({setting: _read(setting) for setting in settings})
    return {setting: value for setting, value in seen[0].items() if seen[1][setting] == value}


def _older_setting() -> str:
    """The older setting, which torch gives only where the newer ones agree with it."""
    for name, (cuda, mkldnn) in _OLDER.items():
        _put(dict(zip(_PRODUCTS, (cuda, mkldnn), strict=True)))
        try:
            found = torch.get_float32_matmul_precision()
        except RuntimeError:
            continue
        if found == name:
            return name
    return "highest"


def _read(setting: Setting) -> str:
    found: str = _torch._get_fp32_precision_getter(*setting)
    return found


def _put(settings: dict[Setting, str]) -> None:
    for (library, operation), value in settings.items():
        _torch._set_fp32_precision_setter(library, operation, value)


@contextmanager
def _unrounded_by_older_settings() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(before)
