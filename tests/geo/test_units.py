"""Units of length by the names that files give them, and the unit of a raster's heights."""

from pathlib import Path

import pytest

from resdepth.errors import ResDepthError
from resdepth.geo.crs import FOOT, METRE, US_FOOT, Unit, Vertical, height_unit, length_unit

FEET = Vertical("NAVD88 height (ftUS)", "North American Vertical Datum 1988", Unit("US survey foot", US_FOOT))
NAME = Path("dsm.tif")


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("m", 1.0),
        ("Metres", 1.0),
        ("METER", 1.0),
        ("m above EGM96", 1.0),
        ("metres asl", 1.0),
        ("meters (NAVD88)", 1.0),
        ("ft (US)", US_FOOT),
        ("(m)", 1.0),
        ("ft", FOOT),
        ("Feet", FOOT),
        ("US survey foot", US_FOOT),
        ("us-ft", US_FOOT),
        ("U.S. Survey Feet", US_FOOT),
        ("ftUS", US_FOOT),
        ("Foot_US", US_FOOT),
        ("cm", 0.01),
        ("m/s", None),
        ("dB", None),
        ("", None),
    ],
)
def test_units_are_known_by_the_names_that_people_give_them(text: str, metres: float | None) -> None:
    found = length_unit(text)
    assert (found and found.metres) == metres


def test_the_crs_gives_the_unit_of_heights_and_the_band_may_agree() -> None:
    assert height_unit(NAME, "", None) is None
    assert height_unit(NAME, "unknown", None) is None
    assert height_unit(NAME, "metre", None) == METRE
    assert height_unit(NAME, "", FEET) == FEET.unit
    assert height_unit(NAME, "ft", FEET) == FEET.unit  # many call the US survey foot so


@pytest.mark.parametrize(
    ("band", "vertical", "stated"),
    [
        (
            "metre",
            FEET,
            r"band is metre, that of its vertical CRS .* is US survey foot; .*gdal_edit.py -units",
        ),
        ("reflectance", None, "'reflectance', which is no known unit of length; .*gdal_edit.py"),
        ("", Vertical("MSL depth", "Mean Sea Level", METRE, is_depth=True), "MSL depth counts depths"),
    ],
)
def test_what_makes_no_heights_is_refused(band: str, vertical: Vertical | None, stated: str) -> None:
    with pytest.raises(ResDepthError, match=f"dsm.tif: .*{stated}"):
        height_unit(NAME, band, vertical)


def test_heights_of_one_datum_count_from_the_same_whatever_their_units() -> None:
    metres = Vertical("NAVD88 height", "North American Vertical Datum 1988", METRE)
    geoid = Vertical("EGM96 height", "EGM96 geoid", METRE)
    assert FEET.same_zero(metres)
    assert not metres.same_zero(geoid)
    assert metres.same_zero(Vertical("site", "", METRE))
