"""Folders of finished runs, as six stereo pipelines leave them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from conftest import write_raster
from resdepth.errors import InputProblems
from resdepth.preparation.adapters import EGM96, LAYERS, PIPELINES, recognise

HEIGHTS = np.full((8, 8), 30, np.float32)
GREY = np.full((8, 8), 300, np.uint16)
BYTES = np.full((8, 8), 200, np.uint8)


def touch(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def s2p(folder: Path) -> None:
    write_raster(folder / "out" / "dsm.tif", HEIGHTS)
    write_raster(folder / "out" / "confidence.tif", HEIGHTS)
    touch(folder / "out" / "tiles.txt")
    images = [{"img": str(write_raster(folder / f"img_0{one}.tif", GREY)), "rpc": {}} for one in (1, 2)]
    touch(folder / "out" / "config.json", json.dumps({"images": images}))


def ames(folder: Path) -> None:
    write_raster(folder / "out" / "run-DEM.tif", HEIGHTS, nodata=-1e6)
    write_raster(folder / "out" / "run-IntersectionErr.tif", np.stack([HEIGHTS] * 3))
    write_raster(folder / "out" / "run-VerticalStdDev.tif", HEIGHTS)
    write_raster(folder / "out" / "run-DRG.tif", GREY)
    write_raster(folder / "out" / "run-L.tif", GREY)


def ames_with_log(folder: Path) -> None:
    ames(folder)
    for name in ("left", "right"):
        write_raster(folder / f"{name}.tif", GREY)
    command = "/opt/asp/bin/stereo_parse left.tif right.tif left.xml right.xml out/run --threads 2"
    touch(folder / "out" / "run-log-stereo_parse-09-05-1154-67108.txt", f"ASP 3.3\n\n{command}\n")


def cars(folder: Path) -> None:
    for name, values in {"dsm": HEIGHTS, "image": GREY, "ambiguity": HEIGHTS, "performance_map": BYTES,
                         "filling": BYTES}.items():  # fmt: skip
        write_raster(folder / "out" / "dsm" / f"{name}.tif", values, nodata=-32768.0 if name == "dsm" else 0)
    write_raster(folder / "out" / "dump_dir" / "rasterization" / "dsm_std.tif", HEIGHTS, nodata=-32768.0)
    touch(folder / "out" / "dsm" / "index.yaml", "dsm: dsm.tif\nimage: image.tif\n")
    write_raster(folder / "data" / "img1.tif", GREY)
    touch(
        folder / "out" / "metadata.yaml",
        f"""\
input:
  sensors:
    one:
      image:
        main_file: {folder / "data" / "img1.tif"}
        bands:
          b0: {{path: {folder / "data" / "img1.tif"}, band: 0}}
output:
  geoid: true
""",
    )


def old_cars(folder: Path) -> None:
    write_raster(folder / "out" / "dsm.tif", HEIGHTS, nodata=-32768.0)
    write_raster(folder / "out" / "clr.tif", GREY)
    touch(folder / "out" / "content.json", json.dumps({"output": {"geoid": False}}))


def micmac(folder: Path) -> None:
    for step, zoom in ((7, 4), (8, 2), (9, 1)):
        write_raster(
            folder / "out" / "MEC-Malt" / f"Z_Num{step}_DeZoom{zoom}_STD-MALT.tif", HEIGHTS, crs=None
        )
    write_raster(folder / "out" / "MEC-Malt" / "Correl_STD-MALT_Num_8.tif", BYTES, crs=None)
    write_raster(folder / "out" / "MEC-Malt" / "AutoMask_STD-MALT_Num_8.tif", BYTES, crs=None)
    touch(
        folder / "out" / "MEC-Malt" / "Z_Num9_DeZoom1_STD-MALT.xml",
        "<FileOriMnt><OrigineAlti>120</OrigineAlti><ResolutionAlti>0.25</ResolutionAlti></FileOriMnt>",
    )
    for name in ("Ort_a.tif", "Ort_b.tif", "Orthophotomosaic.tif"):
        write_raster(folder / "out" / "Ortho-MEC-Malt" / name, BYTES, crs=None)


def odm(folder: Path) -> None:
    for name in ("dsm", "dtm", "dsm.euclideand", "dsm.original"):
        write_raster(folder / "out" / "odm_dem" / f"{name}.tif", HEIGHTS, nodata=-9999.0)
    write_raster(folder / "out" / "odm_orthophoto" / "odm_orthophoto.tif", np.stack([BYTES] * 3))


def metashape(folder: Path) -> None:
    touch(folder / "out" / "town.psx")
    write_raster(folder / "out" / "town_DEM.tif", HEIGHTS, nodata=-32767.0)
    write_raster(folder / "out" / "town_DTM.tif", HEIGHTS, nodata=-32767.0)
    write_raster(folder / "out" / "town_orthomosaic.tif", np.stack([BYTES] * 3))
    for name in ("IMG_1.tif", "IMG_2.tif"):
        write_raster(folder / "out" / "orthophotos" / name, np.stack([BYTES] * 3))


RUNS: dict[str, tuple[Callable[[Path], None], str, str, list[str], set[str], str]] = {
    "s2p": (s2p, "s2p", "dsm.tif", ["img_01.tif", "img_02.tif"], {"confidence"}, "ellipsoid"),
    "ames": (
        ames, "Ames Stereo Pipeline", "run-DEM.tif", ["run-DRG.tif"],
        {"triangulation_error", "vertical_error"}, "ellipsoid",
    ),
    "ames_with_log": (
        ames_with_log, "Ames Stereo Pipeline", "run-DEM.tif", ["left.tif", "right.tif"],
        {"triangulation_error", "vertical_error"}, "ellipsoid",
    ),
    "cars": (
        cars, "CARS", "dsm/dsm.tif", ["img1.tif"], {"ambiguity", "performance", "filling", "spread"}, EGM96
    ),
    "old_cars": (old_cars, "CARS", "dsm.tif", ["clr.tif"], set(), "ellipsoid"),
    "micmac": (
        micmac, "MicMac", "MEC-Malt/Z_Num9_DeZoom1_STD-MALT.tif", ["Ort_a.tif", "Ort_b.tif"],
        {"correlation", "valid"}, "",
    ),
    "odm": (odm, "OpenDroneMap", "odm_dem/dsm.tif", ["odm_orthophoto.tif"], {"distance"}, ""),
    "metashape": (metashape, "Agisoft Metashape", "town_DEM.tif", ["IMG_1.tif", "IMG_2.tif"], set(), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_run_is_known_by_its_folder(tmp_path: Path, name: str) -> None:
    make, software, dsm, images, layers, heights = RUNS[name]
    make(tmp_path)
    run = recognise(tmp_path / "out")
    assert run.software == software
    assert run.dsm == tmp_path / "out" / dsm
    assert [image.name for image in run.images] == images
    assert set(run.layers) == layers <= set(LAYERS)
    assert all(path.is_file() for path in run.layers.values())
    assert run.heights == heights
    assert run.are_raw == (name in {"s2p", "ames_with_log", "cars"})


def refusal(folder: Path) -> str:
    with pytest.raises(InputProblems) as refused:
        recognise(folder)
    return str(refused.value)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_without_its_dsm_is_refused_with_what_was_looked_for(tmp_path: Path, name: str) -> None:
    make, software, *_ = RUNS[name]
    make(tmp_path)
    dsms = PIPELINES[software].dsm_names
    for path in [path for pattern in dsms for path in (tmp_path / "out").glob(pattern)]:
        path.unlink(missing_ok=True)
    message = refusal(tmp_path / "out")
    assert f"looks like a run of {software}" in message
    assert dsms[0] in message
    assert "dsm=" in message


def test_several_dsms_are_listed(tmp_path: Path) -> None:
    ames(tmp_path)
    write_raster(tmp_path / "out" / "again-DEM.tif", HEIGHTS)
    assert (
        "2 files may be the DSM of this run of Ames Stereo Pipeline: again-DEM.tif, run-DEM.tif"
        in refusal(tmp_path / "out")
    )


def test_a_folder_of_no_pipeline_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    write_raster(tmp_path / "dsm_of_ours.tif", HEIGHTS)
    message = refusal(tmp_path)
    assert "no run of a known stereo pipeline. Looked for" in message
    assert all(name in message for name in PIPELINES)


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    odm(tmp_path)
    assert "these within it are: out" in refusal(tmp_path)


def test_runs_of_two_pipelines_in_one_folder_are_refused(tmp_path: Path) -> None:
    odm(tmp_path)
    s2p(tmp_path)
    assert "several pipelines: s2p (tiles.txt), OpenDroneMap (odm_dem/" in refusal(tmp_path / "out")


def test_a_folder_that_is_not_there_or_a_file_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nowhere")
    assert "is a file; name the output folder" in refusal(write_raster(tmp_path / "dsm.tif", HEIGHTS))


def test_a_dsm_that_is_no_raster_is_refused(tmp_path: Path) -> None:
    s2p(tmp_path)
    touch(tmp_path / "out" / "dsm.tif", "cut off")
    assert "the DSM of this run of s2p is unusable" in refusal(tmp_path / "out")


def test_the_header_decides_what_heights_count_from(tmp_path: Path) -> None:
    ames(tmp_path)
    write_raster(tmp_path / "out" / "run-DEM.tif", HEIGHTS, nodata=-9999.0, crs="EPSG:32632+5773")
    assert recognise(tmp_path / "out").heights == "EGM96 height"


def test_heights_of_micmac_are_scaled_as_its_file_says(tmp_path: Path) -> None:
    micmac(tmp_path)
    run = recognise(tmp_path / "out")
    assert run.scaling == (0.25, 120.0)
    assert any("states no CRS" in note for note in run.notes)
    touch(run.dsm.with_suffix(".xml"), "<FileOriMnt><OrigineAlti>high</OrigineAlti></FileOriMnt>")
    assert "OrigineAlti and ResolutionAlti cannot be read" in refusal(tmp_path / "out")


def test_a_dsm_of_micmac_in_tiles_is_to_be_put_together(tmp_path: Path) -> None:
    write_raster(tmp_path / "MEC-Malt" / "Z_Num8_DeZoom1_STD-MALT_Tile_0_0.tif", HEIGHTS, crs=None)
    assert "gdalbuildvrt Z_Num8_DeZoom1_STD-MALT.vrt" in refusal(tmp_path)


def test_images_that_a_run_names_but_are_gone_are_noted(tmp_path: Path) -> None:
    s2p(tmp_path)
    (tmp_path / "img_02.tif").unlink()
    run = recognise(tmp_path / "out")
    assert [image.name for image in run.images] == ["img_01.tif"]
    assert any("img_02.tif; name them (images=)" in note for note in run.notes)


def test_exports_of_metashape_are_known_by_their_tags(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dem.tif", HEIGHTS, nodata=-32767.0)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_SOFTWARE="Agisoft Metashape 2.1.3")
    assert recognise(tmp_path).software == "Agisoft Metashape"


def test_the_folder_of_the_dsm_of_cars_will_do(tmp_path: Path) -> None:
    cars(tmp_path)
    run = recognise(tmp_path / "out" / "dsm")
    assert run.dsm.name == "dsm.tif"
    assert "performance" in run.layers
    assert [image.name for image in run.images] == ["img1.tif"]


def test_a_three_band_triangulation_error_is_noted(tmp_path: Path) -> None:
    ames(tmp_path)
    assert any("3 bands" in note for note in recognise(tmp_path / "out").notes)
