"""The commands that refine a DSM, and tune a bundled model to an area."""

from pathlib import Path
from typing import Any, Literal, get_args

import rich_click as click

from resdepth.cli.frame import DRY_RUN, OVERWRITE, echo_dry_run, guarded, needs
from resdepth.options import Compression, Device, Fuse, Mode, Precision

DSM = click.argument("dsm", type=click.Path(path_type=Path))
IMAGES = click.argument("images", nargs=-1, metavar="[IMAGE]...", type=click.Path(path_type=Path))
PAIRS = click.option(
    "--pairs", type=click.Path(dir_okay=False, path_type=Path),
    help="A list of image sets, one per line between commas. [default of raw images: the best]",
)  # fmt: skip
DEVICE = click.option("--device", default="auto", show_default=True, type=click.Choice(get_args(Device)))


@click.command()
@DSM
@IMAGES
@click.option(
    "-m", "--model", type=click.Path(path_type=Path),
    help="A .safetensors file, a run folder, or a bundled model: fusion, dsm-alone, town-stereo. "
    "[default: fusion; without images dsm-alone]",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="The refined DSM. [default: DSM_refined.tif beside DSM]",
)  # fmt: skip
@PAIRS
@click.option(
    "--fuse", default="median", show_default=True, type=click.Choice([*get_args(Fuse), "none"]),
    help="Of several pairs: one DSM, with the spread as second band; none: a file for each.",
)  # fmt: skip
@click.option(
    "--uncertainty/--no-uncertainty", default=None,
    help="The expected error of each height as last band. "
    "[default: if the model knows it, as fusion and dsm-alone do]",
)  # fmt: skip
@click.option(
    "--region", nargs=4, type=float, metavar="XMIN YMIN XMAX YMAX",
    help="Refine only this part of the map.",
)  # fmt: skip
@click.option(
    "--mode", default="seamless", show_default=True, type=click.Choice(get_args(Mode)),
    help="exact: in overlapping tiles, as published; slower.",
)  # fmt: skip
@click.option(
    "--precision", default="fp32", show_default=True, type=click.Choice(get_args(Precision)),
    help="auto: bf16 where it is faster; other heights at single edges.",
)  # fmt: skip
@click.option("--fill", is_flag=True, help="Keep the heights that voids of the DSM were given.")
@click.option("--compress", default="zstd", show_default=True, type=click.Choice(get_args(Compression)))
@DEVICE
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 1024),
    help="Processes on this machine.",
)  # fmt: skip
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster that sees the same files, instead.")
@click.option(
    "--wait-for-workers", default=600, show_default=True, metavar="SECONDS", type=click.FloatRange(min=0),
    help="How long the cluster's queue may take to give workers.",
)  # fmt: skip
@click.option("--tile-size", type=int, help="[default: that of the model's training]")
@click.option("--report", is_flag=True, help="Also write a page to look at: OUTPUT.html.")
@click.option(
    "--stac", is_flag=True, help="Also write a STAC item, for catalogues: OUTPUT.stac.json (needs pystac)."
)
@click.option(
    "--force",
    is_flag=True,
    help="Refine although model and rasters do not fit, and keep what cannot be right; it is a warning then.",
)
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Keep outputs that the same command has completed, as it does by default; not with --overwrite.",
)
@click.option("--resume", is_flag=True, hidden=True, help="The earlier name of --skip-existing.")
@DRY_RUN
@OVERWRITE
@guarded
def refine(  # noqa: PLR0913 - options of a command
    dsm: Path,
    images: tuple[Path, ...],
    *,
    output: Path | None,
    fuse: Fuse | Literal["none"],
    compress: Compression,
    report: bool,
    stac: bool,
    skip_existing: bool,
    resume: bool,
    dry_run: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Refine DSM, a raster of any size, with the raw satellite IMAGEs that it was made from.

    The images have RPCs (in the tags, .RPB, _RPC.TXT, RPC_*.XML). Pairs of them are matched again around
    the DSM, and the bundled model `fusion` decides what to keep of both. Ortho-images that were made with
    the DSM serve as well, without RPCs. Without images, the bundled model `dsm-alone` takes noise and
    blunders out of the DSM. The last band is the expected error of each height: 68 % of errors are
    smaller, 90 % smaller than twice as much. Models of other kinds (`train`, `town-stereo`) want
    ortho-images on the grid of the DSM. The work goes block by block in constant memory; if it is stopped
    or killed, the same command resumes. Voids of the DSM stay voids, unless --fill is given;
    OUTPUT_provenance.tif shows where each height comes from (0 void, 1 refined, 2 filled, 3 refined where
    an image shows nothing). Outputs are Cloud-Optimised GeoTIFFs. One whose heights are moved further than
    can be right is called OUTPUT_not_trusted.tif, unless --force is given. DSM may be a folder of
    `prepare` or `simulate`, whose raw images are taken.

    \b
    Examples:
      resdepth refine dsm.tif raw1.tif raw2.tif
      resdepth refine dsm.tif raw*.tif --report -o city.tif
      resdepth refine dsm.tif
      resdepth refine prepared --report
      resdepth refine dsm.tif raw1.tif raw2.tif --workers 8 -o country.tif
      resdepth refine dsm.tif raw1.tif raw2.tif --region 465000 5246000 466000 5247000 -o part.tif
      resdepth refine dsm.tif ortho*.tif --pairs pairlist.txt --model zurich.safetensors
    """
    if (skip_existing or resume) and overwrite:
        raise click.UsageError("give --skip-existing or --overwrite, not both")
    from resdepth.data.dataset_folder import dataset_in
    from resdepth.errors import ResDepthError
    from resdepth.runtime.paths import why_no_file
    from resdepth.workflows.refine import refine as refine_surface

    if report:
        for module in ("jinja2", "plotly"):
            needs(module, "report")
    if stac:
        needs("pystac", "stac")
    if (folder := dataset_in(dsm)) is not None:
        dsm, images = folder.initial, images or tuple(folder.images)
        output = output or folder.path / "results" / "refined.tif"
    if not dsm.is_file():
        raise ResDepthError(f"{dsm}: {why_no_file(dsm)}")
    output = output or dsm.with_name(f"{dsm.stem}_refined.tif")
    if output.suffix.lower() not in {".tif", ".tiff"}:
        raise ResDepthError(f"{output}: should end in .tif")
    chosen = None if fuse == "none" else fuse
    if dry_run:
        from resdepth.workflows.dry_run import refine_facts

        echo_dry_run(refine_facts(dsm, images, output, report=report, options={**options, "fuse": chosen}))
        return
    written = refine_surface(
        dsm,
        images,
        output=output,
        fuse=chosen,
        compression=compress,
        report=report,
        stac=stac,
        existing="replace" if overwrite else "refuse",
        **options,
    )
    for path in written:
        click.echo(f"{path}")


@click.command()
@DSM
@IMAGES
@click.option(
    "-r", "--reference", type=click.Path(path_type=Path),
    help="The reference DSM, on the grid of DSM. [default of a folder of prepare: its own]",
)  # fmt: skip
@click.option("--mask", type=click.Path(path_type=Path), help="A raster: 1 where the reference DSM counts.")
@click.option(
    "-m", "--model", type=click.Path(path_type=Path),
    help="fusion, dsm-alone, or a file that was made of them. [default: fusion; without images dsm-alone]",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="The new model. [default: DSM_finetuned.safetensors beside DSM]",
)  # fmt: skip
@PAIRS
@click.option(
    "--region", nargs=4, type=float, metavar="XMIN YMIN XMAX YMAX",
    help="Learn only from this part of the map.",
)  # fmt: skip
@click.option(
    "--steps", default=100, show_default=True, type=click.IntRange(1),
    help="More take longer, and follow the area more closely.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of all that is drawn.")
@DEVICE
@click.option(
    "--force", is_flag=True, help="Tune although rasters do not fit; what is wrong is then a warning."
)
@OVERWRITE
@guarded
def finetune(
    dsm: Path,
    images: tuple[Path, ...],
    *,
    reference: Path | None,
    mask: Path | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Tune a bundled model to an area, from a part of it whose surface is known.

    DSM and IMAGEs are those of `refine`. The reference DSM need not cover all of it: 16 cells of 64 x 64
    pixels, 0.016 km2 at 0.5 m, are the least. A fifth of the cells is held out: their errors decide how far
    the model moves, and where that brings less than one percent, nothing is written. `refine --model` takes
    the new model. DSM may be a folder of `prepare` or `simulate`.

    \b
    Examples:
      resdepth finetune dsm.tif raw1.tif raw2.tif --reference lidar.tif -o mine.safetensors
      resdepth finetune dsm.tif --reference lidar.tif --region 465000 5246000 465300 5246200
      resdepth finetune prepared
      resdepth refine dsm.tif raw1.tif raw2.tif --model mine.safetensors
    """
    from resdepth.data.dataset_folder import dataset_in
    from resdepth.errors import ResDepthError
    from resdepth.runtime.paths import why_no_file
    from resdepth.workflows.finetune import finetune as tune_model

    if (folder := dataset_in(dsm)) is not None:
        dsm, images = folder.initial, images or tuple(folder.images)
        counted = folder.mask("ground_truth")
        if reference is None:
            reference = folder.reference
            mask = mask or (counted if counted.is_file() else None)
        output = output or folder.path / "models" / "finetuned.safetensors"
    if reference is None:
        raise click.UsageError("give the reference DSM with --reference")
    for path in (dsm, reference, *((mask,) if mask else ())):
        if not path.is_file():
            raise ResDepthError(f"{path}: {why_no_file(path)}")
    output = output or dsm.with_name(f"{dsm.stem}_finetuned.safetensors")
    click.echo(f"{tune_model(dsm, images, reference=reference, mask=mask, output=output, **options)}")
