"""Perimeter blocks: houses wall to wall around a courtyard, as old towns have them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.block import Fields, Side
from resdepth.simulate.town.houses import dormers, pitched_cover
from resdepth.simulate.town.noise import Reals, Singles
from resdepth.simulate.town.parts import STEEP, Part
from resdepth.simulate.town.plan import Ring, Site

PITCHED, MANSARD, FLAT = 0, 1, 2


def plan_ring(site: Site) -> Ring:
    """Houses around a block, each with its own eaves, depth and roof; corner houses turn the corner."""
    front = site.pavement_m + (0.0 if site.chance(0.7) else site.between(0.5, 3.0))
    inner = site.block.inradius_m - front
    common = site.between(9.5, 14.0)
    # Without room for a courtyard the roofs rise to the block's middle.
    common = 2 * inner + 1 if inner < 11 else min(common, inner - 3)
    breaks, houses, rows = [], [], []
    corner = 0
    rows.append(_house(site, site.block.sides[0], 0.0, common))
    for number, side in enumerate(site.block.sides):
        ends = _breaks(site, side, front + common)
        inside = [_house(site, side, float(end), common) for end in ends[:-1]]
        first = len(rows)
        rows.extend(inside)
        last = number == len(site.block.sides) - 1
        if not last:
            rows.append(_house(site, side, side.length_m, common))
        next_corner = 0 if last else len(rows) - 1
        breaks.append(ends)
        houses.append(np.array([corner, *range(first, first + len(inside)), next_corner], np.int64))
        corner = next_corner
    table = np.array([row[:6] for row in rows], np.float32)
    numbers = np.array([site.number() for _ in rows], np.int32)
    ring = Ring(
        front_m=front,
        breaks=tuple(breaks),
        houses=tuple(houses),
        eaves=table[:, 0],
        slope=table[:, 1],
        depth=table[:, 2],
        edge=table[:, 3],
        roof=table[:, 4].astype(np.uint8),
        cover=table[:, 5].astype(np.uint8),
        number=numbers,
    )
    if common < inner:
        before = len(site.plan.parts)
        _details(site, ring)
        details = site.plan.parts[before:]
        if details:
            # At acute corners another side's houses, or the street, lie where a detail would stand.
            x, y = np.array([(one.x, one.y) for one in details]).T
            keep = site.block.depth_at(x, y) >= front + 0.5
            site.plan.parts[before:] = [one for one, stays in zip(details, keep, strict=True) if stays]
    return ring


def draw_ring(
    ring: Ring, fields: Fields, ground: Singles
) -> tuple[NDArray[np.bool_], Singles, NDArray[np.uint8], NDArray[np.int32]]:
    """Where the houses stand above the ground, how high, their classes and numbers."""
    inwards = fields.depth - np.float32(ring.front_m)
    house = np.zeros(inwards.shape, np.int64)
    for number, (breaks, houses) in enumerate(zip(ring.breaks, ring.houses, strict=True)):
        here = fields.side == number
        house[here] = houses[np.searchsorted(breaks, fields.station[here].astype(np.float64))]
    depth, slope, edge, roof = (table[house] for table in (ring.depth, ring.slope, ring.edge, ring.roof))
    from_wall = np.minimum(inwards, depth - inwards)
    pitched = slope * from_wall
    steep = np.minimum(np.float32(STEEP) * from_wall, edge + slope * (from_wall - edge / np.float32(STEEP)))
    parapet = np.where(from_wall < np.float32(0.4), edge, np.float32(0))
    rise = np.where(roof == PITCHED, pitched, np.where(roof == MANSARD, steep, parapet))
    height = ring.eaves[house] + rise
    stands = (inwards >= 0) & (inwards < depth) & (height > ground)
    return stands, height, ring.cover[house], ring.number[house]


def plan_courtyard(site: Site, ring: Ring) -> None:
    """Low houses and workshops behind the houses along the street."""
    behind = ring.front_m + float(ring.depth.max()) + 1.5
    cos, sin = site.direction()
    for x, y in site.places(10, behind + 2):
        foot = site.footprint(x, y, cos, sin, site.between(3, 9), site.between(2.2, 5))
        if site.chance(0.6) and site.fits(foot, behind_m=behind, apart_m=2.0):
            foot = site.settle(foot)
            height, pitched = site.between(2.6, 8.5), site.chance(0.5)
            part = replace(foot, eaves=foot.eaves + height, edge=0.3, number=site.number())
            if pitched:
                part = replace(part, roof="gable", slope=site.between(0.3, 0.9), cover=pitched_cover(site))
            site.plan.parts.append(part)


def _breaks(site: Site, side: Side, corner_m: float) -> Reals:
    """Where houses end along a side; the corner houses reach around the corner."""
    first, last = corner_m + site.between(1, 5), side.length_m - corner_m - site.between(1, 5)
    if last <= first:
        return np.array([side.length_m / 2])
    count = max(round((last - first) / site.between(8, 15)), 1)
    widths = site.rng.uniform(0.6, 1.4, count)
    ends: Reals = first + np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum() * (last - first)
    return ends


def _house(site: Site, side: Side, station_m: float, common_m: float) -> tuple[float, ...]:
    style = site.style
    x, y, _, _ = side.at(min(station_m + 5, side.length_m), side.half_m + 1)
    base = float(site.ground_at(np.array([x]), np.array([y]))[0])
    middle = 0.6 * style.storeys[0] + 0.4 * style.storeys[1]
    storeys = float(np.clip(site.rng.normal(middle, 0.8), *style.storeys))
    kind = PITCHED if site.chance(style.pitched) else FLAT
    if kind == PITCHED and site.chance(0.15):
        kind = MANSARD
    depth = common_m * site.between(0.85, 1.15) if common_m < 15 else common_m
    slope = site.between(0.25, 0.5) if kind == MANSARD else site.between(0.6, 1.05)
    edge = site.between(2.0, 3.0) if kind == MANSARD else site.between(0.3, 0.9)
    cover = SurfaceClass.ROOF_FLAT if kind == FLAT else pitched_cover(site)
    if not site.chance(0.88 + 0.1 * style.density):
        depth = 0.0
    eaves = base + round(storeys * 2) / 2 * style.storey_m + site.between(0.0, 1.0)
    return eaves, slope, depth, edge, kind, cover


def _details(site: Site, ring: Ring) -> None:
    """Dormers, chimneys, and wings that reach into the courtyard."""
    for side, breaks, houses in zip(site.block.sides, ring.breaks, ring.houses, strict=True):
        for start, stop, house in zip(breaks[:-1], breaks[1:], houses[1:-1], strict=True):
            if ring.depth[house] > 0:
                main = _as_part(side, ring, float(start), float(stop), int(house))
                if ring.roof[house] == PITCHED and site.chance(0.55):
                    dormers(site, main, site.between(0.2, 0.6))
                _chimney(site, main)
                if site.chance(0.5):
                    _rear_wing(site, main)


def _as_part(side: Side, ring: Ring, start: float, stop: float, house: int) -> Part:
    half_v = float(ring.depth[house]) / 2
    x, y, cos, sin = side.at((start + stop) / 2, side.half_m + ring.front_m + half_v)
    return Part(
        x,
        y,
        cos,
        sin,
        (stop - start) / 2,
        half_v,
        float(ring.eaves[house]),
        SurfaceClass(int(ring.cover[house])),
        int(ring.number[house]),
        "gable",
        float(ring.slope[house]),
    )


def _chimney(site: Site, main: Part) -> None:
    for _ in range(int(site.rng.integers(0, 4))):
        at = site.between(-0.9, 0.9) * main.half_u
        aside = site.between(-0.4, 0.4) * main.half_v
        top = main.eaves + main.slope * (main.half_v - abs(aside)) + site.between(0.8, 1.8)
        part = main.beside(at, aside, site.between(0.3, 0.8), site.between(0.3, 0.45))
        site.plan.parts.append(
            replace(part, eaves=top, roof="flat", cover=SurfaceClass.ROOF_FLAT, number=site.number())
        )


def _rear_wing(site: Site, main: Part) -> None:
    """A lower wing along a party wall, with a roof that falls to one side."""
    length = site.between(4, 14)
    half = min(site.between(2.0, 3.5), main.half_u)
    side = 1.0 if site.chance(0.5) else -1.0
    wing = main.beside(side * (main.half_u - half), main.half_v + length / 2, half, length / 2).turned()
    far = np.array([wing.place(wing.half_u, v) for v in (-wing.half_v, wing.half_v)])
    deep = site.block.depth_at(far[:, 0], far[:, 1]).min()
    if deep < 2 * main.half_v + 4:
        return
    height = site.between(0.35, 0.9)
    base = float(site.ground_at(far[:, 0], far[:, 1]).mean())
    eaves = base + max((main.eaves - base) * height, 2.8)
    pitched = site.chance(0.7)
    site.plan.parts.append(
        replace(
            wing,
            eaves=eaves,
            roof="shed" if pitched else "flat",
            slope=site.between(0.2, 0.5),
            edge=0.4,
            cover=main.cover if pitched else SurfaceClass.ROOF_FLAT,
            number=site.number(),
        )
    )
    site.take(wing)
