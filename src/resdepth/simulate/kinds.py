"""Where the true surface comes from: a made town, or a file."""

import hashlib
from pathlib import Path

import numpy as np

from resdepth.errors import ResDepthError
from resdepth.geo.windows import blocks
from resdepth.options import Style
from resdepth.runtime.progress import progress_bar
from resdepth.simulate.settings import SimulateConfig
from resdepth.simulate.sources.prepared import StoredSurface, new_layers, open_source
from resdepth.simulate.sources.raw_surface import SourceOptions
from resdepth.simulate.town.layout import STYLES
from resdepth.simulate.town.town import Town, town_grid

TOWN = "town"
TOWN_GSD_M = 0.25
TOWN_BLOCK = 1024
# The stream of random numbers that chooses a style.
_STYLE = 104


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


def true_surface(source: str | Path, config: SimulateConfig, work: Path) -> StoredSurface:
    """The true surface as rasters in a folder; what is there already is used.

    Raises:
        ResDepthError: if the file cannot be read, or has no CRS in metres.
    """
    requested = config.truth
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
    with progress_bar("true surface", 1) as progress:
        truth = open_source(Path(source), options, work, progress)
    if not truth.grid.crs:
        raise ResDepthError(
            f'{source}: names no CRS; cameras need one. Give it: "truth": {{"crs": "EPSG:25832"}}'
        )
    return truth


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
    grid = town_grid(config.town.size_px, config.truth.gsd_m or TOWN_GSD_M)
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
