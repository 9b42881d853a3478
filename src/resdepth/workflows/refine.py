"""Refining a surface from Python: arrays or files in, an array or a file out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray

from resdepth.data.arrays import look_for_undeclared
from resdepth.data.scene import Scene, ViewSet
from resdepth.diagnosis.quick import quick_images
from resdepth.geo.objects import Placed, Placement, kind_of, like, path_of, placed
from resdepth.geo.raster import HEIGHT, Array, FileBand, read_bands, read_tags
from resdepth.geo.windows import Window
from resdepth.models.model import Model
from resdepth.models.pretrained import default_model
from resdepth.models.published import load_model
from resdepth.options import Compression, Device, Fuse, Mode, Precision, option
from resdepth.refinement.blocks import Work, blocks_of, computed_times, refined_blocks
from resdepth.refinement.compatibility import Findings, examine, stated_gsd
from resdepth.refinement.dask import SECONDS_TO_WAIT, chosen_by_workers, on_cluster
from resdepth.refinement.engine import Refiner, choose_device, choose_precision
from resdepth.refinement.job import ERROR, Job, Results
from resdepth.refinement.processes import on_processes
from resdepth.refinement.provenance import Moved, in_words, refuse_untrusted
from resdepth.refinement.result import Layers, Refinement
from resdepth.refinement.run_job import Compute, Existing, compute_here, run_jobs
from resdepth.runtime.progress import Watcher, progress_bar, reported_to
from resdepth.workflows._refine_request import (
    Pairs,
    Region,
    checked_tile,
    error_kept,
    name_of,
    refuse_contradictions,
    refuse_unknown,
    window_of,
)
from resdepth.workflows._shown import EXAMINED, Shown, shown_to, stated, warn_of
from resdepth.workflows.evaluate import add_styles

logger = logging.getLogger(__name__)

AnyModel = Model | str | Path | None
Plain = str | Path | NDArray[Any]
Kind = TypeVar("Kind")
"""Any kind of raster that `geo/objects.py` knows; the refined DSM is of the same."""

# Seamless refinement computes the surroundings of a block with it: beyond this factor tiles are faster.
WASTEFUL = 4.0


class RefineOptions(TypedDict, total=False):
    """What can be chosen; `refine` explains it."""

    nodata: float | None
    pairs: Pairs | None
    region: Region | None
    mode: Mode
    precision: Precision
    device: Device
    fill: bool
    fuse: Fuse | None
    tile_size: int | None
    gsd: float | None
    transform: Any
    crs: Any
    force: bool
    compression: Compression
    existing: Existing
    overwrite: bool
    workers: int
    scheduler: str | None
    wait_for_workers: float
    report: bool
    stac: bool
    progress: Watcher | None


@overload
def refine(
    dsm: Any, images: Sequence[Any] = ..., model: AnyModel = ..., *, output: str | Path,
    uncertainty: bool | None = ..., full: Literal[False] = ..., **options: Unpack[RefineOptions],
) -> list[Path]: ...  # fmt: skip
@overload
def refine(
    dsm: Plain, images: Sequence[Any] = ..., model: AnyModel = ..., *, output: None = ...,
    uncertainty: Literal[False] | None = ..., full: Literal[False] = ..., **options: Unpack[RefineOptions],
) -> Array: ...  # fmt: skip
@overload
def refine(
    dsm: Plain, images: Sequence[Any] = ..., model: AnyModel = ..., *, uncertainty: Literal[True],
    output: None = ..., full: Literal[False] = ..., **options: Unpack[RefineOptions],
) -> tuple[Array, Array]: ...  # fmt: skip
@overload
def refine(
    dsm: Kind, images: Sequence[Any] = ..., model: AnyModel = ..., *, output: None = ...,
    uncertainty: Literal[False] | None = ..., full: Literal[False] = ..., **options: Unpack[RefineOptions],
) -> Kind: ...  # fmt: skip
@overload
def refine(
    dsm: Kind, images: Sequence[Any] = ..., model: AnyModel = ..., *, uncertainty: Literal[True],
    output: None = ..., full: Literal[False] = ..., **options: Unpack[RefineOptions],
) -> tuple[Kind, Kind]: ...  # fmt: skip
@overload
def refine(
    dsm: Any, images: Sequence[Any] = ..., model: AnyModel = ..., *, full: Literal[True],
    output: str | Path | None = ..., uncertainty: bool | None = ..., **options: Unpack[RefineOptions],
) -> Refinement: ...  # fmt: skip


def refine(  # noqa: PLR0913 - each is a choice of its own, with a default
    dsm: Any, images: Sequence[Any] = (), model: AnyModel = None, *,
    output: str | Path | None = None, nodata: float | None = None, pairs: Pairs | None = None,
    region: Region | None = None, mode: Mode = "seamless", precision: Precision = "fp32",
    device: Device = "auto", fill: bool = False, fuse: Fuse | None = "median",
    uncertainty: bool | None = None, tile_size: int | None = None, compression: Compression = "zstd",
    existing: Existing = "refuse", overwrite: bool = False, workers: int = 1, scheduler: str | None = None,
    wait_for_workers: float = SECONDS_TO_WAIT, report: bool = False, stac: bool = False,
    gsd: float | None = None, transform: Any = None, crs: Any = None, force: bool = False, full: bool = False,
    progress: Watcher | None = None,
) -> Any:  # fmt: skip
    """Refine a DSM with a trained model: in memory, or from file to file at any size.

    Args:
        dsm: the initial DSM, any kind of raster: a path, an open data set of rasterio, a DataArray of xarray,
            a raster of geoutils or xDEM, or an (H, W) array of numpy, dask or torch in metres, NaN = void.
        images: raw images with RPCs, any number, for the bundled model "fusion": paths, or data sets of
            rasterio. For other models ortho-images on the DSM's grid, any kind of raster (grey values,
            NaN = void), as many as the model takes, or any number with `pairs`.
        model: a model, the path of one (a .safetensors file or a run folder), or the name of a bundled one
            ("fusion", "dsm-alone", "town-stereo"); by default "fusion", and "dsm-alone" without images.
        output: write a Cloud-Optimised GeoTIFF, block by block, and beside it where each height comes from
            (OUTPUT_provenance.tif). Of paths, a job that was stopped or killed resumes when the function is
            called again.
        nodata: marks voids of the DSM, for all but paths; files declare it.
        pairs: sets of images to show the model, by their index in `images`, or the path of a pair list.
        region: the part to refine: xmin, ymin, xmax, ymax on the map, or a window of pixels.
        mode: "seamless": results do not depend on tiles (new); "exact": as published.
        precision: of the network; "auto" takes bfloat16 where it is faster, and single edges may differ.
        device: "auto", "cpu", "cuda" or "mps".
        fill: keep the heights that voids of the DSM were given; else voids stay voids.
        fuse: how the results of several pairs become one; None writes a file for each.
        uncertainty: also give the expected error of each height: 68 % of errors are smaller, 90 % smaller
            than twice as much. By default files have it as their last band if the model knows it ("fusion"
            and "dsm-alone" do), and arrays come without it.
        tile_size: of the tiles that the height reference is taken from; by default that of the training.
        compression: of the output: "zstd", "deflate", "lzw" or "none".
        existing: an output that is there counts as done if the same job made it, else it is an error
            ("refuse"); or it is made anew ("replace").
        overwrite: the same as existing="replace".
        workers: processes on this machine that compute blocks, with `output`.
        scheduler: address of a Dask scheduler (extra `cluster`), whose workers compute; they see the files.
        wait_for_workers: seconds that the cluster's queue may take to give workers.
        report: also write a page to look at (OUTPUT.html); needs the extra `report`.
        stac: also write a STAC item (OUTPUT.stac.json); needs the extra `stac`.
        gsd: side of a pixel in metres, for arrays; unknown, it is not compared with the model's (0.5 counts).
        transform: where the pixels of arrays lie, as rasterio has it: six numbers, or an Affine.
        crs: the CRS of arrays: "EPSG:32632", a number, WKT, or an object of rasterio or pyproj.
        force: refine although model and rasters do not fit, and keep a result that cannot be right; what is
            wrong is then a warning. Without it, such an output is written as OUTPUT_not_trusted.tif.
        full: give a Refinement: heights, errors, where heights come from, warnings, a summary, a plot.
        progress: called with what is being done, how much is done, and of how much (None: not known), instead
            of showing it on stderr. What it raises ends the work.

    Returns:
        The kind of raster that `dsm` is, with its georeference, float32, NaN or masked = void; of a path or
        an array, an (H, W) array in metres. With `uncertainty` two of them, heights and errors. With
        `output`, the files that were written. With `full`, a Refinement.

    Raises:
        Unsuitable: if model and rasters do not fit, unless forced; the message lists all mismatches.
        NotTrusted: if more heights are moved far than can be right, unless forced.
        ResDepthError: if the images do not fit the model or the DSM, or something cannot be read or written.

    Examples:
        >>> import resdepth, rasterio
        >>> images = ["ortho1.tif", "ortho2.tif"]
        >>> resdepth.refine("initial.tif", images, "model.safetensors").shape
        (64, 160)
        >>> with rasterio.open("initial.tif") as dsm:
        ...     refined = resdepth.refine(dsm, images, "model.safetensors")
        >>> refined.crs.to_epsg(), refined.dtypes
        (32632, ('float32',))
        >>> resdepth.refine("initial.tif", images, "model.safetensors", full=True)
        Refinement(64 x 160 pixels of 0.5 m, with model, 0 warnings)
        >>> resdepth.refine("initial.tif", images, "model.safetensors", output="refined.tif")
        [PosixPath('refined.tif')]
    """
    existing = "replace" if overwrite else existing
    refuse_unknown(
        mode=(mode, Mode), precision=(precision, Precision), device=(device, Device),
        fuse=(fuse, Fuse | None), compression=(compression, Compression), existing=(existing, Existing),
    )  # fmt: skip
    if model is None:
        model = default_model(with_images=bool(images))
    trained = model if isinstance(model, Model) else load_model(model)
    refuse_contradictions(output, scheduler, workers, wait_for_workers, [dsm, *images])
    given = {"dsm": dsm, **{f"images[{index}]": image for index, image in enumerate(images)}}
    place = Placement(gsd, transform, crs, nodata)
    with (
        reported_to(progress),
        placed(given, place, heights={"dsm"}) as rasters,
        shown_to(trained, rasters, pairs, region, output=output, force=force) as shown,
    ):
        trained, scene, view_sets = shown.model, shown.scene, shown.view_sets
        window = window_of(scene, region)
        tile = checked_tile(trained, tile_size, window, mode)
        there, dtype = _computed_in(device, precision, scheduler, wait_for_workers)
        beyond = shown.beyond if mode == "seamless" else None
        refiner = _refiner(trained, precision, there, dtype, beyond)
        _warn(refiner, scene, mode)
        gsd_m = rasters.placement.gsd or stated_gsd(scene)
        findings = shown.findings or _examined(trained, scene, view_sets, window, gsd_m, force=force)
        keeps_error = full or output is not None
        with_error = error_kept(trained, mode, fuse, uncertainty=uncertainty, by_default=keeps_error)
        fused = fuse is not None or output is None
        groups = [view_sets] if fused else [(one,) for one in view_sets]
        works = [Work(scene, window, one, mode, tile, fill, fuse or "median", with_error) for one in groups]
        if output is None:
            made = _in_memory(works[0], refiner, force=force)
            whole = _refinement(made, dsm, works[0], trained, rasters)
        else:
            jobs = list(_jobs(works, refiner, Path(output), compression, findings, shown))
            compute = _compute_by(workers, scheduler, wait_for_workers)
            paths = _to_files(jobs, compute, existing=existing, report=report, stac=stac, force=force)
            whole = _refinement_of_files(paths, dsm, works[0], trained, rasters)
    if full:
        return whole
    if output is not None:
        return list(whole.paths)
    return (whole.dsm, like(dsm, _in_unit(whole.error, works[0], dsm), window)) if uncertainty else whole.dsm


def _jobs(
    works: Sequence[Work], refiner: Refiner, output: Path, compression: Compression,
    findings: Findings, shown: Shown,
) -> Iterator[Job]:  # fmt: skip
    """The rasters to be made, one of each work."""
    for work in works:
        path = _output_of(output, work, refiner, several=len(works) > 1)
        yield Job(work, refiner, path, compression, findings.misfits, shown.made_from)


def _to_files(
    jobs: Sequence[Job], compute: Compute, *, existing: Existing, report: bool, stac: bool, force: bool
) -> list[Path]:
    """Make the rasters of jobs, their styles, pages and STAC items; returns the refined DSMs.

    Raises:
        NotTrusted: if more heights are moved far than can be right, unless forced.
    """
    write_item = import_module("resdepth.report.stac").write_item if stac else None  # not there: at once
    made = run_jobs(jobs, existing=existing, compute=compute, force=force, pages=report, items=stac)
    for job, results in zip(jobs, made, strict=True):
        add_styles({results.output: "height", results.provenance: "provenance"})
        if report and (existing == "replace" or not results.report.exists()):
            _write_report(job, results)
        if write_item:
            write_item(results, job.made_from or job.work.scene.image_paths)
    written = [results.output for results in made]
    _report_moved({f"{path}": Moved.from_tags(read_tags(path)) for path in written}, force=force)
    return written


def _computed_in(
    device: Device, precision: Precision, scheduler: str | None, wait_for_workers: float
) -> tuple[torch.device, torch.dtype]:
    """Device and precision of those who compute: this machine, or the workers of a cluster."""
    if scheduler is not None:
        return chosen_by_workers(scheduler, device, precision, wait_for_workers)
    there = choose_device(device)
    return there, choose_precision(precision, there)


def _refiner(
    model: Model, precision: Precision, there: torch.device, dtype: torch.dtype, beyond: Model | None = None
) -> Refiner:
    """The models, for the device of those who compute."""
    if precision == "auto" and dtype == torch.bfloat16:
        logger.info(
            "computing in bfloat16: at single edges heights differ by decimetres from those of other "
            "processors; %s makes the same choices everywhere",
            option("precision", value="fp32"),
        )
    return Refiner(model, device=there, precision=dtype, beyond=beyond)


def _compute_by(workers: int, scheduler: str | None, wait_for_workers: float) -> Compute:
    """Who refines the blocks: this process, several of this machine, or a cluster."""
    if scheduler is not None:
        return on_cluster(scheduler, wait_for_workers)
    return on_processes(workers) if workers > 1 else compute_here


def _report_moved(found: Mapping[str, Moved | None], *, force: bool) -> None:
    """Log how far heights of each result were moved, unless an earlier resdepth did not count.

    Raises:
        NotTrusted: if that cannot be right, unless forced.
    """
    reasons = []
    for name, moved in found.items():
        if moved is None:
            continue
        logger.info("%s: %s", name, in_words(moved))
        if moved.is_nonsense and not force:
            reasons.append(f"{name}: not trusted: {moved.warning}")
        elif moved.warning:
            logger.warning("%s: not to be trusted: %s", name, moved.warning)
    refuse_untrusted(reasons)


def _write_report(job: Job, results: Results) -> None:
    from resdepth.report.page import quick_looks, refined_content, write_page

    scene, shown = job.work.scene, job.work.view_sets[0]
    assert scene.dsm_path is not None, "a job refines files"
    if job.refiner.inputs.matched:  # raw images do not lie on the map
        shown = ()
    images = [scene.image_paths[index] for index in shown]
    content = refined_content(scene.dsm_path, results.output, results.provenance, images)
    with quick_looks(content) as quick:
        write_page(results.report, quick)
    logger.info("to look at: %s", results.report)


def _warn(refiner: Refiner, scene: Scene, mode: Mode) -> None:
    """Log what may make the result worse, or slower, than need be."""
    if mode == "seamless" and computed_times(refiner) > WASTEFUL:
        logger.warning(
            "this network is so deep that seamless refinement computes each pixel %.0f times; the mode exact "
            "(%s) is faster", computed_times(refiner), option("mode", value="exact"),
        )  # fmt: skip
    if question := look_for_undeclared(scene.dsm).question:
        logger.warning("%s: %s", scene.dsm_path or "dsm", question)


def _examined(
    model: Model,
    scene: Scene,
    view_sets: Sequence[ViewSet],
    window: Window,
    gsd_m: float | None,
    *,
    force: bool,
) -> Findings:
    """What a look at model and rasters gave, logged.

    Raises:
        Unsuitable: if they do not fit, unless forced.
    """
    findings = stated(model, examine(model, scene, view_sets, window, gsd_m), force=force)
    if scene.dsm_path is not None:
        warn_of(one for one in quick_images(scene, [window]) if one.kind not in EXAMINED)
    return findings


def _output_of(output: Path, work: Work, refiner: Refiner, *, several: bool) -> Path:
    """Where one of several results goes: OUTPUT_Stereopair_0_1.tif."""
    if not several:
        return output
    return output.with_name(f"{output.stem}_{refiner.inputs.folder_name(work.view_sets[0])}{output.suffix}")


def _in_memory(work: Work, refiner: Refiner, *, force: bool) -> tuple[Layers, Moved]:
    """The refined part of a DSM, and how far heights were moved."""
    refined, errors, initial = (np.empty(work.region.shape, dtype=np.float32) for _ in range(3))
    sources = np.zeros(work.region.shape, dtype=np.uint8)
    moved = Moved(refiner.model.normalization.height_sigma)
    parts = blocks_of(work, refiner)
    with progress_bar("refining", work.region.area / 1e6, unit="Mpx", only_watched=True) as progress:
        for done in refined_blocks(work, refiner, parts):
            here = done.block.relative_to(work.region).slices
            refined[here], sources[here] = done.heights, done.provenance
            initial[here] = work.scene.dsm.read(done.block)
            if done.error is not None:
                errors[here] = done.error
            moved += done.moved
            progress.advance(done.block.area / 1e6)
    _report_moved({"refined": moved}, force=force)
    return Layers(refined, initial, errors if work.with_error else None, sources), moved


def _in_unit(heights: Any, work: Work, given: Any) -> Any:
    """Metres in the unit of a raster that lies on a map, so that both can be compared; of others, metres."""
    return heights if kind_of(given) == "path" else work.scene.unit.of_metres(heights)


def _refinement(
    made: tuple[Layers, Moved], given: Any, work: Work, model: Model, rasters: Placed
) -> Refinement:
    layers, moved = made
    refined = like(given, _in_unit(layers.heights, work, given), work.region)
    grid, warnings = work.scene.grid.crop(work.region), tuple(rasters.warnings)
    return Refinement(refined, grid, moved, name_of(model), warnings, _read=lambda: layers)


def _refinement_of_files(
    paths: Sequence[Path], given: Any, work: Work, model: Model, rasters: Placed
) -> Refinement:
    """The same of files; their pixels are read when asked for."""
    moved = Moved.from_tags(read_tags(paths[0])) or Moved(model.normalization.height_sigma)
    own = path_of(given)
    # What is no file is in memory anyway, and its file is gone when the job is over.
    initial = work.scene.dsm.read(work.region) if own is None else None

    def read() -> Layers:
        bands = read_bands(paths[0])
        before = FileBand(own).read(work.region) if own is not None and initial is None else initial
        assert before is not None, "of a file or of memory"
        sources = FileBand(Results(paths[0]).provenance, "mask").read(Window(0, 0, *before.shape))
        return Layers(bands[HEIGHT], before, bands.get(ERROR), sources.astype(np.uint8))

    return Refinement(
        paths[0], work.scene.grid.crop(work.region), moved, name_of(model), tuple(rasters.warnings),
        tuple(paths), _read=read,
    )  # fmt: skip
