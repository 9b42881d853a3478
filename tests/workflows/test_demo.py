"""The demonstration: a town, refined with the bundled model."""

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from conftest import make_scene, read_raster
from resdepth.cli import main
from resdepth.errors import InputProblems, ResDepthError
from resdepth.models.pretrained import TOWN_STEREO
from resdepth.models.published import load_model
from resdepth.options import AnyStyle
from resdepth.refinement.compatibility import Unsuitable
from resdepth.runtime.atomic import atomic_path
from resdepth.simulate.town.layout import STYLES
from resdepth.workflows import demo
from resdepth.workflows.check import check
from resdepth.workflows.demo import run_demo
from resdepth.workflows.test import test as refine_again


@pytest.fixture(scope="module")
def small() -> "pytest.MonkeyPatch":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SIZE_PX", 256)
        yield patch


@pytest.fixture(scope="module")
def demonstration(small: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    run_demo(folder, seed=3, style="old-town")
    return folder


def test_the_town_gets_better(demonstration: Path) -> None:
    reference = read_raster(demonstration / "data" / "dsm" / "reference.tif")
    initial = read_raster(demonstration / "data" / "dsm" / "initial.tif")
    (prediction,) = (demonstration / "results").glob("*/*/initial_prediction.tif")
    before, after = (float(np.abs(of - reference).mean()) for of in (initial, read_raster(prediction)))
    assert after < 0.75 * before


def test_the_folder_is_laid_out_like_that_of_the_authors(demonstration: Path) -> None:
    for name in (
        "data/dsm",
        "data/image_selection",
        "data/mask",
        "data/satellite_views",
        "models",
        "configs",
    ):
        assert (demonstration / name).is_dir(), name
    results, expected = (
        sorted(path.relative_to(demonstration / name) for path in (demonstration / name).rglob("*"))
        for name in ("results", "results_expected")
    )
    assert results == expected
    text = (demonstration / "demo.html").read_text()
    assert 'class="verdict is-better"' in text
    assert "Refined DSM minus reference DSM" in text


def test_the_folder_can_move_and_be_refined_again(demonstration: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(demonstration, moved)
    for name in ("config_simple.json", "config_test.json", "config_train.json"):
        assert [one for one in check(moved / "configs" / name) if one.severity == "error"] == [], name


def contents_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def stop_in_the_end(folder: Path) -> None:
    """As if it had been killed before its page was written."""
    (folder / "demo.html").unlink()
    record = json.loads((folder / "demo.json").read_text())
    (folder / "demo.json").write_text(json.dumps(record | {"files": {}}))


def test_a_stopped_demonstration_resumes_without_simulating_again(
    demonstration: Path, tmp_path: Path, small: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "simulate", lambda *_, **__: pytest.fail("simulated again"))
    folder = copied(demonstration, tmp_path)
    stop_in_the_end(folder)
    run_demo(folder, seed=3, style="old-town")
    assert contents_of(folder).keys() == contents_of(demonstration).keys()


def test_a_demonstration_is_not_replaced_unless_asked(demonstration: Path) -> None:
    before = contents_of(demonstration)
    for seed in (3, 4):
        with pytest.raises(
            ResDepthError, match="demo: exists already; add overwrite=True, or choose another name"
        ):
            run_demo(demonstration, seed=seed, style="old-town")
    assert contents_of(demonstration) == before


def copied(demonstration: Path, folder: Path) -> Path:
    shutil.copytree(demonstration, folder / "demo")
    return folder / "demo"


class Stopped(Exception):
    """Raised instead of simulating: the folder was taken."""


@pytest.fixture
def simulates_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Stopped

    monkeypatch.setattr(demo, "simulate", stop)


@pytest.mark.parametrize(
    "name",
    [
        "logs/2026-03-01_09-30/model.safetensors",
        "logs/tensorboard/events.out.tfevents.1",
        "configs/config_mine.json",
        "models/mine/model.safetensors",
        "results/demo/Stereopair_0_1/initial_prediction.tif",
        "results/ResDepth-stereo/figures/paper.png",
        "results/refined.tif",
        "data/image_selection/pairlist_mine.txt",
        "data/satellite_views/mine.tif",
    ],
)
def test_what_somebody_added_to_a_demonstration_is_not_removed(
    demonstration: Path, tmp_path: Path, simulates_not: None, name: str
) -> None:
    folder = copied(demonstration, tmp_path)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("weeks of work")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ResDepthError, match=rf"{name}.*--to"):
        run_demo(folder, overwrite=True)
    assert sorted(folder.rglob("*")) == before
    assert (folder / name).read_text() == "weeks of work"


def test_a_demonstration_that_was_refined_again_and_looked_at_can_be_replaced(
    demonstration: Path, tmp_path: Path, simulates_not: None
) -> None:
    folder = copied(demonstration, tmp_path)
    refine_again(folder / "configs" / "config_simple.json")
    (prediction,) = folder.glob("results/*/*/initial_prediction.tif")
    prediction.with_name("initial_prediction.tif.aux.xml").write_text("what GDAL found out")
    with atomic_path(folder / "scratch") as unfinished:
        unfinished.touch()
    (folder / "scratch").rename(folder / "data" / "dsm" / unfinished.name)  # as a killed process leaves it
    with pytest.raises(Stopped):
        run_demo(folder, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["demo.json"]


def test_an_interrupted_demonstration_can_be_replaced(
    demonstration: Path, tmp_path: Path, simulates_not: None
) -> None:
    folder = copied(demonstration, tmp_path)
    stop_in_the_end(folder)
    (folder / "scene.json").unlink()
    shutil.rmtree(folder / "results_expected")
    (folder / "unfinished" / "reference").mkdir(parents=True)
    (folder / "unfinished" / "reference" / "cells.tif").write_text("half of a scene")
    with pytest.raises(Stopped):
        run_demo(folder, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["demo.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_changed_file_or_a_link_in_a_demonstration_is_not_removed(
    demonstration: Path, tmp_path: Path, simulates_not: None, *, overwrite: bool
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "initial_prediction.tif").write_text("weeks of work")
    for number, name in enumerate(("configs/config_simple.json", "results_expected", "data/mine")):
        folder = copied(demonstration, tmp_path / f"{number}")
        if name.endswith(".json"):
            (folder / name).write_text("{}")
        else:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).symlink_to(elsewhere)
        before = contents_of(folder)
        with pytest.raises(ResDepthError, match=name if overwrite else "exists already"):
            run_demo(folder, seed=3, style="old-town", overwrite=overwrite)
        assert contents_of(folder) == before
    assert (elsewhere / "initial_prediction.tif").read_text() == "weeks of work"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_scene_that_no_demonstration_made_is_left_alone(
    demonstration: Path, tmp_path: Path, simulates_not: None, *, overwrite: bool
) -> None:
    folder = copied(demonstration, tmp_path)
    (folder / "demo.json").unlink()
    (folder / "configs" / "config_simple.json").write_text("{}")
    before = contents_of(folder)
    with pytest.raises(ResDepthError, match="holds no demonstration; choose another folder with --to"):
        run_demo(folder, seed=3, style="old-town", overwrite=overwrite)
    assert contents_of(folder) == before


def test_a_demonstration_is_not_made_from_what_it_would_replace(demonstration: Path, tmp_path: Path) -> None:
    folder = copied(demonstration, tmp_path)
    before = contents_of(folder)
    with pytest.raises(ResDepthError, match="is an input"):
        run_demo(folder, data=folder, overwrite=True)
    assert contents_of(folder) == before


@pytest.mark.parametrize("pairs", ["ortho1.tif, ortho2.tif,\n", "\n\northo1.tif, ortho2.tif\n"])
def test_data_of_ones_own_are_found_by_the_authors_names(tmp_path: Path, pairs: str) -> None:
    scene = make_scene(tmp_path / "own", 160, 192)
    (scene.folder / "pair.txt").write_text(pairs)
    data = tmp_path / "own" / "data"
    named = {
        "dsm/DSM_Zurich_initial.tif": "initial.tif",
        "dsm/DSM_Zurich_ground_truth.tif": "reference.tif",
        "image_selection/imagelist.txt": "imagelist.txt",
        "image_selection/pairlist_simple.txt": "pair.txt",
    }
    for name, path in named.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scene.folder / path, data / name)
    images = "".join(
        f"{scene.folder / line}\n" for line in (scene.folder / "imagelist.txt").read_text().split()
    )
    (data / "image_selection" / "imagelist.txt").write_text(images)
    before = sorted(path for path in (tmp_path / "own").rglob("*"))
    with pytest.raises(Unsuitable, match=r"pixels of 0[.]5 m, the model was trained with"):
        run_demo(tmp_path / "shown", data=tmp_path / "own")
    assert not (tmp_path / "shown").exists()
    done = run_demo(tmp_path / "shown", data=tmp_path / "own", force=True)
    assert "Not to be trusted" in done.page.read_text()
    assert done.page.exists()
    assert done.results[0].evaluation is not None
    for name in ("ortho1.tif", "ortho2.tif"):
        assert f"Ortho-image {name}" in done.page.read_text()
    assert sorted(path for path in (tmp_path / "own").rglob("*")) == before
    config = json.loads((tmp_path / "shown" / "configs" / "config_simple.json").read_text())
    assert config["datasets"][0]["raster_in"] == str(data / "dsm" / "DSM_Zurich_initial.tif")


def test_what_is_missing_in_data_of_ones_own_is_stated(tmp_path: Path) -> None:
    with pytest.raises(InputProblems) as caught:
        run_demo(tmp_path / "shown", data=tmp_path)
    stated = "\n".join(str(problem) for problem in caught.value.problems)
    assert "the initial DSM is expected here" in stated
    assert "the list of the ortho-images" in stated
    assert "the list of image pairs" in stated
    assert not (tmp_path / "shown").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, *, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(ResDepthError, match=r"holds no demonstration; .*--to"):
        run_demo(tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_command_knows_every_style() -> None:
    (option,) = (one for one in main.commands["demo"].params if one.name == "style")
    assert tuple(option.type.choices) == get_args(AnyStyle) == ("any", *STYLES)


def test_the_model_that_comes_along_is_small_and_tells_where_it_comes_from() -> None:
    assert TOWN_STEREO.stat().st_size <= 10_000_000
    model = load_model(TOWN_STEREO)
    assert model.architecture.inputs.n_views == 2
    assert model.provenance["tile_size"] == 256
    assert "/" not in json.dumps(model.provenance)
