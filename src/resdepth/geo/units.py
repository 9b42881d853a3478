"""Units of length, by the names that files give them, and the unit of a raster's heights."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError

# Units that differ by less are one: many files call the US survey foot (2 millionths longer) a foot.
SAME = 1e-5
FOOT, US_FOOT = 0.3048, 1200 / 3937
_METRES = {
    "m metre metres meter meters": 1.0,
    "dm decimetre decimetres decimeter decimeters": 0.1,
    "cm centimetre centimetres centimeter centimeters": 0.01,
    "mm millimetre millimetres millimeter millimeters": 0.001,
    "km kilometre kilometres kilometer kilometers": 1000.0,
    "ft foot feet ift international_foot international_feet foot_international": FOOT,
    "ftus usft us_ft ft_us us_foot us_feet foot_us feet_us us_survey_foot us_survey_feet survey_foot "
    "survey_feet foot_us_survey": US_FOOT,
    "yd yard yards": 3 * FOOT,
    "in inch inches": FOOT / 12,
    "fathom fathoms": 6 * FOOT,
}
METRES = {name: size for names, size in _METRES.items() for name in names.split()}
UNTOLD = ("", "unknown", "none", "unitless")
# "m above EGM96" names a unit, "m/s" another one.
ABOVE = ("above", "over", "asl", "amsl", "msl")


@dataclass(frozen=True)
class Unit:
    """A unit of length.

    Attributes:
        name: as the file gives it ("US survey foot").
        metres: its length.
    """

    name: str
    metres: float

    @property
    def is_metre(self) -> bool:
        """Whether it is a metre, whatever it is called."""
        return abs(self.metres - 1) < SAME

    def of_metres(self, values: NDArray[Any]) -> NDArray[Any]:
        """Metres as numbers of this unit, in the type they come in."""
        return values if self.is_metre else (values / np.float64(self.metres)).astype(values.dtype)

    def to_metres(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers of this unit as metres."""
        return values if self.is_metre else values * self.metres

    def same(self, other: "Unit") -> bool:
        """Whether both are equally long, as far as their names can tell."""
        return abs(self.metres / other.metres - 1) < SAME


METRE = Unit("metre", 1.0)


@dataclass(frozen=True)
class Vertical:
    """What a CRS states about heights.

    Attributes:
        name: of the vertical part ("NAVD88 height (ftUS)").
        datum: what heights count from; "" if the CRS does not name it.
        unit: of the heights.
        is_depth: whether the numbers grow downwards.
    """

    name: str
    datum: str
    unit: Unit
    is_depth: bool = False

    def same_zero(self, other: "Vertical") -> bool:
        """Whether both count from the same; unnamed ones might."""
        first, second = (re.sub(r"[^a-z0-9]+", "", one.datum.casefold()) for one in (self, other))
        return not first or not second or first == second

    def __str__(self) -> str:
        """What it is called and counts from."""
        return f"{self.name} ({self.datum})" if self.datum else self.name


def length_unit(text: str) -> Unit | None:
    """The unit that a text names; None if it names no length.

    Letters, blanks and dots are taken as people write them: "US survey foot", "us-ft", "m above geoid",
    "metres (NAVD88)".
    """
    remark = text.find("(")
    return _unit_in(text) or (_unit_in(text[:remark]) if remark > 0 else None)


def _unit_in(text: str) -> Unit | None:
    words = re.sub(r"[^a-z0-9]+", " ", text.casefold()).replace("u s ", "us ").split()
    for count in range(len(words), 0, -1):
        size = METRES.get("_".join(words[:count]))
        if size is not None and (count == len(words) or words[count] in ABOVE):
            return METRE if size == 1 else Unit(text.strip(), size)
    return None


def height_unit(path: Path, band: str, vertical: Vertical | None) -> Unit | None:
    """The unit of a raster's heights, from what its band and its CRS state; None if neither does.

    Where both state one they must agree. The CRS's number counts then: it has more digits.

    Raises:
        ResDepthError: if the band's unit is no known length, both contradict each other, or it has depths.
    """
    if vertical is not None and vertical.is_depth:
        raise ResDepthError(
            f"{path}: its vertical CRS {vertical.name} counts depths, downwards; heights are expected: "
            "change the sign of the values and name a CRS of heights (gdal_edit.py -a_srs)"
        )
    stated = None if band.strip().casefold() in UNTOLD else length_unit(band)
    if stated is None and band.strip().casefold() not in UNTOLD:
        raise ResDepthError(
            f"{path}: the unit of its band is {band[:40]!r}, which is no known unit of length; correct it "
            "(gdal_edit.py -units metre, or 'foot', or 'US survey foot')"
        )
    if vertical is None:
        return stated
    if stated is not None and not stated.same(vertical.unit):
        raise ResDepthError(
            f"{path}: the unit of its band is {stated.name}, that of its vertical CRS {vertical.name} is "
            f"{vertical.unit.name}; correct the wrong one (gdal_edit.py -units {vertical.unit.name!r}, or "
            "-a_srs with the right CRS)"
        )
    return METRE if vertical.unit.is_metre else vertical.unit
