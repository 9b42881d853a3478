"""Commands on models and data: info, convert-model, export, simulate, match, download, demo."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import rich_click as click

from resdepth.cli.frame import (
    AS_JSON,
    DRY_RUN,
    OVERWRITE,
    echo_dry_run,
    echo_facts,
    echo_json,
    guarded,
    needs,
    use_one_opencv_thread,
)
from resdepth.options import AnyStyle, Style

if TYPE_CHECKING:
    from resdepth.models.pretrained import BundledModel, RealFigures


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="MODEL|RASTER...", type=click.Path(path_type=Path))
@AS_JSON
@guarded
def info(paths: tuple[Path, ...], *, as_json: bool) -> None:
    """Show what a model expects, or what a raster is.

    A model is a .safetensors file or a run folder; `fusion`, `dsm-alone` and `town-stereo` are bundled.

    \b
    Examples:
      resdepth info zurich.safetensors
      resdepth info dsm.tif ortho1.tif --json
    """
    from resdepth.workflows.info import about, values_of

    if as_json:
        echo_json({str(path): values_of(path) for path in paths})
        return
    stated = {str(path): about(path) for path in paths}
    for index, (name, facts) in enumerate(stated.items()):
        if index:
            click.echo()
        echo_facts(name, list(facts.items()))


@click.command()
@AS_JSON
@guarded
def models(*, as_json: bool) -> None:
    """List the bundled models: what each is for, what it sees, what it does to real data, where it fails.

    Commands take their names as --model. Networks of your own: `train`; the authors': `download models`.

    \b
    Examples:
      resdepth models
      resdepth models --json
    """
    from dataclasses import asdict

    from resdepth.models.pretrained import registry

    if as_json:
        echo_json({one.name: {**asdict(one), "file": str(one.path)} for one in registry()})
        return
    for index, one in enumerate(registry()):
        if index:
            click.echo()
        echo_facts(one.name, _facts_of(one))


def _facts_of(model: "BundledModel") -> list[tuple[str, object]]:
    low, high = model.gsd_range_m
    return [
        ("for", model.purpose),
        ("default of", ", ".join(model.default_of)),
        ("sees", model.inputs),
        ("pixel size", f"{low:g} m" if low == high else f"{low:g} to {high:g} m"),
        ("gives", "heights and their expected errors" if model.knows_error else "heights"),
        ("learned from", model.learned_from),
        ("licence", model.licence),
        ("file", f"{model.path} ({model.path.stat().st_size / 1e6:.1f} MB)"),
        *(("fails", failure) for failure in model.failures),
        *(("real data", _figures_stated(one)) for one in model.figures),
    ]


def _figures_stated(one: "RealFigures") -> str:
    return (
        f"{one.scene}, {one.shown}: MAE {one.initial_mae_m:.2f} m -> {one.mae_m:.2f} m (best median filter "
        f"{one.best_median_mae_m:.2f} m)"
    )


@click.command("convert-model")
@click.argument("run_folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The model file (.safetensors).",
)
@click.option("--checkpoint", default="Model_best.pth", show_default=True, help="Which of its checkpoints.")
@OVERWRITE
@guarded
def convert_model(run_folder: Path, output: Path, checkpoint: str, *, overwrite: bool) -> None:
    """Make one self-contained model file from RUN_FOLDER, of ours or of the published code.

    It holds the weights, the architecture, the normalisation, and where it comes from. The folder holds
    checkpoints/, model_config.json and the normalisation files (*.p).

    \b
    Example:
      resdepth convert-model logs/pretrained_models/ResDepth-stereo -o zurich.safetensors
    """
    from resdepth.errors import ResDepthError
    from resdepth.geo.geotiff import refuse_existing, refuse_inputs_as_outputs
    from resdepth.models.model import save_model
    from resdepth.models.published import load_run_folder

    if output.suffix != ".safetensors":
        raise ResDepthError(f"{output}: should end in .safetensors")
    if not output.parent.is_dir():
        raise ResDepthError(f"{output}: there is no folder {output.parent}")
    refuse_inputs_as_outputs(run_folder.rglob("*"), [output])
    refuse_existing([output], overwrite=overwrite)
    save_model(load_run_folder(run_folder, checkpoint), output)
    click.echo(f"{output}")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path),
    help="The ONNX file (.onnx).",
)  # fmt: skip
@OVERWRITE
@guarded
def export(model: Path, output: Path, *, overwrite: bool) -> None:
    """Write MODEL as an ONNX file, for programs without PyTorch.

    MODEL is a .safetensors file, a run folder, or a bundled model: fusion, dsm-alone, town-stereo. The
    normalisation is part of the file: heights in metres go in, heights in metres come out, of tiles whose
    sides are multiples of 2^depth. It is written only if onnxruntime computes from it what PyTorch does.

    \b
    Examples:
      resdepth export zurich.safetensors -o zurich.onnx
      resdepth export fusion -o fusion.onnx
    """
    from resdepth.errors import ResDepthError
    from resdepth.geo.geotiff import refuse_existing, refuse_inputs_as_outputs
    from resdepth.models.published import load_model

    if output.suffix != ".onnx":
        raise ResDepthError(f"{output}: should end in .onnx")
    if not output.parent.is_dir():
        raise ResDepthError(f"{output}: there is no folder {output.parent}")
    for module in ("onnx", "onnxscript", "onnxruntime"):
        needs(module, "onnx")
    refuse_inputs_as_outputs(model.rglob("*") if model.is_dir() else [model], [output])
    refuse_existing([output], overwrite=overwrite)
    trained = load_model(model)
    from resdepth.models.onnx_export import export_onnx

    exported = export_onnx(trained, output)
    for kind, ends in (("in: ", exported.inputs), ("out:", exported.outputs)):
        for name, described in ends.items():
            click.echo(f"{kind} {name}: {described}", err=True)
    click.echo(f"onnxruntime and PyTorch agree to {exported.difference:.0e} of the unit of height", err=True)
    click.echo(f"{output}")


@click.command()
@click.argument("reference")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder of the scene; new or empty.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="A configuration (JSON, YAML); see `template simulate`."
)
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random. [default: 0]")
@click.option("--style", help=f"Of the town: {', '.join(get_args(Style))}. [default: the seed chooses]")
@click.option("--size", type=int, help="Of the town: side in pixels. [default: 2048]")
@click.option("--gsd", type=float, help="Pixel size of the scene in metres.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(0, 64), help="Threads.")
@DRY_RUN
@guarded
def simulate(  # noqa: PLR0913, PLR0917 - options of a command
    reference: str,
    output: Path,
    config: Path | None,
    seed: int | None,
    style: str | None,
    size: int | None,
    gsd: float | None,
    workers: int,
    *,
    dry_run: bool,
) -> None:
    """Make a scene with a known reference DSM: satellite images, a DSM matched from them, ortho-images.

    REFERENCE is `town` (a made town), or a file: a DSM (GeoTIFF, in metres), a city model (CityJSON), a point
    cloud (LAS, LAZ). The images show it from space, with shadows, haze and noise, and carry RPCs. The initial
    DSM comes from matching them. The scene folder holds lists and configurations for `train` and `test`, and
    scene.json states sun, cameras and errors. The same seed gives the same bytes; an interrupted simulation
    resumes when the command is given again.

    \b
    Examples:
      resdepth simulate town -o town1 --seed 1 --style suburb
      resdepth simulate lidar_dsm.tif -o scene --config simulate.json
      resdepth simulate city.json -o scene --gsd 0.5
    """
    from resdepth.simulate.plan import requested

    given = {"seed": seed, "town.style": style, "town.size_px": size, "reference.gsd_m": gsd}
    settings = requested(config, {key: value for key, value in given.items() if value is not None})
    for module in ("jinja2", "plotly"):
        needs(module, "simulate")
    if dry_run:
        from resdepth.workflows.dry_run import simulate_facts

        echo_dry_run(simulate_facts(reference, output, settings))
        return
    use_one_opencv_thread()
    from resdepth.simulate.simulation import errors_as_text
    from resdepth.workflows.simulate import simulate_scene

    scene = simulate_scene(reference, output, settings, workers=workers)
    click.echo(errors_as_text(scene.record["errors_of_the_initial_dsm"]))
    click.echo(f"to look at: {scene.folder / 'scene.html'}")
    click.echo(f"to train:   resdepth train {scene.folder / 'configs' / 'config_train.json'}")


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The DSM (GeoTIFF).",
)
@click.option(
    "--like",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A raster whose grid the DSM gets. [default: UTM, over what two images show]",
)
@click.option("--gsd", type=float, help="Pixel size in metres. [default: about that of the images]")
@click.option(
    "--heights",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Heights to look for, metres above the ellipsoid. [default: all that the RPCs allow]",
)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(0, 64), help="Threads.")
@DRY_RUN
@OVERWRITE
@guarded
def match(  # noqa: PLR0913 - options of a command
    images: tuple[Path, ...],
    output: Path,
    like: Path | None,
    gsd: float | None,
    heights: tuple[float, float] | None,
    workers: int,
    *,
    dry_run: bool,
    overwrite: bool,
) -> None:
    """Make a DSM of raw satellite IMAGES with RPCs, by semi-global matching.

    Two images of one place suffice; of more, the pairs are used whose images agree best. Neither a first DSM
    nor a range of heights is needed. The heights are metres above the WGS 84 ellipsoid, nodata where nothing
    is matched.

    \b
    Examples:
      resdepth match img_01.tif img_02.tif -o dsm.tif
      resdepth match img_*.tif -o dsm.tif --like initial.tif
    """
    if dry_run:
        from resdepth.workflows.dry_run import match_facts

        echo_dry_run(match_facts(images, output, like=like, gsd=gsd, heights=heights))
        return
    from resdepth.workflows.match import match_images

    made = match_images(
        images, output, like=like, gsd=gsd, heights=heights, threads=workers, overwrite=overwrite
    )
    grid = made.grid
    click.echo(
        f"{made.path}: {grid.height} x {grid.width} px of {grid.gsd_m:.3g} m, {grid.crs_name}; "
        f"{100 * (1 - made.void_share):.1f} % matched; pairs: {len(made.pairs)}"
    )


@click.command()
@click.argument("name", type=click.Choice(["demo", "models", "ablations"]))
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="The folder to unpack into.")
@guarded
def download(name: str, to: Path | None) -> None:
    """Fetch what the authors of ResDepth offer: their demo, their models, or those of their ablations.

    The folder appears complete or not at all; after a break, give the same command again.

    \b
    Examples:
      resdepth download demo
      resdepth download models --to models
    """
    from resdepth.download import download as fetch

    click.echo(f"{fetch(name, to)}")


@click.command()
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
    type=click.Choice(get_args(AnyStyle)),
    help="Of the town; any: the seed chooses.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="A scene of your own instead: the folder that holds data/ in the same layout.",
)
@OVERWRITE
@click.option("--force", is_flag=True, help="With --data: refine although model and data do not fit.")
@guarded
def demo(
    to: Path,
    seed: int,
    style: AnyStyle,
    data: Path | None,
    *,
    overwrite: bool,
    force: bool,
) -> None:
    """See it work: simulate a town, refine its DSM with the bundled model, and look at a page.

    The town is one that no training has seen. The data, the configurations, the refined DSM and the page stay
    in one folder, to look at and to play with.

    \b
    Examples:
      resdepth demo --seed 7
      resdepth demo --to my_demo --data my_scene
    """
    for module in ("jinja2", "plotly"):
        needs(module, "simulate")
    from resdepth.report.tables import summary_table
    from resdepth.workflows.demo import headline, run_demo

    use_one_opencv_thread()

    done = run_demo(to, seed=seed, style=style, data=data, overwrite=overwrite, force=force)
    evaluated = {result.views: result.evaluation for result in done.results if result.evaluation is not None}
    if evaluated:
        click.echo(summary_table(evaluated))
    click.echo(headline(done.results[0].evaluation))
    prediction, here = done.results[0].predictions[0].resolve(), Path.cwd()
    shown = prediction.relative_to(here) if prediction.is_relative_to(here) else prediction
    click.echo(f"refined DSM: {shown}")
    click.echo(f"to look at:  {done.page}")
