"""Making what jobs describe: block by block, so that a stopped job resumes. No file of others is touched."""

import logging
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from resdepth.errors import Interrupted, ResDepthError
from resdepth.geo.geotiff import (
    ownerless_sidecars,
    refuse_existing,
    refuse_inputs_as_outputs,
    remove_sidecars,
    write_cog,
)
from resdepth.geo.raster import read_tags
from resdepth.geo.windows import Window
from resdepth.models.model import save_model
from resdepth.options import option
from resdepth.refinement.blocks import refined_blocks
from resdepth.refinement.job import (
    JOB_TAG,
    LOCK,
    PROVENANCE,
    Job,
    JobRecord,
    RecordedFile,
    Results,
    write_finished,
)
from resdepth.refinement.provenance import Moved
from resdepth.runtime.atomic import NO_LINKS, write_json, writing
from resdepth.runtime.jsonfiles import demand, read_json
from resdepth.runtime.paths import read_text
from resdepth.runtime.placing import held
from resdepth.runtime.progress import progress_bar
from resdepth.runtime.surroundings import return_unused_memory, stoppable

logger = logging.getLogger(__name__)

SHOWN_CHANGES = 5
OWN_NAMES = re.compile(
    r"\.?((height|provenance)_([0-9a-f]{8}_\d+_\d+\.tif|row_\d+\.vrt)"
    r"|whole_(height|provenance)\.tif|job\.json|model(_without_images)?\.safetensors)(\..*)?"
)
"""Names of what is put into the folder of the blocks, and of temporary files on the way there."""
LONGEST_NAME = 255
"""Bytes of a file's name on usual file systems."""

Existing = Literal["refuse", "replace"]

Compute = Callable[[Job, Sequence[Window]], Generator[Window]]
"""Refines blocks of a job, writes them, and tells of each that is done."""


def run_jobs(
    jobs: Sequence[Job],
    *,
    existing: Existing = "refuse",
    compute: Compute | None = None,
    force: bool = False,
    pages: bool = False,
    items: bool = False,
) -> list[Results]:
    """Make the outputs of one command, or resume them where an earlier try was stopped or killed.

    Args:
        jobs: what to make.
        existing: what happens to outputs that are there: they count as done if the same jobs made them, and
            are an error else; or they are made anew.
        compute: who does the work; by default this process.
        force: let results that are not trusted have their names, too.
        pages: the caller writes the pages of the results, too.
        items: ... and their STAC items.

    Returns:
        Where the results lie.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM; finished blocks stay.
        ResDepthError: if an output is there, or unfinished blocks of another job; or something cannot be
            read or written; or another process is at work on the same output.
    """
    for job in jobs:
        _refuse_long_name(job)
        refuse_inputs_as_outputs(job.inputs, [*job.named.files, *job.set_aside.files])
    # What these jobs have left tells that a command is given again; what is finished is its own then.
    resuming = any(_was_stopped(job, existing) for job in jobs)
    if existing != "replace":
        _refuse_foreign(jobs, force=force, pages=pages, items=items)
    made = []
    for job in jobs:
        done = _made(job) if resuming or existing != "replace" else None
        to_be_named = force and done == job.set_aside
        if done and not to_be_named and not _was_stopped(job, existing):
            logger.info("%s is complete already", done.output)
        else:
            done = _make(job, done, compute or compute_here, anew=existing == "replace", force=force)
        made.append(done)
    return made


def _make(job: Job, done: Results | None, compute: Compute, *, anew: bool, force: bool) -> Results:
    """Make, name and tidy up what is not yet made, named and tidied up."""
    with _alone(job):
        if done is None:
            _begin(job, anew=anew)
            _compute(job, compute)
            done = _assemble(job, force=force)
        elif force and done == job.set_aside:
            done = _named(job)
        _remove_blocks(job)
    _remove_folder(job)
    return done


def _named(job: Job) -> Results:
    """Give a result that was set aside its name; its page is made again, as it states the name."""
    logger.info("%s becomes %s", job.set_aside.output, job.output)
    for before, path in zip(job.set_aside.rasters, job.named.rasters, strict=True):
        remove_sidecars(path)
        with writing(path):
            before.replace(path)
        remove_sidecars(before)
        style, named = before.with_suffix(".qml"), path.with_suffix(".qml")
        if style.exists() and not os.path.lexists(named):
            style.replace(named)
    for page in (job.set_aside.report, job.set_aside.item):
        if page.exists() and job.number in read_text(page):
            page.unlink()
    return job.named


def _refuse_long_name(job: Job) -> None:
    needed = max(len(os.fsencode(path.name)) for path in (job.set_aside.provenance, job.unfinished))
    if needed > LONGEST_NAME:
        raise ResDepthError(
            f"{job.output}: a name too long by {needed - LONGEST_NAME} bytes; what is written beside it has "
            "longer ones"
        )


def _refuse_foreign(jobs: Sequence[Job], *, force: bool, pages: bool, items: bool) -> None:
    """Refuse to touch files that these jobs have not made."""
    for job in jobs:
        rasters = (*job.named.rasters, *(() if force else job.set_aside.rasters))
        foreign = [path for path in rasters if not _is_own(job, path)]
        refuse_existing(foreign, overwrite=False, why=", made from other inputs or with other options")
        beside = [sidecar for path in rasters for sidecar in ownerless_sidecars(path)]
        texts = [job.named.report, job.set_aside.report] if pages else []
        texts += [job.named.item, job.set_aside.item] if items else []
        beside += [page for page in texts if not (page.is_file() and job.number in read_text(page))]
        refuse_existing(beside, overwrite=False)


def _is_own(job: Job, path: Path) -> bool:
    """Whether this very job has made a raster."""
    try:
        return read_tags(path).get(JOB_TAG) == job.number
    except ResDepthError:
        return False


def _made(job: Job) -> Results | None:
    """What this very job has made, under its name or set aside."""
    for results in (job.named, job.set_aside):
        if all(path.exists() and _is_own(job, path) for path in results.rasters):
            return results
    return None


def _was_stopped(job: Job, existing: Existing) -> bool:
    """Whether an earlier try of this job has left its folder, be it in the midst of tidying up.

    A folder without a record may also be one that could not be removed; what is to be replaced is made anew.
    """
    if _holds_own_blocks(job):
        return True
    folder = job.unfinished
    if existing == "replace" or job.record.exists() or folder.is_symlink() or not folder.is_dir():
        return False
    of_others = any(not OWN_NAMES.fullmatch(path.name) and path.name != LOCK for path in folder.iterdir())
    return not of_others and _made(job) is not None


def _holds_own_blocks(job: Job) -> bool:
    """Whether the blocks in the folder are those of this job."""
    try:
        return bool(read_json(job.record) == job.description)
    except ResDepthError:
        return False


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """The folder for the blocks, held against other processes until the work is done.

    Raises:
        ResDepthError: if it cannot be made, is a link, or another process is at work in it.
    """
    if not job.output.parent.is_dir():
        raise ResDepthError(f"{job.output}: there is no folder {job.output.parent}")
    if job.unfinished.is_symlink():
        raise ResDepthError(
            f"{job.unfinished}: is a link; blocks need a folder of their own: remove the link, or choose "
            "another name for the output"
        )
    try:
        job.unfinished.mkdir(exist_ok=True)
        # A link would lead to a file of somebody else, which opening for writing creates or empties.
        descriptor = os.open(job.unfinished / LOCK, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o666)
    except OSError as error:
        raise ResDepthError(f"{job.unfinished}: cannot be made or written ({error})") from error
    os.close(descriptor)
    with held(job.unfinished / LOCK, purpose=f"{job.output}"):
        yield


def _begin(job: Job, *, anew: bool) -> None:
    """The model and the record of the job, beside blocks of no other."""
    same = _holds_own_blocks(job)
    own = _own_files(job)
    if not same and not anew and any(path.suffix == ".tif" for path in own):
        raise ResDepthError(
            f"{job.unfinished}: holds blocks of another job ({_changed(job)}); add "
            f"{option('overwrite', value=True)} to start anew, or remove the folder"
        )
    if not same:
        for path in own:
            path.unlink()
    for path, model in job.models.items():
        if not path.exists():
            save_model(model, path)
    if not same:
        write_json(job.record, job.description)


def _own_files(job: Job) -> list[Path]:
    """What resdepth has put into the folder of the blocks, without the lock; all else is somebody else's."""
    return [path for path in job.unfinished.iterdir() if OWN_NAMES.fullmatch(path.name)]


def _changed(job: Job) -> str:
    """In words, in what the job whose blocks the folder holds differs."""
    now = job.description
    try:
        before = read_json(job.record)
        earlier, later = (_states(demand(JobRecord, one, job.record)) for one in (before, now))
    except ResDepthError:
        return "other inputs, model or options"
    stated = [key for key in now if key not in ("dsm", "images") and before.get(key) != now[key]]
    stated += [f"{path} has changed" for path in earlier if path in later and earlier[path] != later[path]]
    stated += [f"{path} was not used" for path in later if path not in earlier]
    return "; ".join(stated[:SHOWN_CHANGES]) or "other inputs, model or options"


def _states(record: JobRecord) -> dict[str, RecordedFile]:
    """The states of all input files by their paths."""
    inputs = [record.dsm, *record.images]
    files = [file for one in inputs for file in (one.model_copy(update={"files": []}), *one.files)]
    return {file.path: file for file in reversed(files)}


def _remove_blocks(job: Job) -> None:
    """Remove the blocks; the record first, which states that there is something to resume."""
    with _not_needed(job):
        own = _own_files(job)
        job.record.unlink(missing_ok=True)
        for path in own:
            path.unlink(missing_ok=True)


def _remove_folder(job: Job) -> None:
    """Remove the folder of the blocks, unless it holds files of others.

    While its lock is open, network file systems keep it.
    """
    with _not_needed(job):
        (job.unfinished / LOCK).unlink(missing_ok=True)
        if others := sorted(path.name for path in job.unfinished.iterdir()):
            shown = ", ".join(others[:SHOWN_CHANGES])
            logger.warning("%s: stays, as it holds what resdepth has not made: %s", job.unfinished, shown)
            return
        job.unfinished.rmdir()


@contextmanager
def _not_needed(job: Job) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.warning("%s: cannot be removed (%s); it is not needed any more", job.unfinished, error)


def _compute(job: Job, compute: Compute) -> None:
    """Refine the blocks that are not finished."""
    todo = [block for block in job.blocks if not job.is_done(block)]
    pixels = sum(block.area for block in job.blocks) / 1e6
    done = pixels - sum(block.area for block in todo) / 1e6
    if done:
        logger.info("resuming: %d of %d blocks are finished", len(job.blocks) - len(todo), len(job.blocks))
    with (
        stoppable() as stop,
        progress_bar("refining", pixels, unit="Mpx", done=done) as progress,
        closing(compute(job, todo)) as finished,
    ):
        for count, block in enumerate(finished, 1):
            progress.advance(block.area / 1e6)
            if stop.asked:
                raise Interrupted(
                    f"stopped by {stop.name}: {len(job.blocks) - len(todo) + count} of {len(job.blocks)} "
                    "blocks are finished; the same command resumes"
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


def _assemble(job: Job, *, force: bool) -> Results:
    """Put the blocks together, the output last; what cannot be trusted is set aside."""
    logger.info("putting the blocks together")
    return_unused_memory()  # GDAL takes its own
    grid = job.work.scene.grid.crop(job.work.region)
    moved = _moved(job)
    results = job.set_aside if moved.is_nonsense and not force else job.named
    for layer, path in zip((PROVENANCE, job.layer), results.rasters, strict=True):
        parts = {block.relative_to(job.work.region): job.block_path(layer, block) for block in job.blocks}
        # Made in the folder of the blocks, where whatever a kill leaves behind is removed with them.
        whole = job.unfinished / f"whole_{layer.names[0]}.tif"
        place = grid.flat if layer == PROVENANCE else grid
        write_cog(whole, place, layer, parts, compression=job.compression, tags=job.tags(moved))
        remove_sidecars(path)
        with writing(path):
            whole.replace(path)
    return results


def _moved(job: Job) -> Moved:
    """How far all blocks have moved heights."""
    total = Moved(job.refiner.model.normalization.height_sigma)
    for path in (job.block_path(job.layer, block) for block in job.blocks):
        if (moved := Moved.from_tags(read_tags(path))) is None:
            raise ResDepthError(
                f"{path}: does not state how far heights were moved; add {option('overwrite', value=True)}"
            )
        total += moved
    return total
