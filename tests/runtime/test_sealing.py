"""Sealed files show whether they are what was written."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_raster
from resdepth.runtime.sealing import is_intact, seal


@pytest.fixture
def block(tmp_path: Path) -> Path:
    path = write_raster(tmp_path / "block.tif", np.arange(256, dtype=np.float32).reshape(16, 16))
    seal(path, path.name)
    return path


def test_a_sealed_raster_is_intact_and_readable(block: Path) -> None:
    assert is_intact(block)
    with rasterio.open(block) as dataset:
        assert dataset.read(1)[15, 15] == 255


def test_files_that_were_swapped_or_are_missing_are_seen(block: Path) -> None:
    moved = block.rename(block.with_name("other.tif"))
    assert not is_intact(moved)
    assert not is_intact(block)


def test_files_without_a_seal_are_not_intact(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    (tmp_path / "long").write_bytes(bytes(100))
    assert not is_intact(tmp_path / "short")
    assert not is_intact(tmp_path / "long")


@given(st.data())
def test_any_damaged_byte_and_any_cut_is_seen(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("seal") / "file"
    path.write_bytes(data.draw(st.binary(min_size=1, max_size=50)))
    seal(path, path.name)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:place])
    assert not is_intact(path)
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert not is_intact(path)
