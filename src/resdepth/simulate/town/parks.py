"""Open blocks: parks, allotments, orchards, fields and woods."""

from dataclasses import replace

import numpy as np

from resdepth.simulate.surface import SurfaceClass
from resdepth.simulate.town.block import Side
from resdepth.simulate.town.green import dig_pond, hedge, plant, scatter_trees
from resdepth.simulate.town.noise import Reals
from resdepth.simulate.town.parts import Cover, Roof
from resdepth.simulate.town.plan import Site


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
