"""The commands: what they print, where, and with which exit code."""

import importlib.metadata
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from conftest import MadeScene, make_model, write_published_run
from resdepth.cli import main, run_old_script
from resdepth.errors import Interrupted, ResDepthError
from resdepth.models.published import load_model
from resdepth.runtime import progress

REPOSITORY = Path(__file__).resolve().parents[1]
COMMANDS = (
    "refine", "train", "test", "check", "evaluate", "compare", "schema", "info", "simulate", "convert-model",
    "export", "download", "demo", "finetune", "match", "doctor", "prepare", "template", "models",
)  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def python(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Any:
    """The commands configure logging, as they should; not for the tests that follow."""
    yield
    logging.getLogger("resdepth").setLevel(logging.NOTSET)


# Help


def test_the_list_of_commands_is_complete() -> None:
    assert set(main.commands) == set(COMMANDS)
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", result.output)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_shows_an_example(command: str, option: str) -> None:
    result = run(command, option)
    assert result.exit_code == 0
    example = re.search(rf"Examples?:\s+resdepth {command} ?(.*)", result.output)
    assert example is not None, result.output


def test_the_version_is_stated() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert importlib.metadata.version("resdepth") in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train"],
        ["test"],
        ["check"],
        ["check", "a.json", "b.json"],
        ["check", "a.json", "--kind", "both"],
        ["check", "--verbos", "a.json"],
        ["train", "a.json", "--resume", "run"],
        ["schema"],
        ["schema", "both"],
        ["convert-model", "run"],
        ["download", "everything"],
        ["demo", "--seed", "-1"],
    ],
)
def test_a_command_that_is_not_understood_exits_with_code_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert "Usage: resdepth" in result.output


# Check


def test_check_tells_problems_on_stderr_and_success_on_stdout(scene: MadeScene) -> None:
    sound = run("check", scene.write(scene.train_config()))
    assert sound.stdout == f"{scene.folder}/config.json: no problems found\n"
    assert sound.stderr == ""
    broken = run("check", scene.write(scene.train_config(model={"depth": 0})))
    assert broken.stdout == ""
    assert broken.stderr.splitlines() == [
        f"error: {scene.folder}/config.json: model.depth: found 0; should be greater than or equal to 1",
        "1 problem; nothing was written",
    ]


def test_check_takes_a_configuration_for_what_it_is_stated(scene: MadeScene) -> None:
    config = scene.write({"output": {}})
    assert "tboard_log_dir: missing" in run("check", config).output
    assert "directory: missing" in run("check", "--kind", "test", config).output


# Schema


@pytest.mark.parametrize("kind", ["train", "test"])
def test_the_schema_knows_and_describes_every_key_of_the_templates(kind: str) -> None:
    result = run("schema", kind)
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    names = sorted(
        (REPOSITORY / "configs").glob("config_test_*.json" if kind == "test" else "config_Res*.json")
    )
    assert len(names) == 4
    for name in names:
        assert list(strangers(schema, schema, json.loads(name.read_text()))) == []
    assert list(strangers(schema, schema, {"datasets": [{"raster": "x"}], "request": 1})) == [
        "raster",
        "request",
    ]


def strangers(schema: dict[str, Any], section: dict[str, Any], value: Any) -> Any:
    """Keys of a configuration that a JSON schema does not have, or does not describe."""
    for option in section.get("anyOf", []):
        if "$ref" in option or "items" in option:
            section = option
    if "$ref" in section:
        section = schema["$defs"][section["$ref"].removeprefix("#/$defs/")]
    if isinstance(value, list):
        for item in value:
            yield from strangers(schema, section["items"], item)
    if isinstance(value, dict) and "properties" in section:
        assert section["additionalProperties"] is False
        for key, inner in value.items():
            found = section["properties"].get(key)
            if found is None or not (found.keys() & {"description", "$ref"}):
                yield key
            else:
                yield from strangers(schema, found, inner)


# Models


def test_a_run_folder_becomes_one_file(tmp_path: Path) -> None:
    model = make_model()
    write_published_run(tmp_path / "run", model)
    output = tmp_path / "zurich.safetensors"
    result = run("convert-model", tmp_path / "run", "-o", output)
    assert result.exit_code == 0
    assert result.stdout == f"{output}\n"
    converted = load_model(output)
    assert converted.architecture == model.architecture
    assert converted.normalization == model.normalization
    assert all(value.equal(converted.weights[name]) for name, value in model.weights.items())


def spoil_the_checkpoint(folder: Path) -> None:
    (folder / "run" / "checkpoints" / "Model_best.pth").write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("output", "options", "prepare", "stated"),
    [
        ("model.pth", [], None, "model.pth: should end in .safetensors"),
        ("model.safetensors", [], Path.touch, "model.safetensors: exists already"),
        ("gone/model.safetensors", [], None, "there is no folder"),
        ("model.safetensors", ["--checkpoint", "Model_last.pth"], None, "Model_last.pth: no such file"),
        ("model.safetensors", [], lambda path: spoil_the_checkpoint(path.parent), "Model_best.pth: refused"),
        ("model.safetensors", ["--overwrite"], Path.mkdir, "is a directory"),
    ],
)
def test_a_conversion_that_cannot_be_is_refused_and_writes_nothing(
    tmp_path: Path, output: str, options: list[str], prepare: Callable[[Path], object] | None, stated: str
) -> None:
    write_published_run(tmp_path / "run", make_model())
    if prepare:
        prepare(tmp_path / output)
    before = sorted(tmp_path.rglob("*"))
    result = run("convert-model", tmp_path / "run", "-o", tmp_path / output, *options)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert stated in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_an_input_is_never_replaced_even_if_outputs_may_be(tmp_path: Path) -> None:
    write_published_run(tmp_path / "run", make_model())
    inside = tmp_path / "run" / "model.safetensors"
    inside.touch()
    for options in ([], ["--overwrite"]):
        refused = run("convert-model", tmp_path / "run", "-o", inside, *options)
        assert refused.exit_code == 2
        assert "is an input" in refused.output
    assert inside.read_bytes() == b""


def test_all_commands_describe_overwriting_in_the_same_words() -> None:
    options = [
        option
        for command in main.commands.values()
        for option in command.params
        if option.name == "overwrite"
    ]
    assert len(options) >= 4
    assert len({option.help for option in options}) == 1


def test_a_model_file_is_replaced_only_when_stated_to(tmp_path: Path) -> None:
    write_published_run(tmp_path / "run", make_model())
    output = tmp_path / "model.safetensors"
    output.touch()
    assert run("convert-model", tmp_path / "run", "-o", output, "--overwrite").exit_code == 0
    assert load_model(output).architecture.depth == 2


# Errors and exit codes


@pytest.mark.parametrize(
    ("error", "code", "stated"),
    [
        (ResDepthError("the loss is not finite"), 2, "error: the loss is not finite\n"),
        (Interrupted("stopped after epoch 3"), 130, "stopped after epoch 3\n"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C\n"),
        (PermissionError(13, "Permission denied", "logs/run"), 2, "error: logs/run: Permission denied\n"),
    ],
)
def test_errors_become_a_message_and_an_exit_code(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, stated: str
) -> None:
    def fails(_: Path) -> None:
        raise error

    monkeypatch.setattr("resdepth.workflows.train.train", fails)
    result = run("train", scene.write(scene.train_config()))
    assert result.exit_code == code
    assert result.stderr == stated


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), OSError("of nothing in particular")])
def test_our_own_mistakes_are_not_hidden(
    scene: MadeScene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(_: Path) -> None:
        raise error

    monkeypatch.setattr("resdepth.workflows.train.train", fails)
    result = run("train", scene.write(scene.train_config()))
    assert result.exit_code == 1
    assert result.exception is error


def test_training_and_testing_print_what_they_wrote(scene: MadeScene) -> None:
    trained = run("train", scene.write(scene.train_config()))
    assert trained.exit_code == 0, trained.output
    folder = Path(trained.stdout.strip())
    assert folder.parent == scene.folder / "logs"
    config = scene.test_config({"path": str(folder / "model.safetensors")})
    tested = run("test", scene.write(config))
    assert tested.exit_code == 0, tested.output
    predictions = [Path(line) for line in tested.stdout.splitlines() if line.endswith(".tif")]
    assert len(predictions) == 2
    assert all(path.is_file() for path in predictions)
    assert "MAE" in tested.stdout


def test_a_terminal_shows_the_error_of_the_initial_dsm_on_lines_of_their_own(scene: MadeScene) -> None:
    """Above the progress bar, which erases its line first; not in it."""
    pty = pytest.importorskip("pty")
    command = [sys.executable, "-m", "resdepth", "train", scene.write(scene.train_config())]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=scene.folder, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        with suppress(OSError):  # EIO: the command has ended
            while some := os.read(ours, 65536):
                text += some
    os.close(ours)
    assert process.returncode == 0, text.decode()
    line = r"(?:^|\x1b\[2K)epoch \d: validation MAE \d\.\d{3} m \(initial DSM \d\.\d{3} m\)\r?$"
    assert len(re.findall(line, text.decode(), re.MULTILINE)) == 2


# The old way, and the start


def test_the_old_scripts_do_what_the_commands_do(scene: MadeScene) -> None:
    model = write_published_run(scene.folder / "run", make_model())
    config = scene.write(scene.test_config(model))
    result = python(REPOSITORY / "test.py", config.name, cwd=scene.folder)
    assert result.returncode == 0, result.stderr
    assert len(list((scene.folder / "results").rglob("*_prediction.tif"))) == 2
    (scene.folder / "reference.tif").unlink()
    config = scene.write(scene.train_config())
    result = python(REPOSITORY / "train.py", config.name, cwd=scene.folder)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "1 problem; nothing was written"
    assert "Traceback" not in result.stderr


def test_an_old_script_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run_old_script("train", ["--help"])
    assert raised.value.code == 0
    assert "resdepth train" in capsys.readouterr().out


def test_importing_the_package_and_asking_for_help_do_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys, resdepth, resdepth.cli\n"
        "try:\n    resdepth.cli.main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "found = {'torch', 'rasterio', 'pydantic'} & set(sys.modules)\n"
        "print(sorted(found), file=sys.stderr)\n"
    )
    result = python("-c", code, cwd=tmp_path)
    assert result.stderr == "[]\n"


def test_evaluating_does_without_torch(tmp_path: Path) -> None:
    code = "import sys, resdepth.workflows.evaluate\nprint('torch' in sys.modules)"
    assert python("-c", code, cwd=tmp_path).stdout == "False\n"


def test_every_public_name_is_there_and_documented() -> None:
    code = (
        "import resdepth\n"
        "for name in resdepth.__all__:\n    assert getattr(resdepth, name).__doc__, name\n"
        "assert set(resdepth.__all__) <= set(dir(resdepth))\n"
        "assert len(resdepth.__all__) <= 17\n"
    )
    result = python("-c", code, cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr


# What goes where: results to stdout, all else to stderr


def test_how_much_is_reported_can_be_chosen(scene: MadeScene) -> None:
    config = scene.write(scene.train_config())
    said = {}
    for options in (["-q"], [], ["-v"], ["--log-level", "error"]):
        result = python("-m", "resdepth", "train", config.name, *options, cwd=scene.folder)
        assert result.returncode == 0, result.stderr
        assert Path(result.stdout.strip()).is_dir(), "the result is printed all the same"
        said[" ".join(options)] = result.stderr
    assert "training samples" in said[""]
    assert "epoch 1" in said[""]
    assert said["-q"] == said["--log-level error"] == ""
    assert re.search(
        r"^\d{4}-\d\d-\d\d \S+ INFO resdepth\.workflows\.train: run folder", said["-v"], re.MULTILINE
    )
    log = sorted((scene.folder / "logs").rglob("run.log"))[0]
    assert "training samples" in log.read_text(), "the file of the run keeps what the terminal does not show"


def test_quiet_work_shows_no_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    for level, lines in ((logging.NOTSET, 1), (logging.INFO, 1), (logging.WARNING, 0)):
        for name in ("resdepth", progress.PROGRESS):
            logging.getLogger(name).setLevel(level)
            with progress.progress_bar("refining", 2) as bar:
                bar.advance()
            logging.getLogger(name).setLevel(logging.NOTSET)
            assert capsys.readouterr().err.count("refining  50 %") == lines


def test_one_level_is_asked_for_at_most(scene: MadeScene) -> None:
    refused = run("check", scene.write(scene.train_config()), "-q", "-v")
    assert refused.exit_code == 2
    assert "give one of -q, -v" in refused.stderr


def test_documents_for_programs_stand_alone_on_stdout(scene: MadeScene) -> None:
    """Of whole processes, so that nothing slips past the test."""
    config = scene.write(scene.train_config())
    folder, reference = scene.folder, scene.path("reference.tif")
    commands: dict[str, list[object]] = {
        "check": [config],
        "info": [scene.path("initial.tif"), "town-stereo"],
        "doctor": [scene.path("initial.tif"), "--reference", reference],
        "evaluate": [scene.path("ortho1.tif"), "--reference", reference, "-o", folder / "evaluated",
                     "--initial", scene.path("initial.tif"), "--baselines"],
        "compare": [folder / "evaluated", "-o", folder / "compared.html"],
    }  # fmt: skip
    found = {}
    for name, arguments in commands.items():
        result = python("-m", "resdepth", name, *arguments, "--json", cwd=folder)
        assert result.returncode == 0, result.stderr
        found[name] = json.loads(result.stdout, parse_constant=pytest.fail)
    assert found["check"] == {"config": str(config), "can_run": True, "problems": []}
    assert found["info"][scene.path("initial.tif")]["height"] == 64
    assert found["doctor"]["worst"] in {"fault", "warning", "note", None}
    evaluated = found["evaluate"]
    kept = json.loads((folder / "evaluated" / "evaluation.json").read_text())
    assert {key: evaluated[key] for key in kept} == kept
    assert evaluated["verdict"]["rating"] == "worse", "an image is no DSM"
    assert evaluated["verdict"]["median_px"] in {5, 7, 9, 11, 15, 21, 31}
    assert Path(evaluated["page"]).is_file()
    assert found["compare"]["surfaces"]["evaluated"]["classes"] == kept["surfaces"]["ortho1"]["classes"]


def test_problems_are_a_document_too(scene: MadeScene) -> None:
    broken = run("check", scene.write(scene.train_config(model={"depth": 0})), "--json")
    assert broken.exit_code == 2
    stated = json.loads(broken.stdout)
    assert stated["can_run"] is False
    assert stated["problems"][0]["where"].endswith("config.json: model.depth")
    assert broken.stderr == ""


def test_evaluate_ends_with_a_verdict(scene: MadeScene) -> None:
    dsm, reference = scene.path("initial.tif"), scene.path("reference.tif")
    done = run("evaluate", f"same={reference}", "--reference", reference, "--initial", dsm,
               "-o", scene.folder / "evaluated", "--no-rasters")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert re.search(
        r"^verdict: same is better than the initial DSM: its MAE is 0\.00 m against \d\.\d\d m \(-100 %\)$",
        done.stdout, re.MULTILINE,
    ), done.stdout  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_printed(shell: str, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "command-line.md").read_text()
    assert f"_RESDEPTH_COMPLETE={shell}_source resdepth" in page
    environment = {**os.environ, "_RESDEPTH_COMPLETE": f"{shell}_source"}
    code = "from resdepth.cli import main; main(prog_name='resdepth')"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert printed.returncode == 0, printed.stderr
    assert f"_RESDEPTH_COMPLETE={shell}_complete" in printed.stdout


def test_commands_options_and_choices_are_completed(tmp_path: Path) -> None:
    code = "from resdepth.cli import main; main(prog_name='resdepth')"
    wanted = {
        "resdepth ev": "evaluate",
        "resdepth refine --dry": "--dry-run",
        "resdepth template pre": "prepare",
    }
    for words, completed in wanted.items():
        asked = {
            "_RESDEPTH_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        printed = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True,
            check=False, cwd=tmp_path,
        )  # fmt: skip
        assert f"plain,{completed}" in printed.stdout.splitlines(), printed.stderr
