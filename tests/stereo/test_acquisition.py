"""When an image was taken and how the sun stood: files of sensors beside it, and tags of its own."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from conftest import write_raster
from resdepth.stereo.ortho import read_acquisition, read_sun

IMD = """version = "AA";
BEGIN_GROUP = IMAGE_1
\tsatId = "WV02";
\tfirstLineTime = 2011-10-01T10:20:30.123456Z;
\tmeanSunAz = 160.7;
\tmeanSunEl = 55.1;
END_GROUP = IMAGE_1
END;
"""
VALUES = """<Located_Geometric_Values><Solar_Incidences><SUN_AZIMUTH unit="deg">{azimuth}</SUN_AZIMUTH>
<SUN_ELEVATION unit="deg">{elevation}</SUN_ELEVATION></Solar_Incidences></Located_Geometric_Values>"""
DIMAP = """<?xml version="1.0"?><Dimap_Document>
<Metadata_Identification><METADATA_FORMAT version="2.0">DIMAP</METADATA_FORMAT></Metadata_Identification>
<Dataset_Sources><Source_Identification><Strip_Source><MISSION>PHR</MISSION><MISSION_INDEX>1A</MISSION_INDEX>
<IMAGING_DATE>2013-01-18</IMAGING_DATE><IMAGING_TIME>06:41:00.5</IMAGING_TIME></Strip_Source>
</Source_Identification></Dataset_Sources><Geometric_Data><Use_Area>{values}</Use_Area></Geometric_Data>
</Dimap_Document>"""


def image(path: Path, **tags: str) -> Path:
    write_raster(path, np.ones((20, 20), np.uint16), crs=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**tags)
    return path


def test_worldview_states_both_beside_the_image(tmp_path: Path) -> None:
    path = image(tmp_path / "wv.tif")
    (tmp_path / "wv.IMD").write_text(IMD)
    assert read_acquisition(path) == "2011-10-01 10:20:30"
    assert read_sun(path) == pytest.approx((160.7, 55.1))


def test_pleiades_states_both_beside_the_image_for_several_places(tmp_path: Path) -> None:
    path = image(tmp_path / "IMG_PHR1A_P_001_R1C1.TIF")
    values = [VALUES.format(azimuth=azimuth, elevation=61) for azimuth in (359.0, 0.5, 2.0)]
    (tmp_path / "DIM_PHR1A_P_001.XML").write_text(DIMAP.format(values="".join(values)))
    (tmp_path / "RPC_PHR1A_P_001.XML").write_text(
        "<Dimap_Document><Rational_Function_Model/></Dimap_Document>"
    )
    assert read_acquisition(path) == "2013-01-18 06:41:00"
    assert read_sun(path) == pytest.approx((0.5, 61.0))


def test_tags_of_the_image_serve_as_well(tmp_path: Path) -> None:
    path = image(tmp_path / "a.tif", ACQUISITION_DATE="2015-06-01", SUN_ELEVATION="44.5", Sun_Azimuth="133")
    assert read_acquisition(path) == "2015-06-01"
    assert read_sun(path) == (pytest.approx(133), pytest.approx(44.5))


@pytest.mark.parametrize(
    "tags", [{}, {"SUN_ELEVATION": "44"}, {"SUN_ELEVATION": "high", "SUN_AZIMUTH": "3"},
             {"SUN_ELEVATION": "nan", "SUN_AZIMUTH": "3"}]
)  # fmt: skip
def test_what_is_not_stated_is_not_known(tags: dict[str, str], tmp_path: Path) -> None:
    path = image(tmp_path / "a.tif", TIFFTAG_DATETIME="2024:01:01 00:00:00", **tags)
    assert read_acquisition(path) == ""
    assert read_sun(path) is None
