"""Simulated scenes: the laws of geometry that they obey, and the data sets that come out."""

import filecmp
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import RPCTransformer
from rasterio.warp import transform as to_other_crs

from conftest import read_raster, write_raster
from resdepth.errors import InputProblems, Interrupted, ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.rpc import Direction
from resdepth.geo.windows import Window
from resdepth.simulate import simulation as module
from resdepth.simulate.plan import (
    DateSettings,
    Day,
    MatchingSettings,
    SensorSettings,
    Shot,
    SimulateConfig,
    Sun,
    SurfaceSettings,
    TownSettings,
    ViewSettings,
    aim,
)
from resdepth.simulate.render import Sensor, expose
from resdepth.simulate.simulation import simulate
from resdepth.simulate.surface import CELL_PX, HEADROOM_M, HeldSurface, Look, Surface, SurfaceClass, relief_of
from resdepth.stereo.matching import MatcherSettings, filled, fused, matched, rasterized, rectified
from resdepth.stereo.ortho import to_geographic
from resdepth.workflows.check import check

GSD = 0.5
GRID = Grid(160, 160, (GSD, 0.0, 500_000.0, 0.0, -GSD, 5_200_000.0), "EPSG:32632", "EPSG:32632")
QUIET = Sensor(GSD, blur_px=0.3, electrons=1e9, read_noise=0.0)
NOON = Day(0, Sun(180.0, 60.0), cars=0.0)


def reference_of(height: np.ndarray, kind: SurfaceClass = SurfaceClass.PAVING) -> HeldSurface:
    shape = height.shape
    surface = Surface(
        height.astype(np.float32),
        np.ones(shape, dtype=bool),
        np.full(shape, kind, dtype=np.uint8),
        np.zeros(shape, dtype=np.int32),
    )
    return HeldSurface(GRID, surface)


def textured(values: np.ndarray) -> Look:
    def texture(window: Window) -> np.ndarray:
        rows = np.clip(np.arange(window.row, window.row_stop), 0, GRID.height - 1)
        cols = np.clip(np.arange(window.col, window.col_stop), 0, GRID.width - 1)
        return values[np.ix_(rows, cols)].astype(np.float32)

    return Look(1, texture)


def photographed(
    reference: HeldSurface, look: Look, direction: Direction, *, day: Day = NOON, sensor: Sensor = QUIET
):
    heights = relief_of(reference).whole
    camera = aim(direction, grid=GRID, heights=heights, gsd_m=GSD)
    image = expose(reference, Shot("a", 0, day, camera), sensor, camera.whole, heights=heights, look=look)
    return camera, image.astype(np.float64)


def map_of(row: float, col: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = GRID.map_position(row + 0.5, col + 0.5)
    return np.array([x]), np.array([y])


@pytest.mark.parametrize(("azimuth", "incidence"), [(30.0, 25.0), (200.0, 12.0), (95.0, 35.0), (0.0, 0.0)])
def test_a_point_appears_where_its_rpc_says(azimuth: float, incidence: float) -> None:
    height = np.full((160, 160), 100.0)
    height[90:130, 90:130] = 118.0  # a terrace
    marks = [(40, 50), (110, 110), (30, 120), (120, 40)]
    rows, cols = np.indices(height.shape)
    bright = np.full(height.shape, 0.05)
    for row, col in marks:
        bright += 0.8 * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * 1.5**2))
    reference = reference_of(height)
    camera, image = photographed(reference, textured(bright), Direction(azimuth, incidence))
    for row, col in marks:
        lon, lat = to_geographic(GRID.crs, *map_of(row, col))
        at = np.ravel(camera.rpc.project(lon, lat, np.array([height[row, col]])))
        near = tuple(slice(int(v) - 7, int(v) + 9) for v in at)
        light = np.clip(image[near] - np.median(image[near]) - 5, 0, None)
        found = [(light * np.indices(light.shape)[axis]).sum() / light.sum() for axis in (0, 1)]
        np.testing.assert_allclose(np.add(found, [part.start for part in near]), at, atol=0.05)


def test_a_wall_hides_what_lies_behind_it() -> None:
    height = np.full((160, 160), 100.0)
    height[60:70, 40:120] = 130.0
    bright = np.full(height.shape, 0.1)
    # The satellite stands in the north: the strip south of the wall is hidden.
    bright[72:80, 50:110] = 0.9
    reference, look = reference_of(height), textured(bright)
    _, hidden = photographed(reference, look, Direction(0.0, 30.0))
    _, seen = photographed(reference, look, Direction(180.0, 30.0))
    assert (seen > 1000).sum() > 300
    assert not (hidden > 1000).any()


@pytest.mark.parametrize("azimuth", [0.0, 60.0, 135.0, 200.0, 310.0])
def test_shadows_point_away_from_the_sun_and_are_as_long_as_they_should(azimuth: float) -> None:
    height = np.full((160, 160), 100.0)
    height[78:82, 78:82] = 120.0
    bright = np.full(height.shape, 0.4)
    day = replace(NOON, sun=Sun(azimuth, 45.0))
    camera, image = photographed(reference_of(height), textured(bright), Direction(0.0, 0.0), day=day)
    x, y = (float(value[0]) for value in map_of(79.5, 79.5))
    away = -np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))])

    def grey(metres: float, direction: np.ndarray) -> float:
        at = np.array([x, y]) + metres * direction
        row, col = camera.view.project(at[:1], at[1:], np.array([100.0]))
        return float(image[round(float(row[0])), round(float(col[0]))])

    lit = grey(30.0, away)
    assert all(grey(metres, away) < 0.5 * lit for metres in (4, 9, 14, 18.5))
    assert all(grey(metres, direction) > 0.9 * lit for metres in (22.5, 25) for direction in (away, -away))
    assert all(grey(metres, -away) > 0.9 * lit for metres in (4, 9, 14))


class HeldImage:
    def __init__(self, rpc, pixels: np.ndarray) -> None:
        self.rpc, self._pixels = rpc, pixels.astype(np.float32)
        self.grid = Grid(*pixels.shape, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))

    def read(self, window: Window) -> np.ndarray:
        return self._pixels[window.slices]


@pytest.mark.parametrize("pointing", [0.0, 1.5])
def test_matching_finds_a_tilted_plane(pointing: float) -> None:
    rows, cols = np.indices((160, 160))
    height = 200 + 0.05 * rows + 0.08 * cols
    reference = reference_of(height)
    look = textured(np.random.default_rng(0).uniform(0.05, 0.6, height.shape))
    images = []
    for azimuth, error in ((20.0, 0.0), (195.0, pointing)):
        camera, pixels = photographed(reference, look, Direction(azimuth, 17.0))
        # The error lies across the epipolar lines: a scanner's rows run along the track.
        offset = (camera.rpc.offsets[0], camera.rpc.offsets[1] + error, *camera.rpc.offsets[2:])
        images.append(HeldImage(replace(camera.rpc, offsets=offset), pixels))
    limits = (height.min() - 15, height.max() + 15)
    points = matched(*images, GRID, limits, MatcherSettings(step_m=GSD))
    found = rasterized(points, GRID)
    inner = (slice(20, -20), slice(20, -20))
    assert np.isnan(found[inner]).mean() < 0.01
    errors = np.abs(found - height)[inner]
    assert np.nanmean(errors) < 0.2 * GSD + 0.1 * pointing
    if not pointing:
        assert np.nanpercentile(errors, 90) < 0.4 * GSD


def test_views_from_one_direction_measure_nothing() -> None:
    camera = aim(Direction(20.0, 17.0), grid=GRID, heights=(0.0, 10.0), gsd_m=GSD)
    with pytest.raises(ResDepthError, match="from almost one direction"):
        rectified(camera.rpc, camera.rpc, GRID, (0.0, 10.0), step_m=GSD)


def test_the_median_of_pairs_ignores_voids() -> None:
    nan = np.nan
    one, two, three = (np.array([row], dtype=np.float32) for row in ([1, nan, nan], [5, 2, nan], [3, 4, nan]))
    np.testing.assert_array_equal(fused([one, two, three]), np.float32([[3, 3, nan]]))


def test_voids_of_any_size_are_filled_from_around() -> None:
    heights = np.full((300, 300), np.nan, dtype=np.float32)
    heights[:, :20], heights[:, -20:] = 10, 30
    full = filled(heights, 0.0)
    assert (full[:, :20] == 10).all()
    assert ((full >= 9.99) & (full <= 30.01)).all()
    assert (filled(np.full((8, 8), np.nan, dtype=np.float32), 7.0) == 7).all()


def test_relief_covers_every_window_even_beyond_the_edge() -> None:
    rng = np.random.default_rng(0)
    shape = (3 * CELL_PX + 17, 2 * CELL_PX + 5)
    grid = Grid(*shape, GRID.transform, GRID.crs)
    whole = replace(reference_of(rng.uniform(0, 100, shape)).whole)
    relief = relief_of(HeldSurface(grid, whole))
    mirrored = np.pad(whole.height, 200, mode="symmetric")
    for row, col in rng.integers(-190, 150, (40, 2)):
        part = mirrored[row + 200 : row + 290, col + 200 : col + 290]
        low, high = relief.within(Window(row, col, *part.shape))
        assert low <= part.min()
        assert high >= part.max() + HEADROOM_M - 1e-4


SMALL = SimulateConfig(
    seed=5,
    town=TownSettings(style="suburb", size_px=192),
    reference=SurfaceSettings(gsd_m=0.5),
    dates=(
        DateSettings(sun_azimuth_deg=150, sun_elevation_deg=50),
        DateSettings(sun_azimuth_deg=170, sun_elevation_deg=35, winter=1.0),
    ),
    views=(
        ViewSettings(name="ahead", date=0, azimuth_deg=10, incidence_deg=15),
        ViewSettings(name="back", date=0, azimuth_deg=190, incidence_deg=12),
        ViewSettings(name="later", date=1, azimuth_deg=100, incidence_deg=5),
    ),
    sensor=SensorSettings(pointing_px=0.0),
    matching=MatchingSettings(pairs=2),
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "scene"
    simulate("town", folder, SMALL, workers=0)
    return folder


def files_of(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_a_scene_is_a_complete_data_set(simulated: Path) -> None:
    names = [
        "dsm/initial",
        "dsm/reference",
        *(f"satellite_views/{name}" for name in ("ahead", "back", "later")),
    ]
    masks = ("building", "water", "forest", "ground_truth", "void", "shadow_date1", "shadow_date2")
    names += [f"mask/{name}" for name in masks]
    grids = set()
    for name in names:
        with rasterio.open(simulated / "data" / f"{name}.tif") as dataset:
            grids.add((dataset.shape, dataset.transform, dataset.crs))
    assert len(grids) == 1
    shaded = read_raster(simulated / "data" / "mask" / "shadow_date2.tif")
    assert 0.03 < shaded.mean() < 0.7
    initial = read_raster(simulated / "data" / "dsm" / "initial.tif")
    assert np.isfinite(initial).all()
    assert (initial > -1000).all()
    pairs = (simulated / "data" / "image_selection" / "pairlist.txt").read_text().splitlines()
    assert pairs[0] == "ahead.tif, back.tif"
    assert not (simulated / "unfinished").exists()


def test_its_training_configuration_has_no_problem(simulated: Path) -> None:
    assert check(simulated / "configs" / "config_train.json") == []


def test_the_initial_dsm_has_the_errors_of_stereo_matching(simulated: Path) -> None:
    figures = json.loads((simulated / "scene.json").read_text())["errors_of_the_initial_dsm"]
    reference = read_raster(simulated / "data" / "dsm" / "reference.tif").astype(np.float64)
    initial = read_raster(simulated / "data" / "dsm" / "initial.tif")
    np.testing.assert_allclose(figures["all"]["MAE"], np.abs(initial - reference).mean(), atol=1e-3)
    np.testing.assert_allclose(figures["all"]["MedAE"], np.median(np.abs(initial - reference)), atol=2e-3)
    assert 0.1 < figures["all"]["MAE"] < 4
    assert figures["all"]["MedAE"] < figures["all"]["MAE"] < figures["all"]["RMSE"]
    assert abs(figures["ground"]["median"]) < 0.3
    assert figures["building"]["MAE"] > figures["ground"]["MedAE"]


def test_images_are_eleven_bit_with_shadows_and_sun(simulated: Path) -> None:
    with rasterio.open(simulated / "data" / "satellite_views" / "raw" / "ahead.tif") as dataset:
        grey = dataset.read(1)
        assert dataset.dtypes[0] == "uint16"
        assert dataset.rpcs is not None
    seen = grey[grey > 0]
    assert seen.max() <= 2047
    assert np.percentile(seen, 2) < 0.5 * np.median(seen)
    assert np.unique(seen).size > 300


def test_another_program_triangulates_with_the_images(simulated: Path) -> None:
    """rasterio's own RPC transformer takes two image positions down to different heights until they meet."""
    record = json.loads((simulated / "scene.json").read_text())
    reference_path = simulated / "data" / "dsm" / "reference.tif"
    with rasterio.open(reference_path) as dataset:
        reference, crs, (x, y) = dataset.read(1), dataset.crs, dataset.xy(100, 90)
    z = float(reference[100, 90])
    rpcs, pixels = [], []
    for name in ("ahead", "back"):
        with rasterio.open(simulated / "data" / "satellite_views" / "raw" / f"{name}.tif") as dataset:
            rpcs.append(dataset.rpcs)
        view = next(one for one in record["views"] if one["name"] == name)["affine"]
        offset = np.subtract([x, y, z], view["origin"])
        pixels.append(np.array(view["matrix"]) @ offset)

    def apart(height: float) -> tuple[float, list[float]]:
        feet = []
        for rpc, (row, col) in zip(rpcs, pixels, strict=True):
            with RPCTransformer(rpc) as transformer:
                lon, lat = transformer.xy(row, col, zs=height)
            feet.append(np.ravel(to_other_crs("EPSG:4326", crs, [lon], [lat])))
        gap = feet[0] - feet[1]
        return float(np.hypot(*gap)), list((feet[0] + feet[1]) / 2)

    heights = np.arange(z - 5, z + 5, 0.05)
    gaps = [apart(height)[0] for height in heights]
    best = float(heights[int(np.argmin(gaps))])
    assert abs(best - z) < 0.1
    np.testing.assert_allclose(apart(best)[1], (x, y), atol=0.1)


def test_the_same_seed_gives_the_same_bytes(simulated: Path, tmp_path: Path) -> None:
    again = tmp_path / "scene"
    simulate("town", again, SMALL, workers=2)
    assert files_of(again) == files_of(simulated)
    differing = [
        path for path in files_of(simulated) if not filecmp.cmp(simulated / path, again / path, shallow=False)
    ]
    assert differing == []


def test_an_interrupted_simulation_resumes(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "scene"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "rectify_images", stopped)
        with pytest.raises(Interrupted, match=r"same command again to resume in .*scene"):
            simulate("town", again, SMALL, workers=0)
    assert not (again / "scene.json").exists()
    with pytest.raises(ResDepthError, match="unfinished scene of another"):
        simulate("town", again, SMALL.model_copy(update={"seed": 6}), workers=0)
    before = (again / "data" / "satellite_views" / "raw" / "ahead.tif").stat().st_mtime_ns
    simulate("town", again, SMALL, workers=0)
    assert (again / "data" / "satellite_views" / "raw" / "ahead.tif").stat().st_mtime_ns == before
    assert files_of(again) == files_of(simulated)
    assert all(filecmp.cmp(simulated / path, again / path, shallow=False) for path in files_of(simulated))


def test_a_texture_of_another_crs_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    texture = write_raster(tmp_path / "texture.tif", np.ones((8, 8), np.uint8), crs="EPSG:32633")
    config = SMALL.model_copy(update={"texture": str(texture)})
    with pytest.raises(ResDepthError, match=r"texture's CRS is EPSG:32633, that of the scene EPSG:32632"):
        simulate("town", tmp_path / "scene", config, workers=0)
    assert not (tmp_path / "scene").exists() or not any((tmp_path / "scene").iterdir())


def test_a_real_texture_is_what_is_seen_from_above(simulated: Path, tmp_path: Path) -> None:
    with rasterio.open(simulated / "data" / "dsm" / "reference.tif") as dataset:
        origin = (dataset.transform.c, dataset.transform.f)
        assert dataset.units == ("metre",)
    rows, cols = np.indices((192, 192))
    checks = np.where((rows // 24 + cols // 24) % 2, 200, 40).astype(np.uint8)
    write_raster(tmp_path / "texture.tif", checks, gsd=0.5, origin=origin)
    config = SMALL.model_copy(update={"texture": str(tmp_path / "texture.tif")})
    simulate("town", tmp_path / "scene", config, workers=0)
    for folder, found in ((tmp_path / "scene", True), (simulated, False)):
        seen = read_raster(folder / "data" / "satellite_views" / "ahead.tif").astype(float)
        assert bool(np.corrcoef(seen.ravel(), checks.ravel())[0, 1] > 0.5) is found


def test_a_complete_scene_is_not_overwritten(simulated: Path) -> None:
    with pytest.raises(ResDepthError, match="holds a complete scene"):
        simulate("town", simulated, SMALL)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ResDepthError, match="or not empty"):
        simulate("town", tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_true_heights_of_a_file_are_kept_to_the_bit_and_its_voids_stay_unknown(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = np.indices((150, 170))[0]
    height = (300 + 0.02 * rows + rng.normal(0, 0.02, rows.shape)).astype(np.float32)
    height[40:80, 50:100] += 9
    height[100:120, 20:60] = np.nan
    path = tmp_path / "lidar.tif"
    write_raster(path, height, crs="EPSG:25832")
    before = path.read_bytes()
    simulate(path, tmp_path / "scene", SMALL, workers=0)
    reference = read_raster(tmp_path / "scene" / "data" / "dsm" / "reference.tif")
    known = ~np.isnan(height)
    np.testing.assert_array_equal(reference[known], height[known])
    assert (reference[~known] == -9999).all()
    mask = read_raster(tmp_path / "scene" / "data" / "mask" / "ground_truth.tif")
    np.testing.assert_array_equal(mask == 1, known)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": ()}, "both dates and views"),
        ({"views": SMALL.views[:1]}, "at least two"),
        ({"views": (*SMALL.views, SMALL.views[0])}, "a name of its own"),
        (
            {"views": (*SMALL.views, SMALL.views[0].model_copy(update={"name": "x", "date": 2}))},
            "there are 2 dates",
        ),
        ({"matching": MatchingSettings(block_px=4)}, "odd number"),
    ],
)
def test_what_does_not_fit_together_is_stated(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputProblems, match=message):
        simulate("town", tmp_path / "scene", SMALL.model_copy(update=change))
    assert not (tmp_path / "scene").exists()


def test_views_that_see_the_same_are_stated(tmp_path: Path) -> None:
    twice = (SMALL.views[0], SMALL.views[0].model_copy(update={"name": "again"}))
    with pytest.raises(ResDepthError, match="differ enough in direction"):
        simulate("town", tmp_path / "scene", SMALL.model_copy(update={"views": twice}))


def test_a_source_that_is_not_there_is_stated(tmp_path: Path) -> None:
    with pytest.raises(ResDepthError, match="give a GeoTIFF, CityJSON, LAS or LAZ file, or town"):
        simulate(tmp_path / "nothing.tif", tmp_path / "scene", SMALL)
    assert not (tmp_path / "scene").exists()
