"""The ground before anybody built on it: hills, slopes, valleys of rivers."""

from dataclasses import dataclass

import numpy as np

from resdepth.simulate.town.noise import Reals, Singles, generator, noise_at, smoothstep, spline_on_grid

_TERRAIN_SALT = 7002
# Hills, spurs, hollows: distance of the lattice and share of the relief.
_LAYERS = ((900.0, 0.52), (360.0, 0.34), (130.0, 0.07), (48.0, 0.012))
_NODE_M = 4.0
# Within this distance of a river, and beyond that, the ground is the valley's floor and the hills.
_VALLEY_M = (45.0, 330.0)
BANK_M = 3.2


@dataclass(frozen=True)
class Frame:
    """The plane of the main streets: (p, q) whole numbers are crossings before they are bent.

    Attributes:
        spacing_m: distance of the main streets.
        cos, sin: of the angle by which the whole is turned.
        bend: largest shift of a crossing as a share of the distance.
        salt: tells one town from another.
        river_row: rivers flow along q = river_row + n * river_every.
        river_every: 0 where there is no river.
    """

    spacing_m: float
    cos: float
    sin: float
    bend: float
    salt: int
    river_row: int
    river_every: int

    def place(self, p: Reals, q: Reals) -> tuple[Reals, Reals]:
        """Where a point of the plane lies, in metres."""
        right = (p + self._shift(p, q, 1)) * self.spacing_m
        down = (q + self._shift(p, q, 2)) * self.spacing_m
        return right * self.cos - down * self.sin, right * self.sin + down * self.cos

    def plane(self, x: Reals, y: Reals) -> tuple[Reals, Reals]:
        """Where a place lies in the unbent plane: up to `bend` from its true place."""
        return (
            (x * self.cos + y * self.sin) / self.spacing_m,
            (y * self.cos - x * self.sin) / self.spacing_m,
        )

    def river_distance_m(self, x: Reals, y: Reals) -> Reals:
        """Roughly, how far the next river is."""
        p, q = self.plane(x, y)
        # Two steps towards the unbent place are enough: the valley is wide.
        for _ in range(2):
            p_bent, q_bent = self.plane(*self.place(p, q))
            p_true, q_true = self.plane(x, y)
            p, q = p + (p_true - p_bent), q + (q_true - q_bent)
        away = q - self.river_row
        return np.abs(away - np.round(away / self.river_every) * self.river_every) * self.spacing_m

    def is_river(self, q: int) -> bool:
        """Whether a river flows along this row of crossings."""
        return self.river_every > 0 and (q - self.river_row) % self.river_every == 0

    def _shift(self, p: Reals, q: Reals, which: int) -> Reals:
        coarse = noise_at(p, q, 1.7, self.salt + which)
        fine = noise_at(p, q, 0.62, self.salt + 2 + which)
        return np.clip(coarse * 0.8 + fine * 0.2, -1, 1) * self.bend


@dataclass(frozen=True)
class Terrain:
    """Heights of the natural ground.

    Attributes:
        base_m: height of the valleys.
        relief_m: height of the hills.
        frame: where rivers flow.
        salt: tells one town from another.
    """

    base_m: float
    relief_m: float
    frame: Frame
    salt: int

    @property
    def river_level_m(self) -> float:
        """Height of the rivers' water."""
        return self.base_m - BANK_M

    def at(self, x: Reals, y: Reals) -> Reals:
        """Heights at scattered places in metres."""
        rise = sum(
            share * noise_at(x, y, spacing, self.salt + number)
            for number, (spacing, share) in enumerate(_LAYERS)
        )
        hills = np.asarray(rise) * self.relief_m
        if self.frame.river_every:
            low, high = _VALLEY_M
            hills = hills + 0.25 * self.relief_m
            hills = hills * smoothstep((self.frame.river_distance_m(x, y) - low) / (high - low))
        return self.base_m + hills

    def on_grid(self, xs: Reals, ys: Reals) -> Singles:
        """(H, W) float32: heights at rising columns and rows.

        The ground is smooth, so it is evaluated every few metres on a fixed lattice and interpolated.
        """
        cols = np.arange(np.floor(xs[0] / _NODE_M) - 1, np.floor(xs[-1] / _NODE_M) + 3) * _NODE_M
        rows = np.arange(np.floor(ys[0] / _NODE_M) - 1, np.floor(ys[-1] / _NODE_M) + 3) * _NODE_M
        nodes = np.empty((len(rows), len(cols)), np.float32)
        for number, row in enumerate(rows):
            nodes[number] = self.at(cols, np.full_like(cols, row))
        return spline_on_grid(nodes, xs / _NODE_M, ys / _NODE_M)


def make_terrain(relief_m: float, frame: Frame, seed: int) -> Terrain:
    """The terrain of a town."""
    rng = generator(_TERRAIN_SALT, seed)
    return Terrain(rng.uniform(120, 640), relief_m, frame, int(rng.integers(1 << 30)))
