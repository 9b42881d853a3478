""".pth files that nobody vouches for."""

import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resdepth.errors import InputProblems
from resdepth.models.published import LARGEST_PICKLE, load_pth

WEIGHTS = {"a": torch.arange(4.0)}


def repacked(path: Path, change: dict[bytes, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Replace bytes in the description of the arrays."""
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, raw in parts.items():
            if name.endswith("data.pkl"):
                for old, new in change.items():
                    assert old in raw
                    raw = raw.replace(old, new)  # noqa: PLW2901 - one after the other
            packed.writestr(name, raw)


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.5),
        np.float32(0.5),
        np.float16(0.5),
        np.int64(-7),
        np.uint8(7),
        np.bool_(True),
    ],
)
def test_numbers_of_numpy_come_as_plain_ones(tmp_path: Path, value: Any) -> None:
    torch.save({"best": value, "nested": [{"x": (value,)}]}, tmp_path / "x.pth")
    read = load_pth(tmp_path / "x.pth")
    assert read == {"best": value.item(), "nested": [{"x": (value.item(),)}]}
    assert type(read["best"]) is type(value.item())


def test_numbers_written_with_the_other_numpy_are_read(tmp_path: Path) -> None:
    torch.save({"best": np.int64(7)}, tmp_path / "x.pth")
    names = [b"numpy._core.multiarray", b"numpy.core.multiarray"]
    with zipfile.ZipFile(tmp_path / "x.pth") as packed:
        raw = packed.read("x/data.pkl")
    old, new = names if names[0] in raw else names[::-1]
    repacked(tmp_path / "x.pth", {old: new})
    assert load_pth(tmp_path / "x.pth") == {"best": 7}


def test_an_array_of_numpy_is_refused(tmp_path: Path) -> None:
    torch.save({"x": np.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(InputProblems, match=r"x\.pth: refused, nothing was run"):
        load_pth(tmp_path / "x.pth")


def test_a_file_packed_anew_is_read(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "x.pth")
    repacked(tmp_path / "x.pth", {}, zipfile.ZIP_DEFLATED)
    assert torch.equal(load_pth(tmp_path / "x.pth")["a"], WEIGHTS["a"])


def test_a_file_that_unpacks_to_far_more_than_it_has_is_refused_without_unpacking(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(WEIGHTS, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x/data/1", bytes(2**26))
    tracemalloc.start()
    with pytest.raises(InputProblems, match=r"x\.pth: refused: its \d+ bytes would unpack to 67\d{6}"):
        load_pth(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("old_format", [False, True])
def test_a_long_description_of_few_arrays_is_refused(tmp_path: Path, old_format: bool) -> None:
    path = tmp_path / "x.pth"
    text = b"\x80\x02" + b"]0" * (LARGEST_PICKLE // 2) + b"N."
    if old_format:
        path.write_bytes(text)
    else:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("x/data.pkl", text)
    with pytest.raises(InputProblems, match=r"x\.pth: refused: .* describe its arrays"):
        load_pth(path)


def test_an_array_larger_than_what_is_stored_of_it_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "x.pth")
    with pytest.raises(InputProblems, match=r"x\.pth: refused: an array of 1000000 x 1000000 numbers"):
        load_pth(tmp_path / "x.pth")
    torch.save(WEIGHTS, tmp_path / "y.pth")
    repacked(tmp_path / "y.pth", {b"K\x04tq": b"M\xff\xfftq", b"K\x04\x85": b"M\xff\xff\x85"})
    with pytest.raises(InputProblems, match=r"y\.pth: "):
        load_pth(tmp_path / "y.pth")


def test_values_nested_in_themselves_are_refused(tmp_path: Path) -> None:
    inner: list[Any] = []
    inner.append(inner)
    for value in (inner, nested_twice(7, [0] * 1000)):
        torch.save({"x": value}, tmp_path / "x.pth")
        with pytest.raises(InputProblems, match=r"x\.pth: refused: its values are nested too deep"):
            load_pth(tmp_path / "x.pth")


def nested_twice(depth: int, value: list[Any]) -> list[Any]:
    for _ in range(depth - 1):
        value = [value] * 8
    return value


def test_a_pickle_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputProblems, match=r"x\.pth: "):
        load_pth(tmp_path / "x.pth")
    buffer = io.BytesIO()
    torch.save(WEIGHTS, buffer)
    (tmp_path / "x.pth").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(InputProblems, match=r"x\.pth: not a readable checkpoint"):
        load_pth(tmp_path / "x.pth")
