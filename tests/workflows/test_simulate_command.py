"""`resdepth simulate` and what people may do wrong with it: exit code 2, the place named, nothing written."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from conftest import write_raster
from resdepth.cli import main

SMALL_TOWN = {
    "town": {"size_px": 160, "style": "suburb"},
    "reference": {"gsd_m": 0.5},
    "matching": {"pairs": 1},
}


def run(*arguments: str | Path):
    return CliRunner().invoke(main, ["simulate", *map(str, arguments)])


def test_a_town_is_simulated_and_shown_also_where_a_mistake_was_made_before(tmp_path: Path) -> None:
    plain = write_raster(tmp_path / "plain.tif", np.zeros((40, 40), dtype=np.float32), crs=None)
    assert run(plain, "-o", tmp_path / "scene").exit_code == 2
    config = tmp_path / "scene.json"
    config.write_text(json.dumps(SMALL_TOWN))
    done = run("town", "-o", tmp_path / "scene", "--config", config, "--seed", "4", "--workers", "0")
    assert done.exit_code == 0, done.output
    assert "initial - reference" in done.output
    assert f"to look at: {tmp_path / 'scene' / 'scene.html'}" in done.output
    record = json.loads((tmp_path / "scene" / "scene.json").read_text())
    assert record["seed"] == 4
    assert record["source"] == {"kind": "town", "style": "suburb"}
    page = (tmp_path / "scene" / "scene.html").read_text()
    captions = (
        "Reference DSM",
        "Initial DSM minus reference DSM",
        "Shadows on date 1",
        "Ortho-image date1a (date 1)",
    )
    for caption in captions:
        assert f"<figcaption>{caption}</figcaption>" in page


@pytest.mark.parametrize(
    ("content", "stated"),
    [
        ({"sead": 3}, "sead: unknown key; did you mean 'seed'?"),
        ({"town": {"style": "oldtown"}}, 'town.style: found "oldtown"; should be one of'),
        ({"town": {"size_px": 10}}, "town.size_px: found 10"),
        ({"reference": {"extent": [1, 2, 3]}}, "reference.extent"),
        ({"reference": {"extent": [1, 2, "a", 4]}}, 'reference.extent[2]: found "a"'),
        ({"reference": {"gsd_m": 0}}, "reference.gsd_m: found 0"),
        ({"dates": [{"sun_azimuth_deg": 100}]}, "dates[0].sun_elevation_deg: missing"),
        (
            {"dates": [{"sun_azimuth_deg": 100, "sun_elevation_deg": 5}]},
            "dates[0].sun_elevation_deg: found 5",
        ),
        ({"views": [{"name": "a/b", "date": 0, "azimuth_deg": 1, "incidence_deg": 1}]}, "views[0].name"),
        ({"sensor": {"pointing_px": -1}}, "sensor.pointing_px: found -1"),
        ({"matching": {"block_px": 4}}, "matching.block_px: found 4; give an odd number"),
        ({"texture": "no.tif"}, "no.tif"),
        ({"sensor": 3, "matching": "x"}, "2 problems"),
    ],
)
def test_wrong_configurations_are_stated(content: dict[str, object], stated: str, tmp_path: Path) -> None:
    config = tmp_path / "scene.json"
    config.write_text(json.dumps(content))
    done = run("town", "-o", tmp_path / "scene", "--config", config)
    assert done.exit_code == 2, done.output
    assert stated in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "scene").exists()


@pytest.mark.parametrize(
    ("arguments", "stated"),
    [
        (["nowhere.tif"], "nowhere.tif: cannot be read"),
        (["."], ".: cannot be read"),
        (["notes.txt"], "notes.txt"),
        (["degrees.tif"], "degrees"),
        (["plain.tif"], "names no CRS"),
        (["town", "--config", "nowhere.json"], "nowhere.json"),
        (["town", "--config", "notes.txt"], "not valid JSON"),
        (["town", "--size", "5"], "town.size_px: found 5"),
        (["town", "--gsd", "-1"], "reference.gsd_m: found -1"),
        (["town", "--style", "baroque"], 'town.style: found "baroque"'),
        (["town", "--seed", "-3"], "--seed"),
        (["town", "--workers", "1000"], "--workers"),
    ],
)
def test_wrong_arguments_are_stated(
    arguments: list[str], stated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("no configuration, no raster")
    heights = np.zeros((40, 40), dtype=np.float32)
    write_raster(Path("degrees.tif"), heights, crs="EPSG:4326", gsd=1e-5, origin=(8, 47))
    write_raster(Path("plain.tif"), heights, crs=None)
    done = run(*arguments, "-o", "scene")
    assert done.exit_code == 2, done.output
    assert stated in done.output
    assert "Traceback" not in done.output
    assert not Path("scene/scene.json").exists()


def test_an_output_that_is_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    done = run("town", "-o", tmp_path / "file")
    assert done.exit_code == 2
    assert (tmp_path / "file").read_text() == "dear"


def test_the_earlier_name_of_the_reference_surface_is_taken(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"truth": {"gsd_m": -1}}')
    done = run("town", "-o", tmp_path / "scene", "--config", tmp_path / "old.json")
    assert done.exit_code == 2
    assert "reference.gsd_m: found -1" in done.output
