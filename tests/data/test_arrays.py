"""Arrays get the checks that files get."""

from typing import Any

import numpy as np
import pytest

from resdepth import evaluate, refine
from resdepth.data.arrays import bands_of
from resdepth.errors import ResDepthError

HEIGHTS = np.random.default_rng(0).normal(400, 1, (32, 40)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "stated"),
    [
        (HEIGHTS[None], r"expected an array \(height, width\), found shape \(1, 32, 40\)"),
        (HEIGHTS[:, :9], r"shape \(32, 9\) differs from that of dsm, \(32, 40\)"),
        (HEIGHTS[:0], r"expected an array \(height, width\), found shape \(0, 40\)"),
        ([[1, 2], [3]], r"expected an array \(height, width\), found shape \(\)"),
        (None, r"expected an array \(height, width\), found shape \(\)"),
        (HEIGHTS.astype(object), "holds object values; integers or floats are expected"),
        (HEIGHTS.astype(complex), "holds complex128 values"),
        (HEIGHTS.astype("U9"), "holds <U9 values"),
        (HEIGHTS > 400, "holds bool values"),
        (HEIGHTS.astype("M8[s]"), "holds datetime64"),
    ],
)
def test_what_is_no_array_of_heights_is_refused(values: Any, stated: str) -> None:
    with pytest.raises(ResDepthError, match=f"^reference: {stated}"):
        bands_of({"dsm": HEIGHTS, "reference": values})


def test_all_wrong_arrays_are_named_at_once() -> None:
    with pytest.raises(ResDepthError, match=r"dsm: .*\nimages\[0\]: .*\nmasks\['water'\]: .*\ngsd: found 0"):
        bands_of({"dsm": HEIGHTS[0]}, [HEIGHTS[0]], {"water": HEIGHTS.astype(complex)}, gsd=0)


def test_refine_refuses_them_too() -> None:
    with pytest.raises(ResDepthError, match=r"dsm: holds object values"):
        refine(HEIGHTS.astype(object), [HEIGHTS, HEIGHTS])


def test_nodata_of_files_is_refused() -> None:
    with pytest.raises(ResDepthError, match=r"nodata: found -9999; it is for arrays; files declare it"):
        evaluate("a.tif", "b.tif", nodata=-9999)


def test_integers_have_voids_through_nodata() -> None:
    holes = HEIGHTS.astype(np.int16)
    holes[3, 4] = -9999
    band = bands_of({"dsm": holes}, [holes], nodata=-9999)
    assert np.isnan(band.heights["dsm"].read(band.grid.whole)).sum() == 1
    assert not np.isnan(band.images[0].read(band.grid.whole)).any()


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float64])
def test_masks_are_of_any_numbers_and_of_bool(kind: type) -> None:
    building = (HEIGHTS > 400).astype(kind)
    found = evaluate(HEIGHTS, HEIGHTS, masks={"building": building}).refined
    assert found["building"].count + found["terrain"].count == HEIGHTS.size


def test_an_array_that_marks_by_255_is_refused_as_a_file_is() -> None:
    with pytest.raises(
        ResDepthError, match=r"masks\['building'\]: the mask building has the values 255; 1 marks"
    ):
        evaluate(HEIGHTS, HEIGHTS, masks={"building": np.where(HEIGHTS > 400, 255, 0)})


def test_values_beside_0_and_1_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    evaluate(HEIGHTS, HEIGHTS, masks={"building": np.clip(HEIGHTS - 399, 0, 3).astype(np.uint8)})
    assert "the mask building has the values 2, 3 besides 0 and 1; only 1 marks" in caplog.text


@pytest.mark.parametrize(
    ("value", "left"), [(0, "buildings, within 2 m"), (1, "terrain"), (np.nan, "buildings")]
)
def test_a_mask_that_leaves_a_class_empty_is_reported(
    value: float, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate(HEIGHTS, HEIGHTS, masks={"building": np.full(HEIGHTS.shape, value)})
    assert f"masks['building']: no pixel belongs to {left}" in caplog.text
