"""The model that comes with the package: a small ResDepth-stereo, trained on simulated towns.

scripts/train_demo_model.py makes it; docs/models.md tells what it can do.
"""

from pathlib import Path

TOWN_STEREO = Path(__file__).parent / "town-stereo.safetensors"
"""For pairs of ortho-images on a grid of about 0.25 m; tiles of at least 64 pixels."""

SMALLEST_TILE_OF_MODEL = 64
"""Smaller tiles vanish in its four levels."""
