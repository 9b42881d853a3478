"""From which zero heights count: ellipsoid or geoid, and what brings heights from one to the other (pyproj).

A geoid is not a formula but a grid of numbers, which PROJ must have; what is missing is named.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from resdepth.errors import ResDepthError
from resdepth.geo.crs import horizontal_part, vertical_part
from resdepth.geo.grid import Grid
from resdepth.options import option
from resdepth.runtime.surroundings import without_warnings

Array = NDArray[np.float32]

ELLIPSOID = "ellipsoid"
"""The zero of heights that RPCs count."""
NAMES = {"egm96": "EPSG:5773", "egm2008": "EPSG:3855", "egm08": "EPSG:3855", "navd88": "EPSG:5703"}
"""Vertical reference systems by what people call them; others are named by their code."""
LATTICE, LATTICE_PX = 17, 8
"""Points along each side of an area at which the change of heights is computed: a geoid varies slowly."""
UNKNOWN = ""


class MissingGeoid(ResDepthError):
    """PROJ knows the way from one zero to another, but lacks the grid for it."""


@dataclass(frozen=True)
class HeightChange:
    """What is added to heights over an area, for them to count from another zero.

    Attributes:
        x, y: (N,) and (M,) map coordinates, rising.
        up_m: (M, N) float64, metres.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    up_m: NDArray[np.float64]

    @property
    def mean_m(self) -> float:
        """The mean over the area, metres."""
        return float(self.up_m.mean())

    @property
    def is_none(self) -> bool:
        """Whether nothing changes."""
        return not self.up_m.any()

    def over(self, grid: Grid) -> Array:
        """(H, W) float32, metres, on a north-up grid of the same map; beyond the area as at its edge."""
        a, _, c, _, e, f = grid.transform
        x = np.clip(c + a * (np.arange(grid.width) + 0.5), self.x[0], self.x[-1])
        y = np.clip(f + e * (np.arange(grid.height) + 0.5), self.y[0], self.y[-1])
        between = RegularGridInterpolator((self.y, self.x), self.up_m)
        return np.asarray(between(tuple(np.meshgrid(y, x, indexing="ij"))), np.float32)


def constant_change(grid: Grid, up_m: float) -> HeightChange:
    """The same change all over a grid."""
    xmin, ymin, xmax, ymax = grid.bounds
    return HeightChange(np.array([xmin, xmax]), np.array([ymin, ymax]), np.full((2, 2), float(up_m)))


def vertical_of(crs: str) -> str:
    """From what a CRS states that heights count: "ellipsoid", the WKT of a vertical CRS, or "" if nothing.

    Args:
        crs: WKT, perhaps of a compound or a 3D CRS.
    """
    if vertical_part(crs) is None:
        return UNKNOWN
    known = _pyproj().CRS.from_user_input(crs)
    parts = known.sub_crs_list
    if known.is_compound and len(parts) > 1:
        return str(_in_metres(parts[1]).to_wkt())
    return ELLIPSOID if len(known.axis_info) > 2 else UNKNOWN


def named_vertical(text: str) -> str:
    """What a user names: "ellipsoid", "EGM96", "EPSG:5773", the WKT of a vertical CRS, or "unknown".

    Raises:
        ResDepthError: if it names no heights.
    """
    pyproj = _pyproj()
    plain = text.strip()
    if plain.casefold() == "unknown":
        return UNKNOWN
    if plain.casefold() in {ELLIPSOID, "ellipsoidal", "wgs84"}:
        return ELLIPSOID
    try:
        known = pyproj.CRS.from_user_input(NAMES.get(plain.casefold().replace(" ", ""), plain))
    except pyproj.exceptions.CRSError as error:
        raise ResDepthError(
            f"{text[:60]!r} names no zero of heights; give ellipsoid, EGM96, EGM2008, or a code (EPSG:5773)"
        ) from error
    if known.is_vertical and not known.is_compound:
        return str(_in_metres(known).to_wkt())
    stated = vertical_of(known.to_wkt())
    if not stated:
        raise ResDepthError(
            f"{text[:60]!r} ({known.name}) states nothing of heights; give ellipsoid, EGM96, EGM2008, or the "
            "code of a vertical CRS (EPSG:5773)"
        )
    return stated


def title_of(vertical: str) -> str:
    """What people call it."""
    if vertical in (ELLIPSOID, UNKNOWN):
        return vertical or "unknown"
    known = _pyproj().CRS.from_user_input(vertical)
    code = known.to_epsg()
    return f"EPSG:{code} ({known.name})" if code else str(known.name)


def compound(crs: str, vertical: str) -> str:
    """WKT of a map with heights in metres; of the map alone where they are ellipsoidal, or unknown.

    Args:
        crs: WKT of the map.
        vertical: as `vertical_of` gives it.
    """
    if vertical in (ELLIPSOID, UNKNOWN):
        return crs
    return str(_compound(crs, vertical).to_wkt())


def height_change(source: str, target: str, grid: Grid, z: float) -> HeightChange:
    """What brings heights over a grid from one zero to another.

    Args:
        source: where they count from, as `vertical_of` gives it; nothing changes if one of both is unknown.
        target: where they are to count from.
        grid: on a map.
        z: a height in the middle of those of the area, metres.

    Raises:
        ResDepthError: if PROJ does not know the way, or lacks a grid for it, which is named.
    """
    if UNKNOWN in (source, target) or source == target:
        return constant_change(grid, 0.0)
    xmin, ymin, xmax, ymax = grid.bounds
    x, y = np.linspace(xmin, xmax, LATTICE), np.linspace(ymin, ymax, LATTICE)
    xs, ys = np.meshgrid(x, y)
    with _named_folders():
        transformer = _transformer(_compound(grid.crs, source), _compound(grid.crs, target))
        _, _, heights = transformer.transform(xs.ravel(), ys.ravel(), np.full(xs.size, z))
    up = np.reshape(heights, xs.shape) - z
    if not np.isfinite(up).all():
        raise ResDepthError(
            f"heights: {title_of(target)} is not known all over the area; name another zero of heights "
            f"({option('vertical')})"
        )
    return HeightChange(x, y, up)


def _transformer(source: Any, target: Any) -> Any:
    from pyproj.transformer import TransformerGroup

    with without_warnings(UserWarning):  # that the best one is not there, which is looked at here
        group = TransformerGroup(source, target, always_xy=True, allow_ballpark=False)
    missing = [
        one.short_name for way in group.unavailable_operations[:1] for one in way.grids if not one.available
    ]
    if missing and (not group.best_available or not group.transformers):
        stems = " ".join(f"pyproj sync --file {Path(name).stem};" for name in missing)
        raise MissingGeoid(
            f"heights: from {source.name} to {target.name} PROJ needs {', '.join(missing)}, which is not "
            f"here: {stems} or install the package proj-data, and let PROJ_DATA lead to its "
            "folder. Where both heights count from one zero already, name "
            f"it for both ({option('dsm_vertical')}, {option('reference_vertical')}); or name "
            "one `unknown`, and co-registration takes out what is constant"
        )
    if not group.transformers:
        raise ResDepthError(
            f"heights: PROJ knows no way from {source.name} to {target.name} here; name another zero of "
            f"heights ({option('vertical')})"
        )
    return group.transformers[0]


@contextmanager
def _named_folders() -> Iterator[None]:
    """Grids are found where PROJ_DATA leads (or PROJ_LIB, its old name), which pyproj's wheels ignore."""
    datadir = _pyproj().datadir
    before = datadir.get_data_dir()
    known = before.split(os.pathsep)
    named = os.pathsep.join(filter(None, (os.environ.get(name) for name in ("PROJ_DATA", "PROJ_LIB"))))
    more = [one for one in dict.fromkeys(named.split(os.pathsep)) if one not in known and Path(one).is_dir()]
    if not more:
        yield
        return
    datadir.set_data_dir(
        os.pathsep.join([*known, *more])
    )  # its own first: the database is that of its version
    try:
        yield
    finally:
        datadir.set_data_dir(before)


def _compound(crs: str, vertical: str) -> Any:
    pyproj = _pyproj()
    flat = pyproj.CRS.from_wkt(horizontal_part(crs))
    if vertical == ELLIPSOID:
        return flat.to_3d()
    upright = pyproj.CRS.from_user_input(vertical)
    from pyproj.crs import CompoundCRS

    return CompoundCRS(f"{flat.name} + {upright.name}", [flat, upright])


def _in_metres(vertical: Any) -> Any:
    """The same zero with heights in metres, as they are inside."""
    described = vertical.to_json_dict()
    while described.get("type") == "BoundCRS":
        described = described["source_crs"]
    axis = described["coordinate_system"]["axis"][0]
    if axis.get("unit") == "metre":
        return _pyproj().CRS.from_json_dict(described)
    changed = {key: value for key, value in described.items() if key != "id"}
    changed["coordinate_system"] = {
        **described["coordinate_system"], "axis": [{**axis, "unit": "metre"}]
    }  # fmt: skip
    changed["name"] = f"{described.get('name', 'height')} in metres"
    return _pyproj().CRS.from_json_dict(changed)


def _pyproj() -> Any:
    try:
        import pyproj
    except ImportError as error:
        raise ResDepthError(
            "heights: their zero is looked up with pyproj, which is not installed: pip install "
            "'resdepth[prepare]'"
        ) from error
    return pyproj
