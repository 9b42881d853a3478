"""All steps of `prepare`, one after the other, from open files to a data set."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resdepth.data.dataset_folder import DatasetFolder
from resdepth.errors import ResDepthError
from resdepth.geo.crs import METRE, Unit
from resdepth.geo.geotiff import new_geotiff
from resdepth.geo.grid import Grid
from resdepth.geo.raster import Band, BandsReduced, FileBand
from resdepth.geo.reprojected import MapBand
from resdepth.geo.rpc import Rpc
from resdepth.geo.vectors import is_vector, open_vector_mask
from resdepth.geo.windows import Window, blocks
from resdepth.options import option
from resdepth.preparation.adapters import EIGHT_BIT_CORRELATION, TRUSTED
from resdepth.preparation.change import Changes, Trust, write_changes, write_trusted
from resdepth.preparation.coregister import Difference, Motion, SurfaceFile, coregistration, difference
from resdepth.preparation.datum import (
    ELLIPSOID,
    UNKNOWN,
    HeightChange,
    MissingGeoid,
    compound,
    constant_change,
    height_change,
    named_vertical,
    vertical_of,
)
from resdepth.preparation.grid import GridChoice, chosen_grid, within
from resdepth.preparation.orthos import (
    RawCopy,
    moved_rpc,
    part_of,
    write_given_ortho,
    write_hidden,
    write_ortho,
    write_raw,
    write_saturated,
)
from resdepth.preparation.pairs import Agreement, RankedPair, View, ranked, useful
from resdepth.preparation.results import (
    Coregistered,
    Datums,
    Inputs,
    Journal,
    Lift,
    OrthoFile,
    PreparedView,
    RawFile,
    Result,
)
from resdepth.preparation.tie_points import Biases, without_bias
from resdepth.preparation.voids import Filling, write_filled
from resdepth.runtime.atomic import writing
from resdepth.runtime.progress import progress_bar
from resdepth.stereo.matching import view_geometry
from resdepth.stereo.ortho import DescribedImage, RawImage
from resdepth.stereo.pairs import NoUsefulPair, footprint, pixel_size_m
from resdepth.stereo.remeasure import Around, height_offset

logger = logging.getLogger(__name__)

COPY_PX, TILE_PX = 1024, 256
FARTHEST_FROM_RPC_M = 600.0
"""So far beyond the heights for which an RPC was made, it shows nothing that can be used."""


class Pipeline:
    """The steps, each done once.

    Args:
        inputs: what is prepared.
        folder: of the data set; it exists.
        journal: what has been done.
        threads: that compute.
    """

    def __init__(self, inputs: Inputs, folder: DatasetFolder, journal: Journal, threads: int) -> None:
        self.inputs, self.folder, self.journal, self.threads = inputs, folder, journal, threads

    def run(self) -> Result:
        """Everything.

        Raises:
            ResDepthError: if inputs do not fit together, or a file cannot be read or written.
        """
        choice = self._choose_grid()
        grid = choice.grid
        datums, dsm, reference = self._surfaces(grid)
        coregistered = self._coregister(dsm, reference, grid)
        motion = coregistered.found.motion if coregistered.found else Motion()
        if reference is not None and coregistered.moved == "reference":
            reference, motion = reference.moved(motion.inverse()), Motion()
        placed = replace(grid, crs=compound(grid.crs, datums.after(coregistered)))
        filling = self._fill(dsm.moved(motion), placed)
        if reference is not None:
            self._write_reference(reference, placed)
        masks = self._write_masks(grid)
        self._write_layers(motion, grid)
        lift, biases, views = None, None, self._given_views(grid)
        if self.inputs.raw:
            lift, biases, views = self._raw_views(grid, datums, motion, filling)
        shown = [self._as_view(view) for view in views]
        pairs = self.journal.once(
            "pairs", _Pairs, lambda: _Pairs(tuple(ranked(shown)) if len(shown) > 1 else ())
        ).ranked
        changes, apart = self._compare(shown, pairs)
        trust = self._trust()
        names = (*masks, "void", *(["change", "ground_truth"] if changes else []))
        names += (*(["low_quality"] if trust else []), *(["training"] if trust and changes else []))
        done = (grid, choice, datums, coregistered, filling, lift, biases, tuple(views), pairs, changes)
        return Result(*done, names, apart, trust)

    def _choose_grid(self) -> GridChoice:
        asked = self.inputs.asked
        wanted = {"crs": asked.crs, "gsd_m": asked.gsd_m, "extent": asked.extent}
        choice = chosen_grid(self.inputs.dsm, reference=self.inputs.reference, **wanted)  # type: ignore[arg-type]
        if not self.inputs.raw:
            return choice
        areas, z = {}, self._typical_height(choice.grid)
        for one in self.inputs.raw:
            try:
                shape = one.image.grid.whole.shape
                areas[str(one.image.path)] = footprint(one.image.rpc, shape, choice.grid.crs, z)
            except ResDepthError as error:
                raise ResDepthError(f"{one.image.path}: {error}") from error
        return within(choice, areas)

    def _surfaces(self, grid: Grid) -> tuple[Datums, SurfaceFile, SurfaceFile | None]:
        """Initial and reference DSM, their heights from one zero."""
        asked, given = self.inputs.asked, (self.inputs.dsm, self.inputs.reference)
        stated = (asked.dsm_vertical, asked.reference_vertical)
        zeros = [
            named_vertical(text) if text else UNKNOWN if band is None else vertical_of(band.grid.crs)
            for text, band in zip(stated, given, strict=True)
        ]
        target = named_vertical(asked.vertical) if asked.vertical else zeros[1] or zeros[0]
        z = self._typical_height(grid)
        changes = [height_change(zero, target, grid, z) for zero in zeros]
        ups = [round(change.mean_m, 3) for change in changes]
        dsm = SurfaceFile(self.inputs.dsm, changes[0])
        reference = None if self.inputs.reference is None else SurfaceFile(self.inputs.reference, changes[1])
        return Datums(zeros[0], zeros[1], target, ups[0], ups[1]), dsm, reference

    def _typical_height(self, grid: Grid) -> float:
        coarse = self.inputs.dsm.on(grid.coarser(64))
        return 0.0 if np.isnan(coarse).all() else float(np.nanmedian(coarse))

    def _coregister(self, dsm: SurfaceFile, reference: SurfaceFile | None, grid: Grid) -> Coregistered:
        how, moves = self.inputs.asked.coregister, self.inputs.asked.moves
        if reference is None or how == "none":
            return Coregistered(None, moves)

        def work() -> Coregistered:
            with progress_bar("co-registering", None) as progress:
                found = coregistration(dsm, reference, grid, tilt=how == "tilt", progress=progress)
            return Coregistered(found, moves)

        return self.journal.once("coregistration", Coregistered, work)

    def _fill(self, dsm: SurfaceFile, grid: Grid) -> Filling:
        folder = self.folder
        targets = (folder.initial, folder.mask("void"), folder.initial.with_name("provenance.tif"))

        def work() -> Filling:
            with progress_bar("filling voids", 2) as progress:
                return write_filled(dsm.reader(grid), grid, targets, threads=self.threads, progress=progress)

        return self.journal.once("voids", Filling, work, targets)

    def _write_reference(self, reference: SurfaceFile, grid: Grid) -> None:
        def work() -> _Done:
            known = _write_band(self.folder.reference, reference.reader(grid), grid, "reference DSM")
            if not known:
                raise ResDepthError(f"{reference.path}: has no height in the area of the initial DSM")
            return _Done(done=True)

        self.journal.once("reference", _Done, work, [self.folder.reference])

    def _write_masks(self, grid: Grid) -> tuple[str, ...]:
        for name, path in self.inputs.masks.items():
            target = self.folder.mask(name)

            def work(path: str = path, target: Path = target) -> _Done:
                if is_vector(Path(path)):
                    mask: Band = open_vector_mask(Path(path), grid)
                else:
                    mask = _MaskOn(MapBand(Path(path), "mask"), grid)
                _write_mask(target, mask, grid)
                return _Done(done=True)

            self.journal.once(f"mask_{name}", _Done, work, [target])
        return tuple(self.inputs.masks)

    def _write_layers(self, motion: Motion, grid: Grid) -> None:
        """Quality layers, moved as the DSM is."""
        aside = Motion(motion.east_m, motion.north_m)
        for name, path in self.inputs.asked.layers.items():
            target = self.folder.quality(name)

            def work(path: str = path, target: Path = target) -> _Done:
                with writing(target.parent):
                    target.parent.mkdir(exist_ok=True)
                reduced_to: BandsReduced = "length" if target.stem == "triangulation_error" else "mean"
                band = MapBand(Path(path), "stored", crs=self.inputs.asked.dsm_crs, reduced_to=reduced_to)
                layer: Band = SurfaceFile(band, None, aside).reader(grid)
                if target.stem == "correlation" and band.header.dtype == "uint8":
                    layer = _OfEightBits(layer)
                _write_band(target, layer, grid, target.stem, unit=None)
                return _Done(done=True)

            self.journal.once(f"quality_{name}", _Done, work, [target])

    def _trust(self) -> Trust | None:
        """Where quality layers distrust heights; None if none is asked."""
        asked, folder = self.inputs.asked.trusted, self.folder
        if not asked:
            return None
        ranges = {name: limits or TRUSTED[name] for name, limits in asked.items()}
        counted = folder.mask("ground_truth") if self.inputs.reference is not None else None
        targets = [folder.mask("low_quality"), *([folder.mask("training")] if counted else [])]

        def work() -> Trust:
            layers = [(FileBand(folder.quality(name), "stored"), one) for name, one in ranges.items()]
            mask = None if counted is None else FileBand(counted, "mask")
            with progress_bar("quality layers", 1) as progress:
                return Trust(ranges, write_trusted(layers, mask, targets, progress))

        return self.journal.once("trust", Trust, work, targets)

    def _given_views(self, grid: Grid) -> list[PreparedView]:
        views = []
        for one in self.inputs.images:
            if isinstance(one, OrthoFile):
                target, band = self.folder.ortho_image(one.name), one.band

                def work(one: OrthoFile = one, target: Path = target, band: MapBand = band) -> PreparedView:
                    with progress_bar(f"ortho-image {one.name}", 1) as progress:
                        seen = write_given_ortho(band, grid, target, progress)
                    geometry = band.geometry
                    return PreparedView(one.name, seen, geometry.as_json() if geometry else None)

                views.append(self.journal.once(f"view_{one.name}", PreparedView, work, [target]))
        return views

    def _raw_views(
        self, grid: Grid, datums: Datums, motion: Motion, filling: Filling
    ) -> tuple[Lift, Biases, list[PreparedView]]:
        """Ortho-images from raw ones: RPCs follow the DSM, without bias; heights as they count them."""
        heights = filling.lowest_m, filling.highest_m
        change, is_known = self._to_ellipsoid(datums, grid, sum(heights) / 2)
        heights = heights[0] + change.mean_m, heights[1] + change.mean_m
        rpcs = [moved_rpc(one.image.rpc, motion, grid, heights) for one in self.inputs.raw]
        images = [DescribedImage(one.image, rpc) for one, rpc in zip(self.inputs.raw, rpcs, strict=True)]
        initial = FileBand(self.folder.initial)
        lift = self.journal.once("lift", Lift, lambda: self._lift(change, initial, images, known=is_known))
        if not lift.known and lift.up_m:
            change = constant_change(grid, lift.up_m)
            heights = heights[0] + lift.up_m, heights[1] + lift.up_m
        self._demand_range(heights)
        as_counted = self._as_counted(initial, change, grid)
        band = FileBand(as_counted)
        biases = self.journal.once("tie_points", Biases, lambda: self._biases(images, band))
        views = [
            self._raw_view(one, rpc, as_counted, grid, heights)
            for one, rpc in zip(self.inputs.raw, biases.rpcs, strict=True)
        ]
        return lift, biases, views

    def _to_ellipsoid(self, datums: Datums, grid: Grid, z: float) -> tuple[HeightChange, bool]:
        """What brings heights to the ellipsoid, and whether that is known.

        A geoid that is missing here can be measured, as it is for RPCs alone.
        """
        try:
            return height_change(datums.counted, ELLIPSOID, grid, z), datums.counted != UNKNOWN
        except MissingGeoid as error:
            if len(self.inputs.raw) < 2:
                raise
            logger.warning("%s. For the RPCs the images show how far it lies from the ellipsoid", error)
            return constant_change(grid, 0.0), False

    def _lift(
        self, change: HeightChange, initial: FileBand, images: Sequence[DescribedImage], *, known: bool
    ) -> Lift:
        """What brings heights to those of RPCs: by the datum, or as the images see it."""
        if known or len(images) < 2:
            return Lift(known, round(change.mean_m, 3))
        sizes = [pixel_size_m(one.rpc, one.grid.whole.shape, initial.grid.flat.crs) for one in images]
        around = Around(images, initial, max(initial.grid.gsd_m, *sizes), threads=self.threads)
        try:
            up = height_offset(around)
        except NoUsefulPair:
            up = 0.0
        if up:
            logger.warning(
                "%s: the images see its heights %+.1f m higher, as from the ellipsoid, and that counts: "
                "a zero of heights that is stated (%s) gives a better figure",
                self.inputs.dsm.path,
                up,
                option("dsm_vertical"),
            )
        return Lift(known=False, up_m=up)

    def _demand_range(self, heights: tuple[float, float]) -> None:
        for one in self.inputs.raw:
            offset, scale = one.image.rpc.offsets[4], one.image.rpc.scales[4]
            low, high = offset - scale - FARTHEST_FROM_RPC_M, offset + scale + FARTHEST_FROM_RPC_M
            if heights[1] < low or heights[0] > high:
                raise ResDepthError(
                    f"{one.image.path}: its RPC is made for heights about {offset:.0f} m, the DSM has "
                    f"{heights[0]:.0f} to {heights[1]:.0f} m; is it the RPC of this image, and the unit of "
                    "the DSM right?"
                )

    def _as_counted(self, initial: FileBand, change: HeightChange, grid: Grid) -> Path:
        """The initial DSM with heights as RPCs count them; itself where nothing is to be changed."""
        if change.is_none and initial.grid.flat == initial.grid:
            return self.folder.initial
        path = self.folder.work / "as_rpcs_count.tif"
        if not path.is_file():
            _write_band(path, _Lifted(initial, change), grid, "heights for RPCs")
        return path

    def _biases(self, images: Sequence[DescribedImage], dsm: FileBand) -> Biases:
        if not self.inputs.asked.correct_rpcs or len(images) < 2:
            return Biases(tuple(one.rpc for one in images), ((0.0, 0.0),) * len(images), (), (), ())
        with progress_bar("tie points", None) as progress:
            found = without_bias(images, dsm, progress, term=self.inputs.asked.rpc_bias)
        for number in found.unconnected:
            logger.warning(
                "%s: shares too few tie points with the other images; its RPC stays as it is. Does the image "
                "show this place, and is its RPC its own?", self.inputs.raw[number].image.path,
            )  # fmt: skip
        return found

    def _raw_view(
        self, one: RawFile, rpc: Rpc, dsm: Path, grid: Grid, heights: tuple[float, float]
    ) -> PreparedView:
        folder, name = self.folder, one.name
        raw, ortho, mask = folder.raw_image(name), folder.ortho_image(name), folder.mask(f"hidden_{name}")
        geometry = view_geometry(rpc, grid, sum(heights) / 2)

        def copy() -> RawCopy:
            part = part_of(DescribedImage(one.image, rpc), str(one.image.path), grid, heights)
            with progress_bar(f"raw image {name}", 1) as progress:
                return write_raw(one.image, rpc, part, raw, progress)

        def rectify() -> _Share:
            with progress_bar(f"ortho-image {name}", 1) as progress:
                seen = write_ortho(
                    RawImage(raw), FileBand(dsm), ortho, dtype=copied.dtype, geometry=geometry,
                    threads=self.threads, progress=progress,
                )  # fmt: skip
            if not seen:
                raise ResDepthError(f"{one.image.path}: shows nothing of the area; is its RPC its own?")
            return _Share(seen)

        def hide() -> _Share:
            initial = FileBand(folder.initial)
            with progress_bar(f"hidden from {name}", 1) as progress:
                return _Share(write_hidden(initial, geometry, mask, threads=self.threads, progress=progress))

        copied = self.journal.once(f"raw_{name}", RawCopy, copy, [raw])
        seen = self.journal.once(f"ortho_{name}", _Share, rectify, [ortho])
        hidden = self.journal.once(f"hidden_{name}", _Share, hide, [mask])
        if copied.saturated_from is not None:
            self._mark_saturated(name, copied.saturated_from)
        return PreparedView(name, seen.share, geometry.as_json(), hidden.share, copied)

    def _mark_saturated(self, name: str, level: float) -> None:
        target = self.folder.mask(f"saturated_{name}")

        def work() -> _Done:
            with progress_bar(f"saturated in {name}", 1) as progress:
                write_saturated(FileBand(self.folder.ortho_image(name), "stored"), level, target, progress)
            return _Done(done=True)

        self.journal.once(f"saturated_{name}", _Done, work, [target])

    def _as_view(self, view: PreparedView) -> View:
        band = FileBand(self.folder.ortho_image(view.name), "stored")
        source = next(one for one in self.inputs.images if one.name == view.name)
        return View(view.name, band, band.geometry, view.hidden, source.day, source.sun)

    def _compare(
        self, views: Sequence[View], pairs: Sequence[RankedPair]
    ) -> tuple[Changes | None, Difference | None]:
        """Changes between both DSMs, and how far they lie apart in the end."""
        if self.inputs.reference is None:
            return None, None
        folder = self.folder
        both = SurfaceFile(MapBand(folder.initial)), SurfaceFile(MapBand(folder.reference))
        initial = FileBand(folder.initial)
        apart = difference(*both, initial.grid)
        best = useful(pairs)[0] if pairs and self.inputs.asked.mark_changes else None
        targets = folder.mask("change"), folder.mask("ground_truth")

        def work() -> Changes:
            agreement = None if best is None else Agreement(*(views[number] for number in best))
            with progress_bar("looking for changes", 1) as progress:
                return write_changes(
                    initial, FileBand(folder.reference), apart.nmad_m or 0.0, targets,
                    agreement=agreement, threads=self.threads, progress=progress,
                )  # fmt: skip

        return self.journal.once("changes", Changes, work, targets), apart


@dataclass(frozen=True)
class _Done:
    done: bool


@dataclass(frozen=True)
class _Share:
    share: float


@dataclass(frozen=True)
class _Pairs:
    ranked: tuple[RankedPair, ...]


class _MaskOn:
    """A mask raster on a grid."""

    def __init__(self, band: MapBand, grid: Grid) -> None:
        self._band, self.grid = band, grid

    def read(self, window: Window) -> Any:
        """(H, W) float32, 1 inside."""
        return self._band.on(self.grid.crop(window))


class _Lifted:
    """A DSM with heights from another zero."""

    def __init__(self, dsm: Band, change: HeightChange) -> None:
        self._dsm, self._change, self.grid = dsm, change, dsm.grid

    def read(self, window: Window) -> Any:
        """(H, W) float32, metres."""
        return self._dsm.read(window) + self._change.over(self.grid.crop(window))


class _OfEightBits:
    """Correlations, -1 to 1, of what MicMac makes whole numbers of."""

    def __init__(self, band: Band) -> None:
        self._band, self.grid = band, band.grid

    def read(self, window: Window) -> Any:
        """(H, W) float32."""
        zero, one = EIGHT_BIT_CORRELATION
        return (self._band.read(window) - np.float32(zero)) / np.float32(one)


def _write_band(path: Path, band: Band, grid: Grid, title: str, *, unit: Unit | None = METRE) -> int:
    """Write values block by block; returns how many there are."""
    parts, count = list(blocks(grid.whole, COPY_PX)), 0
    with (
        new_geotiff(path, grid, tile=TILE_PX, unit=unit) as file,
        progress_bar(title, len(parts)) as progress,
    ):
        for part in parts:
            heights = band.read(part)
            count += int((~np.isnan(heights)).sum())
            file.write(part.row, heights, col=part.col)
            progress.advance()
    return count


def _write_mask(path: Path, mask: Band, grid: Grid) -> None:
    with new_geotiff(path, grid.flat, dtype="uint8", tile=TILE_PX) as file:
        for part in blocks(grid.whole, COPY_PX):
            file.write(part.row, (mask.read(part) == 1).astype(np.uint8), col=part.col)
