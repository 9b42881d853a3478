"""Networks by name. A network knows nothing of metres or files."""

import inspect
from collections.abc import Callable, Mapping

from torch import nn

from resdepth.models.fusion_unet import FusionUNet
from resdepth.models.unet import UNet, halo_px

__all__ = ["NETWORKS", "FusionUNet", "UNet", "halo_px", "new_network"]

NETWORKS: dict[str, Callable[..., nn.Module]] = {"UNet": UNet, "FusionUNet": FusionUNet}


def new_network(name: str, settings: Mapping[str, object]) -> nn.Module:
    """A network with fresh weights.

    Raises:
        ValueError: for an unknown name or setting; the message names those that exist.
    """
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; known: {', '.join(NETWORKS)}")
    known = inspect.signature(NETWORKS[name]).parameters
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; known: {', '.join(known)}")
    return NETWORKS[name](**settings)
