"""The layout of a town: its style, its streets, and the blocks between them.

Main streets run on a bent lattice, minor ones divide what lies between. A block reaches to the middles of the
streets around it, and knows where in it a point lies.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from resdepth.options import Style
from resdepth.simulate.town.terrain import (
    BANK_M,
    Frame,
    Reals,
    Singles,
    Terrain,
    generator,
    noise_at,
    smoothstep,
)

Use = Literal[
    "perimeter",
    "church",
    "square",
    "detached",
    "rows",
    "slabs",
    "towers",
    "civic",
    "halls",
    "tanks",
    "parking",
    "park",
    "allotments",
    "orchard",
    "field",
    "forest",
]

_STYLE_SALT = 7001
_FRAME_SALT, _BLOCK_SALT = 7003, 7004
_POINTS_ALONG = 9
# Main streets run on low embankments and in cuttings here and there.
_EMBANKMENT_M, _EMBANKMENT_SPACING_M = 0.9, 170.0
_SHORTEST_M = 34.0
_QUAY_M = 7.0


@dataclass(frozen=True)
class TownStyle:
    """The parameters of a style; a town draws its own around them (`drawn`)."""

    superblock_m: float
    """Distance of the main streets."""
    bend: float
    """How far main streets bend and streets lean, as a share of their distance; up to 0.3."""
    block_area_m2: tuple[float, float]
    """Smallest and largest block between streets; larger ones are divided."""
    main_width_m: float
    """Carriageway of a main street."""
    minor_width_m: float
    """Carriageway of a minor street."""
    pavement_m: float
    """Width of the pavements along streets."""
    relief_m: float
    """Height of the hills above the valleys, roughly."""
    storeys: tuple[float, float]
    """Smallest and largest number of storeys of the common house."""
    storey_m: float
    """Height of a storey."""
    pitched: float
    """Share of the pitched roofs among the common houses."""
    density: float
    """Share of the plots that are built on."""
    trees_per_ha: float
    """Trees in gardens, courtyards and parks."""
    street_trees: float
    """Share of the streets' sides that have a row of trees."""
    terraces: float
    """Share of the open blocks whose slopes are cut into terraces."""
    river: float
    """Probability that the town has rivers."""
    river_width_m: tuple[float, float]
    """Smallest and largest width of a river."""
    uses: tuple[tuple[Use, float], ...]
    """What blocks are used for, with weights."""


STYLES: dict[Style, TownStyle] = {
    "old-town": TownStyle(
        superblock_m=230,
        bend=0.22,
        block_area_m2=(2600, 7500),
        main_width_m=11,
        minor_width_m=6,
        pavement_m=1.8,
        relief_m=30,
        storeys=(2.5, 5.5),
        storey_m=3.3,
        pitched=0.95,
        density=0.93,
        trees_per_ha=22,
        street_trees=0.15,
        terraces=0.15,
        river=0.6,
        river_width_m=(12, 45),
        uses=(
            ("perimeter", 72),
            ("church", 4),
            ("square", 3.5),
            ("rows", 6),
            ("detached", 5),
            ("civic", 5),
            ("park", 7),
            ("parking", 2),
        ),
    ),
    "suburb": TownStyle(
        superblock_m=310,
        bend=0.26,
        block_area_m2=(4500, 11000),
        main_width_m=9,
        minor_width_m=5.5,
        pavement_m=1.6,
        relief_m=48,
        storeys=(1.0, 2.4),
        storey_m=2.9,
        pitched=0.92,
        density=0.9,
        trees_per_ha=45,
        street_trees=0.2,
        terraces=0.35,
        river=0.45,
        river_width_m=(5, 18),
        uses=(
            ("detached", 60),
            ("rows", 14),
            ("civic", 4),
            ("church", 1.5),
            ("slabs", 4),
            ("park", 5),
            ("allotments", 3),
            ("orchard", 2),
            ("field", 4),
            ("forest", 5),
        ),
    ),
    "high-rise": TownStyle(
        superblock_m=340,
        bend=0.15,
        block_area_m2=(9000, 26000),
        main_width_m=16,
        minor_width_m=8,
        pavement_m=3,
        relief_m=18,
        storeys=(5, 13),
        storey_m=2.95,
        pitched=0.06,
        density=0.85,
        trees_per_ha=38,
        street_trees=0.55,
        terraces=0.1,
        river=0.45,
        river_width_m=(20, 60),
        uses=(
            ("slabs", 36),
            ("towers", 26),
            ("perimeter", 9),
            ("civic", 8),
            ("halls", 3),
            ("parking", 5),
            ("square", 3),
            ("park", 9),
            ("forest", 1),
        ),
    ),
    "industrial": TownStyle(
        superblock_m=360,
        bend=0.12,
        block_area_m2=(13000, 42000),
        main_width_m=13,
        minor_width_m=8,
        pavement_m=1.5,
        relief_m=12,
        storeys=(2, 5),
        storey_m=3.4,
        pitched=0.2,
        density=0.85,
        trees_per_ha=10,
        street_trees=0.25,
        terraces=0.1,
        river=0.5,
        river_width_m=(15, 55),
        uses=(
            ("halls", 64),
            ("tanks", 9),
            ("parking", 7),
            ("civic", 5),
            ("field", 7),
            ("slabs", 2),
            ("park", 2),
            ("forest", 4),
        ),
    ),
}


def drawn(style: TownStyle, seed: int) -> TownStyle:
    """The style of one town: two seeds differ in density, heights, size of blocks, relief and green."""
    rng = generator(_STYLE_SALT, seed)
    size, high = rng.uniform(0.82, 1.2), rng.uniform(0.8, 1.25)
    low_area, high_area = style.block_area_m2
    area = size * size * rng.uniform(0.9, 1.15)
    return replace(
        style,
        superblock_m=style.superblock_m * size,
        bend=min(style.bend * rng.uniform(0.5, 1.25), 0.3),
        block_area_m2=(low_area * area, high_area * area),
        main_width_m=style.main_width_m * rng.uniform(0.85, 1.25),
        minor_width_m=style.minor_width_m * rng.uniform(0.85, 1.2),
        pavement_m=style.pavement_m * rng.uniform(0.7, 1.4),
        relief_m=style.relief_m * rng.uniform(0.3, 1.8),
        storeys=(style.storeys[0] * rng.uniform(0.85, 1.15), style.storeys[1] * high),
        pitched=min(style.pitched * rng.uniform(0.8, 1.15), 1.0),
        density=min(style.density * rng.uniform(0.85, 1.1), 1.0),
        trees_per_ha=style.trees_per_ha * rng.uniform(0.5, 1.7),
        street_trees=min(style.street_trees * rng.uniform(0.3, 1.9), 1.0),
        uses=tuple((use, weight * rng.uniform(0.55, 1.6)) for use, weight in style.uses),
    )


@dataclass(frozen=True)
class Side:
    """The middle of a street along one side of a block.

    Attributes:
        points: (n, 3) float64, x, y and height of the street in metres; the block lies on the side of y
            when one looks along x.
        half_m: from the middle to the kerb.
        pavement_m: width of the pavement.
        water_m: half the width of the river in the middle; 0 where there is none.
    """

    points: Reals
    half_m: float
    pavement_m: float
    water_m: float = 0.0

    @cached_property
    def stations(self) -> Reals:
        """(n,) metres along the side."""
        steps = np.diff(self.points[:, :2], axis=0)
        return np.concatenate([[0.0], np.cumsum(np.sqrt((steps * steps).sum(axis=1)))])

    @property
    def length_m(self) -> float:
        """From corner to corner."""
        return float(self.stations[-1])

    def reversed(self) -> "Side":
        """The same street seen from the other side."""
        return Side(self.points[::-1], self.half_m, self.pavement_m, self.water_m)

    def cut(self, station_m: float) -> tuple["Side", "Side"]:
        """The parts before and after a station; the new corner lies on the street itself."""
        number = int(np.clip(np.searchsorted(self.stations, station_m), 1, len(self.points) - 1))
        before, after = self.stations[number - 1 : number + 1]
        share = (station_m - before) / (after - before)
        corner = self.points[number - 1] * (1 - share) + self.points[number] * share
        first = np.concatenate([self.points[:number], corner[None]])
        second = np.concatenate([corner[None], self.points[number:]])
        widths = (self.half_m, self.pavement_m, self.water_m)
        return Side(first, *widths), Side(second, *widths)

    def at(self, station_m: float, inwards_m: float) -> tuple[float, float, float, float]:
        """A place beside the street and the direction of the street there: x, y, cos, sin."""
        number = int(np.clip(np.searchsorted(self.stations, station_m), 1, len(self.points) - 1))
        start, step = self.points[number - 1], self.points[number] - self.points[number - 1]
        length = self.stations[number] - self.stations[number - 1]
        cos, sin = float(step[0] / length), float(step[1] / length)
        along = station_m - self.stations[number - 1]
        return (
            float(start[0] + along * cos - inwards_m * sin),
            float(start[1] + along * sin + inwards_m * cos),
            cos,
            sin,
        )


@dataclass(frozen=True)
class Fields:
    """Where points lie in their block; arrays of one shape.

    Attributes:
        depth: metres from the kerb inwards; negative on the carriageway.
        side: which side is nearest.
        station: metres along that side.
        street: height of the streets around, metres.
        open: 0 at the streets, 1 where the ground is no longer shaped by them; smooth.
        river: metres from the middle of the river; large where the block has none.
    """

    depth: Singles
    side: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    station: Singles
    street: Singles
    open: Singles
    river: Singles


@dataclass(frozen=True)
class Block:
    """The ground between streets.

    Attributes:
        sides: four, one after the other around the block.
        key: superblock's column and row, and the block's number in it.
    """

    sides: tuple[Side, Side, Side, Side]
    key: tuple[int, int, int]

    @cached_property
    def outline(self) -> Reals:
        """(n, 3) corners of the polygon, each once: x, y and height of the street."""
        return np.concatenate([side.points[:-1] for side in self.sides])

    @cached_property
    def centre(self) -> tuple[float, float]:
        """A place in the middle."""
        x, y = self.outline[:, :2].mean(axis=0)
        return float(x), float(y)

    @cached_property
    def area_m2(self) -> float:
        """Between the middles of the streets."""
        x, y = self.outline[:, 0] - self.centre[0], self.outline[:, 1] - self.centre[1]
        return float(0.5 * abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()))

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x and y, largest x and y."""
        low, high = self.outline[:, :2].min(axis=0), self.outline[:, :2].max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @cached_property
    def inradius_m(self) -> float:
        """How deep the block is from the kerb to its deepest place, roughly."""
        x0, y0, x1, y1 = self.bounds
        x, y = np.meshgrid(np.linspace(x0, x1, 14)[1:-1], np.linspace(y0, y1, 14)[1:-1])
        return max(float(self.depth_at(x.ravel(), y.ravel()).max()), 0.0)

    def depth_at(self, x: Reals, y: Reals) -> Reals:
        """(n,) metres from the kerb inwards for a few places; negative on streets and outside."""
        start = self.outline[:, None, :2]
        step = np.roll(self.outline[:, :2], -1, axis=0)[:, None, :] - start
        half = np.repeat([side.half_m for side in self.sides], [len(s.points) - 1 for s in self.sides])
        place = np.stack([x, y], axis=-1)[None] - start
        share = np.clip((place * step).sum(-1) / (step * step).sum(-1), 0, 1)
        rest = place - share[..., None] * step
        distance = np.sqrt((rest * rest).sum(-1)) - half[:, None]
        crossed = (place[..., 1] >= 0) != (place[..., 1] - step[..., 1] >= 0)
        rise = np.where(step[..., 1] == 0, 1, step[..., 1])
        right = place[..., 0] < place[..., 1] * step[..., 0] / rise
        inside = (crossed & right).sum(axis=0) % 2 == 1
        depth: Reals = np.where(inside, distance.min(axis=0), -1.0)
        return depth

    def fields(self, x: Reals, y: Reals, bank_m: float) -> Fields:
        """Where places inside the block lie; x and y have any one shape.

        Law: each result depends on its own place only, bit for bit.

        Args:
            x: metres.
            y: metres.
            bank_m: width over which the streets shape the ground.
        """
        right = (x - self.centre[0]).astype(np.float32)
        down = (y - self.centre[1]).astype(np.float32)
        far = np.full_like(right, 1e6)
        depth, station, free = far.copy(), np.zeros_like(right), np.ones_like(right)
        which = np.zeros(x.shape, np.uint8)
        total, weights, river = np.zeros_like(right), np.zeros_like(right), far
        for number, side in enumerate(self.sides):
            squared, along, height = self._nearest(side, right, down)
            distance = np.sqrt(squared)
            # Near a street its own height counts; at a corner both streets blend.
            weight = np.float32(1) / ((squared + np.float32(0.25)) * (squared + np.float32(0.25)))
            total += weight * height
            weights += weight
            inwards = distance - np.float32(side.half_m)
            nearer = inwards < depth
            np.copyto(depth, inwards, where=nearer)
            np.copyto(station, along, where=nearer)
            # A product, because the nearest distance alone has creases midway between streets.
            free *= smoothstep((inwards - np.float32(side.pavement_m)) / np.float32(bank_m))
            which[nearer] = number
            if side.water_m > 0:
                river = np.minimum(river, distance)
        street = total / weights + np.float32(self.outline[0, 2])
        return Fields(depth, which, station, street, free, river)

    def _nearest(self, side: Side, x: Singles, y: Singles) -> tuple[Singles, Singles, Singles]:
        """Squared distance, station, and height above the first corner's of the nearest point of a side."""
        best, along, height = np.full_like(x, 1e12), np.zeros_like(x), np.zeros_like(x)
        # The block's own origin keeps single precision at fractions of a millimetre.
        points = side.points - np.array([*self.centre, self.outline[0, 2]])
        for start, stop, station in zip(points[:-1], points[1:], side.stations, strict=False):
            step = stop - start
            length = np.sqrt(step[0] * step[0] + step[1] * step[1])
            cos, sin = (step[:2] / length).astype(np.float32)
            right, down = x - np.float32(start[0]), y - np.float32(start[1])
            forward = np.minimum(np.maximum(right * cos + down * sin, np.float32(0)), np.float32(length))
            right -= forward * cos
            down -= forward * sin
            squared = right * right + down * down
            nearer = squared < best
            np.copyto(best, squared, where=nearer)
            np.copyto(along, forward + np.float32(station), where=nearer)
            slope = forward * np.float32(step[2] / length) + np.float32(start[2])
            np.copyto(height, slope, where=nearer)
        return best, along, height


@dataclass(frozen=True)
class Bridge:
    """A street across a river.

    Attributes:
        x, y: its middle, metres.
        cos, sin: its direction.
        half_u, half_v: half its length and its width.
        deck: its height above sea level.
    """

    x: float
    y: float
    cos: float
    sin: float
    half_u: float
    half_v: float
    deck: float


@dataclass(frozen=True)
class Streets:
    """The streets of a town.

    Attributes:
        style: as drawn for this town.
        terrain: the ground.
        seed: of the town.
        river_half_m: half the width of the rivers.
        bank_m: width of their banks; narrow where they are walls.
    """

    style: TownStyle
    terrain: Terrain
    seed: int
    river_half_m: float
    bank_m: float

    def superblocks(self, x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[int, int], ...]:
        """Columns and rows of all superblocks that may touch a rectangle, always in the same order."""
        frame = self.terrain.frame
        corners_x, corners_y = np.array([x0, x1, x0, x1]), np.array([y0, y0, y1, y1])
        p, q = frame.plane(corners_x, corners_y)
        first_p, last_p = int(np.floor(p.min() - frame.bend)), int(np.floor(p.max() + frame.bend))
        first_q, last_q = int(np.floor(q.min() - frame.bend)), int(np.floor(q.max() + frame.bend))
        return tuple((i, j) for j in range(first_q, last_q + 1) for i in range(first_p, last_p + 1))

    def blocks(self, i: int, j: int) -> tuple[Block, ...]:
        """The blocks of a superblock."""
        rng = generator(_BLOCK_SALT, self.seed, i, j)
        whole = (
            self._main_street(i, j, across=True),
            self._main_street(i + 1, j, across=False),
            self._main_street(i, j + 1, across=True).reversed(),
            self._main_street(i, j, across=False).reversed(),
        )
        parts = self._divided(Block(whole, (i, j, 0)), rng)
        return tuple(Block(part.sides, (i, j, number)) for number, part in enumerate(parts))

    def bridge(self, i: int, j: int) -> Bridge | None:
        """The bridge at crossing (i, j), if a river flows there."""
        frame = self.terrain.frame
        if not frame.is_river(j):
            return None
        (x, y, height), rng = (
            self._main_street(i, j, across=True).points[0],
            generator(_FRAME_SALT, self.seed, i, j),
        )
        ends_x, ends_y = frame.place(np.array([i, i], np.float64), np.array([j - 0.1, j + 0.1]))
        step_x, step_y = float(ends_x[1] - ends_x[0]), float(ends_y[1] - ends_y[0])
        length = float(np.sqrt(step_x * step_x + step_y * step_y))
        half_v, deck = 0.5 * self.style.main_width_m + 1, float(height) + rng.uniform(0.05, 0.35)
        direction = (step_x / length, step_y / length)
        return Bridge(float(x), float(y), *direction, self.bridge_m, half_v, deck)

    @property
    def bridge_m(self) -> float:
        """Half the length of bridges."""
        return self.river_half_m + self.bank_m + 2.5

    def _main_street(self, i: int, j: int, *, across: bool) -> Side:
        """The street from crossing (i, j) to the next one, along p or along q."""
        frame = self.terrain.frame
        t = np.linspace(0, 1, _POINTS_ALONG)
        p, q = (i + t, np.full_like(t, j)) if across else (np.full_like(t, i), j + t)
        x, y = frame.place(p, q)
        lift = _EMBANKMENT_M * noise_at(x, y, _EMBANKMENT_SPACING_M, frame.salt + 9)
        points = np.stack([x, y, self.terrain.at(x, y) + lift], axis=1)
        if across and frame.is_river(j):
            half = self.river_half_m + self.bank_m + _QUAY_M
            return Side(points, half, self.style.pavement_m, self.river_half_m)
        # The width belongs to the whole street, not to this stretch of it.
        wide = generator(_FRAME_SALT, self.seed, int(across), j if across else i).uniform(0.8, 1.35)
        return Side(points, 0.5 * self.style.main_width_m * wide, self.style.pavement_m * 1.25)

    def _divided(self, block: Block, rng: np.random.Generator) -> list[Block]:
        low, high = self.style.block_area_m2
        target = low * (high / low) ** rng.random()
        first = block.sides[0].length_m + block.sides[2].length_m
        second = block.sides[1].length_m + block.sides[3].length_m
        if block.area_m2 < 1.3 * target or max(first, second) < 4 * _SHORTEST_M:
            return [block]
        sides = block.sides if first > second else (*block.sides[1:], block.sides[0])
        one, other = self._halves(Block(sides, block.key), rng)
        return self._divided(one, rng) + self._divided(other, rng)

    def _halves(self, block: Block, rng: np.random.Generator) -> tuple[Block, Block]:
        """The two parts of a block on either side of a new street across its first and third side."""
        north, east, south, west = block.sides
        share = rng.uniform(0.37, 0.63)
        lean = rng.normal(0, 0.25 * self.style.bend)
        west_north, east_north = north.cut(share * north.length_m)
        east_south, west_south = south.cut(float(np.clip(1 - share + lean, 0.3, 0.7)) * south.length_m)
        street = self._minor_street(west_north.points[-1], east_south.points[-1], rng)
        return (
            Block((west_north, street, west_south, west), block.key),
            Block((east_north, east, east_south, street.reversed()), block.key),
        )

    def _minor_street(self, start: Reals, stop: Reals, rng: np.random.Generator) -> Side:
        step = stop - start
        length = float(np.sqrt(step[0] * step[0] + step[1] * step[1]))
        t = np.linspace(0, 1, max(3, round(length / 24) + 1))
        bulge = rng.normal(0, 0.12 * self.style.bend) * 4 * t * (1 - t)
        x = start[0] + t * step[0] - bulge * step[1]
        y = start[1] + t * step[1] + bulge * step[0]
        height = self.terrain.at(x, y)
        # Meets the crossing streets at their own height.
        height += (1 - t) * (start[2] - height[0]) + t * (stop[2] - height[-1])
        half = 0.5 * self.style.minor_width_m * rng.uniform(0.75, 1.3)
        points = np.stack([x, y, height], axis=1)
        points[0], points[-1] = start, stop
        return Side(points, half, self.style.pavement_m * rng.choice([0.6, 1.0]))


def make_frame(style: TownStyle, seed: int) -> Frame:
    """The plane of a town's main streets."""
    rng = generator(_FRAME_SALT, seed)
    angle = rng.uniform(0, np.pi)
    every = int(rng.integers(3, 6)) if rng.random() < style.river else 0
    return Frame(
        spacing_m=style.superblock_m,
        cos=float(np.cos(angle)),
        sin=float(np.sin(angle)),
        bend=style.bend,
        salt=int(rng.integers(1 << 30)),
        river_row=int(rng.integers(-1, 3)),
        river_every=every,
    )


def make_streets(style: TownStyle, terrain: Terrain, seed: int) -> Streets:
    """The streets of a town."""
    low, high = style.river_width_m
    rng = generator(_FRAME_SALT, seed, 1)
    bank = 0.6 if rng.random() < 0.35 else BANK_M * rng.uniform(1.3, 3.0)
    return Streets(style, terrain, seed, 0.5 * float(rng.uniform(low, high)), float(bank))
