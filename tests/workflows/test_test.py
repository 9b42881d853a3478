"""From a test configuration to refined DSMs and statistics; and the same from Python."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from scipy import ndimage

from conftest import (
    GSD,
    ORIGIN,
    MadeScene,
    make_model,
    make_scene,
    read_raster,
    write_published_run,
    write_raster,
)
from resdepth import Evaluation, InputProblems, Model, ResDepthError, save_model
from resdepth.data.scene import MASKS
from resdepth.geo.windows import Window
from resdepth.models.pretrained import BUNDLED
from resdepth.models.published import load_model
from resdepth.workflows.evaluate import evaluate
from resdepth.workflows.refine import refine
from resdepth.workflows.test import test, verdicts_of

TILE = 16
STRIPE = (slice(0, 64), slice(32, 64))  # test stripe 1 of the made scene
# input_channels -> views, pair list, result folders with their view sets
VARIANTS: dict[str, tuple[int, str, dict[str, tuple[int, ...]]]] = {
    "geom": (0, "", {"": ()}),
    "geom-mono": (1, "mono.txt", {"Image_0": (0,), "Image_1": (1,)}),
    "geom-stereo": (2, "pairs.txt", {"Stereopair_0_1": (0, 1), "Stereopair_1_2": (1, 2)}),
    "stereo": (2, "pairs.txt", {"Stereopair_0_1": (0, 1), "Stereopair_1_2": (1, 2)}),
    "geom-multiview": (3, "triples.txt", {"Imagepair_0_1_2": (0, 1, 2)}),
}
OVER_ALL = "initial_prediction_performance_statistics_mean_over_all_stereopairs"


def config_of(scene: MadeScene, input_channels: str = "geom-stereo", **sections: Any) -> Path:
    """A test configuration for a variant; the published files of its model are written."""
    n_views, pairs, _ = VARIANTS[input_channels]
    model = write_published_run(scene.folder / "run", make_model(input_channels, n_views))
    config = scene.test_config(model)
    if n_views:
        config["datasets"][0]["path_pairlist"] = scene.path(pairs)
    else:
        del config["datasets"][0]["path_pairlist"], config["datasets"][0]["path_image_list"]
    for section, values in sections.items():
        (config["datasets"][0] if section == "datasets" else config[section]).update(values)
    for key in [key for key, value in config["datasets"][0].items() if value is None]:
        del config["datasets"][0][key]
    return scene.write(config)


def results_of(scene: MadeScene, name: str = "small") -> Path:
    return scene.folder / "results" / name


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def upper_left(dataset: Any) -> tuple[float, float]:
    return dataset.transform.c, dataset.transform.f


def figures(text_file: Path) -> Any:
    return json.loads(text_file.with_suffix(".json").read_text())


# --- an independent, slow way to the same heights (REFERENCE section 6)


def slow_starts(length: int) -> list[int]:
    starts, start = [], 0
    while start + TILE < length:
        starts.append(start)
        start += TILE // 2
    return [*starts, length - TILE]


def slow_weights(starts: list[int], length: int) -> np.ndarray:
    """(tiles, length): what each tile counts at each pixel; from the first overlap to the last."""
    weights = np.zeros((len(starts), length))
    for number, start in enumerate(starts):
        weights[number, start : start + TILE] = 1
    falling = np.linspace(1, 0, TILE // 2)
    for number in range(len(starts) - 1):
        end = starts[number] + TILE
        for step in range(TILE // 2):
            pixel = end - TILE // 2 + step
            weights[number, pixel] = falling[step]
            weights[number + 1, pixel] = falling[::-1][step]
        weights[number + 1, : end - TILE // 2] = 0
    return weights


def slow_refine(dsm: np.ndarray, views: list[np.ndarray], model: Model) -> np.ndarray:
    """One tile after the other, in double precision but for the network."""
    network, constants = model.network(), model.normalization
    starts = [slow_starts(length) for length in dsm.shape]
    weights = [slow_weights(*axis) for axis in zip(starts, dsm.shape, strict=True)]
    result = np.zeros(dsm.shape)
    for i, row in enumerate(starts[0]):
        for j, col in enumerate(starts[1]):
            tile = (slice(row, row + TILE), slice(col, col + TILE))
            mean = dsm[tile].astype(float).mean()
            channels = [(dsm[tile].astype(float) - mean) / constants.height_sigma]
            if model.architecture.input_channels == "stereo":
                channels = []
            channels += [
                (view[tile].astype(float) - constants.image_mean) / constants.image_std for view in views
            ]
            with torch.inference_mode():
                output = network(torch.tensor(np.array(channels), dtype=torch.float32)[None])
            heights = output[0, 0].double().numpy() * constants.height_sigma + mean
            result[tile] += np.outer(weights[0][i, tile[0]], weights[1][j, tile[1]]) * heights
    return result


@pytest.mark.parametrize("input_channels", VARIANTS)
def test_every_variant_refines_as_the_slow_way_does(input_channels: str, tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 61, 157)  # so that last tiles are shifted back
    n_views, _, folders = VARIANTS[input_channels]
    test(config_of(scene, input_channels))
    model = make_model(input_channels, n_views)
    stripe = (slice(0, 61), slice(31, 62))
    for folder, view_set in folders.items():
        found = read_raster(results_of(scene) / folder / "initial_prediction.tif")
        views = [scene.images[index][stripe] for index in view_set]
        expected = slow_refine(scene.initial[stripe], views, model)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
        assert np.abs(expected - scene.initial[stripe]).max() > 0.1


@pytest.mark.parametrize("lifted_m", [0, 20])
def test_how_far_heights_are_moved_is_reported(
    lifted_m: float, scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_model()
    lift = lifted_m / made.normalization.height_sigma
    weights = {**made.weights, "last_layer.bias": made.weights["last_layer.bias"] + lift}
    path = write_published_run(scene.folder / "wild", replace(made, weights=weights))
    config = scene.test_config(path)
    config["datasets"][0]["path_pairlist"] = scene.path("pair.txt")
    caplog.set_level("INFO")
    test(scene.write(config))
    assert "small, Stereopair_0_1: heights change by " in caplog.text
    assert ("100.0 % of the heights are moved by more than 3 m" in caplog.text) == bool(lifted_m)


# --- what is written


@pytest.mark.parametrize("input_channels", VARIANTS)
def test_every_variant_writes_the_published_files(input_channels: str, scene: MadeScene) -> None:
    results = test(config_of(scene, input_channels))
    folders = list(VARIANTS[input_channels][2])
    names = ["prediction.tif", "residuals.tif", "prediction_statistics.txt", "prediction_statistics.json"]
    names += ["prediction.qml", "residuals.qml"]  # styles for QGIS
    expected = {str(Path(folder) / f"initial_{name}") for folder in folders for name in names}
    expected |= {"config.json", "config.json.orig", "evaluation.json"}
    if len(folders) > 1:
        expected |= {f"{OVER_ALL}.txt", f"{OVER_ALL}.json"}
    assert files_in(results_of(scene)) == expected
    evaluated = [*folders, "all"] if len(folders) > 1 else folders
    assert [(result.dataset, result.views) for result in results] == [("small", views) for views in evaluated]
    for result, folder in zip(results, folders, strict=False):
        assert result.predictions == (results_of(scene) / folder / "initial_prediction.tif",)


def test_the_residuals_are_refined_minus_reference_and_void_where_the_reference_is(scene: MadeScene) -> None:
    test(config_of(scene, datasets={"test_stripe": 0}))
    folder = results_of(scene) / "Stereopair_0_1"
    prediction, residuals = (
        read_raster(folder / f"initial_{name}.tif") for name in ("prediction", "residuals")
    )
    reference = scene.reference[:, :32]
    assert np.isnan(reference).sum() == 80
    assert np.isfinite(prediction).all()
    assert (prediction != -9999).all()
    np.testing.assert_array_equal(residuals == -9999, np.isnan(reference))
    np.testing.assert_allclose(
        residuals[residuals != -9999], (prediction - reference)[np.isfinite(reference)], atol=1e-4
    )


def test_results_lie_where_the_region_lies(scene: MadeScene) -> None:
    test(config_of(scene, datasets={"test_stripe": 3}))
    for name in ("prediction", "residuals"):
        with (
            rasterio.open(results_of(scene) / "Stereopair_0_1" / f"initial_{name}.tif") as found,
            rasterio.open(scene.path("initial.tif")) as initial,
        ):
            assert found.shape == (64, 32)
            assert found.crs == initial.crs
            assert upper_left(found) == (upper_left(initial)[0] + 48, upper_left(initial)[1])
            assert found.res == initial.res
            assert (found.nodata, found.compression.name, found.dtypes) == (-9999, "lzw", ("float32",))


@pytest.mark.parametrize("with_masks", [False, True])
def test_without_reference_only_the_predictions_are_written(scene: MadeScene, with_masks: bool) -> None:
    masks = {"mask_building": scene.path("mask_building.tif")} if with_masks else {}
    results = test(config_of(scene, datasets={"raster_gt": None, **masks}))
    pairs = ("Stereopair_0_1", "Stereopair_1_2")
    expected = {f"{pair}/initial_prediction.{suffix}" for pair in pairs for suffix in ("tif", "qml")}
    assert files_in(results_of(scene)) == expected | {"config.json", "config.json.orig"}
    assert [result.evaluation for result in results] == [None, None]


def test_a_prediction_does_not_depend_on_the_reference(scene: MadeScene) -> None:
    test(config_of(scene))
    path = results_of(scene) / "Stereopair_1_2" / "initial_prediction.tif"
    before = path.read_bytes()
    test(config_of(scene, datasets={"raster_gt": None}))
    assert path.read_bytes() == before


# --- regions


def test_training_stripes_that_lie_apart_give_two_numbered_regions(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 64, 165)  # stripes of 33, and test stripe 1: regions of 33 and 66 columns
    results = test(config_of(scene, datasets={"area_type": "train"}))
    folder = results_of(scene) / "Stereopair_0_1"
    assert {path.name for path in folder.iterdir()} == {
        *(
            f"initial_{name}_{region}.{suffix}"
            for name in ("prediction", "residuals")
            for region in (0, 1)
            for suffix in ("tif", "qml")
        ),
        "initial_prediction_statistics.txt",
        "initial_prediction_statistics.json",
    }
    assert [path.name for path in results[0].predictions] == [f"initial_prediction_{i}.tif" for i in (0, 1)]
    for region, (first, width) in enumerate([(0, 33), (99, 66)]):
        with rasterio.open(folder / f"initial_prediction_{region}.tif") as dataset:
            assert dataset.shape == (64, width)
            assert upper_left(dataset) == (465000 + 0.5 * first, 5248000)
        stripe = (slice(0, 64), slice(first, first + width))
        expected = slow_refine(
            scene.initial[stripe], [image[stripe] for image in scene.images[:2]], make_model()
        )
        found = read_raster(folder / f"initial_prediction_{region}.tif")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_statistics_cover_all_regions_and_over_all_pairs_each_pixel_once_per_pair(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 64, 165)
    test(config_of(scene, datasets={"area_type": "train"}))
    everything = []
    for pair in ("Stereopair_0_1", "Stereopair_1_2"):
        folder = results_of(scene) / pair
        residuals = [read_raster(folder / f"initial_residuals_{i}.tif").ravel() for i in (0, 1)]
        known = np.concatenate(residuals).astype(float)
        known = known[known != -9999]
        everything.append(known)
        found = figures(folder / "initial_prediction_statistics.txt")
        assert found["pixels"] == known.size == 64 * 99 - 80
        assert found["area_km2"] == pytest.approx(known.size * 0.25e-6)
        assert found["classes"]["overall"]["refined"]["mae"] == pytest.approx(np.abs(known).mean())
        initial = (scene.initial - scene.reference)[:, [*range(33), *range(99, 165)]].astype(float)
        assert found["classes"]["overall"]["initial"]["mae"] == pytest.approx(np.nanmean(np.abs(initial)))
    union = np.concatenate(everything)
    found = figures(results_of(scene) / f"{OVER_ALL}.txt")
    refined = found["classes"]["overall"]["refined"]
    assert found["pixels"] == refined["count"] == union.size
    assert refined["mae"] == pytest.approx(np.abs(union).mean())
    assert refined["rmse"] == pytest.approx(np.sqrt(np.square(union).mean()))
    assert refined["median"] == pytest.approx(np.median(union))
    assert refined["nmad"] == pytest.approx(1.4826 * np.median(np.abs(union - np.median(union))))
    assert "initial" not in found["classes"]["overall"]


@pytest.mark.parametrize(
    ("dataset", "shape", "origin"),
    [
        ({"area_type": "val"}, (64, 32), (32, 64)),
        ({"area_type": "val", "test_stripe": 4}, (64, 32), (0, 0)),
        ({"area_type": "val", "crossval_training": True}, (64, 32), (32, 32)),
        ({"area_type": "test", "allocation_strategy": "entire", "test_stripe": None}, (64, 160), (0, 0)),
        ({"area_type": None, "allocation_strategy": None, "test_stripe": None}, (64, 160), (0, 0)),
    ],
    ids=str,
)
def test_each_kind_of_area_is_the_part_that_training_left_for_it(
    scene: MadeScene, dataset: dict[str, Any], shape: tuple[int, int], origin: tuple[int, int]
) -> None:
    test(config_of(scene, "geom", datasets=dataset))
    with rasterio.open(results_of(scene) / "initial_prediction.tif") as found:
        assert found.shape == shape
        assert upper_left(found) == (465000 + 0.5 * origin[1], 5248000)


def test_horizontal_stripes_are_cut_along_the_rows(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 160, 40)
    test(config_of(scene, "geom", datasets={"allocation_strategy": "5-crossval_horizontal"}))
    with rasterio.open(results_of(scene) / "initial_prediction.tif") as found:
        assert found.shape == (32, 40)
        assert upper_left(found) == (465000, 5248000 - 0.5 * 32)


# --- masks


def classes_of(scene: MadeScene, *masks: str) -> dict[str, Any]:
    """The classes of a run with these masks."""
    given = {f"mask_{name}": scene.path(f"mask_{name}.tif") for name in masks}
    test(config_of(scene, "geom", datasets=given))
    content: dict[str, Any] = figures(results_of(scene) / "initial_prediction_statistics.txt")["classes"]
    return content


def residuals_of(scene: MadeScene) -> np.ndarray:
    values = read_raster(results_of(scene) / "initial_residuals.tif").astype(float)
    values[values == -9999] = np.nan
    return values


def masks_of(scene: MadeScene) -> dict[str, np.ndarray]:
    names = ("building", "water", "forest", "ground_truth")
    return {name: read_raster(scene.folder / f"mask_{name}.tif")[STRIPE] == 1 for name in names}


@pytest.mark.parametrize(
    ("given", "last_class"),
    [
        (("building",), "terrain"),
        (("building", "water"), "terrain_without_water"),
        (("building", "forest"), "terrain_without_forest"),
        (("building", "water", "forest"), "terrain_without_water_forest"),
    ],
)
def test_masks_part_the_statistics_into_classes(
    scene: MadeScene, given: tuple[str, ...], last_class: str
) -> None:
    classes = classes_of(scene, *given)
    masks, errors = masks_of(scene), residuals_of(scene)
    cross = ndimage.generate_binary_structure(2, 1)
    building = ndimage.binary_dilation(ndimage.binary_dilation(masks["building"], cross), cross)
    rest = ~building
    for name in given[1:]:
        rest &= ~masks[name]
    expected = {
        "overall": np.ones_like(building),
        "building": building,
        "terrain": ~building,
        last_class: rest,
    }
    assert list(classes)[-1] == last_class
    for name, pixels in expected.items():
        inside = pixels & np.isfinite(errors)
        assert inside.sum() > 0
        assert classes[name]["refined"]["count"] == classes[name]["initial"]["count"] == inside.sum()
        assert classes[name]["refined"]["mae"] == pytest.approx(np.abs(errors[inside]).mean())
        before = (scene.initial - scene.reference)[STRIPE][inside].astype(float)
        assert classes[name]["initial"]["rmse"] == pytest.approx(np.sqrt(np.square(before).mean()))


@pytest.mark.parametrize("name", ["water", "forest"])
def test_water_or_forest_alone_part_nothing(scene: MadeScene, name: str) -> None:
    assert list(classes_of(scene, name)) == ["overall"]


def test_the_mask_of_the_reference_takes_pixels_out_of_everything(scene: MadeScene) -> None:
    classes = classes_of(scene, "ground_truth")
    valid = masks_of(scene)["ground_truth"]
    assert (~valid).sum() > 0
    np.testing.assert_array_equal(
        np.isfinite(residuals_of(scene)), valid & np.isfinite(scene.reference[STRIPE])
    )
    assert classes["overall"]["refined"]["count"] == (valid & np.isfinite(scene.reference[STRIPE])).sum()


def test_only_the_value_one_sets_a_mask(scene: MadeScene) -> None:
    values = np.zeros((64, 160), np.uint8)
    values[20, 40], values[40, 40] = 1, 2
    write_raster(scene.folder / "mask_building.tif", values)
    assert classes_of(scene, "building")["building"]["refined"]["count"] == 13


def test_buildings_beside_a_region_grow_into_it(scene: MadeScene) -> None:
    """The published code dilates the mask of the whole scene."""
    values = np.zeros((64, 160), np.uint8)
    values[20, 31], values[40, 65], values[63, 34] = 1, 1, 1  # left of it, two to the right of it, within
    write_raster(scene.folder / "mask_building.tif", values)
    classes = classes_of(scene, "building")
    assert classes["building"]["refined"]["count"] == 4 + 1 + 9
    assert classes["terrain"]["refined"]["count"] == 64 * 32 - 14


def test_a_class_without_pixels_prints_two_dashes(scene: MadeScene) -> None:
    write_raster(scene.folder / "mask_building.tif", np.zeros((64, 160), np.uint8))
    classes = classes_of(scene, "building")
    assert classes["building"]["refined"]["mae"] is None
    text = (results_of(scene) / "initial_prediction_statistics.txt").read_text()
    section = text.split("BUILDING PIXELS: REFINED DSM")[1].split("STATISTICS")[0]
    assert section.count("\t-- m\n") == 8
    assert "nan" not in text


def test_a_stripe_without_any_reference_is_refined_and_prints_dashes(scene: MadeScene) -> None:
    write_raster(scene.folder / "reference.tif", np.full((64, 160), -9999, np.float32), nodata=-9999)
    test(config_of(scene))
    assert figures(results_of(scene) / f"{OVER_ALL}.txt")["pixels"] == 0
    residuals = read_raster(results_of(scene) / "Stereopair_0_1" / "initial_residuals.tif")
    assert (residuals == -9999).all()


# --- statistics files


def test_the_json_beside_each_text_file_has_all_its_figures(scene: MadeScene) -> None:
    masks = {f"mask_{name}": scene.path(f"mask_{name}.tif") for name in ("building", "water", "forest")}
    test(config_of(scene, datasets=masks))
    texts = list(results_of(scene).rglob("*.txt"))
    assert len(texts) == 3
    for path in texts:
        classes = figures(path)["classes"]
        ordered = [
            classes[name][surface]
            for name in classes
            for surface in ("initial", "refined")
            if surface in classes[name]
        ]
        names = (
            "maximum",
            "minimum",
            "mae",
            "rmse",
            "absolute_median",
            "median",
            "nmad",
            "nmad_resdepth_2022",
        )
        expected = [f"{part[name]:.3f}" for part in ordered for name in names]
        assert re.findall(r"(-?\d+\.\d{3}) m$", path.read_text(), re.MULTILINE) == expected
        assert len(classes) == 5


def test_the_statistics_name_the_weights_as_the_configuration_does(scene: MadeScene) -> None:
    test(config_of(scene, "geom"))
    text = (results_of(scene) / "initial_prediction_statistics.txt").read_text()
    weights = scene.folder / "run" / "checkpoints" / "Model_best.pth"
    assert text.startswith(f"Model name:\tUNet\nModel weights:\t{weights}\n")


# --- several data sets, several runs


def test_an_image_of_the_list_that_no_pair_uses_may_be_missing(scene: MadeScene) -> None:
    """Nor does the page show it: the data set behind is refined, too."""
    (scene.folder / "pairs.txt").write_text("ortho3.tif, ortho2.tif\n")
    for name in ("ortho1.tif", "ortho4.tif"):
        (scene.folder / name).unlink()
    config = json.loads(config_of(scene, output={"report": True}).read_text())
    config["datasets"].append({**config["datasets"][0], "name": "second"})
    results = test(scene.write(config))
    assert [result.dataset for result in results] == ["small", "second"]
    assert list(verdicts_of(results)) == ["small", "second"]
    page = (results_of(scene) / "evaluation.html").read_text()
    shown = json.dumps(re.findall(r'"(ortho\d\.tif)"', page))
    assert "ortho2.tif" in shown
    assert "ortho3.tif" in shown
    assert "ortho1.tif" not in shown
    assert (results_of(scene, "second") / "evaluation.html").is_file()


def test_data_sets_without_a_name_are_numbered(scene: MadeScene) -> None:
    config = json.loads(config_of(scene, "geom").read_text())
    first = config["datasets"][0]
    del first["name"]
    config["datasets"] = [first, {**first, "name": "named"}, {**first, "test_stripe": 3}]
    results = test(scene.write(config))
    assert [result.dataset for result in results] == ["dataset_0", "named", "dataset_2"]
    assert {path.name for path in (scene.folder / "results").iterdir()} == {"dataset_0", "named", "dataset_2"}
    first_stripe, other = (
        read_raster(results_of(scene, name) / "initial_prediction.tif") for name in ("dataset_0", "dataset_2")
    )
    assert not np.array_equal(first_stripe, other)


def test_a_second_run_replaces_the_results_of_the_first(scene: MadeScene) -> None:
    config = config_of(scene)
    test(config)
    names = files_in(results_of(scene))
    before = {name: (results_of(scene) / name).read_bytes() for name in names}
    test(config)
    assert {name: (results_of(scene) / name).read_bytes() for name in files_in(results_of(scene))} == before
    text = (results_of(scene) / f"{OVER_ALL}.txt").read_text()
    assert text.count("Model name") == 1


@pytest.mark.parametrize("name", ["Stereopair_0_1/initial_prediction.tif", "evaluation.json", "config.json"])
def test_files_of_others_with_the_names_of_results_are_not_replaced(scene: MadeScene, name: str) -> None:
    config = config_of(scene)
    foreign = results_of(scene) / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(ResDepthError, match=f"{name}: exists already.*; move it away"):
        test(config)
    assert foreign.read_text() == "mine"
    assert [path for path in results_of(scene).rglob("*") if path.is_file()] == [foreign]


def test_the_complete_configuration_can_be_run_again(scene: MadeScene) -> None:
    test(config_of(scene))
    complete = json.loads((results_of(scene) / "config.json").read_text())
    assert complete["datasets"][0]["area_defn"] == {"x_extent": [[32, 63]], "y_extent": [[0, 63]]}
    assert complete["datasets"][0]["image_pairs"] == [[0, 1], [1, 2]]
    before = (results_of(scene) / "Stereopair_0_1" / "initial_prediction.tif").read_bytes()
    complete["output"]["directory"] = scene.path("again")
    test(scene.write(complete))
    again = scene.folder / "again" / "small" / "Stereopair_0_1" / "initial_prediction.tif"
    assert again.read_bytes() == before


def test_a_model_for_dsms_alone_sees_how_noisy_they_are(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, 128, 320)
    noisy = scene.initial + np.random.default_rng(0).normal(0, 0.3, scene.initial.shape).astype(np.float32)
    write_raster(tmp_path / "initial.tif", noisy)
    config = scene.test_config({"path": str(BUNDLED["dsm-alone"])}, general={"tile_size": 64})
    test(scene.write(config))
    with rasterio.open(results_of(scene) / "initial_prediction.tif") as dataset:
        found, left = dataset.read(1), round((dataset.transform.c - ORIGIN[0]) / GSD)
    part = Window(0, left, 128, found.shape[1])
    kinds = {"mode": "exact", "tile_size": 64, "region": part}
    np.testing.assert_allclose(found, refine(scene.path("initial.tif"), **kinds), atol=1e-3)
    quiet = refine(scene.path("initial.tif"), region=part, model=load_model("dsm-alone").for_noise(0))
    assert np.abs(found - quiet).max() > 0.01


def test_a_self_contained_model_gives_what_its_published_files_give(scene: MadeScene) -> None:
    test(config_of(scene))
    path = results_of(scene) / "Stereopair_0_1" / "initial_prediction.tif"
    before = path.read_bytes()
    save_model(make_model(), scene.folder / "model.safetensors")
    test(scene.write(scene.test_config({"path": scene.path("model.safetensors")})))
    assert path.read_bytes() == before
    text = path.with_name("initial_prediction_statistics.txt").read_text()
    assert f"Model weights:\t{scene.path('model.safetensors')}\n" in text


@pytest.mark.parametrize("general", [{"batch_size": 1}, {"batch_size": 5}, {"workers": 1}, {"workers": 99}])
def test_batches_and_threads_do_not_change_the_result(scene: MadeScene, general: dict[str, int]) -> None:
    threads = torch.get_num_threads()
    test(config_of(scene))
    path = results_of(scene) / "Stereopair_0_1" / "initial_prediction.tif"
    before = read_raster(path)
    test(config_of(scene, general=general))
    np.testing.assert_allclose(read_raster(path), before, atol=1e-4)
    assert torch.get_num_threads() == threads


# --- types of DSM


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint16", "float32"),
        ("int16", "float32"),
        ("int32", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
def test_results_have_the_type_of_the_dsm_but_are_never_rounded(
    scene: MadeScene, dtype: str, expected: str
) -> None:
    write_raster(scene.folder / "initial.tif", np.round(scene.initial).astype(dtype))
    test(config_of(scene, "geom"))
    with rasterio.open(results_of(scene) / "initial_prediction.tif") as found:
        assert found.dtypes == (expected,)
        values = found.read(1)
    expected_values = slow_refine(np.round(scene.initial)[STRIPE], [], make_model("geom", 0))
    np.testing.assert_allclose(values, expected_values, atol=1e-3)
    assert (values != values.astype(np.float32)).any() == (dtype == "float64")
    residuals = residuals_of(scene)
    assert (residuals < -0.01).any()
    assert np.abs(residuals - np.round(residuals)).max() > 0.1


def test_results_are_in_the_unit_of_the_dsm_and_residuals_in_metres(scene: MadeScene) -> None:
    config = config_of(scene, "geom")
    (before,) = test(config)
    heights, residuals = read_raster(results_of(scene) / "initial_prediction.tif"), residuals_of(scene)
    feet = (scene.initial / (1200 / 3937)).astype(np.float32)
    write_raster(scene.folder / "initial.tif", feet, crs="EPSG:32632+6360")
    (after,) = test(config)
    with rasterio.open(results_of(scene) / "initial_prediction.tif") as found:
        assert found.units == ("US survey foot",)
        np.testing.assert_allclose(found.read(1) * 1200 / 3937, heights, atol=2e-3)
    with rasterio.open(results_of(scene) / "initial_residuals.tif") as found:
        assert found.units == ("metre",)
        assert "foot" not in found.crs.to_wkt()
    np.testing.assert_allclose(residuals_of(scene), residuals, atol=2e-3)
    assert after.evaluation.refined["overall"].mae == pytest.approx(
        before.evaluation.refined["overall"].mae, abs=2e-3
    )


# --- from Python


def test_arrays_and_paths_give_what_the_configuration_gives(scene: MadeScene) -> None:
    entire = {"allocation_strategy": "entire", "area_type": None, "test_stripe": None}
    test(config_of(scene, datasets=entire))
    written = read_raster(results_of(scene) / "Stereopair_0_1" / "initial_prediction.tif")
    exact = {"mode": "exact", "precision": "fp32"}
    from_arrays = refine(scene.initial, scene.images[:2], make_model(), device="cpu", **exact)
    paths = [scene.path(name) for name in ("ortho1.tif", "ortho2.tif")]
    from_paths = refine(
        Path(scene.path("initial.tif")),
        paths,
        scene.folder / "run",
        tile_size=16,
        output=scene.folder / "x.tif",
        **exact,
    )
    np.testing.assert_array_equal(from_arrays, written)
    assert from_paths == [scene.folder / "x.tif"]
    np.testing.assert_array_equal(read_raster(scene.folder / "x.tif"), written)
    with rasterio.open(scene.folder / "x.tif") as file, rasterio.open(scene.path("initial.tif")) as dsm:
        assert (file.transform, file.crs, file.nodata) == (dsm.transform, dsm.crs, -9999)


def test_a_model_that_sees_no_dsm_refines_too(scene: MadeScene) -> None:
    model = make_model("stereo", 2)
    found = refine(scene.initial, scene.images[:2], model, mode="exact", precision="fp32")
    np.testing.assert_allclose(found, slow_refine(scene.initial, scene.images[:2], model), atol=1e-3)


def test_the_tile_of_the_training_is_the_default(scene: MadeScene) -> None:
    model = make_model()
    assert model.provenance["tile_size"] == 16
    default, other = (refine(scene.initial, scene.images[:2], model, tile_size=size) for size in (None, 32))
    np.testing.assert_array_equal(default, refine(scene.initial, scene.images[:2], model, tile_size=16))
    assert np.abs(default - other).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "stated"),
    [
        ({"images": []}, "images: found 0; this model takes 2"),
        ({"tile_size": 24}, "tile_size: found 24; must be a power of two from 16 to 2048"),
        ({"tile_size": 8}, "tile_size: found 8; .* from 16 to 2048"),
        ({"tile_size": 0}, "tile_size: found 0; .* from 16 to 2048"),
        ({"tile_size": 128, "mode": "exact"}, "dsm: 64 x 160 pixels are smaller than a tile"),
        ({"output": "x.tif"}, "output: an array has no georeference; give transform= and crs="),
        ({"dsm": "initial.tif"}, "either arrays or paths"),
        ({"dsm": np.zeros((64, 100), np.float32)}, r"images\[0\]: shape \(64, 160\) differs"),
        ({"dsm": np.zeros(64, np.float32)}, r"dsm: expected an array \(height, width\)"),
        ({"mode": "foo"}, "mode: found 'foo'; known: 'exact', 'seamless'"),
        ({"device": "gpu"}, "device: found 'gpu'"),
        ({"fuse": "max"}, "fuse: found 'max'; known: 'median', 'mean'"),
        ({"compression": "jpeg"}, "compression: found 'jpeg'"),
        ({"existing": "append"}, "existing: found 'append'"),
        ({"pairs": [0, 1]}, "pairs: found .*; give sets of indices"),
        ({"pairs": [(0, 2)]}, r"pairs: found \(0, 2\); this model takes 2 different indices below 2"),
        ({"pairs": [(0, 0)]}, "pairs: found .* different"),
        ({"pairs": []}, "pairs: there is none"),
        ({"pairs": "pairs.txt"}, "pairs: a list names image files"),
        ({"region": Window(0, 0, 65, 10)}, "region: .* is no part of the DSM"),
        ({"region": (500, 500, 600, 600)}, "no pixel of the raster lies in it"),
        ({"device": "cuda"}, "'cuda' is not available"),
    ],
    ids=str,
)
def test_what_cannot_be_refined_is_refused_by_name(
    scene: MadeScene, changes: dict[str, Any], stated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = {"dsm": scene.initial, "images": scene.images[:2], "model": make_model(), **changes}
    with pytest.raises(ResDepthError, match=stated):
        refine(**arguments)


def test_paths_on_different_grids_are_refused(scene: MadeScene) -> None:
    write_raster(scene.folder / "moved.tif", scene.images[1], origin=(465010.0, 5248000.0))
    with pytest.raises(InputProblems, match=r"moved\.tif.*origin"):
        refine(scene.path("initial.tif"), [scene.path("ortho1.tif"), scene.path("moved.tif")], make_model())


def test_an_output_that_cannot_be_written_is_stated(scene: MadeScene) -> None:
    paths = [scene.path(name) for name in ("ortho1.tif", "ortho2.tif")]
    with pytest.raises(ResDepthError, match=r"x\.tif: there is no folder .*absent"):
        refine(scene.path("initial.tif"), paths, make_model(), output=scene.folder / "absent" / "x.tif")


# --- evaluating from Python


def expected_figures(scene: MadeScene) -> Any:
    """What the configuration gives, with all masks, over the whole scene."""
    masks = {f"mask_{name}": scene.path(f"mask_{name}.tif") for name in MASKS}
    entire = {"allocation_strategy": "entire", "area_type": None, "test_stripe": None}
    test(config_of(scene, datasets={**entire, **masks}))
    return figures(results_of(scene) / "Stereopair_0_1" / "initial_prediction_statistics.txt")


def assert_same_figures(found: Evaluation, expected: Any) -> None:
    """The configuration evaluates heights before they are rounded to float32 for the file."""
    content = found.as_json()
    assert (content["pixels"], content["area_km2"]) == (expected["pixels"], expected["area_km2"])
    assert content["classes"].keys() >= expected["classes"].keys()
    for name, surfaces in expected["classes"].items():
        for surface in ("initial", "refined"):
            assert content["classes"][name][surface] == pytest.approx(surfaces[surface], abs=5e-5)


def test_evaluating_files_gives_the_figures_of_the_configuration(scene: MadeScene) -> None:
    expected = expected_figures(scene)
    prediction = results_of(scene) / "Stereopair_0_1" / "initial_prediction.tif"
    masks = {name: scene.path(f"mask_{name}.tif") for name in MASKS}
    found = evaluate(prediction, scene.path("reference.tif"), initial=scene.path("initial.tif"), masks=masks)
    assert isinstance(found, Evaluation)
    assert_same_figures(found, expected)


def test_evaluating_arrays_gives_the_figures_of_the_configuration(scene: MadeScene) -> None:
    expected = expected_figures(scene)
    prediction = read_raster(results_of(scene) / "Stereopair_0_1" / "initial_prediction.tif")
    masks = {name: read_raster(scene.folder / f"mask_{name}.tif") for name in MASKS}
    found = evaluate(prediction, scene.reference, initial=scene.initial, masks=masks, gsd=0.5)
    assert_same_figures(found, expected)
    as_bool = {name: mask == 1 for name, mask in masks.items()}
    again = evaluate(prediction, scene.reference, initial=scene.initial, masks=as_bool, gsd=0.5)
    assert again == found


def test_evaluating_needs_only_a_surface_and_a_reference() -> None:
    reference = np.zeros((4, 4), np.float32)
    refined = np.full((4, 4), 2, np.float32)
    refined[0, 0], refined[1, 1], reference[2, 2] = 50, np.nan, np.nan
    found = evaluate(refined, reference)
    assert (found.pixels, found.area_km2, found.initial) == (14, 14e-6, None)
    assert found.refined["overall"].maximum == 50
    assert evaluate(refined, reference, threshold=10).refined["overall"].maximum == 2
    assert evaluate(refined, reference, threshold=10).pixels == 13


@pytest.mark.parametrize(
    ("changes", "stated"),
    [
        ({"masks": {"water": np.ones((3, 4))}}, r"masks\['water'\]: shape \(3, 4\) differs"),
        ({"reference": np.ones((5, 4))}, r"reference: shape \(5, 4\) differs"),
        ({"reference": "reference.tif"}, "either arrays or paths"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused_by_name(changes: dict[str, Any], stated: str) -> None:
    with pytest.raises(ResDepthError, match=stated):
        evaluate(**{"refined": np.zeros((4, 4)), "reference": np.zeros((4, 4)), **changes})


@pytest.mark.parametrize("key", ["raster_gt", "mask_building"])
def test_an_earlier_prediction_as_an_input_is_not_overwritten(scene: MadeScene, key: str) -> None:
    path = config_of(scene)
    content = json.loads(path.read_text())
    for stripes in ("area_type", "allocation_strategy", "test_stripe"):
        content["datasets"][0].pop(stripes, None)
    path.write_text(json.dumps(content))
    test(path)
    earlier = next(results_of(scene).rglob("initial_prediction.tif"))
    before = earlier.read_bytes()
    linked = scene.folder / "linked.tif"
    linked.symlink_to(earlier)
    content["datasets"][0][key] = str(linked)
    path.write_text(json.dumps(content))
    with pytest.raises(ResDepthError, match=r"initial_prediction.tif: is an input \(.*linked.tif\)"):
        test(path)
    assert earlier.read_bytes() == before
