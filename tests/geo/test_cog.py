"""Blocks put together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from resdepth.errors import ResDepthError
from resdepth.geo.geotiff import Layer, write_block, write_cog
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window, blocks

GRID = Grid(700, 900, (0.5, 0, 465000, 0, -0.5, 5248000), rasterio.CRS.from_epsg(32632).to_wkt())
HEIGHTS = Layer(("height", "spread"), unit="metre")


def surface() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.normal(300, 20, (2, *GRID.whole.shape)).astype(np.float32)
    values[:, 100:200, 50:400] = np.nan
    return values


def parts_of(values: np.ndarray, folder: Path, layer: Layer, side: int = 256) -> dict[Window, Path]:
    folder.mkdir(exist_ok=True)
    parts = {}
    for window in blocks(GRID.whole, side):
        parts[window] = folder / f"a&b <{window.row}_{window.col}>.tif"
        write_block(parts[window], GRID.crop(window), layer, [band[window.slices] for band in values])
    return parts


def test_the_whole_is_what_its_blocks_are(tmp_path: Path) -> None:
    values = surface()
    parts = parts_of(values, tmp_path / "blocks", HEIGHTS)
    tags = {"RESDEPTH_DSM": 'a "name" & <more>'}
    write_cog(tmp_path / "x.tif", GRID, HEIGHTS, parts, compression="zstd", tags=tags)
    with rasterio.open(tmp_path / "x.tif") as found:
        np.testing.assert_array_equal(found.read(masked=True).filled(np.nan), values)
        assert found.tags()["RESDEPTH_DSM"] == tags["RESDEPTH_DSM"]
        assert found.descriptions == HEIGHTS.names
        assert found.overviews(1) == found.overviews(2) == [2]
        for band in (0, 1):
            stated = {name.lower(): float(value) for name, value in found.tags(band + 1).items()}
            assert stated["statistics_mean"] == pytest.approx(np.nanmean(values[band], dtype=float), abs=1e-4)
            assert stated["statistics_stddev"] == pytest.approx(
                np.nanstd(values[band], dtype=float), abs=1e-4
            )
            assert stated["statistics_minimum"] == pytest.approx(np.nanmin(values[band]))
            assert stated["statistics_maximum"] == pytest.approx(np.nanmax(values[band]))
            share = 100 * np.isfinite(values[band]).mean()
            assert stated["statistics_valid_percent"] == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("compression", ["zstd", "deflate", "lzw", "none"])
def test_the_whole_is_what_others_call_cloud_optimised(compression: Any, tmp_path: Path) -> None:
    parts = parts_of(surface(), tmp_path / "blocks", HEIGHTS)
    write_cog(tmp_path / "x.tif", GRID, HEIGHTS, parts, compression=compression, tags={})
    assert cog_validate(tmp_path / "x.tif", strict=True, quiet=True) == (True, [], [])


def test_the_order_of_the_blocks_does_not_change_a_byte(tmp_path: Path) -> None:
    values = surface()
    for number in (1, 2):
        parts = parts_of(values, tmp_path / "blocks", HEIGHTS)
        if number == 2:
            parts = dict(sorted(parts.items(), key=lambda part: part[0].col, reverse=True))
        write_cog(tmp_path / f"{number}.tif", GRID, HEIGHTS, parts, compression="deflate", tags={})
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "2.tif").read_bytes()


def test_a_raster_of_voids_has_no_statistics_and_takes_no_space(tmp_path: Path) -> None:
    values = np.full((2, *GRID.whole.shape), np.nan, np.float32)
    parts = parts_of(values, tmp_path / "blocks", HEIGHTS)
    assert max(path.stat().st_size for path in parts.values()) < 10_000
    write_cog(tmp_path / "x.tif", GRID, HEIGHTS, parts, compression="zstd", tags={})
    with rasterio.open(tmp_path / "x.tif") as found:
        assert found.read(masked=True).mask.all()
        assert "STATISTICS_MEAN" not in found.tags(1)


def test_codes_are_not_averaged(tmp_path: Path) -> None:
    layer = Layer(("provenance",), dtype="uint8", nodata=0, overviews="nearest")
    codes = np.random.default_rng(0).choice([1, 3], (1, *GRID.whole.shape)).astype(np.uint8)
    parts = parts_of(codes, tmp_path / "blocks", layer)
    write_cog(tmp_path / "x.tif", GRID, layer, parts, compression="zstd", tags={})
    with rasterio.open(tmp_path / "x.tif", overview_level=0) as found:
        assert set(np.unique(found.read(1))) == {1, 3}


def test_a_block_that_is_gone_or_broken_is_stated(tmp_path: Path) -> None:
    parts = parts_of(surface(), tmp_path / "blocks", HEIGHTS)
    path = next(iter(parts.values()))
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], None):
        path.unlink()
        if broken is not None:
            path.write_bytes(broken)
        with pytest.raises(ResDepthError, match=r"x\.tif: cannot be written"):
            write_cog(tmp_path / "x.tif", GRID, HEIGHTS, parts, compression="zstd", tags={})
        assert not (tmp_path / "x.tif").exists()


def test_a_small_block_takes_little_more_space_than_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "block.tif"
    write_block(path, GRID.crop(Window(0, 0, 64, 40)), HEIGHTS, [np.ones((64, 40), np.float32)] * 2)
    assert path.stat().st_size < 2 * 4 * 64 * 48 + 4096
