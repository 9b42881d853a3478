"""The folder of a finished run of a stereo pipeline: which pipeline, which file is the DSM, and its layers.

Files are named as the pipelines' sources and manuals have them; where the header of a DSM states what its
heights count from, it decides.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resdepth.errors import InputProblems, ResDepthError, unusable
from resdepth.geo.crs import vertical_part
from resdepth.geo.raster import open_header, read_header
from resdepth.options import option
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.paths import MAX_TEXT_BYTES, NO_SUCH_FILE, is_there

LAYERS: Mapping[str, str] = {
    "triangulation_error": "distance between the rays of a point, metres; of 3 bands: north, east, down",
    "ambiguity": "how ambiguous the match was, as the pipeline gives it",
    "performance": "expected error of the height, metres or classes",
    "correlation": "how alike the images are at the match; of 8 bits: (value - 127) / 128",
    "confidence": "how sure the matcher is, as the pipeline gives it",
    "valid": "0 where the DSM has no measured height",
    "filling": "how a height was filled in; 0: measured",
    "classification": "classes, as the pipeline gives them",
    "contributing_pair": "which pair a height is from",
    "weights": "weight of the points in a cell",
    "spread": "standard deviation of the heights of the points in a cell, metres",
    "count": "how many points lie in a cell",
    "vertical_error": "propagated vertical standard deviation, metres",
    "horizontal_error": "propagated horizontal standard deviation, metres",
    "distance": "distance to the next measured height",
    "unfilled": "the DSM before voids were filled",
}
"""The standard names of quality layers, and what they hold."""
EIGHT_BIT_CORRELATION = 127.0, 128.0
TRUSTED: Mapping[str, tuple[float | None, float | None]] = {
    "correlation": (0.4, None),
    "triangulation_error": (None, 1.0),
    "spread": (None, 1.0),
    "distance": (None, 1.0),
    "count": (2.0, None),
    "filling": (None, 0.0),
}
"""Lowest and highest value with which heights are trusted, of layers that mean the same in each pipeline."""

ELLIPSOID, EGM96 = "ellipsoid", "EPSG:5773"
IMAGE_ENDINGS = (".tif", ".tiff", ".jp2", ".ntf", ".img", ".vrt")
LONGEST_LOG = MAX_TEXT_BYTES

Layers = Mapping[str, str]


@dataclass(frozen=True)
class PipelineRun:
    """What a finished run of a stereo pipeline left behind.

    Attributes:
        software: the pipeline, as people call it: "Ames Stereo Pipeline".
        dsm: its DSM.
        images: raw images, where the run names them and they are there; else its ortho-images.
        layers: quality layers on the grid of the DSM, by their names in `LAYERS`.
        notes: what to know about the run, in sentences.
        heights: what heights count from: the name of the DSM's vertical CRS, or else what the pipeline counts
            them from, "ellipsoid" or a code like "EPSG:5773" (EGM96); "" if nobody states it.
        scaling: scale and offset; height = scale * stored value + offset.
        are_raw: whether `images` are raw images, which RPCs or camera models belong to.
    """

    software: str
    dsm: Path
    images: tuple[Path, ...] = ()
    layers: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    heights: str = ""
    scaling: tuple[float, float] = (1.0, 0.0)
    are_raw: bool = False


@dataclass(frozen=True)
class _Pipeline:
    """How runs of one pipeline are known.

    Attributes:
        signs: patterns of files of which any says that a folder is of this pipeline.
        dsm_names: patterns of the DSM, the best first; files of one pattern are equally good.
        read: the run, from its folder and its DSM.
        remedy: what to do if there is no DSM.
        no_dsm: what the name of a DSM does not hold.
    """

    signs: tuple[str, ...]
    dsm_names: tuple[str, ...]
    read: Callable[[Path, Path], PipelineRun]
    remedy: str
    no_dsm: str = "_Tile_"


def recognise(folder: Path) -> PipelineRun:
    """What a stereo pipeline left in a folder: its DSM, its images and its quality layers.

    s2p, Ames Stereo Pipeline, CARS, MicMac, OpenDroneMap and exports of Agisoft Metashape are known. Nothing
    is written, and no pixels are read.

    Args:
        folder: the output folder of the run.

    Raises:
        InputProblems: if there is no such folder, no pipeline or several ones are recognised, the DSM is
            missing or cannot be read, or several files may be the DSM; with what was looked for.
    """
    if not folder.is_dir():
        why = "is a file; name the output folder of a stereo pipeline" if is_there(folder) else NO_SUCH_FILE
        raise unusable(folder, why.replace("no such file", "no such folder", 1))
    software, sign = _software(folder)
    pipeline = PIPELINES[software]
    dsm = _find_dsm(folder, software, sign)
    run = pipeline.read(folder, dsm)
    try:
        header = read_header(dsm)
    except ResDepthError as error:
        raise unusable(folder, f"the DSM of this run of {software} is unusable: {error}") from error
    stated = vertical_part(header.grid.crs)
    notes = [*run.notes]
    if not header.grid.crs:
        notes.append(f"{dsm.name} states no CRS; name that of the project")
    if header.nodata is None and not header.has_mask and "valid" not in run.layers:
        notes.append(f"{dsm.name} states no nodata value; voids are those that are NaN")
    return PipelineRun(
        software, dsm, run.images, run.layers, tuple(notes), stated.name if stated else run.heights,
        run.scaling, run.are_raw,
    )  # fmt: skip


def _software(folder: Path) -> tuple[str, str]:
    """The pipeline that a folder is of, and the file that says so."""
    found = {name: sign for name, one in PIPELINES.items() if (sign := _first(folder, one.signs))}
    if _is_of_metashape(folder) and not found:
        found = {METASHAPE: "TIFFTAG_SOFTWARE of its rasters"}
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        seen = ", ".join(f"{name} ({sign})" for name, sign in found.items())
        raise unusable(folder, f"looks like runs of several pipelines: {seen}; name the folder of one")
    looked_for = "; ".join(f"{name}: {', '.join(one.signs)}" for name, one in PIPELINES.items())
    raise unusable(
        folder,
        f"no run of a known stereo pipeline{_runs_below(folder)}. Looked for {looked_for}. Name the DSM and "
        f"the images themselves ({option('dsm')}, {option('images')})",
    )


def _runs_below(folder: Path) -> str:
    """In words, which folders within this one are of a pipeline; "" if none is."""
    inner = [one for one in _listed(folder) if one.is_dir()]
    known = [one.name for one in inner if any(_first(one, kind.signs) for kind in PIPELINES.values())]
    return f", but these within it are: {', '.join(known)}" if known else ""


def _find_dsm(folder: Path, software: str, sign: str) -> Path:
    names, no_dsm = PIPELINES[software].dsm_names, PIPELINES[software].no_dsm
    for name in names:
        found = [path for path in _matches(folder, name) if not re.search(no_dsm, path.name, re.IGNORECASE)]
        if software == MICMAC:
            found = _latest_of_micmac(folder, found)
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(str(path.relative_to(folder)) for path in found)
            raise unusable(folder, f"{len(found)} files may be the DSM of this run of {software}: {listed}; "
                           f"name the right one ({option('dsm')})")  # fmt: skip
    raise unusable(
        folder,
        f"looks like a run of {software} ({sign}), but its DSM is missing: looked for {', '.join(names)}; "
        f"{PIPELINES[software].remedy}, or name a DSM ({option('dsm')})",
    )


def _matches(folder: Path, pattern: str) -> list[Path]:
    """Files of this pattern, by name; an unreadable folder has none."""
    try:
        return sorted(path for path in folder.glob(pattern) if path.is_file())
    except OSError:
        return []


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise unusable(folder, f"cannot be read ({error.strerror}); check its permissions") from error


def _first(folder: Path, patterns: Iterable[str]) -> str:
    """The first file of any of these patterns, relative to the folder; "" if there is none."""
    for pattern in patterns:
        if found := _matches(folder, pattern):
            return str(found[0].relative_to(folder))
    return ""


def _layers(folder: Path, names: Layers) -> dict[str, Path]:
    """The layers that are there; `names` are patterns of files."""
    found = {layer: _matches(folder, pattern) for layer, pattern in names.items()}
    return {layer: paths[0] for layer, paths in found.items() if paths}


def _there(names: Iterable[str], folders: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Images that a run names, looked for in these folders; and a note about those that are not there."""
    found: dict[Path, None] = {}
    lost = []
    folders = tuple(folders)
    for name in dict.fromkeys(names):
        paths = [folder / name for folder in folders if is_there(folder / name)]
        if paths:
            found[paths[0].resolve()] = None
        else:
            lost.append(name)
    named = option("images")
    notes = (f"images of this run are not there: {', '.join(lost)}; name them ({named})",) if lost else ()
    return tuple(found), notes


def _values_of(content: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """Texts at these keys, anywhere in a JSON file."""
    if isinstance(content, list):
        for one in content:
            yield from _values_of(one, keys)
    if isinstance(content, dict):
        for key, value in content.items():
            if key in keys and isinstance(value, str):
                yield value
            else:
                yield from _values_of(value, keys)


def _text(path: Path) -> str:
    """The beginning of a file that need not be clean UTF-8; "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_LOG).decode("utf-8", "replace")
    except OSError:
        return ""


def _read_s2p(folder: Path, dsm: Path) -> PipelineRun:
    names: list[str] = []
    for path in _matches(folder, "config.json"):
        try:
            names += _values_of(read_json(path).get("images", []), ("img",))
        except InputProblems:
            continue
    images, notes = _there(names, (folder, folder.parent, Path.cwd()))
    if (folder / "dsm-filtered.tif").is_file():
        notes += ("dsm.tif is taken; dsm-filtered.tif, without its outliers, lies beside it",)
    layers = _layers(folder, {"confidence": "confidence.tif"})
    return PipelineRun("s2p", dsm, images, layers, notes, ELLIPSOID, are_raw=bool(images))


def _read_asp(folder: Path, dsm: Path) -> PipelineRun:
    prefix = dsm.name.removesuffix("-DEM.tif")
    names: list[str] = []
    for log in _matches(folder, f"{prefix}-log-*stereo*.txt"):
        commands = [line for line in _text(log).splitlines() if re.search(r"stereo_\w+ |stereo ", line)]
        words = (word for line in commands for word in line.split())
        names += [word for word in words if word.lower().endswith(IMAGE_ENDINGS) and prefix not in word]
        if names:
            break
    images, notes = _there(names[:2], (Path.cwd(), *folder.absolute().parents[:3], folder))
    orthos = tuple(_matches(folder, f"{prefix}-DRG.tif"))
    layers = _layers(folder, {name: prefix + ending for name, ending in ASP_LAYERS.items()})
    if "triangulation_error" in layers and _bands(layers["triangulation_error"]) == 3:
        notes += ("the triangulation error has 3 bands (north, east, down); its length counts",)
    if (folder / f"{prefix}-DEM-adj.tif").is_file():
        notes += (f"{prefix}-DEM-adj.tif has the same heights above a geoid; those of {dsm.name} are taken",)
    return PipelineRun(ASP, dsm, images or orthos, layers, notes, ELLIPSOID, are_raw=bool(images))


ASP_LAYERS: Layers = {
    "triangulation_error": "-IntersectionErr.tif",
    "vertical_error": "-VerticalStdDev.tif",
    "horizontal_error": "-HorizontalStdDev.tif",
}


def _bands(path: Path) -> int:
    try:
        with open_header(path) as dataset:
            return int(dataset.count)
    except ResDepthError:
        return 0


CARS_LAYERS: Layers = {
    "ambiguity": "ambiguity.tif",
    "performance": "performance_map.tif",
    "classification": "classification.tif",
    "contributing_pair": "contributing_pair.tif",
    "weights": "weights.tif",
    "filling": "filling.tif",
}
CARS_ORTHOS = ("image.tif", "color.tif", "clr.tif")
CARS_DUMPS: Layers = {"spread": "dsm_std.tif", "count": "dsm_n_pts.tif"}
_CARS_IMAGE = re.compile(r"""^[ \t-]*(?:image|main_file)[ \t]*:[ \t]*['"]?([^'"#\n]+?)['"]?[ \t]*$""", re.M)


def _read_cars(folder: Path, dsm: Path) -> PipelineRun:
    top = folder.parent if folder.name == "dsm" and folder == dsm.parent else folder
    layers = _layers(dsm.parent, CARS_LAYERS) | _layers(top / "dump_dir" / "rasterization", CARS_DUMPS)
    names: list[str] = []
    stated = ""
    for path in [one for name in CARS_RECORDS for one in _matches(top, name)]:
        text = _text(path)
        stated += text
        if path.suffix == ".json":
            names += _values_of(_json_or_none(path), ("image", "main_file"))
        else:
            names += _CARS_IMAGE.findall(text)
    raw = [
        name for name in names if name.lower().endswith(IMAGE_ENDINGS) and not _is_ortho_of_cars(dsm, name)
    ]
    images, notes = _there(raw, (top, top.parent, Path.cwd()))
    orthos = [one for name in CARS_ORTHOS for one in _matches(dsm.parent, name)]
    above_ellipsoid = re.search(r"[\"']?geoid[\"']?\s*:\s*(false|null|none)\b", stated, re.I)
    if "filling" in layers:
        notes += ("heights that CARS filled in are those where filling.tif is not 0",)
    return PipelineRun(
        "CARS", dsm, images or tuple(orthos[:1]), layers, notes,
        ELLIPSOID if above_ellipsoid else EGM96, are_raw=bool(images),
    )  # fmt: skip


CARS_RECORDS = (
    "metadata.yaml", "metadata.json", "used_conf.yaml", "used_conf.json", "content.json", "index.json",
    "dsm/index.yaml", "index.yaml",
)  # fmt: skip


def _json_or_none(path: Path) -> Any:
    try:
        return read_json(path)
    except InputProblems:
        return None


def _is_ortho_of_cars(dsm: Path, name: str) -> bool:
    """Whether a name is that of the ortho-image of the run itself."""
    return Path(name).name in CARS_ORTHOS and (dsm.parent / Path(name).name).is_file()


def _latest_of_micmac(folder: Path, found: list[Path]) -> list[Path]:
    """The DSMs of the last step, which are those with the highest number.

    Raises:
        InputProblems: if the last step is there in tiles only.
    """
    steps = {path: int(step[1]) for path in found if (step := re.search(r"Z_Num(\d+)_", path.name))}
    last = max(steps.values(), default=-1)
    tiles = [
        path
        for path in _matches(folder, "**/Z_Num*_Tile_*.tif")
        if (step := re.search(r"Z_Num(\d+)_", path.name)) and int(step[1]) > last
    ]
    if tiles:
        whole = tiles[-1].name.split("_Tile_")[0]
        raise unusable(
            folder,
            f"MicMac left its DSM in tiles ({whole}_Tile_*.tif); put them together (gdalbuildvrt {whole}.vrt "
            f"{whole}_Tile_*.tif), and name the result ({option('dsm')})",
        )
    return [path for path in found if steps.get(path) == last]


def _read_micmac(folder: Path, dsm: Path) -> PipelineRun:
    step = re.search(r"Z_Num(\d+)_DeZoom(\d+)_(.+)\.tif$", dsm.name)
    assert step is not None, "its name was matched"
    before, zoom, kind = int(step[1]) - 1, int(step[2]), step[3]
    layers = _layers(dsm.parent, {
        "correlation": f"Correl_{kind}_Num_{before}.tif", "valid": f"AutoMask_{kind}_Num_{before}.tif",
    })  # fmt: skip
    notes = ["MicMac writes no nodata value: voids are where the layer `valid` is 0"]
    if "valid" not in layers:
        notes = [f"MicMac's mask of voids, AutoMask_{kind}_Num_{before}.tif, is not there"]
    if zoom > 1:
        notes.append(f"the last step was at a {zoom}th of the full size; is the run complete?")
    patterns = ("Ortho-MEC*/Ort_*.tif", "../Ortho-MEC*/Ort_*.tif")
    orthos = [one for pattern in patterns for one in _matches(folder, pattern)]
    mosaics = _matches(folder, "Ortho-MEC*/Orthophotomosaic.tif")
    if mosaics and not orthos:
        notes.append("there is one mosaic instead of ortho-images of single images; its seams hide views")
    return PipelineRun(
        MICMAC, dsm, tuple(orthos) or tuple(mosaics[:1]), layers, tuple(notes), scaling=_micmac_scaling(dsm)
    )


def _micmac_scaling(dsm: Path) -> tuple[float, float]:
    """Scale and offset in the file beside a DSM of MicMac: ResolutionAlti and OrigineAlti.

    Raises:
        InputProblems: if they are no numbers.
    """
    path = dsm.with_suffix(".xml")
    if not path.is_file():
        return 1.0, 0.0
    text = _text(path)
    stated = {
        name: re.search(rf"<{name}>([^<]*)</{name}>", text) for name in ("ResolutionAlti", "OrigineAlti")
    }
    scale, offset = stated.values()
    try:
        return float(scale[1]) if scale else 1.0, float(offset[1]) if offset else 0.0
    except ValueError as error:
        raise unusable(path, f"its OrigineAlti and ResolutionAlti cannot be read ({error})") from error


def _read_odm(folder: Path, dsm: Path) -> PipelineRun:
    mosaics = _matches(folder, "odm_orthophoto/odm_orthophoto.tif")
    notes = ["OpenDroneMap has filled the voids of its DSM and smoothed it; resdepth sees no voids there"]
    if mosaics:
        notes.append("its ortho-image is a mosaic, whose seams hide from where a place was seen")
    layers = _layers(dsm.parent, {"distance": "dsm.euclideand.tif", "unfilled": "dsm.unfilled.tif"})
    return PipelineRun(ODM, dsm, tuple(mosaics), layers, tuple(notes))


def _is_of_metashape(folder: Path) -> bool:
    """Whether a raster in the folder says that Metashape wrote it."""
    return any("agisoft" in _software_tag(path).lower() for path in _matches(folder, "*.tif")[:20])


def _software_tag(path: Path) -> str:
    try:
        with open_header(path) as dataset:
            return str(dataset.tags().get("TIFFTAG_SOFTWARE", ""))
    except ResDepthError:
        return ""


def _read_metashape(folder: Path, dsm: Path) -> PipelineRun:
    single = [one for name in ("[Oo]rthophotos/*.tif", "[Oo]rthos/*.tif") for one in _matches(folder, name)]
    mosaics = [one for one in _matches(folder, "*[Oo]rtho*.tif") if one != dsm]
    notes = ["Metashape interpolates voids unless this is switched off when the DEM is built"]
    if mosaics and not single:
        notes.append("an orthomosaic hides from where a place was seen; Metashape exports single orthophotos")
    return PipelineRun(METASHAPE, dsm, tuple(single or mosaics), {}, tuple(notes))


ASP, MICMAC, ODM, METASHAPE = "Ames Stereo Pipeline", "MicMac", "OpenDroneMap", "Agisoft Metashape"

PIPELINES: Mapping[str, _Pipeline] = {
    "s2p": _Pipeline(
        ("tiles.txt", "global_pointing*.txt", "dsm-filtered.tif"),
        ("dsm.tif", "dsm-filtered.tif"),
        _read_s2p,
        "let s2p finish its last steps",
    ),
    ASP: _Pipeline(
        ("*-IntersectionErr.tif", "*-PC.tif", "*-DEM.tif", "*-log-*stereo*.txt", "*-stereo.default"),
        ("*-DEM.tif",),
        _read_asp,
        "make it from the point cloud (point2dem PREFIX-PC.tif)",
    ),
    "CARS": _Pipeline(
        ("metadata.yaml", "metadata.json", "used_conf.*", "content.json", "dsm/index.yaml", "index.yaml"),
        ("dsm/dsm.tif", "dsm.tif"),
        _read_cars,
        'let CARS write it ("product_level": ["dsm"])',
    ),
    MICMAC: _Pipeline(
        ("MEC-*/Z_Num*.tif", "Z_Num*_DeZoom*.tif", "MEC-*/Nuage*.xml", "Ortho-MEC*/*.tif"),
        ("MEC-Malt/Z_Num*_DeZoom*.tif", "MEC-*/Z_Num*_DeZoom*.tif", "Z_Num*_DeZoom*.tif"),
        _read_micmac,
        "let Malt finish its last step",
    ),
    ODM: _Pipeline(
        ("odm_dem/*", "odm_orthophoto/*", "odm_report/*", "opensfm/reconstruction.json"),
        ("odm_dem/dsm.tif",),
        _read_odm,
        "run it again with the option --dsm",
    ),
    METASHAPE: _Pipeline(
        ("*.psx", "*.psz"),
        ("*[Dd][Ss][Mm]*.tif", "*[Dd][Ee][Mm]*.tif"),
        _read_metashape,
        "export it (File > Export > Export DEM)",
        no_dsm="dtm|ortho|hillshade|slope",
    ),
}  # fmt: skip
"""The pipelines that are known, by their names."""
