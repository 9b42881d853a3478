"""What is asked of `prepare`. Field docstrings become the JSON schema and the manual."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from resdepth.config.parse import draft
from resdepth.config.schema import FilePath, NamePart, Section
from resdepth.errors import InputProblems, Problem
from resdepth.options import Motions, Moves, RpcBiases, option
from resdepth.preparation.adapters import TRUSTED
from resdepth.runtime.paths import why_no_file
from resdepth.runtime.yamlfiles import read_config

Side = Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)]
Limit = Annotated[float, Field(allow_inf_nan=False)] | None
Limits = tuple[Limit, Limit]
Coordinate = Annotated[float, Field(allow_inf_nan=False)]


class PrepareConfig(Section):
    """Everything about a data set that `prepare` makes."""

    dsm: FilePath | None = None
    """The initial DSM: a raster, or a point cloud (LAS, LAZ, PLY). Without one, the images are matched."""
    images: tuple[FilePath, ...] = ()
    """Raw images with RPCs (in the tags, .RPB, _RPC.TXT, RPC_*.XML, .geom), or ortho-images on any grid."""
    reference: FilePath | None = None
    """The reference DSM: a raster, or a point cloud."""
    masks: dict[NamePart, FilePath] = Field(default_factory=dict)
    """Masks by name (building, water, forest, or of your own): rasters where 1 is inside, or polygons."""
    crs: str | None = None
    """CRS of the data set, projected and in metres ("EPSG:32632"). Default: that of the DSM, or UTM."""
    gsd_m: Side | None = None
    """Pixel size in metres. Default: that of the DSM."""
    extent: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    """xmin, ymin, xmax, ymax in the CRS of the data set: no more than this."""
    layers: dict[NamePart, FilePath] = Field(default_factory=dict)
    """Quality layers of the DSM by name (correlation, ambiguity, triangulation_error): they come onto its
    grid."""
    trusted: dict[NamePart, Limits | None] = Field(default_factory=dict)
    """Quality layers that decide which heights count in training: the lowest and the highest value that is
    trusted, null for any; null instead of both for the range that is usual. Default: none decides."""
    dsm_valid: FilePath | None = None
    """A raster of the pixels of the DSM, 0 where it has no measured height (as MicMac's AutoMask)."""
    dsm_scaling: tuple[Coordinate, Coordinate] = (1.0, 0.0)
    """Scale and offset that make heights of the numbers of the DSM, if its band does not state them."""
    dsm_crs: str | None = None
    """CRS of a DSM that names none."""
    reference_crs: str | None = None
    """CRS of a reference DSM that names none."""
    vertical: str | None = None
    """From which zero heights are to count: ellipsoid, EGM96, EGM2008, or a code (EPSG:5773). Default: that
    of the reference DSM, or of the initial DSM."""
    dsm_vertical: str | None = None
    """From which zero the heights of the DSM count, if its CRS does not state it."""
    reference_vertical: str | None = None
    """From which zero the heights of the reference DSM count, if its CRS does not state it."""
    coregister: Motions = "shift"
    """What is sought between initial and reference DSM: shift and vertical bias, a tilt too, or nothing."""
    moves: Moves = "dsm"
    """Which of both moves; the images follow the initial DSM."""
    correct_rpcs: bool = True
    """Take the bias between the RPCs of the images out, by tie points."""
    rpc_bias: RpcBiases = "auto"
    """What is taken out of each RPC: a shift, or a term that is an affine function of the place. `auto` takes
    affine terms only if they leave clearly less than shifts at tie points that they were not fitted to."""
    mark_changes: bool = True
    """Leave places that have changed between both DSMs out of mask ground_truth."""
    schema_: Annotated[str | None, Field(alias="$schema", exclude=True)] = None
    """Path of the JSON schema, for editors; not used otherwise."""


def requested(given: Path | Mapping[str, Any] | None, options: Mapping[str, Any]) -> PrepareConfig:
    """The request in a file (JSON, YAML) or a mapping (None: empty), with options put over it.

    Args:
        given: relative paths in a file lead from where it lies.
        options: by key; they win. None and empty ones do not count.

    Raises:
        InputProblems: with everything that is wrong.
    """
    path = given if isinstance(given, Path) else None
    content = read_config(path) if path is not None else dict(given or {})  # type: ignore[arg-type] # no path
    stated = {key: value for key, value in options.items() if value not in (None, (), {}, [])}
    content = json.loads(json.dumps({**content, **stated}, default=str))
    where = f"{path}: " if path else ""
    config, problems = draft(PrepareConfig, content, where, named_in=path)
    problems = problems or prepare_rules(config, where)
    if problems:
        raise InputProblems(problems)
    return config


def prepare_rules(config: PrepareConfig, where: str = "") -> list[Problem]:
    """What is wrong between the keys of a request, and with files that it names; `where` names its file."""
    problems = []
    if config.dsm is None and len(config.images) < 2:
        problems.append(
            Problem(
                f"{where}dsm",
                "there is none, and a DSM is matched from two raw images or more; give a DSM "
                f"({option('dsm')}), or more images ({option('images')})",
            )
        )
    files = {"dsm": config.dsm, "reference": config.reference, "dsm_valid": config.dsm_valid}
    named = {key: Path(value) for key, value in files.items() if value is not None}
    named |= {f"images[{number}]": Path(path) for number, path in enumerate(config.images)}
    named |= {f"layers.{name}": Path(path) for name, path in config.layers.items()}
    named |= {f"masks.{name}": _file_of(path) for name, path in config.masks.items()}
    for key, path in named.items():
        if reason := why_no_file(path):
            problems.append(Problem(f"{where}{key}", f"{path}: {reason}"))
    problems += [*_repeated(config, where), *_mistaken(named, where), *_wrong_extent(config, where)]
    return problems + [Problem(f"{where}trusted.{name}", text) for name, text in _untrusted(config)]


def _untrusted(config: PrepareConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with the layers that are to decide about heights."""
    for name, limits in config.trusted.items():
        lowest, highest = limits or TRUSTED.get(name) or (None, None)
        if name not in config.layers:
            known = ", ".join(config.layers) or "none"
            yield name, f"the DSM has no such quality layer; there are: {known}"
        elif limits is None and name not in TRUSTED:
            yield (
                name,
                "its values differ from pipeline to pipeline; state which are trusted: [lowest, highest]",
            )
        elif (lowest, highest) == (None, None):
            yield name, "found [null, null]; give the lowest or the highest value that is trusted"
        elif lowest is not None and highest is not None and lowest > highest:
            yield name, f"found [{lowest:g}, {highest:g}]; give the lowest first"


def _file_of(path: str) -> Path:
    """The file of a layer: "town.gpkg|layername=roofs"."""
    return Path(path.partition("|")[0])


def _repeated(config: PrepareConfig, where: str) -> list[Problem]:
    known = [Path(path).resolve() for path in config.images]
    return [
        Problem(f"{where}images[{number}]", f"{path}: is given twice; heights need different views")
        for number, path in enumerate(config.images)
        if known.index(known[number]) < number
    ]


def _mistaken(named: Mapping[str, Path], where: str) -> Iterator[Problem]:
    """Heights that are named once more, as something else."""
    heights = {key: named[key].resolve() for key in ("dsm", "reference") if key in named}
    for key, path in named.items():
        for role, file in heights.items():
            if key not in ("dsm", role) and path.resolve() == file:
                text = f"{path}: is named as {role}, too; give another file, or leave it out"
                yield Problem(f"{where}{key}", text)


def _wrong_extent(config: PrepareConfig, where: str) -> list[Problem]:
    if config.extent is None:
        return []
    xmin, ymin, xmax, ymax = config.extent
    if xmin < xmax and ymin < ymax:
        return []
    return [Problem(f"{where}extent", f"found {list(config.extent)}; give xmin, ymin, xmax, ymax")]
