"""A trained model is one value: weights, architecture, normalisation, provenance. Saved as safetensors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from resdepth.errors import ResDepthError
from resdepth.inputs import Inputs, inputs_of_network
from resdepth.networks import new_network
from resdepth.normalization import Normalization
from resdepth.raster import atomic_path

METADATA_KEY = "resdepth"
FORMAT_VERSION = 1
SHOWN_KEYS = 3


@dataclass(frozen=True)
class Architecture:
    """Which network, and what it sees; what model_config.json holds.

    Attributes:
        name: the network's name in the table of networks.
        input_channels: as in the training configuration.
        settings: the network's constructor arguments.
    """

    name: str
    input_channels: str
    settings: Mapping[str, Any]

    @property
    def inputs(self) -> Inputs:
        """What the network sees.

        Raises:
            ResDepthError: if input_channels and the number of channels contradict each other.
        """
        try:
            return inputs_of_network(self.input_channels, int(self.settings.get("n_input_channels", 1)))  # type: ignore[arg-type] # checked within
        except (ValueError, KeyError) as error:
            raise ResDepthError(str(error)) from error

    @property
    def depth(self) -> int:
        """How often the network halves the resolution: tiles are multiples of 2^depth."""
        return int(self.settings.get("depth", 8))


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Attributes:
        architecture: which network.
        weights: its parameters and buffers by name.
        normalization: the constants of its training.
        provenance: where it comes from (training data, epochs, loss, versions), JSON values.
        source: what the user calls it: the path it was loaded from.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    normalization: Normalization
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def network(self) -> nn.Module:
        """The network with these weights, in evaluation mode.

        Raises:
            ResDepthError: if the weights do not fit the architecture; the message names the first misfits.
        """
        return load_weights(build_network(self.architecture), self.weights).eval()


def build_network(architecture: Architecture) -> nn.Module:
    """A network with fresh weights.

    Raises:
        ResDepthError: for an unknown network or setting.
    """
    try:
        return new_network(architecture.name, architecture.settings)
    except (ValueError, TypeError, KeyError) as error:
        raise ResDepthError(f"no network can be built from this architecture: {error}") from error


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Put weights into a network.

    Raises:
        ResDepthError: if names or shapes differ.
    """
    wanted = network.state_dict()
    found = [f"{name} is missing" for name in wanted if name not in weights]
    found += [f"{name} is not part of the network" for name in weights if name not in wanted]
    found += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if found:
        more = f" (and {len(found) - SHOWN_KEYS} more)" if len(found) > SHOWN_KEYS else ""
        raise ResDepthError(
            f"the weights do not fit the architecture: {'; '.join(found[:SHOWN_KEYS])}{more}; "
            "take both from the same run"
        )
    network.load_state_dict(dict(weights))
    return network


def save_model(model: Model, path: Path) -> None:
    """Write a self-contained .safetensors file; it appears complete or not at all."""
    described = {
        "format": FORMAT_VERSION,
        "architecture": {
            "name": model.architecture.name,
            "input_channels": model.architecture.input_channels,
            "settings": dict(model.architecture.settings),
        },
        "normalization": asdict(model.normalization),
        "provenance": dict(model.provenance),
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in model.weights.items()}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata={METADATA_KEY: json.dumps(described)})


def load_safetensors(path: Path) -> Model:
    """Read a model written by `save_model`.

    Raises:
        ResDepthError: if the file is absent, damaged, or no resdepth model.
    """
    if not path.is_file():
        raise ResDepthError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise ResDepthError(f"{path}: not a readable .safetensors file ({error})") from error
    if METADATA_KEY not in metadata:
        raise ResDepthError(
            f"{path}: holds weights but no resdepth metadata; make a model with `resdepth convert-model`"
        )
    try:
        described = json.loads(metadata[METADATA_KEY])
        if described["format"] > FORMAT_VERSION:
            raise ResDepthError(f"{path}: written by a newer resdepth (format {described['format']}); update")
        return Model(
            architecture=Architecture(**described["architecture"]),
            weights=weights,
            normalization=Normalization(**described["normalization"]),
            provenance=described.get("provenance", {}),
            source=str(path),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ResDepthError(f"{path}: its resdepth metadata are damaged ({error!r})") from error


def clone_weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


def torch_version() -> str:
    """The version of torch, for the provenance."""
    return str(torch.__version__)
