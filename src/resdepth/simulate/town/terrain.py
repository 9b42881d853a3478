"""The ground before anybody built on it: hills, slopes, valleys of rivers; and the noise it is made of.

Noise is a pure function of place: hashed numbers on lattices, smooth between them. Only +, -, *, floor and
comparisons touch a pixel here: they give the same bits for a pixel whatever window it is computed in, which
products of matrices and vectorised transcendental functions do not promise.
"""

from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Singles = NDArray[np.float32]
Real = TypeVar("Real", NDArray[np.float32], NDArray[np.float64])
Integers = NDArray[np.int64]

_MASK = (1 << 64) - 1
# Sums of B-spline weights shrink the spread of uniform numbers; with this the noise mostly spans [-1, 1].
_GAIN = 2.0
_TERRAIN_SALT = 7002
# Hills, spurs, hollows: distance of the lattice and share of the relief.
_LAYERS = ((900.0, 0.52), (360.0, 0.34), (130.0, 0.07), (48.0, 0.012))
_NODE_M = 4.0
# Within this distance of a river, and beyond that, the ground is the valley's floor and the hills.
_VALLEY_M = (45.0, 330.0)
BANK_M = 3.2


def hashed(i: Integers, j: Integers, salt: int) -> NDArray[np.uint64]:
    """Well mixed 64-bit numbers of lattice positions (the finaliser of SplitMix64)."""
    mixed = np.asarray(i, np.int64).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = mixed + np.asarray(j, np.int64).astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = mixed + np.full_like(mixed, (salt * 0x165667B19E3779F9) & _MASK)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def hashed_unit(i: Integers, j: Integers, salt: int) -> Reals:
    """Uniform numbers in [0, 1) of lattice positions."""
    unit: Reals = (hashed(i, j, salt) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit


def object_ids(i: Integers, j: Integers, salt: int) -> NDArray[np.int32]:
    """Positive 31-bit numbers of lattice positions."""
    return ((hashed(i, j, salt) >> np.uint64(33)) | np.uint64(1)).astype(np.int32)


def non_negative(number: int) -> int:
    """A whole number as one that seeds a generator: 0, -1, 1, -2 ... become 0, 1, 2, 3 ..."""
    return 2 * number if number >= 0 else -2 * number - 1


def generator(*key: int) -> np.random.Generator:
    """The generator that belongs to a key of whole numbers."""
    return np.random.default_rng([non_negative(int(number)) for number in key])


def noise_at(x: Reals, y: Reals, spacing_m: float, salt: int) -> Reals:
    """Smooth noise, mostly in [-1, 1], at scattered places; metres in, any shape."""
    col, row = np.floor(x / spacing_m), np.floor(y / spacing_m)
    weights_x, weights_y = _spline_weights(x / spacing_m - col), _spline_weights(y / spacing_m - row)
    col, row = col.astype(np.int64), row.astype(np.int64)
    steps = np.arange(-1, 3).reshape(4, *[1] * np.ndim(row))
    nodes = lattice_values(row + steps[:, None], col + steps, salt) * 2 - 1
    total = np.zeros(np.broadcast(x, y).shape)
    # Added one by one: the order of a sum over an axis may depend on its length.
    for line, weight_y in zip(nodes, weights_y, strict=True):
        for node, weight_x in zip(line, weights_x, strict=True):
            total += weight_y * weight_x * node
    return total * _GAIN


def lattice_values(i: Integers, j: Integers, salt: int) -> Reals:
    """`hashed_unit`, fast for many places on few lattice positions."""
    if i.size < 5000:
        return hashed_unit(i, j, salt)
    first_i, first_j = int(i.min()), int(j.min())
    rows, cols = np.arange(first_i, int(i.max()) + 1), np.arange(first_j, int(j.max()) + 1)
    if len(rows) * len(cols) > i.size:
        return hashed_unit(i, j, salt)
    return hashed_unit(rows[:, None], cols[None, :], salt)[i - first_i, j - first_j]


def noise_on_grid(xs: Reals, ys: Reals, spacing_m: float, salt: int) -> Singles:
    """The same noise on a grid.

    Args:
        xs: (W,) places of the columns in metres, rising.
        ys: (H,) places of the rows in metres, rising.
        spacing_m: of the lattice.
        salt: distinguishes one noise from another.

    Returns:
        (H, W) float32.
    """
    col, row = np.floor(xs / spacing_m).astype(np.int64), np.floor(ys / spacing_m).astype(np.int64)
    nodes = _node(
        np.arange(row[0] - 1, row[-1] + 3)[:, None], np.arange(col[0] - 1, col[-1] + 3)[None, :], salt
    )
    return spline_on_grid((nodes * _GAIN).astype(np.float32), xs / spacing_m, ys / spacing_m)


def spline_on_grid(nodes: Singles, xs: Reals, ys: Reals) -> Singles:
    """The cubic B-spline surface of lattice values, on a grid.

    Args:
        nodes: lattice values from (floor(ys[0]) - 1, floor(xs[0]) - 1) on.
        xs: (W,) rising, in steps of the lattice.
        ys: (H,) rising, in steps of the lattice.

    Returns:
        (H, W) float32.
    """
    col, row = np.floor(xs), np.floor(ys)
    weights_x = [one.astype(np.float32) for one in _spline_weights(xs - col)]
    weights_y = [one.astype(np.float32)[:, None] for one in _spline_weights(ys - row)]
    col, row = (col - col[0]).astype(np.int64), (row - row[0]).astype(np.int64)
    across = sum(nodes[:, col + step] * weight for step, weight in enumerate(weights_x))
    surface: Singles = np.zeros((len(ys), len(xs)), np.float32)
    for step, weight in enumerate(weights_y):
        surface += np.asarray(across)[row + step] * weight
    return surface


def smoothstep(value: Real) -> Real:
    """0 below 0, 1 above 1, and smooth between; in the precision of the value."""
    share = np.minimum(np.maximum(value, 0), 1)
    return cast("Real", share * share * (3 - 2 * share))


def _node(row: Integers, col: Integers, salt: int) -> Reals:
    return hashed_unit(row, col, salt) * 2 - 1


def _spline_weights(t: Reals) -> tuple[Reals, Reals, Reals, Reals]:
    """Weights of the uniform cubic B-spline."""
    rest = 1 - t
    t_squared = t * t
    t_cubed = t_squared * t
    return (
        rest * rest * rest / 6,
        (3 * t_cubed - 6 * t_squared + 4) / 6,
        (-3 * t_cubed + 3 * t_squared + 3 * t + 1) / 6,
        t_cubed / 6,
    )


@dataclass(frozen=True)
class Frame:
    """The plane of the main streets: (p, q) whole numbers are crossings before they are bent.

    Attributes:
        spacing_m: distance of the main streets.
        cos, sin: of the angle by which the whole is turned.
        bend: largest shift of a crossing as a share of the distance.
        salt: distinguishes one town from another.
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
        salt: distinguishes one town from another.
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
