"""What is stated of the bundled models is what their files and the measurements say."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from resdepth.cli import main
from resdepth.errors import ResDepthError
from resdepth.models.pretrained import BUNDLED, BundledModel, registry
from resdepth.models.published import load_model
from resdepth.workflows.info import values_of

REPOSITORY = Path(__file__).resolve().parents[2]


def measured() -> dict[tuple[str, str], float]:
    """MAE by scene and surface, of docs/real-data.md."""
    page = (REPOSITORY / "docs" / "real-data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\d\.\d{3}) \|", page, re.MULTILINE)
    found: dict[tuple[str, str], float] = {}
    for scene, surface, mae in rows:
        found.setdefault((scene, re.sub(r" \(\d+ px\)", "", surface)), float(mae))
    return found


def test_every_bundled_model_is_listed() -> None:
    files = Path(BUNDLED["fusion"]).parent.glob("*.safetensors")
    assert {one.name for one in registry()} == set(BUNDLED) == {file.stem for file in files}
    assert registry()[0].default_of == ("refine",)


@pytest.mark.parametrize("model", registry(), ids=lambda model: model.name)
def test_what_is_stated_is_what_the_file_holds(model: BundledModel) -> None:
    facts = values_of(Path(model.name))
    assert tuple(facts["gsd_range_m"]) == model.gsd_range_m
    assert facts["knows_error"] is model.knows_error
    assert (REPOSITORY / model.made_by).is_file()
    assert model.failures


@pytest.mark.parametrize("model", registry(), ids=lambda model: model.name)
def test_figures_are_those_that_were_measured(model: BundledModel) -> None:
    maes = measured()
    assert model.figures
    for one in model.figures:
        assert one.mae_m == maes[one.scene, f"{model.name}, {one.shown}"]
        assert one.initial_mae_m == maes[one.scene, "initial"]
        assert one.best_median_mae_m == maes[one.scene, "best median"]


def test_they_are_listed_for_people_and_for_programs() -> None:
    text = CliRunner().invoke(main, ["models"])
    assert text.exit_code == 0, text.output
    for name in BUNDLED:
        assert re.search(rf"^{name}$", text.stdout, re.MULTILINE)
    assert "MAE 0.94 m -> 0.42 m (best median filter 0.75 m)" in text.stdout
    listed = json.loads(CliRunner().invoke(main, ["models", "--json"]).stdout)
    assert list(listed) == list(BUNDLED)
    assert listed["fusion"]["gsd_range_m"] == [0.25, 1.0]
    assert load_model(listed["town-stereo"]["file"]).architecture.inputs.n_views == 2


@pytest.mark.parametrize("command", [["info", "fuson"], ["refine", "dsm.tif", "--model", "fuson"]])
def test_a_name_that_nobody_has_leads_to_the_list(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dsm.tif").touch()
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert "did you mean 'fusion'?" in refused.output
    assert "resdepth models" in refused.output
    with pytest.raises(ResDepthError, match="no such file"):
        load_model("gone/fusion")
