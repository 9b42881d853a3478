"""Models as ONNX files: what onnxruntime computes from them, and what they state."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from conftest import make_model
from resdepth.cli import main
from resdepth.data.normalization import Normalization
from resdepth.errors import ResDepthError
from resdepth.models import onnx_export
from resdepth.models.model import Architecture, Model, new_network, save_model
from resdepth.models.onnx_export import export_onnx
from resdepth.refinement.engine import Refiner

CPU = torch.device("cpu")


def heights(*shape: int) -> np.ndarray:
    numbers = np.random.default_rng(3)
    ground = 250 + numbers.normal(0, 1, shape) + 6 * (np.indices(shape).sum(0) // 9 % 2)
    ground[..., 3:6, 2:9] = np.nan
    return ground.astype(np.float32)


def run(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, inputs)
    return found


@pytest.mark.parametrize(
    ("channels", "n_views", "settings"),
    [
        ("geom-stereo", 2, {}),
        ("geom", 0, {"up_mode": "bilinear", "outer_skip_BN": True, "act_fn_encoder": "lrelu"}),
        ("stereo", 2, {"do_BN": False, "act_fn_decoder": "prelu"}),
    ],
)
def test_onnxruntime_refines_as_the_package_does(
    channels: str, n_views: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(channels, n_views, **settings)
    exported = export_onnx(model, tmp_path / "m.onnx")
    assert exported.difference <= 1e-4
    assert [*exported.inputs] == ["dsm", "images"][: 1 + bool(n_views)]
    dsm = heights(3, 20, 36)  # neither of the shapes that exporting has looked at
    images = np.random.default_rng(1).normal(350, 60, (3, n_views, 20, 36)).astype(np.float32)
    if n_views:
        images[:, 0, 9:12, 9:12] = np.nan
    shown = {"images": images} if n_views else {}
    (refined,) = run(tmp_path / "m.onnx", dsm=dsm[:, None], **shown)
    wanted = Refiner(model, device=CPU).refine(dsm, images)
    np.testing.assert_allclose(refined[:, 0], wanted, atol=2e-4)


def fusion(smoothing: float = 0.0) -> Model:
    settings = {"start_kernel": 4, "smoothing": smoothing}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = new_network("FusionUNet", settings).state_dict()
    weights = {name: 5 * one if name == "last.weight" else one for name, one in weights.items()}
    return Model(Architecture("FusionUNet", "geom-matched", settings), weights, Normalization(1.0))


def test_a_fusion_network_takes_the_unit_and_the_noise_of_the_dsm(tmp_path: Path) -> None:
    exported = export_onnx(fusion(), tmp_path / "m.onnx")
    assert exported.difference <= 1e-4
    assert list(exported.outputs) == ["refined", "error"]
    dsm, unit = heights(1, 80, 48), 0.7
    matched = np.random.default_rng(2).uniform(-0.2, 1, (1, 5, 80, 48)).astype(np.float32)
    matched[:, 0] = dsm + 0.4
    matched[:, 0, 20:30, 20:30] = np.nan
    for noise in (0.0, 0.6):
        model = fusion(noise)
        model = Model(model.architecture, model.weights, Normalization(unit))
        wanted = Refiner(model, device=CPU).refine(dsm, matched)
        refined, error = run(
            tmp_path / "m.onnx", dsm=dsm[:, None], matched=matched,
            unit=np.array([unit], np.float32), noise=np.array([noise], np.float32),
        )  # fmt: skip
        np.testing.assert_allclose(refined[:, 0], wanted, atol=2e-4)
        assert (error > 0).all()
    known = np.isfinite(dsm)
    assert np.abs(wanted - dsm)[known].max() > 0.05  # something was refined


def test_a_network_for_dsms_alone_takes_the_noise(tmp_path: Path) -> None:
    settings = {"start_kernel": 4, "n_input_channels": 1, "smoothing": 0.6}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = new_network("FusionUNet", settings).state_dict()
    weights = {name: 5 * one if name == "last.weight" else one for name, one in weights.items()}
    model = Model(Architecture("FusionUNet", "geom", settings), weights, Normalization(0.8))
    exported = export_onnx(model, tmp_path / "m.onnx")
    assert exported.difference <= 1e-4
    assert (list(exported.inputs), list(exported.outputs)) == (["dsm", "noise"], ["refined", "error"])
    dsm = heights(1, 80, 48)
    refined, error = run(tmp_path / "m.onnx", dsm=dsm[:, None], noise=np.array([0.6], np.float32))
    np.testing.assert_allclose(
        refined[:, 0], Refiner(model, device=CPU).refine(dsm, np.empty((1, 0, 80, 48))), atol=2e-4
    )
    assert (error > 0).all()


def test_the_file_states_what_it_takes(tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "m.safetensors")
    command = ["export", f"{tmp_path / 'm.safetensors'}", "-o", f"{tmp_path / 'm.onnx'}"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'm.onnx'}" in done.output.splitlines()
    assert "agree to" in done.output
    stored = onnx.load(tmp_path / "m.onnx")
    (opset,) = [one.version for one in stored.opset_import if not one.domain]
    assert opset == onnx_export.OPSET
    (described,) = [json.loads(one.value) for one in stored.metadata_props if one.key == "resdepth"]
    assert described["normalization"] == {"height_sigma": 2.5, "image_mean": 350.0, "image_std": 60.0}
    assert described["sides_are_multiples_of_px"] == 4
    assert "metres, NaN = void" in described["inputs"]["dsm"]
    assert CliRunner().invoke(main, command).exit_code == 2  # it exists


def test_a_file_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "LARGEST_DIFFERENCE", 1e-12)
    with pytest.raises(ResDepthError, match=r"not written; onnxruntime .* differs"):
        export_onnx(make_model(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
