"""Reading CityJSON files: https://www.cityjson.org/specs/2.0.1/ and its elder versions 1.0 and 1.1."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from resdepth.errors import ResDepthError

VERSIONS = ("1.0", "1.1", "2.0")
# How many lists there are around a surface, which itself is a list of rings.
DEPTHS = {"MultiSurface": 1, "CompositeSurface": 1, "Solid": 2, "MultiSolid": 3, "CompositeSolid": 3}
MAX_FAMILY_DEPTH = 32
BUILDINGS = ("Building", "BuildingPart", "BuildingInstallation", "BuildingUnit", "OtherConstruction")
GROUND_SURFACE = "GroundSurface"
SEQUENCE = (
    "is a CityJSONSeq file, with its features line by line; join them into one CityJSON file (cjseq collect)"
)


@dataclass(frozen=True)
class CitySurface:
    """A polygon of a city object.

    Attributes:
        object_type: of the object it belongs to ("BuildingPart").
        semantics: what the surface is ("RoofSurface"); empty if that is not told.
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
    file = _load(path)
    _check_head(path, file)
    objects = file["CityObjects"]
    vertices = _vertices(path, file)
    families = _families(objects)
    surfaces: list[CitySurface] = []
    for name, found in objects.items():
        for geometry in _most_detailed(found, objects):
            where = f"{path}: CityObjects[{name!r}]"
            surfaces.extend(_surfaces(where, geometry, found["type"], families[name], len(vertices)))
    return CityModel(_crs(file), vertices, surfaces)


def _load(path: Path) -> Any:
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise ResDepthError(f"{path}: is not UTF-8 text ({error}); a CityJSON file is") from error
    except (ValueError, RecursionError) as error:
        if is_sequence(text):
            raise ResDepthError(f"{path}: {SEQUENCE}") from error
        raise ResDepthError(f"{path}: is not valid JSON ({error}); is the file complete?") from error


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
    objects = file.get("CityObjects")
    if not (isinstance(objects, dict) and objects):
        raise ResDepthError(f"{path}: has no CityObjects; there is nothing to build a scene from")
    for name, found in objects.items():
        if not (isinstance(found, dict) and isinstance(found.get("type"), str)):
            raise ResDepthError(f"{path}: CityObjects[{name!r}]: is no object with a type")
        if not isinstance(found.get("geometry", []), list):
            raise ResDepthError(f"{path}: CityObjects[{name!r}]: its geometry is no list")


def _vertices(path: Path, file: dict[str, Any]) -> NDArray[np.float64]:
    try:
        vertices = np.array(file.get("vertices"), np.float64)
        transform = file.get("transform") or {"scale": [1, 1, 1], "translate": [0, 0, 0]}
        scale, translate = (np.array(transform[key], np.float64) for key in ("scale", "translate"))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ResDepthError(f"{path}: vertices or transform are not made of numbers ({error})") from error
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or scale.shape != (3,) or translate.shape != (3,):
        raise ResDepthError(
            f"{path}: vertices of shape {vertices.shape} with a scale of {scale.shape} and a translate of "
            f"{translate.shape} numbers; (V, 3), (3,) and (3,) are expected"
        )
    vertices = vertices * scale + translate
    if not np.isfinite(vertices).all():
        raise ResDepthError(
            f"{path}: vertices {np.flatnonzero(~np.isfinite(vertices).all(axis=1))[:5]} are not finite"
        )
    return vertices


def _crs(file: dict[str, Any]) -> str:
    metadata = file.get("metadata")
    told = metadata.get("referenceSystem") if isinstance(metadata, dict) else None
    return told if isinstance(told, str) else ""


def _families(objects: dict[str, Any]) -> dict[str, int]:
    """For each object the number of its topmost parent."""
    numbers = {name: number for number, name in enumerate(objects, 1)}
    families = {}
    for name in objects:
        top = name
        for _ in range(MAX_FAMILY_DEPTH):  # parents could go round in a circle
            parents = objects[top].get("parents")
            if not (isinstance(parents, list) and parents and parents[0] in numbers):
                break
            top = parents[0]
        families[name] = numbers[top]
    return families


def _most_detailed(found: dict[str, Any], objects: dict[str, Any]) -> list[dict[str, Any]]:
    """The geometries of the highest level of detail; no bare footprint where parts have more."""
    geometries = [
        one for one in found.get("geometry", []) if isinstance(one, dict) and one.get("type") in DEPTHS
    ]
    if not geometries:
        return []
    best = max(map(_detail, geometries))
    children = [objects[name] for name in found.get("children") or [] if name in objects]
    if best < 1 and any(one.get("geometry") for one in children):
        return []
    return [one for one in geometries if _detail(one) == best]


def _detail(geometry: dict[str, Any]) -> float:
    try:
        return float(geometry.get("lod", 0))
    except (TypeError, ValueError):
        return 0.0


def _surfaces(
    where: str, geometry: dict[str, Any], object_type: str, family: int, n_vertices: int
) -> Iterator[CitySurface]:
    semantics = geometry.get("semantics") or {}
    named = [one.get("type", "") for one in semantics.get("surfaces") or []]
    for rings, value in _leaves(
        where, geometry.get("boundaries"), semantics.get("values"), DEPTHS[geometry["type"]]
    ):
        _check_rings(where, rings, n_vertices)
        told = isinstance(value, int) and 0 <= value < len(named)
        yield CitySurface(object_type, named[value] if told else "", family, rings)


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
                    f"{where}: names the vertex {index!r}; there are vertices 0 to {n_vertices - 1}. "
                    "Is the file complete? (cjval tells more)"
                )
