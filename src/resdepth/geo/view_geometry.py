"""From where an ortho-image was seen: by how much heights displace what it shows, all over its area.

What stands a metre above the surface that an image was ortho-rectified with appears beside its place, away
from the sensor. Over an area the displacement changes little: a quadratic function holds it to a thousandth.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

TAG = "RESDEPTH_VIEW_GEOMETRY"
"""The tag of an ortho-image that holds it, as JSON."""
N_TERMS = 6


@dataclass(frozen=True)
class ViewGeometry:
    """Displacement on the ground for each metre of height: metres along the axes of the map.

    With u = (x - x0) / span and v = (y - y0) / span it is c . (1, u, v, u u, u v, v v) in each direction.

    Attributes:
        origin: x0 and y0, map coordinates.
        span: map units.
        east, north: six numbers each, c.
    """

    origin: tuple[float, float]
    span: float
    east: tuple[float, ...]
    north: tuple[float, ...]

    def at(self, x: Values | float, y: Values | float) -> tuple[Values, Values]:
        """Metres to the east and to the north for each metre of height, at map positions of any one shape."""
        terms = _terms(self.origin, self.span, np.asarray(x, np.float64), np.asarray(y, np.float64))
        return terms @ np.array(self.east), terms @ np.array(self.north)

    @property
    def incidence_deg(self) -> float:
        """Angle between ray and vertical in the middle of the area."""
        return float(np.degrees(np.arctan(np.hypot(self.east[0], self.north[0]))))

    @property
    def azimuth_deg(self) -> float:
        """Direction of the sensor in the middle of the area, clockwise from the map's north, 0 to 360."""
        return float(np.degrees(np.arctan2(-self.east[0], -self.north[0])) % 360)

    def as_json(self) -> dict[str, object]:
        """As a record or a tag holds it."""
        return {
            "origin": list(self.origin), "span": self.span,
            "east": [round(value, 9) for value in self.east],
            "north": [round(value, 9) for value in self.north],
        }  # fmt: skip

    def as_tags(self) -> dict[str, str]:
        """As an ortho-image holds it."""
        return {TAG: json.dumps(self.as_json())}


def fitted(x: Values, y: Values, east: Values, north: Values) -> ViewGeometry:
    """The quadratic function through displacements at places, by least squares.

    Args:
        x: (N,) map coordinates, at six places or more.
        y: (N,)
        east: (N,) metres for each metre of height.
        north: (N,)
    """
    origin = float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2
    span = max(float(np.ptp(x)), float(np.ptp(y)), 1e-6) / 2
    terms = _terms(origin, span, x, y)
    by_direction = (np.linalg.lstsq(terms, values, rcond=None)[0] for values in (east, north))
    first, second = (tuple(float(one) for one in found) for found in by_direction)
    return ViewGeometry(origin, span, first, second)


def _terms(origin: tuple[float, float], span: float, x: Values, y: Values) -> Values:
    u, v = (x - origin[0]) / span, (y - origin[1]) / span
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def from_tags(tags: Mapping[str, str]) -> ViewGeometry | None:
    """What the tags of an ortho-image state; None if they state none, or none that can be read."""
    try:
        found = json.loads(tags[TAG])
        east, north = (tuple(float(one) for one in found[name]) for name in ("east", "north"))
        x, y = (float(one) for one in found["origin"])
        geometry = ViewGeometry((x, y), float(found["span"]), east, north)
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    numbers = [*geometry.origin, geometry.span, *east, *north]
    sound = len(east) == len(north) == N_TERMS and geometry.span > 0 and bool(np.isfinite(numbers).all())
    return geometry if sound else None
