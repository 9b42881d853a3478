"""Houses, and the blocks that are built with them: detached houses, rows of houses, slabs and towers.

A house has a main roof with wings, dormers and chimneys, or a flat one with what stands on it.
"""

from dataclasses import replace

import numpy as np

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.layout import Side
from resdepth.simulate.town.site import STEEP, Cover, Part, Roof, Site
from resdepth.simulate.town.vegetation import hedge, scatter_trees

_PITCHED: tuple[tuple[Roof, float], ...] = (
    ("gable", 0.56),
    ("hip", 0.2),
    ("half-hip", 0.14),
    ("mansard", 0.1),
)


def pitched_cover(site: Site) -> SurfaceClass:
    """Tiles, now and then metal."""
    return SurfaceClass.ROOF_METAL if site.chance(0.07) else SurfaceClass.ROOF_TILES


def pitched_house(site: Site, footprint: Part, height_m: float, *, wing: float) -> Part:
    """A house with a pitched roof on a footprint; `wing` is the probability of an L or T plan.

    Returns:
        The main part, its ridge along the footprint's longer side.
    """
    roof = choose(site, _PITCHED)
    slope = site.between(0.5, 1.05) if roof != "mansard" else site.between(0.25, 0.5)
    long = footprint if footprint.half_u >= footprint.half_v else footprint.turned()
    main = replace(
        long,
        eaves=footprint.eaves + height_m,
        cover=pitched_cover(site),
        number=site.number(),
        roof=roof,
        slope=slope,
        edge=site.between(1.6, 2.6) if roof == "mansard" else site.between(0.4, 0.7) * slope * long.half_v,
    )
    site.plan.parts.append(main)
    if site.chance(wing):
        _wing(site, main)
    if roof in ("gable", "half-hip"):
        dormers(site, main, site.between(0, 0.45) if site.chance(0.5) else 0.0)
    _chimneys(site, main)
    return main


def ridge_m(part: Part) -> float:
    """Height of the ridge above the eaves."""
    if part.roof == "mansard":
        return part.edge + part.slope * (part.half_v - part.edge / STEEP)
    return part.slope * min(part.half_v, part.half_u if part.roof == "hip" else part.half_v)


def _wing(site: Site, main: Part) -> None:
    """A wing across the main roof; with the same slope the roofs meet in valleys."""
    half = main.half_v * site.between(0.6, 0.95)
    if main.half_u < half + 1:
        return
    at = site.between(-1, 1) * (main.half_u - half) if site.chance(0.4) else main.half_u - half
    out = site.between(1.5, 5.0)
    side = 1.0 if site.chance(0.5) else -1.0
    wing = main.beside(at, side * out / 2, half, main.half_v + out / 2).turned()
    if site.fits(wing, behind_m=site.pavement_m, apart_m=-2.5):
        roof: Roof = "gable" if main.roof in ("half-hip", "mansard") else main.roof
        site.plan.parts.append(replace(wing, roof=roof, slope=max(main.slope, 0.45)))
        site.take(wing)


def dormers(site: Site, main: Part, share: float) -> None:
    """Dormers on both sides of a roof, taking a share of its length."""
    width, rise = site.between(0.7, 1.4), main.slope * main.half_v
    if share <= 0 or rise < 2.6:
        return
    count = int(share * main.half_u / width)
    low = site.between(0.15, 0.3)  # how far up the roof the front stands
    top = main.eaves + low * rise + 1.5
    for side in (-1.0, 1.0):
        for number in range(count):
            at = main.half_u * (2 * (number + 0.5) / count - 1) * 0.85
            inner, outer = 0.0, main.half_v * (1 - low)
            part = main.beside(at, side * (inner + outer) / 2, width, (outer - inner) / 2).turned()
            peak = top + 0.5 * width
            if peak < main.eaves + rise:
                site.plan.parts.append(replace(part, roof="gable", slope=0.5, eaves=top))


def _chimneys(site: Site, main: Part) -> None:
    for _ in range(int(site.rng.integers(0, 3))):
        at = site.between(-0.85, 0.85) * main.half_u
        aside = site.between(-0.35, 0.35) * main.half_v
        top = main.eaves + ridge_m(main) + site.between(0.3, 1.0)
        part = main.beside(at, aside, site.between(0.3, 0.6), site.between(0.3, 0.45))
        site.plan.parts.append(
            replace(
                part, eaves=top, roof="flat", edge=0.0, cover=SurfaceClass.ROOF_FLAT, number=site.number()
            )
        )


def flat_house(site: Site, footprint: Part, height_m: float, *, equipment: float = 1.0) -> Part:
    """A house with a flat roof, parapet and what stands on it.

    Args:
        site: where.
        footprint: with the ground's height as its eaves.
        height_m: of the roof above the ground.
        equipment: how much stands on the roof; 1 is common.
    """
    main = replace(
        footprint,
        eaves=footprint.eaves + height_m,
        cover=SurfaceClass.ROOF_FLAT if site.chance(0.85) else SurfaceClass.ROOF_METAL,
        number=site.number(),
        roof="flat",
        edge=site.between(0.3, 1.1) if site.chance(0.8) else 0.0,
    )
    site.plan.parts.append(main)
    roof_equipment(site, main, equipment)
    return main


def roof_equipment(site: Site, main: Part, amount: float) -> None:
    """Ventilation boxes, skylights and stair heads on a flat roof."""
    area = 4 * main.half_u * main.half_v
    for _ in range(min(int(site.rng.poisson(amount * area / 90)), 40)):
        half_u, half_v = site.between(0.4, 1.6), site.between(0.4, 1.3)
        _box(site, main, half_u, half_v, site.between(0.4, 2.0))
    if amount > 0 and main.half_u > 5 and main.half_v > 4 and site.chance(0.3 * amount):
        _skylights(site, main)


def stair_heads(site: Site, main: Part, count: int) -> None:
    """Lift machine rooms and stair heads along the middle of a long roof."""
    half_u, half_v, rise = site.between(1.6, 3.5), site.between(1.5, 2.8), site.between(2.2, 4.0)
    aside = site.between(-0.5, 0.5) * max(main.half_v - half_v - 0.5, 0)
    for number in range(count):
        at = main.half_u * (2 * (number + 0.5) / count - 1)
        part = main.beside(at, aside, min(half_u, main.half_u * 0.7), min(half_v, main.half_v * 0.7))
        site.plan.parts.append(replace(part, eaves=main.eaves + rise, edge=0.0, number=site.number()))


def _box(site: Site, main: Part, half_u: float, half_v: float, rise: float) -> None:
    free_u, free_v = main.half_u - half_u - 0.8, main.half_v - half_v - 0.8
    if free_u <= 0 or free_v <= 0:
        return
    part = main.beside(site.between(-free_u, free_u), site.between(-free_v, free_v), half_u, half_v)
    cover = SurfaceClass.ROOF_METAL if site.chance(0.6) else SurfaceClass.ROOF_FLAT
    site.plan.parts.append(
        replace(part, eaves=main.eaves + rise, edge=0.0, cover=cover, number=site.number())
    )


def _skylights(site: Site, main: Part) -> None:
    """Rows of small raised strips, all alike."""
    count = int(np.clip(main.half_u / site.between(2.5, 5.0), 2, 12))
    half_u, half_v = 0.35 * main.half_u / count, main.half_v * site.between(0.3, 0.7)
    number = site.number()
    for at in range(count):
        part = main.beside(main.half_u * (2 * (at + 0.5) / count - 1), 0.0, half_u, half_v).turned()
        cover = SurfaceClass.ROOF_METAL
        site.plan.parts.append(
            replace(
                part, roof="gable", slope=0.5, edge=0.0, eaves=main.eaves + 0.3, cover=cover, number=number
            )
        )


def choose(site: Site, table: tuple[tuple[Roof, float], ...]) -> Roof:
    """One of a table of names and weights."""
    wanted = site.rng.random() * sum(weight for _, weight in table)
    for name, weight in table:
        wanted -= weight
        if wanted < 0:
            return name
    return table[-1][0]


def plan_detached(site: Site) -> None:
    """Houses in gardens, with drives, garages, sheds and hedges."""
    setback = site.pavement_m + site.between(3, 7)
    width = site.between(14, 22)
    for side in site.block.sides:
        station = site.between(6, 14)
        while station < side.length_m - 6:
            lot = width * site.between(0.75, 1.3)
            if site.chance(site.style.density):
                _detached(site, side, station + lot / 2, lot, setback)
            station += lot
    for x, y in site.places(8, setback + 20):  # second row, behind the gardens of the first
        _house(site, x, y, site.direction(), site.between(4, 7), site.between(3.8, 5.4))
    scatter_trees(site, site.style.trees_per_ha, largest_m=4.8)


def _detached(site: Site, side: Side, station: float, lot: float, setback: float) -> None:
    half_u = min(site.between(4.2, 7.5), lot / 2 - 1.5)
    half_v = site.between(3.8, 5.6)
    back = setback + site.between(0, 2.5)
    x, y, cos, sin = side.at(min(station, side.length_m), side.half_m + back + half_v)
    turn = site.rng.normal(0, 0.02)
    cos, sin = turned(cos, sin, float(turn))
    footprint = _house(site, x, y, (cos, sin), half_u, half_v)
    if footprint is not None:
        _garage(site, footprint, lot, back)
        _garden(site, footprint, lot, back)


def _house(
    site: Site, x: float, y: float, direction: tuple[float, float], half_u: float, half_v: float
) -> Part | None:
    """A detached house, if there is room; its footprint."""
    cos, sin = direction
    footprint = site.footprint(x, y, cos, sin, half_u, half_v)
    if not site.fits(footprint, behind_m=site.pavement_m + 1.5, apart_m=2.2):
        return None
    footprint = site.settle(footprint)
    site.plan.covers.append(
        Cover(x, y, cos, sin, half_u + 1.2, half_v + 1.5, None, footprint.eaves, site.between(1.5, 4.0))
    )
    storeys = site.between(*site.style.storeys)
    height = 0.4 + max(round(storeys * 2) / 2, 1) * site.style.storey_m
    if site.chance(site.style.pitched):
        ridge_to_street = site.chance(0.35)
        part = footprint.turned() if ridge_to_street and half_v > 0.8 * half_u else footprint
        pitched_house(site, part, height, wing=0.35)
    else:
        main = flat_house(site, footprint, height, equipment=0.3)
        if site.chance(0.5):
            _upper_storey(site, main)
    return footprint


def _upper_storey(site: Site, main: Part) -> None:
    half_u, half_v = main.half_u * site.between(0.45, 0.8), main.half_v * site.between(0.6, 1.0)
    at = site.between(-1, 1) * (main.half_u - half_u)
    part = main.beside(at, main.half_v - half_v, half_u, half_v)
    site.plan.parts.append(replace(part, eaves=main.eaves + 2.9, number=site.number()))


def _garage(site: Site, house: Part, lot: float, back: float) -> None:
    if not site.chance(0.75):
        return
    side = 1.0 if site.chance(0.5) else -1.0
    half = site.between(1.5, 1.9) if site.chance(0.6) else site.between(2.6, 3.2)
    length = site.between(2.7, 3.4)
    at = side * min(house.half_u + half + site.between(0, 1.5), max(lot / 2 - half, house.half_u + half))
    garage = house.beside(at, -house.half_v + length + site.between(-1, 2), half, length)
    if not site.fits(garage, behind_m=site.pavement_m + 1, apart_m=-0.2):
        return
    site.take(garage)
    height = site.between(2.4, 3.0)
    if site.chance(0.35):
        gable = replace(
            garage.turned() if half < length else garage, roof="gable", slope=site.between(0.3, 0.7)
        )
        cover = SurfaceClass.ROOF_TILES
    else:
        gable, cover = replace(garage, roof="flat", edge=0.0), SurfaceClass.ROOF_FLAT
    site.plan.parts.append(replace(gable, eaves=house.eaves + height, cover=cover, number=site.number()))
    drive = house.beside(at, -house.half_v - back / 2, half, back / 2 + 3)
    site.plan.covers.append(
        Cover(drive.x, drive.y, drive.cos, drive.sin, drive.half_u, drive.half_v, SurfaceClass.PAVING)
    )


def _garden(site: Site, house: Part, lot: float, back: float) -> None:
    """What lies around a house: a terrace, a shed, hedges on two borders."""
    terrace = house.beside(site.between(-2, 2), house.half_v + 1.5, site.between(2, 4), 1.8)
    site.plan.covers.append(
        Cover(
            terrace.x,
            terrace.y,
            terrace.cos,
            terrace.sin,
            terrace.half_u,
            terrace.half_v,
            SurfaceClass.PAVING,
        )
    )
    if site.chance(0.45):
        at = site.between(-1, 1) * (lot / 2 - 2), house.half_v + site.between(6, 14)
        x, y = house.place(*at)
        shed = site.footprint(x, y, house.cos, house.sin, site.between(1.0, 2.0), site.between(1.0, 1.6))
        if site.fits(shed, behind_m=site.pavement_m + 3, apart_m=0.8):
            shed = site.settle(shed)
            height, slope = site.between(2.0, 2.5), site.between(0.1, 0.6)
            roof: Roof = "gable" if site.chance(0.5) else "shed"
            cover = SurfaceClass.ROOF_TILES if site.chance(0.5) else SurfaceClass.ROOF_METAL
            site.plan.parts.append(
                replace(
                    shed, eaves=shed.eaves + height, roof=roof, slope=slope, cover=cover, number=site.number()
                )
            )
    if site.chance(0.5):
        length = (back + 2 * house.half_v + site.between(4, 12)) / 2
        hedge_part = house.beside(
            lot / 2, length - house.half_v - back + 0.5, length, site.between(0.35, 0.8)
        )
        border = replace(hedge_part, cos=-house.sin, sin=house.cos)
        if site.fits(border, behind_m=site.pavement_m, apart_m=0.1):
            hedge(site, border, site.between(1.0, 2.6))
    if site.chance(0.35):
        front = house.beside(0.0, -house.half_v - back + 0.7, lot / 2 - 3, site.between(0.3, 0.6))
        if site.fits(front, behind_m=site.pavement_m - 0.2, apart_m=0.1):
            hedge(site, front, site.between(0.8, 1.7))


def plan_rows(site: Site) -> None:
    """Rows of attached houses along the longer sides."""
    setback = site.pavement_m + site.between(2, 6)
    half_v, unit = site.between(4.2, 5.8), site.between(5.4, 8.0)
    pitched, slope = site.chance(site.style.pitched), site.between(0.5, 0.95)
    height = max(round(site.between(*site.style.storeys)), 2) * site.style.storey_m
    for side in site.block.sides:
        station = site.between(5, 12)
        while station < side.length_m - 18:
            most = int(site.rng.integers(3, 9))
            for units in range(most, 2, -1):  # as long a row as there is room for
                middle = min(station + units * unit / 2, side.length_m)
                x, y, cos, sin = side.at(middle, side.half_m + setback + half_v)
                whole = site.footprint(x, y, cos, sin, units * unit / 2, half_v)
                if site.fits(whole, behind_m=site.pavement_m + 0.8, apart_m=3.0):
                    _row(site, whole, units, height, slope if pitched else 0.0)
                    break
            station += units * unit + site.between(4, 9)
    scatter_trees(site, site.style.trees_per_ha * 1.2, largest_m=3.6)


def _row(site: Site, whole: Part, units: int, height: float, slope: float) -> None:
    whole = site.settle(whole)
    half = whole.half_u / units
    shared = site.chance(0.5)
    for at in range(units):
        aside = 0.0 if shared else site.between(-0.8, 0.8)
        unit = whole.beside(half * (2 * at + 1) - whole.half_u, aside, half, whole.half_v)
        base = float(site.ground_at(np.array([unit.x]), np.array([unit.y]))[0])
        # Steps of the eaves where the street climbs.
        eaves = base + height if abs(base - whole.eaves) > 0.5 else whole.eaves + height
        number = site.number()
        if slope > 0:
            cover = SurfaceClass.ROOF_TILES
            part = replace(unit, eaves=eaves, roof="gable", slope=slope, cover=cover, number=number)
        else:
            part = replace(unit, eaves=eaves, roof="flat", edge=0.4, number=number)
        site.plan.parts.append(part)
        if site.chance(0.5):
            stack = unit.beside(half * 0.85, site.between(-0.3, 0.3) * unit.half_v, 0.35, 0.5)
            top = eaves + slope * unit.half_v + 0.7
            site.plan.parts.append(replace(stack, eaves=top, edge=0.0, number=site.number()))
        if site.chance(0.4):
            annex = unit.beside(0.0, unit.half_v + 1.3, half * site.between(0.5, 0.95), 1.5)
            site.plan.parts.append(replace(annex, eaves=base + 2.7, edge=0.0, number=site.number()))
        border = unit.beside(half, unit.half_v + 5.5, 0.3, 4.0).turned()
        if site.chance(0.5) and site.fits(border, behind_m=site.pavement_m, apart_m=-4.0):
            hedge(site, border, site.between(1.0, 2.0))


def plan_slabs(site: Site) -> None:
    """Long houses of many flats between lawns, parallel or in angles."""
    style = site.style
    cos, sin = site.direction()
    if site.chance(0.3):
        cos, sin = turned(cos, sin, site.between(-0.5, 0.5))
    common, across = site.between(*style.storeys), site.between(0.1, 0.5)
    half_v, long = site.between(5.2, 8.0), site.between(16, 40)
    for number, (x, y) in enumerate(site.places(70, site.pavement_m + 8)):
        half_u = max(long * site.between(0.7, 1.1) * (1 - number / 110), 8)
        height = max(round(common * site.between(0.75, 1.3)), 2) * style.storey_m + 1
        ridge = (-sin, cos) if site.chance(across) else (cos, sin)
        footprint = site.footprint(x, y, *ridge, half_u, half_v)
        if site.fits(footprint, behind_m=site.pavement_m + 3, apart_m=max(0.3 * height, 8)):
            _slab(site, footprint, height)
    _parking(site, cos, sin)
    scatter_trees(site, style.trees_per_ha, largest_m=5.5, groups=True)


def _slab(site: Site, footprint: Part, height: float) -> None:
    footprint = site.settle(footprint)
    half_u, half_v = footprint.half_u, footprint.half_v
    if height < 22 and site.chance(max(site.style.pitched, 0.1)):
        pitched_house(site, footprint, height, wing=0.2)
        return
    main = flat_house(site, footprint, height, equipment=0.4)
    stair_heads(site, main, max(round(half_u / 9), 1))
    if site.chance(0.35):  # another slab across makes an L or a T
        out, half = site.between(8, 20), site.between(5, 7)
        at = (half_u - half) if site.chance(0.7) else 0.0
        wing = main.beside(at, half_v + out / 2, half, out / 2)
        if half < half_u and site.fits(wing, behind_m=site.pavement_m + 3, apart_m=-1.0):
            lower = 0.0 if site.chance(0.6) else site.between(1, 3) * site.style.storey_m
            site.plan.parts.append(replace(wing, eaves=main.eaves - lower))
            site.take(wing)
    if site.chance(0.3):  # set back upper storey
        upper = main.beside(0.0, 0.0, half_u - site.between(1.5, 4), half_v - site.between(1.2, 2.0))
        site.plan.parts.append(replace(upper, eaves=main.eaves + 2.9, number=site.number()))


def plan_towers(site: Site) -> None:
    """Towers on podiums among squares and lawns."""
    style = site.style
    cos, sin = site.direction()
    apart = site.between(8, 18)
    for x, y in site.places(60, site.pavement_m + 10):
        footprint = site.footprint(x, y, cos, sin, site.between(10, 22), site.between(9, 17))
        if site.fits(footprint, behind_m=site.pavement_m + 2, apart_m=apart):
            footprint = site.settle(footprint)
            podium = site.chance(0.6)
            if podium:
                flat_house(site, footprint, site.between(1, 3) * 4.2, equipment=0.8)
            _tower(site, footprint, site.between(0.6, 0.8) if podium else site.between(0.8, 1.0))
    for x, y in site.places(25, site.pavement_m + 6):  # lower houses between the towers
        footprint = site.footprint(x, y, cos, sin, site.between(8, 24), site.between(5.5, 12))
        if site.fits(footprint, behind_m=site.pavement_m + 1.5, apart_m=6):
            footprint = site.settle(footprint)
            flat_house(site, footprint, max(round(site.between(1, 7)), 1) * style.storey_m, equipment=1.3)
    _parking(site, cos, sin)
    scatter_trees(site, style.trees_per_ha * 0.7, largest_m=4.5, groups=True)


def _tower(site: Site, footprint: Part, share: float) -> None:
    shift_u, shift_v = (
        site.between(-1, 1) * (1 - share) * half for half in (footprint.half_u, footprint.half_v)
    )
    half_u, half_v = footprint.half_u * share, footprint.half_v * share
    height = float(np.clip(site.rng.lognormal(3.55, 0.35), 20, 85))
    base = footprint.beside(shift_u, shift_v, half_u, half_v)
    tower = flat_house(site, base, height, equipment=0.8)
    for step in range((0, 0, 0, 1, 1, 2)[int(site.rng.integers(6))]):  # steps back towards the top
        shrink = 1 - 0.18 * (step + 1)
        upper = tower.beside(0.0, 0.0, half_u * shrink, half_v * shrink)
        rise = (step + 1) * site.between(3, 9)
        site.plan.parts.append(replace(upper, eaves=tower.eaves + rise, number=site.number()))
    stair_heads(site, tower, 1)
    if site.chance(0.35):  # a cross-shaped plan
        arm = tower.beside(0.0, 0.0, half_u * 1.25, half_v * 0.45)
        site.plan.parts.append(replace(arm, eaves=tower.eaves - site.between(0, 6)))


def _parking(site: Site, cos: float, sin: float) -> None:
    """Open parking with a few low garages, where there is room left."""
    for x, y in site.places(12, site.pavement_m + 5):
        lot = site.footprint(x, y, cos, sin, site.between(9, 24), site.between(8, 11))
        if site.fits(lot, behind_m=site.pavement_m, apart_m=2.0):
            lot = site.settle(lot)
            site.plan.covers.append(
                Cover(lot.x, lot.y, cos, sin, lot.half_u, lot.half_v, SurfaceClass.ASPHALT, lot.eaves, 3.0)
            )
            if site.chance(0.4):
                row = lot.beside(0.0, lot.half_v - 3, lot.half_u - 1, 2.7)
                site.plan.parts.append(replace(row, eaves=lot.eaves + 2.6, number=site.number()))


def turned(cos: float, sin: float, angle: float) -> tuple[float, float]:
    """A direction turned by an angle in radians."""
    turn_cos, turn_sin = float(np.cos(angle)), float(np.sin(angle))
    return cos * turn_cos - sin * turn_sin, sin * turn_cos + cos * turn_sin
