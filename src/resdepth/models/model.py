"""A trained model is one value: weights, architecture, normalisation, provenance. Saved as safetensors.

Its network is one of a table; a network knows nothing of metres or files.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from resdepth.config.parse import draft
from resdepth.data.normalization import Inputs, Normalization, inputs_of_network
from resdepth.errors import InputProblems, Problem, ResDepthError, unusable
from resdepth.models import fusion_unet
from resdepth.models.fusion_unet import FusionUNet
from resdepth.models.schema import (
    DescribedFusion,
    DescribedFusionModel,
    DescribedModel,
    DescribedNetwork,
    FusionSettings,
    KnownProvenance,
    UNetSettings,
)
from resdepth.models.unet import UNet, halo_px
from resdepth.runtime.atomic import atomic_path
from resdepth.runtime.jsonfiles import demand, expected, parse_json
from resdepth.runtime.paths import why_no_file

Settings = UNetSettings | FusionSettings

NETWORKS: dict[str, tuple[Callable[[Any], nn.Module], type[Settings]]] = {
    "UNet": (UNet, UNetSettings),
    "FusionUNet": (FusionUNet, FusionSettings),
}


def new_network(name: str, settings: Mapping[str, object]) -> nn.Module:
    """A network with fresh weights.

    Raises:
        ValueError: see `typed_settings`.
    """
    typed = typed_settings(name, settings)
    return NETWORKS[name][0](typed)


def typed_settings(name: str, settings: Mapping[str, object]) -> Settings:
    """The settings of a network; what is left out has its default.

    Raises:
        ValueError: for an unknown name, setting or value; the message names those that exist.
    """
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; known: {', '.join(NETWORKS)}")
    kind = NETWORKS[name][1]
    known = kind.model_fields
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; known: {', '.join(known)}")
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        wrong = [f"{one['loc'][0]} {one['input']!r:.40} ({expected(one)})" for one in error.errors()]
        raise ValueError(f"{name} has no {', '.join(wrong)}") from error


METADATA_KEY = "resdepth"
FORMAT_VERSION = 1
SHOWN_KEYS = 3
# What converts without loss of meaning to a weight (True) or a counter (False); int8 and float8 need scales.
_TYPES = {
    True: (torch.float32, torch.float64, torch.float16, torch.bfloat16),
    False: (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
}
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and of compiled networks


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
    def network(self) -> Settings:
        """The settings, and the network's own where one is left out.

        Raises:
            ResDepthError: for an unknown network, setting or value.
        """
        try:
            return typed_settings(self.name, self.settings)
        except ValueError as error:
            raise ResDepthError(f"no network can be built from this architecture: {error}") from error

    @property
    def inputs(self) -> Inputs:
        """What the network sees.

        Raises:
            ResDepthError: if input_channels and the number of channels contradict each other.
        """
        try:
            return inputs_of_network(self.input_channels, self.network.n_input_channels)  # type: ignore[arg-type] # checked within
        except ValueError as error:
            raise ResDepthError(str(error)) from error

    @property
    def depth(self) -> int:
        """How often the network halves the resolution: tiles are multiples of 2^depth."""
        return self.network.depth

    @property
    def knows_error(self) -> bool:
        """Whether the network predicts how large the errors of its heights are."""
        return self.name == "FusionUNet"

    @property
    def suits_any_sensor(self) -> bool:
        """Whether it fits DSMs of any sensor: it sees heights in metres, and no grey values."""
        return self.name == "FusionUNet"

    @property
    def halo_px(self) -> int:
        """How far around an area of whole cells (2^depth pixels a side) the network looks."""
        network = self.network
        if isinstance(network, FusionSettings):
            return fusion_unet.HALO_PX
        return halo_px(network.depth, network.up_mode)


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Attributes:
        architecture: which network.
        weights: its parameters and buffers by name.
        normalization: the constants of its training.
        provenance: where it comes from (training data, epochs, loss, versions), JSON values.
        source: what the user calls it: the path it was loaded from.

    Examples:
        >>> import resdepth
        >>> model = resdepth.load_model("model.safetensors")
        >>> model.architecture.inputs.n_views, model.normalization.height_sigma
        (2, 2.5)
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    normalization: Normalization
    provenance: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def refine(self, dsm: Any, images: Sequence[Any] = (), **options: Any) -> Any:
        """Refine a DSM with this model; see `resdepth.refine`, which takes the same options.

        Examples:
            >>> import resdepth
            >>> model = resdepth.load_model("model.safetensors")
            >>> model.refine("initial.tif", ["ortho1.tif", "ortho2.tif"]).dtype
            dtype('float32')
        """
        from resdepth.workflows.refine import refine

        return refine(dsm, images, self, **options)

    def __repr__(self) -> str:
        """What it is called, its network, what that sees, and how large it is."""
        count = sum(value.numel() for value in self.weights.values())
        name, network = Path(self.source).stem or "unnamed", self.architecture
        return f"Model({name}: {network.name} of {network.input_channels}, {count:,} weights)"

    def for_noise(self, noise: float) -> "Model":
        """A fusion model for a DSM that is so noisy, 0 to 1 (`noise_share`)."""
        settings = {**self.architecture.settings, "smoothing": noise}
        return replace(self, architecture=replace(self.architecture, settings=settings))

    def network(self) -> nn.Module:
        """The network with these weights, in evaluation mode.

        Raises:
            ResDepthError: if the weights do not fit the architecture; the message names the first misfits.
        """
        check_weights(self.architecture, self.weights)
        with torch.device("meta"):  # no fresh weights: they would take numbers from the program's generator
            network = build_network(self.architecture)
        return load_weights(network.to_empty(device="cpu"), self.weights).eval()


def fingerprint(model: Model) -> str:
    """What tells a model from every other: a hash of all that rules its results."""
    digest = hashlib.sha256()
    constants = {"architecture": asdict(model.architecture), "normalization": asdict(model.normalization)}
    digest.update(json.dumps(constants, sort_keys=True, default=str).encode())
    for name, values in sorted(model.weights.items()):
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def build_network(architecture: Architecture) -> nn.Module:
    """A network with fresh weights.

    Raises:
        ResDepthError: for an unknown network or setting.
    """
    try:
        return new_network(architecture.name, architecture.settings)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:  # torch, where memory is short
        raise ResDepthError(f"no network can be built from this architecture: {error}") from error


def check_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    """See whether weights fit an architecture before memory is taken for it.

    Raises:
        ResDepthError: if names, shapes or types differ, or the weights are not finite.
    """
    with torch.device("meta"):
        _refuse_misfits(build_network(architecture), weights)
    spoilt = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if spoilt:
        raise ResDepthError(f"{_some(spoilt)}: not finite numbers; take an earlier checkpoint")
    spoilt = [name for name, value in weights.items() if _is_variance(name) and bool((value < 0).any())]
    if spoilt:
        raise ResDepthError(f"{_some(spoilt)}: variances below zero; is the file damaged?")


def _is_variance(name: str) -> bool:
    return name.endswith("running_var")


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Put weights into a network.

    Raises:
        ResDepthError: if names, shapes or types differ.
    """
    _refuse_misfits(network, weights)
    network.load_state_dict(dict(weights))
    return network


def _refuse_misfits(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    wanted = network.state_dict()
    found = [f"{name} is missing" for name in wanted if name not in weights]
    found += [f"{name} is not part of the network" for name in weights if name not in wanted]
    found += [
        f"{name} holds {_type_name(weights[name])} instead of {_type_name(value)}"
        for name, value in wanted.items()
        if name in weights and weights[name].dtype not in _TYPES[value.is_floating_point()]
    ]
    found += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if found:
        raise ResDepthError(
            f"the weights do not fit the architecture: {_some(found)}; take both from the same run"
        )


def _type_name(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def _some(items: Sequence[str]) -> str:
    """The first few of many."""
    more = f" (and {len(items) - SHOWN_KEYS} more)" if len(items) > SHOWN_KEYS else ""
    return "; ".join(items[:SHOWN_KEYS]) + more


def plain_weights(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """What a file holds as weights, if it is nothing but named arrays of numbers in memory.

    Raises:
        InputProblems: if it holds anything else.
    """
    for name, value in content.items():
        is_plain = (
            isinstance(value, Tensor)
            and value.layout == torch.strided
            and value.device.type == "cpu"
            and not (value.is_quantized or value.is_complex())
        )
        if not isinstance(name, str) or not is_plain:
            raise unusable(path, f"{name!r:.100} is no array of numbers; is it a ResDepth checkpoint?")
    weights = dict(content)
    while wrapper := next((one for one in _WRAPPERS if all(name.startswith(one) for name in weights)), ""):
        if not weights:
            break
        weights = {name.removeprefix(wrapper): value for name, value in weights.items()}
    return weights


def save_model(model: Model, path: str | Path) -> None:
    """Write a self-contained .safetensors file; it appears complete or not at all.

    Raises:
        ResDepthError: if it cannot be written.

    Examples:
        >>> import resdepth
        >>> resdepth.save_model(resdepth.load_model("model.safetensors"), "mine.safetensors")
    """
    path = Path(path)
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
    metadata = {METADATA_KEY: json.dumps(described, allow_nan=False)}
    try:
        with atomic_path(path) as temporary:
            save_file(weights, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise ResDepthError(f"{path}: cannot be written ({error})") from error


def load_safetensors(path: Path) -> Model:
    """Read a model written by `save_model`.

    Raises:
        InputProblems: if the file is absent, damaged, no resdepth model, or its weights do not fit.
    """
    if reason := why_no_file(path):
        raise unusable(path, reason)
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # of types that torch does not know, it raises whatever comes
        raise unusable(path, f"not a readable .safetensors file ({error!s:.200}); is it complete?") from error
    if METADATA_KEY not in metadata:
        raise unusable(
            path, "holds weights but no resdepth metadata; make a model with `resdepth convert-model`"
        )
    described = _read_description(metadata[METADATA_KEY], path)
    demand(KnownProvenance, described.provenance, path)
    constants = described.normalization
    model = Model(
        architecture=described_architecture(described.architecture, f"{path}: {METADATA_KEY}.architecture."),
        weights=plain_weights(weights, path),
        normalization=Normalization(constants.height_sigma, constants.image_mean, constants.image_std),
        provenance=described.provenance,
        source=str(path),
    )
    inputs = model.architecture.inputs
    if inputs.n_views and not inputs.matched and None in (constants.image_mean, constants.image_std):
        raise unusable(path, f"{METADATA_KEY}.normalization: image_mean and image_std are missing")
    try:
        check_weights(model.architecture, model.weights)
    except ResDepthError as error:
        raise unusable(path, str(error)) from error
    return model


def _read_description(text: str, path: Path) -> DescribedModel | DescribedFusionModel:
    where = f"{path}: {METADATA_KEY}"
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputProblems([Problem(where, f"these metadata are damaged ({error})")]) from error
    version = content.get("format")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise unusable(path, f"written by a newer resdepth (format {version}); update with pip")
    network = content.get("architecture")
    fuses = isinstance(network, dict) and network.get("name") == FusionUNet.__name__
    described: DescribedModel | DescribedFusionModel
    described, problems = draft(DescribedFusionModel if fuses else DescribedModel, content, f"{where}.")
    if problems:
        raise InputProblems(problems)
    return described


def described_architecture(described: DescribedNetwork | DescribedFusion, where: str) -> Architecture:
    """The architecture that a file describes.

    Args:
        described: what the file says.
        where: what the keys of problems are named after.

    Raises:
        InputProblems: if the number of channels contradicts what the network is said to see.
    """
    settings = described.settings.model_dump(exclude_unset=True)
    architecture = Architecture(described.name, described.input_channels, settings)
    try:
        architecture.inputs  # noqa: B018 - raises
    except ResDepthError as error:
        raise InputProblems([Problem(f"{where}settings.n_input_channels", str(error))]) from error
    return architecture


def clone_weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


def torch_version() -> str:
    """The version of torch, for the provenance."""
    return str(torch.__version__)
