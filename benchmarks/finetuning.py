"""Tune the bundled models to a part of a real scene, and refine the rest of it.

    python benchmarks/finetuning.py ../shared/data

The folder is that of real_data.py. A model learns from the left or right 139 m (0.05 km2) of Réunion; the
errors are those of the other side, 16 m away: of the initial DSM, the median filter that is best there, the
bundled model and the tuned one. Prints the table of docs/train.md; an hour on two cores.
"""

import argparse
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import median_filter

import resdepth
from real_data import WIDTHS, Array, read, rough, write_like
from resdepth.errors import ResDepthError
from resdepth.geo.gdal import tune_process
from resdepth.geo.windows import Window

logger = logging.getLogger(__name__)

WIDTH_PX, APART_PX = 278, 32


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="real data")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each row")
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    tune_process()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    aligned = given.data / "aligned" / "reunion"
    raw = tuple(sorted((given.data / "stereo" / "reunion").glob("img_*.tif")))
    plane_sweep, truth = aligned / "initial.tif", aligned / "truth.tif"
    heights = read(truth)
    print("| DSM | shown | learned from | initial | best median | bundled | tuned |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        spoilt = rough(np.where(np.isnan(heights), read(plane_sweep), heights), 1)
        made = write_like(Path(temporary) / "rough.tif", plane_sweep, spoilt)
        for name, dsm in {"plane sweep": plane_sweep, "s2p made rough": made}.items():
            for shown, images in {"raw images": raw, "no images": ()}.items():
                for side in ("left", "right"):
                    place = Place(dsm, images, truth, side, Path(temporary) / "tuned.safetensors")
                    print(
                        f"| {name} | {shown} | the {side} | {place.row(given.steps, given.seeds)} |",
                        flush=True,
                    )


@dataclass(frozen=True)
class Place:
    """What is learned from, and what is refined.

    Attributes:
        dsm, images, reference: the rasters of the scene.
        side: that is learned from, "left" or "right"; the other is refined.
        output: where models go.
    """

    dsm: Path
    images: tuple[Path, ...]
    reference: Path
    side: str
    output: Path

    def row(self, steps: int, seeds: int) -> str:
        """Mean and median absolute errors on the other side, metres."""
        reference, initial = read(self.reference), read(self.dsm)
        height, width = reference.shape
        left, right = Window(0, 0, height, WIDTH_PX), Window(0, width - WIDTH_PX, height, WIDTH_PX)
        learned, other = (left, right) if self.side == "left" else (right, left)
        apart = width - WIDTH_PX - APART_PX
        rest = Window(0, width - apart if other is right else 0, height, apart)

        def errors(*surfaces: Array) -> str:
            found = np.abs(np.stack(surfaces) - reference)[(slice(None), *rest.slices)]
            return f"{np.nanmean(found):.3f} / {np.nanmedian(found):.3f}"

        medians = [median_filter(initial, side) for side in WIDTHS]
        best = min(medians, key=lambda one: float(np.nanmean(np.abs(one - reference)[rest.slices])))
        tuned = [self._refined_by_tuned(learned, steps, seed) for seed in range(seeds)]
        bundled = resdepth.refine(self.dsm, self.images)
        return " | ".join((errors(initial), errors(best), errors(bundled), errors(*tuned)))

    def _refined_by_tuned(self, learned: Window, steps: int, seed: int) -> Array:
        try:
            model: Path | None = resdepth.finetune(
                self.dsm, self.images, reference=self.reference, output=self.output, region=learned,
                steps=steps, seed=seed, overwrite=True,
            )  # fmt: skip
        except ResDepthError as error:
            logger.warning("%s", error)
            model = None  # so a user would do
        return resdepth.refine(self.dsm, self.images, model)


if __name__ == "__main__":
    main()
