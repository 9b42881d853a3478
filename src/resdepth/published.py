"""The files of the published ResDepth: checkpoints, architecture, normalisation, run folders.

Nothing in them is executed: pickles may hold plain numbers only.
"""

import io
import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdepth.checkpoint import Architecture, Model, load_safetensors
from resdepth.errors import ResDepthError
from resdepth.normalization import Normalization
from resdepth.raster import atomic_path

ARCHITECTURE_FILE = "model_config.json"
HEIGHT_FILE = "DSM_normalization_parameters.p"
IMAGE_FILE = "Image_normalization_parameters.p"
CHECKPOINT_FOLDER = "checkpoints"
BEST_CHECKPOINT = "Model_best.pth"
MODEL_FILE = "model.safetensors"

# Python 3.7, for which the published code was written, reads protocol 4 and below.
PICKLE_PROTOCOL = 4
MAX_PICKLE_BYTES = 4096


class _PlainDtype:
    """Stands for numpy.dtype in a pickle; knows the two floats that a normalisation can hold."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


def _plain_scalar(dtype: _PlainDtype, raw: bytes) -> float:
    formats = {"f8": "<d", "f4": "<f"}
    if not isinstance(dtype, _PlainDtype) or dtype.code not in formats:
        raise pickle.UnpicklingError("a number of an unknown type")
    return float(struct.unpack(formats[dtype.code], raw)[0])


class _NumbersOnly(pickle.Unpickler):
    """Builds dicts, strings, None and numbers; numpy's scalars are rebuilt by our own two functions."""

    _allowed: Mapping[tuple[str, str], object] = {
        ("numpy", "dtype"): _PlainDtype,
        ("numpy.core.multiarray", "scalar"): _plain_scalar,
        ("numpy._core.multiarray", "scalar"): _plain_scalar,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Refuse everything that is not a plain number."""
        if (module, name) in self._allowed:
            return self._allowed[(module, name)]
        raise pickle.UnpicklingError(f"it tries to load {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to outside."""
        raise pickle.UnpicklingError(f"it refers to {pid!r}")


def read_moments(path: Path) -> tuple[float | None, float]:
    """Mean (None if there is none) and standard deviation from a .p file.

    Raises:
        ResDepthError: if the file is absent, damaged, or tries to load anything but plain numbers.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ResDepthError(f"{path}: cannot be read ({error.strerror})") from error
    if len(raw) > MAX_PICKLE_BYTES:
        raise ResDepthError(f"{path}: {len(raw)} bytes are no pair of numbers; is it the right file?")
    try:
        content = _NumbersOnly(io.BytesIO(raw)).load()
    except pickle.UnpicklingError as error:
        raise ResDepthError(f"{path}: refused, nothing was run: {error}") from error
    except Exception as error:
        raise ResDepthError(f"{path}: not a readable pickle ({error!r})") from error
    if not isinstance(content, dict) or set(content) != {"mean", "std"}:
        raise ResDepthError(f"{path}: holds {type(content).__name__}, expected {{'mean': ..., 'std': ...}}")
    mean, std = content["mean"], content["std"]
    if not _is_number(std) or std <= 0 or not (mean is None or _is_number(mean)):
        raise ResDepthError(f"{path}: mean {mean!r} and std {std!r} are no finite numbers with std > 0")
    return (None if mean is None else float(mean)), float(std)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def write_moments(path: Path, mean: float | None, std: float) -> None:
    """Write a .p file as the published code does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps({"mean": mean, "std": std}, protocol=PICKLE_PROTOCOL))


def read_architecture(path: Path) -> Architecture:
    """Read model_config.json.

    Raises:
        ResDepthError: if it is absent, no JSON, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResDepthError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ResDepthError(f"{path}: not a JSON file ({error})") from error
    expected = {"name": str, "input_channels": str, "settings": dict}
    if not isinstance(content, dict):
        raise ResDepthError(f"{path}: expected an object with the keys {', '.join(expected)}")
    for key, kind in expected.items():
        if not isinstance(content.get(key), kind):
            raise ResDepthError(f"{path}: {key}: missing or not a {kind.__name__}")
    return Architecture(content["name"], content["input_channels"], content["settings"])


def write_architecture(path: Path, architecture: Architecture) -> None:
    """Write model_config.json."""
    content = {
        "name": architecture.name,
        "input_channels": architecture.input_channels,
        "settings": dict(architecture.settings),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a .pth checkpoint onto the CPU; tensors and plain values only.

    Raises:
        ResDepthError: if it is absent, damaged, holds no model_state_dict, or tries to load anything else.
    """
    if not path.is_file():
        raise ResDepthError(f"{path}: no such file")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise ResDepthError(f"{path}: refused, nothing was run, or not a checkpoint: {reason}") from error
    except Exception as error:
        raise ResDepthError(f"{path}: not a readable checkpoint ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("model_state_dict"), dict):
        raise ResDepthError(f"{path}: holds no model_state_dict; is it a ResDepth checkpoint?")
    return content


def _numpy_scalars() -> list[Any]:
    """What rebuilding a numpy number takes: losses may have been stored as one."""
    multiarray: Any = vars(np)["_core"].multiarray  # its public alias warns
    return [
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        multiarray.scalar,
        np.dtype,
        np.dtypes.Float64DType,
        np.dtypes.Float32DType,
    ]


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a .pth checkpoint; it appears complete or not at all."""
    with atomic_path(path) as temporary:
        torch.save(dict(content), temporary)


def load_published(
    weights: Path, architecture: Path, normalization_geom: Path, normalization_image: Path | None
) -> Model:
    """A model from the four files of a published run.

    Raises:
        ResDepthError: if a file is unusable, or the weights do not fit the architecture.
    """
    described = read_architecture(architecture)
    _, sigma = read_moments(normalization_geom)
    image_mean, image_std = None, None
    if described.inputs.n_views:
        if normalization_image is None:
            raise ResDepthError(f"{architecture}: this network sees images; normalization_image is needed")
        image_mean, image_std = read_moments(normalization_image)
        if image_mean is None:
            raise ResDepthError(f"{normalization_image}: the mean is missing")
    checkpoint = read_checkpoint(weights)
    model = Model(
        architecture=described,
        weights=checkpoint["model_state_dict"],
        normalization=Normalization(sigma, image_mean, image_std),
        provenance=_provenance(checkpoint),
        source=str(weights),
    )
    try:
        model.network()
    except ResDepthError as error:
        raise ResDepthError(f"{weights}: {error} ({architecture})") from error
    return model


def _provenance(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    kept = {"epoch": checkpoint.get("epoch"), "loss_val": checkpoint.get("loss_val")}
    return {name: float(value) for name, value in kept.items() if value is not None and _is_number(value)}


def load_run_folder(folder: Path, checkpoint: str = BEST_CHECKPOINT) -> Model:
    """A model from a run folder of ours or of the published code.

    Raises:
        ResDepthError: if a file is missing or unusable.
    """
    image_file = folder / IMAGE_FILE
    return load_published(
        folder / CHECKPOINT_FOLDER / checkpoint,
        folder / ARCHITECTURE_FILE,
        folder / HEIGHT_FILE,
        image_file if image_file.exists() else None,
    )


def load_model(path: str | Path) -> Model:
    """A trained model from a .safetensors file, or from a run folder of ours or of the published code.

    Raises:
        ResDepthError: if there is no such file or folder, or it is no model.
    """
    path = Path(path)
    if path.is_dir():
        return load_run_folder(path)
    if path.suffix == ".pth":
        raise ResDepthError(f"{path}: a .pth file holds weights only; give the run folder that it lies in")
    return load_safetensors(path)
