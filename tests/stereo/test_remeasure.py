"""A DSM measured again in raw images: heights, agreement, pairs, and where the DSM lies in the images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import raw_images_of
from resdepth.errors import ResDepthError
from resdepth.geo.raster import ArrayBand, FileBand
from resdepth.runtime.progress import Progress, progress_bar
from resdepth.stereo.ortho import RawImage
from resdepth.stereo.remeasure import (
    LAYERS,
    Around,
    Placement,
    chosen_pairs,
    height_offset,
    write_agreement,
    write_matched,
)


def around(scene: Path, name: str = "initial", up: float = 0.0) -> Around:
    dsm = FileBand(scene / "dsm" / f"{name}.tif")
    heights = dsm.read(dsm.grid.whole) + np.float32(up)
    images = [RawImage(image) for image in raw_images_of(scene)]
    return Around(images, ArrayBand(heights, dsm.grid), step_m=0.5, threads=0)


def reference_of(scene: Path) -> np.ndarray:
    band = FileBand(scene / "dsm" / "reference.tif")
    return band.read(band.grid.whole)


def advancing() -> Progress:
    with progress_bar("test", 1) as progress:
        return progress


def test_the_pair_of_one_date_is_chosen(raw_scene: Path) -> None:
    (pair,) = chosen_pairs(around(raw_scene))
    assert pair.numbers == (0, 1)
    assert pair.unit_m == pytest.approx(0.5 / pair.stereo.base_to_height)
    assert pair.stereo.agreement > 0.6


def test_pairs_that_are_asked_for_are_measured(raw_scene: Path) -> None:
    assert [pair.numbers for pair in chosen_pairs(around(raw_scene), [(2, 1), (1, 0)])] == [(0, 1), (1, 2)]
    with pytest.raises(ResDepthError, match="pairs: none of them"):
        chosen_pairs(around(raw_scene), [])


def test_heights_are_measured_better_than_they_were(raw_scene: Path, tmp_path: Path) -> None:
    """Around a DSM whose errors are half a metre and more."""
    rng = np.random.default_rng(0)
    here = around(raw_scene, "reference")
    reference = reference_of(raw_scene)
    rough = (reference + rng.normal(0, 1.5, reference.shape)).astype(np.float32)
    here = replace(here, dsm=ArrayBand(rough, here.dsm.grid))
    pair = chosen_pairs(here)[0]
    write_matched(here, pair, tmp_path / "matched.tif", advancing())
    matched = FileBand(tmp_path / "matched.tif", "stored")
    found = matched.read(matched.grid.whole)
    assert np.isfinite(found).mean() > 0.6
    assert np.nanmedian(np.abs(found - reference)) < 0.5 * np.median(np.abs(rough - reference))
    paths = [tmp_path / f"{layer}.tif" for layer in LAYERS[1:]]
    write_agreement(here, pair, matched, paths, advancing())
    initial, _, better, _ = (np.nanmean(FileBand(p, "stored").read(matched.grid.whole)) for p in paths)
    assert better > initial + 0.1


@pytest.mark.parametrize("up", [-45.0, 38.5])
def test_another_datum_is_found(up: float, raw_scene: Path) -> None:
    assert height_offset(around(raw_scene, "reference", up)) == pytest.approx(-up, abs=2.5)


def test_the_datum_of_the_images_needs_no_offset(raw_scene: Path) -> None:
    assert height_offset(around(raw_scene, "reference")) == 0.0


def test_heights_come_back_in_the_place_of_the_dsm(raw_scene: Path, tmp_path: Path) -> None:
    here = around(raw_scene, "reference", up=20.0)
    here = replace(here, placement=Placement(up_m=-20.0))
    pair = chosen_pairs(here)[0]
    write_matched(here, pair, tmp_path / "matched.tif", advancing())
    band = FileBand(tmp_path / "matched.tif", "stored")
    rise = band.read(band.grid.whole) - reference_of(raw_scene)
    assert np.nanmedian(rise) == pytest.approx(20.0, abs=0.5)


def test_a_dsm_without_heights_is_refused(raw_scene: Path) -> None:
    here = around(raw_scene)
    empty = ArrayBand(np.full(here.grid.whole.shape, np.nan, np.float32), here.grid)
    with pytest.raises(ResDepthError, match="holds no heights"):
        chosen_pairs(replace(here, dsm=empty))
