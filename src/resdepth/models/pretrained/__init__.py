"""The models that the package brings; docs/models.md tells what each can do, and what it cannot.

scripts/train_fusion_model.py and scripts/train_demo_model.py make them.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

FUSION = Path(__file__).parent / "fusion.safetensors"
"""For any DSM of about 0.25 to 1 m, with the raw images that it was made from."""
TOWN_STEREO = Path(__file__).parent / "town-stereo.safetensors"
"""For pairs of ortho-images of simulated towns on a grid of about 0.25 m; tiles of at least 64 pixels."""
BUNDLED: Mapping[str, Path] = MappingProxyType({path.stem: path for path in (FUSION, TOWN_STEREO)})
"""All of them, by the names that commands take."""

SMALLEST_TILE_OF_MODEL = 64
"""Smaller tiles vanish in the four levels of town-stereo."""
