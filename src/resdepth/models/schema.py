"""The schema of what lies beside a model's weights: model_config.json, and the metadata of .safetensors."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from resdepth.config.schema import LARGEST_COUNT, NetworkSettings, Positive, Section
from resdepth.data.normalization import ModelInputs

LARGEST_TILE_PX = 2**16


class UNetSettings(NetworkSettings):
    """Settings of the U-Net, as the files of a model hold them.

    What a file leaves out is as in the published class, which differs from a training configuration in two
    defaults.
    """

    n_input_channels: Annotated[int, Field(ge=1, le=7)] = 1
    """Channels of the input: the DSM, if it is used, and what images show."""
    max_filter_depth: Positive = 512
    """Filters of a level at most."""
    depth: Annotated[int, Field(ge=1, le=9)] = 8
    """Number of times that the network halves the resolution."""
    bias_conv_layer: bool = False
    """Bias of the last convolution."""


class FusionSettings(Section):
    """Settings of the fusion network."""

    n_input_channels: Literal[1, 7] = 7
    """Initial and matched heights, whether a height was matched, and four correlations; or initial heights
    alone."""
    start_kernel: Positive = 32
    """Filters of the first level."""
    depth: Literal[4] = 4
    """The coarsest level has pixels of 2^4."""
    smoothing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How noisy the DSM is (normalization.noise_share); each DSM has its own, so model files have 0."""

    @property
    def sees_dsm_alone(self) -> bool:
        """Whether it knows nothing of images."""
        return self.n_input_channels == 1


class DescribedNetwork(Section):
    """What model_config.json holds."""

    name: Literal["UNet"]
    """Network architecture."""
    input_channels: ModelInputs
    """What the network sees."""
    settings: UNetSettings
    """Its constructor arguments."""


class DescribedFusion(Section):
    """What a model file says of a fusion network."""

    name: Literal["FusionUNet"]
    """Network architecture."""
    input_channels: Literal["geom", "geom-matched"]
    """What the network sees."""
    settings: FusionSettings
    """Its constructor arguments."""


class DescribedNormalization(Section):
    """The constants of a training run, as a model file holds them."""

    height_sigma: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Metres per normalised unit of height."""
    image_mean: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Mean grey value; none for networks without images."""
    image_std: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Standard deviation of the grey values; none for networks without images."""


class TrainedOn(BaseModel):
    """What a model file states about a data set of its training."""

    name: str | None = None
    gsd_m: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    crs: str | None = None


PositiveSize = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class KnownProvenance(BaseModel):
    """What is used of a model's provenance, where it is there."""

    tile_size: Annotated[int, Field(gt=0, le=LARGEST_TILE_PX)] | None = None
    epoch: Annotated[int, Field(ge=0)] | None = None
    loss_val: float | None = None
    resdepth: str | None = None
    gsd_range_m: tuple[PositiveSize, PositiveSize] | None = None
    datasets: list[TrainedOn] = Field(default_factory=list)


Count = Annotated[int, Field(ge=0, le=2**53)]


class Progress(BaseModel):
    """How far a training had come (training.Standing)."""

    epoch: Count
    end: Count
    iteration: Count = 0
    step: Count
    loss_sum: float = 0.0
    loss_count: Count = 0
    best_loss: Annotated[float, Field(ge=0)] = math.inf
    best_epoch: Count = 0
    processes: Annotated[int, Field(ge=1, le=LARGEST_COUNT)] = 1
    loss_train: float = math.nan
    loss_val: float = math.nan


class OptimizerState(BaseModel):
    """The form of an optimizer's state; optim.py looks at its values."""

    state: dict[int, dict[str, Any]]
    param_groups: Annotated[list[dict[str, Any]], Field(min_length=1)]


class TrainingState(BaseModel):
    """What training resumes from, beside the weights."""

    epoch: Annotated[int, Field(ge=-1, le=LARGEST_COUNT)] | None = None
    optimizer_state_dict: OptimizerState | None = None
    scheduler_state_dict: dict[str, Any] | None = None
    averaged_state_dict: dict[str, Any] = Field(default_factory=dict)
    resdepth: Progress | None = None


class _Described(Section):
    """What a model file says beside its weights, whatever its network."""

    format: Annotated[int, Field(ge=1)]
    """Version of this description."""
    normalization: DescribedNormalization
    """The constants of its training."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Where it comes from."""


class DescribedModel(_Described):
    """A model file of a published network."""

    architecture: DescribedNetwork
    """Which network."""


class DescribedFusionModel(_Described):
    """A model file of a fusion network."""

    architecture: DescribedFusion
    """Which network."""
