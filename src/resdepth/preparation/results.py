"""What is prepared, what each step of it found, and the record of steps that are done.

A step that is recorded is not done again by a second try.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from resdepth.errors import InputProblems
from resdepth.geo.grid import Grid
from resdepth.geo.reprojected import MapBand
from resdepth.preparation.change import Changes, Trust
from resdepth.preparation.coregister import Coregistration, Difference
from resdepth.preparation.datum import UNKNOWN
from resdepth.preparation.grid import GridChoice
from resdepth.preparation.orthos import RawCopy
from resdepth.preparation.pairs import RankedPair, Sun
from resdepth.preparation.request import PrepareConfig
from resdepth.preparation.tie_points import Biases
from resdepth.preparation.voids import Filling
from resdepth.runtime.atomic import write_json, writing
from resdepth.runtime.jsonfiles import demand, read_json
from resdepth.stereo.ortho import PanchromaticImage

logger = logging.getLogger(__name__)

Found = TypeVar("Found")


@dataclass(frozen=True)
class RawFile:
    """A raw image that is prepared.

    Attributes:
        name: in the data set.
        image: the file.
        day: when it was taken, days; None if it is not known.
        sun: its azimuth and elevation, degrees; None if they are not known.
    """

    name: str
    image: PanchromaticImage
    day: float | None = None
    sun: Sun | None = None


@dataclass(frozen=True)
class OrthoFile:
    """An ortho-image that is prepared."""

    name: str
    band: MapBand
    day: float | None = None
    sun: Sun | None = None


@dataclass(frozen=True)
class Inputs:
    """What is prepared, opened.

    Attributes:
        dsm: the initial DSM.
        reference: the reference DSM; None without one.
        images: raw images, or ortho-images.
        masks: files by name.
        asked: everything else.
    """

    dsm: MapBand
    reference: MapBand | None
    images: tuple[RawFile, ...] | tuple[OrthoFile, ...]
    masks: Mapping[str, str]
    asked: PrepareConfig

    @property
    def raw(self) -> tuple[RawFile, ...]:
        """The raw images; none if there are ortho-images."""
        return tuple(one for one in self.images if isinstance(one, RawFile))


@dataclass(frozen=True)
class Datums:
    """From which zeros heights count, and what changes them.

    Attributes:
        dsm, reference: as `vertical_of` gives them.
        target: to which those are brought that are known.
        dsm_up_m, reference_up_m: mean change of their heights.
    """

    dsm: str
    reference: str
    target: str
    dsm_up_m: float
    reference_up_m: float

    @property
    def counted(self) -> str:
        """From which zero the initial DSM counts before it is co-registered."""
        return self.target if self.dsm else UNKNOWN

    def after(self, coregistered: "Coregistered") -> str:
        """From which zero both count once they are co-registered: that of the one that does not move."""
        if coregistered.found is not None and coregistered.moved == "dsm":
            return self.target if self.reference else UNKNOWN
        return self.counted


@dataclass(frozen=True)
class Lift:
    """How heights of the data set become those that RPCs count.

    Attributes:
        known: whether it follows from the datum, or was measured in the images.
        up_m: mean.
    """

    known: bool
    up_m: float


@dataclass(frozen=True)
class Coregistered:
    """What moved onto what; None where there was nothing to compare with, or nothing was asked for."""

    found: Coregistration | None
    moved: str


@dataclass(frozen=True)
class PreparedView:
    """An ortho-image of the data set.

    Attributes:
        name: of it.
        seen: share of the area that it shows.
        geometry: how heights displace what it shows, as JSON; None if it is not known.
        hidden: share of the area that something higher hides.
        raw: what was kept of the raw image.
    """

    name: str
    seen: float
    geometry: dict[str, Any] | None = None
    hidden: float | None = None
    raw: RawCopy | None = None


@dataclass(frozen=True)
class Result:
    """What was prepared.

    Attributes:
        grid: of the data set.
        choice, datums, coregistered, filling, lift, biases, views, pairs, changes: what each step did.
        masks: names of all masks.
        difference: initial minus reference DSM in the end.
        trust: where quality layers distrust heights; None if none is asked.
    """

    grid: Grid
    choice: GridChoice
    datums: Datums
    coregistered: Coregistered
    filling: Filling
    lift: Lift | None
    biases: Biases | None
    views: tuple[PreparedView, ...]
    pairs: tuple[RankedPair, ...]
    changes: Changes | None
    masks: tuple[str, ...]
    difference: Difference | None = field(default=None)
    trust: Trust | None = None


class Journal:
    """The records of a work, in a folder of their own, removed once all is done.

    Law: a record is written after the files of its step; a step whose record and files are there is done.

    Args:
        folder: of the records.
        root: what the names of files count from.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self._root = folder, root
        self.files: list[str] = []
        """Names of all files that steps have written, in their order."""

    def once(
        self, name: str, kind: type[Found], work: Callable[[], Found], files: Iterable[Path] = ()
    ) -> Found:
        """The result of a step, computed unless an earlier try has done so.

        Args:
            name: of the step; unique.
            kind: of the result: a dataclass.
            work: the step.
            files: that it writes; where one of them is missing it is done again.

        Raises:
            ResDepthError: if the record cannot be written. Errors of the step pass.
        """
        written = list(files)
        record = self.folder / f"{name}.json"
        done = self._read(record, kind) if all(path.is_file() for path in written) else None
        if done is None:
            done = work()
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            names = [self._name(path) for path in written]
            content = json.loads(TypeAdapter(kind).dump_json(done))
            write_json(record, {"result": content, "files": names})
        self.files += [self._name(path) for path in written]
        return done

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _read(self, record: Path, kind: type[Found]) -> Found | None:
        if not record.is_file():
            return None
        try:
            found = demand(kind, read_json(record).get("result"), record)
        except InputProblems:  # damaged: the step is done again
            return None
        logger.info("%s: done before", record.stem)
        return found


def files_in(folder: Path) -> list[str]:
    """Names of the files that the records in a folder state to be written."""
    names: list[str] = []
    for record in sorted(folder.glob("*.json")):
        try:
            names += [str(name) for name in read_json(record).get("files", [])]
        except InputProblems:
            continue
    return names
