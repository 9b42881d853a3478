"""The commands. The only place that prints, exits, and configures logging."""

import errno
import json
import logging
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec

import rich_click as click

from resdepth import __version__

Params = ParamSpec("Params")

EXIT_INPUT, EXIT_INTERRUPTED = 2, 130
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

click.rich_click.SHOW_ARGUMENTS = True
click.rich_click.TEXT_PARAGRAPH_LINEBREAKS = "\n\n"
click.rich_click.COMMAND_GROUPS = {
    "resdepth": [
        {"name": "Refine", "commands": ["train", "test", "check"]},
        {"name": "Models and data", "commands": ["convert-model", "download", "demo"]},
        {"name": "Configuration", "commands": ["schema"]},
    ]
}


def _fail(message: str, code: int = EXIT_INPUT) -> None:
    click.echo(message, err=True)
    sys.exit(code)


def _guarded(command: Callable[Params, None]) -> Callable[Params, None]:
    """Turn the errors that users can mend into a message and an exit code."""

    @wraps(command)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> None:
        from resdepth.errors import InputProblems, Interrupted, ResDepthError

        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("resdepth").setLevel(logging.INFO)
        try:
            command(*args, **kwargs)
        except InputProblems as error:
            count = sum(problem.severity == "error" for problem in error.problems)
            for problem in error.problems:
                click.echo(f"{problem.severity}: {problem}", err=True)
            _fail(f"{count} problem{'s' if count != 1 else ''}; nothing was written")
        except Interrupted as error:
            _fail(str(error), EXIT_INTERRUPTED)
        except ResDepthError as error:
            _fail(f"error: {error}")
        except KeyboardInterrupt:
            _fail("stopped by Ctrl-C", EXIT_INTERRUPTED)
        except OSError as error:
            if error.filename is None and error.errno not in _DISK_FULL:
                raise
            _fail(f"error: {error.filename or 'a file cannot be written'}: {error.strerror}")

    return guarded


@click.group("resdepth", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="resdepth")
def main() -> None:
    """Refine digital surface models (DSMs) with what a network has learned from places with a good truth.

    What to do is said in a configuration file (JSON); every key has a default but for the paths of your data.

    \b
    Examples:
      resdepth demo                          see it work, in a minute, on made data
      resdepth check config_train.json       find every mistake in a configuration
      resdepth train config_train.json       learn from your data
      resdepth test config_test.json         refine, and compare with a truth
    """


_CONFIG = click.argument("config", type=click.Path(path_type=Path))


@main.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "--resume",
    "run_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Go on with an interrupted or killed run, in its own folder.",
)
@_guarded
def train(config: Path | None, run_folder: Path | None) -> None:
    """Train a network as CONFIG (a JSON file) says.

    The run folder receives checkpoints after each epoch, the normalisation, the logs, and the best model as
    one file (model.safetensors). Ctrl-C saves the state; --resume goes on from there.

    \b
    Examples:
      resdepth train configs/config_ResDepth-stereo.json
      resdepth train --resume logs/2026-03-01_09-30_stereo
    """
    if (config is None) == (run_folder is None):
        raise click.UsageError("give either a configuration file or --resume RUN_FOLDER")
    from resdepth.workflows import resume as go_on
    from resdepth.workflows import train as run_training

    run = go_on(run_folder) if run_folder is not None else run_training(config)  # type: ignore[arg-type] # one is given
    click.echo(f"{run}")


@main.command()
@_CONFIG
@_guarded
def test(config: Path) -> None:
    """Refine DSMs as CONFIG (a JSON file) says, and compare them with the truth where one is given.

    Each image pair of the list gives one refined DSM (GeoTIFF); with a truth, also residuals, and statistics
    as text and JSON.

    \b
    Example:
      resdepth test configs/config_test_ResDepth-stereo.json
    """
    from resdepth.report.table import summary_table
    from resdepth.workflows import test as run_test

    results = run_test(config)
    for result in results:
        for prediction in result.predictions:
            click.echo(f"{prediction}")
    judged = {
        " ".join(filter(None, (result.dataset, result.views))): result.evaluation
        for result in results
        if result.evaluation is not None
    }
    if judged:
        click.echo()
        click.echo(summary_table(judged))


@main.command()
@_CONFIG
@click.option("--kind", type=click.Choice(["train", "test"]), help="By default it is seen from the keys.")
@_guarded
def check(config: Path, kind: Literal["train", "test"] | None) -> None:
    """List every problem of CONFIG, a training or test configuration.

    Only headers are read, except that the initial DSM is scanned for voids. Nothing is written.

    \b
    Example:
      resdepth check configs/config_ResDepth-stereo.json
    """
    from resdepth.checking import check as find_problems
    from resdepth.errors import InputProblems, has_errors

    problems = find_problems(config, kind)
    if has_errors(problems):
        raise InputProblems(problems)
    for problem in problems:
        click.echo(f"{problem.severity}: {problem}", err=True)
    click.echo(f"{config}: no problems found" if not problems else f"{config}: can run")


@main.command()
@click.argument("kind", type=click.Choice(["train", "test"]))
@_guarded
def schema(kind: Literal["train", "test"]) -> None:
    """Print the JSON schema of a configuration, for editors that complete and check keys.

    Every key with its type, its range, its default and what it does; docs/configuration.md tells the same.

    \b
    Example:
      resdepth schema train > train.schema.json
      (then add "$schema": "train.schema.json" to a configuration)
    """
    from resdepth.config import TestConfig, TrainConfig

    chosen = TrainConfig if kind == "train" else TestConfig
    click.echo(json.dumps(chosen.model_json_schema(by_alias=True), indent=2))


@main.command("convert-model")
@click.argument("run_folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The model file (.safetensors).",
)
@click.option("--checkpoint", default="Model_best.pth", show_default=True, help="Which of its checkpoints.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@_guarded
def convert_model(run_folder: Path, output: Path, checkpoint: str, *, overwrite: bool) -> None:
    """Make one self-contained model file from RUN_FOLDER, of ours or of the published code.

    It holds the weights, the architecture, the normalisation, and where it comes from. The folder holds
    checkpoints/, model_config.json and the normalisation files (*.p).

    \b
    Example:
      resdepth convert-model logs/pretrained_models/ResDepth-stereo -o zurich.safetensors
    """
    from resdepth.checkpoint import save_model
    from resdepth.errors import ResDepthError
    from resdepth.published import load_run_folder

    if output.suffix != ".safetensors":
        raise ResDepthError(f"{output}: should end in .safetensors")
    if output.exists() and not overwrite:
        raise ResDepthError(f"{output}: exists already; choose another name or add --overwrite")
    if not output.parent.is_dir():
        raise ResDepthError(f"{output}: there is no folder {output.parent}")
    save_model(load_run_folder(run_folder, checkpoint), output)
    click.echo(f"{output}")


@main.command()
@click.argument("name", type=click.Choice(["demo", "models", "ablations"]))
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="The folder to unpack into.")
@_guarded
def download(name: str, to: Path | None) -> None:
    """Fetch what the authors of ResDepth offer: their demo, their models, or those of their ablations.

    A broken download goes on where it stopped when the command is given again.

    \b
    Examples:
      resdepth download demo
      resdepth download models --to models
    """
    from resdepth.download import download as fetch

    click.echo(f"{fetch(name, to)}")


@main.command()
@click.option(
    "--to",
    default=Path("demo"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that receives everything.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the made scene.")
@_guarded
def demo(to: Path, seed: int) -> None:
    """See it work: make a small scene, train on it for a minute, refine what was not trained on.

    The data, the configurations, the run and the refined DSM stay in one folder, to look at and to play with.

    \b
    Example:
      resdepth demo --to demo --seed 7
    """
    from resdepth.demo import run_demo
    from resdepth.report.table import summary_table

    results = run_demo(to, seed)
    judged = {result.dataset: result.evaluation for result in results if result.evaluation is not None}
    click.echo(summary_table(judged))
    for result in results:
        for prediction in result.predictions:
            click.echo(f"refined DSM: {prediction}")


def run_old_script(name: str, arguments: list[str] | None = None) -> Any:
    """`python train.py CONFIG` and `python test.py CONFIG`, as the published manual has them."""
    return main.main(args=[name, *(sys.argv[1:] if arguments is None else arguments)], prog_name="resdepth")
