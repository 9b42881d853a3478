"""Point clouds in PLY: as text and as numbers, whole or refused."""

from pathlib import Path

import numpy as np
import pytest

from resdepth.errors import ResDepthError
from resdepth.runtime.progress import Silent
from resdepth.simulate.sources import ply
from resdepth.simulate.sources.ply import ply_portions, read_ply_header
from resdepth.simulate.sources.pointcloud import PointSource
from resdepth.simulate.sources.raw_surface import SourceOptions

KIND = [("x", "f8"), ("y", "f8"), ("z", "f8"), ("red", "u1")]
HEAD = "ply\nformat {order} 1.0\ncomment projection: {crs}\nelement vertex {count}\n"
PROPERTIES = "property double x\nproperty double y\nproperty double z\nproperty uchar red\nend_header\n"


def points(count: int = 500) -> np.ndarray:
    rng = np.random.default_rng(0)
    found = np.zeros(count, KIND)
    found["x"], found["y"] = 359700 + rng.uniform(0, 20, count), 7651900 + rng.uniform(0, 20, count)
    found["z"], found["red"] = 2300 + rng.uniform(0, 5, count), 7
    return found


def written(path: Path, order: str, *, crs: str = "UTM 40S", cut: int = 0) -> Path:
    found = points()
    head = (HEAD + PROPERTIES).format(order=order, crs=crs, count=len(found)).encode()
    if order == "ascii":
        body = "".join(" ".join(map(repr, one.tolist())) + "\n" for one in found).encode()
    else:
        body = found.astype(
            [(name, ("<" if "little" in order else ">") + code) for name, code in KIND]
        ).tobytes()
    path.write_bytes(head + body[: len(body) - cut])
    return path


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_all_points_are_read_in_portions(order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ply, "POINTS_AT_ONCE", 128)
    path = written(tmp_path / "cloud.ply", order)
    header = read_ply_header(path)
    parts = list(ply_portions(path, header))
    assert [len(part) for part in parts] == [128, 128, 128, 116]
    expected = points()
    np.testing.assert_array_equal(np.concatenate(parts), np.stack([expected[axis] for axis in "xyz"], axis=1))


@pytest.mark.parametrize(
    ("text", "crs"), [("UTM 40S", "EPSG:32740"), ("CRS EPSG:25832", "EPSG:25832"), ("none", "")]
)
def test_comments_name_the_crs(text: str, crs: str, tmp_path: Path) -> None:
    assert read_ply_header(written(tmp_path / "cloud.ply", "ascii", crs=text)).crs == crs


def test_the_highest_points_become_a_raster(tmp_path: Path) -> None:
    path = written(tmp_path / "cloud.ply", "binary_little_endian")
    source = PointSource(path, SourceOptions(gsd_m=2.0), tmp_path, Silent())
    assert source.grid.crs_name == "EPSG:32740"
    heights = source.read(source.grid.whole).height
    found = points()
    row, col = (
        int(one)
        for one in (
            (source.grid.bounds[3] - found["y"][0]) // 2,
            (found["x"][0] - source.grid.bounds[0]) // 2,
        )
    )
    same = ((source.grid.bounds[3] - found["y"]) // 2 == row) & (
        (found["x"] - source.grid.bounds[0]) // 2 == col
    )
    assert heights[row, col] == pytest.approx(found["z"][same].max(), abs=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no ply", "cannot be read as PLY"),
        (b"ply\nformat ascii 1.0\nelement face 1\nend_header\n", "is no list of vertices"),
        (
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
            "is no list of vertices",
        ),
        (b"ply\nformat zip 1.0\nelement vertex 1\n" + PROPERTIES.encode(), "its format is"),
        (b"ply\nformat ascii 1.0\nelement vertex 2\n" + PROPERTIES.encode() + b"1 2 3 4\n", "is it complete"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n" + PROPERTIES.encode() + b"a b c d\n", "is it complete"),
        (b"ply\nformat ascii 1.0\nelement vertex 0\n" + PROPERTIES.encode(), "has no points"),
        (
            b"ply\nformat ascii 1.0\nelement vertex 1\n" + PROPERTIES.encode() + b"nan 2 3 4\n",
            "is it complete",
        ),
    ],
)
def test_damaged_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cloud.ply"
    path.write_bytes(content)
    with pytest.raises(ResDepthError, match=message):
        PointSource(path, SourceOptions(gsd_m=1.0), tmp_path, Silent())


def test_a_file_that_breaks_off_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "cloud.ply", "binary_little_endian", cut=40)
    with pytest.raises(ResDepthError, match="500 points are stated, not all are there"):
        list(ply_portions(path, read_ply_header(path)))
