"""`resdepth evaluate` and `resdepth compare`: from rasters to a folder that explains how good they are."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from PIL import Image

from conftest import MadeScene, make_model, read_raster, write_raster
from resdepth import save_model, test
from resdepth.cli import main
from resdepth.report.page import unbroken


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def evaluated(scene: MadeScene, *options: Any, dsm: str = "initial.tif", output: str = "evaluated") -> Result:
    return command(
        "evaluate",
        scene.path(dsm),
        "--reference",
        scene.path("reference.tif"),
        "-o",
        scene.folder / output,
        *options,
    )


@pytest.fixture
def refined(scene: MadeScene) -> Path:
    """Half as wrong as the initial DSM."""
    half = np.where(np.isnan(scene.reference), scene.initial, (scene.initial + scene.reference) / 2)
    return write_raster(scene.folder / "refined.tif", half.astype(np.float32), nodata=-9999)


def test_a_folder_with_everything_comes_of_it(scene: MadeScene, refined: Path) -> None:
    masks = [f"--mask={name}={scene.path(f'mask_{name}.tif')}" for name in ("building", "water", "forest")]
    done = evaluated(scene, "--initial", scene.path("initial.tif"), *masks, dsm="refined.tif")
    assert done.exit_code == 0, done.output
    folder = scene.folder / "evaluated"
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {
        "evaluation.html", "evaluation.json", "evaluation.csv", "evaluation.md", "statistics_refined.txt",
        "errors_initial.tif", "errors_initial.qml", "errors_refined.tif", "errors_refined.qml",
        *(f"figures/{name}.png" for name in (
            "hillshade_initial", "hillshade_refined", "hillshade_reference", "errors_initial",
            "errors_refined", "distribution", "classes",
        )),
    }  # fmt: skip
    found = json.loads((folder / "evaluation.json").read_text())
    assert list(found["surfaces"]) == ["initial", "refined"]
    errors = (read_raster(refined) - scene.reference)[np.isfinite(scene.reference)].astype(np.float64)
    overall = found["surfaces"]["refined"]["classes"]["overall"]
    assert overall["statistics"]["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-6)
    assert overall["better"] > 0.5
    assert overall["worse"] == 0
    assert f"{np.abs(errors).mean():.2f}" in done.stdout
    assert "evaluation.html" in done.stdout


def test_the_rasters_of_errors_are_surface_minus_reference(scene: MadeScene) -> None:
    assert evaluated(scene, "--region", "vertical:1").exit_code == 0
    with rasterio.open(scene.folder / "evaluated" / "errors_initial.tif") as dataset:
        errors = dataset.read(1, masked=True).filled(np.nan)
        assert dataset.bounds.left == 465000 + 16
    np.testing.assert_array_equal(errors, (scene.initial - scene.reference)[:, 32:64])


def test_the_table_for_spreadsheets_has_a_row_for_each_surface_and_class(scene: MadeScene) -> None:
    evaluated(scene, "--mask", f"building={scene.path('mask_building.tif')}")
    rows = list(csv.DictReader((scene.folder / "evaluated" / "evaluation.csv").read_text().splitlines()))
    assert {row["class"] for row in rows} >= {"overall", "building", "terrain", "edge", "slope_1"}
    assert all(float(row["mae"]) > 0 for row in rows if int(row["count"]))
    assert all(row["mae"] == "" for row in rows if not int(row["count"]))


def test_styles_can_be_read_and_pictures_have_content(scene: MadeScene) -> None:
    evaluated(scene)
    folder = scene.folder / "evaluated"
    style = ET.parse(folder / "errors_initial.qml")
    values = [float(item.get("value", "nan")) for item in style.iter("item")]
    assert values == sorted(values)
    assert values[0] == -values[-1]
    for path in (folder / "figures").iterdir():
        assert np.asarray(Image.open(path).convert("L")).std() > 5, path


def test_two_surfaces_stand_side_by_side_by_their_names(scene: MadeScene, refined: Path) -> None:
    done = command(
        "evaluate", f"ours={refined}", scene.path("initial.tif"), "--reference", scene.path("reference.tif"),
        "-o", scene.folder / "evaluated", "--no-rasters",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| (\w+)", done.stdout, re.MULTILINE) == ["surface", "ours", "initial"] * 2
    assert not list((scene.folder / "evaluated").glob("errors_*.tif"))


def test_an_earlier_evaluation_is_not_overwritten_silently(scene: MadeScene) -> None:
    assert evaluated(scene).exit_code == 0
    again = evaluated(scene)
    assert again.exit_code == 2
    assert "exist already; add --overwrite" in again.output
    assert evaluated(scene, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "stated"),
    [
        (["none.tif"], "none.tif: no such file"),
        (["imagelist.txt"], "cannot be read as a raster"),
        (["far.tif"], "has no height where the reference DSM is known"),
        (["void.tif"], "has no height where the reference DSM is known"),
        (["other_crs.tif"], "EPSG:32633"),
        (["slanted.tif", "--reference", "slanted.tif"], "are not at right angles"),
        (["initial.tif", "initial.tif"], "another DSM is called 'initial'"),
        (["initial=reference.tif", "--initial", "initial.tif"], "another name"),
        (["initial.tif", "--threshold", "0.000001"], "above the threshold"),
        (["initial.tif", "--mask", "water"], "NAME=FILE"),
        (["initial.tif", "--mask", "water=none.tif"], "none.tif: no such file"),
        (["initial.tif", "--mask", "water=coded.tif"], "has the values 7"),
        (["initial.tif", "--mask", "ground_truth=zeros.tif"], "masked, everywhere"),
        (["initial.tif", "--region", "nowhere"], "give xmin,ymin,xmax,ymax"),
        (["initial.tif", "--region", "0,0,1,1"], "no pixel"),
        (["initial.tif", "--ground", "none.tif"], "none.tif"),
        (["initial.tif", "--threshold", "-1"], "not in the range"),
        (["initial.tif", "--threshold", "nan"], "must be a number above 0"),
        (["reference.tif"], "as the reference DSM"),
        (["a b=initial.tif", "a_b=initial.tif"], "files of one name"),
        (["initial.tif", "--mask", "overall=zeros.tif"], "is a class already"),
        (["initial.tif", "--mask", "slope_1=zeros.tif"], "is a class already"),
        (["thin.tif", "--reference", "thin.tif", "--region", "vertical:4"], "too small for a stripe"),
    ],
)
def test_bad_input_is_stated_and_nothing_is_left(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch, arguments: list[str], stated: str
) -> None:
    monkeypatch.chdir(scene.folder)
    shape = scene.reference.shape
    write_raster(Path("far.tif"), scene.initial, origin=(0, 0))
    write_raster(Path("void.tif"), np.full(shape, np.nan, np.float32))
    write_raster(Path("other_crs.tif"), scene.initial, crs="EPSG:32633")
    with rasterio.open(write_raster(Path("slanted.tif"), scene.initial), "r+") as file:
        file.transform = rasterio.Affine(0.5, 0.1, 465000, 0, -0.5, 5248000)
    write_raster(Path("thin.tif"), scene.initial[:, :3])
    write_raster(Path("coded.tif"), np.full(shape, 7, np.uint8))
    write_raster(Path("zeros.tif"), np.zeros(shape, np.uint8))
    done = command("evaluate", "--reference", "reference.tif", *arguments, "-o", "evaluated")
    assert done.exit_code == 2, done.output
    assert stated in " ".join(done.output.split())
    assert not list(Path().glob("evaluated/*"))


@pytest.mark.parametrize("name", ["errors_initial.tif.aux.xml", "evaluation.csv"])
def test_what_is_called_like_a_file_of_an_evaluation_is_not_replaced_silently(
    scene: MadeScene, name: str
) -> None:
    foreign = scene.folder / "evaluated" / name
    foreign.parent.mkdir()
    foreign.symlink_to("gone") if name.endswith("csv") else foreign.write_text("mine")
    refused = evaluated(scene)
    assert refused.exit_code == 2, refused.output
    assert name in refused.output
    assert "--overwrite" in refused.output
    assert [path.name for path in foreign.parent.iterdir()] == [name]
    assert evaluated(scene, "--overwrite").exit_code == 0


def test_a_failed_attempt_leaves_the_earlier_evaluation_whole(scene: MadeScene) -> None:
    assert evaluated(scene).exit_code == 0
    folder = scene.folder / "evaluated"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert evaluated(scene, "--overwrite", "--mask", "water=none.tif").exit_code == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_overwritten_evaluation_leaves_nothing_of_other_surfaces(scene: MadeScene, refined: Path) -> None:
    assert evaluated(scene).exit_code == 0
    assert evaluated(scene, "--overwrite", dsm="refined.tif").exit_code == 0
    left = [path.name for path in (scene.folder / "evaluated").rglob("*initial*")]
    assert left == []


def users_files(folder: Path) -> dict[Path, str]:
    """Files of one's own, whose names look like those of evaluations."""
    names = ("figures/my_chart.png", "errors_mine.tif", "errors_mine.qml", "statistics_2024.txt", "notes.md")
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"my {name}")
    return {folder / name: f"my {name}" for name in names}


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_folder_without_an_evaluation_loses_nothing(scene: MadeScene, options: list[str]) -> None:
    mine = users_files(scene.folder / "evaluated")
    done = evaluated(scene, *options)
    assert done.exit_code == 0, done.output
    assert {path: path.read_text() for path in mine if path.exists()} == mine


def test_an_overwritten_evaluation_leaves_the_files_of_others(scene: MadeScene, refined: Path) -> None:
    done = evaluated(scene, "--initial", scene.path("initial.tif"), dsm="ortho1.tif")
    assert done.exit_code == 0, done.output
    folder = scene.folder / "evaluated"
    mine = {**users_files(folder), folder / "statistics_initial.txt": "mine"}  # evaluations write none
    (folder / "statistics_initial.txt").write_text("mine")
    assert evaluated(scene, "--overwrite", "--no-rasters", dsm="refined.tif").exit_code == 0
    assert {path: path.read_text() for path in mine if path.exists()} == mine
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left - {str(path.relative_to(folder)) for path in mine} == {
        "evaluation.html", "evaluation.json", "evaluation.csv", "evaluation.md", "statistics_refined.txt",
        *(f"figures/{name}.png" for name in (
            "hillshade_refined", "hillshade_reference", "errors_refined", "distribution", "classes",
        )),
    }  # fmt: skip


def test_of_an_evaluation_that_cannot_be_read_only_the_json_goes(scene: MadeScene, refined: Path) -> None:
    assert evaluated(scene).exit_code == 0
    folder = scene.folder / "evaluated"
    (folder / "evaluation.json").write_text('{"format": "resdepth-evaluation 99"}')
    mine = users_files(folder)
    assert evaluated(scene, "--overwrite", dsm="refined.tif").exit_code == 0
    assert {path: path.read_text() for path in mine if path.exists()} == mine
    assert (folder / "errors_initial.tif").exists()
    assert list(json.loads((folder / "evaluation.json").read_text())["surfaces"]) == ["refined"]


@pytest.mark.parametrize(
    "name",
    [
        "evaluation.csv", "evaluation.html", "errors_initial.tif", "errors_initial.qml",
        "statistics_initial.txt", "figures/classes.png", "figures/hillshade_reference.png",
    ],
)  # fmt: skip
def test_a_file_of_ones_own_is_not_replaced_silently(scene: MadeScene, name: str) -> None:
    folder = scene.folder / "evaluated"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("mine")
    done = evaluated(scene)
    assert done.exit_code == 2
    assert Path(name).name in done.output
    assert "--overwrite" in done.output
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / name]
    assert (folder / name).read_text() == "mine"
    assert evaluated(scene, "--overwrite").exit_code == 0
    assert (folder / name).read_bytes() != b"mine"


def test_rasters_that_are_not_wished_for_may_be_there(scene: MadeScene) -> None:
    (scene.folder / "evaluated").mkdir()
    (scene.folder / "evaluated" / "errors_initial.tif").write_text("mine")
    assert evaluated(scene, "--no-rasters").exit_code == 0
    assert (scene.folder / "evaluated" / "errors_initial.tif").read_text() == "mine"


@pytest.mark.parametrize("broken", ["write_style", "write_text", "write_json"])
def test_an_earlier_evaluation_stays_whole_until_the_new_one_is(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    assert evaluated(scene).exit_code == 0
    folder = scene.folder / "evaluated"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (scene.folder / "initial.tif").write_bytes((scene.folder / "ortho1.tif").read_bytes())

    def break_off(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "a file")

    monkeypatch.setattr(f"resdepth.workflows.evaluate.{broken}", break_off)
    assert evaluated(scene, "--overwrite").exit_code == 2
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.undo()
    assert evaluated(scene, "--overwrite").exit_code == 0
    assert set(before) == {path for path in folder.rglob("*") if path.is_file()}
    assert (folder / "errors_initial.tif").read_bytes() != before[folder / "errors_initial.tif"]


def test_an_evaluation_that_fails_leaves_no_folder(scene: MadeScene) -> None:
    assert evaluated(scene, dsm="none.tif").exit_code == 2
    assert not (scene.folder / "evaluated").exists()


def test_polygons_that_miss_a_part_of_the_page_do_no_harm(scene: MadeScene) -> None:
    pytest.importorskip("pyogrio")
    west, north = 465000, 5248000
    house = [[west, north], [west + 5, north], [west + 5, north - 5], [west, north]]
    geojson = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}},
        "features": [
            {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [house]}}
        ],
    }
    (scene.folder / "houses.geojson").write_text(json.dumps(geojson))
    done = evaluated(scene, "--region", "vertical:4", "--mask", f"building={scene.path('houses.geojson')}")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_the_smallest_rasters_are_evaluated(scene: MadeScene, shape: tuple[int, int]) -> None:
    write_raster(scene.folder / "reference.tif", np.full(shape, 5, np.float32))
    write_raster(scene.folder / "small.tif", np.full(shape, 6, np.float32))
    done = evaluated(scene, dsm="small.tif")
    assert done.exit_code == 0, done.output


def test_an_undeclared_nodata_value_is_stated(scene: MadeScene, caplog: pytest.LogCaptureFixture) -> None:
    wrong = scene.initial.copy()
    wrong[:3] = -3.4e38
    write_raster(scene.folder / "wrong.tif", wrong)
    assert evaluated(scene, dsm="wrong.tif").exit_code == 0
    assert "4.7 % are -3.39999995e+38; all others" in caplog.text
    assert "gdal_edit.py -a_nodata -3.39999995e+38 wrong.tif" in caplog.text
    found = json.loads((scene.folder / "evaluated" / "evaluation.json").read_text())["surfaces"]["wrong"]
    assert found["classes"]["overall"]["statistics"]["maximum"] < 10
    assert found["classes"]["overall"]["coverage"] < 0.96

    def refuse(name: str) -> float:
        raise ValueError(name)

    json.loads((scene.folder / "evaluated" / "evaluation.json").read_text(), parse_constant=refuse)


def test_large_rasters_are_shown_from_coarse_copies(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    monkeypatch.setattr("resdepth.report.page.COPY_PX", 79)  # rasters of 160 pixels are large
    monkeypatch.setattr("resdepth.workflows.evaluate.PLOT_PX", 40)
    mask = f"building={scene.path('mask_building.tif')}"
    done = evaluated(scene, "--initial", scene.path("initial.tif"), "--mask", mask, dsm="refined.tif")
    assert done.exit_code == 0, done.output


def test_constant_rasters_have_figures(scene: MadeScene) -> None:
    write_raster(scene.folder / "reference.tif", np.full(scene.reference.shape, 5, np.float32))
    write_raster(scene.folder / "flat.tif", np.full(scene.reference.shape, 7, np.float32))
    done = evaluated(scene, dsm="flat.tif")
    assert done.exit_code == 0, done.output
    overall = json.loads((scene.folder / "evaluated" / "evaluation.json").read_text())["surfaces"]["flat"]
    assert overall["classes"]["overall"]["statistics"]["bias"] == 2
    assert overall["shift"]["dx_m"] is None
    assert overall["shift"]["dz_m"] == -2


def test_runs_are_compared_on_one_page(scene: MadeScene, refined: Path) -> None:
    initial = ["--initial", scene.path("initial.tif")]
    evaluated(scene, *initial, dsm="refined.tif", output="one")
    evaluated(scene, *initial, dsm="ortho1.tif", output="other")
    page = scene.folder / "compared.html"
    done = command("compare", scene.folder / "one", scene.folder / "other" / "evaluation.json", "-o", page)
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| (\w+)", done.stdout, re.MULTILINE) == ["surface", "initial", "one", "other"]
    assert "same reference DSM" in page.read_text()
    again = command("compare", scene.folder / "one", "-o", page)
    assert again.exit_code == 2
    assert "--overwrite" in again.output


def test_runs_that_cannot_be_compared_are_stated(scene: MadeScene, caplog: pytest.LogCaptureFixture) -> None:
    evaluated(scene, output="all")
    evaluated(scene, "--region", "vertical:1", output="stripe")
    done = command("compare", scene.folder / "all", scene.folder / "stripe", "-o", scene.folder / "c.html")
    assert done.exit_code == 0, done.output
    assert "Region differs" in caplog.text
    assert "Region differs" in (scene.folder / "c.html").read_text()


def test_runs_of_earlier_versions_are_compared_by_their_words(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    for name, options in {"new": (), "old": (), "centred": ("--threshold", "2")}.items():
        evaluated(scene, *options, "--mask", f"building={scene.path('mask_building.tif')}", output=name)
    for name in ("old", "centred"):
        path = scene.folder / name / "evaluation.json"
        content = json.loads(path.read_text())
        del content["conditions"]
        path.write_text(json.dumps(content))
    compared(scene, scene.folder / "new", scene.folder / "old")
    assert "differs" not in caplog.text
    compared(scene, scene.folder / "new", scene.folder / "centred")
    assert "Errors differs" in caplog.text


def spoilt(value: Any) -> Any:
    """All numbers of a JSON value, beyond what a float holds."""
    if isinstance(value, dict):
        return {name: spoilt(one) for name, one in value.items()}
    if isinstance(value, list):
        return [spoilt(one) for one in value]
    return 10**400 if type(value) in (int, float) else value


def test_numbers_beyond_a_float_in_an_earlier_evaluation_are_refused(scene: MadeScene) -> None:
    evaluated(scene, "--no-rasters")
    path = scene.folder / "evaluated" / "evaluation.json"
    path.write_text(json.dumps(spoilt(json.loads(path.read_text()))))
    done = command("compare", scene.folder / "evaluated", "-o", scene.folder / "c.html")
    assert done.exit_code == 2
    assert re.search(r"evaluation\.json: \w+.*a whole number of \d+ bits", done.output)
    assert evaluated(scene, "--no-rasters", "--overwrite").exit_code == 0


def region_of(folder: Path) -> str:
    return str(json.loads((folder / "evaluation.json").read_text())["facts"]["Region"])


def of_test(scene: MadeScene, name: str, **dataset: Any) -> Path:
    """The folder of a `test` of a data set without its images."""
    if not scene.folder.joinpath("model.safetensors").exists():
        save_model(make_model("geom", 0), scene.folder / "model.safetensors")
    config = scene.test_config({"path": scene.path("model.safetensors")}, datasets={"name": name, **dataset})
    for key in ("path_image_list", "path_pairlist"):
        del config["datasets"][0][key]
    test(scene.write(config))
    return scene.folder / "results" / name


def compared(scene: MadeScene, *runs: Path) -> Result:
    done = command("compare", *runs, "-o", scene.folder / "c.html", "--overwrite")
    assert done.exit_code == 0, done.output
    return done


def test_folds_of_a_cross_validation_are_different_regions(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    folds = [of_test(scene, f"fold_{stripe}", test_stripe=stripe) for stripe in (1, 2)]
    assert region_of(folds[0]) == "rows 0 to 63 and columns 32 to 63"
    done = compared(scene, *folds)
    assert "Region differs" in caplog.text
    rows = re.findall(r"^\| (\w+(?:: \w+)?)", done.stdout, re.MULTILINE)
    assert rows == ["surface", "fold_1: initial", "fold_1", "fold_2: initial", "fold_2"]


def test_regions_of_several_windows_name_each(scene: MadeScene) -> None:
    folder = of_test(scene, "apart", area_type="train", test_stripe=1)
    assert region_of(folder) == "rows 0 to 63 and columns 0 to 31; rows 0 to 63 and columns 96 to 159"


def test_a_stripe_is_the_same_region_for_evaluate_and_test(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    stripe = of_test(scene, "stripe")
    runs = {"vertical:1": "by_stripe", "465016,5247968,465032,5248000": "by_corners"}
    for region, output in runs.items():
        assert evaluated(scene, "--region", region, output=output).exit_code == 0
    assert region_of(scene.folder / "by_stripe").startswith("stripe vertical:1 of 5")
    assert region_of(scene.folder / "by_corners").startswith("465016 5247968 465032 5248000")
    compared(scene, stripe, *(scene.folder / output for output in runs.values()))
    assert "differs" not in caplog.text


def test_all_of_the_reference_is_the_same_region_for_evaluate_and_test(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    whole = of_test(scene, "whole", allocation_strategy="entire")
    assert region_of(whole) == "everywhere"
    assert evaluated(scene, output="all").exit_code == 0
    corners = evaluated(scene, "--region", "465000,5247968,465080,5248000", output="corners")
    assert corners.exit_code == 0, corners.output
    compared(scene, whole, scene.folder / "all", scene.folder / "corners")
    assert "differs" not in caplog.text


@pytest.mark.parametrize("run", ["nothing", "reference.tif", "empty"])
def test_what_is_no_run_cannot_be_compared(scene: MadeScene, run: str) -> None:
    (scene.folder / "empty").mkdir()
    done = command("compare", scene.path(run), "-o", scene.folder / "c.html")
    assert done.exit_code == 2
    assert run in done.output
    assert not (scene.folder / "c.html").exists()


def test_the_test_command_makes_the_page_and_runs_of_it_can_be_compared(scene: MadeScene) -> None:
    save_model(make_model(), scene.folder / "model.safetensors")
    config = scene.test_config({"path": scene.path("model.safetensors")}, output={"report": True})
    test(scene.write(config))
    folder = scene.folder / "results" / "small"
    page = (folder / "evaluation.html").read_text()
    assert "Stereopair_0_1" in page
    assert "all pairs" in page
    verdict = json.loads((folder / "evaluation.json").read_text())["verdict"]
    assert verdict["surface"] in {"Stereopair_0_1", "Stereopair_1_2"}
    assert "the best of 2 DSMs" in verdict["sentence"], "all pairs together are no third"
    assert unbroken(verdict["sentence"]) in page
    assert (folder / "Stereopair_0_1" / "initial_prediction.qml").is_file()
    done = command("compare", folder, "-o", scene.folder / "c.html")
    assert done.exit_code == 0, done.output
    assert "Stereopair_1_2" in done.stdout


def test_an_evaluation_never_replaces_what_it_reads(scene: MadeScene) -> None:
    folder = scene.folder / "results"
    folder.mkdir()
    reference = write_raster(folder / "errors_a.tif", scene.reference)
    before = reference.read_bytes()
    given = ["evaluate", f"a={scene.path('initial.tif')}", "--reference", str(reference), "-o", str(folder)]
    done = CliRunner().invoke(main, [*given, "--overwrite"])
    assert done.exit_code == 2
    assert "errors_a.tif: is an input" in done.stderr
    assert reference.read_bytes() == before
