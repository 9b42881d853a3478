"""Opening a file of true heights, of whatever kind it is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resdepth.runtime.atomic import temporary_folder
from resdepth.runtime.progress import Progress
from resdepth.simulate.sources.citymodel import CitySource
from resdepth.simulate.sources.elevation import ElevationSource
from resdepth.simulate.sources.making import make_truth
from resdepth.simulate.sources.options import TruthOptions
from resdepth.simulate.sources.pointcloud import PointSource
from resdepth.simulate.sources.stored import FileTruth, forget_stamp, is_current, made_from, write_stamp


@dataclass(frozen=True)
class Share:
    """A part of the work, counted from 0 to 1, that is a share of the whole."""

    whole: Progress
    share: float

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """Count `amount` more of the part as done."""
        self.whole.advance(amount * self.share, note=note)


Maker = Callable[[Path, TruthOptions, Path, Progress], None]


def open_truth(path: Path, options: TruthOptions, work: Path, progress: Progress) -> FileTruth:
    """The true surface that a file describes: an elevation raster, a CityJSON model, or a point cloud.

    The first time the file is turned into rasters in the folder `work` (made if need be); they are used
    again as long as the file, the masks and the options stay the same.

    Args:
        path: a GeoTIFF or other raster, CityJSON (.json), LAS or LAZ; recognised by its first bytes.
        options: how to read it.
        work: where the rasters are kept; one folder for one truth.
        progress: advances by 1 in all.

    Raises:
        ResDepthError: if the file cannot be read or does not fit the options, or the disk is full.
    """
    stamp = made_from(path, options)
    if is_current(work, stamp):
        progress.advance(1)
        return FileTruth(work)
    work.mkdir(parents=True, exist_ok=True)
    forget_stamp(work)
    MAKERS[_kind(path)](path, options, work, progress)
    write_stamp(work, stamp)
    return FileTruth(work)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"LASF") or path.suffix.lower() in (".las", ".laz"):
        return "points"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") or path.suffix.lower() == ".json":
        return "city model"
    return "raster"


def _from_raster(path: Path, options: TruthOptions, work: Path, progress: Progress) -> None:
    make_truth(path, ElevationSource(path, options), options, work, progress)


def _from_city_model(path: Path, options: TruthOptions, work: Path, progress: Progress) -> None:
    make_truth(path, CitySource(path, options), options, work, progress)


def _from_points(path: Path, options: TruthOptions, work: Path, progress: Progress) -> None:
    with temporary_folder(work, "points") as folder:
        source = PointSource(path, options, folder, Share(progress, 0.5))
        make_truth(path, source, options, work, Share(progress, 0.5))


MAKERS: dict[str, Maker] = {"raster": _from_raster, "city model": _from_city_model, "points": _from_points}
