"""The commands before training: what will hurt in data, and a data set of what a pipeline leaves behind."""

from pathlib import Path
from typing import Any, get_args

import rich_click as click

from resdepth.cli.frame import (
    AS_JSON,
    DRY_RUN,
    EXIT_INPUT,
    OVERWRITE,
    echo_dry_run,
    echo_json,
    guarded,
    needs,
    use_one_opencv_thread,
)
from resdepth.options import Motions, Moves, RpcBiases

FILE = click.Path(path_type=Path)
ONLY_A_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("source", required=False, metavar="[RUN_FOLDER|REQUEST]", type=FILE)
@click.option("--dsm", type=FILE, help="The initial DSM: a raster or a point cloud (LAS, LAZ, PLY).")
@click.option(
    "--image", "images", multiple=True, type=FILE,
    help="Again for each: raw images with RPCs, or ortho-images on any grid.",
)  # fmt: skip
@click.option("--reference", type=FILE, help="The reference DSM: a raster or a point cloud.")
@click.option(
    "--mask", "masks", multiple=True, metavar="NAME=FILE",
    help="Again for each: building, water, forest, or of your own. A raster, where 1 is inside, or polygons.",
)  # fmt: skip
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the data set; new or empty.",
)  # fmt: skip
@click.option("--gsd", "gsd_m", type=float, help="Pixel size in metres. [default: that of the DSM]")
@click.option("--crs", help="Of the data set, in metres: EPSG:32632. [default: that of the DSM, or UTM]")
@click.option(
    "--extent", nargs=4, type=float, metavar="XMIN YMIN XMAX YMAX", help="No more than this, in that CRS."
)
@click.option("--vertical", help="From which zero heights are to count: ellipsoid, EGM96, EPSG:5773.")
@click.option("--dsm-vertical", help="From which the heights of the DSM count, if it does not state it.")
@click.option("--reference-vertical", help="From which those of the reference DSM count.")
@click.option("--dsm-crs", help="Of a DSM that names none.")
@click.option("--reference-crs", help="Of a reference DSM that names none.")
@click.option(
    "--coregister", type=click.Choice(get_args(Motions)),
    help="What is sought between both DSMs: shift and vertical bias; a tilt, too; nothing. [default: shift]",
)  # fmt: skip
@click.option(
    "--trusted", multiple=True, metavar="LAYER[=LOWEST:HIGHEST]",
    help="Again for each: heights whose quality layer lies outside are left out of training.",
)  # fmt: skip
@click.option("--moves", type=click.Choice(get_args(Moves)), help="Which of both moves. [default: dsm]")
@click.option(
    "--rpc-bias", type=click.Choice(get_args(RpcBiases)),
    help="What is taken out of each RPC; auto takes what fits left-out tie points. [default: auto]",
)  # fmt: skip
@click.option("--keep-rpcs", is_flag=True, help="Do not take the bias between the RPCs out.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(0, 64), help="Threads.")
@DRY_RUN
@OVERWRITE
@guarded
def prepare(
    source: Path | None,
    *,
    output: Path,
    masks: tuple[str, ...],
    keep_rpcs: bool,
    workers: int,
    dry_run: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Make a data set that train, test and refine take, of a DSM, images and a reference DSM.

    All come onto one grid in metres, and their heights to one zero; the initial DSM is co-registered with the
    reference DSM (Nuth and Kaab), and its voids are filled; raw images are ortho-rectified with it through
    their RPCs, which follow the DSM and agree with each other by tie points. Without a DSM, the images are
    matched. Inputs stay as they are. A preparation that was stopped resumes when the command is given again;
    prepare.json states what each step found.

    \b
    Examples:
      resdepth prepare --dsm dsm.tif --image img1.tif --image img2.tif -o prepared
      resdepth prepare --dsm dsm.tif --image img1.tif --image img2.tif --reference lidar.tif -o prepared
      resdepth prepare --image img1.tif --image img2.tif -o prepared
      resdepth prepare request.yaml -o prepared
      resdepth prepare s2p_output --image img1.tif --image img2.tif -o prepared
    """
    for module in ("jinja2", "plotly", "pyproj"):
        needs(module, "prepare")
    use_one_opencv_thread()
    from resdepth.cli.evaluate import named_masks
    from resdepth.workflows._prepared import PAGE, summary
    from resdepth.workflows.prepare import prepare_from

    given = options | {"masks": {name: str(path) for name, path in named_masks(masks).items()}}
    given["trusted"] = dict(map(_limits, options["trusted"]))
    if keep_rpcs:
        given["correct_rpcs"] = False
    if dry_run:
        from resdepth.workflows.dry_run import prepare_facts

        echo_dry_run(prepare_facts(source, output, given))
        return
    made = prepare_from(source, output, given, threads=workers, overwrite=overwrite)
    for line in summary(made.folder, made.record):
        click.echo(line)
    click.echo(f"to look at: {made.folder / PAGE}")


def _limits(text: str) -> tuple[str, list[float | None] | None]:
    """A quality layer and the range of its values that are trusted, from LAYER[=LOWEST:HIGHEST]."""
    name, equals, limits = text.partition("=")
    if not equals:
        return name, None
    try:
        lowest, highest = (float(one) if one.strip() else None for one in limits.split(":"))
    except ValueError as error:
        raise click.UsageError(
            f"--trusted: found {text!r}; give LAYER=LOWEST:HIGHEST, one of both may be missing, as in "
            "correlation=0.4:"
        ) from error
    return name, [lowest, highest]


@click.command()
@click.argument("subject", metavar="FOLDER|CONFIG|DSM", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, metavar="[IMAGE]...", type=click.Path(path_type=Path))
@click.option("--reference", type=ONLY_A_FILE, help="The reference DSM, with an initial DSM.")
@click.option(
    "-m", "--model", type=click.Path(path_type=Path),
    help="What the data are for: a .safetensors file, a run folder, fusion, dsm-alone or town-stereo.",
)  # fmt: skip
@click.option("--html", "page", type=ONLY_A_FILE, help="Also write a page with pictures (.html).")
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
