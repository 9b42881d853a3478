"""Large buildings: perimeter blocks, churches and schools, halls and tanks; and the open places beside them.

A perimeter block is a ring of houses wall to wall around a courtyard, as old towns have them.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.houses import choose, dormers, flat_house, pitched_cover, pitched_house
from resdepth.simulate.town.layout import Fields, Side
from resdepth.simulate.town.site import STEEP, Cover, Part, Ring, Roof, Site
from resdepth.simulate.town.terrain import Reals, Singles
from resdepth.simulate.town.vegetation import plant, scatter_trees

PITCHED, MANSARD, FLAT = 0, 1, 2
_HALLS: tuple[tuple[Roof, float], ...] = (
    ("flat", 0.5),
    ("gable", 0.24),
    ("saw-tooth", 0.14),
    ("barrel", 0.05),
    ("shed", 0.07),
)


def plan_perimeter(site: Site) -> None:
    """Houses wall to wall along the streets, low ones and trees in the courtyard behind them."""
    site.plan.ring = _ring(site)
    _plan_courtyard(site, site.plan.ring)
    scatter_trees(site, site.style.trees_per_ha * 2.5, largest_m=4.8)


def _ring(site: Site) -> Ring:
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
        _details(site, ring)
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


def _plan_courtyard(site: Site, ring: Ring) -> None:
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
    before = len(site.plan.parts)
    _plan_details(site, ring)
    details = site.plan.parts[before:]
    if details:
        # At acute corners another side's houses, or the street, lie where a detail would stand.
        x, y = np.array([(one.x, one.y) for one in details]).T
        keep = site.block.depth_at(x, y) >= ring.front_m + 0.5
        site.plan.parts[before:] = [one for one, stays in zip(details, keep, strict=True) if stays]


def _plan_details(site: Site, ring: Ring) -> None:
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


def _deepest(site: Site) -> tuple[float, float]:
    """The place of a block that is farthest from its streets, roughly."""
    x0, y0, x1, y1 = site.block.bounds
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(x0, x1, 17), np.linspace(y0, y1, 17)))
    at = int(site.block.depth_at(x, y).argmax())
    return float(x[at]), float(y[at])


def plan_church(site: Site) -> None:
    """A church on its square, with a tower."""
    cos, sin = site.direction()
    half_u, half_v = site.between(11, 24), site.between(4.5, 9)
    room = site.block.inradius_m - site.pavement_m - 2
    shrink = min(1.0, room / half_v * 0.8)
    if shrink > 0.35:
        x, y = _deepest(site)
        _church(site, site.footprint(x, y, cos, sin, half_u * shrink, half_v * shrink))
    scatter_trees(site, 40, largest_m=5)


def _church(site: Site, foot: Part) -> None:
    foot = site.settle(foot)
    number, height, slope = site.number(), site.between(8, 17), site.between(0.9, 1.7)
    cover = SurfaceClass.ROOF_TILES if site.chance(0.7) else SurfaceClass.ROOF_METAL
    nave = replace(foot, eaves=foot.eaves + height, roof="gable", slope=slope, cover=cover, number=number)
    site.plan.parts.append(nave)
    if site.chance(0.5):  # lower aisles on both sides
        out = nave.half_v * site.between(0.3, 0.5)
        for turn in (1.0, -1.0):
            aisle = nave.beside(0.0, -turn * (nave.half_v + out), nave.half_u * 0.9, out)
            part = replace(aisle, cos=turn * nave.cos, sin=turn * nave.sin, roof="shed", slope=0.45)
            site.plan.parts.append(replace(part, eaves=nave.eaves - 3 - 0.9 * out))
    if site.chance(0.55):
        transept = nave.beside(nave.half_u * 0.35, 0.0, nave.half_v, nave.half_v * 1.9).turned()
        site.plan.parts.append(transept)
        site.take(transept)
    choir = nave.beside(nave.half_u, 0.0, nave.half_v * 0.85, nave.half_v * 0.85)
    site.plan.parts.append(replace(choir, roof="cone", slope=slope, eaves=nave.eaves - 1))
    half = site.between(2.6, 4.6)
    for aside in (-1.0, 1.0) if site.chance(0.2) else (0.0,):
        at = nave.beside(-nave.half_u - half * 0.6, aside * (nave.half_v - half * 0.5), half, half)
        _tower(site, at, nave.eaves + slope * nave.half_v, cover)


def _tower(site: Site, at: Part, above: float, cover: SurfaceClass) -> None:
    tower = replace(at, eaves=above + site.between(3, 16), cover=cover, number=site.number(), edge=0.0)
    chance = site.rng.random()
    site.take(at)
    if chance < 0.5:  # a steep spire
        site.plan.parts.append(replace(tower, roof="hip", slope=site.between(2.0, 5.0)))
    elif chance < 0.7:  # an onion
        site.plan.parts.append(replace(tower, roof="flat"))
        site.plan.parts.append(replace(tower, roof="dome", slope=site.between(1.0, 1.6)))
        top = replace(
            tower, half_u=at.half_u * 0.3, half_v=at.half_v * 0.3, eaves=tower.eaves + at.half_u * 1.4
        )
        site.plan.parts.append(replace(top, roof="cone", slope=3.0))
    elif chance < 0.85:  # a saddle roof
        site.plan.parts.append(replace(tower, roof="gable", slope=site.between(0.9, 1.8)))
    else:
        site.plan.parts.append(replace(tower, roof="flat", edge=1.2))


def plan_square(site: Site) -> None:
    """An open square with rows of trees and sometimes a hall or a fountain."""
    x, y, cos, sin = *_deepest(site), *site.direction()
    if site.chance(0.45):
        foot = site.footprint(x, y, cos, sin, site.between(6, 15), site.between(5, 9))
        if site.fits(foot, behind_m=site.pavement_m + 5, apart_m=0):
            foot = site.settle(foot)
            pitched_house(site, foot, site.between(5, 11), wing=0.4)
    for one in site.block.sides:
        stations = np.arange(10.0, one.length_m - 10, site.between(6.5, 9))
        if len(stations) and site.chance(0.6):
            places = [one.at(float(at), one.half_m + site.pavement_m + 3)[:2] for at in stations]
            plant(site, *np.array(places).T, largest_m=4)


def plan_civic(site: Site) -> None:
    """A school, a hospital or an office in the form of a U, L, T or E, and a playing field."""
    cos, sin = site.direction()
    pitched = site.chance(site.style.pitched * 0.6)
    height = max(round(site.between(1, 5)), 2) * 3.6
    for attempt, (x, y) in enumerate(site.places(40, site.pavement_m + 8)):
        scale = max(1 - attempt / 50, 0.4)
        half_u, half_v = site.between(22, 40) * scale, site.between(6, 9) * max(scale, 0.7)
        foot = site.footprint(x, y, cos, sin, half_u, half_v)
        if not site.fits(foot, behind_m=site.pavement_m + 3, apart_m=9):
            continue
        foot = site.settle(foot)
        if pitched:
            main = pitched_house(site, foot, height, wing=0.0)
        else:
            main = flat_house(site, foot, height, equipment=0.8)
        _wings(site, main, height)
        if attempt > 15 and site.chance(0.6):
            break
    _playing_field(site, cos, sin)
    scatter_trees(site, site.style.trees_per_ha, largest_m=5.5, groups=True)


def _wings(site: Site, main: Part, height: float) -> None:
    half = min(site.between(5, 8), main.half_u * 0.45)
    ends = {"U": (-1.0, 1.0), "L": (1.0,), "T": (0.0,), "E": (-1.0, 0.0, 1.0)}
    form = ("U", "L", "T", "E")[int(site.rng.integers(4))]
    out, side = site.between(12, 26), (1.0 if site.chance(0.5) else -1.0)
    lower = site.between(0.5, 0.9) * height if site.chance(0.3) else height
    for end in ends[form]:
        # The wing reaches the main ridge, so that pitched roofs meet in valleys.
        at = end * (main.half_u - half)
        wing = main.beside(at, side * (main.half_v + out) / 2, half, (main.half_v + out) / 2).turned()
        outer = main.beside(at, side * (main.half_v + out / 2 + 1), half, out / 2).turned()
        if site.fits(outer, behind_m=site.pavement_m + 2, apart_m=-1.5):
            site.take(outer)
            part = outer if lower < height or main.roof == "flat" else wing
            site.plan.parts.append(replace(part, eaves=main.eaves - height + lower))


def _playing_field(site: Site, cos: float, sin: float) -> None:
    for x, y in site.places(12, site.pavement_m + 8):
        half_u = site.between(12, 45)
        foot = site.footprint(x, y, cos, sin, half_u, half_u * 0.6)
        if site.fits(foot, behind_m=site.pavement_m + 3, apart_m=3):
            foot = site.settle(foot)
            cover = (SurfaceClass.GRASS, SurfaceClass.SOIL, SurfaceClass.ASPHALT)[int(site.rng.integers(3))]
            site.plan.covers.append(
                Cover(foot.x, foot.y, cos, sin, foot.half_u, foot.half_v, cover, foot.eaves, 5.0)
            )
            return


def plan_halls(site: Site) -> None:
    """Big halls with offices beside them, yards and sometimes a stack or silos."""
    cos, sin = site.direction()
    large, apart = site.between(0.45, 1.0), site.between(4, 14)
    for number, (x, y) in enumerate(site.places(110, site.pavement_m + 6)):
        shrink = large * max(1 - number / 70, 0.2)
        half_u, half_v = site.between(25, 75) * shrink, site.between(15, 42) * shrink
        footprint = site.footprint(x, y, cos, sin, max(half_u, 5), max(half_v, 3.5))
        if site.fits(footprint, behind_m=site.pavement_m + 2, apart_m=apart * site.between(0.5, 1.2)):
            footprint = site.settle(footprint)
            level = Cover(x, y, cos, sin, half_u + 6, half_v + 6, SurfaceClass.ASPHALT, footprint.eaves, 8.0)
            site.plan.covers.append(level)
            _hall(site, footprint)
    if site.chance(0.35):
        _stack(site)
    if site.chance(0.3):
        _silos(site, cos, sin)
    scatter_trees(site, site.style.trees_per_ha, largest_m=4.5, groups=True)


def _hall(site: Site, footprint: Part) -> None:
    half = min(footprint.half_u, footprint.half_v)
    height = site.between(4.5, 8) if half < 10 else site.between(6.5, 15)
    roof = choose(site, _HALLS)
    if roof == "flat":
        main = flat_house(site, footprint, height, equipment=site.between(0.1, 0.6))
    else:
        main = _pitched_hall(site, footprint, height, roof)
    if half > 9 and site.chance(0.55):  # offices along one end
        length = site.between(4, 7)
        at = footprint.half_u + length
        office = footprint.beside(at, 0.0, length, footprint.half_v * site.between(0.4, 1.0))
        if site.fits(office, behind_m=site.pavement_m + 1, apart_m=-0.5):
            site.take(office)
            flat_house(site, office, site.between(1, 4) * 3.4, equipment=1.0)
    if half > 9 and site.chance(0.4):  # a lower bay along one side
        out = site.between(3, 9)
        bay = footprint.beside(0.0, -footprint.half_v - out, footprint.half_u * site.between(0.4, 1.0), out)
        if site.fits(bay, behind_m=site.pavement_m + 1, apart_m=-0.5):
            site.take(bay)
            lower = replace(
                main, x=bay.x, y=bay.y, half_u=bay.half_u, half_v=bay.half_v, cos=bay.cos, sin=bay.sin
            )
            site.plan.parts.append(
                replace(
                    lower,
                    roof="shed",
                    slope=0.06,
                    edge=0.0,
                    eaves=main.eaves * 1.0 - 2.5,
                    number=site.number(),
                )
            )


def _pitched_hall(site: Site, footprint: Part, height: float, roof: Roof) -> Part:
    long = footprint if footprint.half_u >= footprint.half_v else footprint.turned()
    pitch = {"gable": (0.08, 0.3), "saw-tooth": (0.35, 0.6), "barrel": (0.2, 0.4), "shed": (0.03, 0.08)}[roof]
    slope = site.between(*pitch)
    cover = SurfaceClass.ROOF_METAL if site.chance(0.7) else SurfaceClass.ROOF_FLAT
    base = replace(
        long,
        eaves=footprint.eaves + height,
        roof=roof,
        slope=slope,
        edge=site.between(5, 10) if roof == "saw-tooth" else 0.0,
        cover=cover,
        number=site.number(),
    )
    bays = 1
    if roof in ("gable", "barrel"):  # wide halls have several ridges
        bays = max(round(base.half_v / site.between(9, 16)), 1)
    half = base.half_v / bays
    for bay in range(bays):
        part = base.beside(0.0, half * (2 * bay + 1) - base.half_v, base.half_u, half)
        site.plan.parts.append(part)
        if roof == "gable" and site.chance(0.4):  # lantern along the ridge
            lantern = part.beside(0.0, 0.0, part.half_u * 0.85, min(1.3, half * 0.3))
            top = part.eaves + slope * half + 0.6
            site.plan.parts.append(replace(lantern, eaves=top, number=site.number()))
    return base


def plan_tanks(site: Site) -> None:
    """A tank farm, with silos and a few sheds."""
    cos, sin = site.direction()
    common = site.between(6, 17)
    for x, y in site.places(90, site.pavement_m + 10):
        radius = common * site.between(0.7, 1.15)
        tank = site.footprint(x, y, cos, sin, radius, radius)
        if site.fits(tank, behind_m=site.pavement_m + 5, apart_m=3.5):
            _round_house(site, site.settle(tank), site.between(0.5, 1.3) * common + 3)
    for x, y in site.places(20, site.pavement_m + 6):
        shed = site.footprint(x, y, cos, sin, site.between(4, 14), site.between(4, 8))
        if site.fits(shed, behind_m=site.pavement_m + 2, apart_m=3.5):
            _hall(site, site.settle(shed))
    if site.chance(0.6):
        _silos(site, cos, sin)
    if site.chance(0.4):
        _stack(site)


def _round_house(site: Site, base: Part, height: float) -> None:
    """A tank: a floating roof below its rim, a cone or a dome."""
    number, chance = site.number(), site.rng.random()
    cover = SurfaceClass.ROOF_METAL
    tank = replace(base, eaves=base.eaves + height, cover=cover, number=number)
    if chance < 0.3:
        inner = replace(tank, half_u=tank.half_u - 0.5, half_v=tank.half_v - 0.5)
        # The higher one wins: the rim is drawn as a ring of short straight pieces.
        site.plan.parts.append(
            replace(inner, roof="cylinder", eaves=tank.eaves - height * site.between(0.1, 0.5))
        )
        _rim(site, tank)
    elif chance < 0.75:
        site.plan.parts.append(replace(tank, roof="cone", slope=site.between(0.06, 0.25)))
    else:
        site.plan.parts.append(replace(tank, roof="dome", slope=site.between(0.2, 0.5)))


def _rim(site: Site, tank: Part) -> None:
    cos, sin = 1.0, 0.0
    pieces = 40
    step_cos, step_sin = 0.9876883405951378, 0.15643446504023087  # one fortieth of a turn
    half = tank.half_u * 0.0787 + 0.15
    for _ in range(pieces):
        x, y = tank.x + (tank.half_u - 0.25) * cos, tank.y + (tank.half_u - 0.25) * sin
        site.plan.parts.append(
            replace(tank, x=x, y=y, cos=-sin, sin=cos, half_u=half, half_v=0.25, roof="flat", edge=0.0)
        )
        cos, sin = cos * step_cos - sin * step_sin, sin * step_cos + cos * step_sin


def _silos(site: Site, cos: float, sin: float) -> None:
    """A row or two of tall narrow cylinders."""
    radius, height = site.between(2.0, 4.5), site.between(12, 32)
    count, rows = int(site.rng.integers(2, 7)), int(site.rng.integers(1, 3))
    for x, y in site.places(25, site.pavement_m + 5):
        whole = site.footprint(x, y, cos, sin, count * radius, rows * radius)
        if site.fits(whole, behind_m=site.pavement_m + 3, apart_m=1):
            whole = site.settle(whole)
            silo = replace(whole, eaves=whole.eaves + height, cover=SurfaceClass.ROOF_METAL, slope=0.4)
            silo = replace(silo, roof="cone" if rows == 1 else "cylinder")
            for at in range(count):
                for row in range(rows):
                    u, v = radius * (2 * at + 1 - count), radius * (2 * row + 1 - rows)
                    part = silo.beside(u, v, radius * 0.98, radius * 0.98)
                    site.plan.parts.append(replace(part, number=site.number()))
            return


def _stack(site: Site) -> None:
    """A tall chimney."""
    radius = site.between(1.0, 2.4)
    for x, y in site.places(15, site.pavement_m + 4):
        foot = site.footprint(x, y, 1.0, 0.0, radius, radius)
        if site.fits(foot, behind_m=site.pavement_m + 2, apart_m=0.5):
            foot = site.settle(foot)
            part = replace(
                foot, eaves=foot.eaves + site.between(22, 65), roof="cylinder", number=site.number()
            )
            site.plan.parts.append(part)
            return


def plan_parking(site: Site) -> None:
    """A large car park, or a depot, with a building or two."""
    cos, sin = site.direction()
    for x, y in site.places(5, site.pavement_m + 8):
        foot = site.footprint(x, y, cos, sin, site.between(10, 30), site.between(7, 20))
        if site.fits(foot, behind_m=site.pavement_m + 4, apart_m=6):
            flat_house(site, site.settle(foot), site.between(4.5, 8), equipment=0.6)
    scatter_trees(site, 25, largest_m=3.2)
