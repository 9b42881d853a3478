"""Whether model and rasters fit together, and what is refused where they do not."""

import html
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import ndimage

from conftest import make_model, write_raster
from resdepth import refine, save_model
from resdepth.cli import main
from resdepth.data.normalization import Normalization
from resdepth.data.scene import Scene
from resdepth.errors import ResDepthError
from resdepth.evaluation.phase_correlation import displacement, shift_between
from resdepth.geo.raster import read_tags
from resdepth.geo.windows import Window
from resdepth.models.model import Model
from resdepth.refinement.compatibility import Unsuitable, examine

SIDE = 256


def texture(seed: int) -> np.ndarray:
    """Grey values of 350 ± 60 with details of some pixels."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), 2)
    return (350 + 60 * smooth / smooth.std()).astype(np.float32)


def seen_again(image: np.ndarray, seed: int) -> np.ndarray:
    """The same place on another date: less contrast, other light, shadows, noise."""
    rng = np.random.default_rng(seed)
    shadows = 60 * (ndimage.gaussian_filter(rng.normal(size=image.shape), 6) > 0.05)
    return (100 + 0.6 * image - shadows + rng.normal(0, 15, image.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def heights() -> np.ndarray:
    rows, cols = np.mgrid[:SIDE, :SIDE]
    return (400 + 4 * ((rows // 8 + cols // 8) % 2)).astype(np.float32)


@pytest.fixture
def model() -> Model:
    made = make_model()
    return replace(made, provenance={"tile_size": 16, "datasets": [{"name": "a", "gsd_m": 0.5}]}, source="m")


def found(model: Model, heights: np.ndarray, *images: np.ndarray, gsd: float | None = 0.5) -> str:
    scene = Scene.of_arrays(heights, images)
    return "\n".join(examine(model, scene, (tuple(range(len(images))),), scene.grid.whole, gsd).misfits)


def test_what_is_like_the_training_fits(model: Model, heights: np.ndarray) -> None:
    image = texture(1)
    assert found(model, heights, image, seen_again(image, 2)) == ""
    assert found(model, heights, image, np.roll(image, 5, 1) + 1) == "", "rectified a little beside it"


@pytest.mark.parametrize(("gsd", "fits"), [(0.41, True), (0.59, True), (0.39, False), (0.61, False)])
def test_pixels_may_differ_by_a_fifth(model: Model, heights: np.ndarray, gsd: float, fits: bool) -> None:
    stated = found(model, heights, texture(1), seen_again(texture(1), 2), gsd=gsd)
    assert (stated == "") == fits
    assert fits or f"pixels of {gsd:g} m, the model was trained with 0.5 m" in stated


def test_pixels_that_nobody_knows_are_not_compared(model: Model, heights: np.ndarray) -> None:
    scene = Scene.of_arrays(heights, [texture(1), seen_again(texture(1), 2)])
    (left_out,) = examine(model, scene, ((0, 1),), scene.grid.whole, None).left_out
    assert left_out == "pixel size: the rasters state none; gsd= gives it for arrays"
    (left_out,) = examine(make_model(), scene, ((0, 1),), scene.grid.whole, 0.5).left_out
    assert left_out == "pixel size: the model states none"


@pytest.mark.parametrize(("scale", "offset"), [(50, 0), (0.1, 0), (1, 500)])
def test_other_grey_values_do_not_fit(model: Model, heights: np.ndarray, scale: float, offset: float) -> None:
    image = texture(1)
    stated = found(model, heights, image, seen_again(image, 2) * scale + offset)
    assert "grey values: image 1 has" in stated
    assert "the training had 350 ± 60" in stated
    assert "image 0" not in stated


def test_noise_is_not_compared_unless_it_is_the_same(model: Model, heights: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.normal(350, 60, (SIDE, SIDE)).astype(np.float32) for _ in range(2))
    assert found(model, heights, one, other) == ""
    assert "are the same image" in found(model, heights, one, one)


def test_where_there_are_no_heights_nothing_is_compared(model: Model, heights: np.ndarray) -> None:
    assert found(model, np.full_like(heights, np.nan), texture(1), seen_again(texture(1), 2)) == ""


@pytest.mark.parametrize("factor", [0.01, 100])
def test_other_relief_does_not_fit(model: Model, heights: np.ndarray, factor: float) -> None:
    stated = found(model, heights * factor, texture(1), seen_again(texture(1), 2))
    assert "relief: within 16 x 16 pixels heights vary by" in stated
    assert "in the training by 2.5 m" in stated


def test_one_image_twice_is_no_pair(model: Model, heights: np.ndarray) -> None:
    image = texture(1)
    for again in (image, np.rint(image / 4) * 4):
        assert "image 0 and image 1 are the same image" in found(model, heights, image, again)


@pytest.mark.parametrize("kind", ["another place", "shifted", "turned", "scaled"])
def test_images_that_show_other_places_do_not_match(model: Model, heights: np.ndarray, kind: str) -> None:
    image = texture(1)
    other = {
        "another place": texture(3),
        "shifted": np.roll(image, 20, 0),
        "turned": image[::-1, ::-1],
        "scaled": ndimage.zoom(image, 1.3, order=1)[:SIDE, :SIDE],
    }[kind]
    assert "image 0 and image 1 do not match" in found(model, heights, image, seen_again(other, 2))


def test_each_pair_is_looked_at_but_only_those_that_are_used(model: Model, heights: np.ndarray) -> None:
    image = texture(1)
    scene = Scene.of_arrays(heights, [image, seen_again(image, 2), texture(3)])
    assert examine(model, scene, ((0, 1),), scene.grid.whole, 0.5).misfits == ()
    misfits = examine(model, scene, ((0, 1), (2, 1)), scene.grid.whole, 0.5).misfits
    assert len(misfits) == 1
    assert "image 1 and image 2 do not match" in misfits[0]


@pytest.mark.parametrize("value", [np.nan, 0])
def test_an_image_that_shows_nothing_does_not_fit(model: Model, heights: np.ndarray, value: float) -> None:
    stated = found(model, heights, texture(1), np.full_like(heights, value))
    assert stated.startswith("images: image 1 shows nothing where the DSM has heights")
    assert "\n" not in stated, "what else it lacks follows from that"


def test_an_image_of_a_corner_is_found(model: Model, heights: np.ndarray) -> None:
    image = np.full((2048, 2048), np.nan, dtype=np.float32)
    image[-SIDE:, :SIDE] = texture(1)
    large = np.tile(heights, (8, 8))
    assert found(model, large, image, seen_again(image, 2)) == ""


@pytest.mark.parametrize("rows", [0, 3, 11])
def test_shifts_are_found(rows: int) -> None:
    image = texture(1)
    assert shift_between(image, seen_again(np.roll(image, rows, 0), 2)) == pytest.approx(rows, abs=1)


def test_a_displacement_has_a_direction_and_parts_of_pixels() -> None:
    image = texture(1)
    moved = ndimage.shift(image, (3.5, -6.25), order=3, mode="wrap").astype(np.float32)
    assert displacement(moved, image) == pytest.approx((3.5, -6.25), abs=0.1)


def write_misfits(folder: Path, heights: np.ndarray) -> list[str]:
    image = texture(1)
    rasters = {"dsm": heights, "one": image, "two": image * 9}
    return [str(write_raster(folder / f"{name}.tif", values, gsd=2.0)) for name, values in rasters.items()]


def test_all_misfits_are_refused_at_once_and_nothing_is_written(
    tmp_path: Path, model: Model, heights: np.ndarray
) -> None:
    names = write_misfits(tmp_path, heights)
    save_model(model, tmp_path / "m.safetensors")
    before = sorted(tmp_path.iterdir())
    refused = CliRunner().invoke(main, ["refine", *names, "--model", str(tmp_path / "m.safetensors")])
    assert refused.exit_code == 2
    for part in ("pixel size: ", "+300 %", "grey values: two.tif", "are the same image", "--force"):
        assert part in refused.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_forced_the_misfits_are_warnings(
    tmp_path: Path, model: Model, heights: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    dsm, *images = write_misfits(tmp_path, heights)
    with pytest.raises(Unsuitable, match="grey values"):
        refine(dsm, images, model)
    output = tmp_path / "out.tif"
    refine(dsm, images, model, force=True, output=output, report=True)
    page = output.with_suffix(".html").read_text(encoding="utf-8")
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [text.split(":")[0] for text in warned] == ["pixel size", "grey values", "images"]
    assert [text for name, text in read_tags(output).items() if "WARNING" in name] == warned
    assert all(html.escape(text, quote=False) in page for text in warned)


def test_the_pixel_size_of_arrays_is_given(model: Model, heights: np.ndarray) -> None:
    images = [texture(1), seen_again(texture(1), 2)]
    refine(heights, images, model, gsd=0.5)
    with pytest.raises(Unsuitable, match="pixels of 1 m"):
        refine(heights, images, model, gsd=1.0)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ResDepthError, match="must be positive"):
            refine(heights, images, model, gsd=wrong)


def test_only_the_region_counts(model: Model, heights: np.ndarray) -> None:
    large = np.tile(heights, (1, 4))
    image = np.full(large.shape, np.nan, dtype=np.float32)
    image[:, :SIDE] = texture(1)
    scene = Scene.of_arrays(large, [image, seen_again(image, 2)])
    left, right = (Window(0, col, SIDE, 64) for col in (0, 3 * SIDE))
    assert examine(model, scene, ((0, 1),), left, 0.5).misfits == ()
    assert "shows nothing" in examine(model, scene, ((0, 1),), right, 0.5).misfits[0]


def test_a_model_without_images_has_no_grey_values(heights: np.ndarray) -> None:
    geom = replace(make_model("geom", 0), normalization=Normalization(2.5))
    scene = Scene.of_arrays(heights)
    assert examine(geom, scene, ((),), scene.grid.whole, 0.5).misfits == ()
