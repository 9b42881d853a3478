"""The network of streets: main streets on a bent lattice, and minor ones that divide what lies between."""

from dataclasses import dataclass

import numpy as np

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.block import Block, Side
from resdepth.simulate.town.noise import Reals, generator, noise_at
from resdepth.simulate.town.parts import Part
from resdepth.simulate.town.styles import TownStyle
from resdepth.simulate.town.terrain import BANK_M, Frame, Terrain

_FRAME_SALT, _BLOCK_SALT = 7003, 7004
_POINTS_ALONG = 9
# Main streets run on low embankments and in cuttings here and there.
_EMBANKMENT_M, _EMBANKMENT_SPACING_M = 0.9, 170.0
_SHORTEST_M = 34.0
_QUAY_M = 7.0


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

    def bridge(self, i: int, j: int) -> Part | None:
        """The bridge at crossing (i, j), if a river flows there; without object number: it is a road."""
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
        return Part(float(x), float(y), *direction, self.bridge_m, half_v, deck, SurfaceClass.ASPHALT, 0)

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
