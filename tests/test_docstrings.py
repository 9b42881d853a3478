"""The examples in the docstrings of the public names run, and each name has some."""

import doctest
import inspect
from pathlib import Path

import pytest

import resdepth
from conftest import MadeScene, make_model, make_scene
from resdepth.models.model import save_model

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> MadeScene:
    """The made scene with a model and configurations, as the examples take them for granted."""
    scene = make_scene(tmp_path_factory.mktemp("docstrings"), 64, 160)
    make_scene(scene.folder / "area", 256, 256)
    save_model(make_model(), scene.folder / "model.safetensors")
    small = {
        "training_settings": {"n_epochs": 1},
        "datasets": {"path_pairlist_training": scene.path("pair.txt")},
    }
    scene.write(scene.train_config(**small), "my_train.json")
    scene.write(scene.test_config({"path": scene.path("model.safetensors")}), "my_test.json")
    return scene


@pytest.fixture
def folder(prepared: MadeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with links to all files."""
    for file in prepared.folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples_of(name: str) -> list[doctest.DocTest]:
    thing = getattr(resdepth, name)
    found = doctest.DocTestFinder(recurse=inspect.isclass(thing)).find(thing, name, module=False, globs={})
    return [one for one in found if one.examples]


@pytest.mark.parametrize("name", resdepth.__all__)
def test_examples_of_public_names_run(name: str, folder: Path) -> None:
    found = examples_of(name)
    assert found, "each public name shows how it is used"
    said: list[str] = []
    for one in found:
        doctest.DocTestRunner(optionflags=FLAGS).run(one, out=said.append)
    assert not said, "".join(said)
