"""The lattice of the map, and parts of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resdepth.errors import ResDepthError
from resdepth.geo.crs import find_crs, metres_per_unit
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window

GSDS = [0.1, 0.2, 0.25, 0.3, 0.5, 1 / 3, 1.0, 2.4]


@given(
    gsd=st.sampled_from(GSDS),
    millimetres=st.integers(0, 3000),
    row=st.integers(0, 5000),
    col=st.integers(0, 5000),
)
def test_a_part_has_the_place_on_the_lattice_that_it_has_in_the_whole(
    gsd: float, millimetres: int, row: int, col: int
) -> None:
    whole = Grid(9000, 9000, (gsd, 0, 465000 + millimetres / 1000, 0, -gsd, 5248000 + millimetres / 1000))
    part = whole.crop(Window(row, col, 10, 10))
    down, right = whole.lattice_origin
    assert part.lattice_origin == (down + row, right + col)


def test_a_turned_raster_has_a_lattice_too() -> None:
    whole = Grid(50, 50, (0.3, 0.4, 100, 0.4, -0.3, 200))
    down, right = whole.lattice_origin
    assert whole.crop(Window(7, 9, 10, 10)).lattice_origin == (down + 7, right + 9)


GRID = Grid(60, 80, (0.5, 0, 465000, 0, -0.5, 5248000))


@given(st.integers(0, 59), st.integers(0, 79), st.data())
def test_the_bounds_of_a_window_lead_back_to_it(row: int, col: int, data: st.DataObject) -> None:
    window = Window(row, col, data.draw(st.integers(1, 60 - row)), data.draw(st.integers(1, 80 - col)))
    (west, north), (east, south) = (
        GRID.map_position(window.row, window.col),
        GRID.map_position(window.row_stop, window.col_stop),
    )
    assert GRID.window_of((west, south, east, north)) == window


def test_bounds_take_every_pixel_that_they_touch_and_none_outside() -> None:
    assert GRID.window_of((465000.6, 5247999.1, 465001.1, 5247999.4)) == Window(1, 1, 1, 2)
    assert GRID.window_of((0, 0, 1e7, 1e7)) == GRID.whole
    assert GRID.window_of((464000, 5247970, 465000.5, 5247970.5)) == Window(59, 0, 1, 1)


@pytest.mark.parametrize(
    "bounds",
    [
        (464000, 5247970, 465000, 5248000),  # touches the edge alone
        (465001, 5247999, 465001, 5248000),  # without width
        (465002, 5247990, 465001, 5248000),  # turned round
        (np.nan, 0, 1, 1),
        (-np.inf, -np.inf, np.inf, np.inf),
    ],
)
def test_bounds_without_a_pixel_are_refused(bounds: tuple[float, float, float, float]) -> None:
    with pytest.raises(ResDepthError, match="no pixel of the raster lies in it"):
        GRID.window_of(bounds)


def test_pixels_without_area_are_refused() -> None:
    with pytest.raises(ResDepthError, match="gives pixels no area"):
        Grid(5, 5, (0.0, 0, 0, 0, 0.0, 0)).lattice_origin  # noqa: B018 - raises


def test_the_bounds_of_a_turned_raster_hold_all_its_corners() -> None:
    assert Grid(10, 20, (0.0, 1.0, 100, -1.0, 0.0, 50)).bounds == (100, 30, 110, 50)


# --- units

LOCAL_METRES, LOCAL_FEET = 'LOCAL_CS["site",UNIT["metre",1]]', 'LOCAL_CS["site",UNIT["foot",0.3048]]'


@pytest.mark.parametrize(
    ("crs", "metres"),
    [
        (LOCAL_METRES, 1.0),
        (LOCAL_FEET, 0.3048),
        ('LOCAL_CS["site"]', 1.0),
        ('LOCAL_CS["site",UNIT["unknown",0]]', 1.0),
        ('LOCAL_CS["site",UNIT["degree",0.0174532925199433]]', None),
        (
            'ENGCRS["site",EDATUM["x"],CS[Cartesian,2],AXIS["e",east],AXIS["n",north],LENGTHUNIT["foot",0.3048]]',
            0.3048,
        ),
        (find_crs("EPSG:5800")[0], 1.0),
    ],
)
def test_a_local_crs_tells_its_unit_and_an_unknown_one_is_a_metre(crs: str, metres: float | None) -> None:
    assert metres_per_unit(crs) == metres


def test_pixels_of_a_local_crs_have_a_size_in_metres() -> None:
    grid = Grid(60, 80, (0.5, 0, 0, 0, -0.5, 0), LOCAL_FEET)
    assert grid.gsd_m == pytest.approx(0.1524)
    assert grid.sides_m == pytest.approx((0.1524, 0.1524))


@given(st.floats(-180, 180), st.floats(0.1, 5), st.floats(0.1, 5))
def test_turning_a_grid_changes_no_side_of_its_pixels(angle_deg: float, height: float, width: float) -> None:
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    turned = Grid(9, 8, (width * cosine, height * sine, 0, width * sine, -height * cosine, 0))
    assert turned.sides_m == pytest.approx((height, width))
    assert turned.pixel_area_m2 == pytest.approx(height * width)
    assert not turned.is_slanted
    assert Grid(9, 8, (width, 0.1 * height, 0, 0, -height, 0)).is_slanted


@given(st.sampled_from(["EPSG:32632", "EPSG:3857", "EPSG:4326"]), st.floats(-50, 50), st.floats(-50, 50))
def test_metres_of_a_distance_lead_back_to_map_units(crs: str, east_m: float, north_m: float) -> None:
    grid = Grid(9, 8, (1e-5, 0, 8, 0, -1e-5, 47), find_crs(crs)[0])
    assert grid.metres_of(*grid.map_units_of(east_m, north_m)) == pytest.approx((east_m, north_m))


def test_a_shift_counts_in_pixels_of_their_own_sides() -> None:
    narrow = Grid(9, 8, (0.01, 0, 0, 0, -1.0, 0))
    assert narrow.differences(Grid(9, 8, (0.01, 0, 0.005, 0, -1.0, 0)))
    assert not narrow.differences(Grid(9, 8, (0.01, 0, 0, 0, -1.0, 0.005)))


def test_a_crs_from_the_centre_of_the_earth_is_refused_with_a_remedy() -> None:
    with pytest.raises(ResDepthError, match=r"WGS 84 is geocentric.*gdalwarp -t_srs"):
        find_crs("EPSG:4978")
