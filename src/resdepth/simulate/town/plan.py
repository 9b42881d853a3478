"""What a block holds: its ground, buildings and trees, and the building site on which they are placed."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.block import Block
from resdepth.simulate.town.noise import Reals, object_ids
from resdepth.simulate.town.parts import Cover, Crown, Part
from resdepth.simulate.town.styles import TownStyle, Use

GroundAt = Callable[[Reals, Reals], Reals]

# No part or crown reaches further beyond its block than this.
REACH_M = 16.0
# Half the length from which houses are large.
_EVEN_M = 7.5


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
