"""`resdepth prepare` with broken inputs: refused in words, with exit code 2, nothing left half done."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from conftest import raw_images_of, read_raster, write_raster
from resdepth.cli import main
from resdepth.geo.raster import FileBand


@dataclass(frozen=True)
class Given:
    """What is to be broken.

    Attributes:
        scene: a simulated suburb, the folder of its data.
        folder: for files that are broken.
    """

    scene: Path
    folder: Path

    @property
    def dsm(self) -> Path:
        """The initial DSM."""
        return self.scene / "dsm" / "initial.tif"

    @property
    def raw(self) -> list[Path]:
        """Raw images with RPCs."""
        return raw_images_of(self.scene)

    def raster(self, name: str, values: Any = None, **options: Any) -> Path:
        """A raster of a few pixels, or of given ones."""
        heights = np.ones((64, 64), np.float32) if values is None else values
        return write_raster(self.folder / f"{name}.tif", heights, **options)

    def bytes(self, name: str, content: bytes) -> Path:
        """A file with any content."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def with_rpc(self, change: Callable[[Any], None]) -> Path:
        """The second raw image with another RPC."""
        path = Path(shutil.copy(self.raw[1], self.folder / "changed.tif"))
        with rasterio.open(path, "r+") as dataset:
            rpcs = dataset.rpcs
            change(rpcs)
            dataset.rpcs = rpcs
        return path


Request = dict[str, Any]


def elsewhere(rpcs: Any) -> None:
    rpcs.long_off += 0.5


def wrong_sign(rpcs: Any) -> None:
    rpcs.lat_off = -rpcs.lat_off


def other_heights(rpcs: Any) -> None:
    rpcs.height_off += 5000


def an_empty_cloud(given: Given) -> Request:
    path = given.folder / "nothing.laz"
    laspy.create(point_format=3, file_version="1.2").write(path)
    return {"dsm": path, "dsm_crs": "EPSG:32632"}


def images_outside(given: Given) -> Request:
    with rasterio.open(given.dsm) as dataset:
        corner = dataset.transform.c + 9000, dataset.transform.f
    return {"dsm": given.raster("far", read_raster(given.dsm), origin=corner), "images": given.raw[:2]}


def an_unknown_unit(given: Given) -> Request:
    path = given.raster("unit")
    with rasterio.open(path, "r+") as dataset:
        dataset.units = ("smoot",)
    return {"dsm": path}


def in_centimetres(given: Given) -> Request:
    band = FileBand(given.scene / "dsm" / "reference.tif")
    heights, corner = 100 * band.read(band.grid.whole), band.grid.map_position(0, 0)
    return {"dsm": given.dsm, "reference": given.raster("cm", heights, nodata=np.nan, origin=corner)}


def a_run_without_its_dsm(given: Given) -> Request:
    (given.folder / "run").mkdir()
    (given.folder / "run" / "tiles.txt").write_text("")
    return {"source": given.folder / "run"}


NOT_THERE = "missing.tif: no such file"
CASES: dict[str, tuple[Callable[[Given], Request], str]] = {
    "nothing": (lambda _: {}, "give a DSM (--dsm), or more images"),
    "one image alone": (lambda given: {"images": given.raw[:1]}, "is matched from two raw images or more"),
    "missing DSM": (lambda given: {"dsm": given.folder / "missing.tif"}, f"dsm: {{folder}}/{NOT_THERE}"),
    "missing image": (
        lambda given: {"dsm": given.dsm, "images": [given.folder / "missing.tif"]},
        f"images[0]: {{folder}}/{NOT_THERE}",
    ),
    "missing reference": (
        lambda given: {"dsm": given.dsm, "reference": given.folder / "missing.tif"},
        f"reference: {{folder}}/{NOT_THERE}",
    ),
    "missing mask": (
        lambda given: {"dsm": given.dsm, "masks": {"building": given.folder / "missing.gpkg"}},
        "masks.building: {folder}/missing.gpkg: no such file",
    ),
    "missing quality layer": (
        lambda given: {"dsm": given.dsm, "layers": {"correlation": given.folder / "missing.tif"}},
        f"layers.correlation: {{folder}}/{NOT_THERE}",
    ),
    "an unknown key": (lambda given: {"dsm": given.dsm, "refrence": "lidar.tif"}, "refrence"),
    "a folder as DSM": (lambda given: {"dsm": given.folder}, "is a folder; name a file"),
    "text as DSM": (
        lambda given: {"dsm": given.bytes("text.tif", b"no raster")}, "cannot be read as a raster",
    ),
    "text as image": (
        lambda given: {"dsm": given.dsm, "images": [given.bytes("text.tif", b"no raster")]},
        "text.tif: this file cannot be read as a raster",
    ),
    "a DSM that breaks off": (
        lambda given: {"dsm": given.bytes("cut.tif", given.dsm.read_bytes()[:5000])}, "is the file complete?",
    ),
    "a URL": (lambda _: {"dsm": "https://somewhere/dsm.tif"}, "is a URL; download the file"),
    "an empty point cloud": (an_empty_cloud, "nothing.laz: has no points"),
    "a damaged point cloud": (
        lambda given: {"dsm": given.bytes("empty.las", b"LASF")}, "cannot be read as LAS or LAZ",
    ),
    "identical images": (
        lambda given: {"dsm": given.dsm, "images": [given.raw[0], given.raw[0]]},
        "ahead.tif: is given twice; heights need different views",
    ),
    "the DSM as reference": (
        lambda given: {"dsm": given.dsm, "reference": given.dsm}, "initial.tif: is named as dsm, too",
    ),
    "the DSM as image": (
        lambda given: {"dsm": given.dsm, "images": [given.dsm]}, "initial.tif: is named as dsm, too",
    ),
    "the reference as mask": (
        lambda given: {
            "dsm": given.dsm, "reference": (path := given.raster("lidar")), "masks": {"building": path}
        },
        "lidar.tif: is named as reference, too; give another file, or leave it out",
    ),
    "the DSM as quality layer": (
        lambda given: {"dsm": given.dsm, "layers": {"correlation": given.dsm}}, "is named as dsm, too",
    ),
    "no pixel size": (lambda given: {"dsm": given.dsm, "gsd_m": -1}, "gsd_m: found -1"),
    "an extent of NaN": (
        lambda given: {"dsm": given.dsm, "extent": [float("nan")] * 4}, "extent: NaN is not a number in JSON",
    ),
    "trust without layers": (
        lambda given: {"dsm": given.dsm, "trusted": {"correlation": None}},
        "trusted.correlation: the DSM has no such quality layer; there are: none",
    ),
    "a raw image as DSM": (
        lambda given: {"dsm": given.raw[0], "images": given.raw[1:3]}, "names no CRS; name it",
    ),
    "a raw image as reference": (
        lambda given: {"dsm": given.dsm, "reference": given.raw[0]}, "names no CRS; name it",
    ),
    "a folder that was prepared": (
        lambda given: {"source": given.scene.parent}, "no run of a known stereo pipeline",
    ),
    "no RPC": (
        lambda given: {"dsm": given.dsm, "images": [given.raster("bare", crs=None)]},
        "find the file with its RPC, and put it beside the image",
    ),
    "raw and ortho-images": (
        lambda given: {
            "dsm": given.dsm, "images": [given.raw[0], given.scene / "satellite_views" / "back.tif"]
        },
        "back.tif: has no RPC in or beside it, as others have",
    ),
    "an RPC of another scene": (
        lambda given: {"dsm": given.dsm, "images": [given.raw[0], given.with_rpc(elsewhere)]},
        "by RPC, the initial DSM is not seen in {folder}/changed.tif; is each RPC that of its image",
    ),
    "an RPC of the wrong sign": (
        lambda given: {"dsm": given.dsm, "images": [given.raw[0], given.with_rpc(wrong_sign)]},
        "by RPC, the initial DSM is not seen in {folder}/changed.tif",
    ),
    "an RPC of other heights": (
        lambda given: {"dsm": given.dsm, "images": [given.with_rpc(other_heights)]},
        "by RPC, the initial DSM is not seen in {folder}/changed.tif",
    ),
    "images outside the DSM": (images_outside, "back.tif; is each RPC that of its image"),
    "a DSM without CRS": (
        lambda given: {"dsm": given.raster("no_crs", crs=None)}, "names no CRS; name it (gdal_edit.py -a_srs",
    ),
    "an unknown CRS": (
        lambda given: {"dsm": given.dsm, "crs": "EPSG:999999"}, "'EPSG:999999' is no coordinate system",
    ),
    "a CRS in degrees": (
        lambda given: {"dsm": given.dsm, "crs": "EPSG:4326"}, "EPSG:4326 is not projected and in metres",
    ),
    "a geocentric CRS": (lambda given: {"dsm": given.raster("geocentric", crs="EPSG:4978")}, "is geocentric"),
    "a DSM of several bands": (
        lambda given: {"dsm": given.raster("bands", np.ones((2, 64, 64), np.float32))},
        "has 2 bands; a raster of heights has one",
    ),
    "nothing but voids": (
        lambda given: {"dsm": given.raster("voids", np.full((64, 64), np.nan, np.float32))},
        "it holds no heights in the area",
    ),
    "an unknown unit": (an_unknown_unit, "is 'smoot', which is no known unit of length"),
    "a reference elsewhere": (
        lambda given: {"dsm": given.dsm, "reference": given.raster("r", origin=(0.0, 0.0))},
        "r.tif: has fewer than 100 pixels in common with",
    ),
    "a reference in centimetres": (in_centimetres, "is the unit of both right (gdal_edit.py -units)"),
    "an unknown zero of heights": (
        lambda given: {"dsm": given.dsm, "dsm_vertical": "sea level"}, "'sea level' names no zero of heights",
    ),
    "no grid of EGM96": (
        lambda given: {"dsm": given.dsm, "dsm_vertical": "EGM96", "vertical": "ellipsoid"},
        "PROJ needs us_nga_egm96_15.tif, which is not here: pyproj sync --file us_nga_egm96_15; or install",
    ),
    "no grid of EGM2008": (
        lambda given: {"dsm": given.dsm, "dsm_vertical": "ellipsoid", "vertical": "EGM2008"},
        "PROJ needs us_nga_egm08_25.tif, which is not here: pyproj sync --file us_nga_egm08_25; or install",
    ),
    "an extent elsewhere": (
        lambda given: {"dsm": given.dsm, "extent": [0, 0, 10, 10]}, "extent: 0 0 10 10 lies outside of",
    ),
    "an extent turned round": (
        lambda given: {"dsm": given.dsm, "extent": [10, 10, 0, 0]}, "give xmin, ymin, xmax, ymax",
    ),
    "pixels too large": (
        lambda given: {"dsm": given.dsm, "gsd_m": 500}, "choose another pixel size (--gsd)",
    ),
    "ortho-images without a DSM": (
        lambda given: {
            "images": [given.scene / "satellite_views" / f"{name}.tif" for name in ("ahead", "back")]
        },
        "ortho-images cannot be matched; give a DSM",
    ),
    "a pipeline run without its DSM": (a_run_without_its_dsm, "run: "),
    "a folder of no pipeline": (
        lambda given: {"source": given.folder}, "no run of a known stereo pipeline. Looked for s2p",
    ),
    "a folder that is not there": (
        lambda given: {"source": given.folder / "nowhere"}, "nowhere: no such file",
    ),
    "a request that is no JSON": (
        lambda given: {"source": given.bytes("request.txt", b"dsm: a.tif")}, "not valid JSON",
    ),
    "a request that is a list": (
        lambda given: {"source": given.bytes("list.json", b"[1, 2]")}, "expected an object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_a_broken_input_is_refused_in_words_with_exit_code_2(
    what: str, raw_scene: Path, tmp_path: Path
) -> None:
    breaking, words = CASES[what]
    given, output = Given(raw_scene, tmp_path / "inputs"), tmp_path / "out"
    given.folder.mkdir()
    request = breaking(given)
    if (source := request.get("source")) is None:
        source = tmp_path / "request.json"
        source.write_text(json.dumps(request, default=str))
    before = {path: path.read_bytes() for path in given.folder.rglob("*") if path.is_file()}
    done = CliRunner().invoke(main, ["prepare", f"{source}", "-o", f"{output}", "--workers", "0"])
    assert done.exit_code == 2, f"{done.output}{done.exception!r}"
    assert isinstance(done.exception, SystemExit)
    stated = " ".join(done.stderr.split())
    assert words.replace("{folder}", str(given.folder)) in stated
    assert "Traceback" not in stated
    assert "Usage" not in stated
    assert not (output / "prepare.json").exists()
    assert before == {path: path.read_bytes() for path in before}, "inputs stay as they are"
