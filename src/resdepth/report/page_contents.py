"""What pages show: of evaluated surfaces, and of a refined DSM; both read quickly where rasters are large."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import gettempdir

import numpy as np

from resdepth.evaluation.evaluate import Case
from resdepth.evaluation.inputs import OnGrid, Read
from resdepth.evaluation.request import REFERENCE
from resdepth.evaluation.result import EvaluationResult
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Array, FileBand, Method, read_header, read_resampled, read_tags
from resdepth.geo.vectors import is_vector, open_vector_mask
from resdepth.geo.windows import blocks, bounding
from resdepth.refinement.provenance import PROVENANCE_TITLES, Moved, Provenance
from resdepth.report.page import PageContent, Table, reading
from resdepth.report.tables import (
    centred_rows,
    class_rows,
    median_rows,
    shape_rows,
    stated_facts,
    summary_rows,
)
from resdepth.runtime.atomic import temporary_folder
from resdepth.runtime.prefetch import in_order

MEDIANS = (
    "What median filters reach without any training: a refinement is worth its effort where it is better. "
    "Best by validation: each half of a checkerboard uses the width that is best on the other half."
)
LEAD = (
    "Errors are heights minus the reference DSM. Look first at the table, then drag the divider to see what "
    "the heights look like, then at where the errors are."
)

SHOWN_IMAGES = 2
BLOCK_PX = 4096
WARNING = "RESDEPTH_WARNING"
# In the order of the table: what there is, then what there is not.
KINDS = (Provenance.REFINED, Provenance.FILLED, Provenance.WITHOUT_IMAGE, Provenance.VOID)

# Twice as fine as what pages and figures show, so that a copy's own pixels are not seen.
COPY_PX = 2800
THREADS = 2


def evaluation_content(
    case: Case,
    outcome: EvaluationResult,
    *,
    title: str,
    truth: Path,
    masks: Mapping[str, Path],
    images: Mapping[str, Path] | None = None,
) -> PageContent:
    """Tables, charts, the surfaces and the reference DSM, masks and images.

    Args:
        case: what was evaluated.
        outcome: what was found.
        title: of the page.
        truth: its file.
        masks: their files by name, rasters or vectors.
        images: ortho-images by name.
    """
    grid = case.truth.grid.crop(bounding(case.regions))
    surfaces: dict[str, Read] = {
        one.name: one.band.on for one in case.surfaces if isinstance(one.band, OnGrid)
    }
    surfaces[REFERENCE] = _evaluated_reference(case, truth, masks)
    return PageContent(
        title=title,
        lead=LEAD,
        grid=grid,
        surfaces=surfaces,
        reference=REFERENCE,
        images={name: OnGrid([path], grid, is_image=True).on for name, path in (images or {}).items()},
        masks={name: mask_reader(path, grid) for name, path in masks.items() if name != "ground_truth"},
        tables=tables_of(outcome),
        outcome=outcome,
        facts=stated_facts(outcome),
    )


def tables_of(outcome: EvaluationResult) -> list[Table]:
    """The tables of an evaluation; the summary first."""
    note = (
        "MAE mean absolute error; RMSE root mean square error; MedAE median absolute error; NMAD robust "
        "spread; LE90 what 90 % of errors stay below; bias mean error. ± is half of a 95 % interval."
    )
    return [
        Table("All pixels", summary_rows(outcome), note),
        Table(
            "Without the median difference",
            centred_rows(outcome),
            "A bias of the initial DSM that a refinement takes away makes MAE and RMSE fall, and no shape "
            "better. Median removed: of the errors minus their median.",
        ),
        *([Table("Beside median filters", medians, MEDIANS)] if (medians := median_rows(outcome)) else []),
        Table("By class", class_rows(outcome)),
        Table(
            "Shape, edges, shift",
            shape_rows(outcome),
            "Edges off by: where the walls of buildings stand; positive: the building is too large.",
        ),
    ]


def mask_reader(path: Path, grid: Grid) -> Read:
    """A mask from a raster or vector file, on any grid of the CRS."""
    if is_vector(path):
        return lambda there: open_vector_mask(path, there, may_be_empty=True).read(there.whole)
    return OnGrid([path], grid, is_mask=True).on


def _evaluated_reference(case: Case, truth: Path, masks: Mapping[str, Path]) -> Read:
    """The reference DSM where it counts, on any grid."""
    heights = OnGrid([truth], case.truth.grid)
    counting = [masks["ground_truth"]] if "ground_truth" in masks else []
    if case.inside is not None and case.inside_path is not None:
        counting.append(case.inside_path)
    readers = [mask_reader(path, case.truth.grid) for path in counting]

    def read(there: Grid) -> Array:
        values = heights.on(there)
        for inside in readers:
            values = np.where(inside(there) == 1, values, np.float32(np.nan))
        return values

    return read


def refined_content(initial: Path, refined: Path, provenance: Path, images: Sequence[Path]) -> PageContent:
    """Before and after, what changed, what the network saw, and where the heights come from.

    Raises:
        ResDepthError: if a raster cannot be read.
    """
    counts = _counts(provenance)
    pixels = max(sum(counts.values()), 1)
    rows = [["Heights", "pixels", "share"]]
    rows += [
        [PROVENANCE_TITLES[kind], f"{counts[kind]:,}", f"{100 * counts[kind] / pixels:.2f} %"]
        for kind in KINDS
        if counts[kind]
    ]
    tags = read_tags(refined)
    moved = Moved.from_tags(tags)
    shares = [[name, f"{share:.2f} %"] for name, share in moved.shares.items()] if moved else []
    return PageContent(
        title=f"Refined: {initial.name}",
        lead="Before and after refinement, and what has changed. Without a reference DSM nobody can say "
        "what is better: look at the edges of roofs, and at the ground between them.",
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
        facts=_refined_facts(initial, refined, tags),
        difference="change",
    )


def _refined_facts(initial: Path, refined: Path, tags: Mapping[str, str]) -> dict[str, str]:
    """How the refined DSM was made, as its tags state it."""
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
    return {name: value for name, value in stated.items() if value}


def _counts(provenance: Path) -> dict[Provenance, int]:
    """How many pixels there are of each kind."""
    band = FileBand(provenance, "stored")
    found = np.zeros(len(Provenance), dtype=np.int64)
    for window in blocks(band.grid.whole, BLOCK_PX):
        codes = np.nan_to_num(band.read(window)).astype(np.uint8)
        found += np.bincount(codes.ravel(), minlength=len(Provenance))
    return {kind: int(found[kind]) for kind in Provenance}


@dataclass(frozen=True)
class _Look:
    """A raster, and its coarse copy.

    Attributes:
        read: its pixels on any grid.
        copy: the file of the copy.
        grid: of the copy.
        method: how the copy becomes coarser.
    """

    read: Read
    copy: Path
    grid: Grid
    method: Method

    def prepare(self) -> None:
        """Make the copy."""
        with new_geotiff(self.copy, self.grid, compression="zstd") as written:
            written.write(0, self.read(self.grid))

    def on(self, grid: Grid) -> Array:
        """The pixels on a grid: from the copy if it is fine enough."""
        if grid.gsd < 2 * self.grid.gsd:
            return self.read(grid)
        return read_resampled(self.copy, grid, self.method)


@contextmanager
def quick_looks(content: PageContent) -> Iterator[PageContent]:
    """The same content, whose overviews are read quickly while this lasts."""
    whole = content.grid
    if whole is None or max(whole.height, whole.width) <= 2 * COPY_PX:
        yield content
        return
    grid = whole.flat.coarser(COPY_PX)  # copies are in metres
    with temporary_folder(Path(gettempdir()), "looks") as folder:
        looks: list[_Look] = []

        def quick(reads: Mapping[str, Read], method: Method) -> dict[str, Read]:
            found: dict[str, Read] = {}
            for name, read in reads.items():
                look = _Look(read, folder / f"{len(looks)}.tif", grid, method)
                looks.append(look)
                found[name] = look.on
            return found

        quickened = replace(
            content,
            surfaces=quick(content.surfaces, "average"),
            images=quick(content.images, "average"),
            masks=quick(content.masks, "nearest"),
        )
        for _ in in_order((partial(_Look.prepare, look) for look in looks), THREADS):
            pass
        yield quickened
