"""From rasters of any size to a refined DSM in a file: block by block, so that a stopped job goes on."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

from resdepth.atomic import write_json
from resdepth.blockwise import RefinedBlock, Work, block_counts_of, blocks_of, refined_blocks
from resdepth.checkpoint import fingerprint, load_safetensors, save_model
from resdepth.engine import Refiner
from resdepth.errors import Interrupted, ResDepthError
from resdepth.interruption import stoppable
from resdepth.mosaic import Compression, Layer, write_block, write_cog
from resdepth.paths import read_text
from resdepth.progress import progress_bar
from resdepth.raster import read_tags
from resdepth.release import __version__
from resdepth.scene import Scene
from resdepth.windows import Window

logger = logging.getLogger(__name__)

Existing = Literal["refuse", "keep", "replace"]

HEIGHTS = Layer(("height",), unit="metre")
HEIGHTS_AND_SPREAD = Layer(("height", "spread"), unit="metre")
PROVENANCE = Layer(("provenance",), dtype="uint8", nodata=0, overviews="nearest")
JOB_TAG = "RESDEPTH_JOB"
UNFINISHED, RECORD, MODEL, LOCK = ".unfinished", "job.json", "model.safetensors", "lock"


@dataclass(frozen=True)
class Job:
    """One raster to be made.

    Attributes:
        work: what is done with each block.
        refiner: the model, ready to run.
        output: the refined DSM.
        compression: of the file.
    """

    work: Work
    refiner: Refiner
    output: Path
    compression: Compression = "zstd"

    @property
    def provenance(self) -> Path:
        """The raster that tells where each height comes from."""
        return self.output.with_name(f"{self.output.stem}_provenance{self.output.suffix}")

    @property
    def report(self) -> Path:
        """The page that shows it."""
        return self.output.with_suffix(".html")

    @property
    def unfinished(self) -> Path:
        """The folder of the blocks, until they are put together."""
        return self.output.with_name(self.output.name + UNFINISHED)

    @property
    def record(self) -> Path:
        """What the blocks in the folder belong to."""
        return self.unfinished / RECORD

    @property
    def model_path(self) -> Path:
        """The model, for other processes."""
        return self.unfinished / MODEL

    @property
    def layer(self) -> Layer:
        """What the output's bands are."""
        return HEIGHTS_AND_SPREAD if self.work.spreads else HEIGHTS

    @cached_property
    def blocks(self) -> tuple[Window, ...]:
        """The blocks, in the order of the work."""
        return tuple(blocks_of(self.work, self.refiner))

    def block_path(self, layer: Layer, block: Window) -> Path:
        """The file of a block."""
        place = block.relative_to(self.work.region)
        # The job's number keeps apart what a process of an earlier job might still write here.
        return self.unfinished / f"{layer.names[0]}_{self.number[:8]}_{place.row}_{place.col}.tif"

    def is_done(self, block: Window) -> bool:
        """Whether a block is finished: its heights are written last."""
        return self.block_path(self.layer, block).exists()

    @cached_property
    def description(self) -> dict[str, Any]:
        """All that the result depends on."""
        work = self.work
        images = [work.scene.image_paths[index] for index in sorted(work.scene.views)]
        return {
            "resdepth": __version__,
            "dsm": _described(work.scene.dsm_path),
            "images": [_described(path) for path in images],
            "model": fingerprint(self.refiner.model),
            "view_sets": [list(view_set) for view_set in work.view_sets],
            "region": [work.region.row, work.region.col, work.region.height, work.region.width],
            "mode": work.mode,
            "tile": work.tile,
            "blocks": list(block_counts_of(self.work, self.refiner)),
            "precision": str(self.refiner.precision).removeprefix("torch."),
            "device": self.refiner.device.type,
            "fill": work.fill,
            "fuse": work.fuse if work.spreads else None,
            "compression": self.compression,
        }

    @cached_property
    def number(self) -> str:
        """A hash of all that the result depends on."""
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()

    @property
    def tags(self) -> dict[str, str]:
        """What the output tells about itself."""
        told = self.description
        images = [Path(image["path"]).name for image in told["images"]]
        told_of_job = {
            "TIFFTAG_SOFTWARE": f"resdepth {__version__}",
            "RESDEPTH_DSM": Path(told["dsm"]["path"]).name,
            "RESDEPTH_IMAGES": ", ".join(images),
            "RESDEPTH_MODEL": Path(self.refiner.model.source).name or "unnamed",
            "RESDEPTH_MODEL_SHA256": told["model"],
            "RESDEPTH_MODE": told["mode"],
            "RESDEPTH_PRECISION": told["precision"],
            JOB_TAG: self.number,
        }
        if told["fuse"]:
            told_of_job["RESDEPTH_FUSED"] = f"{len(self.work.view_sets)} view sets, {told['fuse']}"
        return told_of_job


def _described(path: Path | None) -> dict[str, Any]:
    assert path is not None, "a job refines files"
    state = path.stat()
    return {"path": str(path.resolve()), "bytes": state.st_size, "modified_ns": state.st_mtime_ns}


Compute = Callable[[Job, Sequence[Window]], Generator[Window]]
"""Refines blocks of a job, writes them, and tells of each that is done."""


def run_jobs(jobs: Sequence[Job], *, existing: Existing = "refuse", compute: Compute | None = None) -> None:
    """Make the outputs of one command, or go on with them where an earlier try was stopped or killed.

    Args:
        jobs: what to make.
        existing: what happens to outputs that are there: they are an error, or they count as done if the same
            jobs made them, or they are made anew.
        compute: who does the work; by default this process.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM; finished blocks stay.
        ResDepthError: if an output is there, or unfinished blocks of another job; or something cannot be
            read or written; or another process is at work on the same output.
    """
    for job in jobs:
        _refuse_inputs_as_outputs(job)
    # What these jobs have left tells that a command is given again; what is finished is its own then.
    going_on = any(_was_stopped(job) for job in jobs)
    if existing != "replace":
        _refuse_foreign(jobs)
    if existing == "refuse" and not going_on and all(_is_made(job) for job in jobs):
        raise ResDepthError(f"{jobs[0].output}: exists already; add --overwrite, or choose another name")
    for job in jobs:
        done = _is_made(job) and (going_on or existing != "replace")
        if done and not _was_stopped(job):
            logger.info("%s: is there already", job.output)
            continue
        with _alone(job):
            if not done:
                _begin(job, anew=existing == "replace")
                _compute(job, compute or compute_here)
                _assemble(job)
            _tidy_up(job)


def _refuse_inputs_as_outputs(job: Job) -> None:
    inputs = {Path(one["path"]) for one in (job.description["dsm"], *job.description["images"])}
    if taken := inputs & {job.output.resolve(), job.provenance.resolve()}:
        raise ResDepthError(f"{taken.pop()}: is an input; choose another name for the output")


def _refuse_foreign(jobs: Sequence[Job]) -> None:
    """Refuse to touch files that these jobs have not made."""
    for job in jobs:
        for path in (job.output, job.provenance):
            if path.exists() and not _is_own(job, path):
                raise ResDepthError(
                    f"{path}: exists already, made from other inputs or with other options; add --overwrite, "
                    "or choose another name"
                )


def _is_own(job: Job, path: Path) -> bool:
    """Whether this very job has made a raster."""
    try:
        return read_tags(path).get(JOB_TAG) == job.number
    except ResDepthError:
        return False


def _is_made(job: Job) -> bool:
    return all(path.exists() and _is_own(job, path) for path in (job.provenance, job.output))


def _was_stopped(job: Job) -> bool:
    """Whether an earlier try of this job has left its folder, be it in the midst of tidying up."""
    return _holds_own_blocks(job) or (job.unfinished.exists() and not job.record.exists() and _is_made(job))


def _holds_own_blocks(job: Job) -> bool:
    """Whether the blocks in the folder are those of this job."""
    try:
        return bool(json.loads(read_text(job.record)) == job.description)
    except (ResDepthError, ValueError):
        return False


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """The folder for the blocks, held against other processes until the work is done.

    Raises:
        ResDepthError: if it cannot be made, or another process is at work in it.
    """
    if not job.output.parent.is_dir():
        raise ResDepthError(f"{job.output}: there is no folder {job.output.parent}")
    try:
        job.unfinished.mkdir(exist_ok=True)
        lock = (job.unfinished / LOCK).open("w")
    except OSError as error:
        raise ResDepthError(f"{job.unfinished}: cannot be made or written ({error})") from error
    with lock:
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ResDepthError(
                f"{job.output}: another process is at work on it; wait, or stop it"
            ) from error
        yield


def _begin(job: Job, *, anew: bool) -> None:
    """The model and the record of the job, beside blocks of no other."""
    same = _holds_own_blocks(job)
    others = [path for path in job.unfinished.iterdir() if path.name != LOCK]
    if not same and not anew and any(path.suffix == ".tif" for path in others):
        raise ResDepthError(
            f"{job.unfinished}: holds blocks of another job (other inputs, model or options); add "
            "--overwrite to start anew, or remove the folder"
        )
    if not same:
        for path in others:
            path.unlink()
    if not job.model_path.exists():
        save_model(job.refiner.model, job.model_path)
    if not same:
        write_json(job.record, job.description)


def _tidy_up(job: Job) -> None:
    """Remove the blocks; the record first, which says that there is something to go on with."""
    try:
        job.record.unlink(missing_ok=True)
        shutil.rmtree(job.unfinished)
    except OSError as error:
        logger.warning("%s: cannot be removed (%s); it is not needed any more", job.unfinished, error)


def load_job(folder: Path) -> Job:
    """The job whose blocks a folder holds; other processes take part in it so.

    Raises:
        ResDepthError: if it cannot be read, or its inputs have changed since.
    """
    told = json.loads(read_text(folder / RECORD))
    scene = Scene.open(told["dsm"]["path"], [image["path"] for image in told["images"]])
    device = torch.device(told["device"])
    model = load_safetensors(folder / MODEL)
    refiner = Refiner(model, device=device, precision=getattr(torch, told["precision"]))
    view_sets = tuple(tuple(view_set) for view_set in told["view_sets"])
    work = Work(
        scene, Window(*told["region"]), view_sets, told["mode"], told["tile"], told["fill"],
        told["fuse"] or "median",
    )  # fmt: skip
    job = Job(work, refiner, folder.with_name(folder.name.removesuffix(UNFINISHED)), told["compression"])
    if job.description != told:
        raise ResDepthError(f"{folder}: the inputs of this job have changed, or this resdepth is another one")
    return job


def _compute(job: Job, compute: Compute) -> None:
    """Refine the blocks that are not finished."""
    todo = [block for block in job.blocks if not job.is_done(block)]
    pixels = sum(block.area for block in job.blocks) / 1e6
    done = pixels - sum(block.area for block in todo) / 1e6
    if done:
        logger.info("going on: %d of %d blocks are finished", len(job.blocks) - len(todo), len(job.blocks))
    with (
        stoppable() as stop,
        progress_bar("refining", pixels, unit="Mpx", done=done) as progress,
        closing(compute(job, todo)) as finished,
    ):
        for count, block in enumerate(finished, 1):
            progress.advance(block.area / 1e6)
            if stop.asked and count < len(todo):
                raise Interrupted(
                    f"stopped by {stop.name}: {len(job.blocks) - len(todo) + count} of {len(job.blocks)} "
                    "blocks are finished; the same command goes on"
                )


def compute_here(job: Job, todo: Sequence[Window]) -> Generator[Window]:
    """Refine blocks in this process; the next one is read and the last one written meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="writer") as thread:
        writing: Future[None] | None = None
        for done in refined_blocks(job.work, job.refiner, todo):
            if writing is not None:
                writing.result()
            writing = thread.submit(write_finished, job, done)
            yield done.block
        if writing is not None:
            writing.result()


def write_finished(job: Job, done: RefinedBlock) -> None:
    """Keep a block; the heights come last, as they say that it is finished.

    Raises:
        ResDepthError: if it cannot be written.
    """
    grid = job.work.scene.grid.crop(done.block)
    write_block(job.block_path(PROVENANCE, done.block), grid, PROVENANCE, [done.provenance])
    bands = [done.heights] if done.spread is None else [done.heights, done.spread]
    write_block(job.block_path(job.layer, done.block), grid, job.layer, bands)


def _assemble(job: Job) -> None:
    """Put the blocks together, the output last, and remove them."""
    logger.info("putting the blocks together")
    grid = job.work.scene.grid.crop(job.work.region)
    for layer, path in ((PROVENANCE, job.provenance), (job.layer, job.output)):
        parts = {block.relative_to(job.work.region): job.block_path(layer, block) for block in job.blocks}
        # Made in the folder of the blocks, where whatever a kill leaves behind is removed with them.
        whole = job.unfinished / f"whole_{path.name}"
        write_cog(whole, grid, layer, parts, compression=job.compression, tags=job.tags)
        whole.replace(path)
