"""The models that the package brings, and what models.toml states of them; docs/models.md tells more.

scripts/train_fusion_model.py, train_dsm_alone_model.py and train_demo_model.py make them.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from pydantic import TypeAdapter

FUSION = Path(__file__).parent / "fusion.safetensors"
"""For any DSM of about 0.25 to 1 m, with the raw images that it was made from."""
DSM_ALONE = Path(__file__).parent / "dsm-alone.safetensors"
"""For any DSM of about 0.25 to 1 m of which there are no images."""
TOWN_STEREO = Path(__file__).parent / "town-stereo.safetensors"
"""For pairs of ortho-images of simulated towns on a grid of about 0.25 m; tiles of at least 64 pixels."""
BUNDLED: Mapping[str, Path] = MappingProxyType({path.stem: path for path in (FUSION, DSM_ALONE, TOWN_STEREO)})
"""All of them, by the names that commands take."""


def default_model(*, with_images: bool) -> Path:
    """What `refine` takes if no model is named."""
    return FUSION if with_images else DSM_ALONE


SMALLEST_TILE_OF_MODEL = 64
"""Smaller tiles vanish in the four levels of town-stereo."""


@dataclass(frozen=True)
class RealFigures:
    """What a model does to a real DSM that its training has not seen; mean absolute errors in metres.

    Attributes:
        scene: as docs/real-data.md names it.
        shown: what the model sees of images.
        initial_mae_m: before.
        best_median_mae_m: of the median filter that is best for this scene.
        mae_m: after.
    """

    scene: str
    shown: str
    initial_mae_m: float
    best_median_mae_m: float
    mae_m: float


@dataclass(frozen=True)
class BundledModel:
    """What is known of a bundled model.

    Attributes:
        name: that commands take.
        purpose: what it is for.
        default_of: the commands that take it if no other is named.
        inputs: what it sees.
        gsd_range_m: the smallest and the largest pixel size it is made for, metres.
        knows_error: whether it states the expected error of each height.
        licence: of the file.
        learned_from: what it was trained on.
        made_by: the script that makes it.
        failures: where it does badly.
        figures: on real data.
    """

    name: str
    purpose: str
    default_of: tuple[str, ...]
    inputs: str
    gsd_range_m: tuple[float, float]
    knows_error: bool
    licence: str
    learned_from: str
    made_by: str
    failures: tuple[str, ...]
    figures: tuple[RealFigures, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return BUNDLED[self.name]


@cache
def registry() -> tuple[BundledModel, ...]:
    """All bundled models, the default of `refine` first."""
    text = Path(__file__).with_name("models.toml").read_text(encoding="utf-8")
    return TypeAdapter(tuple[BundledModel, ...]).validate_python(tomllib.loads(text)["model"])
