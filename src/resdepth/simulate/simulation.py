"""From a true surface to a complete data set: the whole of `resdepth simulate`."""

import json
import logging
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resdepth.errors import InputProblems, Interrupted, ResDepthError
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand, read_header
from resdepth.geo.resampling import read_resampled
from resdepth.geo.windows import Window
from resdepth.runtime.atomic import is_unfinished, write_json, writing
from resdepth.runtime.jsonfiles import read_json
from resdepth.runtime.malloc import tune_allocator
from resdepth.runtime.placing import held
from resdepth.runtime.progress import Progress, progress_bar
from resdepth.simulate.dataset import SceneFolder, write_configs, write_lists
from resdepth.simulate.errors import error_figures
from resdepth.simulate.imaging.light import Look
from resdepth.simulate.imaging.render import Sensor
from resdepth.simulate.kinds import described, true_surface
from resdepth.simulate.plan import Pair, days, find_misfits, ranked_pairs, shots
from resdepth.simulate.relief import relief_of
from resdepth.simulate.settings import SimulateConfig
from resdepth.simulate.shots import Shot
from resdepth.simulate.stages import (
    Simulation,
    fill_initial,
    match_pairs,
    rectify_images,
    take_images,
    write_shadows,
    write_truth,
)
from resdepth.stereo.matching import MatcherSettings
from resdepth.version import __version__

logger = logging.getLogger(__name__)


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
    """Photograph a true surface, match the images, and put a ResDepth data set together.

    Args:
        source: "town", or a file: GeoTIFF DSM, CityJSON, LAS, LAZ.
        folder: of the scene; an interrupted simulation in it goes on.
        config: everything else; defaults are those of SimulateConfig.
        workers: threads; the result does not depend on them.
        show: writes what else the scene is to hold, before its record reports that it is complete.
        beside: names of files of the caller, which may lie in the folder already.

    Raises:
        Interrupted: by Ctrl-C; says how to go on.
        ResDepthError: if the source cannot be read, the folder holds something else, another process is at
            work in it, or the disk is full.
    """
    config = config or SimulateConfig()
    if problems := find_misfits(config):
        raise InputProblems(problems)
    # OpenCV's own threads would only get into the way of ours.
    cv2.setNumThreads(1)
    tune_allocator()
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
        truth = true_surface(source, config, scene.work / "truth")
        texture = _texture(config.texture, truth.grid)
    except ResDepthError:
        _withdraw(scene)
        raise
    relief = relief_of(truth)
    taken = shots(config, truth.grid, relief.whole)
    pairs = ranked_pairs(taken)
    if not pairs:
        raise ResDepthError("no two views differ enough in direction to measure heights by; change views")
    matcher = MatcherSettings(
        step_m=max(config.sensor.gsd_m, truth.grid.gsd), block_px=config.matching.block_px
    )
    simulation = Simulation(
        truth=truth,
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
        raise Interrupted(f"stopped. Give the same command again to go on in {scene.path}") from stopped
    write_lists(scene, taken, pairs)
    write_configs(scene, scene.path.resolve().name, config.seed, truth.grid)
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


def _run(simulation: Simulation) -> None:
    """Images, initial DSM, ortho-images, truth and masks; what is there already stays."""
    n_images, n_pairs = len(simulation.shots), len(simulation.pairs)
    steps: list[tuple[str, int, Callable[[Simulation, Progress], None]]] = [
        ("taking images", n_images, take_images),
        ("matching pairs", n_pairs, match_pairs),
        ("filling voids", 1, fill_initial),
        ("ortho-rectifying", n_images, rectify_images),
        ("writing the truth", 1, write_truth),
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
    """What scene.json says: everything that the images do not show."""
    scene, taken, grid = simulation.folder, simulation.shots, simulation.truth.grid
    masks = {name: FileBand(scene.mask(name), "stored") for name in ("building", "water", "forest", "void")}
    figures = error_figures(FileBand(scene.initial), FileBand(scene.truth), masks)
    views = [_described_shot(shot) for shot in taken]
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
        "errors_of_the_initial_dsm": figures,
        "configuration": _as_json(config),
    }


def _described_shot(shot: Shot) -> dict[str, Any]:
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
    }
