"""What is read is never written, by whatever name."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import write_raster, write_virtual
from resdepth.errors import ResDepthError
from resdepth.geo.geotiff import refuse_existing, refuse_inputs_as_outputs


@pytest.fixture
def dsm(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "dsm.tif", np.ones((8, 8), np.float32))


def linked(make: Callable[[Path, Path], None]) -> Callable[[Path], tuple[Path, Path]]:
    def names(dsm: Path) -> tuple[Path, Path]:
        make(dsm, dsm.with_name("other.tif"))
        return dsm, dsm.with_name("other.tif")

    return names


def behind(dsm: Path) -> tuple[Path, Path]:
    return write_virtual(dsm.with_name("whole.vrt"), dsm), dsm


def far_behind(dsm: Path) -> tuple[Path, Path]:
    return write_virtual(dsm.with_name("of_whole.vrt"), behind(dsm)[0]), dsm


def beside(dsm: Path) -> tuple[Path, Path]:
    mask = dsm.with_name("dsm.tif.msk")
    write_raster(mask, np.ones((8, 8), np.uint8))
    return dsm, mask


@pytest.mark.parametrize(
    "names",
    [
        lambda dsm: (dsm, dsm),
        lambda dsm: (dsm, dsm.parent / "." / ".." / dsm.parent.name / dsm.name),
        linked(lambda dsm, other: other.symlink_to(dsm)),
        linked(os.link),
        behind,
        far_behind,
        beside,
    ],
)
def test_an_output_that_is_an_input_by_any_name_is_refused(
    dsm: Path, names: Callable[[Path], tuple[Path, Path]]
) -> None:
    given, output = names(dsm)
    with pytest.raises(ResDepthError, match="is an input") as refused:
        refuse_inputs_as_outputs([None, given], [dsm.with_name("new.tif"), output])
    assert str(output) in str(refused.value)


def test_other_files_may_be_written(dsm: Path) -> None:
    other = write_raster(dsm.with_name("refined.tif"), np.ones((8, 8), np.float32))
    refuse_inputs_as_outputs([dsm, dsm.with_name("absent.txt")], [other, dsm.with_name("new.tif")])


def test_what_exists_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    file, gone, new = (tmp_path / name for name in ("file.tif", "link.tif", "new.tif"))
    file.touch()
    gone.symlink_to("nowhere")
    refuse_existing([new], overwrite=False)
    refuse_existing([file, gone], overwrite=True)
    for taken in ([file], [gone], [new, file]):
        with pytest.raises(
            ResDepthError, match=r"tif: exists already; add overwrite=True, or choose another name"
        ):
            refuse_existing(taken, overwrite=False)
    with pytest.raises(ResDepthError, match=r"file.tif, .*link.tif: exist already"):
        refuse_existing([file, gone], overwrite=False)
