"""True surfaces from files: elevation rasters, CityJSON city models, and LAS or LAZ point clouds."""

from resdepth.simulate.truths.opening import open_truth
from resdepth.simulate.truths.options import TruthOptions
from resdepth.simulate.truths.stored import FileTruth

__all__ = ["FileTruth", "TruthOptions", "open_truth"]
