"""Reference surfaces from files: heights to the bit, voids stated, damaged files refused."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from conftest import ORIGIN, read_raster, write_raster
from resdepth.errors import ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.runtime.progress import Silent
from resdepth.simulate.sources import prepared
from resdepth.simulate.sources.citymodel import paint, plan_facets
from resdepth.simulate.sources.classification import Parts
from resdepth.simulate.sources.prepared import CELL, StoredSurface, coarse_heights, fill, open_source
from resdepth.simulate.sources.raw_surface import SourceOptions, unclassified
from resdepth.simulate.surface import SurfaceClass, is_any

ROOFS = (SurfaceClass.ROOF_TILES, SurfaceClass.ROOF_FLAT)
TOWN = (84800.0, 447600.0)


def opened(path: Path, **options: Any) -> StoredSurface:
    return open_source(path, SourceOptions(**options), path.parent / "work", Silent())


def whole(reference: StoredSurface):
    return reference.surface(reference.grid.whole)


def made_town(side: int = 200) -> np.ndarray:
    """Rolling ground with a gable house, a flat hall and a clump of rough trees; 0.5 m pixels."""
    rng, shown, side = np.random.default_rng(0), side, max(side, 200)
    rows, cols = np.mgrid[0:side, 0:side]
    height = 300 + 0.03 * rows + 0.3 * np.sin(cols / 30) + rng.normal(0, 0.02, (side, side))
    gable = 8 - 0.35 * np.abs(np.arange(24) - 12)
    height[20:60, 20:44] = 300 + gable[None, :]
    height[100:140, 30:90] = 311
    height[90:130, 130:170] += rng.uniform(5, 12, (40, 40))
    return height.astype(np.float32)[:shown, :shown]


# --- rasters


def test_known_heights_are_kept_to_the_bit_and_voids_are_filled_and_stated(tmp_path: Path) -> None:
    heights = made_town()
    holed = heights.copy()
    holed[70:80, 60:100] = -9999
    holed[150:198, 3:100] = -9999  # larger than a cell of the coarse level
    surface = whole(opened(write_raster(tmp_path / "dsm.tif", holed, nodata=-9999.0)))
    there = holed > -9999
    np.testing.assert_array_equal(surface.known, there)
    np.testing.assert_array_equal(surface.height[there], heights[there])
    filled = surface.height[~there]
    assert np.isfinite(filled).all()
    assert np.abs(filled - heights[~there]).max() < 2.5
    assert not is_any(surface.classes, ROOFS)[~there].any()


def test_any_window_is_a_crop_of_the_whole(tmp_path: Path) -> None:
    reference = opened(write_raster(tmp_path / "dsm.tif", made_town()))
    everything = whole(reference)
    for window in (Window(0, 0, 1, 1), Window(37, 11, 90, 120), Window(190, 0, 10, 200)):
        part, crop = reference.surface(window), everything.crop(window)
        for name in ("height", "known", "classes", "objects"):
            np.testing.assert_array_equal(getattr(part, name), getattr(crop, name))
            assert getattr(part, name).dtype == getattr(crop, name).dtype
    types = [
        everything.height.dtype,
        everything.known.dtype,
        everything.classes.dtype,
        everything.objects.dtype,
    ]
    assert types == [np.float32, bool, np.uint8, np.int32]


def test_how_the_scene_is_cut_into_windows_changes_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    heights = made_town(250)
    heights[10:90, 100:128] = np.nan
    path = write_raster(tmp_path / "dsm.tif", heights)
    at_once = whole(opened(path))
    monkeypatch.setattr(prepared, "CORE", 64)
    monkeypatch.setattr(prepared, "TILE", 64)
    cut = whole(open_source(path, SourceOptions(), tmp_path / "other", Silent()))
    np.testing.assert_allclose(cut.height, at_once.height, atol=1e-4)
    np.testing.assert_array_equal(cut.known, at_once.known)
    np.testing.assert_array_equal(cut.classes, at_once.classes)
    pairs = set(zip(cut.objects.ravel().tolist(), at_once.objects.ravel().tolist(), strict=True))
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)


def test_roofs_trees_and_ground_are_found_from_heights(tmp_path: Path) -> None:
    surface = whole(opened(write_raster(tmp_path / "dsm.tif", made_town())))
    inside = surface.classes[25:55, 24:40], surface.classes[105:135, 35:85], surface.classes[95:125, 135:165]
    for found, expected in zip(
        inside, (SurfaceClass.ROOF_TILES, SurfaceClass.ROOF_FLAT, SurfaceClass.TREE), strict=True
    ):
        assert (found == expected).mean() > 0.95
    assert (surface.classes[160:] == SurfaceClass.GROUND).all()
    house, hall = surface.objects[25:55, 24:40], surface.objects[105:135, 35:85]
    assert len(np.unique(house)) == len(np.unique(hall)) == 1
    assert 0 < house[0, 0] != hall[0, 0] > 0
    assert len(np.unique(surface.objects[95:125, 135:165])) > 5
    assert (surface.objects[160:] == 0).all()


def test_a_large_wood_is_a_forest(tmp_path: Path) -> None:
    heights = made_town(256)
    heights[60:250, 60:250] = 300 + np.random.default_rng(1).uniform(6, 15, (190, 190))
    surface = whole(opened(write_raster(tmp_path / "dsm.tif", heights)))
    assert (surface.classes[100:200, 100:200] == SurfaceClass.FOREST).mean() > 0.9


def test_level_areas_beneath_their_banks_are_water(tmp_path: Path) -> None:
    heights = made_town()
    heights[60:95, 100:190] = 299.0
    surface = whole(opened(write_raster(tmp_path / "dsm.tif", heights)))
    assert (surface.classes[64:91, 104:186] == SurfaceClass.WATER).mean() > 0.9
    assert (surface.classes[160:] != SurfaceClass.WATER).all()


def test_level_ground_around_boxes_is_no_water(tmp_path: Path) -> None:
    heights = np.full((128, 128), 50, np.float32)
    heights[40:70, 40:80] = 60
    surface = whole(opened(write_raster(tmp_path / "dsm.tif", heights)))
    assert (surface.classes[50:60, 50:70] == SurfaceClass.ROOF_FLAT).all()
    assert (surface.classes != SurfaceClass.WATER).all()


def test_masks_on_any_grid_outrank_what_heights_show(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dsm.tif", made_town())
    building = np.zeros((100, 100), np.uint8)
    building[50:70, 15:45] = 1  # the hall, on pixels of 1 m; the house is none
    water, forest = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
    water[180:], forest[90:130, 130:150] = 1, 7
    surface = whole(
        opened(
            path,
            building_mask=write_raster(tmp_path / "b.tif", building, gsd=1.0),
            water_mask=write_raster(tmp_path / "w.tif", water),
            forest_mask=write_raster(tmp_path / "f.tif", forest),
        )
    )
    roofs = np.zeros((200, 200), bool)
    roofs[100:140, 30:90] = True
    np.testing.assert_array_equal(is_any(surface.classes, ROOFS), roofs)
    np.testing.assert_array_equal(surface.classes == SurfaceClass.WATER, water > 0)
    np.testing.assert_array_equal(surface.classes == SurfaceClass.FOREST, forest > 0)


def test_a_mask_of_another_crs_is_refused(tmp_path: Path) -> None:
    mask = write_raster(tmp_path / "mask.tif", np.ones((200, 200), np.uint8), crs="EPSG:32633")
    with pytest.raises(ResDepthError, match=r"mask.tif: has CRS EPSG:32633 instead of EPSG:32632.*gdalwarp"):
        opened(write_raster(tmp_path / "dsm.tif", made_town()), water_mask=mask)


def test_a_plane_stays_a_plane_on_finer_and_on_coarser_pixels(tmp_path: Path) -> None:
    rows, cols = np.mgrid[0:120, 0:160] + 0.5
    path = write_raster(tmp_path / "dsm.tif", (50 + 0.2 * rows + 0.1 * cols).astype(np.float32))
    for gsd in (0.25, 1.0):
        reference = open_source(path, SourceOptions(gsd_m=gsd), tmp_path / str(gsd), Silent())
        assert (reference.grid.gsd, reference.grid.height * gsd, reference.grid.width * gsd) == (gsd, 60, 80)
        fine_rows, fine_cols = (
            (np.mgrid[0 : reference.grid.height, 0 : reference.grid.width] + 0.5) * gsd / 0.5
        )
        inner = (slice(4, -4), slice(4, -4))
        expected = 50 + 0.2 * fine_rows + 0.1 * fine_cols
        np.testing.assert_allclose(whole(reference).height[inner], expected[inner], atol=2e-3)


def test_only_the_extent_is_read_grown_to_whole_pixels(tmp_path: Path) -> None:
    heights = made_town()
    x, y = ORIGIN
    extent = (x + 10.2, y - 60, x + 40, y - 20.1)
    reference = opened(write_raster(tmp_path / "dsm.tif", heights), extent=extent)
    assert reference.grid.transform == (0.5, 0, x + 10, 0, -0.5, y - 20)
    np.testing.assert_array_equal(whole(reference).height, heights[40:120, 20:80])


def test_turned_and_upside_down_rasters_are_laid_north_up(tmp_path: Path) -> None:
    heights = np.full((40, 60), 20, np.float32)
    heights[:5] = 35
    path = tmp_path / "south_up.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=40, width=60, count=1, dtype="float32", crs="EPSG:32632",
        transform=rasterio.Affine(1, 0, 500000, 0, 1, 5000000),
    ) as file:  # fmt: skip
        file.write(heights, 1)
    surface = whole(opened(path))
    np.testing.assert_allclose(surface.height, heights[::-1], atol=1e-3)
    turned = tmp_path / "turned.tif"
    with rasterio.open(
        turned, "w", driver="GTiff", height=40, width=60, count=1, dtype="float32", crs="EPSG:32632",
        transform=rasterio.Affine(0.8, 0.6, 500000, 0.6, -0.8, 5000000),
    ) as file:  # fmt: skip
        file.write(np.full((40, 60), 20, np.float32), 1)
    reference = open_source(turned, SourceOptions(), tmp_path / "turned", Silent())
    surface = whole(reference)
    assert reference.grid.gsd == pytest.approx(1.0)
    np.testing.assert_allclose(surface.height, 20, atol=1e-3)
    assert not surface.known[0, 0]
    assert surface.known.sum() == pytest.approx(2400, rel=0.05)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_without_georeference_lies_on_local_metres(tmp_path: Path) -> None:
    heights = made_town(64)
    path = tmp_path / "dsm.tif"
    with rasterio.open(path, "w", driver="GTiff", height=64, width=64, count=1, dtype="float32") as file:
        file.write(heights, 1)
    reference = opened(path)
    assert (reference.grid.crs, reference.grid.transform) == ("", (1, 0, 0, 0, -1, 64))
    np.testing.assert_array_equal(whole(reference).height, heights)


@pytest.mark.parametrize(
    ("crs", "gsd", "stated"),
    [
        ("EPSG:4326", 1e-5, r"CRS EPSG:4326 is in degrees; .*gdalwarp -t_srs"),
        ("EPSG:2263", 1.0, r"CRS EPSG:2263 is in units of 0.304\d* m; .*gdalwarp"),
        ("EPSG:3857", 1.0, r"CRS EPSG:3857 stretches lengths: .*gdalwarp"),
        (None, 1e-5, r"no CRS, and its pixels of 1e-05 are too small"),
    ],
)
def test_rasters_that_are_not_in_metres_are_refused(
    tmp_path: Path, crs: str | None, gsd: float, stated: str
) -> None:
    origin = (1e6, 6e6) if crs == "EPSG:3857" else (7.0, 51.0)
    path = write_raster(tmp_path / "dsm.tif", made_town(64), crs=crs, gsd=gsd, origin=origin)
    with pytest.raises(ResDepthError, match=f"dsm.tif: .*{stated}"):
        opened(path)


@pytest.mark.parametrize(
    ("values", "options", "stated"),
    [
        (np.full((20, 20), np.nan, np.float32), {}, "no heights in the scene, only voids"),
        (np.zeros((3, 20, 20), np.uint8), {}, "has 3 bands"),
        (np.zeros((20, 20), np.float32), {"gsd_m": 1e-5}, "gsd_m = 1e-05 are more than"),
        (np.zeros((20, 20), np.float32), {"gsd_m": -1.0}, "gsd_m = -1.0 is no pixel size"),
        (np.zeros((20, 20), np.float32), {"extent": (0, 0, 1, 1)}, "nothing of it lies in the extent"),
    ],
)
def test_unusable_rasters_and_options_are_stated(
    tmp_path: Path, values: Any, options: Any, stated: str
) -> None:
    with pytest.raises(ResDepthError, match=rf"dsm.tif: .*{stated}"):
        opened(write_raster(tmp_path / "dsm.tif", values), **options)
    assert not [one for one in (tmp_path / "work").iterdir() if one.suffix == ".tif"]


def test_what_is_no_reference_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ResDepthError, match=r"notes.txt: this file cannot be read as a raster"):
        opened(tmp_path / "notes.txt")
    with pytest.raises(ResDepthError, match=r"absent.tif: this file cannot be read"):
        opened(tmp_path / "absent.tif")


def test_rasters_are_made_once_and_again_when_the_file_or_the_options_change(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dsm.tif", made_town(64))
    opened(path)
    surface = tmp_path / "work" / "surface.tif"
    made = surface.stat().st_mtime_ns
    opened(path)
    assert surface.stat().st_mtime_ns == made
    assert opened(path, gsd_m=1.0).grid.height == 32
    write_raster(path, made_town(64) + 5)
    os.utime(path, ns=(1, 1))
    assert whole(opened(path)).height[0, 0] == pytest.approx(made_town(64)[0, 0] + 5)
    (tmp_path / "work" / "known.tif").unlink()
    opened(path)
    assert sorted(one.name for one in (tmp_path / "work").iterdir()) == [
        "classes.tif", "known.tif", "objects.tif", "reference.json", "surface.tif"
    ]  # fmt: skip
    assert read_raster(surface).dtype == np.float32


# --- filling and numbering


def test_a_window_with_a_margin_is_filled_as_the_whole_is() -> None:
    rng = np.random.default_rng(3)
    height = rng.uniform(0, 30, (448, 448)).astype(np.float32)
    height[rng.random(height.shape) < 0.6] = np.nan
    height[100:320, 90:400] = np.nan
    grid = Grid(448, 448, (1, 0, 0, 0, -1, 448))
    coarse, found = coarse_heights(grid, [grid.whole], lambda window: height[window.slices])
    assert found == np.isfinite(height).sum()
    full = fill(height, grid.whole, coarse)
    core = Window(3 * CELL, 3 * CELL, CELL, CELL)
    outer = core.grown(2 * CELL, grid.whole)
    part = fill(height[outer.slices], outer, coarse)
    np.testing.assert_allclose(part[core.relative_to(outer).slices], full[core.slices], atol=1e-4)


@given(st.integers(0, 2**32), st.integers(3, 30), st.integers(2, 12))
def test_parts_that_are_seen_in_windows_are_those_that_are_seen_at_once(
    seed: int, side: int, step: int
) -> None:
    mask = np.random.default_rng(seed).random((side, side + 3)) < 0.6
    windows = [
        Window(row, col, min(step, side - row), min(step, side + 3 - col))
        for row in range(0, side, step)
        for col in range(0, side + 3, step)
    ]
    cut, at_once = Parts(np.zeros(mask.shape, np.int32)), Parts(np.zeros(mask.shape, np.int32))
    for window in windows:
        cut.add(window, mask[window.slices])
    at_once.add(Window(0, 0, *mask.shape), mask)
    one, other = cut.final(Window(0, 0, *mask.shape)), at_once.final(Window(0, 0, *mask.shape))
    np.testing.assert_array_equal(one > 0, mask)
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_a_raw_surface_of_heights_knows_what_is_not_void() -> None:
    raw = unclassified(np.array([[1, np.nan]], np.float32))
    assert raw.known.tolist() == [[True, False]]


# --- polygons


@given(st.integers(0, 2**32), st.integers(3, 9))
def test_a_fan_of_triangles_covers_each_pixel_of_its_polygon_once(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, n))
    radius = rng.uniform(2, 9)
    ring = np.stack([10 + radius * np.cos(angles), 10 + radius * np.sin(angles), np.full(n, 4.0)], axis=1)
    grid = Grid(20, 20, (1, 0, 0, 0, -1, 20))
    fan = [ring[[0, i, i + 1]] for i in range(1, n - 1)]
    at_once = paint(plan_facets([ring], np.arange(1), np.arange(1)), grid)
    each = [paint(plan_facets([one], np.arange(1), np.arange(1)), grid).facet >= 0 for one in fan]
    np.testing.assert_array_equal(np.sum(each, axis=0), at_once.facet >= 0)
    assert (at_once.height[at_once.facet >= 0] == 4).all()


# --- city models


class City:
    """A CityJSON file that is being made."""

    def __init__(self, **head: Any) -> None:
        self.vertices: list[list[int]] = []
        self.objects: dict[str, Any] = {}
        self.head = head

    def ring(self, *points: tuple[float, float, float]) -> list[int]:
        first = len(self.vertices)
        self.vertices += [[round(1000 * value) for value in point] for point in points]
        return list(range(first, len(self.vertices)))

    def add(
        self, name: str, kind: str, geometry: str, boundaries: Any, lod: Any = "2.2", **more: Any
    ) -> None:
        one = {"type": geometry, "lod": lod, "boundaries": boundaries, **more}
        self.objects.setdefault(name, {"type": kind, "geometry": []})["geometry"].append(one)

    def add_terrain(self, height: float = 2.0, side: float = 40.0) -> None:
        a, b, c, d = (0, 0, height), (side, 0, height), (side, side, height), (0, side, height)
        self.add("terrain", "TINRelief", "CompositeSurface", [[self.ring(a, b, c)], [self.ring(a, c, d)]], 2)

    def box(self, left: float, bottom: float, right: float, top: float, z: float) -> list[int]:
        return self.ring((left, bottom, z), (right, bottom, z), (right, top, z), (left, top, z))

    def write(self, path: Path) -> Path:
        file = {
            "type": "CityJSON",
            "version": "1.1",
            "metadata": {"referenceSystem": "https://www.opengis.net/def/crs/EPSG/0/7415"},
            "transform": {"scale": [0.001] * 3, "translate": [*TOWN, 0]},
            "CityObjects": self.objects,
            "vertices": self.vertices,
            **self.head,
        }
        path.write_text(json.dumps(file), encoding="utf-8")
        return path


def gable_house(city: City) -> Any:
    """Shell of a house of 10 x 8 m: eaves at 5 m, ridge at 9 m along the middle."""
    a, b, c, d = (10, 10), (20, 10), (20, 18), (10, 18)
    west, east = (10, 14, 9), (20, 14, 9)
    south = city.ring((*a, 5), (*b, 5), east, west)
    north = city.ring((*c, 5), (*d, 5), west, east)
    walls = [
        city.ring((*a, 2), (*b, 2), (*b, 5), (*a, 5)),
        city.ring((*b, 2), (*c, 2), (*c, 5), east, (*b, 5)),
    ]
    floor = city.ring((*a, 2), (*d, 2), (*c, 2), (*b, 2))
    return [[[south], [north], *([wall] for wall in walls), [floor]]]


@pytest.mark.parametrize("version", ["1.0", "1.1", "2.0"])
def test_a_gable_roof_has_its_exact_heights_at_pixel_centres(tmp_path: Path, version: str) -> None:
    city = City(version=version)
    city.add_terrain()
    city.add("house", "Building", "Solid", gable_house(city))
    reference = opened(city.write(tmp_path / "town.city.json"))
    assert (reference.grid.crs_name, reference.grid.gsd) == ("EPSG:28992", 0.5)
    assert reference.grid.transform == (0.5, 0, TOWN[0], 0, -0.5, TOWN[1] + 40)
    surface = whole(reference)
    y = 40 - (np.arange(80) + 0.5) * 0.5
    x = (np.arange(80) + 0.5) * 0.5
    on_house = ((y > 10) & (y < 18))[:, None] & ((x > 10) & (x < 20))[None, :]
    expected = np.where(on_house, (9 - np.abs(y - 14))[:, None], 2)
    np.testing.assert_allclose(surface.height, expected, atol=1e-5)
    assert surface.known.all()
    np.testing.assert_array_equal(surface.classes == SurfaceClass.ROOF_TILES, on_house)
    np.testing.assert_array_equal(surface.objects > 0, on_house)


def test_a_courtyard_shows_the_ground_and_the_highest_surface_wins(tmp_path: Path) -> None:
    city = City()
    city.add_terrain()
    city.add(
        "block", "Building", "MultiSurface", [[city.box(4, 4, 24, 24, 12), city.box(10, 10, 18, 18, 12)]]
    )
    city.add("tower", "Building", "MultiSurface", [[city.box(4, 4, 8, 8, 30)]])
    city.add("cellar", "Building", "MultiSurface", [[city.box(30, 30, 34, 34, 1)]])
    surface = whole(opened(city.write(tmp_path / "town.json")))
    assert surface.height[80 - 28, 28] == 2
    assert surface.objects[80 - 28, 28] == 0
    assert surface.height[80 - 12, 12] == 30
    assert surface.height[80 - 12, 40] == 12
    assert surface.height[80 - 64, 64] == 2
    assert (surface.classes[surface.height > 5] == SurfaceClass.ROOF_FLAT).all()
    assert (surface.height == 12).sum() == (20 * 20 - 8 * 8 - 4 * 4) * 4


def test_parts_share_the_number_of_their_building_and_the_most_detailed_geometry_counts(
    tmp_path: Path,
) -> None:
    city = City()
    city.add_terrain()
    city.add("b", "Building", "MultiSurface", [[city.box(4, 4, 24, 24, 3)]], "0")
    for name, left in (("west", 4), ("east", 14)):
        city.add(name, "BuildingPart", "Solid", [[[city.box(left, 4, left + 10, 24, 50)]]], "1.2")
        city.add(name, "BuildingPart", "Solid", [[[city.box(left, 4, left + 10, 24, left + 6)]]], "2.2")
        city.objects[name]["parents"] = ["b"]
    city.objects["b"]["children"] = ["west", "east"]
    city.add("other", "Building", "MultiSolid", [[[[city.box(30, 30, 36, 36, 9)]]]])
    surface = whole(opened(city.write(tmp_path / "town.json")))
    assert sorted(np.unique(surface.height)) == [2, 9, 10, 20]
    assert len(np.unique(surface.objects[surface.height >= 10])) == 1
    assert len(np.unique(surface.objects)) == 3


def test_roads_and_water_lie_upon_the_terrain(tmp_path: Path) -> None:
    city = City()
    city.add_terrain()
    city.add("canal", "WaterBody", "MultiSurface", [[city.box(0, 0, 10, 40, 1)]])
    city.add("road", "Road", "MultiSurface", [[city.box(20, 0, 26, 40, 2)]])
    surface = whole(opened(city.write(tmp_path / "town.json")))
    assert (surface.classes[:, :20] == SurfaceClass.WATER).all()
    assert (surface.height[:, :20] == 1).all()
    assert (surface.classes[:, 40:52] == SurfaceClass.ASPHALT).all()
    assert (surface.classes[:, 60:] == SurfaceClass.GROUND).all()


def test_what_a_city_model_does_not_show_is_filled_and_stated(tmp_path: Path) -> None:
    city = City()
    a, b, c = (0, 0, 2), (40, 0, 2), (40, 40, 2)
    city.add("terrain", "TINRelief", "CompositeSurface", [[city.ring(a, b, c)]])
    surface = whole(opened(city.write(tmp_path / "town.json")))
    assert 0.45 < surface.known.mean() < 0.55
    np.testing.assert_allclose(surface.height, 2, atol=1e-5)


def test_buildings_without_terrain_stand_on_a_plane(tmp_path: Path) -> None:
    city = City()
    city.add("house", "Building", "Solid", gable_house(city))
    city.add("other", "Building", "MultiSurface", [[city.box(60, 12, 64, 16, 8)]])
    path = city.write(tmp_path / "town.json")
    with pytest.raises(ResDepthError, match=r"town.json: has no terrain .*choose ground = flat or sloped"):
        opened(path)
    flat = whole(opened(path, ground="flat"))
    assert flat.known.all()
    assert flat.height.min() == 2
    assert flat.height.max() == pytest.approx(8.75)
    sloped = whole(opened(path, ground="sloped", ground_slope_deg=10.0, ground_aspect_deg=90.0))
    steepness = np.tan(np.radians(10)) * 0.5
    ground = sloped.classes == SurfaceClass.GROUND
    np.testing.assert_allclose(
        np.diff(sloped.height, axis=1)[ground[:, 1:] & ground[:, :-1]], -steepness, atol=1e-4
    )
    # Each building is moved as a whole: its form is as before.
    move = (sloped.height - flat.height)[flat.objects == 1]
    assert np.ptp(move) < 1e-4
    assert move[0] == pytest.approx(np.tan(np.radians(10)) * (37 - 15), abs=1e-3)


def test_only_the_extent_of_a_city_model_is_built(tmp_path: Path) -> None:
    city = City()
    city.add_terrain()
    extent = (TOWN[0] + 5.1, TOWN[1] + 5, TOWN[0] + 9, TOWN[1] + 9)
    reference = opened(city.write(tmp_path / "town.json"), extent=extent, gsd_m=0.25)
    assert reference.grid.transform == (0.25, 0, TOWN[0] + 5, 0, -0.25, TOWN[1] + 9)
    assert (reference.grid.height, reference.grid.width) == (16, 16)


def test_a_city_model_without_crs_takes_the_one_in_the_options(tmp_path: Path) -> None:
    city = City(metadata=None)
    city.add_terrain()
    path = city.write(tmp_path / "town.json")
    assert opened(path).grid.crs == ""
    assert opened(path, crs="EPSG:25832").grid.crs_name == "EPSG:25832"
    with pytest.raises(ResDepthError, match=r"town.json: 'EPSG:1' is no coordinate system"):
        opened(path, crs="EPSG:1")


@pytest.mark.parametrize(
    ("head", "stated"),
    [
        ({"type": "CityJSONFeature"}, "CityJSONSeq file, .* join them into one"),
        ({"type": "FeatureCollection"}, "its type is 'FeatureCollection'"),
        ({"version": "0.9"}, "its version is '0.9'; known are 1.0, 1.1, 2.0"),
        ({"version": None}, "its version is None"),
        ({"CityObjects": {}}, "has no CityObjects"),
        ({"CityObjects": {"a": 3}}, r"CityObjects\.a: found 3; should be an object"),
        ({"CityObjects": {"a": {"type": "Building"}}, "metadata": {}}, "has no terrain"),
        ({"vertices": [[1, 2], [3, 4]]}, r"vertices of shape \(2, 2\)"),
        ({"vertices": "many"}, "vertices: found .many.; should be a valid list"),
        ({"transform": {"scale": [1, 1, 1]}}, "transform.translate: missing"),
        ({"vertices": []}, "vertices of shape"),
        ({"vertices": [[0, 0, 0]]}, r"names the vertex 1; there are vertices 0 to 0"),
        ({"metadata": {"referenceSystem": "urn:ogc:def:crs:EPSG::4979"}}, "is in degrees"),
        ({"metadata": {"referenceSystem": "urn:ogc:def:crs:EPSG::99999"}}, "'EPSG:99999' is no coordinate"),
        ({"transform": {"scale": [1, 1, 1], "translate": [0, 0, 0]}}, "gsd_m = 0.01 are more than"),
    ],
)
def test_damaged_city_models_are_refused(tmp_path: Path, head: Any, stated: str) -> None:
    city = City(**head)
    city.add_terrain()
    with pytest.raises(ResDepthError, match=f"town.json: .*{stated}"):
        opened(city.write(tmp_path / "town.json"), gsd_m=0.01)


@pytest.mark.parametrize(
    "boundaries", [[[[0, 1, 2]]], [[0, 1, 2]], [[[[0, 1, "2"]]]], [[[[0, 1, -1]]]], [[[]]], "all"]
)
def test_wrong_boundaries_are_refused(tmp_path: Path, boundaries: Any) -> None:
    city = City()
    city.add_terrain()
    city.add("odd", "Building", "Solid", boundaries)
    with pytest.raises(ResDepthError, match=r"town.json: CityObjects\['odd'\]: "):
        opened(city.write(tmp_path / "town.json"))


def test_a_city_model_of_nothing_but_walls_is_refused(tmp_path: Path) -> None:
    city = City()
    city.add("t", "TINRelief", "CompositeSurface", [[city.ring((0, 0, 0), (9, 0, 0), (9, 0, 9))]])
    with pytest.raises(ResDepthError, match=r"town.json: has no surface that is seen from above"):
        opened(city.write(tmp_path / "town.json"))


@pytest.mark.parametrize("text", ['{"type": "CityJSON", "ver', "{" * 50, "[" * 200_000])
def test_broken_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "town.json").write_text(text)
    with pytest.raises(ResDepthError, match=r"town.json: is not valid JSON"):
        opened(tmp_path / "town.json")


@pytest.mark.parametrize(
    ("crs", "unit", "size"),
    [("EPSG:32632+6360", None, 1200 / 3937), ("EPSG:32632", "ft", 0.3048), ("EPSG:32632", "cm", 0.01)],
)
def test_a_raster_in_another_unit_becomes_one_in_metres(
    tmp_path: Path, crs: str, unit: str | None, size: float
) -> None:
    heights = made_town(64)
    path = write_raster(tmp_path / "dsm.tif", (heights / size).astype(np.float32), crs=crs)
    if unit:
        with rasterio.open(path, "r+") as file:
            file.units = (unit,)
    reference = opened(path)
    assert reference.grid.crs_name == "EPSG:32632"
    np.testing.assert_allclose(whole(reference).height, heights, atol=2e-3)


def test_a_chosen_crs_may_give_the_unit_of_heights(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dsm.tif", np.full((20, 20), 100, np.float32), crs=None)
    reference = opened(path, crs="EPSG:32632+6360")
    np.testing.assert_allclose(whole(reference).height, 100 * 1200 / 3937, rtol=1e-6)


def test_a_city_model_in_feet_becomes_one_in_metres(tmp_path: Path) -> None:
    city = City(metadata={"referenceSystem": "urn:ogc:def:crs,crs:EPSG::28992,crs:EPSG::6360"})
    city.add_terrain(height=10.0)
    reference = opened(city.write(tmp_path / "town.json"))
    assert reference.grid.crs_name == "EPSG:28992"
    np.testing.assert_allclose(whole(reference).height, 10 * 1200 / 3937, rtol=1e-6)


# --- point clouds


def write_points(
    path: Path, xyz: np.ndarray, classes: Any = 1, *, epsg: int | None = 28992,
    keys: dict[int, int] | None = None, **fields: Any,
) -> Path:  # fmt: skip
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = np.full(3, 0.001), np.array([*TOWN, 0])
    if epsg:
        stated = {3072: epsg, **(keys or {})}
        entries = [number for key, value in stated.items() for number in (key, 0, 1, value)]
        record = np.array([1, 1, 0, len(stated), *entries], np.uint16)
        header.vlrs.append(laspy.VLR("LASF_Projection", 34735, record_data=record.tobytes()))
    las = laspy.LasData(header)
    las.x, las.y, las.z = xyz.T
    las.classification = np.broadcast_to(np.asarray(classes, np.uint8), len(xyz))
    for name, values in fields.items():
        setattr(las, name, values)
    las.write(path)
    return path


def points_of(heights: np.ndarray, gsd: float = 0.5) -> np.ndarray:
    """A point in the middle of each pixel."""
    rows, cols = (np.indices(heights.shape) + 0.5) * gsd
    x, y = TOWN[0] + cols, TOWN[1] + heights.shape[0] * gsd - rows
    return np.stack([x.ravel(), y.ravel(), heights.ravel()], axis=1).astype(np.float64)


@pytest.mark.parametrize("name", ["town.las", "town.laz"])
def test_the_highest_point_of_a_pixel_is_its_height(tmp_path: Path, name: str) -> None:
    heights = np.round(made_town(120), 3)
    low = points_of(heights)
    low[:, 2] -= 3
    high = points_of(heights)
    noise = high[::7] + np.array([0, 0, 50])
    xyz = np.concatenate([high, noise, low])
    classes = np.repeat([1, 18, 2], [len(high), len(noise), len(low)])
    reference = opened(write_points(tmp_path / name, xyz, classes))
    assert (reference.grid.crs_name, reference.grid.height, reference.grid.width) == ("EPSG:28992", 120, 120)
    surface = whole(reference)
    np.testing.assert_allclose(surface.height, heights, atol=1e-3)
    assert surface.known.all()
    assert (surface.classes[25:55, 24:40] == SurfaceClass.ROOF_TILES).mean() > 0.95


def test_the_classes_of_points_are_kept(tmp_path: Path) -> None:
    heights = made_town(200)
    classes = np.full(heights.shape, 1)
    classes[150:] = 2
    classes[20:60, 20:44] = 6
    classes[90:130, 130:170] = 5
    classes[:10] = 9
    surface = whole(opened(write_points(tmp_path / "town.laz", points_of(heights), classes.ravel())))
    assert (surface.classes[150:] == SurfaceClass.GROUND).all()
    assert (surface.classes[20:60, 20:44] == SurfaceClass.ROOF_TILES).all()
    assert (surface.classes[90:130, 130:170] == SurfaceClass.TREE).all()
    assert (surface.classes[:10] == SurfaceClass.WATER).all()
    # The file marks buildings, so the hall that it does not mark is none.
    assert not is_any(surface.classes[100:140, 30:90], ROOFS).any()


def test_small_gaps_between_points_are_known_and_large_ones_are_not(tmp_path: Path) -> None:
    heights = np.full((60, 60), 12.5, np.float32)
    heights[:, 30:] = 20.0
    keep = np.random.default_rng(0).random(heights.shape) < 0.5
    keep[0, 0] = keep[-1, -1] = True
    keep[20:40, 5:25] = False
    surface = whole(opened(write_points(tmp_path / "town.las", points_of(heights)[keep.ravel()], 2)))
    assert not surface.known[23:37, 8:22].any()
    assert surface.known[:18].all()
    near = np.minimum(np.abs(surface.height - 12.5), np.abs(surface.height - 20))
    np.testing.assert_allclose(near[surface.known], 0, atol=1e-4)
    np.testing.assert_allclose(surface.height[23:37, 8:22], 12.5, atol=0.05)


def test_withheld_points_and_birds_are_left_out(tmp_path: Path) -> None:
    heights = np.full((40, 40), 5, np.float32)
    xyz = points_of(heights)
    bird, withheld = xyz[820] + np.array([0, 0, 60]), xyz[100] + np.array([0, 0, 4])
    flags = np.zeros(len(xyz) + 2, np.uint8)
    flags[-1] = 1
    path = write_points(tmp_path / "town.las", np.vstack([xyz, bird, withheld]), 2, withheld=flags)
    np.testing.assert_allclose(whole(opened(path)).height, 5, atol=1e-5)


def test_the_crs_of_points_may_be_wkt_or_come_from_the_options(tmp_path: Path) -> None:
    xyz = points_of(np.ones((20, 20), np.float32))
    assert opened(write_points(tmp_path / "a.las", xyz, epsg=None)).grid.crs == ""
    assert opened(tmp_path / "a.las", crs="EPSG:25832").grid.crs_name == "EPSG:25832"
    header = laspy.LasHeader(point_format=6, version="1.4")
    wkt = rasterio.CRS.from_epsg(25833).to_wkt()
    header.vlrs.append(laspy.VLR("LASF_Projection", 2112, record_data=wkt.encode() + b"\0"))
    header.offsets, header.scales = np.array([*TOWN, 0]), np.full(3, 0.001)
    las = laspy.LasData(header)
    las.x, las.y, las.z = xyz.T
    las.write(tmp_path / "b.las")
    assert opened(tmp_path / "b.las").grid.crs_name == "EPSG:25833"


@pytest.mark.parametrize(
    ("epsg", "stated"),
    [
        (2263, "CRS EPSG:2263 is in units of 0.3048"),
        (32767, "without an EPSG code; name it with the setting crs"),
    ],
)
def test_points_in_an_unusable_crs_are_refused(tmp_path: Path, epsg: int, stated: str) -> None:
    path = write_points(tmp_path / "a.las", points_of(np.ones((20, 20), np.float32)), epsg=epsg)
    with pytest.raises(ResDepthError, match=f"a.las: .*{stated}"):
        opened(path)


@pytest.mark.parametrize(
    ("keys", "size"),
    [
        ({4099: 9003}, 1200 / 3937),
        ({4099: 9002}, 0.3048),
        ({4099: 9001}, 1),
        ({4096: 6360}, 1200 / 3937),
        ({4096: 5709, 4099: 9001}, 1),
        ({4096: 5103, 4099: 9003}, 1200 / 3937),  # a number of GeoTIFF 1.0, which is no CRS
        ({4096: 5709, 3076: 9001}, 1),
    ],
)
def test_heights_of_points_in_feet_become_metres(tmp_path: Path, keys: dict[int, int], size: float) -> None:
    path = write_points(tmp_path / "a.las", points_of(np.full((20, 20), 50, np.float32)), 2, keys=keys)
    reference = opened(path)
    assert reference.grid.crs_name == "EPSG:28992"
    np.testing.assert_allclose(whole(reference).height, 50 * size, rtol=1e-6)


@pytest.mark.parametrize(
    ("keys", "stated"),
    [
        ({3076: 9003}, "coordinates are in the unit 'US survey foot', its CRS has units of 1 m"),
        ({4096: 6360, 4099: 9001}, "band is metre, that of its vertical CRS .* is US survey foot"),
        ({4099: 9102}, "'EPSG unit 9102', which is no known unit"),
    ],
)
def test_points_whose_units_contradict_each_other_are_refused(
    tmp_path: Path, keys: dict[int, int], stated: str
) -> None:
    path = write_points(tmp_path / "a.las", points_of(np.ones((20, 20), np.float32)), keys=keys)
    with pytest.raises(ResDepthError, match=f"a.las: .*{stated}"):
        opened(path)


@pytest.mark.parametrize("name", ["town.las", "town.laz"])
def test_truncated_and_empty_point_clouds_are_refused(tmp_path: Path, name: str) -> None:
    path = write_points(tmp_path / name, points_of(made_town(100)))
    data = path.read_bytes()
    for kept in (len(data) // 2, 300, 100, 4):
        path.write_bytes(data[:kept])
        with pytest.raises(ResDepthError, match=rf"{re.escape(name)}: .*(complete|no points)"):
            opened(path)
    with pytest.raises(ResDepthError, match=rf"{re.escape(name)}: has no points"):
        opened(write_points(path, np.zeros((0, 3))))


def test_points_outside_the_bounds_of_the_header_are_stated(tmp_path: Path) -> None:
    path = write_points(tmp_path / "a.las", points_of(np.ones((20, 20), np.float32)))
    data = bytearray(path.read_bytes())
    data[179:187] = np.float64(TOWN[0] + 3).tobytes()  # max x
    path.write_bytes(data)
    with pytest.raises(ResDepthError, match=r"a.las: points from .* outside the bounds .*repair_bb"):
        opened(path)


def test_points_of_noise_alone_leave_only_voids(tmp_path: Path) -> None:
    path = write_points(tmp_path / "a.las", points_of(np.ones((20, 20), np.float32)), 7)
    with pytest.raises(ResDepthError, match=r"a.las: there are no heights"):
        opened(path)


def test_without_laspy_the_way_to_install_it_is_stated(tmp_path: Path, monkeypatch: Any) -> None:
    path = write_points(tmp_path / "a.las", points_of(np.ones((20, 20), np.float32)))
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(ResDepthError, match=r"a.las: .*pip install resdepth\[simulate\]"):
        opened(path)
