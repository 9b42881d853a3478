"""The documents and templates are true: commands and examples run, links lead somewhere, lists are whole."""

import importlib.util
import json
import logging
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # of pre-commit
from rasterio.rio.main import main_group as rio

import resdepth
from conftest import MadeScene, make_model, make_scene, merged, read_raster, write_published_run, write_raster
from resdepth.cli import main
from resdepth.config.parse import load_test_config, load_train_config
from resdepth.simulate.plan import (
    MatchingSettings,
    SimulateConfig,
    SurfaceSettings,
    TownSettings,
    requested,
    simulate_rules,
)
from resdepth.simulate.simulation import simulate

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(REPOSITORY / name for name in ("SECURITY.md", "CODE_OF_CONDUCT.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
VARIANTS = ("ResDepth-0", "ResDepth-mono", "ResDepth-stereo", "ResDepth-stereo_generalized")

# Commands that are shown but not run here, and why.
NOT_RUN = {
    "python -m pip install": "set-up; needs a package index",
    "resdepth download": "needs the network; tests/test_download.py has a server of its own",
    "tensorboard": "serves until it is stopped",
    "resdepth finetune": "needs a larger area; tests/workflows/test_finetune.py runs it",
    "torchrun": "starts processes; tests/training/test_parallel.py runs it",
    "gdal_translate": "of GDAL, which need not be there",
}

RUN = "logs/2026-03-01_09-30"  # the run folder in the documents


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the file name that the paragraph before it gives."""

    language: str
    text: str
    saved_as: str | None


def blocks_of(page: Path) -> list[Block]:
    found = []
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip().rsplit("\n\n", 1)[-1]
        name = re.search(r"`([\w.]+\.json)`", before) if before.endswith(":") else None
        found.append(Block(match[1], match[2], name[1] if name else None))
    return found


def prose_of(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


# --- Commands and examples


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """The same configuration for the made scene: tiny tiles, network and schedule."""
    if "directory" in config["output"]:
        return merged(config, {"general": {"tile_size": 16, "device": "cpu"}})
    small = merged(
        config,
        {
            "model": {"depth": 2, "start_kernel": 4},
            "training_settings": {"tile_size": 16, "batch_size": 4, "n_epochs": 1, "n_training_samples": 6},
            "general": {"workers": 0, "device": "cpu"},
        },
    )
    for dataset in small["datasets"]:
        dataset.pop("n_training_samples", None)
    return small


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> MadeScene:
    """The made scene with everything that the documents take for granted."""
    scene = make_scene(tmp_path_factory.mktemp("documents"), 64, 160)
    folder = scene.folder
    make_scene(folder / "area", 256, 256)
    for block in blocks_of(REPOSITORY / "README.md"):
        if block.saved_as:
            (folder / block.saved_as).write_text(json.dumps(shrunk(json.loads(block.text))))
    config = json.loads((folder / "my_train.json").read_text())
    config = merged(config, {"training_settings": {"n_epochs": 2}, "general": {"save_model_rate": 1}})
    # Absolute, as the working directory is not this folder; lists and rasters lie beside the file.
    config["output"] = {key: str(folder / value) for key, value in config["output"].items()}
    run = resdepth.train(scene.write(config, "two_epochs.json"))
    run.rename(folder / RUN)
    checkpoints = folder / RUN / "checkpoints"
    shutil.copy(checkpoints / "Model_after_1_epochs.pth", checkpoints / "Model_last.pth")  # killed after it
    shutil.copy(checkpoints / "Model_after_1_epochs.pth", checkpoints / "Model_after_20_epochs.pth")
    for name in ("train.py", "test.py"):
        shutil.copy(REPOSITORY / name, folder)
    write_authors_demo(scene)
    write_raw_rasters(scene)
    write_raw_images(scene)
    write_pipeline_runs(scene.folder)
    return scene


def write_authors_demo(scene: MadeScene) -> None:
    """The layout of the authors' demonstration, whose paths count from the working directory."""
    files = write_published_run(scene.folder / "demo" / "models" / "ResDepth-stereo", make_model())
    dataset = {"raster_in": "initial.tif", "raster_gt": "reference.tif", "path_image_list": "imagelist.txt"}
    (scene.folder / "demo" / "configs").mkdir()
    for name, pairs in (("simple", "pair.txt"), ("generalized", "pairs.txt")):
        config = {
            "datasets": [{key: f"./{path}" for key, path in {**dataset, "path_pairlist": pairs}.items()}],
            "model": {key: f"./{Path(path).relative_to(scene.folder)}" for key, path in files.items()},
            "general": {"tile_size": 16},
            "output": {"directory": f"./demo/results/{name}"},
        }
        (scene.folder / "demo" / "configs" / f"config_{name}.json").write_text(json.dumps(config))


def write_raw_rasters(scene: MadeScene) -> None:
    """A reference on another grid, and an initial DSM with voids."""
    write_raster(scene.folder / "reference_raw.tif", scene.reference.repeat(2, 0), gsd=0.7, nodata=-9999)
    holes = scene.initial.copy()
    holes[20:24, 50:55] = -9999
    write_raster(scene.folder / "initial_raw.tif", holes, nodata=-9999)


def write_raw_images(scene: MadeScene) -> None:
    """A pair of raw images with RPCs, and the DSM that was made of them."""
    town = SimulateConfig(
        town=TownSettings(style="suburb", size_px=192),
        reference=SurfaceSettings(gsd_m=0.5),
        matching=MatchingSettings(pairs=1),
    )
    simulate("town", scene.folder / "raw", town, workers=0)
    images = scene.folder / "raw" / "data" / "satellite_views" / "raw"
    for number, name in enumerate(("date1a", "date1b"), 1):
        (images / f"{name}.tif").rename(scene.folder / f"img_0{number}.tif")
    for name, called in (("initial", "my_dsm"), ("reference", "lidar")):
        (scene.folder / "raw" / "data" / "dsm" / f"{name}.tif").rename(scene.folder / f"{called}.tif")
    shutil.rmtree(scene.folder / "raw")


def write_pipeline_runs(folder: Path) -> None:
    """Folders of finished runs of five stereo pipelines."""
    heights = "my_dsm.tif"
    copies = {
        "s2p_output/dsm.tif": heights,
        "s2p_output/confidence.tif": heights,
        "asp_output/run-DEM.tif": heights,
        "asp_output/run-IntersectionErr.tif": heights,
        "cars_output/dsm/dsm.tif": heights,
        "cars_output/dsm/performance_map.tif": heights,
        "odm_output/odm_dem/dsm.tif": "initial.tif",
        "odm_output/odm_orthophoto/odm_orthophoto.tif": "ortho1.tif",
    }
    for name, source in copies.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / source, folder / name)
    micmac = {"MEC-Malt/Z_Num9_DeZoom1_STD-MALT": "initial", "Ortho-MEC-Malt/Ort_a": "ortho1"}
    for name, source in (micmac | {"Ortho-MEC-Malt/Ort_b": "ortho2"}).items():
        values = read_raster(folder / f"{source}.tif")
        write_raster(folder / "micmac_output" / f"{name}.tif", values, crs=None)
    images = [{"img": f"../img_0{number}.tif"} for number in (1, 2)]
    (folder / "s2p_output" / "config.json").write_text(json.dumps({"images": images}))
    (folder / "s2p_output" / "tiles.txt").write_text("")
    command = "stereo_parse img_01.tif img_02.tif asp_output/run"
    (folder / "asp_output" / "run-log-stereo_parse-1.txt").write_text(command)
    sensors = "".join(f"    {one['img']}:\n      image: {one['img']}\n" for one in images)
    (folder / "cars_output" / "metadata.yaml").write_text(f"input:\n  sensors:\n{sensors}geoid: false\n")


@pytest.fixture
def folder(prepared: MadeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prepared folder, as the working directory."""
    copied = tmp_path / "copied"
    shutil.copytree(prepared.folder, copied)
    monkeypatch.chdir(copied)
    monkeypatch.setattr(logging.root, "handlers", [])  # the commands configure logging
    return copied


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    package = logging.getLogger("resdepth")
    before = package.level
    yield
    package.setLevel(before)


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one command line of a document in this process; the exit code must be 0."""
    words = shlex.split(line, comments=True)
    redirected = Path(words.pop()) if words[-2] == ">" and words.pop(-2) else None
    program, *arguments = words
    try:
        if program == "resdepth" and redirected:
            with redirected.open("w") as file, redirect_stdout(file):
                main(arguments)
        elif program == "resdepth":
            main(arguments)
        elif program == "rio":
            rio(arguments)
        elif program == "python" and Path(arguments[0]).is_file():
            monkeypatch.setattr(sys, "argv", arguments)
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            pytest.fail(f"the document shows a command that this test cannot run: {line}")
    except SystemExit as stopped:
        if stopped.code:
            pytest.fail(f"exit code {stopped.code}: {line}")


def target_of(line: str) -> str | None:
    """The make target of a command line; None if it is another command."""
    words = shlex.split(line, comments=True)
    return words[1] if words and words[0] == "make" else None


def make_targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def checked_fragment(block: Block, folder: Path) -> None:
    """Part of a configuration: put into the first page's, it can run."""
    part = json.loads(block.text)
    is_test = bool({"path", "weights"} & set(part.get("model", {})))
    whole = json.loads((folder / ("my_test.json" if is_test else "my_train.json")).read_text())
    whole = {**whole, **part} if is_test else merged(whole, part)
    (folder / "fragment.json").write_text(json.dumps(whole))
    assert resdepth.check(folder / "fragment.json") == []


WITH_BLOCKS = [page for page in PAGES if any(block.language != "text" for block in blocks_of(page))]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=named)
def test_the_commands_and_examples_of_a_page_run_one_after_the_other(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        if block.language == "python":
            exec(compile(block.text, named(page), "exec"), names)
        elif block.language == "json" and "datasets" in json.loads(block.text):
            path = folder / (block.saved_as or "unnamed.json")
            path.write_text(json.dumps(shrunk(json.loads(block.text))))
            assert resdepth.check(path) == []
        elif block.language == "json":
            checked_fragment(block, folder)
        elif block.language == "sh":
            for line in filter(None, block.text.splitlines()):
                if (target := target_of(line)) is not None:
                    assert target in make_targets(), line
                elif not line.startswith(tuple(NOT_RUN)):
                    run_command(line, monkeypatch)
        else:
            assert block.language == "text", "say what the block holds"


def test_the_first_page_gives_a_refined_dsm_where_it_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command("resdepth test my_test.json", monkeypatch)
    named_file = re.search(r"refined DSM is `(\S+)`", (REPOSITORY / "README.md").read_text())
    assert named_file is not None
    assert read_raster(folder / named_file[1]).shape == (64, 32)


def test_undeclared_nan_is_filled_and_another_grid_met(folder: Path) -> None:
    heights = read_raster(folder / "initial_raw.tif")
    holes = np.where(heights == -9999, np.nan, heights).astype(np.float32)
    assert np.isnan(holes).any()
    write_raster(folder / "initial_raw.tif", holes)
    made = resdepth.prepare(
        "from_raw", dsm="initial_raw.tif", reference="reference_raw.tif", coregister="none"
    )
    assert np.isfinite(read_raster(made.dsm)).all()
    problems = resdepth.check(made.folder / "configs" / "config_train.json")
    assert [one for one in problems if one.severity == "error"] == []


def test_every_command_that_is_not_run_is_shown_somewhere() -> None:
    lines = [line for page in PAGES for block in blocks_of(page) for line in block.text.splitlines()]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_within_sentences_exist(page: Path) -> None:
    for command in re.findall(r"`(?:resdepth|make) [^`]+`", prose_of(page)):
        program, name, *_ = command.strip("`").split()
        known = make_targets() if program == "make" else {*main.commands, "COMMAND"}
        assert name in known, command


def test_the_table_of_commands_is_complete() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert set(re.findall(r"^\| `resdepth ([\w-]+)` \|", text, re.MULTILINE)) == set(main.commands)


def test_every_public_name_is_described_in_the_order_of_use() -> None:
    text = (REPOSITORY / "docs" / "python.md").read_text()
    headings = [name for line in re.findall(r"^## (.+)$", text, re.MULTILINE) for name in line.split(", ")]
    assert sorted(headings) == sorted(resdepth.__all__)


# --- Links


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and GitLab make it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")


def links_of(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", prose_of(page))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for _, link in links_of(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose_of(target), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], link


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_of_the_repository_that_are_named_exist(page: Path) -> None:
    folders = "src|tests|docs|configs|scripts|benchmarks"
    for name in re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\w", prose_of(page)):
        assert (REPOSITORY / name).exists(), name


def test_tests_that_are_linked_exist() -> None:
    """The text of a link to a test file is the name of the test, in words."""
    for page in PAGES:
        for text, link in links_of(page):
            if "/tests/test_" not in link or text.startswith("tests/"):
                continue
            name = re.sub(r"\W+", "_", text.lower())
            functions = re.findall(
                r"^def test_(?:\d+_)?(\w+)", (page.parent / link).read_text(), re.MULTILINE
            )
            assert name in functions, f"{named(page)}: {text}"


def test_every_page_of_the_manual_can_be_reached_from_its_index() -> None:
    index = REPOSITORY / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for _, link in links_of(index)}
    assert [named(page) for page in (REPOSITORY / "docs").glob("*.md") if page not in {*linked, index}] == []


# --- What is generated or repeats the source


@pytest.mark.parametrize(
    "name",
    [
        "docs/configuration.md",
        "configs/train.schema.json",
        "configs/test.schema.json",
        "configs/simulate.schema.json",
        "configs/prepare.schema.json",
    ],
)
def test_what_make_docs_writes_is_up_to_date(name: str, tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "write_configuration_reference.py"
    spec = importlib.util.spec_from_file_location("write_configuration_reference", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(tmp_path)
    fresh = (tmp_path / name).read_text(encoding="utf-8")
    assert (REPOSITORY / name).read_text(encoding="utf-8") == fresh, "run `make docs`"


def pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_layers_of_the_page_are_those_that_are_held() -> None:
    contract = pyproject()["tool"]["importlinter"]["contracts"][0]
    shown = [block.text.splitlines() for block in blocks_of(REPOSITORY / "ARCHITECTURE.md")]
    assert contract["layers"] in shown, "copy the layers of pyproject.toml into ARCHITECTURE.md"


def test_the_tree_of_the_page_names_every_module() -> None:
    tree = blocks_of(REPOSITORY / "ARCHITECTURE.md")[0].text
    package = REPOSITORY / "src" / "resdepth"
    modules = [path for path in package.rglob("*.py") if not path.name.startswith("__")]
    missing = [path.name for path in modules if path.name not in tree and path.parent.name + "/" not in tree]
    assert missing == [], "name them in the tree of ARCHITECTURE.md"
    files = {path.name for path in [*modules, *(REPOSITORY / "tests").glob("*.py")]}
    assert set(re.findall(r"\w+\.py", tree)) <= files


def test_the_citation_can_be_read() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= set(citation)
    assert citation["version"] == pyproject()["project"]["version"]
    assert [(paper["year"], paper["start"], paper["end"]) for paper in citation["references"]] == [
        (2022, 560, 580),
        (2020, 707, 716),
    ]


def test_the_newest_version_of_the_changelog_is_that_of_the_package() -> None:
    newest = re.search(r"^## \[([\d.]+)\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == pyproject()["project"]["version"]


def test_the_hooks_run_what_continuous_integration_runs() -> None:
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    made = (REPOSITORY / "Makefile").read_text()
    for hook in hooks:
        assert hook["entry"].replace(".venv/bin/", "$(BIN)/") in made, hook["entry"]


@pytest.mark.parametrize(
    "words",
    [r"\bsessions?\b", r"/(work|home|tmp|root)/", r"pypi\.org|pythonhosted", r"\bissue #?\d", r"\bTODO\b"],
)
def test_documents_speak_of_the_project_alone(words: str) -> None:
    texts = [*PAGES, *(REPOSITORY / "configs").iterdir(), *(REPOSITORY / "scripts").glob("*.py")]
    texts += [REPOSITORY / name for name in ("LICENSE", "CITATION.cff", ".pre-commit-config.yaml")]
    found = [
        named(text) for text in texts if re.search(words, text.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert found == []


# --- Templates


def template(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((REPOSITORY / "configs" / name).read_text())
    return content


def put_in(config: Any, scene: MadeScene, pairs: str, run: Path | None = None) -> Any:
    """The template with its placeholders replaced by the made scene."""
    files = {
        "initial_DSM.tif": "initial.tif",
        "ground_truth_DSM.tif": "reference.tif",
        "imagelist.txt": "imagelist.txt",
    }
    files |= {f"pairlist_{role}.txt": pairs for role in ("training", "validation", "test")}
    files |= {
        f"{mask}_mask.tif": f"mask_{mask}.tif" for mask in ("ground_truth", "building", "water", "forest")
    }
    files |= {
        "output_directory": "logs",
        "tboard_log_directory": "tensorboard",
        "results_directory": "results",
    }
    if isinstance(config, dict):
        return {key: put_in(value, scene, pairs, run) for key, value in config.items()}
    if isinstance(config, list):
        return [put_in(value, scene, pairs, run) for value in config]
    if isinstance(config, str) and config.startswith("path/to/run_folder/"):
        return str(run / config.removeprefix("path/to/run_folder/")) if run else config
    if isinstance(config, str) and config.startswith("path/to/"):
        return scene.path(files[Path(config).name])
    return config


def test_each_variant_has_its_templates_and_their_schemas() -> None:
    wanted = {f"config_{kind}{variant}.json" for kind in ("", "test_") for variant in VARIANTS}
    assert {path.name for path in (REPOSITORY / "configs").iterdir()} == {
        *wanted, "config_simulate.json",
        *(f"{kind}.schema.json" for kind in ("train", "test", "simulate", "prepare")),
    }  # fmt: skip
    assert template("config_simulate.json")["$schema"] == "simulate.schema.json"
    assert simulate_rules(requested(REPOSITORY / "configs" / "config_simulate.json", {})) == []
    for name in wanted:
        assert template(name)["$schema"] == ("test" if "_test_" in name else "train") + ".schema.json"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_templates_have_the_published_settings(variant: str) -> None:
    config, problems = load_train_config(REPOSITORY / "configs" / f"config_{variant}.json")
    assert config is not None
    assert problems == []
    training = config.training_settings
    assert (training.tile_size, training.batch_size, training.n_epochs) == (256, 20, 2000)
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("Adam", 2e-4)
    generalized = variant.endswith("generalized")
    assert config.scheduler.settings["step_size"] == (50 if generalized else 200)
    assert len(config.datasets) == (2 if generalized else 1)
    if "stereo" in variant:
        assert config.stereopair_settings.permute_images_within_pair is generalized
    tested, problems = load_test_config(REPOSITORY / "configs" / f"config_test_{variant}.json")
    assert tested is not None
    assert problems == []
    assert tested.general.tile_size == training.tile_size


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_templates_train_and_test(variant: str, scene: MadeScene) -> None:
    pairs = {"ResDepth-mono": "mono.txt", "ResDepth-stereo": "pair.txt"}.get(variant, "pairs.txt")
    config = shrunk(put_in(template(f"config_{variant}.json"), scene, pairs))
    run = resdepth.train(scene.write(config, "train.json"))
    assert run.name.endswith(variant)
    config = shrunk(put_in(template(f"config_test_{variant}.json"), scene, pairs, run))
    results = resdepth.test(scene.write(config, "test.json"))
    assert {result.dataset for result in results} == {dataset["name"] for dataset in config["datasets"]}
    for result in results:
        assert result.evaluation is not None
        assert np.isfinite(result.evaluation.refined["terrain_without_water_forest"].mae)
