"""Kinds of parameters: how QGIS asks for a value of the command, and what the command is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qgis.core import (
    QgsMapLayer,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMatrix,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsProcessingUtils,
)

from .command import Parameter

FOLDER = "FOLDER"
Ask = Callable[[Parameter], Sequence[QgsProcessingParameterDefinition]]


@dataclass(frozen=True)
class Given:
    """What a user has given.

    Attributes:
        algorithm: that is run.
        parameters: the values by key.
        context: in which layers are found.
    """

    algorithm: QgsProcessingAlgorithm
    parameters: Mapping[str, Any]
    context: QgsProcessingContext

    def read(self, reader: str, key: str) -> Any:
        """What QGIS makes of the value of a key; `reader` is a method like parameterAsString."""
        return getattr(self.algorithm, reader)(self.parameters, key, self.context)

    def path(self, key: str) -> str:
        """The file of a layer, or of a path."""
        value = self.parameters.get(key)
        return self.path_of(value) if value else ""

    def paths(self, key: str) -> list[str]:
        """The files of layers, or of paths."""
        value = self.parameters.get(key) or []
        return [self.path_of(one) for one in (value if isinstance(value, (list, tuple)) else [value])]

    def path_of(self, value: Any) -> str:
        """The file of a layer or path; files that QGIS has not opened are the command's matter.

        Raises:
            QgsProcessingException: if the layer is none of a file.
        """
        layer = value
        if not isinstance(value, QgsMapLayer):
            layer = QgsProcessingUtils.mapLayerFromString(str(value), self.context, False)  # noqa: FBT003
        if layer is None:
            return str(value)
        if layer.providerType() not in {"gdal", "ogr"}:
            raise QgsProcessingException(
                f"{layer.name()}: is not read from a file; export it as GeoTIFF or GeoPackage first"
            )
        return str(layer.source()).partition("|option:")[0]


@dataclass(frozen=True)
class Kind:
    """A kind of parameters.

    Attributes:
        ask: the definitions for QGIS.
        value: what the command is given; nothing where it is None or empty.
    """

    ask: Ask
    value: Callable[[Given, Parameter], Any]


def _simple(reader: str, definition: Callable[..., QgsProcessingParameterDefinition], **options: Any) -> Kind:
    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        return [definition(one.key, one.title, optional=not one.required, **options)]

    return Kind(ask, lambda given, one: given.read(reader, one.key))


def _ask_choice(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
    return [
        QgsProcessingParameterEnum(
            one.key, one.title, list(one.choices or one.flags), defaultValue=one.default,
            optional=one.default is None, usesStaticStrings=True,
        )
    ]  # fmt: skip


def _choice(given: Given, one: Parameter) -> str:
    if one.default is None and not given.parameters.get(one.key):
        return ""
    return str(given.read("parameterAsEnumString", one.key))


def _number(number: Any, reader: str) -> Kind:
    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        ends = {"minValue": one.smallest, "maxValue": one.largest}
        known = {name: value for name, value in ends.items() if value is not None}
        missing = one.default is None
        return [
            QgsProcessingParameterNumber(one.key, one.title, number, one.default, optional=missing, **known)
        ]

    def value(given: Given, one: Parameter) -> Any:
        is_missing = one.default is None and given.parameters.get(one.key) is None
        return None if is_missing else given.read(reader, one.key)

    return Kind(ask, value)


def extent(*crs_keys: str) -> Kind:
    """A part of the map, in the CRS of the first of other parameters that has one."""

    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        return [QgsProcessingParameterExtent(one.key, one.title, optional=True)]

    def value(given: Given, one: Parameter) -> Any:
        if not given.parameters.get(one.key):
            return None
        found = [given.read("parameterAsCrs", key) for key in crs_keys if given.parameters.get(key)]
        crs = next((each for each in found if each.isValid()), None)
        if crs is None:
            raise QgsProcessingException(
                f"{one.key}: its CRS is that of {' or '.join(crs_keys)}; give it, too"
            )
        box = given.algorithm.parameterAsExtent(given.parameters, one.key, given.context, crs)
        ends = [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]
        return ends if one.values > 1 else ",".join(map(str, ends))

    return Kind(ask, value)


def or_polygons(kind: Kind) -> Kind:
    """That kind, or a layer of polygons instead."""

    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        polygons = [QgsProcessing.TypeVectorPolygon]
        layer = QgsProcessingParameterVectorLayer(
            _polygons(one), f"{one.title}: polygons", polygons, optional=True
        )
        return [*kind.ask(one), layer]

    return Kind(ask, lambda given, one: kind.value(given, one) or given.path(_polygons(one)))


def _polygons(one: Parameter) -> str:
    return f"{one.key}_POLYGONS"


def or_folder(kind: Kind, label: str) -> Kind:
    """That kind, or a folder instead."""

    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        folder = QgsProcessingParameterFile(FOLDER, label, QgsProcessingParameterFile.Folder, optional=True)
        return [*kind.ask(replace(one, required=False)), folder]

    def value(given: Given, one: Parameter) -> Any:
        found, folder = kind.value(given, one), given.read("parameterAsString", FOLDER)
        if found and folder:
            raise QgsProcessingException(f"give {one.key} or {FOLDER}, not both")
        return ([folder] if one.several else folder) if folder else found

    return Kind(ask, value)


def masks(*names: str) -> Kind:
    """A layer for each of the known names, and a table for classes of one's own."""

    def key(one: Parameter, name: str) -> str:
        return f"{one.key}_{name.upper()}"

    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        types = [QgsProcessing.TypeRaster, QgsProcessing.TypeVectorPolygon]
        known = [
            QgsProcessingParameterMapLayer(key(one, name), f"Mask: {name}", None, True, types)  # noqa: FBT003
            for name in names
        ]
        headers = ["Name", "File"]
        others = QgsProcessingParameterMatrix(one.key, "Other masks", headers=headers, optional=True)
        return [*known, others]

    def value(given: Given, one: Parameter) -> list[str]:
        cells = given.parameters.get(one.key) or []
        files = {str(cells[at]): str(cells[at + 1]) for at in range(0, len(cells) - 1, 2)}
        files.update({name: given.path(key(one, name)) for name in names})
        return [f"{name}={path}" for name, path in files.items() if path]

    return Kind(ask, value)


def raster_output(label: str) -> Kind:
    """A raster that is made."""

    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        return [QgsProcessingParameterRasterDestination(one.key, label)]

    return Kind(ask, lambda given, one: given.read("parameterAsOutputLayer", one.key))


def folder_output(label: str) -> Kind:
    """A folder that is made."""

    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        return [QgsProcessingParameterFolderDestination(one.key, label, optional=not one.required)]

    return Kind(ask, lambda given, one: given.read("parameterAsString", one.key))


def page_output(label: str) -> Kind:
    """A page that is made, if wanted."""

    def ask(one: Parameter) -> Sequence[QgsProcessingParameterDefinition]:
        return [QgsProcessingParameterFileDestination(one.key, label, "HTML (*.html)", optional=True)]

    return Kind(ask, lambda given, one: given.read("parameterAsFileOutput", one.key))


RASTER = replace(_simple("", QgsProcessingParameterRasterLayer), value=lambda given, one: given.path(one.key))
RASTERS = replace(
    _simple("", QgsProcessingParameterMultipleLayers, layerType=QgsProcessing.TypeRaster),
    value=lambda given, one: given.paths(one.key),
)
FILE = _simple("parameterAsString", QgsProcessingParameterFile)
TEXT = _simple("parameterAsString", QgsProcessingParameterString)
CRS = replace(
    _simple("parameterAsCrs", QgsProcessingParameterCrs),
    value=lambda given, one: _crs_text(given.read("parameterAsCrs", one.key)),
)
CHOICE = Kind(_ask_choice, _choice)
BY_TYPE = {
    "flag": Kind(
        lambda one: [QgsProcessingParameterBoolean(one.key, one.title, defaultValue=bool(one.default))],
        lambda given, one: given.read("parameterAsBool", one.key),
    ),
    "choice": CHOICE,
    "integer": _number(QgsProcessingParameterNumber.Integer, "parameterAsInt"),
    "number": _number(QgsProcessingParameterNumber.Double, "parameterAsDouble"),
    "path": FILE,
    "text": TEXT,
}
"""Kinds of parameters of which nothing more is known than their type."""


def _crs_text(crs: Any) -> str:
    return str(crs.authid() or crs.toWkt()) if crs.isValid() else ""


def usual_kind(one: Parameter) -> Kind:
    """The kind of a parameter by its type; one of two flags is a choice."""
    return CHOICE if len(one.flags) > 1 else BY_TYPE[one.type]
