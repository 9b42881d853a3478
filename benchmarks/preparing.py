"""From raw images to a refined DSM with three commands, on real data, and what co-registration finds again.

    python benchmarks/preparing.py ../shared/data

The folder holds stereo/reunion (a raw Pleiades pair and s2p's DSM), aligned/reunion (ortho-images of it),
stereo/gizeh and stereo/kahramanmaras (raw pairs), and truth/ (lidar DSMs). Writes docs/preparing.md.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS

import resdepth
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.raster import FileBand
from resdepth.geo.reprojected import MapBand
from resdepth.geo.windows import Window
from resdepth.preparation.coregister import Motion, SurfaceFile, coregistration
from resdepth.simulate.simulation import simulate
from resdepth.stereo.ortho import DescribedImage, RawImage
from resdepth.stereo.remeasure import Placement, projected
from resdepth.workflows.prepare import Prepared, prepare

Array = NDArray[np.float32]

SIDE_PX, LEAST_RESPONSE = 128, 0.1
SHIFT, TILT = (3.12, 2.41, -3.27), 1e-3
OTHER_ZERO_M = 45.0
"""About as far as the geoid lies from the ellipsoid at the Rhine."""
RAISED_M, CROP_PX = 10.0, 300
CHANGES = (
    ("moved", SHIFT, 0.0),
    ("moved and tilted", SHIFT, TILT),
    ("other zero", (0, 0, OTHER_ZERO_M), 0.0),
)
PAGE = """# From raw images to a refined DSM, measured

Three commands: `resdepth prepare`, `resdepth refine`, `resdepth evaluate`; nothing is edited between them.
The data are real Pleiades pairs, as they are delivered.

## Do the images lie over each other?

How far things lie beside each other in both ortho-images. Before: by tie points between images rectified with
the RPCs as they came. After: by phase correlation of windows of {side} pixels, the median over all of them.

{registration}

`--rpc-bias auto` decides by what is missing at tie points that a term was not fitted to, the median; affine
terms are taken where they leave at least a tenth less:

{terms}

The ortho-images of aligned/reunion were rectified without looking at the bias between the RPCs: prepare
distributes it over both images.

## What comes out

{results}

Against the DSM that s2p makes of the pair (a pseudo-reference), on the pixels that it knows. The initial DSM
is that of our own matcher, as `prepare` makes it where none is given, its voids filled.

## View geometry

By how much do the ortho-images move against each other if the DSM is {raised:g} m too high? Measured by phase
correlation: {measured}; by the view geometry in their tags: {stated}.

## Is a shift found again?

The reference DSM is a copy of a lidar DSM, moved by {east} m east, {north} m north and {up} m up;
or this, and tilted by 1 mm for each metre to the east; or only moved up by {zero:g} m, as if heights counted
from the ellipsoid. The initial DSM is matched from simulated images of the lidar DSM. Found minus done, less
what is found against the lidar DSM itself (for the tilt its error from the middle of the area to its edge):

{recovery}

## Is a tilt taken out as well as xDEM does it?

The initial DSM is a part of each lidar DSM, {crop} x {crop} pixels, blurred and with noise of 0.4 m; the
reference DSM is a copy moved as above, and tilted by {tilt:g} mm/m. `--coregister tilt` beside Nuth and Kääb
with `Deramp` in xDEM. The plane that is left is that through the medians of 4 x 4 cells of the differences,
from the middle of the area to a corner:

{beside}

## Size

10,000 x 10,000 pixels of 0.1 m, with a reference DSM and four raw images of 0.5 m: 151 s on two cores (230 s
of processors), and 1.0 GB of memory. It is made block by block.
`python benchmarks/preparing_size.py` measures this.

## How it was made

`make real DATA=folder` writes this page.
"""


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    data: Path = parser.parse_args().data
    logging.basicConfig(level=logging.WARNING)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as work:
        page = measured(data, Path(work))
    (Path(__file__).parents[1] / "docs" / "preparing.md").write_text(page, encoding="utf-8")


def measured(data: Path, work: Path) -> str:
    """The page."""
    reunion = [data / "stereo" / "reunion" / f"img_0{number}.tif" for number in (1, 2)]
    with_s2p = _timed(work / "s2p", reunion, data / "stereo" / "reunion" / "dsm_s2p.tif")
    matched = _timed(work / "matched", reunion, None)
    rows = [
        _registration("Réunion, DSM of s2p", with_s2p, data / "aligned" / "reunion"),
        _registration("Réunion, matched", matched, data / "aligned" / "reunion"),
    ]
    terms = [_term(row[0], one[0]) for row, one in zip(rows, (with_s2p, matched), strict=True)]
    for name, title in (("gizeh", "Gizeh, matched"), ("kahramanmaras", "Kahramanmaraş, matched")):
        images = sorted((data / "stereo" / name).glob("*img*.tif"))
        made = _timed(work / name, images, None)
        rows.append(_registration(title, made, None))
        terms.append(_term(title, made[0]))
    head = ["data", "processor seconds", "before [px]", "after [px]", "to the given ones [px]"]
    found, stated = _wrong_heights(with_s2p[0])
    return PAGE.format(
        side=SIDE_PX, raised=RAISED_M, east=SHIFT[0], north=SHIFT[1], up=SHIFT[2], zero=OTHER_ZERO_M,
        registration=_table(head, rows),
        terms=_table(["data", "taken out", "left by shifts [m]", "left by affine terms [m]"], terms),
        results=_results(data, matched[0], work),
        recovery=_recovery(data, work), beside=_beside_xdem(data, work), crop=CROP_PX, tilt=1e3 * TILT,
        measured=_vector(found), stated=_vector(stated),
    )  # fmt: skip


def _timed(folder: Path, images: Sequence[Path], dsm: Path | None) -> tuple[Prepared, float]:
    began = time.process_time()
    return prepare(folder, images=images, dsm=dsm), time.process_time() - began


def _term(title: str, made: Prepared) -> list[str]:
    """A row: what was taken out of the RPCs, and what either term leaves."""
    ties = made.record["tie_points"]
    return [title, ties["term"], *(f"{ties['left_out_m'][term]:.3f}" for term in ("shift", "affine"))]


def _registration(title: str, made: tuple[Prepared, float], given: Path | None) -> list[str]:
    """A row: how far the ortho-images lie apart, before and after, and from others."""
    prepared, seconds = made
    first, second = (_pixels(prepared, view["name"]) for view in prepared.record["views"])
    apart = [prepared.record["tie_points"]["before"][0][key] for key in ("east_m", "north_m")]
    before = float(np.hypot(*apart)) / prepared.record["grid"]["gsd_m"]
    others = ""
    if given is not None:
        grid = FileBand(prepared.dsm).grid.flat
        bands = [MapBand(given / f"ortho{number}.tif", "stored").on(grid) for number in (1, 2)]
        others = ", ".join(
            f"{np.hypot(*_shift(a, b)):.2f}" for a, b in zip((first, second), bands, strict=True)
        )
    return [title, f"{seconds:.0f}", f"{before:.2f}", f"{np.hypot(*_shift(first, second)):.2f}", others]


def _pixels(prepared: Prepared, name: str) -> Array:
    band = FileBand(prepared.folder / "data" / "satellite_views" / f"{name}.tif", "stored")
    return band.read(band.grid.whole)


def _shift(first: Array, second: Array) -> NDArray[np.float64]:
    """Columns and rows, second minus first: the median over windows."""
    window = cv2.createHanningWindow((SIDE_PX, SIDE_PX), cv2.CV_64F)
    found = []
    for row in range(0, first.shape[0] - SIDE_PX + 1, SIDE_PX // 2):
        for col in range(0, first.shape[1] - SIDE_PX + 1, SIDE_PX // 2):
            a, b = (
                one[row : row + SIDE_PX, col : col + SIDE_PX].astype(np.float64) for one in (first, second)
            )
            if np.isnan(a).any() or np.isnan(b).any():
                continue
            shift, response = cv2.phaseCorrelate(a, b, window)
            if response > LEAST_RESPONSE:
                found.append(shift)
    return np.asarray(np.median(np.array(found), axis=0), np.float64)


def _results(data: Path, matched: Prepared, work: Path) -> str:
    """Refine the matched DSM, and evaluate it."""
    refined = work / "refined.tif"
    resdepth.refine(matched.dsm, matched.raw_images, output=refined)
    reference = data / "stereo" / "reunion" / "dsm_s2p.tif"
    found = resdepth.evaluate(refined, reference, initial=matched.dsm)
    assert found.initial is not None
    rows = [
        [
            name,
            *(f"{getattr(one['overall'], key):.2f}" for key in ("mae", "rmse", "absolute_median", "median")),
        ]
        for name, one in (("initial, matched", found.initial), ("refined", found.refined))
    ]
    return _table(["DSM", "MAE [m]", "RMSE [m]", "MedAE [m]", "median [m]"], rows)


def _wrong_heights(prepared: Prepared) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres east and north by which the second ortho-image moves against the first: DSM too high."""
    band = FileBand(prepared.dsm)
    grid, heights = band.grid.flat, band.read(band.grid.whole)
    images = [DescribedImage(RawImage(path), RawImage(path).rpc) for path in prepared.raw_images]
    high = [projected(image, grid, heights + np.float32(RAISED_M), Placement()) for image in images]
    pixels = _shift(*high)
    geometries = [
        FileBand(prepared.folder / "data" / "satellite_views" / f"{view['name']}.tif", "stored").geometry
        for view in prepared.record["views"]
    ]
    x, y = grid.map_position(grid.height / 2, grid.width / 2)
    moves = [np.array(one.at(x, y)) for one in geometries if one is not None]
    # What stands a metre below the DSM appears where a metre of depth moves it: towards the sensor.
    stated = -RAISED_M * (moves[1] - moves[0])
    return np.array([pixels[0], -pixels[1]]) * grid.gsd, stated


def _recovery(data: Path, work: Path) -> str:
    rows = []
    for name in ("nrw_dom1_1m", "delft_ahn3_0.5m_dsm"):
        reference = data / "truth" / f"{name}.tif"
        scene = simulate(reference, work / name).folder
        initial = SurfaceFile(MapBand(scene / "data" / "dsm" / "initial.tif"))
        grid = initial.band.grid
        half = grid.width * grid.gsd / 2
        for title, shift, tilt in CHANGES:
            own = coregistration(initial, SurfaceFile(MapBand(reference)), grid, tilt=tilt > 0).motion
            copy = _moved_copy(reference, work / f"{name}_{title}.tif", tilt, shift)
            motion = coregistration(initial, SurfaceFile(MapBand(copy)), grid, tilt=tilt > 0).motion
            px = [(motion.east_m - own.east_m - shift[0]) / grid.gsd]
            px.append((motion.north_m - own.north_m - shift[1]) / grid.gsd)
            rows.append([
                name, title, *(f"{one:+.3f}" for one in px),
                f"{100 * (motion.up_m - own.up_m - shift[2]):+.1f}",
                f"{1e3 * (motion.tilt_east - own.tilt_east):.2f}" if tilt else "",
                f"{100 * half * (motion.tilt_east - own.tilt_east - tilt):+.1f}" if tilt else "",
            ])  # fmt: skip
    head = ["DSM", "change", "east [px]", "north [px]", "up [cm]", "tilt found [mm/m]", "at the edge [cm]"]
    return _table(head, rows)


def _moved_copy(source: Path, target: Path, tilt: float, shift: tuple[float, float, float] = SHIFT) -> Path:
    band = FileBand(source)
    a, b, c, d, e, f = band.grid.transform
    grid = replace(band.grid, transform=(a, b, c + shift[0], d, e, f + shift[1]))
    middle = grid.map_position(grid.height / 2, grid.width / 2)
    heights = band.read(band.grid.whole)
    rows, cols = np.indices(heights.shape)
    x, y = a * (cols + 0.5) + c + shift[0], e * (rows + 0.5) + f + shift[1]
    rise = Motion(up_m=shift[2], tilt_east=tilt, middle=middle).rise(np.asarray(x), np.asarray(y))
    with new_geotiff(target, grid) as file:
        file.write(0, (heights + rise).astype(np.float32))
    return target


def _beside_xdem(data: Path, work: Path) -> str:
    """What is left of a shift and a tilt, with ours and with that of xDEM."""
    xdem = import_module("xdem")
    rows = []
    for name in ("nrw_dom1_1m", "delft_ahn3_0.5m_dsm"):
        given = FileBand(data / "truth" / f"{name}.tif")
        row, col = ((side - CROP_PX) // 2 for side in given.grid.whole.shape)
        part = Window(row, col, CROP_PX, CROP_PX)
        heights, grid = given.read(part), given.grid.crop(part)
        heights = np.where(np.isnan(heights), np.nanmedian(heights), heights)
        rng = np.random.default_rng(0)
        noise = cv2.GaussianBlur(rng.normal(0, 1.5, heights.shape).astype(np.float32), (0, 0), 1.0)
        paths = [work / f"{name}_{role}.tif" for role in ("lidar", "initial")]
        for path, values in zip(
            paths, (heights, cv2.GaussianBlur(heights, (0, 0), 1.0) + noise), strict=True
        ):
            with new_geotiff(path, grid) as file:
                file.write(0, values.astype(np.float32))
        copy = _moved_copy(paths[0], work / f"{name}_copy.tif", TILT)
        initial, reference = SurfaceFile(MapBand(paths[1])), SurfaceFile(MapBand(copy))
        motion = coregistration(initial, reference, grid, tilt=True).motion
        before, target = initial.on(grid), reference.on(grid)
        method = xdem.coreg.NuthKaab() + xdem.coreg.Deramp(poly_order=1)
        place = {"transform": Affine(*grid.transform), "crs": CRS.from_wkt(grid.crs)}
        method.fit(target, before, **place, random_state=0)
        theirs, _ = method.apply(before, **place, resample=True)
        for title, after in (("resdepth", initial.moved(motion).on(grid)), ("xDEM", np.asarray(theirs))):
            plane, spread = plane_left(after - target)
            rows.append([name, title, f"{100 * plane:.1f}", f"{spread:.3f}"])
    return _table(["DSM", "by", "plane left [cm]", "NMAD [m]"], rows)


def plane_left(differences: Array) -> tuple[float, float]:
    """Metres by which a plane through differences rises from the middle to a corner; and their NMAD."""
    cells = [np.array_split(row, 4, axis=1) for row in np.array_split(differences, 4)]
    z = np.array([[np.nanmedian(cell) for cell in row] for row in cells])
    down, right = np.mgrid[-0.75:1:0.5, -0.75:1:0.5]
    terms = np.stack([np.ones(16), down.ravel(), right.ravel()], axis=1)
    _, *rises = np.linalg.lstsq(terms, z.ravel(), rcond=None)[0]
    spread = np.nanmedian(np.abs(differences - np.nanmedian(differences)))
    return float(np.abs(rises).sum()), 1.4826 * float(spread)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _vector(metres: NDArray[np.float64]) -> str:
    return f"{metres[0]:+.2f} m east and {metres[1]:+.2f} m north"


if __name__ == "__main__":
    main()
