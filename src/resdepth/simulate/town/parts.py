"""What stands on the ground: parts with a roof over a rectangle, and crowns of trees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.noise import Singles

Roof = Literal[
    "flat", "gable", "hip", "half-hip", "mansard", "shed", "saw-tooth", "barrel", "cylinder", "cone", "dome"
]
Shape = Callable[[Singles, Singles, "Part"], Singles]

# Rise per metre of the lower part of a mansard roof.
STEEP = 2.4

ROUND: frozenset[Roof] = frozenset({"cylinder", "cone", "dome"})


@dataclass(frozen=True, slots=True)
class Part:
    """A roof over a turned rectangle, or over the circle in it.

    Attributes:
        x, y: the middle, metres.
        cos, sin: direction of the ridge, which is u; v is across.
        half_u, half_v: half the length and the width.
        eaves: height of the eaves above sea level.
        cover: class of the roof.
        number: of the object.
        roof: shape of the roof.
        slope: rise per metre of a pitched roof.
        edge: height of the parapet of a flat roof; break of slope of a mansard or half-hipped one, above
            the eaves; distance of the teeth of a saw-tooth roof.
    """

    x: float
    y: float
    cos: float
    sin: float
    half_u: float
    half_v: float
    eaves: float
    cover: SurfaceClass
    number: int
    roof: Roof = "flat"
    slope: float = 0.0
    edge: float = 0.0

    def place(self, u: float, v: float) -> tuple[float, float]:
        """Where a point given in the part's own directions lies."""
        return self.x + u * self.cos - v * self.sin, self.y + u * self.sin + v * self.cos

    def reach(self) -> tuple[float, float]:
        """How far it reaches from its middle along x and y."""
        cos, sin = abs(self.cos), abs(self.sin)
        return self.half_u * cos + self.half_v * sin, self.half_u * sin + self.half_v * cos

    def beside(self, u: float, v: float, half_u: float, half_v: float) -> "Part":
        """A part of another size at a place given in this part's directions."""
        x, y = self.place(u, v)
        return replace(self, x=x, y=y, half_u=half_u, half_v=half_v)

    def turned(self) -> "Part":
        """The same footprint with the ridge along the other direction."""
        return replace(self, cos=-self.sin, sin=self.cos, half_u=self.half_v, half_v=self.half_u)


@dataclass(frozen=True, slots=True)
class Cover:
    """A rectangle of another ground cover, such as a drive or a playing field.

    Attributes:
        x, y, cos, sin, half_u, half_v: as of a Part.
        cover: class of the ground.
        level: height to which the ground is made even; None leaves it as it is.
        shoulder_m: within this distance the made ground passes into the natural one.
    """

    x: float
    y: float
    cos: float
    sin: float
    half_u: float
    half_v: float
    cover: SurfaceClass | None
    level: float | None = None
    shoulder_m: float = 2.0

    def reach(self) -> tuple[float, float]:
        """How far it reaches from its middle along x and y, the shoulder included."""
        margin = 0.0 if self.level is None else self.shoulder_m
        half_u, half_v, cos, sin = self.half_u + margin, self.half_v + margin, abs(self.cos), abs(self.sin)
        return half_u * cos + half_v * sin, half_u * sin + half_v * cos


@dataclass(frozen=True, slots=True)
class Crown:
    """A tree.

    Attributes:
        x, y: of the stem.
        radius: of the crown.
        ground: height of the ground above sea level.
        height: of the tree.
        conifer: a cone instead of an ellipsoid.
        number: of the object.
    """

    x: float
    y: float
    radius: float
    ground: float
    height: float
    conifer: bool
    number: int

    def reach(self) -> tuple[float, float]:
        """How far the crown may reach from its stem along x and y, bumps included."""
        return 1.35 * self.radius, 1.35 * self.radius


def roof_height(u: Singles, v: Singles, part: Part) -> Singles:
    """Heights above sea level of a roof at places in the part's own directions."""
    return ROOFS[part.roof](u, v, part) + np.float32(part.eaves)


def _from_side(v: Singles, part: Part) -> Singles:
    return np.float32(part.half_v) - np.abs(v)


def _from_edge(u: Singles, v: Singles, part: Part) -> Singles:
    return np.minimum(_from_side(v, part), np.float32(part.half_u) - np.abs(u))


def _arch(squared: Singles) -> Singles:
    """A quarter of a circle: 1 in the middle, 0 where the squared share of the radius is 1."""
    rise: Singles = np.sqrt(np.maximum(np.float32(1) - squared, np.float32(0)))
    return rise


def _flat(u: Singles, v: Singles, part: Part) -> Singles:
    on_rim = _from_edge(u, v, part) < np.float32(0.35 if part.edge > 0 else -1)
    return np.where(on_rim, np.float32(part.edge), np.float32(0))


def _gable(u: Singles, v: Singles, part: Part) -> Singles:  # noqa: ARG001
    return _from_side(v, part) * np.float32(part.slope)


def _hip(u: Singles, v: Singles, part: Part) -> Singles:
    return _from_edge(u, v, part) * np.float32(part.slope)


def _half_hip(u: Singles, v: Singles, part: Part) -> Singles:
    end = np.float32(part.edge) + np.float32(1.2) * (np.float32(part.half_u) - np.abs(u))
    rise: Singles = np.minimum(_from_side(v, part) * np.float32(part.slope), end)
    return rise


def _mansard(u: Singles, v: Singles, part: Part) -> Singles:
    inwards = _from_edge(u, v, part)
    upper = np.float32(part.slope) * (inwards - np.float32(part.edge / STEEP)) + np.float32(part.edge)
    rise: Singles = np.minimum(np.float32(STEEP) * inwards, upper)
    return rise


def _shed(u: Singles, v: Singles, part: Part) -> Singles:  # noqa: ARG001
    return (v + np.float32(part.half_v)) * np.float32(part.slope)


def _saw_tooth(u: Singles, v: Singles, part: Part) -> Singles:  # noqa: ARG001
    along = (u + np.float32(part.half_u)) / np.float32(part.edge)
    tooth = along - np.floor(along)
    rise: Singles = np.minimum(tooth, np.float32(5) * (np.float32(1) - tooth)) * np.float32(
        part.slope * part.edge
    )
    return rise


def _barrel(u: Singles, v: Singles, part: Part) -> Singles:  # noqa: ARG001
    across = v / np.float32(part.half_v)
    return _arch(across * across) * np.float32(part.slope * part.half_v)


def _cylinder(u: Singles, v: Singles, part: Part) -> Singles:  # noqa: ARG001
    return np.zeros_like(u)


def _cone(u: Singles, v: Singles, part: Part) -> Singles:
    inwards = np.float32(part.half_u) - np.sqrt(u * u + v * v)
    return inwards * np.float32(part.slope)


def _dome(u: Singles, v: Singles, part: Part) -> Singles:
    squared: Singles = (u * u + v * v) * np.float32(1 / (part.half_u * part.half_u))
    return _arch(squared) * np.float32(part.slope * part.half_u)


# Heights above the eaves.
ROOFS: dict[Roof, Shape] = {
    "flat": _flat,
    "gable": _gable,
    "hip": _hip,
    "half-hip": _half_hip,
    "mansard": _mansard,
    "shed": _shed,
    "saw-tooth": _saw_tooth,
    "barrel": _barrel,
    "cylinder": _cylinder,
    "cone": _cone,
    "dome": _dome,
}
