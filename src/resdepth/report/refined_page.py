"""What a page about a refined DSM shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdepth.geo.raster import FileBand, read_header, read_tags
from resdepth.geo.windows import blocks
from resdepth.refinement.moved import Moved
from resdepth.refinement.provenance import Provenance
from resdepth.report.page import PageContent, Table, reading

SHOWN_IMAGES = 2
BLOCK_PX = 4096
WARNING = "RESDEPTH_WARNING"
KINDS = {
    Provenance.REFINED: "refined",
    Provenance.FILLED: "refined from a filled height",
    Provenance.WITHOUT_IMAGE: "refined where an image shows nothing",
    Provenance.VOID: "void",
}


def refined_content(initial: Path, refined: Path, provenance: Path, images: Sequence[Path]) -> PageContent:
    """Before and after, what changed, what the network saw, and where the heights come from.

    Raises:
        ResDepthError: if a raster cannot be read.
    """
    counts = _counts(provenance)
    pixels = max(sum(counts.values()), 1)
    rows = [["Heights", "pixels", "share"]]
    rows += [
        [label, f"{counts[kind]:,}", f"{100 * counts[kind] / pixels:.2f} %"]
        for kind, label in KINDS.items()
        if counts[kind]
    ]
    tags = read_tags(refined)
    moved = Moved.from_tags(tags)
    shares = [[name, f"{share:.2f} %"] for name, share in moved.shares.items()] if moved else []
    stated = {
        "Initial DSM": str(initial),
        "Refined DSM": str(refined),
        "Images": tags.get("RESDEPTH_IMAGES", ""),
        "Model": f"{tags.get('RESDEPTH_MODEL')} (SHA-256 {tags.get('RESDEPTH_MODEL_SHA256', '')[:16]}...)",
        "Mode": f"{tags.get('RESDEPTH_MODE')}, {tags.get('RESDEPTH_PRECISION')}",
        "Fused": tags.get("RESDEPTH_FUSED", ""),
        "Job": tags.get("RESDEPTH_JOB", ""),
        "Software": tags.get("TIFFTAG_SOFTWARE", ""),
    }
    return PageContent(
        title=f"Refined: {initial.name}",
        lead="Before and after refinement, and what has changed. Without a truth nobody can say what is "
        "better: look at the edges of roofs, and at the ground between them.",
        grid=read_header(refined).grid,
        surfaces={"Initial DSM": reading(initial, "average"), "Refined DSM": reading(refined, "average")},
        reference="Initial DSM",
        images={
            f"Ortho-image {path.name}": reading(path, "average", "stored") for path in images[:SHOWN_IMAGES]
        },
        tables=[
            Table("Where heights come from", rows),
            Table("How far they are moved", [["Moved by more than", "share"], *shares]),
        ],
        warnings=[text for name, text in sorted(tags.items()) if name.startswith(WARNING)],
        facts={name: value for name, value in stated.items() if value},
        difference="change",
    )


def _counts(provenance: Path) -> dict[Provenance, int]:
    """How many pixels there are of each kind."""
    band = FileBand(provenance, "stored")
    found = np.zeros(len(Provenance), dtype=np.int64)
    for window in blocks(band.grid.whole, BLOCK_PX):
        codes = np.nan_to_num(band.read(window)).astype(np.uint8)
        found += np.bincount(codes.ravel(), minlength=len(Provenance))
    return {kind: int(found[kind]) for kind in Provenance}
