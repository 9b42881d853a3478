"""What kind of town: the parameters of a style, and the chance by which towns of one style differ."""

from dataclasses import dataclass, replace
from typing import Literal

from resdepth.options import Style
from resdepth.simulate.town.noise import generator

Use = Literal[
    "perimeter",
    "church",
    "square",
    "detached",
    "rows",
    "slabs",
    "towers",
    "civic",
    "halls",
    "tanks",
    "parking",
    "park",
    "allotments",
    "orchard",
    "field",
    "forest",
]

_STYLE_SALT = 7001


@dataclass(frozen=True)
class TownStyle:
    """The parameters of a style; a town draws its own around them (`drawn`)."""

    superblock_m: float
    """Distance of the main streets."""
    bend: float
    """How far main streets bend and streets lean, as a share of their distance; up to 0.3."""
    block_area_m2: tuple[float, float]
    """Smallest and largest block between streets; larger ones are divided."""
    main_width_m: float
    """Carriageway of a main street."""
    minor_width_m: float
    """Carriageway of a minor street."""
    pavement_m: float
    """Width of the pavements along streets."""
    relief_m: float
    """Height of the hills above the valleys, roughly."""
    storeys: tuple[float, float]
    """Smallest and largest number of storeys of the common house."""
    storey_m: float
    """Height of a storey."""
    pitched: float
    """Share of the pitched roofs among the common houses."""
    density: float
    """Share of the plots that are built on."""
    trees_per_ha: float
    """Trees in gardens, courtyards and parks."""
    street_trees: float
    """Share of the streets' sides that have a row of trees."""
    terraces: float
    """Share of the open blocks whose slopes are cut into terraces."""
    river: float
    """Probability that the town has rivers."""
    river_width_m: tuple[float, float]
    """Smallest and largest width of a river."""
    uses: tuple[tuple[Use, float], ...]
    """What blocks are used for, with weights."""


STYLES: dict[Style, TownStyle] = {
    "old-town": TownStyle(
        superblock_m=230,
        bend=0.22,
        block_area_m2=(2600, 7500),
        main_width_m=11,
        minor_width_m=6,
        pavement_m=1.8,
        relief_m=30,
        storeys=(2.5, 5.5),
        storey_m=3.3,
        pitched=0.95,
        density=0.93,
        trees_per_ha=22,
        street_trees=0.15,
        terraces=0.15,
        river=0.6,
        river_width_m=(12, 45),
        uses=(
            ("perimeter", 72),
            ("church", 4),
            ("square", 3.5),
            ("rows", 6),
            ("detached", 5),
            ("civic", 5),
            ("park", 7),
            ("parking", 2),
        ),
    ),
    "suburb": TownStyle(
        superblock_m=310,
        bend=0.26,
        block_area_m2=(4500, 11000),
        main_width_m=9,
        minor_width_m=5.5,
        pavement_m=1.6,
        relief_m=48,
        storeys=(1.0, 2.4),
        storey_m=2.9,
        pitched=0.92,
        density=0.9,
        trees_per_ha=45,
        street_trees=0.2,
        terraces=0.35,
        river=0.45,
        river_width_m=(5, 18),
        uses=(
            ("detached", 60),
            ("rows", 14),
            ("civic", 4),
            ("church", 1.5),
            ("slabs", 4),
            ("park", 5),
            ("allotments", 3),
            ("orchard", 2),
            ("field", 4),
            ("forest", 5),
        ),
    ),
    "high-rise": TownStyle(
        superblock_m=340,
        bend=0.15,
        block_area_m2=(9000, 26000),
        main_width_m=16,
        minor_width_m=8,
        pavement_m=3,
        relief_m=18,
        storeys=(5, 13),
        storey_m=2.95,
        pitched=0.06,
        density=0.85,
        trees_per_ha=38,
        street_trees=0.55,
        terraces=0.1,
        river=0.45,
        river_width_m=(20, 60),
        uses=(
            ("slabs", 36),
            ("towers", 26),
            ("perimeter", 9),
            ("civic", 8),
            ("halls", 3),
            ("parking", 5),
            ("square", 3),
            ("park", 9),
            ("forest", 1),
        ),
    ),
    "industrial": TownStyle(
        superblock_m=360,
        bend=0.12,
        block_area_m2=(13000, 42000),
        main_width_m=13,
        minor_width_m=8,
        pavement_m=1.5,
        relief_m=12,
        storeys=(2, 5),
        storey_m=3.4,
        pitched=0.2,
        density=0.85,
        trees_per_ha=10,
        street_trees=0.25,
        terraces=0.1,
        river=0.5,
        river_width_m=(15, 55),
        uses=(
            ("halls", 64),
            ("tanks", 9),
            ("parking", 7),
            ("civic", 5),
            ("field", 7),
            ("slabs", 2),
            ("park", 2),
            ("forest", 4),
        ),
    ),
}


def drawn(style: TownStyle, seed: int) -> TownStyle:
    """The style of one town: two seeds differ in density, heights, size of blocks, relief and green."""
    rng = generator(_STYLE_SALT, seed)
    size, high = rng.uniform(0.82, 1.2), rng.uniform(0.8, 1.25)
    low_area, high_area = style.block_area_m2
    area = size * size * rng.uniform(0.9, 1.15)
    return replace(
        style,
        superblock_m=style.superblock_m * size,
        bend=min(style.bend * rng.uniform(0.5, 1.25), 0.3),
        block_area_m2=(low_area * area, high_area * area),
        main_width_m=style.main_width_m * rng.uniform(0.85, 1.25),
        minor_width_m=style.minor_width_m * rng.uniform(0.85, 1.2),
        pavement_m=style.pavement_m * rng.uniform(0.7, 1.4),
        relief_m=style.relief_m * rng.uniform(0.3, 1.8),
        storeys=(style.storeys[0] * rng.uniform(0.85, 1.15), style.storeys[1] * high),
        pitched=min(style.pitched * rng.uniform(0.8, 1.15), 1.0),
        density=min(style.density * rng.uniform(0.85, 1.1), 1.0),
        trees_per_ha=style.trees_per_ha * rng.uniform(0.5, 1.7),
        street_trees=min(style.street_trees * rng.uniform(0.3, 1.9), 1.0),
        uses=tuple((use, weight * rng.uniform(0.55, 1.6)) for use, weight in style.uses),
    )
