"""The schema of what lies beside a model's weights: model_config.json, and the metadata of .safetensors."""

from typing import Annotated, Any, Literal

from pydantic import Field

from resdepth.config import Activation, Positive, Section, UpMode
from resdepth.inputs import InputChannels


class NetworkSettings(Section):
    """Constructor arguments of the U-Net, with the constructor's own defaults (networks/unet.py)."""

    n_input_channels: Annotated[int, Field(ge=1, le=6)] = 1
    """Channels of the input: the DSM, if it is used, and the images."""
    start_kernel: Positive = 64
    """Filters of the first level."""
    max_filter_depth: Positive = 512
    """Filters of a level at most."""
    depth: Annotated[int, Field(ge=1, le=9)] = 8
    """Number of times that the network halves the resolution."""
    act_fn_encoder: Activation = "relu"
    """Activation in the encoder."""
    act_fn_decoder: Activation = "relu"
    """Activation in the decoder."""
    act_fn_bottleneck: Activation = "relu"
    """Activation in the bottleneck."""
    up_mode: UpMode = "transpose"
    """Upsampling."""
    do_BN: bool = True  # noqa: N815 - published key
    """Batch normalisation after each convolution."""
    bias_conv_layer: bool = False
    """Bias of the last convolution."""
    outer_skip: bool = True
    """Add the first channel to the output."""
    outer_skip_BN: bool = False  # noqa: N815 - published key
    """Batch normalisation in that connection."""


class DescribedNetwork(Section):
    """What model_config.json holds."""

    name: Literal["UNet"]
    """Network architecture."""
    input_channels: InputChannels
    """What the network sees."""
    settings: NetworkSettings
    """Its constructor arguments."""


class DescribedNormalization(Section):
    """The constants of a training run, as a model file holds them."""

    height_sigma: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Metres per normalised unit of height."""
    image_mean: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Mean grey value; none for networks without images."""
    image_std: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Standard deviation of the grey values; none for networks without images."""


class DescribedModel(Section):
    """What a model file says beside its weights."""

    format: int
    """Version of this description."""
    architecture: DescribedNetwork
    """Which network."""
    normalization: DescribedNormalization
    """The constants of its training."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Where it comes from."""
