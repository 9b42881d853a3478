"""A DSM from raw images and their RPCs alone: levels, pairs, grids, refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from conftest import raw_images_of
from resdepth.cli import main
from resdepth.errors import ResDepthError
from resdepth.geo.raster import FileBand, read_header
from resdepth.geo.windows import Window
from resdepth.stereo import pairs
from resdepth.stereo.ortho import RawImage, reduced
from resdepth.workflows.match import match_images


def heights_of_file(path: Path) -> np.ndarray:
    band = FileBand(path)
    return band.read(band.grid.whole).astype(np.float64)


def error(dsm: Path, reference: Path) -> float:
    return float(np.nanmean(np.abs(heights_of_file(dsm) - heights_of_file(reference))))


@pytest.fixture(scope="module")
def made(
    raw_scene: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[pairs.StereoPair, ...]]:
    path = tmp_path_factory.mktemp("matched") / "dsm.tif"
    return path, match_images(raw_images_of(raw_scene), path, like=raw_scene / "dsm" / "reference.tif").pairs


def test_images_alone_give_heights_as_good_as_where_the_relief_is_known(
    raw_scene: Path, made: tuple[Path, object]
) -> None:
    path, _ = made
    reference = raw_scene / "dsm" / "reference.tif"
    assert read_header(path).grid == read_header(reference).grid
    assert np.isnan(heights_of_file(path)).mean() < 0.1
    assert error(path, reference) < 1.1 * error(raw_scene / "dsm" / "initial.tif", reference)


def test_pairs_of_one_date_are_preferred(made: tuple[Path, tuple[pairs.StereoPair, ...]]) -> None:
    _, pairs = made
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1)]


def test_blocks_and_threads_do_not_show(
    raw_scene: Path,
    made: tuple[Path, tuple[pairs.StereoPair, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    like = raw_scene / "dsm" / "reference.tif"
    match_images(raw_images_of(raw_scene), tmp_path / "alone.tif", like=like, threads=0)
    whole = heights_of_file(made[0])
    np.testing.assert_array_equal(heights_of_file(tmp_path / "alone.tif"), whole)
    monkeypatch.setattr(pairs, "BLOCK_PX", 96)
    match_images(raw_images_of(raw_scene), tmp_path / "blocks.tif", like=like)
    apart = np.abs(heights_of_file(tmp_path / "blocks.tif") - whole)
    pixel_m = 0.5 / made[1][0].base_to_height  # what a pixel of disparity stands for
    assert np.nanmedian(apart) < 0.2 * pixel_m
    assert np.nanmean(apart > pixel_m) < 0.05


def test_without_a_grid_it_is_utm_in_pixels_of_the_images_over_what_two_of_them_show(
    raw_scene: Path, made: tuple[Path, object], tmp_path: Path
) -> None:
    found = match_images(raw_images_of(raw_scene)[:2], tmp_path / "dsm.tif")
    like = read_header(made[0]).grid
    a, _, c, _, e, f = found.grid.transform
    assert found.grid.crs_name == like.crs_name == "EPSG:32632"
    assert a == -e
    assert abs(a - 0.5) <= 0.05
    assert abs(c / a - round(c / a)) < 1e-6
    assert abs(f / a - round(f / a)) < 1e-6
    xmin, ymin, xmax, ymax = found.grid.bounds
    assert xmin <= like.bounds[0] + 5
    assert ymin <= like.bounds[1] + 5
    assert xmax >= like.bounds[2] - 5
    assert ymax >= like.bounds[3] - 5
    assert 0 < found.void_share < 0.6
    assert abs(np.nanmedian(heights_of_file(found.path)) - np.nanmedian(heights_of_file(made[0]))) < 1


def test_a_reduced_image_has_means_where_its_rpc_says(raw_scene: Path) -> None:
    image = RawImage(raw_images_of(raw_scene)[0])
    small = reduced(image, 4)
    window = Window(8, 5, 6, 7)
    fine = image.read(Window(32, 20, 24, 28))
    np.testing.assert_allclose(small.read(window)[2, 3], fine[8:12, 12:16].mean(), rtol=1e-6)
    lon, lat, z = np.array([8.55]), np.array([47.36]), np.array([500.0])
    (row, col), (small_row, small_col) = (one.rpc.project(lon, lat, z) for one in (image, small))
    np.testing.assert_allclose(4 * small_row + 1.5, row)
    np.testing.assert_allclose(4 * small_col + 1.5, col)
    assert reduced(image, 1) is image


def test_an_rpc_locates_the_pixels_that_it_projects(raw_scene: Path) -> None:
    image = RawImage(raw_images_of(raw_scene)[1])
    row, col = np.array([0.0, 100.0, 250.0]), np.array([10.0, 0.0, 200.0])
    z = np.array([540.0, 560.0, 600.0])
    lon, lat = image.rpc.locate(row, col, z)
    np.testing.assert_allclose(image.rpc.project(lon, lat, z), [row, col], atol=1e-3)
    broken = replace(image.rpc, row_num=(0.0,) * 20, col_num=(0.0,) * 20)
    with pytest.raises(ResDepthError, match="belong to this image"):
        broken.locate(row, col, z)


def test_images_of_different_places_are_refused(raw_scene: Path, tmp_path: Path) -> None:
    first, second, _ = raw_images_of(raw_scene)
    elsewhere = tmp_path / "elsewhere.tif"
    elsewhere.write_bytes(second.read_bytes())
    with rasterio.open(elsewhere, "r+") as dataset:
        rpcs = dataset.rpcs
        rpcs.long_off += 0.5
        dataset.rpcs = rpcs
    with pytest.raises(ResDepthError, match="no two of them show the same area"):
        match_images([first, elsewhere], tmp_path / "dsm.tif")
    with pytest.raises(ResDepthError, match="no two of them show the same area"):
        match_images([first, elsewhere], tmp_path / "dsm.tif", like=raw_scene / "dsm" / "reference.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere.tif"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [0]}, "found 1; heights need at least two"),
        ({"images": [0, 0]}, "one is given twice"),
        ({"images": [0, "ortho"]}, "has no RPC in its tags"),
        ({"gsd": -1.0, "like": None}, "gsd: found -1.0"),
        ({"gsd": 0.5}, "gsd: the grid of"),
        ({"heights": (600.0, 500.0)}, "give the lowest and the highest"),
        ({"gsd": 1e-6, "like": None}, "the images have pixels of 0.5"),
        ({"gsd": 1e6, "like": None}, "the images have pixels of 0.5"),
        ({"output": "dsm.jpg"}, "should end in .tif"),
        ({"output": "missing/dsm.tif"}, "there is no folder"),
        ({"output": "there.tif"}, "exists already; add overwrite=True"),
        ({"like": "degrees"}, "cannot be taken; a projected CRS"),
    ],
)
def test_what_cannot_be_matched_is_refused_before_anything_is_written(
    change: dict[str, object], message: str, raw_scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.tif").write_bytes(b"theirs")
    degrees = tmp_path / "degrees.tif"
    with rasterio.open(
        degrees, "w", driver="GTiff", width=8, height=8, count=1, dtype="float32", crs="EPSG:4326",
        transform=rasterio.Affine(1e-5, 0, 8, 0, -1e-5, 47),
    ) as dataset:  # fmt: skip
        dataset.write(np.zeros((1, 8, 8), np.float32))
    raw, ortho = raw_images_of(raw_scene), raw_scene / "satellite_views" / "back.tif"
    options = {"images": [0, 1], "output": "dsm.tif", "like": raw_scene / "dsm" / "reference.tif", **change}
    images = [ortho if one == "ortho" else raw[one] for one in options.pop("images")]  # type: ignore[index,attr-defined]
    output = tmp_path / str(options.pop("output"))
    like = (
        degrees
        if options.pop("like") == "degrees"
        else None
        if "like" in change
        else raw_scene / "dsm/reference.tif"
    )
    with pytest.raises(ResDepthError, match=message):
        match_images(images, output, like=like, **options)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["degrees.tif", "there.tif"]
    assert (tmp_path / "there.tif").read_bytes() == b"theirs"


def test_an_image_is_not_overwritten(raw_scene: Path) -> None:
    first, second, _ = raw_images_of(raw_scene)
    before = first.read_bytes()
    with pytest.raises(ResDepthError, match="input"):
        match_images([first, second], first, overwrite=True)
    assert first.read_bytes() == before


def test_the_command_makes_a_dsm(raw_scene: Path, tmp_path: Path) -> None:
    first, second, _ = raw_images_of(raw_scene)
    given = ["match", first, second, "-o", tmp_path / "dsm.tif", "--heights", 200, 280, "--gsd", 1]
    done = CliRunner().invoke(main, [str(one) for one in given])
    assert done.exit_code == 0, done.output
    assert "px of 1 m, EPSG:32632" in done.output
    assert "pairs: 1" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["dsm.tif"]
