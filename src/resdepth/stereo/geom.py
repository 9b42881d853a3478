"""RPCs in the .geom files of Orfeo ToolBox: lines of `key: value` beside an image."""

import math
from pathlib import Path

from resdepth.errors import ResDepthError
from resdepth.geo.rpc import N_TERMS, Rpc
from resdepth.runtime.paths import read_text

FORMAT = "B"
"""The order of terms that RPCs have in GeoTIFF tags, RPC00B."""
OFFSETS = ("line", "samp", "lat", "long", "height")


def geom_beside(image: Path) -> Path | None:
    """The .geom file of an image, if there is one."""
    path = image.with_suffix(".geom")
    return path if path.is_file() else None


def read_geom(path: Path, corner: tuple[float, float]) -> Rpc:
    """The RPC of a .geom file.

    Args:
        path: the file.
        corner: row and column, in the image for which the RPC was made, of the first pixel's centre: cut-outs
            state it in their geotransform.

    Raises:
        ResDepthError: if it cannot be read, or holds no such RPC.
    """
    values = _values(path)
    kind = values.get("polynomial_format", FORMAT)
    if kind != FORMAT:
        raise ResDepthError(f"{path}: polynomial_format is {kind!r}; only {FORMAT!r} (RPC00B) is read")

    def number(key: str) -> float:
        try:
            found = float(values[key])
        except (KeyError, ValueError) as error:
            found_text = values.get(key, "nothing")
            raise ResDepthError(f"{path}: {key}: found {found_text!r:.80}; a number is needed") from error
        if not math.isfinite(found):
            raise ResDepthError(f"{path}: {key}: found {found}; must be finite")
        return found

    def terms(name: str) -> tuple[float, ...]:
        return tuple(number(f"{name}_coeff_{index:02d}") for index in range(N_TERMS))

    row, col, *others = (number(f"{name}_off") for name in OFFSETS)
    return Rpc(
        terms("line_num"), terms("line_den"), terms("samp_num"), terms("samp_den"),
        (row - corner[0], col - corner[1], *others),  # type: ignore[arg-type] # five
        tuple(number(f"{name}_scale") for name in OFFSETS),  # type: ignore[arg-type]
    )  # fmt: skip


def _values(path: Path) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in read_text(path).splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
