"""The folder of a demonstration. Its record states what was written, and nothing else is ever removed."""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from resdepth.errors import ResDepthError
from resdepth.geo.geotiff import refuse_existing
from resdepth.models.published import CONFIG_FILE
from resdepth.runtime.atomic import is_unfinished, write_json, writing
from resdepth.runtime.jsonfiles import demand, read_json
from resdepth.simulate.dataset import MODEL, SCENE_MASKS
from resdepth.training.run_folder import ORIGINAL_CONFIG_FILE
from resdepth.workflows.evaluate import JSON
from resdepth.workflows.evaluate import PAGE as TEST_PAGE
from resdepth.workflows.test import OVER_ALL_PAIRS

logger = logging.getLogger(__name__)

RECORD = "demo.json"
PAGE = "demo.html"
DATASET = "ResDepth-stereo"
SHOWN = 3
TEXTS = (".txt", ".json", ".html")
# What the simulation, the demonstration and `test` write into the folder; * stands for a slash, too.
WRITTEN = (
    "data", "models", "configs", "results", "results_expected", "logs", "unfinished", "unfinished/*",
    "scene.json", "simulate.json", PAGE,
    "data/dsm/initial.tif", "data/dsm/truth.tif",
    *(f"data/mask/{name}.tif" for name in (*SCENE_MASKS, "void", "shadow_date[0-9]")),
    *(f"data/satellite_views/{raw}date[0-9][a-z].tif" for raw in ("", "raw/")),
    *(f"data/image_selection/{name}.txt" for name in ("imagelist", "pairlist", "pairlist_simple",
                                                      "pairlist_generalized")),
    f"models/{MODEL}",
    *(f"configs/config_{name}.json" for name in ("simple", "test", "train")),
    *(f"{results}/{DATASET}/{name}" for results in ("results", "results_expected") for name in (
        CONFIG_FILE, ORIGINAL_CONFIG_FILE, JSON, TEST_PAGE, f"*{OVER_ALL_PAIRS}", "*_stereopairs.json",
        *(f"Stereopair_[0-9]*/*_{kind}.{suffix}"
          for kind in ("prediction", "residuals") for suffix in ("tif", "qml")),
        *(f"Stereopair_[0-9]*/*_prediction_statistics.{suffix}" for suffix in ("txt", "json")),
    )),
)  # fmt: skip


@dataclass(frozen=True)
class _Record:
    """What a demonstration is made from, and the SHA-256 of its files by name; none until it is complete."""

    made_from: dict[str, Any]
    files: dict[str, str]


def take_folder(folder: Path, made_from: Mapping[str, Any], *, overwrite: bool) -> None:
    """Begin a demonstration in a folder, or resume one that was stopped.

    Args:
        folder: made if it is not there.
        made_from: what tells demonstrations from each other.
        overwrite: remove an earlier demonstration first.

    Raises:
        ResDepthError: if the folder holds a complete demonstration and is not to be overwritten, or anything
            that no demonstration wrote.
    """
    found = [name for name in contents(folder) if not is_unfinished(folder / name)]
    if found:
        record = _read_record(folder)
        if not overwrite and (record.files or record.made_from != made_from):
            refuse_existing([folder], overwrite=False)
        _refuse_strange(folder, record)
        if not overwrite:
            logger.info("%s: resuming", folder)
            return
        _empty(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, made_from, complete=False)


def write_record(folder: Path, made_from: Mapping[str, Any], *, complete: bool) -> None:
    """State what a demonstration is made from and, once it is complete, what it wrote."""
    names = [name for name in contents(folder) if _is_called_like_ours(name)] if complete else []
    files = {name: _digest(folder / name) for name in names if (folder / name).is_file()}
    write_json(folder / RECORD, {"made_from": dict(made_from), "files": files})


def contents(folder: Path) -> list[str]:
    """Names of all files and links, and of what lies in the folder itself; links are not followed."""
    found = []
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink() or Path(place) == folder]
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(found)


def _read_record(folder: Path) -> _Record:
    path = folder / RECORD
    if path.is_symlink() or not path.is_file():
        raise ResDepthError(
            f"{folder}: not empty, and holds no demonstration; choose another folder with --to"
        )
    return demand(_Record, read_json(path), path)


def _refuse_strange(folder: Path, record: _Record) -> None:
    """Refuse a folder that holds what the demonstration did not write, or what has changed since."""
    strange = [name for name in contents(folder) if not _is_own(folder, name, record)]
    if strange:
        shown = ", ".join(strange[:SHOWN])
        shown += f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
        raise ResDepthError(
            f"{folder}: holds {shown}, which no demonstration wrote, or which has changed since; move it "
            "away, or choose another folder with --to"
        )


def _is_own(folder: Path, name: str, record: _Record) -> bool:
    path = folder / name
    if path.is_symlink():
        return False
    if name == RECORD or any(is_unfinished(Path(part)) for part in Path(name).parts):
        return True
    if path.is_dir() or not record.files:
        return _is_called_like_ours(name)
    beside = name.removesuffix(".aux.xml")  # what GDAL finds out about a raster
    if beside != name and beside in record.files:
        return True
    if name not in record.files or not path.is_file():
        return False
    # `test`, run again with the configuration of the demonstration, names other paths and times in its texts.
    is_text = name.startswith("results/") and path.suffix in TEXTS
    return is_text or record.files[name] == _digest(path)


def _is_called_like_ours(name: str) -> bool:
    return any(fnmatchcase(name, one) for pattern in WRITTEN for one in (pattern, f"{pattern}.aux.xml"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _empty(folder: Path) -> None:
    """Remove all files, the record last, and the folders within."""
    names = [name for name in contents(folder) if name != RECORD]
    for path in (folder / name for name in names):
        if path.is_symlink() or not path.is_dir():
            with writing(path):
                path.unlink()
    for place, folders, _ in os.walk(folder, topdown=False):
        for path in (Path(place) / name for name in folders):
            with writing(path):
                path.rmdir()
    with writing(folder / RECORD):
        (folder / RECORD).unlink(missing_ok=True)
