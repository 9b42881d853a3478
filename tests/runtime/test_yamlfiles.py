"""Configurations in YAML: what JSON would hold, and nothing that can be read in two ways."""

import json
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resdepth.errors import InputProblems, ResDepthError
from resdepth.runtime.yamlfiles import parse_yaml, read_config

NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
KEYS = st.text("abcdef", min_size=1)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(KEYS, VALUES, min_size=1))
def test_json_is_read_as_the_yaml_that_it_is(content: dict[str, object]) -> None:
    assert parse_yaml(json.dumps(content)) == content


def test_values_are_what_they_look_like() -> None:
    text = """
    # a comment
    learning_rate: 2e-4      # text to YAML 1.1
    weight: .5
    count: 12
    negative: -3
    nothing:
    also_nothing: null
    right: true
    wrong: False
    name: my town
    date: 2026-03-01
    quoted: "no"
    also_quoted: '010'
    list: [1, two, {three: 3}]
    datasets:
      -
        raster_in: a.tif
      - raster_in: b.tif
    folded: >-
      one
      two
    """
    assert parse_yaml(text) == {
        "learning_rate": 2e-4, "weight": 0.5, "count": 12, "negative": -3, "nothing": None,
        "also_nothing": None, "right": True, "wrong": False, "name": "my town", "date": "2026-03-01",
        "quoted": "no", "also_quoted": "010", "list": [1, "two", {"three": 3}],
        "datasets": [{"raster_in": "a.tif"}, {"raster_in": "b.tif"}], "folded": "one two",
    }  # fmt: skip


def test_a_section_may_be_repeated_by_an_alias() -> None:
    text = "datasets:\n- &first {name: a, wide: [1, 2]}\n- *first\n"
    assert parse_yaml(text) == {"datasets": [{"name": "a", "wide": [1, 2]}] * 2}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("output:\n  report: no", "line 2: output.report: found no, which some programs read as false"),
        ("report: On", "line 1: report: found On, which some programs read as true; write true, or 'On'"),
        ("names: [a, y]", "line 1: names[1]: found y"),
        ("on: 3", "line 1: found on"),
        ("test_stripe: 010", "line 1: test_stripe: found 010, which some programs read to the base 8"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' occurs twice"),
        ("a: {b: 1, 'b': 2}", "line 1: the key 'b' occurs twice"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: tags (tag:yaml.org,2002:python/object/"),
        ("a: !!str 1", "line 1: tags"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "line 3: merge keys (<<) are not read"),
        ("a: 1\n---\nb: 2", "holds several documents"),
        (BOMB, "more than 100000 values"),
        ("a: &a [*a]", "line 1: an alias contains itself"),
        ("a: *b", "line 1, column 4: not valid YAML (found undefined alias"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested more than 50 levels deep"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 50 levels deep"),
        ("a:\n\t- 1", "line 2, column 1: not valid YAML"),
        ("a: b: c", "line 1, column 5: not valid YAML (mapping values are not allowed here)"),
        ("a: .inf", "line 1: a: .inf is not a number"),
        ("a: .NaN", "is not a number"),
        ("a: 1e999", "line 1: a: 1e999 is not a number"),
        ("1: a", "the key 1 should be a name"),
        ("? [a]\n: b", "a key should be a name"),
        ('a: "\\ud800"', "half a character"),
        ("a: \x07", "not valid YAML"),
        ("- a", "expected keys with values"),
        ("", "expected keys with values"),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_or_does_harm_is_refused(text: str, stated: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words are compared
        parse_yaml(text)
    assert stated in str(refused.value)
    assert time.monotonic() - start < 5


def test_a_file_is_read_by_its_name(tmp_path: Path) -> None:
    for name, text in (("a.json", '{"a": 1}'), ("a.yaml", "a: 1"), ("a.YML", "a: 1")):
        (tmp_path / name).write_text(text)
        assert read_config(tmp_path / name) == {"a": 1}
    (tmp_path / "b.yaml").write_text("a: no")
    with pytest.raises(InputProblems, match=r"b\.yaml: line 1: a: found no"):
        read_config(tmp_path / "b.yaml")
    with pytest.raises(InputProblems, match="no such file"):
        read_config(tmp_path / "c.yaml")


def test_without_pyyaml_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ResDepthError, match=r"pip install 'resdepth\[yaml\]'"):
        read_config(tmp_path / "a.yaml")


def test_values_that_other_programs_agree_on_are_read_as_they_do() -> None:
    text = "a: 1\nb: [0.5, -2, text, true, null]\nc: {d: 'x', e: \"y\"}\n"
    assert parse_yaml(text) == yaml.safe_load(text)
