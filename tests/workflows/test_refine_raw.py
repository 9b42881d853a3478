"""`resdepth refine` with the fusion model: raw images, ortho-images, a DSM alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
from click.testing import CliRunner, Result
from rasterio.io import MemoryFile

from conftest import raw_images_of, read_raster, write_raster
from resdepth import refine
from resdepth.cli import main
from resdepth.errors import ResDepthError
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.raster import FileBand, read_tags
from resdepth.geo.rpc import TAG
from resdepth.geo.windows import Window
from resdepth.refinement.compatibility import Unsuitable
from resdepth.stereo.ortho import orthorectified
from resdepth.workflows import _measured
from resdepth.workflows._measured import shown_to_fusion


def reference_of(scene: Path) -> np.ndarray:
    return read_raster(scene / "dsm" / "reference.tif")


def error(heights: np.ndarray, scene: Path) -> float:
    return float(np.nanmean(np.abs(heights - reference_of(scene))))


@pytest.fixture
def dsm(raw_scene: Path, tmp_path: Path) -> Path:
    """The initial DSM of the scene, in a folder of its own."""
    return Path(shutil.copy(raw_scene / "dsm" / "initial.tif", tmp_path / "dsm.tif"))


def command(dsm: Path, images: list[Path], *options: str) -> Result:
    return CliRunner().invoke(main, ["refine", f"{dsm}", *map(str, images), *options])


def test_raw_images_may_be_open_data_sets_beside_a_dsm_of_any_kind(raw_scene: Path, dsm: Path) -> None:
    region = (*rasterio.open(dsm).bounds[:2], *(edge + 60 for edge in rasterio.open(dsm).bounds[:2]))
    images = raw_images_of(raw_scene)[:2]
    expected = refine(dsm, images, region=region)
    opened = [rasterio.open(image) for image in images]
    refined = refine(rioxarray.open_rasterio(dsm, masked=True), opened, region=region)
    np.testing.assert_array_equal(refined.squeeze(), expected)
    raw = MemoryFile(images[0].read_bytes()).open()
    with pytest.raises(ResDepthError, match=r"^images\[1\]: .* is no file; raw images with RPCs are read"):
        refine(dsm, [images[1], raw])


def test_raw_images_make_a_dsm_better(raw_scene: Path, dsm: Path) -> None:
    done = command(dsm, raw_images_of(raw_scene))
    assert done.exit_code == 0, done.output
    output = dsm.with_name("dsm_refined.tif")
    before = error(read_raster(dsm), raw_scene)
    assert error(read_raster(output), raw_scene) < before
    with rasterio.open(output) as dataset:
        tags = dataset.tags()
        assert dataset.descriptions == ("height", "error")
        heights, expected = dataset.read(masked=True).filled(np.nan)
    found = np.abs(heights - reference_of(raw_scene))
    assert 0.4 < np.nanmean(found / expected < 1) < 0.9
    doubtful = expected > np.nanmedian(expected)
    assert np.nanmean(found[doubtful]) > 1.5 * np.nanmean(found[~doubtful])
    assert tags["RESDEPTH_IMAGES"] == "ahead.tif, back.tif, later.tif"
    assert tags["RESDEPTH_MODEL"] == "fusion.safetensors"
    left = {path.name for path in dsm.parent.iterdir()}
    assert left == {"dsm.tif", "dsm_refined.tif", "dsm_refined.qml", "dsm_refined_provenance.tif",
                    "dsm_refined_provenance.qml"}  # fmt: skip


def test_the_same_command_again_finds_its_output(
    raw_scene: Path, dsm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = raw_images_of(raw_scene)[:2]
    assert command(dsm, images).exit_code == 0
    before = (dsm.parent / "dsm_refined.tif").stat().st_mtime_ns
    assert command(dsm, images).exit_code == 0
    assert "is complete already" in caplog.text
    assert (dsm.parent / "dsm_refined.tif").stat().st_mtime_ns == before
    other = command(dsm, images[::-1])
    assert other.exit_code == 2
    assert "made from other inputs" in other.stderr


def test_what_was_measured_before_a_kill_is_used_again(
    raw_scene: Path, dsm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, folder = raw_images_of(raw_scene)[:2], dsm.parent / "kept"
    with shown_to_fusion(dsm, images, folder=folder) as first:
        pass
    with monkeypatch.context() as patch:
        patch.setattr(_measured, "write_matched", None)
        with shown_to_fusion(dsm, images, folder=folder) as second:
            assert second.view_sets == first.view_sets == ((0, 1, 2, 3, 4),)
            assert second.unit_m == first.unit_m
    (folder / "matched_0_1.tif").unlink()
    with shown_to_fusion(dsm, images, folder=folder):
        assert (folder / "matched_0_1.tif").exists()


def test_a_kill_after_the_first_pair_costs_no_pair(
    raw_scene: Path, dsm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, folder = raw_images_of(raw_scene)[:2], dsm.parent / "kept"

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_measured, "write_agreement", killed)
        with pytest.raises(KeyboardInterrupt), shown_to_fusion(dsm, images, folder=folder):
            pass
    matched = (folder / "matched_0_1.tif").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(_measured, "chosen_pairs", killed)
        patch.setattr(_measured, "write_matched", killed)
        with shown_to_fusion(dsm, images, folder=folder) as found:
            assert found.view_sets == ((0, 1, 2, 3, 4),)
    assert (folder / "matched_0_1.tif").stat().st_mtime_ns == matched


def test_ctrl_c_while_images_are_measured_states_how_to_resume(
    raw_scene: Path, dsm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    images = raw_images_of(raw_scene)[:2]
    with monkeypatch.context() as patch:
        patch.setattr(_measured, "write_agreement", stopped)
        done = command(dsm, images)
    assert done.exit_code == 130
    assert "give the same command again to resume" in done.stderr
    assert command(dsm, images).exit_code == 0
    assert not list(dsm.parent.glob("*.measured"))


def test_beyond_a_region_nothing_is_measured(
    raw_scene: Path, dsm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.stereo.remeasure.BLOCK_PX", 64)
    monkeypatch.setattr(_measured, "SURROUNDINGS_PX", 32)
    images, folder = raw_images_of(raw_scene)[:2], dsm.parent / "kept"
    with shown_to_fusion(dsm, images, region=Window(0, 0, 64, 64), folder=folder) as found:
        matched = found.scene.views[0].read(found.scene.grid.whole)
    assert np.isfinite(matched[:128, :128]).mean() > 0.5
    assert np.isnan(matched[128:]).all()
    assert np.isnan(matched[:, 128:]).all()


def test_a_map_in_feet_is_refused(raw_scene: Path, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "feet.tif", np.zeros((64, 64), np.float32), crs="EPSG:2263", gsd=1.6)
    with pytest.raises(ResDepthError, match="projected CRS in metres"):
        refine(path, raw_images_of(raw_scene)[:2])


def test_a_folder_of_others_is_left_alone(raw_scene: Path, dsm: Path) -> None:
    folder = dsm.with_name("dsm_refined.tif.measured")
    folder.mkdir()
    (folder / "diary.txt").write_text("mine")
    done = command(dsm, raw_images_of(raw_scene)[:2])
    assert done.exit_code == 2
    assert "holds other files" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]


def test_a_dsm_that_lies_elsewhere_is_found(raw_scene: Path, tmp_path: Path) -> None:
    """In another datum, and shifted: the result lies where the DSM lay."""
    reference = reference_of(raw_scene)
    band = FileBand(raw_scene / "dsm" / "reference.tif")
    a, _, x, _, _, y = band.grid.transform
    path = write_raster(
        tmp_path / "dsm.tif", (reference - 41.5).astype(np.float32), crs=band.grid.crs, gsd=a,
        origin=(x + 3.0, y - 2.5),
    )  # fmt: skip
    refined = refine(path, raw_images_of(raw_scene)[:2])
    difference = refined + 41.5 - reference
    assert abs(float(np.nanmedian(difference))) < 0.1
    assert float(np.nanmedian(np.abs(difference))) < 0.35


def test_the_reference_itself_is_left_alone(raw_scene: Path) -> None:
    path = raw_scene / "dsm" / "reference.tif"
    refined = refine(path, raw_images_of(raw_scene)[:2])
    assert float(np.nanmedian(np.abs(refined - read_raster(path)))) < 0.1


def orthos_of(scene: Path) -> list[Path]:
    return [scene / "satellite_views" / f"{name}.tif" for name in ("ahead", "back")]


def rough(heights: np.ndarray) -> np.ndarray:
    """A DSM with the blunders of weak matching, whose steps leave ghosts in ortho-images."""
    rng, wrong = np.random.default_rng(0), heights.copy()
    for _ in range(250):
        row, col, side = rng.integers(250), rng.integers(250), rng.integers(3, 9)
        wrong[row : row + side, col : col + side] += np.float32(rng.normal() * 5)
    return wrong


@pytest.fixture(scope="module")
def rough_orthos(raw_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A rough DSM, and two ortho-images that were made with it."""
    folder = tmp_path_factory.mktemp("rough")
    band = FileBand(raw_scene / "dsm" / "initial.tif")
    grid = band.grid.flat
    paths = [folder / "dsm.tif"]
    with new_geotiff(paths[0], grid) as file:
        file.write(0, rough(band.read(grid.whole)))
    for image in raw_images_of(raw_scene)[:2]:
        paths.append(folder / image.name)
        with new_geotiff(paths[-1], grid) as file:
            file.write(0, orthorectified(image, paths[0], grid))
    return paths


@pytest.mark.parametrize("kind", ["files", "arrays"])
def test_heights_are_measured_in_ortho_images(
    kind: str, raw_scene: Path, rough_orthos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Their ghosts show from where they were seen."""
    bands = [FileBand(path, "stored") for path in rough_orthos]
    given = rough_orthos if kind == "files" else [band.read(band.grid.whole) for band in bands]
    caplog.set_level("INFO")
    refined = refine(given[0], given[1:], gsd=None if kind == "files" else 0.5)
    assert caplog.text.count("degrees off nadir, as its ghosts show") == 2
    assert "base to height 0.4" in caplog.text
    before = error(read_raster(rough_orthos[0]), raw_scene)
    assert error(refined, raw_scene) < 0.7 * before
    assert error(refined, raw_scene) < 0.9 * error(refine(rough_orthos[0]), raw_scene)


@pytest.fixture
def tagged_orthos(raw_scene: Path, rough_orthos: list[Path], tmp_path: Path) -> list[Path]:
    """The same with the view geometry of the simulated images in their tags."""
    paths = [Path(shutil.copy(path, tmp_path)) for path in rough_orthos]
    for path, ortho in zip(paths[1:], orthos_of(raw_scene), strict=True):
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(**{TAG: read_tags(ortho)[TAG]})
    return paths


def test_directions_that_tags_state_are_not_looked_for(
    raw_scene: Path,
    tagged_orthos: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = [_measured.found_direction(*(FileBand(one, "stored") for one in (tagged_orthos[0], path)))
                for path in tagged_orthos[1:]]  # fmt: skip
    monkeypatch.setattr(_measured, "found_direction", None)
    caplog.set_level("INFO")
    folder = tagged_orthos[0].parent / "kept"
    with shown_to_fusion(tagged_orthos[0], tagged_orthos[1:], folder=folder):
        pass
    assert caplog.text.count("degrees off nadir, as its tags state and its ghosts confirm") == 2
    for view, found in zip(
        json.loads((folder / "measured.json").read_text())["views"], expected, strict=True
    ):
        assert view["direction"] == pytest.approx((found.rows, found.cols), abs=0.02)
        geometry = FileBand(tagged_orthos[1 + view["number"]], "stored").geometry
        assert geometry is not None
        assert view["direction"] == pytest.approx((-geometry.north[0], geometry.east[0]), abs=1e-3)
    before = error(read_raster(tagged_orthos[0]), raw_scene)
    assert error(refine(tagged_orthos[0], tagged_orthos[1:]), raw_scene) < 0.7 * before


def test_tags_that_ghosts_contradict_do_not_count(
    tagged_orthos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong direction, or another DSM than that of the images."""
    with rasterio.open(tagged_orthos[1], "r+") as dataset:
        stated = json.loads(dataset.tags()[TAG])
        turned = stated | {
            "east": [-one for one in stated["east"]],
            "north": [-one for one in stated["north"]],
        }
        dataset.update_tags(**{TAG: json.dumps(turned)})
    caplog.set_level("INFO")
    with shown_to_fusion(tagged_orthos[0], tagged_orthos[1:]):
        pass
    assert "ahead.tif: seen 14 degrees off nadir, as its ghosts show" in caplog.text
    assert "back.tif: seen 10 degrees off nadir, as its tags state and its ghosts confirm" in caplog.text
    caplog.clear()
    with rasterio.open(tagged_orthos[0], "r+") as dataset:
        dataset.write(np.roll(dataset.read(1), (5, 5), (0, 1)), 1)
    with shown_to_fusion(tagged_orthos[0], tagged_orthos[1:]):
        pass
    assert "off nadir" not in caplog.text
    assert "to measure heights, give the raw images" in caplog.text


def test_directions_that_were_found_are_kept(
    rough_orthos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shown_to_fusion(rough_orthos[0], rough_orthos[1:], folder=tmp_path / "kept") as first:
        before = [view.read(view.grid.whole) for view in first.scene.views.values()]
    monkeypatch.setattr(_measured, "found_direction", None)
    (tmp_path / "kept" / "matched_0_1.tif").unlink()
    with shown_to_fusion(rough_orthos[0], rough_orthos[1:], folder=tmp_path / "kept") as again:
        for view, values in zip(again.scene.views.values(), before, strict=True):
            np.testing.assert_array_equal(view.read(view.grid.whole), values)


@pytest.mark.parametrize("kind", ["files", "arrays"])
def test_ortho_images_of_another_dsm_show_where_a_dsm_is_right(
    kind: str, raw_scene: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without ghosts nothing is measured."""
    paths = [raw_scene / "dsm" / "reference.tif", *orthos_of(raw_scene)]
    bands = [FileBand(path, "scaled" if path is paths[0] else "stored") for path in paths]
    given = paths if kind == "files" else [band.read(band.grid.whole) for band in bands]
    refined = refine(given[0], given[1:], gsd=None if kind == "files" else 0.5)
    assert "to measure heights, give the raw images" in caplog.text
    assert float(np.nanmedian(np.abs(refined - read_raster(paths[0])))) < 0.2


def test_a_dsm_alone_is_refined_too(raw_scene: Path) -> None:
    path = raw_scene / "dsm" / "initial.tif"
    assert error(refine(path), raw_scene) < 1.03 * error(read_raster(path), raw_scene)


def test_errors_are_left_out_or_given_with_arrays(raw_scene: Path, dsm: Path, tmp_path: Path) -> None:
    refine(dsm, output=tmp_path / "bare.tif", uncertainty=False)
    refine(dsm, output=tmp_path / "both.tif")
    heights, errors = refine(dsm, uncertainty=True)
    with rasterio.open(tmp_path / "bare.tif") as bare, rasterio.open(tmp_path / "both.tif") as both:
        assert (bare.count, both.count) == (1, 2)
        np.testing.assert_array_equal(bare.read(1), both.read(1))
        np.testing.assert_allclose(both.read(2, masked=True).filled(np.nan), errors, rtol=1e-5)
    np.testing.assert_array_equal(refine(dsm), heights)
    assert np.isnan(errors[np.isnan(heights)]).all()


def test_a_refined_dsm_serves_as_dsm(dsm: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its other bands are about its heights."""
    assert command(dsm, []).exit_code == 0
    refined = dsm.with_name("dsm_refined.tif")
    assert command(refined, []).exit_code == 0
    assert "bands" not in caplog.text
    assert CliRunner().invoke(main, ["info", f"{refined}"]).stdout.count("unit of heights") == 1


@pytest.mark.parametrize("options", [{"uncertainty": True}, {"fuse": "uncertainty"}])
def test_errors_that_nobody_knows_are_refused(options: dict[str, Any], dsm: Path) -> None:
    with pytest.raises(ResDepthError, match="does not know the error"):
        refine(dsm, mode="exact", **options)


def test_images_without_rpc_are_refused(raw_scene: Path, dsm: Path, tmp_path: Path) -> None:
    bare = write_raster(tmp_path / "bare.tif", np.ones((64, 64), np.uint16), crs=None)
    done = command(dsm, [bare, bare])
    assert done.exit_code == 2
    assert "no RPC in or beside it" in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [([0], "heights need at least two"), ([0, 0], "one is given twice"), ([0, 2], "")],
)
def test_what_cannot_be_measured_is_refused_and_leaves_nothing(
    given: list[int], message: str, raw_scene: Path, tmp_path: Path
) -> None:
    """One image, one twice, a DSM of another place."""
    band = FileBand(raw_scene / "dsm" / "initial.tif")
    a, _, x, _, _, y = band.grid.transform
    origin = (x, y) if message else (x + 5000, y)
    path = write_raster(
        tmp_path / "dsm.tif", band.read(band.grid.whole), crs=band.grid.crs, gsd=a, origin=origin
    )
    done = command(path, [raw_images_of(raw_scene)[index] for index in given])
    assert done.exit_code == 2
    assert (message or "is it a raster of this place?") in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["dsm.tif"]


def test_one_ortho_image_twice_is_refused(raw_scene: Path, dsm: Path) -> None:
    done = command(dsm, orthos_of(raw_scene)[:1] * 2)
    assert done.exit_code == 2
    assert "one is given twice" in done.stderr
    assert [one.name for one in dsm.parent.iterdir()] == ["dsm.tif"]


def test_a_raw_image_is_not_overwritten(raw_scene: Path, dsm: Path) -> None:
    images = [Path(shutil.copy(image, dsm.parent)) for image in raw_images_of(raw_scene)[:2]]
    before = images[1].read_bytes()
    done = command(dsm, images, "-o", f"{images[1]}")
    assert done.exit_code == 2
    assert "is an input, which is never overwritten" in done.stderr
    assert images[1].read_bytes() == before
    assert not list(dsm.parent.glob("*.measured"))


def test_raw_and_ortho_images_are_not_mixed(raw_scene: Path, dsm: Path) -> None:
    done = command(dsm, [raw_images_of(raw_scene)[0], raw_scene / "satellite_views" / "back.tif"])
    assert done.exit_code == 2
    assert "give one kind" in done.stderr


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 5)], [(0, 1, 2)]])
def test_pairs_name_two_images(pairs: list[tuple[int, ...]], raw_scene: Path, dsm: Path) -> None:
    with pytest.raises(ResDepthError, match="give two different indices below 3"):
        refine(dsm, raw_images_of(raw_scene), pairs=pairs)


def test_another_pixel_size_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "coarse.tif", np.zeros((64, 64), np.float32), gsd=5.0)
    with pytest.raises(ResDepthError, match="pixel size: the DSM has pixels of 5 m"):
        refine(path)


def test_degrees_are_refused(raw_scene: Path, tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "degrees.tif", np.zeros((64, 64), np.float32), crs="EPSG:4326", gsd=1e-5, origin=(7, 50)
    )
    with pytest.raises(Unsuitable, match="counts in degrees; bring the rasters to a grid in metres"):
        refine(path, raw_images_of(raw_scene)[:2])
    with pytest.raises(ResDepthError, match="square pixels of a projected CRS"):
        refine(path, raw_images_of(raw_scene)[:2], force=True)


def one_image_twice(orthos: list[Path], folder: Path) -> list[Path]:
    return [orthos[0], Path(shutil.copy(orthos[0], folder / "copy.tif"))]


def image_of_another_place(orthos: list[Path], folder: Path) -> list[Path]:
    with rasterio.open(orthos[1]) as source:
        profile, values = source.profile, np.roll(source.read(1), (60, 90), (0, 1))
    with rasterio.open(folder / "other.tif", "w", **profile) as moved:
        moved.write(values, 1)
    return [orthos[0], folder / "other.tif"]


def image_of_nothing(orthos: list[Path], folder: Path) -> list[Path]:
    with rasterio.open(orthos[1]) as source:
        profile = source.profile
        values = np.full(source.shape, np.nan if source.nodata is None else source.nodata, source.dtypes[0])
    with rasterio.open(folder / "empty.tif", "w", **profile) as empty:
        empty.write(values, 1)
    return [orthos[0], folder / "empty.tif"]


USELESS = {
    one_image_twice: "are the same image",
    image_of_another_place: "do not match: their details lie",
    image_of_nothing: "shows nothing where the DSM has heights",
}


@pytest.mark.parametrize("spoilt", USELESS)
@pytest.mark.parametrize("kind", ["files", "arrays"])
def test_ortho_images_that_are_no_use_are_refused_before_anything_is_measured(
    spoilt: Any, kind: str, rough_orthos: list[Path], tmp_path: Path
) -> None:
    images = spoilt(rough_orthos[1:], tmp_path)
    before = sorted(tmp_path.iterdir())
    if kind == "arrays":
        dsm, *given = (
            band.read(band.grid.whole)
            for band in (FileBand(path, "stored") for path in (rough_orthos[0], *images))
        )
        with pytest.raises(Unsuitable, match=USELESS[spoilt]):
            refine(dsm, given, gsd=0.5)
        return
    output = tmp_path / "out.tif"
    refused = command(rough_orthos[0], images, "-o", f"{output}")
    assert refused.exit_code == 2
    assert USELESS[spoilt] in refused.stderr
    assert "--force" in refused.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert command(rough_orthos[0], images, "-o", f"{output}", "--force", "--report").exit_code == 0
    assert any(USELESS[spoilt] in text for name, text in read_tags(output).items() if "WARNING" in name)
    assert USELESS[spoilt] in output.with_suffix(".html").read_text(encoding="utf-8")


def test_a_pixel_size_that_does_not_fit_is_refused_before_anything_is_measured(
    rough_orthos: list[Path], tmp_path: Path
) -> None:
    coarse = [tmp_path / path.name for path in rough_orthos]
    for path, made in zip(rough_orthos, coarse, strict=True):
        with rasterio.open(path) as source:
            profile, values = source.profile, source.read(1)
        profile["transform"] *= rasterio.Affine.scale(4)
        with rasterio.open(made, "w", **profile) as written:
            written.write(values, 1)
    refused = command(coarse[0], coarse[1:])
    assert refused.exit_code == 2
    assert "pixels of 2 m, the model was trained with 0.25 to 1 m" in refused.stderr
    assert sorted(tmp_path.iterdir()) == sorted(coarse)


def test_a_raw_image_given_twice_is_refused(raw_scene: Path, dsm: Path, tmp_path: Path) -> None:
    image = raw_images_of(raw_scene)[0]
    copy = Path(shutil.copy(image, tmp_path / "copy.tif"))
    refused = command(dsm, [image, copy])
    assert refused.exit_code == 2
    assert "show the same image" in refused.stderr
    assert not dsm.with_name("dsm_refined.tif").exists()
