"""The documentation site: each page has a place, links lead to pages, checks find what is broken."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import resdepth
from resdepth.cli import main

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def build_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which writes into an empty folder."""
    spec = importlib.util.spec_from_file_location("build_site", REPOSITORY / "scripts" / "build_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAGES", tmp_path)
    for name in ("reference", "tutorials"):
        (tmp_path / name).mkdir()
    return module


def pages_of(nav: list[dict[str, Any]]) -> Iterator[str]:
    for entry in nav:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else pages_of(target)


def test_each_page_has_a_place_in_the_navigation_and_only_those(build_site: ModuleType) -> None:
    nav = tomllib.loads((REPOSITORY / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    tutorials = {f"tutorials/{path.stem}.md" for path in (REPOSITORY / "docs" / "tutorials").glob("*.py")}
    made = {*build_site.sources().values(), *tutorials, "reference/commands.md", "reference/python.md"}
    found = list(pages_of(nav))
    assert len(found) == len(set(found))
    assert set(found) == made


def test_links_between_pages_lead_to_pages_of_the_site(build_site: ModuleType, tmp_path: Path) -> None:
    build_site.gather()
    for page in tmp_path.glob("*.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
            assert (tmp_path / link).exists(), f"{page.name}: {link}"
    for link in re.findall(rf"{re.escape(build_site.HOME)}/(?:blob|tree)/main/([^)#\s]+)", text):
        assert (REPOSITORY / link).exists(), link


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "docs" / "tutorials").glob("*.py")), ids=lambda one: one.stem
)
def test_links_of_tutorials_lead_to_pages_and_their_commands_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?://)([^)#\s]+)", text):
        target = path.parent / link
        assert (target.with_suffix(".py") if target.parent == path.parent else target).exists(), link
    for command in re.findall(r"^# !resdepth ([\w-]+)", text, re.MULTILINE):
        assert command in main.commands, command


def test_the_reference_has_all_commands_options_and_names(build_site: ModuleType, tmp_path: Path) -> None:
    build_site.write_commands()
    build_site.write_python()
    commands = (tmp_path / "reference" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^## ([\w-]+)$", commands, re.MULTILINE) == list(main.commands)
    for option in ("--stac", "--region", "--write-aligned"):
        assert f"| `{option}" in commands
    assert "\b" not in commands
    names = re.findall(
        r"^::: resdepth\.(?:\w+\.)*(\w+)$", (tmp_path / "reference" / "python.md").read_text(), re.MULTILINE
    )
    assert names == resdepth.__all__


def test_what_is_broken_in_a_site_is_found(build_site: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="https://fonts.example.org/x.css"><h1 id="there"></h1>'
        '<a href="sub/b.html">b</a><a href="gone.html">gone</a><a href="https://example.org">away</a>'
    )
    (tmp_path / "sub" / "b.html").write_text(
        '<a href="../a.html#there">a</a><a href="../a.html#not">a</a><script src="x.js"></script>'
    )
    assert sorted(build_site.problems_of(tmp_path)) == [
        "a.html: gone.html is not there",
        "a.html: loads https://fonts.example.org/x.css",
        "sub/b.html: ../a.html#not: no such place",
        "sub/b.html: x.js is not there",
    ]


def test_paths_of_the_machine_that_executed_a_tutorial_are_found(
    build_site: ModuleType, tmp_path: Path
) -> None:
    tutorials = tmp_path / "tutorials"
    (tutorials / "a").mkdir()
    own = f"{REPOSITORY}/build/tutorials/a/dsm.tif"
    (tutorials / "a" / "index.html").write_text(f"<p>warning: {own}: has voids</p>")
    (tutorials / "b.ipynb").write_text(f'{{"text": "see file://{Path.home()}/x.py"}}')
    (tutorials / "c.html").write_text(f"scene/dsm.tif, sub{own}, https://example.org{own}")
    assert list(build_site.own_paths_in(tutorials)) == [
        f"tutorials/a/index.html: shows {own}, a path of this machine",
        f"tutorials/b.ipynb: shows {Path.home()}/x.py, a path of this machine",
    ]
