"""The page that people look at: what it holds, how large it is, what it makes of odd surfaces."""

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pages import TITLES, grid_of, made_content, made_surfaces, reader, written
from resdepth.geo.crs import find_crs
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window
from resdepth.report.page import LARGEST_BYTES, PageContent, today, within_a_sentence
from resdepth.report.page_pixels import (
    HEIGHT_STEP_M,
    OVERVIEW_PX,
    find_places,
    packed_bytes,
    packed_heights,
    stretched,
)
from resdepth.report.page_tables import Table, class_table, marked


def described(page: Path) -> dict:
    """What the scripts of a page are stated."""
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page.read_text())
    return json.loads(found[1])


def sections(page: Path) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page.read_text())


def unpacked_heights(text: str, shape: tuple[int, int]) -> np.ndarray:
    """As pixels.js does it."""
    raw, n = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8), shape[0] * shape[1]
    folded = sum(raw[k * n : (k + 1) * n].astype(np.int64) << (8 * k) for k in range(3))
    heights = np.cumsum((folded >> 1) ^ -(folded & 1)) * HEIGHT_STEP_M
    heights[np.unpackbits(raw[3 * n :])[:n] == 1] = np.nan
    return heights.reshape(shape)


# --- what a page holds


def test_a_page_shows_everything_in_the_order_of_reading(tmp_path: Path) -> None:
    page = written(tmp_path, made_content())
    text = page.read_text(encoding="utf-8")
    assert sections(page) == [
        "swipe", "errors", "distribution", "classes", "profile", "relief", "places", "images", "provenance",
    ]  # fmt: skip
    assert (
        text.index("<h1>Surfaces &amp; a reference</h1>")
        < text.index("<td>0.48</td>")
        < text.index('id="swipe"')
    )
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert captions == [
        "Initial DSM minus reference DSM", "Refined DSM minus reference DSM", "Initial DSM", "Refined DSM",
        "Reference DSM", "Ortho-image 1", "Buildings",
    ]  # fmt: skip
    assert "<dt>Model</dt><dd>town-stereo</dd>" in text


def test_the_verdict_and_the_place_stand_first_with_all_metrics_to_save(tmp_path: Path) -> None:
    content = made_content()
    text = written(tmp_path, content).read_text(encoding="utf-8")
    assert content.verdict is not None
    head = text[text.index("<h1>") : text.index('<main id="main">')]
    for stated in ("2026-03-01", "EPSG:32632", "pixels of 0.5 m", "200 x 240 px, 0.012 km²"):
        assert f"<li>{stated}</li>" in head
    assert '<div class="verdict is-better"' in head
    assert "<strong>Better:</strong> Refined DSM is better than the initial DSM: its MAE is 0.0" in head
    saved = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]+)" download="evaluation.csv"', head)
    assert saved is not None
    assert base64.b64decode(saved[1]).decode() == content.csv
    assert content.csv.startswith("surface,class,")


def test_without_an_evaluation_there_is_no_verdict(tmp_path: Path) -> None:
    text = written(tmp_path, made_content(verdict=None, csv="", outcome=None, tables=[])).read_text()
    assert 'class="verdict' not in text
    assert "download=" not in text


def test_the_best_of_each_column_is_bold(tmp_path: Path) -> None:
    rows = [
        ["surface", "MAE [m]", "bias [m]", "within 1 m", "better", "worse", "n"],
        ["initial", "0.50 ±0.01", "-0.20", "80.0 %", "0.0 %", "0.0 %", "9"],
        ["a", "0.40 ±0.01", "+0.30", "85.0 %", "20.0 %", "5.0 %", "9"],
        ["b", "0.40 ±0.02", "+0.10", "--", "10.0 %", "4.0 %", "9"],
    ]
    table = marked(Table("All pixels", rows), initial="initial")
    bold = {rows[row][column] for row, column in table.best}
    assert bold == {"0.40 ±0.01", "0.40 ±0.02", "+0.10", "85.0 %", "20.0 %", "4.0 %"}
    text = written(tmp_path, made_content(tables=[table])).read_text(encoding="utf-8")
    shown = re.sub(r"</?small>", "", text)
    assert set(re.findall(r"<strong>([^<:]+)</strong></td>", shown)) == bold
    assert marked(Table("One", rows[:2])).best == frozenset(), "one alone is not the best"


def test_classes_have_the_surfaces_side_by_side(tmp_path: Path) -> None:
    outcome = made_content().outcome
    assert outcome is not None
    found = class_table(outcome)
    assert found.surfaces == ["Initial DSM", "Refined DSM"]
    assert [title for title, _ in found.classes] == list(TITLES.values())
    assert next(iter(found.metrics)) == "MAE"
    assert found.best["MAE"] == {(0, 1), (1, 1), (2, 1)}
    text = written(tmp_path, made_content(tables=[found])).read_text(encoding="utf-8")
    initial, refined = found.metrics["MAE"][1]
    shown = re.sub(r"</?small>", "", text)
    assert f'<th scope="row">buildings</th><td>{initial}</td><td><strong>{refined}</strong></td>' in shown
    assert text.count("<tbody") == len(found.metrics)


def test_the_day_is_that_of_the_build_where_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert today() == "1970-01-02"


def test_a_page_needs_nothing_beside_it(tmp_path: Path) -> None:
    text = written(tmp_path, made_content()).read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert not re.search(r"@import|url\(", text.split("</style>")[0])
    assert "default-src 'none'" in text


def test_without_a_reference_a_page_shows_what_changed(tmp_path: Path) -> None:
    content = made_content()
    surfaces = {name: content.surfaces[name] for name in ("Initial DSM", "Refined DSM")}
    page = written(
        tmp_path,
        made_content(
            surfaces=surfaces,
            reference="Initial DSM",
            difference="change",
            outcome=None,
            images={},
            masks={},
        ),
    )
    assert sections(page) == ["swipe", "errors", "profile", "relief", "places", "provenance"]
    assert "What changed</h2>" in page.read_text()
    assert "Refined DSM minus initial DSM" in page.read_text()
    assert [view["name"] for view in described(page)["views"]][1] == "Changed most"


def test_figures_alone_make_a_page_without_maps(tmp_path: Path) -> None:
    outcome = made_content().outcome
    tables = [Table("Runs", [["run", "MAE [m]"], ["a", "0.50"]])]
    page = written(tmp_path, PageContent("Compared", "Runs.", outcome=outcome, tables=tables))
    assert sections(page) == ["distribution", "classes"]
    bare = written(tmp_path, PageContent("Compared", "Runs.", tables=tables))
    assert sections(bare) == []
    assert bare.stat().st_size < 100_000


def test_charts_have_figures_intervals_and_curves_of_every_class(tmp_path: Path) -> None:
    evaluated = described(written(tmp_path, made_content()))["evaluated"]
    assert [one["name"] for one in evaluated["figures"]] == ["MAE", "RMSE", "MedAE", "NMAD", "LE90", "bias"]
    assert [one["title"] for one in evaluated["classes"]][:2] == ["all pixels", "buildings"]
    found = evaluated["surfaces"][0]["classes"]["overall"]
    assert found["intervals"]["mae"][0] < found["figures"]["mae"] < found["intervals"]["mae"][1]
    assert len(found["edges"]) == len(found["counts"]) + 1
    assert found["shares"] == sorted(found["shares"])


NASTY = "</script><img src=x onerror=alert(1)>"


def test_names_and_texts_are_never_markup(tmp_path: Path) -> None:
    content = made_content()
    surfaces = {NASTY: content.surfaces["Initial DSM"], "Reference DSM": content.surfaces["Reference DSM"]}
    page = written(
        tmp_path,
        made_content(
            title=NASTY, lead=NASTY, surfaces=surfaces, images={f"a{NASTY}": content.images["Ortho-image 1"]},
            masks={f"b{NASTY}": content.masks["Buildings"]}, tables=[Table(NASTY, [[NASTY], [NASTY]], NASTY)],
            facts={NASTY: NASTY}, outcome=None,
        ),
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text
    assert text.count("</script>") == text.count("<script")
    assert described(page)["layers"][0]["name"] == NASTY


def test_columns_of_words_start_at_the_left(tmp_path: Path) -> None:
    rows = [
        ["pixels", "surface", "MAE [m]", "coverage"],
        ["all", "a", "0.50 ±0.02", "--"],
        ["all", "2", "-1", ""],
    ]
    text = written(tmp_path, made_content(tables=[Table("By class", rows)])).read_text()
    assert '<th scope="col" class="words">surface</th><th scope="col">MAE [m]</th>' in text
    assert '<td class="words">a</td><td>0.50<small> ±0.02</small></td><td>--</td>' in text


def test_names_of_our_own_are_small_within_a_sentence() -> None:
    names = ("Reference DSM", "Initial DSM", "MicMac", "DSM", "References")
    assert [within_a_sentence(name) for name in names] == [
        "reference DSM", "initial DSM", "MicMac", "DSM", "References",
    ]  # fmt: skip


def test_pixels_need_surfaces_and_a_grid(tmp_path: Path) -> None:
    content = made_content()
    for wrong in ({"reference": "Lidar"}, {"grid": None}, {"surfaces": {}, "reference": None}):
        with pytest.raises(ValueError, match=r"surfaces|Lidar"):
            written(tmp_path, made_content(**wrong))
    with pytest.raises(ValueError, match="neither"):
        written(tmp_path, PageContent("Images", "", images=content.images))
    assert list(tmp_path.iterdir()) == []


# --- pixels


@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-39_000, 39_000, width=32) | st.just(float("nan")),
    )
)  # fmt: skip
def test_heights_come_back_to_the_centimetre_and_voids_as_voids(heights: np.ndarray) -> None:
    back = unpacked_heights(packed_heights(heights), heights.shape)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(heights))
    np.testing.assert_allclose(back, heights, atol=HEIGHT_STEP_M / 2 + 1e-6)


def test_heights_beyond_all_bounds_are_cut_off() -> None:
    heights = np.array([[1e30, -1e30, np.inf, 12.0]], dtype=np.float32)
    back = unpacked_heights(packed_heights(heights), heights.shape)
    np.testing.assert_allclose(back, [[40_000, -40_000, np.nan, 12]])


def test_grey_values_keep_their_order_and_voids_are_zero() -> None:
    grey = stretched(np.array([[np.nan, 0, 10, 20, 1e9]], dtype=np.float32), 0, 20, 0.65)
    assert grey[0].tolist()[0] == 0
    assert grey[0].tolist()[1] == 1
    assert grey[0].tolist()[3:] == [255, 255]
    raw = np.frombuffer(zlib.decompress(base64.b64decode(packed_bytes(grey))), np.uint8)
    np.testing.assert_array_equal(np.cumsum(raw, dtype=np.uint8), grey[0])


def test_the_page_holds_the_heights_of_the_surfaces(tmp_path: Path) -> None:
    page = written(tmp_path, made_content())
    view = described(page)["views"][0]
    blob = re.search(rf'id="{view["blobs"][2]}">(.*?)</script>', page.read_text())
    back = unpacked_heights(blob[1], (view["height"], view["width"]))
    np.testing.assert_allclose(back, made_surfaces()["Reference DSM"], atol=0.0051)


def test_eight_surfaces_of_400_megapixels_stay_below_15_megabytes(tmp_path: Path) -> None:
    grid, asked = grid_of(20_000, 20_000), []

    def noise(there: Grid) -> np.ndarray:  # what cannot be compressed
        asked.append(there.height * there.width)
        return np.random.default_rng(len(asked)).uniform(0, 80_000, (there.height, there.width)).astype("f4")

    names = [f"Surface {number}" for number in range(7)]
    surfaces = dict.fromkeys([*names, "Reference DSM"], noise)
    content = made_content(grid=grid, surfaces=surfaces, images={"Image": noise}, masks={}, outcome=None)
    page = written(tmp_path, content)
    assert 0.6 * LARGEST_BYTES < page.stat().st_size <= LARGEST_BYTES
    assert max(asked) <= OVERVIEW_PX**2
    views = described(page)["views"]
    assert len(views) == 6
    assert views[1]["pixel_m"] == [0.5, 0.5]


def test_small_rasters_hold_each_pixel_once(tmp_path: Path) -> None:
    views = described(written(tmp_path, made_content()))["views"]
    assert "blobs" in views[0]
    assert len(views) > 3
    assert all(view["part_of_whole"] for view in views[1:])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2)])
@pytest.mark.parametrize("kind", ["void", "constant", "partly"])
def test_odd_surfaces_have_a_page(shape: tuple[int, int], kind: str, tmp_path: Path) -> None:
    grid = grid_of(*shape)
    odd = np.full(shape, 5 if kind == "constant" else np.nan, dtype=np.float32)
    if kind == "partly":
        odd.flat[0] = 7
    flat = np.full(shape, 5, dtype=np.float32)
    content = made_content(
        grid=grid, surfaces={"Initial DSM": reader(odd, grid), "Reference DSM": reader(flat, grid)},
        images={"Image": reader(odd, grid)}, masks={"Mask": reader(odd, grid)}, outcome=None,
    )  # fmt: skip
    view = described(written(tmp_path, content))["views"][0]
    assert (view["height"], view["width"]) == shape


# --- places and grids


def test_places_show_the_worst_the_most_improved_and_the_typical() -> None:
    before, after = np.full((100, 100), 1.0, np.float32), np.full((100, 100), 0.5, np.float32)
    after[80:, :20] = -6  # large errors
    before[80:, 80:] = 9  # that are gone
    before[:20, :20] = 0  # none before
    found = {place.name: place for place in find_places((2000, 2000), 400, before, after, changes=False)}
    assert list(found) == ["Largest errors", "Most improved", "Got worse", "Typical", "Smallest errors"]
    assert found["Largest errors"].window == Window(1600, 0, 400, 400)
    assert found["Most improved"].window == Window(1600, 1600, 400, 400)
    assert found["Got worse"].window == Window(0, 0, 400, 400)
    assert "from 9.00\N{NO-BREAK SPACE}m to 0.50\N{NO-BREAK SPACE}m" in found["Most improved"].why


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 700), st.booleans(), st.booleans())
def test_places_are_different_and_lie_inside(
    height: int, width: int, side: int, void: bool, changes: bool
) -> None:
    overview = np.full((min(height, 30), min(width, 30)), np.nan if void else 1, dtype=np.float32)
    found = find_places((height, width), side, None, overview, changes=changes)
    assert len({place.window for place in found}) == len(found) > 0
    assert all(Window(0, 0, height, width).contains(place.window) for place in found)


def test_tiles_that_are_given_are_shown(tmp_path: Path) -> None:
    tiles = [Window(0, 0, 50, 60), Window(100, 120, 40, 40)]
    views = described(written(tmp_path, made_content(tiles=tiles)))["views"]
    assert [view["name"] for view in views] == ["Whole area", "Tile 1", "Tile 2"]
    assert views[2]["window"] == [100, 120, 40, 40]


@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(1, 900))
def test_a_coarser_grid_covers_the_same_area(height: int, width: int, side: int) -> None:
    grid = grid_of(height, width)
    coarse = grid.coarser(side)
    assert max(coarse.height, coarse.width) <= max(side, 1)
    np.testing.assert_allclose(coarse.bounds, grid.bounds, rtol=1e-12)


def test_pixels_are_measured_in_metres_whatever_the_unit() -> None:
    wkt, name = find_crs("EPSG:4326")
    degrees = Grid(10, 10, (1e-5, 0, 8, 0, -1e-5, 60), wkt, name)
    np.testing.assert_allclose(degrees.sides_m, (1.1141, 0.5580), rtol=1e-3)
    wkt, name = find_crs("EPSG:2263")  # US survey feet
    np.testing.assert_allclose(Grid(2, 2, (2, 0, 1e6, 0, -2, 2e5), wkt, name).sides_m, 0.6096, rtol=1e-4)
    assert Grid(2, 2, (3, 0, 0, 0, -3, 0)).sides_m == (3, 3)
