"""GDAL's settings: those of the program around, unless the process is resdepth's own."""

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.env import get_gdal_config

from conftest import write_raster
from resdepth.geo.gdal import open_raster
from resdepth.geo.geotiff import Layer, write_block, write_cog
from resdepth.geo.grid import Grid
from resdepth.geo.windows import Window


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(("stated", "kept_mb"), [({}, (-30, 30)), ({"GDAL_CACHEMAX": "100"}, (60, 110))])
def test_in_a_process_of_ours_gdal_keeps_what_it_is_allowed_to_unless_the_user_states_how_much(
    tmp_path: Path, stated: dict[str, str], kept_mb: tuple[int, int]
) -> None:
    with rasterio.open(
        tmp_path / "sparse.tif", "w", driver="GTiff", height=4096, width=4096, count=1, dtype="float32",
        tiled=True, SPARSE_OK=True, transform=rasterio.Affine(0.5, 0, 465000, 0, -0.5, 5248000),
    ):  # fmt: skip
        pass
    script = f"""
import re
from pathlib import Path
from resdepth.geo.gdal import decoded_at_most, tune_process
from resdepth.geo.raster import FileBand
from resdepth.geo.windows import Window

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024

def read_all():
    for row in range(0, 4096, 256):
        band.read(Window(row, 0, 256, 4096))

tune_process()
band = FileBand(Path({str(tmp_path / "sparse.tif")!r}))
band.read(Window(0, 0, 256, 4096))
before = resident()
with decoded_at_most(2**20):
    read_all()
    print(resident() - before)
read_all()
print(resident() - before)
"""
    clean = {name: value for name, value in os.environ.items() if name != "GDAL_CACHEMAX"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean | stated, capture_output=True, text=True, check=True
    )
    little, much = map(float, done.stdout.split())
    assert kept_mb[0] <= little <= kept_mb[1]
    assert much > 45, "64 MB are read, and afterwards they may be kept"


IN_TURN = """
from rasterio.env import get_gdal_config
from resdepth.geo.gdal import decoded_at_most, tune_process

def kept():
    return get_gdal_config("GDAL_CACHEMAX")

def in_turn():
    first, second = decoded_at_most(2**24), decoded_at_most(2**24)
    seen = [kept()]
    for step in (first.__enter__, second.__enter__, first.__exit__, second.__exit__):
        step(*(() if "enter" in step.__name__ else (None, None, None)))
        seen.append(kept())
    return seen

own = in_turn()
assert len(set(own)) == 1, "the program decides"
tune_process()
assert in_turn() == [2**27, 2**24, 2**24, 2**24, 2**27]
"""


def test_two_that_refine_in_turn_leave_what_gdal_keeps_as_it_was() -> None:
    clean = {name: value for name, value in os.environ.items() if name != "GDAL_CACHEMAX"}
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN], env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_without_georeference_are_opened_in_silence_and_the_filters_stay(tmp_path: Path) -> None:
    path, before = tmp_path / "flat.tif", list(warnings.filters)
    options = {"driver": "GTiff", "height": 4, "width": 4, "count": 1, "dtype": "uint8"}
    open_raster(path, "w", **options).close()
    with open_raster(path) as dataset:
        assert dataset.shape == (4, 4)
    assert warnings.filters == before


def test_nobody_waits_while_a_raster_is_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, window, other = Grid(16, 16, (1, 0, 0, 0, -1, 0)), Window(0, 0, 16, 16), []
    block = tmp_path / "block.tif"
    write_block(block, grid, Layer(("height",)), [np.ones((16, 16))])

    def copies_for_long(_source: str, path: Path, **_: str) -> None:
        thread = threading.Thread(target=lambda: other.append(open_raster(block).shape))
        thread.start()
        thread.join(30)
        write_raster(path, np.ones((16, 16), np.float32))

    monkeypatch.setattr("rasterio.shutil.copy", copies_for_long)
    write_cog(tmp_path / "whole.tif", grid, Layer(("height",)), {window: block}, compression="none", tags={})
    assert other == [(16, 16)]


def test_what_is_set_for_gdal_while_a_raster_is_put_together_holds_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def copies(_source: str, path: Path, **_: str) -> None:
        seen["there"] = get_gdal_config("COG_TMP_COMPRESSION")
        write_raster(path, np.ones((16, 16), np.float32))
        asked = threading.Thread(target=lambda: seen.update(elsewhere=get_gdal_config("COG_TMP_COMPRESSION")))
        asked.start()
        asked.join()

    grid, block = Grid(16, 16, (1, 0, 465000, 0, -1, 5248000)), tmp_path / "block.tif"
    write_block(block, grid, Layer(("height",)), [np.ones((16, 16))])
    monkeypatch.setattr("rasterio.shutil.copy", copies)
    whole = {Window(0, 0, 16, 16): block}
    write_cog(tmp_path / "whole.tif", grid, Layer(("height",)), whole, compression="none", tags={})
    assert seen == {"there": "NONE", "elsewhere": None}
