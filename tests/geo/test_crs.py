"""Coordinate reference systems: names, the same place under other names, heights, lengths on the ground."""

import numpy as np
import pytest
from rasterio.crs import CRS

from resdepth.errors import ResDepthError
from resdepth.geo.crs import (
    METRE,
    find_crs,
    ground_scale,
    horizontal_part,
    metres_per_unit,
    parsed,
    same_horizontally,
    short_name,
    storable,
    vertical_part,
)

UTM = CRS.from_epsg(32632).to_wkt()
# GDAL turns a vertical datum of type 2002, heights above the ellipsoid, into a 3D CRS.
UTM_3D = CRS.from_wkt(
    f'COMPD_CS["UTM and ellipsoid",{UTM},VERT_CS["ellipsoid",VERT_DATUM["Ellipsoid",2002],UNIT["metre",1],'
    'AXIS["Up",UP]]]'
).to_wkt()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("EPSG:32632", "EPSG:32632"),
        ("EPSG:32632+5773", "EPSG:32632+5773"),
        ("EPSG:28992+5709", "EPSG:7415"),
        (f'COMPD_CS["x",{UTM},VERT_CS["dam",VERT_DATUM["crest",2005],UNIT["metre",1]]]', "EPSG:32632 + dam"),
        (UTM_3D, "EPSG:32632 with ellipsoidal heights"),
        ('LOCAL_CS["site",UNIT["metre",1]]', "site"),
        (f'LOCAL_CS["{"s" * 100}",UNIT["metre",1]]', "s" * 60 + "..."),
    ],
)
def test_names_are_short(text: str, name: str) -> None:
    assert short_name(CRS.from_user_input(text)) == name


@pytest.mark.parametrize("other", [UTM_3D, parsed("EPSG:32632+5773"), parsed("EPSG:32632+6360")])
def test_heights_do_not_change_where_pixels_lie(other: str) -> None:
    assert same_horizontally(UTM, other)
    assert not same_horizontally(CRS.from_epsg(32633).to_wkt(), other)
    assert vertical_part(horizontal_part(other)) is None


def test_geographic_systems_in_3d_are_those_in_2d() -> None:
    assert same_horizontally(parsed("EPSG:4979"), parsed("EPSG:4326"))


@pytest.mark.parametrize(
    ("text", "name", "unit"),
    [
        ("EPSG:2263+6360", "NAVD88 height (ftUS)", "US survey foot"),
        ("EPSG:32632+8228", "NAVD88 height (ft)", "foot"),
        ("EPSG:32632+5773", "EGM96 height", "metre"),
        (UTM_3D, "ellipsoidal height", "metre"),
        ("EPSG:4979", "ellipsoidal height", "metre"),
    ],
)
def test_compound_and_3d_systems_state_what_heights_are(text: str, name: str, unit: str) -> None:
    found = vertical_part(parsed(text))
    assert found is not None
    assert (found.name, found.unit.name) == (name, unit)
    assert vertical_part(UTM) is None


def test_the_ellipsoid_and_a_geoid_are_different_zeros() -> None:
    ellipsoid, geoid = vertical_part(UTM_3D), vertical_part(parsed("EPSG:32632+5773"))
    assert ellipsoid is not None
    assert geoid is not None
    assert not ellipsoid.same_zero(geoid)
    assert ellipsoid.unit == METRE


@pytest.mark.parametrize(
    ("code", "place", "expected"),
    [
        (32632, (465000, 5248000), (1, 1)),
        (2263, (1e6, 2e5), (1200 / 3937, 1200 / 3937)),
        (3857, (1e6, 6e6), (0.6787, 0.6766)),
        (3395, (1e6, 6e6), (0.6762, 0.6762)),
        (4326, (8, 47), (76056, 111171)),
        (4807, (8, 52), (68709, 100050)),  # in grads
        (3035, (4.3e6, 3.2e6), (1, 1)),
        (3857, (1e6, 1e30), (1, 1)),  # of no place on Earth
    ],
)
def test_lengths_on_the_ground_are_not_those_of_the_map(
    code: int, place: tuple[float, float], expected: tuple[float, float]
) -> None:
    scale = ground_scale(CRS.from_epsg(code).to_wkt(), *place)
    np.testing.assert_allclose(np.diag(scale), expected, rtol=1e-3)
    np.testing.assert_allclose(np.diag(np.diag(scale)), scale, atol=1e-6)


def test_a_map_that_is_nearly_true_to_scale_counts_as_true() -> None:
    assert ground_scale(UTM, 465000, 5248000) == ((1, 0), (0, 1))


@pytest.mark.parametrize("text", ["EPSG:5773", "EPSG:4978"])
def test_what_is_no_map_is_refused(text: str) -> None:
    with pytest.raises(ResDepthError, match="which is no map"):
        find_crs(text)
    assert metres_per_unit(UTM) == 1


def test_a_crs_by_its_name_or_without_heights_is_stored_as_it_is_and_a_3d_one_without_its_heights() -> None:
    for text in ("", "EPSG:32632", UTM, "EPSG:4326", "EPSG:25832+5773"):
        assert storable(text) == text
    assert len(CRS.from_user_input(storable(UTM_3D)).to_dict(projjson=True)["coordinate_system"]["axis"]) == 2
