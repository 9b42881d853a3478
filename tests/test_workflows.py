"""The workflows of continuous integration: what they run exists, on the Pythons that the project names."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
WORKFLOWS = REPOSITORY / ".github" / "workflows"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [
    found[1]
    for one in PROJECT["classifiers"]
    if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one))
]

if not WORKFLOWS.is_dir():
    pytest.skip("an sdist has no workflows", allow_module_level=True)


def jobs(name: str) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))["jobs"]
    return jobs


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_targets_that_workflows_make_are_in_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    made = {
        command
        for path in WORKFLOWS.iterdir()
        for job in jobs(path.name).values()
        for command in commands(job)
    }
    assert {command.removeprefix("make ") for command in made} <= targets
    assert {"make test", "make lowest", "make highest", "make docs", "make dist-test"} == made


@pytest.mark.parametrize(("workflow", "job"), [("tests.yml", "test"), ("bounds.yml", "highest")])
def test_each_python_of_the_project_is_tried(workflow: str, job: str) -> None:
    assert jobs(workflow)[job]["strategy"]["matrix"]["python"] == PYTHONS
    assert {"python-version": "${{ matrix.python }}"} in [
        one.get("with") for one in jobs(workflow)[job]["steps"]
    ]


def test_the_lowest_versions_are_tried_with_the_lowest_python() -> None:
    steps = jobs("bounds.yml")["lowest"]["steps"]
    assert {"python-version": PYTHONS[0]} in [one.get("with") for one in steps]
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def test_the_bounds_of_all_extras_are_tried_but_those_of_development() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (tried,) = re.findall(r"^EXTRAS := (\S+)$", makefile, re.MULTILINE)
    assert set(tried.split(",")) == set(PROJECT["optional-dependencies"]) - {"dev"}
