"""Agreement with the published ResDepth: everything that its authors' code computed for us, once."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from resdepth.config.parse import load_train_config
from resdepth.data.normalization import image_statistics
from resdepth.data.scene import used_views
from resdepth.geo.windows import Window, split_regions, tile_grid
from resdepth.models.model import new_network
from resdepth.models.published import load_run_folder, read_architecture, read_checkpoint, read_moments
from resdepth.refinement.tiles import axis_weights
from resdepth.workflows.check import architecture_of, plan_training
from resdepth.workflows.refine import refine
from resdepth.workflows.test import test

PAIRS = ("Stereopair_0_1", "Stereopair_1_2")
OVER_ALL = "initial_prediction_performance_statistics_mean_over_all_stereopairs.txt"
WEIGHTS_LINE, NMAD_LINE = "Model weights:", "Normalized median absolute deviation (NMAD) [m]:"
OUR_NMAD_2022_LINE = "NMAD (ResDepth 2022) [m]:"


@pytest.fixture(scope="session")
def layout(reference: Path) -> dict[str, list[dict[str, Any]]]:
    content: dict[str, list[dict[str, Any]]] = json.loads(
        gzip.decompress((reference / "layout.json.gz").read_bytes())
    )
    return content


# --- regions, tiles, weights


def inclusive(windows: tuple[Window, ...]) -> dict[str, list[list[int]]]:
    """As the reference lists regions."""
    if not windows:
        return {}
    return {
        "x_extent": [[window.col, window.col_stop - 1] for window in windows],
        "y_extent": [[window.row, window.row_stop - 1] for window in windows],
    }


def test_every_split_is_the_published_one(layout: dict[str, list[dict[str, Any]]]) -> None:
    assert len(layout["splits"]) == 60
    for case in layout["splits"]:
        regions = split_regions(
            case["rows"],
            case["cols"],
            case["strategy"],
            test_stripe=case["test_stripe"],
            crossval=case["crossval"],
        )
        for role in ("train", "val", "test"):
            assert inclusive(getattr(regions, role)) == case[role], case


def test_every_tile_lies_where_the_published_one_does(layout: dict[str, list[dict[str, Any]]]) -> None:
    assert len(layout["grids"]) == 24
    for case in layout["grids"]:
        region = Window(case["y0"], case["x0"], case["height"], case["width"])
        tiles = list(tile_grid(region, case["tile"], case["stride"]).windows())
        assert [[tile.row, tile.col] for tile in tiles] == case["corners"], region


def test_every_tile_counts_where_the_published_one_does(layout: dict[str, list[dict[str, Any]]]) -> None:
    """Side by side: all but what the previous tile has. Overlapping: all that no other tile covers."""
    for case in layout["grids"]:
        tile, stride = case["tile"], case["stride"]
        region = Window(case["y0"], case["x0"], case["height"], case["width"])
        grid = tile_grid(region, tile, stride)
        if stride == tile:
            found = [[part.row, part.col, part.row_stop - 1, part.col_stop - 1] for part in grid.fresh()]
        else:
            lasts = [[stride - 1] * (len(axis) - 1) + [tile - 1] for axis in (grid.rows, grid.cols)]
            found = [
                [row.shared, col.shared, bottom, right]
                for row, bottom in zip(grid.rows, lasts[0], strict=True)
                for col, right in zip(grid.cols, lasts[1], strict=True)
            ]
        assert found == case["valid"], case["corners"]


def test_the_weights_of_every_tile_sum_to_the_published_digits(
    layout: dict[str, list[dict[str, Any]]],
) -> None:
    overlapping = [case for case in layout["grids"] if "weights_of" in case]
    assert len(overlapping) == 12
    for case in overlapping:
        tile = case["tile"]
        region = Window(case["y0"], case["x0"], case["height"], case["width"])
        grid = tile_grid(region, tile, case["stride"])
        row, col = divmod(case["weights_of"], len(grid.cols))
        weights = np.outer(axis_weights(grid.rows, tile)[row], axis_weights(grid.cols, tile)[col])
        for axis, key in ((1, "weights_row_sums"), (0, "weights_col_sums")):
            np.testing.assert_allclose(weights.sum(axis=axis), case[key], rtol=0, atol=5.1e-7)


# --- networks


@pytest.fixture(scope="session")
def published_networks(reference: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = torch.load(reference / "models.pt", weights_only=True)
    return cases


def test_every_published_network_has_our_parameter_names(published_networks: list[dict[str, Any]]) -> None:
    assert published_networks
    for case in published_networks:
        ours = new_network("UNet", case["kwargs"]).state_dict()
        theirs = {name: value.shape for name, value in case["state_dict"].items()}
        assert {name: value.shape for name, value in ours.items()} == theirs, case["kwargs"]


def test_every_published_network_gives_the_published_output(
    published_networks: list[dict[str, Any]],
) -> None:
    for case in published_networks:
        network = new_network("UNet", case["kwargs"]).eval()
        network.load_state_dict(case["state_dict"])
        with torch.inference_mode():
            found = network(case["x"])
        assert found.shape == case["y"].shape
        assert float((found - case["y"]).abs().max()) < 1e-5, case["kwargs"]


# --- a training run


def test_a_published_run_folder_is_a_model(reference: Path) -> None:
    model = load_run_folder(reference / "stereo" / "run")
    assert model.architecture.input_channels == "geom-stereo"
    assert not model.network().training


def test_a_published_configuration_gives_the_published_architecture(reference: Path, tmp_path: Path) -> None:
    run = reference / "stereo" / "run"
    config, problems = load_train_config(with_paths(run / "config.json.orig", reference, tmp_path))
    assert config is not None
    assert problems == []
    assert architecture_of(config) == read_architecture(run / "model_config.json")


def test_the_images_of_the_published_run_have_the_published_statistics(
    reference: Path, tmp_path: Path
) -> None:
    run = reference / "stereo" / "run"
    (area,) = plan_training(with_paths(run / "config.json.orig", reference, tmp_path)).areas
    views = used_views(area.train_sets)
    found = image_statistics((area.scene.views[view], area.train) for view in views)
    assert found == pytest.approx(read_moments(run / "Image_normalization_parameters.p"), rel=1e-6)


def test_the_published_checkpoint_has_the_published_keys(reference: Path) -> None:
    checkpoint = read_checkpoint(reference / "stereo" / "run" / "checkpoints" / "Model_best.pth")
    assert {"epoch", "model_state_dict", "optimizer_state_dict", "scheduler_state_dict"} <= set(checkpoint)
    assert {"loss_train", "loss_val"} <= set(checkpoint)


# --- inference and evaluation


def localized(published: Path, reference: Path, output: Path) -> str:
    """A published configuration, as it is but for the folders of that day."""
    text = published.read_text()
    folders = {
        "DATA/small": reference.resolve() / "scene",
        "DATA/out/2026-11-22_05-01_stereo": reference.resolve() / "stereo" / "run",
        "DATA": output,
    }
    for there, here in folders.items():
        text = text.replace(there, str(here))
    return text


def with_paths(published: Path, reference: Path, folder: Path) -> Path:
    path = folder / "config.json"
    path.write_text(localized(published, reference, folder))
    return path


@dataclass(frozen=True)
class Stereo:
    """Our results for the published test configuration, and the published ones."""

    config: Path
    ours: Path
    theirs: Path


@pytest.fixture(scope="session")
def stereo(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Stereo:
    folder = tmp_path_factory.mktemp("stereo")
    theirs = reference / "stereo" / "expected"
    config = with_paths(theirs / "config.json.orig", reference, folder)
    test(config)
    return Stereo(config, folder / "res_small_stereo" / "small", theirs)


def test_the_results_have_the_published_names(stereo: Stereo) -> None:
    ours, theirs = (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in (stereo.ours, stereo.theirs)
    )
    theirs |= {f"{pair}/initial_residuals.tif" for pair in PAIRS}  # those of the second are left out here
    assert theirs <= ours
    # What we add: the figures of each statistics file as JSON, all figures and a page, and styles for QGIS.
    added = {name.replace(".txt", ".json") for name in theirs if name.endswith(".txt")}
    added |= {name.replace(".tif", ".qml") for name in theirs if name.endswith(".tif")}
    assert ours - theirs == added | {"evaluation.json", "evaluation.html"}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_predictions_agree_within_a_millimetre_everywhere(stereo: Stereo, pair: str) -> None:
    ours, theirs = (read(folder / pair / "initial_prediction.tif") for folder in (stereo.ours, stereo.theirs))
    assert ours.shape == (720, 200)
    assert np.abs(ours - theirs).max() < 1e-3


def test_the_residuals_agree_and_are_void_in_the_same_cells(stereo: Stereo) -> None:
    ours, theirs = (
        read(folder / PAIRS[0] / "initial_residuals.tif") for folder in (stereo.ours, stereo.theirs)
    )
    np.testing.assert_array_equal(ours == -9999, theirs == -9999)
    assert 0 < (theirs == -9999).sum() < theirs.size
    assert np.abs(ours - theirs).max() < 1e-3


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1).astype(np.float64)


@pytest.mark.parametrize("name", ["initial_prediction.tif", "initial_residuals.tif"])
def test_the_geotiffs_have_the_published_properties(stereo: Stereo, name: str) -> None:
    with (
        rasterio.open(stereo.ours / PAIRS[0] / name) as ours,
        rasterio.open(stereo.theirs / PAIRS[0] / name) as theirs,
    ):
        for key in ("driver", "dtypes", "nodata", "count", "shape", "transform", "crs"):
            assert getattr(ours, key) == getattr(theirs, key), key
        assert ours.compression.name == "lzw"
        assert ours.nodata == -9999


@pytest.mark.parametrize("name", [*(f"{pair}/initial_prediction_statistics.txt" for pair in PAIRS), OVER_ALL])
def test_the_statistics_files_agree_line_by_line(stereo: Stereo, name: str) -> None:
    """But for the path of the weights, and the NMAD: theirs is what we call NMAD (ResDepth 2022)."""
    ours, theirs = ((folder / name).read_bytes().decode() for folder in (stereo.ours, stereo.theirs))
    our_lines = [line for line in ours.split("\n") if not line.startswith(NMAD_LINE)]
    our_lines = [
        f"{NMAD_LINE}\t\t\t{line.rsplit(chr(9), 1)[1]}" if line.startswith(OUR_NMAD_2022_LINE) else line
        for line in our_lines
    ]
    their_lines = theirs.split("\n")
    assert len(our_lines) == len(their_lines)
    for ours_, theirs_ in zip(our_lines, their_lines, strict=True):
        if theirs_.startswith(WEIGHTS_LINE):
            assert ours_.startswith(WEIGHTS_LINE)
        else:
            assert ours_ == theirs_
    assert sum(line.startswith(NMAD_LINE) for line in their_lines) >= 5


def test_the_complete_configuration_is_the_published_one_and_names_what_is_ours(
    stereo: Stereo, reference: Path
) -> None:
    ours = json.loads((stereo.ours / "config.json").read_text())
    theirs = json.loads(localized(stereo.theirs / "config.json", reference, stereo.config.parent))
    theirs["general"] |= {"device": "auto", "mode": "exact", "precision": "fp32"}  # ours alone
    theirs["output"] |= {"report": True, "baselines": True}
    assert ours == theirs


def test_the_original_configuration_is_kept_byte_by_byte(stereo: Stereo) -> None:
    assert (stereo.ours / "config.json.orig").read_bytes() == stereo.config.read_bytes()


def test_the_python_interface_gives_the_published_heights_too(reference: Path, stereo: Stereo) -> None:
    """On the test stripe cut out, from arrays."""
    stripe = (slice(0, 720), slice(200, 400))
    dsm, first, second = (
        read(reference / "scene" / f"{name}.tif").astype(np.float32)[stripe]
        for name in ("initial", "ortho1", "ortho2")
    )
    refined = refine(
        dsm,
        [first, second],
        reference / "stereo" / "run",
        tile_size=128,
        device="cpu",
        mode="exact",
        precision="fp32",
    )
    expected = read(stereo.theirs / PAIRS[0] / "initial_prediction.tif")
    assert np.abs(refined - expected).max() < 1e-3
