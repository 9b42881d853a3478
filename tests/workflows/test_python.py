"""What Python users give and get: configurations as mappings, messages that name arguments."""

from typing import Any

import pytest
from click.testing import CliRunner

import resdepth
from conftest import MadeScene, make_model
from resdepth.cli import main
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
