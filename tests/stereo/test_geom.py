"""RPCs in .geom files."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio

from conftest import raw_images_of
from resdepth.errors import ResDepthError
from resdepth.geo.rpc import Rpc
from resdepth.stereo.ortho import OFFSETS, has_rpc, read_rpc

LISTS = ("line_num", "line_den", "samp_num", "samp_den")


def written(rpc: Rpc, path: Path, **changes: str) -> Path:
    """A .geom file with an RPC."""
    values = {"type": "ossimRpcModel", "polynomial_format": "B"}
    for name, terms in zip(LISTS, (rpc.row_num, rpc.row_den, rpc.col_num, rpc.col_den), strict=True):
        values |= {f"{name}_coeff_{index:02d}": repr(float(term)) for index, term in enumerate(terms)}
    for name, offset, scale in zip(OFFSETS, rpc.offsets, rpc.scales, strict=True):
        values |= {f"{name}_off": repr(float(offset)), f"{name}_scale": repr(float(scale))}
    path.write_text("".join(f"{key}:  {value}\n" for key, value in {**values, **changes}.items()))
    return path


def bare(path: Path, transform: rasterio.Affine | None = None) -> Path:
    """An image without tags."""
    profile = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "dtype": "uint16"}
    place = {} if transform is None else {"transform": transform}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, **place) as file:
            file.write(np.ones((1, 8, 8), np.uint16))
    return path


@pytest.fixture
def rpc(raw_scene: Path) -> Rpc:
    return read_rpc(raw_images_of(raw_scene)[0])


def test_an_rpc_beside_an_image_is_read(rpc: Rpc, tmp_path: Path) -> None:
    written(rpc, tmp_path / "image.geom")
    image = bare(tmp_path / "image.tif")
    assert has_rpc(image)
    assert read_rpc(image) == rpc


def test_a_cut_out_counts_from_its_own_corner(rpc: Rpc, tmp_path: Path) -> None:
    written(rpc, tmp_path / "image.geom")
    image = bare(tmp_path / "image.tif", rasterio.Affine(1, 0, 99.5, 0, 1, 199.5))
    lat, lon, z = (np.array([rpc.offsets[index]]) for index in (2, 3, 4))
    (row,), (col,) = rpc.project(lon, lat, z)
    (row_here,), (col_here,) = read_rpc(image).project(lon, lat, z)
    assert (row_here, col_here) == pytest.approx((row - 200, col - 100))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"polynomial_format": "A"}, "only 'B'"),
        ({"line_off": "north"}, "line_off: found 'north'; a number is needed"),
        ({"samp_num_coeff_07": "inf"}, "samp_num_coeff_07: found inf"),
        ({"height_scale": ""}, "height_scale: found ''"),
    ],
)
def test_what_is_no_rpc_is_refused(changes: dict[str, str], message: str, rpc: Rpc, tmp_path: Path) -> None:
    written(rpc, tmp_path / "image.geom", **changes)
    with pytest.raises(ResDepthError, match=message):
        read_rpc(bare(tmp_path / "image.tif"))


def test_without_an_rpc_there_is_none(tmp_path: Path) -> None:
    assert not has_rpc(bare(tmp_path / "image.tif"))
    (tmp_path / "image.geom").write_text("nothing\n")
    with pytest.raises(ResDepthError, match="line_off: found 'nothing'"):
        read_rpc(bare(tmp_path / "image.tif"))
