"""Houses: a main roof with wings, dormers and chimneys, or a flat one with what stands on it."""

from dataclasses import replace

import numpy as np

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.parts import STEEP, Part, Roof
from resdepth.simulate.town.plan import Site

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
