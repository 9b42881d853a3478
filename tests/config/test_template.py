"""The configurations to begin with: whole, true, and ready once the paths are filled in."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from conftest import MadeScene, make_model
from resdepth.cli import main
from resdepth.config.parse import draft, load_train_config
from resdepth.config.schema import Section, TestConfig, TrainConfig
from resdepth.models.model import save_model
from resdepth.preparation.request import PrepareConfig
from resdepth.runtime.yamlfiles import parse_yaml
from resdepth.simulate.plan import SimulateConfig

SCHEMAS: dict[str, type[Section]] = {
    "train": TrainConfig, "test": TestConfig, "simulate": SimulateConfig, "prepare": PrepareConfig,
}  # fmt: skip
COMMENTED_KEY = re.compile(r"^( *)# ( *[a-z]\w*:( |$)| *-$)", re.MULTILINE)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def written(kind: str) -> str:
    result = run("template", kind)
    assert result.exit_code == 0, result.output
    return result.stdout


def keys_of(content: Any) -> set[str]:
    if isinstance(content, dict):
        return {*content, *(key for value in content.values() for key in keys_of(value))}
    return {key for value in content for key in keys_of(value)} if isinstance(content, list) else set()


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_template_holds_every_key_and_no_other(kind: str) -> None:
    text = written(kind)
    whole = text
    for _ in range(2):  # sections that are left out, and keys that these leave out
        whole = re.sub(COMMENTED_KEY, lambda found: found[1] + found[2], whole)
    schema = SCHEMAS[kind].model_json_schema(by_alias=True)
    known = {
        key
        for section in (schema, *schema.get("$defs", {}).values())
        for key in section.get("properties", ())
    }
    assert keys_of(yaml.safe_load(whole)) >= known - {"$schema"}
    assert keys_of(yaml.safe_load(whole)) <= known | {"step_size"}
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("kind", SCHEMAS)
def test_what_a_template_shows_as_default_is_the_default(kind: str) -> None:
    content = parse_yaml(written(kind))
    config, problems = draft(SCHEMAS[kind], content, "")
    assert problems == []
    paths = json.dumps(content).count("path/to/")
    assert paths == {"train": 5, "test": 5, "simulate": 0, "prepare": 4}[kind]
    filled = {"datasets", "output", "dsm", "images", "reference", "scheduler"}
    if kind == "test":
        filled.add("model")
    for name, value in config:
        default = SCHEMAS[kind].model_fields[name].get_default(call_default_factory=True)
        assert value == default or name in filled, name


def test_other_programs_read_a_template_alike() -> None:
    for kind in SCHEMAS:
        assert yaml.safe_load(written(kind)) == parse_yaml(written(kind))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_template_passes_the_check_once_its_paths_are_filled_in(kind: str, scene: MadeScene) -> None:
    save_model(make_model(), scene.folder / "model.safetensors")
    files = {
        "imagelist.txt": "imagelist.txt", "pairlist.txt": "pair.txt", "dsm.tif": "initial.tif",
        "image1.tif": "ortho1.tif", "image2.tif": "ortho2.tif",
    }  # fmt: skip
    text = re.sub(r"path/to/([\w.]+)", lambda found: files.get(found[1], found[1]), written(kind))
    text = text.replace("tile_size: 256", "tile_size: 16").replace("depth: 5", "depth: 2")
    text = text.replace("n_training_samples: 20000", "n_training_samples: 20")  # of a small scene
    config = scene.folder / f"{kind}.yaml"
    config.write_text(text)
    checked = run("check", config)
    assert checked.exit_code == 0, checked.output
    assert checked.stdout == f"{config}: no problems found\n"
    config.write_text(text.replace("\n", "\nseeed: 3\n", 1))
    assert "unknown key" in run("check", "--kind", kind, config).stderr


def test_a_file_is_written_by_the_rule_on_overwriting(tmp_path: Path) -> None:
    output = tmp_path / "my_train.yaml"
    done = run("template", "train", "-o", output)
    assert (done.exit_code, done.stdout) == (0, f"{output}\n")
    assert output.read_text() == written("train")
    output.write_text("mine")
    refused = run("template", "train", "-o", output)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert output.read_text() == "mine"
    assert run("template", "train", "-o", output, "--overwrite").exit_code == 0
    assert output.read_text() == written("train")
    assert "should end in .yaml" in run("template", "train", "-o", tmp_path / "a.json").stderr


def test_yaml_and_json_make_the_same_configuration(scene: MadeScene) -> None:
    as_json = scene.write(scene.train_config())
    as_yaml = scene.folder / "config.yaml"
    as_yaml.write_text(yaml.safe_dump(scene.train_config()))
    assert load_train_config(as_yaml) == load_train_config(as_json)
    trained = run("train", as_yaml)
    assert trained.exit_code == 0, trained.output
    folder = Path(trained.stdout.strip())
    assert (folder / "config.json.orig").read_bytes() == as_yaml.read_bytes()
    assert run("check", folder / "config.json").exit_code == 0
    broken = scene.folder / "broken.yaml"
    broken.write_text(as_yaml.read_text() + "general: {random_seed: no}\n")
    assert re.search(r"broken\.yaml: line \d+: .*(random_seed|general)", run("train", broken).stderr)


def test_a_simulation_and_a_request_are_read_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "simulate.yaml").write_text("matching: {block_px: 4}\n")
    refused = run("simulate", "town", "-o", tmp_path / "scene", "--config", tmp_path / "simulate.yaml")
    assert refused.exit_code == 2
    assert "simulate.yaml: matching.block_px: found 4; give an odd number" in refused.stderr
    (tmp_path / "request.yaml").write_text("dsm: gone.tif\n")
    refused = run("prepare", tmp_path / "request.yaml", "-o", tmp_path / "prepared")
    assert refused.exit_code == 2
    assert "request.yaml: dsm: " in refused.stderr
    assert "gone.tif: no such file" in refused.stderr
    found = run("check", tmp_path / "request.yaml")
    assert "gone.tif: no such file" in found.stderr, "the kind is seen from the keys"
