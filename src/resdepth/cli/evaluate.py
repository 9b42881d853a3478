"""Commands that evaluate: evaluate, compare."""

from pathlib import Path
from typing import Any

import rich_click as click

from resdepth.cli.frame import AS_JSON, OVERWRITE, echo_json, guarded, needs

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("dsms", nargs=-1, required=True, metavar="DSM...|FOLDER")
@click.option(
    "--reference", type=FILE,
    help="The reference DSM, or a `prepare` folder; all metrics are on its grid. [required but for FOLDER]",
)  # fmt: skip
@click.option("--truth", type=FILE, hidden=True, help="The earlier name of --reference.")
@click.option("--initial", type=FILE, help="The DSM before refinement, to see what became better.")
@click.option(
    "--mask", "masks", multiple=True, metavar="NAME=FILE",
    help="Again for each: ground_truth, building, water, forest, or a class of your own. A raster, where 1 "
    "is inside, or polygons (GeoPackage, GeoJSON, CityJSON).",
)  # fmt: skip
@click.option("--ground", type=FILE, help="A model of the bare ground: classes by the height above it.")
@click.option(
    "--region", metavar="WHERE",
    help="xmin,ymin,xmax,ymax; or vertical:3, a stripe as configurations cut them; or a file with polygons.",
)  # fmt: skip
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, max=1e6, min_open=True),
    help="Leave out errors above it, metres.",
)
@click.option("--align", is_flag=True, help="Move the surfaces onto the reference DSM first (Nuth & Kääb).")
@click.option(
    "--write-aligned", is_flag=True,
    help="With --align: write each moved surface on the grid of the reference DSM (aligned_NAME.tif).",
)  # fmt: skip
@click.option(
    "--baselines", is_flag=True,
    help="Also evaluate median filters (5 to 31 pixels) of the initial DSM; without one, of the only DSM.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path),
    help="A folder. [required, but for FOLDER: its evaluation/]",
)  # fmt: skip
@click.option("--no-rasters", is_flag=True, help="Write no rasters of errors.")
@AS_JSON
@OVERWRITE
@guarded
def evaluate(  # noqa: PLR0913 - each is an option
    dsms: tuple[str, ...],
    *,
    masks: tuple[str, ...],
    baselines: bool,
    write_aligned: bool,
    output: Path | None,
    no_rasters: bool,
    as_json: bool,
    overwrite: bool,
    reference: Path | None,
    truth: Path | None,
    **options: Any,
) -> None:
    """Evaluate each DSM against a reference DSM: metrics by class, rasters of errors, and a page to look at.

    The DSMs may come from any tool and lie on any grids of one CRS; a DSM is called like its file, or as in
    NAME=FILE. Of a FOLDER that `prepare` or `simulate` made, what `refine FOLDER` and `test FOLDER` wrote is
    evaluated. The work goes band by band in constant memory. The folder receives evaluation.html (to look
    at), evaluation.json, .csv and .md, errors_*.tif with styles for QGIS, and figures for papers. A line says
    whether the best DSM is better than the initial one, and with --baselines than its best median filter.

    \b
    Examples:
      resdepth evaluate prepared
      resdepth evaluate refined.tif --reference lidar.tif --initial initial.tif -o evaluated
      resdepth evaluate ours=a.tif theirs=b.tif --reference lidar.tif --mask building=houses.gpkg -o evaluated
      resdepth evaluate refined.tif --reference lidar.tif --mask water=w.tif --region vertical:4 -o evaluated
    """
    if write_aligned and not options["align"]:
        raise click.UsageError("--write-aligned: only aligned surfaces are moved; add --align")
    for module in ("matplotlib", "jinja2", "plotly"):
        needs(module, "report")
    from resdepth.data.dataset_folder import SCENE_MASKS, dataset_in
    from resdepth.evaluation.request import Request
    from resdepth.report.tables import centred_rows, markdown, median_rows, summary_rows
    from resdepth.report.verdict import verdict_of, with_verdict
    from resdepth.workflows.evaluate import evaluate_into

    chosen, surfaces, reference = named_masks(masks), _named_surfaces(dsms), reference or truth
    if len(dsms) == 1 and (folder := dataset_in(Path(dsms[0]))) is not None:
        surfaces, reference, output = folder.refined, reference or folder.path, output or folder.evaluation
    for option, value in {"--reference": reference, "--output": output}.items():
        if value is None:
            raise click.UsageError(f"Missing option '{option}'.")
    assert reference is not None
    assert output is not None
    if (folder := dataset_in(reference)) is not None:
        reference, options["initial"] = folder.reference, options["initial"] or folder.initial
        chosen |= {name: path for name in SCENE_MASKS if (path := folder.mask(name)).is_file()} | chosen
    request = Request(surfaces=surfaces, reference=reference, masks=chosen, baselines=baselines, **options)
    done = evaluate_into(
        output, request, error_rasters=not no_rasters, aligned_rasters=write_aligned, overwrite=overwrite
    )
    if as_json:
        echo_json({"folder": str(done.folder), "page": str(done.page), **with_verdict(done.outcome)})
        return
    verdict = verdict_of(done.outcome)
    click.echo(markdown(summary_rows(done.outcome)))
    click.echo()
    click.echo(markdown(centred_rows(done.outcome)))
    if baselines:
        click.echo()
        click.echo(markdown(median_rows(done.outcome)))
    if verdict is not None:
        click.echo(f"\nverdict: {verdict.sentence}")
    click.echo(f"to look at: {done.page}")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=FILE)
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A page (.html)."
)
@AS_JSON
@OVERWRITE
@guarded
def compare(runs: tuple[Path, ...], output: Path, *, as_json: bool, overwrite: bool) -> None:
    """Put the metrics of several RUNs side by side: folders of `evaluate` or `test`, or their JSON files.

    \b
    Example:
      resdepth compare evaluated_a evaluated_b results/zurich -o compared.html
    """
    for module in ("jinja2", "plotly"):
        needs(module, "report")
    from resdepth.report.tables import markdown, summary_rows
    from resdepth.workflows.compare import compare_runs

    merged = compare_runs(runs, output, overwrite=overwrite)
    if as_json:
        echo_json({"page": str(output), **merged.as_json()})
        return
    click.echo(markdown(summary_rows(merged)))
    click.echo(f"to look at: {output}")


def _named_surfaces(given: tuple[str, ...]) -> dict[str, Path]:
    """Surfaces by name: that in NAME=FILE, or the file's, with its folder's where two are called alike."""
    from resdepth.errors import ResDepthError

    pairs = [_pair(one) for one in given]
    stems = [Path(path).stem for name, path in pairs if not name]
    named: dict[str, Path] = {}
    for name, path in pairs:
        file = Path(path)
        twice = stems.count(file.stem) > 1
        chosen = name or ("/".join(file.with_suffix("").parts[-2:]) if twice else file.stem)
        if chosen in named:
            raise ResDepthError(f"{path}: another DSM is called {chosen!r}, too; give names: NAME={path}")
        named[chosen] = file
    return named


def _pair(text: str) -> tuple[str, str]:
    """Name and file of NAME=FILE; a file that is there may have such a name itself."""
    name, equals, path = text.partition("=")
    return (name, path) if equals and name and not Path(text).exists() else ("", text)


def named_masks(given: tuple[str, ...]) -> dict[str, Path]:
    """Masks by name, from NAME=FILE."""
    masks: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise click.UsageError(f"--mask: found {text!r}; give NAME=FILE, as in building=houses.gpkg")
        if name in masks:
            raise click.UsageError(f"--mask: {name} is given twice")
        masks[name] = Path(path)
    return masks
