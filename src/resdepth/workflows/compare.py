"""Several results side by side."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from resdepth.errors import ResDepthError
from resdepth.evaluation.request import INITIAL
from resdepth.evaluation.result import EvaluationResult, SurfaceResult, read_result
from resdepth.geo.geotiff import refuse_existing, refuse_inputs_as_outputs
from resdepth.report.page import PageContent, today, write_page
from resdepth.report.page_tables import tables_of
from resdepth.report.tables import csv_text
from resdepth.workflows.evaluate import JSON

logger = logging.getLogger(__name__)

# What must agree for metrics to be comparable.
CONDITIONS = (
    "Reference", "Region", "Errors", "Alignment", "Mask ground_truth", "Mask building", "Mask water",
    "Mask forest", "Ground model",
)  # fmt: skip


def compare_runs(runs: Sequence[Path], output: Path, *, overwrite: bool = False) -> EvaluationResult:
    """Write a page with the metrics of several runs, and give all of them as one result.

    Args:
        runs: folders of `evaluate` or `test` results, or their JSON files.
        output: the page.
        overwrite: replace an existing page.

    Raises:
        ResDepthError: if a run has no evaluation, the page is there already, or cannot be written.
    """
    if output.suffix.lower() not in {".html", ".htm"}:
        raise ResDepthError(f"{output}: should end in .html")
    if not output.resolve().parent.is_dir():
        raise ResDepthError(f"{output}: there is no folder {output.parent}")
    files = _named(runs)
    refuse_inputs_as_outputs(files.values(), [output])
    refuse_existing([output], overwrite=overwrite)
    found = {name: read_result(path) for name, path in files.items()}
    differing = _differences(found)
    for text in differing:
        logger.warning("%s", text)
    merged = _merged(found, differing)
    write_page(
        output,
        PageContent(
            title=f"{len(found)} runs compared" if len(found) > 1 else f"The metrics of {next(iter(found))}",
            lead=" ".join(differing)
            or "All runs were evaluated against the same reference DSM, in the same region.",
            grid=None,
            surfaces={},
            tables=tables_of(merged),
            day=today(),
            csv=csv_text(merged),
            outcome=merged,
            facts=merged.facts,
        ),
    )
    return merged


def _named(runs: Sequence[Path]) -> dict[str, Path]:
    """The files of results by names that tell them apart."""
    files: list[Path] = []
    for run in runs:
        inside = sorted(run.rglob(JSON)) if run.is_dir() else [run]
        if not inside:
            raise ResDepthError(
                f"{run}: holds no {JSON}; it is no result of evaluate, or of test with a reference DSM"
            )
        files += [one for one in inside if one not in files]
    parts = [file.resolve().parent.parts for file in files]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, files, strict=True))
    return {str(file): file for file in files}


def _differences(found: Mapping[str, EvaluationResult]) -> list[str]:
    """What keeps metrics from being comparable, as sentences."""
    return [
        f"{condition} differs between runs, so their metrics cannot be compared as they are."
        for condition in CONDITIONS
        if len({outcome.conditions.get(condition, "") for outcome in found.values()}) > 1
    ]


def _merged(found: Mapping[str, EvaluationResult], differing: Sequence[str]) -> EvaluationResult:
    """All surfaces in one outcome, by the names of their runs; the same initial DSM only once."""
    surfaces: dict[str, SurfaceResult] = {}
    titles: dict[str, str] = {}
    facts: dict[str, str] = {}
    initials: dict[str, str] = {}
    for run, outcome in found.items():
        titles |= outcome.titles
        facts |= {f"{run}: {name}": text for name, text in outcome.facts.items()}
        others = [name for name in outcome.surfaces if name != outcome.initial]
        for name, surface in outcome.surfaces.items():
            called = f"{run}: {name}" if name == outcome.initial or len(others) > 1 else run
            if name == outcome.initial and not differing:
                key = surface.sha256 or surface.source
                if key in initials:
                    continue
                initials[key] = called = name if not initials else called
            surfaces[called] = replace(surface, name=called)
    return replace(
        next(iter(found.values())),
        surfaces=surfaces,
        titles=titles,
        facts=facts,
        initial=INITIAL if INITIAL in surfaces else None,
        together=None,
        # Those of the first run count beside all runs that share its initial DSM.
        baselines=next(filter(None, (one.baselines for one in found.values())), None)
        if len(initials) == 1 or len(found) == 1
        else None,
        exact=all(outcome.exact for outcome in found.values()),
    )
