"""What Python users give and get: rasters of any library, configurations as mappings, results as values."""

import subprocess
import sys
from typing import Any

import dask.array
import matplotlib.pyplot as plt
import numpy as np
import pytest
import rasterio
import rioxarray
import torch
import xdem
from click.testing import CliRunner

import resdepth
from conftest import MadeScene, make_model, read_raster, write_raster
from resdepth.cli import main
from resdepth.errors import ResDepthError
from resdepth.geo.objects import kind_of
from resdepth.models.model import save_model
from resdepth.training.run_folder import ORIGINAL_CONFIG_FILE

SMALL = {"training_settings": {"n_epochs": 1}, "general": {"workers": 0, "device": "cpu"}}


def test_a_mapping_trains_tests_and_checks_like_a_file(scene: MadeScene) -> None:
    given = scene.train_config(**SMALL)
    given["datasets"][0]["raster_in"] = scene.folder / "initial.tif"  # a Path, as people have them
    assert [str(one) for one in resdepth.check(given)] == [
        str(one).partition("config.json: ")[2]
        for one in resdepth.check(scene.write(scene.train_config(**SMALL)))
    ]
    run = resdepth.train(given)
    save_model(resdepth.load_model(run), scene.folder / "m.safetensors")
    tested = scene.test_config({"path": scene.folder / "m.safetensors"})
    results = resdepth.test(tested)
    assert results[0].evaluation is not None
    assert '"raster_in"' in (scene.folder / "results" / "small" / ORIGINAL_CONFIG_FILE).read_text()


def test_relative_paths_of_a_mapping_lead_from_the_working_directory(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scene.folder)
    given = scene.train_config(datasets={"raster_in": "initial.tif"})
    assert not [one for one in resdepth.check(given) if one.severity == "error"]
    given["datasets"][0]["raster_in"] = "missing.tif"
    (problem,) = [one for one in resdepth.check(given) if one.severity == "error"]
    assert problem.where == "datasets[0].raster_in"
    assert str(scene.folder / "missing.tif") in problem.message


@pytest.mark.parametrize("given", [{"datasets": object()}, {"output": float("nan")}])
def test_a_mapping_that_is_no_json_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(resdepth.ResDepthError, match="config: cannot be written as JSON"):
        resdepth.train(given)


def test_a_mapping_of_the_other_kind_is_refused(scene: MadeScene) -> None:
    with pytest.raises(resdepth.ResDepthError, match="config: is a configuration for `resdepth train`"):
        resdepth.test(scene.train_config())


def test_messages_name_arguments_in_python_and_options_on_the_command_line(scene: MadeScene) -> None:
    save_model(make_model(), scene.folder / "m.safetensors")
    names = ["initial.tif", "ortho1.tif", "ortho2.tif", "ortho3.tif"]
    dsm, *images = [scene.path(name) for name in names]
    with pytest.raises(resdepth.ResDepthError, match=r"name the sets to use with pairs=$"):
        resdepth.refine(dsm, images, scene.path("m.safetensors"))
    done = CliRunner().invoke(main, ["refine", dsm, *images, "-m", scene.path("m.safetensors")])
    assert done.exit_code == 2
    assert "name the sets to use with --pairs\n" in done.stderr


def test_a_model_is_short_to_print() -> None:
    assert repr(make_model()) == "Model(unnamed: UNet of geom-stereo, 1,729 weights)"
    assert repr(resdepth.load_model("fusion")).startswith("Model(fusion: FusionUNet of ")
    assert len(repr(resdepth.load_model("town-stereo"))) < 100


# --- Rasters of other libraries


def rasters(scene: MadeScene, kind: str) -> tuple[Any, list[Any]]:
    """DSM and two ortho-images."""
    opened = {
        "rasterio": rasterio.open,
        "xarray": lambda path: rioxarray.open_rasterio(path, masked=True),
        "xdem": xdem.DEM,
        "torch": lambda path: torch.from_numpy(read_raster(path).astype(np.float32)),
        "dask": lambda path: dask.array.from_array(read_raster(path)),
    }
    dsm, *images = [opened[kind](scene.folder / f"{name}.tif") for name in ("initial", "ortho1", "ortho2")]
    return dsm, images


def values_of(raster: Any) -> np.ndarray:
    if kind_of(raster) == "rasterio":
        return raster.read(1, masked=True).filled(np.nan)
    if kind_of(raster) == "geoutils":
        return np.ma.filled(raster.data, np.nan)
    return np.asarray(raster).squeeze()


@pytest.mark.parametrize("kind", ["rasterio", "xarray", "xdem", "torch", "dask"])
def test_refine_gives_back_the_kind_that_it_got(scene: MadeScene, kind: str) -> None:
    dsm, images = rasters(scene, kind)
    refined = make_model().refine(dsm, images)
    assert kind_of(refined) == kind_of(dsm)
    expected = resdepth.refine(scene.initial, scene.images[:2], make_model())
    np.testing.assert_array_equal(values_of(refined), expected)
    evaluated = resdepth.evaluate(
        refined, scene.reference if kind in ("torch", "dask") else scene.path("reference.tif"), gsd=None
    )
    assert evaluated.refined["overall"].mae == pytest.approx(
        resdepth.evaluate(expected, scene.reference).refined["overall"].mae
    )


def test_a_part_of_a_raster_lies_where_it_was(scene: MadeScene) -> None:
    dsm, images = rasters(scene, "xarray")
    part = resdepth.refine(dsm, images, make_model(), region=(465010, 5247980, 465050, 5248000))
    assert part.shape == (1, 40, 80)
    assert part.rio.bounds() == (465010, 5247980, 465050, 5248000)
    heights, errors = resdepth.refine(dsm, model="fusion", uncertainty=True)
    assert heights.dims == errors.dims == dsm.dims


def test_without_images_another_model_is_taken(scene: MadeScene) -> None:
    dsm = scene.path("initial.tif")
    refined = resdepth.refine(dsm)
    np.testing.assert_array_equal(refined, resdepth.refine(dsm, model="dsm-alone"))
    assert np.abs(refined - resdepth.refine(dsm, model="fusion")).max() > 0.01
    with pytest.raises(ResDepthError, match="images: found 2; the model dsm-alone takes none"):
        resdepth.refine(dsm, scene.images[:2], "dsm-alone")


def test_heights_in_feet_come_back_in_feet(scene: MadeScene) -> None:
    path = write_raster(scene.folder / "feet.tif", (scene.initial / 0.3048).astype(np.float32))
    with rasterio.open(path, "r+") as file:
        file.units = ("foot",)
    with rasterio.open(path) as file:
        refined = resdepth.refine(file, scene.images[:2], make_model())
        assert refined.units == ("foot",)
        assert abs(np.nanmean(refined.read(1) - scene.initial / 0.3048)) < 3
    assert abs(np.mean(resdepth.refine(path, scene_paths(scene), make_model()) - scene.initial)) < 1


def scene_paths(scene: MadeScene) -> list[str]:
    return [scene.path("ortho1.tif"), scene.path("ortho2.tif")]


def test_all_that_is_known_comes_as_one_value(scene: MadeScene, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, float, float | None]] = []
    scene.initial[:, :20] = -9999
    given = (scene.initial, scene.images[:2], make_model())
    full = resdepth.refine(*given, full=True, force=True, progress=lambda *one: told.append(one))
    assert isinstance(full, resdepth.Refinement)
    assert full.dsm is full.heights
    assert full.error is None
    assert told[-1][0] == "refining"
    assert told[-1][1] == told[-1][2]
    assert "give nodata=-9999" in full.warnings[0]
    assert [one for one in caplog.messages if "give nodata=-9999" in one] == [full.warnings[0]]
    assert "refined with UNet: 64 x 160 pixels" in full.summary()
    assert f"warning: {full.warnings[0]}" in full.summary()
    again = resdepth.refine(*given, full=True, nodata=-9999)
    assert again.warnings == ()
    assert again.provenance[0, 0] == 0
    assert np.isnan(again.initial[0, 0])
    dataset = full.to_xarray()
    assert set(dataset) == {"dsm", "initial", "provenance"}
    assert repr(full) == "Refinement(64 x 160 pixels of 1 m, with UNet, 2 warnings)"


def test_plots_are_figures(scene: MadeScene) -> None:
    full = resdepth.refine(scene.initial, scene.images[:2], make_model(), full=True)
    evaluated = resdepth.evaluate(full.dsm, scene.reference, initial=scene.initial)
    for figure, axes in ((full.plot(), 4), (evaluated.plot(), 3)):
        assert len(figure.axes) == axes
        figure.canvas.draw()
        plt.close(figure)


def test_files_are_read_when_they_are_asked_for(scene: MadeScene) -> None:
    output = scene.folder / "refined.tif"
    full = resdepth.refine(scene.path("initial.tif"), model="fusion", full=True, output=output, force=True)
    assert full.paths == (output,)
    assert full.error is not None
    np.testing.assert_array_equal(full.heights, read_raster(output))
    np.testing.assert_array_equal(full.initial, scene.initial)
    with pytest.raises(resdepth.ResDepthError, match="exist already"):
        resdepth.refine(scene.path("initial.tif"), output=output, mode="exact", tile_size=64, force=True)


def test_arrays_that_lie_somewhere_go_to_files_and_beside_files(scene: MadeScene) -> None:
    place = {"transform": (0.5, 0, 465000, 0, -0.5, 5248000), "crs": 32632}
    output = scene.folder / "refined.tif"
    (path,) = resdepth.refine(scene.initial, scene_paths(scene), make_model(), output=output, **place)
    with rasterio.open(path) as file:
        assert file.crs.to_epsg() == 32632
        assert file.bounds.left == 465000
    (path,) = resdepth.refine(
        scene.initial, scene_paths(scene), make_model(), output=output, overwrite=True, **place
    )
    evaluated = resdepth.evaluate(
        scene.initial, scene.path("reference.tif"), masks={"building": scene.reference > 404}, **place
    )
    assert evaluated.refined["building"].count > 100


def test_what_the_command_evaluates_python_evaluates(scene: MadeScene) -> None:
    shifted = np.roll(scene.initial, 2, axis=1)
    own = np.zeros(scene.initial.shape, bool)
    own[:20] = True
    folder = scene.folder / "evaluated"
    given = (shifted, scene.reference)
    evaluated = resdepth.evaluate(
        *given, initial=scene.initial, masks={"vineyard": own}, gsd=0.5, align=True, baselines=True,
        output=folder, title="Mine",
    )  # fmt: skip
    assert (folder / "evaluation.html").is_file()
    assert evaluated.folder == folder
    assert evaluated.outcome is not None
    assert evaluated.outcome.surfaces["refined"].shift.dx_m == pytest.approx(-1, abs=0.3)
    assert evaluated.refined["vineyard"].count
    assert evaluated.baselines is not None
    assert "| vineyard | refined |" in evaluated.summary()
    assert float(evaluated.to_xarray()["mae"].sel(surface="initial", class_name="overall")) == pytest.approx(
        evaluated.initial["overall"].mae  # type: ignore[index]
    )
    with pytest.raises(resdepth.ResDepthError, match="add overwrite=True"):
        resdepth.evaluate(*given, output=folder)
    resdepth.evaluate(*given, output=folder, overwrite=True)
    assert repr(evaluated).startswith("Evaluation(MAE ")


def test_prepare_keeps_what_is_no_file(scene: MadeScene) -> None:
    told: list[str] = []
    output = scene.folder / "prepared"
    given = {
        "dsm": xdem.DEM(scene.path("initial.tif")),
        "reference": rasterio.open(scene.path("reference.tif")),
        "images": [rioxarray.open_rasterio(path) for path in scene_paths(scene)],
        "masks": {"building": scene.path("mask_building.tif")},
    }
    made = resdepth.prepare(output, given, progress=lambda title, *_: told.append(title))
    kept = sorted(path.name for path in (scene.folder / "prepared_given").iterdir())
    assert kept == ["dsm.tif", "images_0.tif", "images_1.tif"]
    assert made.record["request"]["dsm"] == str(scene.folder / "prepared_given" / "dsm.tif")
    assert made.record["request"]["reference"] == scene.path("reference.tif")
    assert told
    dataset = made.to_xarray()
    assert {"dsm", "reference", "mask_building"} <= set(dataset)
    assert len(made.images) == 2
    assert made.reference is not None
    assert "to refine: resdepth refine" in made.summary()
    again = resdepth.prepare(scene.folder / "plain", {**given, "dsm": scene.path("initial.tif")})
    np.testing.assert_array_equal(read_raster(again.dsm), read_raster(made.dsm))
    with pytest.raises(resdepth.ResDepthError, match=r"^dsm: an array has no georeference; give a path"):
        resdepth.prepare(scene.folder / "other", dsm=scene.initial)


def test_training_and_testing_report_progress(scene: MadeScene) -> None:
    told: list[str] = []
    run = resdepth.train(scene.train_config(**SMALL), progress=lambda title, *_: told.append(title))
    assert told
    save_model(resdepth.load_model(run), scene.folder / "m.safetensors")
    told.clear()
    resdepth.test(
        scene.test_config({"path": scene.path("m.safetensors")}),
        progress=lambda title, *_: told.append(title),
    )
    assert "refining" in told


def test_progress_that_raises_ends_the_work(scene: MadeScene) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, resdepth.ResDepthError)):
        resdepth.refine(scene.initial, scene.images[:2], make_model(), progress=stop)


def test_warnings_reach_those_who_show_none(scene: MadeScene) -> None:
    """Without handlers, Python's last resort shows them, as ever."""
    code = (
        "import resdepth, numpy as np; a = np.zeros((64, 64)); a[:9] = -9999\n"
        "resdepth.evaluate(a, a * 0, gsd=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("are -9999") == 1
