"""`resdepth doctor`: each fault is found where it was planted, and none where there is none."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from scipy import ndimage

from conftest import make_model, read_raster, write_raster
from resdepth import doctor, save_model
from resdepth.cli import main
from resdepth.diagnosis.findings import TITLES, Diagnosis, Finding, write_findings_page
from resdepth.errors import ResDepthError
from resdepth.simulate.plan import SimulateConfig, SurfaceSettings, TownSettings
from resdepth.simulate.simulation import simulate
from resdepth.stereo.ortho import read_rpc

SIDE, VIEWS = 256, 3


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene without faults, as `simulate` writes it."""
    folder = tmp_path_factory.mktemp("doctor") / "scene"
    town = TownSettings(style="suburb", size_px=SIDE)
    simulate(
        "town", folder, SimulateConfig(seed=6, town=town, reference=SurfaceSettings(gsd_m=0.5)), workers=0
    )
    return folder


@dataclass
class Data:
    """Its rasters in a folder of their own, to be spoiled.

    Attributes:
        folder: holds initial.tif, reference.tif, ortho1..3.tif.
        initial, reference: heights.
        images: grey values.
    """

    folder: Path
    initial: np.ndarray
    reference: np.ndarray
    images: list[np.ndarray]

    def write(self, name: str, values: np.ndarray, **options: Any) -> Path:
        """A raster in the place of another."""
        path = self.folder / f"{name}.tif"
        path.unlink(missing_ok=True)
        return write_raster(path, values, **options)

    def without_images(self) -> None:
        """Where they do not matter it is quicker."""
        for path in self.folder.glob("ortho*.tif"):
            path.unlink()

    def found(self, **options: Any) -> Diagnosis:
        return doctor(self.folder, **options)


@pytest.fixture
def data(simulated: Path, tmp_path: Path) -> Data:
    heights = [read_raster(simulated / "data" / "dsm" / f"{name}.tif") for name in ("initial", "reference")]
    paths = sorted((simulated / "data" / "satellite_views").glob("*.tif"))[:VIEWS]
    made = Data(tmp_path / "data", *heights, [read_raster(path) for path in paths])
    made.write("initial", made.initial)
    made.write("reference", made.reference)
    for number, image in enumerate(made.images, 1):
        made.write(f"ortho{number}", image, nodata=0)
    return made


# Without faults


def test_nothing_is_found_in_a_scene_without_faults(simulated: Path) -> None:
    found = doctor(simulated)
    assert [one for one in found.findings if one.severity != "note"] == []
    assert found.left_out == ()
    assert "initial.tif (256 x 256 pixels of 0.5 m" in found.looked_at[0]
    done = command("doctor", simulated)
    assert done.exit_code == 0, done.output
    assert "looked at" in done.stdout


def test_nothing_is_found_among_rasters_without_faults(data: Data) -> None:
    assert data.found().findings == ()
    assert data.found().worst is None
    assert "nothing found that will hurt" in data.found().as_text()


# Planted faults


def moved(values: np.ndarray, down: float, right: float) -> np.ndarray:
    result: np.ndarray = ndimage.shift(values.astype(np.float32), (down, right), order=1, mode="nearest")
    return result.astype(values.dtype)


def plant_shift(data: Data) -> None:
    data.write("initial", moved(data.initial, 2, 2))


def plant_far_shift(data: Data) -> None:
    data.write("initial", np.roll(data.initial, (25, -20), (0, 1)))


def plant_upside_down(data: Data) -> None:
    data.write("initial", 300 - data.initial)


def plant_half_pixel_shift(data: Data) -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, data.reference.shape).astype(np.float32)
    data.write("initial", moved(data.reference, 0.5, -0.5) + noise)


def plant_offset(data: Data) -> None:
    data.write("initial", data.initial - 1.5)


def plant_datum(data: Data) -> None:
    data.write("initial", data.initial + 44)


def plant_tilt(data: Data) -> None:
    data.write("initial", data.initial + 0.005 * np.arange(SIDE, dtype=np.float32))


def plant_feet(data: Data) -> None:
    data.write("initial", data.initial / np.float32(0.3048))


def plant_voids(data: Data) -> None:
    holes = data.initial.copy()
    holes[20:60, 20:60] = np.nan
    data.write("initial", holes)


def plant_undeclared(data: Data) -> None:
    holes = data.initial.copy()
    holes[20:60, 20:60] = -9999
    data.write("initial", holes)


def plant_blunders(data: Data) -> None:
    wrong = data.initial.copy()
    wrong[10:200:20, 15:200:25] += 90
    data.write("initial", wrong)


def plant_same_surface(data: Data) -> None:
    data.write("reference", data.initial)


def plant_void_reference(data: Data) -> None:
    data.write("reference", np.full_like(data.reference, np.nan))


def plant_changes(data: Data) -> None:
    built = data.reference.copy()
    for row, col in ((30, 40), (120, 150), (180, 60)):
        built[row : row + 40, col : col + 40] = built[row : row + 40, col : col + 40].max() + 9
    data.write("reference", built)


def plant_coarse(data: Data) -> None:
    for name, values in (("initial", data.initial), ("reference", data.reference)):
        data.write(name, values, gsd=4.0)
    for number, image in enumerate(data.images, 1):
        data.write(f"ortho{number}", image, nodata=0, gsd=4.0)


def plant_small(data: Data) -> None:
    for name, values in (("initial", data.initial), ("reference", data.reference)):
        data.write(name, values[:96])
    for number, image in enumerate(data.images, 1):
        data.write(f"ortho{number}", image[:96], nodata=0)


def plant_degrees(data: Data) -> None:
    for name, values in (("initial", data.initial), ("reference", data.reference)):
        data.write(name, values, gsd=5e-6, origin=(8.5, 47.4), crs="EPSG:4326")
    for number, image in enumerate(data.images, 1):
        data.write(f"ortho{number}", image, nodata=0, gsd=5e-6, origin=(8.5, 47.4), crs="EPSG:4326")


def plant_other_grid(data: Data) -> None:
    data.write("reference", data.reference[:200], gsd=0.7)


def plant_half_pixel_grid(data: Data) -> None:
    data.write("reference", data.reference, origin=(465000.25, 5247999.75))


def plant_elsewhere(data: Data) -> None:
    data.write("reference", data.reference, origin=(475000.0, 5248000.0))


def plant_other_zone(data: Data) -> None:
    data.write("reference", data.reference, crs="EPSG:32633", origin=(12000.0, 5270000.0), gsd=20.0)


def plant_foreign_zone(data: Data) -> None:
    data.write("reference", data.reference, crs="EPSG:32740")


def plant_empty(data: Data) -> None:
    data.write("ortho2", np.zeros_like(data.images[1]), nodata=0)


def plant_flat(data: Data) -> None:
    data.write("ortho2", np.full_like(data.images[1], 300))


def plant_noise(data: Data) -> None:
    data.write("ortho2", np.random.default_rng(1).integers(1, 2000, (SIDE, SIDE)).astype(np.uint16))


def plant_little(data: Data) -> None:
    part = data.images[1].copy()
    part[:, 90:] = 0
    data.write("ortho2", part, nodata=0)


def plant_no_crs(data: Data) -> None:
    data.write("initial", data.initial, crs=None)


def plant_nothing_but_voids(data: Data) -> None:
    data.write("initial", np.full_like(data.initial, np.nan))


def plant_largest_float(data: Data) -> None:
    holes = data.initial.copy()
    holes[20:60, 20:60] = np.finfo(np.float32).max
    data.write("initial", holes)


def plant_saturated(data: Data) -> None:
    data.write("ortho2", np.minimum(data.images[1], np.percentile(data.images[1], 90).astype(np.uint16)))


def plant_black(data: Data) -> None:
    dark = data.images[1].copy()
    dark[:, :40] = 0
    data.write("ortho2", dark)


def plant_steps(data: Data) -> None:
    high = int(data.images[1].max())
    data.write("ortho2", (data.images[1].astype(int) * 12 // (high + 1) * 20 + 20).astype(np.uint8))


def plant_copy(data: Data) -> None:
    data.write("ortho2", data.images[0], nodata=0)


def plant_surface(data: Data) -> None:
    data.write("ortho2", data.reference)


def plant_other_image(data: Data) -> None:
    data.write("ortho2", data.images[1][::-1, ::-1], nodata=0)


def plant_image_shift(data: Data) -> None:
    data.write("ortho2", moved(data.images[1], 1.0, -1.5), nodata=0)


def plant_images_beside(data: Data) -> None:
    for number, image in enumerate(data.images, 1):
        data.write(f"ortho{number}", np.roll(image, (9, -6), (0, 1)), nodata=0)


def plant_old_reference(data: Data) -> None:
    for name, day in (("reference", "2015-06-01"), ("ortho1", "20230204"), ("ortho2", "2023:02:04 08:00:00")):
        with rasterio.open(data.folder / f"{name}.tif", "r+") as dataset:
            dataset.update_tags(ACQUISITION_DATE=day)


def plant_damage(data: Data) -> None:
    path = data.folder / "ortho2.tif"
    path.write_bytes(path.read_bytes()[:3000])


PLANTED: dict[str, tuple[Callable[[Data], None], str, str]] = {
    "shift": (plant_shift, "warning", "south-east"),
    "shift by far": (plant_far_shift, "fault", "to the south-west of the reference DSM"),
    "unlike_surfaces": (plant_upside_down, "fault", "do not show the same surface"),
    "half_pixel_shift": (plant_half_pixel_shift, "warning", "half a pixel both ways"),
    "vertical_offset": (plant_offset, "warning", "below the reference DSM"),
    "vertical_datum": (plant_datum, "fault", "above the reference DSM"),
    "tilt": (plant_tilt, "warning", "towards the east"),
    "units": (plant_feet, "fault", "initial.tif seem to be in feet"),
    "voids": (plant_voids, "note", "of the initial DSM are void"),
    "undeclared_voids": (plant_undeclared, "fault", "are -9999, all others from"),
    "implausible_heights": (plant_blunders, "warning", "stand out by more than 60 m"),
    "same_surface": (plant_same_surface, "fault", "have the same heights"),
    "no_common_heights": (plant_void_reference, "fault", "Nowhere do both"),
    "changes": (plant_changes, "note", "5 places"),
    "pixel_size": (plant_coarse, "note", "pixels of 4 m"),
    "size": (plant_small, "note", "96 x 256 pixels; tiles have 256 x 256"),
    "degrees": (plant_degrees, "fault", "counts in degrees"),
    "grid": (plant_other_grid, "fault", "pixel size (0.7, -0.7)"),
    "half_pixel_grid": (plant_half_pixel_grid, "fault", "+0.5 pixels down and +0.5 to the right"),
    "no_overlap": (plant_elsewhere, "fault", "do not overlap"),
    "no_overlap in another CRS": (plant_foreign_zone, "fault", "do not overlap"),
    "reference_system": (plant_other_zone, "fault", "CRS EPSG:32633 instead of EPSG:32632"),
    "empty_image": (plant_empty, "fault", "ortho2.tif shows nothing"),
    "flat_image": (plant_flat, "fault", "from 300 to 300"),
    "noise_image": (plant_noise, "fault", "Neighbouring pixels of ortho2.tif"),
    "part_of_area": (plant_little, "warning", "ortho2.tif shows 35 % of the area"),
    "no_reference_system": (plant_no_crs, "note", "initial.tif states no CRS"),
    "voids alone": (plant_nothing_but_voids, "fault", "100 % of the initial DSM are void"),
    "undeclared_voids of another number": (plant_largest_float, "fault", "3.4028"),
    "saturated_image": (plant_saturated, "warning", "have its highest value"),
    "black_image": (plant_black, "warning", "are 0, which no nodata value declares void"),
    "few_grey_levels": (plant_steps, "warning", "grey values: what it shows is cut into steps"),
    "duplicated_image": (plant_copy, "fault", "ortho1.tif and ortho2.tif show the same image"),
    "surface_as_image": (plant_surface, "fault", "ortho2.tif is no image"),
    "images_do_not_match": (
        plant_other_image,
        "fault",
        "ortho2.tif does not match any of the other 2 images",
    ),
    "image_shift": (plant_image_shift, "warning", "pixels beside the other images: -0.7"),
    "image_beside_surface": (plant_images_beside, "warning", "to the south-west of those of the reference"),
    "dates": (plant_old_reference, "warning", "from 2015-06-01, 7.7 years before"),
    "raster": (plant_damage, "fault", "ortho2.tif"),
}


OF_IMAGES = re.compile("image|grey|dates|raster|part|size")


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(data: Data, name: str) -> None:
    plant, severity, words = PLANTED[name]
    plant(data)
    if not OF_IMAGES.search(name):
        data.without_images()
    diagnosis = data.found()
    found = diagnosis.of(name.partition(" ")[0])
    assert found, diagnosis.as_text()
    assert found[0].severity == severity
    assert words in found[0].text, found[0].text
    assert found[0].remedy or found[0].command or found[0].kind == "raster"
    assert f"{severity}: {found[0].title} - {found[0].about}" in diagnosis.as_text()


def test_faults_end_with_code_2_and_warnings_with_0(data: Data) -> None:
    data.without_images()
    plant_offset(data)
    done = command("doctor", data.folder)
    assert done.exit_code == 0
    assert "warning: Vertical offset - initial.tif and reference.tif" in done.stdout
    plant_datum(data)
    done = command("doctor", data.folder)
    assert done.exit_code == 2
    assert "fault: Vertical datum - initial.tif and reference.tif" in done.stdout
    assert done.stderr == ""


def test_figures_have_their_direction(data: Data) -> None:
    plant_shift(data)
    (shift,) = data.found().of("shift")
    assert shift.figures["east_m"] == pytest.approx(1.0, abs=0.25)  # the initial DSM has errors of its own
    assert shift.figures["north_m"] == pytest.approx(-1.0, abs=0.25)
    assert shift.command.startswith("resdepth prepare --dsm ")
    plant_image_shift(data)
    (image,) = data.found().of("image_shift")
    assert image.figures["east_m"] == pytest.approx(-0.75, abs=0.1)
    assert image.figures["north_m"] == pytest.approx(-0.5, abs=0.1)


def test_the_command_of_a_finding_mends_it(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data.folder.with_name("names with blanks")
    data.folder.rename(folder)
    data.folder = folder
    data.without_images()
    monkeypatch.chdir(folder)
    tilt = 0.01 * np.arange(SIDE, dtype=np.float32)[:, None]
    data.write("initial", moved(data.initial, 2, -2) + tilt - 3)
    found = data.found()
    assert {"shift", "tilt", "vertical_offset"} <= {one.kind for one in found.findings}
    program, *words = shlex.split(found.of("tilt")[0].command)
    assert program == "resdepth"
    done = command(*words)
    assert done.exit_code == 0, done.output
    left = {one.kind for one in doctor("prepared").findings}
    assert left.isdisjoint({"shift", "tilt", "vertical_offset"}), left


def test_a_bias_as_large_as_the_geoid_is_high_names_the_datum(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resdepth.diagnosis.alignment._geoid_height", lambda *_: 44.6)
    data.without_images()
    plant_datum(data)
    (found,) = data.found().of("vertical_datum")
    assert "EGM96) lies +44.6 m" in found.text
    assert "the initial DSM seems to count from the ellipsoid" in found.text
    monkeypatch.setattr("resdepth.diagnosis.alignment._geoid_height", lambda *_: 20.0)
    assert data.found().of("vertical_datum") == ()
    assert data.found().of("vertical_offset")[0].severity == "fault"


def test_a_model_is_compared_with_what_it_is_for(data: Data, tmp_path: Path) -> None:
    model = make_model()
    foreign = {**model.provenance, "datasets": [{"name": "a", "gsd_m": 0.1}]}
    save_model(
        type(model)(model.architecture, model.weights, model.normalization, foreign),
        tmp_path / "m.safetensors",
    )
    data.write("ortho1", (data.images[0].astype(np.uint16) + 20000), nodata=0)
    found = data.found(model=tmp_path / "m.safetensors")
    assert "trained with 0.1 m" in found.of("pixel_size")[0].text
    assert found.of("pixel_size")[0].severity == "warning"
    assert found.of("grey_values")[0].about == "ortho1.tif"


def test_raw_images_are_placed_by_their_rpcs(simulated: Path, data: Data) -> None:
    raw = sorted((simulated / "data" / "satellite_views" / "raw").glob("*.tif"))[0]
    town = simulated / "data" / "dsm" / "initial.tif"
    assert doctor(town, [raw]).findings == ()
    assert read_rpc(raw).scales[0] > 0
    with rasterio.open(town) as dataset:
        left, top = dataset.transform.c, dataset.transform.f
    there = data.write("far", data.initial, origin=(left + 60000, top))
    (found,) = doctor(there, [raw]).of("raw_elsewhere")
    assert found.severity == "fault"
    beside = data.write("beside", data.initial, origin=(left + 100, top))
    assert doctor(beside, [raw]).of("raw_image")[0].severity == "note"


def test_problems_of_a_configuration_are_findings(simulated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    shutil.copytree(simulated, folder)
    path = folder / "configs" / "config_train.json"
    config = json.loads(path.read_text())
    config["model"]["depht"] = 3
    config["training_settings"]["tile_size"] = 128
    path.write_text(json.dumps(config))
    found = doctor(path)
    assert "depht" in found.of("configuration")[0].about + found.of("configuration")[0].text
    assert found.of("size")[0].text.startswith("A fifth of it, a stripe (vertical),")
    assert found.of("size")[0].severity == "fault"


def test_voids_stop_a_training(simulated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    shutil.copytree(simulated, folder)
    with rasterio.open(folder / "data" / "dsm" / "initial.tif", "r+") as dataset:
        heights = dataset.read(1)
        heights[:9, :9] = np.nan
        dataset.write(heights, 1)
    assert doctor(folder).of("voids")[0].severity == "fault"


def test_a_run_of_a_pipeline_is_looked_at(data: Data) -> None:
    out = data.folder / "out"
    write_raster(out / "dsm.tif", data.initial)
    (out / "tiles.txt").write_text("")
    found = doctor(out)
    assert found.of("pipeline")[0].text.startswith("dsm.tif states no nodata value")


def test_every_kind_of_finding_is_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert [kind for kind in TITLES if f"`{kind}`" not in page] == []


# What is written


def test_a_page_is_written_and_programs_are_told(data: Data) -> None:
    plant_shift(data)
    plant_saturated(data)
    page = data.folder / "doctor.html"
    done = command("doctor", data.folder, "--html", page, "--json")
    assert done.exit_code == 0, done.output
    stated = json.loads(done.stdout)
    assert stated["worst"] == "warning"
    kinds = [one["kind"] for one in stated["findings"]]
    assert {"shift", "saturated_image"} <= set(kinds) <= set(TITLES)
    html = page.read_text()
    assert "<script" not in html
    assert "Horizontal shift" in html
    assert html.count("data:image/png;base64,") >= 2
    again = command("doctor", data.folder, "--html", page)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert command("doctor", data.folder, "--html", page, "--overwrite").exit_code == 0


def test_a_page_shows_names_as_text(tmp_path: Path) -> None:
    finding = Finding("voids", "note", "<b>a.tif", "1 % & more.", command="rio info '<b>a.tif'")
    write_findings_page(tmp_path / "page.html", Diagnosis("<i>", (finding,)))
    html = (tmp_path / "page.html").read_text()
    assert "<b>" not in html
    assert "&lt;b&gt;a.tif" in html


# Misuse


def misuses(data: Data) -> dict[str, tuple[list[Any], str]]:
    initial, empty, notes = data.folder / "initial.tif", data.folder / "empty", data.folder / "notes.txt"
    empty.mkdir()
    notes.write_text("heights follow")
    (data.folder / "list.json").write_text("[1, 2]")
    two = data.folder / "two"
    for name in ("dsm_a.tif", "dsm_b.tif"):
        write_raster(two / name, data.initial)
    return {
        "nothing there": ([data.folder / "nowhere"], "no such file or folder"),
        "no raster": ([notes], "cannot be read as a raster"),
        "an empty folder": ([empty], "no run of a known stereo pipeline"),
        "several DSMs": ([two], "which is the initial DSM: dsm_a.tif, dsm_b.tif?"),
        "images of a folder": ([data.folder, data.folder / "ortho1.tif"], "names its own"),
        "a reference of a folder": ([data.folder, "--reference", initial], "names its own"),
        "no image": ([initial, data.folder / "ortho9.tif"], "ortho9.tif: no such file"),
        "no reference": ([initial, "--reference", data.folder / "none.tif"], "none.tif: no such file"),
        "no configuration": ([data.folder / "list.json"], "expected an object"),
        "no model": ([initial, "--model", data.folder / "none.safetensors"], "none.safetensors"),
        "a page over an input": ([initial, "--html", initial, "--overwrite"], "initial.tif"),
        "a URL": (["https://example.org/dsm.tif"], "is a URL"),
    }


def test_misuse_is_refused_in_words(data: Data) -> None:
    for name, (arguments, words) in misuses(data).items():
        done = command("doctor", *arguments)
        assert done.exit_code == 2, name
        assert words in " ".join(done.output.split()), (name, done.output)
        assert "Traceback" not in done.output
        assert isinstance(done.exception, SystemExit), name


def test_a_folder_of_raw_images_alone_is_to_be_matched(simulated: Path, tmp_path: Path) -> None:
    raw = sorted((simulated / "data" / "satellite_views" / "raw").glob("*.tif"))[0]
    shutil.copy(raw, tmp_path / "img_01.tif")
    with pytest.raises(ResDepthError, match="holds raw images and no DSM; make one: resdepth match"):
        doctor(tmp_path)
