"""A refined DSM as one value, with all that is known about it, that can show itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resdepth.geo.grid import Grid
from resdepth.geo.objects import data_array
from resdepth.geo.raster import Array
from resdepth.refinement.provenance import PROVENANCE_TITLES, Moved, Provenance, in_words
from resdepth.runtime.surroundings import imported

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sources = NDArray[np.uint8]


@dataclass(frozen=True)
class Layers:
    """The rasters of a refined DSM.

    Attributes:
        heights: refined, (H, W) float32, metres, NaN = void.
        initial: the same before.
        error: expected error of each height: 68 % of errors are smaller; None if the model does not know it.
        provenance: where each height comes from, (H, W) uint8, see `Provenance`.
    """

    heights: Array
    initial: Array
    error: Array | None
    provenance: Sources


@dataclass(frozen=True, eq=False, repr=False)
class Refinement:
    """A refined DSM, and what is known about it: what `refine(..., full=True)` gives.

    Attributes:
        dsm: the refined DSM, the kind of raster that was given; with `output`, its path.
        grid: where its pixels lie.
        moved: how far heights were moved.
        model: what the model is called.
        warnings: why the result may differ from the request.
        paths: the refined DSMs that were written; none without `output`.

    Examples:
        >>> import resdepth
        >>> images = ["ortho1.tif", "ortho2.tif"]
        >>> made = resdepth.refine("initial.tif", images, "model.safetensors", full=True)
        >>> print(made.summary())
        refined with model: 64 x 160 pixels of 0.5 m, EPSG:32632
        heights change by 0.29 m on average, up or down; none by more than 3 m
        ...
        >>> sorted(made.to_xarray())
        ['dsm', 'initial', 'provenance']
    """

    dsm: Any
    grid: Grid
    moved: Moved
    model: str
    warnings: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    _read: Callable[[], Layers] = field(kw_only=True)

    @cached_property
    def _layers(self) -> Layers:
        return self._read()

    @property
    def heights(self) -> Array:
        """The refined heights, (H, W) float32, metres, NaN = void; of files, read when asked for."""
        return self._layers.heights

    @property
    def initial(self) -> Array:
        """The heights before, (H, W) float32, metres, NaN = void."""
        return self._layers.initial

    @property
    def error(self) -> Array | None:
        """Expected error of each height, (H, W) float32, metres; None if the model does not know it."""
        return self._layers.error

    @property
    def provenance(self) -> Sources:
        """Where each height comes from, (H, W) uint8: 0 void, 1 refined, 2 filled, 3 without an image."""
        return self._layers.provenance

    def summary(self) -> str:
        """What was done, in a few lines of text."""
        change = self.heights - self.initial
        known = change[np.isfinite(change)]
        lines = [
            f"refined with {self.model}: {self.grid.height} x {self.grid.width} pixels of "
            f"{self.grid.sides_m} m, {self.grid.crs_name}",
            in_words(self.moved),
        ]
        if known.size:
            middle, usual = np.median(known), np.quantile(np.abs(known), 0.68)
            lines.append(f"median change {middle:+.2f} m; 68 % of changes up to {usual:.2f} m")
        if self.error is not None and np.isfinite(self.error).any():
            lines.append(f"expected error of a height: {np.nanmedian(self.error):.2f} m (median)")
        shares = [(np.mean(self.provenance == one), PROVENANCE_TITLES[one]) for one in Provenance]
        lines.append(", ".join(f"{title}: {share:.1%}" for share, title in shares if share))
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def plot(self) -> "Figure":
        """Hillshades before and after, and the change, as a figure of matplotlib (extra `report`).

        Raises:
            ResDepthError: if matplotlib is not installed.
        """
        imported("matplotlib", "report")
        from resdepth.report.plots import show_refined

        return show_refined(self.initial, self.heights, self.grid)

    def to_xarray(self) -> Any:
        """All layers as a Dataset on the map: `dsm`, `initial`, `error` and `provenance` (extra `xarray`).

        Its attributes are texts (`warnings`: a line each), so that it can be written as NetCDF or Zarr.

        Raises:
            ResDepthError: if xarray is not installed.
        """
        layers = {"dsm": self.heights, "initial": self.initial, "error": self.error}
        arrays = {
            name: data_array(values, self.grid, name, units="m")
            for name, values in layers.items()
            if values is not None
        }
        arrays["provenance"] = data_array(self.provenance, self.grid, "provenance")
        dataset = arrays["dsm"].to_dataset().assign(arrays)
        return dataset.assign_attrs(model=self.model, warnings="\n".join(self.warnings))

    def __repr__(self) -> str:
        """Its size, the model, and how many warnings there are."""
        size = f"{self.grid.height} x {self.grid.width} pixels of {self.grid.sides_m} m"
        return f"Refinement({size}, with {self.model}, {len(self.warnings)} warnings)"
