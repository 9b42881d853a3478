"""The command that says what will hurt in data."""

from pathlib import Path

import rich_click as click

from resdepth.cli.frame import AS_JSON, EXIT_INPUT, OVERWRITE, echo_json, guarded, needs

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("subject", metavar="FOLDER|CONFIG|DSM", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, metavar="[IMAGE]...", type=click.Path(path_type=Path))
@click.option("--reference", type=FILE, help="The reference DSM, with an initial DSM.")
@click.option(
    "-m", "--model", type=click.Path(path_type=Path),
    help="What the data are for: a .safetensors file, a run folder, fusion or town-stereo.",
)  # fmt: skip
@click.option("--html", "page", type=FILE, help="Also write a page with pictures (.html).")
@AS_JSON
@OVERWRITE
@guarded
def doctor(
    subject: Path,
    images: tuple[Path, ...],
    reference: Path | None,
    model: Path | None,
    page: Path | None,
    *,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Say what will hurt in data, in plain words, before they are trained on, refined or evaluated.

    Looked for are shifts, tilts, wrong datums and units, voids, images that are flat, saturated, duplicated
    or do not match, other grids, small areas, and more. FOLDER is one that `prepare` or `simulate` made, one
    with initial.tif, reference.tif and ortho*.tif, or that of a finished run of a stereo pipeline. Samples of
    the pixels are read, so it takes seconds for rasters of any size. Each finding comes with what mends it.
    The exit code is 2 if there is a fault, as of `check`; else 0.

    \b
    Examples:
      resdepth doctor my_scene
      resdepth doctor my_train.json --html doctor.html
      resdepth doctor initial.tif ortho1.tif ortho2.tif --reference reference.tif
      resdepth doctor initial.tif --json > findings.json
    """
    import sys

    from resdepth.geo.geotiff import refuse_existing, refuse_inputs_as_outputs
    from resdepth.workflows.doctor import doctor as examine

    if page is not None:
        needs("jinja2", "report")
    outputs = [] if page is None else [page]
    refuse_inputs_as_outputs([path for path in (subject, *images, reference) if path is not None], outputs)
    refuse_existing(outputs, overwrite=overwrite)
    diagnosis = examine(subject, images, reference=reference, model=model)
    if as_json:
        echo_json(diagnosis.as_json())
    else:
        click.echo(diagnosis.as_text())
    if page is not None:
        from resdepth.diagnosis.findings import write_findings_page

        write_findings_page(page, diagnosis)
    if diagnosis.worst == "fault":
        sys.exit(EXIT_INPUT)
