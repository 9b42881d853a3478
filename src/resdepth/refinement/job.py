"""A raster to be made: all that its result depends on, and the files that it is made of."""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field

from resdepth.data.scene import Scene
from resdepth.errors import ResDepthError
from resdepth.geo.geotiff import Layer, write_block
from resdepth.geo.raster import HEIGHT, files_behind, read_header
from resdepth.geo.windows import Window
from resdepth.models.model import Model, fingerprint, load_safetensors
from resdepth.options import Compression, Fuse, Mode
from resdepth.refinement.blocks import RefinedBlock, Work, block_counts_of, blocks_of
from resdepth.refinement.engine import Refiner
from resdepth.refinement.provenance import Moved
from resdepth.runtime.atomic import is_intact
from resdepth.runtime.jsonfiles import demand, read_json
from resdepth.version import __version__

logger = logging.getLogger(__name__)

SPREAD, ERROR = "spread", "error"
"""The bands of an output after its heights, if there are any."""
PROVENANCE = Layer(("provenance",), dtype="uint8", nodata=0, overviews="nearest")
JOB_TAG, WARNING_TAG = "RESDEPTH_JOB", "RESDEPTH_WARNING"
NOT_TRUSTED = "_not_trusted"
"""What is added to the name of an output that cannot be right."""
UNFINISHED, RECORD, LOCK = ".unfinished", "job.json", "lock"
MODEL, BEYOND = "model.safetensors", "model_without_images.safetensors"
SMALL_BYTES = 1 << 20
# What GIS write when they show a raster: statistics and overviews. Of the first the header holds what counts.
NO_PIXELS = (".aux.xml", ".tif.ovr", ".tiff.ovr", ".vrt.ovr")


class RecordedFile(BaseModel, extra="allow"):
    """A file that a job reads, in the state that its record keeps: whatever else is known of it."""

    path: str
    files: list["RecordedFile"] = []


class JobRecord(BaseModel):
    """What is used of a job's record; the whole of it is compared with the job that it describes."""

    resdepth: str
    dsm: RecordedFile
    images: list[RecordedFile]
    made_from: list[RecordedFile] = []
    without_images: str | None = None
    view_sets: list[tuple[int, ...]]
    region: tuple[int, int, int, int]
    mode: Mode
    tile: Annotated[int, Field(ge=1)]
    precision: Literal["float32", "bfloat16"]
    device: Literal["cpu", "cuda", "mps"]
    fill: bool
    fuse: Fuse | None
    with_error: bool
    compression: Compression


@dataclass(frozen=True)
class Results:
    """The files of one result, which lie beside each other.

    Attributes:
        output: the refined DSM.
    """

    output: Path

    @property
    def provenance(self) -> Path:
        """The raster that tells where each height comes from."""
        return self.output.with_name(f"{self.output.stem}_provenance{self.output.suffix}")

    @property
    def rasters(self) -> tuple[Path, Path]:
        """Both; the output comes last, as it states that all is there."""
        return self.provenance, self.output

    @property
    def report(self) -> Path:
        """The page that shows it."""
        return self.output.with_suffix(".html")

    @property
    def item(self) -> Path:
        """The STAC item that describes it to catalogues."""
        return self.output.with_suffix(".stac.json")

    @property
    def files(self) -> list[Path]:
        """All that may be written, page and styles among them."""
        styles = (path.with_suffix(".qml") for path in self.rasters)
        return [*self.rasters, *styles, self.report, self.item]


@dataclass(frozen=True)
class Job:
    """One raster to be made.

    Attributes:
        work: what is done with each block.
        refiner: the model, and how it runs.
        output: the refined DSM.
        compression: of the file.
        misfits: in what model and rasters do not fit, where the user insists on refining.
        made_from: the images from which the rasters that the model is shown were made, if it is shown others.
    """

    work: Work
    refiner: Refiner
    output: Path
    compression: Compression = "zstd"
    misfits: tuple[str, ...] = ()
    made_from: tuple[Path, ...] = ()

    @property
    def named(self) -> Results:
        """Where the result lies that is trusted."""
        return Results(self.output)

    @property
    def set_aside(self) -> Results:
        """Where one lies that is not."""
        return Results(self.output.with_name(f"{self.output.stem}{NOT_TRUSTED}{self.output.suffix}"))

    @property
    def inputs(self) -> list[Path | None]:
        """The files that it is made from; the model may have none."""
        scene = self.work.scene
        images = self.made_from or scene.image_paths
        return [scene.dsm_path, *images, Path(self.refiner.model.source)]

    @property
    def unfinished(self) -> Path:
        """The folder of the blocks, until they are put together."""
        return self.output.with_name(self.output.name + UNFINISHED)

    @property
    def record(self) -> Path:
        """What the blocks in the folder belong to."""
        return self.unfinished / RECORD

    @property
    def models(self) -> dict[Path, Model]:
        """The files of the models, for other processes."""
        beyond = {} if self.refiner.beyond is None else {self.unfinished / BEYOND: self.refiner.beyond.model}
        return {self.unfinished / MODEL: self.refiner.model, **beyond}

    @property
    def layer(self) -> Layer:
        """What the output's bands are; heights are in the unit of the initial DSM."""
        names = (HEIGHT, *[SPREAD] * self.work.spreads, *[ERROR] * self.work.with_error)
        return Layer(names, unit=self.work.scene.unit.name)

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
        """Whether a block is finished, and both of its files are what was written."""
        paths = [self.block_path(layer, block) for layer in (self.layer, PROVENANCE)]
        if all(is_intact(path) for path in paths):
            return True
        # The heights are written last: without them the block was not finished.
        if paths[0].exists():
            logger.warning("%s: a block is damaged; it is computed again", paths[0])
        return False

    @cached_property
    def description(self) -> dict[str, Any]:
        """All that the result depends on."""
        work = self.work
        assert work.scene.dsm_path is not None, "a job refines files"
        images = [work.scene.image_paths[index] for index in sorted(work.scene.views)]
        made_from = {"made_from": [described_file(path) for path in self.made_from]} if self.made_from else {}
        other = self.refiner.beyond
        beyond = {} if other is None else {"without_images": fingerprint(other.model)}
        return (
            made_from
            | beyond
            | {
                "resdepth": __version__,
                "dsm": described_file(work.scene.dsm_path),
                "unit": [work.scene.unit.name, work.scene.unit.metres],
                "images": [_named(path) if made_from else described_file(path) for path in images],
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
                "with_error": work.with_error,
                "compression": self.compression,
            }
        )

    @cached_property
    def number(self) -> str:
        """A hash of all that the result depends on."""
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()

    def tags(self, moved: Moved) -> dict[str, str]:
        """What the output states about itself, whose heights were moved so far."""
        stated = self.description
        images = [Path(image["path"]).name for image in stated.get("made_from", stated["images"])]
        stated_of_job = {
            "TIFFTAG_SOFTWARE": f"resdepth {__version__}",
            "RESDEPTH_DSM": Path(stated["dsm"]["path"]).name,
            "RESDEPTH_IMAGES": ", ".join(images),
            "RESDEPTH_MODEL": Path(self.refiner.model.source).name or "unnamed",
            "RESDEPTH_MODEL_SHA256": stated["model"],
            "RESDEPTH_MODE": stated["mode"],
            "RESDEPTH_PRECISION": stated["precision"],
            JOB_TAG: self.number,
        }
        if (beyond := self.refiner.beyond) is not None:
            stated_of_job["RESDEPTH_MODEL_WITHOUT_IMAGES"] = Path(beyond.model.source).name
            stated_of_job["RESDEPTH_MODEL_WITHOUT_IMAGES_SHA256"] = stated["without_images"]
        if stated["fuse"]:
            stated_of_job["RESDEPTH_FUSED"] = f"{len(self.work.view_sets)} view sets, {stated['fuse']}"
        warnings = [*self.misfits, *([moved.warning] if moved.warning else [])]
        numbered = {f"{WARNING_TAG}_{number}": warning for number, warning in enumerate(warnings, 1)}
        return stated_of_job | moved.as_tags() | numbered


def _named(path: Path) -> dict[str, Any]:
    """A raster that was made from files which are described themselves."""
    return {"path": str(path.resolve()), "files": []}


def described_file(path: Path) -> dict[str, Any]:
    """What shows that a raster is another one than before: its header and the state of its files."""
    header = replace(read_header(path), path=Path())
    return {
        "path": str(path.resolve()),
        "header": hashlib.sha256(repr(header).encode()).hexdigest(),
        "files": [_state_of(file) for file in files_behind(path) if not file.name.endswith(NO_PIXELS)],
    }


def _state_of(path: Path) -> dict[str, Any]:
    """What shows that a file is another one than before; a small one is read for that."""
    state = path.stat()
    stated = {"path": str(path.resolve()), "bytes": state.st_size, "modified_ns": state.st_mtime_ns}
    if state.st_size <= SMALL_BYTES:
        stated["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return stated


def load_job(folder: Path) -> Job:
    """The job whose blocks a folder holds; other processes take part in it so.

    Raises:
        ResDepthError: if it cannot be read, or its inputs have changed since.
    """
    content = read_json(folder / RECORD)
    stated = demand(JobRecord, content, folder / RECORD)
    if stated.resdepth != __version__:
        raise ResDepthError(
            f"{folder}: resdepth {stated.resdepth} makes this, here is {__version__}; all need one version"
        )
    scene = Scene.open(stated.dsm.path, [image.path for image in stated.images])
    model = load_safetensors(folder / MODEL)
    beyond = load_safetensors(folder / BEYOND) if stated.without_images else None
    precision = getattr(torch, stated.precision)
    refiner = Refiner(model, device=torch.device(stated.device), precision=precision, beyond=beyond)
    view_sets = tuple(stated.view_sets)
    work = Work(
        scene,
        Window(*stated.region),
        view_sets,
        stated.mode,
        stated.tile,
        stated.fill,
        stated.fuse or "median",
        stated.with_error,
    )
    job = Job(
        work,
        refiner,
        folder.with_name(folder.name.removesuffix(UNFINISHED)),
        stated.compression,
        made_from=tuple(Path(image.path) for image in stated.made_from),
    )
    if job.description != content:
        raise ResDepthError(f"{folder}: the inputs of this job have changed")
    return job


def write_finished(job: Job, done: RefinedBlock) -> None:
    """Keep a block; the heights come last, as they say that it is finished.

    Raises:
        ResDepthError: if it cannot be written.
    """
    grid = job.work.scene.grid.crop(done.block)
    write_block(job.block_path(PROVENANCE, done.block), grid.flat, PROVENANCE, [done.provenance])
    bands = [
        job.work.scene.unit.of_metres(band)
        for band in (done.heights, done.spread, done.error)
        if band is not None
    ]
    write_block(job.block_path(job.layer, done.block), grid, job.layer, bands, done.moved.as_tags())
