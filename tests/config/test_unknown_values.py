"""What is concluded from a configuration with wrong values."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resdepth.config.parse import draft, load_train_config
from resdepth.config.rules import conclusions, train_rules
from resdepth.config.schema import TrainConfig, UnknownValueError
from resdepth.errors import InputProblems, Problem
from resdepth.simulate.plan import requested

DATASET = {"raster_in": "a.tif", "raster_gt": "b.tif", "area_type": "train+val"}
TRAIN = {"datasets": [DATASET], "output": {"output_directory": "logs", "tboard_log_dir": "events"}}


def read(content: dict[str, Any]) -> tuple[TrainConfig, list[str]]:
    config, problems = draft(TrainConfig, content, "")
    return config, [problem.where for problem in problems]


def test_a_wrong_value_cannot_be_asked_for_and_all_others_can() -> None:
    model = {"depth": "2", "start_kernel": 8, "input_channels": "geom-sterio"}
    config, wrong = read(TRAIN | {"model": model, "output": {"output_directory": "logs"}})
    assert wrong == ["output.tboard_log_dir", "model.input_channels", "model.depth"]
    assert (config.model.start_kernel, config.model.outer_skip) == (8, True)
    for section, name in [(config.model, "depth"), (config.output, "tboard_log_dir")]:
        with pytest.raises(UnknownValueError, match=name):
            getattr(section, name)


def test_nothing_is_known_of_what_is_no_object() -> None:
    config, wrong = read(TRAIN | {"datasets": ["all", DATASET], "model": "UNet"})
    assert wrong == ["datasets[0]", "model"]
    assert [hasattr(dataset, "name") for dataset in config.datasets] == [False, True]
    assert not hasattr(config, "model")


def test_null_is_a_problem_and_stands_for_the_default() -> None:
    config, wrong = read(TRAIN | {"general": {"workers": None}, "optimizer": None})
    assert wrong == ["optimizer", "general.workers"]
    assert config == read(TRAIN)[0]


def test_a_misspelt_key_stands_for_the_one_that_was_meant() -> None:
    config, wrong = read(TRAIN | {"modle": {"depht": 3}})
    assert wrong == ["modle", "model.depht"]
    assert config.model.depth == 3


def test_a_rule_ends_where_it_asks_for_a_wrong_value() -> None:
    config, _ = read(TRAIN | {"model": {"depth": "2"}})

    def rule() -> Iterator[Problem]:
        yield Problem("before", "stated")
        yield Problem("behind", f"depth {config.model.depth}")

    assert [problem.where for problem in conclusions(rule(), rule())] == ["before", "before"]


@pytest.mark.parametrize(("value", "stated"), [("train", ["datasets"]), ("trian", [])])
def test_what_follows_from_a_wrong_value_is_not_stated(value: str, stated: list[str]) -> None:
    config, _ = read(
        TRAIN | {"datasets": [DATASET | {"area_type": value}], "model": {"input_channels": "geom"}}
    )
    assert [problem.where for problem in train_rules(config)] == stated


def test_thousands_of_wrong_values_are_found_at_once() -> None:
    start = time.process_time()
    _, wrong = read(TRAIN | {"datasets": [DATASET | {"area_type": "both", "nmae": "x"}] * 20_000})
    assert len(wrong) == 40_000
    assert time.process_time() - start < 20  # each with each would take minutes


def test_several_wrong_numbers_of_one_key_are_all_stated(tmp_path: Path) -> None:
    path = tmp_path / "simulate.json"
    path.write_text(json.dumps({"reference": {"extent": ["a", 1, "b"]}}))
    with pytest.raises(InputProblems) as refused:
        requested(path, {})
    where = [problem.where.partition(": ")[2] for problem in refused.value.problems]
    assert where == ["reference.extent[0]", "reference.extent[2]", "reference.extent[3]"]


def test_a_file_without_problems_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TRAIN))
    config, problems = load_train_config(path)
    assert problems == []
    assert config == TrainConfig.model_validate_json(path.read_text(), context=path)
