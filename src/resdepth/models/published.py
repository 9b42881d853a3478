"""The files of the published ResDepth: checkpoints, architecture, normalisation, run folders.

They are not trusted: sizes are looked at first, nothing in them is executed, pickles may hold numbers only.
"""

import io
import json
import math
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resdepth.config.parse import draft, nearest
from resdepth.config.schema import LARGEST_COUNT
from resdepth.data.normalization import Normalization
from resdepth.errors import InputProblems, Problem, ResDepthError, unusable
from resdepth.models.model import (
    Architecture,
    Model,
    check_weights,
    described_architecture,
    load_safetensors,
    plain_weights,
)
from resdepth.models.pretrained import BUNDLED
from resdepth.models.schema import LARGEST_TILE_PX, DescribedNetwork, TrainingState
from resdepth.runtime.atomic import atomic_path, write_bytes, write_text
from resdepth.runtime.jsonfiles import read_json, wrong_values_named
from resdepth.runtime.paths import is_there, why_no_file
from resdepth.runtime.surroundings import without_warnings

CONFIG_FILE = "config.json"
ARCHITECTURE_FILE = "model_config.json"
HEIGHT_FILE = "DSM_normalization_parameters.p"
IMAGE_FILE = "Image_normalization_parameters.p"
CHECKPOINT_FOLDER = "checkpoints"
BEST_CHECKPOINT = "Model_best.pth"
MODEL_FILE = "model.safetensors"

# Python 3.7, for which the published code was written, reads protocol 4 and below.
PICKLE_PROTOCOL = 4
MAX_PICKLE_BYTES = 4096


def read_moments(path: Path) -> tuple[float | None, float]:
    """Mean (None if there is none) and standard deviation from a .p file.

    Raises:
        InputProblems: if the file is absent, damaged, or tries to load anything but plain numbers.
    """
    if reason := why_no_file(path):
        raise unusable(path, reason)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PICKLE_BYTES + 1)
    except OSError as error:
        raise unusable(path, f"cannot be read ({error.strerror})") from error
    if len(raw) > MAX_PICKLE_BYTES:
        raise unusable(
            path, f"more than {MAX_PICKLE_BYTES} bytes are no pair of numbers; is it the right file?"
        )
    try:
        content = load_numbers(raw)
    except RefusedError as error:
        raise unusable(path, f"refused, nothing was run: {error}") from error
    except Exception as error:
        raise unusable(path, f"not a readable pickle ({error!r})") from error
    if not isinstance(content, dict) or set(content) != {"mean", "std"}:
        raise unusable(path, f"holds a {type(content).__name__}; expected {{'mean': ..., 'std': ...}}")
    mean, std = (_finite_number(content[name]) for name in ("mean", "std"))
    if mean is None and content["mean"] is not None:
        raise unusable(path, f"mean: found {_shown(content['mean'])}; expected a finite number or None")
    if std is None or std <= 0:
        raise unusable(path, f"std: found {_shown(content['std'])}; expected a finite number above 0")
    return mean, std


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, float | bool | None) else f"a {type(value).__name__}"


def _finite_number(value: object) -> float | None:
    """The value as a float; None if it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def write_moments(path: Path, mean: float | None, std: float) -> None:
    """Write a .p file as the published code does."""
    write_bytes(path, pickle.dumps({"mean": mean, "std": std}, protocol=PICKLE_PROTOCOL))


def read_architecture(path: Path) -> Architecture:
    """Read model_config.json.

    Raises:
        InputProblems: everything that is wrong with it.
    """
    described, problems = draft(DescribedNetwork, read_json(path), f"{path}: ")
    if problems:
        raise InputProblems(problems)
    return described_architecture(described, f"{path}: ")


def write_architecture(path: Path, architecture: Architecture) -> None:
    """Write model_config.json."""
    content = {
        "name": architecture.name,
        "input_channels": architecture.input_channels,
        "settings": dict(architecture.settings),
    }
    write_text(path, json.dumps(content, indent=2))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a .pth checkpoint onto the CPU; tensors and plain values only.

    Raises:
        InputProblems: if it is absent, damaged, holds no model_state_dict, or tries to load anything else.
    """
    if reason := why_no_file(path):
        raise unusable(path, reason)
    content = load_pth(path)
    if not isinstance(content, dict) or not isinstance(content.get("model_state_dict"), dict):
        raise unusable(path, "holds no model_state_dict; is it a ResDepth checkpoint?")
    return content | {"model_state_dict": plain_weights(content["model_state_dict"], path)}


def read_training_state(path: Path) -> dict[str, Any]:
    """Read a .pth checkpoint from which training is to resume.

    Raises:
        InputProblems: see `read_checkpoint`; or its counters or the state of its optimizer are none.
    """
    content = read_checkpoint(path)
    with wrong_values_named(path):
        TrainingState.model_validate(content, strict=True)
    if "averaged_state_dict" in content:
        content |= {"averaged_state_dict": plain_weights(content["averaged_state_dict"], path)}
    return content


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a .pth checkpoint; it appears complete or not at all.

    Raises:
        ResDepthError: if it cannot be written.
    """
    try:
        # Into an open file: torch would store the path's name in it, and no two would be equal.
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(_with_words_interned(dict(content)), file)
    except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or "it broke off"
        raise ResDepthError(f"{path}: cannot be written ({reason}); is there space left?") from error


def _with_words_interned(content: Any) -> Any:
    """The same, with equal words as one object: else pickle writes other bytes after resuming."""
    if type(content) is dict:
        return {_with_words_interned(key): _with_words_interned(value) for key, value in content.items()}
    if type(content) is list:
        return [_with_words_interned(value) for value in content]
    return sys.intern(content) if type(content) is str else content


@dataclass(frozen=True)
class PublishedFiles:
    """The files that make up a model of the published code; the names are those of the configuration."""

    weights: Path | None = None
    architecture: Path | None = None
    normalization_geom: Path | None = None
    normalization_image: Path | None = None


def load_published(files: PublishedFiles, prefix: str = "") -> Model:
    """A model from the files of a published run.

    Args:
        files: their paths.
        prefix: what the names of the files begin with: "config.json: model.".

    Raises:
        InputProblems: everything wrong with the files, or that the weights do not fit the architecture.
    """
    read, problems = _read_files(files, prefix)
    architecture: Architecture | None = read.get("architecture")
    needed = ["weights", "architecture", "normalization_geom"]
    if architecture is not None and architecture.inputs.n_views:
        needed.append("normalization_image")
        if "normalization_image" in read and read["normalization_image"][0] is None:
            text = f"{files.normalization_image}: holds no mean; is it that of the images?"
            problems.append(Problem(f"{prefix}normalization_image", text))
    problems += [
        Problem(f"{prefix}{name}", "missing; a model consists of it, or of model.path (.safetensors) alone")
        for name in needed
        if getattr(files, name) is None
    ]
    if architecture is not None and "weights" in read:
        try:
            check_weights(architecture, read["weights"]["model_state_dict"])
        except ResDepthError as error:
            text = f"{files.weights}: {error} (architecture: {files.architecture})"
            problems.append(Problem(f"{prefix}weights", text))
    if architecture is None or problems:
        raise InputProblems(problems)
    return Model(
        architecture=architecture,
        weights=read["weights"]["model_state_dict"],
        normalization=Normalization(read["normalization_geom"][1], *read.get("normalization_image", ())),
        provenance=reached(read["weights"]),
        source=str(files.weights),
    )


def _read_files(files: PublishedFiles, prefix: str) -> tuple[dict[str, Any], list[Problem]]:
    """What each of the files that are given holds, by its name; those that are not needed are left out."""
    readers: dict[str, Callable[[Path], Any]] = {
        "architecture": read_architecture,
        "normalization_geom": read_moments,
        "normalization_image": read_moments,
        "weights": read_checkpoint,
    }
    read: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, reader in readers.items():
        path: Path | None = getattr(files, name)
        sees_images = "architecture" not in read or read["architecture"].inputs.n_views > 0
        if path is None or (name == "normalization_image" and not sees_images):
            continue
        try:
            read[name] = reader(path)
        except InputProblems as error:
            problems += [Problem(f"{prefix}{name}", str(problem)) for problem in error.problems]
    return read, problems


def reached(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint tells of its training; its epochs count from zero, ours from one."""
    epoch, loss = (_finite_number(checkpoint.get(name)) for name in ("epoch", "loss_val"))
    counts = epoch is not None and -1 <= epoch < LARGEST_COUNT
    found = {"epoch": int(epoch) + 1 if epoch is not None and counts else None, "loss_val": loss}
    return {name: value for name, value in found.items() if value is not None}


def load_run_folder(folder: Path, checkpoint: str = BEST_CHECKPOINT) -> Model:
    """A model from a run folder of ours or of the published code.

    Raises:
        InputProblems: if files are missing or unusable.
    """
    image_file = folder / IMAGE_FILE
    files = PublishedFiles(
        weights=folder / CHECKPOINT_FOLDER / checkpoint,
        architecture=folder / ARCHITECTURE_FILE,
        normalization_geom=folder / HEIGHT_FILE,
        normalization_image=image_file if is_there(image_file) else None,
    )
    model = load_published(files, f"{folder}: ")
    tile = _training_tile(folder / CONFIG_FILE)
    return replace(model, provenance={**_stated_beside(folder / MODEL_FILE), **model.provenance, **tile})


def _stated_beside(path: Path) -> dict[str, Any]:
    """What the self-contained file of the run's best model tells of its training data, if it is there."""
    try:
        stated = load_safetensors(path).provenance if is_there(path) else {}
    except ResDepthError:  # what is asked for is in the other files
        return {}
    return {name: value for name, value in stated.items() if name not in ("epoch", "loss_val")}


def _training_tile(config: Path) -> dict[str, Any]:
    """The tile size of the training, if the run folder's configuration tells it; the model runs without."""
    try:
        tile = read_json(config).get("training_settings", {}).get("tile_size")
    except (InputProblems, AttributeError):
        return {}
    return {"tile_size": tile} if type(tile) is int and 0 < tile <= LARGEST_TILE_PX else {}


def load_model(path: str | Path) -> Model:
    """A trained model: a .safetensors file, a run folder of ours or of the published code, or a bundled one.

    Args:
        path: of the file or folder; or "fusion", "dsm-alone" or "town-stereo", unless a file has that name.

    Raises:
        ResDepthError: if there is no such file or folder, or it is no model.

    Examples:
        >>> import resdepth
        >>> resdepth.load_model("model.safetensors")
        Model(model: UNet of geom-stereo, 1,729 weights)
        >>> resdepth.load_model("fusion").architecture.name
        'FusionUNet'
    """
    path = Path(path)
    if f"{path}" in BUNDLED and not path.exists():
        path = BUNDLED[f"{path}"]
    if looks_like_a_name(path):
        near = nearest(f"{path}", BUNDLED)
        guess = f"; did you mean {near!r}?" if near else ""
        raise ResDepthError(
            f"{path}: is no file, no run folder and no bundled model{guess} ({', '.join(BUNDLED)}: see "
            "`resdepth models`)"
        )
    if path.is_dir():
        return load_run_folder(path)
    if path.suffix == ".pth":
        raise ResDepthError(f"{path}: a .pth file holds weights only; give the run folder that it lies in")
    return load_safetensors(path)


def looks_like_a_name(path: Path) -> bool:
    """Whether somebody means a bundled model, though there is none of that name: a word, and no file."""
    return len(path.parts) == 1 and not path.suffix and not is_there(path) and f"{path}" not in BUNDLED


# A file that was packed anew may unpack to more than it has; weights hardly shrink.
LARGEST_RATIO = 8
# What describes the arrays of a large network and of its optimizer has some hundred kilobytes.
LARGEST_PICKLE = 4 * 2**20
PICKLES_BEFORE_ARRAYS = 4  # of a file of torch before 1.6: magic number, version, system, content
MOST_VALUES, DEEPEST_NESTING = 1_000_000, 8
_ZIP_START = b"PK\x03\x04"


def load_pth(path: Path) -> Any:
    """What a .pth file holds, on the CPU: arrays, plain values, and dicts, lists and tuples of them.

    Raises:
        InputProblems: if it is damaged, tries to load anything else, or would take more memory than its size
            lets expect.
    """
    _refuse_oversized(path)
    try:
        # Torch warns of what it refuses anyway. Its list of what is safe is one for all threads, too.
        with without_warnings(Warning), torch.serialization.safe_globals(NUMBERS_OF_NUMPY):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        tried = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it tries to load {tried[1]}"
            if tried
            else "it is damaged, or holds more than arrays and plain values"
        )
        raise unusable(path, f"refused, nothing was run: {reason}") from error
    except Exception as error:
        raise unusable(path, f"not a readable checkpoint ({error!r:.200}); is it complete?") from error
    return _Plain(path).value(content)


def _refuse_oversized(path: Path) -> None:
    """Look at the sizes that a file declares before memory is taken for them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            file.seek(0)
            _refuse_long_pickles(path, file)
            return
    try:
        with zipfile.ZipFile(path) as packed:
            parts = packed.infolist()
    except Exception as error:
        raise unusable(path, f"not a readable checkpoint ({error!r:.200}); is it complete?") from error
    declared = sum(part.file_size for part in parts)
    if declared > LARGEST_RATIO * size:
        raise unusable(path, f"refused: its {size} bytes would unpack to {declared}")
    longest = max((part.file_size for part in parts if part.filename.endswith(".pkl")), default=0)
    if longest > LARGEST_PICKLE:
        raise unusable(path, f"refused: {longest} bytes describe its arrays; {LARGEST_PICKLE} are allowed")


def _refuse_long_pickles(path: Path, file: io.BufferedReader) -> None:
    beginning = io.BytesIO(file.read(LARGEST_PICKLE))
    try:
        for _ in range(PICKLES_BEFORE_ARRAYS):
            for _ in pickletools.genops(beginning):
                pass
    except Exception as error:  # it is no pickle, or a longer one
        if file.read(1):
            raise unusable(path, f"refused: more than {LARGEST_PICKLE} bytes describe its arrays") from error


class _Plain:
    """Looks at every value of a file; they may be nested in themselves, and arrays larger than they are."""

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, MOST_VALUES

    def value(self, found: Any, depth: int = 0) -> Any:
        """The same, of plain dicts, lists and tuples."""
        self._left -= 1
        if self._left < 0 or depth > DEEPEST_NESTING:
            raise unusable(self._path, "refused: its values are nested too deep, or are too many")
        if isinstance(found, Tensor):
            return self._array(found)
        if isinstance(found, Mapping):
            return {key: self.value(one, depth + 1) for key, one in found.items()}
        if isinstance(found, list | tuple):
            kind = list if isinstance(found, list) else tuple
            return kind(self.value(one, depth + 1) for one in found)
        return found

    def _array(self, found: Tensor) -> Tensor:
        if found.layout == torch.strided and found.device.type == "cpu":
            declared = found.numel() * found.element_size()
            if declared > found.untyped_storage().nbytes():
                shape = " x ".join(map(str, found.shape))
                raise unusable(self._path, f"refused: an array of {shape} numbers, which it does not hold")
        return found


MOST_REUSES = 16
_FLOATS = {"f8": "<d", "f4": "<f"}  # what a normalisation can hold
_NUMBERS = {
    **_FLOATS, "f2": "<e", "b1": "<?", "i1": "<b", "i2": "<h", "i4": "<i", "i8": "<q", "u1": "<B", "u2": "<H",
    "u4": "<I", "u8": "<Q",
}  # fmt: skip


class RefusedError(Exception):
    """The pickle tries something else than to hold plain numbers."""


class _PlainDtype:
    """Stands for numpy.dtype in a pickle."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            raise RefusedError("a number of an unknown type")


def _plain_float(dtype: _PlainDtype, raw: bytes) -> float:
    return float(_unpacked(_FLOATS, dtype, raw))


def _plain_number(dtype: _PlainDtype, raw: bytes) -> float:
    return _unpacked(_NUMBERS, dtype, raw)


def _unpacked(formats: Mapping[str, str], dtype: _PlainDtype, raw: bytes) -> float:
    if not isinstance(dtype, _PlainDtype) or dtype.code not in formats:
        raise RefusedError("a number of an unknown type")
    number: float = struct.unpack(formats[dtype.code], raw)[0]
    return number


# What rebuilding a number of numpy, of any version, takes in a pickle; as torch's safe_globals want it.
NUMBERS_OF_NUMPY: list[Any] = [
    (_PlainDtype, "numpy.dtype"),
    (_plain_number, "numpy.core.multiarray.scalar"),
    (_plain_number, "numpy._core.multiarray.scalar"),
]


class _NumbersOnly(pickle.Unpickler):
    """Builds dicts, strings, None and numbers; numpy's scalars are rebuilt by our own two functions."""

    _allowed: Mapping[tuple[str, str], object] = {
        ("numpy", "dtype"): _PlainDtype,
        ("numpy.core.multiarray", "scalar"): _plain_float,
        ("numpy._core.multiarray", "scalar"): _plain_float,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Refuse everything that is not a plain number."""
        if (module, name) in self._allowed:
            return self._allowed[(module, name)]
        raise RefusedError(f"it tries to load {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to outside."""
        raise RefusedError(f"it refers to {pid!r}")


def load_numbers(raw: bytes) -> object:
    """What a pickle of plain numbers holds.

    Raises:
        RefusedError: if it tries to load anything else.
        Exception: any other, if it is damaged.
    """
    _refuse_bombs(raw)
    return _NumbersOnly(io.BytesIO(raw)).load()


def _refuse_bombs(raw: bytes) -> None:
    """Python's unpickler takes memory for any memo number, and time for values nested in themselves."""
    reuses = 0
    for opcode, argument, _ in pickletools.genops(raw):
        reuses += "GET" in opcode.name or opcode.name == "DUP"
        if reuses > MOST_REUSES or ("PUT" in opcode.name and int(argument or 0) > len(raw)):
            raise RefusedError("it is made to take much memory or time")
