"""Pages and pictures of scenes."""

import re
from pathlib import Path

import numpy as np

from conftest import write_raster
from resdepth.report.pictures import error_colours, hillshade
from resdepth.report.scene_page import PageContent, write_scene_page


def test_a_page_shows_surfaces_errors_and_images_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    rows, cols = np.indices((60, 80))
    truth = (rows * 0.1).astype(np.float32)
    truth[:5] = -9999
    paths = {
        "Truth": write_raster(tmp_path / "truth.tif", truth, nodata=-9999),
        "Initial DSM": write_raster(tmp_path / "initial.tif", truth + 1),
    }
    image = {"Image <1>": write_raster(tmp_path / "image.tif", (rows + cols).astype(np.uint16))}
    mask = {"Shadows": write_raster(tmp_path / "mask.tif", (rows > 30).astype(np.uint8))}
    content = PageContent(
        title="A & B", lead="Lead.", surfaces=paths, images=image, masks=mask,
        table=[["Pixels", "MAE"], ["all", "1.00"]], facts={"Seed": "1"},
    )  # fmt: skip
    page = tmp_path / "page.html"
    write_scene_page(page, content)
    text = page.read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in text
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert captions == ["Truth", "Initial DSM", "Initial DSM minus truth", "Image &lt;1&gt;", "Shadows"]
    assert text.count('src="data:image/png;base64,') == 5
    assert not re.search(r'(?:src|href)="(?!data:)', text)


def test_errors_are_red_above_the_truth_blue_below_and_grey_where_unknown() -> None:
    colours = error_colours(np.array([[-4.0, 0.0, 4.0, np.nan]], dtype=np.float32), 4.0)
    below, none, above, void = (tuple(int(v) for v in pixel) for pixel in colours[0])
    assert below[2] > below[0] + 50
    assert above[0] > above[2] + 50
    assert min(none) > 240
    assert void == (128, 128, 128)


def test_slopes_towards_the_north_west_are_brighter() -> None:
    rows, cols = np.indices((20, 20), dtype=np.float32)
    towards, away = hillshade(rows + cols, 1.0), hillshade(-rows - cols, 1.0)
    assert towards[10, 10] > 200
    assert away[10, 10] < 50
    np.testing.assert_array_equal(hillshade(np.full((3, 3), np.nan, dtype=np.float32), 1.0), 128)
