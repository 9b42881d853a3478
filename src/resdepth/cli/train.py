"""Commands that work from configuration files: train, test, check, schema."""

import json
from pathlib import Path
from typing import Literal, get_args

import rich_click as click

from resdepth.cli.frame import AS_JSON, CONFIG, EXIT_INPUT, echo_json, guarded
from resdepth.options import Kind


@click.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "--resume",
    "run_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Resume an interrupted or killed run, in its own folder.",
)
@guarded
def train(config: Path | None, run_folder: Path | None) -> None:
    """Train a network by CONFIG (a JSON file, or a folder of `prepare` or `simulate`).

    The run folder receives checkpoints after each epoch, the normalisation, the logs, and the best model as
    one file (model.safetensors). Ctrl-C saves the state; --resume continues from there.

    \b
    Examples:
      resdepth train configs/config_ResDepth-stereo.json
      resdepth train --resume logs/2026-03-01_09-30_stereo
    """
    if (config is None) == (run_folder is None):
        raise click.UsageError("give either a configuration file or --resume RUN_FOLDER")
    from resdepth.data.dataset_folder import config_in
    from resdepth.workflows.train import resume as resume_training
    from resdepth.workflows.train import train as run_training

    if run_folder is not None:
        click.echo(f"{resume_training(run_folder)}")
        return
    assert config is not None, "one of both is given"
    run = run_training(config_in(config, "train"))
    click.echo(f"{run}")


@click.command()
@CONFIG
@guarded
def test(config: Path) -> None:
    """Refine DSMs by CONFIG (a JSON file), and compare them with the reference DSM where one is given.

    CONFIG may be a folder of `prepare` or `simulate`. Each image pair of the list gives one refined DSM
    (GeoTIFF); with a reference DSM, also residuals, and statistics as text and JSON.

    \b
    Example:
      resdepth test configs/config_test_ResDepth-stereo.json
    """
    from resdepth.data.dataset_folder import config_in
    from resdepth.report.tables import baseline_tables, summary_table
    from resdepth.workflows.test import test as run_test

    results = run_test(config_in(config, "test"))
    for result in results:
        for prediction in result.predictions:
            click.echo(f"{prediction}")
    evaluated = {
        " ".join(filter(None, (result.dataset, result.views))): result.evaluation
        for result in results
        if result.evaluation is not None
    }
    if evaluated:
        click.echo()
        click.echo(summary_table(evaluated))
    for table in baseline_tables(evaluated):
        click.echo()
        click.echo(table)


@click.command()
@CONFIG
@click.option("--kind", type=click.Choice(get_args(Kind)), help="By default it is seen from the keys.")
@AS_JSON
@guarded
def check(config: Path, kind: Kind | None, *, as_json: bool) -> None:
    """List every problem of CONFIG, a training or test configuration.

    Headers are read, the initial DSM is scanned for voids, and compared with the reference DSM in a sample of
    windows: a bias or a horizontal shift between them is a warning. Nothing is written.

    \b
    Examples:
      resdepth check configs/config_ResDepth-stereo.json
      resdepth check my_train.json --json
    """
    import sys
    from dataclasses import asdict

    from resdepth.errors import InputProblems, has_errors
    from resdepth.workflows.check import check as find_problems

    problems = find_problems(config, kind)
    if as_json:
        can_run = not has_errors(problems)
        echo_json({
            "config": str(config), "can_run": can_run, "problems": [asdict(problem) for problem in problems],
        })  # fmt: skip
        sys.exit(0 if can_run else EXIT_INPUT)
    if has_errors(problems):
        raise InputProblems(problems)
    for problem in problems:
        click.echo(f"{problem.severity}: {problem}", err=True)
    click.echo(f"{config}: no problems found" if not problems else f"{config}: can run")


@click.command()
@click.argument("kind", type=click.Choice([*get_args(Kind), "simulate", "prepare"]))
@guarded
def schema(kind: Kind | Literal["simulate", "prepare"]) -> None:
    """Print the JSON schema of a configuration, for editors that complete and check keys.

    Every key with its type, its range, its default and what it does; docs/configuration.md states the same.

    \b
    Example:
      resdepth schema train > train.schema.json
      (then add "$schema": "train.schema.json" to a configuration)
    """
    from resdepth.config.schema import Section, TestConfig, TrainConfig
    from resdepth.preparation.request import PrepareConfig
    from resdepth.simulate.plan import SimulateConfig

    schemas: dict[str, type[Section]] = {"train": TrainConfig, "test": TestConfig, "simulate": SimulateConfig}
    schemas["prepare"] = PrepareConfig
    click.echo(json.dumps(schemas[kind].model_json_schema(by_alias=True), indent=2))
