"""From a town or a file to a complete data set: the whole of `resdepth simulate`."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resdepth.data.dataset_folder import write_configs, write_lists
from resdepth.errors import InputProblems, Interrupted, ResDepthError
from resdepth.evaluation.metrics import Tally
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band, FileBand, read_header, read_resampled
from resdepth.geo.rpc import ViewGeometry
from resdepth.geo.windows import Window, blocks
from resdepth.models.pretrained import SMALLEST_TILE_OF_MODEL, TOWN_STEREO
from resdepth.options import Style
from resdepth.runtime.atomic import is_unfinished, write_json, writing
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.placing import held
from resdepth.runtime.progress import Progress, progress_bar
from resdepth.simulate.dataset import (
    SceneFolder,
    Simulation,
    fill_initial,
    geometry_of,
    match_pairs,
    rectify_images,
    take_images,
    write_reference,
    write_shadows,
)
from resdepth.simulate.plan import Pair, Shot, SimulateConfig, days, ranked_pairs, shots, simulate_rules
from resdepth.simulate.render import Sensor
from resdepth.simulate.sources.prepared import StoredSurface, new_layers, open_source
from resdepth.simulate.sources.raw_surface import SourceOptions
from resdepth.simulate.surface import Look, relief_of
from resdepth.simulate.town.layout import STYLES
from resdepth.simulate.town.town import Town, town_grid
from resdepth.stereo.matching import MatcherSettings
from resdepth.version import __version__

logger = logging.getLogger(__name__)

TOWN = "town"
TOWN_GSD_M = 0.25
TOWN_BLOCK = 1024
# The stream of random numbers that chooses a style.
_STYLE = 104
GROSS_M = 3.0
BLOCK = 1024
NAMES = {
    "bias": "bias", "median": "median", "MAE": "mae", "RMSE": "rmse", "MedAE": "absolute_median",
    "NMAD": "nmad", "LE90": "le90",
}  # fmt: skip


@dataclass(frozen=True)
class SimulatedScene:
    """What a simulation has made.

    Attributes:
        folder: of the scene.
        record: what scene.json holds.
    """

    folder: Path
    record: dict[str, Any]


def simulate(
    source: str | Path,
    folder: Path,
    config: SimulateConfig | None = None,
    *,
    workers: int = 2,
    show: Callable[[SimulatedScene], None] | None = None,
    beside: Collection[str] = (),
) -> SimulatedScene:
    """Photograph a reference surface, match the images, and put a ResDepth data set together.

    Args:
        source: "town", or a file: GeoTIFF DSM, CityJSON, LAS, LAZ.
        folder: of the scene; an interrupted simulation in it resumes.
        config: everything else; defaults are those of SimulateConfig.
        workers: threads; the result does not depend on them.
        show: writes what else the scene is to hold, before its record reports that it is complete.
        beside: names of files of the caller, which may lie in the folder already.

    Raises:
        Interrupted: by Ctrl-C; states how to resume.
        ResDepthError: if the source cannot be read, the folder holds something else, another process is at
            work in it, or the disk is full.
    """
    config = config or SimulateConfig()
    if problems := simulate_rules(config):
        raise InputProblems(problems)
    if config.texture:
        read_header(Path(config.texture))
    scene = SceneFolder(folder)
    _begin(scene, {"source": described(source, config), "version": __version__, **_as_json(config)}, beside)
    with held(scene.requests, purpose=str(folder)):
        if scene.record.exists():  # killed while it tidied up
            made = SimulatedScene(folder, read_json(scene.record))
        else:
            scene.create()
            made = _made(scene, source, config, workers)
            if show is not None:
                show(made)
            write_json(scene.record, made.record)
        shutil.rmtree(scene.work, ignore_errors=True)
    return made


def _made(scene: SceneFolder, source: str | Path, config: SimulateConfig, workers: int) -> SimulatedScene:
    """Everything but the record."""
    try:
        reference = reference_surface(source, config, scene.work / "reference")
        texture = _texture(config.texture, reference.grid)
    except ResDepthError:
        _withdraw(scene)
        raise
    relief = relief_of(reference)
    taken = shots(config, reference.grid, relief.whole)
    pairs = ranked_pairs(taken)
    if not pairs:
        raise ResDepthError("no two views differ enough in direction to measure heights by; change views")
    matcher = MatcherSettings(
        step_m=max(config.sensor.gsd_m, reference.grid.gsd), block_px=config.matching.block_px
    )
    simulation = Simulation(
        reference=reference,
        relief=relief,
        look=Look(config.seed, texture),
        shots=taken,
        sensor=_sensor(config),
        pairs=pairs[: config.matching.pairs],
        matcher=matcher,
        margin_m=config.matching.margin_m,
        folder=scene,
        workers=workers,
    )
    try:
        _run(simulation)
    except KeyboardInterrupt as stopped:
        raise Interrupted(f"stopped; give the same command again to resume in {scene.path}") from stopped
    write_lists(scene, [shot.name for shot in taken], [(pair.first, pair.second) for pair in pairs])
    name, shape = scene.path.resolve().name, reference.grid.whole.shape
    write_configs(scene, name, config.seed, shape, TOWN_STEREO, SMALLEST_TILE_OF_MODEL)
    return SimulatedScene(scene.path, _record(simulation, pairs, config))


def _begin(scene: SceneFolder, requests: Mapping[str, Any], beside: Collection[str]) -> None:
    """Take a folder, or resume in it; what the scene is made from is the first thing that it holds.

    Raises:
        ResDepthError: if it holds anything but an unfinished simulation of the same.
    """
    if not scene.requests.exists():
        if scene.path.exists() and (
            not scene.path.is_dir()
            or not all(path.name in beside or is_unfinished(path) for path in scene.path.iterdir())
        ):
            raise ResDepthError(f"{scene.path}: is a file, or not empty; choose another folder")
        with writing(scene.path):
            scene.path.mkdir(parents=True, exist_ok=True)
        write_json(scene.requests, requests)
        return
    with held(scene.requests, purpose=str(scene.path)):
        try:
            begun = read_json(scene.requests)
        except InputProblems:
            begun = None
        if scene.record.exists() and (begun != requests or not scene.is_untidy()):
            raise ResDepthError(f"{scene.path}: holds a complete scene; choose another folder or remove it")
        if begun != requests and not _is_bare(scene):
            raise ResDepthError(
                f"{scene.path}: holds an unfinished scene of another source or configuration; choose another "
                "folder or remove it"
            )
        if begun != requests:
            write_json(scene.requests, requests)
        elif not _is_bare(scene):
            logger.info("%s: resuming an unfinished simulation", scene.path)


def _withdraw(scene: SceneFolder) -> None:
    """Leave nothing of a simulation that had nothing to begin with."""
    shutil.rmtree(scene.work, ignore_errors=True)
    if _is_bare(scene):
        shutil.rmtree(scene.path)


def _is_bare(scene: SceneFolder) -> bool:
    """Whether nothing but the requests was written so far."""
    return all(
        path.is_dir() or path == scene.requests or is_unfinished(path) for path in scene.path.rglob("*")
    )


def _as_json(config: SimulateConfig) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(config.model_dump_json())
    return content


def described(source: str | Path, config: SimulateConfig) -> dict[str, str]:
    """What a scene is made from: a town, or the name and the checksum of a file."""
    if str(source) == TOWN:
        return {"kind": TOWN, "style": chosen_style(config)}
    path = Path(source)
    try:
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ResDepthError(
            f"{path}: cannot be read ({error.strerror}); give a GeoTIFF, CityJSON, LAS or LAZ file, or {TOWN}"
        ) from error
    return {"kind": "file", "name": path.name, "sha256": checksum}


def reference_surface(source: str | Path, config: SimulateConfig, work: Path) -> StoredSurface:
    """The reference surface as rasters in a folder; what is there already is used.

    Raises:
        ResDepthError: if the file cannot be read, or has no CRS in metres.
    """
    requested = config.reference
    if str(source) == TOWN:
        return _built_town(work, config)
    options = SourceOptions(
        gsd_m=requested.gsd_m,
        building_mask=_path(requested.building_mask),
        water_mask=_path(requested.water_mask),
        forest_mask=_path(requested.forest_mask),
        ground=requested.ground,
        ground_slope_deg=requested.ground_slope_deg,
        ground_aspect_deg=requested.ground_aspect_deg,
        extent=requested.extent,
        crs=requested.crs,
    )
    with progress_bar("reference surface", 1) as progress:
        reference = open_source(Path(source), options, work, progress)
    if not reference.grid.crs:
        raise ResDepthError(
            f'{source}: names no CRS; cameras need one. Give it: "reference": {{"crs": "EPSG:25832"}}'
        )
    return reference


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def chosen_style(config: SimulateConfig) -> Style:
    """The style of the town: the requested one, or the seed's choice."""
    if config.town.style != "any":
        return config.town.style
    rng = np.random.default_rng([config.seed, _STYLE])
    styles: list[Style] = sorted(STYLES)
    return styles[int(rng.integers(len(styles)))]


def _built_town(folder: Path, config: SimulateConfig) -> StoredSurface:
    done = folder / "complete"
    if done.exists():
        return StoredSurface(folder)
    folder.mkdir(parents=True, exist_ok=True)
    grid = town_grid(config.town.size_px, config.reference.gsd_m or TOWN_GSD_M)
    town = Town(grid, STYLES[chosen_style(config)], config.seed)
    parts = list(blocks(grid.whole, TOWN_BLOCK))
    with (
        new_layers(folder, grid, "surface", "known", "classes", "objects") as files,
        progress_bar("building the town", len(parts)) as progress,
    ):
        for block in parts:
            surface = town.surface(block)
            layers = {"surface": surface.height, "known": surface.known, "classes": surface.classes}
            for name, values in (layers | {"objects": surface.objects}).items():
                files[name].write(block.row, values, col=block.col)
            progress.advance()
    done.touch()
    return StoredSurface(folder)


def _run(simulation: Simulation) -> None:
    """Images, initial DSM, ortho-images, reference DSM and masks; what is there already stays."""
    n_images, n_pairs = len(simulation.shots), len(simulation.pairs)
    steps: list[tuple[str, int, Callable[[Simulation, Progress], None]]] = [
        ("taking images", n_images, take_images),
        ("matching pairs", n_pairs, match_pairs),
        ("filling voids", 1, fill_initial),
        ("ortho-rectifying", n_images, rectify_images),
        ("writing the reference DSM", 1, write_reference),
        ("casting shadows", len({shot.day.number for shot in simulation.shots}), write_shadows),
    ]
    for title, amount, step in steps:
        with progress_bar(title, amount) as progress:
            step(simulation, progress)


def _sensor(config: SimulateConfig) -> Sensor:
    requested = config.sensor
    return Sensor(
        requested.gsd_m,
        requested.blur_px,
        requested.gain,
        requested.haze,
        requested.electrons,
        requested.read_noise,
    )


def _texture(path: str | None, grid: Grid) -> Callable[[Window], NDArray[np.float32]] | None:
    """Real reflectances from a raster of any grid in the scene's CRS; 8-bit ones are scaled to 0 to 1."""
    if path is None:
        return None
    header = read_header(Path(path))
    if not grid.may_share_crs(header.grid):
        raise ResDepthError(
            f"{path}: the texture's CRS is {header.grid.crs_name}, that of the scene {grid.crs_name}; "
            "reproject the texture (gdalwarp -t_srs)"
        )
    scale = 1 / 255 if np.dtype(header.dtype).kind in "iu" else 1.0

    def texture(window: Window) -> NDArray[np.float32]:
        return read_resampled(Path(path), grid.crop(window), "bilinear", "stored") * np.float32(scale)

    return texture


def _record(simulation: Simulation, pairs: tuple[Pair, ...], config: SimulateConfig) -> dict[str, Any]:
    """The content of scene.json: everything that the images do not show."""
    scene, taken, grid = simulation.folder, simulation.shots, simulation.reference.grid
    masks = {name: FileBand(scene.mask(name), "stored") for name in ("building", "water", "forest", "void")}
    metrics = error_metrics(FileBand(scene.initial), FileBand(scene.reference), masks)
    views = [_described_shot(shot, geometry_of(shot, simulation)) for shot in taken]
    ranked = [
        {
            "images": [taken[pair.first].name, taken[pair.second].name],
            "base_to_height": round(pair.base_to_height, 4),
            "same_date": pair.same_date,
            "fused": number < len(simulation.pairs),
        }
        for number, pair in enumerate(pairs)
    ]
    return {
        "resdepth": __version__,
        "source": read_json(scene.requests)["source"],
        "seed": config.seed,
        "grid": {"height": grid.height, "width": grid.width, "gsd_m": grid.gsd, "crs": grid.crs_name},
        "heights_m": [round(value, 2) for value in simulation.relief.whole],
        "dates": [asdict(day) for day in days(config)],
        "views": views,
        "pairs": ranked,
        "errors_of_the_initial_dsm": metrics,
        "configuration": _as_json(config),
    }


def _described_shot(shot: Shot, geometry: ViewGeometry) -> dict[str, Any]:
    camera, direction = shot.camera, shot.camera.direction
    return {
        "name": shot.name,
        "date": shot.day.number,
        "azimuth_deg": round(direction.azimuth_deg, 4),
        "incidence_deg": round(direction.incidence_deg, 4),
        "off_nadir_deg": round(direction.off_nadir_deg, 4),
        "orbit_km": direction.orbit_km,
        "heading_deg": direction.heading_deg,
        "size": [camera.height, camera.width],
        "affine": {"matrix": camera.view.matrix.tolist(), "origin": list(camera.view.origin)},
        "view_geometry": geometry.as_json(),
    }


def metrics_of(tally: Tally) -> dict[str, float | int]:
    """Count; bias, median, MAE, RMSE, MedAE, NMAD and LE90 in metres; the share of gross errors."""
    found = tally.statistics()
    if not found.count:
        return {"n": 0}
    metrics = {name: getattr(found, field) for name, field in NAMES.items()}
    metrics["gross"] = 1 - float(tally.shares_within([GROSS_M])[0])
    return {"n": found.count} | {name: round(value, 4) for name, value in metrics.items()}


def error_metrics(
    surface: Band, reference: Band, masks: Mapping[str, Band]
) -> dict[str, dict[str, float | int]]:
    """Error metrics of a surface against a reference, over all and by mask; voids of either do not count.

    Args:
        surface: heights in metres.
        reference: on the same grid.
        masks: by name; 1 = inside.

    Returns:
        For "all", "ground" (outside every mask) and each mask its metrics.
    """
    tallies = {name: Tally() for name in ("all", "ground", *masks)}
    for window in blocks(reference.grid.whole, BLOCK):
        errors = surface.read(window) - reference.read(window)
        valid = ~np.isnan(errors)
        outside = valid.copy()
        tallies["all"].add(errors[valid])
        for name, mask in masks.items():
            inside = mask.read(window) == 1
            tallies[name].add(errors[inside & valid])
            outside &= ~inside
        tallies["ground"].add(errors[outside])
    return {name: metrics_of(tally) for name, tally in tallies.items()}


def errors_as_text(metrics: Mapping[str, Mapping[str, float | int]]) -> str:
    """Error metrics as a table for people."""
    columns = ("MAE", "RMSE", "MedAE", "NMAD", "bias")
    lines = [f"{'initial - reference':<20}" + "".join(f"{name:>9}" for name in columns) + f"{'pixels':>12}"]
    for name, row in metrics.items():
        if row["n"]:
            values = "".join(f"{row[column]:>7.2f} m" for column in columns)
            lines.append(f"{name:<20}{values}{row['n']:>12}")
    return "\n".join(lines)
