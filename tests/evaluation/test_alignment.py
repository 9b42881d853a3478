"""An initial DSM that lies above, below or beside the reference DSM: seen before anybody trains with it."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from conftest import MadeScene, make_model, write_raster
from resdepth import check, save_model
from resdepth.cli import main
from resdepth.evaluation.coregistration import Alignment, align
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window

GSD = 0.5


def aligned(surface: np.ndarray, reference: np.ndarray) -> Alignment:
    grid = Grid(*surface.shape, (GSD, 0.0, 0.0, 0.0, -GSD, 0.0))
    return align(
        lambda window: surface[window.slices], lambda window: reference[window.slices], grid, name="initial"
    )


def hills(down: float = 0.0, right: float = 0.0) -> np.ndarray:
    row, col = np.mgrid[:120, :130]
    row, col = row - down, col - right
    return (6 * np.sin(row / 9) * np.cos(col / 11) + 2 * np.sin(col / 5 + row / 7)).astype(np.float32)


def noise(spread: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, spread, (120, 130)).astype(np.float32)


@pytest.mark.parametrize(
    ("bias", "spread", "seen"),
    [(2.6, 0.6, True), (-0.4, 0.6, True), (0.2, 0.6, False), (0.08, 0.01, False), (0.12, 0.01, True)],
)
def test_a_bias_counts_from_ten_centimetres_and_half_the_spread(
    bias: float, spread: float, seen: bool
) -> None:
    found = aligned(hills() + noise(spread) + np.float32(bias), hills())
    assert found.is_biased == seen
    assert found.bias_m == pytest.approx(bias, abs=0.03)
    assert found.spread_m == pytest.approx(spread, rel=0.05)
    assert not found.is_shifted


@pytest.mark.parametrize(("down", "right", "seen"), [(2, -1, True), (0.6, 0, True), (0.3, 0.3, False)])
def test_a_shift_counts_from_half_a_pixel(down: float, right: float, seen: bool) -> None:
    found = aligned(hills(down, right) + noise(0.1), hills())
    assert found.is_shifted == seen
    assert found.shift_px == pytest.approx(np.hypot(down, right), abs=0.05)


def test_where_nothing_can_be_known_nothing_is_claimed() -> None:
    void = np.full((120, 130), np.nan, np.float32)
    void[:3, :3] = 100
    found = aligned(void, hills())
    assert not found.is_biased
    assert not found.is_shifted
    flat = np.zeros((120, 130), np.float32)
    assert not aligned(flat, flat).is_shifted


def test_of_a_large_raster_a_sample_is_read() -> None:
    read = []

    def band(window: Window) -> np.ndarray:
        read.append(window.area)
        rows, cols = np.mgrid[window.row : window.row_stop, window.col : window.col_stop]
        return (6 * np.sin(rows / 9) * np.cos(cols / 11)).astype(np.float32)

    grid = Grid(40_000, 30_000, (GSD, 0.0, 0.0, 0.0, -GSD, 0.0))
    found = align(lambda window: band(window) + np.float32(2.6), band, grid, name="initial")
    assert found.bias_m == pytest.approx(2.6, abs=1e-4)
    assert max(read) <= 224**2
    assert len(read) == 4 * 64


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def raised(scene: MadeScene, up: float = 2.6, right: int = 0) -> None:
    """The initial DSM, higher, and moved to the right."""
    heights = np.roll(scene.initial, right, axis=1) + np.float32(up)
    write_raster(scene.folder / "initial.tif", heights, nodata=-9999)


def configuration(scene: MadeScene, command: str) -> Path:
    if command == "train":
        return scene.write(scene.train_config(training_settings={"tile_size": 16, "n_epochs": 1}))
    model = scene.folder / "model.safetensors"
    save_model(make_model("geom-stereo", depth=2), model)
    return scene.write(scene.test_config({"path": str(model)}))


@pytest.mark.parametrize("command", ["train", "test"])
def test_check_train_and_test_warn_of_a_bias_with_the_figure(
    scene: MadeScene, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(scene, command)
    assert check(config) == []
    raised(scene)
    for one in ("check", command):
        caplog.clear()
        done = run(one, config)
        assert done.exit_code == 0, done.output
        stated = " ".join(f"{done.stderr} {caplog.text}".split())
        assert "datasets[0].raster_in" in stated
        assert "lies 2.59 m" in stated or "lies 2.60 m" in stated
        assert "above the reference DSM" in stated
        assert "A network learns a constant bias" in stated
        assert "beside the reference DSM" not in stated


def test_check_warns_of_a_shift_with_its_direction(scene: MadeScene) -> None:
    raised(scene, up=0, right=2)
    (problem,) = check(configuration(scene, "train"))
    assert problem.severity == "warning"
    assert "(2.0 pixels) to the east of the reference DSM" in problem.message
    assert "+1.0" in problem.message
    assert "Co-register both (prepare)" in problem.message


def test_what_the_mask_leaves_out_is_no_bias(scene: MadeScene) -> None:
    heights = scene.initial.copy()
    heights[:, 30:] += 2.6
    write_raster(scene.folder / "initial.tif", heights.astype(np.float32), nodata=-9999)
    counting = np.zeros(heights.shape, np.uint8)
    counting[:, :30] = 1
    write_raster(scene.folder / "mask.tif", counting)
    model = scene.folder / "model.safetensors"
    save_model(make_model("geom-stereo", depth=2), model)
    config = scene.test_config({"path": str(model)}, datasets={"allocation_strategy": "entire"})
    assert "above the reference DSM" in check(scene.write(config))[0].message
    config["datasets"][0]["mask_ground_truth"] = scene.path("mask.tif")
    assert check(scene.write(config)) == []
