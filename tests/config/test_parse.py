"""From a JSON file to a configuration with absolute paths."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conftest import MadeScene
from resdepth.config.parse import SCHEMAS, kind_of, load_test_config, load_train_config
from resdepth.config.schema import TestConfig, TrainConfig
from resdepth.errors import InputProblems
from resdepth.options import Kind
from resdepth.runtime.jsonfiles import parse_json, read_json

DATASET = {"raster_in": "a.tif", "raster_gt": "b.tif", "area_type": "train+val"}
TRAIN = {"datasets": [DATASET], "output": {"output_directory": "logs", "tboard_log_dir": "events"}}
TEST = {
    "datasets": [{"raster_in": "a.tif"}],
    "model": {"path": "m.safetensors"},
    "output": {"directory": "results"},
}


def written(folder: Path, content: Any, mark: bytes = b"") -> Path:
    path = folder / "config.json"
    path.write_bytes(mark + (content if isinstance(content, str) else json.dumps(content)).encode())
    return path


def test_the_bare_minimum_of_the_manual_has_the_published_defaults(tmp_path: Path) -> None:
    config, problems = load_train_config(written(tmp_path, TRAIN))
    assert problems == []
    assert config.model.model_dump() == {
        "name": "UNet",
        "input_channels": "geom-stereo",
        "depth": 5,
        "start_kernel": 64,
        "outer_skip": True,
        "outer_skip_BN": False,
        "act_fn_encoder": "relu",
        "act_fn_decoder": "relu",
        "act_fn_bottleneck": "relu",
        "up_mode": "transpose",
        "do_BN": True,
        "bias_conv_layer": True,
        "pretrained_path": None,
    }
    assert config.training_settings.model_dump() == {
        "n_training_samples": 20000,
        "tile_size": 256,
        "augment": True,
        "height_stretch": 1.0,
        "remove_bias": False,
        "batch_size": 20,
        "n_epochs": 2000,
        "loss": "L1",
        "precision": "fp32",
        "clip_gradients": None,
        "average_weights": None,
        "early_stopping": None,
    }
    assert config.optimizer.model_dump() == {"name": "Adam", "learning_rate": 2e-4, "weight_decay": 1e-5}
    assert config.scheduler.model_dump() == {
        "enabled": True,
        "name": "StepLR",
        "settings": {},
        "warm_up": 0,
    }
    general = config.general.model_dump(exclude={"device", "memory_gb"})
    assert general == {
        "allocation_strategy": "5-crossval_vertical",
        "test_stripe": 0,
        "workers": 4,
        "random_seed": 0,
        "save_model_rate": 20,
        "evaluate_rate": 1,
    }
    assert config.stereopair_settings.use_all_stereo_pairs
    assert config.stereopair_settings.permute_images_within_pair
    assert config.multiview.config == "3-view"
    assert config.output.suffix == ""
    assert not config.output.plot_model_txt
    assert not config.datasets[0].crossval_training


def test_a_bare_test_refines_the_whole_area(tmp_path: Path) -> None:
    config, problems = load_test_config(written(tmp_path, TEST))
    assert problems == []
    assert config.datasets[0].allocation_strategy == "entire"
    assert config.general.tile_size == 256
    assert config.general.workers is None


def test_paths_are_absolute_from_the_file_or_else_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.tif").touch()
    monkeypatch.chdir(tmp_path)
    config, _ = load_train_config(written(tmp_path / "configs", TRAIN))
    assert config.datasets[0].raster_in == str(tmp_path / "configs" / "a.tif")
    assert config.datasets[0].raster_gt == str(tmp_path / "b.tif")
    assert config.output.output_directory == str(tmp_path / "logs")
    config, _ = load_test_config(written(tmp_path / "configs", TEST))
    assert config.model.path == str(tmp_path / "m.safetensors")
    assert config.output.directory == str(tmp_path / "results")


def test_every_key_that_names_a_file_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pretrained = {"model": {"pretrained_path": "?"}}
    names = (
        "path_image_list",
        "path_pairlist_training",
        "path_pairlist_validation",
        "raster_in",
        "raster_gt",
    )
    train = TRAIN | pretrained | {"datasets": [DATASET | dict.fromkeys(names, "?")]}
    config, _ = load_train_config(written(tmp_path, train))
    names = ("path_image_list", "path_pairlist", "raster_gt", "mask_ground_truth", "mask_building")
    names += ("mask_water", "mask_forest", "raster_in")
    models = ("path", "weights", "architecture", "normalization_geom", "normalization_image")
    test = TEST | {"datasets": [dict.fromkeys(names, "?")], "model": dict.fromkeys(models, "?")}
    tested, _ = load_test_config(written(tmp_path, test))
    assert '"?"' not in config.model_dump_json() + tested.model_dump_json()
    assert tested.model_dump_json().count(f"{tmp_path}/?") == len(names) + len(models)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_and_windows_lines_do_not_matter(tmp_path: Path, mark: bytes) -> None:
    text = json.dumps(TRAIN, indent=2).replace("\n", "\r\n")
    assert load_train_config(written(tmp_path, text, mark))[1] == []


def test_complete_configurations_of_earlier_runs_are_accepted(tmp_path: Path) -> None:
    extent = {"x_extent": [[0, 9]], "y_extent": [[0, 9]]}
    derived = {"image_list": ["a", "b"], "image_pairs": [[0, 1]]}
    train = TRAIN | {"datasets": [DATASET | derived | {"area_defn": {"train": extent}}]}
    assert load_train_config(written(tmp_path, train))[1] == []
    test = TEST | {
        "datasets": [{"raster_in": "a.tif", "area_defn": extent, **derived}],
        "model": {
            "path": "m.safetensors",
            "name": "UNet",
            "input_channels": "geom",
            "settings": {"depth": 3},
        },
    }
    path = written(tmp_path, test)
    assert kind_of(read_json(path), SCHEMAS) == "test"
    assert load_test_config(path)[1] == []


def test_derived_keys_are_not_accepted_elsewhere(tmp_path: Path) -> None:
    _, problems = load_train_config(written(tmp_path, TRAIN | {"area_defn": {}, "model": {"settings": {}}}))
    assert [problem.where.partition(": ")[2] for problem in problems] == ["area_defn", "model.settings"]


def test_a_configuration_may_name_its_schema(tmp_path: Path) -> None:
    config, problems = load_train_config(written(tmp_path, {"$schema": "train.schema.json", **TRAIN}))
    assert problems == []
    assert "schema" not in config.model_dump_json(by_alias=True)


def test_whole_numbers_are_numbers_too(tmp_path: Path) -> None:
    config, problems = load_train_config(written(tmp_path, TRAIN | {"optimizer": {"learning_rate": 1}}))
    assert problems == []
    assert config.optimizer.learning_rate == 1.0


def test_a_configuration_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    config, _ = load_train_config(written(tmp_path, TRAIN))
    with pytest.raises(ValidationError, match="frozen"):
        config.model.depth = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (TRAIN, "train"),
        (TEST, "test"),
        ({}, "train"),
        ({"output": {}}, "train"),
        ({"output": {"directory": "x"}}, "test"),
        ({"model": {"path": "x"}}, "test"),
        ({"model": {"depth": 2}}, "train"),
        ({"datasets": [{"raster_in": "x"}]}, "train"),
        ({"datasets": [{"area_type": "test"}]}, "test"),
        ({"datasets": [{"mask_building": "x"}]}, "test"),
        ({"datasets": None, "model": "x", "output": {"directory": 3}}, "test"),
        (TEST | {"general": {"tilesize": 16, "typo": 1}}, "test"),
        (TRAIN | {"models": {}, "datasets": {}}, "train"),
    ],
)
def test_the_kind_is_seen_from_what_is_there(content: dict[str, Any], kind: Kind) -> None:
    assert kind_of(content, SCHEMAS) == kind


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ('{"a": 1', "line 1, column 8: not valid JSON"),
        ('{"a": 1,\n "b": {"c": 2, "c": 3}}', "the key 'c' occurs twice"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ('{"a": -1e400}', "the number -1e400 is too large"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ('"text"', "expected an object"),
        ("null", "expected an object"),
        ('{"a": ' + "[" * 50 + "]" * 50 + "}", "levels deep"),
        ('{"a": ' + "[" * 10**6, "levels deep"),
        ('{"a": "\\ud800"}', "half a character"),
    ],
)
def test_what_is_no_sound_json_is_stated(text: str, stated: str) -> None:
    with pytest.raises(ValueError, match=stated):
        parse_json(text)


def test_sound_json_of_any_kind_is_read() -> None:
    text = '{"a": [1, 2.5, "\\ud83d\\ude00", null, true, {"é": {}}], "b": ' + "[" * 40 + "]" * 40 + "}"
    assert parse_json(text) == json.loads(text)


def test_both_commands_share_the_stand_ins_for_wrong_values(tmp_path: Path) -> None:
    wrong = {"datasets": [{"raster_in": 3}], "output": 3, "model": {"path": 3, "typo": 3}, "general": []}
    config, problems = load_test_config(written(tmp_path, wrong))
    assert isinstance(config, TestConfig)
    assert len(problems) == 5
    trained, problems = load_train_config(written(tmp_path, {"datasets": [3, DATASET], "optimizer": None}))
    assert isinstance(trained, TrainConfig)
    assert len(trained.datasets) == 2
    assert trained.optimizer.name == "Adam"
    assert [problem.where.partition(": ")[2] for problem in problems] == [
        "datasets[0]",
        "output",
        "optimizer",
    ]


def test_the_made_configurations_of_these_tests_have_no_problems(scene: MadeScene) -> None:
    assert load_train_config(scene.write(scene.train_config()))[1] == []
    with pytest.raises(
        InputProblems, match="is a configuration for `resdepth train`, not for `resdepth test`"
    ):
        load_test_config(scene.write(scene.train_config()))
