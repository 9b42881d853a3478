"""The configuration files' schemas. Field docstrings become the JSON schema and the manual.

Keys and defaults are those of the published ResDepth; what we added is marked "(new)".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic.fields import FieldInfo

from resdepth.data.normalization import InputChannels, MultiviewConfig
from resdepth.geo.windows import Strategy
from resdepth.options import Device, Mode, Precision
from resdepth.runtime.paths import resolve_path

Loc = tuple[int | str, ...]
"""The place of a value in a configuration: ("datasets", 0, "raster_in")."""

Activation = Literal["relu", "lrelu", "prelu"]
UpMode = Literal["transpose", "bilinear"]

DEFAULT_TILE_SIZE = 256
LARGEST_COUNT = 2**31 - 1
LARGEST_SEED = 2**64 - 1  # torch takes no larger one
LONGEST_NAME = 100
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


def _is_a_power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError("should be a power of two")
    return value


@dataclass(frozen=True)
class PathTo:
    """What a key that holds a path names.

    Attributes:
        suffix: what the file's name ends in; "" where many will do.
        is_written: a folder that results are written into, which need not be there; else a file to be read.
    """

    suffix: str = ""
    is_written: bool = False


def _absolute(value: str, info: ValidationInfo) -> str:
    """A path, absolute where the file that names it is known: it is the context of the validation."""
    if not value.strip() or CONTROL_CHARACTER.search(value):
        raise ValueError("should be a path, without control characters")
    return value if info.context is None else str(resolve_path(value, info.context))


def _fits_into_a_name(value: str) -> str:
    if re.search(r"[/\\]", value) or CONTROL_CHARACTER.search(value) or len(value) > LONGEST_NAME:
        raise ValueError(f"should have no slash, no control character, and at most {LONGEST_NAME} characters")
    return value


def _is_a_folder_name(value: str) -> str:
    if value in ("", ".", ".."):
        raise ValueError("names a folder; choose a name")
    return value


AnyPath = Annotated[str, AfterValidator(_absolute)]
FilePath = Annotated[AnyPath, PathTo()]
ListPath = Annotated[AnyPath, PathTo(".txt")]
CheckpointPath = Annotated[AnyPath, PathTo(".pth")]
NumbersPath = Annotated[AnyPath, PathTo(".p")]
OutputFolder = Annotated[AnyPath, PathTo(is_written=True)]
NamePart = Annotated[str, AfterValidator(_fits_into_a_name)]
FolderName = Annotated[NamePart, AfterValidator(_is_a_folder_name)]
Positive = Annotated[int, Field(gt=0, le=LARGEST_COUNT)]
Threads = Annotated[int, Field(ge=0, le=1024)]
Stripe = Annotated[int, Field(ge=0, le=4)]
TileSize = Annotated[int, Field(ge=16, le=2048), AfterValidator(_is_a_power_of_two)]


class UnknownValueError(AttributeError):
    """A value is asked for that is wrong in the file; nothing can be concluded from it."""


class Section(BaseModel):
    """Rules for every section: no unknown keys, no silent type conversion, no change afterwards."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=()
    )
    __test__: ClassVar[bool] = False  # the names of some begin as those of pytest's classes

    if not TYPE_CHECKING:  # where mypy would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            kind = UnknownValueError if name in type(self).model_fields else AttributeError
            raise kind(f"{type(self).__name__} has no {name}")


class TrainDataset(Section):
    """One area: initial DSM, reference DSM and ortho-images, all on one grid."""

    name: str | None = None
    """Name of the data set, for logs and result folders."""
    raster_in: FilePath
    """Path of the initial DSM (GeoTIFF, metres, no voids)."""
    raster_gt: FilePath
    """Path of the reference DSM (GeoTIFF, metres; nodata where it is unknown)."""
    path_image_list: ListPath | None = None
    """Path of the image list (.txt), a path of an ortho-image per line. Not needed for `geom`."""
    path_pairlist_training: ListPath | None = None
    """Path of the list (.txt) of image pairs to train with, one set of image names per line."""
    path_pairlist_validation: ListPath | None = None
    """Path of the list (.txt) of image pairs to validate with."""
    mask_ground_truth: FilePath | None = None
    """(new) Path of a mask: 1 = the reference DSM counts here; elsewhere it has no part in the loss."""
    area_type: Literal["train", "val", "train+val"]
    """What this area serves for."""
    allocation_strategy: Strategy | None = None
    """How the area is split into stripes. Default: `general.allocation_strategy`."""
    test_stripe: Stripe | None = None
    """Which of the five stripes is kept for testing; the next validates. Default: `general.test_stripe`."""
    crossval_training: bool = False
    """Cross-validation: `test_stripe` validates, the other four stripes train."""
    n_training_samples: Positive | None = None
    """Patches to draw from this area. Default: `training_settings.n_training_samples`."""


class NetworkKind(Section):
    """Which network, and what it sees."""

    name: Literal["UNet"] = "UNet"
    """Network architecture."""
    input_channels: InputChannels = "geom-stereo"
    """What the network sees: the DSM alone (`geom`: ResDepth-0), the DSM with one, two, or three to five
    images (`geom-mono`, `geom-stereo`, `geom-multiview`), or two images without DSM (`stereo`)."""


class NetworkSettings(Section):
    """What the U-Net is made of; the files of a model say it with the same keys (`UNetSettings`)."""

    depth: Annotated[int, Field(ge=1, le=9)] = 5
    """Number of times that the U-Net halves the resolution."""
    start_kernel: Positive = 64
    """Filters of the first level; doubled per level, 512 at most."""
    outer_skip: bool = True
    """Add the initial DSM to the output, so that the network predicts a correction."""
    outer_skip_BN: bool = False
    """Batch normalisation in that outer skip connection."""
    act_fn_encoder: Activation = "relu"
    """Activation in the encoder."""
    act_fn_decoder: Activation = "relu"
    """Activation in the decoder."""
    act_fn_bottleneck: Activation = "relu"
    """Activation in the bottleneck."""
    up_mode: UpMode = "transpose"
    """Upsampling: transposed convolution, or bilinear followed by a 1 x 1 convolution."""
    do_BN: bool = True
    """Batch normalisation after each convolution."""
    bias_conv_layer: bool = True
    """Bias of the last convolution."""


class NetworkConfig(NetworkSettings, NetworkKind):
    """The network and what it sees."""

    pretrained_path: CheckpointPath | None = None
    """A checkpoint (.pth) in a run folder: training resumes from it and trains `n_epochs` more."""


class Multiview(Section):
    """For `input_channels: geom-multiview`."""

    config: MultiviewConfig = "3-view"
    """How many ortho-images the network sees."""


class StereoPairs(Section):
    """How image pairs are used in training (every variant with images)."""

    use_all_stereo_pairs: bool = True
    """Combine each patch with every pair; otherwise with one random pair, fixed once drawn."""
    permute_images_within_pair: bool = True
    """Shuffle the images of a sample anew at each visit."""


class TrainingSettings(Section):
    """Samples and epochs."""

    n_training_samples: Positive = 20000
    """Patches per data set, at random places."""
    tile_size: TileSize = DEFAULT_TILE_SIZE
    """Side of a patch in pixels: a power of two, at least max(16, 2^(depth + 2))."""
    augment: bool = True
    """Random quarter turns and flips."""
    height_stretch: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] = 1.0
    """(new) Relief is made higher or lower at random, at most by this factor; 1 leaves it as it is. It
    prepares a network for buildings taller than those it learns from."""
    remove_bias: bool = False
    """(new) Take a constant difference between initial and reference DSM, where there is one, out of the
    reference DSM: a network would learn it, which looks like success. Configurations of `prepare` and
    `simulate` say true."""
    batch_size: Positive = 20
    """Patches per step."""
    n_epochs: Positive = 2000
    """Passes over the samples; on resuming, that many more."""
    loss: Literal["L1"] = "L1"
    """Mean absolute error in metres."""
    precision: Precision = "fp32"
    """(new) What the network computes in while it learns; `auto`: bf16 where it is faster.
    Weights, loss and validation stay fp32."""
    clip_gradients: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """(new) Longest gradient (its L2 norm over all weights) of a step; longer ones are shortened."""
    average_weights: Annotated[float, Field(gt=0, lt=1)] | None = None
    """(new) Validate and keep the exponential moving average of the weights; this share of it stays at each
    step, 0.999 for instance."""
    early_stopping: Positive | None = None
    """(new) End when the validation loss has not fallen for so many epochs."""


class OptimizerConfig(Section):
    """The optimizer."""

    name: Literal["Adam", "AdamW", "SGD"] = "Adam"
    """Adam, or stochastic gradient descent without momentum. (new) `AdamW`: Adam whose weight decay is not
    mixed with the gradients."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2e-4
    """Initial learning rate."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-5
    """L2 penalty on the weights; with `AdamW`, they shrink by this times the learning rate at each step."""


class SchedulerConfig(Section):
    """How the learning rate falls."""

    enabled: bool = True
    """Whether the learning rate changes at all."""
    name: Literal["ReduceLROnPlateau", "StepLR", "ExponentialLR", "CosineAnnealingLR"] = "StepLR"
    """PyTorch's scheduler; (new) `CosineAnnealingLR`."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Arguments of PyTorch's scheduler. StepLR without `step_size` keeps the learning rate; `T_max` of
    CosineAnnealingLR is `training_settings.n_epochs` if it is not given."""
    warm_up: Annotated[int, Field(ge=0, le=LARGEST_COUNT)] = 0
    """(new) Steps over which the learning rate rises to its initial value, also if `enabled` is false."""


class TrainGeneral(Section):
    """Everything else about a training run."""

    allocation_strategy: Strategy = "5-crossval_vertical"
    """Default of the data sets' `allocation_strategy`."""
    test_stripe: Stripe = 0
    """Default of the data sets' `test_stripe`."""
    workers: Threads = 4
    """Threads that prepare samples; 0 prepares them in the main thread."""
    random_seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    """Seed of everything random. On the CPU, the same seed gives the same bits."""
    save_model_rate: Positive = 20
    """Keep a checkpoint every so many epochs."""
    evaluate_rate: Positive = 1
    """Validate every so many epochs (and after the last)."""
    device: Device = "auto"
    """(new) Where to compute; `auto` takes CUDA, then MPS, then the CPU."""
    memory_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 4.0
    """(new) Rasters are held in memory up to this many GB in all, beyond it they are read by window."""


class TrainOutput(Section):
    """Where a run is written."""

    output_directory: OutputFolder
    """The run folder appears in here, named by date and time."""
    tboard_log_dir: OutputFolder
    """TensorBoard events, under the run folder's name."""
    suffix: NamePart = ""
    """Appended to the run folder's name."""
    plot_model_txt: bool = False
    """Write the network's layers to model_parameters.txt."""


class TrainConfig(Section):
    """Configuration of `resdepth train`."""

    datasets: Annotated[tuple[TrainDataset, ...], Field(min_length=1)]
    """The areas to train and validate on."""
    output: TrainOutput
    model: NetworkConfig = NetworkConfig()
    multiview: Multiview = Multiview()
    stereopair_settings: StereoPairs = StereoPairs()
    training_settings: TrainingSettings = TrainingSettings()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    general: TrainGeneral = TrainGeneral()
    schema_: Annotated[str | None, Field(alias="$schema", exclude=True)] = None
    """Path of the JSON schema, for editors; not used otherwise."""


class TestDataset(Section):
    """One area to refine, and what is known of it."""

    name: FolderName | None = None
    """Name of the result folder. Default: dataset_i."""
    raster_in: FilePath
    """Path of the initial DSM (GeoTIFF, metres, no voids)."""
    raster_gt: FilePath | None = None
    """Path of the reference DSM. Without it the DSM is refined but not evaluated."""
    path_image_list: ListPath | None = None
    """Path of the image list (.txt). Not needed for `geom`."""
    path_pairlist: ListPath | None = None
    """Path of the list (.txt) of image pairs; the DSM is refined once with each."""
    mask_ground_truth: FilePath | None = None
    """Path of a mask: 1 = the reference DSM is valid here."""
    mask_building: FilePath | None = None
    """Path of a mask: 1 = building. Dilated by two pixels before errors are computed."""
    mask_water: FilePath | None = None
    """Path of a mask: 1 = water. Only with a building mask."""
    mask_forest: FilePath | None = None
    """Path of a mask: 1 = forest. Only with a building mask."""
    area_type: Literal["train", "val", "test"] | None = None
    """Which stripes to refine; mandatory with stripes."""
    allocation_strategy: Strategy = "entire"
    """How the area was split in training."""
    test_stripe: Stripe | None = None
    """As in training; mandatory with stripes."""
    crossval_training: bool = False
    """As in training; then `area_type` is `val`."""


class TestModel(Section):
    """The trained model: either `path`, or the published files."""

    path: Annotated[AnyPath, PathTo(".safetensors")] | None = None
    """(new) A self-contained model (.safetensors)."""
    weights: CheckpointPath | None = None
    """Path of a checkpoint (.pth)."""
    architecture: Annotated[AnyPath, PathTo(".json")] | None = None
    """Path of model_config.json."""
    normalization_geom: NumbersPath | None = None
    """Path of DSM_normalization_parameters.p."""
    normalization_image: NumbersPath | None = None
    """Path of Image_normalization_parameters.p. Not needed for `geom`."""


class TestGeneral(Section):
    """How to refine."""

    tile_size: TileSize = DEFAULT_TILE_SIZE
    """Side of a tile in pixels: the same as in training."""
    workers: Threads | None = None
    """Threads that read tiles ahead of the network. Default: up to 4. Computing takes all cores anyway."""
    device: Device = "auto"
    """(new) Where to compute; `auto` takes CUDA, then MPS, then the CPU."""
    batch_size: Positive | None = None
    """(new) Tiles per step; by default what suits the device."""
    mode: Mode = "exact"
    """(new) `exact`: tiles as published; `seamless`: heights do not depend on tiles, and it is faster."""
    precision: Precision = "fp32"
    """(new) What the network computes in; `auto`: bf16 where it is faster."""


class TestOutput(Section):
    """Where the results go."""

    directory: OutputFolder
    """A folder per data set appears in here."""
    report: bool = True
    """(new) With a reference DSM: a page to look at (evaluation.html) for each data set."""
    baselines: bool = True
    """(new) With a reference DSM: also evaluate median filters of the initial DSM, 5 to 31 pixels wide.
    Takes about 20 s of one processor core per million pixels."""


class TestConfig(Section):
    """Configuration of `resdepth test`."""

    datasets: Annotated[tuple[TestDataset, ...], Field(min_length=1)]
    """The areas to refine."""
    model: TestModel
    output: TestOutput
    general: TestGeneral = TestGeneral()
    schema_: Annotated[str | None, Field(alias="$schema", exclude=True)] = None
    """Path of the JSON schema, for editors; not used otherwise."""


# Keys that runs add to the complete configurations they write; recomputed here, so that a result folder's
# config.json can be run again.
DERIVED_KEYS: dict[type[Section], frozenset[str]] = {
    TrainDataset: frozenset({"area_defn", "image_list", "image_pairs"}),
    TestDataset: frozenset({"area_defn", "image_list", "image_pairs"}),
    TestModel: frozenset({"name", "input_channels", "settings"}),
}


def paths_in(section: Section, loc: Loc = ()) -> Iterator[tuple[Loc, PathTo, Path]]:
    """The paths that a configuration names: where, what for, and which."""
    for name, value in section:
        place = (*loc, name)
        if isinstance(value, Section):
            yield from paths_in(value, place)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                yield from paths_in(item, (*place, index))
        elif value is not None and (rule := _path_rule(type(section).model_fields[name])):
            yield place, rule, Path(value)


def _path_rule(field: FieldInfo) -> PathTo | None:
    """What the annotation of a key states about the path that it names; None if it names none."""
    optional = (rule for kind in get_args(field.annotation) for rule in getattr(kind, "__metadata__", ()))
    return next((rule for rule in (*field.metadata, *optional) if isinstance(rule, PathTo)), None)
