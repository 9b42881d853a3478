"""Networks by name, and their settings. A network knows nothing of metres or files."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from torch import nn

from resdepth.models.fusion_unet import FusionUNet
from resdepth.models.schema import FusionSettings, UNetSettings
from resdepth.models.unet import UNet
from resdepth.runtime.jsonfiles import expected

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
