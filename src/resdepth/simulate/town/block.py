"""A block: the ground between the middles of the streets around it, and where a point lies in it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resdepth.simulate.town.noise import Reals, Singles, smoothstep


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
