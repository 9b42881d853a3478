"""What has been done of a long work: a record for each step, so that a second try does not do it again."""

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from resdepth.errors import InputProblems
from resdepth.runtime.atomic import write_json, writing
from resdepth.runtime.jsonfiles import demand, read_json

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


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
        self, name: str, kind: type[Result], work: Callable[[], Result], files: Iterable[Path] = ()
    ) -> Result:
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

    def _read(self, record: Path, kind: type[Result]) -> Result | None:
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
