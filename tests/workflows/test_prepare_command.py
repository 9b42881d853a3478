"""From a DSM, raw images and a reference DSM to a folder that train, test, refine and evaluate take."""

import csv
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from rasterio.warp import Resampling, reproject, transform_bounds
from safetensors.torch import load_file

from conftest import raw_images_of, read_raster, write_raster
from resdepth import check
from resdepth.cli import main
from resdepth.data import dataset_folder
from resdepth.errors import Interrupted, ResDepthError
from resdepth.geo.raster import FileBand, read_header, read_tags
from resdepth.geo.reprojected import MapBand
from resdepth.geo.rpc import TAG, from_tags
from resdepth.preparation import pipeline
from resdepth.preparation.coregister import SurfaceFile, coregistration
from resdepth.preparation.datum import height_change, named_vertical
from resdepth.stereo.ortho import read_rpc
from resdepth.workflows import prepare as workflow
from resdepth.workflows._prepared import summary
from resdepth.workflows.check import plan_training
from resdepth.workflows.prepare import Prepared, prepare, read_prepared

SHIFT = (1.4, -0.8, 2.6)


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    yield
    logging.getLogger("resdepth").setLevel(logging.NOTSET)


def dsm_of(scene: Path) -> Path:
    return scene / "dsm" / "initial.tif"


def moved_copy(source: Path, target: Path, shift: tuple[float, float, float]) -> Path:
    """A raster elsewhere and higher."""
    with rasterio.open(source) as dataset:
        values, profile, place = dataset.read(1), dataset.profile, dataset.transform
    values = np.where(values == profile["nodata"], values, values + np.float32(shift[2]))
    profile["transform"] = rasterio.Affine(place.a, 0, place.c + shift[0], 0, place.e, place.f + shift[1])
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write(values, 1)
    return target


@pytest.fixture(scope="module")
def made(raw_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The simulated suburb, whose reference DSM lies elsewhere."""
    folder = tmp_path_factory.mktemp("prepared")
    reference = moved_copy(raw_scene / "dsm" / "reference.tif", folder / "lidar.tif", SHIFT)
    return prepare(
        folder / "scene", dsm=dsm_of(raw_scene), images=raw_images_of(raw_scene), reference=reference,
        masks={"building": raw_scene / "mask" / "building.tif"}, threads=0,
    )  # fmt: skip


def test_the_folder_is_one_that_simulate_writes(made: Prepared) -> None:
    names = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()}
    views = ("ahead", "back", "later")
    expected = {
        "plan.json", "prepare.json", "prepare.html", "pairs.csv", "sky.png", "configs/config_train.json",
        "configs/config_test.json", "models/ResDepth-stereo/model.safetensors",
        "data/dsm/initial.tif", "data/dsm/reference.tif",
        "data/dsm/provenance.tif",
        *(f"data/mask/{name}.tif" for name in ("void", "building", "change", "ground_truth")),
        *(f"data/mask/hidden_{name}.tif" for name in views),
        *(f"data/satellite_views/{name}.tif" for name in views),
        *(f"data/satellite_views/raw/{name}.tif" for name in views),
        *(f"data/image_selection/{name}.txt" for name in
          ("imagelist", "pairlist", "pairlist_simple", "pairlist_generalized")),
    }  # fmt: skip
    assert names == expected
    assert set(made.record["files"]) == expected - {"plan.json", "prepare.json"}
    grid = read_header(made.dsm).grid
    rasters = [path for path in (made.folder / "data").rglob("*.tif") if path.parent.name != "raw"]
    assert all(grid.differences(read_header(path).grid) == [] for path in rasters)
    assert not np.isnan(FileBand(made.dsm).read(grid.whole)).any()


def test_configurations_can_run_as_they_are(made: Prepared) -> None:
    for kind in ("train", "test"):
        problems = check(made.folder / "configs" / f"config_{kind}.json")
        assert [str(one) for one in problems] == []


def test_the_initial_dsm_lies_on_the_reference(made: Prepared, raw_scene: Path) -> None:
    surfaces = [SurfaceFile(MapBand(raw_scene / "dsm" / f"{name}.tif")) for name in ("initial", "reference")]
    own = coregistration(*surfaces, surfaces[0].band.grid).motion  # the RPCs are half a pixel off
    motion = made.record["coregistration"]["motion"]
    assert motion["east_m"] - own.east_m == pytest.approx(SHIFT[0], abs=0.08)
    assert motion["north_m"] - own.north_m == pytest.approx(SHIFT[1], abs=0.08)
    assert motion["up_m"] - own.up_m == pytest.approx(SHIFT[2], abs=0.05)
    before, after = (made.record["coregistration"][key] for key in ("before", "after"))
    assert after["mae_m"] < 0.7 * before["mae_m"]
    assert abs(made.record["initial_minus_reference"]["median_m"]) < 0.2


def test_ortho_images_agree_with_each_other_and_follow_the_dsm(made: Prepared, raw_scene: Path) -> None:
    ties = made.record["tie_points"]["after"]
    assert (ties[0]["first"], ties[0]["second"]) == (0, 1)
    assert made.record["tie_points"]["term"] == "shift"
    assert set(made.record["tie_points"]["left_out_m"]) == {"shift", "affine"}
    assert [view["rpc_affine"] for view in made.record["views"]] == [None] * 3
    for tie in ties[:1]:
        assert np.hypot(tie["east_m"], tie["north_m"]) < 0.1
    motion = made.record["coregistration"]["motion"]
    for name in ("ahead", "back"):
        path = made.folder / "data" / "satellite_views" / f"{name}.tif"
        given = MapBand(raw_scene / "satellite_views" / f"{name}.tif", "stored")
        grid = FileBand(path, "stored").grid
        a, b, c, d, e, f = grid.transform
        where = replace(grid, transform=(a, b, c - motion["east_m"], d, e, f - motion["north_m"]))
        ours, theirs = FileBand(path, "stored").read(grid.whole), given.on(where)
        known = ~np.isnan(ours) & ~np.isnan(theirs)
        assert np.corrcoef(ours[known], theirs[known])[0, 1] > 0.85
        assert read_header(path).dtype == "uint16"
        assert read_header(path).nodata == 0


def test_affine_terms_of_rpcs_are_stated(raw_scene: Path, tmp_path: Path) -> None:
    words = ["prepare", "--dsm", dsm_of(raw_scene), "-o", tmp_path / "scene", "--workers", "0"]
    words += [word for path in raw_images_of(raw_scene)[:2] for word in ("--image", path)]
    done = CliRunner().invoke(main, [*map(str, words), "--rpc-bias", "affine"])
    assert done.exit_code == 0, done.output
    assert "RPCs: an affine term was taken out of each; at other tie points it leaves 0." in done.output
    record = read_prepared(tmp_path / "scene").record
    assert record["request"]["rpc_bias"] == record["tie_points"]["term"] == "affine"
    first, second = (np.array(view["rpc_affine"]) for view in record["views"])
    assert 0 < np.abs(first).max() < 0.01
    np.testing.assert_allclose(first, -second, atol=1e-3)  # what both have in common is not known
    assert "an affine term was taken out of each" in (tmp_path / "scene" / "prepare.html").read_text()


def test_raw_images_have_rpcs_that_show_the_moved_surface(made: Prepared, raw_scene: Path) -> None:
    assert [path.stem for path in made.raw_images] == ["ahead", "back", "later"]
    before, after = read_rpc(raw_images_of(raw_scene)[0]), read_rpc(made.raw_images[0])
    assert after.offsets[4] - before.offsets[4] == pytest.approx(
        made.record["coregistration"]["motion"]["up_m"]
    )


def test_views_state_their_geometry(made: Prepared) -> None:
    for view in made.record["views"]:
        path = made.folder / "data" / "satellite_views" / f"{view['name']}.tif"
        geometry = from_tags(read_tags(path))
        assert geometry is not None
        assert geometry == from_tags({TAG: json.dumps(view["geometry"])})
        assert 0 <= view["hidden"] < 0.2
    incidences = {"ahead": 14, "back": 10, "later": 8}
    for view in made.record["views"]:
        geometry = from_tags({TAG: json.dumps(view["geometry"])})
        assert geometry is not None
        assert geometry.incidence_deg == pytest.approx(incidences[view["name"]], abs=0.3)


def test_the_commands_take_the_folder(made: Prepared, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "scene")
    run = CliRunner().invoke
    for command in (
        ["test", folder],
        ["refine", folder, "--device", "cpu"],
        ["evaluate", folder, "--no-rasters"],
        ["evaluate", folder / "results/refined.tif", "--truth", folder, "-o", tmp_path / "e", "--no-rasters"],
    ):
        done = run(main, [str(one) for one in command])
        assert done.exit_code == 0, done.output
    for result in (folder / "evaluation", tmp_path / "e"):
        found = json.loads((result / "evaluation.json").read_text())
        assert "building" in json.dumps(found)
        assert {"initial", "refined"} <= set(found["surfaces"])
    assert len(json.loads((folder / "evaluation" / "evaluation.json").read_text())["surfaces"]) > 2
    assert read_prepared(folder).raw_images[0].is_file()


def test_a_folder_without_a_refined_dsm_is_not_evaluated(made: Prepared, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "scene")
    done = CliRunner().invoke(main, ["evaluate", f"{folder}"])
    assert done.exit_code == 2
    assert "holds no refined DSM; first refine the data set (resdepth refine)" in done.output
    assert not (folder / "evaluation").exists()


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def pair_request(raw_scene: Path) -> dict[str, Any]:
    return {"dsm": dsm_of(raw_scene), "images": raw_images_of(raw_scene)[:2], "threads": 0}


@pytest.mark.parametrize("step", ["write_filled", "write_ortho", "write_raw", "write_hidden", "ranked"])
def test_a_stopped_preparation_resumes_to_the_same_bytes(
    step: str, raw_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare(tmp_path / "a" / "scene", **pair_request(raw_scene)) if step == "write_ortho" else None
    target = tmp_path / "b" / "scene"

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, step, stopped)
        with pytest.raises(Interrupted, match="give the same command again"):
            prepare(target, **pair_request(raw_scene))
    assert not (target / "prepare.json").exists()
    times = {path: path.stat().st_mtime_ns for path in (target / "data").rglob("*.tif")}
    done = prepare(target, **pair_request(raw_scene))
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert not (target / "unfinished").exists()
    if whole is not None:
        assert files(target) == files(whole.folder)
    assert done.record["views"][0]["seen"] > 0.9


def test_what_exists_is_refused_and_replaced_when_asked(raw_scene: Path, tmp_path: Path) -> None:
    target = tmp_path / "scene"
    request = {"dsm": dsm_of(raw_scene), "threads": 0}
    prepare(target, **request)
    (target / "results" / "mine.txt").write_text("mine")
    with pytest.raises(ResDepthError, match="exists already, a complete data set; add overwrite=True"):
        prepare(target, **request)
    prepare(target, **request, gsd_m=1.0, overwrite=True)
    assert read_header(target / "data" / "dsm" / "initial.tif").grid.gsd == 1.0
    assert (target / "results" / "mine.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    with pytest.raises(ResDepthError, match="not empty; choose another folder"):
        prepare(other, **request, overwrite=True)
    inside = tmp_path / "inside"
    prepare(inside, **request)
    with pytest.raises(ResDepthError, match="is an input"):
        prepare(inside, dsm=inside / "data" / "dsm" / "initial.tif", threads=0, overwrite=True)
    assert (inside / "data" / "dsm" / "initial.tif").is_file()


def test_inputs_stay_as_they_are(made: Prepared, raw_scene: Path) -> None:
    for path, checksum in made.record["inputs"].items():
        assert workflow.sha256_of(Path(path)) == checksum
    assert sorted(path.name for path in (raw_scene / "satellite_views" / "raw").iterdir()) == [
        "ahead.tif", "back.tif", "later.tif"
    ]  # fmt: skip


def test_images_alone_are_matched(raw_scene: Path, tmp_path: Path) -> None:
    made = prepare(tmp_path / "scene", images=raw_images_of(raw_scene)[:2], threads=0)
    assert made.record["datum"]["dsm"] == "ellipsoid"
    assert made.record["voids"]["void_share"] > 0
    assert not (tmp_path / "scene" / "configs" / "config_train.json").exists()
    reference = MapBand(raw_scene / "dsm" / "reference.tif")
    heights = MapBand(made.dsm).on(reference.grid)
    assert np.nanmedian(np.abs(heights - reference.on(reference.grid))) < 1.5


def test_ortho_images_of_other_grids_serve_as_well(raw_scene: Path, tmp_path: Path) -> None:
    dsm = moved_copy(dsm_of(raw_scene), tmp_path / "dsm.tif", (0.25, 0.0, 0.0))
    images = [
        Path(shutil.copy(raw_scene / "satellite_views" / f"{name}.tif", tmp_path))
        for name in ("ahead", "back")
    ]
    for path, azimuth in zip(images, ("150", "190"), strict=True):
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(SUN_AZIMUTH=azimuth, SUN_ELEVATION="50", ACQUISITION_DATE="2020-06-01")
    made = prepare(tmp_path / "scene", dsm=dsm, images=images, threads=0)
    assert made.raw_images == ()
    (pair,) = csv.DictReader((made.folder / "pairs.csv").read_text().splitlines())
    assert (pair["days_apart"], pair["sun_azimuth_second_deg"]) == ("0.000", "190.000")
    assert float(pair["sun_apart_deg"]) == pytest.approx(25.4, abs=0.1)
    assert read_prepared(made.folder).record["views"][0]["sun"] == [150.0, 50.0]
    assert made.record["views"][0]["geometry"] is not None
    assert made.record["pairs"][0]["base_to_height"] == pytest.approx(0.42, abs=0.03)
    done = CliRunner().invoke(main, ["refine", str(made.folder), "--device", "cpu"])
    assert done.exit_code == 0, done.output


def test_degrees_feet_and_a_point_cloud_lead_to_the_same_surface(raw_scene: Path, tmp_path: Path) -> None:
    source = raw_scene / "dsm" / "reference.tif"
    band = FileBand(source)
    heights = np.nan_to_num(band.read(band.grid.whole), nan=230.0)
    west, south, east, north = transform_bounds("EPSG:32632", "EPSG:4326", *band.grid.bounds)
    side = 6e-6
    height, width = int((north - south) / side), int((east - west) / side)
    place = rasterio.Affine(side, 0, west, 0, -side, north)
    degrees = np.full((height, width), np.nan, np.float32)
    reproject(
        heights / np.float32(0.3048), degrees, src_transform=rasterio.Affine(*band.grid.transform),
        src_crs="EPSG:32632", src_nodata=np.nan, dst_transform=place, dst_crs="EPSG:4326", dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )  # fmt: skip
    with rasterio.open(
        tmp_path / "feet.tif", "w", driver="GTiff", height=height, width=width, count=1, dtype="float32",
        crs="EPSG:4326", transform=place, nodata=np.nan,
    ) as dataset:  # fmt: skip
        dataset.write(degrees, 1)
        dataset.units = ("foot",)
    rows, cols = np.indices(heights.shape)
    cloud = laspy.create(point_format=3, file_version="1.2")
    cloud.header.scales = [0.01] * 3
    x, y = band.grid.map_position(rows + 0.5, cols + 0.5)  # type: ignore[arg-type]
    cloud.x, cloud.y, cloud.z = x.ravel(), y.ravel(), heights.ravel()  # type: ignore[attr-defined]
    cloud.header.offsets = [0, 0, 0]
    cloud.write(tmp_path / "points.laz")
    first = prepare(tmp_path / "a", dsm=tmp_path / "feet.tif", gsd_m=0.5, threads=0)
    second = prepare(
        tmp_path / "b", dsm=tmp_path / "points.laz", dsm_crs="EPSG:32632", reference=source,
        coregister="none", threads=0,
    )  # fmt: skip
    for made in (first, second):
        grid = read_header(made.dsm).grid
        assert grid.crs_name == "EPSG:32632"
        assert grid.gsd == 0.5
        assert np.median(np.abs(MapBand(made.dsm).on(band.grid) - heights)[20:-20, 20:-20]) < 0.1
    assert "in degrees" in first.record["grid"]["changes"][0]
    assert abs(second.record["initial_minus_reference"]["median_m"]) < 0.01


@pytest.mark.usefixtures("geoid")
def test_heights_above_a_geoid_give_the_same_ortho_images(raw_scene: Path, tmp_path: Path) -> None:
    given = dsm_of(raw_scene)
    plain = prepare(tmp_path / "a", dsm=given, images=raw_images_of(raw_scene)[:2], threads=0,
                    dsm_vertical="ellipsoid")  # fmt: skip
    band = FileBand(given)
    up = height_change(named_vertical("EGM96"), "ellipsoid", band.grid, 230.0).over(band.grid)
    values = band.read(band.grid.whole) - up
    above = write_raster(
        tmp_path / "geoid.tif", values, crs="EPSG:32632+5773", origin=band.grid.map_position(0, 0)
    )
    made = prepare(tmp_path / "b", dsm=above, images=raw_images_of(raw_scene)[:2], threads=0)
    assert made.record["datum"]["data_set"] == "EPSG:5773 (EGM96 height)"
    assert made.record["heights_of_rpcs"] == {"known": True, "up_m": pytest.approx(up.mean(), abs=0.01)}
    assert read_header(made.dsm).grid.crs_name == "EPSG:32632+5773"
    for name in ("ahead", "back"):
        first, second = (
            read_raster(one.folder / "data" / "satellite_views" / f"{name}.tif").astype(float)
            for one in (plain, made)
        )
        assert np.abs(first - second).mean() < 1
    lifted = prepare(tmp_path / "c", dsm=above, vertical="ellipsoid", threads=0)
    np.testing.assert_allclose(read_raster(lifted.dsm), read_raster(plain.dsm), atol=0.02)


def test_a_dsm_of_unknown_zero_is_seen_by_its_images(
    raw_scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    low = moved_copy(dsm_of(raw_scene), tmp_path / "low.tif", (0.0, 0.0, -45.0))
    made = prepare(tmp_path / "scene", dsm=low, images=raw_images_of(raw_scene)[:2], threads=0)
    assert made.record["heights_of_rpcs"]["up_m"] == pytest.approx(45, abs=3)
    assert "as from the ellipsoid, and that counts" in caplog.text
    assert made.record["pairs"][0]["agreement"] > 0.5
    # A geoid that is stated, but not here, is measured for the RPCs; the heights stay as they are.
    made = prepare(
        tmp_path / "geoid", dsm=low, dsm_vertical="EGM96", images=raw_images_of(raw_scene)[:2], threads=0
    )
    assert "PROJ needs us_nga_egm96_15.tif" in caplog.text
    assert made.record["heights_of_rpcs"]["up_m"] == pytest.approx(45, abs=3)
    assert made.record["datum"]["data_set"] == "EPSG:5773 (EGM96 height)"


def test_bands_of_colour_images_are_averaged(raw_scene: Path, tmp_path: Path) -> None:
    grey = read_raster(raw_scene / "satellite_views" / "ahead.tif")
    colour = write_raster(
        tmp_path / "colour.tif",
        np.stack([grey, 3 * grey]),
        origin=FileBand(dsm_of(raw_scene)).grid.map_position(0, 0),
    )
    made = prepare(tmp_path / "scene", dsm=dsm_of(raw_scene), images=[colour], threads=0)
    ortho = read_raster(made.folder / "data" / "satellite_views" / "colour.tif")
    np.testing.assert_array_equal(ortho, 2 * grey)


def test_a_pipeline_run_needs_nothing_else(raw_scene: Path, tmp_path: Path) -> None:
    run = tmp_path / "s2p_out"
    run.mkdir()
    shutil.copy(dsm_of(raw_scene), run / "dsm.tif")
    (run / "tiles.txt").write_text("")
    shutil.copy(dsm_of(raw_scene), run / "confidence.tif")
    images = [{"img": str(path)} for path in raw_images_of(raw_scene)[:2]]
    (run / "config.json").write_text(json.dumps({"images": images}))
    done = CliRunner().invoke(main, ["prepare", str(run), "-o", str(tmp_path / "scene"), "--workers", "0"])
    assert done.exit_code == 0, done.output
    made = read_prepared(tmp_path / "scene")
    assert made.record["datum"]["dsm"] == "ellipsoid"
    assert len(made.raw_images) == 2
    assert (tmp_path / "scene" / "data" / "quality" / "confidence.tif").is_file()


def test_a_run_of_micmac_has_a_mask_for_voids_and_needs_its_crs(raw_scene: Path, tmp_path: Path) -> None:
    run = tmp_path / "micmac" / "MEC-Malt"
    band = FileBand(dsm_of(raw_scene))
    corner, heights = band.grid.map_position(0, 0), band.read(band.grid.whole)
    mask = np.ones(heights.shape, np.uint8)
    mask[100:110, 100:120] = 0
    heights[mask == 0] = 0
    write_raster(run / "Z_Num8_DeZoom1_STD-MALT.tif", heights, crs=None, origin=corner)
    write_raster(run / "AutoMask_STD-MALT_Num_7.tif", mask, crs=None, origin=corner)
    grey = read_raster(raw_scene / "satellite_views" / "ahead.tif")
    write_raster(run.parent / "Ortho-MEC-Malt" / "Ort_ahead.tif", grey, crs=None, origin=corner)
    words = ["prepare", str(run.parent), "-o", str(tmp_path / "scene"), "--workers", "0"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "names no CRS" in done.output
    done = CliRunner().invoke(main, [*words, "--dsm-crs", "EPSG:32632"])
    assert done.exit_code == 0, done.output
    made = read_prepared(tmp_path / "scene")
    assert made.record["voids"]["near"] == 200
    assert read_raster(made.dsm).min() > 150
    assert [view["name"] for view in made.record["views"]] == ["Ort_ahead"]


def test_heights_of_low_quality_are_left_out_of_training_if_asked(raw_scene: Path, tmp_path: Path) -> None:
    band = FileBand(dsm_of(raw_scene))
    corner, heights = band.grid.map_position(0, 0), np.nan_to_num(band.read(band.grid.whole), nan=230.0)
    run = tmp_path / "micmac" / "MEC-Malt"
    correlation = np.full(heights.shape, 127 + 90, np.uint8)  # 0.70
    correlation[50:90] = 127 + 45  # 0.35
    write_raster(run / "Z_Num8_DeZoom1_STD-MALT.tif", heights, crs="EPSG:32632", origin=corner)
    write_raster(run / "Correl_STD-MALT_Num_7.tif", correlation, crs="EPSG:32632", origin=corner)
    reference = raw_scene / "dsm" / "reference.tif"
    words = ["prepare", run.parent, "--reference", reference, "--coregister", "none", "--workers", "0"]
    done = CliRunner().invoke(main, [*map(str, words), "-o", f"{tmp_path / 'a'}"])
    assert done.exit_code == 0, done.output
    plain = read_prepared(tmp_path / "a")
    (dataset,) = json.loads((plain.folder / "configs" / "config_train.json").read_text())["datasets"]
    assert dataset["mask_ground_truth"] == "../data/mask/ground_truth.tif"
    assert plain.record["trusted"] is None
    assert not (plain.folder / "data" / "mask" / "training.tif").exists()
    layer = read_raster(plain.folder / "data" / "quality" / "correlation.tif")
    np.testing.assert_allclose(np.unique(layer), (45 / 128, 90 / 128))
    for limits, left_out in (("", 40), ("=0.3:", 0), ("=:0.5", heights.shape[0] - 40)):
        target = tmp_path / f"trusted_{left_out}"
        done = CliRunner().invoke(
            main, [*map(str, words), "--trusted", f"correlation{limits}", "-o", f"{target}"]
        )
        assert done.exit_code == 0, done.output
        share = left_out / heights.shape[0]
        assert f"quality layers (correlation): {100 * share:.1f} % of the heights are left out" in done.output
        low = read_raster(target / "data" / "mask" / "low_quality.tif")
        assert low.mean() == pytest.approx(share)
        counted = read_raster(target / "data" / "mask" / "ground_truth.tif")
        np.testing.assert_array_equal(read_raster(target / "data/mask/training.tif"), counted & (1 - low))
        assert read_prepared(target).record["trusted"]["left_out"] == pytest.approx(share)
        problems = check(target / "configs" / "config_train.json")
        assert [str(one) for one in problems if one.severity == "error"] == []
        (area,) = plan_training(target / "configs" / "config_train.json").areas
        known = ~np.isnan(area.scene.counted_reference(area.scene.grid.whole))
        np.testing.assert_array_equal(known, (counted == 1) & (low == 0))


@pytest.mark.parametrize("words", ["correlation=low:", "correlation=0.4"])
def test_a_range_of_trust_is_two_numbers(words: str, raw_scene: Path, tmp_path: Path) -> None:
    given = ["prepare", "--dsm", f"{dsm_of(raw_scene)}", "-o", f"{tmp_path / 'scene'}", "--trusted", words]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 2
    assert "give LAYER=LOWEST:HIGHEST" in " ".join(done.output.replace("│", "").split())


def test_a_triangulation_error_of_three_bands_is_its_length(raw_scene: Path, tmp_path: Path) -> None:
    grid = FileBand(dsm_of(raw_scene)).grid
    parts = np.stack([np.full(grid.whole.shape, one, np.float32) for one in (2.0, -3.0, 6.0)])
    layer = write_raster(tmp_path / "error.tif", parts, origin=grid.map_position(0, 0))
    made = prepare(
        tmp_path / "scene", dsm=dsm_of(raw_scene), layers={"triangulation_error": layer}, threads=0,
        trusted={"triangulation_error": None},
    )  # fmt: skip
    assert (read_raster(made.folder / "data" / "quality" / "triangulation_error.tif") == 7).all()
    trusted = read_prepared(made.folder).record["trusted"]
    assert trusted == {"ranges": {"triangulation_error": [None, 1.0]}, "left_out": 1.0}
    assert "training" not in made.record["masks"]


def test_the_summary_states_what_was_found(made: Prepared) -> None:
    text = "\n".join(summary(made.folder, made.record))
    assert "co-registration: the dsm moves +1." in text
    assert "RPCs: ahead and back lie" in text
    assert "to refine: resdepth refine" in text


def test_prepare_is_followed_by_train_and_test_and_masked_heights_teach_nothing(
    raw_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is edited in between; what the mask leaves out may be as absurd as it likes."""
    monkeypatch.setattr(dataset_folder, "EPOCHS", 2)
    folder, poisoned = tmp_path / "scene", tmp_path / "poisoned"
    band = FileBand(dsm_of(raw_scene))
    correlation = np.full(band.grid.whole.shape, 0.7, np.float32)
    correlation[20:110, ::3] = 0.2
    layer = write_raster(tmp_path / "layer.tif", correlation, origin=band.grid.map_position(0, 0))
    xmin, ymin, _, ymax = band.grid.bounds
    request = tmp_path / "request.json"
    given = {
        "dsm": dsm_of(raw_scene), "images": raw_images_of(raw_scene)[:2], "layers": {"correlation": layer},
        "reference": raw_scene / "dsm" / "reference.tif", "extent": [xmin, ymin, xmin + 75, ymax],
    }  # fmt: skip
    request.write_text(json.dumps(given, default=str))
    for words in (
        ["prepare", request, "--trusted", "correlation", "-o", folder, "--workers", "0"],
        ["train", folder],
        ["test", folder],
    ):
        done = CliRunner().invoke(main, [str(one) for one in words])
        assert done.exit_code == 0, done.output
        if words[0] == "prepare":
            shutil.copytree(folder, poisoned)
    assert "verdict: " in done.output
    assert list((folder / "results").rglob("*_prediction.tif"))

    left_out = read_raster(poisoned / "data" / "mask" / "training.tif") == 0
    assert 0.1 < left_out.mean() < 0.5
    with rasterio.open(poisoned / "data" / "dsm" / "reference.tif", "r+") as dataset:
        heights = dataset.read(1)
        dataset.write(np.where(left_out & (heights != dataset.nodata), heights + 7000, heights), 1)
    done = CliRunner().invoke(main, ["train", f"{poisoned}"])
    assert done.exit_code == 0, done.output
    models = [next((one / "logs").rglob("model.safetensors")) for one in (folder, poisoned)]
    curves = [(model.parent / "training.log").read_text() for model in models]
    assert curves[0] == curves[1]
    first, second = (load_file(model) for model in models)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
