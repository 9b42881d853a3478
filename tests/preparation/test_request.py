"""What is asked of `prepare`, and what has been done already."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from conftest import write_raster
from resdepth.errors import InputProblems
from resdepth.preparation.pairs import View, as_csv, ranked, useful
from resdepth.preparation.request import requested
from resdepth.preparation.results import Journal, files_in


def test_options_win_over_a_file_and_paths_lead_from_it(tmp_path: Path) -> None:
    write_raster(tmp_path / "dsm.tif", np.ones((4, 4), np.float32))
    (tmp_path / "plan.json").write_text(json.dumps({"dsm": "dsm.tif", "gsd_m": 0.5, "coregister": "tilt"}))
    config = requested(tmp_path / "plan.json", {"gsd_m": 1.0, "images": (), "crs": None})
    assert config.dsm == str(tmp_path / "dsm.tif")
    assert (config.gsd_m, config.coregister) == (1.0, "tilt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "dsm: there is none"),
        ({"dsm": "missing.tif"}, "no such file"),
        ({"dsm": "dsm.tif", "gsd": 1}, "gsd"),
        ({"dsm": "dsm.tif", "gsd_m": -1}, "gsd_m"),
        ({"dsm": "dsm.tif", "coregister": "twist"}, "coregister"),
        ({"dsm": "dsm.tif", "images": ["dsm.tif", "dsm.tif"]}, "is given twice"),
        ({"dsm": "dsm.tif", "extent": [5, 5, 1, 1]}, "give xmin, ymin"),
        ({"dsm": "dsm.tif", "masks": {"building": "houses.gpkg"}}, "masks.building"),
        ({"dsm": "dsm.tif", "trusted": {"correlation": None}}, "no such quality layer; there are: none"),
        (
            {"dsm": "dsm.tif", "layers": {"ambiguity": "dsm.tif"}, "trusted": {"ambiguity": None}},
            r"trusted.ambiguity: .*state which are trusted: \[lowest, highest\]",
        ),
        (
            {"dsm": "dsm.tif", "layers": {"count": "dsm.tif"}, "trusted": {"count": [3, 2]}},
            r"trusted.count: found \[3, 2\]; give the lowest first",
        ),
        (
            {"dsm": "dsm.tif", "layers": {"count": "dsm.tif"}, "trusted": {"count": [None, None]}},
            r"trusted.count: found \[null, null\]",
        ),
        ({"dsm": "/vsicurl/http://somewhere/dsm.tif"}, "virtual path"),
    ],
)
def test_wrong_requests_are_refused(content: dict[str, object], message: str, tmp_path: Path) -> None:
    write_raster(tmp_path / "dsm.tif", np.ones((4, 4), np.float32))
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(InputProblems, match=message):
        requested(tmp_path / "plan.json", {})


@dataclass(frozen=True)
class Found:
    number: float
    places: tuple[tuple[float, float], ...]


def test_a_step_is_done_once_and_again_where_its_file_or_its_record_is_damaged(tmp_path: Path) -> None:
    made = Found(0.1 + 0.2, ((1.0, 2.0),))
    file = tmp_path / "step.tif"
    calls: list[int] = []

    def work() -> Found:
        calls.append(1)
        file.write_bytes(b"done")
        return made

    def once() -> Found:
        journal = Journal(tmp_path / "steps", tmp_path)
        result = journal.once("step", Found, work, [file])
        assert journal.files == ["step.tif"]
        return result

    assert once() == once() == made
    assert len(calls) == 1
    file.unlink()
    assert once() == made
    (tmp_path / "steps" / "step.json").write_text("{")
    assert once() == made
    assert len(calls) == 3
    assert files_in(tmp_path / "steps") == ["step.tif"]


def test_pairs_of_good_angle_and_alike_images_come_first(raw_scene: Path) -> None:
    from resdepth.geo.raster import FileBand

    names = ("ahead", "back", "later")
    bands = [FileBand(raw_scene / "satellite_views" / f"{name}.tif", "stored") for name in names]
    suns = ((150.0, 50.0), (150.0, 50.0), (210.0, 25.0))
    views = [
        View(name, band, band.geometry, 0.05, None, sun)
        for name, band, sun in zip(names, bands, suns, strict=True)
    ]
    pairs = ranked(views)
    assert (pairs[0].first, pairs[0].second) == (0, 1)  # of one date
    assert pairs[0].base_to_height == pytest.approx(np.tan(np.radians(14)) + np.tan(np.radians(10)), abs=0.02)
    assert pairs[0].intersection_deg == pytest.approx(24, abs=0.5)
    assert useful(pairs)[0] == (0, 1)
    table = as_csv(pairs, views).splitlines()
    assert table[0].startswith("rank,first,second,score,intersection_deg")
    assert table[1].startswith("1,ahead,back,")
    assert "good angle" in table[1]
    first, *others = csv.DictReader(table)
    assert (first["sun_azimuth_first_deg"], first["sun_elevation_second_deg"]) == ("150.000", "50.000")
    assert (first["days_apart"], first["sun_apart_deg"]) == ("", "0.000")
    assert "shadows" not in first["reasons"]
    assert all(47 < float(one["sun_apart_deg"]) < 56 for one in others)
    assert all("shadows fall differently" in one["reasons"] for one in others)
    unknown = [View(one.name, one.band, one.geometry) for one in views]
    assert next(csv.DictReader(as_csv(ranked(unknown), unknown).splitlines()))["sun_apart_deg"] == ""
