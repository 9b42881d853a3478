"""A block while it is being built on: what stands in it, and where there still is room.

What stands are parts (a roof over a rectangle or a circle) and crowns of trees; covers change the ground.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.layout import Block, TownStyle, Use
from resdepth.simulate.town.terrain import Reals, Singles, object_ids

Roof = Literal[
    "flat", "gable", "hip", "half-hip", "mansard", "shed", "saw-tooth", "barrel", "cylinder", "cone", "dome"
]
Shape = Callable[[Singles, Singles, "Part"], Singles]

# Rise per metre of the lower part of a mansard roof.
STEEP = 2.4

ROUND: frozenset[Roof] = frozenset({"cylinder", "cone", "dome"})
GroundAt = Callable[[Reals, Reals], Reals]

# No part or crown reaches further beyond its block than this.
REACH_M = 16.0
# Half the length from which houses are large.
_EVEN_M = 7.5


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


@dataclass(frozen=True)
class Ring:
    """Houses wall to wall along the streets around a block.

    Attributes:
        front_m: depth of the facades behind the kerb.
        breaks: for each side, where houses end (stations, rising).
        houses: for each side, the houses between these breaks; one more than breaks.
        eaves, slope, depth, edge: (n,) float32 of the houses; depth 0 is a gap.
        roof: (n,) uint8: 0 pitched, 1 mansard, 2 flat.
        cover: (n,) uint8, class of the roof.
        number: (n,) int32 of the object.
    """

    front_m: float
    breaks: tuple[Reals, ...]
    houses: tuple[NDArray[np.int64], ...]
    eaves: NDArray[np.float32]
    slope: NDArray[np.float32]
    depth: NDArray[np.float32]
    edge: NDArray[np.float32]
    roof: NDArray[np.uint8]
    cover: NDArray[np.uint8]
    number: NDArray[np.int32]


@dataclass(frozen=True)
class Pond:
    """Still water within a few merged circles.

    Attributes:
        x, y, radius: (n,) of the circles.
        level: height of the water above sea level.
    """

    x: Reals
    y: Reals
    radius: Reals
    level: float


@dataclass
class Plan:
    """The contents of a block.

    Attributes:
        use: what it is used for.
        floor: class of the open ground behind the pavements.
        bare: share of bare soil in the open ground.
        canopy_m: height of the forest; 0 for none.
    """

    use: Use
    floor: SurfaceClass
    bare: float
    canopy_m: float = 0.0
    ring: Ring | None = None
    pond: Pond | None = None
    covers: list[Cover] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    crowns: list[Crown] = field(default_factory=list)


@dataclass
class Site:
    """A block while it is being built on.

    Attributes:
        block: the ground between streets.
        plan: what has been placed.
        style: of the town.
        rng: the block's own generator.
        ground_at: height of the ground at places in metres.
        seed: of the town.
    """

    block: Block
    plan: Plan
    style: TownStyle
    rng: np.random.Generator
    ground_at: GroundAt
    seed: int
    taken: list[Part] = field(default_factory=list)
    _count: int = 0

    @property
    def pavement_m(self) -> float:
        """Of the widest pavement around."""
        return max(side.pavement_m for side in self.block.sides)

    def number(self) -> int:
        """A new object's number."""
        i, j, k = self.block.key
        self._count += 1
        where = np.array([i]), np.array([j])
        return int(object_ids(*where, salt=(self.seed << 40) ^ (k << 20) ^ self._count)[0])

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """A uniform number."""
        return float(low + (high - low) * self.rng.random())

    def footprint(self, x: float, y: float, cos: float, sin: float, half_u: float, half_v: float) -> Part:
        """A rectangle that may become a building; its height is not yet known."""
        return Part(x, y, cos, sin, half_u, half_v, 0.0, SurfaceClass.ROOF_FLAT, 0)

    def settle(self, part: Part) -> Part:
        """Keep others off a footprint, and give it the mean height of its ground as its eaves."""
        self.taken.append(part)
        corners = np.array([part.place(*one) for one in _corners(part.half_u, part.half_v)])
        level = float(self.ground_at(corners[:, 0], corners[:, 1]).mean())
        if max(part.half_u, part.half_v) > _EVEN_M:
            # Large houses stand on made ground, or slopes would bury one end of them.
            even = (part.x, part.y, part.cos, part.sin, part.half_u + 1, part.half_v + 1)
            self.plan.covers.append(Cover(*even, None, level, 5.0))
        return replace(part, eaves=level)

    def places(self, count: int, behind_m: float) -> list[tuple[float, float]]:
        """Random places inside the block, at least this far behind the kerb."""
        x0, y0, x1, y1 = self.block.bounds
        x, y = self.rng.uniform(x0, x1, 3 * count), self.rng.uniform(y0, y1, 3 * count)
        inside = np.flatnonzero(self.block.depth_at(x, y) >= behind_m)[:count]
        return [(float(x[at]), float(y[at])) for at in inside]

    def direction(self) -> tuple[float, float]:
        """Of the longest side: cos, sin."""
        side = max(self.block.sides, key=lambda one: one.length_m)
        return side.at(side.length_m / 2, 0.0)[2:]

    def fits(self, part: Part, *, behind_m: float, apart_m: float) -> bool:
        """Whether a footprint lies behind the kerb and apart from those taken before."""
        if any(_overlap(part, other, apart_m) for other in self.taken):
            return False
        corners = np.array([part.place(*one) for one in _corners(part.half_u, part.half_v)])
        return bool((self.block.depth_at(corners[:, 0], corners[:, 1]) >= behind_m).all())

    def take(self, part: Part) -> None:
        """Keep others off a footprint."""
        self.taken.append(part)


def _corners(half_u: float, half_v: float) -> list[tuple[float, float]]:
    return [(-half_u, -half_v), (half_u, -half_v), (half_u, half_v), (-half_u, half_v), (0.0, 0.0)]


def _overlap(one: Part, other: Part, apart_m: float) -> bool:
    """Whether two turned rectangles come nearer than this (separating axes)."""
    right, down = other.x - one.x, other.y - one.y
    reach = one.half_u + one.half_v + other.half_u + other.half_v + apart_m
    if right * right + down * down > reach * reach:
        return False
    cos, sin = one.cos * other.cos + one.sin * other.sin, one.cos * other.sin - one.sin * other.cos
    cos, sin = abs(cos), abs(sin)
    for first, second in ((one, other), (other, one)):
        along, across = (
            abs(right * first.cos + down * first.sin),
            abs(down * first.cos - right * first.sin),
        )
        if along > first.half_u + second.half_u * cos + second.half_v * sin + apart_m:
            return False
        if across > first.half_v + second.half_u * sin + second.half_v * cos + apart_m:
            return False
    return True
