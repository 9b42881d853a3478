"""What is released: wheel and sdist, the recipe for conda, the image, and the texts that a repository has."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import make_scene

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
HOME = PROJECT["project"]["urls"]["Repository"]
NAMES_HOME = (
    "CODE_OF_CONDUCT.md", "Dockerfile", "SECURITY.md", "pyproject.toml", "recipe/recipe.yaml",
    "zensical.toml",
    ".github/ISSUE_TEMPLATE/config.yml", "qgis/resdepth_qgis/metadata.txt",
)  # fmt: skip
OF_CONDA = {
    "lazrs-python": None,
    "matplotlib-base": "matplotlib",
    "py-opencv": "opencv-python-headless",
    "pytorch": "torch",
}
"""Names at conda-forge that differ from those of Python packages."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[zipfile.ZipFile, list[str]]:
    """The wheel, and the names in the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    if not (REPOSITORY / ".git").exists():
        pytest.skip("no checkout")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    return zipfile.ZipFile(wheel), names


WITHOUT_EXTRAS = """
import sys
sys.modules |= dict.fromkeys(sys.argv.pop(1).split(","))  # as if they were not installed
from resdepth.cli import main
main(sys.argv[1:])
"""


def test_refining_needs_no_extra(tmp_path: Path) -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    brought = {
        re.split(r"[\[<>=]", line)[0].lower() for name in extras if name != "dev" for line in extras[name]
    }
    modules = [name for name, of in packages_distributions().items() if brought & {one.lower() for one in of}]
    modules = [name for name in modules if name != "resdepth"]
    assert {"matplotlib", "pyproj", "yaml"} <= set(modules)
    assert "cv2" not in modules
    scene = make_scene(tmp_path, 64, 160)
    command = [sys.executable, "-c", WITHOUT_EXTRAS, ",".join(modules), "refine", "initial.tif"]
    for images in ([], ["ortho1.tif", "ortho2.tif"]):
        output = ["-o", f"refined{len(images)}.tif"]
        subprocess.run([*command, *images, *output], cwd=scene.folder, check=True, timeout=300)
    refused = subprocess.run(
        [*command, "--report"], cwd=scene.folder, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "pip install 'resdepth[report]'" in refused.stderr


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_wheel_and_sdist_hold_what_belongs_to_them(made: tuple[zipfile.ZipFile, list[str]]) -> None:
    wheel, sdist = made
    package = [path for path in (REPOSITORY / "src" / "resdepth").rglob("*") if path.is_file()]
    source = [
        str(path.relative_to(REPOSITORY / "src")) for path in package if "__pycache__" not in path.parts
    ]
    installed = {re.sub(r"^resdepth-[^/]+\.(data/data|dist-info)/", "", name) for name in wheel.namelist()}
    documents = {f"share/doc/resdepth/docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")}
    configs = {f"share/resdepth/configs/{path.name}" for path in (REPOSITORY / "configs").iterdir()}
    texts = {"licenses/LICENSE", "share/doc/resdepth/CHANGELOG.md", "share/doc/resdepth/CITATION.cff"}
    assert {*source, *documents, *configs, *texts} <= installed
    assert {name for name in installed if name.startswith("tests")} == set()
    wanted = ("LICENSE", "CHANGELOG.md", "CITATION.cff", "README.md", "docs/index.md", "tests/conftest.py")
    assert {*wanted, *(f"src/{name}" for name in source)} <= set(sdist)


def test_the_readme_renders_outside_of_the_repository(made: tuple[zipfile.ZipFile, list[str]]) -> None:
    text = metadata(made[0]).get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    for link in links:
        if link.startswith(f"{HOME}/"):
            path = re.sub(rf"^{re.escape(HOME)}/(blob|raw)/main/", "", link).partition("#")[0]
            assert (REPOSITORY / path).exists(), link
    assert f"]({HOME}/raw/main/docs/images/demo.png)" in text


def test_one_constant_names_the_home_of_the_repository() -> None:
    for name in NAMES_HOME:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        found = set(re.findall(r"https://[\w.]+/(?:[\w-]+/)?resdepth\b", text))
        assert found == {HOME}, name


def test_wheel_and_recipe_have_the_version(made: tuple[zipfile.ZipFile, list[str]]) -> None:
    version = PROJECT["project"]["version"]
    assert metadata(made[0])["Version"] == version
    assert (
        yaml.safe_load((REPOSITORY / "recipe" / "recipe.yaml").read_text())["context"]["version"] == version
    )


def test_the_recipe_has_the_bounds_of_the_project() -> None:
    recipe = yaml.safe_load((REPOSITORY / "recipe" / "recipe.yaml").read_text())
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + extras["report"] + extras["simulate"] + extras["vector"]
    wanted += extras["prepare"] + extras["yaml"]
    named = (re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", one) for one in wanted)
    bounds = {found[1]: found[2] for found in named if found}
    run = dict(one.partition(" >=")[::2] for one in recipe["requirements"]["run"])
    del run["python"]
    there = {OF_CONDA.get(name, name): bound for name, bound in run.items()}
    there.pop(None)
    assert set(there) == set(bounds)
    assert {name: bound for name, bound in bounds.items() if not bound.startswith(there[name])} == {}


def test_the_image_and_this_project_pin_one_torch() -> None:
    pinned = re.search(r"^torch==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f"torch=={pinned[1]} " in (REPOSITORY / "Dockerfile").read_text()
    assert f"torch=={pinned[1]}\n" in (REPOSITORY / "Makefile").read_text()


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint has no build for this machine")
    done = subprocess.run([hadolint, REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_templates_of_issues_can_be_read() -> None:
    for path in (REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= set(content)
        fields = [one["id"] for one in content["body"]]
        assert len(set(fields)) == len(fields)
