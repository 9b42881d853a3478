"""Evaluations as text: tables for the terminal, Markdown, CSV and pages; files of the published code."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from resdepth.evaluation.metrics import FIGURES, Statistics
from resdepth.evaluation.result import (
    OVERALL,
    Baselines,
    ClassResult,
    Evaluation,
    EvaluationResult,
    SurfaceResult,
)
from resdepth.runtime.atomic import write_json, write_text

Rows = list[list[str]]

SUMMARY = (
    ("MAE", "mae"), ("RMSE", "rmse"), ("MedAE", "absolute_median"), ("NMAD", "nmad"), ("LE90", "le90"),
    ("bias", "bias"),
)  # fmt: skip
# With the median difference of the surface, and without it.
CENTRED = (("MAE", "mae", "mae_centred"), ("RMSE", "rmse", "rmse_centred"))
GAINS = ("better", "worse")
NONE = "--"
# Columns of the CSV file: the name and where it comes from. Metres, shares from 0 to 1, degrees.
OF_CLASS = ("reference_pixels", "coverage", "better", "worse")
OF_STATISTICS = (
    "count", "bias", "median", "mae", "rmse", "absolute_median", "nmad", "le68", "le90", "le95", "within_05",
    "within_1", "within_2", "minimum", "maximum", "nmad_resdepth_2022", "mae_centred", "rmse_centred",
    "absolute_median_centred",
)  # fmt: skip
OF_SHAPE = ("gradient", "normal_deg", "roughness_m", "reference_roughness_m")
# Of tables before and after refinement, and of those beside median filters.
BEFORE_AFTER_COLUMNS = (
    ("MAE", "mae"),
    ("RMSE", "rmse"),
    ("MedAE", "absolute_median"),
    ("NMAD", "nmad"),
    ("median", "median"),
    ("MAE, median removed", "mae_centred"),
    ("RMSE, median removed", "rmse_centred"),
)
BASELINE_COLUMNS = (
    ("MAE", "mae"),
    ("MAE, median removed", "mae_centred"),
    ("RMSE", "rmse"),
    ("RMSE, median removed", "rmse_centred"),
    ("MedAE", "absolute_median"),
    ("NMAD", "nmad"),
)
# Of the published files: label, and the number of tabs that brings the metrics into one column.
PUBLISHED_LINES = (
    ("maximum", "Maximum residual error [m]:", 6),
    ("minimum", "Minimum residual error [m]:", 6),
    ("mae", "Mean absolute residual error (MAE) [m]:", 5),
    ("rmse", "RMSE residual error [m]:", 6),
    ("absolute_median", "Absolute median residual error [m]:", 5),
    ("median", "Median residual error [m]:", 6),
    ("nmad", "Normalized median absolute deviation (NMAD) [m]:", 3),
    ("nmad_resdepth_2022", "NMAD (ResDepth 2022) [m]:", 6),
)

PUBLISHED_TITLES = {
    OVERALL: "OVERALL",
    "building": "BUILDING PIXELS",
    "terrain": "TERRAIN PIXELS",
    "terrain_without_water": "TERRAIN PIXELS WITHOUT WATER",
    "terrain_without_forest": "TERRAIN PIXELS WITHOUT FOREST",
    "terrain_without_water_forest": "TERRAIN PIXELS WITHOUT WATER/FOREST",
}


def summary_rows(outcome: EvaluationResult) -> Rows:
    """The metrics that matter most over all pixels, a row for each surface."""
    with_initial = _has_initial(outcome)
    head = ["surface", *_heads(), "within 1 m", "coverage", *(GAINS if with_initial else ())]
    rows = [head]
    for surface in outcome.surfaces.values():
        result = surface.classes[OVERALL]
        shares = [percent_text(result.statistics.within_1), percent_text(result.coverage)]
        rows.append([surface.name, *_figures(result), *shares, *(_gains(result) if with_initial else ())])
    return rows


def centred_rows(outcome: EvaluationResult) -> Rows:
    """Metrics over all pixels with and without the median difference, a row for each surface."""
    heads = [f"{label}{where} [m]" for label, *_ in CENTRED for where in ("", ", median removed")]
    rows = [["surface", *heads, "NMAD [m]", "median [m]"]]
    for surface in outcome.surfaces.values():
        found = surface.classes[OVERALL].statistics
        pairs = [_metres(getattr(found, name)) for _, *names in CENTRED for name in names]
        rows.append([surface.name, *pairs, _metres(found.nmad), _signed(found.median)])
    return rows


def median_rows(outcome: EvaluationResult) -> Rows:
    """The surfaces beside median filters of the initial DSM, over all pixels; no row without those."""
    if outcome.baselines is None:
        return []
    overall = {name: one.classes[OVERALL].statistics for name, one in outcome.surfaces.items()}
    return baseline_rows(overall, outcome.baselines)


def class_rows(outcome: EvaluationResult) -> Rows:
    """The same for every class that has pixels: a row for each class and surface."""
    with_initial = _has_initial(outcome)
    rows = [["pixels", "surface", "n", *_heads(), *(GAINS if with_initial else ())]]
    for name, title in outcome.titles.items():
        for surface in outcome.surfaces.values():
            result = surface.classes.get(name)  # runs that are compared may differ in their classes
            if result is not None and result.reference_pixels:
                row = [title, surface.name, f"{result.statistics.count:,}", *_figures(result)]
                rows.append([*row, *(_gains(result) if with_initial else ())])
    return rows


def _heads() -> list[str]:
    return [f"{label} [m]" for label, _ in SUMMARY]


def _figures(result: ClassResult) -> list[str]:
    return [with_interval(result, field) for _, field in SUMMARY]


def _gains(result: ClassResult) -> list[str]:
    return [percent_text(result.better), percent_text(result.worse)]


def _has_initial(outcome: EvaluationResult) -> bool:
    return any(surface.classes[OVERALL].better is not None for surface in outcome.surfaces.values())


def shape_rows(outcome: EvaluationResult) -> Rows:
    """Shape, edges and shift of each surface."""
    head = [
        "surface", "gradient error [m/m]", "normals off by [°]", "roughness [m]", "the reference DSM's [m]",
        "edges off by, median [m]", "NMAD [m]", "edges found", "shift east, north, up [m]",
    ]  # fmt: skip
    rows = [head]
    for surface in outcome.surfaces.values():
        shape = surface.classes[OVERALL].shape
        rows.append(
            [
                surface.name,
                _metres(shape.gradient),
                f"{shape.normal_deg:.1f}" if math.isfinite(shape.normal_deg) else NONE,
                _metres(shape.roughness_m),
                _metres(shape.reference_roughness_m),
                *_edges(surface),
                _shift(surface),
            ]
        )
    return rows


def _edges(surface: SurfaceResult) -> list[str]:
    if surface.outlines is None:
        return [NONE] * 3
    found = surface.outlines.statistics
    return [_signed(found.median), _metres(found.nmad), percent_text(surface.outlines.found)]


def _shift(surface: SurfaceResult) -> str:
    shift = surface.shift
    stated = ", ".join(_signed(one) for one in (shift.dx_m, shift.dy_m, shift.dz_m))
    if not shift.applied:
        return stated
    return f"{stated} (applied)" if math.isfinite(shift.dx_m) else f"{stated} (applied, vertically alone)"


def with_interval(result: ClassResult, field: str) -> str:
    """The metric, and how far its interval reaches: "0.41 ±0.02"."""
    value = getattr(result.statistics, field)
    shown = _signed(value) if field == "bias" else _metres(value)
    if field not in result.intervals or not math.isfinite(value):
        return shown
    low, high = result.intervals[field]
    return f"{shown} ±{(high - low) / 2:.2f}"


def _metres(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else NONE


def _signed(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else NONE


def percent_text(share: float | None) -> str:
    """A share (0 to 1) as people write it; NONE if it is not known."""
    return NONE if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def markdown_report(outcome: EvaluationResult) -> str:
    """All tables, and how they came about."""
    parts = [
        "# Surfaces against the reference DSM",
        markdown(summary_rows(outcome)),
        "## Without the median difference",
        markdown(centred_rows(outcome)),
        *(["## Beside median filters", markdown(medians)] if (medians := median_rows(outcome)) else []),
        "## By class",
        markdown(class_rows(outcome), text_columns=2),
        "## Shape, edges, shift",
        markdown(shape_rows(outcome)),
        "## How",
        "\n".join(f"- {name}: {text}" for name, text in stated_facts(outcome).items()),
    ]
    return "\n\n".join(parts) + "\n"


def stated_facts(outcome: EvaluationResult) -> dict[str, str]:
    """The provenance, and what the metrics mean."""
    facts = dict(outcome.facts)
    facts["Intervals"] = (
        f"±: half the width of the middle 95 % of metrics from blocks of {outcome.block_m:g} m, drawn with "
        f"replacement ({outcome.blocks} blocks)"
        if any(surface.classes[OVERALL].intervals for surface in outcome.surfaces.values())
        else f"none: {outcome.blocks} blocks of {outcome.block_m:g} m are too few for a bootstrap"
    )
    facts["Quantiles"] = (
        "exact" if outcome.exact else "to 0.05 mm, the NMAD to 0.15 mm (above 6.5 m: to 8 and 24 millionths)"
    )
    facts["Shift"] = "what would move a surface onto the reference DSM (Nuth & Kääb 2011)"
    facts["Median removed"] = (
        "errors minus the median over all pixels of the surface: what is left when the vertical datum, or a "
        "bias, is put right"
    )
    if outcome.baselines is not None:
        facts["Median filters"] = (
            f"of {outcome.baselines.surface}, square windows in pixels of the reference DSM, voids "
            "ignored; best by validation: the area is a checkerboard of 8 x 8 fields, each half of them uses "
            "the width with the lowest MAE on the other half"
        )
    if _has_initial(outcome):
        facts["Better, worse"] = "pixels whose error became smaller, larger by more than 10 cm"
    return facts


def csv_text(outcome: EvaluationResult) -> str:
    """A row for each surface and class with every metric; nothing where it is unknown."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    limits = [f"{name}_{end}" for name in FIGURES for end in ("low", "high")]
    writer.writerow(["surface", "class", *OF_CLASS, *OF_STATISTICS, *limits, *OF_SHAPE])
    for surface in outcome.surfaces.values():
        for name, result in surface.classes.items():
            values: list[object] = [getattr(result, one) for one in OF_CLASS]
            values += [getattr(result.statistics, one) for one in OF_STATISTICS]
            for metric in FIGURES:
                values += result.intervals.get(metric, (None, None))
            values += [getattr(result.shape, one) for one in OF_SHAPE]
            writer.writerow([surface.name, name, *map(_cell, values)])
    for title, found in _median_filters(outcome):
        metrics = {**dict.fromkeys([*OF_CLASS, *OF_STATISTICS, *limits, *OF_SHAPE]), **asdict(found)}
        writer.writerow([title, OVERALL, *map(_cell, metrics.values())])
    return buffer.getvalue()


def _median_filters(outcome: EvaluationResult) -> list[tuple[str, Statistics]]:
    """The statistics of median filters, by names for the CSV file."""
    found = outcome.baselines
    if found is None:
        return []
    named = [(f"median_{one.width_px}", one.statistics) for one in found.filters]
    return [*named, ("median_validated", found.validated)]


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.9g}"
    return "" if value is None else value


def summary_table(evaluations: Mapping[str, Evaluation]) -> str:
    """A Markdown table: a row for each data set, class of objects and surface; metres."""
    rows = [["data set", "pixels", "surface", "n", *(f"{label} [m]" for label, _ in BEFORE_AFTER_COLUMNS)]]
    for name, evaluation in evaluations.items():
        for label, refined in evaluation.refined.items():
            if evaluation.initial is not None:
                rows.append([name, label, "initial", *_counted_values(evaluation.initial[label])])
            rows.append([name, label, "refined", *_counted_values(refined)])
    return markdown(rows, text_columns=3)


def baseline_rows(surfaces: Mapping[str, Statistics], baselines: Baselines) -> list[list[str]]:
    """A row for each evaluated surface, and for each median filter."""
    rows = {**surfaces}
    rows |= {f"median {one.width_px} x {one.width_px} px": one.statistics for one in baselines.filters}
    chosen = " and ".join(str(width) for width in sorted(set(baselines.chosen_px)))
    rows[f"median, best by validation{f' ({chosen} px)' if chosen else ''}"] = baselines.validated
    head = ["surface", *(f"{label} [m]" for label, _ in BASELINE_COLUMNS)]
    return [head, *([name, *_values(found, BASELINE_COLUMNS)] for name, found in rows.items())]


def baseline_tables(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """For each initial DSM a Markdown table: it, what was refined from it, and median filters of it."""
    tables = []
    for baselines in dict.fromkeys(one.baselines for one in evaluations.values()):
        if baselines is None:
            continue
        surfaces: dict[str, Statistics] = {}
        for name, one in evaluations.items():
            if one.baselines == baselines:
                surfaces |= {} if one.initial is None else {baselines.surface: one.initial[OVERALL]}
                surfaces[name] = one.refined[OVERALL]
        tables.append(markdown(baseline_rows(surfaces, baselines)))
    return tables


def markdown(rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table whose columns line up; all but the first ones are aligned to the right."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(placed) + " |"

    rule = ["-" * width if n < text_columns else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])


def _counted_values(metrics: Statistics) -> list[str]:
    return [f"{metrics.count}", *_values(metrics, BEFORE_AFTER_COLUMNS)]


def _values(metrics: Statistics, columns: Sequence[tuple[str, str]]) -> list[str]:
    values = [getattr(metrics, name) for _, name in columns]
    return [f"{value:.3f}" if metrics.count else "--" for value in values]


def format_statistics(evaluation: Evaluation, model_name: str, weights: str) -> str:
    """The text of `<dsm>_prediction_statistics.txt`."""
    header = [f"Model name:\t{model_name}", f"Model weights:\t{weights}", *[""] * 5]
    header += ["Performance Evaluation", "-" * 22, "", f"Number of pixels:\t\t\t{evaluation.pixels}"]
    header += [f"Area [km^2]:\t\t\t\t{evaluation.area_km2:.2f}"]
    sections = []
    for name, refined in evaluation.refined.items():
        title = f"STATISTICS, {PUBLISHED_TITLES[name]}: "
        if evaluation.initial is not None:
            before = title + "INITIAL DSM"
            # One dash more below this one title, as published.
            dashes = len(before) + (name == OVERALL)
            sections.append(_section(before, evaluation.initial[name], dashes))
        after = title + "REFINED DSM"
        sections.append(_section(after, refined, len(after)))
    return "\n\n\n".join(["\n".join(header), *sections]) + "\n\n"


def format_overall_statistics(evaluation: Evaluation, model_name: str, weights: str) -> str:
    """The text of `<dsm>_prediction_performance_statistics_mean_over_all_stereopairs.txt`."""
    header = [f"Model name:\t{model_name}", f"Model weights:\t{weights}", *[""] * 4]
    title = "Performance Evaluation: Statistics over all predictions"
    header += [title, "-" * len(title)]
    sections = []
    for name, refined in evaluation.refined.items():
        after = f"STATISTICS, {PUBLISHED_TITLES[name]}: REFINED DSM"
        sections.append(_section(after, refined, len(after)))
    return "\n\n\n".join(["\n".join(header), *sections]) + "\n\n"


def _section(title: str, metrics: Statistics, underline: int) -> str:
    lines = [title, "-" * underline, ""]
    for name, label, tabs in PUBLISHED_LINES:
        value = getattr(metrics, name)
        shown = f"{value:10.3f} m" if metrics.count else "-- m"
        lines.append(label + "\t" * tabs + shown)
    return "\n".join(lines)


def write_statistics(path: Path, text: str, evaluation: Evaluation) -> None:
    """Write the text file and, beside it, a JSON file with all metrics."""
    write_text(path, text)
    write_json(path.with_suffix(".json"), evaluation.as_json())
