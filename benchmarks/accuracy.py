"""How accurate a training makes the network, on towns and real surfaces that it has not seen.

    python benchmarks/accuracy.py --size small --data ../shared/data [--config my_training.json]

Training, validation and test scenes are of different towns: two styles and one real surface are seen in
training, other seeds validate, and the tests are the seen styles with other seeds, two unseen styles, and
other real surfaces. Scenes are simulated once and kept in --work. The configuration may change what it likes
about network and training (`model`, `training_settings`, `optimizer`, `scheduler`, `stereopair_settings`);
data and output are given by the protocol. Writes docs/accuracy.md and accuracy.json.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import resdepth
from resdepth.data.dataset_folder import Role, as_dataset
from resdepth.errors import ResDepthError
from resdepth.evaluation.baselines import WIDTHS_PX
from resdepth.evaluation.classes import object_classes
from resdepth.evaluation.metrics import statistics
from resdepth.evaluation.result import OVERALL
from resdepth.geo.gdal import tune_process
from resdepth.geo.raster import FileBand
from resdepth.options import Style
from resdepth.runtime.atomic import write_json
from resdepth.simulate.plan import SimulateConfig, SurfaceSettings, TownSettings
from resdepth.simulate.simulation import simulate
from resdepth.workflows.evaluate import evaluate
from resdepth.workflows.test import test
from resdepth.workflows.train import train

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

CLASSES = ("overall", "building", "terrain", "edge band")
EDGE_PX = 2
CHANGEABLE = ("model", "training_settings", "optimizer", "scheduler", "stereopair_settings", "multiview")


@dataclass(frozen=True)
class Place:
    """One scene of the protocol.

    Attributes:
        name: of its folder.
        seed: of cameras, light and, for towns, the town.
        style: of a town; None for a real surface.
        source: of a real surface, below the folder of real data.
        gsd_m: of the scene.
    """

    name: str
    seed: int
    style: Style | None = None
    source: str | None = None
    gsd_m: float = 0.25


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        side_px: of a town.
        towns: training towns of each seen style.
        epochs, samples: of the training; samples for each training scene.
        seeds: trainings, each with its own seed.
        tile_px: of patches and tiles.
        start_kernel, depth: of the network, where the configuration says nothing.
    """

    side_px: int
    towns: int
    epochs: int
    samples: int
    seeds: int
    tile_px: int = 256
    start_kernel: int = 16
    depth: int = 5


SIZES = {
    "tiny": Size(side_px=192, towns=1, epochs=1, samples=4, seeds=1, tile_px=32, start_kernel=4, depth=2),
    "small": Size(side_px=1024, towns=2, epochs=24, samples=80, seeds=2),
    "full": Size(side_px=2048, towns=4, epochs=60, samples=600, seeds=3),
}
SEEN: tuple[Style, ...] = ("old-town", "suburb")
UNSEEN: tuple[Style, ...] = ("high-rise", "industrial")
REAL_TRAINING = Place("nrw", 31, source="truth/nrw_dom1_1m.tif", gsd_m=0.5)
REAL_TESTS = (
    Place("delft", 41, source="truth/delft_ahn3_0.5m_dsm.tif", gsd_m=0.25),
    Place("denhaag", 42, source="truth/denhaag_0.5m_dsm.tif", gsd_m=0.25),
)


def places(size: Size, *, with_real: bool) -> dict[str, list[Place]]:
    """The scenes of each role."""
    training = [
        Place(f"{style}_{number}", 100 + 10 * number + index, style)
        for number in range(size.towns)
        for index, style in enumerate(SEEN)
    ]
    validation = [Place(f"{style}_val", 200 + index, style) for index, style in enumerate(SEEN)]
    tests = [Place(f"{style}_test", 300 + index, style) for index, style in enumerate((*SEEN, *UNSEEN))]
    if with_real:
        training.append(REAL_TRAINING)
        tests += REAL_TESTS
    return {"train": training, "val": validation, "test": tests}


def made(place: Place, size: Size, data: Path | None, work: Path) -> Path:
    """The folder of a scene; simulated if it is not there."""
    folder = work / "scenes" / f"{place.name}_{size.side_px}"
    if (folder / "scene.json").exists():
        return folder
    config = SimulateConfig(seed=place.seed, reference=SurfaceSettings(gsd_m=place.gsd_m))
    source: str | Path = "town"
    if place.style:
        config = config.model_copy(update={"town": TownSettings(style=place.style, size_px=size.side_px)})
    else:
        assert data is not None, "real surfaces are only planned with a folder of real data"
        assert place.source is not None, "what is no town has a source"
        source = data / place.source
    simulate(source, folder, config)
    return folder


def dataset(folder: Path, role: Role, *, pairs: str = "pairlist.txt") -> dict[str, Any]:
    """A scene, as a whole, in a configuration."""
    found = as_dataset(str(folder.resolve() / "data"), folder.name, role, pairs=pairs)
    return {**found, "allocation_strategy": "entire"}


def train_config(
    scenes: Mapping[str, Sequence[Path]], size: Size, requests: Mapping[str, Any], work: Path, seed: int
) -> dict[str, Any]:
    """The training of one seed: the protocol's data, and what the given configuration requests."""
    defaults: dict[str, dict[str, Any]] = {
        "model": {"input_channels": "geom-stereo", "depth": size.depth, "start_kernel": size.start_kernel},
        "stereopair_settings": {"use_all_stereo_pairs": False},
        "training_settings": {
            "tile_size": size.tile_px,
            "batch_size": 8,
            "n_epochs": size.epochs,
            "n_training_samples": size.samples,
        },
        "optimizer": {"learning_rate": 1e-3},
        "scheduler": {"name": "ExponentialLR", "settings": {"gamma": round(0.02 ** (1 / size.epochs), 5)}},
    }
    changed = {key: {**defaults.get(key, {}), **requests[key]} for key in CHANGEABLE if key in requests}
    roles: tuple[Role, ...] = ("train", "val")
    data = [dataset(folder, role) for role in roles for folder in scenes[role]]
    return {
        **defaults,
        **changed,
        "datasets": data,
        "general": {"random_seed": seed, "workers": 1},
        "output": {"output_directory": str(work / "runs"), "tboard_log_dir": str(work / "tensorboard")},
    }


def refined(folder: Path, run: Path, tile: int, work: Path) -> Path:
    """The refined DSM of a test scene, with its best pair."""
    config = {
        "datasets": [dataset(folder, "test", pairs="pairlist_simple.txt")],
        "model": {"path": str(run.resolve() / "model.safetensors")},
        "general": {"tile_size": tile},
        "output": {"directory": str(work / "results" / run.name)},
    }
    path = work / "test.json"
    write_json(path, config)
    (result,) = test(path)
    return result.predictions[0]


def heights_of(surface: Path) -> Array:
    """All of a raster."""
    band = FileBand(surface)
    return band.read(band.grid.whole)


def errors_by_class(heights: Array, folder: Path) -> dict[str, float]:
    """MAE in metres of a surface over all, buildings, terrain, and the band along the buildings' outlines."""
    reference = FileBand(folder / "data" / "dsm" / "reference.tif")
    whole = reference.grid.whole
    errors = heights - reference.read(whole)
    building = FileBand(folder / "data" / "mask" / "building.tif").read(whole) == 1
    known = np.ones_like(building)
    masks: dict[str, Mask] = object_classes(errors.shape, {"building": (building, known)})
    grown = ndimage.binary_dilation(building, iterations=EDGE_PX)
    masks["edge band"] = grown & ~ndimage.binary_erosion(building, iterations=EDGE_PX)
    return {name: statistics(errors[masks[name]]).mae for name in CLASSES}


def medians(folder: Path) -> dict[str, Any]:
    """MAE in metres of the initial DSM and of its median filters, and the widths that validation chooses."""
    heights = folder / "data" / "dsm"
    found = evaluate(heights / "initial.tif", heights / "reference.tif", baselines=True)
    assert found.baselines is not None, "asked for"
    mae = {str(one.width_px): one.statistics.mae for one in found.baselines.filters}
    return {
        "initial": found.refined[OVERALL].mae,
        **mae,
        "overall": found.baselines.validated.mae,
        "chosen": list(found.baselines.chosen_px),
    }


def measured(
    scenes: Mapping[str, Sequence[Path]], size: Size, requests: Mapping[str, Any], work: Path
) -> dict[str, Any]:
    """Train once for each seed and evaluate on each test scene."""
    found: dict[str, Any] = {"initial": {}, "median": {}, "refined": [], "minutes": []}
    for folder in scenes["test"]:
        initial = heights_of(folder / "data" / "dsm" / "initial.tif")
        found["initial"][folder.name] = errors_by_class(initial, folder)
        found["median"][folder.name] = medians(folder)
    for seed in range(size.seeds):
        config = train_config(scenes, size, requests, work, seed)
        path = work / "train.json"
        write_json(path, config)
        start = time.perf_counter()
        run = train(path)
        found["minutes"].append((time.perf_counter() - start) / 60)
        tile = config["training_settings"].get("tile_size", size.tile_px)
        found["refined"].append(
            {
                folder.name: errors_by_class(heights_of(refined(folder, run, tile, work)), folder)
                for folder in scenes["test"]
            }
        )
    return found


def table(found: Mapping[str, Any]) -> str:
    """A row for each test scene: MAE before, and after as mean and spread over the seeds."""
    head = ["test scene", *(f"{name}, {when}" for name in CLASSES for when in ("before", "after"))]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for scene, before in found["initial"].items():
        row = [scene]
        for name in CLASSES:
            after = np.array([one[scene][name] for one in found["refined"]])
            row += [f"{before[name]:.3f}", f"{after.mean():.3f} ± {after.std(ddof=len(after) > 1):.3f}"]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def overall_gain(found: Mapping[str, Any], surfaces: Sequence[Mapping[str, Any]]) -> float:
    """By how many percent the MAE falls from the initial surfaces to others, in the mean over all."""
    ratios = [
        one[scene]["overall"] / before["overall"]
        for one in surfaces
        for scene, before in found["initial"].items()
    ]
    return 100 * (1 - float(np.mean(ratios)))


def median_table(found: Mapping[str, Any]) -> str:
    """A row for each test scene: MAE of the initial DSM, of median filters by width, and of refined DSMs."""
    widths = [str(width) for width in WIDTHS_PX]
    head = ["test scene", "initial", *(f"{width} px" for width in widths), "best by validation", "refined"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for scene, one in found["median"].items():
        chosen = " and ".join(str(width) for width in sorted(set(one["chosen"])))
        refined = np.mean([run[scene]["overall"] for run in found["refined"]])
        figures = [f"{one[name]:.3f}" for name in ("initial", *widths)]
        rows.append([scene, *figures, f"{one['overall']:.3f} ({chosen} px)", f"{refined:.3f}"])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


PAGE = """# Accuracy

What a training reaches on scenes that it has not seen: the protocol by which trainings and networks are
compared. All scenes are simulated ([simulation](simulation.md)): the reference DSM is exact, and the
initial DSM comes from stereo matching.

{table}

Mean absolute error in metres, before and after refinement with the best pair of images; after: mean ± spread
over {seeds} trainings with seeds of their own. The edge band reaches two pixels to either side of the
outlines of buildings. In the mean over scenes and trainings the overall error falls by {gain:.0f} %.
To do less harm among buildings taller than those of the training:
[height_stretch](train.md#buildings-taller-than-those-of-the-training).

## Against a median filter

Noise goes away without a network, too. What [median filters](evaluate.md#median-filters) of the initial DSM
reach, beside the mean of the trainings:

{medians}

Mean absolute error in metres over all pixels. Best by validation: the scene is a checkerboard of 8 x 8
fields, and each half of them uses the width that is best on the other half. In the mean over scenes its
error is {median_gain:.0f} % lower than that of the initial DSM.

## The protocol

{protocol}

`python benchmarks/accuracy.py --size {size}{with_data}` writes this page; `--config FILE` measures another
training, `--page FILE` writes elsewhere. The network: {network}. Training: {training}. Each training took
{minutes:.1f} minutes, all of it {total:.0f} minutes, on {cores} CPU cores. resdepth {version}.
"""


def page(found: Mapping[str, Any], roles: Mapping[str, Sequence[Place]], facts: Mapping[str, Any]) -> str:
    """The page of the documentation."""
    names = {
        role: ", ".join(f"{one.name} ({'town' if one.style else 'real surface'})" for one in scenes)
        for role, scenes in roles.items()
    }
    protocol = "\n".join(
        f"- {title}: {names[role]}."
        for title, role in (("Training", "train"), ("Validation", "val"), ("Test", "test"))
    )
    return PAGE.format(
        table=table(found), protocol=protocol, gain=overall_gain(found, found["refined"]),
        medians=median_table(found), median_gain=overall_gain(found, [found["median"]]), **facts,
    )  # fmt: skip


def main() -> None:
    """Simulate what is missing, train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--seeds", type=int, help="trainings [default: 2 for small]")
    parser.add_argument("--data", type=Path, help="folder of real data, with truth/; without it, towns only")
    parser.add_argument("--config", type=Path, help="JSON: what to change about network and training")
    parser.add_argument("--work", type=Path, default=Path("build/accuracy"), help="keep scenes and runs here")
    parser.add_argument("--page", type=Path, default=Path("docs/accuracy.md"))
    given = parser.parse_args()
    tune_process()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    size = SIZES[given.size]
    if given.seeds:
        size = replace(size, seeds=given.seeds)
    if given.data and not (given.data / "truth").is_dir():
        sys.exit(f"{given.data}: there is no folder truth/ in it; give the folder of the real data")
    try:
        requests = json.loads(given.config.read_text(encoding="utf-8")) if given.config else {}
        run(size, requests, given)
    except (ResDepthError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def run(size: Size, requests: Mapping[str, Any], given: argparse.Namespace) -> None:
    """The whole measurement."""
    start = time.perf_counter()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    roles = places(size, with_real=given.data is not None)
    scenes = {
        role: [made(place, size, given.data, work) for place in wanted] for role, wanted in roles.items()
    }
    found = measured(scenes, size, requests, work)
    config = train_config(scenes, size, requests, work, 0)
    network, settings = config["model"], config["training_settings"]
    facts = {
        "seeds": size.seeds,
        "size": given.size,
        "with_data": " --data FOLDER" if given.data else "",
        "network": f"{network['input_channels']}, depth {network['depth']}, "
        f"{network['start_kernel']} filters on the first level",
        "training": f"{settings['n_epochs']} epochs of {settings['n_training_samples']} patches of "
        f"{settings['tile_size']} pixels a side per scene, {config['optimizer'].get('name', 'Adam')}",
        "minutes": float(np.mean(found["minutes"])),
        "total": (time.perf_counter() - start) / 60,
        "cores": len(os.sched_getaffinity(0)),
        "version": resdepth.__version__,
    }
    write_json(work / "accuracy.json", {**found, **facts})
    print(table(found))
    given.page.parent.mkdir(parents=True, exist_ok=True)
    given.page.write_text(page(found, roles, facts), encoding="utf-8")


if __name__ == "__main__":
    main()
