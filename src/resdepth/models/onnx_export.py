"""A model as an ONNX file, for programs without PyTorch: metres and grey values in, metres out.

The normalisation is part of the graph. A file is written only if onnxruntime computes from it what PyTorch
does.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from resdepth.data.normalization import N_MATCHED_LAYERS, Normalization
from resdepth.errors import ResDepthError
from resdepth.models.fusion_unet import ALIKE, AVERAGED_PX, FusionUNet
from resdepth.models.model import FORMAT_VERSION, METADATA_KEY, Model
from resdepth.runtime.atomic import write_bytes
from resdepth.runtime.surroundings import logged_from, without_warnings
from resdepth.version import __version__

Array = NDArray[np.float32]

OPSET = 18
"""Of the operators; every onnxruntime since 1.14 knows them."""
LARGEST_DIFFERENCE = 1e-4
"""Between onnxruntime and PyTorch, in the model's unit of height (`Normalization.height_sigma`)."""
LARGEST_SIDE_PX, LARGEST_BATCH = 2**16, 2**12
TRIED_PX = 64
_TALKATIVE = ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir")

DESCRIPTIONS = {
    "dsm": "(batch, 1, height, width) float32: heights of the initial DSM in metres, NaN = void",
    "images": (
        "(batch, {views}, height, width) float32: grey values of ortho-images on the DSM's grid, NaN = void"
    ),
    "matched": (
        "(batch, 5, height, width) float32: heights matched in raw images, metres, and four correlations of "
        "the images: projected onto the initial DSM, in windows of 5 and 11 pixels, and onto the matched "
        "heights likewise; NaN = unknown"
    ),
    "unit": "(1,) float32: metres of height per pixel of disparity of the pair; refine measures it",
    "noise": "(1,) float32: how noisy the initial DSM is, 0 to 1 (resdepth.data.normalization.noise_share)",
    "refined": "(batch, 1, height, width) float32: refined heights in metres; voids have heights, too",
    "error": "(batch, 1, height, width) float32: expected error in metres, 68 % of the errors are smaller",
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """What became of a model.

    Attributes:
        path: the ONNX file.
        inputs, outputs: what each of them is, by its name.
        difference: the largest between onnxruntime and PyTorch, in the model's unit of height.
    """

    path: Path
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    difference: float


def export_onnx(model: Model, path: str | Path) -> Exported:
    """Write a model as an ONNX file that needs nothing else; it appears complete or not at all.

    It computes for a tile what refine does in mode "exact" before tiles are merged. Sides are multiples of
    2^depth, which the file states (metadata "resdepth").

    Args:
        model: a published U-Net or a fusion network.
        path: the file, .onnx.

    Raises:
        ResDepthError: if onnx, onnxscript or onnxruntime is missing, the file cannot be written, or what
            onnxruntime computes differs by more than LARGEST_DIFFERENCE.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - of torch.onnx
    except ImportError as error:
        raise ResDepthError(
            f"this needs {error.name}, which is not installed: pip install 'resdepth[onnx]'"
        ) from error
    path, whole = Path(path), _whole(model)
    given = _examples(model, batch=2, rows=2, cols=3)
    proto = _exported(whole, given, _cell(model))
    _describe(proto, model, whole)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    difference = _difference(whole, session.run, _examples(model, batch=1, rows=3, cols=2))
    if not difference <= LARGEST_DIFFERENCE:
        raise ResDepthError(
            f"{path}: not written; onnxruntime {onnxruntime.__version__} differs from PyTorch by "
            f"{difference:.2g} of the unit of height (at most {LARGEST_DIFFERENCE:g})"
        )
    write_bytes(path, proto.SerializeToString())
    inputs, outputs = (
        {one.name: one.doc_string for one in ends} for ends in (proto.graph.input, proto.graph.output)
    )
    return Exported(path, inputs, outputs, difference)


class _Whole(nn.Module):
    """A network together with its normalisation; inputs that are left out come last."""

    names: tuple[str, ...]
    results: tuple[str, ...]

    def unit_of(self, given: Sequence[Tensor]) -> float:
        """Metres per normalised unit of height."""
        raise NotImplementedError


class _Published(_Whole):
    """A published network: heights above the mean of the tile, over sigma; images standardised."""

    names = ("dsm", "images")
    results = ("refined",)

    def __init__(self, network: nn.Module, normalization: Normalization, *, uses_dsm: bool) -> None:
        super().__init__()
        self._network, self._constants, self._uses_dsm = network, normalization, uses_dsm

    def unit_of(self, given: Sequence[Tensor]) -> float:  # noqa: ARG002 - others have it from there
        return self._constants.height_sigma

    def forward(self, dsm: Tensor, images: Tensor | None = None) -> tuple[Tensor]:
        sigma, centre = self._constants.height_sigma, _mean(dsm)
        channels = [_without_voids((dsm - centre) / sigma)] if self._uses_dsm else []
        if images is not None:
            grey = (images - (self._constants.image_mean or 0.0)) / (self._constants.image_std or 1.0)
            channels.append(_without_voids(grey))
        return (self._network(torch.cat(channels, dim=1)) * sigma + centre,)


class _Fusion(_Whole):
    """A fusion network; unit and noise belong to the DSM, so they are inputs."""

    names = ("dsm", "matched", "unit", "noise")
    results = ("refined", "error")

    def __init__(self, network: FusionUNet) -> None:
        super().__init__()
        self._network = network
        side = 2 * AVERAGED_PX + 1
        shifts = torch.eye(side * side).reshape(side, side, 1, side, side)
        self._shifts = nn.ParameterList(nn.Parameter(row, requires_grad=False) for row in shifts)

    def unit_of(self, given: Sequence[Tensor]) -> float:
        return float(given[self.names.index("unit")])

    def forward(self, dsm: Tensor, matched: Tensor, unit: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        centre = _mean(dsm)
        initial = _without_voids((dsm - centre) / unit)
        heights, agreements = matched[:, :1], matched[:, 1:]
        known = ~torch.isnan(heights)
        found = torch.where(known, (heights - centre) / unit, initial)
        channels = torch.cat([initial, found, known.to(initial.dtype), _without_voids(agreements)], dim=1)
        heights_and_errors = self._network.weighed(channels, noise, self._to_average)
        return heights_and_errors[:, :1] * unit + centre, heights_and_errors[:, 1:] * unit

    def _to_average(self, heights: Tensor, scale: Tensor) -> Tensor:
        """What the network computes pixel by pixel of its window, by rows: a graph of an eighth the size."""
        padded = functional.pad(heights, (AVERAGED_PX,) * 4, mode="replicate")
        sharpness = -0.5 / (ALIKE * scale).square()
        total, weights = torch.zeros_like(heights), torch.zeros_like(heights)
        for row in self._shifts:
            differences = functional.conv2d(padded, row) - heights  # (B, 7, H, W)
            weight = (differences.square() * sharpness).exp()
            total = total + (weight * differences).sum(dim=1, keepdim=True)
            weights = weights + weight.sum(dim=1, keepdim=True)
        return total / weights


class _DsmAlone(_Whole):
    """A fusion network for DSMs alone."""

    names = ("dsm", "noise")
    results = ("refined", "error")

    def __init__(self, network: FusionUNet, unit_m: float) -> None:
        super().__init__()
        self._network, self._unit_m = network, unit_m

    def unit_of(self, given: Sequence[Tensor]) -> float:  # noqa: ARG002 - others have it from there
        return self._unit_m

    def forward(self, dsm: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        centre = _mean(dsm)
        heights_and_errors = self._network.weighed(_without_voids((dsm - centre) / self._unit_m), noise)
        return heights_and_errors[:, :1] * self._unit_m + centre, heights_and_errors[:, 1:] * self._unit_m


def _mean(dsm: Tensor) -> Tensor:
    """The mean height of each tile without its voids; 0 if all is void: (B, 1, H, W) to (B, 1, 1, 1).

    In two steps: a sum of many heights in float32 would be off by centimetres.
    """
    known = ~torch.isnan(dsm)
    count = known.to(dsm.dtype).sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    about = _without_voids(dsm).sum(dim=(1, 2, 3), keepdim=True) / count
    rest = torch.where(known, dsm - about, 0.0)
    return about + rest.sum(dim=(1, 2, 3), keepdim=True) / count


def _without_voids(values: Tensor) -> Tensor:
    return torch.where(torch.isnan(values), 0.0, values)


def _whole(model: Model) -> _Whole:
    """The network of a model together with its normalisation."""
    network = model.network()
    if isinstance(network, FusionUNet):
        if model.architecture.inputs.matched:
            return _Fusion(network).eval()
        return _DsmAlone(network, model.normalization.height_sigma).eval()
    return _Published(network, model.normalization, uses_dsm=model.architecture.inputs.uses_dsm).eval()


def _cell(model: Model) -> int:
    """The pixels of which sides are multiples."""
    cell: int = 2**model.architecture.depth
    return cell


def _examples(model: Model, *, batch: int, rows: int, cols: int) -> tuple[Tensor, ...]:
    """What a model can be shown, of so many parts of TRIED_PX or of a cell: houses, noise, and voids."""
    numbers = np.random.default_rng(0)
    side, inputs = max(TRIED_PX, _cell(model)), model.architecture.inputs
    size = (batch, 1, rows * side, cols * side)
    ground = 400 + 0.05 * np.arange(size[3]) + numbers.normal(0, 0.3, size)
    dsm = ground + 9 * (np.indices(size[2:]).sum(axis=0) // 24 % 2)
    if inputs.matched:
        heights = dsm + numbers.normal(0, 0.5, size)
        correlations = numbers.uniform(-0.2, 1, (batch, N_MATCHED_LAYERS - 1, *size[2:]))
        shown = [np.concatenate([heights, correlations], axis=1)]
        constants = [np.array([0.8]), np.array([0.4])]
    elif inputs.n_views:
        mean, std = model.normalization.image_mean or 0.0, model.normalization.image_std or 1.0
        shown, constants = [numbers.normal(mean, std, (batch, inputs.n_views, *size[2:]))], []
    else:
        shown, constants = [], [np.array([0.4])] if model.architecture.suits_any_sensor else []
    for values in (dsm, *shown):
        values[:, :, 3:9, 4:12] = np.nan
    return tuple(torch.from_numpy(values.astype(np.float32)) for values in (dsm, *shown, *constants))


def _exported(whole: _Whole, given: Sequence[Tensor], cell: int) -> Any:
    """The graph as an ONNX protocol buffer; batch, height and width stay free."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    rows, cols = (torch.export.Dim(name, min=1, max=LARGEST_SIDE_PX // cell) for name in ("rows", "cols"))
    free = {0: batch, 2: cell * rows, 3: cell * cols}
    names = whole.names[: len(given)]
    shapes = {name: free if one.ndim > 1 else {} for name, one in zip(names, given, strict=True)}
    # It tells of packages that networks like these do not need, and of its own future.
    with logged_from(40, _TALKATIVE), without_warnings(Warning):
        program = torch.onnx.export(
            whole, tuple(given), input_names=names, output_names=whole.results, opset_version=OPSET,
            dynamo=True, dynamic_shapes=shapes, verbose=False,
            custom_translation_table={torch.ops.aten.hypot.default: _hypot},
        )  # fmt: skip
    assert program is not None, "nothing was written to a file"
    return program.model_proto


def _hypot(one: Any, other: Any) -> Any:
    """What ONNX has no operator for."""
    from onnxscript import opset18

    return opset18.Sqrt(opset18.Add(opset18.Mul(one, one), opset18.Mul(other, other)))


def _describe(proto: Any, model: Model, whole: _Whole) -> None:
    """Write into a graph what its inputs are, and where the model comes from."""
    import onnx

    for end in (*proto.graph.input, *proto.graph.output):
        end.doc_string = DESCRIPTIONS[end.name].format(views=model.architecture.inputs.n_views)
    stated = {
        "format": FORMAT_VERSION,
        "architecture": asdict(model.architecture),
        "normalization": asdict(model.normalization),
        "normalization_is_in_the_graph": True,
        "sides_are_multiples_of_px": _cell(model),
        "halo_px": model.architecture.halo_px,
        "inputs": {end.name: end.doc_string for end in proto.graph.input},
        "outputs": {end.name: end.doc_string for end in proto.graph.output},
        "provenance": dict(model.provenance),
    }
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(stated, allow_nan=False, default=dict)})
    proto.producer_name, proto.producer_version = "resdepth", __version__
    proto.doc_string = (
        f"{type(whole).__name__.removeprefix('_')} network of resdepth: heights in metres in and out, "
        f"normalisation included; sides are multiples of {_cell(model)} pixels"
    )


def _difference(
    whole: _Whole, run: Callable[[None, dict[str, Array]], Sequence[Array]], given: Sequence[Tensor]
) -> float:
    """The largest difference between ONNX and PyTorch, normalised; infinite where one has no number."""
    names = whole.names[: len(given)]
    with torch.inference_mode():
        wanted = [one.numpy() for one in whole(*given)]
    found = run(None, {name: one.numpy() for name, one in zip(names, given, strict=True)})
    differences = [float(np.abs(one - other).max()) for one, other in zip(found, wanted, strict=True)]
    return max(np.inf if np.isnan(one) else one for one in differences) / whole.unit_of(given)
