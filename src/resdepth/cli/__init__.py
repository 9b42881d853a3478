"""The commands. The only place that prints, exits, and configures logging."""

import sys
from typing import Any

import rich_click as click

from resdepth import __version__
from resdepth.cli.data import convert_model, demo, download, export, info, match, models, simulate
from resdepth.cli.evaluate import compare, evaluate
from resdepth.cli.frame import make_streams_sound
from resdepth.cli.prepare import doctor, prepare
from resdepth.cli.refine import finetune, refine
from resdepth.cli.train import check, schema, template, test, train

click.rich_click.SHOW_ARGUMENTS = True
click.rich_click.TEXT_PARAGRAPH_LINEBREAKS = "\n\n"
click.rich_click.COMMAND_GROUPS = {
    "resdepth": [
        {"name": "Refine", "commands": ["refine", "finetune", "train", "test", "check", "doctor"]},
        {"name": "Evaluate", "commands": ["evaluate", "compare"]},
        {
            "name": "Models and data",
            "commands": [
                "prepare",
                "match",
                "simulate",
                "demo",
                "info",
                "models",
                "convert-model",
                "export",
                "download",
            ],
        },
        {"name": "Configuration", "commands": ["template", "schema"]},
    ]
}


class _Group(click.RichGroup):
    """The commands, on streams that take whatever is written."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        make_streams_sound()
        return super().main(*args, **kwargs)


@click.group("resdepth", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="resdepth")
def main() -> None:
    """Refine digital surface models (DSMs) with a network trained where a better DSM is known.

    What to do stands in a configuration file (JSON, YAML); nearly every key has a default.

    \b
    Examples:
      resdepth demo                          see it work, in a minute, on a simulated town
      resdepth check config_train.json       find every mistake in a configuration
      resdepth train config_train.json       learn from your data
      resdepth test config_test.json         refine, and compare with a reference DSM
      resdepth evaluate a.tif --reference t.tif -o evaluated    evaluate any DSM, and look at a page
    """


for command in (
    refine,
    finetune,
    train,
    test,
    check,
    doctor,
    evaluate,
    compare,
    info,
    models,
    prepare,
    match,
    simulate,
    demo,
    convert_model,
    export,
    download,
    schema,
    template,
):
    main.add_command(command)


def run_old_script(name: str, arguments: list[str] | None = None) -> Any:
    """`python train.py CONFIG` and `python test.py CONFIG`, as the published manual has them."""
    return main.main(args=[name, *(sys.argv[1:] if arguments is None else arguments)], prog_name="resdepth")
