"""Reading CityJSON files: https://www.cityjson.org/specs/2.0.1/ and its elder versions 1.0 and 1.1."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from resdepth.errors import ResDepthError
from resdepth.runtime.jsonfiles import shown, wrong_values_named
from resdepth.runtime.paths import read_text

VERSIONS = ("1.0", "1.1", "2.0")
# How many lists there are around a surface, which itself is a list of rings.
Triple = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=3, max_length=3)]
DEPTHS = {"MultiSurface": 1, "CompositeSurface": 1, "Solid": 2, "MultiSolid": 3, "CompositeSolid": 3}
MAX_FAMILY_DEPTH = 32
BUILDINGS = ("Building", "BuildingPart", "BuildingInstallation", "BuildingUnit", "OtherConstruction")
GROUND_SURFACE = "GroundSurface"
LARGEST_BYTES = 2**31
FARTHEST = 1e9  # metres or degrees; no map has such coordinates
SEQUENCE = (
    "is a CityJSONSeq file, with its features line by line; join them into one CityJSON file (cjseq collect)"
)


class _Kind(BaseModel):
    type: str = ""


class _Semantics(BaseModel):
    surfaces: list[_Kind] | None = None
    values: Any = None  # nested as the boundaries are, but may end early


class _Geometry(BaseModel):
    type: str
    lod: str | float = 0.0
    boundaries: Any = None  # nested as the type asks for
    semantics: _Semantics | None = None


class _Object(BaseModel):
    type: str
    geometry: list[_Geometry] = Field(default_factory=list)
    parents: list[str] | None = None
    children: list[str] | None = None


class _Transform(BaseModel):
    scale: Triple
    translate: Triple


class _Metadata(BaseModel):
    referenceSystem: str | None = None  # noqa: N815 - the file's


class _File(BaseModel):
    """What is used of a file; templates, textures and extensions are passed over."""

    CityObjects: dict[str, _Object]
    vertices: list[Any]  # numpy looks at so many
    transform: _Transform | None = None
    metadata: _Metadata | None = None

    @property
    def crs(self) -> str:
        """The reference system, or empty."""
        return (self.metadata and self.metadata.referenceSystem) or ""


@dataclass(frozen=True)
class CitySurface:
    """A polygon of a city object.

    Attributes:
        object_type: of the object it belongs to ("BuildingPart").
        semantics: what the surface is ("RoofSurface"); empty if that is not stated.
        family: number, from 1, of the topmost parent of the object, in the order of the file.
        rings: indices of vertices, the outer ring first.
    """

    object_type: str
    semantics: str
    family: int
    rings: list[list[int]]


@dataclass(frozen=True)
class CityModel:
    """A city model.

    Attributes:
        crs: the reference system as the file names it ("urn:ogc:def:crs:EPSG::7415"), or empty.
        vertices: (V, 3) float64, map coordinates and heights, in the units of the reference system.
        surfaces: of each object those of its most detailed geometry.
    """

    crs: str
    vertices: NDArray[np.float64]
    surfaces: list[CitySurface]

    @property
    def crs_code(self) -> str:
        """EPSG:7415 of a URN (urn:ogc:def:crs:EPSG::7415) or URL (.../def/crs/EPSG/0/7415); "" if unknown.

        Of several parts it is EPSG:32632+5773, whether a compound URN names them
        (urn:ogc:def:crs,crs:EPSG::32632,crs:EPSG::5773), a URL (.../def/crs-compound?1=...&2=...), or a code.
        """
        codes = re.findall(r"EPSG(?:[:/]+[\d.]*)?[:/](\d+)(?:\+(\d+))?", unquote(self.crs), re.IGNORECASE)
        return "EPSG:" + "+".join(code for pair in codes for code in pair if code) if codes else self.crs

    def footprints(self) -> list[CitySurface]:
        """What the buildings cover: where one tells its ground surfaces, these, else all its surfaces."""
        surfaces = [one for one in self.surfaces if one.object_type in BUILDINGS]
        grounded = {one.family for one in surfaces if one.semantics == GROUND_SURFACE}
        return [one for one in surfaces if one.semantics == GROUND_SURFACE or one.family not in grounded]


def read_city_model(path: Path) -> CityModel:
    """Read a CityJSON file; templates, textures and extensions are passed over.

    Raises:
        ResDepthError: if it is no CityJSON of a known version, or is damaged; the message names the object.
    """
    content = _load(path)
    _check_head(path, content)
    with wrong_values_named(path):
        file = _File.model_validate(content, strict=True)
    vertices = _vertices(path, file)
    families = _families(file.CityObjects)
    surfaces: list[CitySurface] = []
    for name, found in file.CityObjects.items():
        for geometry in _most_detailed(found, file.CityObjects):
            where = f"{path}: CityObjects[{name!r:.100}]"
            surfaces.extend(_surfaces(where, geometry, found.type, families[name], len(vertices)))
    return CityModel(file.crs, vertices, surfaces)


def _load(path: Path) -> Any:
    text = read_text(path, at_most=LARGEST_BYTES)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if is_sequence(text):
            raise ResDepthError(f"{path}: {SEQUENCE}") from error
        raise ResDepthError(f"{path}: is not valid JSON ({error!s:.200}); is the file complete?") from error


def is_sequence(text: str) -> bool:
    """Whether a text holds CityJSON objects line by line (CityJSONSeq)."""
    lines = text.lstrip().split("\n", 2)
    return len(lines) > 1 and all(
        line.startswith("{") and ('"CityJSON"' in line or '"CityJSONFeature"' in line) for line in lines[:2]
    )


def _check_head(path: Path, file: Any) -> None:
    kind = file.get("type") if isinstance(file, dict) else type(file).__name__
    if kind != "CityJSON":
        if kind == "CityJSONFeature":
            raise ResDepthError(f"{path}: {SEQUENCE}")
        raise ResDepthError(f"{path}: its type is {kind!r}; a city model has the type 'CityJSON'")
    version = file.get("version")
    if not (isinstance(version, str) and version.startswith(VERSIONS)):
        raise ResDepthError(
            f"{path}: its version is {version!r}; known are {', '.join(VERSIONS)}: "
            "upgrade it (cjio IN.json upgrade save OUT.json)"
        )
    if not file.get("CityObjects"):
        raise ResDepthError(f"{path}: has no CityObjects; there is nothing to build a scene from")


def _vertices(path: Path, file: _File) -> NDArray[np.float64]:
    try:
        vertices = np.array(file.vertices, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ResDepthError(f"{path}: vertices are not made of numbers ({error!s:.200})") from error
    if vertices.ndim != 2 or vertices.shape[1:] != (3,):
        raise ResDepthError(f"{path}: vertices of shape {vertices.shape}; (V, 3) is expected")
    with np.errstate(over="ignore", invalid="ignore"):
        transform = file.transform or _Transform(scale=[1.0] * 3, translate=[0.0] * 3)
        vertices = vertices * np.array(transform.scale) + np.array(transform.translate)
    lost = ~(np.abs(vertices) < FARTHEST).all(axis=1)
    if lost.any():
        raise ResDepthError(f"{path}: vertices {np.flatnonzero(lost)[:5]} are not finite, or lie on no map")
    return np.asarray(vertices)


def _families(objects: Mapping[str, _Object]) -> dict[str, int]:
    """For each object the number of its topmost parent."""
    numbers = {name: number for number, name in enumerate(objects, 1)}
    families = {}
    for name in objects:
        top = name
        for _ in range(MAX_FAMILY_DEPTH):  # parents could go round in a circle
            parents = objects[top].parents
            if not parents or parents[0] not in numbers:
                break
            top = parents[0]
        families[name] = numbers[top]
    return families


def _most_detailed(found: _Object, objects: Mapping[str, _Object]) -> list[_Geometry]:
    """The geometries of the highest level of detail; no bare footprint where parts have more."""
    geometries = [one for one in found.geometry if one.type in DEPTHS]
    if not geometries:
        return []
    best = max(map(_detail, geometries))
    children = [objects[name] for name in found.children or () if name in objects]
    if best < 1 and any(one.geometry for one in children):
        return []
    return [one for one in geometries if _detail(one) == best]


def _detail(geometry: _Geometry) -> float:
    try:
        detail = float(geometry.lod)
    except (ValueError, OverflowError):
        return 0.0
    return detail if math.isfinite(detail) else 0.0


def _surfaces(
    where: str, geometry: _Geometry, object_type: str, family: int, n_vertices: int
) -> Iterator[CitySurface]:
    semantics = geometry.semantics or _Semantics()
    named = [one.type for one in semantics.surfaces or ()]
    for rings, value in _leaves(where, geometry.boundaries, semantics.values, DEPTHS[geometry.type]):
        _check_rings(where, rings, n_vertices)
        stated = isinstance(value, int) and 0 <= value < len(named)
        yield CitySurface(object_type, named[value] if stated else "", family, rings)


def _leaves(where: str, boundaries: Any, values: Any, depth: int) -> Iterator[tuple[Any, Any]]:
    """Each surface with its number in the semantics, which is nested alike but may end early with null."""
    if depth == 0:
        yield boundaries, values
        return
    if not isinstance(boundaries, list):
        raise ResDepthError(f"{where}: its boundaries are not nested as its geometry type asks for")
    for index, inner in enumerate(boundaries):
        value = values[index] if isinstance(values, list) and index < len(values) else None
        yield from _leaves(where, inner, value, depth - 1)


def _check_rings(where: str, rings: Any, n_vertices: int) -> None:
    if not (isinstance(rings, list) and rings and all(isinstance(ring, list) for ring in rings)):
        raise ResDepthError(f"{where}: a surface is not a list of rings of vertex numbers")
    for ring in rings:
        for index in ring:
            if type(index) is not int or not 0 <= index < n_vertices:
                raise ResDepthError(
                    f"{where}: names the vertex {shown(index)}; there are vertices 0 to {n_vertices - 1}. "
                    "Is the file complete? (cjval tells more)"
                )
