"""Churches, squares, schools: what a town has a few of."""

from dataclasses import replace

import numpy as np

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.green import plant, scatter_trees
from resdepth.simulate.town.houses import flat_house, pitched_house
from resdepth.simulate.town.parts import Cover, Part
from resdepth.simulate.town.plan import Site


def deepest(site: Site) -> tuple[float, float]:
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
        x, y = deepest(site)
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
    x, y, cos, sin = *deepest(site), *site.direction()
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
