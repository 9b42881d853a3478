"""One data set on one grid: opened from files or arrays, read by window, held in memory within a budget."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from conftest import MadeScene, make_model, read_raster, write_raster
from resdepth import evaluate, refine
from resdepth.data.scene import Scene, hold_in_memory, used_views
from resdepth.errors import InputProblems, ResDepthError
from resdepth.geo.raster import ArrayBand, FileBand
from resdepth.geo.windows import Window

WINDOW = Window(4, 8, 10, 20)


def opened(scene: MadeScene, *images: str, reference: str | None = "reference.tif", **masks: str) -> Scene:
    return Scene.open(
        scene.path("initial.tif"),
        [scene.path(image) for image in images],
        reference=None if reference is None else scene.path(reference),
        masks={name: scene.path(mask) for name, mask in masks.items()},
    )


def test_a_scene_of_files_gives_their_pixels(scene: MadeScene) -> None:
    found = opened(scene, "ortho2.tif", "ortho1.tif", building="mask_building.tif")
    assert found.grid.crs_name == "EPSG:32632"
    assert found.grid.gsd == 0.5
    assert found.dsm_path == Path(scene.path("initial.tif"))
    np.testing.assert_array_equal(found.dsm.read(WINDOW), scene.initial[WINDOW.slices])
    assert found.reference is not None
    np.testing.assert_array_equal(found.reference.read(WINDOW), scene.reference[WINDOW.slices])
    views = found.read_views((1, 0), WINDOW)
    assert views.dtype == np.float32
    np.testing.assert_array_equal(views[0], scene.images[0][WINDOW.slices])
    np.testing.assert_array_equal(views[1], scene.images[1][WINDOW.slices])
    assert found.read_views((), WINDOW).shape == (0, 10, 20)


def test_a_scene_of_arrays_is_the_same_as_one_of_files(scene: MadeScene) -> None:
    buildings = read_raster(scene.folder / "mask_building.tif")
    made = Scene.of_arrays(
        scene.initial, scene.images[:2], reference=scene.reference, masks={"building": buildings}, gsd=0.5
    )
    found = opened(scene, "ortho1.tif", "ortho2.tif", building="mask_building.tif")
    assert made.grid.gsd == found.grid.gsd
    assert (made.reference is None) == (found.reference is None)
    for one, other in ((made.dsm, found.dsm), *((made.views[index], found.views[index]) for index in (0, 1))):
        np.testing.assert_array_equal(one.read(WINDOW), other.read(WINDOW))
    for one, other in zip(
        made.read_mask("building", WINDOW), found.read_mask("building", WINDOW), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_only_the_value_1_sets_a_mask_and_nodata_says_nothing(scene: MadeScene) -> None:
    values = np.zeros((64, 160), np.uint8)
    values[0, :4] = 0, 1, 2, 255
    write_raster(scene.folder / "mask.tif", values, nodata=255)
    is_set, is_known = opened(scene, water="mask.tif").read_mask("water", Window(0, 0, 1, 4))
    assert is_set.tolist() == [[False, True, False, False]]
    assert is_known.tolist() == [[True, True, True, False]]


def test_arrays_of_other_shapes_are_refused(scene: MadeScene) -> None:
    with pytest.raises(ResDepthError, match=r"images\[1\]: shape \(3, 3\) differs"):
        Scene.of_arrays(scene.initial, [scene.images[0], np.ones((3, 3))])
    with pytest.raises(ResDepthError, match=r"masks\['water'\]: shape"):
        Scene.of_arrays(scene.initial, masks={"water": np.ones((3, 3))})
    with pytest.raises(ResDepthError, match="expected an array"):
        Scene.of_arrays(np.ones(3))


def test_everything_wrong_with_the_files_of_a_scene_is_stated_at_once(scene: MadeScene) -> None:
    write_raster(scene.folder / "ortho1.tif", scene.images[0], crs="EPSG:32633", gsd=0.25)
    (scene.folder / "ortho2.tif").unlink()
    (scene.folder / "reference.tif").write_text("text")
    with pytest.raises(InputProblems) as raised:
        opened(scene, "ortho1.tif", "ortho2.tif", water="gone.tif")
    assert [problem.where for problem in raised.value.problems] == [
        "reference",
        "masks['water']",
        "images",
        "images",
        "images",
    ]


def test_the_advice_puts_a_raster_onto_the_grid_of_the_dsm(scene: MadeScene) -> None:
    write_raster(scene.folder / "reference.tif", scene.reference[:32], gsd=1.0)
    with pytest.raises(InputProblems) as raised:
        opened(scene)
    stated = raised.value.problems[0].message
    assert stated.endswith("gdalwarp -t_srs EPSG:32632 -te 465000 5247968 465080 5248000 -ts 160 64")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raw_image_is_no_ortho_image(scene: MadeScene) -> None:
    with rasterio.open(
        scene.folder / "ortho1.tif", "w", driver="GTiff", height=70, width=90, count=1, dtype="uint16"
    ) as dataset:
        dataset.write(np.ones((1, 70, 90), np.uint16))
    with pytest.raises(InputProblems) as raised:
        opened(scene, "ortho1.tif")
    assert [problem.message.partition("; ")[2] for problem in raised.value.problems] == [
        "a raw image becomes an ortho-image with the DSM and its RPC (resdepth prepare)"
    ]


def test_the_advice_names_the_map_of_a_dsm_with_heights_above_a_geoid(scene: MadeScene) -> None:
    write_raster(scene.folder / "initial.tif", scene.initial, crs="EPSG:32632+5773")
    write_raster(scene.folder / "reference.tif", scene.reference[:32], gsd=1.0)
    with pytest.raises(InputProblems, match=r"gdalwarp -t_srs EPSG:32632 -te"):
        opened(scene)


def test_pixels_and_zeros_that_mislead_are_warned_of(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    names = {"initial": scene.initial, "reference": scene.reference}
    for name, values in names.items():
        write_raster(scene.folder / f"{name}.tif", values, crs="EPSG:3857", origin=(1e6, 6e6))
    opened(scene)
    assert "its CRS EPSG:3857 stretches lengths: pixels are taken as 0.338" in caplog.text
    crss = {"initial": "EPSG:32632+5773", "reference": "EPSG:32632+3855"}
    for name, values in names.items():
        path = write_raster(scene.folder / f"{name}.tif", values, crs=crss[name])
        with rasterio.open(path, "r+") as file:
            file.transform = rasterio.Affine(0.25, 0, 465000, 0, -0.5, 5248000)
    opened(scene)
    assert "its pixels are not square (0.5 x 0.25 m)" in caplog.text
    assert "EGM2008 height (EGM2008 geoid) instead of EGM96 height (EGM96 geoid)" in caplog.text


def test_an_unusable_dsm_does_not_hide_the_other_files(scene: MadeScene) -> None:
    (scene.folder / "initial.tif").unlink()
    with pytest.raises(InputProblems) as raised:
        opened(scene, "ortho9.tif")
    assert [problem.where for problem in raised.value.problems] == ["dsm", "images"]


def test_a_second_band_is_left_out_with_a_warning_only(scene: MadeScene) -> None:
    write_raster(scene.folder / "ortho1.tif", np.stack([scene.images[0], scene.images[1]]))
    view = opened(scene, "ortho1.tif").views[0]
    np.testing.assert_array_equal(view.read(WINDOW), scene.images[0][WINDOW.slices])


def test_files_that_break_off_are_found_without_reading_them(scene: MadeScene) -> None:
    for name in ("initial.tif", "reference.tif", "ortho1.tif"):
        path = scene.folder / name
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputProblems) as raised:
        opened(scene, "ortho1.tif")
    assert [problem.where for problem in raised.value.problems] == ["dsm", "reference", "images"]


def test_rasters_are_held_in_memory_as_far_as_the_budget_reaches(scene: MadeScene) -> None:
    found = opened(scene, "ortho1.tif", "ortho2.tif", building="mask_building.tif")
    floats, integers = 64 * 160 * 4, 64 * 160 * 2
    (held,) = hold_in_memory([found], 2 * floats + integers)
    bands = (held.dsm, held.reference, held.views[0], held.views[1])
    assert [type(band) for band in bands] == [ArrayBand, ArrayBand, ArrayBand, FileBand]
    assert isinstance(held.masks["building"], FileBand)
    for before, after in zip((found.dsm, found.reference, *found.views.values()), bands, strict=True):
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before.read(WINDOW), after.read(WINDOW))


def test_without_a_budget_nothing_is_held_and_scenes_share_one(scene: MadeScene) -> None:
    found = opened(scene, reference=None)
    (held,) = hold_in_memory([found], 0)
    assert isinstance(held.dsm, FileBand)
    other = Scene.open(scene.path("reference.tif"))
    first, again, second = hold_in_memory([found, found, other], 64 * 160 * 4)
    assert again.dsm is first.dsm, "one file is held once"
    assert isinstance(first.dsm, ArrayBand)
    assert isinstance(second.dsm, FileBand)


def test_the_views_in_use_are_stated_once_and_sorted() -> None:
    assert used_views([(3, 1), (1, 0), (3, 0)]) == (0, 1, 3)
    assert used_views([]) == ()


def test_what_an_array_masks_is_void(scene: MadeScene) -> None:
    hidden = np.zeros(scene.initial.shape, bool)
    hidden[4, 8:12] = True
    buildings = read_raster(scene.folder / "mask_building.tif")
    heights, image, reference, building = (
        np.ma.array(np.where(hidden, number, values).astype(values.dtype), mask=hidden)
        for number, values in (
            (-9999, scene.initial),
            (0, scene.images[0]),
            (-9999, scene.reference),
            (1, buildings),
        )
    )
    made = Scene.of_arrays(heights, [image], reference=reference, masks={"building": building})
    assert made.reference is not None
    for band in (made.dsm, made.reference, made.views[0]):
        assert np.isnan(band.read(WINDOW)[0, :4]).all()
    np.testing.assert_array_equal(made.dsm.read(WINDOW)[1:], scene.initial[WINDOW.slices][1:])
    is_set, is_known = made.read_mask("building", WINDOW)
    assert not is_set[0, :4].any()
    np.testing.assert_array_equal(is_known, ~hidden[WINDOW.slices])


def test_an_array_that_could_mask_but_does_not_is_one_without_voids(scene: MadeScene) -> None:
    made = Scene.of_arrays(np.ma.array(scene.initial))
    np.testing.assert_array_equal(made.dsm.read(WINDOW), scene.initial[WINDOW.slices])


def test_masked_voids_are_filled_and_left_out_as_nan_is(scene: MadeScene) -> None:
    hidden = np.zeros(scene.initial.shape, bool)
    hidden[20:24, 40:48] = True
    masked = np.ma.array(np.where(hidden, np.float32(-9999), scene.initial), mask=hidden)
    with_nan = masked.filled(np.nan)
    model = make_model("geom", 0)
    np.testing.assert_array_equal(refine(masked, [], model), refine(with_nan, [], model))
    assert evaluate(masked, scene.reference) == evaluate(with_nan, scene.reference)
    known = np.ma.array(scene.reference, mask=hidden)
    assert evaluate(scene.initial, known) == evaluate(scene.initial, known.filled(np.nan))


# --- alpha, scale and offset


def write_with_alpha(path: Path, values: np.ndarray, alpha: np.ndarray, bands: int = 1) -> Path:
    """A GeoTIFF as `gdalwarp -dstalpha` writes it: the last band tells where there is anything."""
    write_raster(path, np.stack([values] * bands + [alpha.astype(values.dtype)]))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = (ColorInterp.gray,) * bands + (ColorInterp.alpha,)
    return path


def test_transparent_pixels_are_void_and_an_alpha_band_is_not_stated_of(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    opaque = np.full(scene.initial.shape, 255)
    opaque[4, 8:12] = 0
    for name, values in (("initial", scene.initial), ("ortho1", scene.images[0])):
        write_with_alpha(scene.folder / f"{name}.tif", values, opaque)
    found = opened(scene, "ortho1.tif")
    assert not caplog.records
    (held,) = hold_in_memory([found], 1e9)
    for band in (found.dsm, found.views[0], held.dsm, held.views[0]):
        np.testing.assert_array_equal(np.isnan(band.read(WINDOW)), opaque[WINDOW.slices] == 0)


def test_bands_besides_the_first_and_alpha_are_stated_of(
    scene: MadeScene, caplog: pytest.LogCaptureFixture
) -> None:
    write_with_alpha(scene.folder / "ortho1.tif", scene.images[0], np.full(scene.initial.shape, 255), bands=3)
    opened(scene, "ortho1.tif")
    assert "has 3 bands and an alpha band; only the first is used, where alpha is not 0" in caplog.text


def test_the_scale_of_a_band_counts_for_heights_and_not_for_images_and_masks(scene: MadeScene) -> None:
    buildings = read_raster(scene.folder / "mask_building.tif")
    centimetres = np.rint(scene.initial * 100).astype(np.int32)
    for name, values in (
        ("initial", centimetres),
        ("reference", centimetres),
        ("ortho1", scene.images[0]),
        ("mask_building", buildings),
    ):
        with rasterio.open(write_raster(scene.folder / f"{name}.tif", values), "r+") as file:
            file.scales, file.offsets = (0.01,), (5.0,)
    found = opened(scene, "ortho1.tif", building="mask_building.tif")
    assert found.reference is not None
    for band in (found.dsm, found.reference):
        np.testing.assert_allclose(band.read(WINDOW), scene.initial[WINDOW.slices] + 5, atol=0.006)
    np.testing.assert_array_equal(found.views[0].read(WINDOW), scene.images[0][WINDOW.slices])
    is_set, is_known = found.read_mask("building", WINDOW)
    np.testing.assert_array_equal(is_set, buildings[WINDOW.slices] == 1)
    assert is_known.all()


def test_one_file_held_as_heights_and_as_an_image_is_both(scene: MadeScene) -> None:
    with rasterio.open(scene.folder / "initial.tif", "r+") as file:
        file.scales = (2.0,)
    (held,) = hold_in_memory([opened(scene, "initial.tif")], 1e9)
    np.testing.assert_array_equal(held.dsm.read(WINDOW), 2 * scene.initial[WINDOW.slices])
    np.testing.assert_array_equal(held.views[0].read(WINDOW), scene.initial[WINDOW.slices])
