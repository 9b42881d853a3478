"""The quick part of the doctor, as check, train, test and refine have it: quiet where nothing is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from conftest import MadeScene, raw_images_of, read_raster, write_raster
from resdepth import check, refine
from resdepth.data.scene import Scene
from resdepth.diagnosis.quick import bias_in, quick_files, quick_surfaces
from resdepth.geo.windows import Window
from resdepth.stereo.ortho import read_rpc
from resdepth.workflows.train import train


def dsm_of(scene: Path) -> Path:
    return scene / "dsm" / "initial.tif"


def orthos_of(scene: Path) -> list[Path]:
    return [scene / "satellite_views" / path.name for path in raw_images_of(scene)]


@pytest.mark.parametrize("images_of", [raw_images_of, orthos_of])
def test_good_images_are_no_reason_to_warn(images_of: Callable[[Path], list[Path]], raw_scene: Path) -> None:
    assert quick_files(dsm_of(raw_scene), images_of(raw_scene)) == ()


def saturated(raw: list[Path]) -> None:
    with rasterio.open(raw[1], "r+") as dataset:
        grey = dataset.read(1)
        dataset.write(np.minimum(grey, np.percentile(grey, 90).astype(grey.dtype)), 1)


def of_another_file(raw: list[Path]) -> None:
    shutil.copy(raw[0], raw[1])


def with_the_rpc_of_another(raw: list[Path]) -> None:
    with rasterio.open(raw[0]) as first, rasterio.open(raw[1], "r+") as second:
        second.rpcs = first.rpcs
    assert read_rpc(raw[0]) == read_rpc(raw[1])


PLANTED = {
    saturated: ("saturated_image", "have its highest value"),
    of_another_file: ("duplicated_image", "show the same image"),
    with_the_rpc_of_another: ("raw_image", "have the same RPC"),
}


@pytest.mark.parametrize("plant", PLANTED)
def test_what_is_wrong_with_raw_images_is_found(
    plant: Callable[[list[Path]], None], raw_scene: Path, tmp_path: Path
) -> None:
    raw = [Path(shutil.copy(path, tmp_path)) for path in raw_images_of(raw_scene)]
    plant(raw)
    kind, words = PLANTED[plant]
    (found,) = quick_files(dsm_of(raw_scene), raw)
    assert found.kind == kind
    assert words in found.stated
    assert raw[1].name in found.about


def test_a_raw_image_of_less_than_half_of_the_area_is_a_warning(raw_scene: Path, tmp_path: Path) -> None:
    heights = read_raster(dsm_of(raw_scene))
    with rasterio.open(dsm_of(raw_scene)) as dataset:
        origin = dataset.transform.c + 120, dataset.transform.f
    beside = write_raster(tmp_path / "beside.tif", heights, origin=origin)
    (found,) = quick_files(beside, raw_images_of(raw_scene)[:1])
    assert (found.kind, found.severity) == ("raw_image", "warning")


@pytest.mark.parametrize("model", ["fusion", "town-stereo"])
def test_refine_warns_of_a_saturated_image(
    model: str, raw_scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [Path(shutil.copy(path, tmp_path)) for path in orthos_of(raw_scene)[:2]]
    dsm, window = dsm_of(raw_scene), Window(0, 0, 128, 128)
    refine(dsm, images, model, region=window, force=True)
    assert "highest value" not in caplog.text
    saturated(images)
    refine(dsm, images, model, region=window, force=True)
    assert f"of {images[1].name} have its highest value" in caplog.text


def test_check_warns_of_images_as_of_surfaces(scene: MadeScene) -> None:
    config = scene.write(scene.train_config())
    assert check(config) == []
    write_raster(scene.folder / "ortho2.tif", scene.images[0])
    (problem,) = check(config)
    assert problem.severity == "warning"
    assert problem.where.endswith("path_image_list")
    assert "ortho1.tif and ortho2.tif show the same image" in problem.message


def test_only_the_parts_in_use_are_looked_at(scene: MadeScene) -> None:
    heights = scene.initial.copy()
    heights[:, 64:96] += 40
    write_raster(scene.folder / "initial.tif", heights, nodata=-9999)
    opened = Scene.open(scene.folder / "initial.tif", reference=scene.folder / "reference.tif")
    around = [Window(0, 0, 64, 64), Window(0, 96, 64, 64)]
    assert quick_surfaces(opened, around) == ()
    assert bias_in(quick_surfaces(opened, [Window(0, 64, 64, 32)])) == pytest.approx(40, abs=0.2)


def biased(scene: MadeScene, *, remove: bool) -> Path:
    write_raster(scene.folder / "initial.tif", scene.initial + np.float32(2.6), nodata=-9999)
    settings = {"remove_bias": remove, "n_epochs": 1}
    return scene.write(scene.train_config(training_settings=settings))


def first_losses(run: Path) -> list[float]:
    return [
        float(word) for word in (run / "training.log").read_text().replace(",", " ").split() if "." in word
    ]


def test_training_removes_a_constant_bias_if_it_is_to_and_states_so(scene: MadeScene) -> None:
    unbiased = train(scene.write(scene.train_config(training_settings={"remove_bias": True, "n_epochs": 1})))
    assert "remove_bias" not in (unbiased / "run.log").read_text()
    config = biased(scene, remove=True)
    assert check(config) == []
    without = train(config)
    left = train(biased(scene, remove=False))
    losses = [first_losses(run) for run in (unbiased, without, left)]
    assert losses[1] == pytest.approx(losses[0], abs=0.1)
    assert losses[2] != pytest.approx(losses[0], abs=0.1)
    assert json.loads((without / "config.json").read_text())["training_settings"]["remove_bias"]


def test_training_states_the_bias_that_it_removes(scene: MadeScene, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        train(biased(scene, remove=True))
    assert "lies 2.60 m above the reference DSM; this constant is taken out" in caplog.text.replace(
        "2.59", "2.60"
    )
