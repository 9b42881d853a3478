"""The plugin in QGIS, without windows: `make qgis` installs it if it can, and runs this."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import MadeScene, make_scene

REPOSITORY = Path(__file__).resolve().parents[2]
# Debian's wrapper passes an option that only QGIS itself knows.
QGIS_PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
pytestmark = [
    pytest.mark.qgis,
    pytest.mark.skipif(QGIS_PROCESS is None, reason="there is no QGIS: `make qgis` says what to do"),
]


def surroundings(folder: Path) -> dict[str, str]:
    """A profile of its own; QGIS must not find the Python of this environment, but the command of it."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return kept | {
        "PATH": "/usr/bin:/bin",
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_CUSTOM_CONFIG_PATH": str(folder),
        "QGIS_PLUGINPATH": str(REPOSITORY / "qgis"),
        "RESDEPTH_COMMAND": str(Path(sys.executable).with_name("resdepth")),
    }


def qgis(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(QGIS_PROCESS), *map(str, arguments)]
    return subprocess.run(
        command, env=surroundings(folder), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> MadeScene:
    made = make_scene(tmp_path_factory.mktemp("qgis"), 64, 160)
    assert "* resdepth_qgis" in qgis(made.folder / "profile", "plugins", "enable", "resdepth_qgis").stdout
    return made


def run(scene: MadeScene, algorithm: str, *parameters: str) -> tuple[dict[str, Any], str]:
    """What an algorithm gives, and what it reports if it fails."""
    done = qgis(scene.folder / "profile", "--json", "run", f"resdepth:{algorithm}", "--", *parameters)
    if done.returncode:
        return {}, done.stdout + done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])["results"], ""


def test_the_algorithms_are_there_with_the_help_of_the_commands(scene: MadeScene) -> None:
    listed = qgis(scene.folder / "profile", "list").stdout
    for name in ("prepare", "refine", "evaluate", "doctor"):
        assert f"resdepth:{name}" in listed
    assert "Keep the heights that voids" in qgis(scene.folder / "profile", "help", "resdepth:refine").stdout


def test_refine_evaluate_and_doctor_give_their_results(scene: MadeScene) -> None:
    initial, reference = f"{scene.folder}/initial.tif", f"REFERENCE={scene.folder}/reference.tif"
    refined = scene.folder / "by_qgis.tif"
    given = (f"DSM={initial}", f"OUTPUT={refined}", "DEVICE=cpu", "REPORT=1", "FORCE=1")
    found, failure = run(scene, "refine", *given)
    assert failure == ""
    assert found["OUTPUT"] == str(refined)
    for made in (refined, refined.with_suffix(".qml"), Path(found["PROVENANCE"]), Path(found["PAGE"])):
        assert made.is_file()

    folder = scene.folder / "evaluated_by_qgis"
    given = (f"DSMS={refined}", reference, f"INITIAL={initial}", f"OUTPUT={folder}")
    found, failure = run(scene, "evaluate", *given)
    assert failure == ""
    assert found["VERDICT"]
    assert Path(found["PAGE"]).is_file()
    assert (folder / "errors_by_qgis.qml").is_file()

    page = scene.folder / "doctor.html"
    found, failure = run(scene, "doctor", f"SUBJECT={initial}", reference, f"HTML={page}")
    assert failure == ""
    assert found["WORST"] in {"", "note", "warning", "fault"}
    assert page.is_file()


def test_errors_of_the_command_are_shown(scene: MadeScene) -> None:
    there = scene.folder / "there.tif"
    shutil.copy(scene.folder / "reference.tif", there)
    _, failure = run(scene, "refine", f"DSM={scene.folder}/initial.tif", f"OUTPUT={there}", "FORCE=1")
    assert f"{there}" in failure
    assert "exists" in failure
    assert "Traceback" not in failure


def test_results_open_in_the_project_with_their_styles(scene: MadeScene) -> None:
    command = ["/usr/bin/python3", Path(__file__).with_name("loading.py"), scene.folder]
    environ = surroundings(scene.folder / "profile")
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) >= {
        "Refined DSM|hillshade",
        "opened: where heights come from|paletted",
        "errors initial|singlebandpseudocolor",
    }


def test_a_raster_opens_with_its_style_and_a_dialog_opens(scene: MadeScene) -> None:
    script = REPOSITORY / "scripts" / "draw_qgis.py"
    folder = scene.folder / "pictures"
    folder.mkdir()
    command = ["/usr/bin/python3", script, folder, "refine", scene.folder / "by_qgis.tif"]
    done = subprocess.run(
        command,
        env=surroundings(scene.folder / "profile"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "by_qgis.png: hillshade" in done.stdout
    assert (folder / "refine.png").stat().st_size > 10_000
