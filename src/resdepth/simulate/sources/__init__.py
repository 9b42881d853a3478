"""True surfaces from files: elevation rasters, CityJSON city models, and LAS or LAZ point clouds."""

from resdepth.simulate.sources.opening import open_truth
from resdepth.simulate.sources.options import TruthOptions
from resdepth.simulate.sources.stored import FileTruth

__all__ = ["FileTruth", "TruthOptions", "open_truth"]
