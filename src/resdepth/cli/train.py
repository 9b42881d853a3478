"""Commands that work from configuration files: train, test, check, schema, template."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from resdepth.cli.frame import (
    AS_JSON,
    CONFIG,
    DRY_RUN,
    EXIT_INPUT,
    OVERWRITE,
    echo_dry_run,
    echo_json,
    guarded,
)
from resdepth.options import AnyKind

if TYPE_CHECKING:
    from resdepth.config.schema import Section

TAKEN_BY = {
    "train": "resdepth train CONFIG",
    "test": "resdepth test CONFIG",
    "simulate": "resdepth simulate REFERENCE --config CONFIG",
    "prepare": "resdepth prepare REQUEST",
}
KINDS = tuple(TAKEN_BY)
KIND = click.argument("kind", type=click.Choice(KINDS))


@click.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "--resume",
    "run_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Resume an interrupted or killed run, in its own folder.",
)
@DRY_RUN
@guarded
def train(config: Path | None, run_folder: Path | None, *, dry_run: bool) -> None:
    """Train a network by CONFIG (a JSON or YAML file, or a folder of `prepare` or `simulate`).

    The run folder receives checkpoints after each epoch, the normalisation, the logs, and the best model as
    one file (model.safetensors). Ctrl-C saves the state; --resume continues from there.

    Several graphics cards or machines train one network when torchrun starts it (docs/train.md).

    \b
    Examples:
      resdepth train configs/config_ResDepth-stereo.json
      resdepth train --resume logs/2026-03-01_09-30_stereo
      torchrun --nproc-per-node 4 -m resdepth train my_train.json
    """
    if (config is None) == (run_folder is None):
        raise click.UsageError("give either a configuration file or --resume RUN_FOLDER")
    from resdepth.data.dataset_folder import config_in
    from resdepth.training.parallel import speaks
    from resdepth.workflows.train import resume as resume_training
    from resdepth.workflows.train import train as run_training

    if dry_run:
        from resdepth.models.published import CONFIG_FILE
        from resdepth.workflows.dry_run import train_facts

        if run_folder is not None:
            echo_dry_run(train_facts(run_folder / CONFIG_FILE, resumed=True))
        elif config is not None:
            echo_dry_run(train_facts(config_in(config, "train")))
        return
    if run_folder is not None:
        run = resume_training(run_folder)
    else:
        assert config is not None, "one of both is given"
        run = run_training(config_in(config, "train"))
    if speaks():
        click.echo(f"{run}")


@click.command()
@CONFIG
@DRY_RUN
@guarded
def test(config: Path, *, dry_run: bool) -> None:
    """Refine DSMs by CONFIG (a JSON or YAML file), and compare them with a reference DSM where one is given.

    CONFIG may be a folder of `prepare` or `simulate`. Each image pair of the list gives one refined DSM
    (GeoTIFF); with a reference DSM, also residuals, statistics as text and JSON, and a page to look at; a
    last line states whether the refined DSM is better than the initial one and its best median filter.

    \b
    Example:
      resdepth test configs/config_test_ResDepth-stereo.json
    """
    from resdepth.data.dataset_folder import config_in
    from resdepth.report.tables import baseline_tables, summary_table
    from resdepth.workflows.test import test as run_test
    from resdepth.workflows.test import verdicts_of

    if dry_run:
        from resdepth.workflows.dry_run import test_facts

        echo_dry_run(test_facts(config_in(config, "test")))
        return
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
    verdicts = verdicts_of(results)
    if verdicts:
        click.echo()
    for name, verdict in verdicts.items():
        click.echo(f"verdict{f' of {name}' if len(verdicts) > 1 else ''}: {verdict.sentence}")


@click.command()
@CONFIG
@click.option("--kind", type=click.Choice(KINDS), help="By default it is seen from the keys.")
@AS_JSON
@guarded
def check(config: Path, kind: AnyKind | None, *, as_json: bool) -> None:
    """List every problem of CONFIG, a configuration (JSON, YAML) of train, test, simulate or prepare.

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
@KIND
@guarded
def schema(kind: AnyKind) -> None:
    """Print the JSON schema of a configuration, for editors that complete and check keys.

    Every key with its type, its range, its default and what it does; docs/configuration.md states the same.

    \b
    Example:
      resdepth schema train > train.schema.json
      (then add "$schema": "train.schema.json" to a configuration)
    """
    click.echo(json.dumps(_schema_of(kind).model_json_schema(by_alias=True), indent=2))


@click.command()
@KIND
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="The file (.yaml, .yml). [default: print it]",
)  # fmt: skip
@OVERWRITE
@guarded
def template(kind: AnyKind, *, output: Path | None, overwrite: bool) -> None:
    """Write a configuration to begin with: every key, what it does and its default, as YAML with comments.

    Put your paths in; leave out what you do not change. Of train and test, the data sets have ortho-images.

    \b
    Examples:
      resdepth template train > my_train.yaml
      resdepth template prepare -o request.yaml
    """
    from resdepth.config.template import template as write_template
    from resdepth.errors import ResDepthError
    from resdepth.geo.geotiff import refuse_existing
    from resdepth.runtime.atomic import write_text
    from resdepth.runtime.yamlfiles import SUFFIXES

    text = write_template(_schema_of(kind), TAKEN_BY[kind])
    if output is None:
        click.echo(text, nl=False)
        return
    if output.suffix.lower() not in SUFFIXES:
        raise ResDepthError(f"{output}: should end in .yaml")
    refuse_existing([output], overwrite=overwrite)
    write_text(output, text)
    click.echo(f"{output}")


def _schema_of(kind: AnyKind) -> "type[Section]":
    from resdepth.config.schema import TestConfig, TrainConfig
    from resdepth.preparation.request import PrepareConfig
    from resdepth.simulate.plan import SimulateConfig

    schemas: dict[AnyKind, type[Section]] = {
        "train": TrainConfig, "test": TestConfig, "simulate": SimulateConfig, "prepare": PrepareConfig,
    }  # fmt: skip
    return schemas[kind]
