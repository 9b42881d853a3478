"""How heights displace what an image shows: fitted, kept in tags, equal to the camera's."""

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import write_raster
from resdepth.data.scene import Scene, hold_in_memory
from resdepth.geo.rpc import TAG, ViewGeometry, fitted, from_tags


def test_a_quadratic_function_comes_back_from_its_values() -> None:
    made = ViewGeometry((5.0, -3.0), 50.0, (0.1, 0.02, 0, 0.003, 0, 0), (-0.3, 0, 0.01, 0, 0.002, 0.001))
    x, y = (one.ravel() for one in np.meshgrid(np.linspace(-45, 55, 4), np.linspace(-53, 47, 4)))
    found = fitted(x, y, *made.at(x, y))
    np.testing.assert_allclose(found.at(x, y), made.at(x, y), atol=1e-12)
    again = from_tags(found.as_tags())
    assert again is not None
    np.testing.assert_allclose(again.at(x, y), made.at(x, y), atol=1e-8)


def test_direction_of_the_sensor_follows() -> None:
    east = ViewGeometry((0.0, 0.0), 1.0, (-0.5, 0, 0, 0, 0, 0), (0.0, 0, 0, 0, 0, 0))
    assert east.azimuth_deg == pytest.approx(90)
    assert east.incidence_deg == pytest.approx(np.degrees(np.arctan(0.5)))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"origin": [0, 0], "span": 0, "east": [], "north": []}'])
def test_tags_that_state_no_geometry_are_passed_over(text: str) -> None:
    assert from_tags({TAG: text}) is None
    assert from_tags({}) is None


def test_a_simulated_view_has_the_geometry_of_its_camera(raw_scene: Path) -> None:
    record = json.loads((raw_scene.parent / "scene.json").read_text())
    names = [view["name"] for view in record["views"]]
    paths = [raw_scene / "satellite_views" / f"{name}.tif" for name in names]
    scene = Scene.open(raw_scene / "dsm" / "initial.tif", paths)
    xmin, ymin, xmax, ymax = scene.grid.bounds
    for held in (scene, hold_in_memory([scene], 1e9)[0]):
        for number, view in enumerate(record["views"]):
            matrix = np.array(view["affine"]["matrix"])
            expected = np.linalg.solve(matrix[:, :2], matrix[:, 2])
            geometry = held.views[number].geometry  # type: ignore[attr-defined]
            for x, y in ((xmin, ymin), ((xmin + xmax) / 2, ymax), (xmax, (ymin + ymax) / 2)):
                found = np.array(geometry.at(x, y))
                assert np.hypot(*(found - expected)) < 0.01 * np.hypot(*expected)
            assert geometry.incidence_deg == pytest.approx(view["incidence_deg"], abs=0.2)
            assert (geometry.azimuth_deg - view["azimuth_deg"] + 180) % 360 == pytest.approx(180, abs=1)
            assert from_tags({TAG: json.dumps(view["view_geometry"])}) == geometry


def test_other_images_have_none(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", np.ones((8, 8), np.uint8))
    scene = Scene.open(write_raster(tmp_path / "dsm.tif", np.ones((8, 8), np.float32)), [path])
    assert scene.views[0].geometry is None  # type: ignore[attr-defined]
