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
        {"name": "Models and data", "commands": ["simulate", "demo", "convert-model", "download"]},
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
      resdepth demo                          see it work, in a minute, on a simulated town
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
@click.argument("kind", type=click.Choice(["train", "test", "simulate"]))
@_guarded
def schema(kind: Literal["train", "test", "simulate"]) -> None:
    """Print the JSON schema of a configuration, for editors that complete and check keys.

    Every key with its type, its range, its default and what it does; docs/configuration.md tells the same.

    \b
    Example:
      resdepth schema train > train.schema.json
      (then add "$schema": "train.schema.json" to a configuration)
    """
    from resdepth.config import Section, TestConfig, TrainConfig
    from resdepth.simulate.settings import SimulateConfig

    schemas: dict[str, type[Section]] = {"train": TrainConfig, "test": TestConfig, "simulate": SimulateConfig}
    click.echo(json.dumps(schemas[kind].model_json_schema(by_alias=True), indent=2))


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
@click.argument("truth")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder of the scene; new or empty.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="A configuration (JSON); see `schema simulate`."
)
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random. [default: 0]")
@click.option(
    "--style", help="Of the town: old-town, suburb, high-rise, industrial. [default: the seed chooses]"
)
@click.option("--size", type=int, help="Of the town: side in pixels. [default: 2048]")
@click.option("--gsd", type=float, help="Pixel size of the scene in metres.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(0, 64), help="Threads.")
@_guarded
def simulate(  # noqa: PLR0913, PLR0917 - options of a command
    truth: str,
    output: Path,
    config: Path | None,
    seed: int | None,
    style: str | None,
    size: int | None,
    gsd: float | None,
    workers: int,
) -> None:
    """Make a scene with a known truth: satellite images, a stereo DSM matched from them, ortho-images.

    TRUTH is `town` (a made town), or a file: a DSM (GeoTIFF, in metres), a city model (CityJSON), a point
    cloud (LAS, LAZ). The images show it from space, with shadows, haze and noise, and carry RPCs. The initial
    DSM comes from matching them. The scene folder holds lists and configurations for `train` and `test`, and
    scene.json tells sun, cameras and errors. The same seed gives the same bytes; an interrupted simulation
    goes on when the command is given again.

    \b
    Examples:
      resdepth simulate town -o town1 --seed 1 --style suburb
      resdepth simulate lidar_dsm.tif -o scene --config simulate.json
      resdepth simulate city.json -o scene --gsd 0.5
    """
    from resdepth.simulate.loading import wished

    given = {"seed": seed, "town.style": style, "town.size_px": size, "truth.gsd_m": gsd}
    settings = wished(config, {key: value for key, value in given.items() if value is not None})
    for module in ("cv2", "matplotlib", "jinja2"):
        _needs(module, "simulate")
    from resdepth.simulate.tally import told
    from resdepth.workflows.simulating import simulate_scene

    scene = simulate_scene(truth, output, settings, workers=workers)
    click.echo(told(scene.record["errors_of_the_initial_dsm"]))
    click.echo(f"to look at: {scene.folder / 'scene.html'}")
    click.echo(f"to go on:   resdepth train {scene.folder / 'configs' / 'config_train.json'}")


def _needs(module: str, extra: str) -> None:
    from importlib.util import find_spec

    from resdepth.errors import ResDepthError

    if find_spec(module) is None:
        raise ResDepthError(f"this needs {module}, which is not installed: pip install 'resdepth[{extra}]'")


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
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the town.")
@click.option(
    "--style",
    default="any",
    show_default=True,
    type=click.Choice(["any", "old-town", "suburb", "high-rise", "industrial"]),
    help="Of the town; any: the seed chooses.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="A scene of your own instead: the folder that holds data/ in the same layout.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier demonstration in the folder.")
@_guarded
def demo(
    to: Path,
    seed: int,
    style: Literal["any", "old-town", "suburb", "high-rise", "industrial"],
    data: Path | None,
    *,
    overwrite: bool,
) -> None:
    """See it work: simulate a town, refine its DSM with the model that comes along, and look at a page.

    The town is one that no training has seen. The data, the configurations, the refined DSM and the page stay
    in one folder, to look at and to play with.

    \b
    Examples:
      resdepth demo --seed 7
      resdepth demo --to my_demo --data my_scene
    """
    for module in ("cv2", "matplotlib", "jinja2"):
        _needs(module, "simulate")
    from resdepth.demo import headline, run_demo
    from resdepth.report.table import summary_table

    done = run_demo(to, seed=seed, style=style, data=data, overwrite=overwrite)
    judged = {result.views: result.evaluation for result in done.results if result.evaluation is not None}
    if judged:
        click.echo(summary_table(judged))
    click.echo(headline(done.results[0].evaluation))
    prediction, here = done.results[0].predictions[0].resolve(), Path.cwd()
    shown = prediction.relative_to(here) if prediction.is_relative_to(here) else prediction
    click.echo(f"refined DSM: {shown}")
    click.echo(f"to look at:  {done.page}")


def run_old_script(name: str, arguments: list[str] | None = None) -> Any:
    """`python train.py CONFIG` and `python test.py CONFIG`, as the published manual has them."""
    return main.main(args=[name, *(sys.argv[1:] if arguments is None else arguments)], prog_name="resdepth")
