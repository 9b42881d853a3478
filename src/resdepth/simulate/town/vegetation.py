"""Trees, hedges, ponds and forests; and the open blocks: parks, allotments, orchards, fields, woods."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.layout import Fields, Side
from resdepth.simulate.town.site import Cover, Crown, Part, Pond, Roof, Site
from resdepth.simulate.town.terrain import Reals, Singles, lattice_values, noise_at, object_ids

_CELL_M = 5.2
_CANOPY_SALT = 7010


def plant(site: Site, x: Reals, y: Reals, *, largest_m: float, clear_m: float = 1.0) -> None:
    """Trees at places, where neither street nor building is in the way.

    Args:
        site: where.
        x: (n,) metres.
        y: (n,) metres.
        largest_m: radius of the largest crown.
        clear_m: from stems to walls.
    """
    rng = site.rng
    radius = np.clip(rng.gamma(4.0, largest_m / 9, len(x)), 1.0, largest_m)
    slender, conifer = rng.uniform(1.7, 3.4, len(x)), rng.random(len(x)) < 0.18
    free = site.block.depth_at(x, y) > 0.6
    for part in site.taken:
        u = (x - part.x) * part.cos + (y - part.y) * part.sin
        v = (y - part.y) * part.cos - (x - part.x) * part.sin
        free &= (np.abs(u) > part.half_u + clear_m) | (np.abs(v) > part.half_v + clear_m)
    ring = site.plan.ring
    if ring is not None:
        free &= site.block.depth_at(x, y) > ring.front_m + float(ring.depth.max()) + 1.0
    if site.plan.pond is not None:
        free &= _water_share(site.plan.pond, x, y) < 0.8
    ground = site.ground_at(x, y)
    for at in np.flatnonzero(free):
        size = float(radius[at]) * (0.6 if conifer[at] else 1.0)
        height = max(float(size * slender[at]) * (2.0 if conifer[at] else 1.0), 2.5)
        site.plan.crowns.append(
            Crown(
                float(x[at]), float(y[at]), size, float(ground[at]), height, bool(conifer[at]), site.number()
            )
        )


def scatter_trees(site: Site, per_ha: float, *, largest_m: float = 5.5, groups: bool = False) -> None:
    """Trees all over a block, singly or in loose groups."""
    x0, y0, x1, y1 = site.block.bounds
    count = int(site.rng.poisson(per_ha * (x1 - x0) * (y1 - y0) / 1e4))
    x, y = site.rng.uniform(x0, x1, count), site.rng.uniform(y0, y1, count)
    if groups:
        pull = max(count // 7, 1)
        of = site.rng.integers(0, pull, count)
        near = site.rng.random(count) < 0.7
        x = np.where(near, x[of] + site.rng.normal(0, 8, count), x)
        y = np.where(near, y[of] + site.rng.normal(0, 8, count), y)
    if count:
        plant(site, x, y, largest_m=largest_m)


def plant_streets(site: Site) -> None:
    """Rows of trees along the pavements of some sides."""
    for side in site.block.sides:
        spacing, inwards = site.between(7, 14), site.between(0.9, 1.4)
        largest = site.between(2.2, 4.5)
        if site.chance(site.style.street_trees) and side.length_m > 40 and side.pavement_m > 1.2:
            stations = np.arange(12.0, side.length_m - 12, spacing)
            stations = stations[site.rng.random(len(stations)) < 0.88]
            places = [side.at(float(station), side.half_m + inwards)[:2] for station in stations]
            if places:
                plant(site, *np.array(places).T, largest_m=largest, clear_m=0.6)


def hedge(site: Site, part: Part, height_m: float) -> None:
    """A hedge on a narrow footprint, in pieces that follow the ground."""
    pieces = max(int(part.half_u / 3), 1)
    half = part.half_u / pieces
    number = site.number()
    middles = [part.place(half * (2 * at + 1) - part.half_u, 0.0) for at in range(pieces)]
    x, y = np.array(middles).T
    for at, ground in enumerate(site.ground_at(x, y)):
        site.plan.parts.append(
            replace(
                part,
                x=float(x[at]),
                y=float(y[at]),
                half_u=half,
                eaves=float(ground) + height_m,
                cover=SurfaceClass.TREE,
                number=number,
            )
        )


def dig_pond(site: Site) -> None:
    """A pond around the deepest place of a block, if there is room."""
    x0, y0, x1, y1 = site.block.bounds
    x, y = site.rng.uniform(x0, x1, 40), site.rng.uniform(y0, y1, 40)
    depth = site.block.depth_at(x, y)
    at = int(depth.argmax())
    room = float(depth[at]) - 8
    if room < 6:
        return
    radius = np.array([0.35, *site.rng.uniform(0.15, 0.33, 3)]) * room
    away = np.array([0.0, *site.rng.uniform(0.35, 0.6, 3)]) * room
    angle = site.rng.uniform(0, 2 * np.pi, 4)
    centre_x, centre_y = x[at] + away * np.cos(angle), y[at] + away * np.sin(angle)
    turn = np.linspace(0, 2 * np.pi, 24)
    shore = site.ground_at(x[at] + 0.8 * room * np.cos(turn), y[at] + 0.8 * room * np.sin(turn))
    site.plan.pond = Pond(centre_x, centre_y, radius, float(shore.min()) - site.between(0.2, 0.9))


def draw_pond(pond: Pond, x: Reals, y: Reals, ground: Singles) -> tuple[Singles, NDArray[np.bool_]]:
    """The ground with a pond dug into it, and where the water is."""
    share = _water_share(pond, x, y)
    bank = np.clip((1 - share) / 0.6, 0, 1)
    bank = bank * bank * (3 - 2 * bank)
    height = (pond.level + bank * (ground - pond.level)).astype(np.float32)
    water = share >= 1
    height[water] = np.float32(pond.level)
    return height, water


def _water_share(pond: Pond, x: Reals, y: Reals) -> Reals:
    """1 on the shore line, more in the water."""
    total = np.zeros(x.shape)
    for centre_x, centre_y, radius in zip(pond.x, pond.y, pond.radius, strict=True):
        squared = (x - centre_x) * (x - centre_x) + (y - centre_y) * (y - centre_y)
        total += radius * radius / (squared + 0.2 * radius * radius)
    return total


def draw_canopy(
    fields: Fields, x: Reals, y: Reals, ground: Singles, canopy_m: float, salt: int
) -> tuple[Singles, NDArray[np.int32]]:
    """A forest: the highest of the crowns around each place, and whose crown it is (0: a gap).

    Crowns stand one in each cell of a fixed lattice, so that a forest needs no list of its trees.
    """
    salt ^= _CANOPY_SALT
    # The edge of the forest is ragged, and its trees are lower.
    inwards = fields.depth - 4 + 3.5 * noise_at(x, y, 11.0, salt).astype(np.float32)
    grown = np.minimum(np.maximum(inwards / np.float32(11), np.float32(0)), np.float32(1))
    tall = np.float32(canopy_m) * (np.float32(0.45) + np.float32(0.55) * grown)
    tall *= (1 + 0.13 * noise_at(x, y, 35.0, salt + 1)).astype(np.float32)
    cell_x, cell_y = np.floor(x / _CELL_M), np.floor(y / _CELL_M)
    right, down = (x - cell_x * _CELL_M).astype(np.float32), (y - cell_y * _CELL_M).astype(np.float32)
    col, row = cell_x.astype(np.int64), cell_y.astype(np.int64)
    best, owner = np.zeros_like(right), np.zeros(right.shape, np.int32)
    for step_y in (-1, 0, 1):
        for step_x in (-1, 0, 1):
            i, j = row + step_y, col + step_x
            stem_x = (lattice_values(i, j, salt + 2).astype(np.float32) + np.float32(step_x)) * np.float32(
                _CELL_M
            )
            stem_y = (lattice_values(i, j, salt + 3).astype(np.float32) + np.float32(step_y)) * np.float32(
                _CELL_M
            )
            chance = lattice_values(i, j, salt + 4).astype(np.float32)
            radius = np.float32(1.8) + np.float32(3.2) * chance
            away_x, away_y = right - stem_x, down - stem_y
            squared = (away_x * away_x + away_y * away_y) / (radius * radius)
            # Broad round crowns, and one in five a spire.
            spire = chance < np.float32(0.2)
            shape = np.where(
                spire, np.float32(1.1) - np.sqrt(squared), np.float32(1) - np.float32(0.3) * squared
            )
            crown = tall * (np.float32(0.72) + np.float32(0.3) * chance) * shape
            wins = (squared < 1) & (crown > best) & (crown > 1)
            np.copyto(best, crown, where=wins)
            np.copyto(owner, object_ids(i, j, salt), where=wins)
    owner[inwards < 0] = 0
    return ground + best, owner


def _longest(site: Site) -> Side:
    return max(site.block.sides, key=lambda one: one.length_m)


def plan_park(site: Site) -> None:
    """Lawns with groups of large trees, paths and often a pond."""
    if site.chance(0.55):
        dig_pond(site)
    side = _longest(site)
    for _ in range(int(site.rng.integers(1, 4))):
        x, y, cos, sin = side.at(site.between(0.2, 0.8) * side.length_m, site.block.inradius_m * 1.2)
        turn = site.between(-1, 1)
        cos, sin = cos - turn * sin, sin + turn * cos
        length = float(np.sqrt(cos * cos + sin * sin))
        cover = SurfaceClass.PAVING if site.chance(0.6) else SurfaceClass.SOIL
        reach = 0.8 * site.block.inradius_m
        site.plan.covers.append(Cover(x, y, cos / length, sin / length, reach, site.between(1, 2), cover))
    scatter_trees(site, site.between(40, 130), largest_m=6.5, groups=True)


def plan_allotments(site: Site) -> None:
    """Small gardens, each with a hut, between hedges."""
    side = _longest(site)
    width, long = site.between(9, 14), site.between(16, 24)
    for x, y in _lattice(side, width, long, site.block.inradius_m):
        _, _, cos, sin = side.at(side.length_m / 2, 0.0)
        shift = site.between(-0.3, 0.3) * width, site.between(-0.3, 0.3) * long
        hut = site.footprint(
            x + shift[0] * cos - shift[1] * sin,
            y + shift[0] * sin + shift[1] * cos,
            cos,
            sin,
            site.between(1.4, 2.6),
            site.between(1.3, 2.2),
        )
        if site.chance(0.85) and site.fits(hut, behind_m=site.pavement_m + 2, apart_m=2):
            hut = site.settle(hut)
            roof: Roof = "gable" if site.chance(0.6) else "shed"
            site.plan.parts.append(
                replace(
                    hut,
                    eaves=hut.eaves + site.between(2.0, 2.6),
                    roof=roof,
                    slope=site.between(0.15, 0.6),
                    cover=SurfaceClass.ROOF_TILES if site.chance(0.5) else SurfaceClass.ROOF_METAL,
                    number=site.number(),
                )
            )
        border = replace(hut, x=x + width / 2 * cos, y=y + width / 2 * sin, cos=-sin, sin=cos)
        border = replace(border, half_u=long * 0.45, half_v=0.4)
        if site.chance(0.4) and site.fits(border, behind_m=site.pavement_m, apart_m=0.1):
            hedge(site, border, site.between(0.8, 1.8))
    scatter_trees(site, 70, largest_m=2.8)


def plan_orchard(site: Site) -> None:
    """Fruit trees in rows."""
    spacing = site.between(5.5, 9)
    places = np.array(_lattice(_longest(site), spacing, spacing, site.block.inradius_m))
    keep = site.rng.random(len(places)) < 0.85
    if keep.any():
        jitter = site.rng.normal(0, 0.3, (int(keep.sum()), 2))
        plant(site, *(places[keep] + jitter).T, largest_m=2.6)


def plan_field(site: Site) -> None:
    """Open ground with a few bushes along one border."""
    scatter_trees(site, site.between(2, 12), largest_m=5, groups=True)
    side = _longest(site)
    if site.chance(0.5):
        stations = np.arange(8.0, side.length_m - 8, 4.0)
        places: Reals = np.array(
            [side.at(float(at), side.half_m + site.pavement_m + 2)[:2] for at in stations]
        )
        if len(places):
            plant(site, *(places + site.rng.normal(0, 1, places.shape)).T, largest_m=3.5)


def plan_forest(site: Site) -> None:
    """A wood."""
    site.plan.canopy_m = site.between(12, 25)


def _lattice(side: Side, along_m: float, across_m: float, inradius_m: float) -> list[tuple[float, float]]:
    """Places in rows behind a side, as far as a block may reach."""
    stations = np.arange(along_m / 2, side.length_m, along_m)
    rows = np.arange(across_m / 2 + 3, 2.6 * inradius_m, across_m)
    return [side.at(float(at), side.half_m + float(row))[:2] for row in rows for at in stations]
