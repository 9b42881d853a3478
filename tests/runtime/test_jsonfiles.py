"""JSON files that nobody vouches for."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from resdepth.errors import InputProblems
from resdepth.runtime.jsonfiles import demand, parse_json, read_json


class Town(BaseModel):
    name: str
    houses: list[tuple[int, float]]


def test_a_number_that_json_does_not_know_is_named_with_its_line_and_key() -> None:
    text = '{"note": "NaN: \\" NaN",\n "mean": 1,\n "std": NaN}'
    with pytest.raises(ValueError, match="line 3, std: NaN is not a number in JSON"):
        parse_json(text)


def test_every_value_that_does_not_fit_the_schema_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "town.json"
    path.write_text('{"name": 1, "houses": [[1, 2.5], ["a", 3]]}')
    with pytest.raises(InputProblems) as caught:
        demand(Town, read_json(path), path)
    assert str(caught.value).splitlines() == [
        f"{path}: name: found 1; should be a valid string",
        f'{path}: houses[1][0]: found "a"; should be a valid integer',
    ]


def test_of_a_thousand_wrong_values_the_first_are_shown(tmp_path: Path) -> None:
    content = {"name": "a", "houses": [["x" * 10_000, 10**4000]] * 1000}
    with pytest.raises(InputProblems, match="more values") as caught:
        demand(Town, content, tmp_path / "town.json")
    assert len(str(caught.value)) < 3000


def test_an_object_of_a_hundred_thousand_keys_with_one_repeated_is_refused_at_once() -> None:
    keys = [*(f'"k{number}": 1' for number in range(100_000)), '"k99999": 2']
    with pytest.raises(ValueError, match="'k99999' occurs twice"):
        parse_json("{" + ",".join(keys) + "}")


def test_a_deep_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(InputProblems, match=r"deep\.json: nested more than 50 levels"):
        read_json(path)


def test_a_larger_file_than_is_allowed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"a": "b" * 2**20}))
    with pytest.raises(InputProblems, match="larger than 1 MiB"):
        read_json(path, at_most=2**20)
