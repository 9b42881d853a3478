"""Where a refined height comes from."""

from enum import IntEnum


class Provenance(IntEnum):
    """What the provenance raster says of each pixel."""

    VOID = 0
    REFINED = 1
    FILLED = 2
    WITHOUT_IMAGE = 3


PROVENANCE_TITLES = {
    Provenance.VOID: "void",
    Provenance.REFINED: "refined",
    Provenance.FILLED: "refined from a filled height",
    Provenance.WITHOUT_IMAGE: "refined where an image shows nothing",
}
