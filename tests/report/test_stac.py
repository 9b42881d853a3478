"""STAC items beside refined DSMs: valid, true, and nobody else's file."""

import json
from pathlib import Path
from typing import Any

import pystac
import pytest
import rasterio
from click.testing import CliRunner, Result
from pystac.validation import JsonSchemaSTACValidator
from rasterio.warp import transform_bounds
from rio_cogeo.cogeo import cog_validate

from conftest import MadeScene, make_model, write_raster
from resdepth.cli import main
from resdepth.models.model import save_model


@pytest.fixture
def model(scene: MadeScene) -> Path:
    save_model(make_model(), scene.folder / "model.safetensors")
    return scene.folder / "model.safetensors"


def refined(scene: MadeScene, model: Path, *options: str, dsm: str = "initial.tif") -> Result:
    images = [scene.path(f"ortho{number}.tif") for number in (1, 2)]
    return CliRunner().invoke(main, ["refine", scene.path(dsm), *images, "-m", f"{model}", *options])


def item_of(scene: MadeScene) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((scene.folder / "initial_refined.stac.json").read_text())
    return content


def test_an_item_is_valid_and_says_where_from_what_and_which_bands(scene: MadeScene, model: Path) -> None:
    for number, time in ((1, "2021-05-02T10:00:00Z"), (2, "2021-05-02T12:01:00+02:00")):
        with rasterio.open(scene.path(f"ortho{number}.tif"), "r+") as image:
            image.update_tags(ns="IMAGERY", ACQUISITIONDATETIME=time)
    done = refined(scene, model, "--stac", "--report")
    assert done.exit_code == 0, done.output
    stored = item_of(scene)
    # The schemas of extensions would come over the network; that of an item is part of pystac.
    core = JsonSchemaSTACValidator().validate_core(stored, pystac.STACObjectType.ITEM, "1.1.0")
    assert core is not None
    item = pystac.Item.from_dict(stored)
    with rasterio.open(scene.folder / "initial_refined.tif") as raster:
        assert item.bbox == pytest.approx(transform_bounds(raster.crs, "EPSG:4326", *raster.bounds), abs=1e-6)
        assert item.properties["proj:code"] == "EPSG:32632"
        assert item.properties["proj:shape"] == list(raster.shape)
        assert item.properties["proj:transform"] == pytest.approx(list(raster.transform)[:6])
        assert [band["data_type"] for band in item.assets["dsm"].extra_fields["bands"]] == list(raster.dtypes)
    assert item.properties["start_datetime"] == "2021-05-02T10:00:00Z"
    assert item.properties["end_datetime"] == "2021-05-02T10:01:00Z"
    assert item.properties["processing:lineage"] == (
        "initial.tif, refined by the model model.safetensors with ortho1.tif, ortho2.tif"
    )
    assert {"dsm", "provenance", "page", "style"} == set(item.assets)
    for asset in item.assets.values():
        assert (scene.folder / asset.href).is_file()
    for name in ("dsm", "provenance"):
        path = scene.folder / item.assets[name].href
        assert item.assets[name].media_type == pystac.MediaType.COG
        assert cog_validate(path, strict=True, quiet=True)[0]
    classes = item.assets["provenance"].extra_fields["bands"][0]["classification:classes"]
    assert [one["name"] for one in classes] == ["void", "refined", "filled", "without_image"]


def test_without_dates_and_crs_the_item_is_still_valid(scene: MadeScene, model: Path) -> None:
    for name in ("initial", "ortho1", "ortho2"):
        with rasterio.open(scene.path(f"{name}.tif")) as raster:
            values = raster.read(1)
        write_raster(scene.folder / f"{name}.tif", values, crs=None)
    done = refined(scene, model, "--stac")
    assert done.exit_code == 0, done.output
    stored = item_of(scene)
    JsonSchemaSTACValidator().validate_core(stored, pystac.STACObjectType.ITEM, "1.1.0")
    assert stored["geometry"] is None
    assert "do not state theirs" in stored["properties"]["description"]
    assert stored["properties"]["datetime"] == stored["properties"]["created"]


def test_a_file_of_somebody_else_stays(scene: MadeScene, model: Path) -> None:
    other = scene.folder / "initial_refined.stac.json"
    other.write_text("{}")
    assert refined(scene, model, "--stac").exit_code == 2
    assert other.read_text() == "{}"
    assert not (scene.folder / "initial_refined.tif").exists()
    assert refined(scene, model).exit_code == 0  # nobody asks for an item
    assert other.read_text() == "{}"
    other.unlink()
    for options in (["--stac"], ["--stac"], ["--stac", "--overwrite"]):  # its own may be written again
        assert refined(scene, model, *options).exit_code == 0
    assert item_of(scene)["id"] == "initial_refined"
