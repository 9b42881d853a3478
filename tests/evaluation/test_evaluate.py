"""Evaluating surfaces: laws that figures obey, rules for grids and voids, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ORIGIN, write_raster
from resdepth.errors import ResDepthError
from resdepth.evaluation import evaluate
from resdepth.evaluation.classes import dilation_px, edge_px, object_classes
from resdepth.evaluation.evaluate import Case, block_side, evaluate_case
from resdepth.evaluation.inputs import Candidate, OnGrid
from resdepth.evaluation.metrics import BlockErrors, Portion, Tally, bins_of, intervals, statistics
from resdepth.evaluation.request import Request
from resdepth.evaluation.result import EvaluationResult, read_result
from resdepth.geo.grid import Grid, Sides
from resdepth.geo.raster import ArrayBand, FileBand, read_header
from resdepth.geo.windows import Window, blocks
from resdepth.workflows.evaluate import evaluate_files, evaluate_into

GSD = 0.5


def town(shape: tuple[int, int] = (150, 170), seed: int = 0) -> np.ndarray:
    """A slope with houses on it."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    height = 400 + 0.05 * cols + 2 * np.sin(rows / 30)
    generator = np.random.default_rng(seed)
    for row, col in zip(
        generator.integers(0, shape[0], 12), generator.integers(0, shape[1], 12), strict=True
    ):
        height[row : row + 22, col : col + 17] += 8
    return height.astype(np.float32)


def houses(shape: tuple[int, int] = (150, 170), seed: int = 0) -> np.ndarray:
    return (town(shape, seed) - flat(shape) > 4).astype(np.float32)


def flat(shape: tuple[int, int]) -> np.ndarray:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return (400 + 0.05 * cols + 2 * np.sin(rows / 30)).astype(np.float32)


def noisy(reference: np.ndarray, spread: float = 1.0, seed: int = 1) -> np.ndarray:
    return reference + np.random.default_rng(seed).normal(0, spread, reference.shape).astype(np.float32)


def evaluated(reference: np.ndarray, surfaces: dict[str, np.ndarray], **options) -> EvaluationResult:
    grid = Grid(*reference.shape, (GSD, 0.0, 0.0, 0.0, -GSD, 0.0))

    def band(values: np.ndarray) -> ArrayBand:
        return ArrayBand(values, grid)

    masks = {name: band(values) for name, values in options.pop("masks", {}).items()}
    ground = options.pop("ground", None)
    case = Case(
        reference=band(reference),
        surfaces=[Candidate(name, band(values)) for name, values in surfaces.items()],
        regions=options.pop("regions", (grid.whole,)),
        masks=masks,
        ground=None if ground is None else band(ground),
        **options,
    )
    return evaluate_case(case, workers=0)


def overall(found: EvaluationResult, name: str = "dsm"):
    return found.surfaces[name].classes["overall"]


# --- laws


def test_the_reference_has_no_errors_at_all() -> None:
    reference = town()
    reference[20:30, 40:60] = np.nan
    found = evaluated(
        reference, {"dsm": reference.copy()}, masks={"building": houses()}, ground=flat(reference.shape)
    )
    for name, one in found.surfaces["dsm"].classes.items():
        if not one.statistics.count:
            continue
        figures = vars(one.statistics)
        assert all(figures[key] == 0 for key in figures if not key.startswith(("count", "within"))), name
        assert figures["within_05"] == 1
        assert one.coverage == 1
        assert (one.shape.gradient, one.shape.normal_deg) == (0, 0) or math.isnan(one.shape.gradient)
        assert one.shape.roughness_m == one.shape.reference_roughness_m or math.isnan(one.shape.roughness_m)
        assert set(one.intervals.values()) <= {(0.0, 0.0)}
    outlines = found.surfaces["dsm"].outlines
    assert outlines is not None
    assert outlines.profiles > 50
    assert outlines.found == 1
    assert (outlines.statistics.minimum, outlines.statistics.maximum) == (0, 0)


def test_a_shift_of_a_metre_is_bias_and_no_spread() -> None:
    reference = np.round(town((200, 260)) * 64) / 64
    found = overall(evaluated(reference, {"dsm": reference + 1}))
    assert (found.statistics.bias, found.statistics.median, found.statistics.nmad) == (1, 1, 0)
    assert (found.shape.gradient, found.shape.normal_deg) == (0, 0)
    assert found.intervals["bias"] == (1, 1)


@pytest.mark.parametrize("exact", [2**20, 1000])
def test_without_the_median_difference_a_biased_surface_has_the_error_of_its_shape(exact: int) -> None:
    errors = np.random.default_rng(0).laplace(0, 1, 200_000).astype(np.float32)
    shape, tally = statistics(errors - np.median(errors)), Tally(exact)
    tally.add(errors + np.float32(2.6))
    found = tally.statistics()
    assert found.mae > 2.6
    assert found.mae_centred == pytest.approx(shape.mae, abs=1e-4)
    assert found.rmse_centred == pytest.approx(shape.rmse, abs=1e-4)
    assert found.absolute_median_centred == pytest.approx(found.nmad / 1.4826, abs=1e-4)


def test_a_class_is_centred_by_the_median_of_the_whole_surface_so_that_roofs_too_high_stay_seen() -> None:
    reference = town()
    roofs = houses()
    found = evaluated(reference, {"dsm": reference + 2.5 + roofs}, masks={"building": roofs})
    building = found.surfaces["dsm"].classes["building"].statistics
    assert overall(found).statistics.median == pytest.approx(2.5, abs=1e-3)
    assert building.mae == pytest.approx(3.4, abs=0.2)
    assert building.mae_centred == pytest.approx(0.9, abs=0.2)


@settings(max_examples=15)
@given(st.integers(40, 150), st.integers(40, 170), st.integers(0, 99))
def test_blocks_do_not_change_the_figures(height: int, width: int, seed: int) -> None:
    reference, masks = town((height, width), seed), {"building": houses((height, width), seed)}
    surface = noisy(reference, seed=seed)
    surface[np.random.default_rng(seed).random(reference.shape) < 0.05] = np.nan
    in_blocks = evaluated(reference, {"dsm": surface}, masks=masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "SMALLEST_BLOCK_PX", 1000)
        at_once = evaluated(reference, {"dsm": surface}, masks=masks)
    assert at_once.blocks == 1
    for name, one in at_once.surfaces["dsm"].classes.items():
        other = in_blocks.surfaces["dsm"].classes[name]
        for key, value in vars(one.statistics).items():
            assert getattr(other.statistics, key) == pytest.approx(value, rel=1e-9, nan_ok=True), (name, key)
        assert other.reference_pixels == one.reference_pixels
        assert vars(other.shape) == pytest.approx(vars(one.shape), rel=1e-4, nan_ok=True)
    edges, edges_at_once = (one.surfaces["dsm"].outlines for one in (in_blocks, at_once))
    assert edges is not None
    assert edges_at_once is not None
    assert edges.profiles == edges_at_once.profiles
    assert vars(edges.statistics) == pytest.approx(vars(edges_at_once.statistics), rel=1e-6, nan_ok=True)


def test_the_figures_are_those_of_numpy() -> None:
    reference = town()
    reference[:5] = np.nan
    surface = noisy(reference)
    surface[10:20, 30:50] = np.nan
    found = overall(evaluated(reference, {"dsm": surface}))
    errors = (surface - reference).astype(np.float64)
    errors = errors[np.isfinite(errors)]
    assert found.statistics.count == errors.size
    assert found.reference_pixels == np.isfinite(reference).sum()
    assert found.coverage == pytest.approx(errors.size / np.isfinite(reference).sum())
    assert found.statistics.mae == pytest.approx(np.abs(errors).mean(), rel=1e-6)
    assert found.statistics.le90 == pytest.approx(np.quantile(np.abs(errors), 0.9), rel=1e-6)


def test_better_and_worse_are_stated_against_the_initial_surface() -> None:
    reference = np.zeros((64, 64), np.float32)
    initial, refined = np.full_like(reference, 1), np.full_like(reference, 1)
    refined[:16] = 0.5  # better
    refined[16:24] = -1.2  # worse
    refined[24:32] = 1.05  # hardly
    refined[32:40] = np.nan
    found = evaluated(reference, {"initial": initial, "dsm": refined}, initial="initial")
    assert overall(found).better == pytest.approx(16 / 56)
    assert overall(found).worse == pytest.approx(8 / 56)
    assert (overall(found, "initial").better, overall(found, "initial").worse) == (0, 0)
    assert overall(evaluated(reference, {"dsm": refined})).better is None


def test_each_pixel_is_in_the_classes_that_it_belongs_to() -> None:
    reference, ground = flat((96, 96)), flat((96, 96))
    reference[20:60, 20:60] += 8
    masks = {"building": (reference - ground > 4).astype(np.float32), "quarry": np.zeros_like(reference)}
    masks["quarry"][:, 80:] = 1
    classes = evaluated(reference, {"dsm": reference}, masks=masks, ground=ground).surfaces["dsm"].classes
    count = {name: one.statistics.count for name, one in classes.items()}
    assert count["quarry"] == 96 * 16
    assert count["above_ground_1"] == 96 * 96 - 1600  # below 0.5 m
    assert count["above_ground_4"] == 1600  # 6 to 12 m
    assert count["edge"] == 48**2 - 32**2  # four pixels on both sides
    assert count["building"] + count["terrain"] == 96 * 96
    slopes = [count[f"slope_{number}"] for number in range(1, 6)]
    assert sum(slopes) == 94 * 94  # but for the rim, whose slope is not known
    assert slopes[4] > 0, "walls"


def test_only_the_regions_count() -> None:
    reference = town()
    surface = reference + 1
    surface[:, :50] = reference[:, :50] - 3
    found = overall(
        evaluated(reference, {"dsm": surface}, regions=(Window(0, 50, 40, 60), Window(100, 60, 30, 100)))
    )
    assert found.statistics.count == 40 * 60 + 30 * 100
    assert found.statistics.minimum == pytest.approx(1, abs=1e-4)


def test_errors_above_the_threshold_are_left_out() -> None:
    reference = town()
    surface = reference.copy()
    surface[:10] += 30
    found = overall(evaluated(reference, {"dsm": surface}, threshold=20.0))
    assert found.statistics.count == 140 * 170
    assert found.coverage == 1


def test_all_surfaces_together_have_the_figures_of_their_errors_one_behind_the_other() -> None:
    reference = town()
    one, other = noisy(reference, 1), noisy(reference, 3, seed=5)
    found = evaluated(
        reference, {"initial": reference, "a": one, "b": other}, initial="initial", together="both"
    )
    errors = np.concatenate([one - reference, other - reference])
    assert overall(found, "both").statistics.nmad == pytest.approx(statistics(errors).nmad, rel=1e-9)
    assert overall(found, "both").statistics.count == errors.size


# --- intervals


def blocks_of(errors: np.ndarray) -> list[BlockErrors]:
    return [BlockErrors.of(Portion.of(block, bins_of(block))) for block in errors]


def test_intervals_hold_the_true_value_as_often_as_they_say() -> None:
    generator = np.random.default_rng(3)
    held = {"bias": 0, "rmse": 0, "nmad": 0}
    true = {"bias": 0.3, "rmse": math.hypot(0.3, 1), "nmad": 1.0}
    trials = 120
    for _ in range(trials):
        errors = generator.normal(0.3, 1, (60, 50)).astype(np.float32)
        found = intervals(blocks_of(errors), statistics(errors))
        for name, value in true.items():
            held[name] += found[name][0] <= value <= found[name][1]
    assert all(0.87 <= count / trials <= 0.995 for count in held.values()), held


def test_errors_that_are_alike_within_blocks_have_wider_intervals() -> None:
    generator = np.random.default_rng(4)
    alone = generator.normal(0, 1, (100, 400)).astype(np.float32)
    alike = (alone[:, :1] + 0 * alone).astype(np.float32)
    narrow = intervals(blocks_of(alone), statistics(alone))["bias"]
    wide = intervals(blocks_of(alike), statistics(alike))["bias"]
    assert wide[1] - wide[0] > 10 * (narrow[1] - narrow[0])


def test_a_few_blocks_have_no_intervals() -> None:
    errors = np.zeros((9, 5), np.float32)
    assert intervals(blocks_of(errors), statistics(errors)) == {}


def test_blocks_are_neither_tiny_nor_many() -> None:
    assert block_side(100) == 64
    assert block_side(2_000_000) == 71
    assert block_side(400_000_000) == 1024


# --- files on any grid


def request(folder: Path, surface: Path, reference: Path, **options) -> Request:
    return Request({"dsm": surface}, reference, **options)


def files(folder: Path, reference: np.ndarray, surface: np.ndarray, **options) -> tuple[Path, Path]:
    return (
        write_raster(folder / "reference.tif", reference, nodata=-9999),
        write_raster(folder / "dsm.tif", surface, nodata=-9999, **options),
    )


def test_a_part_on_the_same_pixels_is_taken_as_it_is(tmp_path: Path) -> None:
    reference = town()
    origin = (ORIGIN[0] + 20 * GSD, ORIGIN[1] - 10 * GSD)
    true, part = files(tmp_path, reference, reference[10:100, 20:160] + np.float32(0.25), origin=origin)
    found = evaluate_files(request(tmp_path, part, true))[1]
    assert found.surfaces["dsm"].resampling == "none"
    assert overall(found).statistics.count == 90 * 140
    assert overall(found).coverage == pytest.approx(90 * 140 / reference.size)
    assert overall(found).statistics.maximum == pytest.approx(0.25, abs=1e-4)


def test_a_finer_surface_is_averaged(tmp_path: Path) -> None:
    reference = town((64, 64))
    fine = np.kron(reference, np.ones((2, 2), np.float32))
    fine[::2, ::2] += 0.4
    fine[1::2, 1::2] -= 0.4
    true, dsm = files(tmp_path, reference, fine, gsd=GSD / 2)
    found = evaluate_files(request(tmp_path, dsm, true))[1]
    assert found.surfaces["dsm"].resampling == "average"
    assert overall(found).statistics.rmse < 1e-3


def test_a_coarser_surface_is_interpolated(tmp_path: Path) -> None:
    cols = np.arange(128, dtype=np.float32)
    reference = np.tile(100 + 0.1 * cols, (128, 1)).astype(np.float32)
    coarse = reference.reshape(64, 2, 64, 2).mean(axis=(1, 3)).astype(np.float32)
    true, dsm = files(tmp_path, reference, coarse, gsd=GSD * 2)
    found = evaluate_files(
        request(tmp_path, dsm, true, region=(ORIGIN[0] + 2, ORIGIN[1] - 60, ORIGIN[0] + 60, ORIGIN[1] - 2))
    )[1]
    assert found.surfaces["dsm"].resampling == "bilinear"
    assert overall(found).statistics.rmse < 1e-3


@pytest.mark.parametrize("gsd", [0.45, 0.5, 0.8])
def test_resampled_heights_do_not_depend_on_the_window(tmp_path: Path, gsd: float) -> None:
    path = write_raster(
        tmp_path / "dsm.tif", town((200, 200)), gsd=gsd, origin=(ORIGIN[0] - 0.13, ORIGIN[1] + 0.2)
    )
    grid = Grid(150, 150, (GSD, 0.0, ORIGIN[0], 0.0, -GSD, ORIGIN[1]), rasterio.CRS.from_epsg(32632).to_wkt())
    band = OnGrid([path], grid)
    assert band.resampling == "bilinear"
    whole = band.read(grid.whole)
    for window in blocks(grid.whole, 37):
        np.testing.assert_allclose(band.read(window), whole[window.slices], rtol=2e-7)  # the last bit


@pytest.mark.parametrize("gsd", [0.25, 0.8])
def test_nan_beside_a_nodata_number_takes_no_neighbour_along(tmp_path: Path, gsd: float) -> None:
    heights = np.full((200, 200), 7, np.float32)
    heights[::4, ::4] = np.nan
    heights[1::4, ::4] = -9999
    path = write_raster(tmp_path / "dsm.tif", heights, nodata=-9999, gsd=gsd)
    grid = Grid(
        80, 80, (GSD, 0.0, ORIGIN[0] + 2, 0.0, -GSD, ORIGIN[1] - 2), rasterio.CRS.from_epsg(32632).to_wkt()
    )
    found = OnGrid([path], grid).read(grid.whole)
    assert np.nanmin(found) == np.nanmax(found) == 7
    assert np.isfinite(found).mean() > 0.8


def test_a_mask_of_small_houses_is_no_foreign_one_and_keeps_them_in_overviews(tmp_path: Path) -> None:
    houses_of_two = np.zeros((3000, 40), np.uint8)
    houses_of_two[::20, ::20] = houses_of_two[1::20, ::20] = 1
    true, dsm = files(tmp_path, np.zeros((3000, 40), np.float32), np.zeros((3000, 40), np.float32))
    mask = write_raster(tmp_path / "mask.tif", houses_of_two)
    assert evaluate_files(request(tmp_path, dsm, true, masks={"building": mask}))[1]
    band = OnGrid([mask], read_header(true).grid, is_mask=True)
    assert set(np.unique(band.on(band.grid.coarser(1000)))) <= {0, 1}


def test_a_mask_that_is_set_everywhere_has_no_edges() -> None:
    reference = flat((96, 96))
    classes = (
        evaluated(reference, {"dsm": reference}, masks={"building": np.ones_like(reference)})
        .surfaces["dsm"]
        .classes
    )
    assert classes["edge"].statistics.count == 0


def test_nan_and_nodata_are_both_void(tmp_path: Path) -> None:
    reference, surface = town((64, 64)), town((64, 64))
    reference[:4] = np.nan
    reference[4:8] = -9999
    surface[8:12] = np.nan
    surface[12:16] = -9999
    true, dsm = files(tmp_path, reference, surface)
    found = overall(evaluate_files(request(tmp_path, dsm, true))[1])
    assert (found.statistics.count, found.reference_pixels) == (48 * 64, 56 * 64)


def test_the_shift_is_stated_and_on_request_undone(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:200, :200]
    reference = (100 + 5 * np.sin(rows / 9) + 4 * np.cos(cols / 11)).astype(np.float32)
    origin = (ORIGIN[0] - 0.8, ORIGIN[1] + 0.3)
    true, dsm = files(tmp_path, reference, reference + np.float32(0.5), origin=origin)
    before = evaluate_files(request(tmp_path, dsm, true))[1].surfaces["dsm"]
    assert (before.shift.dx_m, before.shift.dy_m, before.shift.dz_m) == pytest.approx(
        (0.8, -0.3, -0.5), abs=0.03
    )
    assert not before.shift.applied
    after = evaluate_files(request(tmp_path, dsm, true, align=True))[1].surfaces["dsm"]
    assert after.shift.applied
    assert after.classes["overall"].statistics.rmse < 0.05 < before.classes["overall"].statistics.rmse


def test_stripes_rectangles_and_polygons_are_regions(tmp_path: Path) -> None:
    reference = town((100, 200))
    true, dsm = files(tmp_path, reference, reference)

    def pixels(region) -> int:
        return overall(evaluate_files(request(tmp_path, dsm, true, region=region))[1]).statistics.count

    assert pixels("vertical:1") == 100 * 40
    assert pixels("horizontal:4") == 20 * 200
    east, north = ORIGIN
    assert pixels(f"{east},{north - 10},{east + 25},{north}") == 20 * 50
    triangle = [[east, north], [east + 50, north], [east, north - 50], [east, north]]
    geojson = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}},
        "features": [
            {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [triangle]}}
        ],
    }
    (tmp_path / "area.geojson").write_text(json.dumps(geojson))
    assert pixels(str(tmp_path / "area.geojson")) == pytest.approx(100 * 100 / 2, rel=0.02)


@pytest.mark.parametrize(
    "region", ["vertical:5", "sideways:1", "1,2,3", "vertical:", "0,0,1,1", "nothing.gpkg"]
)
def test_regions_that_are_none_are_refused(tmp_path: Path, region: str) -> None:
    true, dsm = files(tmp_path, town((64, 64)), town((64, 64)))
    with pytest.raises(ResDepthError, match=r"region|no such file|nothing\.gpkg"):
        evaluate_files(request(tmp_path, dsm, true, region=region))


def test_another_crs_is_refused(tmp_path: Path) -> None:
    true, dsm = files(tmp_path, town((64, 64)), town((64, 64)), crs="EPSG:32633")
    with pytest.raises(ResDepthError, match=r"EPSG:32633.*reproject"):
        evaluate_files(request(tmp_path, dsm, true))


def test_masks_that_mark_by_another_number_are_refused(tmp_path: Path) -> None:
    true, dsm = files(tmp_path, town((64, 64)), town((64, 64)))
    mask = write_raster(tmp_path / "mask.tif", np.full((64, 64), 255, np.uint8))
    with pytest.raises(ResDepthError, match=r"mask\.tif.*255"):
        evaluate_files(request(tmp_path, dsm, true, masks={"building": mask}))


def test_a_stored_result_is_the_same_when_read(tmp_path: Path) -> None:
    found = evaluated(
        town(), {"initial": noisy(town()), "dsm": town()}, initial="initial", masks={"building": houses()}
    )
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(found.as_json()))
    assert read_result(path).as_json() == found.as_json()


def test_a_result_stored_before_there_were_centred_figures_is_read(tmp_path: Path) -> None:
    content = evaluated(town(), {"dsm": noisy(town())}).as_json()
    for name in ("mae_centred", "rmse_centred", "absolute_median_centred"):
        del content["surfaces"]["dsm"]["classes"]["overall"]["statistics"][name]
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(content))
    assert math.isnan(overall(read_result(path)).statistics.mae_centred)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "resdepth-evaluation 1"}', '{"format": "resdepth-evaluation 9"}']
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(ResDepthError, match=r"evaluation\.json"):
        read_result(path)


# --- what pixels and heights are in metres


def test_pixels_that_are_not_square_have_gradients_of_both_sides(tmp_path: Path) -> None:
    """The surface is the reference DSM, a roof of 45 degrees, tilted by 0.1 to the east."""
    for down, across in ((0.25, 0.5), (2.0, 0.5), (0.5, 2.0)):
        place = rasterio.Affine(across, 0, *ORIGIN[:1], 0, -down, ORIGIN[1])
        x, y = np.meshgrid((np.arange(90) + 0.5) * across, (np.arange(80) + 0.5) * down)
        roof = (300 + y + 0 * x).astype(np.float32)
        tilted = (roof + 0.1 * x).astype(np.float32)
        for name, values in (("reference", roof), ("dsm", tilted)):
            with rasterio.open(write_raster(tmp_path / f"{name}.tif", values), "r+") as file:
                file.transform = place
        found = evaluate_files(Request({"dsm": tmp_path / "dsm.tif"}, tmp_path / "reference.tif"))[1]
        assert overall(found).shape.gradient == pytest.approx(0.1, abs=1e-3)
        # 45 degrees are in the class from 30 to 60; 26.6 and 63.4 are not.
        assert found.surfaces["dsm"].classes["slope_4"].reference_pixels > 6500
        assert found.pixel_area_m2 == pytest.approx(down * across)


def test_buildings_grow_as_far_in_both_directions_on_pixels_that_are_not_square() -> None:
    assert dilation_px(Sides(0.5, 0.5)) == (2, 2)
    assert dilation_px(Sides(2.0, 0.5)) == (1, 4)
    assert edge_px(Sides(2.0, 0.5)) == (1, 4)
    speck = np.zeros((9, 15), bool)
    speck[4, 7] = True
    grown = object_classes(speck.shape, {"building": (speck, ~speck | speck)}, (1, 4))["building"]
    assert (grown[4].sum(), grown[3].sum(), grown[5].sum(), grown.sum()) == (9, 1, 1, 11)


@pytest.mark.parametrize(
    ("crs", "origin", "gsd"),
    [("EPSG:3857", (1e6, 6e6), 1.0), ("EPSG:4326", (8.98, 47.3), 1e-5), ("EPSG:2263", (1e6, 2e5), 3.0)],
)
def test_maps_without_true_metres_are_measured_on_the_ground(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, crs: str, origin: tuple[float, float], gsd: float
) -> None:
    """A surface that is tilted by 0.1 on the ground, and lies 3 pixels beside the reference to the east."""
    rows, cols = np.mgrid[:200, :210]
    reference = (100 + 5 * np.sin(rows / 9) + 4 * np.cos(cols / 11)).astype(np.float32)
    true = write_raster(tmp_path / "reference.tif", reference[:, :200], crs=crs, gsd=gsd, origin=origin)
    sides = read_header(true).grid.sides_m
    tilted = reference[:, :200] + (0.1 * sides.width * cols[:, :200]).astype(np.float32)
    dsm = write_raster(tmp_path / "dsm.tif", tilted, crs=crs, gsd=gsd, origin=origin)
    found = evaluate_files(Request({"dsm": dsm}, true))[1]
    assert overall(found).shape.gradient == pytest.approx(0.1, rel=0.01)
    assert found.pixel_area_m2 == pytest.approx(sides.height * sides.width, rel=1e-3)
    assert ("on the ground" in caplog.text) == (crs != "EPSG:2263")
    beside = write_raster(tmp_path / "beside.tif", reference[:, 3:203], crs=crs, gsd=gsd, origin=origin)
    aligned = evaluate_files(Request({"dsm": beside}, true, align=True))[1].surfaces["dsm"]
    assert (aligned.shift.dx_m, aligned.shift.dy_m) == pytest.approx((3 * sides.width, 0), abs=0.03)
    assert aligned.classes["overall"].statistics.rmse < 0.05


def test_surfaces_in_different_units_are_compared_in_metres(tmp_path: Path) -> None:
    reference = town()
    foot = 1200 / 3937
    true = write_raster(tmp_path / "reference.tif", reference / np.float32(foot), crs="EPSG:32632+6360")
    dsm = write_raster(tmp_path / "dsm.tif", reference + 1)
    errors = tmp_path / "errors.tif"
    found = evaluate_files(Request({"dsm": dsm}, true), {"dsm": errors})[1]
    assert overall(found).statistics.mae == pytest.approx(1, abs=1e-3)
    assert "heights converted from US survey foot to metres" in found.facts["Reference"]
    with rasterio.open(errors) as file:
        assert file.units[0] == "metre"
        assert "foot" not in file.crs.to_wkt()
        np.testing.assert_allclose(file.read(1), 1, atol=1e-3)


def test_a_datum_that_differs_is_warned_of_by_both_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    true = write_raster(tmp_path / "reference.tif", town(), crs="EPSG:32632+5773")
    dsm = write_raster(tmp_path / "dsm.tif", town(), crs="EPSG:32632+3855")
    evaluate_files(Request({"dsm": dsm}, true))
    assert "EGM2008 height (EGM2008 geoid) instead of EGM96 height (EGM96 geoid)" in caplog.text


@pytest.mark.parametrize("beside", [0.0, 0.2])
def test_where_files_overlap_the_last_one_with_a_height_counts_on_every_path(
    tmp_path: Path, beside: float
) -> None:
    first = np.full((40, 40), 1, np.float32)
    last = np.full((40, 40), 2, np.float32)
    last[:, 30:] = np.nan
    place = (ORIGIN[0] + beside, ORIGIN[1])
    parts = [
        write_raster(tmp_path / f"{name}.tif", values, origin=place)
        for name, values in (("first", first), ("last", last))
    ]
    grid = read_header(write_raster(tmp_path / "reference.tif", first)).grid
    band = OnGrid(parts, grid)
    assert (band.resampling == "none") == (beside == 0)
    inner = Window(5, 5, 20, 20)
    np.testing.assert_array_equal(band.read(inner), 2)
    np.testing.assert_array_equal(band.on(grid.crop(inner)), 2)
    np.testing.assert_array_equal(band.read(Window(5, 32, 20, 6)), 1)


@pytest.mark.parametrize("nodata", [0, None])
def test_a_nodata_value_of_0_in_a_mask_means_not_inside(tmp_path: Path, nodata: float | None) -> None:
    reference = town((96, 96))
    true, dsm = files(tmp_path, reference, reference)
    mask = write_raster(tmp_path / "mask.tif", (reference > 405).astype(np.uint8), nodata=nodata)
    shifted = write_raster(
        tmp_path / "shifted.tif", (reference > 405).astype(np.uint8), nodata=nodata, gsd=GSD * 1.01
    )
    for building in (mask, shifted):
        found = evaluate_files(request(tmp_path, dsm, true, masks={"building": building}))[1]
        classes = found.surfaces["dsm"].classes
        assert classes["terrain"].statistics.count > 0
        assert classes["terrain"].statistics.count + classes["building"].statistics.count > 95 * 95


@pytest.mark.parametrize("gsd", [GSD, GSD * 0.6])
def test_aligned_surfaces_are_written_on_the_grid_of_the_reference(tmp_path: Path, gsd: float) -> None:
    rows, cols = np.mgrid[:200, :200]
    reference = (100 + 5 * np.sin(rows / 9) + 4 * np.cos(cols / 11)).astype(np.float32)
    y, x = np.mgrid[: round(200 * GSD / gsd), : round(200 * GSD / gsd)] * (gsd / GSD)
    surface = (100.5 + 5 * np.sin((y - 0.6) / 9) + 4 * np.cos((x + 1.6) / 11)).astype(np.float32)
    surface[60:70, 80:95] = -9999
    true, dsm = files(tmp_path, reference, surface, gsd=gsd)
    asked = request(tmp_path, dsm, true, align=True)
    done = evaluate_into(tmp_path / "out", asked, error_rasters=False, aligned_rasters=True)
    assert done.outcome.surfaces["dsm"].shift.applied
    band = FileBand(tmp_path / "out" / "aligned_dsm.tif")
    assert band.grid.differences(read_header(true).grid) == []
    written = band.read(band.grid.whole)
    difference = written - reference
    assert 30 < np.isnan(difference[5:-5, 5:-5]).sum() < 200 + 2 * 35
    assert np.nanmax(np.abs(difference[5:-5, 5:-5])) < 0.4
    assert np.nanmean(np.abs(difference)) < 0.05
    with pytest.raises(ResDepthError, match="aligned_rasters: only aligned surfaces are moved"):
        evaluate_into(tmp_path / "other", request(tmp_path, dsm, true), aligned_rasters=True)


def test_a_search_that_does_not_converge_is_not_called_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resdepth.evaluation.coregistration.MAX_ROUNDS", 1)
    rows, cols = np.mgrid[:200, :200]
    reference = (100 + 5 * np.sin(rows / 9) + 4 * np.cos(cols / 11)).astype(np.float32)
    true, dsm = files(tmp_path, reference, reference, origin=(ORIGIN[0] - 2.1, ORIGIN[1]))
    asked = request(tmp_path, dsm, true, align=True)
    found = evaluate_into(tmp_path / "out", asked, error_rasters=False, aligned_rasters=True).outcome
    shift = found.surfaces["dsm"].shift
    assert not shift.applied
    assert np.isnan([shift.dx_m, shift.dy_m, shift.dz_m]).all()
    assert "does not converge" in caplog.text
    assert "dsm: is not aligned: no shift was found" in caplog.text
    assert found.facts["Alignment"] == "as they are: no shift was found"
    assert "(applied" not in (tmp_path / "out" / "evaluation.md").read_text()
    assert not (tmp_path / "out" / "aligned_dsm.tif").exists()
