"""What a stereo pipeline leaves behind, made ready: a folder that train, test, refine and evaluate take."""

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from resdepth.data.dataset_folder import (
    DatasetFolder,
)
from resdepth.errors import InputProblems, Interrupted, ResDepthError
from resdepth.evaluation.inputs import sha256_of
from resdepth.geo.crs import METRE, vertical_part
from resdepth.geo.geotiff import new_geotiff, refuse_inputs_as_outputs
from resdepth.geo.objects import data_array, is_path, path_of, write_object
from resdepth.geo.raster import FileBand, read_header
from resdepth.geo.reprojected import MapBand
from resdepth.geo.windows import blocks
from resdepth.options import option
from resdepth.preparation.adapters import recognise
from resdepth.preparation.pipeline import Pipeline
from resdepth.preparation.request import PrepareConfig, requested
from resdepth.preparation.results import Inputs, Journal, OrthoFile, RawFile, files_in
from resdepth.runtime.atomic import is_unfinished, write_json, writing
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.placing import held
from resdepth.runtime.progress import Watcher, progress_bar, reported_to
from resdepth.runtime.surroundings import noted_warnings
from resdepth.stereo.ortho import PanchromaticImage, has_rpc, read_acquisition, read_sun
from resdepth.version import __version__
from resdepth.workflows._prepared import described, summary, write_prepared_page, write_texts

logger = logging.getLogger(__name__)

PLAN, RECORD, PAIRS, STEPS = "plan.json", "prepare.json", "pairs.csv", "steps"
PAGE, SHOWN_IMAGES, SHOWN_PAIRS = "prepare.html", 4, 10
POINT_CLOUDS = (".las", ".laz", ".ply")
SECONDS_PER_DAY = 86400.0
UNREFERENCED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CLOUD_GSD_M, BLOCK_PX, TILE_PX = 0.5, 1024, 256


@dataclass(frozen=True, repr=False)
class Prepared:
    """A data set that was prepared.

    Attributes:
        folder: of it.
        record: what its prepare.json holds.
        warnings: what to look at before it is used.
    """

    folder: Path
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def dsm(self) -> Path:
        """The initial DSM."""
        return DatasetFolder(self.folder).initial

    @property
    def reference(self) -> Path | None:
        """The reference DSM, if one was given."""
        path = DatasetFolder(self.folder).reference
        return path if path.is_file() else None

    @property
    def images(self) -> tuple[Path, ...]:
        """The ortho-images."""
        return tuple(DatasetFolder(self.folder).ortho_image(view["name"]) for view in self.record["views"])

    def summary(self) -> str:
        """What each step found, in a few lines of text."""
        lines = summary(self.folder, self.record)
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def to_xarray(self) -> Any:
        """DSM, reference DSM, ortho-images and masks as one Dataset; extra `xarray`.

        Raises:
            ResDepthError: if xarray is not installed, or a raster cannot be read.
        """
        place = DatasetFolder(self.folder)
        heights = {"dsm": self.dsm, "reference": self.reference}
        bands = {name: FileBand(path) for name, path in heights.items() if path is not None}
        bands |= {path.stem: FileBand(path, "stored") for path in self.images}
        bands |= {f"mask_{name}": FileBand(place.mask(name), "mask") for name in self.record["masks"]}
        arrays = {name: data_array(one.read(one.grid.whole), one.grid, name) for name, one in bands.items()}
        return arrays["dsm"].to_dataset().assign(arrays)

    def __repr__(self) -> str:
        """Where it is, and what it holds."""
        return f"Prepared({str(self.folder)!r}, {len(self.images)} images, {len(self.warnings)} warnings)"

    @property
    def raw_images(self) -> tuple[Path, ...]:
        """The raw images that go with it; none if ortho-images were given."""
        folder = DatasetFolder(self.folder)
        views = [view for view in self.record["views"] if view["raw"] is not None]
        return tuple(folder.raw_image(view["name"]) for view in views)


def prepare(
    output: str | Path,
    config: PrepareConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    threads: int = 2,
    overwrite: bool = False,
    progress: Watcher | None = None,
    **options: Any,
) -> Prepared:
    """Make a data set of a DSM, images and a reference DSM: on one grid, co-registered, ortho-rectified.

    An interrupted preparation in the folder resumes. Inputs are never written.

    Args:
        output: the folder of the data set; new, empty, or that of an earlier preparation.
        config: what is asked for: the keys of a request, the path of one (JSON), or a PrepareConfig.
        threads: that compute; the result does not depend on them.
        overwrite: replace an earlier preparation in the folder.
        progress: see `refine`.
        options: keys that win: dsm, images, reference, masks, ...; see PrepareConfig. Rasters may be paths,
            open data sets of rasterio, DataArrays of xarray, or rasters of geoutils or xDEM. Those that are
            no files are kept as such in a folder OUTPUT_given, which the record names.

    Raises:
        ResDepthError: if inputs are unusable or do not fit together, the folder holds something else, another
            process is at work in it, or the disk is full.
        Interrupted: by Ctrl-C; states how to resume.

    Examples:
        >>> import resdepth
        >>> made = resdepth.prepare("prepared", dsm="initial.tif", reference="reference.tif")
        >>> made
        Prepared('prepared', 0 images, 0 warnings)
        >>> made.record["grid"]["gsd_m"]
        0.5
    """
    with reported_to(progress), noted_warnings() as warnings:
        if not isinstance(config, PrepareConfig):
            given = Path(f"{output}{GIVEN}")
            named = _as_files(given, {**config, **options} if isinstance(config, Mapping) else options)
            config = requested(Path(config) if isinstance(config, str | Path) else None, named)
        made = _prepared(DatasetFolder(Path(output)), config, threads, overwrite=overwrite)
    return replace(made, warnings=tuple(warnings))


RASTER_KEYS = ("dsm", "reference", "dsm_valid", "images", "masks", "layers")
GIVEN = "_given"


def _as_files(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with paths instead of rasters of other libraries, which are written to a folder."""

    def path(given: Any, name: str) -> Any:
        if given is None or (own := path_of(given)) is not None:
            return given if given is None or is_path(given) else str(own)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}.tif"
        write_object(given, file, name)
        return str(file)

    files = dict(options)
    for key in RASTER_KEYS:
        if isinstance(given := files.get(key), Mapping):
            files[key] = {name: path(one, f"{key}[{name!r}]") for name, one in given.items()}
        elif key == "images" and given is not None and not is_path(given):
            files[key] = [path(one, f"images[{number}]") for number, one in enumerate(given)]
        elif given is not None:
            files[key] = path(given, key)
    return files


def _prepared(folder: DatasetFolder, config: PrepareConfig, threads: int, *, overwrite: bool) -> Prepared:
    """The data set, made, or resumed."""
    inputs = _inputs_of(config)
    with progress_bar("reading inputs", len(inputs)) as progress:
        checksums = {}
        for path in inputs:
            checksums[str(path)] = sha256_of(path)
            progress.advance()
    plan = {
        "resdepth": __version__,
        "request": config.model_dump(mode="json", exclude={"schema_"}),
        "inputs": checksums,
    }
    if _is_done(folder, plan):  # killed while it tidied up
        shutil.rmtree(folder.work, ignore_errors=True)
        return read_prepared(folder.path)
    _begin(folder, plan, inputs, overwrite=overwrite)
    with held(folder.path / PLAN, purpose=str(folder.path)):
        folder.create()
        try:
            record = _made(folder, config, checksums, threads)
        except KeyboardInterrupt as stopped:
            raise Interrupted(f"stopped; give the same command again to resume in {folder.path}") from stopped
        except ResDepthError:
            _withdraw(folder)
            raise
        shutil.rmtree(folder.work, ignore_errors=True)
    return Prepared(folder.path, record)


def prepare_from(
    source: Path | None,
    output: str | Path,
    options: Mapping[str, Any],
    *,
    threads: int = 2,
    overwrite: bool = False,
) -> Prepared:
    """Make a data set of the folder of a finished pipeline run, or of a request in a file.

    Args:
        source: a folder that a stereo pipeline has written (see `adapters`), a JSON file, or None.
        output: as for `prepare`.
        options: keys that win.
        threads: as for `prepare`.
        overwrite: as for `prepare`.

    Raises:
        ResDepthError: as for `prepare`; if the folder is of no pipeline that is known, or lacks its DSM.
    """
    if source is not None and source.is_dir():
        config = requested(run_request(source, options), options)
    else:
        config = requested(source, options)
    return prepare(output, config, threads=threads, overwrite=overwrite)


def run_request(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the folder of a pipeline run gives: DSM, images, zero of heights, quality layers.

    Raises:
        ResDepthError: if it is of no pipeline that is known, or lacks its DSM.
    """
    run = recognise(folder)
    logger.info("%s: a run of %s; its DSM is %s", folder, run.software, run.dsm)
    for note in run.notes:
        logger.info("%s", note)
    stated = vertical_part(read_header(run.dsm).grid.crs) is not None
    request: dict[str, Any] = {
        "dsm": str(run.dsm), "layers": {name: str(path) for name, path in run.layers.items()},
        "dsm_scaling": list(run.scaling),
    }  # fmt: skip
    if "valid" in run.layers:
        request["dsm_valid"] = request["layers"].pop("valid")
    if run.heights and not stated:
        request["dsm_vertical"] = run.heights
    if not options.get("images"):
        request["images"] = [str(path) for path in run.images]
    return request


def read_prepared(folder: str | Path) -> Prepared:
    """A data set that was prepared.

    Raises:
        ResDepthError: if the folder holds none.
    """
    record = Path(folder) / RECORD
    if not record.is_file():
        raise ResDepthError(f"{folder}: holds no {RECORD}; is it a folder that `resdepth prepare` has made?")
    return Prepared(Path(folder), read_json(record))


def _inputs_of(config: PrepareConfig) -> list[Path]:
    named = [config.dsm, config.reference, config.dsm_valid, *config.images, *config.layers.values()]
    masks = [mask.partition("|")[0] for mask in config.masks.values()]
    return [Path(path) for path in (*named, *masks) if path is not None]


def _is_done(folder: DatasetFolder, plan: Mapping[str, Any]) -> bool:
    """Whether all of it is there, and what only the making of it needs as well."""
    try:
        return (
            (folder.path / RECORD).exists() and folder.work.is_dir() and read_json(folder.path / PLAN) == plan
        )
    except InputProblems:
        return False


def _begin(
    folder: DatasetFolder, plan: Mapping[str, Any], inputs: Sequence[Path], *, overwrite: bool
) -> None:
    """Take a folder, or resume in it; what was asked for is the first thing that it holds.

    Raises:
        ResDepthError: if it holds anything else.
    """
    path, record, place = folder.path / PLAN, folder.path / RECORD, folder.path
    if not path.exists():
        if place.exists() and not (place.is_dir() and all(is_unfinished(one) for one in place.iterdir())):
            raise ResDepthError(f"{place}: is a file, or not empty; choose another folder")
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
        write_json(path, plan)
        return
    try:
        begun = read_json(path)
    except InputProblems:
        begun = None
    complete = record.exists()
    if (complete or begun != plan) and not overwrite:
        what = "a complete data set" if complete else "an unfinished data set of another request"
        raise ResDepthError(
            f"{place}: exists already, {what}; add {option('overwrite', value=True)}, or choose another "
            "folder"
        )
    if complete or begun != plan:
        own = _own_files(folder)
        refuse_inputs_as_outputs(inputs, own)
        _remove(folder, own)
        write_json(path, plan)
    else:
        logger.info("%s: resuming an unfinished preparation", place)


def _own_files(folder: DatasetFolder) -> list[Path]:
    """What an earlier preparation has written, as its record and those of its steps state."""
    names = files_in(folder.work / STEPS)
    record = folder.path / RECORD
    if record.exists():
        try:
            names += list(read_json(record).get("files", {}))
        except InputProblems:
            logger.warning("%s: cannot be read; what it names stays", record)
    inside = [Path(name) for name in names if ".." not in Path(name).parts and not Path(name).is_absolute()]
    return [*(folder.path / name for name in inside), record]


def _remove(folder: DatasetFolder, files: Sequence[Path]) -> None:
    for path in files:
        with writing(path):
            path.unlink(missing_ok=True)
    shutil.rmtree(folder.work, ignore_errors=True)


def _withdraw(folder: DatasetFolder) -> None:
    """Leave nothing of a preparation that had nothing to begin with."""
    if files_in(folder.work / STEPS):
        return
    shutil.rmtree(folder.work, ignore_errors=True)
    ours = [path for path in folder.path.rglob("*") if not path.is_dir()]
    if ours == [folder.path / PLAN]:
        shutil.rmtree(folder.path, ignore_errors=True)


def _made(
    folder: DatasetFolder, config: PrepareConfig, checksums: Mapping[str, str], threads: int
) -> dict[str, Any]:
    """All of it; the record is written last."""
    with writing(folder.work):
        folder.work.mkdir(exist_ok=True)
    journal = Journal(folder.work / STEPS, folder.path)
    inputs = _opened(folder, config, threads)
    result = Pipeline(inputs, folder, journal, threads).run()
    files = [folder.path / name for name in journal.files]
    files += write_texts(folder, result, inputs)
    content = described(config, inputs, result)
    files += write_prepared_page(folder, content)
    record = content | {
        "inputs": dict(checksums),
        "files": {path.relative_to(folder.path).as_posix(): sha256_of(path) for path in files},
    }
    write_json(folder.path / RECORD, record)
    return record


def _opened(folder: DatasetFolder, config: PrepareConfig, threads: int) -> Inputs:
    """The inputs; what is no raster becomes one first."""
    images = _images(config)
    reference = None
    if config.reference is not None:
        path = _as_raster(Path(config.reference), folder.work, config, "reference")
        reference = MapBand(path, crs=config.reference_crs, other_way=f", or with {option('reference_crs')}")
    if config.dsm is not None:
        path = _as_raster(Path(config.dsm), folder.work, config, "dsm")
        named = f", or with {option('dsm_crs')}"
        valid = None if config.dsm_valid is None else Path(config.dsm_valid)
        dsm = MapBand(path, crs=config.dsm_crs, scaling=config.dsm_scaling, other_way=named, valid=valid)
    else:
        dsm = MapBand(_matched(folder.work / "matched.tif", images, config, threads))
        config = config.model_copy(update={"dsm_vertical": "ellipsoid"})
    for band in filter(None, (dsm, reference)):
        if not band.header.is_of_heights_first:
            raise ResDepthError(f"{band.path}: has {band.header.bands} bands; a raster of heights has one")
        if band.header.doubt_about_unit:
            logger.warning("%s", band.header.doubt_about_unit)
    return Inputs(dsm, reference, images, config.masks, config)


def _images(config: PrepareConfig) -> tuple[RawFile, ...] | tuple[OrthoFile, ...]:
    """Raw images, or ortho-images; not both.

    Raises:
        ResDepthError: if one is neither, or both kinds are given.
    """
    paths = [Path(path) for path in config.images]
    names = _names(paths)
    raw = [has_rpc(path) for path in paths]
    if any(raw) and not all(raw):
        other = paths[raw.index(False)]
        raise ResDepthError(
            f"{other}: has no RPC in or beside it, as others have; give raw images with their RPCs (in tags, "
            ".RPB, _RPC.TXT, RPC_*.XML or .geom), or ortho-images alone"
        )
    taken = [(_day(path), read_sun(path)) for path in paths]
    if all(raw):
        return tuple(
            RawFile(name, PanchromaticImage(path), *when)
            for name, path, when in zip(names, paths, taken, strict=True)
        )
    return tuple(
        OrthoFile(name, _ortho(path, config.dsm_crs), *when)
        for name, path, when in zip(names, paths, taken, strict=True)
    )


def _ortho(path: Path, crs: str | None) -> MapBand:
    """An ortho-image; `crs` is for one that names none but is georeferenced."""
    grid = read_header(path).grid
    if grid.crs or (crs and grid.transform != UNREFERENCED):
        return MapBand(path, "stored", crs=crs)
    raise ResDepthError(
        f"{path}: is no raw image with an RPC (in tags, .RPB, _RPC.TXT, RPC_*.XML or .geom), and no "
        "ortho-image, for it names no CRS; find the file with its RPC, and put it beside the image"
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of images in the data set: those of the files, in letters that lists take, each once."""
    names: list[str] = []
    for path in paths:
        stem = re.sub(r"[^\w.-]+", "_", path.stem).strip("._") or "image"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def _day(path: Path) -> float | None:
    """When an image was taken, in days."""
    try:
        return datetime.fromisoformat(read_acquisition(path)).timestamp() / SECONDS_PER_DAY
    except ValueError:
        return None


def _as_raster(path: Path, folder: Path, config: PrepareConfig, role: Literal["dsm", "reference"]) -> Path:
    """A point cloud as a raster of its highest points; a raster as it is."""
    if path.suffix.lower() not in POINT_CLOUDS:
        return path
    from resdepth.simulate.sources.pointcloud import PointSource
    from resdepth.simulate.sources.raw_surface import SourceOptions

    target, work = folder / f"{role}.tif", folder / role
    if not target.is_file():
        options = SourceOptions(gsd_m=config.gsd_m or CLOUD_GSD_M, crs=getattr(config, f"{role}_crs"))
        with writing(work):
            work.mkdir(exist_ok=True)
        with progress_bar(f"points of {path.name}", 1) as progress:
            source = PointSource(path, options, work, progress)
        if not source.grid.crs:
            raise ResDepthError(
                f"{path}: names no CRS; name it with {option(f'{role}_crs')}, as in EPSG:25832"
            )
        with new_geotiff(target, source.grid, tile=TILE_PX, unit=METRE) as file:
            for part in blocks(source.grid.whole, BLOCK_PX):
                file.write(part.row, source.read(part).height, col=part.col)
        shutil.rmtree(work, ignore_errors=True)
    return target


def _matched(
    target: Path, images: Sequence[RawFile] | Sequence[OrthoFile], config: PrepareConfig, threads: int
) -> Path:
    """The DSM that our own matcher makes of raw images."""
    if target.is_file():
        return target
    paths = [one.image.path for one in images if isinstance(one, RawFile)]
    if not paths:
        raise ResDepthError(
            "dsm: there is none, and ortho-images cannot be matched; give a DSM, or raw images"
        )
    from resdepth.workflows.match import match_images

    logger.info("no DSM is given: %d images are matched", len(paths))
    return match_images(paths, target, gsd=config.gsd_m, threads=threads).path
