"""Each script in examples/ runs on a small scene, and says what it does."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import MadeScene, make_scene

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DSM, IMAGES = "initial.tif", ["ortho1.tif", "ortho2.tif"]
ARGUMENTS = {
    "evaluate_in_a_notebook": [DSM, "reference.tif"],
    "evaluate_surfaces": [DSM, DSM, "reference.tif"],
    "refine_torch": [DSM],
    "train_and_refine": ["config.json", DSM, *IMAGES],
}
WRITTEN = {
    "evaluate_in_a_notebook": "errors.png",
    "evaluate_surfaces": "evaluated/evaluation.html",
    "refine_files": "refined.tif",
    "refine_numpy": "refined.npy",
    "refine_rasterio": "refined.tif",
    "refine_xarray": "refined.nc",
    "refine_xdem": "refined.tif",
}
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> MadeScene:
    scene = make_scene(tmp_path_factory.mktemp("examples"), 64, 160)
    scene.write(scene.train_config())
    return scene


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs(name: str, data: MadeScene) -> None:
    arguments = ARGUMENTS.get(name, [DSM, *IMAGES])
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        cwd=data.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if name in WRITTEN:
        assert (data.folder / WRITTEN[name]).is_file()
    else:
        assert done.stdout.strip()


def test_there_are_ten_and_each_is_short_and_says_what_it_does() -> None:
    assert len(NAMES) == 10
    for name in NAMES:
        lines = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# ")
        assert len(lines) <= 20
