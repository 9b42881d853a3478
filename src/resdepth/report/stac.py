"""A STAC item beside a refined DSM, with which catalogues list it: where, when, from what, which bands.

STAC 1.1 (stacspec.org) with the extensions projection, processing and classification; needs the extra `stac`.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac

from resdepth.geo.raster import described_bands, read_header, read_tags
from resdepth.geo.reprojected import outline_of
from resdepth.refinement.job import ERROR, JOB_TAG, SPREAD, Results
from resdepth.refinement.provenance import PROVENANCE_TITLES
from resdepth.runtime.atomic import write_text
from resdepth.stereo.ortho import read_acquisition
from resdepth.version import __version__

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
BAND_TITLES = {
    "height": "refined heights",
    SPREAD: "how far the results of several pairs differ",
    ERROR: "expected error: 68 % of the errors are smaller, 90 % smaller than twice as much",
    "provenance": "where each height comes from",
}
OUR_TAG = "RESDEPTH_"


def write_item(results: Results, made_from: Sequence[Path]) -> None:
    """Write the STAC item of a refined DSM; an earlier one is replaced.

    Its paths count from its own folder. When the images were taken is read from their metadata; where they do
    not state it, the item has the time of the result.

    Args:
        results: what refine has written.
        made_from: the images that were used.

    Raises:
        ResDepthError: if a raster cannot be read, or the item cannot be written.
    """
    item = _item_of(results, made_from)
    write_text(results.item, json.dumps(item.to_dict(include_self_link=False), indent=2) + "\n")


def _item_of(results: Results, made_from: Sequence[Path]) -> pystac.Item:
    grid = read_header(results.output).grid
    ring = outline_of(grid)
    lon, lat = zip(*ring, strict=True) if ring else ((), ())
    start, end, stated = _taken(made_from, results.output)
    item = pystac.Item(
        id=results.output.stem,
        geometry={"type": "Polygon", "coordinates": [ring]} if ring else None,
        bbox=[min(lon), min(lat), max(lon), max(lat)] if ring else None,
        datetime=start if start == end else None,
        start_datetime=None if start == end else start,
        end_datetime=None if start == end else end,
        properties={**stated, **_projection(grid), **_processing(results.output)},
        stac_extensions=list(EXTENSIONS),
    )
    item.assets = _assets(results)
    return item


def _taken(images: Sequence[Path], output: Path) -> tuple[datetime, datetime, dict[str, str]]:
    """When the first and the last image was taken; the time of the result if none states it."""
    made = datetime.fromtimestamp(output.stat().st_mtime, UTC).replace(microsecond=0)
    times = sorted(filter(None, map(_time_of, images)))
    stated = {"created": _as_text(made), "title": f"refined DSM {output.stem}"}
    if not times:
        stated["description"] = "The time is that of the refinement; the images do not state theirs."
        return made, made, stated
    return times[0], times[-1], stated


def _time_of(image: Path) -> datetime | None:
    try:
        found = datetime.fromisoformat(read_acquisition(image))
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)


def _as_text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _projection(grid: Any) -> dict[str, Any]:
    code = grid.crs_name if grid.crs_name.removeprefix("EPSG:").isdigit() else None
    named = {"proj:code": code} if code else {"proj:code": None, "proj:wkt2": grid.crs or None}
    return {
        **named,
        "proj:shape": [grid.height, grid.width],
        "proj:transform": list(grid.transform),
        "proj:bbox": list(grid.bounds),
        "gsd": round(grid.gsd_m, 4),
    }


def _processing(output: Path) -> dict[str, Any]:
    tags = read_tags(output)
    own = {
        f"resdepth:{name.removeprefix(OUR_TAG).lower()}": value
        for name, value in sorted(tags.items())
        if name.startswith(OUR_TAG)
    }
    images = own.get("resdepth:images") or "no images"
    lineage = f"{own['resdepth:dsm']}, refined by the model {own['resdepth:model']} with {images}"
    assert JOB_TAG in tags, "refine has written it"
    return {"processing:software": {"resdepth": __version__}, "processing:lineage": lineage, **own}


def _assets(results: Results) -> dict[str, pystac.Asset]:
    """The rasters, and what lies beside them by now."""
    found = {
        "dsm": _raster(results.output, "refined DSM", ["data"]),
        "provenance": _raster(results.provenance, "where each height comes from", ["metadata"]),
    }
    classes = [
        {"value": int(kind), "name": kind.name.lower(), "description": title}
        for kind, title in PROVENANCE_TITLES.items()
    ]
    found["provenance"].extra_fields["bands"][0]["classification:classes"] = classes
    for name, path, title, media_type, role in (
        ("page", results.report, "before and after, to look at", pystac.MediaType.HTML, "overview"),
        ("style", results.output.with_suffix(".qml"), "style for QGIS", "application/xml", "style"),
    ):
        if path.is_file():
            found[name] = pystac.Asset(_href(path), title=title, media_type=media_type, roles=[role])
    return found


def _raster(path: Path, title: str, roles: list[str]) -> pystac.Asset:
    bands = [
        {
            "name": band.name,
            "description": BAND_TITLES.get(band.name, band.name),
            "data_type": band.dtype,
            **({} if band.nodata is None else {"nodata": _json_number(band.nodata)}),
            **({"unit": band.unit} if band.unit else {}),
        }
        for band in described_bands(path)
    ]
    return pystac.Asset(
        _href(path), title=title, media_type=pystac.MediaType.COG, roles=roles, extra_fields={"bands": bands}
    )


def _json_number(value: float) -> float | int | str:
    """JSON has no NaN; STAC writes it as text."""
    if value != value:  # noqa: PLR0124 - NaN
        return "nan"
    return int(value) if float(value).is_integer() else value


def _href(path: Path) -> str:
    return f".{os.sep}{path.name}".replace(os.sep, "/")
