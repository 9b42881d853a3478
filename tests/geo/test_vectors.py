import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely

from resdepth.errors import ResDepthError
from resdepth.geo import vectors
from resdepth.geo.cityjson import CityModel
from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Grid
from resdepth.geo.vectors import bounds_on, is_vector, open_vector_mask
from resdepth.geo.windows import Window, blocks

X, Y = 465000.0, 5248000.0
UTM = find_crs("EPSG:32632")
GRID = Grid(100, 120, (0.5, 0, X, 0, -0.5, Y), *UTM)


def write(path: Path, shapes: list[Any], *, crs: str | None = "EPSG:32632", **options: Any) -> Path:
    """A vector file of some geometries, in metres from the grid's upper-left corner by default."""
    driver = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf",
              ".sqlite": "SQLite"}  # fmt: skip
    kinds = {one.geom_type for one in shapes}
    kind = kinds.pop() if len(kinds) == 1 else "Unknown"
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(shapes, object)), [], [],
        geometry_type=kind, crs=crs, driver=driver[path.suffix], **options,
    )  # fmt: skip
    return path


def box(left: float, top: float, right: float, bottom: float) -> Any:
    """A rectangle in metres to the east and to the south of the grid's corner."""
    return shapely.box(X + left, Y - bottom, X + right, Y - top)


def pixels(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """The pixels whose centres lie in that rectangle."""
    rows, cols = (np.arange(100) + 0.5) * 0.5, (np.arange(120) + 0.5) * 0.5
    return ((rows > top) & (rows < bottom))[:, None] & ((cols > left) & (cols < right))


def some_polygons(count: int = 40) -> list[Any]:
    rng = np.random.default_rng(5)
    angles = np.linspace(0, 2 * np.pi, 8)[:-1]
    found = []
    for _ in range(count):
        centre = (X + rng.uniform(-2, 62), Y - rng.uniform(-2, 52))
        radii = rng.uniform(1, 5, 7)
        ring = np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], axis=1)
        found.append(shapely.Polygon(ring))
    return found


def centres_inside(shapes: list[Any], grid: Grid = GRID) -> np.ndarray:
    cols, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    a, b, c, d, e, f = grid.transform
    x, y = a * cols + b * rows + c, d * cols + e * rows + f
    return shapely.contains_xy(shapely.union_all(shapes), x, y)


@pytest.mark.parametrize("name", ["town.gpkg", "town.geojson", "town.shp", "town.fgb"])
def test_a_rectangle_covers_the_pixels_whose_centres_it_holds(tmp_path: Path, name: str) -> None:
    mask = open_vector_mask(write(tmp_path / name, [box(10.1, 5, 20.3, 12.2)]), GRID)
    assert mask.grid == GRID
    read = mask.read(GRID.whole)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, pixels(10.1, 5, 20.3, 12.2))


@pytest.mark.parametrize("angle", [0, 30])
def test_blocks_make_up_the_whole_on_any_grid(tmp_path: Path, angle: float) -> None:
    c, s = np.cos(np.radians(angle)) / 2, np.sin(np.radians(angle)) / 2
    grid = Grid(100, 120, (c, s, X, s, -c, Y), *UTM)
    shapes = some_polygons()
    mask = open_vector_mask(write(tmp_path / "town.gpkg", shapes), grid)
    whole = mask.read(grid.whole)
    np.testing.assert_array_equal(whole, centres_inside(shapes, grid))
    for window in blocks(grid.whole, 37):
        np.testing.assert_array_equal(mask.read(window), whole[window.slices])


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326", "EPSG:25832+5783"])
def test_polygons_too_many_to_be_kept_are_read_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crs: str
) -> None:
    monkeypatch.setattr(vectors, "HELD", 5)
    shapes = some_polygons()
    path = write(tmp_path / "town.gpkg", in_crs(shapes, crs), crs=crs)
    mask = open_vector_mask(path, GRID)
    windows = [*blocks(GRID.whole, 37), Window(0, 0, 1, 1)]
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(mask.read, windows))
    expected = centres_inside(shapes)
    for window, part in zip(windows, parts, strict=True):
        np.testing.assert_array_equal(part, expected[window.slices])


def test_polygons_of_a_format_without_search_are_kept_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "HELD", 5)
    shapes = some_polygons()
    mask = open_vector_mask(write(tmp_path / "town.geojson", shapes), GRID)
    np.testing.assert_array_equal(mask.read(GRID.whole), centres_inside(shapes))


def test_threads_read_side_by_side(tmp_path: Path) -> None:
    shapes = some_polygons()
    mask = open_vector_mask(write(tmp_path / "town.gpkg", shapes), GRID)
    windows = list(blocks(GRID.whole, 16)) * 3
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(mask.read, windows))
    expected = centres_inside(shapes)
    for window, part in zip(windows, parts, strict=True):
        np.testing.assert_array_equal(part, expected[window.slices])


def in_crs(shapes: list[Any], crs: str) -> list[Any]:
    def turned(points: np.ndarray) -> np.ndarray:
        return np.stack(rasterio.warp.transform("EPSG:32632", crs, points[:, 0], points[:, 1]), axis=1)

    return [shapely.transform(one, turned) for one in shapes]


def test_degrees_are_transformed_to_the_grid(tmp_path: Path) -> None:
    shapes = [box(10.1, 5.1, 20.3, 12.2), box(30.2, 20.1, 44.3, 39.9)]
    path = write(
        tmp_path / "town.geojson", in_crs(shapes, "EPSG:4326"), crs="EPSG:4326", COORDINATE_PRECISION="12"
    )
    mask = open_vector_mask(path, GRID)
    np.testing.assert_array_equal(mask.read(GRID.whole), centres_inside(shapes))
    np.testing.assert_allclose(bounds_on(path, GRID), (X + 10.1, Y - 39.9, X + 44.3, Y - 5.1), atol=1e-4)


def test_holes_stay_empty_and_parts_and_overlaps_count_once(tmp_path: Path) -> None:
    ring = box(5.1, 5.1, 25.1, 25.1).difference(box(10.1, 10.1, 15.1, 15.1))
    two = shapely.MultiPolygon([box(30.1, 30.1, 35.1, 35.1), box(40.1, 30.1, 45.1, 35.1)])
    path = write(tmp_path / "town.gpkg", [ring, two, box(20.1, 20.1, 32.1, 32.1)])
    expected = pixels(5.1, 5.1, 25.1, 25.1) & ~pixels(10.1, 10.1, 15.1, 15.1)
    expected |= pixels(30.1, 30.1, 35.1, 35.1) | pixels(40.1, 30.1, 45.1, 35.1)
    expected |= pixels(20.1, 20.1, 32.1, 32.1)
    np.testing.assert_array_equal(open_vector_mask(path, GRID).read(GRID.whole), expected)


CURVED = """<?xml version="1.0" encoding="UTF-8"?>
<ogr:FeatureCollection xmlns:gml="http://www.opengis.net/gml/3.2" xmlns:ogr="http://ogr.maptools.org/"
    gml:id="a">
<ogr:featureMember><ogr:town gml:id="t.0"><ogr:geometryProperty>
<gml:MultiSurface gml:id="m" srsName="urn:ogc:def:crs:EPSG::32632"><gml:surfaceMember>
<gml:Polygon gml:id="p"><gml:exterior><gml:Ring><gml:curveMember><gml:Curve gml:id="c"><gml:segments>
<gml:ArcString><gml:posList>{places}</gml:posList></gml:ArcString></gml:segments></gml:Curve></gml:curveMember>
</gml:Ring></gml:exterior></gml:Polygon></gml:surfaceMember></gml:MultiSurface></ogr:geometryProperty></ogr:town>
</ogr:featureMember></ogr:FeatureCollection>"""


def test_curved_polygons_of_multi_surfaces_are_not_lost(tmp_path: Path) -> None:
    x, y, radius = X + 25, Y - 25, 20
    circle = [(-radius, 0), (0, radius), (radius, 0), (0, -radius), (-radius, 0)]
    places = " ".join(f"{x + dx} {y + dy}" for dx, dy in circle)
    (tmp_path / "town.gml").write_text(CURVED.format(places=places))
    found = open_vector_mask(tmp_path / "town.gml", GRID).read(GRID.whole)
    assert found.sum() / 4 == pytest.approx(np.pi * radius**2, rel=0.01)


def test_no_polygon_of_a_spatialite_file_is_lost(tmp_path: Path) -> None:
    """As footprints are delivered: several parts each, in a table of SQLite, many side by side."""
    shapes = [
        shapely.MultiPolygon(
            [box(4 * i + 1, 5 * j + 1, 4 * i + 3, 5 * j + 4), box(4 * i, 5 * j, 4 * i + 1, 5 * j + 1)]
        )
        for i in range(15)
        for j in range(10)
    ]
    path = write(tmp_path / "town.sqlite", shapes)
    found = open_vector_mask(path, GRID).read(GRID.whole)
    assert found.sum() / 4 == sum(shape.area for shape in shapes)


def test_broken_polygons_are_mended(tmp_path: Path) -> None:
    bow = shapely.Polygon(
        [(X + 5.1, Y - 5.1), (X + 15.1, Y - 15.1), (X + 15.1, Y - 5.1), (X + 5.1, Y - 15.1)]
    )
    assert not bow.is_valid
    read = open_vector_mask(write(tmp_path / "town.gpkg", [bow]), GRID).read(GRID.whole)
    np.testing.assert_array_equal(read, centres_inside([shapely.make_valid(bow)]))
    assert read.any()


def test_a_file_whose_polygons_only_touch_the_raster_is_an_empty_mask(tmp_path: Path) -> None:
    mask = open_vector_mask(write(tmp_path / "town.gpkg", [box(-5, 5, 0.2, 10)]), GRID)
    assert not mask.read(GRID.whole).any()


@pytest.mark.parametrize("whose", ["raster", "polygons"])
def test_an_unknown_crs_is_stated_and_coordinates_are_taken_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, whose: str
) -> None:
    crs = None if whose == "polygons" else "EPSG:32632"
    path = write(tmp_path / "town.shp", [box(10.1, 5.1, 20.3, 12.2)])
    if crs is None:
        path.with_suffix(".prj").unlink()
    grid = GRID if crs is None else Grid(100, 120, GRID.transform)
    with caplog.at_level(logging.WARNING):
        mask = open_vector_mask(path, grid)
    np.testing.assert_array_equal(mask.read(grid.whole), pixels(10.1, 5.1, 20.3, 12.2))
    assert [f"town.shp: the CRS of the {whose} is unknown" in one.message for one in caplog.records] == [True]


@pytest.mark.parametrize("shape", [shapely.Point(X + 5, Y - 5), shapely.LineString([(X, Y), (X + 9, Y - 9)])])
def test_points_and_lines_are_refused(tmp_path: Path, shape: Any) -> None:
    with pytest.raises(ResDepthError, match=rf"a.gpkg: holds a \({shape.geom_type}\); polygons are expected"):
        open_vector_mask(write(tmp_path / "a.gpkg", [shape]), GRID)
    mixed = write(tmp_path / "b.geojson", [box(5, 5, 9, 9), shape])
    with pytest.raises(
        ResDepthError, match=rf"b.geojson: the layer 'b' holds a {shape.geom_type}; polygons are"
    ):
        open_vector_mask(mixed, GRID)


def test_of_several_layers_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "town.gpkg"
    write(path, [box(5.1, 5.1, 9.1, 9.1)], layer="roofs")
    write(path, [box(20.1, 20.1, 30.1, 30.1)], layer="lakes", append=True)
    write(path, [shapely.Point(X, Y)], layer="trees", append=True)
    with pytest.raises(
        ResDepthError, match=r"name one: town.gpkg\|layername=roofs, town.gpkg\|layername=lakes$"
    ):
        open_vector_mask(path, GRID)
    with pytest.raises(ResDepthError, match=r"has no layer 'pools'; its layers: roofs, lakes, trees"):
        open_vector_mask(Path(f"{path}|layername=pools"), GRID)
    lakes = open_vector_mask(Path(f"{path}|layername=lakes"), GRID)
    np.testing.assert_array_equal(lakes.read(GRID.whole), pixels(20.1, 20.1, 30.1, 30.1))


def test_one_layer_of_polygons_among_others_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "town.gpkg"
    write(path, [shapely.Point(X, Y)], layer="trees")
    write(path, [box(20.1, 20.1, 30.1, 30.1)], layer="lakes", append=True)
    np.testing.assert_array_equal(
        open_vector_mask(path, GRID).read(GRID.whole), pixels(20.1, 20.1, 30.1, 30.1)
    )


def test_polygons_elsewhere_are_refused_with_both_extents(tmp_path: Path) -> None:
    path = write(tmp_path / "far.gpkg", [box(500, 500, 600, 600)])
    with pytest.raises(
        ResDepthError,
        match=r"far.gpkg: no polygon lies on the raster, which covers 465000 5247950 465060 5248000 in "
        r"EPSG:32632; the file covers 465500 5247400 465600 5247500 in EPSG:32632",
    ):
        open_vector_mask(path, GRID)


def test_metres_that_are_called_degrees_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.gpkg", [box(5, 5, 9, 9)], crs="EPSG:4326")
    with pytest.raises(
        ResDepthError, match=r"odd.gpkg: no polygon lies on .* in EPSG:4326. Is it the right file"
    ):
        open_vector_mask(path, GRID)
    with pytest.raises(ResDepthError, match=r"odd.gpkg: its coordinates cannot be transformed to EPSG:32632"):
        bounds_on(path, GRID)


@pytest.mark.parametrize("name", ["none.gpkg", "none.json", "text.geojson", "text.json", "list.geojson"])
def test_what_is_no_vector_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.geojson").write_text("no polygons here")
    (tmp_path / "text.json").write_text("no polygons here")
    (tmp_path / "list.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(ResDepthError, match=f"{name}: "):
        open_vector_mask(tmp_path / name, GRID)


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "town.gpkg", [box(5, 5, 9, 9)])
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(ResDepthError, match=r"town.gpkg: .*pip install 'resdepth\[vector\]'"):
        open_vector_mask(path, GRID)


def test_the_bounds_are_those_of_all_polygons(tmp_path: Path) -> None:
    path = write(tmp_path / "town.gpkg", [box(10, 5, 20, 12), box(900, 900, 950, 980)])
    assert bounds_on(path, GRID) == (X + 10, Y - 980, X + 950, Y - 5)


def test_vector_files_are_stated_by_their_names() -> None:
    for name in (
        "a.gpkg",
        "a.GeoJSON",
        "a.city.json",
        "a.city.jsonl",
        "b/a.shp",
        "a.fgb",
        "a.gpkg|layername=roofs.tif",
    ):
        assert is_vector(Path(name))
    for name in ("a.tif", "a.parquet", "gpkg", "a.vrt"):
        assert not is_vector(Path(name))


def city(path: Path, objects: dict[str, Any], corners: list[tuple[float, float, float]], **head: Any) -> Path:
    """A CityJSON file; corners in metres to the east and to the south of the grid's corner, and up."""
    vertices = [[round(1000 * x), round(-1000 * y), round(1000 * z)] for x, y, z in corners]
    file = {
        "type": "CityJSON", "version": "2.0",
        "metadata": {"referenceSystem": "https://www.opengis.net/def/crs/EPSG/0/32632"},
        "transform": {"scale": [0.001] * 3, "translate": [X, Y, 0]},
        "CityObjects": objects, "vertices": vertices, **head,
    }  # fmt: skip
    path.write_text(json.dumps(file), encoding="utf-8")
    return path


GROUND = [(10.1, 10.1, 0), (20.1, 10.1, 0), (20.1, 18.1, 0), (10.1, 18.1, 0)]
EAVES = [(9.1, 9.1, 6), (21.1, 9.1, 6), (21.1, 19.1, 6), (9.1, 19.1, 6)]
WALL = [[0, 1, 5, 4]]


def building(*semantics: str) -> dict[str, Any]:
    """A building with a ground, a roof that juts out by a metre, and a wall."""
    geometry: dict[str, Any] = {
        "type": "MultiSurface",
        "lod": "2",
        "boundaries": [[[0, 1, 2, 3]], [[4, 5, 6, 7]], WALL],
    }
    if semantics:
        surfaces = [{"type": name} for name in semantics]
        geometry["semantics"] = {"surfaces": surfaces, "values": list(range(len(surfaces)))}
    return {"type": "Building", "geometry": [geometry]}


def test_the_ground_surfaces_of_a_city_model_are_the_mask(tmp_path: Path) -> None:
    lake = {
        "type": "WaterBody",
        "geometry": [{"type": "MultiSurface", "lod": "1", "boundaries": [[[8, 9, 10]]]}],
    }
    objects = {"house": building("GroundSurface", "RoofSurface", "WallSurface"), "lake": lake}
    corners = [*GROUND, *EAVES, (30, 30, 0), (40, 30, 0), (40, 40, 0)]
    path = city(tmp_path / "town.city.json", objects, corners)
    np.testing.assert_array_equal(
        open_vector_mask(path, GRID).read(GRID.whole), pixels(10.1, 10.1, 20.1, 18.1)
    )
    np.testing.assert_allclose(bounds_on(path, GRID), (X + 10.1, Y - 18.1, X + 20.1, Y - 10.1))


def test_a_city_model_without_semantics_is_seen_from_above(tmp_path: Path) -> None:
    path = city(tmp_path / "town.json", {"house": building()}, [*GROUND, *EAVES])
    np.testing.assert_array_equal(open_vector_mask(path, GRID).read(GRID.whole), pixels(9.1, 9.1, 21.1, 19.1))


def test_a_city_model_without_buildings_or_elsewhere_is_refused(tmp_path: Path) -> None:
    lake = {
        "type": "WaterBody",
        "geometry": [{"type": "MultiSurface", "lod": "1", "boundaries": [[[0, 1, 2]]]}],
    }
    with pytest.raises(ResDepthError, match=r"lake.json: has no buildings, whose footprints are expected"):
        open_vector_mask(city(tmp_path / "lake.json", {"lake": lake}, GROUND), GRID)
    far = [(x + 500, y, z) for x, y, z in GROUND + EAVES]
    with pytest.raises(ResDepthError, match=r"far.json: no polygon lies on the raster"):
        open_vector_mask(city(tmp_path / "far.json", {"house": building()}, far), GRID)


def test_a_city_model_of_another_crs_is_transformed(tmp_path: Path) -> None:
    house = {"house": building("GroundSurface")}
    swiss = find_crs("EPSG:2056")
    x, y = rasterio.warp.transform("EPSG:32632", "EPSG:2056", [X + 15], [Y - 14])
    grid = Grid(100, 120, (0.5, 0, x[0] - 30, 0, -0.5, y[0] + 25), *swiss)
    read = open_vector_mask(city(tmp_path / "town.json", house, [*GROUND, *EAVES]), grid).read(grid.whole)
    assert abs(read.sum() * 0.25 - 80) < 2
    rows, cols = np.nonzero(read)
    assert abs(rows.mean() - 49.5) < 1
    assert abs(cols.mean() - 59.5) < 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("urn:ogc:def:crs:EPSG::7415", "EPSG:7415"),
        ("urn:ogc:def:crs:EPSG:9.8:7415", "EPSG:7415"),
        ("https://www.opengis.net/def/crs/EPSG/0/7415", "EPSG:7415"),
        ("EPSG:7415", "EPSG:7415"),
        ("EPSG:32632+5773", "EPSG:32632+5773"),
        ("urn:ogc:def:crs,crs:EPSG::32632,crs:EPSG::5773", "EPSG:32632+5773"),
        ("urn:ogc:def:crs,crs:EPSG:6.12:3068,crs:EPSG:6.12:5783", "EPSG:3068+5783"),
        ("urn:ogc:def:crs:EPSG::32632,crs:EPSG::5773", "EPSG:32632+5773"),
        (
            "http://www.opengis.net/def/crs-compound?1=http://www.opengis.net/def/crs/EPSG/0/32632&"
            "2=http%3A%2F%2Fwww.opengis.net%2Fdef%2Fcrs%2FEPSG%2F0%2F5773",
            "EPSG:32632+5773",
        ),
        ("OGC:CRS84", "OGC:CRS84"),
        ("", ""),
    ],
)
def test_reference_systems_of_city_models_are_known_in_all_their_spellings(text: str, code: str) -> None:
    assert CityModel(text, np.zeros((0, 3)), []).crs_code == code


def test_a_city_model_with_a_compound_system_lies_where_its_horizontal_part_does(tmp_path: Path) -> None:
    head = {"metadata": {"referenceSystem": "urn:ogc:def:crs,crs:EPSG::32632,crs:EPSG::5773"}}
    path = city(tmp_path / "town.json", {"house": building()}, [*GROUND, *EAVES], **head)
    np.testing.assert_array_equal(open_vector_mask(path, GRID).read(GRID.whole), pixels(9.1, 9.1, 21.1, 19.1))


def test_a_city_model_line_by_line_is_called_what_it_is(tmp_path: Path) -> None:
    path = city(tmp_path / "town.json", {}, [])
    lines = tmp_path / "town.city.jsonl"
    lines.write_text(path.read_text() + '\n{"type": "CityJSONFeature", "id": "a", "CityObjects": {}}\n')
    with pytest.raises(ResDepthError, match=r"town.city.jsonl: is a CityJSONSeq file.*cjseq collect"):
        open_vector_mask(lines, GRID)
