"""Industry: halls, saw-tooth works, tanks, silos and chimney stacks."""

from dataclasses import replace

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.green import scatter_trees
from resdepth.simulate.town.houses import choose, flat_house
from resdepth.simulate.town.parts import Cover, Part, Roof
from resdepth.simulate.town.plan import Site

_HALLS: tuple[tuple[Roof, float], ...] = (
    ("flat", 0.5),
    ("gable", 0.24),
    ("saw-tooth", 0.14),
    ("barrel", 0.05),
    ("shed", 0.07),
)


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
